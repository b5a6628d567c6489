// SPDX-License-Identifier: Apache-2.0
/**
 * Addresses that DHCP gives where there are several: each client (its MAC) keeps the one it got first, the next one gets the next,
 * and when all are given, the one that has not been asked about for longest is given anew: a namespace has one interface, and
 * only what is plugged into a bridge behind it makes more. There is no clock: a client that comes back finds its address.
 */

/** More than this a pool is not. */
const ADDRESSES_MAX = 16;

export class DhcpPool {
  readonly #first: number;
  readonly #count: number;
  readonly #high = new Uint16Array(ADDRESSES_MAX);
  readonly #low = new Int32Array(ADDRESSES_MAX);
  /** When each was asked about last, by {@link #asked}; 0: never given. */
  readonly #last = new Float64Array(ADDRESSES_MAX);
  #asked = 0;

  /** `first`: int32, `count` addresses from there on. */
  constructor(first: number, count: number) {
    this.#first = first;
    this.#count = Math.min(count, ADDRESSES_MAX);
  }

  /** The address for that client. `wanted`: one that it would like, given if it is in the pool and nobody's. */
  addressFor(high: number, low: number, wanted: number): number {
    let row = this.#rowOf(high, low);
    if (row < 0) {
      const liked = wanted - this.#first;
      row = liked >= 0 && liked < this.#count && this.#last[liked] === 0 ? liked : this.#leastAsked();
      this.#high[row] = high;
      this.#low[row] = low;
    }
    this.#last[row] = ++this.#asked;
    return (this.#first + row) | 0;
  }

  #rowOf(high: number, low: number): number {
    for (let i = 0; i < this.#count; i++)
      if (this.#last[i] !== 0 && this.#high[i] === high && this.#low[i] === low) return i;
    return -1;
  }
  #leastAsked(): number {
    let row = 0;
    for (let i = 1; i < this.#count; i++) if ((this.#last[i] as number) < (this.#last[row] as number)) row = i;
    return row;
  }
}
