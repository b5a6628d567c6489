// SPDX-License-Identifier: Apache-2.0
/**
 * Datagrams of flows whose socket is still on its way from the helper: copies, in a ring of bytes, first in first out.
 * A reply takes about a tenth of a millisecond and replies come in the order of the requests, so that the ring empties
 * from its end; an entry whose flow ended early is skipped when its turn comes.
 *
 * Bounded twice: by the ring, and for each flow, so that one cannot keep the others out.
 */
import * as io from '../io/io.ts';
import { FLOW_MAX, type Flow } from './table.ts';

const ENTRIES = 1024;
const ENTRY_MASK = ENTRIES - 1;
const ENTRIES_PER_FLOW_MAX = 32;
const BYTES_PER_FLOW_MAX = 128 * 1024;
const ALIGN = 64;

const ats = new Int32Array(ENTRIES);
const lens = new Int32Array(ENTRIES);
/** What the protocol notes with a datagram: segment size, hop limit, traffic class, don't fragment. */
const segments = new Int32Array(ENTRIES);
const hopLimits = new Uint8Array(ENTRIES);
const classes = new Uint8Array(ENTRIES);
const dontFragments = new Uint8Array(ENTRIES);
const dead = new Uint8Array(ENTRIES);
/** Next entry + 1 of the same flow. */
const nexts = new Int32Array(ENTRIES);
/** First and last entry + 1 of each flow, and how much it has here. */
const firsts = new Int32Array(FLOW_MAX);
const lasts = new Int32Array(FLOW_MAX);
const flowEntries = new Uint8Array(FLOW_MAX);
const flowBytes = new Int32Array(FLOW_MAX);

/** Entries [head, tail) are in use, counted without wrap. */
let head = 0;
let tail = 0;
let writeAt: number = io.PENDING_AT;

/** Where `len` contiguous bytes are free, or -1. */
const place = (len: number): number => {
  if (head === tail) return io.PENDING_AT + len <= io.PENDING_END ? io.PENDING_AT : -1;
  const oldestAt = ats[head & ENTRY_MASK] as number;
  if (writeAt > oldestAt) {
    if (writeAt + len <= io.PENDING_END) return writeAt;
    return io.PENDING_AT + len < oldestAt ? io.PENDING_AT : -1;
  }
  return writeAt + len < oldestAt ? writeAt : -1;
};

/** Keeps a copy of the `len` bytes at `at`. False when there is no room for them, or the flow has its share already. */
export const add = (
  f: Flow,
  at: number,
  len: number,
  segment: number,
  hopLimit: number,
  trafficClass: number,
  dontFragment = true,
): boolean => {
  if (tail - head === ENTRIES || (flowEntries[f] as number) === ENTRIES_PER_FLOW_MAX) return false;
  if ((flowBytes[f] as number) + len > BYTES_PER_FLOW_MAX) return false;
  const to = place(len);
  if (to < 0) return false;
  io.mem.copyWithin(to, at, at + len);
  writeAt = (to + len + ALIGN - 1) & -ALIGN;
  const e = tail++ & ENTRY_MASK;
  ats[e] = to;
  lens[e] = len;
  segments[e] = segment;
  hopLimits[e] = hopLimit;
  classes[e] = trafficClass;
  dontFragments[e] = dontFragment ? 1 : 0;
  dead[e] = 0;
  nexts[e] = 0;
  const last = lasts[f] as number;
  if (last !== 0) nexts[last - 1] = e + 1;
  else firsts[f] = e + 1;
  lasts[f] = e + 1;
  flowEntries[f] = (flowEntries[f] as number) + 1;
  flowBytes[f] = (flowBytes[f] as number) + len;
  return true;
};

/** The flow's first entry, then the next ones; -1: no more. */
export const first = (f: Flow): number => (firsts[f] as number) - 1;
export const next = (entry: number): number => (nexts[entry] as number) - 1;
export const atOf = (entry: number): number => ats[entry] as number;
export const lenOf = (entry: number): number => lens[entry] as number;
export const segmentOf = (entry: number): number => segments[entry] as number;
export const hopLimitOf = (entry: number): number => hopLimits[entry] as number;
export const trafficClassOf = (entry: number): number => classes[entry] as number;
export const dontFragmentOf = (entry: number): boolean => dontFragments[entry] !== 0;

/** Gives up what is kept for the flow, after it was sent or because it never will be. */
export const clear = (f: Flow): void => {
  if (firsts[f] === 0) return;
  for (let e = first(f); e >= 0; e = next(e)) dead[e] = 1;
  firsts[f] = 0;
  lasts[f] = 0;
  flowEntries[f] = 0;
  flowBytes[f] = 0;
  while (head !== tail && dead[head & ENTRY_MASK] !== 0) head++;
};
/** Entries in use. */
export const size = (): number => tail - head;
