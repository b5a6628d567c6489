// SPDX-License-Identifier: Apache-2.0
/**
 * The slots of the arena in which datagrams of fragments are gathered (reassembly.ts): which is whose, what has come, and
 * when it is given up. A slot is free → gathering → whole, until the end of the turn; or spoilt, until its time is over.
 *
 * The tables are columns by slot. They are so few that looking through all of them is as quick as hashing.
 */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import { Coverage } from './coverage.ts';
import * as icmpAbout from './icmp-about.ts';

/** No slot; no datagram: the fragment was kept or dropped. */
export const NONE = -1;
/** Before the data of a slot: the headers, 86 bytes at most. */
const HEADROOM = 96;
const SLOT_BYTES = 65_664;
export const SLOTS = Math.floor((io.REASSEMBLY_END - io.REASSEMBLY_AT) / SLOT_BYTES);
/** One source may have half of them. */
export const SLOTS_PER_SOURCE = SLOTS >> 1;
/** Linux's (net.ipv4.ipfrag_time); RFC 1122 §3.3.2 would have 60 s or more. */
export const TIMEOUT_4_MS = 30_000;
/** RFC 8200 §4.5. */
export const TIMEOUT_6_MS = 60_000;
/** A datagram of full size over a link of the smallest MTU there is, 68 bytes, takes 1366. */
export const PIECES_MAX = 2048;
export const KEY_WORDS = 8;

const FREE = 0;
const GATHERING = 1;
/** Overlapped: what still comes of it is dropped, until its time is over. */
const SPOILED = 2;
/** Handed over: its bytes are in use until the end of the turn. */
const WHOLE = 3;

const states = new Uint8Array(SLOTS);
const families = new Uint8Array(SLOTS);
/** IPv4 only: a part of the key (RFC 791); 0 for IPv6 (RFC 8200). */
const protocols = new Uint8Array(SLOTS);
const ids = new Int32Array(SLOTS);
/** Source and destination, IPv4 in the last word of each. */
const keys = new Int32Array(SLOTS * KEY_WORDS);
const startedMs = new Float64Array(SLOTS);
/** Length of the data once the last fragment is there, 0: not yet. */
const totals = new Int32Array(SLOTS);
/** Bytes that have come, and where the highest of them ends. */
const haves = new Int32Array(SLOTS);
const tops = new Int32Array(SLOTS);
const pieces = new Uint16Array(SLOTS);
/** A bit for each ECN field that was seen. */
const ecns = new Uint8Array(SLOTS);
/** Of the first fragment: its data and its headers (IPv6: with the fragment header), in bytes. 0: it has not come. */
const firstBytes = new Int32Array(SLOTS);
const firstHeaderBytes = new Int32Array(SLOTS);
/** IPv6: what the fragment header of the first fragment says comes next. */
const nextHeaders = new Uint8Array(SLOTS);
const coverage = new Coverage(SLOTS);

let inUse = 0;
let toRelease = 0;
/** When the first of those under way is over; 0: none is. */
let nextMs = 0;

/** Where the data of a slot begins. */
export const dataOf = (slot: number): number => io.REASSEMBLY_AT + slot * SLOT_BYTES + HEADROOM;
const timeoutOf = (slot: number): number => (families[slot] === 4 ? TIMEOUT_4_MS : TIMEOUT_6_MS);

/** Source and destination of the fragment at hand, kept out of the parameters: set before {@link slotFor}. */
export const key = new Int32Array(KEY_WORDS);

/** The slot of the datagram that the fragment at hand belongs to; NONE, and counted, when there is no room. */
export const slotFor = (family: number, id: number, protocol: number): number => {
  for (let s = 0; s < SLOTS; s++) {
    if (ids[s] === id && families[s] === family && protocols[s] === protocol && isUnderWay(s) && hasKey(s)) return s;
  }
  const s = room();
  if (s === NONE) return NONE;
  states[s] = GATHERING;
  families[s] = family;
  protocols[s] = protocol;
  ids[s] = id;
  keys.set(key, s * KEY_WORDS);
  startedMs[s] = io.nowMs();
  const overMs = io.nowMs() + timeoutOf(s);
  if (nextMs === 0 || overMs < nextMs) nextMs = overMs;
  inUse++;
  return s;
};
const isUnderWay = (slot: number): boolean => states[slot] === GATHERING || states[slot] === SPOILED;
const hasKey = (slot: number): boolean => {
  for (let i = 0; i < KEY_WORDS; i++) if (keys[slot * KEY_WORDS + i] !== key[i]) return false;
  return true;
};
const hasSource = (slot: number): boolean => {
  for (let i = 0; i < 4; i++) if (keys[slot * KEY_WORDS + i] !== key[i]) return false;
  return true;
};

/** A free slot; the oldest of the same source, if it has its share, or the oldest of all makes room. NONE: all were completed this turn. */
const room = (): number => {
  let free = NONE;
  let oldest = NONE;
  let oldestOwn = NONE;
  let own = 0;
  for (let s = 0; s < SLOTS; s++) {
    if (states[s] === FREE) free = s;
    if (!isUnderWay(s)) continue;
    oldest = older(oldest, s);
    if (!hasSource(s)) continue;
    own++;
    oldestOwn = older(oldestOwn, s);
  }
  if (free !== NONE && own < SLOTS_PER_SOURCE) return free;
  const s = own >= SLOTS_PER_SOURCE ? oldestOwn : oldest;
  drop(DROP['fragment-evicted']);
  if (s !== NONE) clear(s);
  return s;
};
const older = (a: number, b: number): number =>
  a === NONE || (startedMs[b] as number) < (startedMs[a] as number) ? b : a;

export const clear = (slot: number): void => {
  if (states[slot] !== WHOLE) inUse--;
  states[slot] = FREE;
  totals[slot] = 0;
  haves[slot] = 0;
  tops[slot] = 0;
  pieces[slot] = 0;
  ecns[slot] = 0;
  firstBytes[slot] = 0;
  firstHeaderBytes[slot] = 0;
  coverage.clear(slot);
};

/** Puts the data at `from` in its place. False, and counted, when it must not go there. */
export const put = (slot: number, from: number, offset: number, bytes: number, more: boolean, ecn: number): boolean => {
  if (states[slot] === SPOILED) return spoil(slot, DROP['fragment-overlap']);
  const top = offset + bytes;
  const total = totals[slot] as number;
  const there = coverage.test(slot, offset, top);
  if (there !== Coverage.NONE) {
    const again =
      there === Coverage.ALL && repeats(slot, from, offset, bytes) && (more ? top !== total : top === total);
    if (!again) return spoil(slot, DROP['fragment-overlap']);
    drop(DROP['fragment-duplicate']);
    return false;
  }
  // Two ends, or data behind the end.
  if (total !== 0 ? top > total || !more : !more && top < (tops[slot] as number)) {
    return spoil(slot, DROP['fragment-length']);
  }
  if ((pieces[slot] as number) === PIECES_MAX) return spoil(slot, DROP['fragment-pieces']);
  if (!more) totals[slot] = top;
  io.mem.copyWithin(dataOf(slot) + offset, from, from + bytes);
  coverage.mark(slot, offset, top);
  pieces[slot] = (pieces[slot] as number) + 1;
  haves[slot] = (haves[slot] as number) + bytes;
  tops[slot] = Math.max(tops[slot] as number, top);
  ecns[slot] = (ecns[slot] as number) | (1 << ecn);
  return true;
};
const spoil = (slot: number, reason: number): false => {
  states[slot] = SPOILED;
  drop(reason);
  return false;
};

/** One view of the arena as a Buffer, whose compare() takes ranges and makes no object. */
const bytesOf = Buffer.from(io.mem.buffer);
const repeats = (slot: number, from: number, offset: number, bytes: number): boolean => {
  const at = dataOf(slot) + offset;
  return bytesOf.compare(bytesOf, from, from + bytes, at, at + bytes) === 0;
};

export const isWhole = (slot: number): boolean => totals[slot] !== 0 && haves[slot] === totals[slot];

/** The first fragment has come: its headers and data, in bytes, and what comes next (IPv6). */
export const noteFirst = (slot: number, headerBytes: number, bytes: number, nextHeader: number): void => {
  firstHeaderBytes[slot] = headerBytes;
  firstBytes[slot] = bytes;
  nextHeaders[slot] = nextHeader;
};
export const headerBytesOfFirst = (slot: number): number => firstHeaderBytes[slot] as number;
export const nextHeader = (slot: number): number => nextHeaders[slot] as number;
/** Bytes of data of a whole datagram. */
export const total = (slot: number): number => totals[slot] as number;
/** A bit for each ECN field that its fragments had. */
export const ecnsSeen = (slot: number): number => ecns[slot] as number;
/** The datagram is handed over. Its bytes may be referred to (UDP and TCP gather them) until the turn ends. */
export const handOver = (slot: number): void => {
  inUse--;
  toRelease++;
  states[slot] = WHOLE;
};

/** Gives up datagrams whose time is over: the guest is told if their first fragment came (RFC 792, RFC 4443 §3.3). Call it each turn. */
export const tick = (nowMs: number): void => {
  if (nextMs === 0 || nowMs < nextMs) return;
  nextMs = 0;
  for (let s = 0; s < SLOTS; s++) {
    if (!isUnderWay(s)) continue;
    const overMs = (startedMs[s] as number) + timeoutOf(s);
    if (overMs <= nowMs) expire(s);
    else if (nextMs === 0 || overMs < nextMs) nextMs = overMs;
  }
};
/** Milliseconds until tick() has something to do; -1: nothing is under way. */
export const nextDelay = (nowMs: number): number => (nextMs === 0 ? -1 : Math.max(0, nextMs - nowMs));

const expire = (slot: number): void => {
  drop(DROP['fragment-timeout']);
  if (states[slot] === GATHERING && firstBytes[slot] !== 0) tellTimeout(slot);
  clear(slot);
};
const tellTimeout = (slot: number): void => {
  const at = dataOf(slot) - (firstHeaderBytes[slot] as number);
  const quotedEnd = dataOf(slot) + (firstBytes[slot] as number);
  if (families[slot] === 4) {
    icmpAbout.tell4(at, quotedEnd, icmpv4.TIME_EXCEEDED, icmpv4.REASSEMBLY_TIME, 0);
    return;
  }
  const next = nextHeaders[slot] as number;
  icmpAbout.tell6(at, quotedEnd, icmpv6.TIME_EXCEEDED, icmpv6.REASSEMBLY_TIME, 0, next, dataOf(slot));
};

/** Frees what was handed over. Called when nothing refers to it any more: at the end of each turn. */
export const endTurn = (): void => {
  if (toRelease === 0) return;
  toRelease = 0;
  for (let s = 0; s < SLOTS; s++) if (states[s] === WHOLE) clear(s);
};

/** Datagrams under way. */
export const size = (): number => inUse;
/** Forgets everything: for tests. */
export const reset = (): void => {
  for (let s = 0; s < SLOTS; s++) if (states[s] !== FREE) clear(s);
  inUse = 0;
  toRelease = 0;
  nextMs = 0;
};
