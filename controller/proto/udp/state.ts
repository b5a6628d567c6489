// SPDX-License-Identifier: Apache-2.0
/** What is known of a UDP flow beyond its row: columns, zero for a new flow. */
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as asked from './asked.ts';

/** Life of a flow: its socket is asked for; it is there; the host or the helper refused it. */
export const OPENING = 0;
export const OPEN = 1;
export const REFUSED = 2;

const phases = new Uint8Array(FLOW_MAX);
const errnos = new Uint8Array(FLOW_MAX);
/** When the flow began, int32 milliseconds modulo 2^32. */
const begins = new Int32Array(FLOW_MAX);
/** What has passed: {@link ANSWERED}, {@link STREAM}. */
const passed = new Uint8Array(FLOW_MAX);
const ANSWERED = 1;
const STREAM = 2;
/** The destination is a group or broadcast. */
const GROUP = 4;
/** The peer began. */
const INBOUND = 8;
/** A socket for answers is asked for. */
const ASKED = 16;
/** Row + 1 that hears the answers to a flow to a group. */
const answersRows = new Int32Array(FLOW_MAX);
/** As in nf_conntrack: traffic both ways, and still some after that time, makes a stream of an exchange. */
const EXCHANGE_MS = 2000;
const segments = new Uint16Array(FLOW_MAX);
const segmentLimits = new Uint16Array(FLOW_MAX);
const hopLimits = new Uint8Array(FLOW_MAX);
const trafficClasses = new Uint8Array(FLOW_MAX);

/** `now`: int32 milliseconds. */
export const reset = (f: Flow, now: number): void => {
  phases[f] = OPENING;
  errnos[f] = 0;
  begins[f] = now;
  passed[f] = 0;
  answersRows[f] = 0;
  resetSocket(f);
  asked.reset(f);
};
/** The flow has another socket now: nothing is set on it. */
export const resetSocket = (f: Flow): void => {
  segments[f] = 0;
  segmentLimits[f] = 0;
  hopLimits[f] = 0;
  trafficClasses[f] = 0;
};

export const phase = (f: Flow): number => phases[f] as number;
export const setPhase = (f: Flow, phase: number): void => {
  phases[f] = phase;
};
/** Why the flow was refused. */
export const errno = (f: Flow): number => errnos[f] as number;
export const setErrno = (f: Flow, n: number): void => {
  errnos[f] = n;
};
/** The other end than the one that began sent something. */
export const setAnswered = (f: Flow): void => {
  passed[f] = (passed[f] as number) | ANSWERED;
};
export const isAnswered = (f: Flow): boolean => ((passed[f] as number) & ANSWERED) !== 0;
/** A datagram passes at `now`, int32 milliseconds. */
export const notePassing = (f: Flow, now: number): void => {
  if (((passed[f] as number) & (ANSWERED | STREAM | GROUP)) !== ANSWERED) return;
  if (((now - (begins[f] as number)) | 0) >= EXCHANGE_MS) passed[f] = (passed[f] as number) | STREAM;
};
/** More than one datagram one way or one exchange. */
export const isStream = (f: Flow): boolean => ((passed[f] as number) & STREAM) !== 0;

export const isInbound = (f: Flow): boolean => ((passed[f] as number) & INBOUND) !== 0;
export const setInbound = (f: Flow): void => {
  passed[f] = (passed[f] as number) | INBOUND;
};
export const isAsked = (f: Flow): boolean => ((passed[f] as number) & ASKED) !== 0;
export const setAsked = (f: Flow, yes: boolean): void => {
  passed[f] = yes ? (passed[f] as number) | ASKED : (passed[f] as number) & ~ASKED;
};

export const isGroup = (f: Flow): boolean => ((passed[f] as number) & GROUP) !== 0;
export const setGroup = (f: Flow): void => {
  passed[f] = (passed[f] as number) | GROUP;
};
/** The row that hears the answers to a flow to a group, or NO_FLOW. */
export const answers = (f: Flow): Flow => ((answersRows[f] as number) - 1) as Flow;
export const setAnswers = (f: Flow, row: Flow): void => {
  answersRows[f] = row + 1;
};

/** The socket's UDP_SEGMENT, 0: none. */
export const segment = (f: Flow): number => segments[f] as number;
export const setSegment = (f: Flow, n: number): void => {
  segments[f] = n;
};
/** Datagrams of this size or more cannot leave as segments (they exceed the path's MTU); 0: none was refused so far. */
export const segmentLimit = (f: Flow): number => segmentLimits[f] as number;
export const setSegmentLimit = (f: Flow, n: number): void => {
  segmentLimits[f] = n;
};
/** The socket's TTL or hop limit, 0: the host's default. */
export const hopLimit = (f: Flow): number => hopLimits[f] as number;
export const setHopLimit = (f: Flow, n: number): void => {
  hopLimits[f] = n;
};
/** The socket's TOS or traffic class. */
export const trafficClass = (f: Flow): number => trafficClasses[f] as number;
export const setTrafficClass = (f: Flow, n: number): void => {
  trafficClasses[f] = n;
};
