// SPDX-License-Identifier: Apache-2.0
/**
 * ICMP and ICMPv6 errors from the guest about what we sent it. Three of them mean something to a flow:
 *
 * - GONE: nobody in the guest has that port any more (port or protocol unreachable, from the packet's own destination).
 * - TOO_BIG: a link behind the guest takes less than its tap (fragmentation needed, packet too big).
 * - UNREACHABLE: no way to the destination, or a filter on it. Only TCP is told: it passes, but for a connection in the making.
 *
 * The quote must be of a packet of that flow, from its remote to its guest, and the error must go to that remote: more
 * cannot be known of a datagram; TCP looks at the sequence number, too (RFC 5927 §4). The rest is dropped and counted.
 */
import * as hash from '../flow/hash.ts';
import { FLOW_PING, FLOW_TCP, FLOW_UDP, type Flow, type FlowType, MAPPED_WORD, NO_FLOW } from '../flow/table.ts';
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as fragment from '../wire/fragment.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { FRAGMENT, ICMP, ICMPV6, TCP, UDP } from '../wire/protocols.ts';

export const GONE = 0;
export const TOO_BIG = 1;
export const UNREACHABLE = 2;
export type Kind = 0 | 1 | 2;
/** `mtu`: of TOO_BIG, in bytes with IP header, not below what its family allows. `quotedAt`: the quoted transport header, 8 bytes at least. */
export type Handler = (f: Flow, kind: Kind, mtu: number, quotedAt: number) => void;

/** Linux's net.ipv4.route.min_pmtu: less is an attack rather than a link. */
const MTU_MIN_4 = 552;
/** RFC 8201 §4. */
const MTU_MIN_6 = 1280;
/** What is quoted at least of a packet beside its IP header (RFC 792). */
const QUOTE_BYTES_MIN = 8;

const handlers = new Map<FlowType, Handler>();
export const register = (type: FlowType, handler: Handler): void => {
  handlers.set(type, handler);
};

/** What the quote holds, valid for the message at hand. */
let quotedProtocol = 0;
let quotedAt = 0;

/** Takes the error message in [at, end), its checksum right, of the packet whose IP header lies at `ipAt`. */
export const take = (ipAt: number, at: number, end: number, v4: boolean): void => {
  const kind = v4 ? kindOf4(at) : kindOf6(at);
  if (kind < 0) return drop(DROP['icmp-type']);
  const mtu = kind === TOO_BIG ? mtuOf(at, v4) : 0;
  const quoteAt = at + icmpv4.HEADER_BYTES;
  if (mtu < 0 || !(v4 ? quoteHolds4(ipAt, quoteAt, end, kind) : quoteHolds6(ipAt, quoteAt, end, kind))) {
    return drop(DROP['icmp-quote']);
  }
  const type = typeOf(v4);
  if (kind === UNREACHABLE && type !== FLOW_TCP) return drop(DROP['icmp-type']);
  const f = type === NONE ? NO_FLOW : flowOf(type as FlowType, quoteAt, v4);
  if (f === NO_FLOW) return drop(DROP['icmp-no-flow']);
  const handler = handlers.get(type as FlowType);
  if (handler === undefined) return drop(DROP['icmp-type']);
  handler(f, kind as Kind, mtu, quotedAt);
};

const NONE = -1;
const kindOf4 = (at: number): Kind | -1 => {
  if (icmpv4.type(io.view, at) !== icmpv4.UNREACHABLE) return NONE;
  const code = icmpv4.code(io.view, at);
  if (code === icmpv4.FRAGMENTATION_NEEDED) return TOO_BIG;
  return code === icmpv4.PORT_UNREACHABLE || code === icmpv4.PROTOCOL_UNREACHABLE ? GONE : UNREACHABLE;
};
const kindOf6 = (at: number): Kind | -1 => {
  const type = icmpv6.type(io.view, at);
  if (type === icmpv6.PACKET_TOO_BIG) return TOO_BIG;
  if (type !== icmpv6.UNREACHABLE) return NONE;
  return icmpv6.code(io.view, at) === icmpv6.PORT_UNREACHABLE ? GONE : UNREACHABLE;
};

/** -1: none that a link can have. 0 of routers before RFC 1191 is such a one. */
const mtuOf = (at: number, v4: boolean): number => {
  if (v4) {
    const mtu = icmpv4.nextHopMtu(io.view, at);
    return mtu === 0 ? -1 : Math.max(mtu, MTU_MIN_4);
  }
  const mtu = icmpv6.mtu(io.view, at) >>> 0;
  return mtu < MTU_MIN_6 ? -1 : Math.min(mtu, fragment.PACKET_BYTES_MAX);
};

/** Whether the bytes from `q` are the begin of a packet that we sent; finds its transport header. */
const quoteHolds4 = (ipAt: number, q: number, end: number, kind: number): boolean => {
  const v = io.view;
  if (end - q < ipv4.HEADER_BYTES || ipv4.version(v, q) !== 4) return false;
  const headerBytes = ipv4.headerBytes(v, q);
  if (headerBytes < ipv4.HEADER_BYTES || end - q < headerBytes + QUOTE_BYTES_MIN) return false;
  if ((ipv4.flagsAndFragment(v, q) & ipv4.OFFSET_MASK) !== 0 || ipv4.src(v, q) !== ipv4.dst(v, ipAt)) return false;
  quotedProtocol = ipv4.protocol(v, q);
  quotedAt = q + headerBytes;
  return kind !== GONE || ipv4.dst(v, q) === ipv4.src(v, ipAt);
};

const quoteHolds6 = (ipAt: number, q: number, end: number, kind: number): boolean => {
  const v = io.view;
  if (end - q < ipv6.HEADER_BYTES || ipv6.version(v, q) !== 6) return false;
  quotedProtocol = ipv6.nextHeader(v, q);
  quotedAt = q + ipv6.HEADER_BYTES;
  // Of extension headers we send one only.
  if (quotedProtocol === FRAGMENT) {
    if (end - quotedAt < fragment.HEADER_BYTES || fragment.offset(v, quotedAt) !== 0) return false;
    quotedProtocol = fragment.nextHeader(v, quotedAt);
    quotedAt += fragment.HEADER_BYTES;
  }
  if (end - quotedAt < QUOTE_BYTES_MIN || !sameAddress(q + ipv6.SRC, ipAt + ipv6.DST)) return false;
  return kind !== GONE || sameAddress(q + ipv6.DST, ipAt + ipv6.SRC);
};
const sameAddress = (a: number, b: number): boolean => {
  const v = io.view;
  for (let i = 0; i < ipv6.ADDRESS_BYTES; i += 4) if (v.getInt32(a + i) !== v.getInt32(b + i)) return false;
  return true;
};

/** The type of flow that the quoted packet would be of. We send echo replies only. */
const typeOf = (v4: boolean): FlowType | -1 => {
  if (quotedProtocol === TCP) return FLOW_TCP;
  if (quotedProtocol === UDP) return FLOW_UDP;
  const echo = v4 ? icmpv4.ECHO_REPLY : icmpv6.ECHO_REPLY;
  return quotedProtocol === (v4 ? ICMP : ICMPV6) && icmpv4.type(io.view, quotedAt) === echo ? FLOW_PING : NONE;
};

const flowOf = (type: FlowType, q: number, v4: boolean): Flow => {
  const v = io.view;
  const ports =
    type === FLOW_PING ? icmpv4.id(v, quotedAt) << 16 : (v.getUint16(quotedAt + 2) << 16) | v.getUint16(quotedAt);
  if (v4) {
    return hash.find(type, 0, 0, MAPPED_WORD, ipv4.dst(v, q), 0, 0, MAPPED_WORD, ipv4.src(v, q), ports);
  }
  const s = q + ipv6.SRC;
  const d = q + ipv6.DST;
  return hash.find(
    type,
    v.getInt32(d),
    v.getInt32(d + 4),
    v.getInt32(d + 8),
    v.getInt32(d + 12),
    v.getInt32(s),
    v.getInt32(s + 4),
    v.getInt32(s + 8),
    v.getInt32(s + 12),
    ports,
  );
};
