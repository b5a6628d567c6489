// SPDX-License-Identifier: Apache-2.0
/** Completion for fish. */
import { type Kind, kindOf, offered } from './kinds.ts';
import { type Operand, type Program, type ProgramOption, program, WORDS, wordOf } from './programs.ts';

const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

const INTERFACES = '(command ls /sys/class/net 2>/dev/null)';
const NAMESPACES = '(command ls /run/netns 2>/dev/null)';

const argumentsOf = (kind: Kind): string => {
  switch (kind) {
    case 'file':
      return '-r -F';
    case 'directory':
      return `-x -a ${quoted('(__fish_complete_directories)')}`;
    case 'interface':
      return `-x -a ${quoted(INTERFACES)}`;
    case 'netns':
      return `-r -F -a ${quoted(NAMESPACES)}`;
    case 'user':
      return `-x -a ${quoted('(__fish_complete_users)')}`;
    case 'group':
      return `-x -a ${quoted('(__fish_complete_groups)')}`;
    case 'some':
      return '-x';
    default:
      return `-x -a ${quoted(kind.join(' '))}`;
  }
};
const operandLine = (start: string, operand: Operand): string | null => {
  if (operand === 'file') return null;
  if (operand === 'none') return `${start} -f`;
  if (operand === 'netns') return `${start} -a ${quoted('(__fish_complete_pids)')}`;
  if (operand === 'command') return `${start} -x -a ${quoted('(__fish_complete_subcommand)')}`;
  return `${start} -f -a ${quoted(operand.join(' '))}`;
};

const optionLine = (start: string, owner: Program, option: ProgramOption): string => {
  const kind = kindOf(owner, option);
  const short = option.short === null ? '' : ` -s ${option.short}`;
  const argument = kind === null ? '' : ` ${argumentsOf(kind)}`;
  return `${start}${short} -l ${option.name}${argument} -d ${quoted(option.help ?? '')}`;
};

const linesOf = (start: string, owner: Program): string[] => {
  const [first = 'none'] = owner.operands;
  const operand = operandLine(start, first);
  return [...(operand === null ? [] : [operand]), ...offered(owner).map((option) => optionLine(start, owner, option))];
};

const HEAD =
  '# SPDX-License-Identifier: Apache-2.0\n# Generated from the tables of options (controller/client/surface/fish.ts).\n';

export const fishCompletion = (name: string): string => {
  if (name !== 'pastiche') return `${HEAD}${linesOf(`complete -c ${name}`, program(name)).join('\n')}\n`;
  const words = WORDS.map(wordOf).join(' ');
  const none = `not __fish_seen_subcommand_from ${words}`;
  const lines = [
    ...WORDS.map(
      (one) => `complete -c pastiche -n __fish_use_subcommand -f -a ${wordOf(one)} -d ${quoted(one.summary)}`,
    ),
    ...offered(program('pasta')).map((option) =>
      optionLine(`complete -c pastiche -n ${quoted(none)}`, program('pasta'), option),
    ),
    ...WORDS.flatMap((one) =>
      linesOf(`complete -c pastiche -n ${quoted(`__fish_seen_subcommand_from ${wordOf(one)}`)}`, one),
    ),
  ];
  return `${HEAD}${lines.join('\n')}\n`;
};
