// SPDX-License-Identifier: Apache-2.0
/**
 * The OPTIONS table of both personalities: the only list of options there is. The controller parses with it, the
 * helper's table (helper/gen/options.h), --help and the manual page are generated from it. To add an option is to add a row.
 */
import { FORWARDING } from './options/forwarding.ts';
import { GENERAL } from './options/general.ts';
import { NAMESPACE } from './options/namespace.ts';
import { NETWORK } from './options/network.ts';
import { PROTOCOLS } from './options/protocols.ts';
import { EARLY_IDS, GROUPS, type Group, type OptionRow, type Personality } from './options/row.ts';

export const OPTIONS = { ...GENERAL, ...NETWORK, ...PROTOCOLS, ...FORWARDING, ...NAMESPACE } as const satisfies Record<
  string,
  OptionRow
>;
export type OptionName = keyof typeof OPTIONS;
export const OPTION_ROWS: readonly (readonly [string, OptionRow])[] = Object.entries<OptionRow>(OPTIONS);

/** The members of the helper's `enum early_id`, in order. */
export const EARLY_ENUM: readonly string[] = EARLY_IDS;

/** Widest option text that still has its help on the same line. */
const HELP_COLUMN = 32;

const helpOf = ({ help, only }: OptionRow, personality: Personality): string | null => {
  if (only !== null && only !== personality) return null;
  return typeof help === 'string' ? help : (help?.[personality] ?? null);
};

const helpLine = (name: string, row: OptionRow, help: string): string => {
  const short = row.short === null ? '    ' : `-${row.short}, `;
  const argument = row.argument === null ? '' : ` ${row.argument}`;
  const option = `  ${short}--${name}${argument}`;
  const separator =
    option.length < HELP_COLUMN - 1 ? ' '.repeat(HELP_COLUMN - option.length) : `\n${' '.repeat(HELP_COLUMN)}`;
  return `${option}${separator}${help}`;
};

/** What the arguments of a group look like, where a word does not say it. */
const NOTES: Readonly<Record<Personality, Partial<Record<Group, readonly string[]>>>> = {
  pasta: {
    Forwarding: [
      '  SPEC is "none", or a list as in 22,8000-8010:80-90,~8005 of: PORTS, PORTS:PORTS (mapped), PORTS:ADDR/PORTS',
      '  (at another address in the namespace), ~PORTS (not these), "auto" (only where somebody listens, looked at every',
      '  second), "all" (every port but ephemeral ones). -t and -u take ADDR/, %INTERFACE/ or ADDR%INTERFACE/ before it.',
    ],
  },
  passt: {
    Forwarding: [
      '  SPEC is "none", or a list as in 22,8000-8010:80-90,~8005 of: PORTS, PORTS:PORTS (mapped), PORTS:ADDR/PORTS',
      '  (at another address behind the guest), ~PORTS (not these), "all" (every port but ephemeral ones); with ADDR/,',
      '  %INTERFACE/ or ADDR%INTERFACE/ before it.',
    ],
  },
};

const USAGE: Readonly<Record<Personality, readonly string[]>> = {
  pasta: [
    'Usage: pasta [OPTION]... [COMMAND [ARG]...]',
    '       pasta [OPTION]... PID',
    '       pasta [OPTION]... --netns PATH|NAME',
    '',
    'Give a network namespace user-mode networking. Without PID or --netns a new namespace is made and COMMAND,',
    'default $SHELL, runs in it.',
  ],
  passt: [
    'Usage: passt [OPTION]...',
    '',
    'Give a virtual machine user-mode networking. QEMU connects to the socket that is told at start, by',
    '  -device virtio-net-pci,netdev=s -netdev stream,id=s,server=off,addr.type=unix,addr.path=PATH',
    'or, with --vhost-user and shared memory, by',
    '  -chardev socket,id=c,path=PATH -netdev vhost-user,id=s,chardev=c -device virtio-net-pci,netdev=s',
    '  -m SIZE -object memory-backend-memfd,id=m,size=SIZE,share=on -numa node,memdev=m',
  ],
};

/** The text of --help. */
export const helpText = (personality: Personality): string => {
  const usage = [...USAGE[personality]];
  for (const group of GROUPS) {
    const lines = OPTION_ROWS.flatMap(([name, row]) => {
      const help = row.group === group ? helpOf(row, personality) : null;
      return help === null ? [] : [helpLine(name, row, help)];
    });
    if (lines.length > 0) usage.push('', `${group}:`, ...lines, ...(NOTES[personality][group] ?? []));
  }
  usage.push(
    '',
    'Ports of a running instance are listed and changed by "pesto PATH" (its option -c) and by',
    '"pastiche ports list|add|remove PATH" (its option --control); both have --help. What a machine lacks is told by',
    '"pastiche doctor", what this build can do by "pastiche capabilities".',
  );
  return `${usage.join('\n')}\n`;
};

/** The text of --version. Callers read the first line, "pasta VERSION" or "passt VERSION". */
export const versionText = (personality: Personality, version: string): string =>
  [
    `${personality} ${version} (pastiche)`,
    'Licensed under the Apache License, Version 2.0: <https://www.apache.org/licenses/LICENSE-2.0>',
    'There is NO WARRANTY, to the extent permitted by law.',
    '',
  ].join('\n');
