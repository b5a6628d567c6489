// SPDX-License-Identifier: Apache-2.0
/**
 * One run of one target, in a process of its own: scripts/fuzz.mjs starts it with one JSON argument. Exit status 0: nothing
 * found; 1: something was, and lies in the crash directory.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as log from '../../controller/obs/log.ts';
import { blocks, blocksReached, type Finding, fuzz, replay } from './loop.ts';
import { type Input, parseInput, printInput } from './steps.ts';
import type { Target } from './target.ts';
import { control, pesto, slirp } from './targets/control.ts';
import { frames } from './targets/frames.ts';
import { cli, namesOnWire, netlink, resolv } from './targets/host.ts';
import { arp, dhcpv4, dhcpv6, ndp } from './targets/messages.ts';
import { sockets } from './targets/sockets.ts';
import { stream } from './targets/stream.ts';
import { vnet } from './targets/vnet.ts';

const TARGETS: readonly Target[] = [
  frames,
  vnet,
  stream,
  dhcpv4,
  dhcpv6,
  ndp,
  arp,
  namesOnWire,
  netlink,
  sockets,
  resolv,
  cli,
  pesto,
  control,
  slirp,
];

interface Job {
  readonly target: string;
  readonly seed: number;
  /** Wall clock, milliseconds; 0: only the corpus. */
  readonly ms: number;
  readonly runsMax: number | null;
  readonly corpus: readonly string[];
  readonly crashes: string;
  readonly found: string | null;
  readonly replay: string | null;
}

const SPDX = '# SPDX-License-Identifier: Apache-2.0\n';

const inputsOf = (dir: string): { name: string; input: Input }[] => {
  let names: string[];
  try {
    names = readdirSync(dir).sort();
  } catch {
    return [];
  }
  return names
    .filter((name) => name.endsWith('.txt'))
    .map((name) => {
      try {
        return { name, input: parseInput(readFileSync(join(dir, name), 'utf8')) };
      } catch (error) {
        throw new Error(`${join(dir, name)}: ${error instanceof Error ? error.message : error}`);
      }
    });
};
const save = (dir: string, target: Target, input: Input, comment: string): string => {
  const text = printInput(input);
  const name = `${target.name}-${createHash('sha256').update(text).digest('hex').slice(0, 12)}.txt`;
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, name), `${SPDX}${comment}${text}`);
  return join(dir, name);
};
const commented = (text: string): string => text.replaceAll(/^/gm, '# ');

const report = (target: Target, { input, error }: Finding, job: Job): void => {
  const where = error.stack ?? error.message;
  const file = save(job.crashes, target, input, `${commented(`${target.name}, seed ${job.seed}: ${error.message}`)}\n`);
  console.error(
    `fuzz: ${target.name}: ${where}\nfuzz: the input is in ${file}; again:\n  npm run fuzz -- --replay ${file}`,
  );
};

const main = (job: Job): number => {
  const target = TARGETS.find(({ name }) => name === job.target);
  if (target === undefined) {
    console.error(`fuzz: there is no target ${job.target}; there are ${TARGETS.map(({ name }) => name).join(', ')}`);
    return 2;
  }
  log.setLevel('quiet');
  log.leaveStderr();
  if (job.replay !== null) {
    const finding = replay(target, parseInput(readFileSync(job.replay, 'utf8')));
    if (finding !== null) console.error(`fuzz: ${target.name}: ${finding.error.stack}`);
    else console.log(`fuzz: ${target.name}: ${job.replay} passes`);
    return finding === null ? 0 : 1;
  }
  const started = Date.now();
  const corpus = job.corpus.flatMap(inputsOf);
  if (corpus.length === 0) throw new Error(`no corpus in ${job.corpus.join(', ')}`);
  const keep = (input: Input): void => {
    if (job.found !== null) save(job.found, target, input, '');
  };
  const inputs = corpus.map(({ input }) => input);
  const runsMax = job.ms === 0 ? inputs.length : (job.runsMax ?? Number.POSITIVE_INFINITY);
  const until = job.ms === 0 ? 0 : started + job.ms;
  const { runs, kept, finding } = fuzz(target, inputs, job.seed, until, runsMax, keep);
  if (finding !== null) report(target, finding, job);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(
    `fuzz: ${target.name}: ${runs} runs, ${corpus.length} + ${kept} inputs, ${blocksReached()} of ${blocks} blocks, seed ${job.seed}, ${seconds} s`,
  );
  return finding === null ? 0 : 1;
};

/** The steps of text files as libFuzzer wants them: a file a step, its number as first byte. */
const writeBinary = (from: string, to: string): void => {
  mkdirSync(to, { recursive: true });
  const files = from.endsWith('.txt')
    ? [{ name: 'input', input: parseInput(readFileSync(from, 'utf8')) }]
    : inputsOf(from);
  for (const { name, input } of files)
    for (const [i, { arg, bytes }] of input.entries())
      writeFileSync(join(to, `${name}-${i}`), Buffer.concat([Buffer.from([arg & 0xff]), bytes]));
};

const [argument = '{}', ...paths] = process.argv.slice(2);
if (argument === '--binary') writeBinary(paths[0] ?? '', paths[1] ?? '');
else if (argument === '--targets') console.log(TARGETS.map(({ name }) => name).join('\n'));
else process.exitCode = main(JSON.parse(argument) as Job);
