// SPDX-License-Identifier: Apache-2.0
/** The end of a flow, whatever its type: everything that the shared tables and the kernel hold of it is given back. */
import * as io from '../io/io.ts';
import * as log from '../obs/log.ts';
import { debugFlow } from './describe.ts';
import * as hash from './hash.ts';
import * as lru from './lru.ts';
import { type Flow, fd as fdOf, release } from './table.ts';
import * as wheel from './wheel.ts';

/** Disarms, unlinks, closes the socket (which also takes it out of the epoll set) and releases the row. */
export const end = (f: Flow): void => {
  if (log.debugEnabled) debugFlow(f, 'from sock', 'ended');
  wheel.disarm(f);
  lru.remove(f);
  hash.remove(f);
  const fd = fdOf(f);
  if (fd >= 0) {
    // Explicitly: a descriptor that was duplicated across processes would stay in the set after close().
    io.native.unwatch(fd);
    io.native.close(fd);
  }
  release(f);
};
