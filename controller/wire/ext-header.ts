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
/** Truncated. */
export const MALFORMED = 1;
/** A real fragment (RFC 8200 §4.5): offset or M is not 0. Atomic fragments (RFC 6946) are walked through; see {@link isFragmented}. */
export const FRAGMENT = 2;
/** Too many headers, an option or routing header that must not be ignored, or no next header. */
export const UNSUPPORTED = 3;

/** No sender has reason for more: each kind once, destination options twice (RFC 8200 §4.1). */
export const HEADERS_MAX = 8;

/** Where the IPv6 header has its next-header field. */
const NEXT_HEADER = 6;
const FRAGMENT_HEADER_BYTES = 8;
/** Offset and M, without the two reserved bits. */
const FRAGMENT_OFFSET_AND_MORE = 0xfff9;
const ROUTING_TYPE = 2;
const SEGMENTS_LEFT = 3;
const PAD1 = 0;
/** Top two bits of an option type: what to do when it is not known; 00 is "skip over" (RFC 8200 §4.2). */
const OPTION_ACTION = 0xc0;
const DISCARD_SILENTLY = 0x40;

/** Codes of the parameter problem that a walk may end with (RFC 4443 §3.4). */
export const ERRONEOUS_FIELD = 0;
export const UNRECOGNISED_NEXT_HEADER = 1;
export const UNRECOGNISED_OPTION = 2;

let foundProtocol = 0;
let foundAt = 0;
let foundFieldAt = 0;
let fragmented = false;
let problemPosition = -1;
let problem = 0;
/** IP protocol of the transport header. */
export const protocol = (): number => foundProtocol;
/** Where the transport header begins; after FRAGMENT, where the fragment header does. */
export const payloadAt = (): number => foundAt;
/** Where the next-header field lies that names the transport protocol; of no use after {@link walkFirstFragment}. */
export const protocolAt = (): number => foundFieldAt;
/** Whether there was a fragment header, an atomic one too. */
export const isFragmented = (): boolean => fragmented;
/** After UNSUPPORTED: where the byte lies that the sender is to be told of; -1: it is told nothing. */
export const problemAt = (): number => problemPosition;
/** What to tell: one of the three codes. */
export const problemCode = (): number => problem;

/** Walks from the IPv6 header at `at` (which fits) to its transport header. `end` is the end of the packet by its payload length. */
export const walk = (v: DataView, at: number, end: number): number => {
  fragmented = false;
  return walkFrom(v, ipv6.nextHeader(v, at), at + ipv6.HEADER_BYTES, end, 0);
};

/** The same from behind a fragment header: `next` is what it says comes first, at `p`. */
export const walkFirstFragment = (v: DataView, next: number, p: number, end: number): number =>
  walkFrom(v, next, p, end, 1);

const walkFrom = (v: DataView, first: number, from: number, end: number, before: number): number => {
  let next = first;
  let p = from;
  let fieldAt = from - ipv6.HEADER_BYTES + NEXT_HEADER;
  problemPosition = -1;
  for (let headers = before; headers <= HEADERS_MAX; headers++) {
    if (!isExtension(next)) {
      foundProtocol = next;
      foundAt = p;
      foundFieldAt = fieldAt;
      return next === NO_NEXT_HEADER ? UNSUPPORTED : OK;
    }
    if (end - p < 8) return MALFORMED;
    // Anywhere else it is a next header that nobody knows (RFC 8200 §4.1).
    if (next === HOP_BY_HOP && headers > 0) return unsupported(UNRECOGNISED_NEXT_HEADER, fieldAt);
    const bytes = headerBytes(v, p, next);
    if (bytes > end - p) return MALFORMED;
    const verdict = inspect(v, p, bytes, next);
    if (verdict !== OK) {
      foundAt = p;
      return verdict;
    }
    next = v.getUint8(p);
    fieldAt = p;
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
      fragmented = true;
      return (v.getUint16(p + 2) & FRAGMENT_OFFSET_AND_MORE) === 0 ? OK : FRAGMENT;
    case ROUTING:
      // RFC 8200 §4.4: a type that is not known, and has segments left, is told.
      return v.getUint8(p + SEGMENTS_LEFT) === 0 ? OK : unsupported(ERRONEOUS_FIELD, p + ROUTING_TYPE);
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
    const action = type & OPTION_ACTION;
    if (action === DISCARD_SILENTLY) return UNSUPPORTED;
    if (action !== 0) return unsupported(UNRECOGNISED_OPTION, p);
    p = next;
  }
  return OK;
};

const unsupported = (code: number, at: number): number => {
  problem = code;
  problemPosition = at;
  return UNSUPPORTED;
};
