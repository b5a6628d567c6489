// SPDX-License-Identifier: Apache-2.0
/** What the host looks like at start: rows of three rtnetlink dumps and of resolv.conf, immutable, addresses as canonical text. */
import type { Family } from './address.ts';
import type { PortRange } from './port-range.ts';

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mtu: number;
  /** xx:xx:xx:xx:xx:xx, or null for links without an Ethernet address. */
  readonly mac: string | null;
  readonly up: boolean;
  readonly loopback: boolean;
  /** RFC 2863 operational state by name: 'up', 'down', 'unknown', … */
  readonly operstate: string;
}

/** rtnetlink(7) scope of an address or route. */
export type Scope = 'universe' | 'site' | 'link' | 'host' | 'nowhere';

export interface HostAddress {
  readonly family: Family;
  readonly index: number;
  readonly address: string;
  readonly prefix: number;
  readonly scope: Scope;
  readonly deprecated: boolean;
  readonly tentative: boolean;
}

export interface NextHop {
  readonly index: number;
  /** null: on link. Of the other family for RFC 5549 routes. */
  readonly gateway: string | null;
  /** Kernel's rtnh_hops + 1. */
  readonly weight: number;
  /** RTNH_F_DEAD or RTNH_F_LINKDOWN. */
  readonly dead: boolean;
}

/** A unicast route of the main table. */
export interface HostRoute {
  readonly family: Family;
  /** '0.0.0.0' or '::' with prefix 0: default. */
  readonly destination: string;
  readonly prefix: number;
  readonly scope: Scope;
  /** Lower wins; 0 when the kernel names none. */
  readonly metric: number;
  readonly preferredSource: string | null;
  /** At least one; more: multipath. */
  readonly hops: readonly [NextHop, ...NextHop[]];
}

export interface Resolvers {
  /** In the file's order, without zone. */
  readonly servers: readonly string[];
  readonly search: readonly string[];
}

export interface HostFacts {
  readonly links: readonly Link[];
  readonly addresses: readonly HostAddress[];
  readonly routes: readonly HostRoute[];
  readonly resolvers: Resolvers;
  /** False when the kernel has no IPv6 at all. */
  readonly ipv6: boolean;
  /** Ports that the kernel chooses from (ip_local_port_range), or null where it does not say. */
  readonly ephemeral: PortRange | null;
}
