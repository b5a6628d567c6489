// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const io = await import('../io/io.ts');
const pending = await import('./pending.ts');
type Flow = import('./table.ts').Flow;

const used = new Set<number>();
const add = (n: number, bytes: Uint8Array, segment = 0): boolean => {
  used.add(n);
  io.mem.set(bytes, io.RX_AT);
  return pending.add(n as Flow, io.RX_AT, bytes.length, segment, 64, 0);
};
const contents = (n: number): string[] => {
  const out: string[] = [];
  for (let e = pending.first(n as Flow); e >= 0; e = pending.next(e)) {
    const at = pending.atOf(e);
    expect(at).toBeGreaterThanOrEqual(io.PENDING_AT);
    expect(at + pending.lenOf(e)).toBeLessThanOrEqual(io.PENDING_END);
    out.push(Buffer.from(io.mem.slice(at, at + pending.lenOf(e))).toString('hex'));
  }
  return out;
};
afterEach(() => {
  for (const n of used) pending.clear(n as Flow);
  used.clear();
  expect(pending.size()).toBe(0);
});

describe('datagrams that wait for a socket', () => {
  test('come back as they were, in order, with what was noted', () => {
    add(1, Buffer.from('a'), 7);
    add(2, Buffer.from('b'));
    add(1, Buffer.from('cc'));
    expect(contents(1)).toEqual(['61', '6363']);
    expect(contents(2)).toEqual(['62']);
    expect([pending.segmentOf(pending.first(1 as Flow)), pending.hopLimitOf(pending.first(1 as Flow))]).toEqual([
      7, 64,
    ]);
  });

  test('one flow cannot take everything', () => {
    let n = 0;
    while (add(1, new Uint8Array(100))) n++;
    expect(n).toBe(32);
    let large = 0;
    while (add(2, new Uint8Array(60_000))) large++;
    expect(large).toBe(2);
    expect(add(3, new Uint8Array(60_000))).toBe(true);
  });

  test('a full ring refuses, and takes again when its oldest flow is served', () => {
    let n = 0;
    while (add(n, new Uint8Array(65_000))) n++;
    expect(n).toBeGreaterThanOrEqual(7);
    pending.clear(0 as Flow);
    expect(add(0, new Uint8Array(64_000))).toBe(true);
  });

  test('equals a model: nothing kept is ever overwritten', () => {
    const len = fc.oneof(
      fc.nat(1500),
      fc.integer({ min: 20_000, max: 65_000 }),
      fc.integer({ min: 20_000, max: 65_000 }),
    );
    const step = fc.record({ n: fc.nat(9), clear: fc.nat(3).map((k) => k === 0), len });
    let serial = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 100, maxLength: 150 }), (steps) => {
        const model = new Map<number, string[]>();
        for (const s of steps) {
          if (s.clear) {
            pending.clear(s.n as Flow);
            model.delete(s.n);
          } else {
            const bytes = new Uint8Array(s.len).fill(serial++ & 0xff);
            if (add(s.n, bytes)) {
              model.set(s.n, [...(model.get(s.n) ?? []), Buffer.from(bytes).toString('hex')]);
            }
          }
        }
        for (let n = 0; n < 10; n++) {
          expect(contents(n).join() === (model.get(n) ?? []).join()).toBe(true);
          pending.clear(n as Flow);
        }
      }),
      { numRuns: 200 },
    );
  });
});
