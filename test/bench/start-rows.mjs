// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Rows about what a tool costs when nothing is asked of it: starting, memory, waking up. */
import { join } from 'node:path';
import { compile, NET } from '../support/lab.mjs';
import { contextSwitches, isAlive, signalQuietly, waitFor } from '../support/process.mjs';
import { emptyNamespace } from './peers.mjs';
import { BULK_MS, lastLine, PORT, pssMib, SHORT_MS } from './row.mjs';

/** @typedef {import('./row.mjs').Context} Context */
/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./row.mjs').Sample} Sample */
/** @typedef {import('./peers.mjs').Running} Running */

const MTU = 1500;
const IDLE_SECONDS = 30;
const SETTLE_MS = 3000;
const AFTER_LOAD_MS = 5000;
const STARTS = 5;

const pause = (/** @type {number} */ ms) => new Promise((done) => setTimeout(done, ms));

/** @type {Sample} */
const wholeRun = async ({ lab, load, peer }) =>
  peer.run === null
    ? null
    : (lastLine(await lab.user.run([load, 'time', String(STARTS), ...peer.run(lab)]))['ms'] ?? null);

/** A start for a namespace that is there, timed by a program that is given the namespace and the command line. @param {(context: Context, pid: string) => Promise<readonly string[]>} timer @returns {Sample} */
const start = (timer) => async (context) => {
  const { lab, peer } = context;
  if (peer.join === null) return null;
  const namespace = await emptyNamespace(lab);
  const before = lab.processes();
  try {
    const argv = [...(await timer(context, namespace.labPid)), ...peer.join(lab, namespace.labPid)];
    return lastLine(await lab.user.run(argv))['ms'] ?? null;
  } finally {
    await namespace.close();
    const left = () => lab.processes().filter((pid) => !before.includes(pid) && isAlive(pid));
    for (const pid of left()) signalQuietly(pid, 'SIGKILL'); // some peers stay when the namespace's last process has gone
    await waitFor(() => left().length === 0, { what: 'the tool to end' });
  }
};

const untilReady = start(async ({ load, peer }) => [load, peer.tellsReady ? 'until-byte' : 'time', '1']);
const untilTap = start(async ({ lab }, pid) => [
  await compile('test/bench/until-tap.c', join(lab.dir, 'until-tap')),
  pid,
]);

/** @param {(running: Running, context: Context) => Promise<unknown>} first @returns {Sample} */
const memoryAfter = (first) => async (context) => {
  const running = await context.peer.start(context.lab, MTU);
  try {
    if (running.processes().length === 0) return null;
    await first(running, context);
    return pssMib(running);
  } finally {
    await running.close();
  }
};

/** Every kind of load at full speed, then nothing for a while. @param {Running} running @param {Context} context */
const afterLoad = async (running, { load }) => {
  for (const mode of ['down', 'up']) {
    await running.side.run([load, 'bulk', mode, NET.server4, String(PORT), '8', String(2 * BULK_MS)], {
      timeoutMs: 8000,
    });
    await running.side.run([load, 'packets', mode, NET.server4, String(PORT), '1400', String(SHORT_MS)], {
      timeoutMs: 8000,
    });
  }
  await running.side.run([load, 'crr', NET.server4, String(PORT), '16', String(SHORT_MS)], { timeoutMs: 8000 });
  await pause(AFTER_LOAD_MS);
};

/** @type {Sample} */
const wakeUps = async ({ running }) => {
  const count = () => running.processes().reduce((sum, pid) => sum + contextSwitches(pid), 0);
  if (running.processes().length === 0) return null;
  await pause(SETTLE_MS);
  const before = count();
  await pause(IDLE_SECONDS * 1000);
  return ((count() - before) * 60) / IDLE_SECONDS;
};

/** @returns {Row[]} */
export const startRows = () => {
  const time = /** @type {const} */ ({ unit: 'ms', digits: 1, mtu: MTU, less: true, alone: true });
  const memory = /** @type {const} */ ({ unit: 'MiB', digits: 1, mtu: MTU, less: true, alone: true });
  return [
    {
      name: 'Start: --config-net -- true, all of it',
      ...time,
      target: { peer: 1 },
      check: 'pasta',
      seconds: 0.6,
      sample: wholeRun,
    },
    { name: 'Start: exec to tap', ...time, target: { max: 10 }, seconds: 0.3, sample: untilTap },
    {
      name: 'Start: exec to ready',
      ...time,
      target: { max: 50 },
      check: 'pasta',
      seconds: 0.3,
      sample: untilReady,
    },
    {
      name: 'Memory (PSS), idle',
      ...memory,
      target: { max: 48 },
      check: 'pasta',
      rounds: 3,
      seconds: SETTLE_MS / 1000 + 0.5,
      sample: memoryAfter(() => pause(SETTLE_MS)),
    },
    {
      name: 'Memory (PSS), 5 s after all kinds of load',
      ...memory,
      rounds: 1,
      seconds: 11,
      sample: memoryAfter(afterLoad),
    },
    {
      name: 'Idle wake-ups',
      unit: '1/min',
      digits: 0,
      mtu: MTU,
      less: true,
      rounds: 1,
      together: true,
      target: { peer: 1 },
      seconds: (IDLE_SECONDS + SETTLE_MS / 1000) / 4,
      sample: wakeUps,
    },
  ];
};
