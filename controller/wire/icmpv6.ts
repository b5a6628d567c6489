// SPDX-License-Identifier: Apache-2.0
/**
 * ICMPv6, RFC 4443: the 4-byte header of all messages and the 4 bytes that follow it in echo messages and errors.
 * Accessors are safe only after fits(). The checksum covers the pseudo-header of RFC 8200 §8.1.
 */

const TYPE = 0;
const CODE = 1;
const CHECKSUM = 2;
const ID = 4;
const SEQUENCE = 6;
const REST = 4;
export const HEADER_BYTES = 8;
export const CHECKSUM_OFFSET = CHECKSUM;

/** Message types, IANA "ICMPv6 Parameters". Below 128: errors. */
export const UNREACHABLE = 1;
export const PACKET_TOO_BIG = 2;
export const TIME_EXCEEDED = 3;
export const PARAMETER_PROBLEM = 4;
export const ECHO_REQUEST = 128;
export const ECHO_REPLY = 129;
export const ROUTER_SOLICITATION = 133;
export const ROUTER_ADVERTISEMENT = 134;
export const NEIGHBOUR_SOLICITATION = 135;
export const NEIGHBOUR_ADVERTISEMENT = 136;
export const REDIRECT = 137;
/** Codes of UNREACHABLE. */
export const NO_ROUTE = 0;
export const ADMINISTRATIVELY_PROHIBITED = 1;
export const ADDRESS_UNREACHABLE = 3;
export const PORT_UNREACHABLE = 4;
/** Code of TIME_EXCEEDED: fragments that did not all come. */
export const REASSEMBLY_TIME = 1;
/** Codes of PARAMETER_PROBLEM (RFC 4443 §3.4, RFC 7112 §5). */
export const ERRONEOUS_FIELD = 0;
export const UNRECOGNISED_NEXT_HEADER = 1;
export const UNRECOGNISED_OPTION = 2;
export const INCOMPLETE_HEADER_CHAIN = 3;
/** RFC 4443 §2.1: errors have the high bit clear. Redirects count as such where errors about errors are concerned (§2.4(e)). */
export const isError = (type: number): boolean => type < ECHO_REQUEST || type === REDIRECT;

/** True when the 8 bytes lie within [at, end): no message that we look at is shorter. */
export const fits = (_v: DataView, at: number, end: number): boolean => end - at >= HEADER_BYTES;

export const type = (v: DataView, at: number): number => v.getUint8(at + TYPE);
export const code = (v: DataView, at: number): number => v.getUint8(at + CODE);
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM);
export const id = (v: DataView, at: number): number => v.getUint16(at + ID);
export const sequence = (v: DataView, at: number): number => v.getUint16(at + SEQUENCE);
/** MTU of "packet too big", int32. */
export const mtu = (v: DataView, at: number): number => v.getInt32(at + REST);

export const setType = (v: DataView, at: number, n: number): void => v.setUint8(at + TYPE, n);
export const setCode = (v: DataView, at: number, n: number): void => v.setUint8(at + CODE, n);
export const setChecksum = (v: DataView, at: number, n: number): void => v.setUint16(at + CHECKSUM, n);
export const setId = (v: DataView, at: number, n: number): void => v.setUint16(at + ID, n);
export const setSequence = (v: DataView, at: number, n: number): void => v.setUint16(at + SEQUENCE, n);
/** The 4 bytes after the checksum: unused (0), the MTU, or a pointer. */
export const setRest = (v: DataView, at: number, word: number): void => v.setInt32(at + REST, word);
/** Neighbour discovery (RFC 4861): types 133 to 137. */
export const isNdp = (type: number): boolean => type >= ROUTER_SOLICITATION && type <= REDIRECT;
