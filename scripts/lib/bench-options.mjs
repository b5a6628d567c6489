// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** What is wrong with the options of the benchmark, told before anything is installed, built or measured. */
import { existsSync } from 'node:fs';

/** @typedef {Record<string, string | boolean | readonly (string | boolean)[] | undefined>} Options */
/** @typedef {{ name: string, check?: string | undefined }} Row */

/** A row of CELLS. */
const CELL = /^\d+(\.\d+)?(,\d+(\.\d+)?){2}$/;
const CHOICES = { link: ['host', 'guest'], direction: ['up', 'down'], wmem: ['default', 'raised', 'kept'] };

/** Two of which the second would be ignored. @type {readonly (readonly [string, readonly string[]])[]} */
const EXCLUDES = [
  ['quick', ['rounds']],
  ['check', ['write-baseline', 'impaired', 'write', 'section', 'only', 'yardstick']],
  ['write-baseline', ['impaired', 'write', 'section', 'only', 'yardstick', 'rows']],
  ['impaired', ['rows', 'only', 'peer', 'yardstick', 'wmem', 'rounds', 'quick', 'section']],
  ['vm', ['check', 'write-baseline', 'impaired', 'section']],
  [
    'checksum',
    ['vm', 'check', 'write-baseline', 'impaired', 'rows', 'only', 'peer', 'yardstick', 'congestion', 'wmem', 'section'],
  ],
];
/** What the first means nothing without. */
const NEEDS = /** @type {const} */ ([
  ['link', 'impaired'],
  ['cell', 'impaired'],
  ['direction', 'impaired'],
  ['section', 'write'],
]);

/** @param {Options} options @param {string} name */
const texts = (options, name) => /** @type {readonly string[]} */ (options[name] ?? []);

/** @param {Options} options */
const conflict = (options) => {
  for (const [first, others] of EXCLUDES)
    for (const other of others)
      if (options[first] && options[other]) return `--${first} and --${other} exclude each other`;
  for (const [name, other] of NEEDS) if (options[name] && !options[other]) return `--${name} needs --${other}`;
  for (const mode of ['check', 'write-baseline', 'impaired'])
    if (options[mode])
      for (const name of ['congestion', 'wmem'])
        if (texts(options, name).length > 1) return `--${mode} takes one --${name}`;
  return null;
};

/** @param {Options} options @param {readonly string[]} peers */
const unknownName = (options, peers) => {
  for (const [name, choices] of Object.entries({ ...CHOICES, only: peers }))
    for (const value of texts(options, name))
      if (!choices.includes(value)) return `--${name} ${value}: it is one of ${choices.join(', ')}`;
  for (const cell of texts(options, 'cell'))
    if (!CELL.test(cell)) return `--cell ${cell}: RTT in ms, loss in % and reordered in % are needed, like 50,0.1,5`;
  return null;
};

/**
 * One sentence, or null where all is well.
 * @param {Options} options
 * @param {readonly Row[]} rows
 * @param {readonly string[]} known names of peers apart from those of --peer
 */
export const wrongOption = (options, rows, known) => {
  for (const each of texts(options, 'peer')) {
    const [name, path = ''] = each.split('=');
    if (!name || path === '') return `--peer ${each}: NAME=PATH is needed`;
    if (!existsSync(path)) return `--peer ${each}: there is no file "${path}"`;
  }
  if (options['rounds'] !== undefined && !/^[1-9]\d*$/.test(String(options['rounds'])))
    return `--rounds ${options['rounds']}: a number from 1 on is needed`;
  const added = texts(options, 'peer').map((each) => each.split('=')[0] ?? '');
  const wrong = conflict(options) ?? unknownName(options, [...known, ...added]);
  if (wrong !== null) return wrong;
  for (const text of texts(options, 'rows')) {
    const named = rows.filter(({ name }) => name.includes(text));
    if (named.length === 0) return `--rows ${text}: no row has such a name`;
    if (options['check'] && named.every(({ check }) => check === undefined))
      return `--rows ${text}: bench/baseline.json has no such row`;
  }
  return null;
};
