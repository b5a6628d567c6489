// SPDX-License-Identifier: Apache-2.0
/** Instances of slirp4netns in the lab, started as its callers start it, and the namespaces they serve. */
import { chmodSync, closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Lab, Side } from './lab.mjs';
import { type Finished, finish, hasExited, type Started, waitFor } from './process.mjs';

/** $PASTICHE_SLIRP4NETNS: another program to run these tests with. */
export const slirpBinary = (lab: Lab): string =>
  process.env['PASTICHE_SLIRP4NETNS'] ?? join(dirname(lab.binary), 'slirp4netns');

export interface SlirpOptions {
  /** Before the namespace and the tap's name. */
  readonly args?: readonly string[];
  /** Instead of the PID: what comes after the options, from that PID. */
  readonly operands?: (pid: string) => readonly string[];
  /** Who runs it: the ordinary user, or the lab's root. */
  readonly as?: 'user' | 'root';
  /** Commands in the namespace before it starts. */
  readonly before?: string;
  /** What runs it: a tracer with its options, given the directory of this instance and the PID that holds the namespace. */
  readonly under?: (dir: string, pid: string) => readonly string[];
  /** Without --exit-fd and --ready-fd. */
  readonly bare?: boolean;
}

/** A namespace, the program that serves it, and a way in. */
export class Slirp {
  readonly tool: Started;
  /** In the namespace, as user 0 there. */
  readonly inside: Side;
  readonly dir: string;
  /** Of the process that holds the namespace, in the lab. */
  readonly pid: string;
  readonly #holder: Started;
  #exit: number;

  constructor(tool: Started, inside: Side, dir: string, pid: string, holder: Started, exit: number) {
    this.tool = tool;
    this.inside = inside;
    this.dir = dir;
    this.pid = pid;
    this.#holder = holder;
    this.#exit = exit;
  }
  /** What was written to --ready-fd. */
  ready(): string {
    return readFileSync(join(this.dir, 'ready'), 'utf8');
  }
  /** Closes the other end of --exit-fd. */
  hangUp(): void {
    if (this.#exit >= 0) closeSync(this.#exit);
    this.#exit = -1;
  }
  /** Ends it as podman does, and gives how it ended; then its namespace. */
  async close(): Promise<Finished> {
    this.hangUp();
    const done = await finish(this.tool, { timeoutMs: 5000 });
    this.#holder.child.stdin?.end();
    await finish(this.#holder, { timeoutMs: 5000 });
    rmSync(this.dir, { recursive: true, force: true });
    return done;
  }
}

/** A directory of its own, open to the ordinary user. */
const scratch = (lab: Lab): string => {
  const dir = mkdtempSync(join(lab.dir, 'slirp-'));
  chmodSync(dir, 0o777);
  return dir;
};

/** Starts it, and waits until it is ready or has ended. */
export const startSlirp = async (lab: Lab, options: SlirpOptions = {}): Promise<Slirp> => {
  const { args = [], as = 'user', before = 'true', bare = false } = options;
  const dir = scratch(lab);
  const side = as === 'root' ? lab.host : lab.user;
  const own = as === 'root' ? ['unshare', '--net'] : ['unshare', '--user', '--map-root-user', '--net'];
  const holder = side.spawn([...own, '--', 'sh', '-c', `${before} && echo "pid $$ "; exec cat`], { stdin: 'pipe' });
  const pid = await waitFor(() => /pid (\d+) /.exec(holder.out())?.[1] ?? (hasExited(holder) && 'none'), {
    what: 'a namespace',
  });
  if (pid === 'none') throw new Error(`no namespace: ${holder.err()}`);
  const inside = as === 'root' ? lab.host.within(['nsenter', '-t', pid, '-n', '--']) : lab.into(pid);
  const operands = options.operands?.(pid) ?? [pid, 'tap0'];
  // A FIFO that we hold open both ways is what --exit-fd watches; it is hung up when we close it.
  await side.run(['mkfifo', '-m', '666', join(dir, 'exit')]);
  const exit = openSync(join(dir, 'exit'), constants.O_RDWR);
  const fds = bare ? '' : `5>'${dir}/ready' 6<'${dir}/exit'`;
  const given = bare ? [...args, ...operands] : ['--ready-fd=5', '-e', '6', ...args, ...operands];
  const tool = side.spawn([
    'sh',
    '-c',
    `exec "$0" "$@" ${fds}`,
    ...(options.under?.(dir, pid) ?? []),
    slirpBinary(lab),
    ...given,
  ]);
  const slirp = new Slirp(tool, inside, dir, pid, holder, exit);
  if (!bare)
    await waitFor(() => hasExited(tool) || isReady(slirp), { what: 'slirp4netns to be ready', timeoutMs: 20_000 });
  return slirp;
};
const isReady = (slirp: Slirp): boolean => {
  try {
    return slirp.ready() !== '';
  } catch {
    return false;
  }
};
