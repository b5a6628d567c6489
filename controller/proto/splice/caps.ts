// SPDX-License-Identifier: Apache-2.0
/** How many spliced connections there may be, and who goes when there would be more. Each holds two descriptors of RLIMIT_NOFILE, and two more while bytes wait in a pipe. */
import * as descriptors from '../../flow/descriptors.ts';
import * as lru from '../../flow/lru.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as log from '../../obs/log.ts';
import { abort, idleMs } from './close.ts';

/** What was idle for so long may go when somebody else needs its place. */
const EVICTABLE_IDLE_MS = 60_000;
/** Of RLIMIT_NOFILE, the part that their sockets may have: three quarters, two each. */
const FLOWS_PART = 3 / 8;
const FLOWS_MAX = flows.FLOW_MAX >> 2;
const FULL = log.site('Loopback connections refused');

/** Called once. `limit` is RLIMIT_NOFILE. */
export const configure = (limit: number): void => {
  lru.setCap(lru.LRU_SPLICE_TCP, Math.max(Math.min(Math.floor(limit * FLOWS_PART), FLOWS_MAX), 1));
  descriptors.register(descriptors.SPLICE, evict);
};

/** Ends the connection that was idle longest, if that is long enough, but not `but`. */
const evict = (but: Flow): boolean => {
  const f = descriptors.oldestHolder(lru.LRU_SPLICE_TCP, but);
  if (f === flows.NO_FLOW || idleMs(f) < EVICTABLE_IDLE_MS) return false;
  drop(DROP['flow-evicted']);
  abort(f);
  return true;
};

/** A row for one more connection, which was accepted as `fd`, or {@link flows.NO_FLOW}: counted, and said. */
export const admit = (fd: number): Flow => {
  if ((lru.isFull(lru.LRU_SPLICE_TCP) || descriptors.isReserved(fd)) && !evict(flows.NO_FLOW)) {
    drop(DROP['flow-refused']);
    const n = lru.size(lru.LRU_SPLICE_TCP);
    log.warnAt(FULL, io.nowMs(), `${n} loopback connections are open: new ones are refused (see RLIMIT_NOFILE)`);
    return flows.NO_FLOW;
  }
  const f = flows.alloc(flows.FLOW_SPLICE_TCP);
  if (f === flows.NO_FLOW) drop(DROP['flow-table-full']);
  return f;
};
