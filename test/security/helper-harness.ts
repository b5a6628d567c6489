// SPDX-License-Identifier: Apache-2.0
/**
 * Runs the built helper with a stand-in for the controller, which plays a script of requests (helper-stand-in.cjs).
 * When root runs the tests, the helper runs as an ordinary user, in a mount namespace where /dev/net/tun is open to
 * all, as udev would have it.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isRoot, TEST_USER } from '../support/lab.mjs';
import { finish, hasExited, type Started, start, waitFor } from '../support/process.mjs';

const repository = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** Another build of it is tested with PASTICHE_HELPER (test/fuzz: one under sanitizers). */
const HELPER = process.env['PASTICHE_HELPER'] ?? repository('dist/bin/pasta');

export type Side = 'host' | 'netns';
export type Step =
  | { side: Side; text: string; rounds?: number }
  | { release: true }
  | { exit: number }
  /** Waits until the test says so with {@link Installation.go}. */
  | { pause: string }
  /** On the descriptor that came as number `send`, `take`, `close`, counted from 0 over all replies. */
  | { send: number; text: string }
  | { take: number }
  | { close: number }
  /** Closes the host channel and lives on. */
  | { hang: true }
  /** Installs the controller's filter, then makes a call that is outside it: kill(2). */
  | { forbidden: true }
  | { signal: string };
export interface Reply {
  readonly id: number;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: number; readonly message: string; readonly data: { readonly errno: number } };
}
/** What a step brought: a reply with its number of descriptors, the end of the channel (received), or a measurement. */
export interface Outcome {
  readonly reply?: Reply | readonly Reply[];
  readonly fds?: number;
  readonly received?: number;
  readonly text?: string;
  readonly microseconds?: number;
}
export interface Surroundings {
  readonly argv: string[];
  readonly env: Record<string, string>;
  readonly cwd: string;
  readonly descriptors: [number, string][];
  readonly status: string;
}

let nextId = 0;
const request = (method: string, params: unknown): object => ({ jsonrpc: '2.0', id: ++nextId, method, params });
export const call = (side: Side, method: string, params: unknown = {}): Step => ({
  side,
  text: JSON.stringify(request(method, params)),
});
export const batch = (side: Side, ...calls: readonly (readonly [string, unknown])[]): Step & { side: Side } => ({
  side,
  text: JSON.stringify(calls.map(([method, params]) => request(method, params))),
});
export const NO_OUTBOUND = { address4: '', address6: '', interface4: '', interface6: '' };
export const sealBoth = (deny: unknown[] = [], outbound: object = NO_OUTBOUND, grant: unknown[] = []): Step[] => [
  call('host', 'seal', { deny, grant, outbound }),
  call('netns', 'seal', { deny, grant, outbound }),
];
/** What every start must do, from the first call to `ready`. */
export const goReady = (spawn: boolean): Step[] => [
  call('host', 'session.hello', { protocol: 1 }),
  call('netns', 'tap.open', { name: 'tap0' }),
  ...sealBoth(),
  ...(spawn ? [call('netns', 'command.start')] : []),
  { release: true },
  call('host', 'ready'),
];

/** As an ordinary user, with a usable /dev/net/tun; `exec` all the way, so that the PID stays that of the program. */
const TUN_SCRIPT =
  'mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && mount --make-rslave / && exec "$@"';
const asUser = (argv: readonly string[]): string[] => [
  'setpriv',
  `--reuid=${TEST_USER}`,
  `--regid=${TEST_USER}`,
  '--clear-groups',
  ...argv,
];
const withTun = (argv: readonly string[]): string[] => ['unshare', '-m', 'sh', '-c', TUN_SCRIPT, 'sh', ...argv];
export const ordinary = (argv: readonly string[]): string[] => (isRoot ? withTun(asUser(argv)) : [...argv]);
export const asRoot = (argv: readonly string[]): string[] => withTun(argv);

export interface RunOptions {
  readonly steps?: readonly Step[];
  readonly env?: Record<string, string>;
  readonly program?: string;
  readonly root?: boolean;
  readonly outputFile?: string;
  /** Shell text run instead of the program alone; "$@" is the program with its arguments. */
  readonly shell?: string;
}

/** A copy of the build, in a directory that the ordinary user can read, with the stand-in as its bundle. */
export class Installation {
  readonly directory: string;
  #runs: Started[] = [];

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'pastiche-helper-'));
    chmodSync(this.directory, 0o777);
    mkdirSync(join(this.directory, 'bin'));
    copyFileSync(HELPER, this.path('bin/pasta'));
    for (const name of ['passt', 'pastiche', 'slirp4netns']) copyFileSync(HELPER, this.path(`bin/${name}`));
    copyFileSync(repository('dist/pastiche.node'), this.path('pastiche.node'));
    copyFileSync(repository('dist/controller.bpf'), this.path('controller.bpf'));
    copyFileSync(repository('test/security/helper-stand-in.cjs'), this.path('controller.cjs'));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** What the stand-in will do in the next run. */
  script(steps: readonly Step[]): void {
    for (const old of ['replies.ndjson', 'surroundings.json', 'script-done']) rmSync(this.path(old), { force: true });
    writeFileSync(this.path('script.json'), JSON.stringify({ steps }));
  }

  start(args: readonly string[], options: RunOptions = {}): Started {
    this.script(options.steps ?? []);
    const program = [this.path(options.program ?? 'bin/pasta'), ...args];
    const argv = options.shell === undefined ? program : ['sh', '-c', options.shell, 'sh', ...program];
    const started = start(options.root === true ? asRoot(argv) : ordinary(argv), {
      env: { PASTICHE_NODE: process.execPath, ...options.env },
      ...(options.outputFile === undefined ? {} : { outputFile: options.outputFile }),
    });
    this.#runs.push(started);
    return started;
  }

  async run(args: readonly string[], options: RunOptions = {}): Promise<Awaited<ReturnType<typeof finish>>> {
    return finish(this.start(args, options), { timeoutMs: 20_000 });
  }

  outcomes(): Outcome[] {
    if (!existsSync(this.path('replies.ndjson'))) return [];
    const lines = readFileSync(this.path('replies.ndjson'), 'utf8').split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Outcome);
  }

  /** The reply to step `index`, which was a single request. */
  reply(index: number): Reply {
    const outcome = this.outcomes()[index];
    if (outcome?.reply === undefined) throw new Error(`no reply to step ${index}: ${JSON.stringify(outcome)}`);
    return outcome.reply as Reply;
  }

  /** The replies to step `index`, which was a batch. */
  replies(index: number): readonly Reply[] {
    const outcome = this.outcomes()[index];
    if (!Array.isArray(outcome?.reply)) throw new Error(`no replies to step ${index}: ${JSON.stringify(outcome)}`);
    return outcome.reply as readonly Reply[];
  }

  surroundings(): Surroundings {
    return JSON.parse(readFileSync(this.path('surroundings.json'), 'utf8')) as Surroundings;
  }

  /** Until the stand-in has played its whole script and waits. */
  async scriptDone(): Promise<void> {
    const run = this.#runs.at(-1);
    const ended = (): boolean => run !== undefined && hasExited(run) && run.child.exitCode !== 0;
    await waitFor(() => existsSync(this.path('script-done')) || ended(), { what: 'the stand-in to finish its script' });
    if (!existsSync(this.path('script-done')))
      throw new Error(`the helper ended with ${run?.child.exitCode}: ${run?.err()}`);
  }

  /** Until the stand-in waits at the step `pause`. */
  async paused(name: string): Promise<void> {
    const run = this.#runs.at(-1);
    await waitFor(() => existsSync(this.path(`paused-${name}`)) || run === undefined || hasExited(run), {
      what: `the stand-in to pause at ${name}`,
    });
    if (!existsSync(this.path(`paused-${name}`))) throw new Error(`the helper ended: ${run?.err()}`);
  }

  go(name: string): void {
    writeFileSync(this.path(name), '');
  }

  remove(): void {
    for (const run of this.#runs) run.kill('SIGKILL');
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 20 });
  }
}
