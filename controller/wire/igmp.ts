// SPDX-License-Identifier: Apache-2.0
/**
 * IGMP: 8-byte messages of RFC 1112 and RFC 2236, and the report of RFC 3376 §4.2 with its records. Accessors are safe only
 * after fits(); those of a record only after recordEnd() said where it ends. The checksum covers the whole message.
 */
export const HEADER_BYTES = 8;
const TYPE = 0;
const GROUP = 4;
const RECORDS = 6;
const RECORD_BYTES = 8;

export const QUERY = 0x11;
export const REPORT_1 = 0x12;
export const REPORT_2 = 0x16;
export const LEAVE = 0x17;
export const REPORT_3 = 0x22;

export const fits = (_v: DataView, at: number, end: number): boolean => end - at >= HEADER_BYTES;
export const type = (v: DataView, at: number): number => v.getUint8(at + TYPE);
export const group = (v: DataView, at: number): number => v.getInt32(at + GROUP);

/** Of a version 3 report: how many records it says it has; the first is at `at` + HEADER_BYTES. */
export const records = (v: DataView, at: number): number => v.getUint16(at + RECORDS);
/** Where the record at `at` ends, or -1 when it does not lie in [at, end). */
export const recordEnd = (v: DataView, at: number, end: number): number => {
  if (end - at < RECORD_BYTES) return -1;
  const next = at + RECORD_BYTES + sources(v, at) * 4 + v.getUint8(at + 1) * 4;
  return next <= end ? next : -1;
};
export const recordType = (v: DataView, at: number): number => v.getUint8(at);
export const sources = (v: DataView, at: number): number => v.getUint16(at + 2);
export const recordGroup = (v: DataView, at: number): number => v.getInt32(at + 4);

/** Of a version 3 query without sources (RFC 3376 §4.1). */
export const QUERY_BYTES = 12;
/** Robustness variable and query interval in seconds, at their defaults (§8.1, §8.2). */
const ROBUSTNESS = 2;
const QUERY_INTERVAL_S = 125;
/** A query for one group, its checksum zero; `responseMs` up to 12,700. */
export const writeQuery = (v: DataView, at: number, group: number, responseMs: number): void => {
  v.setUint8(at, QUERY);
  v.setUint8(at + 1, responseMs / 100);
  v.setUint16(at + 2, 0);
  v.setInt32(at + GROUP, group);
  v.setUint8(at + 8, ROBUSTNESS);
  v.setUint8(at + 9, QUERY_INTERVAL_S);
  v.setUint16(at + 10, 0);
};
export const setChecksum = (v: DataView, at: number, n: number): void => v.setUint16(at + 2, n);
