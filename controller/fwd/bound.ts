// SPDX-License-Identifier: Apache-2.0
/** How a port is bound: bits, of which a port has several when several sockets are bound to it. */
export const ANY = 1;
export const LOOPBACK = 2;
/** To the guest's address, to which connections are forwarded, or to any address of another interface than `lo`. */
export const GUEST = 4;
/** To the guest's link-local address, from which link-local peers are answered. */
export const LINK_LOCAL = 8;
/** To another address. */
export const ELSEWHERE = 16;

/** Where the guest is now: {@link kind4} and {@link kind6} go by it. Zero: not known. */
let guest4 = 0;
const guest6 = new Int32Array(4);
const linkLocal = new Int32Array(4);
/** `word6`, `linkLocalWord`: the words of the addresses. */
export const setGuest = (word4: number, word6: (i: number) => number, linkLocalWord: (i: number) => number): void => {
  guest4 = word4;
  for (let i = 0; i < 4; i++) {
    guest6[i] = word6(i);
    linkLocal[i] = linkLocalWord(i);
  }
};

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

export const kind4 = (word: number): number => {
  if (word === 0) return ANY;
  if (word >>> 24 === 127) return LOOPBACK;
  return (word | 0) === guest4 ? GUEST : ELSEWHERE;
};
const is = (a: Int32Array, w0: number, w1: number, w2: number, w3: number): boolean =>
  a[0] === (w0 | 0) && a[1] === (w1 | 0) && a[2] === (w2 | 0) && a[3] === (w3 | 0);
export const kind6 = (w0: number, w1: number, w2: number, w3: number): number => {
  if (w0 !== 0 || w1 !== 0) {
    return is(guest6, w0, w1, w2, w3) ? GUEST : is(linkLocal, w0, w1, w2, w3) ? LINK_LOCAL : ELSEWHERE;
  }
  if (w2 === MAPPED) return kind4(w3);
  if (w2 !== 0) return ELSEWHERE;
  return w3 === 0 ? ANY : w3 === 1 ? LOOPBACK : ELSEWHERE;
};
/** The same for a socket that is bound to an interface: {@link LO_INDEX} or another one. */
export const kindOn = (device: number, kind: number): number => {
  if (device === 0) return kind;
  if (device === LO_INDEX) return LOOPBACK;
  return kind === ANY ? GUEST : kind === LOOPBACK ? ELSEWHERE : kind;
};
/** `lo` is the first interface of every namespace. */
const LO_INDEX = 1;
