// SPDX-License-Identifier: Apache-2.0
/** --splice-only: a namespace with nothing but its loopback, and ports from and to the host's. Forwarding that would go in circles. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compile, type Guest, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { contextSwitches, descriptors, hasExited, waitFor } from '../support/process.mjs';

const UDP = ['python3', join(REPOSITORY, 'test/support/udp.py')];
const INWARD = 8131;
const OUTWARD = 8132;
const CIRCLE = 8133;
const BYTES = 1_000_000;
const LOOPBACKS = ['127.0.0.1', '::1'];
const WAYS = [
  { way: 'into the namespace', inward: true, port: INWARD },
  { way: 'out of the namespace', inward: false, port: OUTWARD },
];

let lab: Lab;
let stream: string;
beforeAll(async () => {
  lab = await makeLab();
  stream = await compile('test/support/stream.c', join(lab.dir, 'stream'));
});
afterAll(() => lab.cleanup());

const serve = async (side: Side, argv: readonly (string | number)[]): Promise<void> => {
  const server = side.spawn(argv.map(String));
  await waitFor(() => server.out().includes('listening') || hasExited(server), { what: argv.join(' ') });
  if (hasExited(server)) throw new Error(server.err());
};
const forwards = (tcpAndUdpIn: number, tcpAndUdpOut: number): string[] =>
  [
    ['-t', tcpAndUdpIn],
    ['-u', tcpAndUdpIn],
    ['-T', tcpAndUdpOut],
    ['-U', tcpAndUdpOut],
  ].flatMap((each) => each.map(String));

describe('--splice-only', () => {
  let guest: Guest;
  beforeAll(async () => {
    guest = await lab.guest(['--splice-only', ...forwards(INWARD, OUTWARD)], lab.binary, { forwards: true });
    for (const { inward, port } of WAYS) {
      const side = inward ? guest : lab.host;
      await serve(side, [stream, 'serve', '::', port]);
      for (const address of LOOPBACKS) await serve(side, [...UDP, 'serve', address, port, 64, 0]);
    }
  });

  it('nothing but lo, which is up, and no tap', async () => {
    const links = (await guest.run(['ip', '-o', 'link', 'show', 'up'])).trim().split('\n');
    expect(links.map((line) => line.split(/:\s*/)[1])).toEqual(['lo']);
    expect(await guest.run(['ip', 'route'])).toBe('');
    const open = guest.toolProcesses().flatMap((pid) => [...descriptors(pid).values()]);
    expect(open.length).toBeGreaterThan(10);
    expect(open.filter((what) => what.includes('tun'))).toEqual([]);
    const away = ['python3', '-c', `import socket; socket.create_connection(('${NET.server4}', 80), 5)`];
    expect((await guest.attempt(away)).stderr).toContain('Network is unreachable');
  });

  describe.each(WAYS)('$way', ({ inward, port }) => {
    it.each(LOOPBACKS)('TCP and UDP by %s', async (address) => {
      const client = inward ? lab.host : guest;
      for (const direction of ['up', 'down']) {
        await client.run([stream, direction, address, port, BYTES, 7].map(String));
      }
      const answers = await client.run([...UDP, 'ask', address, port, 0, 64, 0, 1, 4000, 65_507].map(String));
      expect(answers.match(/"size": \d+/g)).toEqual(['"size": 1', '"size": 4000', '"size": 65507']);
    });
  });

  it('who is not on the loopback is turned away', async () => {
    const client = ['python3', '-c', `import socket; socket.create_connection(('${NET.host4}', ${INWARD}), 5).recv(1)`];
    expect((await lab.remote.attempt(client)).stderr).toContain('ConnectionResetError');
  });

  it("ends with the command's status", async () => {
    expect((await guest.close()).status).toBe(0);
    const argv = [lab.binary, '--splice-only', '-t', 'none', '--', 'sh', '-c', 'exit 7'];
    expect((await lab.user.attempt(argv, { timeoutMs: 10_000 })).status).toBe(7);
  });
});

describe.each([['--splice-only'], ['--config-net', '--host-lo-to-ns-lo']])(
  'the same port both ways with %s %s',
  (...how) => {
    it('one connection and one datagram do not go round', async () => {
      const args = how.filter((each) => each !== undefined);
      const guest = await lab.guest([...args, ...forwards(CIRCLE, CIRCLE)], lab.binary, {
        forwards: true,
      });
      const controller = guest
        .toolProcesses()
        .find((pid) => [...descriptors(pid).values()].some((what) => what.includes('eventpoll'))) as number;
      const before = descriptors(controller).size;
      const tcp = (address: string) => `
try: print(socket.create_connection(('${address}', ${CIRCLE}), 5).recv(1))
except OSError as error: print(type(error).__name__)`;
      const udp = (family: string, address: string) =>
        `\nsocket.socket(socket.${family}, socket.SOCK_DGRAM).sendto(b'round', ('${address}', ${CIRCLE}))`;
      const script = `import socket${tcp('127.0.0.1')}${tcp('::1')}${udp('AF_INET', '127.0.0.1')}${udp('AF_INET6', '::1')}`;
      for (const side of [lab.host, guest]) {
        expect(await side.run(['python3', '-c', script])).toBe('ConnectionResetError\nConnectionResetError\n');
      }
      let last = -1;
      await waitFor(
        () => {
          const now = contextSwitches(controller);
          const quiet = now - last < 10;
          last = now;
          return quiet;
        },
        { what: 'a loop that sleeps', everyMs: 300 },
      );
      // The guest's two datagrams are rows for a while, of two sockets each, and a pipe is kept for a second.
      expect(descriptors(controller).size - before).toBeLessThanOrEqual(8);
      expect((await guest.close()).status).toBe(0);
    });
  },
);
