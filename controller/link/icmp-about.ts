// SPDX-License-Identifier: Apache-2.0
/**
 * ICMP and ICMPv6 errors about a packet of the guest that belongs to no flow: what the packet's destination, in whose
 * place we take it, has to say about its headers and its fragments.
 *
 * Not told: anything about another error, about what went to a group, about what came from no single host, and about a
 * fragment but the first (RFC 1122 §3.2.2, RFC 4443 §2.4(e)).
 */
import * as io from '../io/io.ts';
import * as eth from '../wire/ethernet.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { ICMP, ICMPV6 } from '../wire/protocols.ts';
import * as icmpSend from './icmp-send.ts';

/**
 * Sends an error about the IPv4 packet in [at, end), whose Ethernet header lies before it.
 * `rest` is the word after the checksum.
 */
export const tell4 = (at: number, end: number, type: number, code: number, rest: number): void => {
  if (mayTell4(at, end)) tell(true, type, code, rest, at, end);
};

const mayTell4 = (at: number, end: number): boolean => {
  const v = io.view;
  if (eth.toGroup(v, at - eth.HEADER_BYTES) || ipv4.dst(v, at) >>> 28 >= 14) return false;
  icmpSend.from[3] = ipv4.src(v, at);
  if (!icmpSend.credible(true) || (ipv4.flagsAndFragment(v, at) & ipv4.OFFSET_MASK) !== 0) return false;
  const message = at + ipv4.headerBytes(v, at);
  if (ipv4.protocol(v, at) !== ICMP) return true;
  return end > message && !icmpv4.isError(icmpv4.type(v, message));
};

/**
 * Sends an error about the IPv6 packet in [at, end), whose Ethernet header lies before it. `protocol` and `messageAt` are
 * those of its transport header, as far as it was found: -1 where it was not. `evenToGroup`: RFC 4443 §2.4(e.3).
 */
export const tell6 = (
  at: number,
  end: number,
  type: number,
  code: number,
  rest: number,
  protocol: number,
  messageAt: number,
  evenToGroup = false,
): void => {
  const v = io.view;
  const toGroup = eth.toGroup(v, at - eth.HEADER_BYTES) || ipv6.isMulticast(ipv6.dstWord(v, at, 0));
  if (toGroup && !evenToGroup) return;
  for (let i = 0; i < 4; i++) icmpSend.from[i] = ipv6.srcWord(v, at, i);
  if (!icmpSend.credible(false)) return;
  if (protocol === ICMPV6 && (messageAt >= end || icmpv6.isError(icmpv6.type(v, messageAt)))) return;
  tell(false, type, code, rest, at, end);
};

const tell = (v4: boolean, type: number, code: number, rest: number, at: number, end: number): void => {
  icmpSend.fromUs(v4);
  if (icmpSend.credible(v4)) icmpSend.send(v4, type, code, rest, at, end - at);
};
