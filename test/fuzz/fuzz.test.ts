// SPDX-License-Identifier: Apache-2.0
/**
 * The fuzzer, bounded: the corpus (every input that once found a defect is in it) and a second or a few of new inputs for each
 * target, with a new seed each time. A failure prints the seed and how to replay the input.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parseInput, printInput } from './steps.ts';

const here = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const TARGETS = readdirSync(here('test/fuzz/corpus'));
/** Those with more in them than half a second would reach. */
const LONGER = [
  ['frames', 5],
  ['rpc', 2],
] as const;

const fuzz = (...args: string[]): { status: number | null; output: string } => {
  // A seed given: what earlier runs on this machine kept has no part in it.
  const seed = ['--seed', String(Math.floor(Math.random() * 2 ** 31))];
  const child = spawnSync(process.execPath, [here('scripts/fuzz.mjs'), ...seed, ...args], {
    encoding: 'utf8',
    env: { ...process.env, PASTICHE_ADDON: here('dist/pastiche.node') },
  });
  return { status: child.status, output: child.stdout + child.stderr };
};

test.each(LONGER)('%s: the corpus, and some of what nobody thought of', (target, seconds) => {
  const { status, output } = fuzz('--target', target, '--seconds', String(seconds));
  expect(status, output).toBe(0);
  console.log(output.trimEnd());
});
test('the other targets, likewise', () => {
  const others = TARGETS.filter((target) => !LONGER.some(([one]) => one === target));
  const { status, output } = fuzz(...others.flatMap((target) => ['--target', target]), '--seconds', '0.5');
  expect(status, output).toBe(0);
  expect(output.match(/ runs, /g)).toHaveLength(others.length);
  console.log(output.trimEnd());
});

// Built and run several times slower than the rest, beside other tests.
describe('under AddressSanitizer and UndefinedBehaviorSanitizer', { timeout: 240_000 }, () => {
  test('frames, every sum made by the addon, too', () => {
    const { status, output } = fuzz('--target', 'frames', '--seconds', '2', '--sanitize');
    expect(status, output).toBe(0);
  });
  test('the tests of the addon, and messages that the helper refuses', () => {
    const { status, output } = fuzz('--sanitized-tests', '--quick');
    expect(status, output).toBe(0);
    expect(output.match(/Tests .* passed/g)).toHaveLength(2);
  });
});

describe('the fuzzer itself', () => {
  test('what it prints is what it reads', () => {
    const steps = parseInput('# c\nframe 15 00ff10\ndata 0 "a\\"b\\n"\nturn\nafter -5\nerror 3 ab cd\n');
    expect(steps.map(({ verb, arg }) => [verb, arg])).toEqual([
      ['frame', 15],
      ['data', 0],
      ['turn', 0],
      ['after', -5],
      ['error', 3],
    ]);
    expect(parseInput(printInput(steps))).toEqual(steps);
    expect(() => parseInput('frame x\n')).toThrow('line 1');
  });

  test('it says what it does not know', () => {
    expect(fuzz('--target', 'nothing')).toMatchObject({
      status: 2,
      output: expect.stringContaining('no target nothing'),
    });
    expect(fuzz('--seconds', 'x').status).toBe(2);
  });
});
