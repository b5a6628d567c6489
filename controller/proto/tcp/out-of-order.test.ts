// SPDX-License-Identifier: Apache-2.0
/** Data of the guest that comes before what belongs in front of it, and what we tell about it (RFC 2018, RFC 2883). */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const outOfOrder = await import('./out-of-order.ts');
const { dropCount } = await import('../../obs/drops.ts');

let b: InstanceType<typeof t.Bench>;
const syn = { flags: 'S', seq: 0, options: [...t.optionMss(t.MSS), ...t.optionScale(7), ...t.SACK_PERMITTED] };

describe.each(t.WORLDS)('out of order ($name)', (world) => {
  beforeEach(() => {
    b = t.begin(world).established({}, syn);
  });
  afterEach(t.finish);

  test('is permitted only to a guest that permits it', () => {
    b = t.begin(world);
    b.opening(syn);
    b.peer((s) => s.connected());
    expect(b.expectToGuest({ flags: 'SA' })[0]?.sackPermitted).toBe(true);
    b.guestSends({});
    b = t.begin(world).established();
    b.guestSends({ seq: 5, data: 'late' });
    expect(b.expectToGuest({ ack: 1 })[0]?.sack).toEqual([]);
  });
  test('is told, the newest first, and taken when the hole is filled', () => {
    b.guestSends({ seq: 11, data: 'ccccc' });
    b.expectToGuest({ ack: 1, sack: [[11, 16]] });
    b.guestSends({ seq: 21, data: 'eeeee' });
    b.expectToGuest({
      ack: 1,
      sack: [
        [21, 26],
        [11, 16],
      ],
    });
    b.guestSends({ seq: 16, data: 'ddddd' });
    b.expectToGuest({ ack: 1, sack: [[11, 26]] });
    b.guestSends({ seq: 6, data: 'bbbbb' });
    b.expectToGuest({ ack: 1, sack: [[6, 26]] });
    b.expectToSocket('');
    b.guestSends({ data: 'aaaaa' });
    b.expectToGuest({ ack: 26, sack: [] });
    b.expectToSocket('aaaaabbbbbcccccdddddeeeee');
    expect(outOfOrder.chunksInUse()).toBe(0);
  });
  test('in more ranges than fit is told in three, those before the newest', () => {
    for (let i = 1; i <= 6; i++) b.guestSends({ seq: 1 + 10 * i, data: 'x' });
    expect(b.seen.splice(0).at(-1)?.sack).toEqual([
      [61, 62],
      [51, 52],
      [41, 42],
    ]);
  });
  test('in one row, from the fourth segment of a batch on, is told once', () => {
    const row = (from: number, n: number) =>
      Array.from({ length: n }, (_, i) => ({ seq: from + 5 * i, data: 'abcde' }));
    // Three duplicate ACKs at once, for senders that count them; the rest of the batch by one.
    b.guestSends(...row(11, 20));
    const told = (to: number) => ({ ack: 1, sack: [[11, to]] as [number, number][] });
    b.expectToGuest(told(16), told(21), told(26), told(111));
    b.guestSends(...row(111, 20));
    b.expectToGuest(told(211));
    // A new hole, and one that becomes smaller from behind, are news of their own.
    b.guestSends(...row(221, 3), ...row(6, 1), ...row(236, 2));
    b.expectToGuest(
      { ack: 1, sack: [[221, 226], [11, 211]] }, // biome-ignore format: a row each
      { ack: 1, sack: [[6, 211]] },
      { ack: 1, sack: [[221, 246], [6, 211]] }, // biome-ignore format: a row each
    );
    b.guestSends({ data: 'first' });
    b.expectToGuest({ ack: 211, sack: [[221, 246]] });
    b.seen.length = 0;
  });
  test('to a guest that permits no SACK every segment is answered', () => {
    b = t.begin(world).established();
    b.guestSends(...Array.from({ length: 10 }, (_, i) => ({ seq: 11 + 5 * i, data: 'abcde' })));
    b.expectToGuest(...Array.from({ length: 10 }, () => ({ ack: 1, sack: [] })));
  });
  test('is told though data goes to the guest in the same batch', () => {
    b.guestSends(...[11, 16, 21].map((seq) => ({ seq, data: 'abcde' })));
    b.seen.length = 0;
    b.turn(() => {
      b.socket.receives(Buffer.from('answer'));
      b.guestSends({ seq: 26, data: 'abcde' }, { seq: 31, data: 'abcde' });
    });
    const seen = b.seen.splice(0);
    expect(seen.map((s) => s.data.toString()).join('')).toBe('answer');
    expect(seen.at(-1)?.sack).toEqual([[11, 36]]);
  });
  test('the first copy of a byte counts', () => {
    b.guestSends({ seq: 4, data: 'def' }, { seq: 3, data: 'XXXXXg' }, { data: 'abc' });
    b.seen.length = 0;
    // Of the second copy only what was not there: one byte before, two behind.
    b.expectToSocket('abcdefXg');
  });
  test('what comes twice is told once (RFC 2883 §4)', () => {
    b.guestSends({ data: 'abc' });
    b.expectToGuest({ ack: 4, sack: [] });
    b.guestSends({ data: 'abc' });
    b.expectToGuest({ ack: 4, sack: [[1, 4]] });
    b.guestSends({ seq: 7, data: 'ghi' });
    b.expectToGuest({ ack: 4, sack: [[7, 10]] });
    b.guestSends({ seq: 7, data: 'ghi' });
    b.expectToGuest({
      ack: 4,
      sack: [
        [7, 10],
        [7, 10],
      ],
    });
  });
  test('beyond the window is cut and counted', () => {
    b.socket.room = 0;
    b.guestSends({ data: 'x' });
    const ack = b.expectToGuest({ ack: 2 })[0];
    const edge = 2 + b.expectWindow(ack);
    const before = dropCount('tcp-out-of-window');
    b.guestSends({ seq: edge - 3, data: 'abcdef' }, { seq: edge, data: 'beyond' });
    b.expectToGuest({ ack: 2, sack: [[edge - 3, edge]] }, { ack: 2, sack: [[edge - 3, edge]] });
    expect(dropCount('tcp-out-of-window')).toBe(before + 2);
  });
  test('goes with the flow', () => {
    b.guestSends({ seq: 50_000, data: t.numbered(30_000) });
    b.expectToGuest({ ack: 1 });
    expect(outOfOrder.chunksInUse()).toBeGreaterThan(2);
    b.guestSends({ flags: 'R' });
    b.expectGivenBack();
  });
  test('that the socket refuses is kept for it, as all data is', () => {
    b.guestSends({ seq: 1001, data: t.numbered(3000, 1000) });
    b.expectToGuest({ ack: 1 });
    b.socket.room = 500;
    b.guestSends({ data: t.numbered(1000) });
    b.expectToGuest({ ack: 4001 });
    b.peer((s) => s.gainsRoom(10_000));
    b.expectToSocket(t.numbered(4000));
    b.seen.length = 0;
  });
  test('across the wrap of sequence numbers and of chunks', () => {
    b = t.begin({ ...world, guestIsn: -20_000 }).established({}, syn);
    const all = t.numbered(60_000);
    const parts = Array.from({ length: 60 }, (_, i) => 59 - i);
    for (const i of parts) b.guestSends({ seq: 1 + i * 1000, data: all.subarray(i * 1000, (i + 1) * 1000) });
    expect(b.seen.splice(0).at(-1)).toMatchObject({ ack: 60_001, sack: [] });
    b.expectToSocket(all);
  });
});

describe('memory', () => {
  afterEach(t.finish);
  test('is bounded; a flow with little gets some of one with much, and the stream in order needs none', () => {
    const [world] = t.WORLDS as [(typeof t.WORLDS)[0]];
    b = t.begin(world);
    const flows = 40;
    const ports = Array.from({ length: flows }, (_, i) => 5000 + i);
    const isns = ports.map((srcPort) => {
      const socket = b.opening({ ...syn, srcPort });
      b.peer((s) => s.connected(), socket);
      const isn = b.expectToGuest({ flags: 'SA', dstPort: srcPort })[0]?.seq ?? 0;
      b.guestSends({ srcPort, ack: isn + 1 });
      return isn + 1;
    });
    const refused = dropCount('tcp-queue-full');
    // One byte in every other chunk: as much memory for as little data as possible.
    const most = Math.floor(4_000_000 / (2 * outOfOrder.CHUNK_BYTES));
    ports.forEach((srcPort, i) => {
      for (let n = 1; n < most; n++)
        b.guestSends({ srcPort, seq: n * 2 * outOfOrder.CHUNK_BYTES, ack: isns[i] as number, data: 'x' });
      b.seen.length = 0;
    });
    expect(outOfOrder.chunksInUse()).toBeLessThanOrEqual(outOfOrder.CHUNKS);
    expect(dropCount('tcp-queue-full')).toBeGreaterThan(refused);
    const late = b.opening({ ...syn, srcPort: 6000 });
    b.peer((s) => s.connected(), late);
    const isn = b.expectToGuest({ flags: 'SA' })[0]?.seq ?? 0;
    b.guestSends({ srcPort: 6000, ack: isn + 1 });
    b.guestSends({ srcPort: 6000, ack: isn + 1, seq: 6, data: 'later' });
    expect(b.expectToGuest({ dstPort: 6000 })[0]?.sack).toEqual([[6, 11]]);
    b.guestSends({ srcPort: 6000, ack: isn + 1, data: 'first' });
    b.expectToGuest({ ack: 11, dstPort: 6000 });
    b.expectToSocket('firstlater', late);
  });
});
