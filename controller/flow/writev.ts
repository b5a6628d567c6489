// SPDX-License-Identifier: Apache-2.0
/** One write of several ranges of the arena, by whoever is not the owner of the addon's columns for that (proto/tcp gathers there over a batch). */
import { IOV_MAX_BATCH } from '../../shared/abi.ts';
import * as io from '../io/io.ts';

/** What the owner had there. */
const savedAts = new Int32Array(IOV_MAX_BATCH);
const savedLens = new Int32Array(IOV_MAX_BATCH);

/** Writes the first `n` of the ranges, IOV_MAX_BATCH at most, to `fd`. Bytes or -errno. */
export const writevRanges = (fd: number, ats: Int32Array, lens: Int32Array, n: number): number => {
  if (n === 1) return io.native.write(fd, ats[0] as number, lens[0] as number);
  const { col, COL } = io;
  for (let i = 0; i < n; i++) {
    savedAts[i] = col[COL.IOV_AT + i] as number;
    savedLens[i] = col[COL.IOV_LEN + i] as number;
    col[COL.IOV_AT + i] = ats[i] as number;
    col[COL.IOV_LEN + i] = lens[i] as number;
  }
  const r = io.native.writev(fd, n);
  for (let i = 0; i < n; i++) {
    col[COL.IOV_AT + i] = savedAts[i] as number;
    col[COL.IOV_LEN + i] = savedLens[i] as number;
  }
  return r;
};
