// SPDX-License-Identifier: Apache-2.0
/** The CNI plugin: one call, as the environment and standard input say. Its result is one JSON text on standard output; docs/CNI.md. */
import { accessSync, constants, readFileSync } from 'node:fs';
import * as z from 'zod/mini';
import { lazy } from '../../control/rule-schema.ts';
import { attach, detach, detachOthers } from '../attach/attach.ts';
import { checkAttachment, type Expected } from '../attach/check.ts';
import { CODE, PluginError } from '../attach/plugin-error.ts';
import { type AttachmentRecord, type Identity, stateDirectory } from '../attach/state.ts';
import { type Config, type Input, readConfig, readInput } from './config.ts';
import { type Parameters, readParameters } from './environment.ts';
import { extend, type Result, readResult, writeResult } from './result.ts';
import { atLeast, NEWEST, VERSIONS, type Version } from './versions.ts';
import { portsOf, wantedBy } from './wanted.ts';

const about = (version: string): string =>
  `pastiche-cni ${version}: a plugin for container runtimes (CNI ${VERSIONS.join(', ')}), which start it themselves.\nUser-mode networking for a container, without bridge or firewall rules; see docs/CNI.md.\n`;

const print = (answer: unknown): void => {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
};
const keptSchema = lazy(() =>
  z.object({
    addresses: z.array(z.string()),
    routes: z.array(z.object({ dst: z.string(), gw: z.string() })),
  }),
);
type Kept = z.output<ReturnType<typeof keptSchema>>;

const identityOf = (network: string, { containerID, ifname }: Parameters): Identity => ({
  network,
  containerID,
  ifname,
});

const add = (config: Config, parameters: Parameters, version: Version): void => {
  const before = config.prevResult === undefined ? null : readResult(config.prevResult, version);
  const { wanted, result } = wantedBy(config, parameters);
  const kept: Kept = {
    addresses: result.ips.map(({ address }) => address),
    routes: result.routes.map(({ dst, gw = '' }) => ({ dst, gw })),
  };
  const warnings = attach(identityOf(config.name, parameters), wanted, kept);
  if (warnings !== '') process.stderr.write(warnings);
  print(writeResult(before === null ? result : extend(before, result), version));
};

/** What the chain of plugins has made of it in the end, as far as it is ours. */
const expected = (record: AttachmentRecord, parameters: Parameters, config: Config, result: Result): Expected => {
  const { netns, ifname } = parameters;
  const at = result.interfaces.findIndex(({ name, sandbox }) => name === ifname && sandbox === netns);
  const mac = result.interfaces[at]?.mac;
  if (mac === undefined)
    throw new PluginError(CODE.INVALID_CONFIG, `prevResult has no interface ${ifname} in ${netns}`);
  const { addresses, routes } = keptSchema().parse(record.kept);
  const told = new Set(result.ips.map(({ address }) => address));
  const lost = addresses.find((address) => !told.has(address));
  if (lost !== undefined) throw new PluginError(CODE.INVALID_CONFIG, `prevResult does not have the address ${lost}`);
  const isTold = (dst: string, gw: string): boolean =>
    result.routes.some((route) => route.dst === dst && route.gw === gw);
  return { netns, mac, addresses, routes: routes.filter(({ dst, gw }) => isTold(dst, gw)), ports: portsOf(config) };
};

const check = async (config: Config, parameters: Parameters, version: Version): Promise<void> => {
  if (config.prevResult === undefined)
    throw new PluginError(CODE.INVALID_CONFIG, 'prevResult is missing: CHECK needs it');
  const result = readResult(config.prevResult, version);
  await checkAttachment(identityOf(config.name, parameters), (record) => expected(record, parameters, config, result));
};

const collect = (config: Config): void => {
  const valid = config['cni.dev/valid-attachments'];
  if (valid === undefined)
    throw new PluginError(CODE.INVALID_CONFIG, 'cni.dev/valid-attachments is missing: GC needs it');
  detachOthers(config.name, valid ?? []);
};

/** '' for a file that this kernel does not have. */
const textOf = (path: string): string => {
  try {
    return readFileSync(path, 'ascii');
  } catch {
    return '';
  }
};
/** A route to anywhere, by the first field of the kernel's own tables that says so. */
const hasDefaultRoute = (): boolean => {
  const rows = (path: string): string[][] =>
    textOf(path)
      .split('\n')
      .map((line) => line.trim().split(/\s+/));
  return (
    rows('/proc/self/net/route').some(([, dst, , , , , , mask]) => dst === '00000000' && mask === '00000000') ||
    rows('/proc/self/net/ipv6_route').some((row) => /^0+$/.test(row[0] ?? '') && row[1] === '00' && row.at(-1) !== 'lo')
  );
};
const status = (): void => {
  const unavailable = (why: string, details = ''): PluginError => new PluginError(CODE.NOT_AVAILABLE, why, details);
  try {
    stateDirectory();
  } catch (error) {
    throw unavailable((error as Error).message);
  }
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch (error) {
    throw unavailable('/dev/net/tun cannot be opened: is the module tun loaded?', (error as Error).message);
  }
  if (textOf('/proc/sys/user/max_user_namespaces').trim() === '0')
    throw unavailable('User namespaces are disabled (user.max_user_namespaces)');
  if (!hasDefaultRoute())
    throw new PluginError(
      CODE.LIMITED,
      'The host has no default route: containers reach nothing beyond its own networks',
    );
};

/** The first version that has the command. */
const SINCE = { ADD: '0.1.0', DEL: '0.1.0', CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' } as const;

const run = async (parameters: Parameters, { version, given }: Input): Promise<void> => {
  const { command } = parameters;
  if (command === 'VERSION') return print({ cniVersion: version, supportedVersions: VERSIONS });
  if (!atLeast(version, SINCE[command]))
    throw new PluginError(
      CODE.INCOMPATIBLE_VERSION,
      `cniVersion ${version} has no ${command}`,
      `it came with ${SINCE[command]}`,
    );
  if (command === 'DEL') return detach(identityOf(nameOf(given), parameters));
  const config = readConfig(given);
  switch (command) {
    case 'ADD':
      return add(config, parameters, version);
    case 'CHECK':
      return check(config, parameters, version);
    case 'GC':
      return collect(config);
    case 'STATUS':
      return status();
  }
};

/** A configuration that was changed since ADD, and is wrong now, must not keep a container from being taken down. */
const nameOf = (given: Readonly<Record<string, unknown>>): string => {
  const { name } = given;
  if (typeof name === 'string' && name !== '') return name;
  throw new PluginError(CODE.INVALID_CONFIG, 'The network configuration has no name');
};

const readStdin = (): string => {
  try {
    return readFileSync(0, 'utf8');
  } catch (error) {
    throw new PluginError(CODE.IO, "Can't read the network configuration", (error as Error).message);
  }
};

export const cni = async (args: readonly string[], ours: string): Promise<number> => {
  let version: Version = NEWEST;
  try {
    const parameters = args.length > 0 ? null : readParameters(process.env);
    if (parameters === null) {
      process.stderr.write(about(ours));
      return 0;
    }
    const stdin = readStdin();
    const input = readInput(
      parameters.command === 'VERSION' && stdin.trim() === '' ? `{"cniVersion":"${NEWEST}"}` : stdin,
    );
    version = input.version;
    await run(parameters, input);
    return 0;
  } catch (error) {
    const known = error instanceof PluginError ? error : null;
    print({
      cniVersion: version,
      code: known?.code ?? CODE.INTERNAL,
      msg: (error as Error).message,
      details: known?.details ?? (error as Error).stack ?? '',
    });
    return 1;
  }
};
