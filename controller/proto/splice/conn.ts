// SPDX-License-Identifier: Apache-2.0
/** The record of a spliced connection, in columns over the flow table's rows; tcp.ts says what it is about. */
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';

/** Bits of a row; those of a direction or socket are shifted by its number. */
export const READABLE = 1;
export const BLOCKED = 4;
/** End of file came and was passed on. */
export const ENDED = 16;
/** The socket failed, and what it had sent before is still on its way. */
export const FAILED = 64;
/** Both sockets are watched. */
export const OPEN = 256;
/** In the list of rows that used up their budget. */
export const READY = 512;
/** One socket failed, and the other one's peer is reset as soon as it has everything: socket 0, or socket 1. */
export const PARTING = 1024;
/** The socket is watched for room, too. */
export const ROOM = 4096;
/** The row is on its way out, whichever socket it was. */
export const ENDING = FAILED | (FAILED << 1) | PARTING | (PARTING << 1);
/** Urgent data was reported. */
export const URGENT = 16384;
/** The peer has sent its end of file: what there is to read is the last. */
export const LAST = 65_536;
/** What goes to the socket is not paced. */
export const UNPACED = 262_144;

const bits = new Uint32Array(flows.FLOW_MAX);
/** Descriptor + 1 of socket 1. */
const seconds = new Int32Array(flows.FLOW_MAX);
/** Two a row, one a direction: the pipe's ends + 1, and the bytes in it. */
export const outs = new Int32Array(flows.FLOW_MAX * 2);
export const intos = new Int32Array(flows.FLOW_MAX * 2);
export const held = new Int32Array(flows.FLOW_MAX * 2);

export const has = (f: Flow, bit: number): boolean => ((bits[f] as number) & bit) !== 0;
export const add = (f: Flow, bit: number): void => {
  bits[f] = (bits[f] as number) | bit;
};
export const clear = (f: Flow, bit: number): void => {
  bits[f] = (bits[f] as number) & ~bit;
};
/** The descriptor of socket `s` of the row, -1: it has none. */
export const socket = (f: Flow, s: number): number => (s === 0 ? flows.fd(f) : (seconds[f] as number) - 1);
export const setSecond = (f: Flow, fd: number): void => {
  seconds[f] = fd + 1;
};
/** For a row that may have been used before. */
export const reset = (f: Flow): void => {
  bits[f] = 0;
  seconds[f] = 0;
  for (let at = f * 2; at < f * 2 + 2; at++) {
    outs[at] = 0;
    held[at] = 0;
  }
};
