// SPDX-License-Identifier: Apache-2.0
/**
 * The life of UDP flows: one connected socket for each (guest address and port, remote address and port).
 *
 *   first datagram → OPENING (asked for; datagrams are kept) → OPEN → idle for its timeout, or pushed out → ended
 *                                                            ↘ REFUSED (errors to the guest for a second) → ended
 *
 * Timeouts are those of a Linux router (nf_conntrack_udp_timeout and …_timeout_stream): short for one way or a single
 * exchange, longer for more. The timer is lazy: a datagram only notes the time, and the timer, when it fires, finds out
 * how much is left.
 *
 * Flows to port 53 have an LRU class of their own: a resolver opens one for each question, and they must not push out
 * flows that live.
 */
import { end } from '../../flow/end.ts';
import * as hash from '../../flow/hash.ts';
import * as lru from '../../flow/lru.ts';
import * as pending from '../../flow/pending.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import { request } from '../../rpc/connect.ts';
import { HEADER_BYTES } from '../../wire/udp.ts';
import * as errors from './errors.ts';
import * as fromSock from './from-sock.ts';
import * as send from './send.ts';
import * as state from './state.ts';

/** Defaults of the kernel's sysctls, for hosts without conntrack. */
const TIMEOUT_MS = 30_000;
const STREAM_TIMEOUT_MS = 120_000;
const DNS_PORT = 53;
/** How long a refusal is remembered before the helper is asked again. */
const REFUSED_MS = 1000;
/** Order of use is kept to that precision: a busy flow need not be moved for each datagram. */
const LRU_PRECISION_MS = 1000;
const EIO = 5;
const ENFILE = 23;
const EMFILE = 24;

let timeoutMs = TIMEOUT_MS;
let streamTimeoutMs = STREAM_TIMEOUT_MS;

export const setTimeouts = (singleMs: number, streamMs: number): void => {
  timeoutMs = singleMs;
  streamTimeoutMs = streamMs;
};

/** A flow for the packet whose IP header lies at `ipAt`; its socket is asked for. NO_FLOW when there is no room: counted. */
export const open = (v4: boolean, ipAt: number, srcPort: number, dstPort: number): Flow => {
  const cls = dstPort === DNS_PORT ? lru.LRU_DNS : lru.LRU_UDP;
  if (lru.isFull(cls)) close(lru.oldest(cls));
  const f = flows.alloc(flows.FLOW_UDP);
  if (f === flows.NO_FLOW) {
    drop(DROP['flow-table-full']);
    return f;
  }
  flows.setTuple(f, v4, ipAt, srcPort, dstPort);
  flows.setLastActive(f, io.nowMs() | 0);
  state.reset(f);
  hash.insert(f);
  lru.add(cls, f);
  if (!request(f, 'udp', srcPort)) {
    drop(DROP['flow-pending-full']);
    end(f);
    return flows.NO_FLOW;
  }
  wheel.arm(f, io.nowMs() + timeoutMs);
  return f;
};

/** Ends a flow, having sent what was gathered for it. */
export const close = (f: Flow): void => {
  if (send.gathering() === f) send.flush();
  pending.clear(f);
  end(f);
};

/** A datagram passed, in either direction. */
export const touch = (f: Flow): void => {
  const now = io.nowMs() | 0;
  if (((now - flows.lastActive(f)) | 0) >= LRU_PRECISION_MS) lru.touch(f);
  flows.setLastActive(f, now);
};

/** The helper handed over the socket. */
export const onConnected = (f: Flow, fd: number): void => {
  flows.setFd(f, fd);
  if (io.native.watch(fd, io.EPOLLIN, flows.ref(f)) < 0) {
    onFailed(f, EIO);
    return;
  }
  state.setPhase(f, state.OPEN);
  for (let e = pending.first(f); e >= 0; e = pending.next(e)) {
    const at = pending.atOf(e) + HEADER_BYTES;
    const len = pending.lenOf(e) - HEADER_BYTES;
    send.append(f, at, len, pending.segmentOf(e), pending.hopLimitOf(e), pending.trafficClassOf(e));
  }
  // The copies are given up next, so nothing of them may stay gathered.
  send.flush();
  pending.clear(f);
};

/** The helper could not, or would not, connect. */
export const onFailed = (f: Flow, errno: number): void => {
  // Descriptors are short: the flow that was idle longest pays, and the guest will try again.
  if (errno === ENFILE || errno === EMFILE) closeOldest(f);
  state.setPhase(f, state.REFUSED);
  state.setErrno(f, errno);
  for (let e = pending.first(f); e >= 0; e = pending.next(e)) {
    drop(DROP['flow-refused']);
    errors.refuse(f, errno, pending.atOf(e), pending.lenOf(e));
  }
  pending.clear(f);
  wheel.arm(f, io.nowMs() + REFUSED_MS);
};
const closeOldest = (but: Flow): void => {
  const oldest = lru.oldest(lru.LRU_UDP);
  if (oldest !== flows.NO_FLOW && oldest !== but) close(oldest);
};

/** An event of the flow's socket. */
export const onEvent = (f: Flow, mask: number): void => {
  if ((mask & io.EPOLLERR) !== 0 && errors.drain(f) === 0) {
    // An error without a message in the queue, which was full: reading it is what makes the event stop.
    if (io.native.socketError(flows.fd(f)) !== 0) drop(DROP['sock-error']);
  }
  if ((mask & io.EPOLLIN) !== 0) fromSock.receive(f);
};

/** The flow's timer fired. */
export const onTimer = (f: Flow): void => {
  const idle = ((io.nowMs() | 0) - flows.lastActive(f)) | 0;
  const timeout = state.isStream(f) ? streamTimeoutMs : timeoutMs;
  if (state.phase(f) === state.REFUSED || idle >= timeout) close(f);
  else wheel.arm(f, io.nowMs() + timeout - idle);
};
