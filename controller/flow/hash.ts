// SPDX-License-Identifier: Apache-2.0
/**
 * From a tuple to its flow: chained buckets keyed with SipHash. A chain is walked by comparing stored hashes first, so
 * that a row's addresses are read only for a likely match.
 *
 * There are as many buckets as there were flows at once, by linear hashing (Litwin, 1980): where there would be more flows than
 * buckets, one bucket is split in two, the next in turn. So a thousand flows touch a page of buckets; spread over room for all
 * they would touch every page of it. No insertion moves more than one chain.
 *
 * Packets of one flow come in runs: the last hit is tried before anything is hashed.
 */
import * as io from '../io/io.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { hashHigh, hashTuple } from './siphash.ts';
import {
  FLOW_MAX,
  type Flow,
  type FlowType,
  guestWord,
  MAPPED_WORD,
  NO_FLOW,
  ports as portsOf,
  remoteWord,
  typeOf,
} from './table.ts';

const BUCKETS_MIN = 1024;

/** First row + 1 of each bucket. */
const heads = new Int32Array(FLOW_MAX);
/** Buckets in use; the smallest power of two that is not below, less one; flows. */
let buckets = BUCKETS_MIN;
let mask = BUCKETS_MIN - 1;
let count = 0;
/** Next row + 1 of the chain. */
const nexts = new Int32Array(FLOW_MAX);
const hashes = new Int32Array(FLOW_MAX);

let last: Flow = NO_FLOW;

/** A bucket that is not there yet has its flows in the one that it will be split from. */
const bucketOf = (hash: number): number => {
  const bucket = hash & mask;
  return bucket < buckets ? bucket : hash & (mask >>> 1);
};

/** Adds a bucket: what belongs there leaves the one that differs by the highest bit. */
const split = (): void => {
  const added = buckets++;
  if (added > mask) mask = 2 * mask + 1;
  const from = added & (mask >>> 1);
  let before = -1;
  let next: number;
  for (let n = heads[from] as number; n !== 0; n = next) {
    next = nexts[n - 1] as number;
    if (((hashes[n - 1] as number) & mask) !== added) {
      before = n - 1;
      continue;
    }
    if (before < 0) heads[from] = next;
    else nexts[before] = next;
    nexts[n - 1] = heads[added] as number;
    heads[added] = n;
  }
};

const hashOf = (f: Flow): number =>
  hashTuple(
    typeOf(f),
    guestWord(f, 0),
    guestWord(f, 1),
    guestWord(f, 2),
    guestWord(f, 3),
    remoteWord(f, 0),
    remoteWord(f, 1),
    remoteWord(f, 2),
    remoteWord(f, 3),
    portsOf(f),
  );

/**
 * A keyed 32-bit hash of the flow's tuple to build values from that others see, like initial sequence numbers
 * (RFC 6528 §3). It is the half that does not choose buckets: whoever sees it learns nothing about collisions.
 */
export const publicHash = (f: Flow): number => {
  hashOf(f);
  return hashHigh();
};

/** Enters a flow whose type and tuple are set and stay as they are. No other flow may have the same. */
export const insert = (f: Flow): void => {
  const hash = hashOf(f);
  if (count++ === buckets && buckets < FLOW_MAX) split();
  const bucket = bucketOf(hash);
  hashes[f] = hash;
  nexts[f] = heads[bucket] as number;
  heads[bucket] = f + 1;
  last = f;
};

/** Takes a flow out, before its row is released. False when it was not in. */
export const remove = (f: Flow): boolean => {
  if (last === f) last = NO_FLOW;
  const bucket = bucketOf(hashes[f] as number);
  let before = -1;
  for (let n = heads[bucket] as number; n !== 0; n = nexts[n - 1] as number) {
    if (n - 1 === f) {
      if (before < 0) heads[bucket] = nexts[f] as number;
      else nexts[before] = nexts[f] as number;
      nexts[f] = 0;
      count--;
      return true;
    }
    before = n - 1;
  }
  return false;
};

const matches = (
  f: Flow,
  type: FlowType,
  g0: number,
  g1: number,
  g2: number,
  g3: number,
  r0: number,
  r1: number,
  r2: number,
  r3: number,
  ports: number,
): boolean =>
  portsOf(f) === ports &&
  typeOf(f) === type &&
  guestWord(f, 3) === g3 &&
  remoteWord(f, 3) === r3 &&
  remoteWord(f, 2) === r2 &&
  remoteWord(f, 1) === r1 &&
  remoteWord(f, 0) === r0 &&
  guestWord(f, 2) === g2 &&
  guestWord(f, 1) === g1 &&
  guestWord(f, 0) === g0;

/** The flow of this type and tuple, or {@link NO_FLOW}. `ports` is guestPort << 16 | remotePort as an int32. */
export const find = (
  type: FlowType,
  g0: number,
  g1: number,
  g2: number,
  g3: number,
  r0: number,
  r1: number,
  r2: number,
  r3: number,
  ports: number,
): Flow => {
  if (last !== NO_FLOW && matches(last, type, g0, g1, g2, g3, r0, r1, r2, r3, ports)) return last;
  const hash = hashTuple(type, g0, g1, g2, g3, r0, r1, r2, r3, ports);
  for (let n = heads[bucketOf(hash)] as number; n !== 0; n = nexts[n - 1] as number) {
    const f = (n - 1) as Flow;
    if (hashes[f] === hash && matches(f, type, g0, g1, g2, g3, r0, r1, r2, r3, ports)) {
      last = f;
      return f;
    }
  }
  return NO_FLOW;
};

/**
 * The flow of a packet from the tap whose IP header lies at `ipAt` of the arena; ports (or echo identifier and 0) as
 * read from the packet.
 */
export const findFromTap = (type: FlowType, v4: boolean, ipAt: number, srcPort: number, dstPort: number): Flow => {
  const v = io.view;
  const ports = (srcPort << 16) | dstPort;
  if (v4) {
    const guest = ipv4.src(v, ipAt);
    const remote = ipv4.dst(v, ipAt);
    return find(type, 0, 0, MAPPED_WORD, guest, 0, 0, MAPPED_WORD, remote, ports);
  }
  const s = ipAt + ipv6.SRC;
  const d = ipAt + ipv6.DST;
  return find(
    type,
    v.getInt32(s),
    v.getInt32(s + 4),
    v.getInt32(s + 8),
    v.getInt32(s + 12),
    v.getInt32(d),
    v.getInt32(d + 4),
    v.getInt32(d + 8),
    v.getInt32(d + 12),
    ports,
  );
};
