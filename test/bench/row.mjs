// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** What a row of the benchmark is, and how rows that are about one run share it. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { pssKib } from '../support/process.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */
/** @typedef {import('../support/lab.mjs').Side} Side */
/** @typedef {import('./peers.mjs').Peer} Peer */
/** @typedef {import('./peers.mjs').Running} Running */
/**
 * @typedef {object} Context
 * @property {Lab} lab
 * @property {string} load the load program
 * @property {Peer} peer
 * @property {Running} running
 * @property {Map<unknown, Promise<unknown>>} memo of this peer in this round
 */
/** One sample in the row's unit, or null where the peer has no such thing. @typedef {(context: Context) => Promise<number | null>} Sample */
/**
 * What issue 5 asks of a row. `peer`: our figure divided by that of the better peer; `peerAsShipped`: likewise, where the
 * peer's has the settings of a plain system; `direct`: divided by that of the direct path, perhaps different for BBR. For a
 * row where less is better these are upper bounds. `max` and `min` are in the row's unit.
 * @typedef {{ peer?: number, peerAsShipped?: number, direct?: number | { bbr: number, cubic: number }, max?: number, min?: number }} Target
 */
/**
 * @typedef {object} Row
 * @property {string} name
 * @property {string} unit
 * @property {number} digits after the decimal point
 * @property {number} mtu of link and tap
 * @property {boolean} [less] is better
 * @property {boolean} [bulk] a TCP stream from the guest's side: what the yardstick carries, too
 * @property {boolean} [forwards] with forwarded ports, and the servers behind them
 * @property {number} [rounds] at most
 * @property {boolean} [alone] starts what it needs itself, and before anything else of that tool runs
 * @property {boolean} [oursOnly] the figure is about ourselves: of no other tool it is worth the time
 * @property {boolean} [together] of all peers at once: nothing runs meanwhile
 * @property {'all' | 'main'} [settings] measured in every setting of congestion control and wmem_max; default: in the first alone
 * @property {Target} [target]
 * @property {'pasta' | 'direct'} [check] `--check` watches the ratio to it
 * @property {number} seconds about how long one sample takes
 * @property {Sample} sample
 */

export const PORT = 7500;
export const BULK_MS = 700;
export const SHORT_MS = 600;

/** The last line of what a load client, perhaps after a peer's own words, printed. @param {string} output @returns {Record<string, number>} */
export const lastLine = (output) => JSON.parse(output.trim().split('\n').at(-1) ?? '');

/**
 * KiB by which PSS is too kind because this benchmark is a Node process, too: it halves the controller's pages of the program
 * file, which a user with no other Node has to himself.
 */
const sharedWithUsKib = (/** @type {number} */ pid) => {
  const { ino } = statSync(process.execPath);
  let [kib, isNode] = [0, false];
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const mapping = /^[\da-f]+-[\da-f]+ \S+ \S+ \S+ (\d+)/.exec(line);
    if (mapping !== null) isNode = Number(mapping[1]) === ino;
    const size = isNode && /^(Rss|Pss):\s+(\d+)/.exec(line);
    if (size) kib += size[1] === 'Rss' ? Number(size[2]) : -Number(size[2]);
  }
  return kib;
};

/** Of an instance that is the only one, as if this benchmark were not there. */
export const pssMib = (/** @type {Running} */ running) =>
  running.processes().reduce((sum, pid) => sum + pssKib(pid) + sharedWithUsKib(pid), 0) / 1024;

/** Seconds that all threads of a tool have had a processor so far; softirqs that came meanwhile are in it. @param {Running} running */
export const cpuSeconds = (running) => {
  let ns = 0;
  for (const pid of running.processes())
    for (const task of readdirSync(`/proc/${pid}/task`))
      ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  return ns / 1e9;
};

/**
 * A run that several rows take figures of: it happens once for each peer and round.
 * @template T
 * @param {(context: Context) => Promise<T>} run
 * @returns {(figure: (result: T, context: Context) => number | null) => Sample}
 */
export const shared = (run) => (figure) => async (context) => {
  const running = /** @type {Promise<T>} */ (context.memo.get(run) ?? run(context));
  context.memo.set(run, running);
  return figure(await running, context);
};

/**
 * Runs the load client; its figures, and `cpu`: seconds of processor time of the tool's.
 * @param {(context: Context) => readonly (string | number)[]} args
 * @param {(context: Context) => Side} [side] where it runs; default: in the peer's namespace
 */
export const loadClient = (args, side = ({ running }) => running.side) =>
  shared(async (context) => {
    const before = cpuSeconds(context.running);
    const argv = [context.load, ...args(context).map(String)];
    const figures = lastLine(await side(context).run(argv, { timeoutMs: 8000 }));
    return { ...figures, cpu: cpuSeconds(context.running) - before };
  });

/** @typedef {Record<string, number>} Figures */
/** One of the client's figures. @param {string} key @param {number} factor */
export const only = (key, factor) => (/** @type {Figures} */ figures) => (figures[key] ?? Number.NaN) * factor;
/** Seconds of processor time for so many units of what arrived. @param {string} key @param {number} many */
export const cpuPer =
  (key, many) =>
  (/** @type {Figures} */ figures, /** @type {Context} */ { running }) =>
    running.processes().length === 0 ? null : ((figures['cpu'] ?? 0) * many) / (figures[key] ?? 0);

/** Both ways, as seen from the guest. */
export const WAYS = /** @type {const} */ ([
  ['to guest', 'down'],
  ['from guest', 'up'],
]);
export const many = (/** @type {number} */ n, /** @type {string} */ what) => `${n} ${what}${n === 1 ? '' : 's'}`;
