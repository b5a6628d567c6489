// SPDX-License-Identifier: Apache-2.0
/** The netavark plugin: `info`, `create`, `setup NETNS`, `teardown NETNS`, JSON on standard input and output. It is the CNI plugin in other words; docs/CNI.md. */
import { readFileSync } from 'node:fs';
import type * as z from 'zod/mini';
import { attach, detach } from '../attach/attach.ts';
import type { PortMapping } from '../attach/instance.ts';
import { DEFAULT_SUBNET, gatewayOf, parseSubnet } from '../attach/layout.ts';
import { checkNamespace } from '../attach/namespace.ts';
import { CODE, PluginError } from '../attach/plugin-error.ts';
import { parse } from '../attach/schema-error.ts';
import { type Config, readConfig } from '../cni/config.ts';
import { NEWEST } from '../cni/versions.ts';
import { readHostAddress, readProtocol, wantedBy } from '../cni/wanted.ts';
import { type Network, networkSchema, type Setup, setupSchema } from './schema.ts';

const API_VERSION = '1.0.0';
const invalid = (message: string): PluginError => new PluginError(CODE.INVALID_CONFIG, message);

/** Options of `podman network create --opt`: keys of a CNI configuration, as text. What cannot be read stays text, which readConfig() refuses. */
const OPTIONS: Readonly<Record<string, (text: string) => unknown>> = {
  mtu: (text) => (/^[0-9]+$/.test(text) ? Number(text) : text),
  hostLoopback: (text) => boolean(text),
  dnsForward: (text) => boolean(text),
  hostAddress: (text) => text.split(','),
  outboundInterface: (text) => text,
};
const boolean = (text: string): boolean | string => (text === 'true' || text === 'false' ? text === 'true' : text);

/** What of a network's description is ours to decide. Throws {@link PluginError}. */
const configOf = ({ name, internal, options, subnets, network_dns_servers }: Network, type: string): Config => {
  if (internal) throw invalid('An internal network is not supported: there is nothing but the way out');
  const own = Object.entries(options ?? {}).map(([key, text]) => {
    const read = Object.hasOwn(OPTIONS, key) ? OPTIONS[key] : undefined;
    if (read === undefined) throw invalid(`option ${key} is not supported; ${Object.keys(OPTIONS).join(', ')} are`);
    return [key, read(text)] as const;
  });
  const of = (family: 4 | 6): string | undefined =>
    subnets?.find(({ subnet }) => subnet.includes(':') === (family === 6))?.subnet;
  if ((subnets?.length ?? 0) > 2 || ((subnets?.length ?? 0) === 2 && (of(4) === undefined || of(6) === undefined)))
    throw invalid('One subnet of each IP version is supported');
  return readConfig({
    ...Object.fromEntries(own),
    ...{ cniVersion: NEWEST, name, type, ipv4: of(4) !== undefined, ipv6: of(6) !== undefined },
    ...{ subnet: of(4), subnet6: of(6) },
    ...(network_dns_servers ? { dns: { nameservers: network_dns_servers } } : {}),
  });
};

/** The same network, with what the user left open. Throws {@link PluginError}. */
const create = (network: Network): Network => {
  const families = network.ipv6_enabled ? ([4, 6] as const) : ([4] as const);
  const given = network.subnets ?? [];
  const subnets = (
    given.length > 0 ? given : families.map((family) => ({ subnet: DEFAULT_SUBNET[family], gateway: null }))
  ).map((one) => {
    const subnet = parseSubnet(one.subnet, one.subnet.includes(':') ? 6 : 4);
    if (typeof subnet === 'string') throw invalid(`subnet: ${subnet}`);
    const gateway = gatewayOf(subnet);
    if (one.gateway && one.gateway !== gateway)
      throw invalid(`The gateway of ${one.subnet} is ${gateway}, not ${one.gateway}`);
    return { ...one, gateway };
  });
  const completed = { ...network, subnets };
  wantedBy(configOf(completed, network.driver), {
    command: 'ADD',
    containerID: '',
    netns: '',
    ifname: '',
    args: new Map(),
  });
  // Every container has the same addresses, unless it asks for others.
  return { ...completed, dns_enabled: false, ipam_options: { driver: 'none', ...network.ipam_options } };
};

const portsOf = (mappings: Setup['port_mappings']): readonly PortMapping[] =>
  (mappings ?? []).flatMap(({ container_port, host_port, host_ip, protocol, range }) =>
    protocol.split(',').map((one) => ({
      protocol: readProtocol(one),
      hostAddress: readHostAddress(host_ip),
      hostPort: host_port,
      containerPort: container_port,
      count: Math.max(range, 1),
    })),
  );

const identityOf = ({ network, container_id, network_options }: Setup) => ({
  network: network.name,
  containerID: container_id,
  ifname: network_options.interface_name,
});

const setup = (given: Setup, netns: string): unknown => {
  checkNamespace(netns);
  const { network, network_options: options, port_mappings } = given;
  const config = configOf(network, network.driver);
  const asked = { ips: options.static_ips ?? null, ...(options.static_mac ? { mac: options.static_mac } : {}) };
  const { wanted, result } = wantedBy(
    { ...config, runtimeConfig: asked },
    { command: 'ADD', containerID: given.container_id, netns, ifname: options.interface_name, args: new Map() },
    portsOf(port_mappings),
  );
  const warnings = attach(identityOf(given), wanted, null);
  if (warnings !== '') process.stderr.write(warnings);
  return {
    dns_search_domains: [],
    dns_server_ips: result.dns.nameservers ?? [],
    interfaces: {
      [options.interface_name]: {
        mac_address: wanted.mac,
        subnets: result.ips.map(({ address, gateway }) => ({ gateway, ipnet: address })),
      },
    },
  };
};

const read = <T extends z.ZodMiniType>(schema: T): z.output<T> => {
  let given: unknown;
  try {
    given = JSON.parse(readFileSync(0, 'utf8'));
  } catch (error) {
    throw new PluginError(CODE.UNDECODABLE, 'Standard input is not JSON', (error as Error).message);
  }
  const parsed = parse(schema, given);
  if ('data' in parsed) return parsed.data;
  throw invalid(parsed.refusal.sentence);
};

const run = (args: readonly string[], version: string): unknown => {
  const [command = 'info', netns] = args;
  switch (command) {
    case 'info':
      return { version, api_version: API_VERSION };
    case 'create':
      return create(read(networkSchema()));
    case 'setup':
      if (netns === undefined) throw invalid('setup needs the path of a network namespace');
      return setup(read(setupSchema()), netns);
    case 'teardown':
      detach(identityOf(read(setupSchema())));
      return undefined;
    default:
      throw invalid(`There is no command ${command}; info, create, setup and teardown are`);
  }
};

export const netavark = async (args: readonly string[], version: string): Promise<number> => {
  try {
    const answer = run(args, version);
    if (answer !== undefined) process.stdout.write(`${JSON.stringify(answer)}\n`);
    return 0;
  } catch (error) {
    const details = error instanceof PluginError && error.details !== '' ? ` (${error.details})` : '';
    process.stdout.write(`${JSON.stringify({ error: `${(error as Error).message}${details}` })}\n`);
    return 1;
  }
};
