// SPDX-License-Identifier: Apache-2.0
/** The memory the addon owns, its checks of every range, and the registration itself. */
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import {
  ARENA_BYTES,
  ARENA_HOT_BYTES,
  COLUMN_INTS,
  DATAGRAMS_MAX,
  FRAMES_MAX,
  IOV_MAX_BATCH,
  OUT_MAX,
  SOCKOPT,
} from '../../shared/abi.ts';
import { testkit } from '../support/testkit.ts';

const { native, mem, col, COL } = io;
const { EBADF } = constants.errno;

test('arena and columns have their sizes and are what JavaScript and the addon both see', () => {
  expect(native.arena.byteLength).toBe(ARENA_BYTES);
  expect(col.length).toBe(COLUMN_INTS);
  const [readEnd, writeEnd] = testkit.pipe();
  mem.set([1, 2, 3], 100);
  expect(native.write(writeEnd, 100, 3)).toBe(3);
  expect(native.read(readEnd, ARENA_BYTES - 3, 3)).toBe(3);
  expect([...mem.subarray(ARENA_BYTES - 3)]).toEqual([1, 2, 3]);
  native.close(readEnd);
  native.close(writeEnd);
});

const noHugePages = !existsSync('/sys/kernel/mm/transparent_hugepage');
if (noHugePages) console.log('addon-memory: huge pages are not tested, this kernel has none');
test.skipIf(noHugePages)(
  'the hot part of the arena starts at a huge page, may have huge pages, and stays out of core dumps',
  () => {
    const regions = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
    const hot = regions.find((region) => {
      const flags = /^VmFlags: (.*)$/m.exec(region)?.[1]?.split(' ') ?? [];
      const size = Number(/^Size: +(\d+) kB$/m.exec(region)?.[1]) * 1024;
      return size === ARENA_HOT_BYTES && flags.includes('hg') && flags.includes('dd');
    });
    expect(hot).toBeDefined();
    expect(Number.parseInt((hot as string).split('-')[0] as string, 16) % (2 * 1024 * 1024)).toBe(0);
  },
);

const n = native;
const past = ARENA_BYTES - 8;
const OUTSIDE: Record<string, () => unknown> = {
  'read past the end': () => n.read(0, past, 9),
  'read before the start': () => n.read(0, -1, 1),
  'read of a negative length': () => n.read(0, 0, -1),
  'read whose sum overflows 32 bits': () => n.read(0, 0x7fffffff, 0x7fffffff),
  write: () => n.write(1, past, 9),
  'frames into nowhere': () => n.readFrames(0, past, ARENA_BYTES + 1, 1),
  'frames backwards': () => n.readFrames(0, 4096, 0, 1),
  'frames into more slots than there are': () => n.readFrames(0, 0, ARENA_BYTES, FRAMES_MAX + 1),
  'frames from more slots than there are': () => n.writeFrames(1, 0, OUT_MAX + 1),
  'frames from a negative slot': () => n.writeFrames(1, -1, 1),
  'stream frames from more slots than there are': () => n.writeStreamFrames(1, 0, OUT_MAX + 1, 0),
  'stream frames from a negative slot': () => n.writeStreamFrames(1, -1, 1, 0),
  'stream frames without a negative number of bytes': () => n.writeStreamFrames(1, 0, 0, -1),
  'ranges from more slots than there are': () => n.writev(1, IOV_MAX_BATCH + 1),
  'a negative number of ranges': () => n.recvv(0, -1, false),
  'datagrams into nowhere': () => n.recvDatagrams(0, past, 16, 1),
  'datagrams whose product overflows 32 bits': () => n.recvDatagrams(0, 0, 0x7fffffff, 3),
  'datagrams into slots of no length': () => n.recvDatagrams(0, 0, 0, 1),
  'datagrams into more slots than there are': () => n.recvDatagrams(0, 0, 16, DATAGRAMS_MAX + 1),
  'an error into nowhere': () => n.recvError(0, past, 9, 0),
  'an offender into nowhere': () => n.recvError(0, 0, 9, ARENA_BYTES - 15),
  'a negative discard': () => n.discard(0, -1),
  'channel send': () => n.channelSend(0, past, 9),
  'channel receive': () => n.channelRecv(0, past, 9, false),
  checksum: () => n.checksum(past, 9, 0),
  random: () => n.random(past, 9),
  'an option outside SOCKOPT': () => n.setsockopt(0, 1, 2, 1),
  'an option of another level': () => n.setsockopt(0, 6, SOCKOPT.SO_SNDBUF.option, 1),
  'a timeout that is no number': () => n.wait(Number.NaN, 0),
};
for (const [what, call] of Object.entries(OUTSIDE))
  test(`RangeError: ${what}`, () => {
    expect(call).toThrow(RangeError);
  });

test('RangeError: a frame or range whose slot points outside the arena', () => {
  const [readEnd, writeEnd] = testkit.pipe();
  col[COL.OUT_AT] = past;
  col[COL.OUT_LEN] = 9;
  expect(() => native.writeFrames(writeEnd, 0, 1)).toThrow(RangeError);
  col[COL.IOV_AT] = 0;
  col[COL.IOV_LEN] = 4;
  col[COL.IOV_AT + 1] = -4;
  col[COL.IOV_LEN + 1] = 4;
  expect(() => native.writev(writeEnd, 2)).toThrow(RangeError);
  expect(() => native.recvv(readEnd, 2, false)).toThrow(RangeError);
  expect(() => native.recvv(readEnd, 2, true)).toThrow(RangeError);
  native.close(readEnd);
  native.close(writeEnd);
});

test('the empty range at the very end is inside', () => {
  expect(native.checksum(ARENA_BYTES, 0, 7)).toBe(7);
});

test('TypeError: missing arguments and other types', () => {
  const loose = native as unknown as Record<string, (...args: unknown[]) => unknown>;
  expect(() => loose['read']?.(0, 0)).toThrow(TypeError);
  expect(() => loose['read']?.('0', 0, 0)).toThrow(TypeError);
  expect(() => loose['wait']?.()).toThrow(TypeError);
  expect(() => loose['recvv']?.(0, 0, 1)).toThrow(TypeError);
  expect(() => loose['close']?.(null)).toThrow(TypeError);
  expect(() => loose['installFilter']?.(new Uint16Array(4))).toThrow(TypeError);
  expect(() => loose['installFilter']?.()).toThrow(TypeError);
  expect(() => loose['crc32']?.(new Uint16Array(4), 0)).toThrow(TypeError);
  expect(() => loose['crc32']?.(new Uint8Array(4))).toThrow(TypeError);
});

const CLOSED = 987_654;
const ON_FD: Record<string, () => number> = {
  watch: () => n.watch(CLOSED, 1, 0),
  unwatch: () => n.unwatch(CLOSED),
  readFrames: () => n.readFrames(CLOSED, 0, ARENA_BYTES, 1),
  read: () => n.read(CLOSED, 0, 1),
  write: () => n.write(CLOSED, 0, 1),
  writev: () => n.writev(CLOSED, 0),
  readv: () => n.recvv(CLOSED, 0, false),
  peek: () => n.recvv(CLOSED, 0, true),
  discard: () => n.discard(CLOSED, 1),
  recvDatagrams: () => n.recvDatagrams(CLOSED, 0, 16, 1),
  recvError: () => n.recvError(CLOSED, 0, 16, 16),
  udpSegment: () => n.udpSegment(CLOSED, 0),
  tcpInfo: () => n.tcpInfo(CLOSED),
  tcpOutq: () => n.tcpOutq(CLOSED),
  socketError: () => n.socketError(CLOSED),
  setsockopt: () => n.setsockopt(CLOSED, SOCKOPT.TCP_NODELAY.level, SOCKOPT.TCP_NODELAY.option, 1),
  lingerZero: () => n.lingerZero(CLOSED),
  pathMtu: () => n.pathMtu(CLOSED, false),
  localPort: () => n.localPort(CLOSED),
  shutdownWrite: () => n.shutdownWrite(CLOSED),
  close: () => n.close(CLOSED),
  dup2: () => n.dup2(CLOSED, CLOSED),
  channelSend: () => n.channelSend(CLOSED, 0, 1),
  channelRecv: () => n.channelRecv(CLOSED, 0, 1, false),
};
for (const [name, call] of Object.entries(ON_FD))
  test(`${name} of a closed descriptor is -EBADF, not an exception`, () => {
    expect(call()).toBe(-EBADF);
  });

test('writeFrames and tcpRoom report a closed descriptor in COL.ERRNO', () => {
  col[COL.OUT_AT] = 0;
  col[COL.OUT_LEN] = 1;
  expect(native.writeFrames(CLOSED, 0, 1)).toBe(0);
  expect(col[COL.ERRNO]).toBe(EBADF);
  col[COL.ERRNO] = 0;
  expect(native.tcpRoom(CLOSED)).toBe(-(2 ** 31));
  expect(col[COL.ERRNO]).toBe(EBADF);
});

test('random fills the range and nothing beside it', () => {
  mem.fill(0, 0, 4096);
  expect(native.random(64, 1024)).toBe(0);
  expect(new Set(mem.subarray(64, 1088)).size).toBeGreaterThan(128);
  expect(mem.subarray(0, 64).every((byte) => byte === 0)).toBe(true);
  expect(mem.subarray(1088, 2048).every((byte) => byte === 0)).toBe(true);
});
