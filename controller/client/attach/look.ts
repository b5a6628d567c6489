// SPDX-License-Identifier: Apache-2.0
/** An interface of a namespace as `pastiche instance look` (helper/src/keeper.c) prints it. */
import { addressText } from '../../host/address.ts';

export interface Seen {
  readonly mac: string;
  readonly up: boolean;
  readonly mtu: number;
  /** `ADDRESS/PREFIX`, canonical. */
  readonly addresses: readonly string[];
  /** `DESTINATION/PREFIX` and the gateway, '' for none. */
  readonly routes: readonly { readonly dst: string; readonly gw: string }[];
}

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const ipv6 = (text: string): string => addressText(hex(text));
/** The kernel prints IPv4 addresses as numbers of its own byte order: this is for little-endian ones. */
const ipv4 = (text: string): string => addressText(hex(text).reverse());
const ones = (text: string): number =>
  hex(text).reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0);
/** RTF_UP, RTF_GATEWAY of linux/route.h; RTF_LOCAL of linux/ipv6_route.h. */
const [UP, GATEWAY, LOCAL] = [0x1, 0x2, 0x8000_0000] as const;

const route4 = (fields: readonly string[], ifname: string): Seen['routes'] => {
  const [name = '', dst = '', gw = '', flags = '', , , , mask = ''] = fields;
  const bits = Number.parseInt(flags, 16);
  if (name !== ifname || (bits & UP) === 0) return [];
  return [{ dst: `${ipv4(dst)}/${ones(mask)}`, gw: (bits & GATEWAY) === 0 ? '' : ipv4(gw) }];
};
const route6 = (fields: readonly string[], ifname: string): Seen['routes'] => {
  const [dst = '', prefix = '', , , gw = '', , , , flags = '', name = ''] = fields;
  const bits = Number.parseInt(flags, 16);
  if (name !== ifname || (bits & UP) === 0 || (bits & LOCAL) !== 0) return [];
  return [{ dst: `${ipv6(dst)}/${Number.parseInt(prefix, 16)}`, gw: (bits & GATEWAY) === 0 ? '' : ipv6(gw) }];
};

/** Null: there was no such interface. */
export const parseLook = (text: string, ifname: string): Seen | null => {
  const rows = text
    .trimEnd()
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  const value = (word: string): string => rows.find(([first]) => first === word)?.[1] ?? '';
  if (value('mac') === '') return null;
  const all = (word: string): string[][] => rows.filter(([first]) => first === word).map((row) => row.slice(1));
  return {
    mac: value('mac'),
    up: value('state') === 'up',
    mtu: Number(value('mtu')),
    addresses: all('address').map(([address = '']) => address),
    routes: [
      ...all('route4').flatMap((fields) => route4(fields, ifname)),
      ...all('route6').flatMap((fields) => route6(fields, ifname)),
    ],
  };
};
