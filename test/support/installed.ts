// SPDX-License-Identifier: Apache-2.0
/** What the tests of installations have in common: a read-only checkout, what is in a directory, and its programs. */
import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from './lab.mjs';

/** What `npm run install-files` reads, and no more. */
const PARTS = ['CHANGELOG.md', 'LICENSES', 'README.md', 'dist', 'docs', 'package.json', 'scripts', 'systemd'];

const walk = (directory: string): string[] =>
  readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? [path, ...walk(path)] : [path];
  });

/** A built checkout that nobody may write to. */
export const readOnlyCheckout = (directory: string): string => {
  mkdirSync(directory);
  for (const part of PARTS)
    if (existsSync(join(REPOSITORY, part)))
      cpSync(join(REPOSITORY, part), join(directory, part), {
        recursive: true,
        verbatimSymlinks: true,
        filter: (from) => from !== join(REPOSITORY, 'dist', 'packages'),
      });
  for (const path of [directory, ...walk(directory)])
    if (!lstatSync(path).isSymbolicLink()) chmodSync(path, lstatSync(path).mode & 0o555);
  return directory;
};

/** Every path below a directory with what is there, for comparison. */
export const snapshot = (directory: string): Record<string, string> =>
  Object.fromEntries(
    (existsSync(directory) ? walk(directory) : []).map((path) => {
      const status = lstatSync(path);
      const mode = (status.mode & 0o7777).toString(8);
      if (status.isSymbolicLink()) return [path, `link ${readlinkSync(path)}`];
      return [
        path,
        status.isDirectory() ? `directory ${mode}` : `file ${mode} ${readFileSync(path).toString('latin1')}`,
      ];
    }),
  );

export interface Program {
  /** Of libexec/pastiche. */
  readonly path: string;
  readonly args: readonly string[];
  readonly env?: Record<string, string>;
  readonly input?: string;
  /** Of its standard output. */
  readonly says: RegExp;
}

/** One call of every installed name that needs no network. */
export const PROGRAMS: readonly Program[] = [
  { path: 'pasta', args: ['--version'], says: /^pasta \d/ },
  { path: 'passt', args: ['--version'], says: /^passt \d/ },
  { path: 'qrap', args: ['--version'], says: /^qrap \d/ },
  { path: 'pesto', args: ['--version'], says: /^pesto \d/ },
  { path: 'pastiche', args: ['audit', '--json'], says: /^\{/ },
];
