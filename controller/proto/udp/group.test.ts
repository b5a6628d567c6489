// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const udp = await import('../../../test/support/udp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const { ip4, ip6 } = await import('../../../test/support/guest-frames.ts');
const { dropCount } = await import('../../obs/drops.ts');
const flows = await import('../../flow/table.ts');
const lru = await import('../../flow/lru.ts');
const groups = await import('../../link/groups.ts');
const group = await import('./group.ts');
type Flow = import('../../flow/table.ts').Flow;
type FakeSocket = import('../../../test/support/fake-io.ts').FakeSocket;

const EADDRINUSE = 98;
const EMFILE = 24;
const mapped = (text: string): number[] => [...new Array(10).fill(0), 255, 255, ...ip4(text)];
const bytesOf = (text: string): number[] => (text.includes(':') ? ip6(text) : mapped(text));
const wordsOf = (text: string): [number, number, number, number] => {
  const b = Buffer.from(bytesOf(text));
  return [b.readInt32BE(0), b.readInt32BE(4), b.readInt32BE(8), b.readInt32BE(12)];
};
const groupRows = (): Flow[] => {
  const found: Flow[] = [];
  for (let f = 0; f < flows.highWater(); f++) if (flows.typeOf(f as Flow) === flows.FLOW_GROUP) found.push(f as Flow);
  return found;
};
const asked = (): object[] => bench.requests().map(({ method, params }) => ({ method, ...params }));
const arrives = (r: Flow, from: string, port: number, text: string, ttl = 255): void => {
  const socket = fake.sockets.get(flows.fd(r)) as FakeSocket;
  socket.incoming.push({ bytes: Buffer.from(text), ttl, from: [bytesOf(from), port] });
  group.onEvent(r, fake.EPOLLIN);
};

beforeEach(() => {
  udp.begin();
  udp.configure({ multicast: true });
});
afterEach(() => {
  udp.closeAll();
  for (const text of ['224.0.0.251', '239.255.255.250', '239.1.1.1', 'ff02::fb', 'ff02::c', 'ff05::1234'])
    if (groups.isJoined(...wordsOf(text))) groups.leave(...wordsOf(text));
  udp.expire(fake.nowMs() + 10_000);
  flows.endTurn();
  expect(groupRows()).toEqual([]);
});

describe.each([
  { name: 'IPv4', v4: true, ssdp: '239.255.255.250', mdns: '224.0.0.251', other: '239.1.1.1', peer: '203.0.113.9' },
  { name: 'IPv6', v4: false, ssdp: 'ff02::c', mdns: 'ff02::fb', other: 'ff05::1234', peer: 'fe80::99' },
])('$name', ({ v4, ssdp, mdns, other, peer }) => {
  const guest = v4 ? bench.GUEST4 : bench.GUEST6;
  const text = (address: string): string => (v4 ? address : bench.full6(address));
  const to = (dst: string, dstPort: number, srcPort: number, hopLimit = 4) => ({
    v4,
    dst,
    dstPort,
    srcPort,
    hopLimit,
    vnet: [udp.NEEDS_CSUM, 0, 0] as const,
  });

  test('a search: the ear for answers first, then the voice on the same port, with the guest’s TTL', () => {
    udp.batch(() => udp.datagram('search', to(ssdp, 1900, 40_123)));
    const params = { address: ssdp, port: 1900 };
    expect(asked()).toEqual([{ method: 'socket.multicast', role: 'answers', ...params, sourcePort: 40_123 }]);
    bench.answer({ fd: 50 });
    // The stand-in's sockets have port 40000 + descriptor.
    expect(asked()).toEqual([{ method: 'socket.multicast', role: 'send', ...params, sourcePort: 40_050 }]);
    const [voice] = bench.answer({ fd: 60 });
    expect(voice?.sent.map(String)).toEqual(['search']);
    expect(voice?.options).toEqual([v4 ? [0, 33, 4] : [41, 18, 4]]);
    const [ear] = groupRows();
    if (ear === undefined) throw new Error('nobody listens');
    arrives(ear, peer, 1900, 'here', 3);
    arrives(ear, peer, 1901, 'here, too', 3);
    const got = bench.arrived();
    expect(got.map((a) => [a.src, a.dst, a.hopLimit, a.l4.readUInt16BE(0), a.l4.readUInt16BE(2)])).toEqual([
      [text(peer), text(guest), 3, 1900, 40_123],
      [text(peer), text(guest), 3, 1901, 40_123],
    ]);
    for (const a of got) expect(bench.transportSum(v4, a.src, a.dst, udp.UDP, a.l4)).toBe(0xffff);
  });

  test('a protocol with one port at both ends keeps it, whatever the ear got', () => {
    udp.batch(() => udp.datagram('announcement', to(mdns, 5353, 5353)));
    bench.answer({ fd: 50 });
    expect(asked()).toMatchObject([{ role: 'send', port: 5353, sourcePort: 5353 }]);
  });

  test('without an ear the voice goes out all the same; refused, it is silent', () => {
    udp.batch(() => udp.datagram('search', to(ssdp, 1900, 40_123)));
    bench.answer({ errno: EADDRINUSE });
    flows.endTurn();
    expect(asked()).toMatchObject([{ role: 'send', sourcePort: 40_123 }]);
    const before = dropCount('flow-refused');
    bench.answer({ errno: EMFILE });
    expect(dropCount('flow-refused')).toBe(before + 1);
    expect(bench.arrived()).toEqual([]);
  });

  test('the ear ends with the voice, and answers keep both alive', () => {
    udp.batch(() => udp.datagram('search', to(ssdp, 1900, 40_123)));
    const [earSocket] = bench.answer({ fd: 50 });
    const [voice] = bench.answer({ fd: 60 });
    fake.setNow(25_000);
    arrives(groupRows()[0] as Flow, peer, 1900, 'late');
    udp.expire(32_000);
    expect([earSocket?.closed, voice?.closed]).toEqual([false, false]);
    udp.expire(60_000);
    expect([earSocket?.closed, voice?.closed]).toEqual([true, true]);
  });

  test('a group that the guest joined is heard at its well-known port, and at a port that the guest uses', () => {
    groups.join(...wordsOf(mdns));
    groups.join(...wordsOf(mdns));
    expect(asked()).toEqual([{ method: 'socket.multicast', role: 'group', address: mdns, port: 5353, sourcePort: 0 }]);
    bench.answer({ fd: 70 });
    groups.join(...wordsOf(other));
    expect(asked()).toEqual([]);
    udp.batch(() => udp.datagram('x', to(other, 7777, 40_001)));
    expect(asked()).toMatchObject([
      { role: 'group', address: other, port: 7777 },
      { role: 'answers', address: other, sourcePort: 40_001 },
    ]);
    bench.answer({ fd: 71 });
    bench.answer({ fd: 80 });
    const [first, second] = [5353, 7777].map((port) => groupRows().find((r) => flows.guestPort(r) === port));
    arrives(first as Flow, peer, 5353, 'query');
    arrives(second as Flow, peer, 999, 'hello', 9);
    expect(bench.arrived().map((a) => [a.src, a.dst, a.hopLimit, a.l4.subarray(8).toString()])).toEqual([
      [text(peer), text(mdns), 255, 'query'],
      [text(peer), text(other), 9, 'hello'],
    ]);
    const closed = (): unknown[] => [70, 71].map((fd) => fake.sockets.get(fd)?.closed);
    // Two members, one leaves, the other says that it is there: nothing changes.
    groups.leave(...wordsOf(mdns));
    groups.join(...wordsOf(mdns));
    udp.expire(5000);
    expect(closed()).toEqual([false, false]);
    groups.leave(...wordsOf(mdns));
    udp.expire(6900);
    expect(closed()).toEqual([false, false]);
    udp.expire(7500);
    expect(closed()).toEqual([true, false]);
    groups.leave(...wordsOf(other));
    udp.expire(10_000);
    expect(closed()).toEqual([true, true]);
  });

  test('what no packet to the guest can come from is dropped: loopback, groups, the guest’s own address, port 0', () => {
    groups.join(...wordsOf(mdns));
    bench.answer({ fd: 70 });
    const [r] = groupRows() as [Flow];
    const before = dropCount('ip-martian');
    const bad = v4 ? ['127.0.0.1', '0.1.2.3', '239.1.1.1', '255.255.255.255', guest] : ['::1', '::', 'ff02::1', guest];
    for (const address of bad) arrives(r, address, 5353, 'x');
    arrives(r, peer, 0, 'x');
    expect(bench.arrived()).toEqual([]);
    expect(dropCount('ip-martian')).toBe(before + bad.length + 1);
  });

  test('a listener that cannot be had is asked for again with the next report', () => {
    groups.join(...wordsOf(mdns));
    bench.answer({ errno: EADDRINUSE });
    flows.endTurn();
    expect(groupRows()).toEqual([]);
    groups.join(...wordsOf(mdns));
    expect(asked()).toMatchObject([{ role: 'group', address: mdns }]);
  });

  test('groups beyond the site do not leave', () => {
    const before = dropCount('multicast');
    udp.batch(() => {
      for (const dst of v4
        ? ['224.0.1.1', '232.1.1.1', '238.255.255.255', '240.0.0.1']
        : ['ff0e::1', 'ff01::1', 'ff08::1'])
        udp.datagram('x', to(dst, 5000, 40_001));
    });
    expect(asked()).toEqual([]);
    expect(dropCount('multicast')).toBe(before + (v4 ? 4 : 3));
  });
});

test('broadcast, limited and of the guest’s network, leaves with the TTL of unicast', () => {
  for (const [i, dst] of ['255.255.255.255', '192.0.2.255'].entries()) {
    udp.batch(() => udp.datagram('all', { dst, srcPort: 40_001 + i, hopLimit: 9, checksum: 0 }));
    expect(asked()).toMatchObject([{ method: 'socket.multicast', role: 'answers', address: dst }]);
    bench.answer({ fd: 50 + 10 * i });
    const [voice] = bench.answer({ fd: 55 + 10 * i });
    expect(voice?.options).toEqual([[...bench.SO.IP_TTL, 9]]);
    expect(voice?.sent.map(String)).toEqual(['all']);
  }
});

test('flows to groups have a class of their own, with a cap: they push out each other only', () => {
  udp.configure({ multicast: true, descriptors: 256 });
  const other = udp.opened({ srcPort: 50_000 }, 20);
  let fd = 100;
  for (let i = 0; i < 40; i++) {
    udp.batch(() => udp.datagram('x', { dst: '239.1.1.1', dstPort: 5000, srcPort: 1000 + i, checksum: 0 }));
    fd += bench.answer({ fd }).length;
    fd += bench.answer({ fd }).length;
    flows.endTurn();
  }
  expect(lru.size(lru.LRU_GROUP)).toBe(4);
  expect(groupRows().length).toBe(4);
  expect([...fake.sockets.values()].filter((s) => !s.closed).length - 1).toBe(1 + 8);
  expect(other.closed).toBe(false);
});

test('where descriptors are few, so are listeners', () => {
  udp.configure({ multicast: true, descriptors: 64 });
  const before = dropCount('group-table-full');
  groups.join(...wordsOf('224.0.0.251'));
  groups.join(...wordsOf('239.255.255.250'));
  expect(asked().length).toBe(2);
  expect(dropCount('group-table-full')).toBe(before + 1);
});

test('errors that somebody forged for a socket that never sends are read and counted; one that is stuck is given up', () => {
  groups.join(...wordsOf('224.0.0.251'));
  const [listener] = bench.answer({ fd: 70 });
  udp.batch(() => udp.datagram('search', { dst: '239.255.255.250', dstPort: 1900, srcPort: 40_123, checksum: 0 }));
  const [ear] = bench.answer({ fd: 50 });
  const [voice] = bench.answer({ fd: 60 });
  for (const socket of [listener, ear] as FakeSocket[]) {
    const r = groupRows().find((row) => fake.sockets.get(flows.fd(row)) === socket) as Flow;
    const serve = (): number => fake.serveEvents(socket, (mask) => group.onEvent(r, mask));
    const before = dropCount('sock-error');
    for (let i = 0; i < 40; i++)
      socket.errors.push({ payload: Buffer.from('x'), origin: 2, type: 3, code: 3, errno: 111 });
    socket.pendingError = 111;
    expect(serve()).toBeLessThan(10);
    expect(dropCount('sock-error')).toBe(before + 41);
    expect(socket.closed).toBe(false);
    socket.stuck = fake.EPOLLERR;
    expect(serve()).toBeLessThan(100);
    expect(socket.closed).toBe(true);
    flows.endTurn();
  }
  expect(bench.arrived()).toEqual([]);
  expect(voice?.closed).toBe(false);
  expect(groupRows()).toEqual([]);
  // A listener that was given up is asked for again with the next report.
  asked();
  groups.join(...wordsOf('224.0.0.251'));
  expect(asked()).toMatchObject([{ role: 'group', address: '224.0.0.251' }]);
});

test('without the option nothing is asked for, and nobody is told', () => {
  udp.configure({ multicast: false });
  const before = dropCount('multicast');
  udp.batch(() => {
    for (const dst of ['239.255.255.250', '224.0.0.251', '255.255.255.255', '192.0.2.255'])
      udp.datagram('x', { dst, checksum: 0 });
    udp.datagram('x', { v4: false, dst: 'ff02::fb', vnet: [udp.NEEDS_CSUM, 0, 0] });
  });
  groups.join(...wordsOf('224.0.0.251'));
  expect(asked()).toEqual([]);
  expect(bench.arrived()).toEqual([]);
  expect(dropCount('multicast')).toBe(before + 5);
});
