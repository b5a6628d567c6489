// SPDX-License-Identifier: Apache-2.0
/**
 * How much of the peer's data the socket takes before the guest has acknowledged it.
 *
 * What is under way to the guest lies in the socket's queue. The kernel sizes that queue by what is read within one round
 * trip to the peer, and for a guest behind a long link that says nothing: the peer may be a hundred times nearer, the queue
 * stays small, and the link idle. A low-water mark for reading (SO_RCVLOWAT, tcp(7)) makes the kernel give as much room
 * as it takes to reach it, within tcp_rmem's limit; SO_RCVBUF is bounded by rmem_max, often less than the kernel's
 * own choice, and would end the kernel's sizing. The mark itself is taken back at once.
 */

import * as flows from '../../flow/table.ts';
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';

const SOL_SOCKET = 1;
const SO_RCVLOWAT = 18;
/** More than Linux's default tcp_rmem lets a socket have; where more is allowed, the kernel goes on by itself from there. */
const ROOM_MAX = 8 * 1024 * 1024;
const ROOM_MIN = 256 * 1024;

/** What was asked for last, as a power of two: one call each time that it doubles. */
const ASKED_LOG2 = new Uint8Array(FLOW_MAX);

export const reset = (f: Flow): void => {
  ASKED_LOG2[f] = 0;
};

/** What may be under way grew, perhaps. The room is twice that: what was acknowledged leaves the queue late, and what comes next is there in time. */
export const follow = (f: Flow): void => {
  if (!congestion.hasLink(f)) return;
  const wanted = Math.min(2 * Math.min(congestion.window(f), conn.wndFromTap(f)), ROOM_MAX);
  const log2 = 31 - Math.clz32(Math.max(wanted, ROOM_MIN));
  if (log2 <= (ASKED_LOG2[f] as number)) return;
  ASKED_LOG2[f] = log2;
  io.native.setsockopt(flows.fd(f), SOL_SOCKET, SO_RCVLOWAT, 2 ** log2);
  io.native.setsockopt(flows.fd(f), SOL_SOCKET, SO_RCVLOWAT, 1);
};
