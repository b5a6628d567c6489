// SPDX-License-Identifier: Apache-2.0
/**
 * Stream data of the guest that arrived before what belongs in front of it: kept until the hole is filled, and told to the
 * guest by selective acknowledgements (RFC 2018) if it permits them.
 *
 * The first copy of a byte counts, as in most hosts: what comes again over it is not even looked at. What was told is kept
 * as a rule, but not as a promise (RFC 2018 §8): memory is one region of the arena, in chunks that each hold what falls
 * into one stretch of sequence numbers. When it is used up a flow that has more than its share is refused, and for one that
 * has less, the flow that has waited longest with more than its share gives up what it has. So a guest that makes
 * holes in thousands of flows only makes its own flows as slow as they would be without this queue.
 */
import { IOV_MAX_BATCH } from '../../../shared/abi.ts';
import { FLOW_MAX, type Flow } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as tcp from '../../wire/tcp.ts';
import { DUPLICATE_ACKS } from './constants.ts';
import * as ranges from './ranges.ts';

export const CHUNK_BYTES = 8192;
export const CHUNKS = Math.floor((io.OUT_OF_ORDER_END - io.OUT_OF_ORDER_AT) / CHUNK_BYTES);

const received = ranges.lists();
// Chunks of a flow in the order of their sequence numbers; a chunk's number is stored plus one.
const NEXT = new Int32Array(CHUNKS + 1);
/** Sequence number of the chunk's first byte, a multiple of CHUNK_BYTES. */
const BASE = new Int32Array(CHUNKS + 1);
const HEAD = new Int32Array(FLOW_MAX);
const TAIL = new Int32Array(FLOW_MAX);
const HELD = new Uint16Array(FLOW_MAX);
const BYTES = new Int32Array(FLOW_MAX);
/** Where the last segment out of order began: its range is told first. */
const LATEST = new Int32Array(FLOW_MAX);
/** The last segment that was had already (RFC 2883), once; empty: none. */
const REPEATED_FROM = new Int32Array(FLOW_MAX);
const REPEATED_TO = new Int32Array(FLOW_MAX);
/** RCV.NXT when the last duplicate ACK went out at once, and how many did with the same. */
const TOLD_NEXT = new Int32Array(FLOW_MAX);
const TOLD = new Uint8Array(FLOW_MAX);
/** Flows that hold chunks, by the time they took their first one: neighbours, row plus one. */
const OLDER = new Int32Array(FLOW_MAX);
const YOUNGER = new Int32Array(FLOW_MAX);
let oldest = 0;
let youngest = 0;
let holders = 0;
let free = 0;
/** Chunks never used so far come after all freed ones: their pages stay untouched. */
let fresh = 1;
let inUse = 0;

export const bytes = (f: Flow): number => BYTES[f] as number;
export const chunksInUse = (): number => inUse;

const link = (f: Flow): void => {
  OLDER[f] = youngest;
  YOUNGER[f] = 0;
  if (youngest !== 0) YOUNGER[youngest - 1] = f + 1;
  else oldest = f + 1;
  youngest = f + 1;
  holders++;
};
const unlink = (f: Flow): void => {
  const older = OLDER[f] as number;
  const younger = YOUNGER[f] as number;
  if (older !== 0) YOUNGER[older - 1] = younger;
  else oldest = younger;
  if (younger !== 0) OLDER[younger - 1] = older;
  else youngest = older;
  holders--;
};
const give = (f: Flow, c: number): void => {
  NEXT[c] = free;
  free = c;
  inUse--;
  HELD[f] = (HELD[f] as number) - 1;
  if (HELD[f] === 0) unlink(f);
};

/** Forgets all of it. */
export const discardAll = (f: Flow): void => {
  REPEATED_TO[f] = REPEATED_FROM[f] as number;
  TOLD[f] = 0;
  if (HEAD[f] === 0) return;
  for (let c = HEAD[f] as number; c !== 0; ) {
    const behind = NEXT[c] as number;
    give(f, c);
    c = behind;
  }
  HEAD[f] = 0;
  TAIL[f] = 0;
  BYTES[f] = 0;
  ranges.clear(received, f);
};

const take = (f: Flow): number => {
  if (free === 0 && fresh > CHUNKS) {
    const share = CHUNKS / (holders + 1);
    if ((HELD[f] as number) >= share) return 0;
    let victim = oldest;
    while (victim !== 0 && (victim - 1 === f || (HELD[victim - 1] as number) <= share)) {
      victim = YOUNGER[victim - 1] as number;
    }
    if (victim === 0) return 0;
    drop(DROP['tcp-queue-full']);
    discardAll((victim - 1) as Flow);
  }
  let c = free;
  if (c !== 0) free = NEXT[c] as number;
  else c = fresh++;
  inUse++;
  if (HELD[f] === 0) link(f);
  HELD[f] = (HELD[f] as number) + 1;
  return c;
};

/** The chunk of the flow that begins at `base`, made if there is none; 0: no memory. */
const chunkAt = (f: Flow, base: number): number => {
  let before = 0;
  const tail = TAIL[f] as number;
  if (tail !== 0 && ((base - (BASE[tail] as number)) | 0) >= 0) {
    if (BASE[tail] === base) return tail;
    before = tail;
  } else {
    let c = HEAD[f] as number;
    while (c !== 0 && (((BASE[c] as number) - base) | 0) < 0) {
      before = c;
      c = NEXT[c] as number;
    }
    if (c !== 0 && BASE[c] === base) return c;
  }
  const made = take(f);
  if (made === 0) return 0;
  BASE[made] = base;
  if (before === 0) {
    NEXT[made] = HEAD[f] as number;
    HEAD[f] = made;
  } else {
    NEXT[made] = NEXT[before] as number;
    NEXT[before] = made;
  }
  if (NEXT[made] === 0) TAIL[f] = made;
  return made;
};
const arenaAt = (c: number): number => io.OUT_OF_ORDER_AT + (c - 1) * CHUNK_BYTES;

/** Copies arena bytes [at, at + len) to their place. Returns how many there was memory for. */
const copyIn = (f: Flow, seq: number, at: number, len: number): number => {
  let done = 0;
  while (done < len) {
    const s = (seq + done) | 0;
    const within = s & (CHUNK_BYTES - 1);
    const c = chunkAt(f, s - within);
    if (c === 0) break;
    const n = Math.min(len - done, CHUNK_BYTES - within);
    io.mem.copyWithin(arenaAt(c) + within, at + done, at + done + n);
    done += n;
  }
  return done;
};

/**
 * Keeps the `len` bytes of the arena at `at`, sequence number `seq`: what is not there yet, as far as there is memory. Returns
 * whether that did no more than lengthen the highest range, so that one acknowledgement can tell of it and of what follows.
 */
export const insert = (f: Flow, seq: number, at: number, len: number): boolean => {
  const to = (seq + len) | 0;
  const before = ranges.count(received, f);
  let s = seq;
  let covered = true;
  while (((to - s) | 0) > 0) {
    let n = ranges.first(received, f);
    while (n !== 0 && ((ranges.end(n) - s) | 0) <= 0) n = ranges.next(n);
    if (n !== 0 && ((ranges.start(n) - s) | 0) <= 0) {
      s = ranges.end(n);
      continue;
    }
    covered = false;
    const gapEnd = n !== 0 && ((ranges.start(n) - to) | 0) < 0 ? ranges.start(n) : to;
    const gap = (gapEnd - s) | 0;
    const done = copyIn(f, s, at + ((s - seq) | 0), gap);
    const added = done === 0 ? 0 : ranges.add(received, f, s, (s + done) | 0);
    if (added > 0) BYTES[f] = (BYTES[f] as number) + added;
    if (added < gap) {
      drop(DROP['tcp-queue-full']);
      break;
    }
    s = gapEnd;
  }
  LATEST[f] = seq;
  if (covered) repeated(f, seq, len);
  // A chunk without a range is nobody's.
  if (BYTES[f] === 0) discardAll(f);
  if (covered || ranges.count(received, f) !== before) return false;
  const n = ranges.lastTouched();
  return ranges.next(n) === 0 && ranges.end(n) === to;
};

/** Whether the guest, which waits for `next`, has had fewer duplicate ACKs than make some senders act. Counts one. */
export const mustTell = (f: Flow, next: number): boolean => {
  if (TOLD_NEXT[f] !== next) {
    TOLD_NEXT[f] = next;
    TOLD[f] = 0;
  }
  if ((TOLD[f] as number) === DUPLICATE_ACKS) return false;
  TOLD[f] = (TOLD[f] as number) + 1;
  return true;
};

/** A segment that was had already: told once, by the next acknowledgement (RFC 2883 §4). */
export const repeated = (f: Flow, seq: number, len: number): void => {
  REPEATED_FROM[f] = seq;
  REPEATED_TO[f] = (seq + len) | 0;
};

/** Whether what is kept goes on at `seq`, so that it should be taken before more is looked at. */
export const reaches = (f: Flow, seq: number): boolean => {
  const n = ranges.first(received, f);
  return n !== 0 && ((ranges.start(n) - seq) | 0) <= 0;
};

/** Everything before `seq` is in better hands. */
export const release = (f: Flow, seq: number): void => {
  if (BYTES[f] === 0) return;
  BYTES[f] = (BYTES[f] as number) - ranges.trim(received, f, seq);
  if (BYTES[f] === 0) return discardAll(f);
  for (let c = HEAD[f] as number; (((BASE[c] as number) + CHUNK_BYTES - seq) | 0) <= 0; c = HEAD[f] as number) {
    HEAD[f] = NEXT[c] as number;
    give(f, c);
  }
};

/** What lies from `seq` on without a hole, as ranges for writev. Returns the bytes; `pieces()` is the number of ranges. */
export const pick = (f: Flow, seq: number): number => {
  picked = 0;
  const n = ranges.first(received, f);
  if (n === 0 || ranges.start(n) !== seq) return 0;
  const to = ranges.end(n);
  let s = seq;
  for (let c = HEAD[f] as number; c !== 0 && picked < IOV_MAX_BATCH && ((to - s) | 0) > 0; c = NEXT[c] as number) {
    const within = (s - (BASE[c] as number)) | 0;
    const len = Math.min(CHUNK_BYTES - within, (to - s) | 0);
    io.col[io.COL.IOV_AT + picked] = arenaAt(c) + within;
    io.col[io.COL.IOV_LEN + picked] = len;
    picked++;
    s = (s + len) | 0;
  }
  return (s - seq) | 0;
};
let picked = 0;
export const pieces = (): number => picked;

// Results of chooseBlocks(): one acknowledgement is written at a time.
const blockFrom = new Int32Array(tcp.SACK_BLOCKS_MAX);
const blockTo = new Int32Array(tcp.SACK_BLOCKS_MAX);
let blocks = 0;
const choose = (from: number, to: number): void => {
  blockFrom[blocks] = from;
  blockTo[blocks] = to;
  blocks++;
};

/**
 * The blocks for the next acknowledgement (RFC 2018 §4): what came twice, the range of what came last, then those before
 * it, which were told last as a rule. Returns the option's length with its padding; 0: nothing to tell.
 */
export const chooseBlocks = (f: Flow): number => {
  blocks = 0;
  if (REPEATED_FROM[f] !== REPEATED_TO[f]) {
    choose(REPEATED_FROM[f] as number, REPEATED_TO[f] as number);
    REPEATED_TO[f] = REPEATED_FROM[f] as number;
  }
  if (BYTES[f] === 0) return blocks === 0 ? 0 : 4 + 8 * blocks;
  const latest = LATEST[f] as number;
  let before1 = 0;
  let before2 = 0;
  let n = ranges.first(received, f);
  while (ranges.next(n) !== 0 && ((ranges.end(n) - latest) | 0) <= 0) {
    before2 = before1;
    before1 = n;
    n = ranges.next(n);
  }
  choose(ranges.start(n), ranges.end(n));
  if (before1 !== 0) choose(ranges.start(before1), ranges.end(before1));
  if (before2 !== 0 && blocks < tcp.SACK_BLOCKS_MAX) choose(ranges.start(before2), ranges.end(before2));
  return 4 + 8 * blocks;
};
/** Writes the option with the blocks chosen last at `p`. */
export const writeBlocks = (p: number): void => {
  let at = tcp.putSackHead(io.view, p, blocks);
  for (let i = 0; i < blocks; i++) at = tcp.putSackBlock(io.view, at, blockFrom[i] as number, blockTo[i] as number);
};
