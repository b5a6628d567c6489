// SPDX-License-Identifier: Apache-2.0
/**
 * Stream data that a socket refused: kept here, acknowledged, and written when the socket has room again.
 *
 * Why there is such a thing at all: data the socket refuses half-way would have to come again by the guest's
 * retransmission, after a timeout in the worst case, and a window that never lets the socket fill up never makes the
 * kernel grow its send buffer (tcp_sndbuf_expand runs only after SOCK_NOSPACE was set by a refused write). A little
 * room behind the socket makes us an ordinary sender: write until EAGAIN, go on at EPOLLOUT.
 *
 * Memory is bounded by the arena's region: chunks of fixed size in a free list, a linked list of chunks a flow. When
 * no chunk is free the data is not accepted, and TCP does what it always does.
 */

import { IOV_MAX_BATCH } from '../../../shared/abi.ts';
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as io from '../../io/io.ts';

export const CHUNK_BYTES = 32 * 1024;
const CHUNKS = Math.floor((io.STASH_END - io.STASH_AT) / CHUNK_BYTES);

// Chunk numbers are stored plus one, so that zero-filled columns mean "none".
const NEXT = new Int32Array(CHUNKS + 1);
const FROM = new Int32Array(CHUNKS + 1);
const TO = new Int32Array(CHUNKS + 1);
const HEAD = new Int32Array(FLOW_MAX);
const TAIL = new Int32Array(FLOW_MAX);
const BYTES = new Int32Array(FLOW_MAX);
let free = 0;
/** Chunks never used so far come after all freed ones: their pages stay untouched. */
let fresh = 1;
let inUse = 0;

export const bytes = (f: Flow): number => BYTES[f] as number;
/** Whether the pool is so full that no more credit should be announced. */
export const scarce = (): boolean => inUse > (CHUNKS * 3) / 4;
export const chunksInUse = (): number => inUse;

const take = (): number => {
  let c = free;
  if (c !== 0) free = NEXT[c] as number;
  else if (fresh <= CHUNKS) c = fresh++;
  else return 0;
  inUse++;
  NEXT[c] = 0;
  FROM[c] = 0;
  TO[c] = 0;
  return c;
};
const give = (c: number): void => {
  NEXT[c] = free;
  free = c;
  inUse--;
};
const base = (c: number): number => io.STASH_AT + (c - 1) * CHUNK_BYTES;

/** Appends a copy of arena bytes [at, at + len). Returns how many were taken. */
export const append = (f: Flow, at: number, len: number): number => {
  let taken = 0;
  while (taken < len) {
    let c = TAIL[f] as number;
    if (c === 0 || TO[c] === CHUNK_BYTES) {
      const n = take();
      if (n === 0) break;
      if (c === 0) HEAD[f] = n;
      else NEXT[c] = n;
      TAIL[f] = n;
      c = n;
    }
    const to = TO[c] as number;
    const n = Math.min(len - taken, CHUNK_BYTES - to);
    io.mem.copyWithin(base(c) + to, at + taken, at + taken + n);
    TO[c] = to + n;
    taken += n;
  }
  BYTES[f] = (BYTES[f] as number) + taken;
  return taken;
};

const shift = (f: Flow, len: number): void => {
  BYTES[f] = (BYTES[f] as number) - len;
  let left = len;
  while (left > 0) {
    const c = HEAD[f] as number;
    const have = (TO[c] as number) - (FROM[c] as number);
    if (left < have) {
      FROM[c] = (FROM[c] as number) + left;
      return;
    }
    left -= have;
    HEAD[f] = NEXT[c] as number;
    if (HEAD[f] === 0) TAIL[f] = 0;
    give(c);
  }
};

/** Writes what the socket takes. 0, or -errno of a failure other than EAGAIN. */
export const drain = (f: Flow, fd: number): number => {
  const EAGAIN = 11;
  while ((BYTES[f] as number) > 0) {
    let n = 0;
    let total = 0;
    for (let c = HEAD[f] as number; c !== 0 && n < IOV_MAX_BATCH; c = NEXT[c] as number) {
      const len = (TO[c] as number) - (FROM[c] as number);
      io.col[io.COL.IOV_AT + n] = base(c) + (FROM[c] as number);
      io.col[io.COL.IOV_LEN + n] = len;
      total += len;
      n++;
    }
    const written = io.native.writev(fd, n);
    if (written < 0) return written === -EAGAIN ? 0 : written;
    shift(f, written);
    if (written < total) return 0;
  }
  return 0;
};

/** Gives everything back without writing it. */
export const discardAll = (f: Flow): void => {
  if ((BYTES[f] as number) > 0) shift(f, BYTES[f] as number);
};
