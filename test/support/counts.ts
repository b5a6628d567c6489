// SPDX-License-Identifier: Apache-2.0
/** Counting what the tool's processes do, for the tests of costs that do not drift with the machine. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandName, type Guest, type Lab, REPOSITORY } from './lab.mjs';
import { finish, start, waitFor } from './process.mjs';

export const controllerOf = (guest: Guest): number =>
  guest.toolProcesses().find((pid) => commandName(pid) === 'node') ?? 0;
export const helpersOf = (guest: Guest): number[] => guest.toolProcesses().filter((pid) => pid !== controllerOf(guest));

/** System call → how often, of a table of `strace -c`. */
const parseTable = (text: string): Map<string, number> =>
  new Map(
    [...text.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?([a-z_][a-z0-9_]*)$/gm)]
      .filter(([, , name]) => name !== 'total')
      .map(([, count, name]) => [name as string, Number(count)]),
  );

export interface Counted<T> {
  readonly calls: number;
  readonly byName: string;
  readonly result: T;
}
/** What V8 does by itself, for its threads and its memory: how often is a matter of time. */
const RUNTIME = new Set(['futex', 'mprotect', 'madvise', 'mmap', 'munmap', 'brk']);
/** System calls of all threads of these processes while `work` is done, but for V8's own. */
export const countCalls = async <T>(lab: Lab, pids: readonly number[], work: () => Promise<T>): Promise<Counted<T>> => {
  const file = join(lab.dir, 'strace-counts');
  const strace = start(['strace', '-f', '-c', '-o', file, ...pids.flatMap((pid) => ['-p', String(pid)])], {});
  await waitFor(
    () => pids.every((pid) => strace.err().includes(`Process ${pid} attached`)) || strace.child.exitCode !== null,
    {
      what: 'strace to attach',
    },
  );
  if (strace.child.exitCode !== null) throw new Error(`strace: ${strace.err()}`);
  const result = await work();
  strace.child.kill('SIGINT');
  await finish(strace, { timeoutMs: 10_000 });
  const table = [...parseTable(readFileSync(file, 'utf8'))]
    .filter(([name]) => !RUNTIME.has(name))
    .sort(([, a], [, b]) => b - a);
  const byName = table.map(([name, count]) => `${name} ${count}`).join(', ');
  return { calls: table.reduce((sum, [, count]) => sum + count, 0), byName, result };
};

/**
 * A command that is the tool, with one processor: it does not look for events before it sleeps (controller/app/alert.ts), and how often it
 * would depends on the machine's speed.
 */
export const onOneProcessor = (lab: Lab): string => {
  const first = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  const tool = join(lab.dir, 'pasta-on-one-processor');
  writeFileSync(tool, `#!/bin/sh\nexec taskset -c ${first} ${lab.binary} "$@"\n`);
  chmodSync(tool, 0o755);
  return tool;
};

/** Bytes of a young generation that fills so often: 1 MiB. */
export const YOUNG_BYTES = 1 << 20;
/**
 * A command that is the tool, with a controller that tells of each garbage collection on the tool's standard error. Node is
 * what PASTICHE_NODE says, for the helper as it is shipped: here a script that adds V8's flags. Sealing lets go of standard
 * output, where V8 writes; a library keeps it.
 */
export const tracingGc = async (lab: Lab): Promise<string> => {
  const [library, node, tool] = ['keep-stdout.so', 'node', 'pasta'].map((name) => join(lab.dir, name)) as [
    string,
    string,
    string,
  ];
  const source = join(REPOSITORY, 'test/support/keep-stdout.c');
  const { status, stderr } = await finish(start(['gcc', '-shared', '-fPIC', '-O1', '-o', library, source], {}), {});
  if (status !== 0) throw new Error(stderr);
  const flags = '--trace-gc --min-semi-space-size=1 --max-semi-space-size=1';
  writeFileSync(node, `#!/bin/sh\nLD_PRELOAD=${library} exec ${process.execPath} ${flags} "$@"\n`);
  writeFileSync(tool, `#!/bin/sh\nPASTICHE_NODE=${node} exec ${lab.binary} "$@"\n`);
  for (const path of [node, tool]) chmodSync(path, 0o755);
  return tool;
};
export const collections = (guest: Guest): string[] =>
  guest.tool
    .err()
    .split('\n')
    .filter((line) => /\b(Scavenge|Mark-Compact)\b/.test(line));
