// SPDX-License-Identifier: Apache-2.0
/**
 * struct virtio_net_hdr_v1 (virtio 1.2 §5.1.6): 12 bytes, little endian, before each frame of a tap with IFF_VNET_HDR.
 *
 *   0       1          2         4          6            8             10            12
 *   | flags | gso_type | hdr_len | gso_size | csum_start | csum_offset | num_buffers |
 *
 * csum_start counts from the Ethernet header, csum_offset from csum_start. From a guest all of it is hostile: nothing may
 * be used before sane() said yes.
 */
import { IPV4, IPV6 } from './ethernet.ts';
import { TCP, UDP } from './protocols.ts';
import { CHECKSUM_OFFSET as TCP_CHECKSUM_OFFSET } from './tcp.ts';
import { CHECKSUM_OFFSET as UDP_CHECKSUM_OFFSET, HEADER_BYTES as UDP_HEADER_BYTES } from './udp.ts';

const FLAGS = 0;
const GSO_TYPE = 1;
const HDR_LEN = 2;
const GSO_SIZE = 4;
const CSUM_START = 6;
const CSUM_OFFSET = 8;
const NUM_BUFFERS = 10;
export const HEADER_BYTES = 12;
/** UDP_MAX_SEGMENTS of Linux since 6.10, which is its largest: no sender makes more of one superframe. */
export const UDP_SEGMENTS_MAX = 128;

/** The checksum field holds the pseudo-header's sum; the rest is left to the receiver. */
export const NEEDS_CSUM = 1;
/** The device checked the checksum. */
export const DATA_VALID = 2;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
/** UDP fragmentation offload: we never offer it. */
export const GSO_UDP = 3;
export const GSO_TCPV6 = 4;
/** UDP segmentation offload (USO). */
export const GSO_UDP_L4 = 5;
/** Bit beside GSO_TCPV4/6: the segments carry CWR as RFC 3168 §6.1.2 wants it. */
export const GSO_ECN = 0x80;

export const flags = (v: DataView, at: number): number => v.getUint8(at + FLAGS);
/** With the ECN bit. */
export const gsoType = (v: DataView, at: number): number => v.getUint8(at + GSO_TYPE);
/** Length of all headers, in bytes: a hint. */
export const hdrLen = (v: DataView, at: number): number => v.getUint16(at + HDR_LEN, true);
/** Payload bytes of one segment. */
export const gsoSize = (v: DataView, at: number): number => v.getUint16(at + GSO_SIZE, true);
export const csumStart = (v: DataView, at: number): number => v.getUint16(at + CSUM_START, true);
export const csumOffset = (v: DataView, at: number): number => v.getUint16(at + CSUM_OFFSET, true);
export const numBuffers = (v: DataView, at: number): number => v.getUint16(at + NUM_BUFFERS, true);

export const setFlags = (v: DataView, at: number, n: number): void => v.setUint8(at + FLAGS, n);
export const setGsoType = (v: DataView, at: number, n: number): void => v.setUint8(at + GSO_TYPE, n);
export const setHdrLen = (v: DataView, at: number, n: number): void => v.setUint16(at + HDR_LEN, n, true);
export const setGsoSize = (v: DataView, at: number, n: number): void => v.setUint16(at + GSO_SIZE, n, true);
export const setCsumStart = (v: DataView, at: number, n: number): void => v.setUint16(at + CSUM_START, n, true);
export const setCsumOffset = (v: DataView, at: number, n: number): void => v.setUint16(at + CSUM_OFFSET, n, true);
export const setNumBuffers = (v: DataView, at: number, n: number): void => v.setUint16(at + NUM_BUFFERS, n, true);

/** No offload, complete checksum. */
export const clear = (v: DataView, at: number): void => {
  v.setInt32(at, 0);
  v.setInt32(at + 4, 0);
  v.setInt32(at + 8, 0);
};
/** NEEDS_CSUM: the receiver completes the checksum over [start, end of frame) at start + offset. `start` counts from the Ethernet header. */
export const needChecksum = (v: DataView, at: number, start: number, offset: number): void => {
  setFlags(v, at, NEEDS_CSUM);
  setCsumStart(v, at, start);
  setCsumOffset(v, at, offset);
};
/** A superframe of `type` whose `headersBytes` of headers stand before segments of `segmentBytes` payload each. needChecksum() is wanted beside it. */
export const segment = (v: DataView, at: number, type: number, segmentBytes: number, headersBytes: number): void => {
  setGsoType(v, at, type);
  setGsoSize(v, at, segmentBytes);
  setHdrLen(v, at, headersBytes);
};

/** Whether the sender vouches for the transport checksum: partial or checked. Only after sane(). */
export const vouched = (v: DataView, at: number): boolean => (flags(v, at) & (NEEDS_CSUM | DATA_VALID)) !== 0;

/** Whether nothing is left to the receiver: what must be true of a fragment, of which no checksum and no segment can be made. */
export const isComplete = (v: DataView, at: number): boolean =>
  (flags(v, at) & NEEDS_CSUM) === 0 && gsoType(v, at) === GSO_NONE;

/**
 * Whether the header at `at` fits the frame that follows it (up to `end`): an `etherType` packet whose transport header,
 * of IP protocol `protocol`, lies at `transportAt`. Only a superframe of that very protocol passes, and only a partial checksum
 * that lies where that protocol has its checksum: then the rest of the program need not look at csum_start again. A UDP
 * superframe has as many segments as Linux makes at most: each becomes a datagram of ours.
 */
export const sane = (
  v: DataView,
  at: number,
  end: number,
  etherType: number,
  protocol: number,
  transportAt: number,
): boolean => {
  if (end - at < HEADER_BYTES) return false;
  const flagBits = flags(v, at);
  if ((flagBits & ~(NEEDS_CSUM | DATA_VALID)) !== 0) return false;
  if (hdrLen(v, at) > end - at - HEADER_BYTES) return false;
  if ((flagBits & NEEDS_CSUM) !== 0 && !saneChecksum(v, at, end, protocol, transportAt)) return false;
  const type = gsoType(v, at);
  if (type === GSO_NONE) return true;
  // virtio 1.2 §5.1.6.2.1: a superframe needs its checksums made for each segment.
  const size = gsoSize(v, at);
  if ((flagBits & NEEDS_CSUM) === 0 || size === 0 || !typeMatches(type, etherType, protocol)) return false;
  return protocol !== UDP || end - transportAt - UDP_HEADER_BYTES <= size * UDP_SEGMENTS_MAX;
};
const saneChecksum = (v: DataView, at: number, end: number, protocol: number, transportAt: number): boolean => {
  const start = at + HEADER_BYTES + csumStart(v, at);
  const offset = csumOffset(v, at);
  if (start !== transportAt || start + offset + 2 > end) return false;
  return (protocol === TCP && offset === TCP_CHECKSUM_OFFSET) || (protocol === UDP && offset === UDP_CHECKSUM_OFFSET);
};
const typeMatches = (type: number, etherType: number, protocol: number): boolean => {
  if (protocol === TCP) {
    const base = type & ~GSO_ECN;
    return (base === GSO_TCPV4 && etherType === IPV4) || (base === GSO_TCPV6 && etherType === IPV6);
  }
  return protocol === UDP && type === GSO_UDP_L4;
};
