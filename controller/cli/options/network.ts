// SPDX-License-Identifier: Apache-2.0
/** Addresses, routes, names: what the guest is told, and where its traffic leaves. */
import { UsageError } from '../errors.ts';
import type { RawSettings } from '../settings.ts';
import * as values from '../values.ts';
import { type OptionRow, row } from './row.ts';

const group = 'Network';

/** A guest behind DHCP has one address and one gateway of each IP version; a namespace may be given several addresses. */
const checkOnce = (raw: RawSettings, family: 4 | 6, earlier: string | null, address: string, option: string): void => {
  if (raw.personality === 'passt' && earlier !== null)
    throw new UsageError('conflict', `Two IPv${family} addresses for ${option}: ${earlier} and ${address}`);
};

const addResolver = (raw: RawSettings, value: string, option: string): void => {
  const address = values.readResolver(value, option);
  if (address === null) raw.dns = 'none';
  else if (Array.isArray(raw.dns)) raw.dns.push(address);
  else raw.dns = [address];
};

const addHostAccess = (raw: RawSettings, value: string, option: string): void => {
  raw.hostAccess.push(values.readHostAccess(value, option));
  if (raw.hostAccess.length > values.HOST_ACCESS_MAX)
    throw new UsageError('invalid-value', `${option} can be given at most ${values.HOST_ACCESS_MAX} times`);
};

const addSearch = (raw: RawSettings, value: string, option: string): void => {
  const names = values.readSearch(value, option);
  if (names === null) {
    raw.search = 'none';
    return;
  }
  const list = Array.isArray(raw.search) ? [...raw.search, ...names] : names;
  if (list.length > values.SEARCH_DOMAINS_MAX) {
    throw new UsageError(
      'invalid-value',
      `Cannot use DNS search domain ${value}: ${option} takes at most ${values.SEARCH_DOMAINS_MAX} in all`,
    );
  }
  raw.search = list;
};

export const NETWORK = {
  mtu: row({
    short: 'm',
    argument: 'MTU',
    group,
    help: 'MTU of the interface, 0: none announced, default 65520',
    apply: (raw, value, option) => {
      raw.mtu = values.readMtu(value, option);
    },
  }),
  address: row({
    short: 'a',
    argument: 'ADDR[/PREFIX]',
    group,
    help: {
      pasta: 'guest address instead of those of the template interface; repeatable',
      passt: 'guest address instead of that of the template interface; once per IP version',
    },
    apply: (raw, value, option) => {
      const given = values.readGuestAddress(value, option);
      const earlier = raw.addresses.find(({ family }) => family === given.family)?.address ?? null;
      checkOnce(raw, given.family, earlier, given.address, option);
      raw.addresses.push(given);
    },
  }),
  netmask: row({
    short: 'n',
    argument: 'MASK',
    group,
    help: 'IPv4 mask (dotted, or 1 to 32) of the guest address',
    apply: (raw, value, option) => {
      raw.netmask = values.readNetmask(value, option);
    },
  }),
  'mac-addr': row({
    short: 'M',
    argument: 'MAC',
    group,
    help: "our own address on the guest's link, default 9a:55:9a:55:9a:55",
    apply: (raw, value, option) => {
      raw.mac = values.readMac(value, option);
    },
  }),
  gateway: row({
    short: 'g',
    argument: 'ADDR',
    group,
    help: 'default gateway of the guest instead of that of the host; once per IP version',
    apply: (raw, value, option) => {
      const { family, address } = values.readGateway(value, option);
      checkOnce(raw, family, raw[`gateway${family}`], address, option);
      if (family === 4) raw.gateway4 = address;
      else raw.gateway6 = address;
    },
  }),
  interface: row({
    short: 'i',
    argument: 'NAME',
    group,
    help: 'template interface, default: the one with the default route',
    early: 'EARLY_INTERFACE',
    apply: (raw, value, option) => {
      raw.interface = values.readIfname(value, option);
    },
  }),
  outbound: row({
    short: 'o',
    argument: 'ADDR',
    group,
    help: 'source address of outbound sockets; once per IP version',
    apply: (raw, value, option) => {
      const { family, address } = values.readOutbound(value, option);
      if (family === 4) raw.outbound4 = address;
      else raw.outbound6 = address;
    },
  }),
  'outbound-if4': row({
    argument: 'NAME',
    group,
    help: 'interface for outbound IPv4 sockets',
    apply: (raw, value, option) => {
      raw.outboundInterface4 = values.readIfname(value, option);
    },
  }),
  'outbound-if6': row({
    argument: 'NAME',
    group,
    help: 'interface for outbound IPv6 sockets',
    apply: (raw, value, option) => {
      raw.outboundInterface6 = values.readIfname(value, option);
    },
  }),
  'host-access': row({
    argument: 'ADDR[/PORT]',
    group,
    help: 'lets the guest reach this address of the host; repeatable',
    apply: addHostAccess,
  }),
  dns: row({
    short: 'D',
    argument: 'ADDR',
    group,
    help: 'resolver told to the guest, or "none"; repeatable',
    apply: addResolver,
  }),
  search: row({
    short: 'S',
    argument: 'NAMES',
    group,
    help: 'search domains told to the guest, or "none"; repeatable',
    apply: addSearch,
  }),
  'dhcp-dns': row({
    group,
    help: 'tell resolvers by DHCP, DHCPv6 and NDP',
    only: 'pasta',
    apply: (raw) => {
      raw.tellDns = true;
    },
  }),
  'dhcp-search': row({
    group,
    help: 'tell search domains by DHCP, DHCPv6 and NDP',
    only: 'pasta',
    apply: (raw) => {
      raw.tellSearch = true;
    },
  }),
  'no-dhcp-dns': row({
    group,
    help: 'do not tell resolvers by DHCP, DHCPv6 and NDP',
    only: 'passt',
    apply: (raw) => {
      raw.tellDns = false;
    },
  }),
  'no-dhcp-search': row({
    group,
    help: 'do not tell search domains by DHCP, DHCPv6 and NDP',
    only: 'passt',
    apply: (raw) => {
      raw.tellSearch = false;
    },
  }),
  hostname: row({
    short: 'H',
    argument: 'NAME',
    group,
    help: { pasta: 'host name told by DHCP, and that of COMMAND', passt: 'host name told by DHCP' },
    early: 'EARLY_HOSTNAME',
    apply: (raw, value, option) => {
      raw.hostname = values.readHostname(value, option);
    },
  }),
  fqdn: row({
    argument: 'NAME',
    group,
    help: 'fully qualified name told by DHCP and DHCPv6',
    apply: (raw, value, option) => {
      raw.fqdn = values.readFqdn(value, option);
    },
  }),
} as const satisfies Record<string, OptionRow>;
