// SPDX-License-Identifier: Apache-2.0
/**
 * getopt_long(3) over the OPTIONS table, in the mode callers rely on: "+" (the first operand ends the options), clusters of
 * short options, `--name=value`, and unambiguous prefixes of long names.
 *
 * Written here because no library does it: util.parseArgs has neither prefixes nor "first operand ends" (everything after
 * COMMAND belongs to COMMAND), and commander or yargs have no prefixes and word their refusals differently. The helper reads
 * the same command line with the C library's getopt_long, so anything but its exact rules would make the two disagree; the
 * first words of the refusals are getopt's, since callers search for them to find out what we support.
 */
import { UsageError } from './errors.ts';
import type { OptionRow } from './options/row.ts';
import { OPTION_ROWS, type OptionName } from './options.ts';

export interface Occurrence {
  readonly name: OptionName;
  readonly row: OptionRow;
  /** '' for options without argument. */
  readonly value: string;
  /** How it was written, for messages: '-m' or '--mtu'. */
  readonly spelling: string;
}
export interface Parsed {
  readonly options: readonly Occurrence[];
  readonly operands: readonly string[];
}

type Entry = readonly [string, OptionRow];

const findLong = (given: string): Entry => {
  const exact = OPTION_ROWS.find(([name]) => name === given);
  if (exact !== undefined) return exact;
  const candidates = OPTION_ROWS.filter(([name]) => name.startsWith(given));
  const [only] = candidates;
  if (only === undefined) throw new UsageError('unknown-option', `unrecognized option '--${given}'`);
  if (candidates.length > 1) {
    const names = candidates.map(([name]) => `'--${name}'`).join(' ');
    throw new UsageError('ambiguous-option', `option '--${given}' is ambiguous; possibilities: ${names}`);
  }
  return only;
};

const findShort = (letter: string): Entry => {
  const found = OPTION_ROWS.find(([, row]) => row.short === letter);
  if (found === undefined) throw new UsageError('unknown-option', `invalid option -- '${letter}'`);
  return found;
};

const occurrence = ([name, row]: Entry, value: string, spelling: string): Occurrence => ({
  name: name as OptionName,
  row,
  value,
  spelling,
});

/** One `--name`, `--name=value` or `--name value`; `next` takes the following argument, if any. */
const readLong = (text: string, next: () => string | undefined): Occurrence => {
  const equals = text.indexOf('=');
  const entry = findLong(equals < 0 ? text : text.slice(0, equals));
  const [name, row] = entry;
  const spelling = `--${name}`;
  if (row.argument === null) {
    if (equals < 0) return occurrence(entry, '', spelling);
    throw new UsageError('unexpected-argument', `option '${spelling}' doesn't allow an argument`);
  }
  const value = equals < 0 ? next() : text.slice(equals + 1);
  if (value === undefined) throw new UsageError('missing-argument', `option '${spelling}' requires an argument`);
  return occurrence(entry, value, spelling);
};

/** A cluster such as `-fdm1500` or `-fdm 1500`. */
const readShorts = (cluster: string, next: () => string | undefined): Occurrence[] => {
  const found: Occurrence[] = [];
  for (let i = 0; i < cluster.length; i++) {
    const letter = cluster[i] as string;
    const entry = findShort(letter);
    if (entry[1].argument === null) {
      found.push(occurrence(entry, '', `-${letter}`));
      continue;
    }
    const value = i + 1 < cluster.length ? cluster.slice(i + 1) : next();
    if (value === undefined) throw new UsageError('missing-argument', `option requires an argument -- '${letter}'`);
    found.push(occurrence(entry, value, `-${letter}`));
    break;
  }
  return found;
};

/** Splits arguments (without the program's name) into options and operands. Throws {@link UsageError}. */
export const getopt = (args: readonly string[]): Parsed => {
  const options: Occurrence[] = [];
  let at = 0;
  const next = (): string | undefined => args[at++];
  while (at < args.length) {
    const arg = args[at] as string;
    // A lone "-" is an operand, as in getopt.
    if (!arg.startsWith('-') || arg === '-') break;
    at++;
    if (arg === '--') break;
    if (arg.startsWith('--')) options.push(readLong(arg.slice(2), next));
    else options.push(...readShorts(arg.slice(1), next));
  }
  return { options, operands: args.slice(at) };
};
