// SPDX-License-Identifier: Apache-2.0
/** What the tests of installations have in common: a read-only checkout, what is in a directory, and its programs. */
import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { treeCommand } from '../../scripts/lib/debian-tree.mjs';
import { descendants, type Lab, REPOSITORY, type Side } from './lab.mjs';
import { labPid } from './podman.ts';
import { hasExited, waitFor } from './process.mjs';

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
  { path: 'slirp4netns', args: ['--version'], says: /^slirp4netns version \d/ },
  { path: 'pastiche', args: ['audit', '--json'], says: /^\{/ },
  { path: 'pastiche', args: ['capabilities', '--json'], says: /^\{/ },
  { path: 'pastiche', args: ['doctor', '--json'], says: /^\{/ },
  {
    path: 'cni/pastiche-cni',
    args: [],
    env: { CNI_COMMAND: 'VERSION' },
    input: '{"cniVersion":"1.1.0"}',
    says: /"supportedVersions":\[.*"1\.1\.0"/,
  },
  { path: 'netavark/pastiche-netavark', args: ['info'], says: /"api_version":"1\./ },
];

/** A Debian tree in the lab's network, in which many programs run one after the other; it is forgotten with the lab. */
export const treeSide = async (lab: Lab, tree: string, binds: Record<string, string>): Promise<Side> => {
  const holder = lab.host.spawn(treeCommand(tree, { binds }, ['sh', '-c', 'echo entered; exec cat']), {
    stdin: 'pipe',
  });
  await waitFor(() => holder.out().includes('entered') || hasExited(holder), { what: 'the Debian tree' });
  const innermost = descendants(holder.pid()).at(-1);
  if (innermost === undefined) throw new Error(`the Debian tree cannot be entered:\n${holder.err()}`);
  return lab.host.within(['nsenter', '-t', labPid(innermost), '-m', '-p', '--']);
};
