// SPDX-License-Identifier: Apache-2.0
/**
 * slirp4netns' settings → {@link Plan}. Unlike pasta's, its network is always the same, whatever the host's looks like:
 *
 *   N+2, fd00::2, fe80::2   the gateway; it stands for the host's loopback unless that is disabled, and is nobody else
 *   N+3, fd00::3            port 53 is the host's resolver; nothing else is there, unless that is disabled
 *   N+15 … N+30             by DHCP
 *   N+100                   the namespace with --configure, and where forwarded ports lead
 *
 * All else leads to the host's network, the host's own addresses included, which is what its users expect of it.
 */
import type { Result } from '../../../shared/rpc/methods.ts';
import { type Family, familyOf } from '../../host/address.ts';
import type { HostFacts } from '../../host/facts.ts';
import { ipv4Text } from '../../wire/addr.ts';
import { checkPlan, EVERYBODY, eui64 } from '../plan.ts';
import { PlanError } from '../plan-error.ts';
import type { Plan } from '../plan-schema.ts';
import { LOG_SIZE_DEFAULT } from '../settings.ts';
import { type Outbound, outboundFault, type SlirpSettings } from './settings.ts';

const GATEWAY = 2;
const RESOLVER = 3;
const POOL = 15;
const POOL_COUNT = 16;
const GUEST = 100;
const LEASE_S = 86_400;

const PREFIX_6 = 'fd00::';
const GATEWAY_6 = 'fd00::2';
const ROUTER_6 = 'fe80::2';
const RESOLVER_6 = 'fd00::3';
const ADVERTISED = { prefix: PREFIX_6, validS: 86_400, preferredS: 14_400, routerS: 1800 };
/** RFC 8200 §5 */
const IPV6_MTU_MIN = 1280;
/** RFC 791 §3.2: what the kernel takes as the MTU of an interface. */
const MTU_MIN = 68;
const METRIC_6 = 1024;

const DNS_PORT = 53;
const EVERY_PORT = { first: 1, last: 65_535 };

/** Addresses of slirp4netns' network. */
export const addressOf = ({ network }: SlirpSettings, offset: number): string => ipv4Text((network + offset) | 0);
export const gatewayOf = (s: SlirpSettings): string => addressOf(s, GATEWAY);
export const resolverOf = (s: SlirpSettings): string => addressOf(s, RESOLVER);
export const guestOf = (s: SlirpSettings): string => addressOf(s, GUEST);

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');
/** 52:55 and the address. */
const macOf = ({ network }: SlirpSettings, offset: number): string => {
  const word = (network + offset) | 0;
  return ['52', '55', ...[word >>> 24, word >> 16, word >> 8, word].map((byte) => hex(byte & 0xff))].join(':');
};
/** 52:56 and the last four bytes of the address. */
const mac6Of = (last: number): string => `52:56:00:00:00:${hex(last)}`;

/** Throws {@link UsageError} where there is no such interface, or it has no address. */
const outboundAddress = (given: Outbound | null, facts: HostFacts, family: Family): string => {
  if (given === null) return '';
  if (given.address !== null) return given.address;
  const index = facts.links.find(({ name }) => name === given.interface)?.index;
  const found = facts.addresses.find(
    (a) => a.family === family && a.index === index && (family === 4 || a.scope === 'universe'),
  );
  if (found === undefined) throw outboundFault(family);
  return found.address;
};

const firstResolver = (facts: HostFacts, family: Family): string | null =>
  facts.resolvers.servers.find((server) => familyOf(server) === family) ?? null;

const planNat = (s: SlirpSettings, facts: HostFacts, v6: boolean): Plan['nat'] => ({
  hostLoopback4: s.hostLoopback ? gatewayOf(s) : null,
  hostLoopback6: s.hostLoopback && v6 ? GATEWAY_6 : null,
  guestAddr4: null,
  guestAddr6: null,
  dnsForward4: s.dns ? resolverOf(s) : null,
  dnsForward6: s.dns && v6 ? RESOLVER_6 : null,
  host4: null,
  host6: null,
  dnsHost4: s.dns ? firstResolver(facts, 4) : null,
  dnsHost6: s.dns && v6 ? firstResolver(facts, 6) : null,
  resolvers: [],
  closed: [
    gatewayOf(s),
    ...(s.dns ? [resolverOf(s)] : []),
    ...(v6 ? [GATEWAY_6, ROUTER_6] : []),
    ...(v6 && s.dns ? [RESOLVER_6] : []),
  ],
  dnsPorts: [DNS_PORT],
});

/**
 * The host's own addresses, as with the original; its loopback by the gateway alone. The resolver may be on the loopback now or later
 * (resolv.conf is followed), so port 53 there is open with it.
 */
const planGrants = (s: SlirpSettings, v6: boolean): Plan['grant'] => [
  { address: '0.0.0.0', prefix: 0, port: 0 },
  ...(v6 ? [{ address: '::', prefix: 0, port: 0 }] : []),
  ...(s.hostLoopback ? [{ address: '127.0.0.1', port: 0 }] : []),
  ...(s.hostLoopback && v6 ? [{ address: '::1', port: 0 }] : []),
  ...(s.dns ? [{ address: '127.0.0.0', prefix: 8, port: DNS_PORT }] : []),
  ...(s.dns && v6 ? [{ address: '::1', port: DNS_PORT }] : []),
];

const planNetwork = (s: SlirpSettings, guestMac: string, v6: boolean): Plan['network'] => {
  const global6 = guestMac === EVERYBODY ? [] : [{ address: eui64(PREFIX_6, guestMac), prefix: 64 }];
  return {
    v4: {
      addresses: [{ address: guestOf(s), prefix: s.prefix }],
      gateway: gatewayOf(s),
      dns: s.dns ? [resolverOf(s)] : [],
      pinned: true,
      // The resolver's is answered for even when it is disabled: what goes there leaves then.
      neighbours: [GATEWAY, RESOLVER].map((offset) => ({ address: addressOf(s, offset), mac: macOf(s, offset) })),
      pool: { first: addressOf(s, POOL), count: POOL_COUNT, leaseS: LEASE_S },
    },
    v6: v6
      ? {
          addresses: global6,
          gateway: GATEWAY_6,
          ourLinkLocal: ROUTER_6,
          dns: s.dns ? [RESOLVER_6] : [],
          pinned: false,
          neighbours: [
            { address: GATEWAY_6, mac: mac6Of(GATEWAY) },
            { address: ROUTER_6, mac: mac6Of(GATEWAY) },
            { address: RESOLVER_6, mac: mac6Of(RESOLVER) },
          ],
          advertised: ADVERTISED,
        }
      : null,
    ourMac: macOf(s, GATEWAY),
    guestMac,
    mtu: s.mtu,
    search: [],
    hostname: null,
    fqdn: null,
    tellDns: true,
    tellSearch: false,
    enable: { tcp: true, udp: true, icmp: true, dhcp: true, dhcpv6: false, ndp: v6, ra: v6 },
  };
};

/** The address and route of IPv6 come by router advertisement as well; being there at once, nobody waits for them. */
const planConfigNet = (s: SlirpSettings, { v4, v6 }: Plan['network']): Plan['configNet'] => {
  // Whose namespace an inherited tap is in is not known here.
  if (!s.configure || s.target !== 'netns') return null;
  if (s.mtu < MTU_MIN) throw new PlanError('inconsistent', `MTU ${s.mtu} is too small: an interface takes ${MTU_MIN}`);
  return {
    addresses: [...(v4?.addresses ?? []), ...(v6?.addresses ?? [])],
    routes: [
      { destination: '0.0.0.0', prefix: 0, gateway: gatewayOf(s), metric: 0 },
      ...(v6 === null ? [] : [{ destination: '::', prefix: 0, gateway: ROUTER_6, metric: METRIC_6 }]),
    ],
    mtu: s.mtu,
  };
};

/** `tapMac`: of `tap.open`; null: there is no tap. Throws {@link PlanError} and UsageError; the result is frozen throughout. */
export const makeSlirpPlan = (
  s: SlirpSettings,
  hello: Pick<Result<'session.hello'>, 'tap' | 'foreground'>,
  facts: HostFacts,
  tapMac: string | null,
): Plan => {
  const bess = s.target === 'bess';
  const v6 = s.ipv6 && facts.ipv6 && s.mtu >= IPV6_MTU_MIN;
  const network = planNetwork(s, bess ? EVERYBODY : (s.mac ?? tapMac ?? EVERYBODY), v6);
  const windows = s.api === null ? [] : (['tcp', 'udp'] as const).map((protocol) => ({ protocol, ...EVERY_PORT }));
  return checkPlan({
    network,
    personality: 'slirp4netns',
    guest: bess ? { kind: 'packets', oneOff: true } : null,
    ifname: bess ? '' : hello.tap,
    configNet: planConfigNet(s, network),
    nsMac: s.target === 'netns' ? s.mac : null,
    log: { level: 'quiet', file: null, size: LOG_SIZE_DEFAULT, toStderr: false, toSyslog: true },
    pcap: null,
    outbound: {
      address4: outboundAddress(s.outbound4, facts, 4),
      address6: outboundAddress(s.outbound6, facts, 6),
      interface4: '',
      interface6: '',
    },
    multicast: false,
    grant: planGrants(s, v6),
    listen: { host: windows, netns: [] },
    forward: {
      tables: { host: [], splice: [] },
      splice: false,
      spliceOnly: false,
      loopbackToLoopback: false,
      freebind: false,
    },
    nat: planNat(s, facts, v6),
    conf: null,
    control: null,
    api: s.api === null ? null : { path: s.api, guest: guestOf(s) },
    spawn: false,
    foreground: hello.foreground,
    templates: { v4: null, v6: null },
    warnings: s.ipv6 && !v6 ? [`IPv6 is not available ${facts.ipv6 ? `at an MTU of ${s.mtu}` : 'on this host'}`] : [],
  });
};
