// SPDX-License-Identifier: Apache-2.0
/**
 * The fuzzer: hostile input for every reader of the program, for as long as one likes.
 *
 *   npm run fuzz                                 every target for 20 seconds, one after another
 *   npm run fuzz -- --seconds 3600 --target frames --target rpc    these two for an hour each
 *   npm run fuzz -- --seed 7                     the same run again (the seed is printed; otherwise it is random)
 *   npm run fuzz -- --seconds 0                  only the corpus
 *   npm run fuzz -- --sanitize --target frames   with the addon under AddressSanitizer making every sum, too
 *   npm run fuzz -- --replay test/fuzz/crashes/FILE
 *   npm run fuzz -- --sanitized-tests            the tests of addon and helper, both built with ASan and UBSan (--quick: some)
 *
 * Targets of TypeScript are guided by coverage (scripts/lib/fuzz-bundle.mjs), `rpc` is libFuzzer with ASan and UBSan on the helper's
 * reader. A finding is saved, shortened, in test/fuzz/crashes/, and the exit status is 1. Inputs that reached something new
 * are kept in dist/fuzz/found/ and used by the next run, unless a seed was given.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { bundleFuzz, FUZZ_BUNDLE } from './lib/fuzz-bundle.mjs';
import {
  addonEnvironment,
  buildAddon,
  buildHelper,
  buildRpcFuzzer,
  HELPER,
  hasLibFuzzer,
  runRpcFuzzer,
  SANITIZER_OPTIONS,
} from './lib/fuzz-native.mjs';
import { readOptions } from './lib/options.mjs';
import { at } from './lib/paths.mjs';

const SECONDS = 20;
/** Beyond the seconds asked for: start, the corpus, shortening a finding. */
const GRACE_MS = 60_000;
const CORPUS = at('test', 'fuzz', 'corpus');
const CRASHES = at('test', 'fuzz', 'crashes');
const FOUND = at('dist', 'fuzz', 'found');
const NATIVE = 'rpc';

const fail = (sentence) => {
  console.error(`fuzz: ${sentence}`);
  process.exit(2);
};
const number = (text, name) => {
  const n = Number(text);
  return Number.isFinite(n) && n >= 0 ? n : fail(`--${name} takes a number, not ${text}`);
};

const given = readOptions(import.meta.url, {
  seconds: { type: 'string', default: String(SECONDS) },
  runs: { type: 'string' },
  target: { type: 'string', multiple: true },
  seed: { type: 'string' },
  replay: { type: 'string' },
  sanitize: { type: 'boolean', default: false },
  'sanitized-tests': { type: 'boolean', default: false },
  quick: { type: 'boolean', default: false },
});
const seconds = number(given.seconds, 'seconds');
const seed = given.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : number(given.seed, 'seed');
const targets = readdirSync(CORPUS).sort();

/** Which target an input belongs to: the corpus directory it lies in, or the first part of a crash's name. */
const targetOf = (file) => {
  const candidates = [basename(dirname(file)), basename(file).split('-')[0]];
  return candidates.find((name) => targets.includes(name)) ?? fail(`${file} names no target (${targets.join(', ')})`);
};
const replayed = given.replay === undefined ? null : resolve(given.replay);
const wanted = replayed !== null ? [targetOf(replayed)] : (given.target ?? targets);
const unknown = wanted.find((name) => !targets.includes(name));
if (unknown !== undefined) fail(`there is no target ${unknown}; there are ${targets.join(', ')}`);

/** 0 when nothing was found. */
const runScript = (target) => {
  const job = {
    target,
    seed,
    ms: seconds * 1000,
    runsMax: given.runs === undefined ? null : number(given.runs, 'runs'),
    corpus: [join(CORPUS, target), ...(given.seed === undefined ? [join(FOUND, target)] : [])],
    crashes: CRASHES,
    found: given.seed === undefined && seconds > 0 ? join(FOUND, target) : null,
    replay: replayed,
  };
  const child = spawnSync(process.execPath, [FUZZ_BUNDLE, JSON.stringify(job)], {
    stdio: 'inherit',
    timeout: seconds * 1000 + GRACE_MS,
    killSignal: 'SIGKILL',
    env: { ...process.env, ...(given.sanitize ? addonEnvironment() : {}) },
  });
  if (child.error !== undefined || child.signal !== null)
    console.error(`fuzz: ${target}: ended by ${child.signal ?? child.error.message}, seed ${seed}`);
  return child.status ?? 1;
};

const runNative = () => {
  if (!hasLibFuzzer()) {
    const sentence = 'clang with libFuzzer is missing (Debian: apt-get install clang libclang-rt-dev)';
    if (process.env['CI'] === 'true') fail(sentence);
    console.log(`fuzz: ${NATIVE}: skipped, ${sentence}`);
    return 0;
  }
  buildRpcFuzzer();
  return runRpcFuzzer({ seconds, seed, replay: replayed, corpus: join(CORPUS, NATIVE), crashes: CRASHES });
};

/** Tests that exist already, against builds with sanitizers. Those of sealing are not among them: a filter ends their runtime. */
const sanitizedTests = async () => {
  await Promise.all([buildAddon(), buildHelper()]);
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST')));
  const vitest = (env, args) =>
    spawnSync(process.execPath, [at('node_modules', 'vitest', 'vitest.mjs'), 'run', ...args], {
      cwd: at(),
      stdio: 'inherit',
      env: { ...clean, ...env },
    }).status ?? 1;
  const addon = ['--project', 'unit', 'test/unit/addon', '--exclude', '**/addon-seal*'];
  const helper = given.quick ? ['rpc-parity', '-t', 'what is not a request'] : ['rpc-parity', 'helper-process'];
  const results = [
    vitest(addonEnvironment(), addon),
    vitest({ PASTICHE_HELPER: HELPER, ...SANITIZER_OPTIONS }, ['--project', 'security', ...helper]),
  ];
  return results.every((status) => status === 0) ? 0 : 1;
};

if (given['sanitized-tests']) process.exit(await sanitizedTests());
mkdirSync(CRASHES, { recursive: true });
if (given.sanitize) await buildAddon();
await bundleFuzz();
let failed = 0;
for (const target of wanted) if ((target === NATIVE ? runNative() : runScript(target)) !== 0) failed++;
process.exitCode = failed === 0 ? 0 : 1;
