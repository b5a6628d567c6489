// SPDX-License-Identifier: Apache-2.0
import type { NETWORK as ROWS } from '../options/network.ts';
import type { Manual } from './manual.ts';

export const NETWORK: Readonly<Record<keyof typeof ROWS, Manual>> = {
  mtu: {
    pasta:
      'MTU in bytes, 68 to 65521, default 65520: that of the interface with `--config-net`, and the one told by DHCP and router advertisements. 0: none is set or told. Below 1280 there is no IPv6. TCP does not depend on it; with the MTU of the host’s own link, the guest cuts its datagrams itself.',
    passt:
      'MTU in bytes, 68 to 65521, default 65520, told by DHCP and router advertisements. 0: none is told. Below 1280 there is no IPv6. TCP does not depend on it; with the MTU of the host’s own link, the guest cuts its datagrams itself.',
  },
  address: {
    pasta:
      'Give the guest this address instead of those of the template interface. May be repeated; the first one of each IP version is the one that ports lead to. Without `/PREFIX` it is 64 for IPv6, and for IPv4 that of `--netmask` or of the address’s class (8, 16 or 24).',
    passt:
      'Give the guest this address instead of that of the template interface; once for each IP version. Without `/PREFIX` it is 64 for IPv6, and for IPv4 that of `--netmask` or of the address’s class (8, 16 or 24).',
  },
  netmask:
    'Mask of the guest’s IPv4 address, in dotted form or as a length of 1 to 32. Refused beside `-a ADDR/PREFIX`.',
  'mac-addr':
    'Our own address on the guest’s link, which every address but the guest’s own resolves to. Default 9a:55:9a:55:9a:55.',
  gateway:
    'Default gateway of the guest, instead of the host’s; once for each IP version. Routes of the host are not copied for that version, then. Whatever it is, it is we who answer for it: it need not exist.',
  interface:
    'The template: the interface of the host whose addresses, gateway and routes the guest gets. By default it is the one with the default route, for each IP version by itself. Where there is none, the guest gets 169.254.2.1 with the gateway 169.254.2.2, and link-local addresses of IPv6. An interface that does not exist is an error.',
  outbound:
    'Source address of the sockets that the guest’s flows leave by; once for each IP version. With one that the host does not have, connections are refused.',
  'outbound-if4':
    'Bind the sockets that IPv4 flows leave by to this interface. It is the template, too, if `--interface` names none.',
  'outbound-if6':
    'Bind the sockets that IPv6 flows leave by to this interface. It is the template, too, if `--interface` names none.',
  'host-access':
    'Let the guest reach this address of the host, all ports or this one. Without it (and without `--map-guest-addr`) all addresses of the host’s own are closed to the guest. At most 10 of them. The address must not be the guest’s own, which does not leave the guest.\n\nExample: `--host-access 192.0.2.2/8080`.',
  dns: 'Tell the guest this resolver instead of those of resolv.conf(5); may be repeated, and the first three of each IP version are told. `none`: no resolver.',
  search:
    'Tell the guest these search domains, separated by blanks, instead of those of resolv.conf(5); may be repeated, six in all. `none`: no domain.',
  'dhcp-dns':
    'Tell resolvers by DHCP, DHCPv6 and router advertisements. Off by default, since a namespace shares the host’s resolv.conf(5).',
  'dhcp-search': 'Tell search domains by DHCP, DHCPv6 and router advertisements. Off by default.',
  'no-dhcp-dns': 'Do not tell resolvers by DHCP, DHCPv6 and router advertisements.',
  'no-dhcp-search': 'Do not tell search domains by DHCP, DHCPv6 and router advertisements.',
  hostname: {
    pasta:
      'Host name that DHCP tells, and that of the command that is run; 1 to 64 characters. The command’s is by default `pasta-` with the host’s behind it.',
    passt: 'Host name that DHCP tells; 1 to 64 characters.',
  },
  fqdn: 'Fully qualified domain name that DHCP (option 81) and DHCPv6 (option 39) tell.',
};
