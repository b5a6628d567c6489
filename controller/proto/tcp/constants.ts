// SPDX-License-Identifier: Apache-2.0
/** Numbers of the TCP translation. */

// ---- Specification ----

/** RFC 9293 §3.7.1: without an MSS option from the guest, assume these. */
export const MSS_DEFAULT_4 = 536;
export const MSS_DEFAULT_6 = 1220;
/** RFC 7323 §2.3: larger shifts are taken as 14. */
export const WINDOW_SCALE_MAX = 14;
/** RFC 6298 §2.1, §2.4, §5.5: first timeout, its floor (Linux's, below the RFC's second: the tap is local) and ceiling. */
export const RTO_INITIAL_MS = 1000;
export const RTO_MIN_MS = 200;
export const RTO_MAX_MS = 120_000;
/** RFC 9293 §3.8.3 R2: Linux's tcp_retries2 and tcp_synack_retries. */
export const DATA_RETRIES_MAX = 15;
export const SYN_ACK_RETRIES_MAX = 5;
/** The same of a SYN: Linux's tcp_syn_retries, after as many at even distances as its tcp_syn_linear_timeouts says by default. */
export const SYN_RETRIES_DEFAULT = 6;
export const SYN_LINEAR_TIMEOUTS = 4;
/** RFC 5681 §3.2. */
export const DUPLICATE_ACKS = 3;
/** RFC 5382 REQ-5: silence of the whole guest for which an established connection is kept (2 hours 4 minutes). */
export const IDLE_ESTABLISHED_MS = (2 * 60 + 4) * 60_000;
/** RFC 9293 §3.6.1: twice the maximum segment lifetime, as Linux has it. */
export const TIME_WAIT_MS = 60_000;
/** RFC 5961 §7: challenge ACKs of one flow in a window of time. */
export const CHALLENGES_MAX = 10;
export const CHALLENGE_WINDOW_MS = 5000;

// ---- Implementation ----

/** Shift we announce: 65535 << 8 covers 16 MiB, more than a default tcp_wmem. */
export const OUR_WINDOW_SCALE = 8;
export const WINDOW_MAX = 0xffff << OUR_WINDOW_SCALE;
/** What a flow may leave with us when its socket is full; part of the window we announce, so that the socket is filled to the brim and the kernel sees a reason to grow it. */
export const STASH_CREDIT_BYTES = 256 * 1024;
/** The same for a guest behind a link with a long round trip, see window.ts: a quarter of all there is. */
export const STASH_CREDIT_MAX_BYTES = 8 * 1024 * 1024;
/** Most one flow sends to the guest in one go before others get their turn. */
export const BURST_BYTES = 8 * 65_536;
/**
 * What is sent to the guest in one turn, so that nobody waits long for the next one: when so much went out, only flows that
 * send little get their burst. And how much one flow sends in consecutive turns before others do: its receiver stays awake for that long.
 */
export const TURN_BYTES = 8 * 65_536;
export const RUN_BYTES = 64 * 65_536;
/** An IPv4 packet at most, also for IPv6 so that one limit serves both. */
export const PACKET_BYTES_MAX = 65_535;
/** No acceptance of guests' MSS below this (CVE-2019-11479: tiny segments as an attack on the sender). */
export const MSS_MIN = 88;
/**
 * Whether an idle guest still has its end is asked after that time, again at intervals, and taken for a no after so many
 * probes: a reset that was lost is made up for within 55 + 3 × 15 s and what is lost by looking only every 2 s.
 */
export const KEEPALIVE_IDLE_MS = 55_000;
export const KEEPALIVE_INTERVAL_MS = 15_000;
export const KEEPALIVE_PROBES_MAX = 3;
/**
 * A guest that has not sent its SYN again for that long, and twice as long as it went on before, has given up (RFC 6298 §5.5:
 * the intervals double). The host's own attempt would go on for minutes, and hold a descriptor.
 */
export const OPENING_SILENCE_MS = 10_000;
/** Connections that the helper was asked for and has not made yet; SYNs beyond them are dropped, unseen by anything else. */
export const OPENING_REQUESTS_MAX = 2048;
/** How often it is looked whether a peer has what the guest sent before its reset, and how long without anything new it may take. */
export const PARTING_MS = 10;
export const PARTING_MS_MAX = 2000;
/** An established flow may be ended for another one after that much idleness. */
export const EVICTABLE_IDLE_MS = 5 * 60_000;
/** The same of one that is not established, when descriptors are short. */
export const EVICTABLE_OPENING_MS = 1000;
