// SPDX-License-Identifier: Apache-2.0
/**
 * One ICMP or ICMPv6 error to the guest, around the packet it is about. Who may be told of what is decided above
 * (link/icmp-error for flows, link/icmp-about for packets); here are the rules that hold for all of them:
 *
 * - A v4 error stays within 576 bytes (RFC 1812 §4.3.2.3), a v6 error within 1280 (RFC 4443 §2.4(c)).
 * - Not more than so many a second leave in all (RFC 1812 §4.3.2.8, RFC 4443 §2.4(f)); those beyond are dropped and counted.
 */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as checksum from '../wire/checksum.ts';
import * as eth from '../wire/ethernet.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { ICMP, ICMPV6 } from '../wire/protocols.ts';
import * as out from './out.ts';
import * as station from './station.ts';

const TTL = 255;
const BYTES_MAX_4 = 576;
const BYTES_MAX_6 = 1280;
/** The most that is quoted of a packet, its IP header included, in bytes. */
export const QUOTE_BYTES_MAX_4 = BYTES_MAX_4 - ipv4.HEADER_BYTES - icmpv4.HEADER_BYTES;
export const QUOTE_BYTES_MAX_6 = BYTES_MAX_6 - ipv6.HEADER_BYTES - icmpv6.HEADER_BYTES;

/** A token bucket: what Linux allows itself (net.ipv4.icmp_msgs_per_sec), with room for a traceroute of many probes at once. */
const PER_MS = 1;
const BURST = 256;
let tokens = BURST;
let filledMs = 0;
const mayLeave = (): boolean => {
  const now = io.nowMs();
  tokens = Math.min(BURST, tokens + Math.max(0, now - filledMs) * PER_MS);
  filledMs = now;
  if (tokens < 1) return false;
  tokens--;
  return true;
};
/** As if nothing had been sent for long. */
export const resetLimit = (): void => {
  tokens = BURST;
};

/** Who says it, in four words (IPv4: word 3). Set before {@link send}. */
export const from = new Int32Array(4);
export const fromUs = (v4: boolean): void => {
  if (v4) from[3] = station.our4Word();
  else for (let i = 0; i < 4; i++) from[i] = station.ourLinkLocal6Word(i);
};
/** Whether `from` can be the source of a packet to the guest: a router of the host's that answered from its loopback cannot. */
export const credible = (v4: boolean): boolean => {
  const w3 = from[3] as number;
  if (v4) {
    const first = w3 >>> 24;
    return first !== 0 && first !== 127 && first < 224;
  }
  const w0 = from[0] as number;
  const w1 = from[1] as number;
  const w2 = from[2] as number;
  return !ipv6.isMulticast(w0) && !ipv6.isUnspecified(w0, w1, w2, w3) && !ipv6.isLoopback(w0, w1, w2, w3);
};

/**
 * Sends the error to the source of the packet whose IP header lies at `quotedAt` (not in the region of frames to send)
 * and of which `bytes` may be quoted; more than fits is cut. `rest` is the word after the checksum.
 */
export const send = (v4: boolean, type: number, code: number, rest: number, quotedAt: number, bytes: number): void => {
  if (!mayLeave()) {
    drop(DROP['icmp-limited']);
    return;
  }
  if (v4) send4(type, code, rest, quotedAt, Math.min(bytes, QUOTE_BYTES_MAX_4));
  else send6(type, code, rest, quotedAt, Math.min(bytes, QUOTE_BYTES_MAX_6));
};

const send4 = (type: number, code: number, rest: number, quotedAt: number, bytes: number): void => {
  const v = io.view;
  const icmpBytes = icmpv4.HEADER_BYTES + bytes;
  const frame = out.reserve(eth.HEADER_BYTES + ipv4.HEADER_BYTES + icmpBytes);
  const ip = frame + eth.HEADER_BYTES;
  const icmp = ip + ipv4.HEADER_BYTES;
  station.ethernet(v, frame, eth.IPV4);
  const total = ipv4.HEADER_BYTES + icmpBytes;
  station.ipv4Header(v, ip, total, ICMP, from[3] as number, ipv4.src(v, quotedAt), TTL, 0);
  writeHeader(icmp, type, code, rest);
  io.mem.copyWithin(icmp + icmpv4.HEADER_BYTES, quotedAt, quotedAt + bytes);
  icmpv4.setChecksum(v, icmp, checksum.finish(checksum.sum(v, icmp, icmpBytes, 0)));
  out.commit(eth.HEADER_BYTES + total);
};

const send6 = (type: number, code: number, rest: number, quotedAt: number, bytes: number): void => {
  const v = io.view;
  const icmpBytes = icmpv6.HEADER_BYTES + bytes;
  const frame = out.reserve(eth.HEADER_BYTES + ipv6.HEADER_BYTES + icmpBytes);
  const ip = frame + eth.HEADER_BYTES;
  const icmp = ip + ipv6.HEADER_BYTES;
  station.ethernet(v, frame, eth.IPV6);
  ipv6.setClassAndLabel(v, ip, 0, 0);
  ipv6.setPayloadLength(v, ip, icmpBytes);
  ipv6.setNextHeader(v, ip, ICMPV6);
  ipv6.setHopLimit(v, ip, TTL);
  ipv6.setSrc(v, ip, from[0] as number, from[1] as number, from[2] as number, from[3] as number);
  io.mem.copyWithin(ip + ipv6.DST, quotedAt + ipv6.SRC, quotedAt + ipv6.SRC + ipv6.ADDRESS_BYTES);
  writeHeader(icmp, type, code, rest);
  io.mem.copyWithin(icmp + icmpv6.HEADER_BYTES, quotedAt, quotedAt + bytes);
  const pseudo = checksum.pseudo6(v, ip + ipv6.SRC, ICMPV6, icmpBytes);
  icmpv6.setChecksum(v, icmp, checksum.finish(checksum.sum(v, icmp, icmpBytes, pseudo)));
  out.commit(eth.HEADER_BYTES + ipv6.HEADER_BYTES + icmpBytes);
};

/** The first 8 bytes are of one form in both families. */
const writeHeader = (icmp: number, type: number, code: number, rest: number): void => {
  const v = io.view;
  icmpv4.setType(v, icmp, type);
  icmpv4.setCode(v, icmp, code);
  icmpv4.setChecksum(v, icmp, 0);
  icmpv4.setRest(v, icmp, rest);
};
