// SPDX-License-Identifier: Apache-2.0
/**
 * Who has been idle longest: one intrusive list for each class of flows, oldest first. A class has a cap; when a new
 * flow would exceed it, its owner ends the oldest one. So a guest that opens flows without end recycles its own, and a
 * burst of lookups (class DNS) cannot push out flows of other classes.
 */
import { FLOW_MAX, type Flow, NO_FLOW } from './table.ts';

/** UDP flows that were answered; those that were not yet; and those of them whose port or peer has more than its share. */
export const LRU_UDP = 1;
export const LRU_UDP_NEW = 2;
export const LRU_UDP_CROWD = 3;
export const LRU_DNS = 4;
export const LRU_PING = 5;
/** TCP: before the handshake with the guest is complete; after it; and closed, without a socket. */
export const LRU_TCP_OPENING = 6;
export const LRU_TCP = 7;
export const LRU_TCP_TIME_WAIT = 8;
/** UDP flows to groups. */
export const LRU_GROUP = 9;
/** UDP flows that a peer began: not answered by the guest yet; answered; answered, of a peer that has more than its share. */
export const LRU_UDP_IN_NEW = 10;
export const LRU_UDP_IN = 11;
export const LRU_UDP_IN_CROWD = 12;
/** Spliced UDP, begun on the host and in the namespace. */
export const LRU_SPLICE_UDP = 13;
export const LRU_SPLICE_UDP_OUT = 14;
/** TCP connections of loopback to loopback. */
export const LRU_SPLICE_TCP = 15;
/** TCP of clients, before the guest has answered. */
export const LRU_TCP_INBOUND = 16;
const CLASSES = 17;

/** First (oldest) and last (newest) row + 1 of each class. */
const oldests = new Int32Array(CLASSES);
const newests = new Int32Array(CLASSES);
const sizes = new Int32Array(CLASSES);
const caps = new Int32Array(CLASSES);
/** Neighbours: the next newer and the next older row + 1; the class of a listed flow. */
const newers = new Int32Array(FLOW_MAX);
const olders = new Int32Array(FLOW_MAX);
const classes = new Uint8Array(FLOW_MAX);

export const setCap = (cls: number, cap: number): void => {
  caps[cls] = cap;
};
export const size = (cls: number): number => sizes[cls] as number;
export const isFull = (cls: number): boolean => (sizes[cls] as number) >= (caps[cls] as number);
/** The flow of the class that has been idle longest, or {@link NO_FLOW}. */
export const oldest = (cls: number): Flow => (oldests[cls] === 0 ? NO_FLOW : (((oldests[cls] as number) - 1) as Flow));

/** The flow of the same class that became active next, or {@link NO_FLOW}. */
export const newer = (f: Flow): Flow => ((newers[f] as number) - 1) as Flow;
const append = (cls: number, f: Flow): void => {
  const tail = newests[cls] as number;
  olders[f] = tail;
  newers[f] = 0;
  if (tail !== 0) newers[tail - 1] = f + 1;
  else oldests[cls] = f + 1;
  newests[cls] = f + 1;
};

const unlink = (cls: number, f: Flow): void => {
  const newer = newers[f] as number;
  const older = olders[f] as number;
  if (newer !== 0) olders[newer - 1] = older;
  else newests[cls] = older;
  if (older !== 0) newers[older - 1] = newer;
  else oldests[cls] = newer;
  newers[f] = 0;
  olders[f] = 0;
};

/** Lists a flow as the newest of its class. It is in no class yet. */
export const add = (cls: number, f: Flow): void => {
  classes[f] = cls;
  append(cls, f);
  sizes[cls] = (sizes[cls] as number) + 1;
};

/** Takes a flow off its list, if it is on one. */
export const remove = (f: Flow): void => {
  const cls = classes[f] as number;
  if (cls === 0) return;
  unlink(cls, f);
  classes[f] = 0;
  sizes[cls] = (sizes[cls] as number) - 1;
};

/** The class of a flow, 0: none. */
export const classOf = (f: Flow): number => classes[f] as number;

/** The flow was active just now. */
export const touch = (f: Flow): void => {
  const cls = classes[f] as number;
  if (cls === 0 || newests[cls] === f + 1) return;
  unlink(cls, f);
  append(cls, f);
};

/** Makes the flow the newest of another class. */
export const move = (cls: number, f: Flow): void => {
  remove(f);
  add(cls, f);
};
