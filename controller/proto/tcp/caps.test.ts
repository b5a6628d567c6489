// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const flows = await import('../../flow/table.ts');
const lru = await import('../../flow/lru.ts');
const { dropCount } = await import('../../obs/drops.ts');
const { EVICTABLE_IDLE_MS, EVICTABLE_OPENING_MS } = await import('./constants.ts');

const EMFILE = 24;
/** Sixteen connections. */
const DESCRIPTORS = 64 + 16;

describe.each(t.WORLDS.slice(0, 2))('caps ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  beforeEach(() => {
    b = t.begin({ ...world, descriptors: DESCRIPTORS });
  });
  afterEach(t.finish);
  type Stream = ReturnType<typeof b.opening>;

  /** A connection of its own from each port; returns its socket. */
  const connect = (srcPort: number): Stream => {
    const s = b.opening({ srcPort });
    b.peer((p) => p.connected());
    const [reply] = b.expectToGuest({ flags: 'SA', dstPort: srcPort });
    b.guestSends({ srcPort, ack: ((reply?.seq ?? 0) + 1) | 0 });
    b.expectNothing();
    return s;
  };
  const fill = (): Stream[] => Array.from({ length: 16 }, (_, i) => connect(1000 + i));

  test('full: a new connection is refused at once, the others go on', () => {
    const [first] = fill() as [Stream];
    const before = dropCount('flow-refused');
    b.guestSends({ flags: 'S', seq: 0, srcPort: 5000 });
    b.expectToGuest({ flags: 'RA', seq: expect.any(Number), ack: 1, dstPort: 5000 });
    expect(dropCount('flow-refused')).toBe(before + 1);
    expect(flows.count(flows.FLOW_TCP)).toBe(16);
    b.guestSends({ srcPort: 1000, seq: 1, ack: 1, data: 'still' });
    expect(first.sent.toString()).toBe('still');
    b.seen.length = 0;
  });
  test('full: room comes back with the first that closes', () => {
    fill();
    b.guestSends({ flags: 'R', srcPort: 1003, seq: 1 });
    connect(5000);
    expect(flows.count(flows.FLOW_TCP)).toBe(16);
  });
  test('full: the one that was idle longest, and for minutes, goes, both its ends reset', () => {
    const all = fill();
    b.after(EVICTABLE_IDLE_MS / 2);
    b.seen.length = 0;
    // All but the fourth are in use, the first one last.
    for (const i of [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0]) {
      for (let twice = 0; twice < 2; twice++) b.guestSends({ srcPort: 1000 + i, seq: 1 });
    }
    b.guestSends({ srcPort: 1003, seq: 1 }); // No more than an answer to a probe.
    b.after(EVICTABLE_IDLE_MS / 2 + 1000);
    b.seen.length = 0;
    for (let i = 0; i < 16; i++) b.guestSends({ srcPort: 1000 + i, seq: 1 });
    b.seen.length = 0;
    b.guestSends({ flags: 'S', seq: 0, srcPort: 5000 });
    b.expectToGuest({ flags: 'RA', dstPort: 1003 });
    expect(all.map((s) => s.closed)).toEqual(all.map((_, i) => i === 3));
    expect(all[3]?.linger).toBe(true);
    b.helperAnswers();
    expect(flows.count(flows.FLOW_TCP)).toBe(16);
  });
  test('a flood of SYNs recycles its own; a connection that is meant gets through', () => {
    b = t.begin({ ...world, descriptors: 64 + 4 * 600 });
    const good = connect(999);
    const before = dropCount('flow-evicted');
    for (let round = 0; round < 20; round++) {
      b.guestSends(...Array.from({ length: 60 }, (_, i) => ({ flags: 'S', seq: 0, srcPort: 2000 + round * 60 + i })));
      b.helperAnswers(60);
    }
    expect(lru.size(lru.LRU_TCP_OPENING)).toBe(600);
    expect(dropCount('flow-evicted')).toBe(before + 600);
    // Those that went said nothing.
    b.expectNothing();
    connect(9000);
    expect(lru.size(lru.LRU_TCP_OPENING)).toBe(599);
    expect(good.closed).toBe(false);
  });
  test('a burst of connections takes what there is, and the rest is refused at once', () => {
    b.guestSends(...Array.from({ length: 40 }, (_, i) => ({ flags: 'S', seq: 0, srcPort: 2000 + i })));
    b.expectToGuest(...Array.from({ length: 24 }, (_, i) => ({ flags: 'RA', ack: 1, dstPort: 2016 + i })));
    b.expectNothing();
    b.helperAnswers(16);
  });
  test('of those in the making, the one whose guest asked again stays longer', () => {
    const made = Array.from({ length: 16 }, (_, i) => {
      const s = b.opening({ srcPort: 2000 + i });
      b.after(200);
      return s;
    });
    b.guestSends({ flags: 'S', seq: 0, srcPort: 2000 });
    b.opening({ srcPort: 2016 });
    expect(made.map((s) => s.closed)).toEqual(made.map((_, i) => i === 1));
  });
  test('without a descriptor: refused at once by a reset, and nobody in use pays for it', () => {
    fill().slice(1);
    b.guestSends({ flags: 'R', srcPort: 1000, seq: 1 });
    b.guestSends({ flags: 'S', seq: 0, srcPort: 5000 });
    b.helperFails({ errno: EMFILE });
    b.expectToGuest({ flags: 'RA', ack: 1, dstPort: 5000 });
    expect(flows.count(flows.FLOW_TCP)).toBe(15);
  });
  test('without a descriptor: an attempt that has been waiting gives its up for the next', () => {
    const old = b.opening({ srcPort: 2000 });
    b.after(EVICTABLE_OPENING_MS);
    b.guestSends({ flags: 'S', seq: 0, srcPort: 5000 });
    b.helperFails({ errno: EMFILE });
    b.expectToGuest({ flags: 'RA', ack: 1, dstPort: 5000 });
    expect(old.closed).toBe(true);
    expect(flows.count(flows.FLOW_TCP)).toBe(0);
  });
});
