// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const connect = await import('./connect.ts');
const t = await import('../flow/table.ts');
type Flow = import('../flow/table.ts').Flow;

const CHANNEL = 3;
const REF = 500_000;
const EAGAIN = 11;
const connected: [Flow, number][] = [];
const failed: [Flow, number][] = [];

interface Request {
  jsonrpc: string;
  id: number;
  method: string;
  params: { protocol: string; address: string; port: number; sourcePort: number };
}
const batch = (i: number): Request[] => JSON.parse(fake.channelSent[i] ?? 'null') as Request[];

const flow = (type: 1 | 2 | 3 = t.FLOW_UDP): Flow => {
  const f = t.alloc(type);
  t.setV4(f, true);
  t.setRemote(f, 0, 0, t.MAPPED_WORD, (198 << 24) | (51 << 16) | (100 << 8) | 7);
  t.setPorts(f, 4000, 53);
  return f;
};
type Answer = { fd: number } | { errno: number } | { refused: true };
/** Answers the i-th batch that was sent; `descriptors` travel with it. */
const answer = (i: number, answers: readonly Answer[], descriptors: readonly number[]): void => {
  const replies = batch(i).map(({ id }, k) => {
    const a = answers[k] as Answer;
    if ('fd' in a) return { jsonrpc: '2.0', id, result: { fd: a.fd } };
    if ('errno' in a) {
      return { jsonrpc: '2.0', id, error: { code: -32_000, message: 'connect', data: { errno: a.errno } } };
    }
    return { jsonrpc: '2.0', id, error: { code: -32_001, message: 'refused' } };
  });
  fake.channelIncoming.push({ text: JSON.stringify(replies), fds: descriptors });
};

beforeEach(() => {
  fake.reset();
  fake.addSocket(CHANNEL);
  connected.length = 0;
  failed.length = 0;
  connect.attach(CHANNEL, REF);
  for (const type of [t.FLOW_TCP, t.FLOW_UDP] as const) {
    connect.register(
      type,
      (f, fd) => connected.push([f, fd]),
      (f, errno) => failed.push([f, errno]),
    );
  }
});

describe('socket.connect without promises', () => {
  test('requests of a turn leave as one batch, in order, with the tuple as text', () => {
    const a = flow();
    const b = flow(t.FLOW_TCP);
    t.setV4(b, false);
    t.setRemote(b, 0x20010db8, 0, 0, 1);
    connect.request(a, 'udp', 4000);
    connect.request(b, 'tcp');
    connect.flushRequests();
    expect(fake.channelSent.length).toBe(1);
    expect(batch(0).map((r) => [r.jsonrpc, r.method, r.params])).toEqual([
      ['2.0', 'socket.connect', { protocol: 'udp', address: '198.51.100.7', port: 53, sourcePort: 4000 }],
      ['2.0', 'socket.connect', { protocol: 'tcp', address: '2001:db8::1', port: 53, sourcePort: 0 }],
    ]);
    expect(batch(0).every((r) => r.id >= 1_000_000_000)).toBe(true);
  });

  test('sockets and failures come to the handlers of the flow', () => {
    const [a, b, c] = [flow(), flow(), flow()];
    for (const f of [a, b, c]) connect.request(f, 'udp');
    connect.flushRequests();
    answer(0, [{ errno: 101 }, { fd: 0 }, { refused: true }], [42]);
    expect(connect.onChannelReadable()).toBe(true);
    expect(connected).toEqual([[b, 42]]);
    expect(failed).toEqual([
      [a, 101],
      [c, 13],
    ]);
    expect(fake.closedFds).toEqual([]);
    expect(connect.outstanding()).toBe(0);
  });

  test('a socket whose flow has ended, or whose row is another flow by now, is closed', () => {
    const a = flow();
    const b = flow();
    connect.request(a, 'udp');
    connect.request(b, 'udp');
    connect.flushRequests();
    t.release(a);
    t.release(b);
    t.endTurn();
    const again = flow();
    expect([a, b]).toContain(again);
    answer(0, [{ fd: 0 }, { fd: 1 }], [50, 51]);
    connect.onChannelReadable();
    expect(connected).toEqual([]);
    expect(fake.closedFds.sort()).toEqual([50, 51]);
  });

  test('at most 64 requests a batch; replies may come for one batch while others wait', () => {
    const rows = Array.from({ length: 130 }, () => flow());
    for (const f of rows) connect.request(f, 'udp');
    connect.flushRequests();
    expect([0, 1, 2].map((i) => batch(i).length)).toEqual([64, 64, 2]);
    const descriptors = Array.from({ length: 64 }, (_, i) => 100 + i);
    answer(
      0,
      descriptors.map((_, i) => ({ fd: i })),
      descriptors,
    );
    connect.onChannelReadable();
    expect(connected).toEqual(rows.slice(0, 64).map((f, i) => [f, 100 + i]));
    expect(connect.outstanding()).toBe(66);
  });

  test('a full channel keeps the batch for its EPOLLOUT, and nothing is sent twice', () => {
    connect.request(flow(), 'udp');
    fake.channelSendResults.push(-EAGAIN);
    connect.flushRequests();
    const channel = fake.sockets.get(CHANNEL);
    expect([channel?.events, channel?.ref]).toEqual([fake.EPOLLIN | fake.EPOLLOUT, REF]);
    connect.request(flow(), 'udp');
    connect.flushRequests();
    expect(fake.channelSent.length).toBe(0);
    connect.onChannelReadable();
    expect(channel?.events).toBe(fake.EPOLLIN);
    connect.flushRequests();
    connect.flushRequests();
    expect(fake.channelSent.length).toBe(1);
    expect(batch(0).length).toBe(2);
  });

  test('a reply that was cut for lack of descriptors fails its batch, and only that', () => {
    const [a, b] = [flow(), flow()];
    connect.request(a, 'udp');
    connect.flushRequests();
    connect.request(b, 'udp');
    connect.flushRequests();
    const recv = vi.spyOn(fake.native, 'channelRecv').mockReturnValueOnce(-90);
    answer(1, [{ fd: 0 }], [60]);
    connect.onChannelReadable();
    recv.mockRestore();
    expect(failed).toEqual([[a, 23]]);
    expect(connected).toEqual([[b, 60]]);
  });

  test('the end of the helper is told: on end of file, on a broken channel', () => {
    fake.setChannelIdle(0);
    expect(connect.onChannelReadable()).toBe(false);
    connect.attach(CHANNEL, REF);
    fake.setChannelIdle(-EAGAIN);
    connect.request(flow(), 'udp');
    fake.channelSendResults.push(-32);
    connect.flushRequests();
    expect(connect.onChannelReadable()).toBe(false);
  });

  test('too many waiting requests are refused', () => {
    const f = flow();
    let n = 0;
    while (connect.request(f, 'udp')) n++;
    expect(n).toBe(8192);
    expect(connect.outstanding()).toBe(8192);
  });

  describe('other questions, on both sides', () => {
    const NETNS = 4;
    type Settled = [what: string, errno: number, result: unknown];
    let settled: Settled[] = [];
    const note =
      (what: string) =>
      (errno: number, result: unknown): void => {
        settled.push([what, errno, result]);
      };
    const listen = (port: number) =>
      ({ protocol: 'tcp', address: '127.0.0.1', port, interface: '', freebind: false }) as const;
    const reply = (i: number, results: readonly unknown[], fds: readonly number[], channel: number): void => {
      const text = JSON.stringify(
        batch(i).map(({ id }, k) =>
          results[k] instanceof Error
            ? { jsonrpc: '2.0', id, error: { code: -32_000, message: 'no', data: { errno: 98 } } }
            : { jsonrpc: '2.0', id, result: results[k] },
        ),
      );
      fake.channelIncoming.push({ text, fds, channel });
    };
    beforeEach(() => {
      settled = [];
      fake.addSocket(NETNS);
      connect.attach(NETNS, REF + 1, 'netns');
    });

    test('each side has its queue; what was asked is answered once, by method', () => {
      connect.ask('host', 'socket.listen', listen(80), note('host'));
      connect.ask('netns', 'socket.listen', listen(81), note('netns'));
      connect.ask('netns', 'socket.unlisten', { listener: 7 }, note('gone'));
      connect.flushRequests();
      expect(fake.channelSentOver).toEqual([CHANNEL, NETNS]);
      expect(fake.sockets.get(NETNS)?.events).toBe(fake.EPOLLIN);
      expect(batch(1).map(({ method, params }) => [method, params])).toEqual([
        ['socket.listen', listen(81)],
        ['socket.unlisten', { listener: 7 }],
      ]);
      reply(1, [{ fd: 0, listener: 3 }, {}], [50], NETNS);
      expect(connect.onChannelReadable('host')).toBe(true);
      expect(settled).toEqual([]);
      connect.onChannelReadable('netns');
      reply(0, [new Error()], [], CHANNEL);
      connect.onChannelReadable('host');
      expect(settled).toEqual([
        ['netns', 0, { fd: 50, listener: 3 }],
        ['gone', 0, {}],
        ['host', 98, null],
      ]);
      expect(fake.closedFds).toEqual([]);
      expect([connect.outstanding('host'), connect.outstanding('netns')]).toEqual([0, 0]);
    });

    test('for a flow that has ended, nothing is settled and the descriptor is closed', () => {
      const [a, b] = [flow(), flow()];
      const params = { protocol: 'tcp', address: '127.0.0.1', port: 80, sourcePort: 0 } as const;
      connect.askFor(a, 'netns', 'socket.connect', params, note('a'));
      connect.askFor(b, 'netns', 'socket.connect', params, note('b'));
      connect.flushRequests();
      t.release(a);
      reply(0, [{ fd: 0 }, { fd: 1 }], [60, 61], NETNS);
      connect.onChannelReadable('netns');
      expect(settled).toEqual([['b', 0, { fd: 61 }]]);
      expect(fake.closedFds).toEqual([60]);
      // Not the handlers of its type: they are for what `request` asked.
      expect(connected).toEqual([]);
    });

    test('too many: nothing is queued on that side, and the other has its own', () => {
      let n = 0;
      while (connect.ask('netns', 'socket.unlisten', { listener: 1 }, note('x'))) n++;
      expect(n).toBe(8192);
      expect(connect.ask('host', 'socket.unlisten', { listener: 1 }, note('x'))).toBe(true);
    });

    test('a namespace side that is a second behind is asked nothing more until it has answered; the host side is', () => {
      const asks = (side: 'host' | 'netns'): boolean =>
        connect.ask(side, 'socket.unlisten', { listener: 1 }, note(side));
      asks('host');
      asks('netns');
      connect.flushRequests();
      fake.setNow(fake.nowMs() + 1000);
      expect(asks('netns')).toBe(true);
      fake.setNow(fake.nowMs() + 1);
      expect([asks('netns'), asks('host')]).toEqual([false, true]);
      reply(1, [{}], [], NETNS);
      connect.onChannelReadable('netns');
      expect(asks('netns')).toBe(true);
    });

    test("the result of another method is not this one's", () => {
      connect.ask('netns', 'socket.listen', listen(80), note('listen'));
      connect.flushRequests();
      reply(0, [{ fd: 0 }], [70], NETNS);
      expect(() => connect.onChannelReadable('netns')).toThrow();
      expect([settled, fake.closedFds]).toEqual([[], [70]]);
    });
  });

  describe('a reply that breaks the protocol throws, and closes what came with it', () => {
    const reply = (id: number, result: unknown): string => JSON.stringify([{ jsonrpc: '2.0', id, result }]);
    test.each<[string, (id: number) => string]>([
      ['no JSON', () => '[{'],
      ['not a batch', (id) => reply(id, { fd: 0 }).slice(1, -1)],
      ['an unknown identifier', (id) => reply(id + 1, { fd: 0 })],
      ['a descriptor that did not come', (id) => reply(id, { fd: 1 })],
      ['a negative descriptor', (id) => reply(id, { fd: -1 })],
      ['a surplus member', (id) => reply(id, { fd: 0, path: '/' })],
      ['an error without code', (id) => JSON.stringify([{ jsonrpc: '2.0', id, error: { message: 'x' } }])],
      ['an empty batch', () => '[]'],
    ])('%s', (_name, text) => {
      connect.request(flow(), 'udp');
      connect.flushRequests();
      fake.channelIncoming.push({ text: text(batch(0)[0]?.id ?? 0), fds: [70] });
      expect(() => connect.onChannelReadable()).toThrow();
      expect(fake.closedFds).toEqual([70]);
      expect(connected).toEqual([]);
    });

    test('one descriptor for two flows', () => {
      connect.request(flow(), 'udp');
      connect.request(flow(), 'udp');
      connect.flushRequests();
      answer(0, [{ fd: 0 }, { fd: 0 }], [71]);
      expect(() => connect.onChannelReadable()).toThrow(/did not come/);
      expect(connected.length).toBe(1);
    });

    test('an answer to nothing', () => {
      fake.channelIncoming.push({ text: reply(1_000_000_000, { fd: 0 }), fds: [72] });
      expect(() => connect.onChannelReadable()).toThrow();
      expect(fake.closedFds).toEqual([72]);
    });
  });
});
