// SPDX-License-Identifier: Apache-2.0
/**
 * Frames on their way to the link. A translator reserves room, writes an Ethernet frame there, and commits it;
 * `flush` sends all committed frames, once a turn (or when the region is full).
 *
 * Before each Ethernet header lies room for the virtio-net header (12 bytes, zeroed by reserve: "no offload, complete
 * checksum"). A translator that wants offloads sets it through wire/vnet.
 */
import * as io from '../io/io.ts';
import type { Link } from './link.ts';

/** Room kept before each Ethernet header, used or not. */
export const VNET_ROOM = 12;
const ALIGN = 64;

let link: Link | null = null;
let vnetBytes = 0;
let cursor: number = io.OUT_AT;
let pending = 0;
let reserved = -1;
/** Called for each frame as it is written (pcap, --trace). */
let observer: ((at: number, len: number) => void) | null = null;

export const attach = (to: Link): void => {
  link = to;
  vnetBytes = to.sentHeaderBytes;
};
export const hasVnet = (): boolean => vnetBytes !== 0;
export const setObserver = (f: ((at: number, len: number) => void) | null): void => {
  observer = f;
};

/** Room for an Ethernet frame of up to `bytes`; returns where its Ethernet header goes. May flush. */
export const reserve = (bytes: number): number => {
  if (cursor + VNET_ROOM + bytes > io.OUT_END || pending === io.OUT_MAX) flush();
  reserved = cursor + VNET_ROOM;
  io.view.setInt32(cursor, 0);
  io.view.setInt32(cursor + 4, 0);
  io.view.setInt32(cursor + 8, 0);
  return reserved;
};

/**
 * Room for `count` frames of `stride` bytes each, for translators that let the kernel fill several payloads at once.
 * Returns the start of the first stride, where its virtio-net header goes (not zeroed here); 64-byte aligned.
 */
export const reserveBlock = (count: number, stride: number): number => {
  if (cursor + count * stride > io.OUT_END || pending + count > io.OUT_MAX) flush();
  return cursor;
};

/** Queues the `len` bytes at the place reserve() gave. */
export const commit = (len: number): void => {
  io.col[io.COL.OUT_AT + pending] = reserved - vnetBytes;
  io.col[io.COL.OUT_LEN + pending] = len + vnetBytes;
  pending++;
  if (observer !== null) observer(reserved, len);
  cursor = (reserved + len + ALIGN - 1) & -ALIGN;
};

/** Commits a frame that lies at `at` (VNET_ROOM before it is part of the reservation), for translators that reserve once for several frames. */
export const commitAt = (at: number, len: number): void => {
  reserved = at;
  commit(len);
};

/** Sends all queued frames. */
export const flush = (): void => {
  if (link !== null && pending > 0) link.send(0, pending);
  pending = 0;
  cursor = io.OUT_AT;
};
