// SPDX-License-Identifier: Apache-2.0
/** UDP header, RFC 768. Accessors are safe only after fits(). */

const SRC_PORT = 0;
const DST_PORT = 2;
const LENGTH = 4;
const CHECKSUM = 6;
export const HEADER_BYTES = 8;
/** Offset of the checksum field, for the virtio-net header's csum_offset. */
export const CHECKSUM_OFFSET = CHECKSUM;

export const srcPort = (v: DataView, at: number): number => v.getUint16(at + SRC_PORT);
export const dstPort = (v: DataView, at: number): number => v.getUint16(at + DST_PORT);
/** Header and data, in bytes. In a USO superframe: that of the whole superframe. */
export const length = (v: DataView, at: number): number => v.getUint16(at + LENGTH);
/** 0: the sender made none (allowed over IPv4 only, RFC 8200 §8.1). */
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM);

/** True when header and data, by the length field, lie within [at, end). */
export const fits = (v: DataView, at: number, end: number): boolean =>
  end - at >= HEADER_BYTES && length(v, at) >= HEADER_BYTES && length(v, at) <= end - at;

export const setSrcPort = (v: DataView, at: number, n: number): void => v.setUint16(at + SRC_PORT, n);
export const setDstPort = (v: DataView, at: number, n: number): void => v.setUint16(at + DST_PORT, n);
export const setLength = (v: DataView, at: number, n: number): void => v.setUint16(at + LENGTH, n);
export const setChecksum = (v: DataView, at: number, n: number): void => v.setUint16(at + CHECKSUM, n);
