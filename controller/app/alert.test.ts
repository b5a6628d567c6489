// SPDX-License-Identifier: Apache-2.0
/** When the loop looks for events before it sleeps: only between small turns in quick succession. */
import { beforeEach, expect, test } from 'vitest';
import * as io from '../io/io.ts';
import * as alert from './alert.ts';

const clock = new Float64Array(io.native.clock);
let now = 1000;
/** A turn of `busy` ms, then a wait of `wait` ms. */
const turn = (busy: number, wait: number): void => {
  clock[1] = now + busy;
  now += busy + wait;
  clock[0] = now;
  alert.waited();
};

beforeEach(() => {
  alert.configure(2);
  turn(1, 1000);
});

test('between a request and its answer it looks', () => {
  turn(0.02, 0.06);
  expect(alert.lookMs()).toBe(alert.LOOK_MS);
});

test('after a wait that was long it sleeps at once, and goes on so until one is short', () => {
  turn(0.02, 0.06);
  turn(0.02, 0.3);
  expect(alert.lookMs()).toBe(0);
  turn(0.02, 200);
  expect(alert.lookMs()).toBe(0);
  turn(0.02, 0.06);
  expect(alert.lookMs()).toBe(alert.LOOK_MS);
});

test('looking in vain makes it sleep for a while, longer each time, until looking pays again', () => {
  /** Waits until it looks again, all of them short. */
  const slept = (): number => {
    let n = 0;
    while (alert.lookMs() === 0) {
      turn(0.02, 0.06);
      n++;
    }
    return n;
  };
  turn(0.02, 0.06);
  expect(slept()).toBe(0);
  turn(0.02, 0.07);
  const first = slept();
  expect(first).toBeGreaterThan(1);
  turn(0.02, 0.07);
  expect(slept()).toBe(2 * first);
  turn(0.02, 0.02);
  expect(slept()).toBe(0);
  turn(0.02, 0.07);
  expect(slept()).toBe(first);
});

test('between turns that moved much it sleeps', () => {
  turn(0.3, 0.01);
  expect(alert.lookMs()).toBe(0);
});

test('it sleeps before its first event, and always on a single processor', () => {
  alert.configure(2);
  expect(alert.lookMs()).toBe(0);
  alert.configure(1);
  turn(0.02, 0.06);
  turn(0.02, 0.06);
  expect(alert.lookMs()).toBe(0);
});
