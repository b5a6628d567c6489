// SPDX-License-Identifier: Apache-2.0
/**
 * The routes to put into the namespace: copies of those through the template, or one default route. In the order in which
 * the kernel takes them: a gateway must be reachable on link before a route through it is accepted.
 */
import { addressKind, type Family, inPrefix, networkOf } from './address.ts';
import type { HostFacts, HostRoute, NextHop } from './facts.ts';
import type { InterfaceAddress } from './network.ts';

export interface GuestRoute {
  readonly destination: string;
  readonly prefix: number;
  /** null: on link. */
  readonly gateway: string | null;
  readonly metric: number;
}

const hostPrefix = (address: string): number => (address.includes(':') ? 128 : 32);

/** The kernel makes these itself when the address is added. */
const madeByAddress = (route: GuestRoute, addresses: readonly InterfaceAddress[]): boolean =>
  route.gateway === null &&
  addresses.some(({ address, prefix }) => prefix === route.prefix && networkOf(address, prefix) === route.destination);

/** Link-local and multicast routes belong to every link anyway. */
const ofEveryLink = ({ destination, prefix }: HostRoute): boolean => {
  if (prefix === 0) return false;
  const kind = addressKind(destination);
  return kind === 'multicast' || (kind === 'link-local' && destination.includes(':'));
};

/** The hop to copy: null when the route is dead, leads elsewhere, or shares its load with other links. */
const hopThrough = (route: HostRoute, index: number): NextHop | null => {
  if (!route.hops.every((hop) => hop.index === index)) return null;
  const alive = route.hops.filter(({ dead }) => !dead);
  return alive.reduce<NextHop | null>((best, hop) => (best !== null && best.weight >= hop.weight ? best : hop), null);
};

/** The hosts a gateway route needs on link and does not have: one on-link route each. IPv6 link-local gateways always are. */
const missingGateways = (
  gatewayRoutes: readonly GuestRoute[],
  onLink: readonly GuestRoute[],
  addresses: readonly InterfaceAddress[],
): GuestRoute[] => {
  const reachable = (gateway: string): boolean =>
    (gateway.includes(':') && addressKind(gateway) === 'link-local') ||
    addresses.some(({ address, prefix }) => inPrefix(gateway, address, prefix)) ||
    onLink.some(({ destination, prefix }) => prefix > 0 && inPrefix(gateway, destination, prefix));
  const gateways = new Set(gatewayRoutes.map(({ gateway }) => gateway).filter((gateway) => gateway !== null));
  return [...gateways]
    .filter((gateway) => !reachable(gateway))
    .map((gateway) => ({ destination: gateway, prefix: hostPrefix(gateway), gateway: null, metric: 0 }));
};

/** Hosts' own routes first, then wider ones; on-link routes before gateway routes. */
const inOrder = (routes: readonly GuestRoute[], addresses: readonly InterfaceAddress[]): readonly GuestRoute[] => {
  const specific = [...routes].sort((a, b) => b.prefix - a.prefix);
  const onLink = specific.filter(({ gateway }) => gateway === null);
  const viaGateway = specific.filter(({ gateway }) => gateway !== null);
  return [...missingGateways(viaGateway, onLink, addresses), ...onLink, ...viaGateway];
};

const key = ({ destination, prefix, metric }: GuestRoute): string => `${destination}/${prefix} ${metric}`;

/** Copies of the main table's routes through link `index`. A route via a gateway of the other family (RFC 5549) becomes an on-link one: every neighbour is us. */
export const copyRoutes = (
  facts: HostFacts,
  family: Family,
  index: number,
  addresses: readonly InterfaceAddress[],
): readonly GuestRoute[] => {
  const copies = new Map<string, GuestRoute>();
  for (const route of facts.routes) {
    if (route.family !== family || ofEveryLink(route)) continue;
    const hop = hopThrough(route, index);
    if (hop === null) continue;
    const ours = hop.gateway !== null && hop.gateway.includes(':') === (family === 6);
    const { destination, prefix, metric } = route;
    const copy = { destination, prefix, gateway: ours ? hop.gateway : null, metric };
    // Routes that differ in type of service only would collide: the first one stays.
    if (!madeByAddress(copy, addresses) && !copies.has(key(copy))) copies.set(key(copy), copy);
  }
  return inOrder([...copies.values()], addresses);
};

/** A default route alone, with what its gateway needs. */
export const defaultRoute = (gateway: string, addresses: readonly InterfaceAddress[]): readonly GuestRoute[] => {
  const destination = gateway.includes(':') ? '::' : '0.0.0.0';
  return inOrder([{ destination, prefix: 0, gateway, metric: 0 }], addresses);
};
