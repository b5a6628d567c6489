// SPDX-License-Identifier: Apache-2.0
/** What is done once per flow at the end of a turn: send, acknowledge, close. */

import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as out from '../../link/out.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as tcp from '../../wire/tcp.ts';
import { abort, finishReady, finishTouched, hasFailed, makeReady, touch } from './close.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import { PACKET_BYTES_MAX, RUN_BYTES, TURN_BYTES } from './constants.ts';
import * as lateAck from './late-ack.ts';
import * as pace from './pace.ts';
import * as recovery from './recovery.ts';
import * as sockRoom from './sock-room.ts';
import * as stash from './stash.ts';
import * as timeWait from './time-wait.ts';
import * as timeout from './timeout.ts';
import * as toTap from './to-tap.ts';

/** The batch is over: every touched flow is finished. */
export const endBatch = (): void => {
  finishTouched(finish);
};
/** What went to the guest in this turn. */
let sentInTurn = 0;
/** What each flow has sent in its run of turns. Each has its own count: whoever sends a little between does not lengthen it. */
const run = new Uint32Array(flows.FLOW_MAX);
const turnIsFull = (): boolean => sentInTurn >= TURN_BYTES || out.mustWait();

/** Begins a turn: more bursts for flows that used up their last ones, or waited. */
export const serveReady = (): void => {
  sentInTurn = 0;
  if (!out.blocked()) finishReady(finish, turnIsFull);
};
/** `bytes` went out, and the flow has more; whether it goes on in the next turn. */
const goesOn = (f: Flow, bytes: number): boolean => {
  const sum = (run[f] as number) + bytes;
  const on = sum < RUN_BYTES;
  run[f] = on ? sum : 0;
  return on;
};

/** The batch takes in the flows that waited for their time, to send or to acknowledge. */
export const servePaced = (): void => {
  pace.serve(touch);
  lateAck.serve(touch);
};

const finish = (f: Flow): void => {
  if (!conn.has(f, conn.ESTABLISHED)) return;
  if (toTap.discardAcknowledged(f) < 0) {
    // They were there when they were sent. Whatever came of them, from here on the socket's queue is not the guest's.
    drop(DROP['sock-error']);
    abort(f);
    return;
  }
  if (recovery.active(f)) {
    recovery.examine(f);
    timeout.sent(f, false);
  }
  if (conn.has(f, conn.READABLE) && !conn.has(f, conn.TAP_FIN_SENT | conn.READY) && !pump(f)) return;
  if (hasFailed(f)) return;
  if (conn.has(f, conn.TAP_FIN_RCVD) && !conn.has(f, conn.SOCK_FIN_SENT) && stash.bytes(f) === 0) {
    io.native.shutdownWrite(flows.fd(f));
    conn.add(f, conn.SOCK_FIN_SENT);
  }
  if (conn.has(f, conn.ACK_DUE) && !lateAck.waits(f, toTap.ourMss(f))) toTap.sendAck(f);
  if (conn.hasAll(f, conn.SOCK_FIN_SENT | conn.TAP_FIN_ACKED)) timeWait.closed(f);
};

/** Sends a burst; false when the flow ended over it. */
const pump = (f: Flow): boolean => {
  const quiet = conn.inFlight(f) === 0;
  if (out.mustWait() || (conn.has(f, conn.BULK) && turnIsFull())) {
    makeReady(f, false);
    return true;
  }
  const from = conn.seqToTap(f);
  sockRoom.follow(f);
  const room = conn.wndFromTap(f) - conn.inFlight(f);
  const budget = recovery.waiting(f) > 0 ? 0 : Math.min(congestion.window(f) - recovery.pipe(f), room);
  if (room < conn.mss(f)) congestion.limited(f);
  const r = toTap.sendData(f, pace.allow(f, budget));
  const bytes = (conn.seqToTap(f) - from) | 0;
  if (bytes < PACKET_BYTES_MAX) conn.clear(f, conn.BULK);
  else conn.add(f, conn.BULK);
  sentInTurn += bytes;
  if (r !== toTap.MORE) run[f] = 0;
  if (r === toTap.MORE) makeReady(f, goesOn(f, bytes));
  else if (r < 0 || (hasFailed(f) && !(r === toTap.WINDOW_FULL && toTap.hasMore(f)))) {
    abort(f);
    return false;
  } else if (r === toTap.DRAINED) {
    conn.clear(f, conn.READABLE);
    congestion.limited(f);
  } else if (r === toTap.END) {
    conn.clear(f, conn.READABLE);
    conn.add(f, conn.SOCK_FIN_RCVD);
    sendFin(f);
  }
  timeout.sent(f, quiet);
  return true;
};

/** FIN|ACK behind the last byte; when it is lost it is sent again like data. */
const sendFin = (f: Flow): void => {
  toTap.flagSegment(f, conn.seqToTap(f), tcp.FIN | tcp.ACK);
  timeWait.finSent(f);
  conn.add(f, conn.TAP_FIN_SENT);
  conn.setSeqToTap(f, (conn.seqToTap(f) + 1) | 0);
};
