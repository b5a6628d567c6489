// SPDX-License-Identifier: Apache-2.0
/**
 * MAC, IPv4 and IPv6 addresses as integers, and their text. Allocates: for set-up and logs, not for packets. Parsing of IP
 * address text is in host/address-text.ts.
 */

/** A MAC address in the two integers of wire/ethernet.ts. */
export interface Mac {
  /** First 2 bytes, 0…65535. */
  readonly high: number;
  /** Last 4 bytes, int32. */
  readonly low: number;
}

const MAC_TEXT = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

/** Parses xx:xx:xx:xx:xx:xx; null for anything else. */
export const parseMac = (text: string): Mac | null => {
  if (!MAC_TEXT.test(text)) return null;
  const digits = text.replaceAll(':', '');
  return { high: Number.parseInt(digits.slice(0, 4), 16), low: Number.parseInt(digits.slice(4), 16) | 0 };
};

const hexByte = (n: number): string => (n & 0xff).toString(16).padStart(2, '0');
export const macText = (high: number, low: number): string =>
  [high >> 8, high, low >>> 24, low >> 16, low >> 8, low].map(hexByte).join(':');

/** Dotted quad of an int32. */
export const ipv4Text = (word: number): string =>
  `${word >>> 24}.${(word >> 16) & 0xff}.${(word >> 8) & 0xff}.${word & 0xff}`;

/** RFC 5952 text of four int32 words: lower case, the longest run of two or more zero groups (the first of equals) as "::". */
export const ipv6Text = (w0: number, w1: number, w2: number, w3: number): string => {
  const groups = [w0, w1, w2, w3].flatMap((w) => [w >>> 16, w & 0xffff]);
  const run = longestZeroRun(groups);
  const hex = (from: number, to: number): string =>
    groups
      .slice(from, to)
      .map((g) => g.toString(16))
      .join(':');
  if (run.length < 2) return hex(0, 8);
  return `${hex(0, run.start)}::${hex(run.start + run.length, 8)}`;
};

const longestZeroRun = (groups: readonly number[]): { start: number; length: number } => {
  const best = { start: 0, length: 0 };
  let length = 0;
  for (const [i, group] of groups.entries()) {
    length = group === 0 ? length + 1 : 0;
    if (length > best.length) {
      best.length = length;
      best.start = i - length + 1;
    }
  }
  return best;
};

/** Netmask of a prefix length 0…32, as int32. */
export const ipv4Mask = (prefix: number): number => (prefix === 0 ? 0 : -1 << (32 - prefix));
/** Mask of word `i` (0…3) of an IPv6 prefix length 0…128. */
export const ipv6MaskWord = (prefix: number, i: number): number => ipv4Mask(Math.min(32, Math.max(0, prefix - 32 * i)));
