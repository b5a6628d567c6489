// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const io = await import('../io/io.ts');
const t = await import('./table.ts');
const hash = await import('./hash.ts');
const { end } = await import('./end.ts');
type Flow = import('./table.ts').Flow;

const live: Flow[] = [];
const alloc = (type: import('./table.ts').FlowType): Flow => {
  const f = t.alloc(type);
  if (f !== t.NO_FLOW) live.push(f);
  return f;
};
afterEach(() => {
  for (const f of live.splice(0)) {
    if (t.typeOf(f) !== t.FLOW_FREE) end(f);
  }
  t.endTurn();
});

describe('rows', () => {
  test('a new row is empty, has no descriptor and counts', () => {
    const f = alloc(t.FLOW_UDP);
    expect([t.fd(f), t.guestPort(f), t.remotePort(f), t.isV4(f), t.guestWord(f, 3)]).toEqual([-1, 0, 0, false, 0]);
    expect([t.count(t.FLOW_UDP), t.count(t.FLOW_TCP)]).toEqual([1, 0]);
    expect(t.typeOf(f)).toBe(t.FLOW_UDP);
  });

  test('a released row is named free at once, but reused only after the turn, with another generation', () => {
    const f = t.alloc(t.FLOW_TCP);
    t.setFd(f, 9);
    const g = t.generation(f);
    t.release(f);
    expect(t.typeOf(f)).toBe(t.FLOW_FREE);
    expect(t.count(t.FLOW_TCP)).toBe(0);
    expect(alloc(t.FLOW_TCP)).not.toBe(f);
    t.endTurn();
    expect(alloc(t.FLOW_UDP)).toBe(f);
    expect(t.generation(f)).not.toBe(g);
    expect(t.fd(f)).toBe(-1);
  });

  test('releasing twice is an error', () => {
    const f = t.alloc(t.FLOW_PING);
    t.release(f);
    expect(() => t.release(f)).toThrow(RangeError);
  });

  test('full means NO_FLOW, and one released row makes room for one', () => {
    const before = t.highWater();
    const rows: Flow[] = [];
    for (let f = t.alloc(t.FLOW_TCP); f !== t.NO_FLOW; f = t.alloc(t.FLOW_TCP)) rows.push(f);
    expect(rows.length).toBe(t.FLOW_MAX);
    expect(new Set(rows).size).toBe(t.FLOW_MAX);
    expect(t.highWater()).toBe(t.FLOW_MAX);
    expect(before).toBeLessThan(t.FLOW_MAX);
    t.release(rows[77] as Flow);
    expect(t.alloc(t.FLOW_TCP)).toBe(t.NO_FLOW);
    t.endTurn();
    expect(t.alloc(t.FLOW_TCP)).toBe(rows[77]);
    for (const f of rows) t.release(f);
    t.endTurn();
    expect(t.count(t.FLOW_TCP)).toBe(0);
  });

  test('ports up to 65535 come back as they went in', () => {
    const f = alloc(t.FLOW_UDP);
    t.setPorts(f, 65_535, 65_534);
    expect([t.guestPort(f), t.remotePort(f)]).toEqual([65_535, 65_534]);
  });
});

interface Tuple {
  type: import('./table.ts').FlowType;
  v4: boolean;
  addresses: Uint8Array;
  src: number;
  dst: number;
}
const tuple: fc.Arbitrary<Tuple> = fc.record({
  type: fc.constantFrom(t.FLOW_TCP, t.FLOW_UDP, t.FLOW_PING),
  v4: fc.boolean(),
  // Few different bytes, so that tuples often share addresses or are the same.
  addresses: fc.uint8Array({ minLength: 32, maxLength: 32, max: 1 }),
  src: fc.constantFrom(0, 1, 65_535),
  dst: fc.constantFrom(0, 53, 65_535),
});
/** Lays the addresses out as the header at 0 has them. */
const writeHeader = (p: Tuple): void => {
  if (p.v4) io.mem.set(p.addresses.subarray(0, 8), 12);
  else io.mem.set(p.addresses, 8);
};
const keyOf = (p: Tuple): string =>
  [p.type, p.v4, Buffer.from(p.addresses.subarray(0, p.v4 ? 8 : 32)).toString('hex'), p.src, p.dst].join();

describe('lookup', () => {
  test('equals a Map over any sequence of finds, inserts and removals', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(tuple, fc.boolean()), { maxLength: 80 }), (steps) => {
        const model = new Map<string, Flow>();
        for (const [p, removeIt] of steps) {
          writeHeader(p);
          const key = keyOf(p);
          const found = hash.findFromTap(p.type, p.v4, 0, p.src, p.dst);
          expect(found).toBe(model.get(key) ?? t.NO_FLOW);
          if (found === t.NO_FLOW) {
            const f = t.alloc(p.type);
            t.setTuple(f, p.v4, 0, p.src, p.dst);
            hash.insert(f);
            model.set(key, f);
          } else if (removeIt) {
            end(found);
            model.delete(key);
          }
        }
        for (const f of model.values()) end(f);
        t.endTurn();
      }),
    );
  });

  test('thousands of flows are found, and none after its removal', () => {
    const flows: Flow[] = [];
    for (let i = 0; i < 5000; i++) {
      const f = alloc(t.FLOW_UDP);
      t.setV4(f, true);
      t.setGuest(f, 0, 0, t.MAPPED_WORD, 0x0a000001);
      t.setRemote(f, 0, 0, t.MAPPED_WORD, i);
      t.setPorts(f, 40_000, 53);
      hash.insert(f);
      flows.push(f);
    }
    const lookup = (i: number): Flow =>
      hash.find(t.FLOW_UDP, 0, 0, t.MAPPED_WORD, 0x0a000001, 0, 0, t.MAPPED_WORD, i, (40_000 << 16) | 53);
    flows.forEach((f, i) => {
      expect(lookup(i)).toBe(f);
    });
    for (const f of flows) expect(hash.remove(f)).toBe(true);
    for (let i = 0; i < 5000; i++) expect(lookup(i)).toBe(t.NO_FLOW);
    expect(hash.remove(flows[0] as Flow)).toBe(false);
  });
});
