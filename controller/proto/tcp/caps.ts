// SPDX-License-Identifier: Apache-2.0
/**
 * How many TCP connections there may be, and who goes when there would be more. Each holds one descriptor of
 * RLIMIT_NOFILE.
 *
 *   opening      before the guest's handshake is complete: at the cap the oldest goes without a word, so that a flood of
 *                SYNs recycles its own; a guest that means it sends its SYN again
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
/** Half of the rows: the others are for what has no descriptor, and for other protocols. */
const FLOWS_MAX = flows.FLOW_MAX >> 1;
/** A quarter of the connections may be in the making, within these bounds: a program that opens hundreds at once is no flood. */
const OPENING_MIN = 512;
const OPENING_MAX = 8192;
const TIME_WAIT_MAX = 4096;
const FULL = log.site('TCP connections refused');

let cap = 0;

/** Called once. `most` is RLIMIT_NOFILE. */
export const configure = (most: number): void => {
  cap = Math.max(Math.min(most - DESCRIPTORS_RESERVED, FLOWS_MAX), 1);
  lru.setCap(lru.LRU_TCP, cap);
  lru.setCap(lru.LRU_TCP_OPENING, Math.min(Math.max(Math.min(cap >> 2, OPENING_MAX), OPENING_MIN), cap));
  lru.setCap(lru.LRU_TCP_TIME_WAIT, TIME_WAIT_MAX);
  descriptors.register(descriptors.TCP, evict);
};

/** Makes room for one more connection if need be. False: there is none, counted and said. */
export const admit = (): boolean => {
  if (lru.size(lru.LRU_TCP) + lru.size(lru.LRU_TCP_OPENING) >= cap && !evict(flows.NO_FLOW)) {
    drop(DROP['flow-refused']);
    log.warnAt(FULL, io.nowMs(), `${cap} TCP connections are open: new ones are refused (see RLIMIT_NOFILE)`);
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
  const opening = lru.oldest(lru.LRU_TCP_OPENING);
  if (opening === flows.NO_FLOW || opening === except || idleMs(opening) < EVICTABLE_OPENING_MS) return false;
  drop(DROP['flow-evicted']);
  closeQuietly(opening);
  return true;
};

const idleMs = (f: Flow): number => ((io.nowMs() | 0) - flows.lastActive(f)) | 0;
