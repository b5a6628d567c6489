// SPDX-License-Identifier: Apache-2.0
/** Changes to inputs that know nothing of their meaning: of bytes, and of the steps that an input is made of. */
import type { Random } from './random.ts';
import type { Input, Step } from './steps.ts';

const INTERESTING_8 = [0, 1, 2, 3, 4, 6, 7, 8, 15, 16, 17, 31, 32, 44, 58, 63, 64, 127, 128, 192, 254, 255];
const INTERESTING_16 = [0, 1, 7, 8, 19, 20, 39, 40, 255, 256, 1280, 1500, 0x7fff, 0x8000, 0xfff8, 0xffff];
const INTERESTING_32 = [0, 1, 0x7fff_ffff, -0x8000_0000, -1, 0xffff, 0x1_0000];
const BYTES_MAX = 65_600;
const STEPS_MAX = 64;

type Change = (b: number[], random: Random, words: readonly Uint8Array[]) => void;

const somewhere = (b: number[], random: Random, room = 1): number => random.below(Math.max(b.length - room + 1, 1));
const put = (b: number[], at: number, bytes: readonly number[]): void => {
  for (let i = 0; i < bytes.length && at + i < b.length; i++) b[at + i] = bytes[i] as number;
};
const big = (n: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => (n >>> (8 * (bytes - 1 - i))) & 0xff);

const CHANGES: readonly Change[] = [
  (b, random) => {
    const at = somewhere(b, random);
    b[at] = (b[at] ?? 0) ^ (1 << random.below(8));
  },
  (b, random) => put(b, somewhere(b, random), [random.below(256)]),
  (b, random) => put(b, somewhere(b, random), [random.pick(INTERESTING_8)]),
  (b, random) => {
    const bytes = big(random.pick(INTERESTING_16), 2);
    put(b, somewhere(b, random, 2), random.once(4) ? bytes.reverse() : bytes);
  },
  (b, random) => {
    const bytes = big(random.pick(INTERESTING_32), 4);
    put(b, somewhere(b, random, 4), random.once(4) ? bytes.reverse() : bytes);
  },
  (b, random) => {
    const at = somewhere(b, random);
    b[at] = ((b[at] ?? 0) + random.below(17) - 8) & 0xff;
  },
  // Cut, grow, drop a part, repeat a part.
  (b, random) => b.splice(somewhere(b, random)),
  (b, random) => {
    for (let n = 1 + random.below(random.once(8) ? 2000 : 16); n > 0; n--) b.push(random.below(256));
  },
  (b, random) => b.splice(somewhere(b, random), 1 + random.below(8)),
  (b, random) => {
    const at = somewhere(b, random);
    b.splice(at, 0, ...b.slice(at, at + 1 + random.below(16)));
  },
  (b, random) =>
    b.splice(somewhere(b, random), 0, ...Array.from({ length: 1 + random.below(8) }, () => random.below(256))),
  (b, random, words) => {
    if (words.length === 0) return;
    const word = random.pick(words);
    if (random.once(2)) b.splice(somewhere(b, random), 0, ...word);
    else put(b, somewhere(b, random, word.length), [...word]);
  },
];

export const mutateBytes = (bytes: Uint8Array, random: Random, words: readonly Uint8Array[] = []): Uint8Array => {
  const b = [...bytes];
  for (let n = 1 << random.below(4); n > 0; n--) random.pick(CHANGES)(b, random, words);
  return Uint8Array.from(b.slice(0, BYTES_MAX));
};

const NUMBERS = [0, 1, -1, 2, 7, 8, 15, 16, 31, 40, 100, 104, 110, 111, 113, 250, 1000, 30_000, 120_000, 7_500_000];

/** One step more, less, elsewhere, or changed. `other` gives another input to take steps from. */
export const mutateSteps = (
  input: Input,
  random: Random,
  other: () => Input,
  words: readonly Uint8Array[] = [],
): Input => {
  const steps = [...input];
  const at = random.below(steps.length);
  const one = steps[at] as Step;
  switch (random.below(steps.length > 1 ? 10 : 6)) {
    case 0:
      steps.splice(random.below(steps.length + 1), 0, random.pick(other()) as Step);
      break;
    case 1: {
      const from = other();
      const begin = random.below(from.length);
      steps.splice(random.below(steps.length + 1), 0, ...from.slice(begin, begin + 1 + random.below(6)));
      break;
    }
    case 2:
      steps[at] = { ...one, arg: random.once(2) ? random.pick(NUMBERS) : one.arg ^ (1 << random.below(6)) };
      break;
    case 3:
    case 4:
    case 5:
      steps[at] = { ...one, bytes: mutateBytes(one.bytes, random, words) };
      break;
    case 6:
      steps.splice(at, 1 + random.below(2));
      break;
    case 7: {
      const to = random.below(steps.length);
      steps[at] = steps[to] as Step;
      steps[to] = one;
      break;
    }
    case 8:
      steps.splice(at, 0, one);
      break;
    default:
      steps[at] = { ...one, bytes: mutateBytes(one.bytes, random, words) };
  }
  return steps.length === 0 ? input : steps.slice(0, STEPS_MAX);
};
