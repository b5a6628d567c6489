// SPDX-License-Identifier: Apache-2.0
/** Loopback to loopback: what programs at both ends see, what it costs, and that none of it is ever a frame. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CROWD_PORT, Crowd, descriptorCount, descriptorsBack } from '../support/crowd.mjs';
import { compile, type Guest, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { contextSwitches, descriptors, hasExited, status, waitFor } from '../support/process.mjs';
import { STREAM_PORT } from '../support/programs.ts';

const LIFE = ['python3', join(REPOSITORY, 'test/support/tcp-life.py')];
const LOOPBACKS = [
  ['IPv4', '127.0.0.1'],
  ['IPv6', '::1'],
] as const;
/** Everything the servers below listen on; nobody listens on the last of them. */
const PORTS = '7100,7200-7290,7600-7608';
const CLOSED_PORT = 7608;
/** Not one of the servers', some of which stay on the host. */
const OTHER_PORT = 7300;
const BYTES = 256 * 1024 * 1024;
const SEED = 20_261_121;

const EXPECTED = {
  halfClose: [true, null],
  peerHalfClose: [true, null, [['peerHalfClose', 300_000, null]]],
  peerReset: ['ECONNRESET'],
  aborted: ['ECONNRESET', 'ECONNRESET'],
  answerThenReset: [true, 'ECONNRESET'],
  urgent: 'uvwXyzabcDefg',
  writeAfterClose: expect.stringMatching(/^(EPIPE|ECONNRESET)$/),
} as const;

/** What a client at a closed port sees: it is accepted on behalf of somebody who does not listen. */
const AT_CLOSED_PORT = `
import socket, sys
try: print(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(*sys.argv[3:] or [10])).recv(1))
except OSError as error: print(type(error).__name__)
`;
/** Asks the stream server for bytes and reads none until standard input says so; then how many there were. */
const SLOW_READER = `
import socket, struct, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
s.sendall(struct.pack("QQQ", 1, 7, int(sys.argv[3])))
print("asked", flush=True)
sys.stdin.readline()
got = 0
while part := s.recv(1 << 20): got += len(part)
print(got, flush=True)
`;
/** Opens many connections at once; when standard input says so, how many are answered. */
const AT_ONCE = `
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
many = [socket.create_connection((sys.argv[1], int(sys.argv[2]) + i % 8), timeout=10) for i in range(3000)]
print("opened", flush=True)
sys.stdin.readline()
answered = 0
for s in many:
    try: s.sendall(b"x"); answered += len(s.recv(1))
    except OSError: pass
print(answered, flush=True)
`;

let lab: Lab;
let stream: string;
let crowd: string;
beforeAll(async () => {
  lab = await makeLab();
  stream = await compile('test/support/stream.c', join(lab.dir, 'stream'));
  crowd = await compile('test/support/crowd.c', join(lab.dir, 'crowd'));
});
afterAll(() => lab.cleanup());

const serve = async (side: Side, argv: readonly string[]): Promise<void> => {
  const server = side.spawn(argv);
  await waitFor(() => server.out().includes('listening') || hasExited(server), { what: argv.join(' ') });
  if (hasExited(server)) throw new Error(server.err());
};
/** The controller: the one of the tool's processes that is Node. */
const controller = (guest: Guest): number => {
  const pid = guest
    .toolProcesses()
    .find((each) => [...descriptors(each).values()].some((what) => what.includes('eventpoll')));
  if (pid === undefined) throw new Error('no controller');
  return pid;
};
const pipes = (pid: number): number => [...descriptors(pid).values()].filter((what) => what.startsWith('pipe:')).length;

/** Whether a frame of the capture carries TCP. */
const capturedTcp = async (file: string): Promise<number> => {
  const pcap = Buffer.from(await lab.host.run(['base64', '-w0', file]), 'base64');
  let frames = 0;
  for (let at = 24; at + 16 <= pcap.length; at += 16 + pcap.readUInt32LE(at + 8)) {
    const type = pcap.readUInt16BE(at + 16 + 12);
    const protocol = pcap[at + 16 + (type === 0x0800 ? 23 : 20)];
    if ((type === 0x0800 || type === 0x86dd) && protocol === 6) frames++;
  }
  return frames;
};

const WAYS = [
  { way: 'from the host into the namespace', option: '-t', inward: true },
  { way: 'from the namespace to the host', option: '-T', inward: false },
];

describe.each(WAYS)('$way', ({ option, inward }) => {
  const capture = `/run/scratch/splice${option}.pcap`;
  let guest: Guest;
  let client: Side;
  /** Pipes that are Node's own. */
  let own: number;
  beforeAll(async () => {
    guest = await lab.guest(['--config-net', option, PORTS, '--pcap', capture]);
    client = inward ? lab.host : guest;
    own = pipes(controller(guest));
    const server = inward ? guest : lab.host;
    await serve(server, [...LIFE, 'serve', '::']);
    await serve(server, [stream, 'serve', '::', String(STREAM_PORT)]);
    await serve(server, [crowd, 'serve', '::', String(CROWD_PORT)]);
  });
  afterAll(async () => {
    await guest.close();
    if (!inward) return;
    // The other way's servers are the host's own.
    await waitFor(async () => (await lab.host.run(['ss', '-Hltn', 'sport', '=', String(STREAM_PORT)])) === '', {
      what: 'closed ports',
    });
  });

  describe.each(LOOPBACKS)('%s', (_family, address) => {
    it.each(Object.entries(EXPECTED))('%s', async (scenario, expected) => {
      expect(JSON.parse(await client.run([...LIFE, 'run', address, scenario]))).toEqual({ [scenario]: expected });
    });
    it('256 MiB arrive as they were sent', async () => {
      const direction = address === '::1' ? 'up' : 'down';
      await client.run([stream, direction, address, ...[STREAM_PORT, BYTES, SEED].map(String)]);
    });
    it('a port where nobody listens resets', async () => {
      const seen = await client.run(['python3', '-c', AT_CLOSED_PORT, address, String(CLOSED_PORT)]);
      expect(seen.trim()).toBe('ConnectionResetError');
    });
  });

  it('a receiver that does not read stops the sender: bounded memory, no turn of the loop, and nothing is lost', async () => {
    const pid = controller(guest);
    const before = Number.parseInt(status(pid)['VmRSS'] ?? '', 10);
    const argv = ['python3', '-c', SLOW_READER, '127.0.0.1', String(STREAM_PORT), String(BYTES)];
    const reader = client.spawn(argv, { stdin: 'pipe' });
    await waitFor(() => reader.out().includes('asked'), { what: 'the reader' });
    let last = -1;
    await waitFor(
      async () => {
        const now = contextSwitches(pid);
        const quiet = now === last;
        last = now;
        return quiet;
      },
      { what: 'a loop that sleeps', everyMs: 300 },
    );
    expect(pipes(pid)).toBeGreaterThan(own);
    await sleep(300);
    // A wake-up now and then is Node's own.
    expect(contextSwitches(pid) - last).toBeLessThan(10);
    expect(Number.parseInt(status(pid)['VmRSS'] ?? '', 10) - before).toBeLessThan(16 * 1024);
    reader.child.stdin?.end('\n');
    await waitFor(() => hasExited(reader), { what: 'the end of the transfer', timeoutMs: 20_000 });
    expect(reader.out().split('\n')[1]).toBe(String(BYTES));
  });

  it('2,000 connections from forty ports, one after the other', async () => {
    expect(JSON.parse(await client.run([...LIFE, 'run', '127.0.0.1', 'shortLived']))).toEqual({ shortLived: {} });
  });

  // Once: both ways are the same connections.
  if (inward)
    it('5,000 idle connections hold no pipe, all of them live, and every descriptor comes back', async () => {
      const pid = controller(guest);
      await waitFor(() => pipes(pid) === own, { what: 'pipes that nobody needs any more to be closed' });
      const before = descriptorCount(guest);
      const many = new Crowd(client, [crowd, 'tcp', '127.0.0.1', CROWD_PORT, 5000]);
      expect(await many.next()).toMatchObject({ ok: 5000, errors: {} });
      expect(descriptorCount(guest)).toBeGreaterThanOrEqual(before + 10_000);
      await waitFor(() => pipes(pid) === own, { what: 'pipes that idle connections do not need to be closed' });
      expect(await many.tell('echo')).toMatchObject({ ok: 5000, errors: {} });
      expect(await many.tell('close')).toMatchObject({ ok: 5000, errors: {} });
      await many.leave();
      await descriptorsBack(guest, before);
    });

  it('none of it was a frame', async () => {
    expect(await capturedTcp(capture)).toBe(0);
  });
});

describe('a netns broker that hangs', () => {
  it('delays who needs it, for a second; from then on they are refused, and nobody else notices', async () => {
    const guest = await lab.guest(['--config-net', '-t', `${OTHER_PORT}-${OTHER_PORT + 7}`]);
    const pid = controller(guest);
    const broker = guest.toolProcesses().find((each) => each !== pid && each !== guest.pid) as number;
    await serve(guest, [crowd, 'serve', '::', String(OTHER_PORT)]);
    await serve(lab.remote, [stream, 'serve', NET.server4, String(STREAM_PORT)]);
    process.kill(broker, 'SIGSTOP');
    // More requests than the channel holds.
    const many = lab.host.spawn(['python3', '-c', AT_ONCE, '127.0.0.1', String(OTHER_PORT)], { stdin: 'pipe' });
    await waitFor(() => many.out().includes('opened') || hasExited(many), { what: 'connections that wait' });
    await guest.run([stream, 'down', NET.server4, String(STREAM_PORT), '1000', '1'], { timeoutMs: 5000 });
    const refused = ['python3', '-c', AT_CLOSED_PORT, '127.0.0.1', String(OTHER_PORT), '0.5'];
    await waitFor(async () => (await lab.host.run(refused)).trim() === 'ConnectionResetError', { what: 'a refusal' });
    process.kill(broker, 'SIGCONT');
    many.child.stdin?.end('\n');
    await waitFor(() => hasExited(many), { what: 'answers to those that waited' });
    expect(Number(many.out().split('\n')[1]), many.err()).toBeGreaterThan(1500);
    const one = new Crowd(lab.host, [crowd, 'tcp', '127.0.0.1', OTHER_PORT, 1]);
    expect(await one.next()).toMatchObject({ ok: 1, errors: {} });
    await one.leave();
    await guest.close();
  });
});

describe('--host-lo-to-ns-lo', () => {
  it('what asks for a loopback address of the host gets the same one of the namespace, and only that', async () => {
    const guest = await lab.guest(['--config-net', '--host-lo-to-ns-lo', '-t', String(OTHER_PORT)]);
    await serve(guest, [stream, 'serve', '127.5.6.7', String(OTHER_PORT)]);
    const ask = (address: string) => lab.host.attempt([stream, 'down', address, String(OTHER_PORT), '100000', '1']);
    expect((await ask('127.5.6.7')).status).toBe(0);
    expect((await ask('127.0.0.1')).status).not.toBe(0);
    await guest.close();
  });
  it('without it, it is the address of the guest', async () => {
    const guest = await lab.guest(['--config-net', '-t', String(OTHER_PORT)]);
    await serve(guest, [stream, 'serve', '192.0.2.2', String(OTHER_PORT)]);
    const ask = (address: string) => lab.host.attempt([stream, 'down', address, String(OTHER_PORT), '100000', '1']);
    expect((await ask('127.5.6.7')).status).toBe(0);
    await guest.close();
  });
});

describe('--no-splice', () => {
  it('loopback goes over the tap, from the gateway', async () => {
    const capture = '/run/scratch/no-splice.pcap';
    const guest = await lab.guest(['--config-net', '--no-splice', '-t', String(OTHER_PORT), '--pcap', capture]);
    await serve(guest, [stream, 'serve', '192.0.2.2', String(OTHER_PORT)]);
    await lab.host.run([stream, 'down', '127.0.0.1', String(OTHER_PORT), '100000', '1']);
    expect(await capturedTcp(capture)).toBeGreaterThan(3);
    await guest.close();
  });
});
