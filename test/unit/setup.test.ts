// SPDX-License-Identifier: Apache-2.0
/** scripts/setup.mjs in a checkout that is another user's; what it would build is not there, so that a build would fail. */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { isRoot, REPOSITORY, TEST_USER } from '../support/lab.mjs';

let root: string;
const write = (name: string, text: string, seconds: number): void => {
  const path = join(root, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  utimesSync(path, seconds, seconds);
};
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'pastiche-setup-'));
  cpSync(join(REPOSITORY, 'scripts'), join(root, 'scripts'), { recursive: true, preserveTimestamps: true });
  write('package-lock.json', '{ "packages": {} }', 1000);
});
afterEach(() => {
  chmodSync(root, 0o755);
  chmodSync(join(root, 'dist'), 0o755);
  rmSync(root, { recursive: true, force: true });
});

const setup = (): { readonly status: number | null; readonly stdout: string; readonly stderr: string } => {
  for (const directory of ['dist', '']) chmodSync(join(root, directory), 0o555);
  const user = isRoot ? ['setpriv', `--reuid=${TEST_USER}`, `--regid=${TEST_USER}`, '--clear-groups'] : [];
  const [file = '', ...args] = [...user, process.execPath, join(root, 'scripts/setup.mjs')];
  const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8', cwd: '/' });
  return { status, stdout, stderr };
};
const LATER = Date.now() / 1000 + 1000;

it('takes what is built as it is', () => {
  write('controller/app/main.ts', '', 2000);
  write('controller/app/main.test.ts', '', LATER + 1);
  write('dist/controller.cache', 'built', LATER);
  expect(setup()).toEqual({ status: 0, stdout: '', stderr: '' });
});

it.each([
  ['was never built', [['dist/other', 1000]]],
  [
    'was changed since',
    [
      ['dist/controller.cache', LATER],
      ['helper/src/main.c', LATER + 1],
    ],
  ],
] as const)('says one sentence where it %s', (_what, files) => {
  for (const [name, seconds] of files) write(name, '', seconds);
  expect(setup()).toEqual({
    status: 1,
    stdout: '',
    stderr: `setup: this checkout belongs to another user and has to be built: its owner can run "npm ci" and "npm run build" there, or clone it for yourself\n`,
  });
});
