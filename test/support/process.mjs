// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Starting programs, waiting for them and for conditions, and looking at them through /proc. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * @typedef {object} RunOptions
 * @property {string | Buffer} [input] written to standard input
 * @property {'pipe' | 'ignore'} [stdin] default: 'pipe' with `input`, else 'ignore' (/dev/null)
 * @property {Record<string, string>} [env] added to a minimal environment
 * @property {number} [timeoutMs] after which the program is killed (default 60 s)
 * @property {number} [depth] how many of our direct descendants come before the program itself
 * @property {string} [outputFile] standard output and error go here instead of pipes
 */
/**
 * @typedef {object} Finished
 * @property {number | null} status
 * @property {string | null} signal
 * @property {string} stdout
 * @property {string} stderr
 * @property {boolean} timedOut
 */
/**
 * A running program behind the commands that entered its namespaces.
 * @typedef {object} Started
 * @property {import('node:child_process').ChildProcess} child
 * @property {() => number} pid PID of the program itself, seen from outside
 * @property {(signal: NodeJS.Signals) => void} kill
 * @property {() => string} out
 * @property {() => string} err
 * @property {Promise<void>} closed its output reached end of file and it is gone
 */

/** @param {readonly string[]} argv @param {RunOptions} options @returns {Started} */
export const start = (argv, options) => {
  const [file, ...args] = argv;
  if (file === undefined) throw new Error('no program given');
  const stdin = options.stdin ?? (options.input === undefined ? 'ignore' : 'pipe');
  const output = options.outputFile === undefined ? 'pipe' : openSync(options.outputFile, 'a', 0o644);
  const child = spawn(file, args, {
    cwd: '/',
    stdio: [stdin, output, output],
    env: { PATH: searchPath(), HOME: '/run/scratch', TMPDIR: '/tmp', LC_ALL: 'C', ...options.env },
  });
  if (typeof output === 'number') closeSync(output);
  let out = '';
  let err = '';
  child.stdout?.setEncoding('utf8').on('data', (/** @type {string} */ chunk) => {
    out += chunk;
  });
  child.stderr?.setEncoding('utf8').on('data', (/** @type {string} */ chunk) => {
    err += chunk;
  });
  /** @type {Promise<void>} */
  const closed = new Promise((done) => {
    child.once('close', () => done());
    child.once('error', (error) => {
      err += error.message;
      done();
    });
  });
  child.stdin?.on('error', () => {}); // the program may end before it has read all
  if (options.input !== undefined) child.stdin?.end(options.input);
  const depth = options.depth ?? 0;
  const pid = () => below(child.pid ?? 0, depth);
  const kill = (/** @type {NodeJS.Signals} */ signal) => signalQuietly(pid(), signal);
  return { child, pid, kill, out: () => out, err: () => err, closed };
};

/** @param {Started} started @param {RunOptions} options @returns {Promise<Finished>} */
export const finish = async (started, options) => {
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    started.kill('SIGKILL');
    started.child.stdout?.destroy();
    started.child.stderr?.destroy();
    started.child.kill('SIGKILL');
  }, options.timeoutMs ?? 60_000);
  await started.closed;
  clearTimeout(timer);
  const { exitCode: status, signalCode: signal } = started.child;
  return { status, signal, stdout: started.out(), stderr: started.err(), timedOut };
};

/** @param {Pick<Started, 'child'>} started */
export const hasExited = ({ child }) => child.exitCode !== null || child.signalCode !== null;

/**
 * Polls until `condition` gives something true, which is returned.
 * @template T
 * @param {() => T | Promise<T>} condition
 * @param {{ what: string, timeoutMs?: number, everyMs?: number }} options
 * @returns {Promise<Exclude<T, false | null | undefined | 0 | ''>>}
 */
export const waitFor = async (condition, { what, timeoutMs = 10_000, everyMs = 10 }) => {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return /** @type {Exclude<T, false | null | undefined | 0 | ''>} */ (value);
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    await sleep(everyMs);
  }
};

/** PATH with the system directories that an ordinary user's may lack. */
export const searchPath = () => `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

/** @param {number} pid @returns {number[]} */
export const childrenOf = (pid) => {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
};

/** The first child of the first child…, `depth` times; 0 when it is not there. @param {number} pid @param {number} depth @returns {number} */
const below = (pid, depth) => (depth === 0 ? pid : below(childrenOf(pid)[0] ?? 0, depth - 1));

/** @param {number} pid @param {NodeJS.Signals} signal */
export const signalQuietly = (pid, signal) => {
  if (pid <= 1) return;
  try {
    process.kill(pid, signal);
  } catch {
    // It is gone, which is what was wanted.
  }
};

/** Whether a process exists and is not a zombie. @param {number} pid */
export const isAlive = (pid) => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !/^[ZX]$/.test(stat.slice(stat.lastIndexOf(')') + 2)[0] ?? '');
  } catch {
    return false;
  }
};

/** Fields of /proc/PID/status, or of a thread's (`PID/task/TID`). @param {number | string} pid @returns {Record<string, string>} */
export const status = (pid) =>
  Object.fromEntries(
    readFileSync(`/proc/${pid}/status`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
  );

/** Descriptor number → what it refers to. @param {number} pid @returns {Map<number, string>} */
export const descriptors = (pid) => {
  /** @type {Map<number, string>} */
  const found = new Map();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    try {
      found.set(Number(fd), readlinkSync(`/proc/${pid}/fd/${fd}`));
    } catch {
      // closed since it was listed
    }
  }
  return found;
};

/** Namespace identities, e.g. `{ net: 'net:[4026531840]' }`. @param {number} pid @returns {Record<string, string>} */
export const namespaces = (pid) =>
  Object.fromEntries(
    ['user', 'net', 'mnt', 'ipc', 'uts', 'pid'].map((ns) => [ns, readlinkSync(`/proc/${pid}/ns/${ns}`)]),
  );

/** Context switches of all threads since their start. @param {number} pid */
export const contextSwitches = (pid) => {
  let sum = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const text = readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8');
    for (const [, count] of text.matchAll(/ctxt_switches:\s+(\d+)/g)) sum += Number(count);
  }
  return sum;
};

/** Proportional set size of a process in KiB. @param {number} pid */
export const pssKib = (pid) =>
  Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
