// SPDX-License-Identifier: Apache-2.0
/**
 * Which parts of a datagram have come: a bit for each 8 bytes (the unit of fragment offsets), 65,536 bytes for each of
 * some slots. Ranges are in bytes and begin at a multiple of 8; a last unit that is not full counts as one.
 */
const UNITS = 65_536 >> 3;
const WORDS = UNITS >> 5;

/** The bits of word `w` that units [from, to) have. */
const maskOf = (w: number, from: number, to: number): number => {
  let mask = -1;
  if (w === from >> 5) mask &= -1 << (from & 31);
  if (w === (to - 1) >> 5) mask &= -1 >>> (31 - ((to - 1) & 31));
  return mask;
};

export class Coverage {
  static readonly NONE = 0;
  static readonly SOME = 1;
  static readonly ALL = 2;
  readonly #bits: Int32Array;

  constructor(slots: number) {
    this.#bits = new Int32Array(slots * WORDS);
  }

  clear(slot: number): void {
    this.#bits.fill(0, slot * WORDS, (slot + 1) * WORDS);
  }

  /** How much of [from, to), which is not empty, has come. */
  test(slot: number, from: number, to: number): number {
    const first = from >> 3;
    const last = (to + 7) >> 3;
    let some = false;
    let all = true;
    for (let w = first >> 5; w <= (last - 1) >> 5; w++) {
      const mask = maskOf(w, first, last);
      const there = (this.#bits[slot * WORDS + w] as number) & mask;
      some ||= there !== 0;
      all &&= there === mask;
    }
    return all ? Coverage.ALL : some ? Coverage.SOME : Coverage.NONE;
  }

  mark(slot: number, from: number, to: number): void {
    const first = from >> 3;
    const last = (to + 7) >> 3;
    for (let w = first >> 5; w <= (last - 1) >> 5; w++) {
      const at = slot * WORDS + w;
      this.#bits[at] = (this.#bits[at] as number) | maskOf(w, first, last);
    }
  }
}
