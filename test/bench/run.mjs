// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Measures rows: a lab for each MTU, with and without forwarded ports; in each round every row, in each row every peer in turn. */
import { join } from 'node:path';
import { compile, makeLab, NET, Side } from '../support/lab.mjs';
import { INBOUND_PORT, OUTBOUND_PORT, serveLoad } from './peers.mjs';
import { PORT } from './row.mjs';
import { DIRECT, OURS } from './samples.mjs';
import { apply, checkCongestion } from './settings.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */
/** @typedef {import('./peers.mjs').Peer} Peer */
/** @typedef {import('./peers.mjs').Running} Running */
/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./samples.mjs').Samples} Samples */
/** @typedef {import('./settings.mjs').Setting} Setting */
/**
 * @typedef {object} Work
 * @property {Setting} setting
 * @property {readonly Row[]} rows
 * @property {readonly Peer[]} peers
 * @property {number} rounds
 * @property {Samples} samples
 * @property {(row: Row, peer: Peer) => boolean} [takes] whether a row is measured of a peer; default: of all
 */

const MTUS = [1500, 65_520];
/** Nothing runs of it: a row that is measured alone starts its peer itself. @type {Running} */
const NOT_RUNNING = { side: new Side(['false'], 0), processes: () => [], close: async () => {} };

/** The lab goes, and the process with it, as soon as it can: what still waits for the lab is to say nothing any more. */
let interrupted = false;
const unlessInterrupted = async () => {
  if (interrupted) await new Promise(() => {});
};

/** How long it takes, about. @param {Omit<Work, 'samples' | 'setting'>} work */
export const secondsOf = ({ rows, peers, rounds }) =>
  rows.reduce((sum, row) => {
    const some = peers.filter(
      (peer) =>
        (row.bulk || !peer.bulkOnly) &&
        (!row.oursOnly || peer.name === OURS) &&
        !(row.forwards && peer.startForwarding === null) &&
        !(row.alone && peer.name === DIRECT), // which has nothing to start, and no memory
    );
    return sum + row.seconds * some.length * Math.min(rounds, row.rounds ?? rounds);
  }, 0);

/** @param {Work} work @param {Lab} lab @param {string} load @param {Row} row @param {Peer} peer @param {Running} running @param {Map<unknown, Promise<unknown>>} memo */
const sampleOne = async ({ samples, setting }, lab, load, row, peer, running, memo) => {
  try {
    const value = await row.sample({ lab, load, peer, running, memo });
    if (value !== null) samples.record(setting, row, peer.name, value);
    return `${peer.name} ${value === null ? '–' : value.toFixed(row.digits)}`;
  } catch (error) {
    await unlessInterrupted();
    const why = error instanceof Error ? error.message.split('\n', 2).join(': ') : error;
    console.error(`\nbench: ${row.name}, ${peer.name}: ${why}`);
    return `${peer.name} failed`;
  }
};

/** @param {Work} work @param {Lab} lab @param {string} load @param {readonly Row[]} rows @param {Map<Peer, Running>} running */
const inRounds = async (work, lab, load, rows, running) => {
  for (let round = 0; round < work.rounds; round++) {
    /** @type {Map<Peer, Map<unknown, Promise<unknown>>>} */
    const memos = new Map([...running.keys()].map((peer) => [peer, new Map()]));
    for (const row of rows) {
      if (round >= (row.rounds ?? work.rounds)) continue;
      await unlessInterrupted();
      process.stdout.write(`round ${round + 1}/${work.rounds}  ${row.name} (${row.unit}):`);
      const one = (/** @type {[Peer, Running]} */ [peer, at]) =>
        sampleOne(work, lab, load, row, peer, at, memos.get(peer) ?? new Map());
      const some = [...running].filter(
        ([peer]) =>
          (row.bulk || !peer.bulkOnly) && (!row.oursOnly || peer.name === OURS) && (work.takes?.(row, peer) ?? true),
      );
      if (row.together) process.stdout.write(`  ${(await Promise.all(some.map(one))).join('  ')}`);
      else for (const each of some) process.stdout.write(`  ${await one(each)}`);
      process.stdout.write('\n');
    }
  }
};

/** @param {Work} work @param {Lab} lab @param {number} mtu @param {boolean} forwards */
const inLab = async (work, lab, mtu, forwards) => {
  const load = await compile('test/bench/load.c', join(lab.dir, 'load'));
  for (const [side, whose] of /** @type {const} */ ([
    [lab.host, 'the host'],
    [lab.remote, 'the remote'],
  ]))
    await checkCongestion(side, work.setting.congestion, whose);
  const peers = work.peers.filter((peer) => !forwards || peer.startForwarding !== null);
  if (forwards) await serveLoad(lab.host, load, '127.0.0.1', OUTBOUND_PORT);
  else for (const address of [NET.server4, NET.server6]) await serveLoad(lab.remote, load, address, PORT);
  const alone = work.rows.filter((row) => row.alone);
  await inRounds(work, lab, load, alone, new Map(peers.map((peer) => [peer, NOT_RUNNING])));
  const others = work.rows.filter((row) => !row.alone);
  if (others.length === 0) return;
  /** @type {Map<Peer, Running>} */
  const running = new Map();
  for (const [i, peer] of peers.entries())
    running.set(
      peer,
      forwards && peer.startForwarding !== null
        ? await peer.startForwarding(lab, mtu, load, INBOUND_PORT + 10 * i)
        : await peer.start(lab, mtu),
    );
  for (const [peer, { side }] of running)
    await checkCongestion(side, work.setting.congestion, `the guest of ${peer.name}`);
  await inRounds(work, lab, load, others, running);
  for (const each of running.values()) await each.close();
};

/** @param {Work} work */
export const measure = async (work) => {
  apply(work.setting);
  for (const mtu of MTUS)
    for (const forwards of [false, true]) {
      const rows = work.rows.filter((row) => row.mtu === mtu && (row.forwards ?? false) === forwards);
      if (rows.length === 0) continue;
      const lab = await makeLab({ mtu, congestion: work.setting.congestion });
      const interrupt = () => {
        if (interrupted) return;
        interrupted = true;
        console.error('\nbench: interrupted');
        lab.cleanup().finally(() => process.exit(130));
      };
      process.on('SIGINT', interrupt).on('SIGTERM', interrupt).on('SIGHUP', interrupt);
      try {
        await inLab({ ...work, rows }, lab, mtu, forwards);
      } catch (error) {
        await unlessInterrupted();
        throw error;
      } finally {
        process.off('SIGINT', interrupt).off('SIGTERM', interrupt).off('SIGHUP', interrupt);
        await lab.cleanup();
      }
    }
};
