// SPDX-License-Identifier: Apache-2.0
/**
 * Multicast Listener Discovery in ICMPv6: 24-byte messages of RFC 2710, and the report of RFC 3810 §5.2 with its records.
 * Accessors are safe only after fits() (fits2() for a version 2 report); those of a record only after recordEnd().
 */
const RECORDS = 6;
const GROUP = 8;
const RECORD_BYTES = 20;
const HEADER_2_BYTES = 8;
const BYTES = 24;

export const QUERY = 130;
export const REPORT = 131;
export const DONE = 132;
export const REPORT_2 = 143;

/** Types 130 to 132, and 143. */
export const isMld = (type: number): boolean => (type >= QUERY && type <= DONE) || type === REPORT_2;
export const fits = (_v: DataView, at: number, end: number): boolean => end - at >= BYTES;
export const fits2 = (_v: DataView, at: number, end: number): boolean => end - at >= HEADER_2_BYTES;
/** Where the group of a version 1 message lies: 16 bytes. */
export const groupAt = (at: number): number => at + GROUP;

/** Of a version 2 report: how many records it says it has, and where the first is. */
export const records = (v: DataView, at: number): number => v.getUint16(at + RECORDS);
export const recordsAt = (at: number): number => at + HEADER_2_BYTES;
/** Where the record at `at` ends, or -1 when it does not lie in [at, end). */
export const recordEnd = (v: DataView, at: number, end: number): number => {
  if (end - at < RECORD_BYTES) return -1;
  const next = at + RECORD_BYTES + sources(v, at) * 16 + v.getUint8(at + 1) * 4;
  return next <= end ? next : -1;
};
export const recordType = (v: DataView, at: number): number => v.getUint8(at);
export const sources = (v: DataView, at: number): number => v.getUint16(at + 2);
export const recordGroupAt = (at: number): number => at + 4;

/** Of a version 2 query without sources (RFC 3810 §5.1). */
export const QUERY_BYTES = 28;
/** Robustness variable and query interval in seconds, at their defaults (§9.1, §9.2). */
const ROBUSTNESS = 2;
const QUERY_INTERVAL_S = 125;
/** A query for one group, its checksum zero; `responseMs` up to 32,767. */
export const writeQuery = (
  v: DataView,
  at: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  responseMs: number,
): void => {
  v.setUint32(at, QUERY << 24);
  v.setUint32(at + 4, responseMs << 16);
  v.setInt32(at + GROUP, w0);
  v.setInt32(at + GROUP + 4, w1);
  v.setInt32(at + GROUP + 8, w2);
  v.setInt32(at + GROUP + 12, w3);
  v.setUint8(at + 24, ROBUSTNESS);
  v.setUint8(at + 25, QUERY_INTERVAL_S);
  v.setUint16(at + 26, 0);
};
