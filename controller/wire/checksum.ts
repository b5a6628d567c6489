// SPDX-License-Identifier: Apache-2.0
/**
 * The Internet checksum (RFC 1071) for headers and short messages; payloads are summed by the addon.
 *
 * A *sum* is a ones' complement sum folded to 16 bits, not inverted: 0…65535. A *checksum* is what goes on the wire: the
 * sum's complement. A range that contains its own valid checksum has the sum 0xffff.
 */

/** Folds up to 32 bits (unsigned or int32) to 16 with end-around carry. */
export const fold = (n: number): number => {
  const once = (n & 0xffff) + (n >>> 16);
  return (once & 0xffff) + (once >>> 16);
};

/** Sum of [at, at + len), begun with `initial` (a sum). An odd last byte counts as the high half of a word. */
export const sum = (v: DataView, at: number, len: number, initial: number): number => {
  let total = initial;
  const pairsEnd = at + (len & ~1);
  for (let p = at; p < pairsEnd; p += 2) {
    total += v.getUint16(p);
    total = (total & 0xffff) + (total >>> 16);
  }
  if ((len & 1) !== 0) total += v.getUint8(pairsEnd) << 8;
  return fold(total);
};

/** What goes into a checksum field for a sum. */
export const finish = (total: number): number => ~total & 0xffff;
/** The same for UDP, where 0 means "no checksum" and is sent as 0xffff (RFC 768). */
export const finishUdp = (total: number): number => {
  const c = ~total & 0xffff;
  return c === 0 ? 0xffff : c;
};

/** Sum of an int32 word. */
export const wordSum = (word: number): number => fold(word);

/** Sum of the IPv4 pseudo-header (RFC 9293 §3.1): addresses as int32, upper-layer length in bytes. */
export const pseudo4 = (src: number, dst: number, protocol: number, length: number): number =>
  fold(fold(src) + fold(dst) + protocol + length);

/** Sum of the IPv6 pseudo-header (RFC 8200 §8.1) with the two addresses taken from the 32 bytes at `addressesAt` (source first, as in the header). */
export const pseudo6 = (v: DataView, addressesAt: number, protocol: number, length: number): number =>
  fold(sum(v, addressesAt, 32, 0) + fold(length) + protocol);

/** Header checksum (RFC 791 §3.1) of the IPv4 header at `at`, whatever its checksum field holds now. */
export const ipv4HeaderChecksum = (v: DataView, at: number, headerBytes: number): number =>
  // The field itself (offset 10) counts as 0.
  finish(sum(v, at + 12, headerBytes - 12, sum(v, at, 10, 0)));

/** The checksum `old` after one 16-bit word under it changed from `from` to `to` (RFC 1624 §3, equation 3). */
export const update16 = (old: number, from: number, to: number): number =>
  finish(fold((~old & 0xffff) + (~from & 0xffff) + to));
/** The same for an int32 word at an even offset. */
export const update32 = (old: number, from: number, to: number): number =>
  finish(fold((~old & 0xffff) + fold(~from) + fold(to)));
