// SPDX-License-Identifier: Apache-2.0
/**
 * The OPTIONS table of the slirp4netns personality: a command line of its own, with nothing of pasta's. As for the other table, the
 * helper's part of it (helper/gen/options.h), --help and --version are generated from it; callers search --help for the names of
 * options, and read the first lines of --version.
 */
import type { EarlyId } from '../options/row.ts';

export interface SlirpRow {
  /** One letter, or null. */
  readonly short: string | null;
  /** Name of the argument in --help, or null when the option takes none. */
  readonly argument: string | null;
  /** null: a deprecated name, parsed but not offered. */
  readonly help: string | null;
  readonly early: EarlyId;
}

type Given = Partial<SlirpRow> & Pick<SlirpRow, 'help'>;
const row = (given: Given): SlirpRow => ({ short: null, argument: null, early: 'EARLY_OTHER', ...given });

export const SLIRP_OPTIONS = {
  configure: row({
    short: 'c',
    early: 'EARLY_SLIRP_CONFIGURE',
    help: 'set up lo and the tap: up, address, default route, MTU',
  }),
  'exit-fd': row({
    short: 'e',
    argument: 'FD',
    early: 'EARLY_SLIRP_EXIT_FD',
    help: 'end, status 0, when the other end of this descriptor is closed',
  }),
  'ready-fd': row({
    short: 'r',
    argument: 'FD',
    early: 'EARLY_SLIRP_READY_FD',
    help: 'write "1" to this descriptor when everything works',
  }),
  mtu: row({ short: 'm', argument: 'MTU', early: 'EARLY_SLIRP_MTU', help: 'MTU, 1 to 65521, default 1500' }),
  'enable-ipv6': row({ short: '6', help: 'IPv6 as well: fd00::/64' }),
  'api-socket': row({
    short: 'a',
    argument: 'PATH',
    early: 'EARLY_SLIRP_API_SOCKET',
    help: 'UNIX socket over which ports are forwarded',
  }),
  cidr: row({ argument: 'CIDR', help: 'the IPv4 network, prefix 1 to 25, default 10.0.2.0/24' }),
  'disable-host-loopback': row({ help: "no way to the host's 127.0.0.1 by the network's second address" }),
  'netns-type': row({
    argument: 'TYPE',
    early: 'EARLY_SLIRP_NETNS_TYPE',
    help: 'what the first argument is: pid (default), path or tapfd',
  }),
  'userns-path': row({
    argument: 'PATH',
    early: 'EARLY_SLIRP_USERNS_PATH',
    help: 'user namespace to join, default: that of PID',
  }),
  'enable-sandbox': row({
    early: 'EARLY_SLIRP_SANDBOX',
    help: 'a mount namespace with /etc and /run only, no capability but CAP_NET_BIND_SERVICE',
  }),
  'enable-seccomp': row({
    early: 'EARLY_SLIRP_SECCOMP',
    help: 'accepted; every process has a system-call allowlist in any case',
  }),
  'outbound-addr': row({
    argument: 'ADDR|IF',
    early: 'EARLY_SLIRP_OUTBOUND',
    help: 'IPv4 source address of what leaves the host, or an interface',
  }),
  'outbound-addr6': row({
    argument: 'ADDR|IF',
    early: 'EARLY_SLIRP_OUTBOUND6',
    help: 'IPv6 source address of what leaves the host, or an interface',
  }),
  'disable-dns': row({ help: "no resolver at the network's third address" }),
  macaddress: row({
    argument: 'MAC',
    early: 'EARLY_SLIRP_MACADDRESS',
    help: 'MAC address of the tap, with -c only',
  }),
  'target-type': row({
    argument: 'TYPE',
    early: 'EARLY_SLIRP_TARGET_TYPE',
    help: 'netns (default), or bess: a socket of User Mode Linux at PATH',
  }),
  help: row({ short: 'h', early: 'EARLY_HELP', help: 'show this text and exit' }),
  version: row({ short: 'v', early: 'EARLY_VERSION', help: 'show what it is compatible with and exit' }),
  'no-host-loopback': row({ early: 'EARLY_SLIRP_NO_HOST_LOOPBACK', help: null }),
  'create-sandbox': row({ early: 'EARLY_SLIRP_CREATE_SANDBOX', help: null }),
} as const satisfies Record<string, SlirpRow>;
export type SlirpOptionName = keyof typeof SLIRP_OPTIONS;
export const SLIRP_ROWS: readonly (readonly [string, SlirpRow])[] = Object.entries<SlirpRow>(SLIRP_OPTIONS);

/** The version whose options, defaults and replies these are: callers ask before they use one. */
export const COMPATIBLE_SLIRP4NETNS = '1.3.2';
/** What its last library brings; that of --outbound-addr and --disable-dns is 2 and 3. */
const LIBRARY = '4.7.0';
const CONFIG_VERSION = 4;

/** The options of the text are this wide at most. */
const HELP_COLUMN = 32;

const helpLine = (name: string, { short, argument, help }: SlirpRow): string => {
  const option = `  ${short === null ? '    ' : `-${short}, `}--${name}${argument === null ? '' : `=${argument}`}`;
  return `${option.padEnd(HELP_COLUMN)}${help}`;
};

/** The text of --help, and what an argument that is wrong is answered with. */
export const slirpHelpText = (): string =>
  [
    'Usage: slirp4netns [OPTION]... PID|PATH|FD [TAPNAME]',
    'Give a network namespace user-mode networking.',
    '',
    ...SLIRP_ROWS.filter(([, { help }]) => help !== null).map(([name, row]) => helpLine(name, row)),
    '',
  ].join('\n');

/**
 * The text of --version: callers parse lines one and two, and the number of the fourth. "version" in lower case is in the first
 * line only, because the last line that has it is the one that some read.
 */
export const slirpVersionText = (version: string): string =>
  [
    `slirp4netns version ${COMPATIBLE_SLIRP4NETNS}`,
    `commit: pastiche-${version}`,
    `libslirp: ${LIBRARY}`,
    `SLIRP_CONFIG_VERSION_MAX: ${CONFIG_VERSION}`,
    'libseccomp: none',
    `This is pastiche ${version}, compatible with the above; it has no code of it.`,
    'Licensed under the Apache License 2.0. There is NO WARRANTY, to the extent permitted by law.',
    '',
  ].join('\n');
