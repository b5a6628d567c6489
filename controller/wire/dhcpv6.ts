// SPDX-License-Identifier: Apache-2.0
/**
 * DHCPv6 client/server message, RFC 8415 §8 (type 1, transaction id 3, options) and the options of §21: code 2, length 2,
 * data. Accessors are safe only after fits().
 */
const TRANSACTION = 0;
export const HEADER_BYTES = 4;
export const OPTION_HEADER_BYTES = 4;
export const SERVER_PORT = 547;
export const CLIENT_PORT = 546;

/** Message types, §7.3. */
export const SOLICIT = 1;
export const ADVERTISE = 2;
export const REQUEST = 3;
export const CONFIRM = 4;
export const RENEW = 5;
export const REBIND = 6;
export const REPLY = 7;
export const RELEASE = 8;
export const DECLINE = 9;
export const INFORMATION_REQUEST = 11;

/** Option codes, IANA "DHCPv6". */
export const CLIENT_ID = 1;
export const SERVER_ID = 2;
export const IA_NA = 3;
export const IA_TA = 4;
export const IA_ADDRESS = 5;
export const PREFERENCE = 7;
export const STATUS = 13;
export const RAPID_COMMIT = 14;
export const DNS_SERVERS = 23;
export const DOMAIN_LIST = 24;
export const IA_PD = 25;
export const CLIENT_FQDN = 39;
export const ORO = 6;

/** Status codes, §21.13. */
export const SUCCESS = 0;
export const NO_ADDRS_AVAIL = 2;
export const NOT_ON_LINK = 4;
export const NO_PREFIX_AVAIL = 6;

/** Fixed parts of options: IAID, T1, T2; IAID alone; address, preferred and valid lifetime. */
export const IA_BYTES = 12;
export const IA_TA_BYTES = 4;
export const IA_ADDRESS_BYTES = 24;
export const STATUS_BYTES = 2;
/** §11.1: 2 bytes of type, at least 1 and at most 128 of identifier. */
export const DUID_BYTES_MIN = 3;
export const DUID_BYTES_MAX = 130;
/** 'Infinity' of lifetimes, T1 and T2, int32. */
export const INFINITE = -1;

export const type = (v: DataView, at: number): number => v.getUint8(at + TRANSACTION);
/** Type and transaction id in one word. */
export const transaction = (v: DataView, at: number): number => v.getInt32(at + TRANSACTION);
/** Type and the transaction id of another message's first word. */
export const setTransaction = (v: DataView, at: number, type: number, other: number): void =>
  v.setInt32(at + TRANSACTION, (type << 24) | (other & 0xffffff));

/** True when the header and a list of whole options fill [at, end). */
export const fits = (v: DataView, at: number, end: number): boolean =>
  end - at >= HEADER_BYTES && optionsFit(v, at + HEADER_BYTES, end);

export const optionCode = (v: DataView, p: number): number => v.getUint16(p);
export const optionLength = (v: DataView, p: number): number => v.getUint16(p + 2);
export const optionData = (p: number): number => p + OPTION_HEADER_BYTES;
/** Where the option after the one at `p` begins. */
export const nextOption = (v: DataView, p: number): number => p + OPTION_HEADER_BYTES + v.getUint16(p + 2);

/** Whether [at, end) is a list of whole options. */
export const optionsFit = (v: DataView, at: number, end: number): boolean => {
  let p = at;
  while (p < end) {
    if (end - p < OPTION_HEADER_BYTES || optionLength(v, p) > end - p - OPTION_HEADER_BYTES) return false;
    p = nextOption(v, p);
  }
  return true;
};
/** Where the first option `code` of a list that fits begins; -1: none. */
export const findOption = (v: DataView, at: number, end: number, code: number): number => {
  for (let p = at; p < end; p = nextOption(v, p)) if (optionCode(v, p) === code) return p;
  return -1;
};

/** Each put… writes at `p` and returns where the next option goes. putHeader() writes code and data length only. */
export const putHeader = (v: DataView, p: number, code: number, len: number): number => {
  v.setUint16(p, code);
  v.setUint16(p + 2, len);
  return p + OPTION_HEADER_BYTES;
};
export const putByte = (v: DataView, p: number, code: number, n: number): number => {
  const data = putHeader(v, p, code, 1);
  v.setUint8(data, n);
  return data + 1;
};
export const putStatus = (v: DataView, p: number, status: number): number => {
  const data = putHeader(v, p, STATUS, STATUS_BYTES);
  v.setUint16(data, status);
  return data + STATUS_BYTES;
};
export const putBytes = (v: DataView, p: number, code: number, bytes: Uint8Array): number => {
  const data = putHeader(v, p, code, bytes.length);
  for (let i = 0; i < bytes.length; i++) v.setUint8(data + i, bytes[i] as number);
  return data + bytes.length;
};
/** Copies a whole option that lies at `from` in the same view. */
export const putCopy = (v: DataView, p: number, from: number): number => {
  const bytes = OPTION_HEADER_BYTES + optionLength(v, from);
  for (let i = 0; i < bytes; i++) v.setUint8(p + i, v.getUint8(from + i));
  return p + bytes;
};
/** An IA address; the lifetimes are equal. */
export const putAddress = (
  v: DataView,
  p: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  lifetimeS: number,
): number => {
  const data = putHeader(v, p, IA_ADDRESS, IA_ADDRESS_BYTES);
  v.setInt32(data, w0);
  v.setInt32(data + 4, w1);
  v.setInt32(data + 8, w2);
  v.setInt32(data + 12, w3);
  v.setInt32(data + 16, lifetimeS);
  v.setInt32(data + 20, lifetimeS);
  return data + IA_ADDRESS_BYTES;
};
