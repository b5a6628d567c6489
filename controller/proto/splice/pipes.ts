// SPDX-License-Identifier: Apache-2.0
/**
 * Pipes between the two sockets of spliced connections. A connection holds one only while there are bytes in it that the
 * receiver has no room for, so a few of them serve any number of connections, and idle ones need none.
 *
 * pipe(7): all pipes of a user together may have pipe-user-pages-soft pages (64 MiB by default); beyond that new ones are small. So only
 * the first are large, those that connections at full speed take turns with.
 */
import * as io from '../../io/io.ts';

/** Empty ones that are kept open. */
const KEPT_MAX = 32;
/** Pages of a large one hold up to 32 KiB each where the sender wrote as much at once. */
const LARGE_BYTES = 512 * 1024;
const LARGE_MAX = 32;
const SMALL_BYTES = 64 * 1024;

const keptOuts = new Int32Array(KEPT_MAX);
const keptIns = new Int32Array(KEPT_MAX);
let kept = 0;
/** Taken and not given back. */
let taken = 0;
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
  }
  taken++;
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

/** How many are in use, and how many are kept for the next use. */
export const inUse = (): number => taken;
export const spare = (): number => kept;
