// SPDX-License-Identifier: Apache-2.0
/**
 * The addresses, gateway and routes of one IP version. Three sources, in this order: the command line, the template
 * interface, and "local mode": link-local addresses that need no host network, decided for each IP version by itself.
 */
import type { Family } from '../host/address.ts';
import type { HostFacts } from '../host/facts.ts';
import { copyRoutes, defaultRoute, type GuestRoute } from '../host/guest-routes.ts';
import type { InterfaceAddress } from '../host/network.ts';
import { findTemplate, type Template } from '../host/template.ts';
import { PlanError } from './plan-error.ts';
import type { Settings } from './settings.ts';

/** Local mode, RFC 3927 and RFC 4291 §2.5.6; the numbers are those of the original. */
const LOCAL_GUEST_4: InterfaceAddress = { address: '169.254.2.1', prefix: 16 };
const LOCAL_GATEWAY_4 = '169.254.2.2';
const LOCAL_GATEWAY_6 = 'fe80::1';
/** RFC 4862 §5.5.3 d: SLAAC needs a /64. */
const PREFIX_6 = 64;

export interface FamilyPlan {
  /** The one to assign first; of IPv6 there may be none. */
  readonly addresses: readonly InterfaceAddress[];
  readonly gateway: string;
  readonly routes: readonly GuestRoute[];
  readonly template: Template | null;
}

/** RFC 791 §3.2's classes: what an address without prefix means to callers of the original. */
const classPrefix = (address: string): number => {
  const first = Number.parseInt(address, 10);
  return first < 128 ? 8 : first < 192 ? 16 : first < 224 ? 24 : 32;
};

const given = (settings: Settings, family: Family): readonly InterfaceAddress[] =>
  settings.addresses
    .filter((entry) => entry.family === family)
    .map(({ address, prefix }) => ({
      address,
      prefix: prefix ?? (family === 6 ? PREFIX_6 : (settings.netmask ?? classPrefix(address))),
    }));

/** All of the template's when we configure the namespace ourselves; what DHCP would assign otherwise. */
const copied = (settings: Settings, family: Family, template: Template | null): readonly InterfaceAddress[] => {
  const all = (template?.addresses ?? []).map(({ address, prefix }) => ({ address, prefix }));
  const [first, ...others] = all;
  if (first === undefined) return [];
  const assigned = { ...first, prefix: family === 4 ? (settings.netmask ?? first.prefix) : first.prefix };
  return settings.configNet && settings.copyAddresses ? [assigned, ...others] : [assigned];
};

/** The interface that was named for this IP version; it must exist, because falling back would let traffic leave elsewhere. */
const namedInterface = (settings: Settings, facts: HostFacts, family: Family): string | null => {
  const outbound = family === 4 ? settings.outboundInterface4 : settings.outboundInterface6;
  for (const name of [settings.interface, outbound]) {
    if (name === null || facts.links.some((link) => link.name === name)) continue;
    throw new PlanError('no-such-interface', `Invalid interface name ${name}: No such device`);
  }
  return settings.interface ?? outbound;
};

const guestRoutes = (
  settings: Settings,
  facts: HostFacts,
  family: Family,
  template: Template | null,
  addresses: readonly InterfaceAddress[],
  gateway: string,
): readonly GuestRoute[] => {
  const chosen = family === 4 ? settings.gateway4 : settings.gateway6;
  const copy = settings.copyRoutes && chosen === null && template !== null && template.addresses.length > 0;
  // Without an address a route would only make the kernel send from ::1: unreachable at once is the better answer.
  if (addresses.length === 0) return [];
  return copy ? copyRoutes(facts, family, template.link.index, addresses) : defaultRoute(gateway, addresses);
};

/** Throws {@link PlanError}. */
export const planFamily = (settings: Settings, facts: HostFacts, family: Family): FamilyPlan => {
  const template = findTemplate(facts, family, namedInterface(settings, facts, family));
  const local = family === 4 ? [LOCAL_GUEST_4] : [];
  const wanted = given(settings, family);
  const taken = copied(settings, family, template);
  const addresses = wanted.length > 0 ? wanted : taken.length > 0 ? taken : local;
  // A gateway that belongs to no address of ours is of no use in local mode.
  const theirs = addresses === local ? null : (template?.gateway ?? null);
  const gateway =
    (family === 4 ? settings.gateway4 : settings.gateway6) ??
    theirs ??
    (family === 4 ? LOCAL_GATEWAY_4 : LOCAL_GATEWAY_6);
  const clash = addresses.find(({ address }) => address === gateway);
  if (clash !== undefined) {
    throw new PlanError('address-clash', `${gateway} cannot be both the guest's address and its gateway`);
  }
  return {
    addresses,
    gateway,
    routes: guestRoutes(settings, facts, family, template, addresses, gateway),
    template: addresses === local ? null : template,
  };
};
