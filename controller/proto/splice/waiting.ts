// SPDX-License-Identifier: Apache-2.0
/**
 * Rows that wait for a pipe, because no descriptor is to be had for one: first come, first served. They are tried again
 * together, as soon as a pipe was given back, and else ever more seldom, so that any number of them costs a call now and then.
 */
import * as flows from '../../flow/table.ts';

type Flow = flows.Flow;

/** Until a pipe is asked for again: doubled each time in vain. */
const RETRY_MS_MIN = 20;
const RETRY_MS_MAX = 320;

/** A ring, in which a row is once at most, also when its connection ends and it becomes another one's. */
const ring = new Int32Array(flows.FLOW_MAX);
const listed = new Uint8Array(flows.FLOW_MAX);
let head = 0;
let count = 0;
let delayMs = RETRY_MS_MIN;
/** Monotonic milliseconds of the next attempt. */
let dueMs = 0;
let inVain = false;

/** There was no pipe for `f`. */
export const add = (f: Flow, now: number): void => {
  inVain = true;
  if (count === 0) {
    delayMs = RETRY_MS_MIN;
    dueMs = now + delayMs;
  }
  if (listed[f] !== 0) return;
  listed[f] = 1;
  ring[(head + count++) % flows.FLOW_MAX] = f;
};

const takeFirst = (): Flow => {
  const f = ring[head] as Flow;
  head = (head + 1) % flows.FLOW_MAX;
  count--;
  listed[f] = 0;
  return f;
};

/** Milliseconds until {@link serve} has something to do; −1: nothing. `spare`: pipes that are to be had now. */
export const nextDelay = (now: number, spare: number): number =>
  count === 0 ? -1 : spare > 0 ? 0 : Math.max(dueMs - now, 0);

/** Serves who waits until there is no pipe again. Whether a row is still there, and still needs one, is for `again` to see. */
export const serve = (now: number, spare: number, again: (f: Flow) => void): void => {
  if (count === 0 || (spare === 0 && now < dueMs)) return;
  inVain = false;
  for (let n = count; n > 0 && !inVain; n--) again(takeFirst());
  delayMs = inVain ? Math.min(delayMs * 2, RETRY_MS_MAX) : RETRY_MS_MIN;
  dueMs = now + delayMs;
};
