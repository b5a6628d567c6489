// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const lab = await import('../../../test/support/listener-bench.ts');
const sockets = await import('../../fwd/sockets.ts');
const descriptors = await import('../../flow/descriptors.ts');
const udpListener = await import('../../fwd/udp-listener.ts');
const flows = await import('../../flow/table.ts');
const lru = await import('../../flow/lru.ts');
const pending = await import('../../flow/pending.ts');
const wheel = await import('../../flow/wheel.ts');
const { dropCount } = await import('../../obs/drops.ts');
const splice = await import('./udp.ts');

type Socket = InstanceType<typeof fake.FakeSocket>;
type Listener = ReturnType<typeof lab.listener>;
type Flow = import('../../flow/table.ts').Flow;
const EACCES = 13;
const EMFILE = 24;
const ECONNREFUSED = 111;
const LO = '127.0.0.1';
const PEER_PORT = 40_123;
const GUEST4 = '192.0.2.10';

const configure = (change: Partial<import('./udp.ts').SpliceUdpSettings> = {}): void =>
  splice.configure({ descriptors: 20_000, singleMs: 30_000, streamMs: 120_000, sameAddress: false, ...change });
const rows = (): Flow[] =>
  Array.from({ length: flows.highWater() }, (_, f) => f as Flow).filter(
    (f) => flows.typeOf(f) === flows.FLOW_SPLICE_UDP,
  );
const theRow = (): Flow => {
  const [f, ...more] = rows();
  if (f === undefined || more.length > 0) throw new Error(`${more.length + 1} rows`);
  return f;
};

beforeEach(() => {
  bench.begin(1000, splice.onTimer);
  bench.resetAnswers();
  lab.begin();
  configure();
  udpListener.configure(() => splice.taker);
});
afterEach(() => {
  descriptors.configure(Number.POSITIVE_INFINITY);
  for (const f of rows()) splice.onEvent(f, 0, fake.EPOLLHUP);
  flows.endTurn();
  expect(pending.size()).toBe(0);
});

const comes = (l: Listener, port = PEER_PORT, d = {}, address = LO): void => {
  lab.arrives(l, address, port, address, d);
  udpListener.onReadable(l);
};
/** A row with both its sockets: to the peer, to the service. */
const joined = (l: Listener, port = PEER_PORT, fd = 50): { near: Socket; far: Socket } => {
  comes(l, port);
  const [nearSide, farSide] = l.side === 'host' ? (['host', 'netns'] as const) : (['netns', 'host'] as const);
  const far = lab.answer(farSide, { fd: fd + 1 }) as Socket;
  const near = lab.answer(nearSide, { fd, address: LO, port, local: LO }) as Socket;
  return { near, far };
};

describe('what is asked of the helper', () => {
  const asked = () =>
    lab.questions().map(({ channel, method, params }) => [channel === 3 ? 'host' : 'netns', method, params]);

  test('from the host: an answer there, and the guest’s own address in the namespace, from the peer’s port', () => {
    const l = lab.listener({ first: 5000, to: 53 });
    comes(l);
    expect(asked()).toEqual([
      ['host', 'socket.answer', { listener: l.listener }],
      ['netns', 'socket.connect', { protocol: 'udp', address: GUEST4, port: 53, sourcePort: PEER_PORT }],
    ]);
  });
  test('over IPv6', () => {
    comes(lab.listener(), 9, {}, '::1');
    expect(asked()[1]).toEqual([
      'netns',
      'socket.connect',
      { protocol: 'udp', address: '2001:db8:1:2:a::10', port: 5000, sourcePort: 9 },
    ]);
  });
  test.each([LO, '127.1.2.3', '::1'])('with --host-lo-to-ns-lo: %s itself', (address) => {
    configure({ sameAddress: true });
    comes(lab.listener(), 9, {}, address);
    expect(asked()[1]?.[2]).toMatchObject({ address });
  });
  test.each([LO, '127.1.2.3', '::1'])('from the namespace: %s of the host', (address) => {
    const l = lab.listener({}, 'netns');
    comes(l, 9, {}, address);
    expect(asked().sort()).toEqual([
      ['host', 'socket.connect', { protocol: 'udp', address, port: 5000, sourcePort: 9 }],
      ['netns', 'socket.answer', { listener: l.listener }],
    ]);
  });
});

test('listeners that lead to one another: nothing is asked, or one datagram would go round for ever', () => {
  configure({ sameAddress: true });
  const ours = (['host', 'splice'] as const).map((direction, listener) => {
    const { rule } = lab.listener();
    return sockets.adopt(sockets.groupOf(direction, rule), 5000, rule, { fd: 800 + listener, listener });
  });
  const refused = dropCount('flow-refused');
  comes(lab.listener());
  comes(lab.listener({}, 'netns'));
  expect([lab.questions(), rows(), dropCount('flow-refused')]).toEqual([[], [], refused + 2]);
  for (const l of ours) if (l !== null) sockets.close(l);
});

describe.each(['host', 'netns'] as const)('begun on the %s side', (side) => {
  const nearSide = side;
  const farSide = side === 'host' ? 'netns' : 'host';

  test.each(['near first', 'far first'])('what comes before the sockets waits for the far one: %s', (order) => {
    const l = lab.listener({}, side);
    comes(l, PEER_PORT, { text: 'one' });
    const near = () => lab.answer(nearSide, { fd: 50, address: LO, port: PEER_PORT, local: LO }) as Socket;
    const far = () => lab.answer(farSide, { fd: 51 }) as Socket;
    lab.arrives(l, LO, PEER_PORT, LO, { text: '' });
    lab.arrives(l, LO, PEER_PORT, LO, { text: 'three' });
    const [a, b] = order === 'near first' ? [near(), far()].reverse() : [far(), near()];
    expect(a?.sent.map(String)).toEqual(['one', '', 'three']);
    const f = theRow();
    expect([b?.events, b?.ref, a?.events, a?.ref]).toEqual([
      fake.EPOLLIN,
      flows.ref(f),
      fake.EPOLLIN,
      flows.secondRef(f),
    ]);
    expect([lab.questions(), lab.socketOf(l).incoming]).toEqual([[], []]);
  });

  test('datagrams pass both ways, each of its size; those of one size in one write', () => {
    const { near, far } = joined(lab.listener({}, side));
    const f = theRow();
    const sizes = [100, 100, 100, 40, 0, 1, 1472, 1472, 9000, 65_507, 7];
    for (const [from, to, s] of [
      [near, far, 0],
      [far, near, 1],
    ] as const) {
      to.sent.length = 0;
      to.writes = 0;
      sizes.forEach((n, i) => {
        from.incoming.push({ bytes: Buffer.alloc(n, i + 1) });
      });
      splice.onEvent(f, s, fake.EPOLLIN);
      expect(to.sent.map((b) => b.length)).toEqual(sizes);
      to.sent.forEach((b, i) => {
        expect(b.equals(Buffer.alloc(sizes[i] as number, i + 1))).toBe(true);
      });
      expect(to.writes).toBe(7);
    }
  });

  test('what UDP_GRO joined is cut as it was', () => {
    const { near, far } = joined(lab.listener({}, side));
    far.sent.length = 0;
    near.incoming.push(
      { bytes: Buffer.alloc(2500, 1), gso: 1000 },
      { bytes: Buffer.alloc(500, 2) },
      { bytes: Buffer.alloc(1000, 3) },
    );
    splice.onEvent(theRow(), 0, fake.EPOLLIN);
    expect(far.sent.map((b) => [b.length, b[0]])).toEqual([
      [1000, 1],
      [1000, 1],
      [500, 1],
      [500, 2],
      [1000, 3],
    ]);
  });

  test('a burst is served in several calls of one event', () => {
    const { near, far } = joined(lab.listener({}, side));
    far.sent.length = 0;
    for (let i = 0; i < 150; i++) near.incoming.push({ bytes: Buffer.from(`${i}`) });
    splice.onEvent(theRow(), 0, fake.EPOLLIN);
    expect(far.sent.map(String)).toEqual(Array.from({ length: 150 }, (_, i) => `${i}`));
  });

  test.each([
    ['the peer is gone', 0],
    ['nobody listens', 1],
  ] as const)('%s: nothing stays, and the next datagram begins anew', (_what, s) => {
    const l = lab.listener({}, side);
    const { near, far } = joined(l);
    (s === 0 ? near : far).receiveResults.push(-ECONNREFUSED);
    splice.onEvent(theRow(), s, fake.EPOLLIN | fake.EPOLLERR);
    flows.endTurn();
    expect([near.closed, far.closed, rows()]).toEqual([true, true, []]);
    comes(l);
    expect(lab.questions().length).toBe(2);
  });

  test('an error that a write meets ends the row; a full socket loses the datagram only', () => {
    const { near, far } = joined(lab.listener({}, side));
    const full = dropCount('sock-full');
    far.writeResults.push(-11);
    near.incoming.push({ bytes: Buffer.from('lost') });
    splice.onEvent(theRow(), 0, fake.EPOLLIN);
    expect([dropCount('sock-full') - full, near.closed]).toEqual([1, false]);
    far.writeResults.push(-ECONNREFUSED);
    near.incoming.push({ bytes: Buffer.from('x') }, { bytes: Buffer.from('longer') });
    splice.onEvent(theRow(), 0, fake.EPOLLIN);
    expect([near.closed, far.closed, rows()]).toEqual([true, true, []]);
  });

  test.each([EACCES, EMFILE])(
    'no far socket, errno %i: nothing stays, the near one is closed when it comes',
    (errno) => {
      const before = dropCount('flow-refused');
      const l = lab.listener({}, side);
      comes(l);
      lab.answer(farSide, { errno });
      expect([rows(), dropCount('flow-refused') - before]).toEqual([[], 1]);
      const near = lab.answer(nearSide, { fd: 50, address: LO, port: PEER_PORT, local: LO });
      expect([near?.closed, lab.socketOf(l).incoming]).toEqual([true, []]);
    },
  );

  test.each(['near', 'far'])(
    'a %s socket that is one of the descriptors which are the guest’s: nothing stays',
    (which) => {
      const before = dropCount('flow-refused');
      const l = lab.listener({}, side);
      comes(l);
      descriptors.configure(57); // the last seven are reserved
      const far = lab.answer(farSide, { fd: which === 'far' ? 50 : 49 });
      const near = lab.answer(nearSide, { fd: which === 'far' ? 49 : 50, address: LO, port: PEER_PORT, local: LO });
      expect([near?.closed, far?.closed, rows(), dropCount('flow-refused') - before]).toEqual([true, true, [], 1]);
    },
  );

  test.each(['before', 'after'])('no near socket: nothing stays, %s the far one came', (when) => {
    const l = lab.listener({}, side);
    comes(l);
    const far = () => lab.answer(farSide, { fd: 51 });
    const early = when === 'after' ? far() : null;
    lab.answer(nearSide, { errno: EACCES });
    const socket = early ?? far();
    expect([rows(), socket?.closed]).toEqual([[], true]);
  });

  test('strangers’ datagrams in the near socket go their own way', () => {
    const l = lab.listener({}, side);
    comes(l, 7);
    const near = fake.addSocket(50);
    near.incoming.push(
      { bytes: Buffer.from('stranger'), from: [lab.bytes16(LO), 8] },
      { bytes: Buffer.from('own'), from: [lab.bytes16(LO), 7] },
    );
    lab.answer(nearSide, { fd: 50, address: LO, port: 7, local: LO });
    const own = lab.answer(farSide, { fd: 51 });
    const strange = lab.answer(farSide, { fd: 52 });
    expect([own?.sent.map(String), strange?.sent.map(String)]).toEqual([['question', 'own'], ['stranger']]);
    // With its next datagram it gets its answers.
    comes(l, 8, { text: 'again' });
    const second = lab.answer(nearSide, { fd: 53, address: LO, port: 8, local: LO }) as Socket;
    expect([strange?.sent.map(String), second.events]).toEqual([['stranger', 'again'], fake.EPOLLIN]);
    expect(rows().length).toBe(2);
  });
});

test('rows of the two sides are told apart', () => {
  joined(lab.listener({}, 'host'), PEER_PORT, 50);
  joined(lab.listener({}, 'netns'), PEER_PORT, 60);
  expect(rows().length).toBe(2);
});

describe('lives', () => {
  test('one exchange: the short timeout; a stream: the long one', () => {
    const expire = (ms: number): void => {
      fake.setNow(ms);
      wheel.expire(ms);
      flows.endTurn();
    };
    const { near } = joined(lab.listener());
    expire(32_000 + 4000);
    expect([rows(), near.closed]).toEqual([[], true]);
    const again = joined(lab.listener());
    fake.setNow(40_000);
    again.far.incoming.push({ bytes: Buffer.from('x') });
    splice.onEvent(theRow(), 1, fake.EPOLLIN);
    expire(100_000);
    expect(rows().length).toBe(1);
    expire(180_000);
    expect([rows(), again.near.closed, again.far.closed]).toEqual([[], true, true]);
  });

  test('there are so many of each side; the one idle longest goes', () => {
    configure({ descriptors: 640 });
    const l = lab.listener();
    const others = lab.listener({}, 'netns');
    const first = joined(others, 1, 2000);
    const sockets = Array.from({ length: 15 }, (_, i) => {
      fake.setNow(2000 + i);
      const both = joined(l, 100 + i, 100 + 2 * i);
      flows.endTurn();
      return both;
    });
    expect([lru.size(lru.LRU_SPLICE_UDP), lru.size(lru.LRU_SPLICE_UDP_OUT)]).toEqual([10, 1]);
    expect(sockets.map(({ near, far }) => near.closed && far.closed)).toEqual([
      ...new Array(5).fill(true),
      ...new Array(10).fill(false),
    ]);
    expect(first.near.closed).toBe(false);
  });
});
