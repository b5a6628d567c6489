// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** What was measured, and what is made of it: medians, ratios, the better of the peers, targets that were missed. */

/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./settings.mjs').Setting} Setting */

export const OURS = 'pastiche';
export const DIRECT = 'direct';
/** What is to be compared with, of all tools that can be: not our own other builds, and not a yardstick. */
export const PEERS = ['pasta', 'slirp4netns', 'passt'];

/** @param {readonly number[]} values */
export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
};

export class Samples {
  /** @type {Map<string, number[]>} */
  #values = new Map();
  /** @param {Setting} setting @param {Row} row @param {string} peer */
  static #key = (setting, row, peer) => `${setting.label}\n${row.name}\n${peer}`;

  /** @param {Setting} setting @param {Row} row @param {string} peer @param {number} value */
  record(setting, row, peer, value) {
    const key = Samples.#key(setting, row, peer);
    this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
  }
  /** In the order of the rounds. @param {Setting} setting @param {Row} row @param {string} peer @returns {readonly number[]} */
  of(setting, row, peer) {
    return this.#values.get(Samples.#key(setting, row, peer)) ?? [];
  }
  /** @param {Setting} setting @param {Row} row @param {string} peer @returns {number | null} */
  median(setting, row, peer) {
    const values = this.of(setting, row, peer);
    return values.length === 0 ? null : /** @type {number} */ (median(values));
  }
  /** The best median of these tools in these settings. @param {readonly Setting[]} settings @param {Row} row @param {readonly string[]} peers */
  best(settings, row, peers) {
    let best = null;
    for (const setting of settings)
      for (const peer of peers) {
        const value = this.median(setting, row, peer);
        if (value === null || !(value > 0)) continue;
        if (best === null || (row.less ? value < best.value : value > best.value)) best = { value, setting, peer };
      }
    return best;
  }
}

/** @param {number | null | undefined} ours @param {number | null | undefined} other */
export const ratioOf = (ours, other) => (ours === null || ours === undefined || !other ? null : ours / other);

/** Whether a figure misses a bound, when there are both. @param {Row} row @param {number | null} figure @param {number | undefined} bound */
export const misses = (row, figure, bound) =>
  figure !== null && bound !== undefined && (row.less ? figure > bound : figure < bound);

/** The bound on the ratio to the direct path. @param {Row} row @param {Setting} setting */
export const directBound = ({ target }, { congestion }) =>
  typeof target?.direct === 'object' ? target.direct[congestion === 'bbr' ? 'bbr' : 'cubic'] : target?.direct;
