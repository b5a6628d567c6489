// SPDX-License-Identifier: Apache-2.0
/** From a configuration to what the container gets, and what the runtime is told of it. */
import { existsSync } from 'node:fs';
import { parseAddress } from '../../host/address.ts';
import { type Address, type PortMapping, randomMac, type Wanted } from '../attach/instance.ts';
import {
  containerOf,
  DEFAULT_SUBNET,
  gatewayOf,
  isIn,
  parseCidr,
  parseSubnet,
  resolverOf,
  type Subnet,
} from '../attach/layout.ts';
import { CODE, PluginError } from '../attach/plugin-error.ts';
import type { Config } from './config.ts';
import type { Parameters } from './environment.ts';
import type { Dns, Result } from './result.ts';

const invalid = (message: string): PluginError => new PluginError(CODE.INVALID_CONFIG, message);
const PROTOCOLS = ['tcp', 'udp'] as const;

const subnetsOf = (config: Config): readonly Subnet[] =>
  ([4, 6] as const).flatMap((family) => {
    if (!(family === 4 ? config.ipv4 : (config.ipv6 ?? existsSync('/proc/self/net/if_inet6')))) return [];
    const subnet = parseSubnet(config[family === 4 ? 'subnet' : 'subnet6'] ?? DEFAULT_SUBNET[family], family);
    if (typeof subnet === 'string') throw invalid(`${family === 4 ? 'subnet' : 'subnet6'}: ${subnet}`);
    return [subnet];
  });

/** The addresses that were asked for, and of an IP version for which none was the usual one. */
export const addressesIn = (subnets: readonly Subnet[], asked: readonly string[]): readonly Address[] => {
  const given = asked.map((text): Address => {
    const parsed = parseCidr(text);
    if (parsed === null) throw invalid(`ips: ${text} is not an address`);
    const subnet = subnets.find((one) => one.family === parsed.family && isIn(parsed.address, one));
    if (subnet === undefined)
      throw invalid(
        `ips: ${text} is not in ${subnets.map(({ network, prefix }) => `${network}/${prefix}`).join(' or ')}`,
      );
    if (parsed.address === gatewayOf(subnet) || parsed.address === resolverOf(subnet))
      throw invalid(`ips: ${text} is that of the gateway or the resolver`);
    const { family, address } = parsed;
    return { family, address, prefix: parsed.prefix ?? subnet.prefix, gateway: gatewayOf(subnet) };
  });
  return subnets.flatMap((subnet): Address[] => {
    const mine = given.filter(({ family }) => family === subnet.family);
    const { family, prefix } = subnet;
    return mine.length > 0 ? mine : [{ family, address: containerOf(subnet), prefix, gateway: gatewayOf(subnet) }];
  });
};

/** Lower case, with colons. Throws {@link PluginError}. */
export const readMac = (text: string): string => {
  const mac = text.toLowerCase().replaceAll('-', ':');
  if (
    !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac) ||
    (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1 ||
    mac === '00:00:00:00:00:00'
  )
    throw invalid(`mac: ${text} is not the address of an interface`);
  return mac;
};

/** Throws {@link PluginError}. */
export const readProtocol = (text: string): 'tcp' | 'udp' => {
  const protocol = PROTOCOLS.find((one) => one === (text.toLowerCase() || 'tcp'));
  if (protocol === undefined)
    throw new PluginError(
      CODE.UNSUPPORTED_FIELD,
      `A port mapping's protocol ${JSON.stringify(text)} is not supported: tcp and udp are`,
    );
  return protocol;
};
/** '' and a canonical address. Throws {@link PluginError}. */
export const readHostAddress = (text: string): string => {
  const parsed = text === '' ? { address: '' } : parseAddress(text);
  if (parsed === null) throw invalid(`hostIP: ${text} is not an address`);
  return parsed.address;
};
/** Of mappings that have the same, those of one range stand together. */
const order = (a: PortMapping, b: PortMapping): number =>
  Number(a.protocol > b.protocol) - Number(a.protocol < b.protocol) ||
  Number(a.hostAddress > b.hostAddress) - Number(a.hostAddress < b.hostAddress) ||
  a.hostPort - b.hostPort;
/** Runtimes have a mapping for each port of a range; an instance has a rule for the range, and not room for so many rules. */
const merged = (mappings: readonly PortMapping[]): readonly PortMapping[] => {
  const all: PortMapping[] = [];
  for (const one of mappings.toSorted(order)) {
    const before = all.at(-1);
    if (
      before?.protocol === one.protocol &&
      before.hostAddress === one.hostAddress &&
      before.hostPort + before.count === one.hostPort &&
      before.containerPort + before.count === one.containerPort
    )
      all[all.length - 1] = { ...before, count: before.count + one.count };
    else all.push(one);
  }
  return all;
};
export const portsOf = (config: Config): readonly PortMapping[] =>
  merged(
    (config.runtimeConfig.portMappings ?? []).map(({ hostPort, containerPort, protocol, hostIP }) => ({
      protocol: readProtocol(protocol),
      hostAddress: readHostAddress(hostIP),
      hostPort,
      containerPort,
      count: 1,
    })),
  );

const dnsOf = (config: Config, resolver: string | null): Dns => {
  const asked = config.runtimeConfig.dns ?? {};
  const { domain } = config.dns;
  const nameservers = asked.servers ?? config.dns.nameservers ?? (resolver === null ? [] : [resolver]);
  const search = asked.searches ?? config.dns.search ?? [];
  const options = asked.options ?? config.dns.options ?? [];
  return {
    ...(nameservers.length === 0 ? {} : { nameservers }),
    ...(domain === undefined ? {} : { domain }),
    ...(search.length === 0 ? {} : { search }),
    ...(options.length === 0 ? {} : { options }),
  };
};

const canonical = (what: string, text: string): string => {
  const parsed = parseAddress(text);
  if (parsed === null) throw invalid(`${what}: ${text} is not an address`);
  return parsed.address;
};

/** Throws {@link PluginError}. */
export const wantedBy = (
  config: Config,
  { netns, ifname, args }: Parameters,
  ports = portsOf(config),
): { readonly wanted: Wanted; readonly result: Result } => {
  const subnets = subnetsOf(config);
  const [first] = subnets;
  if (first === undefined) throw invalid('ipv4 and ipv6 are both false: nothing is left');
  const ip = args.get('IP');
  const asked = config.runtimeConfig.ips ?? config.args.cni.ips ?? (ip === undefined ? [] : [ip]);
  const addresses = addressesIn(subnets, asked);
  const mac = config.runtimeConfig.mac ?? config.args.cni.mac ?? args.get('MAC');
  const resolver = config.dnsForward ? resolverOf(first) : null;
  const dns = dnsOf(config, resolver);
  const hostAddresses = config.hostAddress === undefined ? [] : [config.hostAddress].flat();
  const wanted: Wanted = {
    netns,
    ifname,
    mac: mac === undefined || mac === '' ? randomMac() : readMac(mac),
    mtu: config.mtu,
    addresses,
    ports,
    resolver,
    hostLoopback: config.hostLoopback ? subnets.map(gatewayOf) : [],
    hostAddresses: hostAddresses.map((text) => canonical('hostAddress', text)),
    outboundInterface: config.outboundInterface ?? null,
    nameservers: (dns.nameservers ?? []).map((text) => canonical('dns', text)),
    search: dns.search ?? [],
  };
  return { wanted, result: resultOf(wanted, dns) };
};

const ANYWHERE = { 4: '0.0.0.0/0', 6: '::/0' } as const;

const resultOf = ({ ifname, mac, mtu, netns, addresses }: Wanted, dns: Dns): Result => ({
  interfaces: [{ name: ifname, mac, mtu, sandbox: netns }],
  ips: addresses.map(({ address, prefix, gateway }) => ({ interface: 0, address: `${address}/${prefix}`, gateway })),
  routes: ([4, 6] as const).flatMap((family) => {
    const gw = addresses.find((one) => one.family === family)?.gateway;
    return gw === undefined ? [] : [{ dst: ANYWHERE[family], gw }];
  }),
  dns,
});
