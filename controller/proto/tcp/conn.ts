// SPDX-License-Identifier: Apache-2.0
/**
 * The TCP part of a flow's record, in columns over the flow table's rows.
 *
 * Names as RFC 9293 §3.3.1 has them, seen from our end of the connection with the guest:
 *   seqToTap      SND.NXT   next sequence number to the guest; never moves back, see recovery.ts
 *   ackFromTap    SND.UNA   acknowledged by the guest
 *   seqInSock               head of the socket's receive queue: what is acknowledged leaves it in larger portions
 *   wndFromTap    SND.WND   in bytes, scaled
 *   seqFromTap    RCV.NXT   next sequence number from the guest, all before it is in the socket or the stash
 *   edgeToTap     RCV.NXT + RCV.WND as last announced: never moved back
 * Invariants: T1 seqInSock ≤ ackFromTap ≤ seqToTap (once established); T2 seqFromTap ≤ edgeToTap (but for a FIN).
 */
import { FLOW_MAX, type Flow } from '../../flow/table.ts';

/** What has been observed, as bits; the RFC's states are derived from these for people only. */
export const SOCK_CONNECTED = 1;
export const ESTABLISHED = 2;
/** End of file was read from the socket. */
export const SOCK_FIN_RCVD = 4;
export const TAP_FIN_SENT = 8;
export const TAP_FIN_ACKED = 16;
/** The guest's FIN is in order and acknowledged. */
export const TAP_FIN_RCVD = 32;
/** shutdown(SHUT_WR) was done. */
export const SOCK_FIN_SENT = 64;
/** The socket may have more to read (its edge was seen, and no read came back short since). */
export const READABLE = 128;
/** EPOLLRDHUP was seen: a read that drains the socket will be followed by end of file. */
export const SOCK_RDHUP = 256;
/** The guest is owed an ACK at the end of this batch. */
export const ACK_DUE = 512;
/** In the list of flows to finish at the end of this batch. */
export const TOUCHED = 1024;
/** In the list of flows with more to send next turn. */
export const READY = 2048;
/** The kernel keeps the peek offset (SO_PEEK_OFF for TCP, Linux 6.9). */
export const PEEK_OFFSET = 4096;
/** We opened towards the guest (inbound.ts), and it has not answered: RFC 9293's SYN-SENT. */
export const SYN_SENT = 8192;
/** Data is being sent again; until the guest has more than was sent before that, its duplicate ACKs say nothing. */
export const RECOVERING = 16384;
/** Both ends permit selective acknowledgements (RFC 2018). */
export const SACK = 0x8000;
/** A tail probe went out and nothing new was acknowledged since. */
export const PROBED = 0x1_0000;
/** The guest's FIN came, but something before it is missing. */
export const TAP_FIN_WAITS = 0x2_0000;
/** The peer sent urgent data: a read may end at its mark, though there is more. */
export const URGENT = 0x4_0000;
/** The guest is gone by a reset, which the peer gets behind what was sent before (part.ts). */
export const PARTING = 0x8_0000;
/** The last burst to the guest was a large one. */
export const BULK = 0x10_0000;

const EVENT_NAMES: readonly (readonly [number, string])[] = [
  [SOCK_CONNECTED, 'sock-connected'],
  [SYN_SENT, 'syn-sent'],
  [ESTABLISHED, 'established'],
  [SOCK_FIN_RCVD, 'sock-fin-rcvd'],
  [TAP_FIN_SENT, 'tap-fin-sent'],
  [TAP_FIN_ACKED, 'tap-fin-acked'],
  [TAP_FIN_RCVD, 'tap-fin-rcvd'],
  [SOCK_FIN_SENT, 'sock-fin-sent'],
];
/** For logs. */
export const eventNames = (f: Flow): string =>
  EVENT_NAMES.filter(([bit]) => (events(f) & bit) !== 0)
    .map(([, name]) => name)
    .join(',') || 'connecting';

const EVENTS = new Int32Array(FLOW_MAX);
const SEQ_TO_TAP = new Int32Array(FLOW_MAX);
const SEQ_IN_SOCK = new Int32Array(FLOW_MAX);
const PEEK_SEQ = new Int32Array(FLOW_MAX);
const ACK_FROM_TAP = new Int32Array(FLOW_MAX);
const WND_FROM_TAP = new Int32Array(FLOW_MAX);
const SEQ_FROM_TAP = new Int32Array(FLOW_MAX);
const EDGE_TO_TAP = new Int32Array(FLOW_MAX);
const MSS = new Uint16Array(FLOW_MAX);
const SCALE_FROM_TAP = new Uint8Array(FLOW_MAX);
const SCALE_TO_TAP = new Uint8Array(FLOW_MAX);
/** RFC 6582 §3.2 "recover", plus one: SND.NXT when the last retransmission began. */
const RECOVER = new Int32Array(FLOW_MAX);
const DUP_ACKS = new Uint8Array(FLOW_MAX);
const RETRIES = new Uint8Array(FLOW_MAX);
const PROBES = new Uint8Array(FLOW_MAX);
const SEQ_OF_WINDOW = new Int32Array(FLOW_MAX);
const FIN_FROM_TAP = new Int32Array(FLOW_MAX);
/** Sum of the pseudo-header without the length, 16 bits folded. */
const PSEUDO = new Uint16Array(FLOW_MAX);
/** Milliseconds of the loop's clock, int32: last time the guest acknowledged something new (or we sent first). */
const PROGRESS_MS = new Int32Array(FLOW_MAX);

export const events = (f: Flow): number => EVENTS[f] as number;
export const has = (f: Flow, bits: number): boolean => ((EVENTS[f] as number) & bits) !== 0;
export const hasAll = (f: Flow, bits: number): boolean => ((EVENTS[f] as number) & bits) === bits;
export const add = (f: Flow, bits: number): void => {
  EVENTS[f] = (EVENTS[f] as number) | bits;
};
export const clear = (f: Flow, bits: number): void => {
  EVENTS[f] = (EVENTS[f] as number) & ~bits;
};

export const seqToTap = (f: Flow): number => SEQ_TO_TAP[f] as number;
export const setSeqToTap = (f: Flow, s: number): void => {
  SEQ_TO_TAP[f] = s;
};
export const seqInSock = (f: Flow): number => SEQ_IN_SOCK[f] as number;
export const setSeqInSock = (f: Flow, s: number): void => {
  SEQ_IN_SOCK[f] = s;
};
/** Where the kernel's peek offset points, if it keeps one. */
export const peekSeq = (f: Flow): number => PEEK_SEQ[f] as number;
export const setPeekSeq = (f: Flow, s: number): void => {
  PEEK_SEQ[f] = s;
};
/** RFC 9293 §3.3.1 SND.WL1: sequence number of the segment that the window was taken from. */
export const seqOfWindow = (f: Flow): number => SEQ_OF_WINDOW[f] as number;
export const setSeqOfWindow = (f: Flow, s: number): void => {
  SEQ_OF_WINDOW[f] = s;
};
/** Sequence number of a FIN that waits for what is before it. */
export const finFromTap = (f: Flow): number => FIN_FROM_TAP[f] as number;
export const setFinFromTap = (f: Flow, s: number): void => {
  FIN_FROM_TAP[f] = s;
};
export const ackFromTap = (f: Flow): number => ACK_FROM_TAP[f] as number;
export const setAckFromTap = (f: Flow, s: number): void => {
  ACK_FROM_TAP[f] = s;
};
export const wndFromTap = (f: Flow): number => WND_FROM_TAP[f] as number;
export const setWndFromTap = (f: Flow, bytes: number): void => {
  WND_FROM_TAP[f] = bytes;
  if (bytes > (WND_MAX_FROM_TAP[f] as number)) WND_MAX_FROM_TAP[f] = bytes;
};
export const seqFromTap = (f: Flow): number => SEQ_FROM_TAP[f] as number;
export const setSeqFromTap = (f: Flow, s: number): void => {
  SEQ_FROM_TAP[f] = s;
};
export const edgeToTap = (f: Flow): number => EDGE_TO_TAP[f] as number;
export const setEdgeToTap = (f: Flow, s: number): void => {
  EDGE_TO_TAP[f] = s;
};
/** Largest payload of one segment to the guest, bytes. */
export const mss = (f: Flow): number => MSS[f] as number;
export const setMss = (f: Flow, n: number): void => {
  MSS[f] = n;
};
export const scaleFromTap = (f: Flow): number => SCALE_FROM_TAP[f] as number;
export const scaleToTap = (f: Flow): number => SCALE_TO_TAP[f] as number;
export const setScales = (f: Flow, fromTap: number, toTap: number): void => {
  SCALE_FROM_TAP[f] = fromTap;
  SCALE_TO_TAP[f] = toTap;
};
export const recover = (f: Flow): number => RECOVER[f] as number;
export const setRecover = (f: Flow, s: number): void => {
  RECOVER[f] = s;
};
export const dupAcks = (f: Flow): number => DUP_ACKS[f] as number;
export const setDupAcks = (f: Flow, n: number): void => {
  DUP_ACKS[f] = n;
};
export const retries = (f: Flow): number => RETRIES[f] as number;
export const setRetries = (f: Flow, n: number): void => {
  RETRIES[f] = n;
};
/** Tail probes since the guest last acknowledged something. */
export const probes = (f: Flow): number => PROBES[f] as number;
export const setProbes = (f: Flow, n: number): void => {
  PROBES[f] = n;
};
export const pseudo = (f: Flow): number => PSEUDO[f] as number;
export const setPseudo = (f: Flow, sum: number): void => {
  PSEUDO[f] = sum;
};
export const progressMs = (f: Flow): number => PROGRESS_MS[f] as number;
export const setProgressMs = (f: Flow, ms: number): void => {
  PROGRESS_MS[f] = ms;
};

/** Bytes sent and not acknowledged, SYN and FIN counted. */
export const inFlight = (f: Flow): number => ((SEQ_TO_TAP[f] as number) - (ACK_FROM_TAP[f] as number)) | 0;

/** The largest window the guest ever offered, bytes (MAX.SND.WND of RFC 5961 §5.2). */
const WND_MAX_FROM_TAP = new Int32Array(FLOW_MAX);
export const wndMaxFromTap = (f: Flow): number => WND_MAX_FROM_TAP[f] as number;

/** A fresh record for a row that may have been used before. */
export const reset = (f: Flow): void => {
  EVENTS[f] = 0;
  RECOVER[f] = 0;
  FIN_FROM_TAP[f] = 0;
  DUP_ACKS[f] = 0;
  RETRIES[f] = 0;
  PROBES[f] = 0;
  WND_FROM_TAP[f] = 0;
  WND_MAX_FROM_TAP[f] = 0;
};
