// SPDX-License-Identifier: Apache-2.0
/**
 * SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012) over 32-bit words, without BigInt and
 * without allocation. The 64-bit lanes are pairs of int32; the result is two int32, read through {@link hashLow} and
 * {@link hashHigh}.
 *
 * It keys the buckets of the flow table, so that a guest cannot build tuples that collide, and the initial sequence
 * numbers of TCP (RFC 6528), so that nobody can guess them. One 128-bit key from getrandom(2) a process.
 */
import * as io from '../io/io.ts';

const KEY_BYTES = 16;
const INPUT_WORDS_MAX = 16;

/** Message words, little endian as the algorithm wants them; filled by callers before {@link hashInput}. */
export const input = new Int32Array(INPUT_WORDS_MAX);
const key = new Int32Array(4);

let low = 0;
let high = 0;
/** Low and high half of the last hash. */
export const hashLow = (): number => low;
export const hashHigh = (): number => high;

/** Sets the key: four little-endian words. */
export const setKey = (k0: number, k1: number, k2: number, k3: number): void => {
  key[0] = k0;
  key[1] = k1;
  key[2] = k2;
  key[3] = k3;
};

/** Draws the key from the kernel. Throws when the kernel gives none: an unkeyed table would be an open door. */
export const seed = (): void => {
  const n = io.native.random(io.SCRATCH_AT, KEY_BYTES);
  if (n < 0) throw new Error(`no random key for the flow table: errno ${-n}`);
  const v = io.view;
  const at = io.SCRATCH_AT;
  setKey(v.getInt32(at), v.getInt32(at + 4), v.getInt32(at + 8), v.getInt32(at + 12));
  io.mem.fill(0, at, at + KEY_BYTES);
};

/**
 * Hashes the first `words` words of {@link input} (a message of 4·words bytes). Returns the low half; both halves
 * stay readable until the next call.
 *
 * One loop iteration is one SipRound. A message block is mixed in before its first round (lane 3) and after its
 * second (lane 0), so the compression and the four rounds of finalisation share the only copy of the round.
 */
export const hashInput = (words: number): number => {
  let l0 = (key[0] as number) ^ 0x70736575;
  let h0 = (key[1] as number) ^ 0x736f6d65;
  let l1 = (key[2] as number) ^ 0x6e646f6d;
  let h1 = (key[3] as number) ^ 0x646f7261;
  let l2 = (key[0] as number) ^ 0x6e657261;
  let h2 = (key[1] as number) ^ 0x6c796765;
  let l3 = (key[2] as number) ^ 0x79746573;
  let h3 = (key[3] as number) ^ 0x74656462;

  // The last block holds the odd word, if there is one, and the length in bytes modulo 256 in its highest byte.
  const lastBlock = words >> 1;
  const mixing = (lastBlock + 1) << 1;
  const rounds = mixing + 4;
  let ml = 0;
  let mh = 0;
  let t = 0;
  for (let r = 0; r < rounds; r++) {
    if (r < mixing && (r & 1) === 0) {
      const block = r >> 1;
      if (block < lastBlock) {
        ml = input[r] as number;
        mh = input[r + 1] as number;
      } else {
        ml = (words & 1) !== 0 ? (input[r] as number) : 0;
        mh = words << 26;
      }
      l3 ^= ml;
      h3 ^= mh;
    }
    if (r === mixing) l2 ^= 0xff;

    // v0 += v1; v1 = rotl(v1, 13) ^ v0; v0 = rotl(v0, 32)
    t = (l0 + l1) | 0;
    h0 = (h0 + h1 + (t >>> 0 < l1 >>> 0 ? 1 : 0)) | 0;
    l0 = t;
    t = (l1 << 13) | (h1 >>> 19);
    h1 = ((h1 << 13) | (l1 >>> 19)) ^ h0;
    l1 = t ^ l0;
    t = l0;
    l0 = h0;
    h0 = t;
    // v2 += v3; v3 = rotl(v3, 16) ^ v2
    t = (l2 + l3) | 0;
    h2 = (h2 + h3 + (t >>> 0 < l3 >>> 0 ? 1 : 0)) | 0;
    l2 = t;
    t = (l3 << 16) | (h3 >>> 16);
    h3 = ((h3 << 16) | (l3 >>> 16)) ^ h2;
    l3 = t ^ l2;
    // v0 += v3; v3 = rotl(v3, 21) ^ v0
    t = (l0 + l3) | 0;
    h0 = (h0 + h3 + (t >>> 0 < l3 >>> 0 ? 1 : 0)) | 0;
    l0 = t;
    t = (l3 << 21) | (h3 >>> 11);
    h3 = ((h3 << 21) | (l3 >>> 11)) ^ h0;
    l3 = t ^ l0;
    // v2 += v1; v1 = rotl(v1, 17) ^ v2; v2 = rotl(v2, 32)
    t = (l2 + l1) | 0;
    h2 = (h2 + h1 + (t >>> 0 < l1 >>> 0 ? 1 : 0)) | 0;
    l2 = t;
    t = (l1 << 17) | (h1 >>> 15);
    h1 = ((h1 << 17) | (l1 >>> 15)) ^ h2;
    l1 = t ^ l2;
    t = l2;
    l2 = h2;
    h2 = t;

    if (r < mixing && (r & 1) !== 0) {
      l0 ^= ml;
      h0 ^= mh;
    }
  }
  low = l0 ^ l1 ^ l2 ^ l3;
  high = h0 ^ h1 ^ h2 ^ h3;
  return low;
};

const TUPLE_WORDS = 10;

/**
 * Hash of a flow's tuple: protocol, two addresses of four words (IPv4 as ::ffff:a.b.c.d), and
 * `guestPort << 16 | remotePort`. Returns the low half; {@link hashHigh} gives the other.
 */
export const hashTuple = (
  protocol: number,
  g0: number,
  g1: number,
  g2: number,
  g3: number,
  r0: number,
  r1: number,
  r2: number,
  r3: number,
  ports: number,
): number => {
  input[0] = protocol;
  input[1] = g0;
  input[2] = g1;
  input[3] = g2;
  input[4] = g3;
  input[5] = r0;
  input[6] = r1;
  input[7] = r2;
  input[8] = r3;
  input[9] = ports;
  return hashInput(TUPLE_WORDS);
};
