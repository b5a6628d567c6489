// SPDX-License-Identifier: Apache-2.0
/** IP versions and protocols to switch off. */
import type { RawSettings } from '../settings.ts';
import { type EarlyId, type OptionRow, row } from './row.ts';

type Switch = 'tcp' | 'udp' | 'icmp' | 'dhcp' | 'dhcpv6' | 'ndp' | 'ra';
const off = (what: Switch, help: OptionRow['help']): OptionRow =>
  row({
    group: 'Protocols',
    help,
    apply: (raw) => {
      raw[what] = false;
    },
  });
const only = (family: 4 | 6, short: string, early: EarlyId): OptionRow =>
  row({
    short,
    group: 'Protocols',
    help: `IPv${family} only; of -4 and -6 the last one counts`,
    early,
    apply: (raw: RawSettings) => {
      raw.family = family;
    },
  });

export const PROTOCOLS = {
  'ipv4-only': only(4, '4', 'EARLY_IPV4_ONLY'),
  'ipv6-only': only(6, '6', 'EARLY_IPV6_ONLY'),
  'no-tcp': off('tcp', 'no TCP'),
  'no-udp': off('udp', 'no UDP'),
  'no-icmp': off('icmp', 'no ICMP and ICMPv6 echo'),
  'no-dhcp': off('dhcp', 'no DHCP server'),
  'no-dhcpv6': off('dhcpv6', 'no DHCPv6 server'),
  'no-ndp': off('ndp', 'no neighbour discovery, which includes router advertisements'),
  'no-ra': off('ra', { pasta: 'no router advertisements; implied by --config-net', passt: 'no router advertisements' }),
  multicast: row({
    group: 'Protocols',
    help: 'multicast and broadcast to and from the local network (mDNS, SSDP, ...)',
    conflicts: ['no-udp'],
    apply: (raw) => {
      raw.multicast = true;
    },
  }),
} as const satisfies Record<string, OptionRow>;
