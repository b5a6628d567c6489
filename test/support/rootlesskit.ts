// SPDX-License-Identifier: Apache-2.0
/** RootlessKit as a consumer: started like its users do, and a way into what it made. */
import { readFileSync, readlinkSync } from 'node:fs';
import { descendants, type Side } from './lab.mjs';
import { type Finished, finish, hasExited, isAlive, type Started, waitFor } from './process.mjs';
import type { TreeMachine } from './tree-machine.ts';

const words = (pid: number): string[] => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return []; // gone meanwhile
  }
};

/** A running rootlesskit whose child waits for the end of its standard input and then ends with status 5. */
export class Kit {
  /** The child's namespaces, as its user 0. */
  readonly inside: Side;
  readonly stateDir: string;
  readonly process: Started;
  private constructor(machine: TreeMachine, process: Started, stateDir: string, childPid: string, detached: boolean) {
    this.process = process;
    this.stateDir = stateDir;
    // The state directory is seen in the child's mount namespace alone when the network is detached.
    const net = detached ? ['nsenter', `--net=${stateDir}/netns`, '--'] : [];
    const enter = ['nsenter', '-t', childPid, '-U', '--preserve-credentials', '-m', ...(detached ? [] : ['-n']), '--'];
    this.inside = machine.user.within([...enter, ...net]);
  }

  static async start(machine: TreeMachine, program: string, stateDir: string, args: readonly string[]): Promise<Kit> {
    const command = ['sh', '-c', 'echo running; cat; exit 5'];
    const argv = [program, '--state-dir', stateDir, ...args, ...command];
    const process = machine.user.spawn(argv, { stdin: 'pipe' });
    await waitFor(() => process.out().includes('running') || hasExited(process), {
      what: 'the child',
      timeoutMs: 20_000,
    });
    if (hasExited(process)) throw new Error(`rootlesskit ended (${process.child.exitCode}):\n${process.err()}`);
    // Written beside the child, not before it.
    const childPid = await waitFor(
      async () => (await machine.user.attempt(['cat', `${stateDir}/child_pid`])).stdout.trim(),
      { what: "rootlesskit's child_pid" },
    );
    return new Kit(machine, process, stateDir, childPid, args.includes('--detach-netns'));
  }

  /** PIDs of rootlesskit and all below it. */
  processes(): number[] {
    const pid = this.process.pid();
    return [pid, ...descendants(pid)];
  }
  /** The process of the network driver that rootlesskit launched. */
  async tool(): Promise<{ readonly pid: number; readonly words: string[]; readonly exe: string }> {
    const named = (pid: number): boolean => /\/?(slirp4netns|pasta)$/.test(words(pid)[0] ?? '');
    const pid = await waitFor(() => descendants(this.process.pid()).find(named), { what: 'the network program' });
    return { pid, words: words(pid), exe: readlinkSync(`/proc/${pid}/exe`) };
  }
  /** Ends the child and waits for rootlesskit. */
  async close(): Promise<Finished> {
    this.process.child.stdin?.end();
    return finish(this.process, { timeoutMs: 15_000 });
  }
}

/** Waits until none of these processes is there. */
export const allGone = async (pids: readonly number[]): Promise<void> => {
  await waitFor(() => !pids.some(isAlive), { what: `the end of ${pids.join(', ')}` });
};
