// SPDX-License-Identifier: Apache-2.0
export type Profile = 'setup' | 'sandbox' | 'host' | 'netns' | 'controller' | 'resolver';
/** C expressions; mask '' compares all 64 bits. */
export interface Condition {
  readonly mask: string;
  readonly value: string;
}
export interface Call {
  readonly arch: string;
  readonly names: readonly string[];
  readonly args: readonly (readonly Condition[])[];
  readonly text: string;
  readonly errno: string;
}
export const PROFILES: readonly Profile[];
export const ARCHITECTURES: readonly string[];
export class AnnotationError extends Error {}
export const parseAnnotation: (text: string) => {
  readonly profiles: readonly Profile[];
  readonly calls: readonly Call[];
  readonly reason: string;
};
export const combinations: (args: readonly (readonly Condition[])[]) => readonly (readonly ConditionOn[])[];
export interface ConditionOn extends Condition {
  readonly arg: number;
}
