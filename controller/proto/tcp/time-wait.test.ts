// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const flows = await import('../../flow/table.ts');
const lru = await import('../../flow/lru.ts');
const { dropCount } = await import('../../obs/drops.ts');
const { TIME_WAIT_MS } = await import('./constants.ts');

describe.each(t.WORLDS)('TIME-WAIT ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  /** The peer closes, then the guest; the last ACK is ours. */
  const close = (): void => {
    b.peer((s) => s.ends());
    b.expectToGuest({ flags: 'FA', seq: 1, ack: 1 });
    b.guestSends({ flags: 'FA', seq: 1, ack: 2 });
    b.expectToGuest({ flags: 'A', seq: 2, ack: 2 });
  };
  beforeEach(() => {
    b = t.begin(world).established();
  });
  afterEach(t.finish);
  const waiting = (): number => lru.size(lru.LRU_TCP_TIME_WAIT);

  test('the socket is given back at once', () => {
    close();
    expect([b.socket.closed, b.socket.watched, b.socket.linger]).toEqual([true, false, false]);
    expect(waiting()).toBe(1);
  });
  test('a FIN that comes again, because our last ACK was lost, is acknowledged again and not reset', () => {
    close();
    b.guestSends({ flags: 'FA', seq: 1, ack: 2 });
    b.expectToGuest({ flags: 'A', seq: 2, ack: 2 });
    b.after(TIME_WAIT_MS - 5000);
    b.guestSends({ flags: 'FA', seq: 1, ack: 2 });
    b.expectToGuest({ flags: 'A', seq: 2, ack: 2 });
    // The waiting begins anew (RFC 9293 §3.10.7.4).
    b.after(TIME_WAIT_MS - 5000);
    expect(waiting()).toBe(1);
    b.after(8000);
    expect(waiting()).toBe(0);
    b.expectNothing();
  });
  test('it ends after two maximum segment lifetimes', () => {
    close();
    b.after(TIME_WAIT_MS - 100);
    expect(waiting()).toBe(1);
    b.after(3000);
    expect(flows.count(flows.FLOW_TCP)).toBe(0);
  });
  test('a simultaneous close comes to it, too', () => {
    b.peer((s) => s.ends());
    b.expectToGuest({ flags: 'FA', seq: 1, ack: 1 });
    b.guestSends({ flags: 'FA', seq: 1, ack: 1 });
    b.expectToGuest({ flags: 'A', seq: 2, ack: 2 });
    b.guestSends({ seq: 2, ack: 2 });
    expect([waiting(), b.socket.closed]).toEqual([1, true]);
    b.expectNothing();
  });
  test('the guest that closed first waits itself: nothing is kept', () => {
    b.guestSends({ flags: 'FA' });
    b.expectToGuest({ ack: 2 });
    b.peer((s) => s.ends());
    b.expectToGuest({ flags: 'FA', seq: 1 });
    b.guestSends({ seq: 2, ack: 2 });
    expect(flows.count(flows.FLOW_TCP)).toBe(0);
  });
  test('a reset does not end it (RFC 1337), a stray ACK is not answered', () => {
    close();
    b.guestSends({ flags: 'R', seq: 2 }, { seq: 2, ack: 2 });
    b.expectNothing();
    expect(waiting()).toBe(1);
  });
  test('old data is answered with where we are, ten times in five seconds at most', () => {
    close();
    const before = dropCount('tcp-challenge-limit');
    for (let i = 0; i < 15; i++) b.guestSends({ seq: 2, ack: 2, data: 'late' });
    b.expectToGuest(...Array.from({ length: 10 }, () => ({ flags: 'A', seq: 2, ack: 2 })));
    b.expectNothing();
    expect(dropCount('tcp-challenge-limit')).toBe(before + 5);
  });
  test('a SYN behind the old numbers opens the same port again (RFC 6191 §2), our numbers behind our old ones', () => {
    const old = b.ourIsn;
    close();
    b.guestSends({ flags: 'S', seq: 100_000, options: [...t.optionMss(t.MSS), ...t.optionScale(7)] });
    b.helperAnswers();
    b.peer((s) => s.connected());
    const [s] = b.expectToGuest({ flags: 'SA', ack: 100_001 });
    expect(b.ourIsn).toBe(old);
    expect((s?.seq ?? 0) - 2).toBeGreaterThanOrEqual(65_535);
    b.guestSends({ seq: 100_001, ack: (s?.seq ?? 0) + 1, data: 'again' });
    b.expectToGuest({ flags: 'A', ack: 100_006 });
    b.expectToSocket('again');
  });
  test('the last ACK and the SYN of the next connection may come in one batch', () => {
    b.guestSends({ flags: 'FA' });
    b.expectToGuest({ ack: 2 });
    b.peer((s) => {
      s.receives(Buffer.from('bye'));
      s.ends();
    });
    b.expectData(1, 'bye');
    b.expectToGuest({ flags: 'FA', seq: 4 });
    const old = b.socket;
    b.guestSends({ seq: 2, ack: 5 }, { flags: 'S', seq: 100_000, options: t.optionMss(t.MSS) });
    expect([old.closed, old.linger, old.queue.length]).toEqual([true, false, 0]);
    b.helperAnswers();
    b.peer((s) => s.connected());
    b.expectToGuest({ flags: 'SA', ack: 100_001 });
  });
  test('a SYN among the old numbers is answered with where we are', () => {
    close();
    b.guestSends({ flags: 'S', seq: -5 });
    b.expectToGuest({ flags: 'A', seq: 2, ack: 2 });
    expect(waiting()).toBe(1);
  });
  test('connections that come and go without end take turns', () => {
    close();
    for (let i = 0; i < 30; i++) {
      b.opening({ srcPort: 20_000 + i });
      b.peer((s) => s.connected());
      const [s] = b.expectToGuest({ flags: 'SA' });
      const ack = ((s?.seq ?? 0) + 1) | 0;
      b.guestSends({ srcPort: 20_000 + i, ack });
      b.peer((p) => p.ends());
      b.expectToGuest({ flags: 'FA' });
      b.guestSends({ srcPort: 20_000 + i, flags: 'FA', ack: (ack + 1) | 0 });
      b.expectToGuest({ flags: 'A' });
      if (i === 10) lru.setCap(lru.LRU_TCP_TIME_WAIT, 12);
    }
    expect(waiting()).toBe(12);
    expect(flows.count(flows.FLOW_TCP)).toBe(12);
  });
});
