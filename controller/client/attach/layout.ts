// SPDX-License-Identifier: Apache-2.0
/**
 * The addresses of a container's network, the same ones in each, as users of slirp4netns know them: of the network N the gateway is N+2,
 * the resolver N+3, the container itself N+100. Nobody outside the container sees them.
 */
import { addressText, familyOf, inPrefix, networkOf, parseAddress } from '../../host/address.ts';

export interface Subnet {
  readonly family: 4 | 6;
  /** Canonical text. */
  readonly network: string;
  readonly prefix: number;
}
export const DEFAULT_SUBNET = { 4: '10.0.2.0/24', 6: 'fd00::/64' } as const;
const [GATEWAY, RESOLVER, CONTAINER] = [2, 3, 100] as const;
/** So that N+100 is an address of its own, and not the broadcast address. */
const PREFIX_MAX = { 4: 25, 6: 120 } as const;

export interface AddressWithPrefix {
  readonly family: 4 | 6;
  readonly address: string;
  /** Null: none was given. */
  readonly prefix: number | null;
}

/** `ADDRESS[/PREFIX]`; null: it is not one. */
export const parseCidr = (text: string): AddressWithPrefix | null => {
  const [, given = '', length] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const parsed = parseAddress(given);
  if (parsed === null) return null;
  const prefix = length === undefined ? null : Number(length);
  return prefix !== null && (prefix < 1 || prefix > (parsed.family === 4 ? 32 : 128)) ? null : { ...parsed, prefix };
};

/** A network in which the layout has room, or a sentence. */
export const parseSubnet = (text: string, family: 4 | 6): Subnet | string => {
  const parsed = parseCidr(text);
  if (parsed === null || parsed.family !== family || parsed.prefix === null)
    return `${text} is not a network of IPv${family} (${DEFAULT_SUBNET[family]} is one)`;
  if (parsed.prefix > PREFIX_MAX[family]) return `${text} is too small: the prefix is ${PREFIX_MAX[family]} at most`;
  return { family, network: networkOf(parsed.address, parsed.prefix), prefix: parsed.prefix };
};

const offset = (network: string, by: number): string => {
  const bytes = networkBytes(network);
  bytes[bytes.length - 1] = (bytes.at(-1) as number) + by;
  return addressText(bytes);
};
const networkBytes = (network: string): Uint8Array => {
  if (familyOf(network) === 4) return Uint8Array.from(network.split('.').map(Number));
  const [head = '', tail] = network.split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const [before, after] = [groups(head), groups(tail ?? '')];
  const all = [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
};

export const gatewayOf = ({ network }: Subnet): string => offset(network, GATEWAY);
export const resolverOf = ({ network }: Subnet): string => offset(network, RESOLVER);
export const containerOf = ({ network }: Subnet): string => offset(network, CONTAINER);
export const isIn = (address: string, { network, prefix }: Subnet): boolean => inPrefix(address, network, prefix);
