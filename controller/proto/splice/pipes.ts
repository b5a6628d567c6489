// SPDX-License-Identifier: Apache-2.0
/**
 * Pipes between the two sockets of spliced connections. A connection holds one only while there are bytes in it that the
 * receiver has no room for, so a few of them serve any number of connections, and idle ones need none.
 *
 * pipe(7): all pipes of a user together may have pipe-user-pages-soft pages (64 MiB by default), and beyond that every new one of
 * that user is small. So only the first are large, those that connections at full speed take turns with, and none is
 * kept that was not used for a second: there may be many instances beside us.
 */
import * as descriptors from '../../flow/descriptors.ts';
import * as io from '../../io/io.ts';

/** Empty ones that are kept open. */
const KEPT_MAX = 16;
/**
 * Of processor time, 64 KiB cost 1.7 times as much a byte as 1 MiB (measured over loopback): a page holds up to 32 KiB where the sender
 * wrote as much at once, and the more go through in one call, the fewer wake-ups.
 */
const LARGE_BYTES = 1024 * 1024;
const LARGE_MAX = 16;
const IDLE_MS = 1000;
const EMFILE = 24;
const SMALL_BYTES = 64 * 1024;

const keptOuts = new Int32Array(KEPT_MAX);
const keptIns = new Int32Array(KEPT_MAX);
let kept = 0;
/** Taken and not given back. */
let taken = 0;
/** Monotonic milliseconds of the last use. */
let usedMs = 0;
let out = -1;
let into = -1;

/** Takes an empty pipe, whose ends {@link readEnd} and {@link writeEnd} name until the next call. 0 or -errno. */
export const take = (): number => {
  if (kept > 0) {
    kept--;
    out = keptOuts[kept] as number;
    into = keptIns[kept] as number;
  } else {
    const r = io.native.pipe(taken < LARGE_MAX ? LARGE_BYTES : SMALL_BYTES);
    if (r < 0) return r;
    out = io.col[io.COL.FD] as number;
    into = io.col[io.COL.FD + 1] as number;
    if (descriptors.isReserved(Math.max(out, into))) {
      io.native.close(out);
      io.native.close(into);
      return -EMFILE;
    }
  }
  taken++;
  usedMs = io.nowMs();
  return 0;
};
export const readEnd = (): number => out;
export const writeEnd = (): number => into;

/** Gives a pipe back that is empty again. */
export const give = (readFd: number, writeFd: number): void => {
  if (kept === KEPT_MAX) return discard(readFd, writeFd);
  taken--;
  keptOuts[kept] = readFd;
  keptIns[kept] = writeFd;
  kept++;
};

/** Gives a pipe back with what is in it. */
export const discard = (readFd: number, writeFd: number): void => {
  taken--;
  io.native.close(readFd);
  io.native.close(writeFd);
};

/** Milliseconds until {@link tick} has something to do; −1: nothing. */
export const nextDelay = (now: number): number => (kept === 0 ? -1 : Math.max(usedMs + IDLE_MS - now, 0));
/** Once a turn: closes what was kept for nothing. */
export const tick = (now: number): void => {
  if (kept === 0 || now < usedMs + IDLE_MS) return;
  while (kept > 0) {
    kept--;
    io.native.close(keptOuts[kept] as number);
    io.native.close(keptIns[kept] as number);
  }
};

/** How many are in use, and how many are kept for the next use. */
export const inUse = (): number => taken;
export const spare = (): number => kept;
