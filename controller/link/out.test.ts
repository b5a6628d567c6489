// SPDX-License-Identifier: Apache-2.0
/** What becomes of frames that the link has no room for: kept in their order, bounded, and offered again when it has. */
import fc from 'fast-check';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { Link } from './link.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));

const io = await import('../io/io.ts');
const out = await import('./out.ts');
const drops = await import('../obs/drops.ts');

const KEPT_BYTES = 2 * 1024 * 1024;
const KEPT_FRAMES = 512;

/** Takes as many frames as it has room for; what it was given, by the number in front of each. */
let room = Number.POSITIVE_INFINITY;
let asked = 0;
let got: number[] = [];
const link = (headerBytes: 0 | 12): Link => ({
  receivedHeaderBytes: headerBytes,
  sentHeaderBytes: headerBytes,
  tso: false,
  uso: false,
  open: () => {},
  onEvent: () => false,
  receive: () => 0,
  more: () => false,
  send: (from, to) => {
    asked++;
    let i = from;
    for (; i < to && room > 0; i++, room--) {
      const at = (io.col[io.COL.OUT_AT + i] as number) + headerBytes;
      const len = (io.col[io.COL.OUT_LEN + i] as number) - headerBytes;
      const number = io.view.getInt32(at);
      expect(io.view.getInt32(at + len - 4)).toBe(number);
      got.push(number);
    }
    return i - from;
  },
  ended: () => null,
});
const lost = (): number => drops.dropCount('tap-full');
let lostBefore = 0;
let next = 0;
/** One frame, its number at both ends. */
const frame = (bytes: number): number => {
  const at = out.reserve(bytes);
  io.view.setInt32(at, next);
  io.view.setInt32(at + bytes - 4, next);
  out.commit(bytes);
  return next++;
};
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe.each([0, 12] as const)('a link with %i bytes of header', (headerBytes) => {
  beforeEach(() => {
    room = Number.POSITIVE_INFINITY;
    asked = 0;
    got = [];
    next = 0;
    out.attach(link(headerBytes));
    lostBefore = lost();
  });

  test('that takes all is never asked to wait', () => {
    for (let i = 0; i < 3000; i++) frame(60);
    expect(out.mustWait()).toBe(false);
    out.flush();
    expect(out.blocked()).toBe(false);
    expect(got).toEqual(range(0, 3000));
    expect(lost()).toBe(lostBefore);
  });

  test('what it does not take comes first, and only when it has said that there is room', () => {
    room = 3;
    for (let i = 0; i < 10; i++) frame(1000);
    out.flush();
    expect(got).toEqual(range(0, 3));
    expect(out.blocked()).toBe(true);
    expect(out.mustWait()).toBe(true);
    frame(1000);
    out.flush();
    expect(asked).toBe(1);
    room = 4;
    out.resume();
    expect(got).toEqual(range(0, 7));
    expect(out.blocked()).toBe(true);
    room = Number.POSITIVE_INFINITY;
    out.resume();
    expect(got).toEqual(range(0, 11));
    expect(out.blocked()).toBe(false);
    out.resume();
    expect(asked).toBe(3);
  });

  test('more than a queue of frames is not kept: the newest are lost, and counted', () => {
    room = 0;
    frame(60);
    out.flush();
    for (let i = 1; i < 5000; i++) frame(60);
    expect(lost() - lostBefore).toBe(5000 - KEPT_FRAMES);
    room = Number.POSITIVE_INFINITY;
    out.resume();
    expect(got).toEqual(range(0, KEPT_FRAMES));
  });

  test('nor more than so many bytes, of what was ready before it said no, too', () => {
    room = 0;
    for (let i = 0; i < 100; i++) frame(60_000);
    out.flush();
    const kept = 100 - (lost() - lostBefore);
    expect(kept).toBe(Math.floor(KEPT_BYTES / (60_000 + headerBytes)));
    for (let i = 0; i < 1000; i++) frame(60_000);
    expect(lost() - lostBefore).toBe(1100 - kept);
    room = Number.POSITIVE_INFINITY;
    out.resume();
    expect(got).toEqual(range(0, kept));
  });

  test('before anybody who can wait adds to much, the link is asked', () => {
    for (let i = 0; i < 15; i++) frame(65_000);
    expect(out.mustWait()).toBe(false);
    expect(asked).toBe(0);
    for (let i = 0; i < 3; i++) frame(65_000);
    room = 1;
    expect(out.mustWait()).toBe(true);
    expect(asked).toBe(1);
  });

  test('blocks have their room while frames are kept', () => {
    room = 0;
    const stride = 65_600 & -64;
    for (let i = 0; i < 31; i++) frame(65_000);
    out.flush();
    for (let turn = 0; turn < 5; turn++) {
      const block = out.reserveBlock(64, stride);
      expect(block + 64 * stride).toBeLessThanOrEqual(io.OUT_END);
      for (let i = 0; i < 64; i++) {
        const at = block + i * stride + out.VNET_ROOM;
        io.mem.fill(0xee, at, at + 65_000);
      }
      io.view.setInt32(block + out.VNET_ROOM, next);
      io.view.setInt32(block + out.VNET_ROOM + 96, next++);
      out.commitAt(block + out.VNET_ROOM, 100);
    }
    room = Number.POSITIVE_INFINITY;
    out.resume();
    expect(got).toEqual(range(0, 36));
  });

  test('whatever happens: the order stays, nothing comes twice, all that is missing is counted', () => {
    const step = fc.oneof(
      fc.record({ frames: fc.integer({ min: 1, max: 700 }), bytes: fc.integer({ min: 60, max: 2000 }) }),
      fc.record({ frames: fc.integer({ min: 1, max: 80 }), bytes: fc.integer({ min: 2000, max: 65_000 }) }),
      fc.record({ room: fc.integer({ min: 0, max: 900 }) }),
      fc.constant({ flush: true }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        out.attach(link(headerBytes));
        got = [];
        const first = next;
        const before = lost();
        room = 0;
        for (const one of steps) {
          if ('frames' in one) for (let i = 0; i < one.frames; i++) frame(one.bytes);
          else if ('room' in one) {
            room = one.room;
            out.resume();
          } else out.flush();
        }
        room = Number.POSITIVE_INFINITY;
        out.resume();
        out.flush();
        expect(got.length + lost() - before).toBe(next - first);
        expect(got.every((number, i) => i === 0 || number > (got[i - 1] as number))).toBe(true);
      }),
      { numRuns: 60 },
    );
  });
});
