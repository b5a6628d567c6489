// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as seq from './seq.ts';

const int32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const gap = fc.integer({ min: 1, max: 0x7fffffff });

describe('sequence numbers (RFC 9293 §3.4)', () => {
  test('the number after 2^32 - 1 is 0, and later than it', () => {
    expect(seq.add(-1, 1)).toBe(0);
    expect(seq.after(0, -1)).toBe(true);
    expect(seq.diff(0, -1)).toBe(1);
  });

  test('order holds anywhere on the circle for gaps below 2^31', () => {
    fc.assert(
      fc.property(int32, gap, (a, n) => {
        const b = seq.add(a, n);
        expect(seq.diff(b, a)).toBe(n);
        expect([seq.before(a, b), seq.after(a, b), seq.beforeOrAt(a, b), seq.afterOrAt(a, b)]).toEqual([
          true,
          false,
          true,
          false,
        ]);
        expect([seq.max(a, b), seq.max(b, a), seq.min(a, b), seq.min(b, a)]).toEqual([b, b, a, a]);
      }),
    );
  });

  test('a number is neither before nor after itself', () => {
    fc.assert(
      fc.property(int32, (a) => {
        expect([seq.before(a, a), seq.after(a, a), seq.beforeOrAt(a, a), seq.afterOrAt(a, a)]).toEqual([
          false,
          false,
          true,
          true,
        ]);
      }),
    );
  });

  test('a window holds its first byte and not the one after its last', () => {
    fc.assert(
      fc.property(int32, fc.integer({ min: 0, max: 0x7fffffff }), (start, size) => {
        expect(seq.within(start, start, size)).toBe(size > 0);
        expect(seq.within(seq.add(start, size), start, size)).toBe(false);
        expect(seq.within(seq.add(start, -1), start, size)).toBe(false);
        if (size > 0) expect(seq.within(seq.add(start, size - 1), start, size)).toBe(true);
      }),
    );
  });
});
