// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Under which settings of the system the rows are measured. Congestion control is one of each network namespace; the limits
 * of socket buffers (socket(7), SO_SNDBUF and SO_RCVBUF) are the whole machine's, so whatever they were comes back.
 */
import { readFileSync, writeFileSync } from 'node:fs';

/** @typedef {'default' | 'raised' | 'kept'} Wmem */
/** @typedef {{ congestion: string, wmem: Wmem, label: string }} Setting */

const LIMITS = ['wmem_max', 'rmem_max'].map((name) => `/proc/sys/net/core/${name}`);
/** What a kernel starts with, and 16 MiB. @type {Record<Exclude<Wmem, 'kept'>, number>} */
const BYTES = { default: 212_992, raised: 16 << 20 };

const read = (/** @type {string} */ path) => readFileSync(path, 'utf8').trim();
const kib = (/** @type {number} */ bytes) => (bytes >= 1 << 20 ? `${bytes / 2 ** 20} MiB` : `${bytes / 1024} KiB`);

/** @type {string[] | null} */
let found = null;
const restore = () => {
  if (found !== null) for (const [i, path] of LIMITS.entries()) writeFileSync(path, found[i] ?? '');
  found = null;
};

/** Sets the limits until the process ends, however it ends (SIGKILL apart). @param {Wmem} wmem */
export const applyWmem = (wmem) => {
  if (wmem === 'kept') return;
  if (found === null) {
    found = LIMITS.map(read);
    process.once('exit', restore);
    for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']))
      process.on(signal, () => {
        restore();
        // Else somebody else ends the process when its lab is gone.
        if (process.listenerCount(signal) === 1) process.exit(130);
      });
  }
  try {
    for (const path of LIMITS) writeFileSync(path, String(BYTES[wmem]));
  } catch (error) {
    throw new Error(`wmem_max can't be set here, use --wmem kept: ${error instanceof Error ? error.message : error}`);
  }
};

/** Every combination; the first one is the main one. @param {readonly string[]} congestions @param {readonly string[]} wmems @returns {Setting[]} */
export const settingsOf = (congestions, wmems) => {
  const known = read('/proc/sys/net/ipv4/tcp_available_congestion_control').split(' ');
  const missing = congestions.find((name) => !known.includes(name));
  if (missing !== undefined)
    throw new Error(`--congestion ${missing}: this kernel has ${known.join(', ')} (modprobe tcp_${missing}?)`);
  return wmems.flatMap((text) => {
    if (text !== 'default' && text !== 'raised' && text !== 'kept')
      throw new Error(`--wmem ${text}: it is default, raised or kept`);
    const bytes = text === 'kept' ? Number(read(LIMITS[0] ?? '')) : BYTES[text];
    return congestions.map((congestion) => ({
      congestion,
      wmem: text,
      label: `${congestion}, wmem_max ${kib(bytes)}`,
    }));
  });
};
