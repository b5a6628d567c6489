// SPDX-License-Identifier: Apache-2.0
/**
 * The one timer of a flow. It is armed when there is something to wait for and looks, when it goes off, at what time
 * has really passed: nothing is re-armed per packet.
 */
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import * as io from '../../io/io.ts';
import * as out from '../../link/out.ts';
import * as tcp from '../../wire/tcp.ts';
import { abort, touch } from './close.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import {
  DATA_RETRIES_MAX,
  RTO_MAX_MS,
  SYN_ACK_RETRIES_MAX,
  SYN_LINEAR_TIMEOUTS,
  SYN_RETRIES_DEFAULT,
} from './constants.ts';
import * as part from './part.ts';
import * as recovery from './recovery.ts';
import * as toTap from './to-tap.ts';

const now = (): number => io.nowMs() | 0;

let synRetriesMax = SYN_RETRIES_DEFAULT + SYN_LINEAR_TIMEOUTS;
let rtoMaxMs = RTO_MAX_MS;
/** Of SYNs to the guest: the host's tcp_syn_retries, and its tcp_rto_max_ms. */
export const configure = (synRetries: number, rtoMax: number): void => {
  synRetriesMax = synRetries + SYN_LINEAR_TIMEOUTS;
  rtoMaxMs = rtoMax;
};

/** Begins to wait for the guest's acknowledgement of a SYN|ACK. */
export const armRetransmission = (f: Flow): void => {
  conn.setProgressMs(f, now());
  wheel.arm(f, io.nowMs() + waitMs(f));
};

/** Tail probes before a time-out is believed; the second is for when the first is lost, too. */
const PROBES_MAX = 2;
/** RFC 8985 §7.2, with a margin for a guest that is busy. */
const PROBE_MARGIN_MS = 30;

/** How long from the last progress until something is to be done. */
const waitMs = (f: Flow): number => {
  if (conn.has(f, conn.SYN_SENT)) {
    return Math.min(congestion.rtoMs(f, Math.max(conn.retries(f) - SYN_LINEAR_TIMEOUTS, 0)), rtoMaxMs);
  }
  // A closed window is probed ever more seldom, also while every probe is answered (RFC 9293 §3.8.6.1).
  const rto = congestion.rtoMs(
    f,
    conn.wndFromTap(f) === 0 ? Math.max(conn.retries(f), conn.probes(f)) : conn.retries(f),
  );
  if (!mayProbe(f)) return rto;
  const srtt = congestion.srttUs(f);
  return Math.min(rto, (2 * srtt) / 1000 + PROBE_MARGIN_MS * (1 + conn.probes(f)));
};
/** More than a segment is under way (one alone the guest may acknowledge late), and probes were not tried enough. */
const mayProbe = (f: Flow): boolean =>
  conn.has(f, conn.SACK) &&
  conn.retries(f) === 0 &&
  conn.probes(f) < PROBES_MAX &&
  congestion.srttUs(f) > 0 &&
  conn.wndFromTap(f) > 0 &&
  conn.inFlight(f) > conn.mss(f);

/** Data or a FIN went out, or waits for the guest's window; `quiet`: nothing was in flight before. */
export const sent = (f: Flow, quiet: boolean): void => {
  const inFlight = conn.inFlight(f);
  if (inFlight === 0 && !conn.has(f, conn.READABLE)) return;
  if (wheel.isArmed(f)) {
    // The timer of what went before still runs; the time is counted from this sending (RFC 6298 §5.1).
    if (quiet && inFlight > 0) conn.setProgressMs(f, now());
    return;
  }
  armRetransmission(f);
};

/** The guest acknowledged something new (RFC 6298 §5.3), or opened its window. */
export const progress = (f: Flow): void => {
  const far = conn.retries(f) > 0 || conn.probes(f) > 0;
  conn.setRetries(f, 0);
  conn.setProbes(f, 0);
  conn.setProgressMs(f, now());
  // After a back-off the timer stands far away, and what goes out next could be lost, too.
  if (far) wheel.arm(f, io.nowMs() + waitMs(f));
};

/** The connection is established, or the guest's window open again: the timer that runs has nothing to do with what comes. */
export const opened = (f: Flow): void => {
  conn.setRetries(f, 0);
  conn.setProbes(f, 0);
  conn.setProgressMs(f, now());
  wheel.arm(f, io.nowMs() + waitMs(f));
};

/** The flow's timer went off. */
export const onTimer = (f: Flow): void => {
  if (flows.fd(f) < 0) return;
  if (conn.has(f, conn.PARTING)) return part.look(f);
  if (!conn.has(f, conn.SOCK_CONNECTED)) return;
  const waited = (now() - conn.progressMs(f)) | 0;
  if (!conn.has(f, conn.ESTABLISHED)) {
    retry(f, waited, conn.has(f, conn.SYN_SENT) ? synRetriesMax : SYN_ACK_RETRIES_MAX);
    return;
  }
  if (waiting(f)) retry(f, waited, DATA_RETRIES_MAX);
};

/** Whether the guest owes an answer: to what was sent, or by opening its window. */
export const waiting = (f: Flow): boolean =>
  // Behind our FIN there is nothing left to send, though every edge of the socket says that end of file can be read.
  conn.inFlight(f) > 0 || (conn.has(f, conn.READABLE) && !conn.has(f, conn.READY | conn.TAP_FIN_SENT));

const retry = (f: Flow, waited: number, retriesMax: number): void => {
  const limit = waitMs(f);
  if (waited < limit) {
    wheel.arm(f, io.nowMs() + limit - waited);
    return;
  }
  if (out.blocked() && conn.has(f, conn.ESTABLISHED)) {
    // What the guest does not answer may lie here still, or with a hypervisor that stands still: nothing is lost yet.
    conn.setProgressMs(f, now());
    wheel.arm(f, io.nowMs() + limit);
    return;
  }
  if (mayProbe(f)) {
    conn.setProbes(f, conn.probes(f) + 1);
    wheel.arm(f, io.nowMs() + waitMs(f));
    recovery.probe(f);
    return;
  }
  const n = conn.retries(f);
  if (n >= retriesMax) {
    // RFC 9293 §3.8.3 R2: the guest does not answer any more.
    abort(f);
    return;
  }
  conn.setRetries(f, n + 1);
  if (conn.wndFromTap(f) === 0) conn.setProbes(f, Math.min(conn.probes(f) + 1, DATA_RETRIES_MAX));
  // RFC 6298 §5.5. The wait begins anew with what is sent now.
  conn.setProgressMs(f, now());
  wheel.arm(f, io.nowMs() + waitMs(f));
  if (!conn.has(f, conn.ESTABLISHED)) {
    toTap.sendSyn(f);
    congestion.sentAgain(f, conn.ackFromTap(f), conn.seqToTap(f));
  } else if (conn.inFlight(f) > 0 && conn.wndFromTap(f) > 0) {
    recovery.timedOut(f);
    touch(f);
  } else {
    // The guest's window is closed: a segment before the window makes it say what it is now (RFC 9293 §3.8.6.1). An
    // answer counts as life (see acknowledgement()), so that a guest may stay closed as long as it answers.
    toTap.flagSegment(f, (conn.ackFromTap(f) - 1) | 0, tcp.ACK);
  }
};
