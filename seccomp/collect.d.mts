// SPDX-License-Identifier: Apache-2.0
import type { Call, ConditionOn, Profile } from './grammar.mjs';

export interface Annotation {
  readonly file: string;
  readonly line: number;
  readonly profiles: readonly Profile[];
  readonly calls: readonly Call[];
  readonly reason: string;
}
/** One call of one annotation. */
export interface CollectedRule {
  readonly file: string;
  readonly line: number;
  readonly profiles: readonly Profile[];
  readonly arch: string;
  readonly names: readonly string[];
  readonly call: string;
  readonly errno: string;
  readonly combinations: readonly (readonly ConditionOn[])[];
  readonly reason: string;
}
export const RUNTIME_FILE: string;
export const sourceFiles: (base?: string) => readonly string[];
export const annotationsOf: (file: string, source: string) => readonly Annotation[];
export const collect: (base?: string) => readonly CollectedRule[];
