// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * The whole test suite, as continuous integration runs it: set-up, types, lint, then every vitest project.
 *
 *   npm test [-- unit style security interop vm forward integration]    only these projects
 *
 * Every part runs, also after a failure of an earlier one; the last line sums up; exit status 1 if anything failed.
 */
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { setupOrExit } from './setup.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
/**
 * What runs beside each other, one lane a core: these wait much, for virtual machines to boot, containers to start, processes to
 * end. `integration` comes alone, after both: it counts wake-ups and system calls, and measures links.
 */
const LANES = [
  ['security', 'vm'],
  ['interop', 'forward', 'unit', 'style'],
];
const ALONE = ['integration'];
const PROJECTS = [...LANES.flat(), ...ALONE];

const asked = process.argv.slice(2);
const unknown = asked.find((name) => !PROJECTS.includes(name));
if (unknown !== undefined) {
  console.error(`test: there is no project ${unknown}; there are ${PROJECTS.join(', ')}`);
  process.exit(2);
}

/** Keeps a program's output and, if asked, shows it as it comes. @param {string} file @param {readonly string[]} args @param {boolean} show @returns {Promise<{ status: number | null, output: string }>} */
const run = (file, args, show) =>
  new Promise((done) => {
    const child = spawn(file, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, FORCE_COLOR: '0' },
    });
    let output = '';
    const keep = (/** @type {Buffer} */ chunk) => {
      output += chunk;
      if (show) process.stdout.write(chunk);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.once('error', (error) => done({ status: 1, output: error.message }));
    child.once('close', (status) => done({ status, output }));
  });

const tool = (/** @type {string} */ name) => `node_modules/.bin/${name}`;
const started = performance.now();
/** @type {string[]} */
const failures = [];
let passed = 0;
let failed = 0;

/** `show` false: its output comes at its end, in one piece. @param {string} name @param {string} file @param {readonly string[]} args */
const part = async (name, file, args, show = true) => {
  if (show) console.log(`\ntest: ${name}`);
  const { status, output } = await run(file, args, show);
  if (!show) console.log(`\ntest: ${name}\n${output}`);
  if (status !== 0) failures.push(name);
  // vitest's own summary: "Tests  1 failed | 41 passed (42)"
  const summary = /^\s*Tests\s+(.*)$/m.exec(stripVTControlCharacters(output))?.[1] ?? '';
  passed += Number(/(\d+) passed/.exec(summary)?.[1] ?? 0);
  failed += Number(/(\d+) failed/.exec(summary)?.[1] ?? 0);
};

setupOrExit({ vm: 'wanted', trees: true });
await part('types', tool('tsc'), ['-p', 'tsconfig.json']);
await part('lint', tool('biome'), ['check', '.']);
const wanted = (/** @type {string} */ name) => asked.length === 0 || asked.includes(name);
/** @param {readonly string[]} lane @param {boolean} show @param {number} workers */
const projects = async (lane, show, workers) => {
  for (const name of lane.filter(wanted))
    await part(name, tool('vitest'), ['run', '--project', name, `--maxWorkers=${workers}`], show);
};
const lanes = LANES.filter((lane) => lane.some(wanted));
await Promise.all(lanes.map((lane, i) => projects(lane, i === 0, Math.ceil(availableParallelism() / lanes.length))));
await projects(ALONE, true, 1);

const seconds = Math.round((performance.now() - started) / 1000);
console.log(`\n${failures.length === 0 ? 'all parts passed' : `failed: ${failures.join(', ')}`} in ${seconds} s`);
console.log(`Tests  ${failed > 0 ? `${failed} failed | ` : ''}${passed} passed (${passed + failed})`);
process.exit(failures.length === 0 ? 0 : 1);
