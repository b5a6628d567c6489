// SPDX-License-Identifier: Apache-2.0
/**
 * IPv6 extension headers, RFC 8200 §4: walks the chain to the transport header. Results lie in module variables, valid
 * until the next walk().
 *
 * We are the last hop of what the guest sends, in the place of its destination. So a routing header with segments left,
 * which would want forwarding, and an option that says "discard if not known" end the walk.
 */
import * as ipv6 from './ipv6.ts';
import {
  AUTHENTICATION,
  DESTINATION_OPTIONS,
  FRAGMENT as FRAGMENT_HEADER,
  HOP_BY_HOP,
  NO_NEXT_HEADER,
  ROUTING,
} from './protocols.ts';

/** What walk() says. OK: transport header found. */
export const OK = 0;
/** Truncated, or hop-by-hop options not in first place. */
export const MALFORMED = 1;
/** A real fragment (RFC 8200 §4.5): offset or M is not 0. Atomic fragments (RFC 6946) are walked through. */
export const FRAGMENT = 2;
/** Too many headers, an option or routing header that must not be ignored, or no next header. */
export const UNSUPPORTED = 3;

/** No sender has reason for more: each kind once, destination options twice (RFC 8200 §4.1). */
export const HEADERS_MAX = 8;

const FRAGMENT_HEADER_BYTES = 8;
/** Offset and M, without the two reserved bits. */
const FRAGMENT_OFFSET_AND_MORE = 0xfff9;
const SEGMENTS_LEFT = 3;
const PAD1 = 0;
/** Top two bits of an option type: what to do when it is not known; 00 is "skip over" (RFC 8200 §4.2). */
const OPTION_ACTION = 0xc0;

let foundProtocol = 0;
let foundAt = 0;
/** IP protocol of the transport header. */
export const protocol = (): number => foundProtocol;
/** Where the transport header begins. */
export const payloadAt = (): number => foundAt;

/** Walks from the IPv6 header at `at` (which fits) to its transport header. `end` is the end of the packet by its payload length. */
export const walk = (v: DataView, at: number, end: number): number => {
  let next = ipv6.nextHeader(v, at);
  let p = at + ipv6.HEADER_BYTES;
  for (let headers = 0; headers <= HEADERS_MAX; headers++) {
    if (!isExtension(next)) {
      foundProtocol = next;
      foundAt = p;
      return next === NO_NEXT_HEADER ? UNSUPPORTED : OK;
    }
    if (end - p < 8) return MALFORMED;
    if (next === HOP_BY_HOP && headers > 0) return MALFORMED;
    const bytes = headerBytes(v, p, next);
    if (bytes > end - p) return MALFORMED;
    const verdict = inspect(v, p, bytes, next);
    if (verdict !== OK) return verdict;
    next = v.getUint8(p);
    p += bytes;
  }
  return UNSUPPORTED;
};

const isExtension = (next: number): boolean =>
  next === HOP_BY_HOP ||
  next === DESTINATION_OPTIONS ||
  next === ROUTING ||
  next === FRAGMENT_HEADER ||
  next === AUTHENTICATION;

/** Length of the header at `p`: in units of 8 bytes without the first, but for AH in units of 4 without the first two (RFC 4302 §2.2). */
const headerBytes = (v: DataView, p: number, kind: number): number => {
  if (kind === FRAGMENT_HEADER) return FRAGMENT_HEADER_BYTES;
  const units = v.getUint8(p + 1);
  return kind === AUTHENTICATION ? (units + 2) << 2 : (units + 1) << 3;
};

const inspect = (v: DataView, p: number, bytes: number, kind: number): number => {
  switch (kind) {
    case FRAGMENT_HEADER:
      return (v.getUint16(p + 2) & FRAGMENT_OFFSET_AND_MORE) === 0 ? OK : FRAGMENT;
    case ROUTING:
      return v.getUint8(p + SEGMENTS_LEFT) === 0 ? OK : UNSUPPORTED;
    case AUTHENTICATION:
      return OK;
    default:
      return inspectOptions(v, p + 2, p + bytes);
  }
};

const inspectOptions = (v: DataView, from: number, end: number): number => {
  let p = from;
  while (p < end) {
    const type = v.getUint8(p);
    if (type === PAD1) {
      p++;
      continue;
    }
    if (p + 2 > end) return MALFORMED;
    const next = p + 2 + v.getUint8(p + 1);
    if (next > end) return MALFORMED;
    // Of the options with an action, none is known here; jumbo payload (RFC 2675) is one.
    if ((type & OPTION_ACTION) !== 0) return UNSUPPORTED;
    p = next;
  }
  return OK;
};
