// SPDX-License-Identifier: Apache-2.0
import type { PROTOCOLS as ROWS } from '../options/protocols.ts';
import type { Manual } from './manual.ts';

export const PROTOCOLS: Readonly<Record<keyof typeof ROWS, Manual>> = {
  'ipv4-only': 'IPv4 only. Options that name something of IPv6 are refused. Of `-4` and `-6`, the last one counts.',
  'ipv6-only': 'IPv6 only. Options that name something of IPv4 are refused. Of `-4` and `-6`, the last one counts.',
  'no-tcp': 'No TCP: segments of the guest are dropped, and `-t` and `-T` with ports are refused.',
  'no-udp': 'No UDP: datagrams of the guest are dropped, DHCP excepted, and `-u` and `-U` with ports are refused.',
  'no-icmp': 'No ICMP and ICMPv6 echo: the guest cannot ping. Neighbour discovery is not part of it; see `--no-ndp`.',
  'no-dhcp': 'No DHCP server.',
  'no-dhcpv6': 'No DHCPv6 server.',
  'no-ndp': 'No neighbour discovery, which includes router advertisements. Without it IPv6 needs static entries.',
  'no-ra': {
    pasta: 'No router advertisements, thus no SLAAC. Implied by `--config-net`.',
    passt: 'No router advertisements, thus no SLAAC.',
  },
  multicast:
    'Multicast of the link and the site (mDNS, SSDP, LLMNR, WS-Discovery …) and broadcast, to and from the network of the outbound interface. Groups that a program of the guest joined are heard at the ports of those services and at those that the guest itself sends to. The host’s own services do not hear the guest’s groups; broadcast they do. Off by default.',
};
