// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Crowds of flows (crowd.c) and what they cost the tool: memory, descriptors. Used by tests and by the benchmark. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { compile, NET } from './lab.mjs';
import { finish, hasExited, pssKib, waitFor } from './process.mjs';

/** @typedef {import('./lab.mjs').Lab} Lab */
/** @typedef {import('./lab.mjs').Side} Side */
/**
 * What one phase came to.
 * @typedef {object} Phase
 * @property {string} phase
 * @property {number} ok flows
 * @property {number} again datagrams that were repeated
 * @property {number} ms
 * @property {Record<string, number>} errors how many flows failed, by errno
 * @property {number} [offered] this and the next: only of `rate`
 * @property {number} [p50_us]
 * @property {number} [p99_us]
 * @property {number} [max_us]
 * @property {number} [late_us]
 */

/** The first of the eight ports of the crowd's server. */
export const CROWD_PORT = 7600;

/** Compiles the program and serves echo on both server addresses. Returns the program's path, for the clients. @param {Lab} lab */
export const crowdServer = async (lab) => {
  const program = await compile('test/support/crowd.c', join(lab.dir, 'crowd'));
  for (const address of [NET.server4, NET.server6]) {
    const server = lab.remote.spawn([program, 'serve', address, String(CROWD_PORT)]);
    await waitFor(() => server.out().includes('listening') || hasExited(server), { what: 'the echo server' });
    if (hasExited(server)) throw new Error(`the echo server: ${server.err()}`);
  }
  return program;
};

/** One client process with its flows. */
export class Crowd {
  process;
  #phases = 0;
  #timeoutMs;
  /** @param {Side} side @param {readonly (string | number)[]} argv @param {number} [timeoutMs] of a phase */
  constructor(side, argv, timeoutMs = 60_000) {
    this.process = side.spawn(argv.map(String), { stdin: 'pipe' });
    this.#timeoutMs = timeoutMs;
  }
  /** The result of the phase that is under way. @returns {Promise<Phase>} */
  async next() {
    const lines = () => this.process.out().split('\n').slice(0, -1);
    const at = this.#phases++;
    await waitFor(() => lines().length > at || hasExited(this.process), {
      what: `the crowd's phase ${at}`,
      timeoutMs: this.#timeoutMs,
    });
    const line = lines()[at];
    if (line === undefined) throw new Error(`the crowd ended: ${this.process.err()}`);
    return JSON.parse(line);
  }
  /** Runs one phase of all open flows to its end. @param {'echo' | 'close' | 'reset'} what */
  tell(what) {
    this.process.child.stdin?.write(`${what}\n`);
    return this.next();
  }
  /** The process goes, and the kernel closes what is still open. */
  async leave() {
    this.process.child.stdin?.end();
    await finish(this.process, { timeoutMs: 10_000 });
  }
}

/** What is measured of: a guest, or a peer of the benchmark. @typedef {{ toolProcesses(): number[] }} Tool */

/** @param {readonly number[]} pids @param {(pid: number) => number} of */
const sum = (pids, of) => pids.reduce((total, pid) => total + of(pid), 0);
/** Proportional set size of all the tool's own processes, KiB. @param {Tool} tool */
export const memoryKib = (tool) => sum(tool.toolProcesses(), pssKib);
/** Open descriptors of all the tool's own processes. @param {Tool} tool */
export const descriptorCount = (tool) => sum(tool.toolProcesses(), (pid) => readdirSync(`/proc/${pid}/fd`).length);
/** Waits until the tool has given back what it had opened. @param {Tool} tool @param {number} count @param {number} [timeoutMs] */
export const descriptorsBack = (tool, count, timeoutMs = 20_000) =>
  waitFor(() => descriptorCount(tool) <= count, { what: `at most ${count} open descriptors`, timeoutMs, everyMs: 50 });
