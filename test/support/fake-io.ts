// SPDX-License-Identifier: Apache-2.0
/**
 * A stand-in for controller/io/io.ts in unit tests: the same memory layout, and system calls that are recorded and
 * scripted instead of made. Use: `vi.mock('../io/io.ts', () => import('…/test/support/fake-io.ts'))`.
 */
import { randomFillSync } from 'node:crypto';
import type { Native } from '../../controller/io/native.ts';
import * as abi from '../../shared/abi.ts';

const arena = new ArrayBuffer(abi.ARENA_BYTES);
const columns = new ArrayBuffer(abi.COLUMN_INTS * 4);
const clockBuffer = new ArrayBuffer(16);
export const mem = new Uint8Array(arena);
export const view = new DataView(arena);
export const col = new Int32Array(columns);
const clock = new Float64Array(clockBuffer);
export const nowMs = (): number => clock[0] as number;
export const waitBeganMs = (): number => clock[1] as number;
export const setNow = (ms: number): void => {
  clock[0] = ms;
};

export const COL = abi.COL;
export const FRAMES_MAX = abi.FRAMES_MAX;
export const OUT_MAX = abi.OUT_MAX;
export const RX_AT = 64;
export const RX_END = 6 * 1024 * 1024;
export const OUT_AT = RX_END;
export const OUT_END = 14 * 1024 * 1024;
export const SOCK_AT = OUT_END;
export const SOCK_END = SOCK_AT + 1024 * 1024;
export const SCRATCH_AT = SOCK_END;
export const SCRATCH_END = SCRATCH_AT + 512 * 1024;
export const PENDING_AT = SCRATCH_END;
export const PENDING_END = abi.ARENA_HOT_BYTES;
export const STASH_AT = abi.ARENA_HOT_BYTES;
export const STASH_END = 48 * 1024 * 1024;
export const REASSEMBLY_AT = STASH_END;
export const REASSEMBLY_END = 52 * 1024 * 1024;
export const OUT_OF_ORDER_AT = REASSEMBLY_END;
export const OUT_OF_ORDER_END = abi.ARENA_BYTES;
export const EPOLLIN = 1;
export const EPOLLPRI = 2;
export const EPOLLOUT = 4;
export const EPOLLERR = 8;
export const EPOLLHUP = 16;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x80000000 | 0;

export interface FakeDatagram {
  readonly bytes: Uint8Array;
  readonly gso?: number;
  readonly ttl?: number;
  readonly tos?: number;
  /** Who sent it, for a socket that is not connected: 16 bytes (an IPv4 address as ::ffff:a.b.c.d) and the port. */
  readonly from?: readonly [address: ArrayLike<number>, port: number];
  /** The address it was sent to, 16 bytes, where the socket reports that; and whether that is a group or broadcast. */
  readonly to?: ArrayLike<number>;
  readonly forMany?: boolean;
}
export interface FakeError {
  readonly payload: Uint8Array;
  readonly origin: number;
  readonly type: number;
  readonly code: number;
  readonly info?: number;
  readonly errno: number;
  /** 16 bytes; an IPv4 address as ::ffff:a.b.c.d. */
  readonly offender?: Uint8Array;
}
export interface FakeMessage {
  readonly text: string;
  readonly fds: readonly number[];
  /** Descriptor of the channel that it comes from; default: whichever is read. */
  readonly channel?: number;
}
export class FakeSocket {
  /** What was written, one entry a datagram: a segmented write is taken apart as the kernel does. */
  readonly sent: Buffer[] = [];
  readonly options: [level: number, option: number, value: number][] = [];
  /** How many options had been set when each datagram was sent. */
  readonly optionsBefore: number[] = [];
  readonly incoming: FakeDatagram[] = [];
  readonly errors: FakeError[] = [];
  /** Results of the next writes: 0 lets one through, -errno fails it. */
  readonly writeResults: number[] = [];
  /** Results of the next receives that fail. */
  readonly receiveResults: number[] = [];
  /** SO_ERROR, which reading clears. */
  pendingError = 0;
  /** Events that nothing makes stop. */
  stuck = 0;
  writes = 0;
  segment = 0;
  events = 0;
  ref = 0;
  closed = false;
}

/**
 * What a level-triggered epoll says of a datagram socket, poll(2): the same again until it was read; an error counts as one
 * while the queue holds any, watched for or not. 0: nothing.
 */
export const pendingEvents = (s: FakeSocket): number => {
  if (s.closed) return 0;
  const read = s.incoming.length > 0 ? s.events & EPOLLIN : 0;
  return s.stuck | read | (s.errors.length > 0 || s.pendingError !== 0 ? EPOLLERR : 0);
};
/** Has `onEvent` called until the socket is quiet. Returns how often; more than 1000 times: the loop spins. */
export const serveEvents = (s: FakeSocket, onEvent: (mask: number) => void): number => {
  let n = 0;
  for (; n <= 1000 && pendingEvents(s) !== 0; n++) onEvent(pendingEvents(s));
  return n;
};

/** Every descriptor that a test handed out. */
export const sockets = new Map<number, FakeSocket>();
export const addSocket = (fd: number): FakeSocket => {
  const s = new FakeSocket();
  sockets.set(fd, s);
  return s;
};
export const closedFds: number[] = [];

/** Frames that reached the tap, without their vnet header, and the headers apart. */
export const tapFrames: Buffer[] = [];
export const tapVnet: Buffer[] = [];
let vnetBytes = 12;
export const setVnetBytes = (n: 0 | 12): void => {
  vnetBytes = n;
};

/** The RPC channels: messages sent, over which descriptor each, and those that wait to be received. */
export const channelSent: string[] = [];
export const channelSentOver: number[] = [];
export const channelIncoming: FakeMessage[] = [];
/** Results of the next sends: -errno fails one. */
export const channelSendResults: number[] = [];
/** Result of a receive when nothing waits: -EAGAIN, or 0 for end of file. */
let channelIdle = -11;
export const setChannelIdle = (result: number): void => {
  channelIdle = result;
};

export const reset = (): void => {
  sockets.clear();
  closedFds.length = 0;
  tapFrames.length = 0;
  tapVnet.length = 0;
  channelSent.length = 0;
  channelSentOver.length = 0;
  channelIncoming.length = 0;
  channelSendResults.length = 0;
  channelIdle = -11;
  vnetBytes = 12;
};

const checkRange = (at: number, len: number): void => {
  if (at < 0 || len < 0 || at + len > abi.ARENA_BYTES) throw new RangeError(`[${at}, +${len}) is outside the arena`);
};
const copy = (at: number, len: number): Buffer => {
  checkRange(at, len);
  return Buffer.from(mem.slice(at, at + len));
};
const UDP_MAX_SEGMENTS = 64;
const send = (fd: number, bytes: Buffer): number => {
  const s = sockets.get(fd);
  if (s === undefined || s.closed) return -9;
  s.writes++;
  const scripted = s.writeResults.shift() ?? 0;
  if (scripted < 0) return scripted;
  if (s.segment === 0 || bytes.length <= s.segment) {
    s.sent.push(bytes);
    s.optionsBefore.push(s.options.length);
    return bytes.length;
  }
  if (bytes.length > s.segment * UDP_MAX_SEGMENTS) return -22;
  for (let at = 0; at < bytes.length; at += s.segment) {
    s.sent.push(bytes.subarray(at, at + s.segment));
    s.optionsBefore.push(s.options.length);
  }
  return bytes.length;
};
/** RFC 1071, byte by byte. */
export const checksumOf = (bytes: Uint8Array, initial = 0): number => {
  let sum = initial;
  for (let i = 0; i < bytes.length; i++) sum += (i & 1) === 0 ? (bytes[i] as number) << 8 : (bytes[i] as number);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
};

const fake = {
  arena,
  columns,
  clock: clockBuffer,
  watch: (fd: number, events: number, ref: number): number => {
    const s = sockets.get(fd);
    if (s === undefined) return -9;
    s.events = events;
    s.ref = ref;
    return 0;
  },
  unwatch: (fd: number): number => {
    const s = sockets.get(fd);
    if (s === undefined) return -9;
    s.events = 0;
    return 0;
  },
  writeFrames: (_fd: number, from: number, to: number): number => {
    for (let i = from; i < to; i++) {
      const frame = copy(col[COL.OUT_AT + i] as number, col[COL.OUT_LEN + i] as number);
      tapVnet.push(frame.subarray(0, vnetBytes));
      tapFrames.push(frame.subarray(vnetBytes));
    }
    col[COL.ERRNO] = 0;
    return to - from;
  },
  write: (fd: number, at: number, len: number): number => send(fd, copy(at, len)),
  writev: (fd: number, n: number): number => {
    const parts: Buffer[] = [];
    for (let i = 0; i < n; i++) parts.push(copy(col[COL.IOV_AT + i] as number, col[COL.IOV_LEN + i] as number));
    return send(fd, Buffer.concat(parts));
  },
  recvDatagrams: (fd: number, at: number, stride: number, max: number): number => {
    const s = sockets.get(fd);
    if (s === undefined) return -9;
    checkRange(at, stride * max);
    const scripted = s.receiveResults.shift() ?? 0;
    if (scripted < 0) return scripted;
    if (s.incoming.length === 0) return -11;
    let n = 0;
    for (; n < max && s.incoming.length > 0; n++) {
      const d = s.incoming.shift() as FakeDatagram;
      const len = Math.min(d.bytes.length, stride);
      mem.set(d.bytes.subarray(0, len), at + n * stride);
      col[COL.DGRAM_LEN + n] = len;
      col[COL.DGRAM_GSO + n] = d.gso ?? 0;
      col[COL.DGRAM_TTL + n] = d.ttl ?? -1;
      col[COL.DGRAM_TOS + n] = d.tos ?? 0;
    }
    return n;
  },
  recvFrom: (fd: number, at: number, stride: number, max: number, recordsAt: number, peek: boolean): number => {
    const s = sockets.get(fd);
    const datagrams = [...(s?.incoming ?? [])];
    checkRange(recordsAt, 64 * max);
    const n = fake.recvDatagrams(fd, at, stride, max);
    for (let i = 0; i < n; i++) {
      const { from, to, forMany } = datagrams[i] as FakeDatagram;
      const [address, port] = from ?? [new Uint8Array(16), 0];
      mem.fill(0, recordsAt + i * 64, recordsAt + i * 64 + 64);
      mem.set(address, recordsAt + i * 64);
      view.setUint16(recordsAt + i * 64 + 16, port);
      view.setUint8(recordsAt + i * 64 + 18, forMany === true ? 1 : 0);
      mem.set(to ?? new Uint8Array(16), recordsAt + i * 64 + 32);
    }
    if (peek && n > 0) s?.incoming.unshift(...datagrams.slice(0, n));
    return n;
  },
  recvError: (fd: number, at: number, len: number, offenderAt: number): number => {
    const e = sockets.get(fd)?.errors.shift();
    if (e === undefined) return -11;
    checkRange(at, len);
    mem.set(e.payload.subarray(0, len), at);
    mem.set(e.offender ?? new Uint8Array(16), offenderAt);
    col[COL.ERR_ORIGIN] = e.origin;
    col[COL.ERR_TYPE] = e.type;
    col[COL.ERR_CODE] = e.code;
    col[COL.ERR_INFO] = e.info ?? 0;
    col[COL.ERR_ERRNO] = e.errno;
    return Math.min(e.payload.length, len);
  },
  udpSegment: (fd: number, segment: number): number => {
    const s = sockets.get(fd);
    if (s === undefined) return -9;
    s.segment = segment;
    return 0;
  },
  setsockopt: (fd: number, level: number, option: number, value: number): number => {
    const s = sockets.get(fd);
    if (s === undefined) return -9;
    s.options.push([level, option, value]);
    return 0;
  },
  socketError: (fd: number): number => {
    const s = sockets.get(fd);
    if (s === undefined) return -9;
    const errno = s.pendingError;
    s.pendingError = 0;
    return errno;
  },
  localPort: (fd: number): number => (sockets.has(fd) ? 40_000 + fd : -9),
  close: (fd: number): number => {
    closedFds.push(fd);
    const s = sockets.get(fd);
    if (s !== undefined) s.closed = true;
    return 0;
  },
  channelSend: (fd: number, at: number, len: number): number => {
    const scripted = channelSendResults.shift() ?? 0;
    if (scripted < 0) return scripted;
    channelSentOver.push(fd);
    channelSent.push(copy(at, len).toString('utf8'));
    return len;
  },
  channelRecv: (fd: number, at: number, len: number): number => {
    const next = channelIncoming.findIndex(({ channel }) => channel === undefined || channel === fd);
    const [m] = next < 0 ? [] : channelIncoming.splice(next, 1);
    if (m === undefined) return channelIdle;
    const bytes = Buffer.from(m.text);
    if (bytes.length > len) return -90;
    mem.set(bytes, at);
    m.fds.forEach((fd, i) => {
      col[COL.FD + i] = fd;
    });
    col[COL.FD_COUNT] = m.fds.length;
    return bytes.length;
  },
  checksum: (at: number, len: number, initial: number): number => checksumOf(copy(at, len), initial),
  random: (at: number, len: number): number => {
    randomFillSync(mem, at, len);
    return len;
  },
} satisfies Partial<Native>;

export const native = fake as unknown as Native;
