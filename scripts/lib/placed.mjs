// SPDX-License-Identifier: Apache-2.0
/**
 * Files put in place all or not at all, and a list of them, by which exactly they are taken away again.
 *
 * Everything is written beside its place first; then each takes its name by rename(2), the former owner of the name kept
 * beside it until the last one is done. Whatever fails before that is undone.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const NEW = '.pastiche-new';
const OLD = '.pastiche-old';

const look = (path) => lstatSync(path, { throwIfNoEntry: false });
/** What is at a path, in one word: the digest of a file, the target of a link, undefined when there is nothing. */
const identity = (path) => {
  const status = look(path);
  if (status === undefined) return undefined;
  if (status.isSymbolicLink()) return `link ${readlinkSync(path)}`;
  if (!status.isFile()) return 'something else';
  return `sha256 ${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
};

/** An earlier installation's list; one with nothing in it when there was none. */
export const readManifest = (path) => {
  if (!existsSync(path)) return { files: {}, directories: [] };
  try {
    const { files, directories } = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof files !== 'object' || files === null || !Array.isArray(directories)) throw new Error('it has no files');
    return { files, directories };
  } catch (error) {
    throw new Error(`${path} is not a list of installed files: ${error.message}`);
  }
};

const refuse = (why, paths) => {
  if (paths.length === 0) return;
  const more = paths.length > 3 ? ` and ${paths.length - 3} more` : '';
  throw new Error(`${why}: ${paths.slice(0, 3).join(', ')}${more}; --force replaces them`);
};

/** Throws when a place is taken by what no earlier installation of ours put there, or by what was changed since. */
const refuseForeign = (plan, files, stage) => {
  const taken = plan.map(({ path }) => path).filter((path) => identity(stage + path) !== files[path]);
  const full = (paths) => paths.filter((path) => look(stage + path) !== undefined).map((path) => stage + path);
  refuse('not of an earlier installation', full(taken.filter((path) => files[path] === undefined)));
  refuse('changed since they were installed', full(taken.filter((path) => files[path] !== undefined)));
};

/** Makes the directories above `path`; those that were not there are added to `made`. */
const makeParents = (path, made) => {
  const parent = dirname(path);
  if (existsSync(parent)) return;
  makeParents(parent, made);
  mkdirSync(parent, { mode: 0o755 });
  chmodSync(parent, 0o755); // whatever the umask
  made.push(parent);
};

const writeBeside = ({ path, target, mode, content }, stage) => {
  const beside = `${stage}${path}${NEW}`;
  rmSync(beside, { force: true });
  if (target !== undefined) return symlinkSync(target, beside);
  writeFileSync(beside, content(), { flag: 'wx' });
  chmodSync(beside, mode);
};

/** Best effort, for the way back: what cannot be undone must not hide why it had to be. */
const quietly = (action) => {
  try {
    action();
  } catch {
    // The error that led here is the one to be told.
  }
};

const removeEmpty = (directories) => {
  const kept = [];
  for (const path of [...directories].sort((a, b) => b.length - a.length)) {
    try {
      rmdirSync(path);
    } catch (error) {
      if (error.code !== 'ENOENT') kept.push(path);
    }
  }
  return kept;
};

/**
 * Puts the plan's entries below `stage` and leaves the list at `manifest` (null: no list, nobody will take them away by one).
 * What an earlier installation had and this one has not goes. Throws, with everything as it was, when a part of it cannot be done.
 */
export const place = (plan, { stage, manifest, force }) => {
  const before = manifest === null ? { files: {}, directories: [] } : readManifest(stage + manifest);
  const next = new Set(plan.map(({ path }) => path));
  const stale = Object.keys(before.files).filter(
    (path) => !next.has(path) && identity(stage + path) === before.files[path],
  );
  if (!force) refuseForeign(plan, before.files, stage);
  const solid = plan.find(({ path }) => look(stage + path)?.isDirectory());
  if (solid) throw new Error(`${stage}${solid.path} is a directory`);
  const made = [];
  /** What to do, last first, to have everything as it was. */
  const undo = [];
  const written = [];
  try {
    for (const entry of plan) {
      makeParents(stage + entry.path, made);
      written.push(entry.path);
      writeBeside(entry, stage);
    }
    for (const path of [...stale, ...next]) {
      const full = stage + path;
      if (look(full) !== undefined) {
        renameSync(full, full + OLD);
        undo.push(() => renameSync(full + OLD, full));
      }
      if (!next.has(path)) continue;
      renameSync(full + NEW, full);
      undo.push(() => rmSync(full, { force: true }));
    }
    if (manifest !== null) {
      const files = Object.fromEntries([...next].sort().map((path) => [path, identity(stage + path)]));
      const ours = made.map((path) => path.slice(stage.length)).filter((path) => path !== '');
      const directories = [...new Set([...before.directories, ...ours])].sort();
      makeParents(stage + manifest, made);
      writeFileSync(`${stage}${manifest}${NEW}`, `${JSON.stringify({ files, directories }, null, 1)}\n`);
      undo.push(() => rmSync(`${stage}${manifest}${NEW}`, { force: true }));
      renameSync(`${stage}${manifest}${NEW}`, stage + manifest);
    }
  } catch (error) {
    for (const step of undo.reverse()) quietly(step);
    for (const path of written) quietly(() => rmSync(`${stage}${path}${NEW}`, { force: true }));
    removeEmpty(made);
    throw error;
  }
  for (const path of [...stale, ...next]) rmSync(stage + path + OLD, { force: true });
  removeEmpty(before.directories.map((path) => stage + path));
};

/**
 * Takes away what the list says, as far as it is still what was put there, and the directories that were made for it and are empty now.
 * Returns the paths that stay because they were changed since.
 */
export const takeAway = ({ stage, manifest, force }) => {
  if (!existsSync(stage + manifest)) throw new Error(`nothing is installed: there is no ${stage}${manifest}`);
  const { files, directories } = readManifest(stage + manifest);
  const changed = [];
  for (const [path, was] of Object.entries(files)) {
    const now = identity(stage + path);
    if (now === undefined) continue;
    if (now !== was && !force) changed.push(stage + path);
    else rmSync(stage + path);
  }
  rmSync(stage + manifest);
  removeEmpty(directories.map((path) => stage + path));
  return changed;
};

export const manifestPath = (d) => join(d.LIBDIR, 'pastiche', 'manifest.json');
