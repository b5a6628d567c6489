// SPDX-License-Identifier: Apache-2.0
/**
 * IPv6 header, RFC 8200 §3. Accessors are safe only after fits(). An address is four int32 words, word 0 first.
 *
 *    0                   1                   2                   3
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *   |Version| Traffic Class |           Flow Label                  |
 *   |         Payload Length        |  Next Header  |   Hop Limit   |
 *   |                    Source Address, 16 bytes                   |
 *   |                 Destination Address, 16 bytes                 |
 */

const VERSION_CLASS_LABEL = 0;
const PAYLOAD_LENGTH = 4;
const NEXT_HEADER = 6;
const HOP_LIMIT = 7;
/** Where the addresses lie in the header. */
export const SRC = 8;
export const DST = 24;
export const HEADER_BYTES = 40;
export const ADDRESS_BYTES = 16;

export const version = (v: DataView, at: number): number => v.getUint8(at + VERSION_CLASS_LABEL) >> 4;
/** DSCP and ECN, 8 bits. */
export const trafficClass = (v: DataView, at: number): number => (v.getUint16(at + VERSION_CLASS_LABEL) >> 4) & 0xff;
/** 20 bits. */
export const flowLabel = (v: DataView, at: number): number => v.getInt32(at + VERSION_CLASS_LABEL) & 0xfffff;
/** What follows the 40 bytes, extension headers included, in bytes. */
export const payloadLength = (v: DataView, at: number): number => v.getUint16(at + PAYLOAD_LENGTH);
export const nextHeader = (v: DataView, at: number): number => v.getUint8(at + NEXT_HEADER);
export const hopLimit = (v: DataView, at: number): number => v.getUint8(at + HOP_LIMIT);
/** Word `i` (0…3) of an address. */
export const srcWord = (v: DataView, at: number, i: number): number => v.getInt32(at + SRC + (i << 2));
export const dstWord = (v: DataView, at: number, i: number): number => v.getInt32(at + DST + (i << 2));

/** True when the header says version 6 and it and the payload lie within [at, end). Bytes after the payload are link padding. */
export const fits = (v: DataView, at: number, end: number): boolean =>
  end - at >= HEADER_BYTES && version(v, at) === 6 && payloadLength(v, at) <= end - at - HEADER_BYTES;

/** Version 6, traffic class and flow label in one store. */
export const setClassAndLabel = (v: DataView, at: number, trafficClass: number, flowLabel: number): void =>
  v.setInt32(at + VERSION_CLASS_LABEL, 0x60000000 | ((trafficClass & 0xff) << 20) | (flowLabel & 0xfffff));
export const setPayloadLength = (v: DataView, at: number, n: number): void => v.setUint16(at + PAYLOAD_LENGTH, n);
export const setNextHeader = (v: DataView, at: number, n: number): void => v.setUint8(at + NEXT_HEADER, n);
export const setHopLimit = (v: DataView, at: number, n: number): void => v.setUint8(at + HOP_LIMIT, n);
export const setSrc = (v: DataView, at: number, w0: number, w1: number, w2: number, w3: number): void => {
  v.setInt32(at + SRC, w0);
  v.setInt32(at + SRC + 4, w1);
  v.setInt32(at + SRC + 8, w2);
  v.setInt32(at + SRC + 12, w3);
};
export const setDst = (v: DataView, at: number, w0: number, w1: number, w2: number, w3: number): void => {
  v.setInt32(at + DST, w0);
  v.setInt32(at + DST + 4, w1);
  v.setInt32(at + DST + 8, w2);
  v.setInt32(at + DST + 12, w3);
};

/** fe80::/10 of an address's first word (RFC 4291 §2.4). */
export const isLinkLocal = (word0: number): boolean => (word0 & 0xffc00000) === (0xfe800000 | 0);
/** ff00::/8 of an address's first word. */
export const isMulticast = (word0: number): boolean => word0 >>> 24 === 0xff;
/** The unspecified address, :: */
export const isUnspecified = (w0: number, w1: number, w2: number, w3: number): boolean => (w0 | w1 | w2 | w3) === 0;
/** ::1 */
export const isLoopback = (w0: number, w1: number, w2: number, w3: number): boolean => (w0 | w1 | w2) === 0 && w3 === 1;
