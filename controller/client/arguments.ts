// SPDX-License-Identifier: Apache-2.0
/** Command lines of the programs that talk to a running instance, by getopt_long's rules as far as callers use them: options in any order, unambiguous prefixes, `--name=value`. */
import { parseArgs } from 'node:util';

/** What is wrong with a command line, or with what it asks for: one sentence, exit status 1. */
export class ClientError extends Error {}
/** The command line is not one: said with the usage. */
export class ArgumentError extends ClientError {}

export interface Option {
  readonly type: 'string' | 'boolean';
  readonly short?: string;
  readonly multiple?: true;
  /** Name of the argument in --help. */
  readonly argument?: string;
  readonly help: string;
}
/** The lines of --help for these options. */
export const optionLines = (options: Readonly<Record<string, Option>>): string =>
  Object.entries(options)
    .map(([name, { short, argument, help }]) => {
      const option = `${short === undefined ? '    ' : `-${short}, `}--${name}${argument === undefined ? '' : ` ${argument}`}`;
      return `  ${option.padEnd(30)}${help}\n`;
    })
    .join('');

export interface Token {
  readonly name: string;
  /** '' for options without argument. */
  readonly value: string;
}
export interface Arguments {
  /** In the order in which they came. */
  readonly options: readonly Token[];
  readonly operands: readonly string[];
}

/** Prefixes as whole names, so that `--del` is `--delete`. */
const expand = (arg: string, names: readonly string[]): string => {
  const [, given, rest = ''] = /^--([^=]+)(=.*)?$/s.exec(arg) ?? [];
  if (given === undefined || names.includes(given)) return arg;
  const candidates = names.filter((name) => name.startsWith(given));
  if (candidates.length > 1)
    throw new ArgumentError(
      `option '--${given}' is ambiguous; possibilities: ${candidates.map((name) => `'--${name}'`).join(' ')}`,
    );
  if (candidates[0] === undefined) throw new ArgumentError(`unrecognized option '--${given}'`);
  return `--${candidates[0]}${rest}`;
};

/** Throws {@link ArgumentError}. */
export const readArguments = (args: readonly string[], options: Readonly<Record<string, Option>>): Arguments => {
  const names = Object.keys(options);
  const end = args.indexOf('--');
  const expanded = args.map((arg, i) => (end >= 0 && i >= end ? arg : expand(arg, names)));
  const shorts = new Set(Object.values(options).map(({ short }) => short));
  try {
    const { tokens } = parseArgs({ args: expanded, options, strict: true, allowPositionals: true, tokens: true });
    const found: Token[] = [];
    const operands: string[] = [];
    for (const token of tokens) {
      if (token.kind === 'option') found.push({ name: token.name, value: token.value ?? '' });
      else if (token.kind === 'positional') operands.push(token.value);
    }
    return { options: found, operands };
  } catch (error) {
    const stray = args.find((arg) => /^-[^-]/.test(arg) && !shorts.has(arg[1] as string));
    if (stray !== undefined) throw new ArgumentError(`invalid option -- '${stray[1]}'`);
    throw new ArgumentError((error as Error).message.split('. ')[0] ?? 'not understood');
  }
};
