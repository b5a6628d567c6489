// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Rows about what goes over the tap: streams, datagrams, round trips, connections. */
import { NET } from '../support/lab.mjs';
import { BULK_MS, cpuPer, loadClient, many, only, PORT, SHORT_MS, WAYS } from './row.mjs';

/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./row.mjs').Target} Target */

const MTU = 1500;
const FAMILIES = /** @type {const} */ ([
  ['IPv4', 'server4'],
  ['IPv6', 'server6'],
]);

/** @param {'down' | 'up'} mode @param {number} mtu @returns {Target} */
const bulkTarget = (mode, mtu) =>
  mode === 'down'
    ? { peer: mtu === 1500 ? 8 : 1.5, direct: { bbr: 0.85, cubic: 0.5 } }
    : { peer: mtu === 1500 ? 8 : 1.2, peerAsShipped: mtu === 1500 ? 8 : 10, direct: { bbr: 0.7, cubic: 0.45 } };

/** @returns {Row[]} */
const bulkRows = () =>
  [1500, 65_520].flatMap((mtu) =>
    FAMILIES.flatMap(([family, server]) =>
      [1, 8].flatMap((streams) =>
        WAYS.flatMap(([direction, mode]) => {
          const run = loadClient(({ running }) => {
            const { port, ...servers } = running.servers ?? { server4: NET.server4, server6: NET.server6, port: PORT };
            return ['bulk', mode, servers[server], port, streams, BULK_MS];
          });
          const what = `${direction}, ${family}, MTU ${mtu}, ${many(streams, 'stream')}`;
          const common = {
            mtu,
            bulk: true,
            seconds: 0.95,
            settings: family === 'IPv4' ? /** @type {const} */ ('all') : /** @type {const} */ ('main'),
            ...(family === 'IPv6' && { rounds: 3 }),
          };
          /** @type {Row} */
          const rate = {
            ...common,
            name: `TCP ${what}`,
            unit: 'Gbit/s',
            digits: 2,
            target: bulkTarget(mode, mtu),
            ...(family === 'IPv4' &&
              (streams === 1 || mtu === 1500) && { check: mode === 'down' ? 'pasta' : 'direct' }),
            sample: run(only('bps', 1e-9)),
          };
          if (family !== 'IPv4' || streams !== 1) return [rate];
          /** @type {Row} */
          const cost = {
            mtu,
            bulk: true,
            name: `CPU time of 1 GiB TCP ${direction}, MTU ${mtu}`,
            unit: 's',
            digits: 3,
            less: true,
            target: { peer: 1 },
            ...(mtu === 65_520 && { check: /** @type {const} */ ('pasta') }),
            seconds: 0,
            sample: run(cpuPer('bytes', 2 ** 30)),
          };
          return [rate, cost];
        }),
      ),
    ),
  );

/** @returns {Row[]} */
const packetRows = () =>
  [64, 1400].flatMap((size) =>
    WAYS.flatMap(([direction, mode]) => {
      const run = loadClient(() => ['packets', mode, NET.server4, PORT, size, SHORT_MS]);
      /** @type {Row} */
      const rate = {
        name: `UDP ${direction}, ${size} octets`,
        unit: 'packets/s',
        digits: 0,
        mtu: MTU,
        target: { peer: 1.5 },
        check: 'pasta',
        seconds: 0.8,
        sample: run(only('pps', 1)),
      };
      /** @type {Row} */
      const cost = {
        name: `CPU time of 1,000,000 packets ${direction}, ${size} octets`,
        unit: 's',
        digits: 3,
        mtu: MTU,
        less: true,
        target: { peer: 1 },
        seconds: 0,
        sample: run(cpuPer('packets', 1e6)),
      };
      return [rate, cost];
    }),
  );

/** Senders that give their kernel 44 datagrams at a time (UDP_SEGMENT), receivers that take them joined (UDP_GRO) or one by one. @returns {Row[]} */
const segmentRows = () =>
  /** @type {const} */ (['gro', 'plain']).flatMap((receiver) =>
    WAYS.map(([direction, mode]) => ({
      name: `UDP ${direction}, 1400 octets, GSO${receiver === 'gro' ? '' : ', receiver without GRO'}`,
      unit: 'packets/s',
      digits: 0,
      mtu: MTU,
      target: { peer: 1.5, direct: 0.8 },
      rounds: 3,
      seconds: 0.8,
      sample: loadClient(() => ['packets-gso', mode, NET.server4, PORT, 1400, SHORT_MS, receiver])(only('pps', 1)),
    })),
  );

/** @returns {Row[]} */
const latencyRows = () =>
  ['tcp', 'udp'].flatMap((protocol) => {
    const run = loadClient(() => ['rr', protocol, NET.server4, PORT, SHORT_MS]);
    return ['p50', 'p99'].map(
      (quantile, i) =>
        /** @type {Row} */ ({
          name: `${protocol.toUpperCase()} request/response, ${quantile}`,
          unit: 'µs',
          digits: 0,
          mtu: MTU,
          less: true,
          target: { peer: 1 },
          ...(quantile === 'p50' && { check: 'pasta' }),
          seconds: i === 0 ? 0.75 : 0,
          sample: run(only(`${quantile}_us`, 1)),
        }),
    );
  });

/** @returns {Row[]} */
const connectRows = () =>
  [1, 16].map((clients) => ({
    name: `TCP connect, request, response, close, ${many(clients, 'client')}`,
    unit: '1/s',
    digits: 0,
    mtu: MTU,
    target: clients === 1 ? { peer: 1 } : { peer: 1.2, direct: 0.6 },
    check: 'pasta',
    seconds: 0.75,
    sample: loadClient(() => ['crr', NET.server4, PORT, clients, SHORT_MS])(only('per_second', 1)),
  }));

export const tapRows = () => [...bulkRows(), ...packetRows(), ...segmentRows(), ...latencyRows(), ...connectRows()];
