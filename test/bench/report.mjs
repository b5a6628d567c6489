// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** The tables: one for each setting, one with each tool at its best setting. A ratio that misses its target has a ✗. */
import { DIRECT, directBound, misses, OURS, PEERS, ratioOf } from './samples.mjs';

/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./samples.mjs').Samples} Samples */
/** @typedef {import('./settings.mjs').Setting} Setting */
/** @typedef {{ samples: Samples, rows: readonly Row[], peers: readonly string[], settings: readonly Setting[] }} Results */

const NONE = '–';
/** Of ratios from some hundreds on, digits after the point say nothing. @param {number} ratio */
const ratioText = (ratio) => ratio.toFixed(ratio >= 100 ? 0 : 2);
/** @param {Row} row @param {number | null} figure @param {number | undefined} bound */
const judged = (row, figure, bound) =>
  figure === null ? NONE : `${ratioText(figure)}${misses(row, figure, bound) ? ' ✗' : ''}`;
/** @param {Row} row @param {number | null} value */
const valueText = (row, value) => value?.toFixed(row.digits) ?? NONE;

/** @param {Row} row @param {number | null} value */
const missesOwn = (row, value) =>
  value !== null && (value > (row.target?.max ?? Number.POSITIVE_INFINITY) || value < (row.target?.min ?? 0));

/** What is asked, in words. @param {Row} row @param {Setting | null} setting null: each tool at its best @param {boolean} asShipped */
const targetText = (row, setting, asShipped) => {
  const sign = row.less ? '≤' : '≥';
  const { peer, max, min } = row.target ?? {};
  const ofPeer = setting === null ? peer : ((asShipped ? row.target?.peerAsShipped : undefined) ?? peer);
  const ofDirect = setting === null ? undefined : directBound(row, setting);
  return [
    ...(ofPeer === undefined ? [] : [`${sign} ${ofPeer} × peer`]),
    ...(ofDirect === undefined ? [] : [`${sign} ${ofDirect} × direct`]),
    ...(max === undefined ? [] : [`≤ ${max}`]),
    ...(min === undefined ? [] : [`≥ ${min}`]),
  ].join(', ');
};

/** Figures in one setting; the first of all is that of a plain system. @param {Results} results @param {Setting} setting @param {boolean} asShipped */
export const settingTable = ({ samples, rows, peers }, setting, asShipped) => {
  const others = peers.filter((name) => name !== OURS && name !== DIRECT && !PEERS.includes(name));
  const compared = PEERS.filter((name) => peers.includes(name));
  const direct = peers.includes(DIRECT);
  const heading = [
    '',
    'unit',
    ...peers,
    ...(compared.length > 0 ? [compared.length > 1 ? '÷ better peer' : `÷ ${compared[0]}`] : []),
    ...others.map((name) => `÷ ${name}`),
    ...(direct ? ['÷ direct', 'target'] : ['target']),
  ];
  const body = rows.flatMap((row) => {
    const value = (/** @type {string} */ peer) => samples.median(setting, row, peer);
    if (peers.every((peer) => value(peer) === null)) return [];
    const ours = value(OURS);
    const better = samples.best([setting], row, compared)?.value;
    const peerBound = (asShipped ? row.target?.peerAsShipped : undefined) ?? row.target?.peer;
    const own = `${valueText(row, ours)}${missesOwn(row, ours) ? ' ✗' : ''}`;
    return [
      [
        row.name,
        row.unit,
        ...peers.map((name) => (name === OURS ? own : valueText(row, value(name)))),
        ...(compared.length > 0 ? [judged(row, ratioOf(ours, better), peerBound)] : []),
        ...others.map((name) => judged(row, ratioOf(ours, value(name)), undefined)),
        ...(direct ? [judged(row, ratioOf(ours, value(DIRECT)), directBound(row, setting))] : []),
        targetText(row, setting, asShipped),
      ],
    ];
  });
  return [heading, ...body];
};

/** Rows of every setting: our best figure and the best of any peer, wherever it was. @param {Results} results */
export const bestTable = ({ samples, rows, peers, settings }) => {
  const compared = PEERS.filter((name) => peers.includes(name));
  const body = rows.flatMap((row) => {
    const [ours, other] = [samples.best(settings, row, [OURS]), samples.best(settings, row, compared)];
    if (row.settings !== 'all' || ours === null || other === null) return [];
    return [
      [
        row.name,
        row.unit,
        `${valueText(row, ours.value)} (${ours.setting.label})`,
        `${valueText(row, other.value)} (${other.peer}, ${other.setting.label})`,
        judged(row, ratioOf(ours.value, other.value), row.target?.peer),
        targetText(row, null, false),
      ],
    ];
  });
  return [['', 'unit', OURS, 'best of the peers', 'ratio', 'target'], ...body];
};

/** Targets met and missed, of all tables. @param {Results} results */
export const score = ({ samples, rows, peers, settings }) => {
  let [met, missed] = [0, 0];
  const compared = PEERS.filter((name) => peers.includes(name));
  const count = (/** @type {boolean} */ miss) => (miss ? missed++ : met++);
  for (const row of rows) {
    for (const [i, setting] of settings.entries()) {
      const ours = samples.median(setting, row, OURS);
      if (ours === null) continue;
      const direct = ratioOf(ours, samples.median(setting, row, DIRECT));
      const bound = directBound(row, setting);
      if (direct !== null && bound !== undefined) count(misses(row, direct, bound));
      if (row.target?.max !== undefined || row.target?.min !== undefined) count(missesOwn(row, ours));
      const shipped = ratioOf(ours, samples.best([setting], row, compared)?.value);
      if (i === 0 && shipped !== null && row.target?.peerAsShipped !== undefined)
        count(misses(row, shipped, row.target.peerAsShipped));
    }
    const best = ratioOf(samples.best(settings, row, [OURS])?.value, samples.best(settings, row, compared)?.value);
    if (best !== null && row.target?.peer !== undefined) count(misses(row, best, row.target.peer));
  }
  return { met, missed };
};
