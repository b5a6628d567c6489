// SPDX-License-Identifier: Apache-2.0
/** How a port is bound: bits, of which a port has several when several sockets are bound to it. */
export const ANY = 1;
export const LOOPBACK = 2;
/** To another address, or to another interface than `lo`. */
export const ELSEWHERE = 4;

/** By port: bits of the above. */
export type Bound = Uint8Array<ArrayBuffer>;
export const PORTS = 65_536;
export const makeBound = (): Bound => new Uint8Array(PORTS);

/** Third word of an IPv4 address in IPv6 form (RFC 4291 §2.5.5.2). */
const MAPPED = 0xffff;

export const kind4 = (word: number): number => (word === 0 ? ANY : word >>> 24 === 127 ? LOOPBACK : ELSEWHERE);
export const kind6 = (w0: number, w1: number, w2: number, w3: number): number => {
  if (w0 !== 0 || w1 !== 0) return ELSEWHERE;
  if (w2 === MAPPED) return kind4(w3);
  if (w2 !== 0) return ELSEWHERE;
  return w3 === 0 ? ANY : w3 === 1 ? LOOPBACK : ELSEWHERE;
};
