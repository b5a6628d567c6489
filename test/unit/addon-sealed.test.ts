// SPDX-License-Identifier: Apache-2.0
/** Every call of the addon under the filter that the build made from the annotations beside it: none is killed. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { native } from '../../controller/io/io.ts';
import { COL, SOCKOPT } from '../../shared/abi.ts';

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));
const ENOANO = 55;
const EAGAIN = 11;
/** Not callable once sealed: checking the code cache, placing descriptors and sealing are of the set-up. */
const BEFORE_SEALING = ['crc32', 'dup2', 'installFilter'];

const child = spawnSync(
  process.execPath,
  [
    path('../support/sealed-calls.mjs'),
    process.env['PASTICHE_ADDON'] as string,
    path('../../helper/build/Release/testkit.node'),
    path('../../dist/controller.bpf'),
  ],
  { encoding: 'utf8', env: { COL: JSON.stringify(COL), SOCKOPT: JSON.stringify(SOCKOPT) } },
);
const lines = child.stdout
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line) as [string, (number | boolean)?]);
const results = new Map(lines.flatMap(([name, result]) => (result === undefined ? [] : [[name, result] as const])));

test('the process lives to the end', () => {
  expect({ signal: child.signal, status: child.status, stderr: child.stderr, last: lines.at(-1) }).toEqual({
    signal: null,
    status: 0,
    stderr: '',
    last: ['end', 0],
  });
});

test('the probe turns, and no other call meets the filter', () => {
  expect(results.get('installFilter')).toBe(0);
  expect(results.get('probeFilter')).toBe(-ENOANO);
  expect(results.get('recvError')).toBe(-EAGAIN);
  const failed = [...results].filter(
    ([name, result]) => result === false || (Number(result) < 0 && name !== 'probeFilter' && name !== 'recvError'),
  );
  expect(failed).toEqual([]);
});

test('all calls of the interface were made', () => {
  const made = new Set([...results.keys()].map((name) => name.split(/[ ,]/)[0]));
  const offered = Object.entries(native).filter(([, value]) => typeof value === 'function');
  const missing = offered.map(([name]) => name).filter((name) => !made.has(name) && !BEFORE_SEALING.includes(name));
  expect(missing).toEqual([]);
});
