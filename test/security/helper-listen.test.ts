// SPDX-License-Identifier: Apache-2.0
/** What listens, who is answered, and what grants and our own listeners open: the sealed helper, live. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRoot, TEST_USER } from '../support/lab.mjs';
import { childrenOf, type Started, status, waitFor } from '../support/process.mjs';
import { batch, call, Installation, NO_OUTBOUND, type Side, type Step } from './helper-harness.ts';

const REFUSED = -32_001;
const SYSTEM = -32_000;

let install: Installation;
beforeEach(() => {
  install = new Installation();
});
afterEach(() => install.remove());

/** In a network namespace with one interface; there, the helper is root. */
const inNetwork = (steps: readonly Step[]): Started =>
  install.start(['-I', 'tap0', '--', 'sleep', '1000'], {
    steps,
    shell: `exec unshare -Urn sh -c 'ip link set lo up && ip link add name dum type veth peer name end && ip link set dum up && ip link set end up &&
      ip addr add 192.0.2.2/24 brd + dev dum && ip -6 addr add 2001:db8::2/64 dev dum nodad &&
      ip route add default via 192.0.2.1 && ip -6 route add default via 2001:db8::1 && exec "$@"' sh "$@"`,
  });
interface Seal {
  readonly grant?: readonly object[];
  readonly listen?: readonly object[];
}
const seal = (more: Seal): Step[] =>
  (['host', 'netns'] as const).map((side) =>
    call(side, 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND, ...more }),
  );
const ALL = [
  { protocol: 'tcp', first: 1, last: 65_535 },
  { protocol: 'udp', first: 1, last: 65_535 },
];
const listen = (protocol: string, address: string, port: number, extra: object = {}): readonly [string, unknown] => [
  'socket.listen',
  { protocol, address, port, interface: '', freebind: false, ...extra },
];
const connect = (protocol: string, address: string, port: number): readonly [string, unknown] => [
  'socket.connect',
  { protocol, address, port, sourcePort: 0 },
];
const unlisten = (listener: number): readonly [string, unknown] => ['socket.unlisten', { listener }];
const answer = (side: Side, listener: number): Step => call(side, 'socket.answer', { listener });
const codes = (step: number): number[] => install.replies(step).map(({ error }) => error?.code ?? 0);
const errnos = (step: number): number[] => install.replies(step).map(({ error }) => error?.data.errno ?? 0);
const EACCES = 13;
const EAGAIN = 11;
const EBADF = 9;
const EADDRINUSE = 98;
const EADDRNOTAVAIL = 99;

const brokerOf = (helper: Started): number =>
  childrenOf(helper.pid()).find((pid) => !readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('node')) as number;
/** Python in the network of a process; `s(address, port)` makes a UDP socket, `r(s)` what it receives or "nothing". */
const python = (pid: number, text: string): string => {
  const before = `import socket
def s(a, p, six=False):
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.settimeout(2)
    s.bind((a, p))
    return s
`;
  const done = spawnSync('nsenter', ['-t', String(pid), '-U', '-n', 'python3', '-c', before + text], {
    encoding: 'utf8',
  });
  expect([done.stderr, done.status]).toEqual(['', 0]);
  return done.stdout;
};

describe('socket.listen', () => {
  it('takes any port before sealing, and those of its windows afterwards; without windows none', async () => {
    const windows = [
      { protocol: 'udp', first: 5000, last: 5001 },
      { protocol: 'tcp', first: 6000, last: 6000 },
    ];
    const asked = [
      listen('udp', '', 4999),
      listen('udp', '', 5000),
      listen('udp', '0.0.0.0', 5001),
      listen('udp', '::', 5002),
      listen('tcp', '', 5000),
      listen('tcp', '', 5999),
      listen('tcp', '192.0.2.2', 6000),
      listen('tcp', '', 6001),
    ];
    const onLo = asked.map(([name, wish]) => {
      const lo = { ...(wish as object), interface: 'lo' } as { address: string; interface: string };
      return [name, lo.address === '192.0.2.2' ? { ...lo, address: '127.0.0.1' } : lo] as const;
    });
    const early = [
      batch('host', listen('tcp', '', 7000)),
      batch('netns', listen('udp', '', 7000, { interface: 'lo' })),
    ];
    inNetwork([...early, ...seal({ listen: windows }), batch('host', ...asked), batch('netns', ...onLo)]);
    await install.scriptDone();
    expect([codes(0), codes(1)]).toEqual([[0], [0]]);
    const no = REFUSED;
    for (const step of [4, 5]) expect([step, codes(step)]).toEqual([step, [no, 0, 0, no, no, no, 0, no]]);

    inNetwork([...seal({}), batch('host', ...asked), batch('netns', ...onLo)]);
    await install.scriptDone();
    for (const step of [2, 3]) expect(codes(step)).toEqual(asked.map(() => REFUSED));
  });

  it('cannot be sealed with a window or a grant that is upside down', async () => {
    const bad: Seal[] = [
      { listen: [{ protocol: 'tcp', first: 2, last: 1 }] },
      { grant: [{ address: '127.0.0.1', port: 2, last: 1 }] },
      { grant: [{ address: '127.0.0.1', port: 0, last: 1 }] },
      { grant: [{ address: '127.0.0.0', port: 1, prefix: 33 }] },
    ];
    const helper = inNetwork(
      bad.map((more) => call('host', 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND, ...more })),
    );
    await install.scriptDone();
    helper.kill('SIGKILL');
    for (const i of bad.keys()) expect(install.reply(i).error).toMatchObject({ code: SYSTEM, data: { errno: 22 } });
  });

  it('once sealed, takes no group, no broadcast, and no foreign address unless the seal said so', async () => {
    const groups = [
      '224.0.0.251',
      '239.1.2.3',
      '255.255.255.255',
      '192.0.2.255',
      '0.0.0.1',
      'ff02::fb',
      '::ffff:127.0.0.1',
    ];
    const asked = groups.flatMap((address) => [
      listen('udp', address, 5353),
      listen('udp', address, 5354, { freebind: true }),
    ]);
    const foreign = ['203.0.113.9', '2001:db8:9::9'].map((address) => listen('udp', address, 5355, { freebind: true }));
    const own = ['192.0.2.2', '2001:db8::2', '127.0.0.1', '::1', '', '::'].map((address, i) =>
      listen('udp', address, 5360 + i),
    );
    for (const freebind of [false, true]) {
      inNetwork([
        call('host', 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND, listen: ALL, freebind }),
        batch('host', ...asked),
        batch('host', ...foreign),
        batch('host', ...own),
      ]);
      await install.scriptDone();
      expect(codes(1)).toEqual(asked.map(() => REFUSED));
      expect(codes(2)).toEqual(foreign.map(() => (freebind ? 0 : REFUSED)));
      expect(codes(3)).toEqual(own.map(() => 0));
    }
  });

  it('in the namespace, is for lo alone', async () => {
    const allowed = ['', '0.0.0.0', '::', '127.0.0.1', '127.9.9.9', '::1'];
    const refused = ['192.0.2.2', '2001:db8::2', '224.0.0.1', '::ffff:127.0.0.1', 'fe80::1', '0.0.0.1'];
    const asked = [...allowed, ...refused].map((address, i) => listen('udp', address, 5000 + i, { interface: 'lo' }));
    const elsewhere = ['', 'tap0', 'lo0'].flatMap((name) =>
      ['tcp', 'udp'].map((p) => listen(p, '', 80, { interface: name })),
    );
    inNetwork([batch('netns', ...asked, ...elsewhere), ...seal({ listen: ALL }), batch('netns', ...elsewhere)]);
    await install.scriptDone();
    expect(codes(0)).toEqual([...allowed.map(() => 0), ...[...refused, ...elsewhere].map(() => REFUSED)]);
    expect(codes(3)).toEqual(elsewhere.map(() => REFUSED));
  });

  it('binds what it says, and says which port is taken', async () => {
    const helper = inNetwork([
      batch(
        'host',
        listen('tcp', '', 4001),
        listen('tcp', '0.0.0.0', 4002),
        listen('tcp', '::', 4002),
        listen('tcp', '192.0.2.2', 4003),
        listen('udp', '127.0.0.1', 4004),
        listen('udp', '::1', 4004, { interface: 'lo' }),
        listen('udp', '198.51.100.9', 4005, { freebind: true }),
        listen('tcp', '2001:db8:9::9', 4005, { freebind: true }),
        listen('tcp', '198.51.100.9', 4006),
        listen('udp', '127.0.0.1', 4004),
        listen('tcp', '0.0.0.0', 4001),
        listen('tcp', '', 4007, { interface: 'nosuchif' }),
      ),
    ]);
    await install.scriptDone();
    expect(errnos(0)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, EADDRNOTAVAIL, EADDRINUSE, EADDRINUSE, 19]);
    expect(install.replies(0)[10]?.error?.message).toBe('bind 0.0.0.0 port 4001: Address already in use');
    const rows = (file: string): string[] =>
      [...readFileSync(`/proc/${helper.pid()}/net/${file}`, 'utf8').matchAll(/: ([0-9A-F]+:[0-9A-F]{4}) /g)]
        .map(([, local]) => local as string)
        .sort();
    const any = '0'.repeat(32);
    expect(rows('tcp')).toEqual(['00000000:0FA2', '020200C0:0FA3']);
    expect(rows('tcp6')).toEqual([`${any}:0FA1`, `${any}:0FA2`, 'B80D0120000009000000000009000000:0FA5'].sort());
    expect(rows('udp')).toEqual(['0100007F:0FA4', '096433C6:0FA5']);
    expect(rows('udp6')).toEqual(['00000000000000000000000001000000:0FA4']);
    // One socket hears both versions.
    for (const [family, address] of [
      ['AF_INET', '192.0.2.2'],
      ['AF_INET6', '::1'],
    ])
      python(helper.pid(), `socket.socket(socket.${family}).connect(("${address}", 4001))`);
  });

  it('gives the lowest free number, and keeps the port until it is told to forget', async () => {
    const open = [4001, 4002, 4003].map((port) => listen('udp', '', port));
    inNetwork([
      batch('host', ...open),
      { close: 1 },
      batch('host', listen('udp', '', 4002), unlisten(1), unlisten(1), unlisten(65_535), listen('udp', '', 4002)),
      batch('host', ...[0, 1, 2].map(unlisten), listen('udp', '', 4009)),
    ]);
    await install.scriptDone();
    expect(install.replies(0).map(({ result }) => result)).toEqual([0, 1, 2].map((n) => ({ fd: n, listener: n })));
    expect(errnos(1)).toEqual([EADDRINUSE, 0, EBADF, EBADF, 0]);
    expect(install.replies(1)[4]?.result).toEqual({ fd: 0, listener: 1 });
    expect(install.replies(2).map(({ result }) => result)).toEqual([{}, {}, {}, { fd: 0, listener: 0 }]);
  });
});

describe('socket.answer', () => {
  it('is connected to whoever sent the first datagram, from the address that was asked, and to nobody else', async () => {
    const helper = inNetwork([
      ...seal({ listen: ALL }),
      batch('host', listen('udp', '', 4001), listen('tcp', '', 4001)),
      answer('host', 0), // nothing waits
      answer('host', 1), // no datagrams there
      answer('host', 2), // no such listener
      { pause: 'asked' },
      answer('host', 0),
      answer('host', 0), // it is still the first one
      { take: 0 },
      answer('host', 0),
      { take: 0 },
      answer('host', 0),
      { send: 2, text: 'to one' },
      { send: 3, text: 'to two' },
      { send: 4, text: 'to six' },
      { pause: 'answered' },
      { take: 3 },
      { take: 2 },
    ]);
    await install.paused('asked');
    const clients = `
import sys
one, two, six = s("127.0.0.1", 5001), s("192.0.2.2", 5002), s("2001:db8::2", 5003, True)
one.sendto(b"1", ("127.0.0.3", 4001))
two.sendto(b"2", ("192.0.2.2", 4001))
six.sendto(b"6", ("2001:db8::2", 4001))
open(sys.argv[1] + "/asked", "w")
for c in (one, two, six): print(c.recvfrom(99)[:2])
two.sendto(b"again", ("192.0.2.2", 4001))
s("127.0.0.1", 5005).sendto(b"stranger", ("192.0.2.2", 4001))
open(sys.argv[1] + "/answered", "w")
`.replaceAll('sys.argv[1]', JSON.stringify(install.directory));
    expect(python(helper.pid(), clients).split('\n')).toEqual([
      "(b'to one', ('127.0.0.3', 4001))",
      "(b'to two', ('192.0.2.2', 4001))",
      "(b'to six', ('2001:db8::2', 4001, 0, 0))",
      '',
    ]);
    await install.scriptDone();
    const errno = (step: number): number => install.reply(step).error?.data.errno ?? 0;
    expect([3, 4, 5, 6, 7, 9, 11].map(errno)).toEqual([EAGAIN, EBADF, EBADF, 0, EADDRINUSE, 0, 0]);
    expect(install.reply(6).result).toEqual({ fd: 0, address: '127.0.0.1', port: 5001, local: '127.0.0.3' });
    expect(install.reply(9).result).toEqual({ fd: 0, address: '192.0.2.2', port: 5002, local: '192.0.2.2' });
    expect(install.reply(11).result).toEqual({ fd: 0, address: '2001:db8::2', port: 5003, local: '2001:db8::2' });
    expect(install.outcomes()[8]?.text).toBe('1'); // answering took nothing out of the queue
    expect([12, 13].map((step) => install.outcomes()[step])).toMatchObject([{ text: 'again' }, { received: -EAGAIN }]);
  });

  it('leaves from our own address when it was a broadcast; port 0 and a group are not answered', async () => {
    const helper = inNetwork([
      batch('host', listen('udp', '', 4001), listen('udp', '239.1.2.3', 4002)),
      ...seal({ listen: ALL }),
      { pause: 'asked' },
      answer('host', 0),
      { take: 0 },
      answer('host', 0), // from port 0
      answer('host', 1), // to a group
      { take: 0 },
      { take: 1 },
    ]);
    await install.paused('asked');
    python(
      helper.pid(),
      `import struct
one = s("192.0.2.2", 5001)
one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
one.sendto(b"1", ("192.0.2.255", 4001))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
raw.sendto(struct.pack("!HHHH", 0, 4001, 9, 0) + b"0", ("192.0.2.2", 0))
member = s("", 5002)
member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + socket.inet_aton("192.0.2.2"))
member.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.0.2.2"))
member.sendto(b"group", ("239.1.2.3", 4002))
open(${JSON.stringify(`${install.directory}/asked`)}, "w")
`,
    );
    await install.scriptDone();
    expect(install.reply(3).result).toEqual({ fd: 0, address: '192.0.2.2', port: 5001, local: '192.0.2.2' });
    expect([5, 6].map((step) => install.reply(step).error?.data.errno)).toEqual([EADDRNOTAVAIL, EADDRNOTAVAIL]);
    // They were there, each first in its queue.
    expect([4, 7, 8].map((step) => install.outcomes()[step]?.text)).toEqual(['1', '0', 'group']);
  });

  it('goes to no address of ours that was forged from outside; what is sent on this host is answered', async () => {
    const helper = inNetwork([
      ...seal({ listen: ALL }),
      batch('host', listen('udp', '', 4001), listen('udp', '2001:db8::2', 4002)),
      { pause: 'forged' },
      answer('host', 0), // the address itself: dropped, so the neighbour's is first
      { take: 0 },
      answer('host', 0), // another address of ours
      { take: 0 },
      answer('host', 0),
      { take: 0 },
      answer('host', 0), // IPv4
      answer('host', 1),
      { pause: 'honest' },
      answer('host', 0),
      { take: 0 },
      answer('host', 0),
      answer('host', 1),
      { take: 0 },
      answer('host', 0), // from another address of ours, by a socket that is connected
    ]);
    await install.paused('forged');
    const mark = (name: string): string => `open(${JSON.stringify(`${install.directory}/${name}`)}, "w")`;
    python(
      helper.pid(),
      `import struct, subprocess
subprocess.run("ip -6 addr add 2001:db8::3/64 dev dum nodad; ip addr add 192.0.2.3/24 dev dum; echo 1 > /proc/sys/net/ipv4/conf/dum/accept_local", shell=True, check=True)
mac = [bytes.fromhex(w[1].replace(":", "")) for w in [l.split() for l in subprocess.run(["ip", "link", "show", "dum"], capture_output=True, text=True).stdout.splitlines()] if w[0] == "link/ether"][0]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("end", 0))
def total(b):
    t = sum(struct.unpack("!%dH" % (len(b) // 2), b))
    while t >> 16: t = (t & 0xffff) + (t >> 16)
    return ~t & 0xffff
def forge(src, port, dst, to, word):
    six = ":" in src
    f = socket.AF_INET6 if six else socket.AF_INET
    a, b = socket.inet_pton(f, src), socket.inet_pton(f, dst)
    udp = struct.pack("!HHHH", port, to, 8 + len(word), 0) + word
    if six:
        udp = udp[:6] + struct.pack("!H", total(a + b + struct.pack("!II", len(udp), 17) + udp)) + udp[8:]
        raw.send(mac + bytes(6) + b"\\x86\\xdd" + struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + a + b + udp)
    else:
        h = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + a + b
        raw.send(mac + bytes(6) + b"\\x08\\x00" + h[:10] + struct.pack("!H", total(h)) + h[12:] + udp)
forge("2001:db8::2", 53, "2001:db8::2", 4001, b"same")
forge("2001:db8::2", 53, "2001:db8::2", 4002, b"same")
forge("192.0.2.2", 53, "192.0.2.2", 4001, b"same")
forge("2001:db8::99", 53, "2001:db8::2", 4001, b"next")
forge("2001:db8::3", 53, "2001:db8::2", 4001, b"mine")
forge("192.0.2.3", 53, "192.0.2.2", 4001, b"four")
${mark('forged')}
`,
    );
    await install.paused('honest');
    python(
      helper.pid(),
      `s("2001:db8::2", 5001, True).sendto(b"six.", ("2001:db8::2", 4001))
s("192.0.2.2", 5002).sendto(b"four", ("192.0.2.2", 4001))
s("2001:db8::2", 5001, True).sendto(b"six.", ("2001:db8::2", 4002))
stays = s("2001:db8::3", 5003, True)
stays.connect(("2001:db8::2", 4001))
stays.send(b"own.")
${mark('honest')}
import os, time
while not os.path.exists(${JSON.stringify(install.path('script-done'))}): time.sleep(0.01)
`,
    );
    await install.scriptDone();
    const outcome = (step: number): unknown => {
      const { reply, text } = install.outcomes()[step] as {
        reply?: { error?: { data: { errno: number } }; result?: object };
        text?: string;
      };
      return text ?? reply?.error?.data.errno ?? reply?.result;
    };
    expect(outcome(3)).toEqual({ fd: 0, address: '2001:db8::99', port: 53, local: '2001:db8::2' });
    expect([4, 5, 6, 7, 8, 9, 10].map(outcome)).toEqual([
      'next',
      EADDRNOTAVAIL,
      'mine',
      EADDRNOTAVAIL,
      'four',
      EAGAIN,
      EAGAIN,
    ]);
    expect(outcome(11)).toMatchObject({ address: '2001:db8::2', port: 5001 });
    expect(outcome(13)).toMatchObject({ address: '192.0.2.2', port: 5002 });
    expect(outcome(14)).toMatchObject({ address: '2001:db8::2', port: 5001 });
    expect(outcome(16)).toMatchObject({ address: '2001:db8::3', port: 5003, local: '2001:db8::2' });
  });

  it('beyond 4,096 UDP ports, goes from an own address to the same one by connected sockets only', async () => {
    const many = Array.from({ length: 32 }, (_, i) =>
      batch('host', ...Array.from({ length: 128 }, (_, j) => listen('udp', '', 10_000 + 128 * i + j))),
    );
    const helper = inNetwork([
      ...many,
      batch('host', listen('udp', '', 9000), unlisten(7), listen('udp', '', 9001)),
      ...seal({ listen: ALL }),
      { pause: 'asked' },
      answer('host', 4096), // unconnected, without a filter
      { take: 4096 },
      answer('host', 4096),
      answer('host', 7), // has the filter of the one that is gone
    ]);
    await install.paused('asked');
    python(
      helper.pid(),
      `s("192.0.2.2", 5001).sendto(b"1", ("192.0.2.2", 9000))
two = s("192.0.2.2", 5002)
two.connect(("192.0.2.2", 9000))
two.send(b"2")
s("192.0.2.2", 5003).sendto(b"3", ("192.0.2.2", 9001))
open(${JSON.stringify(install.path('asked'))}, "w").close()
import os, time
while not os.path.exists(${JSON.stringify(install.path('script-done'))}): time.sleep(0.01)
`,
    );
    await install.scriptDone();
    expect(install.replies(32)[2]?.result).toMatchObject({ listener: 7 });
    expect(install.reply(35).error?.data.errno).toBe(EADDRNOTAVAIL);
    expect([install.reply(37), install.reply(38)].map(({ result }) => result?.['port'])).toEqual([5002, 5003]);
  });

  it('is not there before sealing', async () => {
    const helper = inNetwork([answer('host', 0)]);
    await helper.closed;
    expect(helper.err()).toBe('The controller called socket.answer, which is not for this stage or side\n');
  });

  it('in the namespace, too', async () => {
    const helper = inNetwork([
      ...seal({ listen: ALL }),
      batch('netns', listen('udp', '', 53, { interface: 'lo' })),
      { pause: 'asked' },
      answer('netns', 0),
      { send: 1, text: 'answer' },
    ]);
    await install.paused('asked');
    const command = childrenOf(brokerOf(helper))[0] as number;
    const client = `
one = s("127.0.0.1", 5001)
one.sendto(b"1", ("127.0.0.53", 53))
open(${JSON.stringify(`${install.directory}/asked`)}, "w")
print(one.recvfrom(99))
`;
    expect(python(command, client)).toBe("(b'answer', ('127.0.0.53', 53))\n");
    await install.scriptDone();
    expect(install.reply(3).result).toEqual({ fd: 0, address: '127.0.0.1', port: 5001, local: '127.0.0.53' });
  });
});

describe('what a grant opens', () => {
  const NEVER = ['0.0.0.0', '0.0.0.1', '224.0.0.1', '240.0.0.1', '255.255.255.255', '::', '::2', '::127.0.0.1'];
  const SPELLINGS = ['::ffff:127.0.0.1', '64:ff9b::127.0.0.1', '::ffff:0:127.0.0.1', '2002:7f00:1::1', 'ff02::1'];

  it('is these addresses, ports and protocols of loopback, and nothing beside them', async () => {
    const grant = [
      { address: '127.0.0.1', port: 53 },
      { address: '127.1.0.0', prefix: 16, port: 1000, last: 1009, protocol: 'tcp' },
      { address: '::1', port: 0, protocol: 'udp' },
      ...NEVER.map((address) => ({ address, port: 0 })),
      ...SPELLINGS.map((address) => ({ address, port: 0 })),
    ];
    const open: [string, string, number][] = [
      ['udp', '127.0.0.1', 53],
      ['udp', '::1', 1],
      ['udp', '::1', 65_535],
    ];
    const shut: [string, string, number][] = [
      ['udp', '127.0.0.1', 52],
      ['udp', '127.0.0.1', 54],
      ['udp', '127.0.0.0', 53],
      ['udp', '127.0.0.2', 53],
      ['tcp', '127.0.255.255', 1000],
      ['tcp', '127.2.0.0', 1000],
      ['tcp', '127.1.0.1', 999],
      ['tcp', '127.1.0.1', 1010],
      ['udp', '127.1.0.1', 1000],
      ['icmp', '127.1.0.1', 1000],
      ['tcp', '::1', 1],
      ['icmp', '::1', 1],
      ...[...NEVER, ...SPELLINGS].flatMap((address): [string, string, number][] => [
        ['udp', address, 53],
        ['tcp', address, 53],
      ]),
    ];
    // TCP is listened for, so that it is not the system that refuses.
    const edges: [string, string, number][] = [
      ['tcp', '127.1.0.0', 1000],
      ['tcp', '127.1.255.254', 1009],
    ];
    inNetwork([
      ...seal({ grant }),
      batch('host', ...[...open, ...edges].map((one) => connect(...one))),
      batch('host', ...shut.map((one) => connect(...one))),
    ]);
    await install.scriptDone();
    expect(codes(2)).not.toContain(REFUSED);
    expect(codes(3).map((code, i) => [shut[i], code])).toEqual(shut.map((one) => [one, REFUSED]));
  });

  it('of a network larger than loopback is not loopback, but the other addresses of the host', async () => {
    const grant = [
      { address: '0.0.0.0', prefix: 0, port: 0 },
      { address: '126.0.0.0', prefix: 7, port: 0 },
      { address: '::', prefix: 0, port: 0 },
      { address: '::', prefix: 96, port: 0 },
    ];
    inNetwork([
      ...seal({ grant }),
      batch('host', connect('udp', '192.0.2.2', 9), connect('udp', '2001:db8::2', 9)),
      batch('host', ...['127.0.0.1', '::1', '0.0.0.0', '224.0.0.1', '::'].map((a) => connect('udp', a, 9))),
    ]);
    await install.scriptDone();
    expect([codes(2), codes(3)]).toEqual([[0, 0], new Array(5).fill(REFUSED)]);
  });
});

describe('hairpin: our own listeners', () => {
  it("may be connected to at the host's addresses, each by its protocol, while they listen", async () => {
    const asked = [
      connect('udp', '192.0.2.2', 4001), // every address
      connect('udp', '2001:db8::2', 4001),
      connect('udp', '192.0.2.2', 4002), // this address
    ];
    const never = [
      connect('tcp', '192.0.2.2', 4001),
      connect('icmp', '192.0.2.2', 4001),
      connect('udp', '192.0.2.2', 4003), // bound to loopback
      connect('udp', '192.0.2.2', 4004), // bound to an interface that does not hear us
      connect('udp', '2001:db8::2', 4005), // IPv4 only
      connect('udp', '127.0.0.1', 4001),
      connect('udp', '127.0.0.1', 4003),
      connect('udp', '::1', 4001),
      connect('udp', '64:ff9b::192.0.2.2', 4001),
    ];
    inNetwork([
      ...seal({ listen: ALL }),
      batch('host', ...asked),
      batch(
        'host',
        listen('udp', '', 4001),
        listen('udp', '192.0.2.2', 4002),
        listen('udp', '127.0.0.1', 4003),
        listen('udp', '', 4004, { interface: 'dum' }),
        listen('udp', '0.0.0.0', 4005),
      ),
      batch('host', ...asked),
      batch('host', ...never),
      batch('host', unlisten(0), unlisten(1)),
      batch('host', ...asked),
    ]);
    await install.scriptDone();
    const none = (list: readonly unknown[]) => list.map(() => REFUSED);
    expect([codes(2), codes(4), codes(5), codes(7)]).toEqual([none(asked), [0, 0, 0], none(never), none(asked)]);
  });

  it('is from ports that stay ours, whatever is asked for: nobody can come to have one later', async () => {
    const from = (sourcePort: number, address = '192.0.2.2'): readonly [string, unknown] => [
      'socket.connect',
      { protocol: 'udp', address, port: 4001, sourcePort },
    ];
    const helper = inNetwork([
      ...seal({ listen: ALL, grant: [{ address: '127.0.0.1', port: 4001 }] }),
      batch('host', listen('udp', '', 4001)),
      batch('host', from(5555), from(5555), from(5556, '2001:db8::2'), from(5557, '127.0.0.1')),
      { send: 1, text: 'seed' },
      { pause: 'sent' },
      ...[1, 2, 3, 4].map((close) => ({ close })),
      answer('host', 0),
      { pause: 'closed' },
    ]);
    await install.paused('sent');
    const ports = ['udp', 'udp6'].flatMap((file) =>
      [
        ...readFileSync(`/proc/${helper.pid()}/net/${file}`, 'utf8').matchAll(
          / [0-9A-F]+:([0-9A-F]{4}) [0-9A-F]+:0FA1 01 /g,
        ),
      ].map(([, port]) => Number.parseInt(port as string, 16)),
    );
    expect(ports).toHaveLength(4);
    for (const chosen of [5555, 5556, 5557]) expect(ports).not.toContain(chosen);
    install.go('sent');
    await install.paused('closed');
    const seeded = install.reply(4).result?.['port'] as number;
    expect(ports).toContain(seeded);
    const service = `
for p in ${JSON.stringify([...new Set(ports)])}:
    for a, six in (("", False), ("192.0.2.2", False), ("", True)):
        try:
            s(a, p, six)
            print("bound", p)
        except OSError as e: print(e.errno)
`;
    expect(new Set(python(helper.pid(), service).trim().split('\n'))).toEqual(new Set([String(EADDRINUSE)]));
  });

  it('is not made of a flow that a grant allowed before we listened', async () => {
    const early = (port: number): Step =>
      call('host', 'socket.connect', { protocol: 'udp', address: '127.0.0.1', port, sourcePort: 5555 });
    const helper = inNetwork([
      ...seal({
        listen: ALL,
        grant: [
          { address: '127.0.0.0', prefix: 8, port: 6000, last: 6001, protocol: 'udp' },
          { address: '127.0.0.1', port: 5555, protocol: 'udp' },
        ],
      }),
      early(6000), // from a port that may be reached anyway
      call('host', 'socket.connect', { protocol: 'udp', address: '127.0.0.1', port: 6001, sourcePort: 5556 }),
      batch('host', listen('udp', '127.0.0.1', 6000), listen('udp', '', 6001), listen('udp', '', 6002)),
      { send: 0, text: 'seed' },
      { send: 1, text: 'seed' },
      { pause: 'asked' },
      answer('host', 0),
      answer('host', 1),
      answer('host', 2),
    ]);
    await install.paused('asked');
    python(
      helper.pid(),
      `s("127.0.0.1", 5557).sendto(b"1", ("127.0.0.1", 6002))
open(${JSON.stringify(install.path('asked'))}, "w")
`,
    );
    await install.scriptDone();
    expect(install.reply(5).result).toMatchObject({ port: 5555 });
    expect(install.reply(6).error?.data.errno).toBe(EADDRNOTAVAIL);
    expect(install.reply(7).result).toMatchObject({ port: 5557 });
  });
});

describe('socket.connect of the namespace', () => {
  it('leads to the addresses of the namespace, and nowhere else', async () => {
    const own = ['127.0.0.1', '127.255.255.254', '::1', '10.9.0.1', '2001:db8:5::1', 'fe80::77'];
    const other = ['10.9.0.2', '10.9.0.255', '192.0.2.2', '2001:db8:5::2', '0.0.0.0', '::', '224.0.0.1', 'ff02::1'];
    const spelt = ['::ffff:127.0.0.1', '64:ff9b::10.9.0.1', '255.255.255.255'];
    const addresses = (['10.9.0.1', '2001:db8:5::1', 'fe80::77'] as const).map((address, i) =>
      call('netns', 'address.add', { name: 'tap0', address, prefix: i === 0 ? 24 : 64 }),
    );
    const asked = [...own, ...other, ...spelt];
    const helper = inNetwork([
      call('netns', 'tap.open', { name: 'tap0' }),
      call('netns', 'link.set', { name: 'tap0', up: true }),
      ...addresses,
      call('netns', 'route.add', { name: 'tap0', destination: '0.0.0.0', prefix: 0, gateway: '10.9.0.2', metric: 0 }),
      { pause: 'addressed' },
      // Outbound settings are the host's.
      ...(['host', 'netns'] as const).map((side) =>
        call(side, 'seal', {
          deny: [],
          grant: [],
          outbound: { ...NO_OUTBOUND, address4: '192.0.2.2', interface4: 'dum' },
        }),
      ),
      batch('netns', ...asked.map((address) => connect('udp', address, 9))),
      batch('netns', ...asked.map((address) => connect('icmp', address, 9))),
    ]);
    await install.paused('addressed');
    // The kernel makes the route of an IPv6 address a little after the address.
    const routes = (): string => readFileSync(`/proc/${brokerOf(helper)}/net/ipv6_route`, 'utf8');
    const local = ['20010db8000500000000000000000001 80', 'fe800000000000000000000000000077 80'];
    await waitFor(() => local.every((one) => routes().includes(one)), { what: 'the routes of the addresses' });
    install.go('addressed');
    await install.scriptDone();
    expect(asked.map((address, i) => [address, codes(8)[i]])).toEqual(
      asked.map((address) => [address, own.includes(address) ? 0 : REFUSED]),
    );
    expect(codes(9)).toEqual(asked.map(() => REFUSED));
  });
});

describe('ports below the privileged ones', () => {
  const LOW_PORTS = (1n << 10n).toString(16).padStart(16, '0');
  const NONE = '0'.repeat(16);
  const capabilities = (pid: number): (string | undefined)[] =>
    ['CapEff', 'CapPrm', 'CapInh', 'CapAmb'].map((set) => status(pid)[set]);

  it('stay open to listen at while the capability is ours and there are windows: exactly that one is kept', async () => {
    const low = batch('host', listen('tcp', '', 80), listen('udp', '127.0.0.1', 53));
    const onLo = batch('netns', listen('tcp', '', 80, { interface: 'lo' }));
    const helper = inNetwork([...seal({ listen: ALL }), low, onLo]);
    await install.scriptDone();
    expect([codes(2), codes(3)]).toEqual([[0, 0], [0]]);
    for (const pid of [helper.pid(), brokerOf(helper)])
      expect(capabilities(pid)).toEqual([LOW_PORTS, LOW_PORTS, NONE, NONE]);

    const without = inNetwork(seal({}));
    await install.scriptDone();
    for (const pid of [without.pid(), brokerOf(without)]) expect(capabilities(pid)).toEqual([NONE, NONE, NONE, NONE]);
  });

  it('are refused by the system to an ordinary user, who has nothing to keep', async () => {
    const helper = install.start(['-I', 'tap0', '--', 'sleep', '1000'], {
      steps: [...seal({ listen: ALL }), batch('host', listen('tcp', '127.0.0.1', 81))],
    });
    await install.scriptDone();
    expect(errnos(2)).toEqual([EACCES]);
    expect(codes(2)).toEqual([SYSTEM]);
    expect(capabilities(helper.pid())).toEqual([NONE, NONE, NONE, NONE]);
    expect(capabilities(brokerOf(helper))).toEqual([LOW_PORTS, LOW_PORTS, NONE, NONE]);
  });

  it.runIf(isRoot)('are opened for a user to whom an ambient capability is given', async () => {
    const helper = install.start(['-I', 'tap0', '--', 'sleep', '1000'], {
      steps: [...seal({ listen: ALL }), batch('host', listen('tcp', '127.0.0.1', 82))],
      root: true,
      shell: `exec setpriv --reuid=${TEST_USER} --regid=${TEST_USER} --clear-groups --inh-caps=+net_bind_service --ambient-caps=+net_bind_service "$@"`,
    });
    await install.scriptDone();
    expect(codes(2)).toEqual([0]);
    expect(capabilities(helper.pid())).toEqual([LOW_PORTS, LOW_PORTS, NONE, NONE]);
    const controller = childrenOf(helper.pid()).find((pid) => pid !== brokerOf(helper)) as number;
    expect(capabilities(controller)).toEqual([NONE, NONE, NONE, NONE]);
  });

  it.runIf(isRoot)('root keeps them over its change to nobody, and nothing else', async () => {
    const helper = install.start(['-q', '-I', 'tap0', '--', 'sleep', '1000'], {
      steps: [{ pause: 'setup' }, ...seal({ listen: ALL }), batch('host', listen('tcp', '127.0.0.1', 81))],
      root: true,
    });
    await install.paused('setup');
    expect(capabilities(helper.pid())).toEqual([LOW_PORTS, LOW_PORTS, NONE, NONE]);
    install.go('setup');
    await install.scriptDone();
    expect(codes(2)).toEqual([0]);
    expect(status(helper.pid())['Uid']).toMatch(/^65534\s/);
    expect(capabilities(helper.pid())).toEqual([LOW_PORTS, LOW_PORTS, NONE, NONE]);
    const controller = childrenOf(helper.pid()).find((pid) => pid !== brokerOf(helper)) as number;
    expect(capabilities(controller)).toEqual([NONE, NONE, NONE, NONE]);
  });
});

describe('--splice-only', () => {
  it('makes no tap: lo is all there is', async () => {
    const helper = install.start(['--splice-only', '--', 'sleep', '1000'], {
      steps: [call('host', 'session.hello', { protocol: 1 }), call('netns', 'tap.open', { name: 'tap0' }), ...seal({})],
    });
    await install.scriptDone();
    expect(install.reply(0).result).toMatchObject({ tap: '' });
    expect(install.reply(1).error?.data.errno).toBe(19);
    expect([install.reply(2), install.reply(3)]).toMatchObject([{ result: {} }, { result: {} }]);
    const names = readFileSync(`/proc/${brokerOf(helper)}/net/dev`, 'utf8').match(/^ *[^ ]+(?=:)/gm);
    expect(names?.map((name) => name.trim())).toEqual(['lo']);
  });
});
