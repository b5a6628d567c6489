// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Rows about a guest of passt: what goes over a stream socket or vhost-user, in bulk, one by one, connection by connection. */
import { NET } from '../support/lab.mjs';
import { cpuPer, loadClient, many, only, PORT, WAYS } from './row.mjs';

/** @typedef {import('./row.mjs').Row} Row */
/**
 * A kind of guest.
 * @typedef {object} Kind
 * @property {string} label what a row's name begins with
 * @property {readonly number[]} streams of bulk TCP in IPv4; in IPv6 it is one
 * @property {number} bulkMs
 * @property {number} shortMs
 * @property {number} startSeconds of one client, beside that
 * @property {'all' | 'main'} inSettings of congestion control and wmem_max: whether bulk rows are measured in every one
 */

const MTUS = [1500, 65_520];
/** What issue 6 asks of every row of bulk transfer. */
const AT_LEAST_THEIRS = { peer: 1 };

/** @param {Kind} kind @returns {Row[]} */
const bulkRows = ({ label, streams, bulkMs, startSeconds, inSettings }) =>
  MTUS.flatMap((mtu) =>
    [
      ...streams.map((n) => /** @type {const} */ (['IPv4', 'server4', n])),
      /** @type {const} */ (['IPv6', 'server6', 1]),
    ].flatMap(([family, server, n]) =>
      WAYS.flatMap(([direction, mode]) => {
        const run = loadClient(({ running }) => {
          const { port, ...servers } = running.servers ?? { server4: NET.server4, server6: NET.server6, port: PORT };
          return ['bulk', mode, servers[server], port, n, bulkMs];
        });
        const common = { mtu, bulk: true, settings: family === 'IPv4' ? inSettings : /** @type {const} */ ('main') };
        /** @type {Row} */
        const rate = {
          ...common,
          name: `${label}: TCP ${direction}, ${family}, MTU ${mtu}, ${many(n, 'stream')}`,
          unit: 'Gbit/s',
          digits: 2,
          target: AT_LEAST_THEIRS,
          seconds: bulkMs / 1000 + startSeconds,
          sample: run(only('bps', 1e-9)),
        };
        if (family !== 'IPv4' || n !== 1) return [rate];
        /** @type {Row} */
        const cost = {
          ...common,
          name: `${label}: CPU time of 1 GiB TCP ${direction}, MTU ${mtu}`,
          unit: 's',
          digits: 3,
          less: true,
          target: AT_LEAST_THEIRS,
          seconds: 0,
          sample: run(cpuPer('bytes', 2 ** 30)),
        };
        return [rate, cost];
      }),
    ),
  );

/** @param {Kind} kind @returns {Row[]} */
const packetRows = ({ label, shortMs, startSeconds }) =>
  [64, 1400].flatMap((size) =>
    WAYS.map(([direction, mode]) => ({
      name: `${label}: UDP ${direction}, ${size} octets`,
      unit: 'packets/s',
      digits: 0,
      mtu: 1500,
      target: AT_LEAST_THEIRS,
      seconds: shortMs / 1000 + startSeconds,
      sample: loadClient(() => ['packets', mode, NET.server4, PORT, size, shortMs])(only('pps', 1)),
    })),
  );

/** @param {Kind} kind @returns {Row[]} */
const latencyRows = ({ label, shortMs, startSeconds }) =>
  ['tcp', 'udp'].flatMap((protocol) => {
    const run = loadClient(() => ['rr', protocol, NET.server4, PORT, shortMs]);
    return ['p50', 'p99'].map(
      (quantile, i) =>
        /** @type {Row} */ ({
          name: `${label}: ${protocol.toUpperCase()} request/response, ${quantile}`,
          unit: 'µs',
          digits: 0,
          mtu: 1500,
          less: true,
          target: AT_LEAST_THEIRS,
          seconds: i === 0 ? shortMs / 1000 + startSeconds : 0,
          sample: run(only(`${quantile}_us`, 1)),
        }),
    );
  });

/** @param {Kind} kind @returns {Row[]} */
const connectRows = ({ label, shortMs, startSeconds }) =>
  [1, 16].map((clients) => ({
    name: `${label}: TCP connect, request, response, close, ${many(clients, 'client')}`,
    unit: '1/s',
    digits: 0,
    mtu: 1500,
    target: AT_LEAST_THEIRS,
    seconds: shortMs / 1000 + startSeconds,
    sample: loadClient(() => ['crr', NET.server4, PORT, clients, shortMs])(only('per_second', 1)),
  }));

/** @param {Kind} kind @returns {Row[]} */
const guestRows = (kind) => [...bulkRows(kind), ...packetRows(kind), ...latencyRows(kind), ...connectRows(kind)];

/** This kernel is the guest. */
const NATIVE = {
  streams: [1, 8],
  bulkMs: 700,
  shortMs: 600,
  startSeconds: 0.2,
  inSettings: /** @type {const} */ ('all'),
};
export const STREAM_ROWS = guestRows({ label: 'netns, stream', ...NATIVE });
export const VHOST_ROWS = guestRows({ label: 'netns, vhost-user', ...NATIVE });

/** QEMU emulates every instruction: a second core's work of a guest is not to be had. */
const EMULATED = {
  streams: [1, 4],
  bulkMs: 800,
  shortMs: 600,
  startSeconds: 0.3,
  inSettings: /** @type {const} */ ('main'),
};
export const QEMU_STREAM_ROWS = guestRows({ label: 'QEMU, stream', ...EMULATED });
export const QEMU_VHOST_ROWS = guestRows({ label: 'QEMU, vhost-user', ...EMULATED });
