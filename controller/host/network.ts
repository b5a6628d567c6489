// SPDX-License-Identifier: Apache-2.0
/**
 * The network the guest is shown: resolved once at start from the command line and the host (cli/plan), then frozen.
 * Addresses are canonical text here; protocols turn them into bytes once, in their `configure()`.
 */

export interface InterfaceAddress {
  readonly address: string;
  readonly prefix: number;
}

/** Somebody of ours on the link. */
export interface Neighbour {
  readonly address: string;
  /** xx:xx:xx:xx:xx:xx */
  readonly mac: string;
}

export interface Network4 {
  /** The guest's; the first one is what DHCP assigns. */
  readonly addresses: readonly [InterfaceAddress, ...InterfaceAddress[]];
  /** Default router told to the guest, and our own address on the tap. */
  readonly gateway: string;
  readonly dns: readonly string[];
  /** Inbound flows go to the first address, whatever addresses the guest is heard to use. */
  readonly pinned: boolean;
  /** The only addresses that are answered for by ARP; without it, every one is, with our MAC. */
  readonly neighbours?: readonly Neighbour[] | undefined;
  /** Addresses that DHCP gives, each client its own, for so long; without it, the first of `addresses`, for ever. */
  readonly pool?: { readonly first: string; readonly count: number; readonly leaseS: number } | undefined;
}

export interface Network6 {
  /** The guest's global addresses, the first one is what DHCPv6 assigns and whose /64 the RA announces; may be empty (local mode). */
  readonly addresses: readonly InterfaceAddress[];
  readonly gateway: string;
  /** Our link-local address on the tap: source of RA, NA and DHCPv6. */
  readonly ourLinkLocal: string;
  readonly dns: readonly string[];
  readonly pinned: boolean;
  /** As of Network4, by neighbour discovery. */
  readonly neighbours?: readonly Neighbour[] | undefined;
  /** What router advertisements say, seconds; without it, the prefix of the first address, for ever. */
  readonly advertised?:
    | {
        /** A /64. */
        readonly prefix: string;
        readonly validS: number;
        readonly preferredS: number;
        readonly routerS: number;
      }
    | undefined;
}

export interface Network {
  readonly v4: Network4 | null;
  readonly v6: Network6 | null;
  /** Our MAC on the tap, xx:xx:xx:xx:xx:xx. */
  readonly ourMac: string;
  /** The namespace interface's MAC; known before the first frame. Of a virtual machine's nothing is known: broadcast. */
  readonly guestMac: string;
  /** 0: not told to the guest. */
  readonly mtu: number;
  readonly search: readonly string[];
  readonly hostname: string | null;
  readonly fqdn: string | null;
  /** Whether resolvers and search domains are told by DHCP, DHCPv6 and RA. */
  readonly tellDns: boolean;
  readonly tellSearch: boolean;
  readonly enable: {
    readonly tcp: boolean;
    readonly udp: boolean;
    readonly icmp: boolean;
    readonly dhcp: boolean;
    readonly dhcpv6: boolean;
    readonly ndp: boolean;
    readonly ra: boolean;
  };
}
