// SPDX-License-Identifier: Apache-2.0
/**
 * Sequence numbers modulo 2^32 (RFC 9293 §3.4), held as int32 so that V8 never boxes them. Print with `>>> 0`.
 * "Before" and "after" are meaningful while the two lie less than 2^31 apart.
 */

/** `a` plus `n` bytes, as int32. */
export const add = (a: number, n: number): number => (a + n) | 0;
/** Signed distance from `b` to `a`, in bytes: positive when `a` is later. */
export const diff = (a: number, b: number): number => (a - b) | 0;
export const before = (a: number, b: number): boolean => ((a - b) | 0) < 0;
export const beforeOrAt = (a: number, b: number): boolean => ((a - b) | 0) <= 0;
export const after = (a: number, b: number): boolean => ((a - b) | 0) > 0;
export const afterOrAt = (a: number, b: number): boolean => ((a - b) | 0) >= 0;
export const max = (a: number, b: number): number => (((a - b) | 0) > 0 ? a : b);
export const min = (a: number, b: number): number => (((a - b) | 0) < 0 ? a : b);
/** True when `s` lies in the window of `size` bytes that begins at `start`: start ≤ s < start + size, 0 ≤ size < 2^31. */
export const within = (s: number, start: number, size: number): boolean => {
  const offset = (s - start) | 0;
  return offset >= 0 && offset < size;
};
