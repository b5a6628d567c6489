// SPDX-License-Identifier: Apache-2.0
/**
 * Frames on their way to the link. A translator reserves room, writes an Ethernet frame there, and commits it;
 * `flush` sends all committed frames, once a turn (or when the region is full).
 *
 * Before each Ethernet header lies room for the virtio-net header (12 bytes, zeroed by reserve: "no offload, complete
 * checksum"). A translator that wants offloads sets it through wire/vnet.
 *
 * What a link has no room for waits here, in its order. Meanwhile whoever can wait does ({@link mustWait}: TCP, whose data lies
 * well in sockets), and of the rest as much is kept as a device's queue would hold.
 */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import type { Link } from './link.ts';

/** Room kept before each Ethernet header, used or not. */
export const VNET_ROOM = 12;
const ALIGN = 64;
/** What is kept for a link that has no room. Further frames are lost: the newest, which a receiver can make up for best. */
const KEPT_BYTES = 2 * 1024 * 1024;
const KEPT_FRAMES = 512;
/** So much ready to be sent is offered to the link before anybody adds to it who could wait. */
const OFFERED_BYTES = 1024 * 1024;

let link: Link | null = null;
let vnetBytes = 0;
let cursor: number = io.OUT_AT;
let pending = 0;
/** Frames before this one are sent; they are there only while the link has no room for the others. */
let head = 0;
let bytes = 0;
let full = false;
let reserved = -1;
/** Called for each frame as it is written (pcap, --trace). */
let observer: ((at: number, len: number) => void) | null = null;

export const attach = (to: Link): void => {
  link = to;
  vnetBytes = to.sentHeaderBytes;
  full = false;
  clear();
};
export const hasVnet = (): boolean => vnetBytes !== 0;
export const setObserver = (f: ((at: number, len: number) => void) | null): void => {
  observer = f;
};

/** Whether the link has no room now. */
export const blocked = (): boolean => full;
/** Whether what can wait for the link to have room should do so; offers it what there is. */
export const mustWait = (): boolean => {
  if (!full && bytes >= OFFERED_BYTES) flush();
  return full;
};

/** Room for an Ethernet frame of up to `bytes`; returns where its Ethernet header goes. May flush. */
export const reserve = (bytes: number): number => {
  if (cursor + VNET_ROOM + bytes > io.OUT_END || pending === io.OUT_MAX) makeRoom();
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
  if (cursor + count * stride > io.OUT_END || pending + count > io.OUT_MAX) makeRoom();
  return cursor;
};

/** Queues the `len` bytes at the place reserve() gave. */
export const commit = (len: number): void => {
  if (observer !== null) observer(reserved, len);
  if (full && (bytes + len > KEPT_BYTES || pending - head >= KEPT_FRAMES)) return drop(DROP['tap-full']);
  io.col[io.COL.OUT_AT + pending] = reserved - vnetBytes;
  io.col[io.COL.OUT_LEN + pending] = len + vnetBytes;
  pending++;
  bytes += len + vnetBytes;
  cursor = (reserved + len + ALIGN - 1) & -ALIGN;
};

/** Commits a frame that lies at `at` (VNET_ROOM before it is part of the reservation), for translators that reserve once for several frames. */
export const commitAt = (at: number, len: number): void => {
  reserved = at;
  commit(len);
};

const clear = (): void => {
  pending = 0;
  head = 0;
  bytes = 0;
  cursor = io.OUT_AT;
};

/** Sends all queued frames, unless the link has no room and did not say since that it has. */
export const flush = (): void => {
  if (full) return;
  if (link !== null && pending > head) {
    const done = link.send(head, pending);
    if (head + done < pending) return keep(done);
  }
  clear();
};

/** The link has room again. */
export const resume = (): void => {
  if (!full) return;
  full = false;
  flush();
};

/** The link took `done` frames and no more. */
const keep = (done: number): void => {
  full = true;
  for (const sent = head + done; head < sent; head++) bytes -= io.col[io.COL.OUT_LEN + head] as number;
  while (bytes > KEPT_BYTES || pending - head > KEPT_FRAMES) {
    pending--;
    bytes -= io.col[io.COL.OUT_LEN + pending] as number;
    drop(DROP['tap-full']);
  }
};

/** Makes room in the region and in the columns: by sending, else by moving what is kept to their beginning. */
const makeRoom = (): void => {
  flush();
  if (full) compact();
};
const compact = (): void => {
  cursor = io.OUT_AT;
  const kept = pending - head;
  for (let i = 0; i < kept; i++) {
    const from = io.col[io.COL.OUT_AT + head + i] as number;
    const len = io.col[io.COL.OUT_LEN + head + i] as number;
    // The room in front of the Ethernet header stays even where the link has no virtio-net header.
    const at = cursor + VNET_ROOM - vnetBytes;
    if (at !== from) io.mem.copyWithin(at, from, from + len);
    io.col[io.COL.OUT_AT + i] = at;
    io.col[io.COL.OUT_LEN + i] = len;
    cursor = (at + len + ALIGN - 1) & -ALIGN;
  }
  head = 0;
  pending = kept;
};
