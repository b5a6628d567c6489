// SPDX-License-Identifier: Apache-2.0
/** The guard of `npm run bench -- --check`: what it lets pass, and what it stops. No measurement is made here. */

import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Baseline, baselineOf, compare, failed, figureOf } from '../bench/baseline.mjs';
import type { Row } from '../bench/row.mjs';
import { ROWS } from '../bench/rows.mjs';
import { Samples } from '../bench/samples.mjs';

const SETTING = { congestion: 'cubic', wmem: 'kept', label: 'cubic' } as const;
const row = (name: string, less = false): Row => ({
  name,
  unit: 'x',
  digits: 0,
  mtu: 1500,
  less,
  check: 'pasta',
  seconds: 0,
  sample: async () => null,
});

const measured = (ours: readonly number[], theirs: readonly number[]) => {
  const samples = new Samples();
  for (const value of ours) samples.record(SETTING, row('rate'), 'pastiche', value);
  for (const value of theirs) samples.record(SETTING, row('rate'), 'pasta', value);
  return figureOf(samples, SETTING, row('rate'));
};
const verdictOf = (baseline: Baseline, ratio: number) => compare(baseline, new Map([['rate', { ratio }]]))[0]?.verdict;

describe('a figure', () => {
  it('is the median of the ratios of rounds, not the ratio of medians', () => {
    expect(measured([10, 20, 60], [10, 10, 20])?.ratio).toBeCloseTo(2);
  });
  it('has no spread where every round says the same, though the machine got slower meanwhile', () => {
    expect(measured([40, 20, 10], [20, 10, 5])).toMatchObject({ ratio: 2, spread: 0 });
  });
  it('is not there when either did not measure', () => {
    expect(measured([1], [])).toBeNull();
  });
});

describe('a tolerance', () => {
  const tolerance = (spread: number, rounds: number) =>
    baselineOf(new Map([['rate', { reference: 'pasta', ratio: 1, spread, less: false }]]), rounds)['rate']?.tolerance;
  it('grows with the noise of the row and shrinks with the rounds', () => {
    expect(tolerance(0.1, 5)).toBeCloseTo(0.27);
    expect(tolerance(0.1, 20)).toBeCloseTo(0.13);
  });
  it('is neither so small that chance fails, nor so large that nothing does', () => {
    expect(tolerance(0, 5)).toBe(0.12);
    expect(tolerance(2, 5)).toBe(0.35);
  });
});

describe('a comparison', () => {
  const more: Baseline = { rate: { reference: 'pasta', ratio: 2, tolerance: 0.2, less: false } };
  const less: Baseline = { rate: { reference: 'pasta', ratio: 2, tolerance: 0.2, less: true } };
  it.each([
    { baseline: more, ratio: 2, verdict: 'same' },
    { baseline: more, ratio: 1.7, verdict: 'same' },
    { baseline: more, ratio: 1.6, verdict: 'worse' },
    { baseline: more, ratio: 2.5, verdict: 'better' },
    { baseline: less, ratio: 2.3, verdict: 'same' },
    { baseline: less, ratio: 2.5, verdict: 'worse' },
    { baseline: less, ratio: 1.6, verdict: 'better' },
  ])('of $ratio with 2 ± 20 %, less=$baseline.rate.less, says $verdict', ({ baseline, ratio, verdict }) => {
    expect(verdictOf(baseline, ratio)).toBe(verdict);
  });
  it('fails with one line a row for what got worse and for what was not measured', () => {
    const two: Baseline = { ...more, gone: { reference: 'pasta', ratio: 1, tolerance: 0.2, less: false } };
    const verdicts = compare(two, new Map([['rate', { ratio: 1 }]]));
    expect(verdicts.map(({ verdict, text }) => [verdict, text])).toEqual([
      ['worse', 'rate: 1.000 × pasta, baseline 2 ± 20 %: worse'],
      ['not measured', 'gone: not measured, or it failed'],
    ]);
    expect(failed(verdicts)).toBe(true);
  });
  it('does not fail for what got better, or is new', () => {
    const verdicts = compare(
      more,
      new Map([
        ['rate', { ratio: 9 }],
        ['new', { ratio: 1 }],
      ]),
    );
    expect(verdicts.map(({ verdict }) => verdict)).toEqual(['better', 'not in the baseline']);
    expect(failed(verdicts)).toBe(false);
  });
});

describe('bench/baseline.json', () => {
  const stored: Baseline = JSON.parse(readFileSync(new URL('../../bench/baseline.json', import.meta.url), 'utf8')).rows;
  it('has exactly the rows that the guard measures', () => {
    const watched = ROWS.filter(({ check }) => check !== undefined);
    expect(Object.keys(stored).sort()).toEqual(watched.map(({ name }) => name).sort());
    for (const { name, check, less } of watched)
      expect(stored[name]).toMatchObject({ reference: check, less: less === true });
  });
  it('doctored to twice what was measured, fails in every row', () => {
    const figures = new Map(Object.entries(stored).map(([name, { ratio }]) => [name, { ratio }]));
    expect(failed(compare(stored, figures))).toBe(false);
    const doctored = Object.fromEntries(
      Object.entries(stored).map(([name, bound]) => [name, { ...bound, ratio: bound.ratio * (bound.less ? 0.5 : 2) }]),
    );
    expect(compare(doctored, figures).map(({ verdict }) => verdict)).toEqual(Object.keys(stored).map(() => 'worse'));
  });
});
