// SPDX-License-Identifier: Apache-2.0
/** Opening: the guest's SYN, the helper's socket, our SYN|ACK; and segments that belong to no connection. */
import { SOCKOPT } from '../../../shared/abi.ts';
import { debugFlow } from '../../flow/describe.ts';
import * as lru from '../../flow/lru.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as destination from '../../fwd/destination.ts';
import * as nat from '../../fwd/nat.ts';
import * as io from '../../io/io.ts';
import * as icmpError from '../../link/icmp-error.ts';
import * as out from '../../link/out.ts';
import * as pressure from '../../link/pressure.ts';
import * as station from '../../link/station.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as log from '../../obs/log.ts';
import * as connect from '../../rpc/connect.ts';
import * as checksum from '../../wire/checksum.ts';
import * as ethernet from '../../wire/ethernet.ts';
import * as ipv4 from '../../wire/ipv4.ts';
import * as ipv6 from '../../wire/ipv6.ts';
import * as tcp from '../../wire/tcp.ts';
import * as vnet from '../../wire/vnet.ts';
import * as begin from './begin.ts';
import * as caps from './caps.ts';
import { abort, closeQuietly } from './close.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import { OPENING_REQUESTS_MAX } from './constants.ts';
import * as timeout from './timeout.ts';
import * as toTap from './to-tap.ts';

/** What the host's sockets use by default. Any other one is the guest's wish, for this connection: traceroute, or RFC 5082. */
const DEFAULT_HOP_LIMIT = 64;
/** Where an error of the network lies for a moment: the offender's address, then what it quotes, which is not used. */
const OFFENDER_AT = io.SOCK_AT;
const QUOTE_AT = OFFENDER_AT + 64;
const QUOTE_BYTES = 64;
const ERRORS_MAX = 4;

/** A SYN of the guest for which there is no flow. The addresses lie at `ipAt`, the segment at `at`. NO_FLOW: refused. */
export const synFromTap = (ipAt: number, at: number, v4: boolean): Flow => {
  const hopLimit = v4 ? ipv4.ttl(io.view, ipAt) : ipv6.hopLimit(io.view, ipAt);
  if (hopLimit === 0) {
    drop(DROP['ip-martian']);
    return flows.NO_FLOW;
  }
  if (connect.outstanding() >= OPENING_REQUESTS_MAX) {
    // The helper is behind: a flood. Silence, as from any overloaded network; a guest that means it asks again in a second.
    drop(DROP['flow-pending-full']);
    return flows.NO_FLOW;
  }
  if (!pressure.mayServe()) {
    drop(DROP['guest-flood']);
    return flows.NO_FLOW;
  }
  const admitted = caps.admit();
  const f = admitted ? flows.alloc(flows.FLOW_TCP) : flows.NO_FLOW;
  if (f < 0) {
    if (admitted) drop(DROP['flow-table-full']);
    resetReply(ipAt, at, at + tcp.headerBytes(io.view, at), v4);
    return f;
  }
  flows.setTuple(f, v4, ipAt, tcp.srcPort(io.view, at), tcp.dstPort(io.view, at));
  begin.enter(f, lru.LRU_TCP_OPENING);
  begin.takeSyn(f, at);
  if (nat.leadsNowhere(f)) {
    drop(DROP['flow-refused']);
    refuse(f, ENETUNREACH);
    return flows.NO_FLOW;
  }
  const hops = hopLimit === DEFAULT_HOP_LIMIT ? 0 : hopLimit;
  if (destination.request(f, 'tcp', 0, hops)) return f;
  drop(DROP['flow-pending-full']);
  closeQuietly(f);
  return flows.NO_FLOW;
};

/** A SYN for a connection in TIME-WAIT, `old`: a new one. */
export const reopen = (old: Flow, ipAt: number, at: number, v4: boolean): void => {
  const floor = begin.floorAfter(old);
  closeQuietly(old);
  const f = synFromTap(ipAt, at, v4);
  if (f >= 0) begin.raiseIsn(f, floor);
};

/** The helper handed over the connecting socket of flow `f`. */
export const onConnected = (f: Flow, fd: number): void => {
  begin.setOptions(fd);
  if (!begin.adopt(f, fd)) abort(f);
};

/** The helper could not make the socket, or its connect(2) failed at once. */
export const onFailed = (f: Flow, errno: number): void => refuse(f, errno);

const EHOSTUNREACH = 113;
const ENETUNREACH = 101;
const EACCES = 13;
const ENFILE = 23;
const EMFILE = 24;
const EPERM = 1;
const ETIMEDOUT = 110;

/** The connection could not be made: tell the guest what a router or the peer would have told it. */
export const refuse = (f: Flow, errno: number): void => {
  if (errno === EMFILE || errno === ENFILE) caps.descriptorsShort(f);
  if (log.debugEnabled) debugFlow(f, 'from sock', `refused, errno ${errno}`);
  if (relayed(f)) {
    closeQuietly(f);
    return;
  }
  if (errno === EHOSTUNREACH) icmpError.forSyn(f, icmpError.HOST_UNREACHABLE, (conn.seqFromTap(f) - 1) | 0);
  else if (errno === ENETUNREACH) icmpError.forSyn(f, icmpError.NET_UNREACHABLE, (conn.seqFromTap(f) - 1) | 0);
  else if (errno === EACCES || errno === EPERM) icmpError.forSyn(f, icmpError.PROHIBITED, (conn.seqFromTap(f) - 1) | 0);
  // A timed-out connect stays silent: the guest has been retrying and gives up in its own time.
  else if (errno !== ETIMEDOUT) {
    // RFC 9293 §3.10.7.3: a reset in SYN-SENT is believed only if it acknowledges the SYN.
    toTap.flagSegment(f, 0, tcp.RST | tcp.ACK);
  }
  closeQuietly(f);
};

/** What the network said about the SYN, passed on as it was said (TCP traceroute lives by it). False: nothing was said. */
const relayed = (f: Flow): boolean => {
  const fd = flows.fd(f);
  if (fd < 0) return false;
  for (let n = 0; n < ERRORS_MAX; n++) {
    if (io.native.recvError(fd, QUOTE_AT, QUOTE_BYTES, OFFENDER_AT) < 0) return false;
    if (icmpError.relayForSyn(f, OFFENDER_AT, (conn.seqFromTap(f) - 1) | 0)) return true;
  }
  return false;
};

/** connect(2) finished well. */
export const connected = (f: Flow): void => {
  if (log.debugEnabled) debugFlow(f, 'from sock', 'connected');
  // From here on an ICMP error is a hint, not the end (RFC 1122 §4.2.3.9, RFC 5461).
  const o = flows.isV4(f) ? SOCKOPT.IP_RECVERR : SOCKOPT.IPV6_RECVERR;
  io.native.setsockopt(flows.fd(f), o.level, o.option, 0);
  conn.add(f, conn.SOCK_CONNECTED);
  conn.setProgressMs(f, io.nowMs() | 0);
  toTap.sendSyn(f);
  congestion.sent(f, conn.seqToTap(f), true);
  timeout.armRetransmission(f);
};

/**
 * RFC 9293 §3.10.7.1: a segment for no connection is answered by a reset that its sender will believe; a reset never is.
 * `end` is the end of the segment.
 */
export const resetReply = (ipAt: number, at: number, end: number, v4: boolean): void => {
  const v = io.view;
  const flags = tcp.flags(v, at);
  if ((flags & tcp.RST) !== 0) return;
  const l4 = v4 ? 34 : 54;
  const frame = out.reserve(l4 + tcp.HEADER_BYTES);
  let seq = 0;
  let ack = 0;
  let reply = tcp.RST;
  if ((flags & tcp.ACK) !== 0) {
    seq = tcp.ack(v, at);
  } else {
    const length =
      end - at - tcp.headerBytes(v, at) + ((flags & tcp.SYN) !== 0 ? 1 : 0) + ((flags & tcp.FIN) !== 0 ? 1 : 0);
    ack = (tcp.seq(v, at) + length) | 0;
    reply = tcp.RST | tcp.ACK;
  }
  const to = frame + l4;
  if (v4) {
    station.ethernet(v, frame, ethernet.IPV4);
    station.ipv4Header(v, frame + 14, 40, 6, v.getInt32(ipAt + 16), v.getInt32(ipAt + 12), 64, 0);
  } else {
    const d = ipAt + 24;
    const s = ipAt + 8;
    station.ethernet(v, frame, ethernet.IPV6);
    station.ipv6Header(
      v,
      frame + 14,
      20,
      6,
      v.getInt32(d),
      v.getInt32(d + 4),
      v.getInt32(d + 8),
      v.getInt32(d + 12),
      v.getInt32(s),
      v.getInt32(s + 4),
      v.getInt32(s + 8),
      v.getInt32(s + 12),
      64,
      0,
      0,
    );
  }
  toTap.writeHeader(to, tcp.dstPort(v, at), tcp.srcPort(v, at), seq, ack, tcp.HEADER_BYTES, reply, 0);
  let pseudo = 6 + tcp.HEADER_BYTES;
  const addresses = frame + 14 + (v4 ? 12 : 8);
  for (let i = 0; i < (v4 ? 8 : 32); i += 2) pseudo += v.getUint16(addresses + i);
  tcp.setChecksum(v, to, ~io.native.checksum(to, tcp.HEADER_BYTES, checksum.fold(pseudo)) & 0xffff);
  vnet.clear(v, frame - vnet.HEADER_BYTES);
  out.commit(l4 + tcp.HEADER_BYTES);
};
