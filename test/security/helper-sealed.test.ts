// SPDX-License-Identifier: Apache-2.0
/** What the two native processes are once sealed, and what they connect to. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRoot, NET } from '../support/lab.mjs';
import { childrenOf, type Started, start, status } from '../support/process.mjs';
import { batch, call, goReady, Installation, NO_OUTBOUND, ordinary, type Step, sealBoth } from './helper-harness.ts';

let install: Installation;
beforeEach(() => {
  install = new Installation();
});
afterEach(() => install.remove());

const run = (steps: readonly Step[]): Started => install.start(['-I', 'tap0', '--', 'sleep', '1000'], { steps });
const isController = (pid: number): boolean => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('controller.cjs');
const connect = (address: string, extra: object = {}): readonly [string, unknown] => [
  'socket.connect',
  { protocol: 'udp', address, port: 9, sourcePort: 0, ...extra },
];

describe('the privilege of the helper', () => {
  it('is none, in both processes', async () => {
    const helper = run(goReady(true));
    await install.scriptDone();
    const natives = [helper.pid(), ...childrenOf(helper.pid())].filter((pid) => !isController(pid));
    expect(natives.length).toBe(2);
    for (const pid of natives) {
      const fields = status(pid);
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(fields[set]).toMatch(/^0+$/);
      expect(fields).toMatchObject({ NoNewPrivs: '1', Seccomp: '2', Threads: '1' });
    }
  });

  it.runIf(isRoot)('has an empty root, no descriptor of the caller, and cannot be read', async () => {
    const helper = run(goReady(true));
    await install.scriptDone();
    const natives = [helper.pid(), ...childrenOf(helper.pid())].filter((pid) => !isController(pid));
    for (const pid of natives) {
      expect(readdirSync(`/proc/${pid}/root`)).toEqual([]);
      expect(readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n').length).toBe(1);
      const look = start(ordinary(['cat', `/proc/${pid}/environ`]), {}); // what another process of the user may do
      await look.closed;
      expect(look.err()).toMatch(/Permission denied/);
    }
  });
});

describe('the floor', () => {
  const refused = [
    '0.0.0.0',
    '0.1.2.3',
    '127.0.0.1',
    '127.255.255.254',
    '224.0.0.1',
    '239.255.255.255',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::7f00:1',
    '::192.0.2.1',
    '::ffff:127.0.0.1',
    '::ffff:198.51.100.1',
    '64:ff9b::7f00:1',
    '64:ff9b::127.0.0.1',
    '64:ff9b::a00:1',
    '2002:7f00:1::',
    '2002:7f00:1:ffff::1',
    '2002:a00:1::1',
    'ff02::1',
    'ff0e::1',
    '10.0.0.0',
    '10.255.255.255',
    '203.0.113.128',
    '203.0.113.255',
    '2001:db8:8000::',
    '2001:db8:ffff::1',
  ];
  const passed = [
    '1.0.0.0',
    '126.255.255.255',
    '128.0.0.1',
    '223.255.255.255',
    '9.255.255.255',
    '11.0.0.0',
    '203.0.113.127',
    '64:ff9b::808:808',
    '64:ff9b:1::7f00:1',
    '2002:808:808::1',
    '2001:db8:7fff:ffff::1',
    '2001:db9::1',
    'fe80::1',
    'fd00::1',
  ];
  const deny = [
    { address: '10.0.0.0', prefix: 8 },
    { address: '203.0.113.128', prefix: 25 },
    { address: '2001:db8:8000::', prefix: 33 },
  ];

  it.each(['tcp', 'udp', 'icmp'])('holds for %s', async (protocol) => {
    const all = [...refused, ...passed];
    const helper = run([...sealBoth(deny), batch('host', ...all.map((address) => connect(address, { protocol })))]);
    await install.scriptDone();
    helper.kill('SIGKILL');
    const replies = install.replies(2);
    const codes = Object.fromEntries(all.map((address, i) => [address, replies[i]?.error?.code ?? 0]));
    for (const address of refused) expect([address, codes[address]]).toEqual([address, -32_001]);
    // A host may have no route there, or no ping sockets; then it is the system that says no.
    for (const address of passed) expect([address, codes[address]]).not.toEqual([address, -32_001]);
  });

  it('is not there before sealing, because socket.connect is not', async () => {
    const helper = run([batch('host', connect('198.51.100.1'))]);
    await helper.closed;
    expect(helper.err()).toBe('The controller called socket.connect, which is not for this stage or side\n');
    expect(helper.child.exitCode).toBe(1);
  });

  it('cannot be sealed with an address that is none, and then not half', async () => {
    const helper = run([
      call('host', 'seal', {
        deny: [
          { address: '198.51.100.0', prefix: 24 },
          { address: 'zz', prefix: 1 },
        ],
        grant: [],
        outbound: NO_OUTBOUND,
      }),
      call('host', 'seal', { deny: [{ address: '10.0.0.0', prefix: 33 }], grant: [], outbound: NO_OUTBOUND }),
      call('host', 'seal', { deny: [], grant: [], outbound: { ...NO_OUTBOUND, address4: '::1' } }),
      call('host', 'seal', { deny: [], grant: [{ address: 'zz', port: 1 }], outbound: NO_OUTBOUND }),
      call('host', 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND }),
      call('host', 'socket.connect', connect('198.51.100.1')[1]),
    ]);
    await install.scriptDone();
    helper.kill('SIGKILL');
    for (const i of [0, 1, 2, 3]) expect(install.reply(i).error).toMatchObject({ code: -32_000, data: { errno: 22 } });
    expect(install.reply(4).result).toEqual({});
    expect(install.reply(5).error?.code).not.toBe(-32_001);
  });
});

describe('outbound settings', () => {
  it('fail closed: an interface that is not there lets nothing out', async () => {
    const helper = run([
      ...sealBoth([], { ...NO_OUTBOUND, interface4: 'nosuchif' }),
      batch('host', connect('198.51.100.1'), connect('198.51.100.1', { protocol: 'tcp' })),
    ]);
    await install.scriptDone();
    helper.kill('SIGKILL');
    for (const reply of install.replies(2)) expect(reply.error).toMatchObject({ code: -32_000, data: { errno: 19 } });
  });

  it('a source address that is not ours is an error, not ignored', async () => {
    const helper = run([
      ...sealBoth([], { ...NO_OUTBOUND, address4: NET.server4 }),
      batch('host', connect('192.0.2.77'), connect('192.0.2.77', { protocol: 'tcp', sourcePort: 4000 })),
    ]);
    await install.scriptDone();
    helper.kill('SIGKILL');
    for (const reply of install.replies(2)) expect(reply.error).toMatchObject({ code: -32_000, data: { errno: 99 } });
  });
});

describe('connected sockets', () => {
  /** Runs in a network namespace with one interface and routes, so that every family connects. */
  const inNetwork = (steps: readonly Step[]): Started =>
    install.start(['-I', 'tap0', '--', 'sleep', '1000'], {
      steps,
      shell: `exec unshare -Urn sh -c 'ip link set lo up && ip link add name dum type veth peer name end && ip link set dum up && ip link set end up &&
        ip addr add 192.0.2.2/24 dev dum && ip -6 addr add 2001:db8::2/64 dev dum nodad &&
        ip route add default via 192.0.2.1 && ip -6 route add default via 2001:db8::1 &&
        echo 0 0 > /proc/sys/net/ipv4/ping_group_range && exec "$@"' sh "$@"`,
    });

  it('one descriptor a reply, in order, for every protocol and family', async () => {
    const kinds = ['tcp', 'udp', 'icmp'].flatMap((protocol) =>
      ['198.51.100.1', '2001:db8:1::1', 'fe80::1'].map((address) => connect(address, { protocol, sourcePort: 40_000 })),
    );
    const helper = inNetwork([...sealBoth(), batch('host', ...kinds)]);
    await install.scriptDone();
    expect(install.replies(2).map(({ result, error }) => error ?? result)).toEqual(kinds.map((_, fd) => ({ fd })));
    expect(install.outcomes()[2]?.fds).toBe(kinds.length);
    const controller = childrenOf(helper.pid()).find(isController) as number;
    const udp = readFileSync(`/proc/${helper.pid()}/net/udp`, 'utf8');
    // 192.0.2.2:40000 → 198.51.100.1:9, in the hexadecimal of /proc (little-endian machines).
    expect(udp).toMatch(/ 020200C0:9C40 016433C6:0009 /);
    expect(readFileSync(`/proc/${helper.pid()}/net/icmp`, 'utf8')).toMatch(/ 020200C0:9C40 016433C6:0000 /);
    expect(readFileSync(`/proc/${helper.pid()}/net/tcp`, 'utf8')).toMatch(/ 020200C0:[0-9A-F]{4} 016433C6:0009 02 /);
    expect(controller).toBeGreaterThan(0);
  });

  it("the host's own addresses are refused, but for what was granted; with an interface, too", async () => {
    const own = [
      '192.0.2.2',
      '192.0.2.255',
      '2001:db8::2',
      '64:ff9b::c000:202',
      '::ffff:0:192.0.2.2',
      '2002:c000:202::',
    ];
    const asked = own.flatMap((address) => [53, 54].map((port) => connect(address, { port })));
    const codes = (step: number) => install.replies(step).map(({ error }) => error?.code ?? 0);
    inNetwork([...sealBoth(), batch('host', ...asked, connect('192.0.2.3'))]);
    await install.scriptDone();
    expect(codes(2)).toEqual([...asked.map(() => -32_001), 0]);

    const grant = [
      { address: '192.0.2.2', port: 53 },
      { address: '2001:db8::2', port: 0 },
      { address: '127.0.0.1', port: 0 },
      { address: '::1', port: 53 },
    ];
    const outbound = { ...NO_OUTBOUND, interface4: 'dum', interface6: 'dum' };
    const loopback = [connect('127.0.0.1', { port: 53 }), connect('::1', { port: 53 })];
    inNetwork([...sealBoth([], outbound, grant), batch('host', ...asked, ...loopback, connect('192.0.2.3'))]);
    await install.scriptDone();
    const no = -32_001;
    expect(codes(2)).toEqual([0, no, no, no, 0, 0, 0, no, 0, no, 0, no, 0, 0, 0]);
  });

  it('one UDP source port serves several peers; a privileged one is given up', async () => {
    const helper = inNetwork([
      ...sealBoth(),
      batch(
        'host',
        connect('198.51.100.1', { sourcePort: 5353 }),
        connect('198.51.100.2', { sourcePort: 5353 }),
        connect('198.51.100.3', { sourcePort: 5353 }),
      ),
    ]);
    await install.scriptDone();
    const udp = readFileSync(`/proc/${helper.pid()}/net/udp`, 'utf8');
    for (const last of ['01', '02', '03']) expect(udp).toMatch(new RegExp(` 020200C0:14E9 ${last}6433C6:0009 `));
  });

  it('one UDP source port and one peer is one socket: the next one gets another port', async () => {
    const peers = ['198.51.100.1', '198.51.100.1', '198.51.100.1', '198.51.100.2', '2001:db8:1::1', '2001:db8:1::1'];
    const helper = inNetwork([
      ...sealBoth(),
      batch('host', ...peers.map((address) => connect(address, { sourcePort: 5353 }))),
    ]);
    await install.scriptDone();
    expect(install.outcomes()[2]?.fds).toBe(peers.length);
    // Local port and peer of each, IPv4 and IPv6; 14E9 is 5353.
    const rows = ['udp', 'udp6'].flatMap((file) => [
      ...readFileSync(`/proc/${helper.pid()}/net/${file}`, 'utf8').matchAll(
        / [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]+):0009 /g,
      ),
    ]);
    const kept = rows.filter(([, port]) => port === '14E9').map(([, , peer]) => peer);
    expect([rows.length, kept.length, new Set(kept).size]).toEqual([6, 3, 3]);
  });

  it('a full batch fits into one reply', async () => {
    const helper = inNetwork([
      ...sealBoth(),
      batch('host', ...Array.from({ length: 128 }, () => connect('198.51.100.1'))),
    ]);
    await install.scriptDone();
    helper.kill('SIGKILL');
    expect(install.outcomes()[2]?.fds).toBe(128);
  });

  it('16 of them take microseconds each, not milliseconds', async () => {
    const sixteen = batch('host', ...Array.from({ length: 16 }, () => connect('198.51.100.1', { protocol: 'tcp' })));
    const helper = inNetwork([...sealBoth(), { ...sixteen, rounds: 200 } as Step]);
    await install.scriptDone();
    helper.kill('SIGKILL');
    // 14 µs here, of which socket(), connect() and the SYN through a veth pair are 10; a busy machine gets some room.
    expect((install.outcomes()[2]?.microseconds as number) / 16).toBeLessThan(30);
  });
});
