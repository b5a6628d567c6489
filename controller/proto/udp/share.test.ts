// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const udp = await import('../../../test/support/udp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const { dropCount } = await import('../../obs/drops.ts');
const flows = await import('../../flow/table.ts');
const lru = await import('../../flow/lru.ts');

beforeEach(udp.begin);
afterEach(udp.closeAll);

/** 2,000 descriptors: 937 answered flows, 250 unanswered, 62 in the crowd, 250 for lookups; shares of 62. */
const DESCRIPTORS = 2000;
const CAPS = { answered: 937, fresh: 250, crowd: 62, dns: 250 };
const SHARE = 62;
let nextFd = 0;
beforeEach(() => {
  nextFd = 100;
  udp.configure({ descriptors: DESCRIPTORS });
});
/** Sends one datagram for each port pair, and the helper hands over the sockets. */
const open = (pairs: readonly (readonly [src: number, dst: number])[], dst?: string): void => {
  for (let i = 0; i < pairs.length; i += 32) {
    udp.batch(() => {
      for (const [srcPort, dstPort] of pairs.slice(i, i + 32))
        udp.datagram('x', { srcPort, dstPort, ...(dst ? { dst, checksum: 0 } : {}) });
    });
    nextFd += bench.answer({ fd: nextFd }).length;
    flows.endTurn();
  }
};
const range = (count: number, pair: (i: number) => readonly [number, number]): (readonly [number, number])[] =>
  Array.from({ length: count }, (_, i) => pair(i));
const sizes = (): number[] =>
  [lru.LRU_UDP, lru.LRU_UDP_NEW, lru.LRU_UDP_CROWD, lru.LRU_DNS].map((cls) => lru.size(cls));

describe('whoever opens flows without end', () => {
  test.each([
    ['one port of the guest to every port', (i: number) => [4000, 1 + i] as const],
    ['every port of the guest to one', (i: number) => [1 + i, 9000] as const],
    ['random ports to random ports of one host', (i: number) => [1 + i, 60_000 - i] as const],
  ])('pays with his own: %s', (_what, pair) => {
    const answered = udp.opened({ srcPort: 50_000, dstPort: 443 }, 20);
    udp.peerAnswers(udp.theFlow(50_000), answered);
    // Another program's, which waits for its first answer, from another host.
    open([[50_001, 443]], '203.0.113.5');
    open([[50_002, 53]], '203.0.113.5');
    const before = dropCount('flow-evicted');
    open(range(3000, pair).filter(([, dst]) => dst !== 53));
    const [streams = 0, fresh = 0, crowd = 0, dns = 0] = sizes();
    expect([streams, dns]).toEqual([1, 1]);
    expect(fresh).toBeLessThanOrEqual(SHARE + 1);
    expect(crowd).toBe(CAPS.crowd);
    expect(flows.count(flows.FLOW_UDP)).toBe(streams + fresh + crowd + dns);
    expect(dropCount('flow-evicted') - before).toBeGreaterThan(2700);
    for (const port of [50_000, 50_001, 50_002]) expect(() => udp.theFlow(port)).not.toThrow();
    expect(answered.closed).toBe(false);
    // Every descriptor but those of the living was given back.
    const open_ = [...fake.sockets.values()].filter((s) => !s.closed).length - 1;
    expect(open_).toBe(flows.count(flows.FLOW_UDP));
  });

  test('a storm of lookups costs lookups', () => {
    open([[50_001, 443]]);
    open(range(600, (i) => [2000 + i, 53]));
    expect(sizes()).toEqual([0, 1, 0, CAPS.dns]);
    expect(() => udp.theFlow(2000)).toThrow();
    expect(() => udp.theFlow(2599)).not.toThrow();
  });

  test('a share is given back by the answer, and by the end', () => {
    open(range(SHARE + 10, (i) => [1000 + i, 443]));
    expect(sizes()).toEqual([0, SHARE, 10, 0]);
    for (const f of udp.udpFlows().slice(0, 30))
      udp.peerAnswers(f, fake.sockets.get(flows.fd(f)) as InstanceType<typeof fake.FakeSocket>);
    expect(sizes()).toEqual([30, SHARE - 30, 10, 0]);
    open(range(30, (i) => [3000 + i, 443]));
    expect(sizes()).toEqual([30, SHARE, 10, 0]);
    udp.expire(60_000);
    flows.endTurn();
    expect(sizes()).toEqual([0, 0, 0, 0]);
    open(range(SHARE, (i) => [5000 + i, 443]));
    expect(sizes()).toEqual([0, SHARE, 0, 0]);
  });
});

describe('at its cap', () => {
  test('an answered flow goes for another answered one: the one idle longest, used ones stay', () => {
    udp.configure({ descriptors: 9 });
    const sockets = [0, 1, 2, 3].map((i) => {
      fake.setNow(1000 + i * 2000);
      const socket = udp.opened({ srcPort: 50_000 + i }, 20 + i);
      udp.peerAnswers(udp.theFlow(50_000 + i), socket);
      return socket;
    });
    fake.setNow(20_000);
    udp.batch(() => udp.datagram('x', { srcPort: 50_000 }));
    udp.batch(() => udp.datagram('x', { srcPort: 60_000 }));
    expect(sockets.map((s) => s.closed)).toEqual([false, false, false, false]);
    const [last] = bench.answer({ fd: 30 });
    if (last === undefined) throw new Error('no socket');
    udp.peerAnswers(udp.theFlow(60_000), last);
    expect(sockets.map((s) => s.closed)).toEqual([false, true, false, false]);
  });

  test('a flow that is pushed out sends first what was gathered for it', () => {
    udp.configure({ descriptors: 8 });
    const socket = udp.opened();
    bench.newBatch();
    udp.datagram('gathered');
    // The first is the share of everything here; of the crowd there may be one.
    udp.datagram('x', { srcPort: 50_001, dst: '203.0.113.5', dstPort: 9, checksum: 0 });
    expect(socket.sent.map(String)).toEqual(['first', 'gathered']);
    expect(socket.closed).toBe(true);
  });
});

describe('out of descriptors', () => {
  test.each([
    ['the helper', 24],
    ['the host', 23],
  ])('%s: the unanswered flow idle longest goes, the guest is told, and the next try is served', (_who, errno) => {
    const answered = udp.opened({ srcPort: 50_000 }, 20);
    udp.peerAnswers(udp.theFlow(50_000), answered);
    const waiting = udp.opened({ srcPort: 50_001 }, 21);
    udp.batch(() => udp.datagram('third', { srcPort: 50_002 }));
    bench.answer({ errno });
    expect([answered.closed, waiting.closed]).toEqual([false, true]);
    const [e] = bench.arrived().slice(1).map(bench.icmpError);
    expect([e?.type, e?.code, e?.quote.subarray(8).toString()]).toEqual([3, 1, 'third']);
    udp.expire(2200);
    udp.batch(() => udp.datagram('again', { srcPort: 50_002 }));
    expect(bench.answer({ fd: 22 })[0]?.sent.map(String)).toEqual(['again']);
  });
});
