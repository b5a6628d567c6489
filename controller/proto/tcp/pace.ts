// SPDX-License-Identifier: Apache-2.0
/**
 * Spreading what goes to a guest behind a link over the round trip. A window sent in one clump overruns the first queue of the
 * link (a thousand frames are usual), though the link could carry it well: Linux's own sender spreads it, too, under BBR.
 *
 * A flow earns credit at the rate congestion.ts tells and spends it on bursts of about a millisecond's worth, so that
 * superframes stay large. Who may send by its window but has not the credit waits in one list, whose
 * times are multiples of SPACING_MS. A loop that wakes late makes up for SLACK_MS. Paths without a round-trip time to speak of are not paced.
 */
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import { BURST_BYTES } from './constants.ts';

const BURST_MS = 1;
const SLACK_MS = 4;
const SEGMENTS_MIN = 2;
const SPACING_MS = 0.5;

/** Bytes; below 0 after what had to go out at once. */
const CREDIT = new Float64Array(FLOW_MAX);
/** When credit was counted last. */
const COUNTED_MS = new Float64Array(FLOW_MAX);
/** When a flow of the list may go on. */
const DUE_MS = new Float64Array(FLOW_MAX);
/** Its place in the list + 1; 0: it is not there. */
const PLACE = new Int32Array(FLOW_MAX);
const list = new Int32Array(FLOW_MAX);
let listed = 0;
/** The earliest of the list, or earlier. */
let earliest = Number.POSITIVE_INFINITY;

const wait = (f: Flow, ms: number): void => {
  const due = Math.ceil(ms / SPACING_MS) * SPACING_MS;
  DUE_MS[f] = due;
  if (due < earliest) earliest = due;
  if (PLACE[f] !== 0) return;
  list[listed++] = f;
  PLACE[f] = listed;
};
const remove = (f: Flow): void => {
  const at = (PLACE[f] as number) - 1;
  if (at < 0) return;
  PLACE[f] = 0;
  const last = list[--listed] as Flow;
  if (last === f) return;
  list[at] = last;
  PLACE[last] = at + 1;
};

/** How many of the `want` bytes that the windows allow may go out now. For the rest the flow is called again, see serve(). */
export const allow = (f: Flow, want: number): number => {
  const rate = congestion.rate(f);
  if (rate === 0 || want <= 0) return want;
  const now = io.nowMs();
  const least = SEGMENTS_MIN * conn.mss(f);
  const most = Math.max(rate * SLACK_MS, 2 * least);
  const credit = Math.min((CREDIT[f] as number) + rate * (now - (COUNTED_MS[f] as number)), most);
  CREDIT[f] = credit;
  COUNTED_MS[f] = now;
  const portion = Math.min(Math.max(rate * BURST_MS, least), BURST_BYTES, want);
  if (credit >= want) return want;
  if (credit < portion) {
    wait(f, now + (portion - credit) / rate);
    return 0;
  }
  wait(f, now + portion / rate);
  return Math.floor(credit);
};

/** `bytes` went out. */
export const spent = (f: Flow, bytes: number): void => {
  CREDIT[f] = (CREDIT[f] as number) - bytes;
};

/** The flow has nothing that it could send now, whatever the pace: it is not called again for it. */
export const leave = (f: Flow): void => remove(f);

/** A fresh record, off the list. */
export const reset = (f: Flow): void => {
  CREDIT[f] = 0;
  COUNTED_MS[f] = 0;
  remove(f);
};

/** Milliseconds until a flow may go on; -1: none waits. */
export const nextDelay = (nowMs: number): number => (listed === 0 ? -1 : Math.max(earliest - nowMs, 0));

/** Calls `next`, which sends nothing itself, for each flow that may go on. */
export const serve = (next: (f: Flow) => void): void => {
  const now = io.nowMs();
  if (listed === 0 || earliest > now) return;
  earliest = Number.POSITIVE_INFINITY;
  for (let i = listed - 1; i >= 0; i--) {
    const f = list[i] as Flow;
    const due = DUE_MS[f] as number;
    if (due > now) {
      if (due < earliest) earliest = due;
      continue;
    }
    remove(f);
    next(f);
  }
};
