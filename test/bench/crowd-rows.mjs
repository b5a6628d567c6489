// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Rows about many flows at once: what each costs, how fast they come and go, what stays behind. */
import { join } from 'node:path';
import { CROWD_PORT, Crowd, crowdServer, descriptorCount, descriptorsBack, memoryKib } from '../support/crowd.mjs';
import { compile, NET } from '../support/lab.mjs';
import { hasExited, waitFor } from '../support/process.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */
/** @typedef {import('../support/crowd.mjs').Phase} Phase */
/** @typedef {import('./peers.mjs').Running} Running */
/** @typedef {import('./rows.mjs').Row} Row */
/** @typedef {import('./rows.mjs').Sample} Sample */

const MTU = 1500;
const STREAM_PORT = 7100;
const PER_SECOND = 2000;
const RATE_MS = 20_000;
const TRANSFERS = 160;
const SEED = 20_261_121;
const CYCLES = 5;
const CYCLE_FLOWS = 3000;
const IDLE_FLOWS = 10_000;
const BULK_MS = 1000;
/** Of a phase of a crowd, and of a rate: a peer that fails is not waited for much longer than it takes to see it. */
const PHASE_MS = 20_000;
const SETTLE_MS = 5000;

/**
 * One value for each key, made when it is asked for first.
 * @template {object} K, V
 * @param {(key: K) => V} make
 */
const once = (make) => {
  /** @type {WeakMap<K, V>} */
  const made = new WeakMap();
  return (/** @type {K} */ key) => {
    const value = made.get(key) ?? make(key);
    made.set(key, value);
    return value;
  };
};

const crowdProgram = once(crowdServer);
const streamProgram = once(async (/** @type {Lab} */ lab) => {
  const program = await compile('test/support/stream.c', join(lab.dir, 'stream'));
  const server = lab.remote.spawn([program, 'serve', NET.server4, String(STREAM_PORT)]);
  await waitFor(() => server.out().includes('listening') || hasExited(server), { what: 'the stream server' });
  return program;
});

/**
 * Works on an instance of its own: memory that earlier rows have touched would not be counted, and a peer that does not
 * survive one row is there again for the next.
 * @param {(lab: Lab, running: Running, load: string) => Promise<number | null>} work
 * @param {{ ofDirect: boolean }} options whether there is something to see without a tool
 * @returns {Sample}
 */
const afresh =
  (work, { ofDirect }) =>
  async ({ lab, load, peer }) => {
    const running = await peer.start(lab, MTU);
    try {
      return ofDirect || running.processes().length > 0 ? await work(lab, running, load) : null;
    } finally {
      await running.close();
    }
  };

/** @param {Running} running */
const tool = (running) => ({ toolProcesses: running.processes });

/** @param {Phase} phase @param {number} count */
const allOf = (phase, count) => {
  if (phase.ok !== count) throw new Error(`${phase.ok} of ${count}, ${JSON.stringify(phase.errors)}`);
};

/** Opens flows that stay until the crowd leaves. @param {Lab} lab @param {Running} running @param {'tcp' | 'udp'} protocol @param {number} count */
const opened = async (lab, running, protocol, count) => {
  const crowd = new Crowd(running.side, [await crowdProgram(lab), protocol, NET.server4, CROWD_PORT, count], PHASE_MS);
  try {
    allOf(await crowd.next(), count);
    return crowd;
  } catch (error) {
    await crowd.leave();
    throw error;
  }
};

/** KiB of user memory (PSS) for each of so many flows that were all used. @param {'tcp' | 'udp'} protocol @param {number} count */
const perFlow = (protocol, count) =>
  afresh(
    async (lab, running) => {
      const before = memoryKib(tool(running));
      const crowd = await opened(lab, running, protocol, count);
      try {
        allOf(await crowd.tell('echo'), count);
        return (memoryKib(tool(running)) - before) / count;
      } finally {
        await crowd.leave();
      }
    },
    { ofDirect: false },
  );

/** One run of connections by the clock, for three rows. @type {WeakMap<Running, Promise<Phase>>} */
const rates = new WeakMap();
/** @param {Lab} lab @param {Running} running @returns {Promise<Phase>} */
const rate = async (lab, running) => {
  const argv = [await crowdProgram(lab), 'rate', NET.server4, CROWD_PORT, PER_SECOND, RATE_MS];
  const crowd = new Crowd(running.side, argv, 2 * RATE_MS);
  try {
    const phase = await crowd.next();
    if (phase.offered === undefined) throw new Error(`no connection at all, ${JSON.stringify(phase.errors)}`);
    return phase;
  } finally {
    await crowd.leave();
  }
};
/** @param {(phase: Phase) => number} of @returns {Sample} */
const ofRate =
  (of) =>
  async ({ lab, running }) => {
    const phase = rates.get(running) ?? rate(lab, running);
    rates.set(running, phase);
    return of(await phase);
  };

/** @param {number} parallel @returns {Sample} */
const slowest =
  (parallel) =>
  async ({ lab, running }) => {
    const argv = [await streamProgram(lab), 'mix', NET.server4, STREAM_PORT, TRANSFERS, parallel, SEED].map(String);
    return JSON.parse(await running.side.run(argv, { timeoutMs: 60_000 })).max_ms;
  };

/** MiB that stay after all cycles have closed their flows; the first cycle does not count. */
const leak = afresh(
  async (lab, running) => {
    const descriptors = descriptorCount(tool(running));
    let before = 0;
    for (let cycle = 0; cycle <= CYCLES; cycle++) {
      const crowd = await opened(lab, running, 'tcp', CYCLE_FLOWS);
      allOf(await crowd.tell('close'), CYCLE_FLOWS);
      await crowd.leave();
      // Some peers keep descriptors for longer than anybody waits here; the tests hold us to them.
      await descriptorsBack(tool(running), descriptors, SETTLE_MS).catch(() => {});
      if (cycle === 0) before = memoryKib(tool(running));
    }
    return (memoryKib(tool(running)) - before) / 1024;
  },
  { ofDirect: false },
);

/** @param {'up' | 'down'} mode @param {number} port */
const besideIdle = (mode, port) =>
  afresh(
    async (lab, running, load) => {
      const crowd = await opened(lab, running, 'tcp', IDLE_FLOWS);
      try {
        const argv = [load, 'bulk', mode, NET.server4, port, 1, BULK_MS].map(String);
        const said = await running.side.run(argv, { timeoutMs: 8000 });
        return JSON.parse(said.trim().split('\n').at(-1) ?? '').bps * 1e-9;
      } finally {
        await crowd.leave();
      }
    },
    { ofDirect: true },
  );

/** @param {number} port of the load's server @returns {Row[]} */
export const crowdRows = (port) => {
  const shared = { mtu: MTU, once: true };
  const third = { ...shared, seconds: RATE_MS / 3000 };
  const offered = `${PER_SECOND.toLocaleString('en')} connects/s offered`;
  const count = (/** @type {number} */ n) => n.toLocaleString('en');
  return [
    ...[1, 8].map((parallel) => ({
      name: `${TRANSFERS} checked transfers, ${parallel} at once, the slowest`,
      unit: 'ms',
      digits: 1,
      seconds: 1,
      mtu: MTU,
      sample: slowest(parallel),
    })),
    ...[1000, 9000].map((n) => ({
      name: `Memory (PSS) a flow, ${count(n)} TCP flows`,
      unit: 'KiB',
      digits: 2,
      seconds: 3,
      ...shared,
      sample: perFlow('tcp', n),
    })),
    {
      name: `Memory (PSS) a flow, ${count(9000)} UDP flows`,
      unit: 'KiB',
      digits: 2,
      seconds: 3,
      ...shared,
      sample: perFlow('udp', 9000),
    },
    {
      name: `Memory (PSS) left by ${CYCLES} × ${count(CYCLE_FLOWS)} TCP flows`,
      unit: 'MiB',
      digits: 2,
      seconds: 4,
      ...shared,
      sample: leak,
    },
    {
      name: `${offered}, succeeded`,
      unit: '%',
      digits: 2,
      ...third,
      sample: ofRate((phase) => (100 * phase.ok) / (phase.offered ?? 0)),
    },
    {
      name: `${offered}, p50`,
      unit: 'ms',
      digits: 2,
      ...third,
      sample: ofRate((phase) => (phase.p50_us ?? 0) / 1000),
    },
    {
      name: `${offered}, p99`,
      unit: 'ms',
      digits: 2,
      ...third,
      sample: ofRate((phase) => (phase.p99_us ?? 0) / 1000),
    },
    .../** @type {const} */ ([
      ['to guest', 'down'],
      ['from guest', 'up'],
    ]).map(([direction, mode]) => ({
      name: `TCP ${direction} beside ${count(IDLE_FLOWS)} idle flows`,
      unit: 'Gbit/s',
      digits: 2,
      seconds: 4,
      ...shared,
      sample: besideIdle(mode, port),
    })),
  ];
};
