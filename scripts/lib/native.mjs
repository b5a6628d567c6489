// SPDX-License-Identifier: Apache-2.0
/** The C and C++ parts: generated headers, then node-gyp, whose makefile knows what is out of date. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { sourceFiles } from '../../seccomp/collect.mjs';
import { at, writeIfChanged } from './paths.mjs';

const BINDING = at('helper', 'binding.gyp');
/** The makefile's actions run `node`: this one. */
const PATH = [dirname(process.execPath), process.env['PATH'] ?? ''].join(delimiter);
const STAMP = at('helper', 'build', '.configured');

/** Runs a program quietly; throws with everything it wrote when it fails, returns what it wrote to stderr. */
const run = (command, args, options = {}) => {
  const child = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 << 20, ...options });
  if (child.error) throw new Error(`${command}: ${child.error.message}`);
  if (child.status !== 0)
    throw new Error(`${child.stdout}${child.stderr}`.trim() || `${command} exited with ${child.status}`);
  return child.stderr;
};

/** helper/gen/options.h, from the OPTIONS table of the controller. */
export const generateOptions = () => {
  const generator = at('scripts', 'gen-options.mjs');
  if (!existsSync(generator)) return { skipped: 'scripts/gen-options.mjs is not there' };
  run(process.execPath, [generator], { cwd: at() });
  return undefined;
};

/** helper/gen/annotations.inc, from the `#syscalls` comments. */
export const collectAnnotations = () => {
  run(process.execPath, [at('seccomp', 'collect.mjs')], { cwd: at() });
  return undefined;
};

/** The prefix whose include/node belongs to this Node, or undefined: then node-gyp downloads or finds its own. */
const headersBesideNode = () => {
  const prefix = join(dirname(process.execPath), '..');
  return existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? prefix : undefined;
};

/**
 * node-gyp with our arguments. Its makefile writes compiler warnings to stderr, which are worth showing;
 * its own chatter (and npm's configuration warnings) is not.
 */
const nodeGyp = (...args) => {
  const prefix = headersBesideNode();
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.toLowerCase().startsWith('npm_')),
  );
  return run(
    process.execPath,
    [
      at('node_modules', 'node-gyp', 'bin', 'node-gyp.js'),
      ...args,
      '--silent',
      ...(prefix ? [`--nodedir=${prefix}`] : []),
    ],
    { cwd: at('helper'), env: { ...env, PATH } },
  );
};

/** Everything that a configuration depends on: another Node, other headers, other targets, other source lists. */
const configurationKey = () =>
  createHash('sha256')
    .update(JSON.stringify([process.version, process.arch, headersBesideNode() ?? null, at()]))
    .update(readFileSync(BINDING))
    // Its version is compiled in.
    .update(readFileSync(at('package.json')))
    // gyp asks for this list at configuration, as the inputs of the collector.
    .update(sourceFiles().join('\n'))
    .digest('hex');

export const configureNative = () => {
  if (!existsSync(BINDING)) return { skipped: 'helper/binding.gyp is not there' };
  const key = `${configurationKey()}\n`;
  if (existsSync(STAMP) && existsSync(at('helper', 'build', 'Makefile')) && readFileSync(STAMP, 'utf8') === key)
    return undefined;
  rmSync(STAMP, { force: true });
  nodeGyp('configure');
  writeIfChanged(STAMP, key);
  return 'configured';
};

const FILTERS = at('helper', 'gen', 'filters.h');

export const buildNative = ({ partial }) => {
  if (!existsSync(at('helper', 'build', 'Makefile'))) return { skipped: 'it is not configured' };
  // What node-gyp build would run, without its half second of start-up. -k: one target's error must not keep the others from being built.
  const make = () =>
    run('make', ['-s', '-C', 'build', 'BUILDTYPE=Release', `-j${availableParallelism()}`, ...(partial ? ['-k'] : [])], {
      cwd: at('helper'),
      env: { ...process.env, PATH },
    });
  const generated = () => (existsSync(FILTERS) ? statSync(FILTERS).mtimeMs : 0);
  const before = generated();
  let stderr = make();
  // make looks at the header's age before it makes it anew, under another name of its path: a second look sees it.
  if (generated() !== before) stderr += make();
  if (stderr.trim() !== '') process.stderr.write(stderr);
  return undefined;
};
