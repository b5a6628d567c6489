// SPDX-License-Identifier: Apache-2.0
/**
 * Command line + what the helper said + what the host looks like → {@link Plan}. Pure: the same three always give the same
 * plan, and nothing on the host has changed when it is refused.
 */
import type { Result } from '../../shared/rpc/methods.ts';
import { addressKind, type Family, familyOf } from '../host/address.ts';
import type { HostFacts } from '../host/facts.ts';
import { PlanError } from './plan-error.ts';
import { type FamilyPlan, planFamily } from './plan-family.ts';
import { allGrants, planForward, type Versions } from './plan-forward.ts';
import { type Names, natGrants, natWarnings, planNames, planNat } from './plan-nat.ts';
import { type Plan, planSchema } from './plan-schema.ts';
import type { Settings } from './settings.ts';

/** Locally administered (IEEE 802 §8.4); the one that callers of the original see. */
const OUR_MAC = '9a:55:9a:55:9a:55';
/** Of the guest where there is no link that it could be seen on. */
const NOBODY = '02:00:00:00:00:00';
/** Of a virtual machine before its first frame: whoever it is, it hears us. */
export const EVERYBODY = 'ff:ff:ff:ff:ff:ff';
const OUR_LINK_LOCAL = 'fe80::1';
/** RFC 8200 §5 */
const IPV6_MTU_MIN = 1280;
/** MAXNS of resolv.h */
const SERVERS_PER_FAMILY_MAX = 3;

/** The address a guest makes of its MAC in a /64 that ends in "::" (RFC 4291 appendix A), in the canonical text of RFC 5952. */
export const eui64 = (prefix: string, mac: string): string => {
  const b = mac.split(':').map((byte) => Number.parseInt(byte, 16)) as [number, number, number, number, number, number];
  const groups = [((b[0] ^ 2) << 8) | b[1], (b[2] << 8) | 0xff, 0xfe00 | b[3], (b[4] << 8) | b[5]];
  return `${prefix}${groups.map((group) => group.toString(16)).join(':')}`;
};
const eui64LinkLocal = (mac: string): string => eui64('fe80::', mac);

/** Router advertisements must come from a link-local address (RFC 4861 §6.1.2): the gateway's if it is one, else the template's, which the guest must not have itself. */
const ourLinkLocal = (v6: FamilyPlan, guestMac: string): string => {
  const theirs = v6.template?.linkLocal ?? OUR_LINK_LOCAL;
  const candidates = addressKind(v6.gateway) === 'link-local' ? [v6.gateway] : [theirs, OUR_LINK_LOCAL];
  return candidates.find((address) => address !== eui64LinkLocal(guestMac)) ?? OUR_LINK_LOCAL;
};

/** Whoever names the guest's address wants that one reached, whatever else is heard from behind the guest. */
const isPinned = (settings: Settings, family: Family): boolean =>
  settings.addresses.some((given) => given.family === family);

/** The first three of a family, which is what resolvers read. */
const serversOf = (names: Names, family: Family): readonly string[] =>
  names.servers.filter((server) => familyOf(server) === family).slice(0, SERVERS_PER_FAMILY_MAX);

/** RFC 8200 §5: the kernel takes IPv6 off such a link. */
const tooSmallFor6 = (settings: Settings): boolean => settings.mtu > 0 && settings.mtu < IPV6_MTU_MIN;

/** Sockets cannot be bound to an address that is not there: every flow would be refused, so say why. */
const outboundWarnings = (settings: Settings, facts: HostFacts): string[] =>
  [settings.outbound4, settings.outbound6]
    .filter((wanted) => wanted !== null && !facts.addresses.some(({ address }) => address === wanted))
    .map((wanted) => `${wanted} (--outbound) is not an address of this host: connections will be refused`);

const limitWarnings = (settings: Settings, names: Names, v6: boolean): string[] => {
  const warnings: string[] = [];
  for (const family of [4, 6] as const) {
    const count = names.servers.filter((server) => familyOf(server) === family).length;
    if (settings.dns !== 'host' && count > SERVERS_PER_FAMILY_MAX) {
      warnings.push(
        `Only the first ${SERVERS_PER_FAMILY_MAX} of ${count} IPv${family} resolvers are told to the guest`,
      );
    }
  }
  if (v6 && tooSmallFor6(settings)) warnings.push(`MTU ${settings.mtu} is below ${IPV6_MTU_MIN}: no IPv6`);
  return warnings;
};

/** IPv6 is left out, with a warning, where the kernel has none; asking for nothing else is an error. */
const planVersions = (settings: Settings, facts: HostFacts): Versions => {
  const want6 = settings.family !== 4;
  if (settings.family === 6 && tooSmallFor6(settings)) {
    throw new PlanError('no-ip-version', `IPv6 needs an MTU of ${IPV6_MTU_MIN} or more`);
  }
  if (settings.family === 6 && !facts.ipv6) throw new PlanError('no-ip-version', 'IPv6 is not available on this host');
  return {
    v4: settings.family === 6 ? null : planFamily(settings, facts, 4),
    v6: want6 && facts.ipv6 && !tooSmallFor6(settings) ? planFamily(settings, facts, 6) : null,
  };
};

/** Debug output goes to the file, else to stderr if there is one to keep, else to the system log. */
const planLog = (settings: Settings, spawn: boolean, foreground: boolean): Plan['log'] => {
  const level = settings.level ?? (spawn ? 'quiet' : 'info');
  const file = settings.logFile;
  const toStderr = file === null && (foreground || spawn) && (level === 'debug' || level === 'trace');
  return { level, file, size: settings.logSize, toStderr, toSyslog: file === null && !toStderr };
};

const planOutbound = (settings: Settings): Plan['outbound'] => ({
  address4: settings.outbound4 ?? '',
  address6: settings.outbound6 ?? '',
  interface4: settings.outboundInterface4 ?? '',
  interface6: settings.outboundInterface6 ?? '',
});

const planConfigNet = (settings: Settings, versions: readonly (FamilyPlan | null)[]): Plan['configNet'] => {
  if (!settings.configNet || settings.spliceOnly) return null;
  const present = versions.filter((version) => version !== null);
  return {
    addresses: present.flatMap(({ addresses }) => addresses),
    routes: present.flatMap(({ routes }) => routes),
    mtu: settings.mtu === 0 ? null : settings.mtu,
  };
};

/**
 * `hello`: the host side's answer to session.hello. `tapMac`: of `tap.open`, before any change; null: there is no tap. Throws {@link PlanError}; the
 * result is frozen throughout.
 */
export const makePlan = (
  settings: Settings,
  hello: Pick<Result<'session.hello'>, 'spawn' | 'foreground' | 'tap'>,
  facts: HostFacts,
  tapMac: string | null,
): Plan => {
  const versions = planVersions(settings, facts);
  const { v4, v6 } = versions;
  const forwarding = planForward(settings, facts, versions);
  const nat = planNat(settings, facts, versions);
  const names = planNames(settings, facts, nat, versions);
  const told = [...serversOf(names, 4), ...serversOf(names, 6)];
  const passt = settings.personality === 'passt';
  const guestMac = passt ? EVERYBODY : (settings.nsMac ?? tapMac ?? NOBODY);
  const ourMac = settings.mac ?? OUR_MAC;
  if (guestMac === ourMac)
    throw new PlanError('address-clash', `${ourMac} cannot be both our MAC address and the guest's`);
  const [first4, ...others4] = v4?.addresses ?? [];
  const draft: Plan = {
    network: {
      v4:
        v4 && first4
          ? {
              addresses: [first4, ...others4],
              gateway: v4.gateway,
              dns: serversOf(names, 4),
              pinned: isPinned(settings, 4),
            }
          : null,
      v6: v6 && {
        addresses: v6.addresses,
        gateway: v6.gateway,
        ourLinkLocal: ourLinkLocal(v6, guestMac),
        dns: serversOf(names, 6),
        pinned: isPinned(settings, 6),
      },
      ourMac,
      guestMac,
      mtu: settings.mtu,
      search: names.search,
      hostname: settings.hostname,
      fqdn: settings.fqdn,
      tellDns: settings.tellDns && settings.dns !== 'none' && !settings.spliceOnly,
      tellSearch: settings.tellSearch && settings.search !== 'none',
      enable: {
        tcp: settings.tcp,
        udp: settings.udp,
        // The original's --no-icmp also ends neighbour discovery and with it IPv6; here --no-ndp does that.
        icmp: settings.icmp && !settings.spliceOnly,
        dhcp: settings.dhcp && v4 !== null,
        dhcpv6: settings.dhcpv6 && v6 !== null && v6.addresses.length > 0,
        ndp: settings.ndp && v6 !== null,
        ra: settings.ra && settings.ndp && !settings.configNet && v6 !== null,
      },
    },
    personality: settings.personality,
    guest: passt ? { kind: settings.vhostUser ? 'vhost-user' : 'stream', oneOff: settings.oneOff } : null,
    ifname: hello.tap,
    configNet: planConfigNet(settings, [v4, v6]),
    nsMac: settings.nsMac,
    log: planLog(settings, hello.spawn, hello.foreground),
    pcap: settings.pcap,
    outbound: planOutbound(settings),
    multicast: settings.multicast,
    grant: allGrants([...natGrants(settings, nat, told), ...forwarding.grant]),
    listen: forwarding.listen,
    forward: forwarding.forward,
    nat,
    conf: settings.conf,
    control: settings.control,
    api: null,
    spawn: hello.spawn,
    foreground: hello.foreground,
    templates: { v4: v4?.template?.link.name ?? null, v6: v6?.template?.link.name ?? null },
    warnings: [
      ...settings.warnings,
      ...names.warnings,
      ...natWarnings(settings, nat, versions),
      ...limitWarnings(settings, names, settings.family !== 4 && facts.ipv6),
      ...outboundWarnings(settings, facts),
      ...(settings.family === 'both' && !facts.ipv6 ? ['IPv6 is not available on this host: IPv4 only'] : []),
    ],
  };
  return checkPlan(draft);
};

/** The plan, frozen. Throws {@link PlanError} where it contradicts itself. */
export const checkPlan = (draft: Plan): Plan => {
  const checked = planSchema.safeParse(draft);
  if (checked.success) return checked.data;
  throw new PlanError(
    'inconsistent',
    `The plan does not hold together: ${checked.error.issues.map(describe).join('; ')}`,
  );
};

const describe = ({ path, message }: { path: readonly PropertyKey[]; message: string }): string =>
  `${path.map(String).join('.')}: ${message}`;
