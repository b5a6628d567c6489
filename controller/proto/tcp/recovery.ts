// SPDX-License-Identifier: Apache-2.0
/**
 * What of the data under way to the guest got lost, and sending it again: RFC 6675 in spirit, in one list of ranges a flow.
 *
 * The list has what the guest selectively acknowledged (RFC 2018). Between the ranges are holes; the node behind a hole tells
 * whether it is held for lost, up to where it was sent again, and when. An empty range divides a hole where no
 * acknowledgement does: that is how a time-out ("everything up to here is lost"), and fast retransmission for a guest
 * without selective acknowledgement ("one segment is", RFC 6582), use the same means. So SND.NXT never moves back.
 *
 * A hole is held for lost when the guest has three segments' worth beyond it, at the third duplicate ACK, when it has
 * anything beyond it after a tail probe (RFC 8985 §7), or at a time-out. It is sent again once more when the answer to the last time
 * is overdue. How much may be sent is congestion.ts's business: what is under way is SND.NXT − SND.UNA less what the guest
 * has and less what is lost and not sent again.
 */
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as tcp from '../../wire/tcp.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import { BURST_BYTES, DUPLICATE_ACKS } from './constants.ts';
import * as pace from './pace.ts';
import * as ranges from './ranges.ts';
import * as toTap from './to-tap.ts';

const board = ranges.lists(ranges.OWN_NODE);
/** Bytes beyond SND.UNA that the guest has: those on the board, or a segment for each duplicate ACK. */
const HAS = new Int32Array(FLOW_MAX);
/** Bytes held for lost and not sent again. */
const LOST = new Int32Array(FLOW_MAX);
/** End of the highest range the guest told; valid while the board has something. */
const HIGHEST = new Int32Array(FLOW_MAX);

/** Since the program began: bytes sent again to guests, and time-outs. */
let bytesAgain = 0;
let timeouts = 0;
export const counts = (): { readonly bytesAgain: number; readonly timeouts: number } => ({ bytesAgain, timeouts });

/** Whether anything of what is under way is known to be missing or there. */
export const active = (f: Flow): boolean => ranges.first(board, f) !== 0;
/** Bytes under way: neither acknowledged in any way nor held for lost. */
export const pipe = (f: Flow): number => conn.inFlight(f) - (HAS[f] as number) - (LOST[f] as number);
/** Bytes that wait to be sent again. */
export const waiting = (f: Flow): number => LOST[f] as number;

/** Everything on the board is forgotten. */
export const reset = (f: Flow): void => {
  ranges.clear(board, f);
  HAS[f] = 0;
  LOST[f] = 0;
};

/** SND.NXT without a FIN. */
const dataEnd = (f: Flow): number => (conn.seqToTap(f) - (conn.has(f, conn.TAP_FIN_SENT) ? 1 : 0)) | 0;

/** The SACK option of the segment at `at`. Returns how many bytes it told of that were not known. */
export const sackFromTap = (f: Flow, at: number): number => {
  const n = tcp.findSack(io.view, at);
  const una = conn.ackFromTap(f);
  const last = dataEnd(f);
  let told = 0;
  let highest = una;
  for (let i = 0; i < n; i++) {
    const from = tcp.sackStart(io.view, i);
    let to = tcp.sackEnd(io.view, i);
    if (to === ((last + 1) | 0) && conn.has(f, conn.TAP_FIN_SENT)) to = last;
    // Duplicates (RFC 2883) and what was never sent, or not for long.
    if (((from - una) | 0) <= 0 || ((to - from) | 0) <= 0 || ((last - to) | 0) < 0) continue;
    const added = ranges.add(board, f, from, to);
    if (added < 0) continue;
    told += added;
    if (((to - highest) | 0) > 0) highest = to;
  }
  if (told === 0) return 0;
  if ((HAS[f] as number) === 0 || ((highest - (HIGHEST[f] as number)) | 0) > 0) HIGHEST[f] = highest;
  HAS[f] = (HAS[f] as number) + told;
  congestion.delivered(f, told, highest);
  return told;
};

/** The guest has everything up to `ack`, `progress` bytes more than before; SND.UNA is still the old one. */
export const acknowledged = (f: Flow, ack: number, progress: number): void => {
  if (ranges.first(board, f) === 0) {
    HAS[f] = 0;
    congestion.delivered(f, progress, ack);
    return;
  }
  const known = ranges.trim(board, f, ack);
  congestion.delivered(f, progress - known, ack);
  if (!conn.has(f, conn.SACK)) HAS[f] = 0;
  else HAS[f] = (HAS[f] as number) - known;
  const n = ranges.first(board, f);
  // The guest gave up what it had told (RFC 2018 §8).
  if (n !== 0 && ranges.start(n) === ack && ranges.end(n) !== ack) reset(f);
  if (ranges.first(board, f) === 0) LOST[f] = 0;
};

/** A duplicate ACK that told nothing: for a guest without SACK a segment has left the network (RFC 6582 §3.2). */
export const duplicate = (f: Flow): void => {
  if (conn.has(f, conn.SACK)) return;
  const mss = conn.mss(f);
  if (conn.has(f, conn.RECOVERING)) {
    if ((HAS[f] as number) + 2 * mss <= conn.inFlight(f)) HAS[f] = (HAS[f] as number) + mss;
    return;
  }
  const n = conn.dupAcks(f) + 1;
  conn.setDupAcks(f, Math.min(n, 255));
  if (n === DUPLICATE_ACKS) firstIsLost(f);
};

/** RFC 6582 §3.2 steps 2 and 5: the segment at SND.UNA is missing. */
export const firstIsLost = (f: Flow): void => {
  const una = conn.ackFromTap(f);
  const to = (una + Math.min(conn.mss(f), conn.inFlight(f))) | 0;
  if (ranges.add(board, f, to, to) < 0) {
    reset(f);
    ranges.add(board, f, to, to);
  }
  const n = ranges.first(board, f);
  ranges.setLost(n, true);
  ranges.setSent(n, una, 0);
};

/** Looks at all holes. Afterwards waiting() is what is to be sent again. */
export const examine = (f: Flow): void => {
  const now = congestion.nowUs();
  const overdue = congestion.patienceUs(f);
  const enough = conn.has(f, conn.PROBED) ? 0 : DUPLICATE_ACKS * conn.mss(f);
  const una = conn.ackFromTap(f);
  const sack = conn.has(f, conn.SACK) && (HAS[f] as number) > 0;
  let from = una;
  let missing = 0;
  let lost = 0;
  for (let n = ranges.first(board, f); n !== 0; n = ranges.next(n)) {
    const to = ranges.start(n);
    const length = (to - from) | 0;
    if (length > 0) {
      const beyond = sack ? ((HIGHEST[f] as number) - to) | 0 : -1;
      if (!ranges.lost(n)) {
        if (beyond > 0 && (beyond >= enough || (from === una && conn.dupAcks(f) >= DUPLICATE_ACKS))) {
          ranges.setLost(n, true);
          ranges.setSent(n, from, now);
          lost += length;
        }
      } else if (beyond > 0 && ((ranges.sentTo(n) - to) | 0) >= 0 && ((now - ranges.sentUs(n)) | 0) > overdue) {
        ranges.setSent(n, from, now);
      }
      if (ranges.lost(n)) {
        const again = ranges.sentTo(n);
        missing += ((again - from) | 0) > 0 ? Math.max((to - again) | 0, 0) : length;
      }
    }
    from = ranges.end(n);
  }
  LOST[f] = missing;
  if (lost > 0) congestion.lost(f, lost);
  if (missing > 0 && !conn.has(f, conn.RECOVERING)) {
    conn.add(f, conn.RECOVERING);
    conn.setRecover(f, conn.seqToTap(f));
    if (lost === 0) congestion.lost(f, missing);
    // The first segment goes out whatever else is under way (RFC 6675 §5 step 4.3).
    resend(f, Math.max(pace.allow(f, congestion.window(f) - pipe(f)), conn.mss(f)));
  } else if (missing > 0) {
    const budget = pace.allow(f, congestion.window(f) - pipe(f));
    const before = LOST[f] as number;
    if (budget > 0) resend(f, budget);
    // The guest's window is closed over what is missing: its acknowledgement or the timer comes next, not the pace.
    if (budget > 0 && LOST[f] === before) pace.leave(f);
  }
};

/** Sends up to `budget` bytes of what is lost again, the lowest first. */
const resend = (f: Flow, budget: number): void => {
  const mss = conn.mss(f);
  const edge = (conn.ackFromTap(f) + conn.wndFromTap(f)) | 0;
  let left = Math.min(budget, BURST_BYTES);
  let from = conn.ackFromTap(f);
  for (let n = ranges.first(board, f); n !== 0 && left > 0; n = ranges.next(n)) {
    const to = ranges.start(n);
    if (ranges.lost(n)) {
      const again = ranges.sentTo(n);
      const at = ((again - from) | 0) > 0 ? again : from;
      // A guest that took back its window gets no more than it has now (RFC 9293 §3.8.6).
      const length = Math.min((to - at) | 0, (edge - at) | 0);
      // No crumbs of a longer hole.
      if (length > left && left < mss) return;
      if (length > 0) {
        const sent = toTap.sendAgain(f, at, length > left ? left - (left % mss) : length);
        if (sent <= 0) return;
        ranges.setSent(n, (at + sent) | 0, congestion.nowUs());
        congestion.sentAgain(f, at, (at + sent) | 0);
        LOST[f] = (LOST[f] as number) - sent;
        left -= sent;
        bytesAgain += sent;
      }
    }
    from = ranges.end(n);
  }
};

/**
 * Nothing has come for longer than it should take: the lowest hole that was sent again, or else the last segment, goes
 * out once more, so that the guest says what it has (RFC 8985 §7).
 */
export const probe = (f: Flow): void => {
  conn.add(f, conn.PROBED);
  const mss = conn.mss(f);
  const una = conn.ackFromTap(f);
  const n = ranges.first(board, f);
  let from = (conn.seqToTap(f) - Math.min(mss, conn.inFlight(f))) | 0;
  let length = Math.min(mss, conn.inFlight(f));
  if (n !== 0) {
    from = una;
    length = Math.min(mss, (ranges.start(n) - una) | 0);
  }
  if (length > conn.wndFromTap(f) - ((from - una) | 0)) return;
  const sent = toTap.sendAgain(f, from, length);
  if (sent <= 0) return;
  bytesAgain += sent;
  congestion.sentAgain(f, from, (from + sent) | 0);
};

/** RFC 6298 §5.4: everything that the guest has not acknowledged is lost. */
export const timedOut = (f: Flow): void => {
  timeouts++;
  // What it told once it may have given up since (RFC 2018 §8).
  if (conn.retries(f) > 1 || !conn.has(f, conn.SACK)) reset(f);
  congestion.timedOut(f);
  const to = conn.seqToTap(f);
  // An empty list always has a node.
  if (ranges.add(board, f, to, to) < 0) {
    reset(f);
    ranges.add(board, f, to, to);
  }
  let from = conn.ackFromTap(f);
  for (let n = ranges.first(board, f); n !== 0; n = ranges.next(n)) {
    ranges.setLost(n, true);
    ranges.setSent(n, from, 0);
    from = ranges.end(n);
  }
  conn.add(f, conn.RECOVERING);
  conn.setRecover(f, conn.seqToTap(f));
  conn.setDupAcks(f, 0);
};
