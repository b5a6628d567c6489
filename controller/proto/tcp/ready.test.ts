// SPDX-License-Identifier: Apache-2.0
/** The order in which flows that have more to send are served. */
import { beforeEach, expect, test, vi } from 'vitest';
import type { Flow } from '../../flow/table.ts';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));

const close = await import('./close.ts');
const conn = await import('./conn.ts');

const [A, B, C] = [1, 2, 3] as Flow[] as [Flow, Flow, Flow];
let served: Flow[] = [];
const serve = (most: number): Flow[] => {
  served = [];
  close.finishReady(
    (f) => served.push(f),
    () => served.length >= most,
  );
  return served;
};

beforeEach(() => {
  for (const f of [A, B, C]) conn.reset(f);
  serve(Number.POSITIVE_INFINITY);
});

test('who goes on is first, the others come in the order in which they were made ready', () => {
  close.makeReady(A, false);
  close.makeReady(B, false);
  close.makeReady(C, true);
  expect(serve(9)).toEqual([C, A, B]);
  expect(close.hasReady()).toBe(false);
});

test('whom a full turn leaves over is served before those that came later', () => {
  close.makeReady(A, false);
  close.makeReady(B, false);
  expect(serve(1)).toEqual([A]);
  close.makeReady(C, false);
  close.makeReady(A, false);
  expect(close.hasReady()).toBe(true);
  expect(serve(9)).toEqual([B, C, A]);
});

test('a flow is in the list once, and one that ended meanwhile is passed over', () => {
  close.makeReady(A, false);
  close.makeReady(A, true);
  close.makeReady(B, true);
  conn.clear(B, conn.READY);
  expect(serve(9)).toEqual([A]);
  expect(close.hasReady()).toBe(false);
});
