// SPDX-License-Identifier: Apache-2.0
/** What an attachment is to be, as the command line of its instance. */
import { randomBytes } from 'node:crypto';

export interface Address {
  readonly family: 4 | 6;
  readonly address: string;
  readonly prefix: number;
  readonly gateway: string;
}
export interface PortMapping {
  readonly protocol: 'tcp' | 'udp';
  /** '' for every address. */
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly containerPort: number;
  /** How many ports in a row. */
  readonly count: number;
}
export interface Wanted {
  readonly netns: string;
  readonly ifname: string;
  readonly mac: string;
  readonly mtu: number;
  /** The first of each IP version has the gateway that counts. */
  readonly addresses: readonly Address[];
  readonly ports: readonly PortMapping[];
  /** Stands for the resolver of the host, or null. */
  readonly resolver: string | null;
  /** Stands for the loopback of the host; empty: nothing does. */
  readonly hostLoopback: readonly string[];
  /** Stand for the host itself. */
  readonly hostAddresses: readonly string[];
  readonly outboundInterface: string | null;
  /** Told by DHCP, DHCPv6 and router advertisements, to programs that ask. */
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
}

/** A unicast address of the locally administered kind: IEEE 802, section 8.4. */
export const randomMac = (): string => {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] as number) & 0xfc) | 2;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
};

const portSpec = ({ hostAddress, hostPort, containerPort, count }: PortMapping): string => {
  const range = (first: number): string => (count === 1 ? String(first) : `${first}-${first + count - 1}`);
  return `${hostAddress === '' ? '' : `${hostAddress}/`}${range(hostPort)}:${range(containerPort)}`;
};
const ports = (option: string, protocol: 'tcp' | 'udp', all: readonly PortMapping[]): string[] => {
  const mine = all.filter((mapping) => mapping.protocol === protocol);
  return mine.length === 0 ? [option, 'none'] : mine.flatMap((mapping) => [option, portSpec(mapping)]);
};
const each = (option: string, values: readonly string[]): string[] => values.flatMap((value) => [option, value]);

export const argumentsOf = (wanted: Wanted): readonly string[] => {
  const families = new Set(wanted.addresses.map(({ family }) => family));
  const gateways = [...families].map((family) => wanted.addresses.find((one) => one.family === family)?.gateway ?? '');
  return [
    '--quiet',
    // A namespace that root has made is root's to enter.
    ...(process.geteuid?.() === 0 ? ['--runas', '0'] : []),
    ...['--netns', wanted.netns, '--config-net', '--ns-ifname', wanted.ifname, '--ns-mac-addr', wanted.mac],
    ...['--mtu', String(wanted.mtu)],
    ...(families.size === 2 ? [] : [families.has(4) ? '--ipv4-only' : '--ipv6-only']),
    ...wanted.addresses.flatMap(({ address, prefix }) => ['--address', `${address}/${prefix}`]),
    ...each('--gateway', gateways),
    ...(wanted.outboundInterface === null
      ? []
      : [
          ...['--interface', wanted.outboundInterface],
          ...[...families].flatMap((family) => [`--outbound-if${family}`, wanted.outboundInterface as string]),
        ]),
    ...(wanted.resolver === null ? [] : ['--dns-forward', wanted.resolver]),
    ...(wanted.hostLoopback.length === 0 ? ['--no-map-gw'] : each('--map-host-loopback', wanted.hostLoopback)),
    ...each('--map-guest-addr', wanted.hostAddresses),
    ...(wanted.nameservers.length === 0 ? [] : [...each('--dns', wanted.nameservers), '--dhcp-dns']),
    ...(wanted.search.length === 0 ? [] : [...each('--search', wanted.search), '--dhcp-search']),
    ...ports('--tcp-ports', 'tcp', wanted.ports),
    ...ports('--udp-ports', 'udp', wanted.ports),
    ...['--tcp-ns', 'none', '--udp-ns', 'none', '--control', 'control'],
  ];
};
