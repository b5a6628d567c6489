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
 * How many there may be, and who goes when there are too many: share.ts.
 */
import { debugFlow } from '../../flow/describe.ts';
import * as descriptors from '../../flow/descriptors.ts';
import * as fragmentation from '../../flow/fragmentation.ts';
import * as hash from '../../flow/hash.ts';
import * as lru from '../../flow/lru.ts';
import * as pending from '../../flow/pending.ts';
import * as sockError from '../../flow/sock-error.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import * as destination from '../../fwd/destination.ts';
import * as nat from '../../fwd/nat.ts';
import * as io from '../../io/io.ts';
import * as guestError from '../../link/guest-error.ts';
import * as pressure from '../../link/pressure.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as log from '../../obs/log.ts';
import { HEADER_BYTES } from '../../wire/udp.ts';
import * as activity from './activity.ts';
import * as errors from './errors.ts';
import * as fromSock from './from-sock.ts';
import * as group from './group.ts';
import * as send from './send.ts';
import * as share from './share.ts';
import * as state from './state.ts';

/** Defaults of the kernel's sysctls, for hosts without conntrack. */
const TIMEOUT_MS = 30_000;
const STREAM_TIMEOUT_MS = 120_000;
/** How long a refusal is remembered before the helper is asked again. */
const REFUSED_MS = 1000;
const EIO = 5;
const ENFILE = 23;
const EMFILE = 24;
const ENETUNREACH = 101;

let timeoutMs = TIMEOUT_MS;
let streamTimeoutMs = STREAM_TIMEOUT_MS;

export const setTimeouts = (singleMs: number, streamMs: number): void => {
  timeoutMs = singleMs;
  streamTimeoutMs = streamMs;
};

/** A flow for the packet whose IP header lies at `ipAt`; its socket is asked for; `toGroup`: for many hosts. NO_FLOW when there is no room: counted. */
export const open = (v4: boolean, ipAt: number, srcPort: number, dstPort: number, toGroup: boolean): Flow => {
  if (!pressure.mayServe()) {
    drop(DROP['guest-flood']);
    return flows.NO_FLOW;
  }
  const f = flows.alloc(flows.FLOW_UDP);
  if (f === flows.NO_FLOW) {
    drop(DROP['flow-table-full']);
    return f;
  }
  flows.setTuple(f, v4, ipAt, srcPort, dstPort);
  begin(f);
  const cls = toGroup ? group.CLASS : share.classOfNew(f);
  activity.makeRoom(cls);
  share.enter(cls, f);
  if (!toGroup && nat.leadsNowhere(f)) {
    onFailed(f, ENETUNREACH);
    return f;
  }
  if (!(toGroup ? group.ask(f) : destination.request(f, 'udp', srcPort, 0))) {
    drop(DROP['flow-pending-full']);
    activity.close(f);
    return flows.NO_FLOW;
  }
  wheel.arm(f, io.nowMs() + timeoutMs);
  return f;
};

/**
 * A flow that a peer begins: addresses as four words of each, `ports` guest's << 16 | peer's. Its socket is the caller's affair. NO_FLOW
 * when there is no room: counted.
 */
export const openInbound = (v4: boolean, guest: Int32Array, remote: Int32Array, ports: number): Flow => {
  const f = flows.alloc(flows.FLOW_UDP);
  if (f === flows.NO_FLOW) {
    drop(DROP['flow-table-full']);
    return f;
  }
  flows.setV4(f, v4);
  flows.setGuest(f, guest[0] as number, guest[1] as number, guest[2] as number, guest[3] as number);
  flows.setRemote(f, remote[0] as number, remote[1] as number, remote[2] as number, remote[3] as number);
  flows.setPorts(f, ports >>> 16, ports & 0xffff);
  begin(f);
  state.setInbound(f);
  activity.makeRoom(lru.LRU_UDP_IN_NEW);
  share.enter(lru.LRU_UDP_IN_NEW, f);
  wheel.arm(f, io.nowMs() + timeoutMs);
  if (log.debugEnabled) debugFlow(f, 'from sock', 'new');
  return f;
};

/** Everything of a new flow whose tuple is set. */
const begin = (f: Flow): void => {
  flows.setLastActive(f, io.nowMs() | 0);
  state.reset(f, io.nowMs() | 0);
  fragmentation.reset(f);
  sockError.reset(f);
  hash.insert(f);
};

/** Closes the flow's socket; another one follows. */
export const closeSocket = (f: Flow): void => {
  io.native.unwatch(flows.fd(f));
  io.native.close(flows.fd(f));
  flows.setFd(f, -1);
  state.resetSocket(f);
  fragmentation.resetSocket(f);
};

/** The helper handed over the socket. */
export const onConnected = (f: Flow, fd: number): void => {
  flows.setFd(f, fd);
  if (io.native.watch(fd, io.EPOLLIN, flows.ref(f)) < 0) {
    onFailed(f, EIO);
    return;
  }
  goOn(f);
};

/** The flow has the socket that it sends by from now on. */
export const goOn = (f: Flow): void => {
  state.setPhase(f, state.OPEN);
  for (let e = pending.first(f); e >= 0; e = pending.next(e)) {
    const at = pending.atOf(e) + HEADER_BYTES;
    const len = pending.lenOf(e) - HEADER_BYTES;
    const dontFragment = pending.dontFragmentOf(e);
    send.append(f, at, len, pending.segmentOf(e), pending.hopLimitOf(e), pending.trafficClassOf(e), dontFragment);
  }
  // The copies are given up next, so nothing of them may stay gathered.
  send.flush();
  pending.clear(f);
};

/** The helper could not, or would not, connect. */
export const onFailed = (f: Flow, errno: number): void => {
  // Somebody pays, and the guest will try again.
  if (errno === ENFILE || errno === EMFILE) descriptors.short(descriptors.UDP, f);
  state.setPhase(f, state.REFUSED);
  state.setErrno(f, errno);
  for (let e = pending.first(f); e >= 0; e = pending.next(e)) {
    drop(DROP['flow-refused']);
    errors.refuse(f, errno, pending.atOf(e), pending.lenOf(e));
  }
  pending.clear(f);
  wheel.arm(f, io.nowMs() + REFUSED_MS);
};

/** An event of the flow's socket. */
export const onEvent = (f: Flow, mask: number): void => {
  if ((mask & (io.EPOLLERR | io.EPOLLHUP)) !== 0 && !sockError.settle(f, errors.drain(f))) {
    drop(DROP['sock-error']);
    activity.close(f);
    return;
  }
  if ((mask & io.EPOLLIN) !== 0) fromSock.receive(f);
};

/**
 * The guest has an error to tell about a datagram to it. Where its port is gone the flow ends, and with it our socket: what the
 * peer sends from now on is answered by the host, as it would have been by the guest.
 */
export const onGuestError = (f: flows.Flow, kind: guestError.Kind, mtu: number): void => {
  if (kind === guestError.GONE) activity.close(f);
  else fragmentation.lowerGuestMtu(f, mtu);
};

/** The flow's timer fired. */
export const onTimer = (f: Flow): void => {
  const idle = ((io.nowMs() | 0) - flows.lastActive(f)) | 0;
  const timeout = state.isStream(f) ? streamTimeoutMs : timeoutMs;
  if (state.phase(f) === state.REFUSED || idle >= timeout) activity.close(f);
  else wheel.arm(f, io.nowMs() + timeout - idle);
};
