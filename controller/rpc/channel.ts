// SPDX-License-Identifier: Apache-2.0
/**
 * One helper channel once frames flow, without a promise: requests of one turn leave as JSON-RPC batches and come back as
 * one reply datagram a batch, in order, with descriptors (see shared/rpc/methods.ts).
 *
 * The helper is trusted to speak the protocol: a reply that does not is a defect on our side of the channel or a
 * helper that was taken over, and going on would be guessing. It throws, and the process ends.
 */
import { createJSONRPCRequest, isJSONRPCResponses } from 'json-rpc-2.0';
import * as z from 'zod/mini';
import {
  errorData,
  MESSAGE_BYTES_MAX,
  METHODS,
  type MethodName,
  type Params,
  RPC_ERRORS,
} from '../../shared/rpc/methods.ts';
import * as io from '../io/io.ts';
import { type ConnectParams, connectRequest, descriptorReplies, isJustDescriptor } from './plain.ts';

/** Identifiers of requests from here on are ours; smaller ones belong to the promise client (rpc/client.ts). */
const ID_BASE = 1_000_000_000;
const ID_MASK = 0x3fff_ffff;
/** Few enough that the descriptors of a batch fit one reply (FDS_PER_MESSAGE_MAX) and connects begin early. */
const BATCH_REQUESTS_MAX = 64;
/** Requests queued or unanswered. Beyond it a flow is refused: the helper is a second behind. */
export const REQUESTS_MAX = 8192;
const SLOT_MASK = REQUESTS_MAX - 1;
/** Replies read in one go before other events get their turn. */
const REPLIES_PER_TURN_MAX = 16;

const EIO = 5;
const EAGAIN = 11;
const EACCES = 13;
const ENFILE = 23;
const EMSGSIZE = 90;

const SEND_AT = io.SCRATCH_AT;
const RECV_AT = SEND_AT + MESSAGE_BYTES_MAX;

const failure = z.strictObject({ code: z.int(), message: z.string(), data: z.optional(errorData) });
const reply = z.union([
  z.strictObject({ jsonrpc: z.literal('2.0'), id: z.int(), result: z.unknown() }),
  z.strictObject({ jsonrpc: z.literal('2.0'), id: z.int(), error: failure }),
]);
const replies = z.array(reply).check(z.minLength(1), z.maxLength(BATCH_REQUESTS_MAX));
type Reply = z.output<typeof reply>;

const text = Buffer.from(io.mem.buffer);
const distance = (from: number, to: number): number => (to - from) & ID_MASK;

const parse = (message: string): Reply[] => {
  const payload: unknown = JSON.parse(message);
  if (!isJSONRPCResponses(payload)) throw new Error('the helper sent something that is not a batch of replies');
  return replies.parse(payload);
};

const requestText = <M extends MethodName>(id: number, method: M, params: Params<M>): string => {
  const plain = method === 'socket.connect' ? connectRequest(id, params as ConnectParams) : '';
  return plain !== '' ? plain : JSON.stringify(createJSONRPCRequest(id, method, METHODS[method].params.parse(params)));
};

/** How the request in a slot ended: `errno` 0 and its result, whose `fd` is a descriptor; or an errno, EACCES for a refusal, and null. */
export type OnSettled = (slot: number, errno: number, result: unknown) => void;

export class Channel {
  readonly #onSettled: OnSettled;
  readonly #lateMs: number;
  /** Texts of requests by sequence number: [answered, sent) wait for a reply, [sent, queued) to be sent. */
  readonly #requests: string[] = [];
  readonly #methods: MethodName[] = [];
  /** When each was queued: the clock's milliseconds. */
  readonly #queuedMs = new Int32Array(REQUESTS_MAX);
  #answered = 0;
  #sent = 0;
  #queued = 0;
  /** Sizes of the batches that wait for a reply, oldest first; at most one a request. */
  readonly #batches = new Int32Array(REQUESTS_MAX);
  #oldestBatch = 0;
  #nextBatch = 0;
  #fd = -1;
  #ref = 0;
  /** The channel took no more; its events include EPOLLOUT. */
  #full = false;
  #gone = false;

  /** `lateMs`: while the oldest request has waited longer than that for its reply, no other is taken. */
  constructor(onSettled: OnSettled, lateMs = Number.POSITIVE_INFINITY) {
    this.#onSettled = onSettled;
    this.#lateMs = lateMs;
  }

  /** Takes over the channel, watched with `ref`; its events go to {@link onReadable}. */
  attach(fd: number, ref: number): void {
    this.#fd = fd;
    this.#ref = ref;
    this.#full = false;
    this.#gone = false;
    this.#answered = 0;
    this.#sent = 0;
    this.#queued = 0;
    this.#oldestBatch = 0;
    this.#nextBatch = 0;
    const r = io.native.watch(fd, io.EPOLLIN, ref);
    if (r < 0) throw new Error(`cannot watch descriptor ${fd}: errno ${-r}`);
  }

  /** Requests that wait to be sent or answered. */
  outstanding(): number {
    return distance(this.#answered, this.#queued);
  }

  #isLate(): boolean {
    const oldest = this.#queuedMs[this.#answered & SLOT_MASK] as number;
    return this.outstanding() > 0 && ((io.nowMs() - oldest) | 0) > this.#lateMs;
  }

  /** Queues a request. Its slot, below {@link REQUESTS_MAX}; −1 when too many wait, or one for too long, and nothing was queued. */
  push<M extends MethodName>(method: M, params: Params<M>): number {
    if (this.outstanding() >= REQUESTS_MAX || this.#isLate()) return -1;
    const slot = this.#queued & SLOT_MASK;
    this.#queuedMs[slot] = io.nowMs() | 0;
    this.#requests[slot] = requestText(ID_BASE + this.#queued, method, params);
    this.#methods[slot] = method;
    this.#queued = (this.#queued + 1) & ID_MASK;
    return slot;
  }

  /** Sends what was queued, one batch a datagram. Called once a turn; what the channel does not take waits for its EPOLLOUT. */
  flush(): void {
    while (this.#sent !== this.#queued && !this.#full && !this.#gone) {
      const n = Math.min(distance(this.#sent, this.#queued), BATCH_REQUESTS_MAX);
      if (!this.#sendBatch(n)) return;
    }
  }

  #sendBatch(n: number): boolean {
    let batch = `[${this.#requests[this.#sent & SLOT_MASK]}`;
    for (let i = 1; i < n; i++) batch += `,${this.#requests[(this.#sent + i) & SLOT_MASK]}`;
    const len = text.write(`${batch}]`, SEND_AT, MESSAGE_BYTES_MAX, 'latin1');
    const r = io.native.channelSend(this.#fd, SEND_AT, len);
    if (r === -EAGAIN) {
      this.#setFull(true);
      return false;
    }
    if (r < 0) {
      // EPIPE and the like: the helper is gone, and nothing new can be opened ever again.
      this.#gone = true;
      return false;
    }
    for (let i = 0; i < n; i++) this.#requests[(this.#sent + i) & SLOT_MASK] = '';
    this.#sent = (this.#sent + n) & ID_MASK;
    this.#batches[this.#nextBatch & SLOT_MASK] = n;
    this.#nextBatch++;
    return true;
  }

  #setFull(yes: boolean): void {
    if (this.#full === yes) return;
    this.#full = yes;
    io.native.watch(this.#fd, yes ? io.EPOLLIN | io.EPOLLOUT : io.EPOLLIN, this.#ref);
  }

  /**
   * Reads the replies that wait and settles their requests; also for events that say that the channel takes requests
   * again. False when the helper is gone. Throws on a reply that breaks the protocol.
   */
  onReadable(): boolean {
    if (this.#full) this.#setFull(false);
    for (let i = 0; i < REPLIES_PER_TURN_MAX && !this.#gone; i++) {
      // Nothing more can be there, and the end of file would be reported again.
      if (i > 0 && this.#oldestBatch === this.#nextBatch) break;
      const n = io.native.channelRecv(this.#fd, RECV_AT, MESSAGE_BYTES_MAX, false);
      if (n === -EAGAIN) break;
      // The reply was cut because this process has no descriptor left; the addon closed those that came.
      if (n === -EMSGSIZE) this.#failBatch(ENFILE);
      else if (n > 0) this.#takeReplies(n);
      else this.#gone = true;
    }
    return !this.#gone;
  }

  #takeBatch(): number {
    if (this.#oldestBatch === this.#nextBatch) throw new Error('the helper answered what was not asked');
    const n = this.#batches[this.#oldestBatch & SLOT_MASK] as number;
    this.#oldestBatch++;
    return n;
  }

  #failBatch(errno: number): void {
    const n = this.#takeBatch();
    for (let i = 0; i < n; i++) this.#settle(errno, null);
  }

  #takeReplies(len: number): void {
    if (!this.#takeDescriptors(len)) this.#takeAnyReplies(len);
  }

  /** Replies that are a descriptor each, as nearly all are. False: they are not, and nothing was taken. */
  #takeDescriptors(len: number): boolean {
    const count = io.col[io.COL.FD_COUNT] as number;
    if (this.#oldestBatch === this.#nextBatch || count !== this.#batches[this.#oldestBatch & SLOT_MASK]) return false;
    for (let i = 0; i < count; i++) {
      if (!isJustDescriptor(this.#methods[(this.#answered + i) & SLOT_MASK] as MethodName)) return false;
    }
    if (text.toString('latin1', RECV_AT, RECV_AT + len) !== descriptorReplies(ID_BASE + this.#answered, count))
      return false;
    this.#takeBatch();
    if (count === 1) {
      this.#settle(0, { fd: io.col[io.COL.FD] as number });
      return true;
    }
    // Those that are settled use the column.
    for (const fd of io.col.slice(io.COL.FD, io.COL.FD + count)) this.#settle(0, { fd });
    return true;
  }

  #takeAnyReplies(len: number): void {
    const count = io.col[io.COL.FD_COUNT] as number;
    const fds = Array.from(io.col.subarray(io.COL.FD, io.COL.FD + count));
    try {
      const parsed = parse(text.toString('utf8', RECV_AT, RECV_AT + len));
      if (parsed.length !== this.#takeBatch()) throw new Error('the helper answered only a part of a batch');
      for (const r of parsed) this.#takeReply(r, fds);
    } finally {
      // What no reply named (none, from a helper that is sound) or came before an error in the protocol.
      for (const fd of fds) if (fd >= 0) io.native.close(fd);
    }
  }

  #takeReply(r: Reply, fds: number[]): void {
    if (r.id !== ID_BASE + this.#answered) throw new Error(`reply ${r.id} is out of order`);
    if ('error' in r) {
      this.#settle(r.error.code === RPC_ERRORS.REFUSED ? EACCES : (r.error.data?.errno ?? EIO), null);
      return;
    }
    const method = this.#methods[this.#answered & SLOT_MASK] as MethodName;
    const result = METHODS[method].result.parse(r.result) as { fd?: number };
    if (result.fd !== undefined) {
      const fd = fds[result.fd] ?? -1;
      if (fd < 0) throw new Error(`reply ${r.id} names a descriptor that did not come`);
      fds[result.fd] = -1;
      result.fd = fd;
    }
    this.#settle(0, result);
  }

  /** Ends the oldest unanswered request. */
  #settle(errno: number, result: unknown): void {
    const slot = this.#answered & SLOT_MASK;
    this.#answered = (this.#answered + 1) & ID_MASK;
    this.#onSettled(slot, errno, result);
  }
}
