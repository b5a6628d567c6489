// SPDX-License-Identifier: Apache-2.0
/**
 * Neighbour discovery messages, RFC 4861 §4, and their options. They begin with the ICMPv6 header (wire/icmpv6.ts, types
 * there); offsets here count from it. Accessors are safe only after the *Fits() of their message.
 *
 *   RS   type code checksum | reserved 4 | options
 *   RA   type code checksum | hop limit, flags, lifetime 2 | reachable 4 | retrans 4 | options
 *   NS   type code checksum | reserved 4 | target 16 | options
 *   NA   type code checksum | flags 4    | target 16 | options
 */
export const RS_BYTES = 8;
export const RA_BYTES = 16;
/** Neighbour solicitation and advertisement without options. */
export const NEIGHBOUR_BYTES = 24;

const FLAGS = 4;
const TARGET = 8;
const RA_HOP_LIMIT = 4;
const RA_FLAGS = 5;
const RA_LIFETIME = 6;

/** First byte of the flags in an NA. */
export const NA_ROUTER = 0x80;
export const NA_SOLICITED = 0x40;
export const NA_OVERRIDE = 0x20;
/** Flags of an RA: addresses by DHCPv6, other configuration by DHCPv6. */
export const RA_MANAGED = 0x80;
export const RA_OTHER = 0x40;

/** The hop limit that shows a message was not forwarded (RFC 4861 §11.2). */
export const HOP_LIMIT = 255;
/** 'Infinity' of lifetimes in options, int32. */
export const INFINITE = -1;

/** True when the fixed part and all options lie within [at, end). */
export const solicitationFits = (v: DataView, at: number, end: number): boolean =>
  end - at >= NEIGHBOUR_BYTES && optionsFit(v, at + NEIGHBOUR_BYTES, end);
export const routerSolicitationFits = (v: DataView, at: number, end: number): boolean =>
  end - at >= RS_BYTES && optionsFit(v, at + RS_BYTES, end);

/** Word `i` (0…3) of the target of an NS or NA. */
export const targetWord = (v: DataView, at: number, i: number): number => v.getInt32(at + TARGET + (i << 2));
export const setTarget = (v: DataView, at: number, w0: number, w1: number, w2: number, w3: number): void => {
  v.setInt32(at + TARGET, w0);
  v.setInt32(at + TARGET + 4, w1);
  v.setInt32(at + TARGET + 8, w2);
  v.setInt32(at + TARGET + 12, w3);
};
export const naFlags = (v: DataView, at: number): number => v.getUint8(at + FLAGS);
export const setNaFlags = (v: DataView, at: number, flags: number): void => v.setInt32(at + FLAGS, flags << 24);

/** The fixed part of an RA after its ICMPv6 header; `lifetimeS` in seconds. Reachable and retransmission times are left to the host (0). */
export const setAdvertisement = (v: DataView, at: number, hopLimit: number, flags: number, lifetimeS: number): void => {
  v.setUint8(at + RA_HOP_LIMIT, hopLimit);
  v.setUint8(at + RA_FLAGS, flags);
  v.setUint16(at + RA_LIFETIME, lifetimeS);
  v.setInt32(at + 8, 0);
  v.setInt32(at + 12, 0);
};

/** Option types, IANA "IPv6 Neighbor Discovery Option Formats". */
export const SOURCE_LINK_LAYER = 1;
export const TARGET_LINK_LAYER = 2;
export const PREFIX_INFORMATION = 3;
export const MTU = 5;
export const RDNSS = 25;
export const DNSSL = 31;

/** Options are counted in units of 8 bytes, type and length included. */
const UNIT = 8;
export const LINK_LAYER_BYTES = 8;
export const MTU_BYTES = 8;
export const PREFIX_BYTES = 32;
/** Flags of a prefix information option: on link; may be used for autonomous addresses. */
export const PREFIX_ON_LINK = 0x80;
export const PREFIX_AUTONOMOUS = 0x40;

/** Whether [at, end) is a list of options, none of length 0 (RFC 4861 §4.6). */
export const optionsFit = (v: DataView, at: number, end: number): boolean => {
  let p = at;
  while (p < end) {
    if (end - p < UNIT) return false;
    const bytes = v.getUint8(p + 1) * UNIT;
    if (bytes === 0 || bytes > end - p) return false;
    p += bytes;
  }
  return true;
};
/** Where the first option of `type` begins in a list that fits; -1: none. */
export const findOption = (v: DataView, at: number, end: number, type: number): number => {
  let p = at;
  while (p < end) {
    if (v.getUint8(p) === type) return p;
    p += v.getUint8(p + 1) * UNIT;
  }
  return -1;
};

/** Each put… writes one option at `p` and returns where the next one goes. */
export const putLinkLayer = (v: DataView, p: number, type: number, macHigh: number, macLow: number): number => {
  v.setUint8(p, type);
  v.setUint8(p + 1, LINK_LAYER_BYTES / UNIT);
  v.setUint16(p + 2, macHigh);
  v.setInt32(p + 4, macLow);
  return p + LINK_LAYER_BYTES;
};
export const putMtu = (v: DataView, p: number, mtu: number): number => {
  v.setUint8(p, MTU);
  v.setUint8(p + 1, MTU_BYTES / UNIT);
  v.setUint16(p + 2, 0);
  v.setInt32(p + 4, mtu);
  return p + MTU_BYTES;
};
/** A /64 prefix by its first two words; the host bits are 0 (RFC 4861 §4.6.2). Lifetimes in seconds, for ever without them. */
export const putPrefix64 = (
  v: DataView,
  p: number,
  flags: number,
  w0: number,
  w1: number,
  validS = INFINITE,
  preferredS = INFINITE,
): number => {
  v.setUint8(p, PREFIX_INFORMATION);
  v.setUint8(p + 1, PREFIX_BYTES / UNIT);
  v.setUint8(p + 2, 64);
  v.setUint8(p + 3, flags);
  v.setInt32(p + 4, validS);
  v.setInt32(p + 8, preferredS);
  v.setInt32(p + 12, 0);
  v.setInt32(p + 16, w0);
  v.setInt32(p + 20, w1);
  v.setInt32(p + 24, 0);
  v.setInt32(p + 28, 0);
  return p + PREFIX_BYTES;
};
/** RDNSS (RFC 8106 §5.1) for ever: `words` holds four int32 an address. */
export const putRdnss = (v: DataView, p: number, words: Int32Array): number => {
  putDnsHeader(v, p, RDNSS, words.length * 4);
  for (let i = 0; i < words.length; i++) v.setInt32(p + UNIT + i * 4, words[i] as number);
  return p + UNIT + words.length * 4;
};
/** DNSSL (RFC 8106 §5.2) for ever: `names` as wire/dns-name encodes a list; padded with zeros to 8 bytes. */
export const putDnssl = (v: DataView, p: number, names: Uint8Array): number => {
  const padded = dnsslBytes(names.length) - UNIT;
  putDnsHeader(v, p, DNSSL, padded);
  for (let i = 0; i < padded; i++) v.setUint8(p + UNIT + i, names[i] ?? 0);
  return p + UNIT + padded;
};
/** Size of a DNSSL option around `n` bytes of names. */
export const dnsslBytes = (n: number): number => UNIT + Math.ceil(n / UNIT) * UNIT;

const putDnsHeader = (v: DataView, p: number, type: number, dataBytes: number): void => {
  v.setUint8(p, type);
  v.setUint8(p + 1, 1 + dataBytes / UNIT);
  v.setUint16(p + 2, 0);
  v.setInt32(p + 4, INFINITE);
};
