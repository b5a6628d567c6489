// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the loop looks for events for a moment before it sleeps.
 *
 * To wake a sleeper on a processor that has gone idle costs more than all that a small packet needs (tens of µs in a virtual
 * machine), and a request and its answer pay it at each hop. So while events come in quick succession and
 * each is little work, the loop stays awake for the next one. In a bulk transfer it does not: there the time belongs
 * to the programs at both ends, which may share our processor. Where looking was in vain, the next waits are slept
 * at once, twice as many each time: other programs need the processor, or nothing is in a hurry. An idle instance never looks.
 */

import * as io from '../io/io.ts';

/** How long to look, ms: about what a wake-up costs. */
export const LOOK_MS = 0.05;
/** A wait that ended within that time, the wake-up included, could have been spent looking. */
const SHORT_WAIT_MS = 0.1;
/** A turn that took longer moved more than a few small packets. */
const SHORT_TURN_MS = 0.04;

/** Waits that are slept at once after looking in vain: at first, and at most. */
const PAUSE_MIN = 4;
const PAUSE_MAX = 256;

/** When the last wait ended; what the turn before it, and it itself, took. Columns, for numbers with fractions in variables are objects. */
const ENDED_MS = 0;
const BUSY_MS = 1;
const WAITED_MS = 2;
const state = new Float64Array(3);
let possible = true;
let looked = false;
/** Waits yet to be slept, and how many the next time. */
let pause = 0;
let nextPause = PAUSE_MIN;

/** On one processor whatever we wait for cannot happen while we look. */
export const configure = (processors: number): void => {
  possible = processors > 1;
  state[ENDED_MS] = 0;
  state[WAITED_MS] = SHORT_WAIT_MS;
  looked = false;
  pause = 0;
  nextPause = PAUSE_MIN;
};

/** A wait began and ended, as the clock of io.ts says. */
export const waited = (): void => {
  const beganMs = io.waitBeganMs();
  const endedMs = io.nowMs();
  state[BUSY_MS] = beganMs - (state[ENDED_MS] as number);
  state[WAITED_MS] = endedMs - beganMs;
  state[ENDED_MS] = endedMs;
  if (!looked) {
    if (pause > 0) pause--;
  } else if ((state[WAITED_MS] as number) < LOOK_MS) nextPause = PAUSE_MIN;
  else {
    pause = nextPause;
    nextPause = Math.min(nextPause * 2, PAUSE_MAX);
  }
};

/** How long the next wait looks before it sleeps, ms; 0: not at all. */
export const lookMs = (): number => {
  looked =
    possible &&
    pause === 0 &&
    (state[WAITED_MS] as number) < SHORT_WAIT_MS &&
    (state[BUSY_MS] as number) < SHORT_TURN_MS;
  return looked ? LOOK_MS : 0;
};
