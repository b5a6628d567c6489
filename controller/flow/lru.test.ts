// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const lru = await import('./lru.ts');
const { NO_FLOW } = await import('./table.ts');
type Flow = import('./table.ts').Flow;

test('equals a list in order of use, over any sequence of additions, uses and removals in two classes', () => {
  const step = fc.tuple(fc.constantFrom('use', 'remove'), fc.nat(12), fc.constantFrom(lru.LRU_UDP, lru.LRU_DNS));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
      const lists = new Map<number, number[]>([
        [lru.LRU_UDP, []],
        [lru.LRU_DNS, []],
      ]);
      const listOf = (n: number): number[] | undefined => [...lists.values()].find((l) => l.includes(n));
      for (const [op, n, cls] of steps) {
        const f = n as Flow;
        const list = listOf(n);
        if (op === 'remove') {
          lru.remove(f);
          list?.splice(list.indexOf(n), 1);
        } else if (list === undefined) {
          lru.add(cls, f);
          lists.get(cls)?.push(n);
        } else {
          lru.touch(f);
          list.push(...list.splice(list.indexOf(n), 1));
        }
        for (const [c, l] of lists) {
          expect(lru.oldest(c)).toBe(l[0] ?? NO_FLOW);
          expect(lru.size(c)).toBe(l.length);
        }
      }
      for (const [c, l] of lists) {
        for (const n of l) {
          expect(lru.oldest(c)).toBe(n);
          lru.remove(n as Flow);
        }
      }
    }),
  );
});

test('a class is full at its cap, and has room again when its oldest has gone', () => {
  lru.setCap(lru.LRU_PING, 2);
  lru.add(lru.LRU_PING, 100 as Flow);
  expect(lru.isFull(lru.LRU_PING)).toBe(false);
  lru.add(lru.LRU_PING, 101 as Flow);
  expect(lru.isFull(lru.LRU_PING)).toBe(true);
  expect(lru.oldest(lru.LRU_PING)).toBe(100);
  lru.remove(100 as Flow);
  expect(lru.isFull(lru.LRU_PING)).toBe(false);
  lru.remove(101 as Flow);
});
