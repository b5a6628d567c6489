// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the guest still has its end of an idle connection. Its reset may have been lost, or the guest may have gone
 * without one; the socket and its descriptor would stay for ever. A keep-alive segment (RFC 9293 §3.8.4) asks: a guest
 * that knows the connection acknowledges, one that does not resets it. The RFC's two hours are for peers across a
 * network that may be down; the guest is one link away.
 *
 * Silence is a no only when the guest has been heard about other things: a virtual machine that is paused keeps its
 * connections, for as long as RFC 5382 asks of a router (REQ-5). Beyond that nothing expires: a guest and a peer that
 * both stand by an idle connection keep it. The peer's end is watched by the host's TCP (SO_KEEPALIVE, at the host's
 * intervals, or at the guest's where it asks itself: see guestAsks).
 *
 * No timer for each flow: the LRU class is in the order of idleness, so a look at its first ones, every two seconds at
 * most and only when one is due, finds all that want a probe; some are sent a turn, so that the answers fit the tap's queue.
 */
import { SOCKOPT } from '../../../shared/abi.ts';
import * as lru from '../../flow/lru.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as tcp from '../../wire/tcp.ts';
import { abort, closeQuietly } from './close.ts';
import * as conn from './conn.ts';
import {
  IDLE_ESTABLISHED_MS,
  KEEPALIVE_IDLE_MS,
  KEEPALIVE_INTERVAL_MS,
  KEEPALIVE_PROBES_MAX,
  OPENING_SILENCE_MS,
  TIME_WAIT_MS,
} from './constants.ts';
import * as timeWait from './time-wait.ts';
import * as timeout from './timeout.ts';
import * as toTap from './to-tap.ts';

/** Looks are at least that far apart, so that flows that are due one after the other share a wake-up. */
const LOOK_MS = 2000;
/** No more than frames are read in one turn: the answers do not pile up. */
const PROBES_PER_TURN_MAX = 64;
/** Longer than anything that is waited for here. */
const NOTHING_MS = 2 * TIME_WAIT_MS;
/** Linux's tcp_keepalive_time and tcp_keepalive_intvl: what the guest does not undercut stays so. */
const KEEPALIVE_GUEST_MAX_S = 7200;
const KEEPALIVE_RETRY_MAX_S = 75;
/** Order of use is kept to that precision: a busy flow need not be moved for each segment. */
const LRU_PRECISION_MS = 1000;

/** Probes that were not answered, and when the last one was sent or answered, int32 ms. */
const probes = new Uint8Array(flows.FLOW_MAX);
const probedMs = new Int32Array(flows.FLOW_MAX);
/** 1: the guest asks after its peer, and the host's TCP does. */
const guestAsked = new Uint8Array(flows.FLOW_MAX);
/** When anything came from the guest last, int32 ms. */
let guestSeenMs = 0;
/** When to look next, on the loop's clock; too early does no harm. */
let due = 0;
/**
 * Where a look goes on that had more than one turn's worth to send: at that flow, if it is as it was; and how long it had
 * found that it may wait. From the oldest again, each turn would walk over all that were asked before.
 */
let resume = flows.NO_FLOW;
let resumeGeneration = 0;
let resumeActiveMs = 0;
let resumeWaitMs = 0;

/** Called once, before the first frame. */
export const start = (): void => {
  due = 0;
  resume = flows.NO_FLOW;
};

/** For a fresh row, whose connection is in the making. */
export const reset = (f: Flow): void => {
  due = Math.min(due, io.nowMs() + OPENING_SILENCE_MS);
  conn.setProgressMs(f, io.nowMs() | 0);
  probes[f] = 0;
  guestAsked[f] = 0;
  probedMs[f] = io.nowMs() | 0;
  flows.setLastActive(f, io.nowMs() | 0);
};

/** Something came from the guest, whatever it was. */
export const guestSeen = (nowMs: number): void => {
  guestSeenMs = nowMs | 0;
};

/**
 * A segment of the flow came from the guest. The answer to a probe is no use of the connection. Returns for how many ms there
 * had been none.
 */
export const heard = (f: Flow): number => {
  const now = io.nowMs() | 0;
  const idle = (now - flows.lastActive(f)) | 0;
  if (probes[f] !== 0) {
    probes[f] = 0;
    probedMs[f] = now;
    return idle;
  }
  if (idle >= LRU_PRECISION_MS) lru.touch(f);
  flows.setLastActive(f, now);
  return idle;
};

/**
 * The guest sent a keep-alive segment, after `idle` ms: it is answered by us, so that the peer would never be asked, and a
 * translator on the way to it would forget an idle connection. From now on the host's TCP asks as often as the guest.
 */
export const guestAsks = (f: Flow, idle: number): void => {
  // At a closed window the same segment asks for room (RFC 9293 §3.8.6.1), and more than once a second nobody keeps alive.
  if (guestAsked[f] !== 0 || idle < LRU_PRECISION_MS || conn.edgeToTap(f) === conn.seqFromTap(f)) return;
  guestAsked[f] = 1;
  const seconds = Math.min(Math.round(idle / 1000), KEEPALIVE_GUEST_MAX_S);
  const { TCP_KEEPIDLE, TCP_KEEPINTVL } = SOCKOPT;
  io.native.setsockopt(flows.fd(f), TCP_KEEPIDLE.level, TCP_KEEPIDLE.option, seconds);
  io.native.setsockopt(
    flows.fd(f),
    TCP_KEEPINTVL.level,
    TCP_KEEPINTVL.option,
    Math.min(seconds, KEEPALIVE_RETRY_MAX_S),
  );
};

/** Milliseconds until {@link tick} has something to do; -1: nothing is there to be looked at. */
export const nextDelay = (nowMs: number): number => (nothing() ? -1 : Math.max(due - nowMs, 0));
const nothing = (): boolean =>
  lru.size(lru.LRU_TCP) + lru.size(lru.LRU_TCP_OPENING) + lru.size(lru.LRU_TCP_TIME_WAIT) === 0;

/** Sends the probes that are due, and ends what did not answer. Called every turn. */
export const tick = (nowMs: number): void => {
  if (nowMs < due || nothing()) return;
  const now = nowMs | 0;
  const wait = Math.min(timeWait.expire(now), lookAtOpening(now), lookAtIdle(now));
  due = wait === 0 ? nowMs : nowMs + Math.max(wait, LOOK_MS);
};

/** Ends attempts that the guest has given up. Milliseconds until the next one may have been. */
const lookAtOpening = (now: number): number => {
  let wait = NOTHING_MS;
  let next: Flow;
  for (let f = lru.oldest(lru.LRU_TCP_OPENING); f !== flows.NO_FLOW; f = next) {
    next = lru.newer(f);
    const silent = (now - flows.lastActive(f)) | 0;
    if (silent < OPENING_SILENCE_MS) return Math.min(wait, OPENING_SILENCE_MS - silent);
    // Our SYN|ACK has a timer of its own.
    if (conn.has(f, conn.SOCK_CONNECTED)) continue;
    const left = OPENING_SILENCE_MS + 2 * ((flows.lastActive(f) - conn.progressMs(f)) | 0) - silent;
    if (left > 0) wait = Math.min(wait, left);
    else closeQuietly(f);
  }
  return wait;
};

/** The flow still has the place in the order of use at which the look was interrupted. */
const mayResume = (): boolean =>
  resume !== flows.NO_FLOW &&
  lru.classOf(resume) === lru.LRU_TCP &&
  flows.generation(resume) === resumeGeneration &&
  flows.lastActive(resume) === resumeActiveMs;

/** Milliseconds until the next flow is due; 0: there are more than one turn's worth. */
const lookAtIdle = (now: number): number => {
  const goesOn = mayResume();
  const from = goesOn ? resume : lru.oldest(lru.LRU_TCP);
  let wait = goesOn ? resumeWaitMs : KEEPALIVE_IDLE_MS;
  resume = flows.NO_FLOW;
  let sent = 0;
  let next: Flow;
  for (let f = from; f !== flows.NO_FLOW; f = next) {
    next = lru.newer(f);
    const idle = (now - flows.lastActive(f)) | 0;
    if (idle < KEEPALIVE_IDLE_MS - LRU_PRECISION_MS) return Math.min(wait, KEEPALIVE_IDLE_MS - idle);
    // Only when nothing is outstanding (RFC 9293 §3.8.4): what is, is sent again and asks the same.
    // Nor where the guest has nothing left to know of.
    if (timeout.waiting(f) || conn.hasAll(f, conn.TAP_FIN_RCVD | conn.TAP_FIN_ACKED)) continue;
    const interval = probes[f] === 0 ? KEEPALIVE_IDLE_MS : KEEPALIVE_INTERVAL_MS;
    const left = interval - Math.min((now - (probedMs[f] as number)) | 0, probes[f] === 0 ? idle : interval);
    if (left > 0) {
      wait = Math.min(wait, left);
      continue;
    }
    if (sent === PROBES_PER_TURN_MAX) {
      resume = f;
      resumeGeneration = flows.generation(f);
      resumeActiveMs = flows.lastActive(f);
      resumeWaitMs = wait;
      return 0;
    }
    sent++;
    if (probe(f, now, idle)) wait = Math.min(wait, KEEPALIVE_INTERVAL_MS);
  }
  return wait;
};

/** Asks once more, or ends the flow: false. */
const probe = (f: Flow, now: number, idle: number): boolean => {
  const n = probes[f] as number;
  // Not counted while nobody is there at all: who comes back is asked as often as anybody.
  const counts = n === 0 || ((guestSeenMs - (probedMs[f] as number)) | 0) > 0;
  if (counts ? n >= KEEPALIVE_PROBES_MAX : idle >= IDLE_ESTABLISHED_MS) {
    abort(f);
    return false;
  }
  if (counts) probes[f] = n + 1;
  probedMs[f] = now;
  toTap.flagSegment(f, (conn.ackFromTap(f) - 1) | 0, tcp.ACK);
  return true;
};
