// SPDX-License-Identifier: Apache-2.0
/** What the argument of an option is, as far as a shell can complete it. */
import type { Program, ProgramOption } from './programs.ts';

/** `some`: something that nobody can guess. */
export type Kind = 'file' | 'directory' | 'interface' | 'netns' | 'user' | 'group' | 'some' | readonly string[];

const BY_ARGUMENT: Readonly<Record<string, Kind>> = {
  PATH: 'file',
  FILE: 'file',
  DIR: 'directory',
  'PATH|NAME': 'netns',
  'ADDR|IF': 'interface',
  'UID[:GID]|LOGIN[:GROUP]': 'user',
  USER: 'user',
  GROUP: 'group',
  PIF: ['HOST', 'SPLICE'],
};
const INTERFACES = new Set(['interface', 'outbound-if4', 'outbound-if6']);
const WORDS: Readonly<Record<string, readonly string[]>> = {
  'netns-type': ['pid', 'path', 'tapfd'],
  'target-type': ['netns', 'bess'],
  dns: ['none'],
  search: ['none'],
  'map-host-loopback': ['none'],
  'map-guest-addr': ['none'],
  'dns-forward': ['none'],
  'dns-host': ['none'],
};

/** Null: the option has no argument. */
export const kindOf = ({ name: owner }: Program, { name, argument }: ProgramOption): Kind | null => {
  if (argument === null) return null;
  if (argument === 'SPEC') return owner === 'passt' ? ['all', 'none'] : ['all', 'auto', 'none'];
  if (INTERFACES.has(name)) return 'interface';
  return WORDS[name] ?? BY_ARGUMENT[argument] ?? 'some';
};

/** What completion offers: options of --help, and not those that are refused or going. */
export const offered = ({ options }: Program): readonly ProgramOption[] =>
  options.filter(({ help, state }) => help !== null && state === 'supported');
