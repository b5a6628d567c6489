// SPDX-License-Identifier: Apache-2.0
/** A Network for unit tests, with documentation addresses (RFC 5737, RFC 3849), and changes to it. */
import type { Network } from '../../controller/host/network.ts';

export const OUR_MAC = '02:00:5e:00:53:01';
export const GUEST_MAC = '02:00:5e:00:53:02';

export const makeNetwork = (change: Partial<Network> = {}): Network => ({
  v4: {
    addresses: [{ address: '192.0.2.10', prefix: 24 }],
    gateway: '192.0.2.1',
    dns: ['198.51.100.53'],
    pinned: false,
  },
  v6: {
    addresses: [{ address: '2001:db8:1:2:a::10', prefix: 64 }],
    gateway: 'fe80::1',
    ourLinkLocal: 'fe80::1',
    dns: ['2001:db8:53::1', '2001:db8:53::2'],
    pinned: false,
  },
  ourMac: OUR_MAC,
  guestMac: GUEST_MAC,
  mtu: 65_520,
  search: ['example.org', 'lab.example.org'],
  hostname: null,
  fqdn: null,
  tellDns: true,
  tellSearch: true,
  enable: { tcp: true, udp: true, icmp: true, dhcp: true, dhcpv6: true, ndp: true, ra: true },
  ...change,
});
