// SPDX-License-Identifier: Apache-2.0
/**
 * Which interface of the host stands model for the guest's, for one IP version, and what is taken from it. The two versions
 * may have different templates. Links without use (loopback, dead paths) never are one.
 */
import { addressKind, type Family } from './address.ts';
import type { HostAddress, HostFacts, HostRoute, Link, NextHop } from './facts.ts';

export interface Template {
  readonly link: Link;
  /** Addresses the guest can have, the one to assign first. May be empty. */
  readonly addresses: readonly HostAddress[];
  /** Next hop of the default route through the link, or null when there is none or it is on link. */
  readonly gateway: string | null;
  /** The link's own IPv6 link-local address, or null. */
  readonly linkLocal: string | null;
}

const isDefault = (route: HostRoute): boolean => route.prefix === 0;
const isLinkLocal = ({ destination, prefix }: HostRoute): boolean =>
  prefix > 0 && addressKind(destination) === 'link-local';

/** The path the kernel uses most: highest weight, first of equals. */
const bestHop = (hops: readonly NextHop[]): NextHop | undefined =>
  hops
    .filter(({ dead }) => !dead)
    .reduce<NextHop | undefined>((best, hop) => (best && best.weight >= hop.weight ? best : hop), undefined);

const usableLink = (facts: HostFacts, index: number | undefined): Link | undefined =>
  facts.links.find((link) => link.index === index && !link.loopback);

/** The usable link of the first route, in the order of `routes`, that has one. */
const firstLink = (facts: HostFacts, routes: readonly HostRoute[]): Link | undefined => {
  for (const route of routes) {
    const link = usableLink(facts, bestHop(route.hops)?.index);
    if (link !== undefined) return link;
  }
  return undefined;
};

/** The link of the best default route, else of the first route that leads anywhere. */
const routedLink = (facts: HostFacts, family: Family): Link | undefined => {
  const routes = facts.routes.filter((route) => route.family === family);
  // Stable sort: of equal metrics the kernel's order decides.
  const defaults = routes.filter(isDefault).sort((a, b) => a.metric - b.metric);
  return (
    firstLink(facts, defaults) ??
    firstLink(
      facts,
      routes.filter((route) => !isLinkLocal(route)),
    )
  );
};

/** Wider than the link, and neither on its way in (tentative) nor out (deprecated); the most specific prefix first. */
const assignable = (facts: HostFacts, link: Link, family: Family): readonly HostAddress[] =>
  facts.addresses
    .filter((a) => a.family === family && a.index === link.index && !a.deprecated && !a.tentative)
    .filter((a) => (a.scope === 'universe' || a.scope === 'site') && addressKind(a.address) === 'unicast')
    .sort((a, b) => b.prefix - a.prefix);

const defaultGateway = (facts: HostFacts, link: Link, family: Family): string | null => {
  const hops = facts.routes
    .filter((route) => route.family === family && isDefault(route))
    .sort((a, b) => a.metric - b.metric)
    .flatMap((route) => route.hops.filter((hop) => hop.index === link.index && hop.gateway !== null && !hop.dead))
    // A gateway of the other family (RFC 5549) cannot be told to the guest.
    .filter((hop) => hop.gateway?.includes(':') === (family === 6));
  return bestHop(hops)?.gateway ?? null;
};

/** `name`: the link to take, or null for the one with the default route. null: no such link, or none fits. */
export const findTemplate = (facts: HostFacts, family: Family, name: string | null): Template | null => {
  const link = name === null ? routedLink(facts, family) : facts.links.find((candidate) => candidate.name === name);
  if (link === undefined) return null;
  const linkLocal = facts.addresses.find(
    (a) => a.family === 6 && a.index === link.index && addressKind(a.address) === 'link-local' && !a.tentative,
  );
  return {
    link,
    addresses: assignable(facts, link, family),
    gateway: defaultGateway(facts, link, family),
    linkLocal: linkLocal?.address ?? null,
  };
};
