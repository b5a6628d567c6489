// SPDX-License-Identifier: Apache-2.0
/** Protocols to switch off, and port forwarding. */
import type { RawSettings } from '../settings.ts';
import { type EarlyId, noneOnly, notYet, type OptionRow, row } from './row.ts';

type Switch = 'tcp' | 'udp' | 'icmp' | 'dhcp' | 'dhcpv6' | 'ndp' | 'ra';
const off = (what: Switch, help: string): OptionRow =>
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
  'no-ra': off('ra', 'no router advertisements; implied by --config-net'),
  multicast: row({
    group: 'Protocols',
    help: 'multicast and broadcast to and from the local network (mDNS, SSDP, ...)',
    conflicts: ['no-udp'],
    apply: (raw) => {
      raw.multicast = true;
    },
  }),

  'tcp-ports': noneOnly('t', 'SPEC', 'TCP ports to forward to the namespace: only "none" yet'),
  'udp-ports': noneOnly('u', 'SPEC', 'UDP ports to forward to the namespace: only "none" yet'),
  'tcp-ns': noneOnly('T', 'SPEC', 'TCP ports to forward to the host: only "none" yet'),
  'udp-ns': noneOnly('U', 'SPEC', 'UDP ports to forward to the host: only "none" yet'),
  'map-host-loopback': noneOnly(null, 'ADDR', 'address that stands for the loopback of the host: only "none" yet'),
  'map-guest-addr': noneOnly(null, 'ADDR', 'address that stands for the host itself: only "none" yet'),
  'no-map-gw': row({
    group: 'Forwarding',
    help: 'do not map the gateway address to the host (it is not mapped yet)',
    // The mapping does not exist yet, so there is nothing to switch off: the option asks for what happens.
    apply: () => {},
  }),
  freebind: notYet(null, null, 'Forwarding'),
  'host-lo-to-ns-lo': notYet(null, null, 'Forwarding'),
  'no-splice': notYet(null, null, 'Forwarding'),
  'splice-only': notYet(null, null, 'Forwarding'),
} as const satisfies Record<string, OptionRow>;
