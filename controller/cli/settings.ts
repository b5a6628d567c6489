// SPDX-License-Identifier: Apache-2.0
/** What the command line said, nothing more: option handlers fill a {@link RawSettings}, parse.ts freezes it as {@link Settings}. */
import type { Direction, Protocol } from '../fwd/rule.ts';
import type { Personality } from './options/row.ts';

export interface GivenAddress {
  readonly family: 4 | 6;
  /** Canonical text. */
  readonly address: string;
  /** As given after a slash, or null. */
  readonly prefix: number | null;
}

/** One -t, -u, -T or -U as given; what it means depends on the host (fwd/port-spec.ts). */
export interface GivenForward {
  readonly protocol: Protocol;
  readonly direction: Direction;
  readonly spec: string;
  /** '-t' or '--tcp-ports', for messages. */
  readonly spelling: string;
}

export interface RawSettings {
  readonly personality: Personality;
  level: 'quiet' | 'info' | 'debug' | 'trace' | null;
  foreground: boolean;
  logFile: string | null;
  /** Bytes. */
  logSize: number;
  runas: string | null;
  pcap: string | null;
  pidFile: string | null;

  /** Of the guest's hypervisor: the socket to listen at, null: the helper finds a name; or a connected one. */
  socket: string | null;
  fd: number | null;
  oneOff: boolean;
  vhostUser: boolean;
  /** Options of live migration that ask for something, as written. */
  migration: string[];

  /** 0: not told to the guest. */
  mtu: number;
  addresses: GivenAddress[];
  /** Prefix length of -n, or null. */
  netmask: number | null;
  mac: string | null;
  gateway4: string | null;
  gateway6: string | null;
  interface: string | null;
  outbound4: string | null;
  outbound6: string | null;
  outboundInterface4: string | null;
  outboundInterface6: string | null;
  /** Addresses of the host that the guest may reach; port 0: every port. */
  hostAccess: { readonly address: string; readonly port: number }[];
  /** 'host': from resolv.conf. */
  dns: 'host' | 'none' | string[];
  search: 'host' | 'none' | string[];
  hostname: string | null;
  fqdn: string | null;
  tellDns: boolean;
  tellSearch: boolean;
  tcp: boolean;
  udp: boolean;
  icmp: boolean;
  dhcp: boolean;
  dhcpv6: boolean;
  ndp: boolean;
  ra: boolean;
  family: 'both' | 4 | 6;
  multicast: boolean;

  /** In the order given. */
  forwards: GivenForward[];
  freebind: boolean;
  loopbackToLoopback: boolean;
  splice: boolean;
  spliceOnly: boolean;
  /** The gateway stands for the host's loopback unless the next two say what does. */
  mapGateway: boolean;
  hostLoopback4: string | null;
  hostLoopback6: string | null;
  guestAddr4: string | null;
  guestAddr6: string | null;
  dnsForward4: string | null;
  dnsForward6: string | null;
  dnsHost4: string | null;
  dnsHost6: string | null;
  conf: string | null;
  control: string | null;

  nsIfname: string | null;
  userns: string | null;
  netns: string | null;
  netnsDir: string | null;
  netnsOnly: boolean;
  netnsQuit: boolean;
  configNet: boolean;
  copyRoutes: boolean;
  copyAddresses: boolean;
  nsMac: string | null;

  /** Sentences to log at warning level once there is a log. */
  warnings: string[];
}

/** The frozen form, with what follows the options: nothing (shell), [PID], or COMMAND and its arguments. */
export type Settings = {
  readonly [K in keyof RawSettings]: RawSettings[K] extends (infer T)[] ? readonly T[] : RawSettings[K];
} & {
  readonly operands: readonly string[];
};

export const LOG_SIZE_DEFAULT = 1024 * 1024;
/** The largest multiple of 16 below the 65521 a tap can have; what callers of the original see. */
export const MTU_DEFAULT = 65_520;

/** A virtual machine is told everything, because nobody can configure it from outside. */
export const defaultSettings = (personality: Personality): RawSettings => ({
  personality,
  level: null,
  foreground: false,
  logFile: null,
  logSize: LOG_SIZE_DEFAULT,
  runas: null,
  pcap: null,
  pidFile: null,
  socket: null,
  fd: null,
  oneOff: false,
  vhostUser: false,
  migration: [],
  mtu: MTU_DEFAULT,
  addresses: [],
  netmask: null,
  mac: null,
  gateway4: null,
  gateway6: null,
  interface: null,
  outbound4: null,
  outbound6: null,
  outboundInterface4: null,
  outboundInterface6: null,
  hostAccess: [],
  dns: 'host',
  search: 'host',
  hostname: null,
  fqdn: null,
  tellDns: personality === 'passt',
  tellSearch: personality === 'passt',
  tcp: true,
  udp: true,
  icmp: true,
  dhcp: true,
  dhcpv6: true,
  ndp: true,
  ra: true,
  family: 'both',
  multicast: false,
  forwards: [],
  freebind: false,
  loopbackToLoopback: false,
  splice: true,
  spliceOnly: false,
  mapGateway: true,
  hostLoopback4: null,
  hostLoopback6: null,
  guestAddr4: null,
  guestAddr6: null,
  dnsForward4: null,
  dnsForward6: null,
  dnsHost4: null,
  dnsHost6: null,
  conf: null,
  control: null,
  nsIfname: null,
  userns: null,
  netns: null,
  netnsDir: null,
  netnsOnly: false,
  netnsQuit: true,
  configNet: false,
  copyRoutes: true,
  copyAddresses: true,
  nsMac: null,
  warnings: [],
});
