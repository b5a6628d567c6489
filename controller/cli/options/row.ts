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
] as const;
export type EarlyId = (typeof EARLY_IDS)[number];

export const GROUPS = ['General', 'Network', 'Protocols', 'Forwarding', 'Namespace'] as const;
export type Group = (typeof GROUPS)[number];

export interface OptionRow {
  /** One letter, or null. */
  readonly short: string | null;
  /** Name of the argument in --help, or null when the option takes none. */
  readonly argument: string | null;
  readonly group: Group;
  /** Line of --help; null for options that are parsed but not offered: deprecated, or of another personality. */
  readonly help: string | null;
  readonly early: EarlyId;
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
  early: 'EARLY_OTHER',
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
    apply: (_raw, _value, option) => {
      throw new UsageError('not-supported', `${option} is not supported yet`);
    },
  });

/** An option that only another personality has. */
export const onlyFor = (mode: 'passt' | 'vhost-user', argument: string | null, group: Group): OptionRow =>
  row({
    argument,
    group,
    help: null,
    apply: (_raw, _value, option) => {
      throw new UsageError('wrong-mode', `${option} is for ${mode} mode only`);
    },
  });
