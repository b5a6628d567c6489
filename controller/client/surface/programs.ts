// SPDX-License-Identifier: Apache-2.0
/**
 * Every name that pastiche is called by, with its options, from the tables that the programs parse with: manual pages, completions
 * and `pastiche capabilities` are made of this list.
 */

import { GROUPS, type OptionState, type Personality } from '../../cli/options/row.ts';
import { OPTION_ROWS } from '../../cli/options.ts';
import { SLIRP_ROWS } from '../../cli/slirp/options.ts';
import type { Option } from '../arguments.ts';
import { DOCTOR_OPTIONS } from '../doctor/doctor.ts';
import { PESTO_OPTIONS } from '../pesto.ts';
import { PORTS_OPTIONS } from '../ports.ts';
import { CAPABILITIES_OPTIONS } from './options.ts';

export interface ProgramOption {
  readonly name: string;
  /** One letter, or null. */
  readonly short: string | null;
  /** Name of the argument, or null when there is none. */
  readonly argument: string | null;
  /** The line of --help; null: not offered there. */
  readonly help: string | null;
  /** Heading in --help, or '' where there are none. */
  readonly group: string;
  readonly state: OptionState;
}

/** What an operand is. `command`: a program with its arguments, or a PID. */
export type Operand = 'command' | 'file' | 'none' | 'netns' | readonly string[];

export interface Program {
  /** As typed: `pasta`, `pastiche ports`. */
  readonly name: string;
  /** What it is, in a few words. */
  readonly summary: string;
  readonly options: readonly ProgramOption[];
  /** One for each position; the last one for all that follow. */
  readonly operands: readonly Operand[];
}

const ofPersonality = (personality: Personality): ProgramOption[] =>
  GROUPS.flatMap((group) =>
    OPTION_ROWS.flatMap(([name, row]) => {
      if (row.group !== group || (row.only !== null && row.only !== personality)) return [];
      const help = typeof row.help === 'string' || row.help === null ? row.help : row.help[personality];
      return [{ name, short: row.short, argument: row.argument, help, group, state: row.state }];
    }),
  );

const ofSlirp = (): ProgramOption[] =>
  SLIRP_ROWS.map(([name, { short, argument, help }]) => {
    const state = help === null ? 'deprecated' : 'supported';
    return { name, short, argument, help, group: '', state };
  });

const ofClient = (options: Readonly<Record<string, Option>>): ProgramOption[] =>
  Object.entries(options).map(([name, { short, argument, help }]) => ({
    name,
    short: short ?? null,
    argument: argument ?? null,
    help,
    group: '',
    state: 'supported',
  }));

const alone = (name: string, help: string, short: string | null = null, argument: string | null = null) => ({
  name,
  short,
  argument,
  help,
  group: '',
  state: 'supported' as const,
});

export const PROGRAMS: readonly Program[] = [
  {
    name: 'pasta',
    summary: 'user-mode networking for a network namespace',
    options: ofPersonality('pasta'),
    operands: ['command'],
  },
  {
    name: 'passt',
    summary: 'user-mode networking for a virtual machine',
    options: ofPersonality('passt'),
    operands: ['none'],
  },
  {
    name: 'slirp4netns',
    summary: 'user-mode networking for a network namespace, with the command line of slirp4netns',
    options: ofSlirp(),
    operands: ['netns', 'none'],
  },
  {
    name: 'pesto',
    summary: 'show and change the forwarded ports of a running pasta or passt',
    options: ofClient(PESTO_OPTIONS),
    operands: ['file', 'none'],
  },
  {
    name: 'qrap',
    summary: 'run QEMU with a connection to passt',
    options: [
      alone('help', 'show the forms of the command line and exit'),
      alone('version', 'show the version and exit'),
    ],
    operands: ['command'],
  },
  {
    name: 'pastiche ports',
    summary: 'show and change the forwarded ports of a running instance',
    options: ofClient(PORTS_OPTIONS),
    operands: [['list', 'add', 'remove'], 'file', 'none'],
  },
  {
    name: 'pastiche doctor',
    summary: 'look whether this machine has what pastiche needs',
    options: ofClient(DOCTOR_OPTIONS),
    operands: ['none'],
  },
  {
    name: 'pastiche capabilities',
    summary: 'show what this build can do',
    options: ofClient(CAPABILITIES_OPTIONS),
    operands: ['none'],
  },
  {
    name: 'pastiche audit',
    summary: 'show the system-call allowlists of this build',
    options: [alone('json', 'as JSON')],
    operands: ['none'],
  },
  {
    name: 'pastiche helper',
    summary: 'the part that opens sockets, for a socket unit of systemd',
    options: [
      alone('user', 'who may connect', null, 'USER'),
      alone('group', 'the group that may connect', null, 'GROUP'),
    ],
    operands: ['command'],
  },
  {
    name: 'pastiche broker',
    summary: 'the part that is in the namespace, for a unit of systemd',
    options: [],
    operands: ['file', 'none'],
  },
  {
    name: 'pastiche controller',
    summary: 'the part without any right, for a unit of systemd',
    options: [],
    operands: ['file', 'none'],
  },
];

export const program = (name: string): Program => {
  const found = PROGRAMS.find((one) => one.name === name);
  if (found === undefined) throw new Error(`there is no program ${name}`);
  return found;
};
/** The words after `pastiche`; any other first word is pasta's COMMAND. */
export const WORDS: readonly Program[] = PROGRAMS.filter(({ name }) => name.startsWith('pastiche '));
export const wordOf = ({ name }: Program): string => name.replace(/^pastiche /, '');
