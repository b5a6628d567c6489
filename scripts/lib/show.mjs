// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** What the demos have in common: checks that are shown as they run, a table of them, and a lab that is gone afterwards, also when interrupted. */
import { makeLab } from '../../test/support/lab.mjs';
import { textTable } from './table.mjs';

/** @typedef {import('../../test/support/lab.mjs').Lab} Lab */
/** @typedef {import('../../test/support/lab.mjs').LabOptions} LabOptions */

/** @type {string[][]} */
const results = [['check', 'result']];
let failed = false;
let interrupted = false;

/** Runs one check, shows that it runs and what came of it. @param {string} what @param {() => Promise<string>} action */
export const check = async (what, action) => {
  process.stdout.write(`• ${what} … `);
  try {
    const detail = await action();
    console.log(detail);
    results.push([what, detail]);
  } catch (error) {
    if (interrupted) throw error;
    failed = true;
    console.log('FAILED');
    console.error(error instanceof Error ? error.message : error);
    results.push([what, 'FAILED']);
  }
};

/** Makes the lab, runs `show` in it, prints the table, and ends the process: status 1 if a check failed. @param {LabOptions} options @param {(lab: Lab) => Promise<void>} show */
export const runDemo = async (options, show) => {
  console.log('demo: making namespaces "host" and "remote"');
  const lab = await makeLab(options);
  const interrupt = async (/** @type {number} */ status) => {
    if (interrupted) return;
    interrupted = true;
    console.log('\ndemo: interrupted, cleaning up');
    await lab.cleanup();
    process.exit(status);
  };
  process.on('SIGINT', () => interrupt(130));
  process.on('SIGTERM', () => interrupt(143));
  process.on('SIGHUP', () => interrupt(129));
  try {
    await show(lab);
    console.log(`\n${textTable(results)}`);
  } catch (error) {
    if (interrupted) return;
    console.error(`demo: ${error instanceof Error ? error.message : error}`);
    failed = true;
  }
  await lab.cleanup();
  process.exit(failed ? 1 : 0);
};
