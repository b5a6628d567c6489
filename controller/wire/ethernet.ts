// SPDX-License-Identifier: Apache-2.0
/**
 * Ethernet II header, 14 bytes, no VLAN tag, no frame check sequence. Accessors are safe only after fits().
 *
 *   0        6        12     14
 *   | dst    | src    | type | payload…
 *
 * A MAC address is passed as two integers: `high`, its first 2 bytes (0…65535), and `low`, its last 4 (int32).
 */

const DST = 0;
const SRC = 6;
const TYPE = 12;
export const HEADER_BYTES = 14;
/** Smallest frame without its check sequence (IEEE 802.3); a tap does not insist on it. */
export const FRAME_BYTES_MIN = 60;

/** EtherTypes, IANA "IEEE 802 Numbers". */
export const IPV4 = 0x0800;
export const ARP = 0x0806;
export const IPV6 = 0x86dd;

/** True when the header lies within [at, end). */
export const fits = (_v: DataView, at: number, end: number): boolean => end - at >= HEADER_BYTES;

export const etherType = (v: DataView, at: number): number => v.getUint16(at + TYPE);
export const dstHigh = (v: DataView, at: number): number => v.getUint16(at + DST);
export const dstLow = (v: DataView, at: number): number => v.getInt32(at + DST + 2);
export const srcHigh = (v: DataView, at: number): number => v.getUint16(at + SRC);
export const srcLow = (v: DataView, at: number): number => v.getInt32(at + SRC + 2);
/** Multicast or broadcast destination: the group bit (IEEE 802.3 §3.2.3). */
export const toGroup = (v: DataView, at: number): boolean => (v.getUint8(at + DST) & 1) !== 0;
/** A source must be an individual address. */
export const fromGroup = (v: DataView, at: number): boolean => (v.getUint8(at + SRC) & 1) !== 0;

export const setEtherType = (v: DataView, at: number, type: number): void => v.setUint16(at + TYPE, type);
export const setDst = (v: DataView, at: number, high: number, low: number): void => {
  v.setUint16(at + DST, high);
  v.setInt32(at + DST + 2, low);
};
export const setSrc = (v: DataView, at: number, high: number, low: number): void => {
  v.setUint16(at + SRC, high);
  v.setInt32(at + SRC + 2, low);
};
