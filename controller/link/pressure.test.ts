// SPDX-License-Identifier: Apache-2.0
/** A flood of costly frames is cut; who is not behind serves everything. */
import { beforeEach, describe, expect, it } from 'vitest';
import * as pressure from './pressure.ts';

const FULL = 64;
const served = (frames: number): number => {
  let n = 0;
  for (let i = 0; i < frames; i++) if (pressure.mayServe()) n++;
  return n;
};

beforeEach(() => pressure.batch(0, false));

describe('costly frames', () => {
  it('are all served as long as the tap runs empty now and then', () => {
    for (let i = 0; i < 100; i++) {
      for (let k = 0; k < 10; k++) {
        pressure.batch(FULL, true);
        expect(served(FULL)).toBe(FULL);
      }
      pressure.batch(FULL - 1, false);
      expect(served(FULL - 1)).toBe(FULL - 1);
    }
  });
  it('are cut to a part of each batch once batch after batch came full, and free again when the tap was empty', () => {
    for (let i = 0; i < 15; i++) pressure.batch(FULL, true);
    expect(served(FULL)).toBe(FULL);
    for (let i = 0; i < 3; i++) {
      pressure.batch(FULL, true);
      expect(served(FULL)).toBe(2);
    }
    pressure.batch(3, false);
    expect(served(FULL)).toBe(FULL);
  });
});
