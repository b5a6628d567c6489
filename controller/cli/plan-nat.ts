// SPDX-License-Identifier: Apache-2.0
/**
 * Addresses that the guest sees and that stand for others, resolvers included: what is mapped, what the guest is told, and which
 * addresses of the host `seal` must let through for it.
 */
import { addressKind, type Family, familyOf } from '../host/address.ts';
import type { HostFacts } from '../host/facts.ts';
import { PlanError } from './plan-error.ts';
import type { FamilyPlan } from './plan-family.ts';
import type { Versions } from './plan-forward.ts';
import type { Plan } from './plan-schema.ts';
import type { Settings } from './settings.ts';

const DNS_PORT = 53;
/** RFC 7858 §3.1, RFC 9250 §4.1.1 */
const DNS_OVER_TLS_PORT = 853;

export interface Names {
  readonly servers: readonly string[];
  readonly search: readonly string[];
  readonly warnings: readonly string[];
}

const first = (servers: readonly string[], family: Family): string | null =>
  servers.find((server) => familyOf(server) === family) ?? null;

interface Mapping {
  readonly hostLoopback: string | null;
  readonly guestAddr: string | null;
  readonly dnsForward: string | null;
  readonly host: string | null;
  readonly dnsHost: string | null;
}
const NOTHING: Mapping = { hostLoopback: null, guestAddr: null, dnsForward: null, host: null, dnsHost: null };

/** What is shown to the guest cannot be its own address as well: it would never be asked for. */
const checkClash = (mapping: Mapping, version: FamilyPlan): void => {
  const options = { hostLoopback: '--map-host-loopback', guestAddr: '--map-guest-addr', dnsForward: '--dns-forward' };
  for (const [key, option] of Object.entries(options)) {
    const address = mapping[key as keyof typeof options];
    if (address !== null && version.addresses.some((own) => own.address === address))
      throw new PlanError('address-clash', `${address} cannot be both the guest's address and ${option}`);
  }
};

const planMapping = (settings: Settings, facts: HostFacts, family: Family, version: FamilyPlan | null): Mapping => {
  if (version === null || settings.spliceOnly) return NOTHING;
  const hostLoopback = settings[`hostLoopback${family}`] ?? (settings.mapGateway ? version.gateway : null);
  const resolver = first(facts.resolvers.servers, family);
  const dnsHost = settings[`dnsHost${family}`] ?? resolver;
  // A resolver on the host's loopback is told as the address that stands for it: that, and nothing else there, answers for names.
  const viaLoopback = settings.dns === 'host' && facts.resolvers.servers.some((server) => isLoopback(server, family));
  const dnsForward = settings[`dnsForward${family}`] ?? (viaLoopback ? hostLoopback : null);
  const mapping = {
    hostLoopback,
    guestAddr: settings[`guestAddr${family}`],
    dnsForward: dnsHost === null ? null : dnsForward,
    host: version.template?.addresses[0]?.address ?? null,
    dnsHost,
  };
  checkClash(mapping, version);
  return mapping;
};
const isLoopback = (server: string, family: Family): boolean =>
  familyOf(server) === family && addressKind(server) === 'loopback';

/** Throws {@link PlanError}. */
export const planNat = (settings: Settings, facts: HostFacts, { v4, v6 }: Versions): Plan['nat'] => {
  const a = planMapping(settings, facts, 4, v4);
  const b = planMapping(settings, facts, 6, v6);
  return {
    hostLoopback4: a.hostLoopback,
    hostLoopback6: b.hostLoopback,
    guestAddr4: a.guestAddr,
    guestAddr6: b.guestAddr,
    dnsForward4: a.dnsForward,
    dnsForward6: b.dnsForward,
    host4: a.host,
    host6: b.host,
    dnsHost4: a.dnsHost,
    dnsHost6: b.dnsHost,
    resolvers: facts.resolvers.servers,
  };
};

/** Options that were given and do nothing here. */
export const natWarnings = (settings: Settings, nat: Plan['nat'], { v4, v6 }: Versions): string[] => {
  const warnings: string[] = [];
  for (const family of [4, 6] as const) {
    if ((family === 4 ? v4 : v6) === null || settings.spliceOnly) continue;
    const forward = settings[`dnsForward${family}`];
    if (forward !== null && nat[`dnsForward${family}`] === null)
      warnings.push(`--dns-forward ${forward} has no effect: the host has no IPv${family} resolver (--dns-host)`);
    const guest = nat[`guestAddr${family}`];
    if (guest === null) continue;
    if (guest === nat[`hostLoopback${family}`])
      warnings.push(`--map-guest-addr ${guest} has no effect: it stands for the loopback of the host (--no-map-gw)`);
    else if (nat[`host${family}`] === null)
      warnings.push(`--map-guest-addr ${guest} has no effect: the host has no IPv${family} address to map it to`);
  }
  return warnings;
};

/** Resolvers and search domains to tell. Warnings only for what matters: if nothing is told, nothing is missing. */
export const planNames = (settings: Settings, facts: HostFacts, nat: Plan['nat'], { v4, v6 }: Versions): Names => {
  const warnings: string[] = [];
  const tell = settings.tellDns && settings.dns !== 'none' && !settings.spliceOnly;
  const servers: string[] = [];
  for (const server of settings.dns === 'none'
    ? []
    : settings.dns === 'host'
      ? facts.resolvers.servers
      : settings.dns) {
    const family = familyOf(server);
    const told = settings.dns === 'host' && isLoopback(server, family) ? nat[`dnsForward${family}`] : server;
    if (told !== null && !servers.includes(told)) servers.push(told);
    if (told === null && tell)
      warnings.push(
        `Resolver ${server} of resolv.conf is on the loopback of the host, which no address stands for: the guest is not told about it`,
      );
  }
  const isOn = (server: string): boolean => (familyOf(server) === 4 ? v4 : v6) !== null;
  if (tell && settings.dns !== 'host')
    for (const server of servers)
      if (!isOn(server))
        warnings.push(`Resolver ${server} is not told to the guest, which has no IPv${familyOf(server)}`);
  if (tell && !servers.some(isOn) && (settings.dns === 'host' || servers.length === 0))
    warnings.push("Couldn't get any nameserver address: give one with --dns");
  const without = settings.personality === 'pasta' ? 'without --dhcp' : 'with --no-dhcp';
  if (!settings.tellDns && Array.isArray(settings.dns)) warnings.push(`--dns has no effect ${without}-dns`);
  if (!settings.tellSearch && Array.isArray(settings.search)) warnings.push(`--search has no effect ${without}-search`);
  const search =
    settings.search === 'none' ? [] : settings.search === 'host' ? facts.resolvers.search : settings.search;
  return { servers, search, warnings };
};

/** One grant for each protocol that is on. */
const anyPort = (settings: Settings, address: string): Plan['grant'] =>
  (['tcp', 'udp'] as const)
    .filter((protocol) => settings[protocol])
    .map((protocol) => ({ address, port: 0, protocol }));

/** `told`: resolvers that the guest is told; one that listens on an address of the host is to be asked all the same. */
export const natGrants = (settings: Settings, nat: Plan['nat'], told: readonly string[]): Plan['grant'] => {
  if (settings.spliceOnly) return [];
  const mapped: Plan['grant'][number][] = [];
  if (nat.hostLoopback4 !== null) mapped.push(...anyPort(settings, '127.0.0.1'));
  if (nat.hostLoopback6 !== null) mapped.push(...anyPort(settings, '::1'));
  for (const family of [4, 6] as const) {
    const host = nat[`host${family}`];
    const resolver = nat[`dnsHost${family}`];
    if (nat[`guestAddr${family}`] !== null && host !== null) mapped.push({ address: host, port: 0 });
    if (nat[`dnsForward${family}`] !== null && resolver !== null)
      mapped.push({ address: resolver, port: DNS_PORT }, { address: resolver, port: DNS_OVER_TLS_PORT });
  }
  return [
    ...settings.hostAccess,
    ...told.filter((server) => addressKind(server) !== 'loopback').map((address) => ({ address, port: DNS_PORT })),
    ...mapped,
  ];
};
