// SPDX-License-Identifier: Apache-2.0
/**
 * Domain names on the wire, RFC 1035 §3.1: labels of length and text, ended by an empty one; and lists of them for DHCP
 * option 119 (RFC 3397, with the compression of RFC 1035 §4.1.4), DHCPv6 option 24 (RFC 8415 §10, never compressed) and
 * DNSSL (RFC 8106 §5.2). Allocates: for set-up, not for packets.
 */

export const LABEL_BYTES_MAX = 63;
/** Length bytes and the final empty label included. */
export const NAME_BYTES_MAX = 255;
const POINTER = 0xc000;
const POINTER_OFFSET_MAX = 0x3fff;
/** Printable ASCII: what resolvers accept beyond RFC 1123 (underscores, wildcards) is theirs to judge; IDNs come as A-labels. */
const LABEL = /^[!-~]{1,63}$/;

/** Labels of a name, with or without the final dot; null when it is no domain name (the root is none here). */
export const labels = (name: string): readonly string[] | null => {
  const parts = (name.endsWith('.') ? name.slice(0, -1) : name).split('.');
  if (!parts.every((part) => LABEL.test(part))) return null;
  const bytes = parts.reduce((total, part) => total + 1 + part.length, 1);
  return bytes <= NAME_BYTES_MAX ? parts : null;
};

/** One name, uncompressed; null when it is none. */
export const encode = (name: string): Uint8Array | null => {
  const parts = labels(name);
  return parts === null ? null : Uint8Array.from([...parts.flatMap(labelBytes), 0]);
};

/** Names one after the other, uncompressed. Those that are no domain names are left out. */
export const encodeList = (names: readonly string[]): Uint8Array =>
  Uint8Array.from(names.flatMap((name) => [...(encode(name) ?? [])]));

/** As encodeList(), with pointers (from the start of the list) to suffixes that were written before. */
export const encodeListCompressed = (names: readonly string[]): Uint8Array => {
  const bytes: number[] = [];
  const suffixAt = new Map<string, number>();
  for (const name of names) {
    const parts = labels(name);
    if (parts !== null) appendCompressed(bytes, suffixAt, parts);
  }
  return Uint8Array.from(bytes);
};

const appendCompressed = (bytes: number[], suffixAt: Map<string, number>, parts: readonly string[]): void => {
  for (const [i, part] of parts.entries()) {
    // Names are compared without regard to case (RFC 1035 §2.3.3).
    const suffix = parts.slice(i).join('.').toLowerCase();
    const earlier = suffixAt.get(suffix);
    if (earlier !== undefined) {
      bytes.push((POINTER | earlier) >> 8, earlier & 0xff);
      return;
    }
    if (bytes.length <= POINTER_OFFSET_MAX) suffixAt.set(suffix, bytes.length);
    bytes.push(...labelBytes(part));
  }
  bytes.push(0);
};

const labelBytes = (label: string): number[] => [label.length, ...Array.from(label, (c) => c.charCodeAt(0))];

/**
 * Reads a list as its receiver would: pointers are followed backwards only, so hostile lists end. null when malformed.
 * For tests and logs.
 */
export const decodeList = (bytes: Uint8Array): readonly string[] | null => {
  const names: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    const name = decodeAt(bytes, at);
    if (name === null) return null;
    names.push(name.text);
    at = name.end;
  }
  return names;
};

const decodeAt = (bytes: Uint8Array, start: number): { text: string; end: number } | null => {
  const parts: string[] = [];
  let end = -1;
  let at = start;
  let limit = start;
  for (;;) {
    const length = bytes[at];
    if (length === undefined) return null;
    if (length === 0) return { text: parts.join('.'), end: end < 0 ? at + 1 : end };
    if (length <= LABEL_BYTES_MAX) {
      if (at + 1 + length > bytes.length) return null;
      parts.push(String.fromCharCode(...bytes.subarray(at + 1, at + 1 + length)));
      at += 1 + length;
      continue;
    }
    const low = bytes[at + 1];
    if (low === undefined || length < POINTER >> 8) return null;
    if (end < 0) end = at + 2;
    at = ((length & 0x3f) << 8) | low;
    if (at >= limit) return null;
    limit = at;
  }
};
