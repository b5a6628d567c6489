// SPDX-License-Identifier: Apache-2.0
/**
 * Capture file of the frames on the tap: classic pcap, microseconds, Ethernet (the virtio-net header is left out), in the
 * byte order of the machine as the magic number tells readers. Frames larger than the MTU are segments that the kernel cuts
 * later; they are written whole.
 */
import { writeSync } from 'node:fs';
import { endianness } from 'node:os';

const LE = endianness() === 'LE';
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const LINKTYPE_ETHERNET = 1;
/** MAXIMUM_SNAPLEN of libpcap: readers refuse more, and no frame comes near. */
const SNAPLEN = 262_144;
const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const BUFFER_BYTES = 1024 * 1024;
const US_PER_SECOND = 1_000_000;

let fd = -1;
let source: Buffer = Buffer.alloc(0);
let buffer: Buffer = Buffer.alloc(0);
let view = new DataView(buffer.buffer, buffer.byteOffset, 0);
let used = 0;
/** Wall clock at monotonic 0, in milliseconds; NaN until that is known. */
let epochMs = Number.NaN;
let failed: ((reason: string) => void) | null = null;

/** Writes what is buffered; at the end of a turn, and at exit. After a failure nothing more is captured. */
export const flush = (): void => {
  for (let done = 0; done < used && fd >= 0; ) {
    try {
      /* #syscalls:controller write — pcap records */
      done += writeSync(fd, buffer, done, used - done);
    } catch (error) {
      fd = -1;
      failed?.((error as Error).message);
    }
  }
  used = 0;
};

/**
 * Starts capturing into `captureFd` (empty, write-only). `arena` holds the frames; `monotonicMs` is the present time on the
 * clock of {@link frame}, or 0 before that clock's first reading (then the first frame sets it); `onFailure` gets one sentence if writing fails later. Throws if the header cannot be written.
 */
export const open = (
  captureFd: number,
  arena: ArrayBuffer,
  monotonicMs: number,
  onFailure: (reason: string) => void,
): void => {
  source = Buffer.from(arena);
  buffer = Buffer.alloc(BUFFER_BYTES);
  view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
  epochMs = monotonicMs === 0 ? Number.NaN : Date.now() - monotonicMs;
  used = 0;
  view.setUint32(0, MAGIC_MICROSECONDS, LE);
  view.setUint16(4, 2, LE);
  view.setUint16(6, 4, LE);
  view.setUint32(16, SNAPLEN, LE);
  view.setUint32(20, LINKTYPE_ETHERNET, LE);
  writeSync(captureFd, buffer, 0, FILE_HEADER_BYTES);
  fd = captureFd;
  failed = onFailure;
};

/** One Ethernet frame, `len` bytes at `at` of the arena, seen at `nowMs`. Does nothing unless open. */
export const frame = (at: number, len: number, nowMs: number): void => {
  if (fd < 0) return;
  if (used + RECORD_HEADER_BYTES + len > BUFFER_BYTES) flush();
  if (Number.isNaN(epochMs)) epochMs = Date.now() - nowMs;
  const us = Math.floor((epochMs + nowMs) * 1000);
  view.setUint32(used, Math.floor(us / US_PER_SECOND), LE);
  view.setUint32(used + 4, us % US_PER_SECOND, LE);
  view.setUint32(used + 8, len, LE);
  view.setUint32(used + 12, len, LE);
  source.copy(buffer, used + RECORD_HEADER_BYTES, at, at + len);
  used += RECORD_HEADER_BYTES + len;
};
