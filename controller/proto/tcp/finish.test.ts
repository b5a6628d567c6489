// SPDX-License-Identifier: Apache-2.0
/** How the turns are shared among flows that have much to send, beside one that always has a little. */
import { beforeEach, expect, test, vi } from 'vitest';
import type { Flow } from '../../flow/table.ts';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));

const [A, B, SMALL] = [1, 2, 3] as Flow[] as [Flow, Flow, Flow];
const BURST_BYTES = 512 * 1024;
const sent = new Map<Flow, number>();
/** What sendData does; set when the modules are there. */
let send: (f: Flow) => number = () => 0;
vi.mock('./to-tap.ts', async (original) => ({
  ...(await original<typeof import('./to-tap.ts')>()),
  discardAcknowledged: () => 0,
  sendAck: () => {},
  sendData: (f: Flow) => send(f),
}));

const conn = await import('./conn.ts');
const { finishReady, touch } = await import('./close.ts');
const finish = await import('./finish.ts');
const { MORE, WINDOW_FULL } = await import('./to-tap.ts');

beforeEach(() => {
  sent.clear();
  for (const f of [A, B, SMALL]) {
    conn.reset(f);
    conn.add(f, conn.ESTABLISHED | conn.READABLE);
  }
  finishReady(
    () => {},
    () => false,
  );
  send = (f) => {
    const bytes = f === SMALL ? 100 : BURST_BYTES;
    sent.set(f, (sent.get(f) ?? 0) + bytes);
    conn.setSeqToTap(f, (conn.seqToTap(f) + bytes) | 0);
    return f === SMALL ? WINDOW_FULL : MORE;
  };
});

test.each([
  ['nobody', false],
  ['a flow that sends a little each turn', true],
])('two transfers share the turns, beside %s', (_name, small) => {
  touch(A);
  touch(B);
  for (let i = 0; i < 1000; i++) {
    finish.serveReady();
    if (small) touch(SMALL);
    finish.endBatch();
  }
  const [a, b] = [sent.get(A) ?? 0, sent.get(B) ?? 0];
  expect(a + b).toBeGreaterThan(900 * BURST_BYTES);
  // One run of turns more or less.
  expect(Math.abs(a - b)).toBeLessThanOrEqual(2 * 4 * 1024 * 1024);
  if (small) expect(sent.get(SMALL)).toBe(1000 * 100);
});
