// SPDX-License-Identifier: Apache-2.0
/**
 * ICMP, RFC 792: the 8-byte header that all messages share. Accessors are safe only after fits(). `id` and `sequence`
 * belong to echo messages; errors carry the offending datagram's header and first bytes from offset 8.
 */

const TYPE = 0;
const CODE = 1;
const CHECKSUM = 2;
const ID = 4;
const SEQUENCE = 6;
/** Next-hop MTU of "fragmentation needed" (RFC 1191 §4): the low half of the fourth word. */
const NEXT_HOP_MTU = 6;
export const HEADER_BYTES = 8;
export const CHECKSUM_OFFSET = CHECKSUM;

/** Message types, IANA "ICMP Type Numbers". */
export const ECHO_REPLY = 0;
export const UNREACHABLE = 3;
export const SOURCE_QUENCH = 4;
export const REDIRECT = 5;
export const ECHO_REQUEST = 8;
export const TIME_EXCEEDED = 11;
export const PARAMETER_PROBLEM = 12;
/** Codes of UNREACHABLE. */
export const NET_UNREACHABLE = 0;
export const HOST_UNREACHABLE = 1;
export const PROTOCOL_UNREACHABLE = 2;
export const PORT_UNREACHABLE = 3;
export const FRAGMENTATION_NEEDED = 4;
export const ADMINISTRATIVELY_PROHIBITED = 13;
/** Code of TIME_EXCEEDED: fragments that did not all come. */
export const REASSEMBLY_TIME = 1;
/** Messages that report an error; RFC 1122 §3.2.2: none is sent about one of these. */
export const isError = (type: number): boolean =>
  type === UNREACHABLE ||
  type === SOURCE_QUENCH ||
  type === REDIRECT ||
  type === TIME_EXCEEDED ||
  type === PARAMETER_PROBLEM;

/** True when the 8 bytes lie within [at, end). */
export const fits = (_v: DataView, at: number, end: number): boolean => end - at >= HEADER_BYTES;

export const type = (v: DataView, at: number): number => v.getUint8(at + TYPE);
export const code = (v: DataView, at: number): number => v.getUint8(at + CODE);
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM);
export const id = (v: DataView, at: number): number => v.getUint16(at + ID);
export const sequence = (v: DataView, at: number): number => v.getUint16(at + SEQUENCE);
export const nextHopMtu = (v: DataView, at: number): number => v.getUint16(at + NEXT_HOP_MTU);

export const setType = (v: DataView, at: number, n: number): void => v.setUint8(at + TYPE, n);
export const setCode = (v: DataView, at: number, n: number): void => v.setUint8(at + CODE, n);
export const setChecksum = (v: DataView, at: number, n: number): void => v.setUint16(at + CHECKSUM, n);
export const setId = (v: DataView, at: number, n: number): void => v.setUint16(at + ID, n);
export const setSequence = (v: DataView, at: number, n: number): void => v.setUint16(at + SEQUENCE, n);
export const setNextHopMtu = (v: DataView, at: number, n: number): void => v.setUint16(at + NEXT_HOP_MTU, n);
/** The fourth to eighth byte: unused (0) in most errors. */
export const setRest = (v: DataView, at: number, word: number): void => v.setInt32(at + ID, word);
