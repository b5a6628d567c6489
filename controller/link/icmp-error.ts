// SPDX-License-Identifier: Apache-2.0
/**
 * ICMP and ICMPv6 errors to the guest about what it sent: either what the host's error queue reports (a router or the
 * destination said so), or what a router in our place would say.
 *
 * What the host quotes is its own packet, from its own address; the guest must see the packet that it sent. So the
 * quoted IP header is written anew from the flow's tuple; the caller brings the transport header and what follows.
 *
 * No error is sent about a datagram to a multicast or broadcast address (RFC 1122 §3.2.2, RFC 4443 §2.4(e)).
 */
import { type Flow, guestPort, guestWord, isV4, remotePort, remoteWord } from '../flow/table.ts';
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { TCP } from '../wire/protocols.ts';
import * as tcp from '../wire/tcp.ts';
import * as icmpSend from './icmp-send.ts';
import * as station from './station.ts';

/** What can be said about a destination, in both families. */
export const NET_UNREACHABLE = 0;
export const HOST_UNREACHABLE = 1;
export const PORT_UNREACHABLE = 2;
export const PROHIBITED = 3;
const CODES4 = [
  icmpv4.NET_UNREACHABLE,
  icmpv4.HOST_UNREACHABLE,
  icmpv4.PORT_UNREACHABLE,
  icmpv4.ADMINISTRATIVELY_PROHIBITED,
] as const;
const CODES6 = [
  icmpv6.NO_ROUTE,
  icmpv6.ADDRESS_UNREACHABLE,
  icmpv6.PORT_UNREACHABLE,
  icmpv6.ADMINISTRATIVELY_PROHIBITED,
] as const;

export type Reason = 0 | 1 | 2 | 3;

const EPERM = 1;
const EACCES = 13;
const ENETUNREACH = 101;
const ECONNREFUSED = 111;
const EHOSTUNREACH = 113;
/** What to tell the guest when a socket call for its flow failed with `errno`; -1: nothing that a router would say. */
export const reasonOf = (errno: number): Reason | -1 => {
  switch (errno) {
    case ENETUNREACH:
      return NET_UNREACHABLE;
    case EHOSTUNREACH:
      return HOST_UNREACHABLE;
    case ECONNREFUSED:
      return PORT_UNREACHABLE;
    case EACCES:
    case EPERM:
      return PROHIBITED;
    default:
      return -1;
  }
};

/** sock_extended_err.ee_origin, linux/errqueue.h */
const ORIGIN_LOCAL = 1;
const ORIGIN_ICMP = 2;
const ORIGIN_ICMP6 = 3;
const EMSGSIZE = 90;

/** Of the quoted header: what the packet had when it was discarded, at a router that found it expired. */
const QUOTED_TTL = 1;
/** Bytes of transport header and data that fit behind the quoted IP header. */
export const QUOTE_BYTES_MAX_4 = icmpSend.QUOTE_BYTES_MAX_4 - ipv4.HEADER_BYTES;
export const QUOTE_BYTES_MAX_6 = icmpSend.QUOTE_BYTES_MAX_6 - ipv6.HEADER_BYTES;
/** Where the quoted packet is put together: the end of the scratch region, which is empty between two calls. */
const QUOTED_AT = io.SCRATCH_END - 2048;

const fromRemote = (f: Flow): void => {
  for (let i = 0; i < 4; i++) icmpSend.from[i] = remoteWord(f, i);
};
const fromUs = (f: Flow): void => icmpSend.fromUs(isV4(f));

/** Replaces the four words of `from` (IPv4: word 3) by the address that the guest knows the host by. False: it knows no other. */
type Translate = (f: Flow, from: Int32Array) => boolean;
let translate: Translate = () => false;
/** Called once, at start, where addresses are translated. */
export const setTranslator = (fn: Translate): void => {
  translate = fn;
};

const isGuest = (f: Flow): boolean => {
  for (let i = isV4(f) ? 3 : 0; i < 4; i++) if (icmpSend.from[i] !== guestWord(f, i)) return false;
  return true;
};

const toGroup = (f: Flow): boolean =>
  isV4(f)
    ? remoteWord(f, 3) >>> 24 >= 224 || station.isSubnetBroadcast4(remoteWord(f, 3))
    : ipv6.isMulticast(remoteWord(f, 0));

/**
 * Says that the flow's destination cannot be reached, for the given reason. The transport header of the guest's packet,
 * and what is to be quoted of its data, lie in the arena at `quoteAt`; more than fits is cut.
 */
export const unreachable = (f: Flow, reason: Reason, protocol: number, quoteAt: number, quoteBytes: number): void => {
  // "Port unreachable" is the destination's own word, the rest a router's.
  if (reason === PORT_UNREACHABLE) fromRemote(f);
  else fromUs(f);
  if (isV4(f)) send(f, icmpv4.UNREACHABLE, CODES4[reason], 0, protocol, quoteAt, quoteBytes);
  else send(f, icmpv6.UNREACHABLE, CODES6[reason], 0, protocol, quoteAt, quoteBytes);
};

/** Whether the error that io.native.recvError() has just described is the host's own, about a packet larger than its link. */
export const isTooLong = (): boolean =>
  io.col[io.COL.ERR_ORIGIN] === ORIGIN_LOCAL && io.col[io.COL.ERR_ERRNO] === EMSGSIZE;

/**
 * Passes on the error that io.native.recvError() has just described in COL.ERR_*, with the offender's address in the 16
 * bytes at `offenderAt`. Quoted bytes as for {@link unreachable}. False when it is none that a guest could use.
 */
export const relay = (f: Flow, offenderAt: number, protocol: number, quoteAt: number, quoteBytes: number): boolean => {
  const origin = io.col[io.COL.ERR_ORIGIN] as number;
  const info = io.col[io.COL.ERR_INFO] as number;
  const v4 = isV4(f);
  if (origin !== (v4 ? ORIGIN_ICMP : ORIGIN_ICMP6)) return false;
  const type = io.col[io.COL.ERR_TYPE] as number;
  if (!(v4 ? relayed4(type) : relayed6(type))) return false;
  for (let i = 0; i < 4; i++) icmpSend.from[i] = io.view.getInt32(offenderAt + i * 4);
  // The host itself, whose address the guest may bear, too: a packet from its own address would mean nothing to it.
  if (!translate(f, icmpSend.from) && isGuest(f)) fromUs(f);
  const code = io.col[io.COL.ERR_CODE] as number;
  send(f, type, code, restOf(v4, type, code, info), protocol, quoteAt, quoteBytes);
  return true;
};

const relayed4 = (type: number): boolean =>
  type === icmpv4.UNREACHABLE || type === icmpv4.TIME_EXCEEDED || type === icmpv4.PARAMETER_PROBLEM;
const relayed6 = (type: number): boolean => type >= icmpv6.UNREACHABLE && type <= icmpv6.PARAMETER_PROBLEM;
/** The word after the checksum: an MTU where there is one. A parameter problem's pointer is about a header the guest never saw: 0. */
const restOf = (v4: boolean, type: number, code: number, info: number): number => {
  if (v4) return type === icmpv4.UNREACHABLE && code === icmpv4.FRAGMENTATION_NEEDED ? info & 0xffff : 0;
  return type === icmpv6.PACKET_TOO_BIG ? info : 0;
};

/** {@link unreachable} for a TCP connection that could not be made; `synSeq` is the sequence number of the guest's SYN. */
export const forSyn = (f: Flow, reason: Reason, synSeq: number): void =>
  unreachable(f, reason, TCP, writeSyn(f, synSeq), tcp.HEADER_BYTES);
/** {@link relay} for the same. */
export const relayForSyn = (f: Flow, offenderAt: number, synSeq: number): boolean =>
  relay(f, offenderAt, TCP, writeSyn(f, synSeq), tcp.HEADER_BYTES);

/** The guest's SYN, as far as an error quotes it. Returns where it lies. */
const writeSyn = (f: Flow, synSeq: number): number => {
  const v = io.view;
  const at = io.SCRATCH_AT;
  io.mem.fill(0, at, at + tcp.HEADER_BYTES);
  v.setUint16(at, guestPort(f));
  v.setUint16(at + 2, remotePort(f));
  v.setInt32(at + 4, synSeq);
  v.setUint8(at + 12, (tcp.HEADER_BYTES >> 2) << 4);
  v.setUint8(at + 13, tcp.SYN);
  return at;
};

const send = (
  f: Flow,
  type: number,
  code: number,
  rest: number,
  protocol: number,
  quoteAt: number,
  quoteBytes: number,
): void => {
  if (toGroup(f)) {
    drop(DROP['icmp-type']);
    return;
  }
  const v4 = isV4(f);
  if (!icmpSend.credible(v4)) fromRemote(f);
  const bytes = Math.min(quoteBytes, v4 ? QUOTE_BYTES_MAX_4 : QUOTE_BYTES_MAX_6);
  const l4 = QUOTED_AT + (v4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES);
  writeQuotedHeader(f, v4, protocol, bytes);
  io.mem.copyWithin(l4, quoteAt, quoteAt + bytes);
  icmpSend.send(v4, type, code, rest, QUOTED_AT, l4 + bytes - QUOTED_AT);
};

/** The IP header of the packet that the guest sent. */
const writeQuotedHeader = (f: Flow, v4: boolean, protocol: number, bytes: number): void => {
  const v = io.view;
  const g3 = guestWord(f, 3);
  const r3 = remoteWord(f, 3);
  if (v4) {
    station.ipv4Header(v, QUOTED_AT, ipv4.HEADER_BYTES + bytes, protocol, g3, r3, QUOTED_TTL, 0);
    return;
  }
  station.ipv6Header(
    v,
    QUOTED_AT,
    bytes,
    protocol,
    guestWord(f, 0),
    guestWord(f, 1),
    guestWord(f, 2),
    g3,
    remoteWord(f, 0),
    remoteWord(f, 1),
    remoteWord(f, 2),
    r3,
    QUOTED_TTL,
    0,
    0,
  );
};
