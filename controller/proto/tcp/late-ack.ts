// SPDX-License-Identifier: Apache-2.0
/**
 * ACKs that wait a moment (RFC 1122 §4.2.3.2, RFC 5681 §4.2), for guests behind a hypervisor. There a frame alone costs the guest an interrupt and, where it
 * is emulated, more than what it acknowledges, and segments come one by one. So the ACK of data in order goes when two segments are
 * there, or with the answer, or after a moment that is short beside everything a sender waits for. A tap's frames come in superframes
 * and batches: there every ACK goes at once.
 *
 * Only data that leaves nothing open waits: no hole, no end, a window that is not nearly used up.
 */
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as conn from './conn.ts';
import * as outOfOrder from './out-of-order.ts';

/** Of RFC 1122's 0.5 s next to nothing: a sender with Nagle's algorithm waits for it. */
const MOMENT_MS = 0.5;
const SEGMENTS = 2;
/** Segments of window that must be left beyond what waits. */
const WINDOW_SEGMENTS = 8;

const NO = 0;
const WAITS = 1;
const DUE = 2;
const state = new Uint8Array(FLOW_MAX);
/** The acknowledgement number that the guest was told last. */
const TOLD = new Int32Array(FLOW_MAX);
/** Entries of flows that do not wait any more are passed over. */
const list = new Int32Array(FLOW_MAX);
let listed = 0;
let dueMs = Number.POSITIVE_INFINITY;
let on = false;

/** Whether ACKs may wait at all. Called once, at start. */
export const configure = (mayWait: boolean): void => {
  on = mayWait;
  for (let i = 0; i < listed; i++) state[list[i] as number] = NO;
  listed = 0;
  dueMs = Number.POSITIVE_INFINITY;
};

/** A segment with the acknowledgement `ack` goes to the guest. */
export const told = (f: Flow, ack: number): void => {
  TOLD[f] = ack;
  state[f] = NO;
};
export const forget = (f: Flow): void => {
  state[f] = NO;
};

/** Whether the ACK that is due to the flow's guest can wait; then it is put off, and {@link serve} comes back to it. `mss`: of the guest's segments, bytes. */
export const waits = (f: Flow, mss: number): boolean => {
  if (!on || state[f] === DUE) return false;
  const news = (conn.seqFromTap(f) - (TOLD[f] as number)) | 0;
  const room = (conn.edgeToTap(f) - conn.seqFromTap(f)) | 0;
  if (news <= 0 || news >= SEGMENTS * mss || room < WINDOW_SEGMENTS * Math.min(mss, news)) return false;
  if (conn.has(f, conn.TAP_FIN_RCVD | conn.TAP_FIN_WAITS) || outOfOrder.bytes(f) > 0) return false;
  if (state[f] === WAITS) return true;
  if (listed === FLOW_MAX) return false;
  if (listed === 0) dueMs = io.nowMs() + MOMENT_MS;
  state[f] = WAITS;
  list[listed++] = f;
  return true;
};

/** Calls `touch` for every flow whose ACK has waited long enough. */
export const serve = (touch: (f: Flow) => void): void => {
  if (listed === 0 || io.nowMs() < dueMs) return;
  const n = listed;
  listed = 0;
  dueMs = Number.POSITIVE_INFINITY;
  for (let i = 0; i < n; i++) {
    const f = list[i] as Flow;
    if (state[f] !== WAITS) continue;
    state[f] = DUE;
    touch(f);
  }
};
/** Milliseconds until {@link serve} has something to do; −1: nothing. */
export const nextDelay = (now: number): number => (listed === 0 ? -1 : Math.max(0, dueMs - now));
