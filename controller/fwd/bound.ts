// SPDX-License-Identifier: Apache-2.0
/** How a port is bound: bits, of which a port has several when several sockets are bound to it. */
export const ANY = 1;
export const LOOPBACK = 2;
/** To another address, or to another interface than `lo`. */
export const ELSEWHERE = 4;

/** Ports that are bound, and how: bits of the above. A list beside the table, for there are few of 65536. */
export interface Bound {
  readonly kinds: Uint8Array;
  /** The first `count` are those whose kind is not 0, in no order. */
  readonly ports: Uint16Array;
  count: number;
}
export const PORTS = 65_536;
export const makeBound = (): Bound => ({ kinds: new Uint8Array(PORTS), ports: new Uint16Array(PORTS), count: 0 });

export const add = (bound: Bound, port: number, kind: number): void => {
  const before = bound.kinds[port] as number;
  if (before === 0) bound.ports[bound.count++] = port;
  bound.kinds[port] = before | kind;
};
export const clear = (bound: Bound): void => {
  for (let i = 0; i < bound.count; i++) bound.kinds[bound.ports[i] as number] = 0;
  bound.count = 0;
};
export const same = (a: Bound, b: Bound): boolean => {
  if (a.count !== b.count) return false;
  for (let i = 0; i < a.count; i++) {
    const port = a.ports[i] as number;
    if (a.kinds[port] !== b.kinds[port]) return false;
  }
  return true;
};

/** Third word of an IPv4 address in IPv6 form (RFC 4291 §2.5.5.2). */
const MAPPED = 0xffff;

export const kind4 = (word: number): number => (word === 0 ? ANY : word >>> 24 === 127 ? LOOPBACK : ELSEWHERE);
export const kind6 = (w0: number, w1: number, w2: number, w3: number): number => {
  if (w0 !== 0 || w1 !== 0) return ELSEWHERE;
  if (w2 === MAPPED) return kind4(w3);
  if (w2 !== 0) return ELSEWHERE;
  return w3 === 0 ? ANY : w3 === 1 ? LOOPBACK : ELSEWHERE;
};
