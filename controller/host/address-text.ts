// SPDX-License-Identifier: Apache-2.0
/** Text of addresses to integers, for `configure()` functions and the command line; ipaddr.js does the parsing. Cold path. */
import ipaddr from 'ipaddr.js';
import * as addr from '../wire/addr.ts';

/** Four int32 words of an IPv6 address, word 0 first. */
export type Ipv6Words = readonly [number, number, number, number];

/** Int32 of a dotted quad with four decimal parts (no octal, hexadecimal or short forms). Throws RangeError. */
export const parseIpv4 = (text: string): number => {
  if (!ipaddr.IPv4.isValidFourPartDecimal(text)) throw new RangeError(`not an IPv4 address: ${text}`);
  return wordOf(ipaddr.IPv4.parse(text).toByteArray(), 0);
};

/** Words of an IPv6 address without zone. Throws RangeError. */
export const parseIpv6 = (text: string): Ipv6Words => {
  if (text.includes('%') || !ipaddr.IPv6.isValid(text)) throw new RangeError(`not an IPv6 address: ${text}`);
  const bytes = ipaddr.IPv6.parse(text).toByteArray();
  return [wordOf(bytes, 0), wordOf(bytes, 4), wordOf(bytes, 8), wordOf(bytes, 12)];
};

/** The two integers of xx:xx:xx:xx:xx:xx. Throws RangeError. */
export const parseMac = (text: string): addr.Mac => {
  const mac = addr.parseMac(text);
  if (mac === null) throw new RangeError(`not a MAC address: ${text}`);
  return mac;
};

const wordOf = (bytes: readonly number[], at: number): number =>
  ((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
