// SPDX-License-Identifier: Apache-2.0
/** What slirp4netns says on stdout at start; nobody is known to parse it, but it is what people know. */

import { ipv4Mask, ipv4Text } from '../../wire/addr.ts';
import type { Plan } from '../plan-schema.ts';
import { gatewayOf, guestOf, resolverOf } from './plan.ts';
import type { SlirpSettings } from './settings.ts';

export const slirpSummary = (s: SlirpSettings, plan: Plan): readonly string[] => {
  const pool = plan.network.v4?.pool;
  const lines: (string | null)[] = [
    'Starting slirp',
    `* MTU:             ${s.mtu}`,
    `* Network:         ${ipv4Text(s.network)}`,
    `* Netmask:         ${ipv4Text(ipv4Mask(s.prefix))}`,
    `* Gateway:         ${gatewayOf(s)}`,
    s.dns ? `* DNS:             ${resolverOf(s)}` : null,
    pool === undefined ? null : `* DHCP:            ${pool.count} addresses from ${pool.first}`,
    `* Recommended IP:  ${guestOf(s)}`,
    s.api === null ? null : `* API Socket:      ${s.api}`,
    plan.outbound.address4 === '' ? null : `* Outbound IPv4:   ${plan.outbound.address4}`,
    plan.outbound.address6 === '' ? null : `* Outbound IPv6:   ${plan.outbound.address6}`,
    s.mac === null ? null : `* MAC address:     ${s.mac}`,
    s.hostLoopback
      ? `WARNING: 127.0.0.1:* on the host is accessible as ${gatewayOf(s)} (set --disable-host-loopback to prohibit connecting to 127.0.0.1:*)`
      : null,
  ];
  return lines.filter((line) => line !== null);
};
