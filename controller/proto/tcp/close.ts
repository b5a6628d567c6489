// SPDX-License-Identifier: Apache-2.0
/** The ways a flow ends, and the lists of flows that want attention at the end of the batch or in the next turn. */
import { debugFlow } from '../../flow/describe.ts';
import { end } from '../../flow/end.ts';
import * as flows from '../../flow/table.ts';
import { type Flow, NO_FLOW } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as out from '../../link/out.ts';
import * as log from '../../obs/log.ts';
import * as tcp from '../../wire/tcp.ts';
import * as conn from './conn.ts';
import * as lateAck from './late-ack.ts';
import * as outOfOrder from './out-of-order.ts';
import * as pace from './pace.ts';
import * as recovery from './recovery.ts';
import * as sockRoom from './sock-room.ts';
import * as stash from './stash.ts';
import * as toTap from './to-tap.ts';

// A flow is in each list at most once (bits TOUCHED and READY). Who ended while waiting to be served leaves its entry behind until
// it is come to, within a run of turns of one flow: the second half is far more than can end in that time.
const touched = new Int32Array(flows.FLOW_MAX);
let touchedCount = 0;
let ready = new Int32Array(2 * flows.FLOW_MAX);
let serving = new Int32Array(2 * flows.FLOW_MAX);
let readyCount = 0;

/** The flow is looked at again at the end of this batch. */
export const touch = (f: Flow): void => {
  if (conn.has(f, conn.TOUCHED)) return;
  conn.add(f, conn.TOUCHED);
  touched[touchedCount++] = f;
};
/** Calls `finish` for every touched flow that still lives. */
export const finishTouched = (finish: (f: Flow) => void): void => {
  for (let i = 0; i < touchedCount; i++) {
    const f = touched[i] as Flow;
    if (!conn.has(f, conn.TOUCHED)) continue;
    conn.clear(f, conn.TOUCHED);
    finish(f);
  }
  touchedCount = 0;
};

/** Comes before the others in the next turn. */
let first: Flow = NO_FLOW;

/** The flow has more to send than this turn allows it; `goesOn`: it is the first of the next turn, else the last of all. */
export const makeReady = (f: Flow, goesOn: boolean): void => {
  if (conn.has(f, conn.READY)) return;
  conn.add(f, conn.READY);
  if (goesOn && first === NO_FLOW) first = f;
  else ready[readyCount++] = f;
};
/** Whether some flow has more to send, and the link room for it, so that the loop must not sleep. */
export const hasReady = (): boolean => (readyCount > 0 || first !== NO_FLOW) && !out.blocked();
const finishOne = (f: Flow, finish: (f: Flow) => void): void => {
  if (!conn.has(f, conn.READY)) return;
  conn.clear(f, conn.READY);
  finish(f);
};
/** Calls `finish` for flows that were made ready before this call, until the turn is `full`; who is left comes first in the next one. */
export const finishReady = (finish: (f: Flow) => void, full: () => boolean): void => {
  const n = readyCount;
  const head = first;
  if (n === 0 && head === NO_FLOW) return;
  const list = ready;
  ready = serving;
  serving = list;
  readyCount = 0;
  first = NO_FLOW;
  if (head !== NO_FLOW) finishOne(head, finish);
  let next = 0;
  while (next < n && !full()) finishOne(list[next++] as Flow, finish);
  const left = n - next;
  if (left === 0) return;
  ready.copyWithin(left, 0, readyCount);
  for (let i = 0; i < left; i++) ready[i] = list[next + i] as Flow;
  readyCount += left;
};

/** Ends a flow at once, on both sides: RST to the guest (unless the guest itself reset), RST to the peer (SO_LINGER 0). */
export const abort = (f: Flow, tellGuest = true): void => {
  if (log.debugEnabled) debugFlow(f, tellGuest ? 'from sock' : 'from tap', `reset (${conn.eventNames(f)})`);
  if (tellGuest) {
    // RFC 9293 §3.10.7.3: a reset in SYN-SENT is believed only if it acknowledges the SYN; its sequence number is free. To a
    // guest in SYN-RECEIVED, whose number we do not know, there is nothing to acknowledge.
    if (conn.has(f, conn.SYN_SENT)) toTap.flagSegment(f, conn.seqToTap(f), tcp.RST);
    else toTap.flagSegment(f, conn.has(f, conn.SOCK_CONNECTED) ? conn.seqToTap(f) : 0, tcp.RST | tcp.ACK);
  }
  if (flows.fd(f) >= 0) io.native.lingerZero(flows.fd(f));
  closeQuietly(f);
};

/** 1: the socket failed, and the guest gets what is left in its queue before it is told. */
const failed = new Uint8Array(flows.FLOW_MAX);
export const hasFailed = (f: Flow): boolean => failed[f] !== 0;

/**
 * The socket failed (the peer's reset, mostly). What the peer had sent before that lies in the queue still, and is sent
 * first: on a plain network the guest's own queue would hold it, and its program would read it before the error. A guest that
 * has not acknowledged our SYN|ACK yet does that before.
 */
export const fail = (f: Flow): void => {
  stash.discardAll(f);
  const established = conn.has(f, conn.ESTABLISHED);
  const mayHold = conn.has(f, conn.PEEK_OFFSET) ? toTap.hasMore(f) : established;
  if (conn.has(f, conn.TAP_FIN_SENT) || !mayHold) {
    abort(f);
    return;
  }
  failed[f] = 1;
  conn.add(f, conn.READABLE);
  if (established) touch(f);
};

/** Nothing more is to be done for the flow: what is kept for its socket is given up, and it is off the lists. */
export const forget = (f: Flow): void => {
  stash.discardAll(f);
  outOfOrder.discardAll(f);
  recovery.reset(f);
  pace.reset(f);
  lateAck.forget(f);
  sockRoom.reset(f);
  failed[f] = 0;
  conn.clear(f, conn.TOUCHED | conn.READY);
};

/** Gives back the socket and the row, without a word to anybody. */
export const closeQuietly = (f: Flow): void => {
  forget(f);
  end(f);
};
