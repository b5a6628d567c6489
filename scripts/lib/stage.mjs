// SPDX-License-Identifier: Apache-2.0
/** What the kinds of package have in common: a stage with the files as a package has them, the same for the same commit. */
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { directories, entries } from './layout.mjs';
import { at } from './paths.mjs';
import { place } from './placed.mjs';

export const { version, description } = JSON.parse(readFileSync(at('package.json'), 'utf8'));
/** As Debian's own tools ask for it: debuild(1). */
export const MAINTAINER = `${process.env['DEBFULLNAME'] || 'The pastiche authors'} <${process.env['DEBEMAIL'] || 'pastiche@localhost.localdomain'}>`;

/** Seconds since 1970 that every file of a package bears: SOURCE_DATE_EPOCH, else the commit's, else the change log's. */
export const sourceDate = () => {
  const given = process.env['SOURCE_DATE_EPOCH'];
  if (given) {
    if (!/^\d+$/.test(given)) throw new Error(`SOURCE_DATE_EPOCH is not a number of seconds: ${given}`);
    return Number(given);
  }
  const commit = spawnSync('git', ['log', '-1', '--format=%ct'], { cwd: at(), encoding: 'utf8' });
  if (commit.status === 0 && /^\d+\n$/.test(commit.stdout)) return Number(commit.stdout);
  return Math.floor(statSync(at('CHANGELOG.md')).mtimeMs / 1000);
};

/** Runs a program; throws what it says when it fails. */
export const run = (file, args, options = {}) => {
  const done = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 1 << 26, ...options });
  if (done.error?.code === 'ENOENT') throw new Error(`there is no ${file}`);
  if (done.status !== 0) throw new Error(`${file} failed:\n${`${done.stdout}${done.stderr}`.trim()}`);
  return done.stdout;
};

/** Regular files and links below a directory, as absolute paths of the package, sorted. */
export const filesBelow = (stage) => {
  const walk = (directory) =>
    readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
      const path = join(directory, entry.name);
      return entry.isDirectory() ? walk(path) : [`/${relative(stage, path)}`];
    });
  return walk(stage).sort();
};

const ELF = ['pasta', 'qrap'].map((name) => join('usr', 'lib', 'pastiche', 'bin', name));
const ADDON = join('usr', 'lib', 'pastiche', 'pastiche.node');

/** An installation with PREFIX=/usr below `stage`, as packages have it: stripped, manual pages compressed. `given`: other directories. */
export const stageSystem = (stage, given = {}) => {
  const d = directories({ ...given, PREFIX: '/usr', DESTDIR: stage });
  place(entries(d), { stage: d.stage, manifest: null, force: false });
  for (const path of [...ELF, ADDON]) strip(join(stage, path));
  const pages = filesBelow(stage).filter((path) => /\/man\/man\d\/[^/]+\.\d$/.test(path) && !isLink(stage + path));
  if (pages.length > 0) run('gzip', ['-9n', ...pages.map((path) => stage + path)]);
  return d;
};

export const isLink = (path) => lstatSync(path).isSymbolicLink();
export const strip = (path) =>
  run('strip', ['--strip-unneeded', '--remove-section=.comment', '--remove-section=.note', path]);

/** The newest symbol version of each library that the addon needs, like `{ GLIBC: '2.28' }`: no older library will do. */
export const symbolVersions = () => {
  const said = run('readelf', ['-V', at('dist', 'pastiche.node')], { env: { ...process.env, LC_ALL: 'C' } });
  const found = {};
  for (const [, library, dotted] of said.matchAll(/\b(GLIBC|GLIBCXX)_([\d.]+)/g)) {
    const key = (text) =>
      text.split('.').reduce((sum, part) => sum * 1000 + Number(part), 0) * 1000 ** (3 - text.split('.').length);
    if (found[library] === undefined || key(dotted) > key(found[library])) found[library] = dotted;
  }
  return found;
};

/** A script of packaging/, without its first comment lines. */
export const script = (name) => readFileSync(at('scripts', 'packaging', name), 'utf8').trim();

export const requireBuilt = () => {
  if (!existsSync(at('dist', 'bin', 'pasta'))) throw new Error('dist/bin/pasta is not there: run npm run build first');
};
