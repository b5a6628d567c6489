// SPDX-License-Identifier: Apache-2.0
/** What the fuzzer needs to know of a part of the program. */
import type { Random } from './random.ts';
import type { Input } from './steps.ts';

export interface Target {
  readonly name: string;
  /** Throws when the program does what it must not; what it refuses in an orderly way is no such thing. */
  readonly run: (input: Input) => void;
  /** Changes that know the form of the input; null: none this time, bytes are changed. */
  readonly mutate?: (input: Input, random: Random, other: () => Input) => Input | null;
  /** Words that bytes are made of now and then. */
  readonly words?: readonly Uint8Array[];
}
