// SPDX-License-Identifier: Apache-2.0
/**
 * What a command line of pesto does to the tables it read: -A, -D, -C and port specifications, strictly in order. Tables are one a
 * direction and hold TCP and UDP together, so without -A, -D or -C the first -t or -u empties all of HOST, UDP rules included.
 */
import { contextOf, DIRECTIONS } from '../control/check-rules.ts';
import { CAP, NAMES, type ToldTable } from '../control/pesto-protocol.ts';
import { parsePortSpec } from '../fwd/port-spec.ts';
import { conflict, type Direction, type Protocol, printRule, type Rule, sameRule, tableFault } from '../fwd/rule.ts';
import type { PortRange } from '../host/port-range.ts';
import { ClientError, type Option, type Token } from './arguments.ts';

interface Kind {
  readonly protocol: Protocol;
  readonly direction: Direction;
  /** As the option is called in messages. */
  readonly letter: string;
}
/** Options that take a port specification. */
export const SPEC_OPTIONS: Readonly<Record<string, Kind>> = {
  'tcp-ports': { protocol: 'tcp', direction: 'host', letter: 't' },
  'udp-ports': { protocol: 'udp', direction: 'host', letter: 'u' },
  'tcp-ns': { protocol: 'tcp', direction: 'splice', letter: 'T' },
  'udp-ns': { protocol: 'udp', direction: 'splice', letter: 'U' },
};
/** The same options on a command line. */
export const SPEC_ARGUMENTS = {
  'tcp-ports': {
    type: 'string',
    short: 't',
    multiple: true,
    argument: 'SPEC',
    help: 'TCP ports of the host, as in pasta',
  },
  'udp-ports': { type: 'string', short: 'u', multiple: true, argument: 'SPEC', help: 'UDP ports of the host' },
  'tcp-ns': {
    type: 'string',
    short: 'T',
    multiple: true,
    argument: 'SPEC',
    help: "TCP ports of the namespace's loopback",
  },
  'udp-ns': {
    type: 'string',
    short: 'U',
    multiple: true,
    argument: 'SPEC',
    help: "UDP ports of the namespace's loopback",
  },
} as const satisfies Record<string, Option>;
const CHANGES = new Set(['add', 'delete', 'clear', ...Object.keys(SPEC_OPTIONS)]);

/** Whether these options change anything; otherwise the tables are only shown. */
export const changesAnything = (options: readonly Token[]): boolean => options.some(({ name }) => CHANGES.has(name));

const name = (rule: Rule): string => printRule(rule).trimEnd();

const added = (rules: readonly Rule[], rule: Rule): Rule[] => {
  const other = conflict(rules, rule);
  if (other !== null)
    throw new ClientError(
      `Forwarding configuration conflict: ${name(other)} is there already\nUnable to add rule ${name(rule)}`,
    );
  const all = [...rules, rule];
  const fault = tableFault(all);
  if (fault !== null) throw new ClientError(`${fault}\nUnable to add rule ${name(rule)}`);
  return all;
};

const deleted = (rules: readonly Rule[], rule: Rule): Rule[] => {
  const at = rules.findIndex((other) => sameRule(other, rule));
  if (at >= 0) return rules.toSpliced(at, 1);
  const other = conflict(rules, rule);
  throw new ClientError(
    other === null
      ? `There is no rule ${name(rule)} to be deleted`
      : `Rule ${name(rule)} conflicts with ${name(other)}, but doesn't match it: not deleted`,
  );
};

/** The rules that a specification stands for, as the server's table has them. Throws an error with one sentence. */
export const rulesOf = (option: string, spec: string, caps: number, ephemeral: PortRange): readonly Rule[] => {
  const { protocol, direction } = SPEC_OPTIONS[option] as Kind;
  if ((caps & (protocol === 'tcp' ? CAP.TCP : CAP.UDP)) === 0)
    throw new ClientError(`${protocol.toUpperCase()} forwarding is not enabled`);
  return parsePortSpec(spec, contextOf(direction, protocol, caps, ephemeral));
};

/** The tables as they are to be. Throws an error with one sentence, and nothing is to be sent then. */
export const applyCommands = (
  told: readonly ToldTable[],
  options: readonly Token[],
  ephemeral: PortRange,
): readonly ToldTable[] => {
  const tables = new Map(told.map((table) => [table.direction, { caps: table.caps, rules: [...table.rules] }]));
  /** Replacing until told otherwise: each table is emptied before its first specification. */
  let mode: 'replace' | 'add' | 'delete' = 'replace';
  const replaced = new Set<Direction>();
  const given = new Set<string>();
  for (const { name: option, value } of options) {
    if (option === 'add' || option === 'delete') mode = option;
    if (option === 'clear') {
      const direction = DIRECTIONS.find((one) => NAMES[one] === value);
      const table = direction === undefined ? undefined : tables.get(direction);
      if (table === undefined) throw new ClientError(`Unsupported pif name ${value}`);
      table.rules = [];
      if (mode === 'replace') mode = 'add';
    }
    const kind = SPEC_OPTIONS[option];
    if (kind === undefined) continue;
    const table = tables.get(kind.direction);
    if (table === undefined)
      throw new ClientError(
        `Can't use -${kind.letter}, no ${kind.direction === 'splice' ? 'outbound' : 'inbound'} interface`,
      );
    if (mode === 'replace' && !replaced.has(kind.direction)) {
      replaced.add(kind.direction);
      table.rules = [];
    }
    if (value === 'none' && given.has(option))
      throw new ClientError(`-${kind.letter} none conflicts with previous options`);
    if (value !== 'none') given.add(option);
    for (const rule of rulesOf(option, value, table.caps, ephemeral))
      table.rules = mode === 'delete' ? deleted(table.rules, rule) : added(table.rules, rule);
  }
  return told.map(({ direction, caps }) => ({ direction, caps, rules: tables.get(direction)?.rules ?? [] }));
};

/** The listing, as callers of the original read it. */
export const listing = (title: string, path: string, tables: readonly ToldTable[]): string =>
  [
    `${title} configuration (${path})`,
    ...tables.flatMap(({ direction, rules }) => [
      `  ${NAMES[direction]}`,
      ...rules.map((rule) => `    ${printRule(rule)}`),
    ]),
    '',
  ].join('\n');
