// SPDX-License-Identifier: Apache-2.0
/**
 * The flow table: one row for every TCP connection, UDP flow and ping, as columns of typed arrays. A flow is a row
 * number; there is no object per flow.
 *
 * Life of a row: free → `alloc` → in use → `release` → resting → `endTurn` → free. A released row rests until the turn
 * is over, because events of the same epoll batch may still name it; its type is 0 from the moment of release, which is
 * how such events are recognised. A reply that comes later than that is recognised by `generation`.
 *
 * All columns start as zero and none is ever filled in advance: the kernel hands out the pages of an untouched column
 * only when they are written, so that an idle instance does not pay for 131 072 rows. That is why "none" is zero in
 * columns that hold a row or a descriptor (they hold n + 1).
 *
 * The reference of a flow's socket in the epoll set is its row number.
 */

import * as io from '../io/io.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';

declare const brand: unique symbol;
/** A row of the table, or {@link NO_FLOW}. */
export type Flow = number & { readonly [brand]: true };
export const NO_FLOW = -1 as Flow;

export const FLOW_MAX = 1 << 17;
/**
 * References in the epoll set: flows from 0, second sockets of flows, listening sockets (fwd/listeners), what there is one of
 * (app/turn).
 */
export const SECOND_REF_BASE = FLOW_MAX;
export const LISTENER_REF_BASE = 2 * FLOW_MAX;
export const OTHER_REF_BASE = 3 * FLOW_MAX;

/** Types of flows; 0 is a free row. They are not IP protocol numbers: the type keeps the two from being mixed up. */
export const FLOW_FREE = 0;
export const FLOW_TCP = 1;
export const FLOW_UDP = 2;
export const FLOW_PING = 3;
/** A socket that hears a group, or answers to a group (proto/udp/group.ts); not in the hash. */
export const FLOW_GROUP = 4;
/** Loopback to loopback, never a frame (proto/splice): two sockets a row; not in the hash. */
export const FLOW_SPLICE_TCP = 5;
export const FLOW_SPLICE_UDP = 6;
const TYPES = 7;
export type FlowType =
  | typeof FLOW_TCP
  | typeof FLOW_UDP
  | typeof FLOW_PING
  | typeof FLOW_GROUP
  | typeof FLOW_SPLICE_TCP
  | typeof FLOW_SPLICE_UDP;

/** Third word of an IPv4 address in IPv6 form, ::ffff:a.b.c.d (RFC 4291 §2.5.5.2). */
export const MAPPED_WORD = 0xffff;

const types = new Uint8Array(FLOW_MAX);
const v4 = new Uint8Array(FLOW_MAX);
/** Four words a row. */
const guests = new Int32Array(FLOW_MAX * 4);
const remotes = new Int32Array(FLOW_MAX * 4);
/** guestPort << 16 | remotePort */
const portPairs = new Int32Array(FLOW_MAX);
/** Descriptor + 1. */
const fds = new Int32Array(FLOW_MAX);
const actives = new Int32Array(FLOW_MAX);
const generations = new Int32Array(FLOW_MAX);
/** Next free or resting row + 1. */
const nexts = new Int32Array(FLOW_MAX);

const counts = new Int32Array(TYPES);
/** Rows from here on were never used. */
let top = 0;
let freeHead = 0;
let restingHead = 0;

/**
 * Takes a row of the given type; its tuple is zero, its descriptor none, its generation new. {@link NO_FLOW} when the
 * table is full. Rows used last are reused first, which keeps the touched part of the columns small.
 */
export const alloc = (type: FlowType): Flow => {
  let f = freeHead - 1;
  if (f >= 0) {
    freeHead = nexts[f] as number;
  } else {
    if (top === FLOW_MAX) return NO_FLOW;
    f = top++;
  }
  types[f] = type;
  generations[f] = ((generations[f] as number) + 1) | 0;
  counts[type] = (counts[type] as number) + 1;
  return f as Flow;
};

/** Gives a row back; it is reused after {@link endTurn} at the earliest. The caller has closed its descriptor and unlinked it (see end.ts). */
export const release = (f: Flow): void => {
  const type = types[f] as number;
  if (type === FLOW_FREE) throw new RangeError(`flow ${f} was released twice`);
  counts[type] = (counts[type] as number) - 1;
  types[f] = FLOW_FREE;
  v4[f] = 0;
  fds[f] = 0;
  portPairs[f] = 0;
  guests.fill(0, f * 4, f * 4 + 4);
  remotes.fill(0, f * 4, f * 4 + 4);
  nexts[f] = restingHead;
  restingHead = f + 1;
};

/** Makes the rows that rest available again. Called once a turn, after the last event. */
export const endTurn = (): void => {
  while (restingHead !== 0) {
    const f = restingHead - 1;
    restingHead = nexts[f] as number;
    nexts[f] = freeHead;
    freeHead = f + 1;
  }
};

export const count = (type: FlowType): number => counts[type] as number;
/** No row at or above this number was ever used: the bound for a walk over all rows. */
export const highWater = (): number => top;

/** The type of an event's flow; FLOW_FREE if it ended earlier in this turn. */
export const typeOf = (f: Flow): FlowType | typeof FLOW_FREE => types[f] as FlowType;
/** What the flow's socket is called in the epoll set. */
export const ref = (f: Flow): number => f;
/** The same for the second socket of a spliced flow: {@link SECOND_REF_BASE} and above, FLOW_MAX of them. */
export const secondRef = (f: Flow): number => SECOND_REF_BASE + f;

export const isV4 = (f: Flow): boolean => v4[f] !== 0;
export const setV4 = (f: Flow, yes: boolean): void => {
  v4[f] = yes ? 1 : 0;
};
/** Word i (0 … 3) of the guest's address. IPv4 is word 3. */
export const guestWord = (f: Flow, i: number): number => guests[f * 4 + i] as number;
export const setGuest = (f: Flow, w0: number, w1: number, w2: number, w3: number): void => {
  const at = f * 4;
  guests[at] = w0;
  guests[at + 1] = w1;
  guests[at + 2] = w2;
  guests[at + 3] = w3;
};
/** Word i (0 … 3) of the remote address as the guest sees it. */
export const remoteWord = (f: Flow, i: number): number => remotes[f * 4 + i] as number;
export const setRemote = (f: Flow, w0: number, w1: number, w2: number, w3: number): void => {
  const at = f * 4;
  remotes[at] = w0;
  remotes[at + 1] = w1;
  remotes[at + 2] = w2;
  remotes[at + 3] = w3;
};
/** guestPort << 16 | remotePort, as an int32. */
export const ports = (f: Flow): number => portPairs[f] as number;
export const guestPort = (f: Flow): number => (portPairs[f] as number) >>> 16;
export const remotePort = (f: Flow): number => (portPairs[f] as number) & 0xffff;
export const setPorts = (f: Flow, guest: number, remote: number): void => {
  portPairs[f] = (guest << 16) | remote;
};
/**
 * The tuple of a packet from the tap whose IP header lies at `ipAt` of the arena. IPv4 addresses are kept in IPv6 form.
 * The ports are those of the packet, or an echo identifier and 0.
 */
export const setTuple = (f: Flow, v4: boolean, ipAt: number, srcPort: number, dstPort: number): void => {
  const v = io.view;
  setV4(f, v4);
  setPorts(f, srcPort, dstPort);
  if (v4) {
    setGuest(f, 0, 0, MAPPED_WORD, ipv4.src(v, ipAt));
    setRemote(f, 0, 0, MAPPED_WORD, ipv4.dst(v, ipAt));
    return;
  }
  const s = ipAt + ipv6.SRC;
  const d = ipAt + ipv6.DST;
  setGuest(f, v.getInt32(s), v.getInt32(s + 4), v.getInt32(s + 8), v.getInt32(s + 12));
  setRemote(f, v.getInt32(d), v.getInt32(d + 4), v.getInt32(d + 8), v.getInt32(d + 12));
};
/** The flow's descriptor, -1: none (yet). */
export const fd = (f: Flow): number => (fds[f] as number) - 1;
export const setFd = (f: Flow, descriptor: number): void => {
  fds[f] = descriptor + 1;
};
/** Time of the last datagram or segment, int32 milliseconds modulo 2^32: compare with `(now - lastActive(f)) | 0`. */
export const lastActive = (f: Flow): number => actives[f] as number;
export const setLastActive = (f: Flow, nowMs: number): void => {
  actives[f] = nowMs;
};
/** Changes at each alloc of the row: what arrives for an older generation is not for this flow. */
export const generation = (f: Flow): number => generations[f] as number;
