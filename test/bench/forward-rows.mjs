// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Rows about forwarded ports: loopback to loopback ("splice") both ways, connections from the network, and many ports. */
import { NET } from '../support/lab.mjs';
import { finish, pssKib } from '../support/process.mjs';
import { OUTBOUND_PORT } from './peers.mjs';
import { BULK_MS, cpuPer, loadClient, many, only, SHORT_MS } from './row.mjs';

/** @typedef {import('./row.mjs').Context} Context */
/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./row.mjs').Sample} Sample */
/** @typedef {import('./row.mjs').Target} Target */
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
 * @property {Target} bulk
 * @property {Target} packets
 * @property {Target} connects
 * @property {boolean} [cost] its processor time is told
 */

const LOOPBACK = '127.0.0.1';
const MANY_PORTS = '20000-29999';
const STARTS = 3;
/** Many rows, of two tools and the direct path: five rounds of them would take as long as all others. */
const ROUNDS = 3;

const inboundPort = (/** @type {Running} */ running) => running.inboundPort ?? 0;
const SPLICE = {
  address: LOOPBACK,
  bulk: { peer: 1.2, direct: 0.6 },
  packets: { peer: 1.2 },
  connects: { peer: 1.2, direct: 0.6 },
};
/** @type {Path} */
const INTO = { ...SPLICE, name: 'splice into the namespace', side: (lab) => lab.host, port: inboundPort, cost: true };
/** @type {Path} */
const OUT_OF = {
  ...SPLICE,
  name: 'splice out of the namespace',
  side: (_lab, running) => running.side,
  port: () => OUTBOUND_PORT,
};
/** @type {Path} */
const FROM_REMOTE = {
  name: 'Inbound from the network',
  side: (lab) => lab.remote,
  address: NET.host4,
  port: inboundPort,
  bulk: { peer: 1.2, direct: 0.8 },
  packets: { peer: 1.2, direct: 0.8 },
  connects: { peer: 1.2, direct: 0.8 },
};

/** @param {Path} path @param {(address: string, port: number) => readonly (string | number)[]} args */
const client = (path, args) =>
  loadClient(
    ({ running }) => args(path.address, path.port(running)),
    ({ lab, running }) => path.side(lab, running),
  );

const MODES = /** @type {const} */ ([
  ['to the server', 'up'],
  ['from the server', 'down'],
]);
/** @param {Path} path @param {number} mtu @param {string} [note] @returns {Row[]} */
const bulk = (path, mtu, note = '') =>
  [1, 8].flatMap((streams) =>
    MODES.flatMap(([direction, mode]) => {
      const run = client(path, (address, port) => ['bulk', mode, address, port, streams, BULK_MS]);
      /** @type {Row} */
      const rate = {
        name: `${path.name}, TCP ${direction}${note}, ${many(streams, 'stream')}`,
        unit: 'Gbit/s',
        digits: 2,
        mtu,
        forwards: true,
        rounds: ROUNDS,
        target: path.bulk,
        ...(streams === 1 && path === INTO && { check: 'pasta' }),
        seconds: 0.95,
        sample: run(only('bps', 1e-9)),
      };
      if (streams !== 1 || !path.cost) return [rate];
      /** @type {Row} */
      const cost = {
        name: `CPU time of 1 GiB by ${path.name}, TCP ${direction}`,
        unit: 's',
        digits: 3,
        mtu,
        forwards: true,
        rounds: ROUNDS,
        less: true,
        target: { peer: 1 },
        seconds: 0,
        sample: run(cpuPer('bytes', 2 ** 30)),
      };
      return [rate, cost];
    }),
  );
/** @param {Path} path @param {number} size @returns {Row[]} */
const packets = (path, size) =>
  MODES.map(([direction, mode]) => ({
    name: `${path.name}, UDP ${direction}, ${size} octets`,
    unit: 'packets/s',
    digits: 0,
    mtu: 1500,
    forwards: true,
    rounds: ROUNDS,
    target: path.packets,
    seconds: 0.8,
    sample: client(path, (address, port) => ['packets', mode, address, port, size, SHORT_MS])(only('pps', 1)),
  }));
/** @param {Path} path @returns {Row[]} */
const connects = (path) =>
  [1, 16].map((clients) => ({
    name: `${path.name}, connect, request, response, close, ${many(clients, 'client')}`,
    unit: '1/s',
    digits: 0,
    mtu: 1500,
    forwards: true,
    rounds: ROUNDS,
    target: path.connects,
    ...(path !== OUT_OF && clients === 16 && { check: /** @type {const} */ ('pasta') }),
    seconds: 0.75,
    sample: client(path, (address, port) => ['crr', address, port, clients, SHORT_MS])(only('per_second', 1)),
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
    ...bulk(path, 1500),
    ...packets(path, 64),
    ...(path === INTO ? packets(path, 1400) : []),
    ...connects(path),
  ]),
  ...[1500, 65_520].flatMap((mtu) => bulk(FROM_REMOTE, mtu, `, MTU ${mtu}`)),
  ...packets(FROM_REMOTE, 64),
  ...connects(FROM_REMOTE),
  {
    name: 'Forwarded ports, 10,000: start, all of it',
    unit: 'ms',
    digits: 1,
    mtu: 1500,
    forwards: true,
    less: true,
    rounds: 1,
    seconds: 1,
    sample: manyPortsStart,
  },
  {
    name: 'Forwarded ports, 10,000: memory (PSS) more than without',
    unit: 'MiB',
    digits: 1,
    mtu: 1500,
    forwards: true,
    less: true,
    rounds: 1,
    seconds: 1,
    sample: manyPortsMemory,
  },
];
