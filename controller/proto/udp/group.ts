// SPDX-License-Identifier: Apache-2.0
/**
 * Multicast and broadcast (--multicast). What the guest sends to a group is an ordinary flow whose socket is connected to
 * the group (flow.ts, send.ts). That socket hears nothing, so there are two more kinds, rows of type FLOW_GROUP that are
 * not in the hash and never send:
 *
 *   answers   one beside each such flow: bound to the port it sends from, or another where somebody has it; what comes
 *             goes to the guest's port
 *   listener  one for each group that the guest joined and a port that it uses there: what comes goes to the group
 *
 * IGMP and MLD name groups and no ports. A port is taken as used when the guest sends to it, and for the groups of
 * WELL_KNOWN at once: who only listens must be heard of, too.
 *
 * A protocol whose messages have one port at both ends (mDNS) must keep it, even where the host's own service has it for
 * unicast; others (SSDP) must send from the port at which the answers are heard.
 */
import { end } from '../../flow/end.ts';
import * as fragmentation from '../../flow/fragmentation.ts';
import * as lru from '../../flow/lru.ts';
import * as sockError from '../../flow/sock-error.ts';
import * as flows from '../../flow/table.ts';
import { FLOW_GROUP, FLOW_MAX, type Flow, NO_FLOW } from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import { parseIpv4 } from '../../host/address-text.ts';
import type { Network } from '../../host/network.ts';
import * as io from '../../io/io.ts';
import * as groups from '../../link/groups.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as connect from '../../rpc/connect.ts';
import * as addr from '../../wire/addr.ts';
import * as ipv4 from '../../wire/ipv4.ts';
import * as ipv6 from '../../wire/ipv6.ts';
import * as activity from './activity.ts';
import * as errors from './errors.ts';
import * as fromSock from './from-sock.ts';
import * as state from './state.ts';

const MAPPED = flows.MAPPED_WORD;
/** Words of a group, and the ports of the services that are found by it. */
const WELL_KNOWN: readonly (readonly [w0: number, w1: number, w2: number, w3: number, ports: readonly number[]])[] = [
  // mDNS (RFC 6762), SSDP (UPnP) and WS-Discovery, LLMNR (RFC 4795)
  [0, 0, MAPPED, 0xe00000fb | 0, [5353]],
  [0, 0, MAPPED, 0xeffffffa | 0, [1900, 3702]],
  [0, 0, MAPPED, 0xe00000fc | 0, [5355]],
  [0xff020000 | 0, 0, 0, 0xfb, [5353]],
  [0xff020000 | 0, 0, 0, 0xc, [1900, 3702]],
  [0xff050000 | 0, 0, 0, 0xc, [1900, 3702]],
  [0xff020000 | 0, 0, 1, 3, [5355]],
];
const LISTENERS_MAX = 2 * groups.GROUPS_MAX;
/** …and where descriptors are few, that part of them. */
const LISTENERS_PART = 1 / 32;
const BROADCASTS_MAX = 64;
const ADDRESS_WORD_LIMITED_BROADCAST = -1;
const EIO = 5;

let on = false;
/** Row + 1 of each listener, 0: free. As many are used as descriptors allow. */
const listeners = new Int32Array(LISTENERS_MAX);
let listenersMax = LISTENERS_MAX;
/** Broadcast addresses of the guest's networks (RFC 919 §7). */
const broadcasts = new Int32Array(BROADCASTS_MAX);
let broadcastCount = 0;
/** Row + 1 of the flow that an answers row belongs to; 0: the row is a listener. */
const senders = new Int32Array(FLOW_MAX);

/** `multicast`: the option was given; `descriptors`: those that a process may have. Called once, before the first frame. */
export const configure = (network: Network, multicast: boolean, descriptors: number): void => {
  on = multicast;
  listenersMax = Math.max(Math.min(LISTENERS_MAX, Math.floor(descriptors * LISTENERS_PART)), 1);
  broadcastCount = 0;
  for (const { address, prefix } of network.v4?.addresses ?? []) {
    if (prefix >= 31 || broadcastCount === BROADCASTS_MAX) continue;
    broadcasts[broadcastCount++] = parseIpv4(address) | ~addr.ipv4Mask(prefix);
  }
  listeners.fill(0);
  groups.configure(multicast ? onJoin : null, multicast ? onLeave : null);
  connect.register(FLOW_GROUP, onConnected, onFailed);
};

const isBroadcast = (dst: number): boolean => {
  for (let i = 0; i < broadcastCount; i++) if (broadcasts[i] === dst) return true;
  return dst === ADDRESS_WORD_LIMITED_BROADCAST;
};

/** Whether the packet whose IP header lies at `ipAt` is for more than one host. */
export const isForMany = (ipAt: number, v4: boolean): boolean => {
  const v = io.view;
  if (!v4) return ipv6.isMulticast(ipv6.dstWord(v, ipAt, 0));
  const dst = ipv4.dst(v, ipAt);
  return dst >>> 28 >= 14 || isBroadcast(dst);
};

/** Whether such a packet may leave: the option was given, and it is for the link or site. */
export const mayLeave = (ipAt: number, v4: boolean): boolean => {
  if (!on) return false;
  const v = io.view;
  if (v4) {
    const dst = ipv4.dst(v, ipAt);
    return isBroadcast(dst) || groups.isLocal(0, 0, MAPPED, dst);
  }
  return groups.isLocal(
    ipv6.dstWord(v, ipAt, 0),
    ipv6.dstWord(v, ipAt, 1),
    ipv6.dstWord(v, ipAt, 2),
    ipv6.dstWord(v, ipAt, 3),
  );
};

/** Asks for the sockets of a new flow to a group, whose tuple is set. False when too many requests wait. */
export const ask = (f: Flow): boolean => {
  state.setGroup(f);
  const g3 = flows.remoteWord(f, 3);
  if (groups.isJoined(flows.remoteWord(f, 0), flows.remoteWord(f, 1), flows.remoteWord(f, 2), g3)) {
    listen(flows.remoteWord(f, 0), flows.remoteWord(f, 1), flows.remoteWord(f, 2), g3, flows.remotePort(f));
  }
  // Source port 0: no answer is expected (RFC 768).
  if (flows.guestPort(f) === 0) return askSend(f, 0);
  const a = newRow();
  if (a === NO_FLOW) return false;
  flows.setV4(a, flows.isV4(f));
  flows.setGuest(a, flows.guestWord(f, 0), flows.guestWord(f, 1), flows.guestWord(f, 2), flows.guestWord(f, 3));
  flows.setPorts(a, flows.guestPort(f), 0);
  if (!connect.requestMulticast(a, 'answers', connect.remoteText(f), flows.remotePort(f), flows.guestPort(f))) {
    end(a);
    return false;
  }
  senders[a] = f + 1;
  state.setAnswers(f, a);
  return true;
};

const askSend = (f: Flow, answersPort: number): boolean => {
  const symmetric = flows.guestPort(f) === flows.remotePort(f);
  const port = symmetric ? flows.guestPort(f) : answersPort;
  return connect.requestMulticast(f, 'send', connect.remoteText(f), flows.remotePort(f), port);
};

const newRow = (): Flow => {
  const r = flows.alloc(FLOW_GROUP);
  if (r === NO_FLOW) return r;
  flows.setLastActive(r, io.nowMs() | 0);
  state.reset(r, io.nowMs() | 0);
  fragmentation.reset(r);
  sockError.reset(r);
  return r;
};

/** Opens a listener for that port of a group, unless there is one. */
const listen = (w0: number, w1: number, w2: number, w3: number, port: number): void => {
  let free = -1;
  for (let i = 0; i < listenersMax; i++) {
    if (listeners[i] === 0) free = i;
    else if (isListener(((listeners[i] as number) - 1) as Flow, w0, w1, w2, w3, port)) return;
  }
  const r = free < 0 ? NO_FLOW : newRow();
  if (r === NO_FLOW) {
    drop(DROP['group-table-full']);
    return;
  }
  const v4 = w0 === 0;
  flows.setV4(r, v4);
  flows.setGuest(r, w0, w1, w2, w3);
  flows.setPorts(r, port, 0);
  senders[r] = 0;
  if (!connect.requestMulticast(r, 'group', v4 ? addr.ipv4Text(w3) : addr.ipv6Text(w0, w1, w2, w3), port, 0)) {
    drop(DROP['flow-pending-full']);
    end(r);
    return;
  }
  listeners[free] = r + 1;
};

const isGroupOf = (r: Flow, w0: number, w1: number, w2: number, w3: number): boolean =>
  flows.guestWord(r, 3) === w3 &&
  flows.guestWord(r, 2) === w2 &&
  flows.guestWord(r, 1) === w1 &&
  flows.guestWord(r, 0) === w0;
const isListener = (r: Flow, w0: number, w1: number, w2: number, w3: number, port: number): boolean =>
  flows.guestPort(r) === port && isGroupOf(r, w0, w1, w2, w3);

const onJoin = (w0: number, w1: number, w2: number, w3: number): void => {
  for (let i = 0; i < LISTENERS_MAX; i++) {
    const r = ((listeners[i] as number) - 1) as Flow;
    if (r !== NO_FLOW && isGroupOf(r, w0, w1, w2, w3)) wheel.disarm(r);
  }
  for (const [k0, k1, k2, k3, ports] of WELL_KNOWN) {
    if (k0 !== w0 || k1 !== w1 || k2 !== w2 || k3 !== w3) continue;
    for (const port of ports) listen(w0, w1, w2, w3, port);
  }
};

/** Somebody else may still be in the group, and says so before the time is up. */
const onLeave = (w0: number, w1: number, w2: number, w3: number): void => {
  for (let i = 0; i < LISTENERS_MAX; i++) {
    const r = ((listeners[i] as number) - 1) as Flow;
    if (r !== NO_FLOW && isGroupOf(r, w0, w1, w2, w3)) wheel.arm(r, io.nowMs() + groups.LAST_MEMBER_MS);
  }
};

/** The timer of a listener fired: nobody is in its group any more. */
export const onTimer = (r: Flow): void => {
  forget(r);
  end(r);
};

const forget = (r: Flow): void => {
  for (let i = 0; i < LISTENERS_MAX; i++) if (listeners[i] === r + 1) listeners[i] = 0;
};

const onConnected = (r: Flow, fd: number): void => {
  flows.setFd(r, fd);
  if (io.native.watch(fd, io.EPOLLIN, flows.ref(r)) < 0) {
    onFailed(r, EIO);
    return;
  }
  const f = ((senders[r] as number) - 1) as Flow;
  if (f !== NO_FLOW) goOn(f, io.native.localPort(fd));
};

/** Without an ear the guest still has a voice: errors are not worth more than that. */
const onFailed = (r: Flow, _errno: number): void => {
  const f = ((senders[r] as number) - 1) as Flow;
  drop(DROP['flow-refused']);
  deafen(r);
  if (f !== NO_FLOW) goOn(f, flows.guestPort(f));
};

/** Ends row `r`; the flow that it belongs to, if it does, stays. */
const deafen = (r: Flow): void => {
  const f = ((senders[r] as number) - 1) as Flow;
  forget(r);
  end(r);
  if (f !== NO_FLOW) state.setAnswers(f, NO_FLOW);
};

const giveUp = (r: Flow): void => {
  drop(DROP['sock-error']);
  deafen(r);
};

const goOn = (f: Flow, port: number): void => {
  if (askSend(f, Math.max(port, 0))) return;
  drop(DROP['flow-pending-full']);
  activity.close(f);
};

/** An event of a listener's or an answers row's socket. */
export const onEvent = (r: Flow, mask: number): void => {
  if ((mask & (io.EPOLLERR | io.EPOLLHUP)) !== 0 && !sockError.settle(r, errors.discard(r))) {
    giveUp(r);
    return;
  }
  if ((mask & io.EPOLLIN) === 0) return;
  const f = ((senders[r] as number) - 1) as Flow;
  if (fromSock.receiveFromAny(r) && f !== NO_FLOW) activity.touch(f);
};

/** The class of flows to groups; each has two descriptors. */
export const CLASS = lru.LRU_GROUP;
