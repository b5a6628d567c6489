// SPDX-License-Identifier: Apache-2.0
/** Completion for zsh, by _arguments of compsys. */
import { type Kind, kindOf, offered } from './kinds.ts';
import { type Operand, type Program, type ProgramOption, program, WORDS, wordOf } from './programs.ts';

/** Inside single quotes, in a description between brackets. */
const described = (text: string): string => text.replace(/[\\[\]:]/g, '\\$&').replaceAll("'", "'\\''");

const actionOf = (kind: Kind): string => {
  switch (kind) {
    case 'file':
      return '_files';
    case 'directory':
      return '_files -/';
    case 'interface':
      return '_net_interfaces';
    case 'netns':
      return '{ compadd -- /run/netns/*(N\\:t); _files }';
    case 'user':
      return '_users';
    case 'group':
      return '_groups';
    case 'some':
      return ' ';
    default:
      return `(${kind.join(' ')})`;
  }
};
const operandAction = (operand: Operand): string => {
  if (operand === 'file') return '_files';
  if (operand === 'none') return ' ';
  if (operand === 'netns') return '{ _pids; _files }';
  if (operand === 'command') return '{ _command_names -e; _pids }';
  return `(${operand.join(' ')})`;
};

const specOf = (owner: Program, option: ProgramOption): string => {
  const { name, short, argument, help } = option;
  const kind = kindOf(owner, option);
  const value = kind === null ? '' : `:${described(argument ?? '')}:${actionOf(kind)}`;
  const text = `[${described(help ?? '')}]`;
  const equals = kind === null ? '' : '=';
  if (short === null) return `'*--${name}${equals}${text}${value}'`;
  return `'*'{-${short}${kind === null ? '' : '+'},--${name}${equals}}'${text}${value}'`;
};

const argumentsOf = (owner: Program): string => {
  const [first] = owner.operands;
  const command = owner.operands.length === 1 && first === 'command';
  const operands = command
    ? [`'(-)1:command or PID:${operandAction('command')}'`, "'*::argument:_normal'"]
    : owner.operands.flatMap((operand, i) =>
        operand === 'none' ? [] : [`'${i + 1}:operand:${operandAction(operand)}'`],
      );
  return `_arguments -s -S${command ? ' -A "-*"' : ''} : \\\n        ${[...offered(owner).map((option) => specOf(owner, option)), ...operands].join(' \\\n        ')}`;
};

const HEAD = (name: string): string =>
  `#compdef ${name}\n# SPDX-License-Identifier: Apache-2.0\n# Generated from the tables of options (controller/client/surface/zsh.ts).\n`;

export const zshCompletion = (name: string): string => {
  if (name !== 'pastiche') return `${HEAD(name)}_${name}() {\n    ${argumentsOf(program(name))}\n}\n_${name} "$@"\n`;
  const words = WORDS.map((one) => `        '${wordOf(one)}:${described(one.summary)}'`);
  const cases = WORDS.map(
    (one) =>
      `        ${wordOf(one)})\n        shift words; (( CURRENT-- ))\n        ${argumentsOf(one)}\n        return ;;`,
  );
  return `${HEAD(name)}_pastiche() {
    local -a commands=(
${words.join('\n')}
    )
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe -t commands 'pastiche command' commands
        return
    fi
    case $words[2] in
${cases.join('\n')}
    esac
    ${argumentsOf(program('pasta'))}
}
_pastiche "$@"
`;
};
