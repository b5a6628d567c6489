// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the guest sends more than we can serve, and what we do less of then.
 *
 * Frames wait in the tap's queue, first come, first served; what finds it full is lost, whoever's it is. A flood of frames that
 * each cost a system call or a new flow (echo requests, scans, SYNs) fills it at a fraction of the rate that plain frames would
 * need, and the segments of living connections drown in it. So when batch after batch came full, only a part of each
 * batch may be of the costly kind: the rest is dropped at once, the queue empties, and those who have a flow get through. One who
 * asks now and then, beside a bulk transfer say, does not notice.
 */

/** Frames taken since the tap was last found empty, from which on we count as behind: a quarter of its queue. */
const BEHIND_FRAMES = 1024;
/** Costly frames of one batch (app/turn.ts) that are served all the same. */
const COSTLY_A_BATCH = 2;

let taken = 0;
let costly = 0;

/** A batch of `frames` was read from the tap; `full`: there may be more. */
export const batch = (frames: number, full: boolean): void => {
  taken = full ? Math.min(taken + frames, BEHIND_FRAMES) : 0;
  costly = 0;
};

/** Whether a frame may be served that costs more than itself. False: it is to be dropped and counted. */
export const mayServe = (): boolean => taken < BEHIND_FRAMES || costly++ < COSTLY_A_BATCH;
