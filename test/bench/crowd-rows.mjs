// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Rows about many flows at once: what each costs, how fast they come and go, what stays behind. */
import { join } from 'node:path';
import { CROWD_PORT, Crowd, crowdServer, descriptorCount, descriptorsBack, memoryKib } from '../support/crowd.mjs';
import { compile, NET } from '../support/lab.mjs';
import { hasExited, waitFor } from '../support/process.mjs';
import { shared } from './row.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */
/** @typedef {import('../support/crowd.mjs').Phase} Phase */
/** @typedef {import('./peers.mjs').Running} Running */
/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./row.mjs').Sample} Sample */

const MTU = 1500;
const STREAM_PORT = 7100;
const PER_SECOND = 2000;
const RATE_MS = 10_000;
const TRANSFERS = 160;
const SEED = 20_261_121;
const CYCLES = 5;
const CYCLE_FLOWS = 3000;
/** Of a phase of a crowd, and of a rate: a peer that fails is not waited for much longer than it takes to see it. */
const PHASE_MS = 20_000;
const SETTLE_MS = 5000;

/**
 * One value for each key, made when it is asked for first.
 * @template {object} K, V
 * @param {(key: K) => V} make
 */
const cached = (make) => {
  /** @type {WeakMap<K, V>} */
  const made = new WeakMap();
  return (/** @type {K} */ key) => {
    const value = made.get(key) ?? make(key);
    made.set(key, value);
    return value;
  };
};

const crowdProgram = cached(crowdServer);
const streamProgram = cached(async (/** @type {Lab} */ lab) => {
  const program = await compile('test/support/stream.c', join(lab.dir, 'stream'));
  const server = lab.remote.spawn([program, 'serve', NET.server4, String(STREAM_PORT)]);
  await waitFor(() => server.out().includes('listening') || hasExited(server), { what: 'the stream server' });
  return program;
});

/**
 * Works on an instance of its own: memory that earlier rows have touched would not be counted, and a peer that does not
 * survive one row is there again for the next.
 * @param {(lab: Lab, running: Running) => Promise<number | null>} work
 * @returns {Sample}
 */
const afresh =
  (work) =>
  async ({ lab, peer }) => {
    const running = await peer.start(lab, MTU);
    try {
      return running.processes().length > 0 ? await work(lab, running) : null;
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
export const openCrowd = async (lab, running, protocol, count) => {
  const crowd = new Crowd(running.side, [await crowdProgram(lab), protocol, NET.server4, CROWD_PORT, count], PHASE_MS);
  try {
    allOf(await crowd.next(), count);
    return crowd;
  } catch (error) {
    await crowd.leave();
    throw error;
  }
};

/** MiB of user memory (PSS) for 1,000 of so many flows that were all used. @param {'tcp' | 'udp'} protocol @param {number} count */
const perThousand = (protocol, count) =>
  afresh(async (lab, running) => {
    const before = memoryKib(tool(running));
    const crowd = await openCrowd(lab, running, protocol, count);
    try {
      allOf(await crowd.tell('echo'), count);
      return (memoryKib(tool(running)) - before) / 1024 / (count / 1000);
    } finally {
      await crowd.leave();
    }
  });

/** One run of connections by the clock, for three rows. */
const rate = shared(async ({ lab, running }) => {
  const argv = [await crowdProgram(lab), 'rate', NET.server4, CROWD_PORT, PER_SECOND, RATE_MS];
  const crowd = new Crowd(running.side, argv, 2 * RATE_MS);
  try {
    const phase = await crowd.next();
    if (phase.offered === undefined) throw new Error(`no connection at all, ${JSON.stringify(phase.errors)}`);
    return phase;
  } finally {
    await crowd.leave();
  }
});

/** @param {number} parallel @returns {Sample} */
const slowest =
  (parallel) =>
  async ({ lab, running }) => {
    const argv = [await streamProgram(lab), 'mix', NET.server4, STREAM_PORT, TRANSFERS, parallel, SEED].map(String);
    return JSON.parse(await running.side.run(argv, { timeoutMs: 60_000 })).max_ms;
  };

/** MiB that stay after all cycles have closed their flows; the first cycle does not count. */
const leak = afresh(async (lab, running) => {
  const descriptors = descriptorCount(tool(running));
  let before = 0;
  for (let cycle = 0; cycle <= CYCLES; cycle++) {
    const crowd = await openCrowd(lab, running, 'tcp', CYCLE_FLOWS);
    allOf(await crowd.tell('close'), CYCLE_FLOWS);
    await crowd.leave();
    // Some peers keep descriptors for longer than anybody waits here; the tests hold us to them.
    await descriptorsBack(tool(running), descriptors, SETTLE_MS).catch(() => {});
    if (cycle === 0) before = memoryKib(tool(running));
  }
  return (memoryKib(tool(running)) - before) / 1024;
});

/** @returns {Row[]} */
export const crowdRows = () => {
  const once = { mtu: MTU, rounds: 1 };
  const third = { ...once, seconds: RATE_MS / 3000, digits: 2 };
  const memory = { ...once, unit: 'MiB', digits: 2, less: true, alone: true };
  const offered = `${PER_SECOND.toLocaleString('en')} connects/s offered`;
  const count = (/** @type {number} */ n) => n.toLocaleString('en');
  return [
    ...[1, 8].map((parallel) => ({
      name: `${TRANSFERS} checked transfers, ${parallel} at once, the slowest`,
      unit: 'ms',
      digits: 1,
      seconds: 1,
      mtu: MTU,
      rounds: 3,
      less: true,
      sample: slowest(parallel),
    })),
    .../** @type {const} */ ([
      ['tcp', 1000],
      ['tcp', 9000],
      ['udp', 9000],
    ]).map(([protocol, n]) => ({
      ...memory,
      name: `Memory (PSS) for 1,000 of ${count(n)} ${protocol.toUpperCase()} flows`,
      target: { max: 1 },
      seconds: 3,
      sample: perThousand(protocol, n),
    })),
    {
      ...memory,
      name: `Memory (PSS) left by ${CYCLES} × ${count(CYCLE_FLOWS)} TCP flows`,
      seconds: 8,
      sample: leak,
    },
    {
      ...third,
      name: `${offered}, succeeded`,
      unit: '%',
      sample: rate((phase) => (100 * phase.ok) / (phase.offered ?? 0)),
    },
    .../** @type {const} */ (['p50', 'p99']).map((quantile) => ({
      ...third,
      name: `${offered}, ${quantile}`,
      unit: 'ms',
      less: true,
      sample: rate((phase) => (phase[`${quantile}_us`] ?? 0) / 1000),
    })),
  ];
};
