// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * The guard against getting slower: ratios to a reference that ran in turn with us, compared with those of a baseline. What a
 * ratio may differ by is the noise that it had when the baseline was written.
 */
import { median, OURS } from './samples.mjs';

/** @typedef {import('./row.mjs').Row} Row */
/** @typedef {import('./samples.mjs').Samples} Samples */
/** @typedef {import('./settings.mjs').Setting} Setting */
/** @typedef {{ reference: string, ratio: number, spread: number }} Figure `spread`: standard deviation of the ratio's logarithm, of one round */
/** @typedef {{ reference: string, ratio: number, tolerance: number, less: boolean }} Bound `tolerance`: 0.2 is 20 % the worse way */
/** @typedef {Record<string, Bound>} Baseline */
/** @typedef {{ name: string, verdict: 'worse' | 'better' | 'same' | 'not measured' | 'not in the baseline', text: string }} Verdict */

/** No ratio is held to less than this, and none is let off more. */
const [TOLERANCE_MIN, TOLERANCE_MAX] = [0.12, 0.35];
/**
 * A median of n rounds has about 1.25 / √n of the deviation of one (normal noise), the difference of two such medians √2 times that;
 * three deviations of it, so that of twenty rows hardly one fails by chance.
 */
const deviations = (/** @type {number} */ n) => (3 * Math.SQRT2 * 1.25) / Math.sqrt(n);

/** The ratio of a row, by rounds: both ran in the same minute. @param {Samples} samples @param {Setting} setting @param {Row} row @returns {Figure | null} */
export const figureOf = (samples, setting, row) => {
  const reference = row.check ?? '';
  const [ours, others] = [samples.of(setting, row, OURS), samples.of(setting, row, reference)];
  const logs = ours.flatMap((value, i) => {
    const other = others[i];
    return other !== undefined && other > 0 && value > 0 ? [Math.log(value / other)] : [];
  });
  if (logs.length === 0) return null;
  const middle = median(logs) ?? 0;
  // Of normal noise √(π/2) mean absolute deviations are a standard one; one round that went wrong counts less this way.
  const deviation = logs.reduce((sum, x) => sum + Math.abs(x - middle), 0) / logs.length;
  return { reference, ratio: Math.exp(middle), spread: Math.sqrt(Math.PI / 2) * deviation };
};

/** @param {ReadonlyMap<string, Figure & { less: boolean }>} figures @param {number} rounds @returns {Baseline} */
export const baselineOf = (figures, rounds) =>
  Object.fromEntries(
    [...figures].map(([name, { reference, ratio, spread, less }]) => {
      const tolerance = Math.exp(deviations(rounds) * spread) - 1;
      const bounded = Math.min(Math.max(tolerance, TOLERANCE_MIN), TOLERANCE_MAX);
      return [name, { reference, ratio: Number(ratio.toPrecision(4)), tolerance: Number(bounded.toFixed(2)), less }];
    }),
  );

/** One verdict a row, those of the baseline first. @param {Baseline} baseline @param {ReadonlyMap<string, Pick<Figure, 'ratio'>>} figures @returns {Verdict[]} */
export const compare = (baseline, figures) => {
  const known = Object.entries(baseline).map(([name, { reference, ratio, tolerance, less }]) => {
    const now = figures.get(name)?.ratio;
    if (now === undefined)
      return /** @type {Verdict} */ ({ name, verdict: 'not measured', text: `${name}: not measured, or it failed` });
    const change = less ? now / ratio : ratio / now;
    const verdict = change > 1 + tolerance ? 'worse' : change < 1 / (1 + tolerance) ? 'better' : 'same';
    const text = `${name}: ${now.toFixed(3)} × ${reference}, baseline ${ratio} ± ${Math.round(tolerance * 100)} %: ${verdict}`;
    return /** @type {Verdict} */ ({ name, verdict, text });
  });
  const unknown = [...figures.keys()].filter((name) => !(name in baseline));
  return [
    ...known,
    ...unknown.map(
      (name) => /** @type {Verdict} */ ({ name, verdict: 'not in the baseline', text: `${name}: not in the baseline` }),
    ),
  ];
};

/** Whether a check with these verdicts fails: a row that got worse, or that is no longer there to be looked at. @param {readonly Verdict[]} verdicts */
export const failed = (verdicts) => verdicts.some(({ verdict }) => verdict === 'worse' || verdict === 'not measured');
