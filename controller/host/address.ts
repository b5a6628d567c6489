// SPDX-License-Identifier: Apache-2.0
/** Addresses as canonical text (inet_pton's forms in, RFC 5952 §4 out): cold path only, set-up and configuration. */
import ipaddr from 'ipaddr.js';

export type Family = 4 | 6;
export interface ParsedAddress {
  readonly family: Family;
  readonly address: string;
}

/** Canonical text of 4 or 16 bytes. An IPv4-mapped address stays an IPv6 address. */
export const addressText = (bytes: Uint8Array): string => {
  const parsed = ipaddr.fromByteArray(Array.from(bytes));
  return parsed.kind() === 'ipv6' ? (parsed as ipaddr.IPv6).toRFC5952String() : parsed.toString();
};

/** null for anything that is not exactly one address: names, ports, zones, octal or shortened IPv4 forms. */
export const parseAddress = (text: string): ParsedAddress | null => {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return { family: 4, address: ipaddr.IPv4.parse(text).toString() };
  if (!ipaddr.IPv6.isValid(text) || text.includes('%')) return null;
  return { family: 6, address: ipaddr.IPv6.parse(text).toRFC5952String() };
};

export type AddressKind = 'unspecified' | 'loopback' | 'multicast' | 'broadcast' | 'mapped' | 'link-local' | 'unicast';

/** What an address is for, RFC 6890; 240.0.0.0/4 counts as broadcast. `address` must be canonical text. */
export const addressKind = (address: string): AddressKind => {
  const parsed = ipaddr.parse(address);
  if (parsed.kind() === 'ipv4' && (parsed.toByteArray()[0] as number) >= 240) return 'broadcast';
  // 0.0.0.0/8 is "this network": as unusable as 0.0.0.0 itself.
  switch (parsed.range()) {
    case 'unspecified':
      return 'unspecified';
    case 'loopback':
      return 'loopback';
    case 'multicast':
      return 'multicast';
    case 'broadcast':
      return 'broadcast';
    case 'ipv4Mapped':
      return 'mapped';
    case 'linkLocal':
      return 'link-local';
    default:
      return 'unicast';
  }
};

/** Whether the address lies within network/prefix; false when the families differ. */
export const inPrefix = (address: string, network: string, prefix: number): boolean => {
  const a = ipaddr.parse(address);
  const n = ipaddr.parse(network);
  if (a.kind() === 'ipv4') return n.kind() === 'ipv4' && (a as ipaddr.IPv4).match(n as ipaddr.IPv4, prefix);
  return n.kind() === 'ipv6' && (a as ipaddr.IPv6).match(n as ipaddr.IPv6, prefix);
};

/** The address with its host bits cleared. */
export const networkOf = (address: string, prefix: number): string => {
  const bytes = ipaddr.parse(address).toByteArray();
  const masked = bytes.map((byte, i) => byte & (0xff00 >> Math.min(Math.max(prefix - i * 8, 0), 8)) & 0xff);
  return addressText(Uint8Array.from(masked));
};

export const familyOf = (address: string): Family => (address.includes(':') ? 6 : 4);
