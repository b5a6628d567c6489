// SPDX-License-Identifier: Apache-2.0
/**
 * Counts what code does to its columns: every read and write of an element of a typed array that a module of controller/ makes
 * while it is loaded. A count does not depend on the machine, as a time does. To be imported before anything of controller/.
 */
import { vi } from 'vitest';

const ARRAYS = ['Int8Array', 'Uint8Array', 'Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array'] as const;
const FLOATS = ['Float32Array', 'Float64Array'] as const;
type Column = Int32Array | Uint8Array | Float64Array;

export interface Made {
  /** Below controller/. */
  readonly file: string;
  readonly elements: number;
  readonly bytes: number;
}
export const made: Made[] = [];
/** Accesses by file. */
const accesses = new Map<string, { n: number }>();

const watched = (column: Column, counter: { n: number }): Column =>
  new Proxy(column, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value === 'function') return value.bind(target);
      if (typeof value === 'number' && key !== 'length') counter.n++;
      return value;
    },
    set: (target, key, value) => {
      counter.n++;
      return Reflect.set(target, key, value, target);
    },
  });

/** From now on. */
export const watch = (): void => {
  for (const name of [...ARRAYS, ...FLOATS]) {
    const original = globalThis[name] as new (n: number) => Column;
    vi.stubGlobal(
      name,
      new Proxy(original, {
        construct: (target, args, newTarget): Column => {
          const column = Reflect.construct(target, args, newTarget) as Column;
          const file = /controller\/(\S+\.ts):\d/.exec(new Error().stack ?? '')?.[1];
          if (file === undefined || typeof args[0] !== 'number') return column;
          made.push({ file, elements: column.length, bytes: column.byteLength });
          const counter = accesses.get(file) ?? { n: 0 };
          accesses.set(file, counter);
          return watched(column, counter);
        },
      }),
    );
  }
};
/** Later arrays are not counted; those that are there go on. */
export const unwatch = (): void => {
  vi.unstubAllGlobals();
};

/** Accesses that `work` makes, to columns of files that `concerns` names. */
export const count = (work: () => void, concerns: (file: string) => boolean = () => true): number => {
  const total = (): number => {
    let sum = 0;
    for (const [file, { n }] of accesses) if (concerns(file)) sum += n;
    return sum;
  };
  const before = total();
  work();
  return total() - before;
};
