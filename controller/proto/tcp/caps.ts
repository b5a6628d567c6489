// SPDX-License-Identifier: Apache-2.0
/**
 * How many TCP connections there may be, and who goes when there would be more. Each holds one descriptor of
 * RLIMIT_NOFILE.
 *
 *   opening      before the guest's handshake is complete: at the cap the oldest goes without a word, so that a flood of
 *                SYNs recycles its own; a guest that means it sends its SYN again
 *   inbound      the same for clients that the guest has not answered yet, whose connections are reset
 *   established  what was idle for EVICTABLE_IDLE_MS may go, the longest idle first, both ends reset. When nothing is, the
 *                new connection is refused at once by a reset: connections in use are never harmed
 *   TIME-WAIT    no descriptor; at the cap the oldest goes
 */
import * as descriptors from '../../flow/descriptors.ts';
import * as lru from '../../flow/lru.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as log from '../../obs/log.ts';
import { abort, closeQuietly } from './close.ts';
import { EVICTABLE_IDLE_MS, EVICTABLE_OPENING_MS } from './constants.ts';

/** Tap, channels, log files, Node's own. */
const DESCRIPTORS_RESERVED = 64;
/** Of 131,072 rows: the others are for what has no descriptor, and for other protocols. */
const FLOWS_MAX = 100_000;
/** A quarter of the connections may be in the making, within these bounds: a program that opens hundreds at once is no flood. */
const OPENING_MIN = 512;
const OPENING_MAX = 8192;
const TIME_WAIT_MAX = 4096;
/** That part of all, an eighth, clients leave to what the guest opens. */
const GUESTS_SHIFT = 3;
const FULL = log.site('TCP connections refused');

let cap = 0;

/** Called once. `most` is RLIMIT_NOFILE. */
export const configure = (most: number): void => {
  cap = Math.max(Math.min(most - DESCRIPTORS_RESERVED, FLOWS_MAX), 1);
  lru.setCap(lru.LRU_TCP, cap);
  const opening = Math.min(Math.max(Math.min(cap >> 2, OPENING_MAX), OPENING_MIN), cap);
  lru.setCap(lru.LRU_TCP_OPENING, opening);
  lru.setCap(lru.LRU_TCP_INBOUND, opening);
  lru.setCap(lru.LRU_TCP_TIME_WAIT, TIME_WAIT_MAX);
  descriptors.register(descriptors.TCP, evict);
};

const size = (): number => lru.size(lru.LRU_TCP) + lru.size(lru.LRU_TCP_OPENING) + lru.size(lru.LRU_TCP_INBOUND);
const full = (most: number): boolean => {
  if (size() < most || evict(flows.NO_FLOW)) return false;
  log.warnAt(FULL, io.nowMs(), `${size()} TCP connections are open: new ones are refused (see RLIMIT_NOFILE)`);
  return true;
};

/** Makes room for one more connection of a client, accepted as `fd`, if need be. False: there is none, said. */
export const admitInbound = (fd: number): boolean => {
  if (full(descriptors.isReserved(fd) ? 0 : cap - (cap >> GUESTS_SHIFT))) return false;
  if (lru.isFull(lru.LRU_TCP_INBOUND)) {
    drop(DROP['flow-evicted']);
    abort(lru.oldest(lru.LRU_TCP_INBOUND));
  }
  return true;
};

/** Makes room for one more connection of the guest if need be. False: there is none, counted and said. */
export const admit = (): boolean => {
  if (full(cap)) {
    drop(DROP['flow-refused']);
    return false;
  }
  if (lru.isFull(lru.LRU_TCP_OPENING)) {
    drop(DROP['flow-evicted']);
    closeQuietly(lru.oldest(lru.LRU_TCP_OPENING));
  }
  return true;
};

/** A socket for `f` could not be had: somebody may make room for the next attempt. */
export const descriptorsShort = (f: Flow): void => {
  drop(DROP['flow-refused']);
  descriptors.short(descriptors.TCP, f);
};

/** Ends what nobody misses, but not `except`. False: there is nothing of that kind. */
const evict = (except: Flow): boolean => {
  const idle = lru.oldest(lru.LRU_TCP);
  if (idle !== flows.NO_FLOW && idleMs(idle) >= EVICTABLE_IDLE_MS) {
    drop(DROP['flow-evicted']);
    abort(idle);
    return true;
  }
  return evictOpening(lru.LRU_TCP_INBOUND, except) || evictOpening(lru.LRU_TCP_OPENING, except);
};
const evictOpening = (cls: number, except: Flow): boolean => {
  const f = lru.oldest(cls);
  if (f === flows.NO_FLOW || f === except || idleMs(f) < EVICTABLE_OPENING_MS) return false;
  drop(DROP['flow-evicted']);
  // A client has its connection already, and is told; the guest asks again.
  if (cls === lru.LRU_TCP_INBOUND) abort(f);
  else closeQuietly(f);
  return true;
};

const idleMs = (f: Flow): number => ((io.nowMs() | 0) - flows.lastActive(f)) | 0;
