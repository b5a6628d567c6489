// SPDX-License-Identifier: Apache-2.0
/** `pastiche capabilities [--json]`: what this build can do, for programs that must know before they rely on it. */
import * as z from 'zod/mini';
import { COMPATIBLE_SLIRP4NETNS } from '../../cli/slirp/options.ts';
import { VERSION as PESTO_VERSION } from '../../control/pesto-protocol.ts';
import { ArgumentError, optionLines, readArguments } from '../arguments.ts';
import { VERSIONS as CNI_VERSIONS } from '../cni/versions.ts';
import { PORTS_METHODS } from '../ports.ts';
import { CAPABILITIES_OPTIONS } from './options.ts';
import { PROGRAMS, type Program, program } from './programs.ts';

/** Counts up when a member changes its meaning or goes; new ones do not change it. */
export const CAPABILITIES_VERSION = 1;

const names = () => z.array(z.string());
/** The form of --json. */
export const capabilitiesSchema = () =>
  z.object({
    version: z.literal(CAPABILITIES_VERSION),
    /** Of pastiche. */
    release: z.string(),
    /** By name: `pasta`, `passt`, `slirp4netns`, `pesto`, `qrap`, `pastiche ports` … */
    programs: z.record(
      z.string(),
      z.object({
        /** Long names, without the dashes. */
        options: names(),
        /** Taken, with a warning. */
        deprecated: names(),
        /** Known, and refused with a sentence. */
        unsupported: names(),
      }),
    ),
    features: names(),
    /** What callers of the originals may look for, and will not find. */
    unsupported: names(),
    /** Versions of interfaces. */
    interfaces: z.object({
      /** The version whose command line and socket `slirp4netns` has. */
      slirp4netns: z.string(),
      /** Of the protocol of pesto's socket (-c). */
      pesto: z.int(),
      /** Methods of the JSON-RPC socket (--control). */
      control: names(),
      /** Of the CNI specification, as `pastiche-cni` has them. */
      cni: names(),
    }),
  });
export type Capabilities = z.output<ReturnType<typeof capabilitiesSchema>>;

/** Feature → the option by which it is had, so that none is listed that is not there; null: always. */
export const FEATURES: Readonly<Record<string, readonly [program: string, option: string] | null>> = {
  ipv4: ['pasta', 'ipv4-only'],
  ipv6: ['pasta', 'ipv6-only'],
  tcp: null,
  udp: null,
  ping: ['pasta', 'no-icmp'],
  fragments: null,
  'icmp-errors': null,
  dhcp: ['pasta', 'no-dhcp'],
  dhcpv6: ['pasta', 'no-dhcpv6'],
  'router-advertisements': ['pasta', 'no-ra'],
  multicast: ['pasta', 'multicast'],
  'client-address': null,
  'port-targets': null,
  'port-changes': ['pasta', 'control'],
  pesto: ['pasta', 'conf-path'],
  splice: ['pasta', 'no-splice'],
  'splice-only': ['pasta', 'splice-only'],
  'host-access': ['pasta', 'host-access'],
  'dns-forward': ['pasta', 'dns-forward'],
  'vhost-user': ['passt', 'vhost-user'],
  'slirp4netns-api': ['slirp4netns', 'api-socket'],
  'slirp4netns-bess': ['slirp4netns', 'target-type'],
  tapfd: ['slirp4netns', 'netns-type'],
  'deny-floor': null,
  seccomp: ['pastiche audit', 'json'],
  'sd-notify': null,
};
const UNSUPPORTED = ['migration', 'multiqueue', 'udp-answers-from-other-ports'] as const;

const has = ([name, option]: readonly [string, string]): boolean =>
  program(name).options.some((one) => one.name === option && one.state === 'supported');

const optionsOf = ({ options }: Program): Capabilities['programs'][string] => {
  const named = (state: string): string[] => options.filter((one) => one.state === state).map(({ name }) => name);
  return { options: named('supported'), deprecated: named('deprecated'), unsupported: named('unsupported') };
};

export const capabilitiesOf = (release: string): Capabilities => ({
  version: CAPABILITIES_VERSION,
  release,
  programs: Object.fromEntries(PROGRAMS.map((one) => [one.name, optionsOf(one)])),
  features: Object.keys(FEATURES).filter((name) => {
    const by = FEATURES[name] ?? null;
    return by === null || has(by);
  }),
  unsupported: [...UNSUPPORTED],
  interfaces: {
    slirp4netns: COMPATIBLE_SLIRP4NETNS,
    pesto: PESTO_VERSION,
    control: [...PORTS_METHODS],
    cni: [...CNI_VERSIONS],
  },
});

export const CAPABILITIES_USAGE = 'Usage: pastiche capabilities [OPTION]...';
export const CAPABILITIES_HELP = `${CAPABILITIES_USAGE}

Show what this build can do: its programs with their options, features, versions of interfaces, and what it has not.

${optionLines(CAPABILITIES_OPTIONS)}
What the kernel of this machine lacks is told by pastiche doctor.
`;

const capabilitiesText = (all: Capabilities): string => {
  const lines = Object.entries(all.programs).map(
    ([name, { options, unsupported }]) =>
      `${name}: ${options.length} options${unsupported.length === 0 ? '' : `, not ${unsupported.join(', ')}`}`,
  );
  const { slirp4netns, pesto, control, cni } = all.interfaces;
  return [
    `pastiche ${all.release}`,
    ...lines,
    `features: ${all.features.join(', ')}`,
    `not supported: ${all.unsupported.join(', ')}`,
    `as slirp4netns ${slirp4netns}; pesto protocol ${pesto}; CNI ${cni.join(', ')}; control: ${control.join(', ')}`,
    '',
  ].join('\n');
};

export const capabilities = async (args: readonly string[], version: string): Promise<number> => {
  const { options, operands } = readArguments(args, CAPABILITIES_OPTIONS);
  const asked = (name: string): boolean => options.some((option) => option.name === name);
  if (!asked('help') && !asked('version') && operands.length > 0)
    throw new ArgumentError(`there is no argument ${operands[0]}`);
  const all = capabilitiesOf(version);
  if (asked('help')) process.stdout.write(CAPABILITIES_HELP);
  else if (asked('version')) process.stdout.write(`pastiche ${version}\n`);
  else process.stdout.write(asked('json') ? `${JSON.stringify(all)}\n` : capabilitiesText(all));
  return 0;
};
