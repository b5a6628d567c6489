// SPDX-License-Identifier: Apache-2.0
/** The native program beside this one: `pastiche instance …` (helper/src/keeper.c) for locks and a look into namespaces, `pasta` for an instance. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { CODE, PluginError } from './plugin-error.ts';

/** sysexits.h, as keeper.c uses it. */
const STATUS = { TIMED_OUT: 75, NO_NAMESPACE: 66, NOT_ALLOWED: 77, OWN_NAMESPACE: 78 } as const;
/** An instance gives up by itself after 30 s of silence. */
const START_MS = 60_000;
/** Of what an instance says while it starts. */
const OUTPUT_BYTES_MAX = 1024 * 1024;

const { PATH } = process.env;
const program = (name: string): string => join(import.meta.dirname, 'bin', name);
const lines = (text: string): string => text.trim().split('\n').filter(Boolean).join('; ');

interface Ended {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}
const run = (name: string, args: readonly string[], fd: number, cwd: string | undefined): Ended => {
  const done = spawnSync(program(name), args, {
    stdio: ['ignore', 'pipe', 'pipe', fd < 0 ? 'ignore' : fd],
    // With a capability of its own, the native program goes by PATH alone.
    env: { PASTICHE_NODE: process.execPath, ...(PATH === undefined ? {} : { PATH }) },
    encoding: 'utf8',
    timeout: START_MS,
    killSignal: 'SIGKILL',
    maxBuffer: OUTPUT_BYTES_MAX,
    ...(cwd === undefined ? {} : { cwd }),
  });
  if ((done.error as NodeJS.ErrnoException | undefined)?.code === 'E2BIG')
    throw new PluginError(
      CODE.INVALID_CONFIG,
      'The configuration is longer than a command line may be',
      `${name}, ${args.length} words`,
    );
  if (done.error !== undefined && done.status === null && done.signal === null)
    throw new PluginError(CODE.IO, `Can't run ${program(name)}`, done.error.message);
  const killed = done.signal === null ? '' : `${name} was ended by ${done.signal}\n`;
  return { status: done.status ?? 1, out: done.stdout, err: `${done.stderr}${killed}` };
};

/** `words` of keeper.c, on the lock file open as `fd` (-1: none). Returns what it printed, or null for an instance that nobody holds. */
const keeper = (words: readonly string[], fd: number): string | null => {
  const { status, out, err } = run('pastiche', ['instance', ...words], fd, undefined);
  switch (status) {
    case 0:
      return out;
    case 1:
      if (err === '') return null;
      throw new PluginError(CODE.IO, lines(err));
    case STATUS.TIMED_OUT:
      throw new PluginError(
        CODE.TRY_AGAIN,
        'Another call for this attachment is not finished, or its instance does not end',
      );
    case STATUS.NO_NAMESPACE:
      throw new PluginError(CODE.UNKNOWN_CONTAINER, lines(err));
    case STATUS.NOT_ALLOWED:
      throw new PluginError(CODE.INVALID_ENVIRONMENT, lines(err), 'CNI_NETNS');
    case STATUS.OWN_NAMESPACE:
      throw new PluginError(CODE.OWN_NAMESPACE, lines(err));
    default:
      throw new PluginError(CODE.IO, lines(err) || `pastiche instance ended with status ${status}`);
  }
};

/** Locks the open file of `fd` for this process, waiting `ms` at most. */
export const lockFile = (fd: number, ms: number): void => {
  keeper(['lock', String(ms)], fd);
};
/** Ends the instance that holds the lock file, if any does; the file is locked exclusively then. */
export const endInstance = (fd: number, ms: number): void => {
  keeper(['end', String(ms)], fd);
};
export const isHeld = (fd: number): boolean => keeper(['holder'], fd) !== null;
/** Lines about an interface (attach/look.ts); '' when the namespace has none of that name. */
export const lookAt = (netns: string, ifname: string): string => keeper(['look', netns, ifname], -1) ?? '';
/** Both at once, since each start of a program is a millisecond or two. */
export const lockAndLookAt = (fd: number, ms: number, netns: string, ifname: string): string =>
  keeper(['lock', String(ms), 'look', netns, ifname], fd) ?? '';

/**
 * Starts an instance of pasta that holds the lock file `fd`, in the directory `cwd`. It is ready on return; what it warned of is
 * returned. Throws {@link PluginError} with its own words.
 */
export const startInstance = (args: readonly string[], fd: number, cwd: string): string => {
  const { status, out, err } = run('pasta', [...args, '--lock-fd', '3'], fd, cwd);
  if (status !== 0) throw new PluginError(CODE.NOT_STARTED, lines(err) || `pasta ended with status ${status}`);
  return `${out}${err}`;
};
