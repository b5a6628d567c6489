// SPDX-License-Identifier: Apache-2.0
/** shared/abi.h and shared/abi.ts say the same, in both directions; the addon annotates exactly the options they list. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import * as abi from '../../shared/abi.ts';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const header = read('shared/abi.h');

/** A literal, or a product of literals in parentheses; anything else is not a value for this header. */
const evaluate = (expression: string): number => {
  if (!/^\(?\d+( \* \d+)*\)?$/.test(expression)) throw new Error(`not a product of literals: ${expression}`);
  return expression
    .replace(/[()]/g, '')
    .split(' * ')
    .reduce((product, factor) => product * Number(factor), 1);
};
const found = (pattern: RegExp): [string, number][] =>
  [...header.matchAll(pattern)].map(([, name, value]) => [name as string, evaluate(value as string)]);

test('sizes are equal', () => {
  const ours = Object.entries(abi).filter(([, value]) => typeof value === 'number');
  expect(Object.fromEntries(found(/^#define ([A-Z0-9_]+) (.+)$/gm))).toEqual(Object.fromEntries(ours));
});

test('columns are equal', () => {
  expect(Object.fromEntries(found(/^ {2}COL_([A-Z_]+) = (.+),$/gm))).toEqual(abi.COL);
});

test('the same socket options are listed, with the level their name implies', () => {
  const levels: Record<string, number> = { SOL_SOCKET: 1, SOL_TCP: 6, SOL_UDP: 17, SOL_IP: 0, SOL_IPV6: 41 };
  const rows = [...header.matchAll(/^ {2}X\((SOL_[A-Z0-9]+), ([A-Z0-9_]+)\)/gm)];
  expect(rows.map(([, , option]) => option)).toEqual(Object.keys(abi.SOCKOPT));
  for (const [, level, option] of rows)
    expect(levels[level as string], option).toBe(abi.SOCKOPT[option as keyof typeof abi.SOCKOPT].level);
});

test('setsockopt is annotated for these options and two whose values are no numbers, and no others', () => {
  const annotated = [...read('helper/addon/sockopt.cc').matchAll(/#syscalls:controller setsockopt\(\*, \w+, (\w+), /g)];
  const names = annotated.map(([, option]) => option);
  expect(names.sort()).toEqual([...Object.keys(abi.SOCKOPT), 'SO_LINGER', 'TCP_CONGESTION'].sort());
});
