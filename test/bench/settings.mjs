// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Under which settings of the system the rows are measured. What a new network namespace begins with is a setting of the
 * whole machine, the limits of socket buffers (socket(7), SO_SNDBUF and SO_RCVBUF) are, too: whatever they were comes back.
 */
import { readFileSync, writeFileSync } from 'node:fs';

/** @typedef {'default' | 'raised' | 'kept'} Wmem */
/** @typedef {{ congestion: string, wmem: Wmem, label: string }} Setting */

const LIMITS = ['wmem_max', 'rmem_max'].map((name) => `/proc/sys/net/core/${name}`);
/** What a kernel starts with, and 16 MiB. @type {Record<Exclude<Wmem, 'kept'>, number>} */
const BYTES = { default: 212_992, raised: 16 << 20 };
const TCP = '/proc/sys/net/ipv4/tcp_';
/** What the namespace of whoever reads it uses, and what those that are made later begin with where that is the initial one. */
const CONGESTION = `${TCP}congestion_control`;
/** What other namespaces than the initial one may choose, tcp(7): without that, writing there fails. */
const ALLOWED = `${TCP}allowed_congestion_control`;

const read = (/** @type {string} */ path) => readFileSync(path, 'utf8').trim();
const kib = (/** @type {number} */ bytes) => (bytes >= 1 << 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 1024} KiB`);

/** Path → what was there, in the order of the first writing. @type {Map<string, string>} */
const found = new Map();
const restore = () => {
  for (const [path, value] of [...found].reverse()) writeFileSync(path, value);
  found.clear();
};
const restoreAtEnd = () => {
  process.once('exit', restore);
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']))
    process.on(signal, () => {
      restore();
      // Else somebody else ends the process when its lab is gone.
      if (process.listenerCount(signal) > 1) return;
      console.error('\nbench: interrupted');
      process.exit(130);
    });
};

/** Until the process ends, however it ends (SIGKILL apart). @param {string} path @param {string} value */
const set = (path, value) => {
  const before = read(path);
  if (before === value) return;
  if (found.size === 0) restoreAtEnd();
  if (!found.has(path)) found.set(path, before);
  try {
    writeFileSync(path, value);
  } catch (error) {
    throw new Error(`${path} can't be set: ${error instanceof Error ? error.message : error}`);
  }
};

/** All namespaces that are made from now on have it, those of the guests included. @param {string} congestion */
export const applyCongestion = (congestion) => {
  const known = read(`${TCP}available_congestion_control`).split(' ');
  if (!known.includes(congestion))
    throw new Error(`--congestion ${congestion}: this kernel has ${known.join(', ')} (modprobe tcp_${congestion}?)`);
  const allowed = read(ALLOWED).split(' ');
  if (!allowed.includes(congestion)) set(ALLOWED, [...allowed, congestion].join(' '));
  set(CONGESTION, congestion);
};

/** Fails where a namespace has another one than was asked for. @param {import('../support/lab.mjs').Side} side @param {string} congestion @param {string} whose */
export const checkCongestion = async (side, congestion, whose) => {
  const has = (await side.run(['cat', CONGESTION])).trim();
  if (has !== congestion) throw new Error(`TCP of ${whose} uses ${has}, not ${congestion}`);
};

/** @param {Setting} setting */
export const apply = ({ congestion, wmem }) => {
  applyCongestion(congestion);
  if (wmem !== 'kept') for (const path of LIMITS) set(path, String(BYTES[wmem]));
};

/** Every combination; the first one is the main one. @param {readonly string[]} congestions @param {readonly string[]} wmems @returns {Setting[]} */
export const settingsOf = (congestions, wmems) =>
  wmems.flatMap((text) => {
    if (text !== 'default' && text !== 'raised' && text !== 'kept')
      throw new Error(`--wmem ${text}: it is default, raised or kept`);
    const bytes = text === 'kept' ? Number(read(LIMITS[0] ?? '')) : BYTES[text];
    return congestions.map((congestion) => ({
      congestion,
      wmem: text,
      label: `${congestion}, wmem_max ${kib(bytes)}`,
    }));
  });
