// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Rows about cost as work grows: what one flow gets beside more and more idle ones, as a ratio to what it gets beside one.
 * The most here is what RLIMIT_NOFILE leaves a tool and a client that need one descriptor a flow.
 */
import { execFileSync } from 'node:child_process';
import { NET } from '../support/lab.mjs';
import { openCrowd } from './crowd-rows.mjs';
import { BULK_MS, lastLine, PORT, SHORT_MS, shared, WAYS } from './row.mjs';

/** @typedef {import('./row.mjs').Context} Context */
/** @typedef {import('./row.mjs').Row} Row */

const MTU = 1500;
const FLOWS_MOST = 50_000;
/** Of the tool's and the client's descriptors, what is not a flow of these. */
const RESERVE = 2000;
const descriptors = Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' })) || FLOWS_MOST + RESERVE;
const most = Math.min(FLOWS_MOST, descriptors - RESERVE);
const LEVELS = [1, 10, 1000, 10_000, FLOWS_MOST]
  .map((n) => Math.min(n, most))
  .filter((n, i, all) => all.indexOf(n) === i);

/** @param {Context} context @param {readonly (string | number)[]} args */
const figures = async ({ load, running }, args) =>
  lastLine(await running.side.run([load, ...args.map(String)], { timeoutMs: 10_000 }));

/** Level → what one flow gets; the levels from the first on that the peer can not reach are not there. @param {Context} context */
const grow = async (context) => {
  const running = await context.peer.start(context.lab, MTU);
  const inside = { ...context, running };
  /** @type {Map<number, Record<string, number>>} */
  const found = new Map();
  /** @type {import('../support/crowd.mjs').Crowd[]} */
  const crowds = [];
  let open = 0;
  try {
    for (const level of LEVELS) {
      crowds.push(await openCrowd(context.lab, running, 'tcp', level - open));
      open = level;
      const [down, up, rr] = [
        await figures(inside, ['bulk', 'down', NET.server4, PORT, 1, BULK_MS]),
        await figures(inside, ['bulk', 'up', NET.server4, PORT, 1, BULK_MS]),
        await figures(inside, ['rr', 'tcp', NET.server4, PORT, SHORT_MS]),
      ];
      found.set(level, { down: down['bps'] ?? 0, up: up['bps'] ?? 0, rr: rr['p50_us'] ?? 0 });
    }
  } catch (error) {
    if (found.size === 0) throw error;
    console.error(
      `\nbench: ${context.peer.name} beside more than ${open} flows: ${/** @type {Error} */ (error).message.split('\n')[0]}`,
    );
  } finally {
    for (const crowd of crowds) await crowd.leave();
    await running.close();
  }
  return found;
};

/** @returns {Row[]} */
export const growRows = () => {
  const run = shared(async (context) => (context.peer.join === null ? null : grow(context)));
  const ratio = (/** @type {number} */ level, /** @type {string} */ key) =>
    run((found) => {
      const [first, here] = [found?.get(1)?.[key], found?.get(level)?.[key]];
      return first === undefined || here === undefined ? null : here / first;
    });
  return LEVELS.slice(1).flatMap((level) => {
    const common = { unit: '× of 1', digits: 2, mtu: MTU, alone: true, rounds: 3, oursOnly: true };
    const beside = `beside ${level.toLocaleString('en')} flows`;
    return [
      ...WAYS.map(([direction, mode]) => ({
        ...common,
        name: `One stream ${direction} ${beside}`,
        target: { min: 0.8 },
        seconds: (LEVELS.length * 2.6 + most / 2500) / (LEVELS.length - 1) / 3,
        sample: ratio(level, mode),
      })),
      {
        ...common,
        name: `TCP request/response ${beside}, p50`,
        less: true,
        target: { max: 1.2 },
        seconds: 0,
        sample: ratio(level, 'rr'),
      },
    ];
  });
};
