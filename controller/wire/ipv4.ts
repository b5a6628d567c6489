// SPDX-License-Identifier: Apache-2.0
/**
 * IPv4 header, RFC 791 §3.1. Accessors are safe only after fits(). Addresses are int32.
 *
 *    0                   1                   2                   3
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *   |Version|  IHL  |Type of Service|          Total Length         |
 *   |         Identification        |Flags|      Fragment Offset    |
 *   |  Time to Live |    Protocol   |         Header Checksum       |
 *   |                       Source Address                          |
 *   |                    Destination Address                        |
 */

const VERSION_IHL = 0;
const TOS = 1;
const TOTAL_LENGTH = 2;
const ID = 4;
const FLAGS_FRAGMENT = 6;
const TTL = 8;
const PROTOCOL = 9;
const CHECKSUM = 10;
/** Where the addresses lie in the header. */
export const SRC = 12;
export const DST = 16;
/** Without options. */
export const HEADER_BYTES = 20;
export const HEADER_BYTES_MAX = 60;
/** Don't fragment, more fragments, and the fragment offset (units of 8 bytes) in flagsAndFragment(). */
export const DF = 0x4000;
export const MF = 0x2000;
export const OFFSET_MASK = 0x1fff;

export const version = (v: DataView, at: number): number => v.getUint8(at + VERSION_IHL) >> 4;
/** Header length with options, in bytes. */
export const headerBytes = (v: DataView, at: number): number => (v.getUint8(at + VERSION_IHL) & 15) << 2;
export const tos = (v: DataView, at: number): number => v.getUint8(at + TOS);
/** Header and payload, in bytes. */
export const totalLength = (v: DataView, at: number): number => v.getUint16(at + TOTAL_LENGTH);
export const id = (v: DataView, at: number): number => v.getUint16(at + ID);
export const flagsAndFragment = (v: DataView, at: number): number => v.getUint16(at + FLAGS_FRAGMENT);
export const ttl = (v: DataView, at: number): number => v.getUint8(at + TTL);
export const protocol = (v: DataView, at: number): number => v.getUint8(at + PROTOCOL);
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM);
export const src = (v: DataView, at: number): number => v.getInt32(at + SRC);
export const dst = (v: DataView, at: number): number => v.getInt32(at + DST);
/** A part of a datagram: the first (MF), a middle one, or the last (offset ≠ 0). */
export const isFragment = (v: DataView, at: number): boolean =>
  (v.getUint16(at + FLAGS_FRAGMENT) & (MF | OFFSET_MASK)) !== 0;

/** True when the header says version 4 and it, its options and the total length lie within [at, end). Bytes after the total length are link padding. */
export const fits = (v: DataView, at: number, end: number): boolean =>
  end - at >= HEADER_BYTES &&
  version(v, at) === 4 &&
  headerBytes(v, at) >= HEADER_BYTES &&
  totalLength(v, at) >= headerBytes(v, at) &&
  totalLength(v, at) <= end - at;

/** Version 4 and a header of `bytes` (a multiple of 4, 20…60). */
export const setHeaderBytes = (v: DataView, at: number, bytes: number): void =>
  v.setUint8(at + VERSION_IHL, 0x40 | (bytes >> 2));
export const setTos = (v: DataView, at: number, n: number): void => v.setUint8(at + TOS, n);
export const setTotalLength = (v: DataView, at: number, n: number): void => v.setUint16(at + TOTAL_LENGTH, n);
export const setId = (v: DataView, at: number, n: number): void => v.setUint16(at + ID, n);
export const setFlagsAndFragment = (v: DataView, at: number, n: number): void => v.setUint16(at + FLAGS_FRAGMENT, n);
export const setTtl = (v: DataView, at: number, n: number): void => v.setUint8(at + TTL, n);
export const setProtocol = (v: DataView, at: number, n: number): void => v.setUint8(at + PROTOCOL, n);
export const setChecksum = (v: DataView, at: number, n: number): void => v.setUint16(at + CHECKSUM, n);
export const setSrc = (v: DataView, at: number, word: number): void => v.setInt32(at + SRC, word);
export const setDst = (v: DataView, at: number, word: number): void => v.setInt32(at + DST, word);
