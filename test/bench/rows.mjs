// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** What is measured: each row is a name, a unit, whether more is better, and how to take one sample of one peer. */
import { NET } from '../support/lab.mjs';
import { contextSwitches, finish, isAlive, pssKib, signalQuietly, waitFor } from '../support/process.mjs';
import { crowdRows } from './crowd-rows.mjs';
import { forwardRows } from './forward-rows.mjs';
import { emptyNamespace } from './peers.mjs';

/** @typedef {import('../support/lab.mjs').Lab} Lab */
/** @typedef {import('./peers.mjs').Peer} Peer */
/** @typedef {import('./peers.mjs').Running} Running */
/**
 * One sample in the row's unit, or null where the peer has no such thing.
 * @typedef {(context: { lab: Lab, load: string, peer: Peer, running: Running }) => Promise<number | null>} Sample
 */
/**
 * @typedef {object} Row
 * @property {string} name
 * @property {string} unit
 * @property {number} digits after the decimal point
 * @property {number} mtu of link and tap
 * @property {boolean} [forwards] with forwarded ports, and the servers behind them
 * @property {boolean} [once] one round is enough
 * @property {number} seconds about how long one sample takes
 * @property {Sample} sample
 */

export const PORT = 7500;
const BULK_MS = 1000;
const SHORT_MS = 800;
const IDLE_SECONDS = 20;
const SETTLE_MS = 3000;
const STARTS = 5;
const FAMILIES = /** @type {const} */ ([
  ['IPv4', NET.server4],
  ['IPv6', NET.server6],
]);

const pause = (/** @type {number} */ ms) => new Promise((done) => setTimeout(done, ms));

/** The figure in the last line of what a load client, perhaps after a peer's own words, printed. @param {string} output @param {string} key @returns {number} */
const figure = (output, key) => JSON.parse(output.trim().split('\n').at(-1) ?? '')[key];

/** Runs the load client in a peer's namespace and gives one number of what it printed. @param {string} key @param {number} factor @param {readonly (string | number)[]} args @returns {Sample} */
const client =
  (key, factor, args) =>
  async ({ load, running }) =>
    figure(await running.side.run([load, ...args.map(String)], { timeoutMs: 8000 }), key) * factor;

/** @returns {Row[]} */
const bulkRows = () =>
  [1500, 65_520].flatMap((mtu) =>
    FAMILIES.flatMap(([family, server]) =>
      [1, 8].flatMap((streams) =>
        /** @type {const} */ ([
          ['to guest', 'down'],
          ['from guest', 'up'],
        ]).map(([direction, mode]) => ({
          name: `TCP ${direction}, ${family}, MTU ${mtu}, ${streams} stream${streams > 1 ? 's' : ''}`,
          unit: 'Gbit/s',
          digits: 2,
          mtu,
          seconds: 1.1,
          sample: client('bps', 1e-9, ['bulk', mode, server, PORT, streams, BULK_MS]),
        })),
      ),
    ),
  );

/** @returns {Row[]} */
const packetRows = () =>
  [64, 1400].flatMap((size) =>
    /** @type {const} */ ([
      ['to guest', 'down'],
      ['from guest', 'up'],
    ]).map(([direction, mode]) => ({
      name: `UDP ${direction}, ${size} octets`,
      unit: 'packets/s',
      digits: 0,
      mtu: 1500,
      seconds: 1,
      sample: client('pps', 1, ['packets', mode, NET.server4, PORT, size, SHORT_MS]),
    })),
  );

/** @returns {Row[]} */
const latencyRows = () =>
  ['tcp', 'udp'].flatMap((protocol) =>
    ['p50', 'p99'].map((quantile) => ({
      name: `${protocol.toUpperCase()} request/response, ${quantile}`,
      unit: 'µs',
      digits: 0,
      mtu: 1500,
      seconds: 0.9,
      sample: client(`${quantile}_us`, 1, ['rr', protocol, NET.server4, PORT, SHORT_MS]),
    })),
  );

/** @returns {Row[]} */
const connectRows = () =>
  [1, 16].map((clients) => ({
    name: `TCP connect, request, response, close, ${clients} client${clients > 1 ? 's' : ''}`,
    unit: '1/s',
    digits: 0,
    mtu: 1500,
    seconds: 0.9,
    sample: client('per_second', 1, ['crr', NET.server4, PORT, clients, SHORT_MS]),
  }));

/** @type {Sample} */
const wholeRun = async ({ lab, load, peer }) => {
  if (peer.run === null) return null;
  return figure(await lab.user.run([load, 'time', String(STARTS), ...peer.run(lab)]), 'ms');
};

/** @type {Sample} */
const untilReady = async ({ lab, load, peer }) => {
  if (peer.join === null) return null;
  const namespace = await emptyNamespace(lab);
  const before = lab.processes();
  try {
    const argv = peer.join(lab, namespace.labPid);
    return figure(await lab.user.run([load, peer.tellsReady ? 'until-byte' : 'time', '1', ...argv]), 'ms');
  } finally {
    await namespace.close();
    const left = () => lab.processes().filter((pid) => !before.includes(pid) && isAlive(pid));
    for (const pid of left()) signalQuietly(pid, 'SIGKILL'); // some peers stay when the namespace's last process has gone
    await waitFor(() => left().length === 0, { what: 'the tool to end' });
  }
};

const pss = (/** @type {Running} */ running) => running.processes().reduce((sum, pid) => sum + pssKib(pid), 0) / 1024;

/** @type {Sample} */
const loadedMemory = async ({ load, running }) => {
  if (running.processes().length === 0) return null;
  const clients = running.side.spawn([load, 'hold', NET.server4, String(PORT), '1000'], { stdin: 'pipe' });
  await waitFor(() => clients.out().includes('held') || clients.child.exitCode !== null, {
    what: '1,000 flows',
    timeoutMs: 20_000,
  });
  if (clients.child.exitCode !== null) throw new Error(clients.err());
  const used = pss(running);
  clients.child.stdin?.end();
  await finish(clients, { timeoutMs: 10_000 });
  return used;
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

/** @type {Row[]} */
export const ROWS = [
  ...bulkRows(),
  ...packetRows(),
  ...latencyRows(),
  ...connectRows(),
  { name: 'Start: --config-net -- true, all of it', unit: 'ms', digits: 1, mtu: 1500, seconds: 1, sample: wholeRun },
  { name: 'Start: exec to ready', unit: 'ms', digits: 1, mtu: 1500, seconds: 0.5, sample: untilReady },
  {
    name: 'Memory (PSS), idle',
    unit: 'MiB',
    digits: 1,
    mtu: 1500,
    once: true,
    seconds: 0,
    sample: async ({ running }) => (running.processes().length === 0 ? null : pss(running)),
  },
  {
    name: 'Memory (PSS), 1,000 flows',
    unit: 'MiB',
    digits: 1,
    mtu: 1500,
    once: true,
    seconds: 1,
    sample: loadedMemory,
  },
  { name: 'Idle wake-ups', unit: '1/min', digits: 0, mtu: 1500, once: true, seconds: 23, sample: wakeUps },
  ...crowdRows(PORT),
  ...forwardRows(),
];
