// SPDX-License-Identifier: Apache-2.0
/**
 * How long the guest takes, and how much may be under way to it.
 *
 * A tap loses nothing, so a flow begins with a generous window that grows with every acknowledgement, and as long as nothing
 * is lost only the guest's own window matters. But behind the guest there may be a real link (a nested namespace, a virtual
 * machine, a tunnel), with queues that overflow and with losses that say nothing about a queue. From its first loss on a
 * flow keeps a model of the path: the highest delivery rate of the last rounds and the lowest round-trip time of the last
 * seconds. Twice their product may be under way, as long as fewer than a fifth of the bytes get lost; the idea is BBR's
 * (Cardwell et al., 2016: "BBR: Congestion-Based Congestion Control"), and so is the end of the start: three rounds that
 * brought little more than those before, or a round-trip time that doubled. What is sent is paced (pace.ts), at twice the window
 * a round trip at first, a fifth above it later: the window alone bounds what is under way, pacing only spreads it.
 * A window that is halved at each loss instead would make 1 % of loss over 100 ms a hundredth of what the path carries.
 *
 * Round-trip times are taken from one segment at a time that was sent once (RFC 6298 §3, Karn's rule). Timestamps
 * (RFC 7323) are not offered: they cost 12 bytes and a look at the options in every segment, and a sample a round is enough.
 */
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as conn from './conn.ts';
import { RTO_INITIAL_MS, RTO_MAX_MS, RTO_MIN_MS } from './constants.ts';

/** What may be under way before anything is known: some hundred segments, which a queue of usual length holds. */
export const WINDOW_INITIAL = 256 * 1024;
/** Far above every window of a guest. */
const WINDOW_LIMIT = 1 << 28;
/** After a time-out (RFC 5681 §3.1 "loss window"), but at least two segments. */
const WINDOW_LOSS = 16 * 1024;
/** What is under way beyond the model's product: superframes do not come evenly. */
const HEADROOM = 65_536;
/** Round trips below this are those of the tap and of a guest that was not scheduled: there the model has little to go by. */
const TAP_RTT_US = 2000;
const SEGMENTS_MIN = 10;
/** Rounds after which a delivery rate, and time after which a round-trip time, is that of another path. */
const ROUNDS = 10;
const MIN_RTT_US = 10_000_000;
/** A round in which less was delivered and lost says nothing of the path's losses. */
const JUDGED_SEGMENTS = 50;
const LOSS_MAX = 0.2;

const TIMING = 1;
const MODEL = 2;
/** Something other than our window kept us from sending in this round. */
const LIMITED = 4;
/** For one round the queues on the path are let run empty, so that its round-trip time shows. */
const DRAINING = 8;
/** The path is full: its rate did not grow any more. */
const FULL = 16;
/** BBR's start-up ends when that many rounds brought less than that much more. */
const FULL_ROUNDS_MAX = 3;
const FULL_GROWTH = 1.25;
/** So does it when the round-trip time tells of a queue as long as the path, and that is not the guest's scheduler. */
const QUEUED = 2;
const QUEUED_US = 4000;
/** How much faster than a window a round trip we send: while the window doubles, and later (those of Linux). */
const GAIN_STARTUP = 2;
const GAIN = 1.2;

const FLAGS = new Uint8Array(FLOW_MAX);
const WINDOW = new Int32Array(FLOW_MAX);
const TARGET = new Int32Array(FLOW_MAX);
const SRTT_US = new Int32Array(FLOW_MAX);
const RTTVAR_US = new Int32Array(FLOW_MAX);
// Lowest of the last period and of the present one; 0: none.
const MIN_US = new Int32Array(FLOW_MAX);
const MIN_NEXT_US = new Int32Array(FLOW_MAX);
const MIN_SINCE_US = new Int32Array(FLOW_MAX);
// Bytes per µs, the highest of the last rounds and of the present ones.
const RATE = new Float32Array(FLOW_MAX);
const RATE_NEXT = new Float32Array(FLOW_MAX);
const RATE_ROUNDS = new Uint8Array(FLOW_MAX);
/** The rate that start-up compares with, and the rounds that brought little more. */
const FULL_RATE = new Float32Array(FLOW_MAX);
const FULL_ROUNDS = new Uint8Array(FLOW_MAX);
/** The last round-trip time. */
const RTT_US = new Int32Array(FLOW_MAX);
/** Bytes that reached the guest, and bytes held for lost, modulo 2^32. */
const DELIVERED = new Int32Array(FLOW_MAX);
const LOST = new Int32Array(FLOW_MAX);
// The round: it ends when the guest has everything before TIMED_SEQ, which was sent at TIMED_US.
const TIMED_SEQ = new Int32Array(FLOW_MAX);
const TIMED_US = new Int32Array(FLOW_MAX);
// Rates are taken from the end of one round to that of the next: acknowledgements come in clumps, and most of a clump
// comes before the next round's first segment is sent.
const ROUND_US = new Int32Array(FLOW_MAX);
const ROUND_DELIVERED = new Int32Array(FLOW_MAX);
const ROUND_LOST = new Int32Array(FLOW_MAX);

export const nowUs = (): number => (io.nowMs() * 1000) | 0;

/** A fresh record: nothing of the row's last flow stays. */
export const reset = (f: Flow): void => {
  FLAGS[f] = 0;
  WINDOW[f] = WINDOW_INITIAL;
  TARGET[f] = 0;
  RTT_US[f] = 0;
  SRTT_US[f] = 0;
  RTTVAR_US[f] = 0;
  MIN_SINCE_US[f] = 0;
  DELIVERED[f] = 0;
  LOST[f] = 0;
  TIMED_SEQ[f] = 0;
  TIMED_US[f] = 0;
  ROUND_US[f] = 0;
  ROUND_DELIVERED[f] = 0;
  ROUND_LOST[f] = 0;
  MIN_US[f] = 0;
  MIN_NEXT_US[f] = 0;
  RATE[f] = 0;
  RATE_NEXT[f] = 0;
  RATE_ROUNDS[f] = 0;
  FULL_RATE[f] = 0;
  FULL_ROUNDS[f] = 0;
};

/** Bytes that may be under way. */
export const window = (f: Flow): number => WINDOW[f] as number;
/** Smoothed round-trip time, µs; 0: not known. */
export const srttUs = (f: Flow): number => SRTT_US[f] as number;
/** Lowest round-trip time of the last seconds, µs; 0: not known. */
export const leastRttUs = (f: Flow): number => {
  const a = MIN_US[f] as number;
  const b = MIN_NEXT_US[f] as number;
  return a === 0 ? b : b === 0 ? a : Math.min(a, b);
};
/** Whether the guest's round trips are those of a link, not of the tap. */
export const hasLink = (f: Flow): boolean => leastRttUs(f) > TAP_RTT_US;
/** Bytes a millisecond to send at; 0: as fast as it goes, for there is no link behind the tap. */
export const rate = (f: Flow): number => {
  if (!hasLink(f)) return 0;
  const gain = ((FLAGS[f] as number) & FULL) !== 0 ? GAIN : GAIN_STARTUP;
  return (gain * 1000 * (WINDOW[f] as number)) / Math.min(SRTT_US[f] as number, RTT_US[f] as number);
};
/** How long an answer to what is sent now may take without something being wrong, µs. */
export const patienceUs = (f: Flow): number => {
  const srtt = SRTT_US[f] as number;
  return srtt + Math.max(srtt >> 2, 2 * (RTTVAR_US[f] as number), 4000);
};
/** Retransmission time-out after `retries` of them in a row, ms (RFC 6298 §2, §5.5; the floor is on the variance, as in Linux). */
export const rtoMs = (f: Flow, retries: number): number => {
  const srtt = SRTT_US[f] as number;
  const first =
    srtt === 0 ? RTO_INITIAL_MS : Math.round((srtt + Math.max(4 * (RTTVAR_US[f] as number), RTO_MIN_MS * 1000)) / 1000);
  return Math.min(first * 2 ** retries, RTO_MAX_MS);
};

/** New data up to `seq` goes out, `quiet`: with nothing under way before. It is timed unless something is already. */
export const sent = (f: Flow, seq: number, quiet: boolean): void => {
  if (((FLAGS[f] as number) & TIMING) !== 0) return;
  FLAGS[f] = ((FLAGS[f] as number) & ~LIMITED) | TIMING;
  TIMED_SEQ[f] = seq;
  TIMED_US[f] = nowUs();
  if (quiet) beginRound(f, TIMED_US[f] as number);
};
const beginRound = (f: Flow, us: number): void => {
  ROUND_US[f] = us;
  ROUND_DELIVERED[f] = DELIVERED[f] as number;
  ROUND_LOST[f] = LOST[f] as number;
};
/** Bytes [from, to) go out again: what comes in answer to them says nothing about time. */
export const sentAgain = (f: Flow, from: number, to: number): void => {
  if (((FLAGS[f] as number) & TIMING) === 0) return;
  const timed = ((TIMED_SEQ[f] as number) - 1) | 0;
  if (((timed - from) | 0) >= 0 && ((timed - to) | 0) < 0) FLAGS[f] = (FLAGS[f] as number) & ~TIMING;
};
/** There was nothing more to send, or the guest's window was full: the round says little about the path. */
export const limited = (f: Flow): void => {
  FLAGS[f] = (FLAGS[f] as number) | LIMITED;
};

/** The guest has `bytes` more, all before `upTo`. */
export const delivered = (f: Flow, bytes: number, upTo: number): void => {
  DELIVERED[f] = ((DELIVERED[f] as number) + bytes) | 0;
  const flags = FLAGS[f] as number;
  const w = WINDOW[f] as number;
  const most = (flags & MODEL) !== 0 ? (TARGET[f] as number) : WINDOW_LIMIT;
  WINDOW[f] = Math.min(w + bytes, most);
  if ((flags & TIMING) !== 0 && ((upTo - (TIMED_SEQ[f] as number)) | 0) >= 0) roundEnds(f);
};

const roundEnds = (f: Flow): void => {
  const now = nowUs();
  const rtt = Math.max((now - (TIMED_US[f] as number)) | 0, 1);
  const flags = FLAGS[f] as number;
  FLAGS[f] = flags & ~(TIMING | DRAINING);
  RTT_US[f] = rtt;
  const srtt = SRTT_US[f] as number;
  if (srtt === 0) {
    SRTT_US[f] = rtt;
    RTTVAR_US[f] = rtt >> 1;
    MIN_SINCE_US[f] = now;
  } else {
    const variance = RTTVAR_US[f] as number;
    RTTVAR_US[f] = variance + ((Math.abs(srtt - rtt) - variance) >> 2);
    SRTT_US[f] = Math.max(srtt + ((rtt - srtt) >> 3), 1);
  }
  const least = MIN_NEXT_US[f] as number;
  if (least === 0 || rtt < least) MIN_NEXT_US[f] = rtt;
  if (((now - (MIN_SINCE_US[f] as number)) | 0) > MIN_RTT_US) {
    MIN_US[f] = MIN_NEXT_US[f] as number;
    MIN_NEXT_US[f] = 0;
    MIN_SINCE_US[f] = now;
    FLAGS[f] = (FLAGS[f] as number) | DRAINING;
  }
  const bytes = ((DELIVERED[f] as number) - (ROUND_DELIVERED[f] as number)) | 0;
  const lost = ((LOST[f] as number) - (ROUND_LOST[f] as number)) | 0;
  const rate = bytes / Math.max((now - (ROUND_US[f] as number)) | 0, rtt);
  beginRound(f, now);
  if (rate > (RATE_NEXT[f] as number)) RATE_NEXT[f] = rate;
  if ((flags & LIMITED) === 0) {
    const rounds = (RATE_ROUNDS[f] as number) + 1;
    RATE_ROUNDS[f] = rounds === ROUNDS ? 0 : rounds;
    if (rounds === ROUNDS) {
      RATE[f] = RATE_NEXT[f] as number;
      RATE_NEXT[f] = 0;
    }
  }
  if ((flags & FULL) === 0 && hasLink(f)) startUp(f, rate, rtt);
  if (((FLAGS[f] as number) & MODEL) === 0) return;
  if (lost + bytes > JUDGED_SEGMENTS * conn.mss(f) && lost > LOSS_MAX * (lost + bytes)) {
    RATE[f] = rate;
    RATE_NEXT[f] = rate;
  }
  model(f);
};

/** Whether the path is full: then the model bounds the window, before a queue overflows. */
const startUp = (f: Flow, rate: number, rtt: number): void => {
  const queued = rtt > QUEUED * leastRttUs(f) + QUEUED_US;
  if (!queued && ((FLAGS[f] as number) & LIMITED) !== 0) return;
  if (!queued && rate >= FULL_GROWTH * (FULL_RATE[f] as number)) {
    FULL_RATE[f] = rate;
    FULL_ROUNDS[f] = 0;
    return;
  }
  FULL_ROUNDS[f] = (FULL_ROUNDS[f] as number) + 1;
  if (queued || FULL_ROUNDS[f] === FULL_ROUNDS_MAX) FLAGS[f] = (FLAGS[f] as number) | FULL | MODEL;
};

/** What the model allows. */
const model = (f: Flow): void => {
  const rtt = leastRttUs(f);
  const gain = ((FLAGS[f] as number) & DRAINING) !== 0 ? 0.5 : 2;
  const product = gain * Math.max(RATE[f] as number, RATE_NEXT[f] as number) * rtt;
  const headroom = rtt < TAP_RTT_US ? WINDOW_INITIAL : HEADROOM;
  TARGET[f] = Math.min(Math.max(product + headroom, SEGMENTS_MIN * conn.mss(f)), WINDOW_LIMIT);
  if ((WINDOW[f] as number) > (TARGET[f] as number)) WINDOW[f] = TARGET[f] as number;
};

/** `bytes` more are held for lost. */
export const lost = (f: Flow, bytes: number): void => {
  LOST[f] = ((LOST[f] as number) + bytes) | 0;
  if (((FLAGS[f] as number) & MODEL) !== 0) return;
  FLAGS[f] = (FLAGS[f] as number) | MODEL;
  // Before there is a finished round there is nothing to go by but what was allowed so far.
  if (leastRttUs(f) === 0) TARGET[f] = WINDOW_INITIAL;
  else model(f);
  if ((TARGET[f] as number) < WINDOW_INITIAL) TARGET[f] = WINDOW_INITIAL;
};

/** Nothing came for a whole time-out. */
export const timedOut = (f: Flow): void => {
  WINDOW[f] = Math.max(2 * conn.mss(f), WINDOW_LOSS);
  FLAGS[f] = (FLAGS[f] as number) & ~TIMING;
  if ((TARGET[f] as number) === 0) TARGET[f] = WINDOW_INITIAL;
};
