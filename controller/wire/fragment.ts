// SPDX-License-Identifier: Apache-2.0
/**
 * What a fragment must be by itself, before anything is known of the others: IPv4 (RFC 791 §3.1) and the IPv6 fragment
 * header (RFC 8200 §4.5), 8 bytes:
 *
 *   | next header | reserved | offset 13, reserved 2, M 1 | identification 32 |
 *
 * Offsets and lengths are in bytes.
 */
import * as ext from './ext-header.ts';
import { ICMP, ICMPV6, TCP, UDP } from './protocols.ts';

export const HEADER_BYTES = 8;
export const PACKET_BYTES_MAX = 65_535;
const OFFSET_AND_MORE = 2;
const ID = 4;

export const nextHeader = (v: DataView, at: number): number => v.getUint8(at);
export const offset = (v: DataView, at: number): number => v.getUint16(at + OFFSET_AND_MORE) & 0xfff8;
export const more = (v: DataView, at: number): boolean => (v.getUint16(at + OFFSET_AND_MORE) & 1) !== 0;
export const id = (v: DataView, at: number): number => v.getInt32(at + ID);

export const OK = 0;
/** Empty, or not a multiple of 8 bytes though more follows. */
export const WRONG_LENGTH = 1;
/** Its end lies beyond what one packet can hold. */
export const TOO_LONG = 2;
/** The transport header is not whole in the first fragment, where filters look for it (RFC 1858, RFC 3128, RFC 7112). */
export const TINY = 3;

/** Lengths and place. `others`: bytes that the whole packet's length field counts beside the data. */
export const judge = (offset: number, bytes: number, more: boolean, others: number): number => {
  if (bytes <= 0 || (more && (bytes & 7) !== 0)) return WRONG_LENGTH;
  return offset + bytes + others > PACKET_BYTES_MAX ? TOO_LONG : OK;
};

/** Smallest header of a transport protocol that we take; 0 for others. */
const headerBytesOf = (protocol: number): number => {
  if (protocol === TCP) return 20;
  return protocol === UDP || protocol === ICMP || protocol === ICMPV6 ? 8 : 0;
};

/** Whether an IPv4 fragment at `offset` hides a part of its datagram's transport header. */
export const isTiny4 = (protocol: number, offset: number, bytes: number): boolean =>
  offset === 0 ? bytes < headerBytesOf(protocol) : protocol === TCP && offset < headerBytesOf(TCP);

/** Whether the first IPv6 fragment, data in [at, end), has not all headers up to and including the transport header. */
export const isTiny6 = (v: DataView, next: number, at: number, end: number): boolean => {
  const verdict = ext.walkFirstFragment(v, next, at, end);
  if (verdict === ext.MALFORMED || verdict === ext.FRAGMENT) return true;
  // What is unsupported is told when the packet is whole.
  return verdict === ext.OK && end - ext.payloadAt() < headerBytesOf(ext.protocol());
};
