// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const wheel = await import('./wheel.ts');
type Flow = import('./table.ts').Flow;

const flow = (n: number): Flow => n as Flow;
const fired: number[] = [];
const start = (nowMs: number, onExpire: (f: Flow) => void = (f) => fired.push(f)): void => wheel.start(nowMs, onExpire);
const armed = new Set<number>();
afterEach(() => {
  fake.setNow(0);
  for (const n of armed) wheel.disarm(flow(n));
  armed.clear();
  fired.length = 0;
});
const arm = (n: number, deadline: number): void => {
  armed.add(n);
  wheel.arm(flow(n), deadline);
};
/** Width of the slot that a delay is rounded up to. */
const slotWidth = (delay: number): number => {
  let width = 1;
  while (delay >= 63 * width && width < 8 ** 7) width *= 8;
  return width;
};

describe('timing wheel', () => {
  test('nothing armed: nothing to wait for', () => {
    start(1000);
    expect(wheel.nextDelay(1000)).toBe(-1);
  });

  test('a near deadline is met to the millisecond, never early', () => {
    start(1000);
    wheel.expire(1000);
    arm(1, 1040);
    expect(wheel.nextDelay(1000.25)).toBeCloseTo(39.75);
    wheel.expire(1039.9);
    expect(fired).toEqual([]);
    wheel.expire(1040);
    expect(fired).toEqual([1]);
    expect(wheel.isArmed(flow(1))).toBe(false);
    expect(wheel.nextDelay(1040)).toBe(-1);
  });

  test('a turn that is late: what is armed again there waits, however its deadline falls on the slots', () => {
    for (const delay of [62, 500, 4000, 4031, 32_000, 250_000])
      for (let late = 0; late <= 600; late += 7) {
        let calls = 0;
        start(0, (f) => {
          if (++calls < 10) arm(f, fake.nowMs() + delay);
        });
        fake.setNow(0);
        arm(1, slotWidth(delay));
        fake.setNow(slotWidth(delay) + late);
        wheel.expire(slotWidth(delay) + late);
        expect([delay, late, calls]).toEqual([delay, late, 1]);
        wheel.disarm(flow(1));
      }
  });

  test('those that are served together may arm and disarm each other', () => {
    const base = 2 ** 31 - 3000; // the clock's int32 wraps here
    start(base, (f) => {
      fired.push(f);
      if (f !== 3) return;
      wheel.disarm(flow(2));
      wheel.arm(flow(1), fake.nowMs() + 4000);
      wheel.arm(flow(3), fake.nowMs() + 1);
    });
    fake.setNow(base);
    for (const n of [1, 2, 3]) arm(n, base + 64);
    fake.setNow(base + 164); // flow 1 falls into the slot that is being served, one round later
    wheel.expire(base + 164);
    expect([...fired, [1, 2, 3].map((n) => wheel.isArmed(flow(n)))]).toEqual([3, [true, false, true]]);
    expect(wheel.nextDelay(base + 164)).toBeLessThanOrEqual(2);
    wheel.disarm(flow(3));
    expect(wheel.nextDelay(base + 164)).toBeGreaterThanOrEqual(4000);
    expect(wheel.nextDelay(base + 164)).toBeLessThanOrEqual(4000 + 64);
  });

  test('a thousand deadlines within a second, two minutes ahead, share at most two wake-ups', () => {
    start(5);
    for (let i = 0; i < 1000; i++) arm(i, 120_000 + i);
    let wakeups = 0;
    let now = 5;
    for (let d = wheel.nextDelay(now); d >= 0; d = wheel.nextDelay(now)) {
      now += d;
      wheel.expire(now);
      wakeups++;
    }
    expect(fired.length).toBe(1000);
    expect(wakeups).toBeLessThanOrEqual(2);
  });

  test('a short delay stays precise after a long sleep, with and without others armed', () => {
    for (const others of [false, true]) {
      start(0);
      wheel.expire(0);
      if (others) arm(2, 3_600_000);
      fake.setNow(100_000);
      arm(1, 101_000);
      expect(wheel.nextDelay(100_000)).toBeGreaterThanOrEqual(1000);
      expect(wheel.nextDelay(100_000)).toBeLessThan(1064);
      wheel.disarm(flow(1));
    }
  });

  test('a disarmed flow wakes nobody', () => {
    start(0);
    arm(1, 50);
    arm(2, 900);
    wheel.disarm(flow(1));
    expect(wheel.nextDelay(0)).toBeGreaterThanOrEqual(900);
    wheel.disarm(flow(2));
    expect(wheel.nextDelay(0)).toBe(-1);
  });

  test('a callback may arm again, in the past too, and is called once a round', () => {
    const seen: number[] = [];
    let now = 100;
    start(100, (f) => {
      seen.push(now);
      if (seen.length < 3) wheel.arm(f, now - 50);
    });
    wheel.expire(100);
    arm(7, 101);
    for (now = 101; now < 110; now++) wheel.expire(now);
    expect(seen).toEqual([101, 102, 103]);
  });

  test('a callback may disarm others that are due at the same moment', () => {
    const seen: number[] = [];
    start(0, (f) => {
      seen.push(f);
      for (const n of [1, 2, 3]) wheel.disarm(flow(n));
    });
    for (const n of [1, 2, 3]) arm(n, 10);
    wheel.expire(11);
    expect(seen.length).toBe(1);
  });

  test('a deadline beyond the wheel comes early enough for its owner to arm again', () => {
    start(0);
    wheel.expire(0);
    arm(1, 2 ** 30);
    expect(wheel.nextDelay(0)).toBeGreaterThan(wheel.DELAY_MS_MAX - 8 ** 7);
    expect(wheel.nextDelay(0)).toBeLessThanOrEqual(wheel.DELAY_MS_MAX + 8 ** 7);
  });

  /**
   * The model: a Map from flow to deadline. Every flow fires at the first turn at or after its deadline plus less
   * than one slot width, never before its deadline; and the wheel never asks to be woken when nothing is due.
   */
  const step = fc.oneof(
    fc.record({
      op: fc.constant('arm' as const),
      n: fc.nat(20),
      delay: fc.oneof(fc.nat(70), fc.nat(5000), fc.nat(4_000_000)),
    }),
    fc.record({ op: fc.constant('disarm' as const), n: fc.nat(20), delay: fc.constant(0) }),
    fc.record({
      op: fc.constant('sleep' as const),
      n: fc.constant(0),
      delay: fc.oneof(fc.nat(70), fc.nat(5000), fc.nat(4_000_000)),
    }),
  );
  test.each([
    ['from zero', 0],
    ['across the wrap of int32', 2 ** 31 - 3000],
    ['across the wrap of uint32', 2 ** 32 - 3000],
  ])('equals the model, %s', (_name, origin) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const model = new Map<number, { earliest: number; latest: number }>();
        let now = origin;
        start(now, (f) => {
          const m = model.get(f);
          expect(m).toBeDefined();
          expect(now).toBeGreaterThanOrEqual(m?.earliest ?? Infinity);
          expect(now).toBeLessThanOrEqual(m?.latest ?? -Infinity);
          model.delete(f);
        });
        wheel.expire(now);
        /** Runs the loop as the app does, waking only when the wheel asks for it, until `until`. */
        const run = (until: number): void => {
          for (;;) {
            const d = wheel.nextDelay(now);
            expect(d === -1).toBe(model.size === 0);
            if (d < 0 || now + d > until) break;
            const before = model.size;
            now += d;
            wheel.expire(now);
            expect(model.size).toBeLessThan(before);
          }
          now = until;
          wheel.expire(now);
        };
        for (const s of steps) {
          fake.setNow(now);
          if (s.op === 'arm') {
            arm(s.n, now + s.delay);
            // The wheel's clock is one millisecond ahead of a turn that was served.
            model.set(s.n, { earliest: now + s.delay, latest: now + Math.max(s.delay, 1) + slotWidth(s.delay) - 1 });
          } else if (s.op === 'disarm') {
            wheel.disarm(flow(s.n));
            model.delete(s.n);
          } else {
            run(now + s.delay);
          }
        }
        run(now + 8_000_000);
        expect(model.size).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
