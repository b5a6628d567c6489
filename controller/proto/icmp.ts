// SPDX-License-Identifier: Apache-2.0
/**
 * Echo (ping) of the guest, RFC 792 and RFC 4443 §4: one connected "ping" socket of the host for each pair of addresses
 * and identifier. The kernel gives such a socket its own identifier; replies get the guest's back.
 *
 * Requests to our own addresses, and to those that stand for the host, are answered here. Time exceeded, unreachable and so on come from the socket's error
 * queue and are passed on, with the request that they quote as the guest made it: so traceroute works.
 *
 * Errors from the guest are for link/guest-error; other ICMP is dropped.
 */
import { SOCKOPT } from '../../shared/abi.ts';
import * as descriptors from '../flow/descriptors.ts';
import { end } from '../flow/end.ts';
import * as fragmentation from '../flow/fragmentation.ts';
import * as hash from '../flow/hash.ts';
import * as lru from '../flow/lru.ts';
import * as pending from '../flow/pending.ts';
import * as sockError from '../flow/sock-error.ts';
import * as flows from '../flow/table.ts';
import { FLOW_MAX, FLOW_PING, type Flow, fd, isV4, MAPPED_WORD, NO_FLOW } from '../flow/table.ts';
import * as wheel from '../flow/wheel.ts';
import * as nat from '../fwd/nat.ts';
import * as io from '../io/io.ts';
import * as echo from '../link/echo.ts';
import * as guestError from '../link/guest-error.ts';
import * as icmpError from '../link/icmp-error.ts';
import * as packetOut from '../link/packet-out.ts';
import * as pressure from '../link/pressure.ts';
import * as reassembly from '../link/reassembly.ts';
import * as received from '../link/received.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import { register, request } from '../rpc/connect.ts';
import * as checksum from '../wire/checksum.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { ICMP, ICMPV6 } from '../wire/protocols.ts';
import * as vnet from '../wire/vnet.ts';

export interface IcmpSettings {
  /** MTU of the guest's interface, bytes; larger replies go to it as IP fragments. 0: not known. */
  readonly linkMtu: number;
  /** Those that a process may have; each flow has one. */
  readonly descriptors: number;
}
const FLOWS_MAX = 1024;
/** …and where descriptors are few, that part of them. */
const FLOWS_PART = 1 / 16;
const TIMEOUT_MS = 60_000;
/** How long a refusal is remembered before the helper is asked again. */
const REFUSED_MS = 1000;

const SLOTS = 15;
const SLOT_BYTES = 65_664;
const CALLS_MAX = 4;
const EMSGSIZE = 90;
const ERRORS_PER_EVENT_MAX = 16;
const HOP_LIMIT_UNKNOWN = 255;
const OFFENDER_AT = io.SOCK_AT;
const QUOTE_AT = OFFENDER_AT + 64;
const EIO = 5;
const EAGAIN = 11;
const ENFILE = 23;
const EMFILE = 24;
const ENOBUFS = 105;

const OPENING = 0;
const OPEN = 1;
const REFUSED = 2;
const phases = new Uint8Array(FLOW_MAX);
const errnos = new Uint8Array(FLOW_MAX);
/** The socket's TTL or hop limit (0: the host's default) and its TOS or traffic class. */
const hopLimits = new Uint8Array(FLOW_MAX);
const trafficClasses = new Uint8Array(FLOW_MAX);

const protocolOf = (v4: boolean): number => (v4 ? ICMP : ICMPV6);

/** Called once, before the first frame. */
export const configure = (settings: IcmpSettings): void => {
  lru.setCap(lru.LRU_PING, Math.max(Math.min(FLOWS_MAX, Math.floor(settings.descriptors * FLOWS_PART)), 1));
  packetOut.configure(settings.linkMtu);
  descriptors.register(descriptors.PING, giveUpDescriptor);
  register(FLOW_PING, onConnected, onFailed);
  guestError.register(FLOW_PING, onGuestError);
};

/** RFC 792, RFC 4443 §2.3: over the message, and over IPv6 with the pseudo-header. */
const checksumHolds = (ipAt: number, at: number, bytes: number, v4: boolean): boolean => {
  const pseudo = v4 ? 0 : checksum.pseudo6(io.view, ipAt + ipv6.SRC, ICMPV6, bytes);
  return io.native.checksum(at, bytes, pseudo) === 0xffff;
};

const isForMany = (ipAt: number, v4: boolean): boolean => {
  if (!v4) return ipv6.isMulticast(ipv6.dstWord(io.view, ipAt, 0));
  const dst = ipv4.dst(io.view, ipAt);
  return dst >>> 28 >= 14 || station.isSubnetBroadcast4(dst);
};

/** Why the message must be dropped, or -1. */
const fault = (frameAt: number, ipAt: number, at: number, end: number, v4: boolean): number => {
  const v = io.view;
  if (!icmpv4.fits(v, at, end)) return DROP['icmp-malformed'];
  if (!vnet.vouched(v, received.header(frameAt)) && !checksumHolds(ipAt, at, end - at, v4)) {
    return DROP['icmp-checksum'];
  }
  if ((v4 ? ipv4.ttl(v, ipAt) : ipv6.hopLimit(v, ipAt)) === 0) return DROP['ip-martian'];
  return isForMany(ipAt, v4) ? DROP['flow-refused'] : -1;
};
const isError = (at: number, v4: boolean): boolean =>
  v4 ? icmpv4.isError(icmpv4.type(io.view, at)) : icmpv6.isError(icmpv6.type(io.view, at));
const isRequest = (at: number, v4: boolean): boolean =>
  icmpv4.type(io.view, at) === (v4 ? icmpv4.ECHO_REQUEST : icmpv6.ECHO_REQUEST) && icmpv4.code(io.view, at) === 0;

/**
 * One ICMP or ICMPv6 message (not NDP) of the guest: Ethernet header at `frameAt` (virtio-net header before it), IP
 * header at `ipAt`, message in [at, end). IP and virtio-net headers are checked.
 */
export const fromTap = (frameAt: number, ipAt: number, at: number, end: number, v4: boolean): void => {
  const reason = fault(frameAt, ipAt, at, end, v4);
  if (reason >= 0) {
    drop(reason);
    return;
  }
  if (isError(at, v4)) {
    guestError.take(ipAt, at, end, v4);
    return;
  }
  if (!isRequest(at, v4)) {
    drop(DROP['icmp-type']);
    return;
  }
  if (!pressure.mayServe()) {
    drop(DROP['guest-flood']);
    return;
  }
  if (echo.isToUs(ipAt, v4) || standsForHost(ipAt, v4)) {
    echo.answer(ipAt, at, end - at, v4);
    return;
  }
  const id = icmpv4.id(io.view, at);
  let f = hash.findFromTap(FLOW_PING, v4, ipAt, id, 0);
  if (f === NO_FLOW) f = open(v4, ipAt, id);
  if (f === NO_FLOW) return;
  const v = io.view;
  const hopLimit = v4 ? ipv4.ttl(v, ipAt) : ipv6.hopLimit(v, ipAt);
  const trafficClass = v4 ? ipv4.tos(v, ipAt) : ipv6.trafficClass(v, ipAt);
  deliver(f, at, end - at, hopLimit, trafficClass, reassembly.isUncuttable(frameAt, ipAt, v4));
};

/** The host answers for its own addresses, whatever they are called; a ping need not leave for that. */
const standsForHost = (ipAt: number, v4: boolean): boolean => {
  const v = io.view;
  if (v4) return nat.standsForHost(true, 0, 0, MAPPED_WORD, ipv4.dst(v, ipAt));
  const w3 = ipv6.dstWord(v, ipAt, 3);
  return nat.standsForHost(false, ipv6.dstWord(v, ipAt, 0), ipv6.dstWord(v, ipAt, 1), ipv6.dstWord(v, ipAt, 2), w3);
};

const open = (v4: boolean, ipAt: number, id: number): Flow => {
  if (lru.isFull(lru.LRU_PING)) {
    drop(DROP['flow-evicted']);
    close(lru.oldest(lru.LRU_PING));
  }
  const f = flows.alloc(FLOW_PING);
  if (f === NO_FLOW) {
    drop(DROP['flow-table-full']);
    return f;
  }
  flows.setTuple(f, v4, ipAt, id, 0);
  phases[f] = OPENING;
  errnos[f] = 0;
  hopLimits[f] = 0;
  trafficClasses[f] = 0;
  fragmentation.reset(f);
  sockError.reset(f);
  hash.insert(f);
  lru.add(lru.LRU_PING, f);
  if (!request(f, 'icmp', id)) {
    drop(DROP['flow-pending-full']);
    end(f);
    return NO_FLOW;
  }
  wheel.arm(f, io.nowMs() + TIMEOUT_MS);
  return f;
};

const close = (f: Flow): void => {
  pending.clear(f);
  end(f);
};

/** Ends the oldest ping but `but` for its descriptor. False: there is none. */
const giveUpDescriptor = (but: Flow): boolean => {
  const f = descriptors.oldestHolder(lru.LRU_PING, but);
  if (f === NO_FLOW) return false;
  drop(DROP['flow-evicted']);
  close(f);
  return true;
};

const deliver = (
  f: Flow,
  at: number,
  bytes: number,
  hopLimit: number,
  trafficClass: number,
  dontFragment: boolean,
): void => {
  flows.setLastActive(f, io.nowMs() | 0);
  lru.touch(f);
  if (phases[f] === OPEN) {
    send(f, at, bytes, hopLimit, trafficClass, dontFragment);
  } else if (phases[f] === REFUSED) {
    drop(DROP['flow-refused']);
    refuse(f, errnos[f] as number, at, bytes);
  } else if (!pending.add(f, at, bytes, 0, hopLimit, trafficClass, dontFragment)) {
    drop(DROP['flow-pending-full']);
  }
};

const refuse = (f: Flow, errno: number, at: number, bytes: number): void => {
  const reason = icmpError.reasonOf(errno);
  if (reason >= 0) icmpError.unreachable(f, reason as icmpError.Reason, protocolOf(isV4(f)), at, bytes);
};

const setHeaderOptions = (f: Flow, hopLimit: number, trafficClass: number): void => {
  const v4 = isV4(f);
  if (hopLimits[f] !== hopLimit) {
    const o = v4 ? SOCKOPT.IP_TTL : SOCKOPT.IPV6_UNICAST_HOPS;
    io.native.setsockopt(fd(f), o.level, o.option, hopLimit);
    hopLimits[f] = hopLimit;
  }
  if (trafficClasses[f] !== trafficClass) {
    const o = v4 ? SOCKOPT.IP_TOS : SOCKOPT.IPV6_TCLASS;
    io.native.setsockopt(fd(f), o.level, o.option, trafficClass);
    trafficClasses[f] = trafficClass;
  }
};

/** The kernel puts its own identifier and checksum into the message. */
const send = (
  f: Flow,
  at: number,
  bytes: number,
  hopLimit: number,
  trafficClass: number,
  dontFragment: boolean,
): void => {
  setHeaderOptions(f, hopLimit, trafficClass);
  const ipBytes = isV4(f) ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES;
  fragmentation.set(f, fragmentation.wanted(f, dontFragment, ipBytes + bytes));
  let r = io.native.write(fd(f), at, bytes);
  // The error of an earlier request fails the next call once, and what is larger than the host's link is left to it (udp/send.ts).
  for (let tries = 0; r < 0 && r !== -EAGAIN && r !== -ENOBUFS && tries < (r === -EMSGSIZE ? 2 : 1); tries++) {
    drainErrors(f);
    if (tooLong) {
      fragmentation.leaveToHost(f, ipBytes + bytes);
      fragmentation.set(f, fragmentation.HOST);
    }
    r = io.native.write(fd(f), at, bytes);
  }
  if (r >= 0) return;
  if (r === -EAGAIN || r === -ENOBUFS) {
    drop(DROP['sock-full']);
    return;
  }
  drop(DROP['sock-error']);
  refuse(f, -r, at, bytes);
};

const onConnected = (f: Flow, socket: number): void => {
  flows.setFd(f, socket);
  if (io.native.watch(socket, io.EPOLLIN, flows.ref(f)) < 0) {
    onFailed(f, EIO);
    return;
  }
  phases[f] = OPEN;
  for (let e = pending.first(f); e >= 0; e = pending.next(e)) {
    const hopLimit = pending.hopLimitOf(e);
    send(f, pending.atOf(e), pending.lenOf(e), hopLimit, pending.trafficClassOf(e), pending.dontFragmentOf(e));
  }
  pending.clear(f);
};

const onFailed = (f: Flow, errno: number): void => {
  if (errno === ENFILE || errno === EMFILE) descriptors.short(descriptors.PING, f);
  phases[f] = REFUSED;
  errnos[f] = errno;
  for (let e = pending.first(f); e >= 0; e = pending.next(e)) {
    drop(DROP['flow-refused']);
    refuse(f, errno, pending.atOf(e), pending.lenOf(e));
  }
  pending.clear(f);
  wheel.arm(f, io.nowMs() + REFUSED_MS);
};

/** An event of the flow's socket. */
export const onEvent = (f: Flow, mask: number): void => {
  if ((mask & (io.EPOLLERR | io.EPOLLHUP)) !== 0 && !sockError.settle(f, drainErrors(f))) {
    drop(DROP['sock-error']);
    close(f);
    return;
  }
  if ((mask & io.EPOLLIN) !== 0) receive(f);
};

/** The guest has an error to tell about a reply. */
const onGuestError = (f: Flow, kind: guestError.Kind, mtu: number): void => {
  if (kind === guestError.TOO_BIG) fragmentation.lowerGuestMtu(f, mtu);
};

/** The flow's timer fired. */
export const onTimer = (f: Flow): void => {
  const idle = ((io.nowMs() | 0) - flows.lastActive(f)) | 0;
  if (phases[f] === REFUSED || idle >= TIMEOUT_MS) close(f);
  else wheel.arm(f, io.nowMs() + TIMEOUT_MS - idle);
};

const receive = (f: Flow): void => {
  for (let call = 0; call < CALLS_MAX; call++) {
    const n = io.native.recvDatagrams(fd(f), io.SOCK_AT, SLOT_BYTES, SLOTS);
    if (n === -EAGAIN) return;
    if (n < 0) drainErrors(f);
    for (let i = 0; i < n; i++) reply(f, i);
    if (n >= 0 && n < SLOTS) return;
  }
};

/** Datagram `i` of the last receive, with the guest's identifier, to the guest. */
const reply = (f: Flow, i: number): void => {
  const v = io.view;
  const v4 = isV4(f);
  const at = io.SOCK_AT + i * SLOT_BYTES;
  const bytes = io.col[io.COL.DGRAM_LEN + i] as number;
  if (bytes < icmpv4.HEADER_BYTES) {
    drop(DROP['sock-error']);
    return;
  }
  flows.setLastActive(f, io.nowMs() | 0);
  icmpv4.setId(v, at, flows.guestPort(f));
  icmpv4.setChecksum(v, at, 0);
  const pseudo = v4 ? 0 : packetOut.pseudoSum(f, ICMPV6, bytes);
  icmpv4.setChecksum(v, at, checksum.finish(io.native.checksum(at, bytes, pseudo)));
  const hops = io.col[io.COL.DGRAM_TTL + i] as number;
  const trafficClass = io.col[io.COL.DGRAM_TOS + i] as number;
  packetOut.send(
    f,
    protocolOf(v4),
    at,
    bytes,
    hops > 0 ? hops & 0xff : HOP_LIMIT_UNKNOWN,
    trafficClass > 0 ? trafficClass & 0xff : 0,
  );
};

let tooLong = false;
/**
 * Passes on what the error queue holds; each entry quotes our request from its ICMP header on. Returns how many there were.
 * `tooLong`: among them was the host's own objection to a request larger than its link.
 */
const drainErrors = (f: Flow): number => {
  const v4 = isV4(f);
  tooLong = false;
  let n = 0;
  for (; n < ERRORS_PER_EVENT_MAX; n++) {
    const bytes = io.native.recvError(fd(f), QUOTE_AT, icmpError.QUOTE_BYTES_MAX_6, OFFENDER_AT);
    if (bytes < 0) break;
    if (icmpError.isTooLong()) {
      tooLong = true;
      continue;
    }
    const quoted = asGuestSent(f, bytes, v4);
    if (!icmpError.relay(f, OFFENDER_AT, protocolOf(v4), QUOTE_AT, quoted)) drop(DROP['sock-error']);
  }
  return n;
};

/** Gives the quoted request the guest's identifier; makes a header where nothing was quoted. Returns its length. */
const asGuestSent = (f: Flow, bytes: number, v4: boolean): number => {
  const v = io.view;
  const id = flows.guestPort(f);
  if (bytes < icmpv4.HEADER_BYTES) {
    io.mem.fill(0, QUOTE_AT, QUOTE_AT + icmpv4.HEADER_BYTES);
    icmpv4.setType(v, QUOTE_AT, v4 ? icmpv4.ECHO_REQUEST : icmpv6.ECHO_REQUEST);
    icmpv4.setId(v, QUOTE_AT, id);
    return icmpv4.HEADER_BYTES;
  }
  icmpv4.setChecksum(v, QUOTE_AT, checksum.update16(icmpv4.checksum(v, QUOTE_AT), icmpv4.id(v, QUOTE_AT), id));
  icmpv4.setId(v, QUOTE_AT, id);
  return bytes;
};
