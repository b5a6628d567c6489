// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Throughput over a bad link, on the host's side of the tool or on the guest's, against a direct connection over the same
 * link: round-trip time × loss × reordering. Both ends use the congestion control that is given (on the guest's side of the
 * tool the sender to the guest is the tool itself).
 */
import { join } from 'node:path';
import { compile, makeLab, NET } from '../support/lab.mjs';
import { nestedLink, routeBack } from '../support/nested.mjs';
import { waitFor } from '../support/process.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */
/** @typedef {import('../support/lab.mjs').Side} Side */
/** @typedef {'host' | 'guest'} Link */
/** @typedef {'to guest' | 'from guest'} Direction */
/** One combination. @typedef {{ rttMs: number, lossPercent: number, reorderPercent: number }} Cell */
/**
 * Bits a second, null where the transfer failed.
 * @typedef {Cell & { link: Link, direction: Direction, tool: number | null, direct: number | null }} Result
 */

const PORT = 7500;
const SEED = 20_261_121;

/** @type {readonly Cell[]} */
export const CELLS = [0, 10, 50, 100, 300].flatMap((rttMs) =>
  [0, 0.1, 1, 5].flatMap((lossPercent) => [0, 5].map((reorderPercent) => ({ rttMs, lossPercent, reorderPercent }))),
);
/** Slow start over a long round trip takes its time: the longer, the longer is measured. @param {Cell} cell */
const durationMs = ({ rttMs }) => 2500 + 15 * rttMs;

/** @param {Cell} cell */
const shimOf = ({ rttMs, lossPercent, reorderPercent }) => ({
  seed: SEED,
  loss: lossPercent,
  reorder: reorderPercent,
  // Late by a tenth of the round trip: enough to be overtaken by dozens.
  reorderMs: Math.max(rttMs / 10, 1),
  delayMs: rttMs / 2,
});

/** @param {Side} side @param {string} load @param {Direction} direction @param {Cell} cell */
const bulk = async (side, load, direction, cell) => {
  const ms = durationMs(cell);
  const mode = direction === 'to guest' ? 'down' : 'up';
  const argv = [load, 'bulk', mode, NET.server4, String(PORT), '1', String(ms)];
  const done = await side.attempt(argv, { timeoutMs: 3 * ms + 10_000 });
  return done.status === 0 ? /** @type {number} */ (JSON.parse(done.stdout).bps) : null;
};

/** @param {Lab} lab */
const serve = async (lab) => {
  const load = await compile('test/bench/load.c', join(lab.dir, 'load'));
  const server = lab.remote.spawn([load, 'serve', NET.server4, String(PORT)]);
  await waitFor(() => server.out().includes('listening'), { what: 'the load server' });
  return load;
};

/**
 * Measures cell after cell, the tool and the direct path in turn.
 * @param {{ link: Link, cells: readonly Cell[], directions: readonly Direction[], congestion: string, binary?: string | undefined, onResult: (r: Result) => void }} options
 */
export const measureImpaired = async ({ link, cells, directions, congestion, binary, onResult }) => {
  const shared = link === 'guest' ? await makeLab({ congestion, ...(binary ? { binary } : {}) }) : null;
  try {
    let load = '';
    for (const cell of cells) {
      const shim = shimOf(cell);
      const lab = shared ?? (await makeLab({ congestion, shim, ...(binary ? { binary } : {}) }));
      try {
        load = shared === null || load === '' ? await serve(lab) : load;
        const guest = await lab.guest(['--config-net']);
        await routeBack(lab);
        for (const direction of directions) {
          const through = async (/** @type {Side} */ side) => {
            if (link === 'host') return bulk(side, load, direction, cell);
            const nested = await nestedLink(lab, side, shim);
            const bps = await bulk(nested.side, load, direction, cell);
            await nested.close();
            return bps;
          };
          onResult({ ...cell, link, direction, tool: await through(guest), direct: await through(lab.host) });
        }
        await guest.close();
      } finally {
        if (shared === null) await lab.cleanup();
      }
    }
  } finally {
    await shared?.cleanup();
  }
};

/** A table of ratios to the direct path. @param {readonly Result[]} results @returns {string[][]} */
export const impairedTable = (results) => [
  ['link', 'direction', 'RTT, ms', 'loss, %', 'reordered, %', 'pastiche, Mbit/s', 'direct, Mbit/s', 'ratio'],
  ...results.map((r) => {
    const mbit = (/** @type {number | null} */ bps) => (bps === null ? 'failed' : (bps / 1e6).toFixed(1));
    const ratio = r.tool === null || !r.direct ? '–' : (r.tool / r.direct).toFixed(2);
    return [
      r.link,
      r.direction,
      String(r.rttMs),
      String(r.lossPercent),
      String(r.reorderPercent),
      mbit(r.tool),
      mbit(r.direct),
      ratio,
    ];
  }),
];
