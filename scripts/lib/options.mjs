// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Options of the scripts: --help shows the comment at the head of the script, a wrong one is told in one sentence. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** The text of the first doc comment of a script. @param {string} path */
const headOf = (path) =>
  (/\/\*\*\n([\s\S]*?)\n \*\//.exec(readFileSync(path, 'utf8'))?.[1] ?? '').replace(/^ \* ?/gm, '');

/**
 * The values of the script at `url`. Ends the process after --help (status 0) and after a sentence about a wrong option (2).
 * @template {NonNullable<import('node:util').ParseArgsConfig['options']>} T
 * @param {string} url import.meta.url
 * @param {T} options
 */
export const readOptions = (url, options) => {
  const path = fileURLToPath(url);
  if (process.argv.includes('--help')) {
    console.log(headOf(path));
    process.exit(0);
  }
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    console.error(`${basename(path, '.mjs')}: ${error instanceof Error ? error.message : error}`);
    process.exit(2);
  }
};
