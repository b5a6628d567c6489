// SPDX-License-Identifier: Apache-2.0
/** Seeded randomness for the fuzzer: the same seed makes the same run. */

/** xorshift128 (Marsaglia, "Xorshift RNGs", 2003), seeded by a multiplicative hash. */
export class Random {
  private x: number;
  private y: number;
  private z = 362_436_069;
  private w = 521_288_629;
  constructor(seed: number) {
    this.x = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ 123_456_789) | 0;
    this.y = (Math.imul(seed + 1, 0xc2b2ae35) ^ 88_675_123) | 0;
    for (let i = 0; i < 16; i++) this.word();
  }
  /** An int32. */
  word(): number {
    const t = this.x ^ (this.x << 11);
    this.x = this.y;
    this.y = this.z;
    this.z = this.w;
    this.w = this.w ^ (this.w >>> 19) ^ t ^ (t >>> 8);
    return this.w | 0;
  }
  /** 0 … n − 1. */
  below(n: number): number {
    return n <= 1 ? 0 : (this.word() >>> 0) % n;
  }
  unit(): number {
    return (this.word() >>> 0) / 0x1_0000_0000;
  }
  /** True once in `n`. */
  once(n: number): boolean {
    return this.below(n) === 0;
  }
  pick<T>(from: ArrayLike<T>): T {
    return from[this.below(from.length)] as T;
  }
}
