// SPDX-License-Identifier: Apache-2.0
/**
 * One timer for each flow, on a timing wheel of eight levels (Varghese, Lauck: "Hashed and hierarchical timing wheels",
 * 1987; without cascading, as Linux has done since 4.8). A level has 64 slots; a slot of level n is 8^n ms wide:
 *
 *   level   slot width   deadlines up to          level   slot width   deadlines up to
 *     0        1 ms           63 ms                  4      4.1 s         4.3 min
 *     1        8 ms          504 ms                  5      33 s           34 min
 *     2       64 ms            4 s                   6     4.4 min        4.6 h
 *     3      512 ms           32 s                   7      35 min         37 h
 *
 * A deadline is rounded up to its slot: never early, and late by less than one slot of its level, so by at most an
 * eighth of the delay asked for. That rounding is what lets a thousand idle flows share one wake-up.
 *
 * Times are int32 milliseconds modulo 2^32, as `nowMs() | 0` gives them: an uptime of 25 days changes nothing.
 */
import * as io from '../io/io.ts';
import { FLOW_MAX, type Flow } from './table.ts';

const LEVELS = 8;
const SLOTS = 64;
const SLOT_MASK = SLOTS - 1;
const LEVEL_BITS = 3;
/** What the highest level can hold; deadlines beyond it are cut, and the owner arms again on expiry. */
export const DELAY_MS_MAX = (SLOTS - 1) << (LEVEL_BITS * (LEVELS - 1));

/** Slot of the flows that are being served. */
const SERVING = LEVELS * SLOTS;
/** First row + 1 of each slot. */
const heads = new Int32Array(SERVING + 1);
/** Two words of occupied slots for each level; one for SERVING, that nobody reads. */
const occupied = new Int32Array(LEVELS * 2 + 1);
/** Neighbours in the slot's list, row + 1; slot + 1 of each armed flow. */
const nexts = new Int32Array(FLOW_MAX);
const prevs = new Int32Array(FLOW_MAX);
const slots = new Uint16Array(FLOW_MAX);

/** Every slot due before this moment has been served. */
let clock = 0;
let armedCount = 0;
/** Earliest due time of any slot; valid if `armedCount > 0 && !stale`. */
let nextDue = 0;
let stale = false;
let expired: (f: Flow) => void = () => {};

/** Sets the clock and who is called for each flow whose deadline has come. Called once, before the first `arm`. */
export const start = (nowMs: number, onExpire: (f: Flow) => void): void => {
  clock = nowMs | 0;
  expired = onExpire;
};

const unlink = (f: Flow): void => {
  const at = (slots[f] as number) - 1;
  const next = nexts[f] as number;
  const prev = prevs[f] as number;
  if (next !== 0) prevs[next - 1] = prev;
  if (prev !== 0) nexts[prev - 1] = next;
  else heads[at] = next;
  nexts[f] = 0;
  prevs[f] = 0;
  slots[f] = 0;
  armedCount--;
  if (heads[at] === 0) {
    occupied[at >> 5] = (occupied[at >> 5] as number) & ~(1 << (at & 31));
    // Without this the wheel would wake its owner for a slot that nobody waits in any more.
    stale = true;
  }
};

const levelFor = (delay: number): number => {
  let level = 0;
  while (level < LEVELS - 1 && delay >= SLOT_MASK << (level * LEVEL_BITS)) level++;
  return level;
};

/**
 * Brings the clock to the present, as far as nothing is due before it. It stands where the last turn left it: after a long
 * sleep a short delay would count as a long one, and be rounded like one.
 */
const catchUp = (): void => {
  const now = io.nowMs() | 0;
  if (((now - clock) | 0) <= 0) return;
  if (armedCount === 0) {
    clock = now;
    return;
  }
  if (stale) refreshNextDue();
  clock = ((nextDue - now) | 0) < 0 ? nextDue : now;
};

/** Arms the timer of `f`, or moves it. A deadline that has passed comes with the next millisecond. */
export const arm = (f: Flow, deadlineMs: number): void => {
  catchUp();
  let delay = (Math.ceil(deadlineMs) - clock) | 0;
  if (delay < 0) delay = 0;
  else if (delay >= DELAY_MS_MAX) delay = DELAY_MS_MAX - 1;
  const level = levelFor(delay);
  const shift = level * LEVEL_BITS;
  const granule = (clock + delay + ((1 << shift) - 1)) >> shift;
  const at = level * SLOTS + (granule & SLOT_MASK);
  if (slots[f] === at + 1) return;
  if (slots[f] !== 0) unlink(f);

  const head = heads[at] as number;
  nexts[f] = head;
  prevs[f] = 0;
  if (head !== 0) prevs[head - 1] = f + 1;
  heads[at] = f + 1;
  slots[f] = at + 1;
  occupied[at >> 5] = (occupied[at >> 5] as number) | (1 << (at & 31));
  const due = granule << shift;
  if (armedCount === 0) {
    nextDue = due;
    stale = false;
  } else if (!stale && ((due - nextDue) | 0) < 0) {
    nextDue = due;
  }
  armedCount++;
};

export const disarm = (f: Flow): void => {
  if (slots[f] !== 0) unlink(f);
};
export const isArmed = (f: Flow): boolean => slots[f] !== 0;

/** Distance, in slots, from slot `from` to the next occupied one of the level, going round; -1: none is. */
const distanceToOccupied = (level: number, from: number): number => {
  const low = occupied[level * 2] as number;
  const high = occupied[level * 2 + 1] as number;
  if ((low | high) === 0) return -1;
  // Rotate the 64 bits right by `from`, then count trailing zeros.
  const swap = (from & 32) !== 0;
  const a = swap ? high : low;
  const b = swap ? low : high;
  const by = from & 31;
  const near = by === 0 ? a : (a >>> by) | (b << (32 - by));
  if (near !== 0) return 31 - Math.clz32(near & -near);
  const far = by === 0 ? b : (b >>> by) | (a << (32 - by));
  return 63 - Math.clz32(far & -far);
};

/** Recomputes `nextDue`: far away if all armed flows are being served. */
const refreshNextDue = (): void => {
  let best = (clock + 0x4000_0000) | 0;
  let found = false;
  for (let level = 0; level < LEVELS; level++) {
    const shift = level * LEVEL_BITS;
    const first = (clock + ((1 << shift) - 1)) >> shift;
    const distance = distanceToOccupied(level, first & SLOT_MASK);
    if (distance < 0) continue;
    const due = (first + distance) << shift;
    if (!found || ((due - best) | 0) < 0) best = due;
    found = true;
  }
  nextDue = best;
  stale = false;
};

/** Milliseconds (with their fraction) until the next deadline, 0 if it has come, -1 if no flow is armed. */
export const nextDelay = (nowMs: number): number => {
  if (armedCount === 0) return -1;
  if (stale) refreshNextDue();
  const whole = Math.floor(nowMs);
  return Math.max(((nextDue - whole) | 0) - (nowMs - whole), 0);
};

/** Moves the flows of slot `at` in front of those that are being served. */
const beginServing = (at: number): void => {
  const head = heads[at] as number;
  if (head === 0) return;
  let last = head;
  for (let row = head; row !== 0; row = nexts[row - 1] as number) {
    slots[row - 1] = SERVING + 1;
    last = row;
  }
  const before = heads[SERVING] as number;
  nexts[last - 1] = before;
  if (before !== 0) prevs[before - 1] = last;
  heads[SERVING] = head;
  heads[at] = 0;
  occupied[at >> 5] = (occupied[at >> 5] as number) & ~(1 << (at & 31));
};

/**
 * Serves every slot that is due exactly at `moment`, all levels. They are emptied first: in a turn that is late, what is
 * armed again can fall into a slot that was due at this moment, one round of the wheel later.
 */
const serve = (moment: number): void => {
  clock = (moment + 1) | 0;
  for (let level = 0; level < LEVELS; level++) {
    const shift = level * LEVEL_BITS;
    if ((moment & ((1 << shift) - 1)) !== 0) break;
    beginServing(level * SLOTS + ((moment >> shift) & SLOT_MASK));
  }
  stale = true;
  while (heads[SERVING] !== 0) {
    const f = ((heads[SERVING] as number) - 1) as Flow;
    unlink(f);
    expired(f);
  }
};

/** Calls `onExpire` for every flow whose deadline has come; each is disarmed before. Called once a turn. */
export const expire = (nowMs: number): void => {
  const now = nowMs | 0;
  while (armedCount > 0) {
    if (stale) refreshNextDue();
    if (((nextDue - now) | 0) > 0) break;
    serve(nextDue);
    stale = true;
  }
  if (((now + 1 - clock) | 0) > 0) clock = (now + 1) | 0;
};
