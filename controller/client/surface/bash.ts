// SPDX-License-Identifier: Apache-2.0
/** Completion for bash: one function a program, without help of the package bash-completion, but with it where it is there. */
import { type Kind, kindOf, offered } from './kinds.ts';
import { type Operand, type Program, program, WORDS, wordOf } from './programs.ts';

const INTERFACES = '$(command ls /sys/class/net 2>/dev/null)';
const NAMESPACES = '$(command ls /run/netns 2>/dev/null)';
const PROCESSES = '$(cd /proc && printf "%s " [0-9]*)';

const reply = (action: string): string => `mapfile -t COMPREPLY < <(compgen ${action} -- "$cur")`;
const FILES = `compopt -o filenames 2>/dev/null; ${reply('-f')}`;

const completeKind = (kind: Kind): string => {
  switch (kind) {
    case 'file':
      return FILES;
    case 'directory':
      return `compopt -o filenames 2>/dev/null; ${reply('-d')}`;
    case 'interface':
      return reply(`-W "${INTERFACES}"`);
    case 'netns':
      return `compopt -o filenames 2>/dev/null; ${reply(`-f -W "${NAMESPACES}"`)}`;
    case 'user':
      return reply('-u');
    case 'group':
      return reply('-g');
    case 'some':
      return ':';
    default:
      return reply(`-W "${kind.join(' ')}"`);
  }
};
const completeOperand = (operand: Operand): string => {
  if (operand === 'command') return reply(`-c -W "${PROCESSES}"`);
  if (operand === 'file') return FILES;
  if (operand === 'none') return ':';
  if (operand === 'netns') return `compopt -o filenames 2>/dev/null; ${reply(`-f -W "${PROCESSES}"`)}`;
  return reply(`-W "${operand.join(' ')}"`);
};

const spellings = ({ name, short }: { name: string; short: string | null }): string =>
  [`--${name}`, ...(short === null ? [] : [`-${short}`])].join('|');

const identifier = (name: string): string => `_pastiche_${name.replace(/[^a-z0-9]/g, '_')}`;

/** The fourth argument, behind bash's three: the index in COMP_WORDS of the first argument. Operands are counted as the program counts them. */
const functionOf = (one: Program): string => {
  const options = offered(one);
  const valued = options.filter(({ argument }) => argument !== null);
  const cases = valued.map(
    (option) =>
      `        ${spellings(option)})\n            ${completeKind(kindOf(one, option) ?? 'some')}\n            return ;;`,
  );
  const takes = valued.map(spellings).join('|');
  const positions = one.operands.map(
    (operand, i) => `        ${i === one.operands.length - 1 ? '*' : i}) ${completeOperand(operand)} ;;`,
  );
  const command = one.operands.length === 1 && one.operands[0] === 'command';
  return `${identifier(one.name)}() {
    local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} first=\${4:-1} operands=0 i
    COMPREPLY=()
    # "=" is a word of its own: --mtu=1500 is three.
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $prev == "=" && $COMP_CWORD -gt 1 ]]; then
        prev=\${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = first; i < COMP_CWORD; i++)); do
        case \${COMP_WORDS[i]} in
            --) ((i + 1 < COMP_CWORD)) && operands=$((operands + COMP_CWORD - i - 1)); break ;;
${takes === '' ? '' : `            ${takes}) [[ \${COMP_WORDS[i + 1]-} == "=" ]] && ((i++)); ((i++)) ;;\n`}            -*) ;;
            *) ((operands++))${command ? '; break' : ''} ;;
        esac
    done
${
  command
    ? `    if ((operands > 0)); then
        # The command's own arguments.
        if declare -F _command_offset >/dev/null; then _command_offset "$i"; else ${FILES}; fi
        return
    fi
`
    : ''
}${cases.length === 0 ? '' : `    case $prev in\n${cases.join('\n')}\n    esac\n`}    if [[ $cur == -* ]]; then
        ${reply(`-W "${options.map(({ name }) => `--${name}`).join(' ')}"`)}
        return
    fi
    case $operands in
${positions.join('\n')}
    esac
}`;
};

const HEAD =
  '# SPDX-License-Identifier: Apache-2.0\n# Generated from the tables of options (controller/client/surface/bash.ts).\n';

export const bashCompletion = (name: string): string => {
  if (name !== 'pastiche') return `${HEAD}${functionOf(program(name))}\ncomplete -F ${identifier(name)} ${name}\n`;
  const words = WORDS.map(wordOf);
  return `${HEAD}${[...WORDS, program('pasta')].map(functionOf).join('\n')}
_pastiche() {
    local cur=\${COMP_WORDS[COMP_CWORD]}
    if ((COMP_CWORD > 1)); then
        case \${COMP_WORDS[1]} in
${WORDS.map((one) => `            ${wordOf(one)}) ${identifier(one.name)} "$@" 2; return ;;`).join('\n')}
        esac
    elif [[ $cur != -* ]]; then
        ${reply(`-W "${words.join(' ')}"`)}
        return
    fi
    _pastiche_pasta
}
complete -F _pastiche pastiche
`;
};
