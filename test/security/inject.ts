// SPDX-License-Identifier: Apache-2.0
/** System calls made in somebody else's name: by a thread of a running process, which only real root may direct. */
import { execFile, execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { isRoot } from '../support/lab.mjs';
import { syscallNumbers } from '../support/syscalls.ts';

/** Why nothing can be injected here; null if it can. A sealed process is not dumpable, which shuts out its own user. */
export const whyNoInjection = (): string | null => {
  if (process.arch !== 'x64') return `the injector knows the registers of x64, not of ${process.arch}`;
  return isRoot ? null : 'only root may attach to a process that is not dumpable';
};

export type Argument = number | string;
/** `returned` is the call's result, an errno negated. */
export type Injected = { readonly killed: number } | { readonly returned: number };

const numbers = syscallNumbers();
/** The number of a call by name, or of the same in another ABI: `x32:getpid`. */
export const callNumber = (name: string): number => {
  const found = numbers.get(name.replace(/^x32:/, ''));
  if (found === undefined) throw new Error(`this architecture has no ${name}`);
  return name.startsWith('x32:') ? found + 0x4000_0000 : found;
};

export class Injector {
  readonly #program: string;
  constructor(directory: string) {
    this.#program = join(directory, 'inject');
    const source = fileURLToPath(new URL('inject.c', import.meta.url));
    execFileSync('cc', ['-O1', '-Wall', '-Wextra', '-Werror', source, '-o', this.#program]);
  }

  /** Strings are `@TEXT`, of which the call gets the address. Resolves when the call has returned or the thread has ended. */
  async call(tid: number, name: string, args: readonly Argument[] = []): Promise<Injected> {
    const argv = [tid, callNumber(name), ...args].map(String);
    const { stdout } = await promisify(execFile)(this.#program, argv, { timeout: 10_000 });
    const [how, value] = stdout.trim().split(' ');
    if (how === 'killed') return { killed: Number(value) };
    if (how === 'returned') return { returned: Number(value) };
    throw new Error(`${name}: ${stdout}`);
  }
}
