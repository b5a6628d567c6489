// SPDX-License-Identifier: Apache-2.0
/**
 * DHCP message, RFC 2131 §2, and its options, RFC 2132. Accessors are safe only after fits(). Addresses are int32.
 *
 *   0    1       2      3      4     8      10      12       16       20       24       28       44      108    236
 *   | op | htype | hlen | hops | xid | secs | flags | ciaddr | yiaddr | siaddr | giaddr | chaddr | sname | file | options
 */
const OP = 0;
const HTYPE = 1;
const HLEN = 2;
const HOPS = 3;
const XID = 4;
const FLAGS = 10;
const CIADDR = 12;
const YIADDR = 16;
const GIADDR = 24;
const CHADDR = 28;
const SNAME = 44;
const FILE = 108;
const COOKIE = 236;
const OPTIONS = 240;
/** Up to and with the magic cookie. */
export const HEADER_BYTES = OPTIONS;
/** BOOTP clients may insist on this much (RFC 951 §3, RFC 1542 §2.1). */
export const MESSAGE_BYTES_MIN = 300;
export const SERVER_PORT = 67;
export const CLIENT_PORT = 68;

export const BOOTREQUEST = 1;
export const BOOTREPLY = 2;
const HTYPE_ETHERNET = 1;
const MAC_BYTES = 6;
/** 99.130.83.99, RFC 2131 §3. */
const MAGIC = 0x63825363;
/** The client can not take unicast before it is configured (RFC 2131 §4.1). */
export const BROADCAST = 0x8000;

/** Values of option 53. */
export const DISCOVER = 1;
export const OFFER = 2;
export const REQUEST = 3;
export const DECLINE = 4;
export const ACK = 5;
export const NAK = 6;
export const RELEASE = 7;
export const INFORM = 8;

/** Option codes, IANA "BOOTP Vendor Extensions and DHCP Options". */
const PAD = 0;
const END = 255;
export const SUBNET_MASK = 1;
export const ROUTER = 3;
export const DNS_SERVERS = 6;
export const HOST_NAME = 12;
export const INTERFACE_MTU = 26;
export const REQUESTED_ADDRESS = 50;
export const LEASE_TIME = 51;
export const OVERLOAD = 52;
export const MESSAGE_TYPE = 53;
export const SERVER_ID = 54;
export const PARAMETER_LIST = 55;
export const MAX_MESSAGE_SIZE = 57;
export const CLIENT_ID = 61;
export const RAPID_COMMIT = 80;
export const CLIENT_FQDN = 81;
/** UUID of a machine that boots, a type before it (RFC 4578 §2.3). */
export const CLIENT_MACHINE = 97;
export const CLIENT_MACHINE_BYTES = 17;
export const DOMAIN_SEARCH = 119;
export const CLASSLESS_ROUTES = 121;
/** Bits of OVERLOAD: options continue in the fields `file` and `sname` (RFC 2132 §9.3). */
const OVERLOAD_FILE = 1;
const OVERLOAD_SNAME = 2;
/** One option's data; longer values continue in another of the same code (RFC 3396). */
const OPTION_DATA_MAX = 255;

export const op = (v: DataView, at: number): number => v.getUint8(at + OP);
export const xid = (v: DataView, at: number): number => v.getInt32(at + XID);
export const flags = (v: DataView, at: number): number => v.getUint16(at + FLAGS);
export const ciaddr = (v: DataView, at: number): number => v.getInt32(at + CIADDR);
export const yiaddr = (v: DataView, at: number): number => v.getInt32(at + YIADDR);
export const giaddr = (v: DataView, at: number): number => v.getInt32(at + GIADDR);
export const chaddrHigh = (v: DataView, at: number): number => v.getUint16(at + CHADDR);
export const chaddrLow = (v: DataView, at: number): number => v.getInt32(at + CHADDR + 2);

/** True when [at, end) holds a message about Ethernet with the magic cookie, all of whose options (overloaded fields included) lie in their area. */
export const fits = (v: DataView, at: number, end: number): boolean => {
  if (end - at < HEADER_BYTES || v.getInt32(at + COOKIE) !== MAGIC) return false;
  if (v.getUint8(at + HTYPE) !== HTYPE_ETHERNET || v.getUint8(at + HLEN) !== MAC_BYTES) return false;
  if (!areaFits(v, at + OPTIONS, end)) return false;
  const overload = overloadOf(v, at, end);
  if ((overload & OVERLOAD_FILE) !== 0 && !areaFits(v, at + FILE, at + COOKIE)) return false;
  return (overload & OVERLOAD_SNAME) === 0 || areaFits(v, at + SNAME, at + FILE);
};

/** An area without END is taken as it is: some clients leave it out. */
const areaFits = (v: DataView, from: number, end: number): boolean => {
  let p = from;
  while (p < end) {
    const code = v.getUint8(p);
    if (code === END) return true;
    if (code === PAD) {
      p++;
      continue;
    }
    if (end - p < 2 || v.getUint8(p + 1) > end - p - 2) return false;
    p += 2 + v.getUint8(p + 1);
  }
  return true;
};

const overloadOf = (v: DataView, at: number, end: number): number => {
  const p = findIn(v, at + OPTIONS, end, OVERLOAD);
  return p < 0 || v.getUint8(p - 1) !== 1 ? 0 : v.getUint8(p);
};

/** Where the data of the first option `code` lies in a message that fits: options, then file, then sname (RFC 2131 §4.1); -1: none. Its length is optionLength(). */
export const findOption = (v: DataView, at: number, end: number, code: number): number => {
  const p = findIn(v, at + OPTIONS, end, code);
  if (p >= 0) return p;
  const overload = overloadOf(v, at, end);
  if ((overload & OVERLOAD_FILE) !== 0) {
    const inFile = findIn(v, at + FILE, at + COOKIE, code);
    if (inFile >= 0) return inFile;
  }
  return (overload & OVERLOAD_SNAME) !== 0 ? findIn(v, at + SNAME, at + FILE, code) : -1;
};
const findIn = (v: DataView, from: number, end: number, wanted: number): number => {
  let p = from;
  while (p < end) {
    const code = v.getUint8(p);
    if (code === END) return -1;
    if (code === PAD) {
      p++;
      continue;
    }
    if (code === wanted) return p + 2;
    p += 2 + v.getUint8(p + 1);
  }
  return -1;
};
/** Length of the option whose data findOption() gave. */
export const optionLength = (v: DataView, dataAt: number): number => v.getUint8(dataAt - 1);

/** Int32 of a 4-byte option; 0 when it is missing or of another length. */
export const optionWord = (v: DataView, at: number, end: number, code: number): number => {
  const p = findOption(v, at, end, code);
  return p >= 0 && optionLength(v, p) === 4 ? v.getInt32(p) : 0;
};
/** Value of a 1-byte option; 0 when it is missing or of another length. */
export const optionByte = (v: DataView, at: number, end: number, code: number): number => {
  const p = findOption(v, at, end, code);
  return p >= 0 && optionLength(v, p) === 1 ? v.getUint8(p) : 0;
};
/** Value of a 2-byte option; 0 when it is missing or of another length. */
export const optionShort = (v: DataView, at: number, end: number, code: number): number => {
  const p = findOption(v, at, end, code);
  return p >= 0 && optionLength(v, p) === 2 ? v.getUint16(p) : 0;
};

/** A reply to the request at `request`: xid, flags, giaddr and chaddr as there, everything else 0, and the cookie. Returns where its options go. */
export const startReply = (v: DataView, at: number, request: number): number => {
  for (let p = at; p < at + COOKIE; p += 4) v.setInt32(p, 0);
  v.setUint8(at + OP, BOOTREPLY);
  v.setUint8(at + HTYPE, HTYPE_ETHERNET);
  v.setUint8(at + HLEN, MAC_BYTES);
  v.setUint8(at + HOPS, 0);
  v.setInt32(at + XID, xid(v, request));
  v.setUint16(at + FLAGS, flags(v, request));
  v.setInt32(at + GIADDR, giaddr(v, request));
  for (let i = 0; i < 16; i += 4) v.setInt32(at + CHADDR + i, v.getInt32(request + CHADDR + i));
  v.setInt32(at + COOKIE, MAGIC);
  return at + OPTIONS;
};
/** Copies server and boot file name of the request, as far as they are names and not options. */
export const copyNames = (v: DataView, at: number, request: number, end: number): void => {
  const overload = overloadOf(v, request, end);
  if ((overload & OVERLOAD_SNAME) === 0) copyWords(v, at, request, SNAME, FILE);
  if ((overload & OVERLOAD_FILE) === 0) copyWords(v, at, request, FILE, COOKIE);
};
const copyWords = (v: DataView, at: number, request: number, from: number, to: number): void => {
  for (let p = from; p < to; p += 4) v.setInt32(at + p, v.getInt32(request + p));
};
export const setCiaddr = (v: DataView, at: number, word: number): void => v.setInt32(at + CIADDR, word);
export const setYiaddr = (v: DataView, at: number, word: number): void => v.setInt32(at + YIADDR, word);

/** Each put… writes one option at `p` and returns where the next one goes. */
export const putByte = (v: DataView, p: number, code: number, n: number): number => {
  v.setUint8(p, code);
  v.setUint8(p + 1, 1);
  v.setUint8(p + 2, n);
  return p + 3;
};
export const putShort = (v: DataView, p: number, code: number, n: number): number => {
  v.setUint8(p, code);
  v.setUint8(p + 1, 2);
  v.setUint16(p + 2, n);
  return p + 4;
};
export const putWord = (v: DataView, p: number, code: number, word: number): number => {
  v.setUint8(p, code);
  v.setUint8(p + 1, 4);
  v.setInt32(p + 2, word);
  return p + 6;
};
export const putEmpty = (v: DataView, p: number, code: number): number => {
  v.setUint8(p, code);
  v.setUint8(p + 1, 0);
  return p + 2;
};
/** Copies `len` (0…255) bytes of data from elsewhere in the same view. */
export const putCopy = (v: DataView, p: number, code: number, from: number, len: number): number => {
  v.setUint8(p, code);
  v.setUint8(p + 1, len);
  for (let i = 0; i < len; i++) v.setUint8(p + 2 + i, v.getUint8(from + i));
  return p + 2 + len;
};
/** Data of any length, split as RFC 3396 §5 wants it when longer than 255 bytes. */
export const putBytes = (v: DataView, p: number, code: number, data: Uint8Array): number => {
  let q = p;
  for (let from = 0; from < data.length; from += OPTION_DATA_MAX) {
    const len = Math.min(OPTION_DATA_MAX, data.length - from);
    v.setUint8(q, code);
    v.setUint8(q + 1, len);
    for (let i = 0; i < len; i++) v.setUint8(q + 2 + i, data[from + i] as number);
    q += 2 + len;
  }
  return q;
};
/** Room that putBytes() takes for `n` bytes of data. */
export const bytesRoom = (n: number): number => n + 2 * Math.ceil(n / OPTION_DATA_MAX);

/** Ends the options at `p` and pads the message at `at` to its smallest size. Returns its end. */
export const finish = (v: DataView, at: number, p: number): number => {
  v.setUint8(p, END);
  let q = p + 1;
  while (q < at + MESSAGE_BYTES_MIN) v.setUint8(q++, PAD);
  return q;
};
