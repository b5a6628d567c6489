// SPDX-License-Identifier: Apache-2.0
/** Echo requests to our own addresses, the gateway's: answered here (RFC 1122 §3.2.2.6, RFC 4443 §4.2). */
import * as io from '../io/io.ts';
import * as checksum from '../wire/checksum.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { ICMP, ICMPV6 } from '../wire/protocols.ts';
import * as packetOut from './packet-out.ts';
import * as station from './station.ts';

const TTL = 255;
/** Where the IP header of the reply is put together; packet-out has the 64 bytes behind it. */
const HEADER_AT = io.SCRATCH_END - 128;

/** Whether the packet whose IP header lies at `ipAt` is for us. */
export const isToUs = (ipAt: number, v4: boolean): boolean => {
  const v = io.view;
  if (v4) return ipv4.dst(v, ipAt) === station.our4Word();
  return station.isOurs6(
    ipv6.dstWord(v, ipAt, 0),
    ipv6.dstWord(v, ipAt, 1),
    ipv6.dstWord(v, ipAt, 2),
    ipv6.dstWord(v, ipAt, 3),
  );
};

/** The reply to the request of `bytes` at `at`, straight back. The request becomes the reply where it lies. */
export const answer = (ipAt: number, at: number, bytes: number, v4: boolean): void => {
  const v = io.view;
  if (v4) {
    const total = ipv4.HEADER_BYTES + bytes;
    station.ipv4Header(v, HEADER_AT, total, ICMP, ipv4.dst(v, ipAt), ipv4.src(v, ipAt), TTL, ipv4.tos(v, ipAt));
  } else {
    ipv6.setClassAndLabel(v, HEADER_AT, ipv6.trafficClass(v, ipAt), 0);
    ipv6.setPayloadLength(v, HEADER_AT, bytes);
    ipv6.setNextHeader(v, HEADER_AT, ICMPV6);
    ipv6.setHopLimit(v, HEADER_AT, TTL);
    io.mem.copyWithin(HEADER_AT + ipv6.SRC, ipAt + ipv6.DST, ipAt + ipv6.DST + ipv6.ADDRESS_BYTES);
    io.mem.copyWithin(HEADER_AT + ipv6.DST, ipAt + ipv6.SRC, ipAt + ipv6.SRC + ipv6.ADDRESS_BYTES);
  }
  icmpv4.setType(v, at, v4 ? icmpv4.ECHO_REPLY : icmpv6.ECHO_REPLY);
  icmpv4.setChecksum(v, at, 0);
  const pseudo = v4 ? 0 : checksum.pseudo6(v, HEADER_AT + ipv6.SRC, ICMPV6, bytes);
  icmpv4.setChecksum(v, at, checksum.finish(io.native.checksum(at, bytes, pseudo)));
  packetOut.sendBehind(HEADER_AT, v4, at, bytes);
};
