// SPDX-License-Identifier: Apache-2.0
/** Which ACKs wait a moment, and that none waits longer. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { Flow } from '../../flow/table.ts';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
let queued = 0;
vi.mock('./out-of-order.ts', async (original) => ({
  ...(await original<typeof import('./out-of-order.ts')>()),
  bytes: () => queued,
}));
const fake = await import('../../../test/support/fake-io.ts');
const conn = await import('./conn.ts');
const lateAck = await import('./late-ack.ts');

const [A, B] = [1, 2] as Flow[] as [Flow, Flow];
const MSS = 1460;
const SEQ = -1000;
const served = (): Flow[] => {
  const list: Flow[] = [];
  lateAck.serve((f) => list.push(f));
  return list;
};
/** `bytes` came that the guest has not been told of. */
const came = (f: Flow, bytes: number): void => conn.setSeqFromTap(f, (conn.seqFromTap(f) + bytes) | 0);

beforeEach(() => {
  fake.setNow(1000);
  queued = 0;
  lateAck.configure(true);
  for (const f of [A, B]) {
    conn.reset(f);
    conn.setSeqFromTap(f, SEQ);
    conn.setEdgeToTap(f, SEQ + 256 * 1024);
    lateAck.told(f, SEQ);
  }
});

describe('the ACK', () => {
  test('of one segment waits half a millisecond, and no longer', () => {
    came(A, MSS);
    expect(lateAck.waits(A, MSS)).toBe(true);
    expect(lateAck.nextDelay(1000)).toBe(0.5);
    expect(served()).toEqual([]);
    fake.setNow(1000.4);
    came(B, 10);
    expect(lateAck.waits(B, MSS)).toBe(true);
    expect(lateAck.nextDelay(1000.4)).toBeCloseTo(0.1);
    fake.setNow(1000.5);
    expect(served()).toEqual([A, B]);
    for (const f of [A, B]) expect(lateAck.waits(f, MSS)).toBe(false);
    expect(lateAck.nextDelay(1000.5)).toBe(-1);
    lateAck.told(A, SEQ + MSS);
    came(A, 1);
    expect(lateAck.waits(A, MSS)).toBe(true);
  });

  test('of two goes at once', () => {
    came(A, MSS);
    expect(lateAck.waits(A, MSS)).toBe(true);
    came(A, MSS);
    expect(lateAck.waits(A, MSS)).toBe(false);
  });

  test('that went with an answer is not sent again', () => {
    came(A, 100);
    expect(lateAck.waits(A, MSS)).toBe(true);
    lateAck.told(A, SEQ + 100);
    fake.setNow(2000);
    expect(served()).toEqual([]);
  });

  test('of a flow that ended, and its row began another, is not the new one’s', () => {
    came(A, 100);
    expect(lateAck.waits(A, MSS)).toBe(true);
    lateAck.forget(A);
    fake.setNow(2000);
    expect(served()).toEqual([]);
  });

  test.each([
    ['nothing new', () => {}],
    [
      'a hole',
      () => {
        came(A, 100);
        queued = 1;
      },
    ],
    [
      'the end',
      () => {
        came(A, 100);
        conn.add(A, conn.TAP_FIN_RCVD);
      },
    ],
    [
      'a window nearly used up',
      () => {
        came(A, 100);
        conn.setEdgeToTap(A, conn.seqFromTap(A) + 700);
      },
    ],
  ])('of %s goes at once', (_what, happens) => {
    happens();
    expect(lateAck.waits(A, MSS)).toBe(false);
    expect(lateAck.nextDelay(1000)).toBe(-1);
  });

  test('goes at once where frames come in batches, as on a tap', () => {
    lateAck.configure(false);
    came(A, 100);
    expect(lateAck.waits(A, MSS)).toBe(false);
  });
});
