// SPDX-License-Identifier: Apache-2.0
/** The whole table, in the order of docs/RFC-COVERAGE.md. */
import type { Row } from '../row.ts';
import { ARP_ROWS } from './arp.ts';
import { DHCP_ROWS } from './dhcp.ts';
import { DHCPV6_ROWS } from './dhcpv6.ts';
import { FRAGMENT_ROWS } from './fragments.ts';
import { ICMP_ROWS } from './icmp.ts';
import { IPV4_ROWS } from './ipv4.ts';
import { IPV6_ROWS } from './ipv6.ts';
import { KILLER_ROWS } from './killers.ts';
import { NDP_ROWS } from './ndp.ts';
import { TCP_ACCEPTANCE_ROWS } from './tcp-acceptance.ts';
import { TCP_CLOSE_ROWS } from './tcp-close.ts';
import { TCP_CLOSED_ROWS } from './tcp-closed.ts';
import { TCP_DATA_ROWS } from './tcp-data.ts';
import { TCP_OPEN_ROWS } from './tcp-open.ts';
import { TCP_OPTION_ROWS } from './tcp-options.ts';
import { TCP_TIMER_ROWS } from './tcp-timers.ts';
import { TCP_WINDOW_ROWS } from './tcp-window.ts';
import { UDP_ROWS } from './udp.ts';

export const CHAPTERS: readonly (readonly [title: string, rows: readonly Row[]])[] = [
  ['ARP', ARP_ROWS],
  ['IPv4 header', IPV4_ROWS],
  ['IPv6 header and extension headers', IPV6_ROWS],
  ['Fragments', FRAGMENT_ROWS],
  ['ICMP and ICMPv6', ICMP_ROWS],
  ['UDP', UDP_ROWS],
  ['TCP: opening', TCP_OPEN_ROWS],
  ['TCP: options', TCP_OPTION_ROWS],
  ['TCP: no connection', TCP_CLOSED_ROWS],
  ['TCP: data', TCP_DATA_ROWS],
  ['TCP: windows', TCP_WINDOW_ROWS],
  ['TCP: segments that must not hurt', TCP_ACCEPTANCE_ROWS],
  ['TCP: closing', TCP_CLOSE_ROWS],
  ['TCP: timers', TCP_TIMER_ROWS],
  ['Neighbour discovery', NDP_ROWS],
  ['DHCP', DHCP_ROWS],
  ['DHCPv6', DHCPV6_ROWS],
  ['Frames built to kill a parser', KILLER_ROWS],
];
