// SPDX-License-Identifier: Apache-2.0
/** Batches of frames: over a datagram socket pair, which keeps boundaries as a tap does, and over a real tap. */
import { constants } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import { FRAME_BYTES_MAX, FRAMES_MAX, OUT_MAX } from '../../shared/abi.ts';
import { SOCK_DGRAM, SOCK_NONBLOCK, SOCK_SEQPACKET, testkit } from '../support/testkit.ts';

const { native, mem, col, COL } = io;
const { EAGAIN, EIO, EPIPE } = constants.errno;
const AT = io.RX_AT;
const END = io.RX_END;
const HEADER_ROOM = 12;

describe('over a datagram pair', () => {
  let guest = -1;
  let ours = -1;
  beforeEach(() => {
    [guest, ours] = testkit.socketpair(SOCK_DGRAM | SOCK_NONBLOCK);
  });
  afterEach(() => {
    native.close(guest);
    native.close(ours);
  });

  test('none waiting: 0', () => {
    expect(native.readFrames(ours, AT, END, FRAMES_MAX)).toBe(0);
  });

  test('frames start at multiples of 64, with room for a virtio-net header between them, and are whole', () => {
    const sizes = [60, 64, 65, 1514, 1, 9000];
    for (const [i, size] of sizes.entries()) testkit.write(guest, new Uint8Array(size).fill(i + 1));
    expect(native.readFrames(ours, AT + 10, END, FRAMES_MAX)).toBe(sizes.length);
    let free = AT + 10 - HEADER_ROOM;
    for (const [i, size] of sizes.entries()) {
      const at = col[COL.FRAME_AT + i] as number;
      expect(at % 64).toBe(0);
      expect(at).toBeGreaterThanOrEqual(free + HEADER_ROOM);
      expect(at).toBeLessThan(free + HEADER_ROOM + 64);
      expect(col[COL.FRAME_LEN + i]).toBe(size);
      expect(mem.subarray(at, at + size).every((byte) => byte === i + 1)).toBe(true);
      free = at + size;
    }
  });

  test('at most max, the others stay', () => {
    for (let i = 0; i < 5; i++) testkit.write(guest, Uint8Array.of(i));
    expect(native.readFrames(ours, AT, END, 3)).toBe(3);
    expect(native.readFrames(ours, AT, END, 0)).toBe(0);
    expect(native.readFrames(ours, AT, END, 3)).toBe(2);
    expect(mem[col[COL.FRAME_AT + 1] as number]).toBe(4);
  });

  test('no read without room for the largest frame', () => {
    for (let i = 0; i < 3; i++) testkit.write(guest, new Uint8Array(100));
    expect(native.readFrames(ours, AT, AT + FRAME_BYTES_MAX - 1, 3)).toBe(0);
    expect(native.readFrames(ours, AT + 1, AT + FRAME_BYTES_MAX + 63, 3)).toBe(0);
    expect(native.readFrames(ours, AT, AT + FRAME_BYTES_MAX, 3)).toBe(1);
    expect(native.readFrames(ours, AT, AT + FRAME_BYTES_MAX + 128, 3)).toBe(2);
  });

  test('frames are written in order, from any slot on', () => {
    for (let i = 0; i < 4; i++) {
      col[COL.OUT_AT + i] = io.OUT_AT + i * 100;
      col[COL.OUT_LEN + i] = 10 + i;
      mem.fill(i, io.OUT_AT + i * 100, io.OUT_AT + i * 100 + 50);
    }
    col[COL.ERRNO] = 99;
    expect(native.writeFrames(ours, 1, 4)).toBe(3);
    expect(col[COL.ERRNO]).toBe(0);
    for (let i = 1; i < 4; i++) expect([...testkit.read(guest, 100)]).toEqual(new Array(10 + i).fill(i));
    expect(native.writeFrames(ours, 2, 2)).toBe(0);
  });

  test('writing stops at the first failure and says how far it came', () => {
    for (let i = 0; i < OUT_MAX; i++) {
      col[COL.OUT_AT + i] = io.OUT_AT;
      col[COL.OUT_LEN + i] = 1000;
    }
    const written = native.writeFrames(ours, 0, OUT_MAX);
    expect(written).toBeGreaterThan(0);
    expect(written).toBeLessThan(OUT_MAX);
    expect(col[COL.ERRNO]).toBe(EAGAIN);
    for (let i = 0; i < written; i++) expect(testkit.read(guest, 2000).length).toBe(1000);
    expect(() => testkit.read(guest, 2000)).toThrow(/read/);
  });
});

test('the end of file is -EPIPE, another failure its errno', () => {
  const [a, b] = testkit.socketpair(SOCK_SEQPACKET);
  native.close(a);
  expect(native.readFrames(b, AT, END, 1)).toBe(-EPIPE);
  native.close(b);
  const epoll = native.uvBackendFd();
  expect(native.readFrames(epoll, AT, END, 1)).toBe(-constants.errno.EINVAL);
});

const unprivileged = process.getuid?.() !== 0;
if (unprivileged) console.log('addon-frames: the real tap is not tested, making one needs root');
test.skipIf(unprivileged)('a tap with virtio-net header: both directions, then its end', () => {
  testkit.unshareNet();
  const VNET_BYTES = 12;
  const tap = testkit.openTap('addon0', VNET_BYTES, 0);
  testkit.linkUp('addon0');
  const guest = testkit.packetSocket('addon0');
  // Broadcast, from a locally administered address, of the EtherType for experiments (IEEE 802): no protocol minds it.
  const header = Buffer.from('ffffffffffff02000000000188b5', 'hex');
  const isOurs = (frame: Uint8Array): boolean => Buffer.from(frame.subarray(12, 14)).toString('hex') === '88b5';

  for (let i = 0; i < 3; i++) testkit.send(guest, Buffer.concat([header, Buffer.alloc(100 + i, i + 1)]));
  testkit.poll(tap, 1, 1000);
  const n = native.readFrames(tap, AT, END, FRAMES_MAX);
  const received: number[] = [];
  for (let i = 0; i < n; i++) {
    const at = (col[COL.FRAME_AT + i] as number) + VNET_BYTES;
    const len = (col[COL.FRAME_LEN + i] as number) - VNET_BYTES;
    if (isOurs(mem.subarray(at, at + len))) received.push(len - header.length, mem[at + len - 1] as number);
  }
  expect(received).toEqual([100, 1, 101, 2, 102, 3]);
  expect(native.readFrames(tap, AT, END, FRAMES_MAX)).toBe(0);

  mem.fill(0, io.OUT_AT, io.OUT_AT + 1000);
  mem.set(header, io.OUT_AT + VNET_BYTES);
  mem.fill(0x77, io.OUT_AT + VNET_BYTES + 14, io.OUT_AT + VNET_BYTES + 80);
  col[COL.OUT_AT] = io.OUT_AT;
  col[COL.OUT_LEN] = VNET_BYTES + 80;
  // Shorter than the virtio-net header: the kernel refuses it, and what follows is not tried.
  col[COL.OUT_AT + 1] = io.OUT_AT;
  col[COL.OUT_LEN + 1] = 5;
  col[COL.OUT_AT + 2] = io.OUT_AT;
  col[COL.OUT_LEN + 2] = VNET_BYTES + 80;
  expect(native.writeFrames(tap, 0, 3)).toBe(1);
  expect(col[COL.ERRNO]).toBe(constants.errno.EINVAL);
  let seen = 0;
  while (testkit.poll(guest, 1, 50) !== 0) {
    const frame = testkit.recv(guest, 2000, 0);
    if (isOurs(frame) && frame[20] === 0x77) seen = frame.length;
  }
  expect(seen).toBe(80);
  native.close(guest);
  native.close(tap);
});

test('reading a tap that is down, writing to it', { skip: process.getuid?.() !== 0 }, () => {
  testkit.unshareNet();
  const tap = testkit.openTap('addon1', 12, 0);
  expect(native.readFrames(tap, AT, END, 1)).toBe(0);
  col[COL.OUT_AT] = io.OUT_AT;
  col[COL.OUT_LEN] = 92;
  expect(native.writeFrames(tap, 0, 1)).toBe(0);
  expect(col[COL.ERRNO]).toBe(EIO);
  native.close(tap);
});
