// SPDX-License-Identifier: Apache-2.0
/**
 * controller/io for the fuzzer: the stand-in of the unit tests (or, for a run under sanitizers, what the addon itself can
 * do without sockets) behind memory that knows which of its bytes mean something.
 *
 * The controller's memory is one arena, so a read beyond a frame meets no page fault and no exception: it reads
 * the frame before. Here every byte has a mark, "somebody has written this for the present turn": the tap's read marks the
 * frame, a socket's read marks what came. Reading a byte without a mark throws, and so does handing one to a system call:
 * that would be the frame of another, told to the guest or to the network.
 */
import { createRequire } from 'node:module';
import type { Native } from '../../controller/io/native.ts';
import * as fake from '../support/fake-io.ts';
import { streams } from '../support/fake-stream.ts';

export const COL = fake.COL;
export const FRAMES_MAX = fake.FRAMES_MAX;
export const OUT_MAX = fake.OUT_MAX;
export const RX_AT = fake.RX_AT;
export const RX_END = fake.RX_END;
export const OUT_AT = fake.OUT_AT;
export const OUT_END = fake.OUT_END;
export const SOCK_AT = fake.SOCK_AT;
export const SOCK_END = fake.SOCK_END;
export const SCRATCH_AT = fake.SCRATCH_AT;
export const SCRATCH_END = fake.SCRATCH_END;
export const PENDING_AT = fake.PENDING_AT;
export const PENDING_END = fake.PENDING_END;
export const STASH_AT = fake.STASH_AT;
export const STASH_END = fake.STASH_END;
export const REASSEMBLY_AT = fake.REASSEMBLY_AT;
export const REASSEMBLY_END = fake.REASSEMBLY_END;
export const OUT_OF_ORDER_AT = fake.OUT_OF_ORDER_AT;
export const OUT_OF_ORDER_END = fake.OUT_OF_ORDER_END;
export const EPOLLIN = fake.EPOLLIN;
export const EPOLLOUT = fake.EPOLLOUT;
export const EPOLLERR = fake.EPOLLERR;
export const EPOLLHUP = fake.EPOLLHUP;
export const EPOLLRDHUP = fake.EPOLLRDHUP;
export const EPOLLET = fake.EPOLLET;
export const nowMs = fake.nowMs;
export const waitBeganMs = fake.waitBeganMs;
export const col = fake.col;

/** An access that the program must never make. */
export class MemoryFault extends Error {}

const marks = new Uint8Array(fake.mem.length);
/** Highest marked byte + 1 of the regions that are forgotten. */
const REGIONS = [
  { name: 'received frames', from: RX_AT - 64, to: RX_END },
  { name: 'frames to send', from: OUT_AT, to: OUT_END },
  { name: 'socket data', from: SOCK_AT, to: SOCK_END },
  { name: 'fragments', from: REASSEMBLY_AT, to: REASSEMBLY_END },
  { name: 'data out of order', from: OUT_OF_ORDER_AT, to: OUT_OF_ORDER_END },
] as const satisfies readonly { name: string; from: number; to: number }[];
const highs = Int32Array.from(REGIONS, ({ from }) => from);

const regionOf = (at: number): number =>
  at < RX_END ? 0 : at < OUT_END ? 1 : at < SOCK_END ? 2 : at < REASSEMBLY_AT ? -1 : at < REASSEMBLY_END ? 3 : 4;
const describe = (at: number): string => {
  const i = regionOf(at);
  const region = REGIONS[i];
  return region === undefined ? `byte ${at}` : `byte ${at - region.from} of the ${region.name}`;
};

export const mark = (at: number, len: number): void => {
  if (at < 0 || len < 0 || at + len > marks.length) throw new MemoryFault(`[${at}, +${len}) is outside the arena`);
  marks.fill(1, at, at + len);
  const i = regionOf(at);
  if (i >= 0 && at + len > (highs[i] as number)) highs[i] = at + len;
};
const forget = (i: number): void => {
  const { from } = REGIONS[i] as (typeof REGIONS)[number];
  marks.fill(0, from, highs[i] as number);
  highs[i] = from;
};
/** Received frames and socket data belong to one turn. */
export const forgetReceived = (): void => {
  forget(0);
  forget(2);
  markNoHeader();
};
/** Between inputs. */
export const forgetAll = (): void => {
  for (let i = 0; i < REGIONS.length; i++) forget(i);
  markNoHeader();
};
/** The arena's beginning stands for the virtio-net header of frames that have none (controller/link/received.ts): zeros, for ever. */
const markNoHeader = (): void => {
  marks.fill(1, 0, 12);
};
/** Scratch and the stash of streams are not watched: nobody else's bytes come there. */
const watched = (at: number): boolean => at < SOCK_END || (at >= PENDING_AT && at < PENDING_END) || at >= REASSEMBLY_AT;

const check = (at: number, len: number, what: string): void => {
  if (at < 0 || len < 0 || at + len > marks.length)
    throw new MemoryFault(`${what} outside the arena: [${at}, +${len})`);
  if (!watched(at)) return;
  for (let i = at; i < at + len; i++) {
    if (marks[i] === 0) throw new MemoryFault(`${what} of what nobody wrote: ${describe(i)}, [${at}, +${len})`);
  }
};

const integer = (value: number, low: number, high: number): void => {
  if (!Number.isInteger(value) || value < low || value > high) throw new MemoryFault(`${value} in a field of a frame`);
};

class CheckedView extends DataView<ArrayBuffer> {
  private one(at: number): void {
    if (marks[at] === 0 && watched(at)) check(at, 1, 'a read');
  }
  override getUint8(at: number): number {
    this.one(at);
    return super.getUint8(at);
  }
  override getInt8(at: number): number {
    this.one(at);
    return super.getInt8(at);
  }
  override getUint16(at: number, little?: boolean): number {
    this.one(at);
    this.one(at + 1);
    return super.getUint16(at, little);
  }
  override getInt16(at: number, little?: boolean): number {
    this.one(at);
    this.one(at + 1);
    return super.getInt16(at, little);
  }
  override getUint32(at: number, little?: boolean): number {
    check(at, 4, 'a read');
    return super.getUint32(at, little);
  }
  override getInt32(at: number, little?: boolean): number {
    check(at, 4, 'a read');
    return super.getInt32(at, little);
  }
  override setUint8(at: number, value: number): void {
    integer(value, -0x80, 0xff);
    mark(at, 1);
    super.setUint8(at, value);
  }
  override setUint16(at: number, value: number, little?: boolean): void {
    integer(value, -0x8000, 0xffff);
    mark(at, 2);
    super.setUint16(at, value, little);
  }
  override setInt16(at: number, value: number, little?: boolean): void {
    integer(value, -0x8000, 0xffff);
    mark(at, 2);
    super.setInt16(at, value, little);
  }
  override setUint32(at: number, value: number, little?: boolean): void {
    integer(value, -0x8000_0000, 0xffff_ffff);
    mark(at, 4);
    super.setUint32(at, value, little);
  }
  override setInt32(at: number, value: number, little?: boolean): void {
    integer(value, -0x8000_0000, 0xffff_ffff);
    mark(at, 4);
    super.setInt32(at, value, little);
  }
}

class CheckedMemory extends Uint8Array<ArrayBuffer> {
  static get [Symbol.species](): Uint8ArrayConstructor {
    return Uint8Array;
  }
  override set(from: ArrayLike<number>, at = 0): void {
    mark(at, from.length);
    super.set(from, at);
  }
  override fill(value: number, from = 0, to = this.length): this {
    mark(from, to - from);
    return super.fill(value, from, to);
  }
  override copyWithin(to: number, from: number, end: number): this {
    check(from, end - from, 'a copy');
    mark(to, end - from);
    return super.copyWithin(to, from, end);
  }
}

export const view: DataView = new CheckedView(fake.mem.buffer);
export const mem: Uint8Array = new CheckedMemory(fake.mem.buffer);

const ranges = (n: number, use: (at: number, len: number) => void): void => {
  for (let i = 0; i < n; i++) use(col[COL.IOV_AT + i] as number, col[COL.IOV_LEN + i] as number);
};

/** Descriptors that the program may use. */
const known = new Set<number>();
export const lend = (fd: number): void => {
  known.add(fd);
};
export const lent = (): number => known.size;
export const forgetDescriptors = (): void => known.clear();
const own = (fd: number): void => {
  if (!known.has(fd)) throw new MemoryFault(`descriptor ${fd} is used, which is not open`);
};

/** The addon, where the run is one under sanitizers: its sums are made over the same bytes and have to agree. */
const addonPath = process.env['PASTICHE_FUZZ_ADDON'];
const addon = addonPath === undefined ? null : (createRequire(import.meta.url)(addonPath) as Native);
const addonMemory = addon === null ? null : new Uint8Array(addon.arena);
const sumBoth = (at: number, len: number, initial: number): number => {
  const expected = fake.native.checksum(at, len, initial);
  if (addon === null || addonMemory === null) return expected;
  // At the very end of the arena: one byte more would be outside of it.
  const place = addonMemory.length - len;
  addonMemory.set(fake.mem.subarray(at, at + len), place);
  const sum = addon.checksum(place, len, initial);
  if (sum !== expected) throw new MemoryFault(`the addon's sum of ${len} bytes is ${sum}, not ${expected}`);
  return sum;
};

/** Set by the world: events of the next wait, and randomness that can be repeated. */
export const hooks = {
  wait: (_timeoutMs: number): number => 0,
  watch: (_fd: number, _events: number, _ref: number): void => {},
  readFrames: (): number => 0,
  randomByte: (): number => 0,
};

/** Looked up at each call: fake-stream.ts adds its own to the stand-in. */
const program = {
  watch: (fd: number, events: number, ref: number): number => {
    own(fd);
    hooks.watch(fd, events, ref);
    return fake.native.watch(fd, events, ref);
  },
  unwatch: (fd: number): number => {
    own(fd);
    return fake.native.unwatch(fd);
  },
  wait: (timeoutMs: number): number => hooks.wait(timeoutMs),
  uvBackendFd: (): number => UV_FD,
  uvTimeoutMs: (): number => -1,
  readFrames: (): number => hooks.readFrames(),
  writeFrames: (fd: number, from: number, to: number): number => {
    own(fd);
    for (let i = from; i < to; i++) {
      check(col[COL.OUT_AT + i] as number, col[COL.OUT_LEN + i] as number, 'a write to the tap');
    }
    const n = fake.native.writeFrames(fd, from, to);
    forget(1);
    return n;
  },
  write: (fd: number, at: number, len: number): number => {
    own(fd);
    check(at, len, 'a write to a socket');
    return fake.native.write(fd, at, len);
  },
  writev: (fd: number, n: number): number => {
    own(fd);
    ranges(n, (at, len) => check(at, len, 'a write to a socket'));
    return fake.native.writev(fd, n);
  },
  recvv: (fd: number, n: number, peek: boolean): number => {
    own(fd);
    const r = fake.native.recvv(fd, n, peek);
    let left = r;
    ranges(n, (at, len) => {
      if (left > 0) mark(at, Math.min(len, left));
      left -= len;
    });
    return r;
  },
  discard: (fd: number, len: number): number => {
    own(fd);
    return fake.native.discard(fd, len);
  },
  recvDatagrams: (fd: number, at: number, stride: number, max: number): number => {
    own(fd);
    const n = fake.native.recvDatagrams(fd, at, stride, max);
    for (let i = 0; i < n; i++) {
      const len = col[COL.DGRAM_LEN + i] as number;
      if (len > 0) mark(at + i * stride, len);
    }
    return n;
  },
  recvFrom: (fd: number, at: number, stride: number, max: number, recordsAt: number, peek: boolean): number => {
    own(fd);
    const n = fake.native.recvFrom(fd, at, stride, max, recordsAt, peek);
    for (let i = 0; i < n; i++) {
      const len = col[COL.DGRAM_LEN + i] as number;
      if (len > 0) mark(at + i * stride, len);
      mark(recordsAt + i * 64, 64);
    }
    return n;
  },
  recvError: (fd: number, at: number, len: number, offenderAt: number): number => {
    own(fd);
    const n = fake.native.recvError(fd, at, len, offenderAt);
    if (n >= 0) {
      mark(at, n);
      mark(offenderAt, 16);
    }
    return n;
  },
  udpSegment: (fd: number, segment: number): number => {
    own(fd);
    return fake.native.udpSegment(fd, segment);
  },
  setsockopt: (fd: number, level: number, option: number, value: number): number => {
    own(fd);
    return fake.native.setsockopt(fd, level, option, value);
  },
  tcpRoom: (fd: number): number => {
    own(fd);
    return fake.native.tcpRoom(fd);
  },
  socketError: (fd: number): number => {
    own(fd);
    return streams.has(fd) ? fake.native.socketError(fd) : 0;
  },
  lingerZero: (fd: number): number => {
    own(fd);
    return fake.native.lingerZero(fd);
  },
  shutdownWrite: (fd: number): number => {
    own(fd);
    return fake.native.shutdownWrite(fd);
  },
  localPort: (fd: number): number => {
    own(fd);
    return fake.native.localPort(fd);
  },
  close: (fd: number): number => {
    own(fd);
    known.delete(fd);
    return fake.native.close(fd);
  },
  checksum: (at: number, len: number, initial: number): number => {
    check(at, len, 'a sum');
    return sumBoth(at, len, initial);
  },
  random: (at: number, len: number): number => {
    for (let i = at; i < at + len; i++) fake.mem[i] = hooks.randomByte();
    mark(at, len);
    return len;
  },
} satisfies Partial<Native>;
export const UV_FD = 5;
/** What is not listed above is the stand-in's own. */
export const native = Object.setPrototypeOf(program, fake.native) as Native;
