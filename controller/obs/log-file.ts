// SPDX-License-Identifier: Apache-2.0
/**
 * A log file that stays below a size: when it is full, its oldest 30 % go, whole lines only, and the header says so. It works
 * through one read-write descriptor without O_APPEND (an append-only one would ignore the positions), because nothing can be
 * opened or renamed once sealed.
 */
import { ftruncateSync, readSync, writeSync } from 'node:fs';

/** Share of the limit that is freed at once: rarely enough to be cheap, little enough to keep history. */
const CUT_SHARE = 0.3;
/** What is moved at a time; also the longest line that is looked for at the cut. */
const CHUNK_BYTES = 16 * 1024;
const NEWLINE = 0x0a;
/** A full disk is tried again after this: a shorter line that happens to fit is no room. */
const RETRY_S = 1;

const pread64 = (fd: number, bytes: Uint8Array, length: number, position: number): number =>
  /* #syscalls:controller pread64 — the younger part of a full log file, to be kept */
  readSync(fd, bytes, 0, length, position);

const pwrite64 = (fd: number, bytes: Uint8Array, length: number, position: number): void => {
  for (let done = 0; done < length; ) {
    /* #syscalls:controller pwrite64 — lines of the log file */
    done += writeSync(fd, bytes, done, length - done, position + done);
  }
};

export interface LogFile {
  /** Appends one line, given without its newline. A full disk does not end the network: the next line that fits says how many did not. */
  readonly append: (line: string, stamp: string) => void;
}

/**
 * Starts at the beginning of `fd` with `header` as its first line. `limit` in bytes; header and lines together stay below it.
 * `stamp`, given with each line, is its time in seconds, which the header shows after a cut.
 */
export const openLogFile = (fd: number, limit: number, header: string): LogFile => {
  const chunk = new Uint8Array(CHUNK_BYTES);
  let length = 0;

  const put = (text: string): void => {
    const bytes = Buffer.from(`${text}\n`);
    pwrite64(fd, bytes, bytes.length, length);
    length += bytes.length;
  };

  /** Start of the first line at or after `position`; the end of the file if there is none near. */
  const lineStart = (position: number): number => {
    const n = pread64(fd, chunk, Math.min(CHUNK_BYTES, length - position), position);
    const newline = chunk.subarray(0, n).indexOf(NEWLINE);
    return newline < 0 ? length : position + newline + 1;
  };

  const cut = (stamp: string): void => {
    const kept = lineStart(Math.min(length, Math.ceil(limit * CUT_SHARE)));
    const end = length;
    const first = Buffer.from(`${header} - log truncated at ${stamp}\n`);
    let to = first.length;
    // Towards the beginning, so what is read has not been overwritten yet: the cut frees more than a header.
    for (let from = kept; from < end; ) {
      const n = pread64(fd, chunk, Math.min(CHUNK_BYTES, end - from), from);
      if (n === 0) break;
      pwrite64(fd, chunk, n, to);
      from += n;
      to += n;
    }
    pwrite64(fd, first, first.length, 0);
    /* #syscalls:controller ftruncate — what the cut of a full log file freed */
    ftruncateSync(fd, to);
    length = to;
  };

  let lost = 0;
  /** Why the last one was lost, and when it was tried. */
  let reason = '';
  let triedS = 0;

  /** False: not written. What a part of it has put behind `length` is written over by the next. */
  const attempt = (line: string, stamp: string): boolean => {
    try {
      if (length + Buffer.byteLength(line) + 1 > limit) cut(stamp);
      put(line);
      return true;
    } catch (error) {
      reason = (error as Error).message;
      triedS = Number(stamp);
      return false;
    }
  };

  attempt(header, '');
  return {
    append: (line, stamp) => {
      const isDue = lost > 0 && Number(stamp) - triedS >= RETRY_S;
      if (isDue && attempt(`${stamp}: WARNING: Lines lost: ${lost} (${reason})`, stamp)) lost = 0;
      if (lost > 0 || !attempt(line, stamp)) lost++;
    },
  };
};
