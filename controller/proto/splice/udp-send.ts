// SPDX-License-Identifier: Apache-2.0
/**
 * Datagrams from one socket to another one of the same loopback or host. Those of one size leave in one write with UDP_SEGMENT,
 * the last one may be shorter: the kernel cuts where they were cut before. UDP_GRO may have joined them already.
 */
import { IOV_MAX_BATCH } from '../../../shared/abi.ts';
import { writevRanges } from '../../flow/writev.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';

/** UDP_MAX_SEGMENTS of kernels before 6.10. */
const SEGMENTS_MAX = 64;
/** Of one write: the kernel makes one packet of it before it cuts. */
const WRITE_BYTES_MAX = 65_507;
const EAGAIN = 11;
const EINVAL = 22;
const EIO = 5;
const EMSGSIZE = 90;
const EOPNOTSUPP = 95;
const ENOBUFS = 105;

/** UDP_SEGMENT of each descriptor is what the last write left; the owner keeps it for us between calls. */
let segment = 0;
/** What is gathered: ranges, their bytes and datagrams, the size of all but the last. */
const ats = new Int32Array(IOV_MAX_BATCH);
const lens = new Int32Array(IOV_MAX_BATCH);
let ranges = 0;
let bytes = 0;
let datagrams = 0;
let unit = 0;
/** 0, or the first -errno that is more than a lost datagram. */
let failure = 0;
let socket = -1;

/** Begins a batch for `fd`, whose UDP_SEGMENT is `current`. */
export const begin = (fd: number, current: number): void => {
  socket = fd;
  segment = current;
  failure = 0;
  ranges = 0;
};
/** Writes what is left. 0, or the first -errno that means the end of the socket. */
export const finish = (): number => {
  flush();
  return failure;
};
/** The socket's UDP_SEGMENT after {@link finish}. */
export const lastSegment = (): number => segment;

const joins = (len: number, size: number): boolean =>
  ranges > 0 &&
  ranges < IOV_MAX_BATCH &&
  unit > 0 &&
  // Only the last one may be shorter, and one without data has nothing to be cut.
  bytes % unit === 0 &&
  len > 0 &&
  (size === unit || (size < unit && len <= size)) &&
  bytes + len <= WRITE_BYTES_MAX &&
  datagrams + Math.ceil(len / unit) <= SEGMENTS_MAX;

/** The `len` bytes at `at`, datagrams of `size` each but the last (`size` = `len`: one). They stay where they are until {@link finish}. */
export const append = (at: number, len: number, size: number): void => {
  if (!joins(len, size)) {
    flush();
    unit = size;
    bytes = 0;
    datagrams = 0;
  }
  ats[ranges] = at;
  lens[ranges] = len;
  ranges++;
  bytes += len;
  datagrams += size === 0 ? 1 : Math.ceil(len / unit);
};

const flush = (): void => {
  const n = ranges;
  ranges = 0;
  if (n === 0 || failure !== 0) return;
  if (datagrams > 1) {
    if (datagrams <= SEGMENTS_MAX && segmented(n)) return;
    for (let i = 0; i < n; i++) singles(ats[i] as number, lens[i] as number);
    return;
  }
  single(ats[0] as number, lens[0] as number);
};

const setSegment = (size: number): void => {
  if (segment === size) return;
  io.native.udpSegment(socket, size);
  segment = size;
};

/** Whether nothing is left to do for these datagrams. */
const segmented = (n: number): boolean => {
  setSegment(unit);
  const r = writevRanges(socket, ats, lens, n);
  if (r >= 0) return true;
  if (r === -EINVAL || r === -EMSGSIZE || r === -EIO || r === -EOPNOTSUPP) return false;
  note(r, datagrams);
  return true;
};

const singles = (at: number, len: number): void => {
  for (let offset = 0; offset < len && failure === 0; offset += unit) single(at + offset, Math.min(unit, len - offset));
};
const single = (at: number, len: number): void => {
  if (len > segment) setSegment(0);
  const r = io.native.write(socket, at, len);
  if (r < 0) note(r, 1);
};

const note = (r: number, lost: number): void => {
  const full = r === -EAGAIN || r === -ENOBUFS;
  for (let i = 0; i < lost; i++) drop(full ? DROP['sock-full'] : DROP['sock-error']);
  if (!full && r !== -EMSGSIZE) failure = r;
};
