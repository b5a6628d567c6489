// SPDX-License-Identifier: Apache-2.0
/**
 * Builds everything: allowlists, helper, addon, bundle. Incremental; prints one line a part.
 *
 *   node scripts/build.mjs             all of it; the first failure ends the build with exit status 1
 *   node scripts/build.mjs --partial   what exists and compiles; says what is missing, exit status 1 only if a part failed
 *   node scripts/build.mjs --clean     removes what earlier builds made, then builds
 *
 * It installs nothing: a missing tool is named with the package that has it.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { bundle, compile } from './lib/bundle.mjs';
import { installOutputs } from './lib/install.mjs';
import { buildManual } from './lib/manual.mjs';
import { buildNative, collectAnnotations, configureNative, generateOptions } from './lib/native.mjs';
import { at, root } from './lib/paths.mjs';
import { missingTools } from './lib/tools.mjs';

const KNOWN = new Set(['--partial', '--clean']);
const args = process.argv.slice(2);
const unknown = args.find((arg) => !KNOWN.has(arg));
if (unknown !== undefined) {
  console.error(`build: unknown argument ${unknown}; known are ${[...KNOWN].join(' and ')}`);
  process.exit(2);
}
const partial = args.includes('--partial');

/** Two builds at once would compile into each other's directory: the whole script runs again under flock(1), where there is one. */
const underLock = () => {
  if (process.env['PASTICHE_BUILD_LOCKED'] === '1') return;
  mkdirSync(at('dist'), { recursive: true });
  const again = spawnSync('flock', [at('dist', '.build.lock'), process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, PASTICHE_BUILD_LOCKED: '1' },
  });
  if (again.error?.code === 'ENOENT') return;
  process.exit(again.status ?? 1);
};

/** The parts in order. Each returns undefined (done, nothing worth a line), a string (done: what), or `{ skipped }`. */
const PARTS = [
  ['options', generateOptions],
  ['annotations', collectAnnotations],
  ['configure', configureNative],
  ['native', buildNative],
  ['bundle', bundle],
  ['manual pages and completions', buildManual],
  ['install', installOutputs],
  ['code cache', compile],
];

const main = async () => {
  underLock();
  const started = performance.now();
  const missing = missingTools();
  for (const sentence of missing) console.error(`build: ${sentence}`);
  if (missing.length > 0) return 1;
  if (args.includes('--clean')) {
    for (const path of ['helper/build', 'helper/gen', 'dist/bin', 'dist/seccomp', 'dist/systemd'])
      rmSync(join(root, path), { recursive: true, force: true });
    for (const file of [
      'client.cjs',
      'controller.cjs',
      'controller.bundle.cjs',
      'controller.cache',
      'controller.bpf',
      'pastiche.node',
    ])
      rmSync(at('dist', file), { force: true });
    for (const path of ['completions', 'man']) rmSync(at('dist', path), { recursive: true, force: true });
  }
  let failed = 0;
  for (const [name, part] of PARTS) {
    try {
      const outcome = await part({ partial });
      if (outcome?.skipped !== undefined && !partial) throw new Error(outcome.skipped);
      if (outcome?.skipped !== undefined) console.log(`build: ${name}: skipped, ${outcome.skipped}`);
      else if (outcome !== undefined) console.log(`build: ${name}: ${outcome}`);
    } catch (error) {
      failed++;
      console.error(`build: ${name} failed\n${error.message}`);
      if (!partial) return 1;
    }
  }
  console.log(
    `build: ${failed === 0 ? 'done' : `${failed} part${failed > 1 ? 's' : ''} failed`} in ${((performance.now() - started) / 1000).toFixed(1)} s`,
  );
  return failed === 0 ? 0 : 1;
};

process.exit(await main());
