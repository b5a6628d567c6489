// SPDX-License-Identifier: Apache-2.0
/**
 * Stream sockets for unit tests over fake-io.ts, as Linux's TCP behaves towards a program: a send buffer with room, a
 * receive queue that is peeked at and discarded, and edges (epoll(7), EPOLLET) for whoever watches. The other end of
 * the connection, the peer, is the test.
 *
 * A call on a descriptor that is not open throws: it would be a defect, and on a real system another flow's socket.
 */
import * as fake from './fake-io.ts';

const EPIPE = 32;
const EAGAIN = 11;
const EBADF = 9;
const EOPNOTSUPP = 95;
const SOL_SOCKET = 1;
const SO_PEEK_OFF = 42;
const ROOM_BYTES = 4 * 1024 * 1024;
const NOTHING = Buffer.alloc(0);

export type Call = 'writev' | 'recvv' | 'discard' | 'watch';

export class Stream {
  readonly fd: number;
  /** What the socket took, one entry for each writev(2). */
  readonly writes: Buffer[] = [];
  readonly options: [level: number, option: number, value: number][] = [];
  /** Room in the send buffer, bytes. */
  room = ROOM_BYTES;
  /** What it took and the peer has not acknowledged (SIOCOUTQ), bytes. */
  unacked = 0;
  /** What arrived from the peer and was not discarded. */
  queue: Buffer = NOTHING;
  /** SO_PEEK_OFF; -1: not in use. */
  peekAt = -1;
  /** Whether this kernel has SO_PEEK_OFF for TCP (Linux 6.9). */
  peekOffset = true;
  shut = false;
  linger = false;
  closed = false;
  watched = false;
  ref = -1;
  /** Errors, by call, that the next of them meets instead of doing its work. */
  readonly failures: Partial<Record<Call, number>> = {};
  /** Whether the edge was raised since the last `take`. */
  raised = false;
  /** Where in the queue urgent data begins (SO_OOBINLINE): a read that has something ends there. -1: nowhere. */
  private mark = -1;
  private connecting = true;
  private peerClosed = false;
  private error = 0;
  private soft = false;
  /** A write met a full buffer: the next room is an edge (SOCK_NOSPACE). */
  private noSpace = false;

  constructor(fd: number) {
    this.fd = fd;
  }
  /** connect(2) finishes. */
  connected(): void {
    this.connecting = false;
    this.raised = true;
  }
  /** The socket fails: connect(2), or the peer's reset. */
  fails(errno: number): void {
    this.connecting = false;
    this.soft = false;
    this.error = errno;
    this.raised = true;
  }
  /** An error that leaves the connection as it is: EPOLLERR without EPOLLHUP. */
  hint(errno: number): void {
    this.error = errno;
    this.soft = true;
    this.raised = true;
  }
  receives(data: Uint8Array): void {
    this.queue = this.queue.length === 0 ? Buffer.from(data) : Buffer.concat([this.queue, data]);
    this.raised = true;
  }
  /** The same with MSG_OOB: what comes is urgent. */
  receivesUrgent(data: Uint8Array): void {
    this.mark = this.queue.length;
    this.receives(data);
  }
  /** The peer's FIN. */
  ends(): void {
    this.peerClosed = true;
    this.raised = true;
  }
  /** The peer acknowledges `bytes`: room, and an edge if a write was refused. */
  gainsRoom(bytes: number): void {
    this.room += bytes;
    if (this.noSpace && this.room > 0) {
      this.noSpace = false;
      this.raised = true;
    }
  }
  /** What epoll reports: the whole state, whatever raised the edge. */
  get mask(): number {
    if (this.connecting) return 0;
    if (this.error !== 0 && this.soft) return fake.EPOLLERR | fake.EPOLLOUT;
    if (this.error !== 0) return fake.EPOLLERR | fake.EPOLLHUP | fake.EPOLLIN | fake.EPOLLOUT | fake.EPOLLRDHUP;
    let mask = (this.room > 0 || this.shut ? fake.EPOLLOUT : 0) | (this.mark >= 0 ? fake.EPOLLPRI : 0);
    if (this.queue.length > 0 || this.peerClosed) mask |= fake.EPOLLIN;
    if (this.peerClosed) mask |= fake.EPOLLRDHUP;
    return this.peerClosed && this.shut ? mask | fake.EPOLLHUP : mask;
  }
  /** Everything the socket took. */
  get sent(): Buffer {
    return Buffer.concat(this.writes);
  }

  takeError(): number {
    const errno = this.error;
    this.error = 0;
    return errno;
  }
  failure(call: Call): number {
    const errno = this.failures[call] ?? 0;
    delete this.failures[call];
    return errno;
  }
  writev(data: Buffer): number {
    const errno = this.failure('writev') || (this.shut ? EPIPE : 0);
    if (errno !== 0) return -errno;
    const n = Math.min(data.length, this.room);
    if (n < data.length) this.noSpace = true;
    if (n === 0) return -EAGAIN;
    this.room -= n;
    this.writes.push(data.subarray(0, n));
    return n;
  }
  peek(want: number): Buffer | number {
    const errno = this.failure('recvv');
    if (errno !== 0) return -errno;
    const from = Math.max(this.peekAt, 0);
    // A read from the head meets the mark wherever it begins to count.
    const start = this.peekAt >= 0 ? from : 0;
    const end = this.mark > start && this.mark < from + want ? this.mark : from + want;
    const data = this.queue.subarray(from, end);
    if (data.length === 0) return this.peerClosed ? 0 : -EAGAIN;
    if (this.peekAt >= 0) this.peekAt += data.length;
    return data;
  }
  discard(want: number): number {
    const errno = this.failure('discard');
    if (errno !== 0) return -errno;
    const n = Math.min(want, this.queue.length);
    if (n === 0) return this.peerClosed ? 0 : -EAGAIN;
    this.queue = this.queue.subarray(n);
    this.mark = Math.max(this.mark - n, -1);
    if (this.peekAt >= 0) this.peekAt = Math.max(this.peekAt - n, 0);
    return n;
  }
  setsockopt(level: number, option: number, value: number): number {
    if (level === SOL_SOCKET && option === SO_PEEK_OFF) {
      if (!this.peekOffset) return -EOPNOTSUPP;
      this.peekAt = value;
    }
    this.options.push([level, option, value]);
    return 0;
  }
}

/** Every stream of the present test, by descriptor; closed ones stay. */
export const streams = new Map<number, Stream>();
/** The stream behind `fd`, which must be open. */
const open = (fd: number): Stream => {
  const s = streams.get(fd);
  if (s === undefined || s.closed) throw new Error(`descriptor ${fd} is not open`);
  return s;
};
const { native } = fake;
const { writev, watch, unwatch, setsockopt, close } = native;

const ranges = (n: number): [at: number, len: number][] =>
  Array.from({ length: n }, (_, i) => [
    fake.col[fake.COL.IOV_AT + i] as number,
    fake.col[fake.COL.IOV_LEN + i] as number,
  ]);

/** The calls of a stream socket; those that other sockets have, too, go on to the stand-in that was there before. */
Object.assign(native, {
  writev: (fd: number, n: number): number =>
    streams.has(fd)
      ? open(fd).writev(Buffer.concat(ranges(n).map(([at, len]) => fake.mem.slice(at, at + len))))
      : writev(fd, n),
  recvv: (fd: number, n: number, peek: boolean): number => {
    if (!peek) throw new Error('TCP data stays in the socket until it is acknowledged');
    const all = ranges(n);
    const data = open(fd).peek(all.reduce((sum, [, len]) => sum + len, 0));
    if (typeof data === 'number') return data;
    let done = 0;
    for (const [at, len] of all) {
      fake.mem.set(data.subarray(done, done + len), at);
      done += len;
    }
    return data.length;
  },
  discard: (fd: number, len: number): number => open(fd).discard(len),
  tcpRoom: (fd: number): number => open(fd).room,
  tcpOutq: (fd: number): number => open(fd).unacked,
  socketError: (fd: number): number => open(fd).takeError(),
  setsockopt: (fd: number, level: number, option: number, value: number): number =>
    streams.has(fd) ? open(fd).setsockopt(level, option, value) : setsockopt(fd, level, option, value),
  lingerZero: (fd: number): number => {
    open(fd).linger = true;
    return 0;
  },
  shutdownWrite: (fd: number): number => {
    open(fd).shut = true;
    return 0;
  },
  watch: (fd: number, events: number, ref: number): number => {
    const s = streams.get(fd);
    if (s === undefined) return watch(fd, events, ref);
    const errno = s.failure('watch') || (s.closed ? EBADF : 0);
    if (errno !== 0) return -errno;
    s.watched = true;
    s.ref = ref;
    // What is true already is reported as an edge, too.
    s.raised ||= s.mask !== 0;
    return 0;
  },
  unwatch: (fd: number): number => {
    const s = streams.get(fd);
    if (s === undefined) return unwatch(fd);
    s.watched = false;
    return 0;
  },
  close: (fd: number): number => {
    if (!streams.has(fd)) return close(fd);
    open(fd).closed = true;
    return 0;
  },
});
