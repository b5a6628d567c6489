// SPDX-License-Identifier: Apache-2.0
/** What a row of the OPTIONS table says about one option. */
import { UsageError } from '../errors.ts';
import type { RawSettings } from '../settings.ts';

/** Options that the native helper acts upon before the controller runs; same order as `enum early_id` in helper/gen/options.h. */
export const EARLY_IDS = [
  'EARLY_OTHER',
  'EARLY_HELP',
  'EARLY_VERSION',
  'EARLY_FOREGROUND',
  'EARLY_PID_FILE',
  'EARLY_LOCK_FD',
  'EARLY_NETNS',
  'EARLY_USERNS',
  'EARLY_NETNS_ONLY',
  'EARLY_NETNS_DIR',
  'EARLY_NS_IFNAME',
  'EARLY_INTERFACE',
  'EARLY_RUNAS',
  'EARLY_QUIET',
  'EARLY_DEBUG',
  'EARLY_TRACE',
  'EARLY_CONFIG_NET',
  'EARLY_NO_NETNS_QUIT',
  'EARLY_HOSTNAME',
  'EARLY_SPLICE_ONLY',
  'EARLY_IPV4_ONLY',
  'EARLY_IPV6_ONLY',
  'EARLY_SOCKET',
  'EARLY_FD',
  'EARLY_ONE_OFF',
  'EARLY_VHOST_USER',
  'EARLY_PRINT_CAPABILITIES',
  'EARLY_SLIRP_CONFIGURE',
  'EARLY_SLIRP_EXIT_FD',
  'EARLY_SLIRP_READY_FD',
  'EARLY_SLIRP_MTU',
  'EARLY_SLIRP_API_SOCKET',
  'EARLY_SLIRP_NETNS_TYPE',
  'EARLY_SLIRP_USERNS_PATH',
  'EARLY_SLIRP_NO_HOST_LOOPBACK',
  'EARLY_SLIRP_OUTBOUND',
  'EARLY_SLIRP_OUTBOUND6',
  'EARLY_SLIRP_SANDBOX',
  'EARLY_SLIRP_CREATE_SANDBOX',
  'EARLY_SLIRP_SECCOMP',
  'EARLY_SLIRP_MACADDRESS',
  'EARLY_SLIRP_TARGET_TYPE',
] as const;
export type EarlyId = (typeof EARLY_IDS)[number];

/** What the program was called as: it decides the defaults, and which options there are. */
export const PERSONALITIES = ['pasta', 'passt'] as const;
export type Personality = (typeof PERSONALITIES)[number];
/** Those of this table, and the one that has its own (cli/slirp). */
export type Program = Personality | 'slirp4netns';

export const GROUPS = ['General', 'Network', 'Protocols', 'Forwarding', 'Namespace'] as const;
export type Group = (typeof GROUPS)[number];

/** `deprecated`: still does what it did, and warns; `unsupported`: refused, because nobody must believe that it does something. */
export type OptionState = 'supported' | 'deprecated' | 'unsupported';

export interface OptionRow {
  /** One letter, or null. */
  readonly short: string | null;
  /** Name of the argument in --help, or null when the option takes none. */
  readonly argument: string | null;
  readonly group: Group;
  /** Line of --help, or one for each personality; null for options that are parsed but not offered: deprecated, or not supported yet. */
  readonly help: string | Readonly<Record<Personality, string>> | null;
  readonly state: OptionState;
  readonly early: EarlyId;
  /** The personality that has it, or null: both. The other refuses it by name. */
  readonly only: Personality | null;
  /** Long names of options that cannot be given together with this one. */
  readonly conflicts: readonly string[];
  /** Long name of the option without which this one makes no sense, or null. */
  readonly needs: string | null;
  /** `value` is '' for options without argument; `option` is how to name it in a message. Throws UsageError. */
  readonly apply: (raw: RawSettings, value: string, option: string) => void;
}

type Given = Partial<OptionRow> & Pick<OptionRow, 'group' | 'help' | 'apply'>;
/** A row with the defaults of most options: long only, no argument, nothing for the helper to do. */
export const row = (given: Given): OptionRow => ({
  short: null,
  argument: null,
  state: 'supported',
  early: 'EARLY_OTHER',
  only: null,
  conflicts: [],
  needs: null,
  ...given,
});

/** An option of the original whose feature comes in a later version: refused, never ignored. */
export const notYet = (short: string | null, argument: string | null, group: Group): OptionRow =>
  row({
    short,
    argument,
    group,
    help: null,
    state: 'unsupported',
    apply: (_raw, _value, option) => {
      throw new UsageError('not-supported', `${option} is not supported yet`);
    },
  });
