// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** How fast the Internet checksum is made: by the specification in TypeScript, by the addon's portable C, with AVX2. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { rolldown } from 'rolldown';
import { REPOSITORY } from '../support/lab.mjs';
import { finish, start } from '../support/process.mjs';

/** A short datagram, a frame, a superframe; octets. */
const LENGTHS = [64, 1500, 65_536];
/** Each figure is the best of short runs, so long together. */
const MS = 300;

/** Standard output of a program that must succeed. @param {readonly string[]} argv */
const run = async (argv) => {
  const { status, stdout, stderr } = await finish(start(argv, {}), { timeoutMs: 60_000 });
  if (status !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`);
  return stdout;
};

/** The specification as a module. @param {string} dir @returns {Promise<(view: DataView, at: number, length: number, initial: number) => number>} */
const specification = async (dir) => {
  const build = await rolldown({ input: join(REPOSITORY, 'controller/wire/checksum.ts'), platform: 'node' });
  const file = join(dir, 'checksum.mjs');
  await build.write({ file, format: 'es' });
  await build.close();
  return (await import(pathToFileURL(file).href)).sum;
};

/** @param {(view: DataView, at: number, length: number, initial: number) => number} sum @param {number} length */
const octetsPerNs = (sum, length) => {
  const view = new DataView(new Uint8Array(length).map((_, i) => i * 31 + 7).buffer);
  const calls = 1 + Math.floor(65_536 / length);
  let [best, result] = [0, 0];
  for (const end = performance.now() + MS; performance.now() < end; ) {
    const from = process.hrtime.bigint();
    for (let i = 0; i < calls; i++) result = sum(view, 0, length, result);
    best = Math.max(best, (calls * length) / Number(process.hrtime.bigint() - from));
  }
  return best;
};

/** A row for each length. @returns {Promise<string[][]>} */
export const checksumTable = async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pastiche-checksum-'));
  try {
    const sum = await specification(dir);
    const program = join(dir, 'checksum');
    // As the addon is compiled, helper/binding.gyp.
    const sources = ['test/bench/checksum.cc', 'helper/addon/checksum.cc'].map((each) => join(REPOSITORY, each));
    await run(['g++', '-std=gnu++17', '-O2', '-Wall', '-Wextra', '-o', program, ...sources]);
    const rows = [];
    for (const length of LENGTHS) {
      const native = JSON.parse(await run([program, String(length), String(MS)]));
      const figures = [octetsPerNs(sum, length), native.portable, native.avx2];
      rows.push([`${length} octets`, ...figures.map((figure) => figure?.toFixed(2) ?? '–')]);
    }
    return [['octets/ns', 'TypeScript, the specification', 'portable C', 'AVX2'], ...rows];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
};
