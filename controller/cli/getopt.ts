// SPDX-License-Identifier: Apache-2.0
/**
 * getopt_long(3) over a table of options, in the modes callers rely on: "+" (the first operand ends the options) or permuting (they
 * may be mixed), clusters of short options, `--name=value`, and unambiguous prefixes of long names.
 *
 * Written here because no library does it: util.parseArgs has neither prefixes nor "first operand ends" (everything after
 * COMMAND belongs to COMMAND), and commander or yargs have no prefixes and word their refusals differently. The helper reads
 * the same command line with the C library's getopt_long, so anything but its exact rules would make the two disagree; the
 * first words of the refusals are getopt's, since callers search for them to find out what we support.
 */
import { UsageError } from './errors.ts';
import type { OptionRow } from './options/row.ts';
import { OPTION_ROWS } from './options.ts';

/** What is asked of a row. */
interface Row {
  readonly short: string | null;
  readonly argument: string | null;
}
export interface Occurrence<R extends Row = OptionRow> {
  readonly name: string;
  readonly row: R;
  /** '' for options without argument. */
  readonly value: string;
  /** How it was written, for messages: '-m' or '--mtu'. */
  readonly spelling: string;
}
export interface Parsed<R extends Row = OptionRow> {
  readonly options: readonly Occurrence<R>[];
  readonly operands: readonly string[];
}

type Entry<R extends Row> = readonly [string, R];
type Rows<R extends Row> = readonly Entry<R>[];

const findLong = <R extends Row>(rows: Rows<R>, given: string): Entry<R> => {
  const exact = rows.find(([name]) => name === given);
  if (exact !== undefined) return exact;
  const candidates = rows.filter(([name]) => name.startsWith(given));
  const [only] = candidates;
  if (only === undefined) throw new UsageError('unknown-option', `unrecognized option '--${given}'`);
  if (candidates.length > 1) {
    const names = candidates.map(([name]) => `'--${name}'`).join(' ');
    throw new UsageError('ambiguous-option', `option '--${given}' is ambiguous; possibilities: ${names}`);
  }
  return only;
};

const findShort = <R extends Row>(rows: Rows<R>, letter: string): Entry<R> => {
  const found = rows.find(([, row]) => row.short === letter);
  if (found === undefined) throw new UsageError('unknown-option', `invalid option -- '${letter}'`);
  return found;
};

const occurrence = <R extends Row>([name, row]: Entry<R>, value: string, spelling: string): Occurrence<R> => ({
  name,
  row,
  value,
  spelling,
});

/** One `--name`, `--name=value` or `--name value`; `next` takes the following argument, if any. */
const readLong = <R extends Row>(rows: Rows<R>, text: string, next: () => string | undefined): Occurrence<R> => {
  const equals = text.indexOf('=');
  const entry = findLong(rows, equals < 0 ? text : text.slice(0, equals));
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
const readShorts = <R extends Row>(rows: Rows<R>, cluster: string, next: () => string | undefined): Occurrence<R>[] => {
  const found: Occurrence<R>[] = [];
  for (let i = 0; i < cluster.length; i++) {
    const letter = cluster[i] as string;
    const entry = findShort(rows, letter);
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

/** Splits arguments (without the program's name) into options and operands; `permute`: operands may come before options. Throws {@link UsageError}. */
export const getoptOf = <R extends Row>(rows: Rows<R>, args: readonly string[], permute: boolean): Parsed<R> => {
  const options: Occurrence<R>[] = [];
  const operands: string[] = [];
  let at = 0;
  const next = (): string | undefined => args[at++];
  while (at < args.length) {
    const arg = args[at] as string;
    // A lone "-" is an operand, as in getopt.
    const isOperand = !arg.startsWith('-') || arg === '-';
    if (isOperand && !permute) break;
    at++;
    if (arg === '--') break;
    if (isOperand) operands.push(arg);
    else if (arg.startsWith('--')) options.push(readLong(rows, arg.slice(2), next));
    else options.push(...readShorts(rows, arg.slice(1), next));
  }
  return { options, operands: [...operands, ...args.slice(at)] };
};

/** {@link getoptOf} pasta's and passt's table, in which what follows the first operand is the command's. */
export const getopt = (args: readonly string[]): Parsed => getoptOf(OPTION_ROWS, args, false);
