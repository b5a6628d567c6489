// SPDX-License-Identifier: Apache-2.0
/**
 * The hot side of the RPC channel: `socket.connect` for new flows, without a promise. Requests of one turn leave as
 * JSON-RPC batches and come back as one reply datagram a batch, in order, with the sockets as descriptors (see
 * shared/rpc/methods.ts). A packet of an established flow never waits for any of this.
 *
 * Between the request and its reply the flow may have ended, and its row may even be another flow by now; the
 * generation noted with the request tells. A socket that nobody waits for any more is closed at once.
 *
 * The helper is trusted to speak the protocol: a reply that does not is a defect on our side of the channel or a
 * helper that was taken over, and going on would be guessing. It throws, and the process ends.
 */
import { createJSONRPCRequest, isJSONRPCResponses, type JSONRPCRequest } from 'json-rpc-2.0';
import * as z from 'zod/mini';
import { errorData, MESSAGE_BYTES_MAX, METHODS, type Params, RPC_ERRORS } from '../../shared/rpc/methods.ts';
import { debugFlow } from '../flow/describe.ts';
import {
  FLOW_FREE,
  type Flow,
  type FlowType,
  generation,
  isV4,
  remotePort,
  remoteWord,
  typeOf,
} from '../flow/table.ts';
import * as io from '../io/io.ts';
import * as log from '../obs/log.ts';
import * as addr from '../wire/addr.ts';

const METHOD = 'socket.connect';
const MULTICAST = 'socket.multicast';
const DESCRIPTORS = log.site('Out of file descriptors');
/** Identifiers of requests from here on are ours; smaller ones belong to the promise client (rpc/client.ts). */
const ID_BASE = 1_000_000_000;
const ID_MASK = 0x3fff_ffff;
/** Few enough that the descriptors of a batch fit one reply (FDS_PER_MESSAGE_MAX) and connects begin early. */
const BATCH_REQUESTS_MAX = 64;
/** Requests queued or unanswered. Beyond it a flow is refused: the helper is a second behind. */
const REQUESTS_MAX = 8192;
const SLOT_MASK = REQUESTS_MAX - 1;
/** Replies read in one go before other events get their turn. */
const REPLIES_PER_TURN_MAX = 16;

const EIO = 5;
const EAGAIN = 11;
const EACCES = 13;
const ENFILE = 23;
const EMFILE = 24;
const EMSGSIZE = 90;

const SEND_AT = io.SCRATCH_AT;
const RECV_AT = SEND_AT + MESSAGE_BYTES_MAX;

const failure = z.strictObject({ code: z.int(), message: z.string(), data: z.optional(errorData) });
const reply = z.union([
  z.strictObject({ jsonrpc: z.literal('2.0'), id: z.int(), result: METHODS[METHOD].result }),
  z.strictObject({ jsonrpc: z.literal('2.0'), id: z.int(), error: failure }),
]);
const replies = z.array(reply).check(z.minLength(1), z.maxLength(BATCH_REQUESTS_MAX));
type Reply = z.output<typeof reply>;
type Protocol = Params<typeof METHOD>['protocol'];

interface Handlers {
  /** The socket is the flow's now. */
  readonly onConnected: (f: Flow, fd: number) => void;
  /** `errno` of the call that failed; EACCES when the helper's floor refused. */
  readonly onFailed: (f: Flow, errno: number) => void;
}
const handlers = new Map<FlowType, Handlers>();

/** Requests by sequence number: [answered, sent) wait for a reply, [sent, queued) to be sent. */
const flows = new Int32Array(REQUESTS_MAX);
const generations = new Int32Array(REQUESTS_MAX);
const requests: (JSONRPCRequest | null)[] = new Array(REQUESTS_MAX).fill(null);
let answered = 0;
let sent = 0;
let queued = 0;
/** Sizes of the batches that wait for a reply, oldest first; at most one a request. */
const batches = new Int32Array(REQUESTS_MAX);
let oldestBatch = 0;
let nextBatch = 0;

let channel = -1;
let channelRef = 0;
/** The channel took no more; its events include EPOLLOUT. */
let full = false;
let gone = false;

const text = Buffer.from(io.mem.buffer);
const distance = (from: number, to: number): number => (to - from) & ID_MASK;

/** Takes over the helper's channel, watched with `ref`; its events go to {@link onChannelReadable}. */
export const attach = (fd: number, ref: number): void => {
  channel = fd;
  channelRef = ref;
  full = false;
  gone = false;
  answered = 0;
  sent = 0;
  queued = 0;
  oldestBatch = 0;
  nextBatch = 0;
  io.native.watch(fd, io.EPOLLIN, ref);
};

/** Who takes the sockets of a type of flow. Called once a type, at start. */
export const register = (
  type: FlowType,
  onConnected: Handlers['onConnected'],
  onFailed: Handlers['onFailed'],
): void => {
  handlers.set(type, { onConnected, onFailed });
};

/** Text of the flow's remote address, as the helper wants it. */
export const remoteText = (f: Flow): string =>
  isV4(f)
    ? addr.ipv4Text(remoteWord(f, 3))
    : addr.ipv6Text(remoteWord(f, 0), remoteWord(f, 1), remoteWord(f, 2), remoteWord(f, 3));

/**
 * Asks for a socket connected to `address` and `port`; `sourcePort` (or echo identifier) 0 leaves the choice to the
 * kernel, a `hopLimit` of 0 does the same. The answer comes to the handlers of the flow's type in a later turn, unless the flow has ended. False when
 * too many requests wait: nothing was queued then.
 */
export const requestTo = (
  f: Flow,
  protocol: Protocol,
  address: string,
  port: number,
  sourcePort: number,
  hopLimit = 0,
): boolean => {
  if (distance(answered, queued) >= REQUESTS_MAX) return false;
  enqueue(
    f,
    METHOD,
    METHODS[METHOD].params.parse(
      hopLimit === 0 ? { protocol, address, port, sourcePort } : { protocol, address, port, sourcePort, hopLimit },
    ),
  );
  return true;
};

const enqueue = (f: Flow, method: string, params: Params<typeof METHOD> | Params<typeof MULTICAST>): void => {
  const slot = queued & SLOT_MASK;
  flows[slot] = f;
  generations[slot] = generation(f);
  requests[slot] = createJSONRPCRequest(ID_BASE + queued, method, params);
  queued = (queued + 1) & ID_MASK;
};

/** {@link requestTo} for groups and broadcast, --multicast: `address` is the group's. */
export const requestMulticast = (
  f: Flow,
  role: Params<typeof MULTICAST>['role'],
  address: string,
  port: number,
  sourcePort: number,
): boolean => {
  if (distance(answered, queued) >= REQUESTS_MAX) return false;
  enqueue(f, MULTICAST, METHODS[MULTICAST].params.parse({ role, address, port, sourcePort }));
  return true;
};

/** {@link requestTo} the remote port, at the remote address or what it stands for. */
export const request = (
  f: Flow,
  protocol: Protocol,
  sourcePort = 0,
  hopLimit = 0,
  address = remoteText(f),
): boolean => {
  if (log.debugEnabled) debugFlow(f, 'from tap', 'new');
  return requestTo(f, protocol, address, remotePort(f), sourcePort, hopLimit);
};

/** Sends what was queued, one batch a datagram. Called once a turn; what the channel does not take waits for its EPOLLOUT. */
export const flushRequests = (): void => {
  while (sent !== queued && !full && !gone) {
    const n = Math.min(distance(sent, queued), BATCH_REQUESTS_MAX);
    if (!sendBatch(n)) return;
  }
};

const sendBatch = (n: number): boolean => {
  const batch: (JSONRPCRequest | null)[] = [];
  for (let i = 0; i < n; i++) batch.push(requests[(sent + i) & SLOT_MASK] ?? null);
  const len = text.write(JSON.stringify(batch), SEND_AT, MESSAGE_BYTES_MAX, 'latin1');
  const r = io.native.channelSend(channel, SEND_AT, len);
  if (r === -EAGAIN) {
    setFull(true);
    return false;
  }
  if (r < 0) {
    // EPIPE and the like: the helper is gone, and nothing new can be opened ever again.
    gone = true;
    return false;
  }
  for (let i = 0; i < n; i++) requests[(sent + i) & SLOT_MASK] = null;
  sent = (sent + n) & ID_MASK;
  batches[nextBatch & SLOT_MASK] = n;
  nextBatch++;
  return true;
};

const setFull = (yes: boolean): void => {
  if (full === yes) return;
  full = yes;
  io.native.watch(channel, yes ? io.EPOLLIN | io.EPOLLOUT : io.EPOLLIN, channelRef);
};

/**
 * Reads the replies that wait and hands the sockets to their flows; also for events that say that the channel takes
 * requests again. False when the helper is gone. Throws on a reply that breaks the protocol.
 */
export const onChannelReadable = (): boolean => {
  if (full) setFull(false);
  for (let i = 0; i < REPLIES_PER_TURN_MAX && !gone; i++) {
    const n = io.native.channelRecv(channel, RECV_AT, MESSAGE_BYTES_MAX, false);
    if (n === -EAGAIN) break;
    // The reply was cut because this process has no descriptor left; the addon closed those that came.
    if (n === -EMSGSIZE) failBatch(ENFILE);
    else if (n > 0) takeReplies(n);
    else gone = true;
  }
  return !gone;
};

const takeBatch = (): number => {
  if (oldestBatch === nextBatch) throw new Error('the helper answered what was not asked');
  const n = batches[oldestBatch & SLOT_MASK] as number;
  oldestBatch++;
  return n;
};

const failBatch = (errno: number): void => {
  const n = takeBatch();
  for (let i = 0; i < n; i++) settle(-1, errno);
};

const takeReplies = (len: number): void => {
  const count = io.col[io.COL.FD_COUNT] as number;
  const fds = Array.from(io.col.subarray(io.COL.FD, io.COL.FD + count));
  try {
    const parsed = parse(text.toString('utf8', RECV_AT, RECV_AT + len));
    if (parsed.length !== takeBatch()) throw new Error('the helper answered only a part of a batch');
    for (const r of parsed) takeReply(r, fds);
  } finally {
    // What no reply named (none, from a helper that is sound) or came before an error in the protocol.
    for (const fd of fds) if (fd >= 0) io.native.close(fd);
  }
};

const parse = (message: string): Reply[] => {
  const payload: unknown = JSON.parse(message);
  if (!isJSONRPCResponses(payload)) throw new Error('the helper sent something that is not a batch of replies');
  return replies.parse(payload);
};

const takeReply = (r: Reply, fds: number[]): void => {
  if (r.id !== ID_BASE + answered) throw new Error(`reply ${r.id} is out of order`);
  if ('error' in r) {
    settle(-1, r.error.code === RPC_ERRORS.REFUSED ? EACCES : (r.error.data?.errno ?? EIO));
    return;
  }
  const fd = fds[r.result.fd] ?? -1;
  if (fd < 0) throw new Error(`reply ${r.id} names a descriptor that did not come`);
  fds[r.result.fd] = -1;
  settle(fd, 0);
};

/** Ends the oldest unanswered request: with a socket, or with `fd` -1 and the reason. */
const settle = (fd: number, errno: number): void => {
  const slot = answered & SLOT_MASK;
  answered = (answered + 1) & ID_MASK;
  const f = flows[slot] as Flow;
  const type = typeOf(f);
  const handler = type === FLOW_FREE ? undefined : handlers.get(type);
  if (handler === undefined || generation(f) !== generations[slot]) {
    if (fd >= 0) io.native.close(fd);
  } else if (fd >= 0) {
    handler.onConnected(f, fd);
  } else {
    if (errno === EMFILE || errno === ENFILE) {
      log.warnAt(DESCRIPTORS, io.nowMs(), 'Out of file descriptors: new flows are refused (see RLIMIT_NOFILE)');
    }
    if (log.debugEnabled) debugFlow(f, 'from sock', `no socket, errno ${errno}`);
    handler.onFailed(f, errno);
  }
};

/** Requests that wait to be sent or answered. */
export const outstanding = (): number => distance(answered, queued);
