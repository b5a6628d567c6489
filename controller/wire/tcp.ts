// SPDX-License-Identifier: Apache-2.0
/**
 * TCP header, RFC 9293 §3.1, and the options that a translator acts upon. Accessors are safe only after fits().
 * Sequence numbers are int32 (wire/seq.ts).
 *
 *    0                   1                   2                   3
 *    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *   |          Source Port          |       Destination Port        |
 *   |                        Sequence Number                        |
 *   |                    Acknowledgment Number                      |
 *   |  Data |       |C|E|U|A|P|R|S|F|                               |
 *   | Offset| Rsrvd |W|C|R|C|S|S|Y|I|            Window             |
 *   |       |       |R|E|G|K|H|T|N|N|                               |
 *   |           Checksum            |         Urgent Pointer        |
 */

const SRC_PORT = 0;
const DST_PORT = 2;
const SEQ = 4;
const ACK_NUMBER = 8;
const DATA_OFFSET = 12;
const FLAGS = 13;
const WINDOW = 14;
const CHECKSUM = 16;
const URGENT = 18;
/** Without options. */
export const HEADER_BYTES = 20;
export const HEADER_BYTES_MAX = 60;
/** Offset of the checksum field, for the virtio-net header's csum_offset. */
export const CHECKSUM_OFFSET = CHECKSUM;

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
export const ECE = 0x40;
export const CWR = 0x80;

export const srcPort = (v: DataView, at: number): number => v.getUint16(at + SRC_PORT);
export const dstPort = (v: DataView, at: number): number => v.getUint16(at + DST_PORT);
export const seq = (v: DataView, at: number): number => v.getInt32(at + SEQ);
export const ack = (v: DataView, at: number): number => v.getInt32(at + ACK_NUMBER);
/** Header length with options, in bytes. */
export const headerBytes = (v: DataView, at: number): number => (v.getUint8(at + DATA_OFFSET) >> 4) << 2;
export const flags = (v: DataView, at: number): number => v.getUint8(at + FLAGS);
/** As on the wire, not scaled. */
export const window = (v: DataView, at: number): number => v.getUint16(at + WINDOW);
export const checksum = (v: DataView, at: number): number => v.getUint16(at + CHECKSUM);
export const urgent = (v: DataView, at: number): number => v.getUint16(at + URGENT);

/** True when the header, options included, lies within [at, end). */
export const fits = (v: DataView, at: number, end: number): boolean =>
  end - at >= HEADER_BYTES && headerBytes(v, at) >= HEADER_BYTES && headerBytes(v, at) <= end - at;

export const setSrcPort = (v: DataView, at: number, n: number): void => v.setUint16(at + SRC_PORT, n);
export const setDstPort = (v: DataView, at: number, n: number): void => v.setUint16(at + DST_PORT, n);
export const setSeq = (v: DataView, at: number, n: number): void => v.setInt32(at + SEQ, n);
export const setAck = (v: DataView, at: number, n: number): void => v.setInt32(at + ACK_NUMBER, n);
/** A header of `bytes` (a multiple of 4, 20…60); the reserved bits become 0. */
export const setHeaderBytes = (v: DataView, at: number, bytes: number): void =>
  v.setUint8(at + DATA_OFFSET, (bytes >> 2) << 4);
export const setFlags = (v: DataView, at: number, n: number): void => v.setUint8(at + FLAGS, n);
export const setWindow = (v: DataView, at: number, n: number): void => v.setUint16(at + WINDOW, n);
export const setChecksum = (v: DataView, at: number, n: number): void => v.setUint16(at + CHECKSUM, n);
export const setUrgent = (v: DataView, at: number, n: number): void => v.setUint16(at + URGENT, n);

/** Option kinds, IANA "TCP Parameters", and their lengths. */
const END_OF_LIST = 0;
const NO_OPERATION = 1;
const KIND_MSS = 2;
const KIND_WINDOW_SCALE = 3;
const KIND_SACK_PERMITTED = 4;
const KIND_SACK = 5;
export const MSS_BYTES = 4;
export const WINDOW_SCALE_BYTES = 3;
export const SACK_PERMITTED_BYTES = 2;
/** What fits a header without other options (RFC 2018 §3). */
export const SACK_BLOCKS_MAX = 4;
/** Larger shifts count as this one (RFC 7323 §2.3). */
export const WINDOW_SCALE_MAX = 14;

/** Results of the last parseOptions(): one segment is looked at at a time. */
let optMss = 0;
let optWindowScale = -1;
let optSackPermitted = false;

/**
 * Reads the options of the header at `at` (which fits), never beyond `segmentEnd`. An option whose length runs over the
 * header ends the walk, and what was read before it counts; an option with the wrong length for its kind is passed over.
 */
export const parseOptions = (v: DataView, at: number, segmentEnd: number): void => {
  optMss = 0;
  optWindowScale = -1;
  optSackPermitted = false;
  const headerEnd = at + headerBytes(v, at);
  const end = Math.min(headerEnd, segmentEnd);
  let p = at + HEADER_BYTES;
  while (p < end) {
    const kind = v.getUint8(p);
    if (kind === END_OF_LIST) return;
    if (kind === NO_OPERATION) {
      p++;
      continue;
    }
    if (p + 2 > end) return;
    const len = v.getUint8(p + 1);
    if (len < 2 || p + len > end) return;
    if (kind === KIND_MSS && len === MSS_BYTES) optMss = v.getUint16(p + 2);
    else if (kind === KIND_WINDOW_SCALE && len === WINDOW_SCALE_BYTES)
      optWindowScale = Math.min(v.getUint8(p + 2), WINDOW_SCALE_MAX);
    else if (kind === KIND_SACK_PERMITTED && len === SACK_PERMITTED_BYTES) optSackPermitted = true;
    p += len;
  }
};

/** Maximum segment size in bytes; 0: not said (then 536 over IPv4, 1220 over IPv6: RFC 9293 §3.7.1). */
export const mss = (): number => optMss;
/** Shift count 0…14; -1: not said, no scaling in either direction. */
export const windowScale = (): number => optWindowScale;
export const sackPermitted = (): boolean => optSackPermitted;

/** Writes an MSS option; returns where the next option goes. */
export const putMss = (v: DataView, p: number, bytes: number): number => {
  v.setUint16(p, (KIND_MSS << 8) | MSS_BYTES);
  v.setUint16(p + 2, bytes);
  return p + MSS_BYTES;
};
/** Writes a NOP and a window scale option (4 bytes together); returns where the next option goes. */
export const putWindowScale = (v: DataView, p: number, shift: number): number => {
  v.setInt32(p, (NO_OPERATION << 24) | (KIND_WINDOW_SCALE << 16) | (WINDOW_SCALE_BYTES << 8) | shift);
  return p + 4;
};
/** Writes a SACK-permitted option and two NOPs (4 bytes together); returns where the next option goes. */
export const putSackPermitted = (v: DataView, p: number): number => {
  v.setInt32(p, (KIND_SACK_PERMITTED << 24) | (SACK_PERMITTED_BYTES << 16) | (NO_OPERATION << 8) | NO_OPERATION);
  return p + 4;
};
/** Writes two NOPs and the head of a SACK option of `blocks` blocks, which putSackBlock() writes behind it. */
export const putSackHead = (v: DataView, p: number, blocks: number): number => {
  v.setInt32(p, (NO_OPERATION << 24) | (NO_OPERATION << 16) | (KIND_SACK << 8) | (2 + 8 * blocks));
  return p + 4;
};
export const putSackBlock = (v: DataView, p: number, from: number, to: number): number => {
  v.setInt32(p, from);
  v.setInt32(p + 4, to);
  return p + 8;
};

/** Where the blocks of the last findSack() lie. */
let sackAt = 0;
/**
 * Number of whole blocks of the SACK option (RFC 2018 §3) of the header at `at`, which fits its segment; 0: there is none.
 * They are read by sackStart() and sackEnd() until the next call.
 */
export const findSack = (v: DataView, at: number): number => {
  const end = at + headerBytes(v, at);
  let p = at + HEADER_BYTES;
  while (p + 2 <= end) {
    const kind = v.getUint8(p);
    if (kind === END_OF_LIST) return 0;
    if (kind === NO_OPERATION) {
      p++;
      continue;
    }
    const len = v.getUint8(p + 1);
    if (len < 2 || p + len > end) return 0;
    if (kind === KIND_SACK && len > 2 && (len & 7) === 2) {
      sackAt = p + 2;
      return len >> 3;
    }
    p += len;
  }
  return 0;
};
/** First sequence number of block `i`, and the one after its last. */
export const sackStart = (v: DataView, i: number): number => v.getInt32(sackAt + 8 * i);
export const sackEnd = (v: DataView, i: number): number => v.getInt32(sackAt + 8 * i + 4);
