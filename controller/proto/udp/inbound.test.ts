// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const udp = await import('../../../test/support/udp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const lab = await import('../../../test/support/listener-bench.ts');
const descriptors = await import('../../flow/descriptors.ts');
const udpListener = await import('../../fwd/udp-listener.ts');
const nat = await import('../../fwd/nat.ts');
const flows = await import('../../flow/table.ts');
const lru = await import('../../flow/lru.ts');
const { dropCount } = await import('../../obs/drops.ts');
const station = await import('../../link/station.ts');
const inbound = await import('./inbound.ts');
const flow = await import('./flow.ts');
const share = await import('./share.ts');

const EAGAIN = 11;
const EACCES = 13;
const EADDRINUSE = 98;
const NO_NAT = {
  hostLoopback4: null,
  hostLoopback6: null,
  guestAddr4: null,
  guestAddr6: null,
  dnsForward4: null,
  dnsForward6: null,
  host4: null,
  host6: null,
  dnsHost4: null,
  dnsHost6: null,
  resolvers: [],
};

beforeEach(() => {
  udp.begin();
  lab.begin();
  nat.configure(NO_NAT);
  udpListener.configure(() => inbound.taker);
});
afterEach(() => {
  descriptors.configure(Number.POSITIVE_INFINITY);
  udp.closeAll();
});

const HOST4 = '192.0.2.2';
const HOST6 = '2001:db8:1::2';
const PEER_PORT = 40_123;
const GUEST_SERVICE = 5000;
type Listener = ReturnType<typeof lab.listener>;

/** The peer's datagram is there, and its event is served. */
const comes = (l: Listener, peer: string, port = PEER_PORT, to = HOST4, d = {}): void => {
  lab.arrives(l, peer, port, to, d);
  udpListener.onReadable(l);
};
/** The guest answers on the flow of that peer. */
const guestAnswers = (text: string, peer: string, port = PEER_PORT, from = GUEST_SERVICE): void =>
  udp.batch(() =>
    udp.datagram(text, {
      srcPort: from,
      dstPort: port,
      dst: peer,
      v4: !peer.includes(':'),
      checksum: 0,
      ...(peer.includes(':') ? { vnet: [1, 0, 0] as const } : {}),
    }),
  );
/** The last question is answered with a socket, as asked. */
const helperAnswers = (fd: number, peer: string, port = PEER_PORT, local = HOST4) =>
  lab.answer('host', { fd, address: peer, port, local });

describe.each([
  ['IPv4', true, bench.REMOTE4, HOST4],
  ['IPv6', false, bench.REMOTE6, HOST6],
])('%s', (_name, v4, peer, host) => {
  test('a new peer’s datagram is delivered at once, while its socket is asked for; the guest’s answer waits for that', () => {
    const l = lab.listener();
    comes(l, peer, PEER_PORT, host, { ttl: 61, tos: 0x2e });
    const [a, ...more] = bench.arrived();
    expect(more).toEqual([]);
    expect(a).toMatchObject({
      v4,
      src: v4 ? peer : bench.full6(peer),
      dst: v4 ? bench.GUEST4 : bench.full6(bench.GUEST6),
      hopLimit: 61,
      trafficClass: 0x2e,
    });
    expect([a?.l4.readUInt16BE(0), a?.l4.readUInt16BE(2)]).toEqual([PEER_PORT, GUEST_SERVICE]);
    expect(a?.l4.subarray(8).toString()).toBe('question');
    expect(lab.questions().map((q) => [q.method, q.params])).toEqual([['socket.answer', { listener: l.listener }]]);
    // For the helper to look at.
    expect(lab.socketOf(l).incoming.length).toBe(1);
    guestAnswers('early', peer);
    const socket = helperAnswers(50, peer, PEER_PORT, host);
    expect(lab.socketOf(l).incoming.length).toBe(0);
    guestAnswers('later', peer);
    expect(socket?.sent.map(String)).toEqual(['early', 'later']);
    expect([socket?.events, socket?.ref]).toEqual([fake.EPOLLIN, udp.theFlow()]);
    // What the peer says from now on comes by its own socket.
    udp.peerAnswers(udp.theFlow(), socket as InstanceType<typeof fake.FakeSocket>, 'more');
    expect(bench.arrived().map((each) => each.l4.subarray(8).toString())).toEqual(['more']);
    expect(bench.arrived()).toEqual([]);
    expect(flows.count(flows.FLOW_UDP)).toBe(1);
  });
});

test('a socket that is one of the descriptors which are the guest’s is closed; the peer’s next datagram asks again', () => {
  const l = lab.listener();
  comes(l, bench.REMOTE4);
  descriptors.configure(57); // the last seven are reserved
  const none = helperAnswers(50, bench.REMOTE4);
  expect([none?.closed, flows.fd(udp.theFlow())]).toEqual([true, -1]);
  expect(lab.socketOf(l).incoming).toEqual([]);
  udp.expire(5000);
  comes(l, bench.REMOTE4);
  helperAnswers(49, bench.REMOTE4);
  expect(flows.fd(udp.theFlow())).toBe(49);
});

/** Offsets of the looks at the listener's queue. */
const offsets = (l: Listener): number[] =>
  lab.socketOf(l).options.flatMap(([level, option, value]) => (level === 1 && option === 42 ? [value] : []));
const texts = (): string[] => bench.arrived().map((a) => `${a.src} ${a.l4.subarray(8)}`);

test('several peers at one port: their sockets in one batch, nothing delivered twice, nothing lost', () => {
  const l = lab.listener();
  for (const [n, text] of [
    [1, 'a1'],
    [2, 'b1'],
    [1, 'a2'],
    [3, 'c1'],
    [2, 'b2'],
    [4, ''],
    [5, 'e1'],
  ] as const)
    lab.arrives(l, `198.51.100.${n}`, 7, HOST4, { text });
  udpListener.onReadable(l);
  udpListener.onReadable(l);
  expect(texts()).toEqual([1, 2, 1, 3, 2].map((n, i) => `198.51.100.${n} ${['a1', 'b1', 'a2', 'c1', 'b2'][i]}`));
  // The third is asked for only to get past it; what the helper makes of it is not needed.
  expect(lab.questions().length).toBe(4);
  expect(lab.socketOf(l).incoming.length).toBe(7);
  const peer = (n: number) => ({ fd: 50 + n, address: `198.51.100.${n}`, port: 7, local: HOST4 });
  const sockets = lab.answerAll('host', [peer(1), peer(2), { ...peer(1), fd: 60 }, peer(3)]);
  expect(sockets.map(({ closed }) => closed)).toEqual([false, false, true, false]);
  // No offset leads to one without bytes.
  expect([texts(), lab.questions().length, offsets(l).at(-1)]).toEqual([['198.51.100.4 '], 1, -1]);
  lab.answerAll('host', [peer(4)]);
  expect([texts(), lab.questions().length, offsets(l).at(-1)]).toEqual([['198.51.100.5 e1'], 1, 0]);
  lab.answerAll('host', [peer(5)]);
  expect([texts(), lab.questions(), lab.socketOf(l).incoming]).toEqual([[], [], []]);
  expect(flows.count(flows.FLOW_UDP)).toBe(5);
  guestAnswers('x', '198.51.100.3', 7);
  expect(sockets[3]?.sent.map(String)).toEqual(['x']);
});

test('what is known and lies before the first new peer is passed by the offset', () => {
  const l = lab.listener();
  comes(l, bench.REMOTE4);
  lab.answer('host', { errno: EACCES });
  for (const [port, text] of [
    [PEER_PORT, '12345'],
    [PEER_PORT, ''],
    [PEER_PORT, '678'],
    [9, 'new'],
  ] as const)
    lab.arrives(l, bench.REMOTE4, port, HOST4, { text });
  udpListener.onReadable(l);
  expect([lab.questions().length, offsets(l).slice(-2)]).toEqual([1, [0, 8]]);
  helperAnswers(50, bench.REMOTE4, 9);
  expect(lab.socketOf(l).incoming).toEqual([]);
});

test('strangers’ datagrams in a new socket are theirs; they get an answer’s socket with their next one', () => {
  const l = lab.listener();
  comes(l, '198.51.100.1', 7);
  const socket = fake.addSocket(50);
  socket.incoming.push(
    { bytes: Buffer.from('stranger'), from: [lab.bytes16('198.51.100.66'), 66] },
    { bytes: Buffer.from('own'), from: [lab.bytes16('198.51.100.1'), 7] },
    { bytes: Buffer.from('other port'), from: [lab.bytes16('198.51.100.1'), 8] },
  );
  bench.arrived();
  helperAnswers(50, '198.51.100.1', 7);
  expect(bench.arrived().map((a) => [a.src, a.l4.readUInt16BE(0), a.l4.subarray(8).toString()])).toEqual([
    ['198.51.100.66', 66, 'stranger'],
    ['198.51.100.1', 7, 'own'],
    ['198.51.100.1', 8, 'other port'],
  ]);
  const lost = dropCount('flow-refused');
  guestAnswers('lost', '198.51.100.66', 66);
  expect(dropCount('flow-refused') - lost).toBe(1);
  // Not an error: there is nothing wrong.
  expect(bench.arrived()).toEqual([]);
  comes(l, '198.51.100.66', 66);
  const second = helperAnswers(51, '198.51.100.66', 66);
  guestAnswers('heard', '198.51.100.66', 66);
  expect(second?.sent.map(String)).toEqual(['heard']);
  expect(socket.sent).toEqual([]);
});

test('the guest’s port, and its address where the rule names one', () => {
  const l = lab.listener({ first: 6000, last: 6010, to: 7000, target: '192.0.2.77' });
  const other = { ...l, port: 6003 };
  comes(other, bench.REMOTE4);
  const [a] = bench.arrived();
  expect([a?.dst, a?.l4.readUInt16BE(2)]).toEqual(['192.0.2.77', 7003]);
  // The target has no IPv6.
  const before = dropCount('guest-address');
  helperAnswers(50, bench.REMOTE4);
  comes(other, bench.REMOTE6, 9, HOST6);
  expect([bench.arrived(), dropCount('guest-address') - before]).toEqual([[], 1]);
});

test('answers leave from where the last question came to: the socket is exchanged', () => {
  const l = lab.listener();
  comes(l, bench.REMOTE4, PEER_PORT, HOST4);
  const first = helperAnswers(50, bench.REMOTE4);
  guestAnswers('one', bench.REMOTE4);
  comes(l, bench.REMOTE4, PEER_PORT, '192.0.2.3');
  guestAnswers('answer', bench.REMOTE4);
  const second = helperAnswers(51, bench.REMOTE4, PEER_PORT, '192.0.2.3');
  guestAnswers('two', bench.REMOTE4);
  expect(first?.sent.map(String)).toEqual(['one']);
  expect([first?.closed, second?.sent.map(String)]).toEqual([true, ['answer', 'two']]);
  expect(flows.count(flows.FLOW_UDP)).toBe(1);
  // The same question again, before the socket was connected: the socket is there.
  comes(l, bench.REMOTE4, PEER_PORT, '192.0.2.3');
  expect(lab.questions()).toEqual([]);
});

test('a flow that the guest began and the peer goes on with keeps its socket where the helper has no better one', () => {
  const own = udp.opened({ srcPort: GUEST_SERVICE, dstPort: PEER_PORT });
  bench.arrived();
  const l = lab.listener();
  lab.questions();
  fake.channelSent.length = 0;
  fake.channelSentOver.length = 0;
  comes(l, bench.REMOTE4);
  expect(bench.arrived().length).toBe(1);
  guestAnswers('waits', bench.REMOTE4);
  lab.answer('host', { errno: EADDRINUSE });
  guestAnswers('x', bench.REMOTE4);
  expect([own.closed, own.sent.map(String)]).toEqual([false, ['first', 'waits', 'x']]);
  comes(l, bench.REMOTE4);
  expect([lab.questions(), bench.arrived().length]).toEqual([[], 1]);
});

test('a flow that the guest began and the peer has answered keeps its socket: what comes by a listener is delivered, and no more', () => {
  const own = udp.opened({ srcPort: GUEST_SERVICE, dstPort: PEER_PORT });
  udp.peerAnswers(udp.theFlow(), own);
  bench.arrived();
  fake.channelSent.length = 0;
  fake.channelSentOver.length = 0;
  const l = lab.listener({ first: 9600, to: GUEST_SERVICE });
  comes(l, bench.REMOTE4, PEER_PORT, HOST4, { text: 'forged' });
  comes(l, bench.REMOTE4, PEER_PORT, '192.0.2.3', { text: 'again' });
  expect(texts()).toEqual([`${bench.REMOTE4} forged`, `${bench.REMOTE4} again`]);
  expect([lab.questions(), lab.socketOf(l).incoming]).toEqual([[], []]);
  guestAnswers('x', bench.REMOTE4);
  expect([own.closed, own.sent.map(String)]).toEqual([false, ['first', 'x']]);
});

describe('no socket', () => {
  test.each([EACCES, 24, EADDRINUSE])(
    'errno %i: the listener goes on, the guest’s answers are refused for a second',
    (errno) => {
      const l = lab.listener();
      comes(l, bench.REMOTE4);
      lab.arrives(l, bench.REMOTE4, PEER_PORT + 1, HOST4);
      lab.answer('host', { errno });
      expect(bench.arrived().map((a) => a.l4.readUInt16BE(0))).toEqual([PEER_PORT, PEER_PORT + 1]);
      const before = dropCount('flow-refused');
      guestAnswers('x', bench.REMOTE4);
      expect(dropCount('flow-refused') - before).toBe(1);
      helperAnswers(51, bench.REMOTE4, PEER_PORT + 1);
      // Delivered all the same, but not asked for again.
      comes(l, bench.REMOTE4);
      expect([lab.questions(), lab.socketOf(l).incoming]).toEqual([[], []]);
      udp.expire(3000);
      flows.endTurn();
      comes(l, bench.REMOTE4);
      const socket = helperAnswers(52, bench.REMOTE4);
      guestAnswers('now', bench.REMOTE4);
      expect(socket?.sent.map(String)).toEqual(['now']);
    },
  );

  test('EAGAIN: what is at the head now was not delivered, and is', () => {
    const l = lab.listener();
    comes(l, bench.REMOTE4);
    lab.socketOf(l).incoming.length = 0;
    lab.arrives(l, '198.51.100.9', 9, HOST4, { text: 'new' });
    lab.answer('host', { errno: EAGAIN });
    expect(bench.arrived().map((a) => a.l4.subarray(8).toString())).toEqual(['question', 'new']);
  });

  test('a socket for somebody else is closed', () => {
    const l = lab.listener();
    comes(l, bench.REMOTE4);
    const socket = helperAnswers(50, '198.51.100.99');
    expect(socket?.closed).toBe(true);
    expect(flows.fd(udp.theFlow())).toBe(-1);
  });

  test('a flow that ended meanwhile: the socket is closed, the head is taken', () => {
    const l = lab.listener();
    comes(l, bench.REMOTE4);
    udp.closeAll();
    const socket = helperAnswers(50, bench.REMOTE4);
    expect([socket?.closed, lab.socketOf(l).incoming.length]).toEqual([true, 0]);
  });

  test('a listener that was closed meanwhile is not read any more; the flow lives', () => {
    const l = lab.listener();
    comes(l, bench.REMOTE4);
    l.open = false;
    const socket = helperAnswers(50, bench.REMOTE4);
    expect(lab.socketOf(l).incoming.length).toBe(1);
    guestAnswers('x', bench.REMOTE4);
    expect(socket?.sent.map(String)).toEqual(['x']);
  });
});

describe('sources', () => {
  test.each([
    ['the host’s loopback is the gateway', '127.0.0.1', '127.0.0.1', '192.0.2.1'],
    ['the guest’s own address is the gateway', bench.GUEST4, HOST4, '192.0.2.1'],
    ['a link-local one stays', 'fe80::7', 'fe80::2', 'fe80::7'],
  ])('%s', (_what, from, to, seen) => {
    comes(lab.listener(), from, 9, to);
    const [a] = bench.arrived();
    expect(a?.src).toBe(seen.includes(':') ? bench.full6(seen) : seen);
  });

  test('two peers that look alike: the first keeps the flow and its answers, the other is dropped, counted, for as long as that lives', () => {
    const l = lab.listener();
    const inUse = dropCount('tuple-in-use');
    comes(l, '127.0.0.1', 9, HOST4);
    // While the first one's socket is under way, and when it is there.
    lab.arrives(l, '192.0.2.1', 9, HOST4, { text: 'thief' });
    const first = helperAnswers(50, '127.0.0.1', 9);
    comes(l, '192.0.2.1', 9, HOST4, { text: 'thief' });
    expect(bench.arrived().map((a) => `${a.src} ${a.l4.subarray(8)}`)).toEqual(['192.0.2.1 question']);
    expect([lab.questions(), lab.socketOf(l).incoming, dropCount('tuple-in-use') - inUse]).toEqual([[], [], 2]);
    guestAnswers('secret', '192.0.2.1', 9);
    expect([first?.closed, first?.sent.map(String)]).toEqual([false, ['secret']]);
    expect(flows.count(flows.FLOW_UDP)).toBe(1);
    flow.onGuestError(udp.theFlow(), 0, 0);
    flows.endTurn();
    comes(l, '192.0.2.1', 9);
    const second = helperAnswers(51, '192.0.2.1', 9);
    guestAnswers('x', '192.0.2.1', 9);
    expect(second?.sent.map(String)).toEqual(['x']);
  });

  test('a peer that got no socket keeps nobody else from one', () => {
    const l = lab.listener();
    comes(l, '127.0.0.1', 9, HOST4);
    lab.answer('host', { errno: EACCES });
    comes(l, '192.0.2.1', 9);
    const second = helperAnswers(51, '192.0.2.1', 9);
    guestAnswers('x', '192.0.2.1', 9);
    expect(second?.sent.map(String)).toEqual(['x']);
  });

  test.each([
    ['port 0', 'ip-martian', bench.REMOTE4, 0, {}],
    ['to a group', 'multicast', bench.REMOTE4, 9, { forMany: true }],
    ['from a group', 'ip-martian', '224.0.0.1', 9, {}],
    ['from nobody', 'ip-martian', '0.0.0.0', 9, {}],
  ] as const)('%s: dropped, counted', (_what, reason, from, port, d) => {
    const before = dropCount(reason);
    const l = lab.listener();
    comes(l, from, port, HOST4, d);
    expect([bench.arrived(), lab.questions(), lab.socketOf(l).incoming]).toEqual([[], [], []]);
    expect(dropCount(reason) - before).toBe(1);
  });
});

test('what UDP_GRO joined is cut again; a datagram larger than the MTU comes as fragments', () => {
  const l = lab.listener();
  comes(l, bench.REMOTE4, PEER_PORT, HOST4, { bytes: udp.numbered(2500), gso: 1000 });
  expect(bench.arrived().map((a) => a.l4.length - 8)).toEqual([1000, 1000, 500]);
  helperAnswers(50, bench.REMOTE4);
  udp.configure({ linkMtu: 1500 });
  comes(l, bench.REMOTE4, PEER_PORT, HOST4, { bytes: udp.numbered(4000) });
  expect(bench.arrived().map((a) => a.flagsAndFragment & 0x1fff)).toEqual([0, 185, 370]);
});

test('behind a bridge: to the MAC that the guest’s address was heard from, in one piece or several', () => {
  const l = lab.listener();
  // This one was heard from the bench's, then another station speaks.
  station.see4(station.guest4Word());
  station.learn(new DataView(Uint8Array.of(0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0xb).buffer), 0);
  comes(l, bench.REMOTE4);
  expect(bench.arrived()).toHaveLength(1);
  const socket = helperAnswers(50, bench.REMOTE4);
  udp.peerAnswers(udp.theFlow(), socket as InstanceType<typeof fake.FakeSocket>, 'more');
  expect(bench.arrived()).toHaveLength(1);
  udp.configure({ linkMtu: 1500 });
  comes(l, bench.REMOTE4, PEER_PORT, HOST4, { bytes: udp.numbered(4000) });
  expect(bench.arrived()).toHaveLength(3);
});

test('many datagrams: some at a time, and the edge is asked for again', () => {
  const l = lab.listener();
  comes(l, bench.REMOTE4);
  lab.answer('host', { errno: EACCES });
  for (let i = 0; i < 100; i++) lab.arrives(l, bench.REMOTE4, PEER_PORT, HOST4);
  bench.arrived();
  udpListener.onReadable(l);
  expect(bench.arrived().length).toBe(70);
  expect(lab.socketOf(l).events).toBe(fake.EPOLLIN | fake.EPOLLET);
  udpListener.onReadable(l);
  expect(bench.arrived().length).toBe(30);
});

describe('lives', () => {
  test('one way: as long as an unanswered flow; both ways for longer: as a stream', () => {
    const l = lab.listener();
    comes(l, bench.REMOTE4);
    const socket = helperAnswers(50, bench.REMOTE4) as InstanceType<typeof fake.FakeSocket>;
    fake.setNow(5000);
    udp.peerAnswers(udp.theFlow(), socket);
    udp.expire(36_000);
    flows.endTurn();
    expect(udp.udpFlows()).toEqual([]);
    comes(l, bench.REMOTE4);
    const again = helperAnswers(51, bench.REMOTE4) as InstanceType<typeof fake.FakeSocket>;
    guestAnswers('x', bench.REMOTE4);
    fake.setNow(40_000);
    udp.peerAnswers(udp.theFlow(), again);
    udp.expire(100_000);
    expect(udp.udpFlows().length).toBe(1);
    udp.expire(180_000);
    flows.endTurn();
    expect([udp.udpFlows(), again.closed]).toEqual([[], true]);
  });

  test('the guest says that nobody is there: the flow ends, the next datagram begins another', () => {
    const l = lab.listener();
    comes(l, bench.REMOTE4);
    const socket = helperAnswers(50, bench.REMOTE4);
    flow.onGuestError(udp.theFlow(), 0, 0);
    flows.endTurn();
    expect(socket?.closed).toBe(true);
    comes(l, bench.REMOTE4);
    expect(lab.questions().length).toBe(1);
  });
});

describe('a scan from the network', () => {
  const scan = (l: Listener, count: number, isAnswered: boolean, peer = '203.0.113.66'): void => {
    for (let i = 0; i < count; i++) {
      comes(l, peer, 1000 + i);
      helperAnswers(2000 + i, peer, 1000 + i);
      if (isAnswered) guestAnswers('x', peer, 1000 + i);
      bench.arrived();
      flows.endTurn();
    }
  };
  const established = (l: Listener): InstanceType<typeof fake.FakeSocket> => {
    comes(l, bench.REMOTE4);
    const socket = helperAnswers(50, bench.REMOTE4);
    guestAnswers('x', bench.REMOTE4);
    return socket as InstanceType<typeof fake.FakeSocket>;
  };

  test.each([
    ['that nobody answers', false],
    ['that is answered', true],
  ])('%s costs no peer that was answered, and nothing of the guest’s', (_what, isAnswered) => {
    udp.configure({ descriptors: 640 });
    const own = udp.opened({ srcPort: 50_000, dstPort: 443 }, 20);
    fake.channelSent.length = 0;
    fake.channelSentOver.length = 0;
    const l = lab.listener();
    const socket = established(l);
    scan(l, 500, isAnswered);
    expect([socket.closed, own.closed]).toEqual([false, false]);
    expect(lru.size(lru.LRU_UDP_IN_NEW)).toBe(isAnswered ? 0 : 20);
    // Half of the class is the most that one peer gets; the rest is in the crowd.
    expect([lru.size(lru.LRU_UDP_IN), lru.size(lru.LRU_UDP_IN_CROWD)]).toEqual(isAnswered ? [31, 20] : [1, 0]);
    const open = [...fake.sockets.entries()].filter(([fd, s]) => fd >= 2000 && !s.closed).length;
    expect(open).toBe(isAnswered ? 50 : 20);
  });

  test('from the peer’s own address costs none that was answered before', () => {
    udp.configure({ descriptors: 640 });
    const l = lab.listener();
    const socket = established(l);
    scan(l, 500, true, bench.REMOTE4);
    expect(socket.closed).toBe(false);
    expect([lru.size(lru.LRU_UDP_IN), lru.size(lru.LRU_UDP_IN_CROWD)]).toEqual([30, 20]);
  });

  test('takes back what the guest’s own answered flows had beyond their reserve, and no more', () => {
    udp.configure({ descriptors: 64 });
    const mine: InstanceType<typeof fake.FakeSocket>[] = [];
    for (let i = 0; i < 30; i++) {
      const socket = udp.opened({ srcPort: 50_000 + i, dstPort: 443 }, 200 + i);
      udp.peerAnswers(udp.theFlow(50_000 + i), socket);
      mine.push(socket);
    }
    flows.endTurn();
    expect(lru.size(lru.LRU_UDP)).toBe(30);
    fake.channelSent.length = 0;
    fake.channelSentOver.length = 0;
    bench.arrived();
    const l = lab.listener();
    for (let peer = 1; peer <= 40; peer++) {
      comes(l, `203.0.113.${peer}`, 9);
      helperAnswers(300 + peer, `203.0.113.${peer}`, 9);
      guestAnswers('x', `203.0.113.${peer}`, 9);
      bench.arrived();
      flows.endTurn();
    }
    // One more than the class has, while the newest was not answered yet.
    expect([lru.size(lru.LRU_UDP), lru.size(lru.LRU_UDP_IN)]).toEqual([23, 6]);
    expect(mine.map((s) => s.closed)).toEqual([...new Array(7).fill(true), ...new Array(23).fill(false)]);
  });

  test('without descriptors, unanswered ones go first', () => {
    const l = lab.listener();
    const socket = established(l);
    comes(l, '203.0.113.66', 9);
    const unanswered = helperAnswers(60, '203.0.113.66', 9);
    expect(share.expendable(flows.NO_FLOW)).not.toBe(flows.NO_FLOW);
    comes(l, '203.0.113.67', 9);
    lab.answer('host', { errno: 24 });
    expect([socket.closed, unanswered?.closed]).toEqual([false, true]);
  });
});
