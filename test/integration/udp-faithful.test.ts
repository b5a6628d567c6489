// SPDX-License-Identifier: Apache-2.0
/** UDP as the host's own stack has it: header fields, source ports, datagrams larger than a packet, many flows. */
import { chmodSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { type Started, waitFor } from '../support/process.mjs';
import { client, ECHO_PORT, echoServer, FAMILIES } from '../support/programs.ts';

const program = ['python3', join(REPOSITORY, 'test/support/udp.py')];
const PORT = 7200;
const SERVER_TTL = 44;
/** DSCP CS1, ECN "congestion experienced": RFC 3168. */
const SERVER_TOS = 0x23;

interface Heard {
  readonly from: string;
  readonly port: number;
  readonly ttl: number;
  readonly tos: number;
  readonly size: number;
  readonly text: string;
}
const heardIn = (out: string): Heard[] =>
  out
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Heard);
const serve = async (side: Side, address: string, port: number): Promise<Started> => {
  const server = side.spawn([...program, 'serve', address, port, SERVER_TTL, SERVER_TOS].map(String));
  await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, { what: 'the server' });
  expect(server.err()).toBe('');
  return server;
};
const ask = async (side: Side, ...args: readonly (string | number)[]): Promise<Heard[]> =>
  heardIn(await side.run([...program, 'ask', ...args].map(String)));

describe('UDP', () => {
  let lab: Lab;
  let guest: Guest;
  let second: Guest;
  const servers = new Map<string, Started>();
  beforeAll(async () => {
    lab = await makeLab({ mtu: 1500 });
    await echoServer(lab);
    for (const { server } of FAMILIES) servers.set(server, await serve(lab.remote, server, PORT));
    guest = await lab.guest(['--config-net', '--no-map-gw', '-m', '1500']);
    second = await lab.guest(['--config-net', '--no-map-gw', '-m', '1500']);
  });
  afterAll(() => lab.cleanup());
  const seenBy = (server: string): Heard | undefined => heardIn(servers.get(server)?.out() ?? '').at(-1);

  it.each(FAMILIES)('TTL, DSCP and ECN arrive as they were sent, both ways, over $family', async ({ server }) => {
    for (const tos of [0xb9, 0x03, 0x02, 0]) {
      const [answer] = await ask(guest, server, PORT, 0, 33, tos, 10);
      expect(seenBy(server)).toMatchObject({ ttl: 33, tos });
      expect(answer).toMatchObject({ ttl: SERVER_TTL, tos: SERVER_TOS });
    }
  });

  it.each(FAMILIES)('the source port is kept, and is free again afterwards, over $family', async ({ server }) => {
    for (let i = 0; i < 2; i++) {
      await ask(guest, server, PORT, 41_000, 64, 0, 10);
      expect(seenBy(server)?.port).toBe(41_000);
    }
  });

  it.each(FAMILIES)('a port of another user’s service is not taken, even if it shares, over $family', async (f) => {
    const host = f.family === 'IPv4' ? NET.host4 : NET.host6;
    // With SO_REUSEADDR, as root: the tool runs as another user.
    const service = await serve(lab.host, host, 41_001);
    const [answer] = await ask(guest, f.server, PORT, 41_001, 64, 0, 10);
    expect(answer).toMatchObject({ port: PORT, size: 10 });
    expect(seenBy(f.server)?.port).not.toBe(41_001);
    await ask(lab.remote, host, 41_001, 0, 64, 0, 10, 11, 12, 13, 14, 15, 16, 17);
    expect(heardIn(service.out()).map(({ size }) => size)).toEqual([10, 11, 12, 13, 14, 15, 16, 17]);
    service.kill('SIGKILL');
  });

  it.each(FAMILIES)('two instances with one source port to one peer both get their answers over $family', async (f) => {
    const holders = [guest, second].map((side) =>
      side.spawn([...program, 'hold', f.server, PORT, 41_002].map(String), { stdin: 'pipe' }),
    );
    for (let round = 0; round < 3; round++) {
      for (const [i, holder] of holders.entries()) {
        holder.child.stdin?.write(`${i}-${round}\n`);
        await waitFor(() => heardIn(holder.out()).length > round || holder.child.exitCode !== null, {
          what: `the answer to ${i}-${round}`,
        });
        expect(heardIn(holder.out()).at(-1)?.text).toBe(`${i}-${round}`);
      }
    }
    for (const holder of holders) holder.kill('SIGKILL');
  });

  it.each(FAMILIES)('datagrams larger than a packet arrive, in fragments both ways, over $family', async (f) => {
    const largest = f.family === 'IPv4' ? 65_507 : 65_527;
    const sizes = [1472, 1473, 1480, 2952, 2953, 8192, 32_768, 65_000, 65_506, 65_507, largest];
    const out = await guest.run(client('udp', f.server, ECHO_PORT, ...sizes));
    expect(JSON.parse(out)).toEqual({ lost: [] });
  });

  it.each(FAMILIES)(
    'what waits in the socket arrives in order, each as it was, in few frames, over $family',
    async (f) => {
      const wait = (side: Started, text: string): Promise<unknown> =>
        waitFor(() => side.out().includes(text) || side.child.exitCode !== null, { what: `"${text}"` });
      const many = (count: number, size: number, tos: number) => Array.from({ length: count }, () => ({ size, tos }));
      const feed = lab.remote.spawn([...program, 'feed', f.server, 7300].map(String), { stdin: 'pipe' });
      await wait(feed, 'listening');
      const sent = [
        ...many(20, 1400, 0),
        ...many(1, 700, 0),
        ...many(70, 64, 0),
        ...many(1, 0, 0),
        ...many(1, 4000, 0),
        ...many(3, 200, 0xb9),
        ...many(3, 200, 0),
      ];
      const taker = guest.spawn([...program, 'take', f.server, 7300, sent.length].map(String));
      await wait(feed, '"here"');
      const frames = async (): Promise<number> =>
        Number(await guest.run(['sh', '-c', 'cat /sys/class/net/*/statistics/rx_packets | sort -n | tail -1']));
      const before = await frames();
      const controller = guest.toolProcesses().at(-1) as number;
      process.kill(controller, 'SIGSTOP');
      try {
        feed.child.stdin?.end(`${sent.map(({ size, tos }) => `${size}:${tos}`).join(' ')}\n`);
        await wait(feed, 'sent');
      } finally {
        process.kill(controller, 'SIGCONT');
      }
      await waitFor(() => heardIn(taker.out()).length === sent.length || taker.child.exitCode !== null, {
        what: 'all of them',
      });
      expect(taker.err()).toBe('');
      expect(heardIn(taker.out()).map(({ size, tos }) => ({ size, tos }))).toEqual(sent);
      // A call brings 15 at most, so a run may be cut in its middle; the large one is three fragments or four.
      expect((await frames()) - before).toBeLessThan(24);
    },
  );

  it('a scan from one port leaves other flows alone, and has its share of the descriptors, no more', async () => {
    const holder = guest.spawn([...program, 'hold', NET.server4, PORT, 41_003].map(String), { stdin: 'pipe' });
    const question = async (n: number): Promise<void> => {
      holder.child.stdin?.write(`q${n}\n`);
      await waitFor(() => heardIn(holder.out()).some(({ text }) => text === `q${n}`), { what: `the answer to q${n}` });
    };
    await question(0);
    const portBefore = seenBy(NET.server4)?.port;
    const scan = guest.run([...program, 'scan', NET.gateway4, '10000', '40000']);
    for (let n = 1; n <= 20; n++) await question(n);
    await scan;
    await question(21);
    // The same flow still: it was not ended and begun again.
    expect(seenBy(NET.server4)?.port).toBe(portBefore);
    const sockets = (await lab.user.run(['ss', '-Hun'])).split('\n').filter((line) => line.includes(NET.gateway4));
    // The share of one port, and the crowd: share.ts.
    expect(sockets.length).toBeGreaterThan(64);
    expect(sockets.length).toBeLessThan(64 + 2048 + 1);
    holder.kill('SIGKILL');
  });
});

describe('short of descriptors', () => {
  const DESCRIPTORS = 128;
  let lab: Lab;
  let guest: Guest;
  beforeAll(async () => {
    lab = await makeLab({ mtu: 1500 });
    await echoServer(lab);
    const limited = join(lab.dir, 'limited');
    writeFileSync(limited, `#!/bin/sh\nexec prlimit --nofile=${DESCRIPTORS}:${DESCRIPTORS} ${lab.binary} "$@"\n`);
    chmodSync(limited, 0o755);
    guest = await lab.guest(['--config-net'], limited);
  });
  afterAll(() => lab.cleanup());

  it.each(FAMILIES)(
    'twice as many flows as descriptors, and half of them scanned for: all are served over $family',
    async (f) => {
      const scan = guest.run([...program, 'scan', f.server, '20000', '22000']);
      const many = await guest.run([...program, 'many', f.server, ECHO_PORT, 2 * DESCRIPTORS, 2].map(String));
      await scan;
      expect(JSON.parse(many)).toMatchObject({ lost: 0 });
      // TCP has descriptors left, and lookups have theirs.
      expect(JSON.parse(await guest.run(client('connect', f.server, ECHO_PORT)))).toMatchObject({ code: null });
      expect((await guest.run(['getent', f.flag === '-4' ? 'ahostsv4' : 'ahostsv6', NET.name])).length).toBeGreaterThan(
        0,
      );
      const held = readdirSync(`/proc/${guest.toolProcesses().at(-1)}/fd`).length;
      expect(held).toBeLessThanOrEqual(DESCRIPTORS);
      expect(guest.tool.child.exitCode).toBe(null);
    },
  );
});

describe('time-outs', () => {
  const SYSCTL = '/proc/sys/net/netfilter/nf_conntrack_udp_timeout';
  let lab: Lab;
  beforeAll(async () => {
    lab = await makeLab({ mtu: 1500 });
    await echoServer(lab);
  });
  afterAll(() => lab.cleanup());

  it('are those of the host’s connection tracking', async (context) => {
    const set = await lab.host.attempt(['sh', '-c', `echo 2 > ${SYSCTL} && echo 4 > ${SYSCTL}_stream`]);
    // A matter of the kernel, not of a missing tool.
    if (set.status !== 0) return context.skip(`this kernel has no connection tracking: ${set.stderr.trim()}`);
    const guest = await lab.guest(['--config-net']);
    const held = async (): Promise<number> => {
      const sockets = await lab.host.run(['ss', '-Hun', 'dport', '=', String(ECHO_PORT)]);
      return sockets.split('\n').filter((line) => line !== '').length;
    };
    const started = performance.now();
    await guest.run([...program, 'many', NET.server4, ECHO_PORT, 3, 1].map(String));
    expect(await held()).toBe(3);
    await waitFor(async () => (await held()) === 0, { what: 'the end of the flows', timeoutMs: 10_000 });
    // The default is 30 s; ours was 2.
    expect(performance.now() - started).toBeGreaterThan(1900);
  });
});
