// SPDX-License-Identifier: Apache-2.0
/**
 * Lists of sequence ranges: sorted, disjoint, not touching, one list a row of a column of heads. Two users: what arrived out of
 * order from the guest (out-of-order.ts) and what the guest said it has (recovery.ts), whose nodes also tell how the hole
 * before the range fares.
 *
 * Nodes come from one pool. A list may have a fixed part of what is left of it (dynamic thresholds, Choudhury and Hahne 1998), so
 * that no number of flows can take it all. A range that finds no node is not noted: both users lose nothing but time by that.
 * Retransmission must go on whatever others do: each list of recovery.ts has a first node of its own besides.
 */
import { FLOW_MAX, type Flow } from '../../flow/table.ts';

export const NODES = 1 << 17;
const NODES_A_LIST = 1024;
/** A list may have 1/64 of the nodes that are left. */
const PART_SHIFT = 6;
/** Nodes of their own, one a row, come behind those of the pool; pages of rows that were never used stay untouched. */
const OWN_AT = NODES + 1;
const ALL = OWN_AT + FLOW_MAX;

/** A node's number; 0: none. */
export type Node = number;

const NEXT = new Int32Array(ALL);
const START = new Int32Array(ALL);
const END = new Int32Array(ALL);
/** Of the hole before the range: sent again up to here, last at this time (µs, int32), and whether it is held for lost. */
const SENT_TO = new Int32Array(ALL);
const SENT_US = new Int32Array(ALL);
const LOST = new Uint8Array(ALL);
let free: Node = 0;
/** Nodes never used so far: their pages stay untouched. */
let fresh: Node = 1;
/** Of the pool; and nodes of their own. */
let inUse = 0;
let ownInUse = 0;
export const nodesInUse = (): number => inUse + ownInUse;

/** Heads of one user's lists, how many nodes of the pool each has, and 1 where the node of its own is in use. */
export interface Lists {
  readonly head: Int32Array;
  readonly length: Uint16Array;
  readonly own: Uint8Array | null;
}
/** For {@link lists}: an empty list never lacks a node. There is one such user. */
export const OWN_NODE = true;
export const lists = (ownNode = false): Lists => ({
  head: new Int32Array(FLOW_MAX),
  length: new Uint16Array(FLOW_MAX),
  own: ownNode ? new Uint8Array(FLOW_MAX) : null,
});

export const first = (l: Lists, f: Flow): Node => l.head[f] as number;
export const count = (l: Lists, f: Flow): number => l.length[f] as number;
export const next = (n: Node): Node => NEXT[n] as number;
export const start = (n: Node): number => START[n] as number;
export const end = (n: Node): number => END[n] as number;
export const sentTo = (n: Node): number => SENT_TO[n] as number;
export const sentUs = (n: Node): number => SENT_US[n] as number;
export const lost = (n: Node): boolean => LOST[n] !== 0;
export const setSent = (n: Node, to: number, us: number): void => {
  SENT_TO[n] = to;
  SENT_US[n] = us;
};
export const setLost = (n: Node, yes: boolean): void => {
  LOST[n] = yes ? 1 : 0;
};

const take = (l: Lists, f: Flow): Node => {
  if (l.own !== null && l.own[f] === 0) {
    l.own[f] = 1;
    ownInUse++;
    return OWN_AT + f;
  }
  if ((l.length[f] as number) >= Math.min(NODES_A_LIST, (NODES - inUse) >> PART_SHIFT)) return 0;
  let n = free;
  if (n !== 0) free = NEXT[n] as number;
  else if (fresh <= NODES) n = fresh++;
  else return 0;
  inUse++;
  l.length[f] = (l.length[f] as number) + 1;
  return n;
};
const give = (l: Lists, f: Flow, n: Node): void => {
  if (n >= OWN_AT) {
    (l.own as Uint8Array)[f] = 0;
    ownInUse--;
    return;
  }
  NEXT[n] = free;
  free = n;
  inUse--;
  l.length[f] = (l.length[f] as number) - 1;
};

/** The node that add() put the range into. */
let touchedNode: Node = 0;
export const lastTouched = (): Node => touchedNode;

/**
 * Adds [from, to), which may be empty (then it only divides a hole). Returns how many bytes of it were new, or -1 when no
 * node was to be had. The hole that a new node divides keeps its state on both sides.
 */
export const add = (l: Lists, f: Flow, from: number, to: number): number => {
  let before: Node = 0;
  let n = l.head[f] as Node;
  while (n !== 0 && (((END[n] as number) - from) | 0) < 0) {
    before = n;
    n = NEXT[n] as Node;
  }
  if (n === 0 || (((START[n] as number) - to) | 0) > 0) {
    const made = take(l, f);
    if (made === 0) return -1;
    START[made] = from;
    END[made] = to;
    NEXT[made] = n;
    // A hole that is divided: both parts have been sent again as far as the whole was.
    SENT_TO[made] = n === 0 ? from : (SENT_TO[n] as number);
    SENT_US[made] = n === 0 ? 0 : (SENT_US[n] as number);
    LOST[made] = n === 0 ? 0 : (LOST[n] as number);
    if (before === 0) l.head[f] = made;
    else NEXT[before] = made;
    touchedNode = made;
    return (to - from) | 0;
  }
  // It touches n, and perhaps those behind it.
  let added = 0;
  let at = from;
  if ((((START[n] as number) - from) | 0) > 0) {
    added += ((START[n] as number) - from) | 0;
    START[n] = from;
  }
  if ((((END[n] as number) - at) | 0) > 0) at = END[n] as number;
  while (((to - at) | 0) > 0) {
    const behind = NEXT[n] as Node;
    if (behind === 0 || (((START[behind] as number) - to) | 0) > 0) {
      added += (to - at) | 0;
      at = to;
      break;
    }
    added += ((START[behind] as number) - at) | 0;
    at = END[behind] as number;
    NEXT[n] = NEXT[behind] as Node;
    give(l, f, behind);
  }
  const behind = NEXT[n] as Node;
  if (behind !== 0 && START[behind] === at) {
    at = END[behind] as number;
    NEXT[n] = NEXT[behind] as Node;
    give(l, f, behind);
  }
  if (((at - (END[n] as number)) | 0) > 0) END[n] = at;
  touchedNode = n;
  return added;
};

/** Forgets everything before `seq`. Returns how many bytes of ranges went. */
export const trim = (l: Lists, f: Flow, seq: number): number => {
  let gone = 0;
  for (let n = l.head[f] as Node; n !== 0; n = l.head[f] as Node) {
    const from = START[n] as number;
    if (((from - seq) | 0) >= 0 && (END[n] as number) !== seq) break;
    const to = END[n] as number;
    if (((to - seq) | 0) > 0) {
      gone += (seq - from) | 0;
      START[n] = seq;
      break;
    }
    gone += (to - from) | 0;
    l.head[f] = NEXT[n] as Node;
    give(l, f, n);
  }
  return gone;
};

export const clear = (l: Lists, f: Flow): void => {
  for (let n = l.head[f] as Node; n !== 0; n = l.head[f] as Node) {
    l.head[f] = NEXT[n] as Node;
    give(l, f, n);
  }
};
