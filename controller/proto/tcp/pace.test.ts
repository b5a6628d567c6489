// SPDX-License-Identifier: Apache-2.0
/** What goes to a guest behind a link: spread over the round trip, and with room in the socket for what is under way. */
import { afterEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const { WINDOW_INITIAL } = await import('./congestion.ts');

const RTT_MS = 100;
const SO_RCVLOWAT = 18;
const all = t.numbered(2 * WINDOW_INITIAL);

/** A connection whose handshake took `rttMs` on the guest's side. */
const behind = (rttMs: number, world: import('../../../test/support/tcp-bench.ts').World) => {
  const b = t.begin(world);
  b.opening();
  b.peer((s) => s.connected());
  b.expectToGuest({ flags: 'SA' });
  b.after(rttMs);
  b.guestSends({});
  return b;
};
const total = (seen: readonly import('../../../test/support/tcp-bench.ts').Seen[]): number =>
  seen.reduce((n, s) => n + s.bytes.length, 0);
const marks = (b: InstanceType<typeof t.Bench>): number[] =>
  b.socket.options.filter(([, option]) => option === SO_RCVLOWAT).map(([, , value]) => value);

describe.each(t.WORLDS)('pace ($name)', (world) => {
  afterEach(t.finish);

  test('a window goes out over half a round trip, in small bursts, in order, and no more than the window', () => {
    const b = behind(RTT_MS, world);
    const begun = b.nowMs;
    b.peerSends(all);
    expect(total(b.seen)).toBeGreaterThan(0);
    expect(total(b.seen)).toBeLessThanOrEqual(WINDOW_INITIAL / 8);
    for (let before = total(b.seen); total(b.seen) < WINDOW_INITIAL; before = total(b.seen)) {
      // The loop sleeps in between, and wakes for it.
      expect(b.nextDelay).toBeGreaterThan(0);
      expect(b.nextDelay).toBeLessThan(5);
      b.after(2);
      expect(total(b.seen)).toBeGreaterThan(before);
      expect(total(b.seen) - before).toBeLessThanOrEqual(WINDOW_INITIAL / 8);
    }
    expect(b.nowMs - begun).toBeGreaterThan(RTT_MS / 4);
    expect(b.nowMs - begun).toBeLessThanOrEqual(RTT_MS / 2 + 4);
    let next = 1;
    for (const s of b.seen) {
      expect(s.seq).toBe(next);
      expect(s.bytes.equals(all.subarray(next - 1, next - 1 + s.bytes.length))).toBe(true);
      next += s.bytes.length;
    }
    expect(next - 1).toBe(WINDOW_INITIAL);
    b.seen.length = 0;
    b.after(20);
    b.expectNothing();
  });
  test('a guest right at the tap is sent everything at once', () => {
    const b = behind(0, world);
    b.peerSends(all);
    b.expectData(1, all.subarray(0, WINDOW_INITIAL));
    expect(marks(b)).toEqual([]);
  });
  test('a flow that ends while it waits leaves nothing behind', () => {
    const b = behind(RTT_MS, world);
    b.peerSends(all);
    b.guestSends({ flags: 'R', seq: 1 });
    b.seen.length = 0;
    b.expectGivenBack();
  });
  test('the socket is given room for what may be under way, and the mark is taken back', () => {
    const b = behind(RTT_MS, world);
    b.peerSends(all);
    const asked = marks(b);
    expect(asked).toEqual([2 * WINDOW_INITIAL, 1]);
    b.after(RTT_MS);
    b.seen.length = 0;
    b.guestSends({ ack: 1 + WINDOW_INITIAL });
    expect(marks(b)).toEqual([...asked, 4 * WINDOW_INITIAL, 1]);
    b.after(RTT_MS);
    b.seen.length = 0;
  });
});
