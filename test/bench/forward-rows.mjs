// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Rows about forwarded ports: loopback to loopback ("splice") both ways, connections from the network, and many ports. */
import { NET } from '../support/lab.mjs';
import { finish, pssKib } from '../support/process.mjs';
import { OUTBOUND_PORT } from './peers.mjs';

/** @typedef {import('./rows.mjs').Row} Row */
/** @typedef {import('./rows.mjs').Sample} Sample */
/** @typedef {import('./peers.mjs').Running} Running */
/** @typedef {import('../support/lab.mjs').Lab} Lab */
/** @typedef {import('../support/lab.mjs').Side} Side */
/**
 * Where a client runs, and what it asks.
 * @typedef {object} Path
 * @property {string} name
 * @property {(lab: Lab, running: Running) => Side} side
 * @property {string} address
 * @property {(running: Running) => number} port
 */

const LOOPBACK = '127.0.0.1';
const BULK_MS = 1000;
const SHORT_MS = 800;
const MANY_PORTS = '20000-29999';
const STARTS = 3;

const inboundPort = (/** @type {Running} */ running) => running.inboundPort ?? 0;
/** @type {Path} */
const INTO = { name: 'splice into the namespace', side: (lab) => lab.host, address: LOOPBACK, port: inboundPort };
/** @type {Path} */
const OUT_OF = {
  name: 'splice out of the namespace',
  side: (_lab, running) => running.side,
  address: LOOPBACK,
  port: () => OUTBOUND_PORT,
};
/** @type {Path} */
const FROM_REMOTE = {
  name: 'Inbound from the network',
  side: (lab) => lab.remote,
  address: NET.host4,
  port: inboundPort,
};

/** One figure of what the load client printed. @param {Path} path @param {string} key @param {number} factor @param {(address: string, port: number) => readonly (string | number)[]} args @returns {Sample} */
const client =
  (path, key, factor, args) =>
  async ({ lab, load, running }) => {
    const argv = [load, ...args(path.address, path.port(running)).map(String)];
    const out = await path.side(lab, running).run(argv, { timeoutMs: 8000 });
    return JSON.parse(out.trim().split('\n').at(-1) ?? '')[key] * factor;
  };

const MODES = /** @type {const} */ ([
  ['to the server', 'up'],
  ['from the server', 'down'],
]);
/** @param {Path} path @param {number} mtu @param {readonly number[]} streams @param {string} [note] @returns {Row[]} */
const bulk = (path, mtu, streams, note = '') =>
  streams.flatMap((count) =>
    MODES.map(([direction, mode]) => ({
      name: `${path.name}, TCP ${direction}${note}, ${count} stream${count > 1 ? 's' : ''}`,
      unit: 'Gbit/s',
      digits: 2,
      mtu,
      forwards: true,
      seconds: 1.1,
      sample: client(path, 'bps', 1e-9, (address, port) => ['bulk', mode, address, port, count, BULK_MS]),
    })),
  );
/** @param {Path} path @param {number} size @returns {Row[]} */
const packets = (path, size) =>
  MODES.map(([direction, mode]) => ({
    name: `${path.name}, UDP ${direction}, ${size} octets`,
    unit: 'packets/s',
    digits: 0,
    mtu: 1500,
    forwards: true,
    seconds: 1,
    sample: client(path, 'pps', 1, (address, port) => ['packets', mode, address, port, size, SHORT_MS]),
  }));
/** @param {Path} path @returns {Row[]} */
const connects = (path) =>
  [1, 16].map((clients) => ({
    name: `${path.name}, connect, request, response, close, ${clients} client${clients > 1 ? 's' : ''}`,
    unit: '1/s',
    digits: 0,
    mtu: 1500,
    forwards: true,
    seconds: 0.9,
    sample: client(path, 'per_second', 1, (address, port) => ['crr', address, port, clients, SHORT_MS]),
  }));

/** @type {Sample} */
const manyPortsStart = async ({ lab, load, peer }) => {
  if (peer.forwarding === null) return null;
  const argv = peer.forwarding(lab, ['-t', MANY_PORTS, '-u', 'none', '-T', 'none', '-U', 'none'], ['true']);
  return JSON.parse(await lab.user.run([load, 'time', String(STARTS), ...argv], { timeoutMs: 60_000 })).ms;
};
/** @type {Sample} */
const manyPortsMemory = async ({ lab, peer }) => {
  if (peer.forwarding === null) return null;
  const use = async (/** @type {string} */ ports) => {
    const guest = await lab.guest(
      ['--config-net', '-t', ports, '-u', 'none', '-T', 'none', '-U', 'none'],
      peer.binary,
      {
        forwards: true,
      },
    );
    const used = guest.toolProcesses().reduce((sum, pid) => sum + pssKib(pid), 0) / 1024;
    guest.tool.child.stdin?.end();
    await finish(guest.tool, { timeoutMs: 10_000 });
    return used;
  };
  const without = await use('none');
  return (await use(MANY_PORTS)) - without;
};

/** @returns {Row[]} */
export const forwardRows = () => [
  ...[INTO, OUT_OF].flatMap((path) => [
    ...bulk(path, 1500, [1, 8]),
    ...packets(path, 64),
    ...packets(path, 1400),
    ...connects(path),
  ]),
  ...[1500, 65_520].flatMap((mtu) => bulk(FROM_REMOTE, mtu, [1, 8], `, MTU ${mtu}`)),
  ...packets(FROM_REMOTE, 64),
  ...packets(FROM_REMOTE, 1400),
  ...connects(FROM_REMOTE),
  {
    name: 'Forwarded ports, 10,000: start, all of it',
    unit: 'ms',
    digits: 1,
    mtu: 1500,
    forwards: true,
    seconds: 1,
    sample: manyPortsStart,
  },
  {
    name: 'Forwarded ports, 10,000: memory (PSS) more than without',
    unit: 'MiB',
    digits: 1,
    mtu: 1500,
    forwards: true,
    once: true,
    seconds: 1,
    sample: manyPortsMemory,
  },
];
