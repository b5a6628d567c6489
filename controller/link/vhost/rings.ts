// SPDX-License-Identifier: Apache-2.0
/** The addon's rings as a session sees them (session.ts). */
import * as io from '../../io/io.ts';
import { REGION_BYTES } from './message.ts';
import type { Device } from './session.ts';

/** As connection.ts has it: within one call only. */
const BYTES_AT = io.SCRATCH_END - 4096;

/** `kickRef`: the reference of queue 0's kick in the epoll set; queue 1's is the next. `started`: a queue has begun to run. */
export const ringsOf = (kickRef: number, started: (queue: number) => void): Device => ({
  map: (regions, fds) => {
    io.mem.set(regions, BYTES_AT);
    for (const [i, fd] of fds.entries()) io.col[io.COL.FD + i] = fd;
    return io.native.vringMap(BYTES_AT, regions.length / REGION_BYTES);
  },
  features: (bits) => {
    io.native.vringFeatures(bits);
  },
  start: (queue, size, base, addresses) => {
    io.mem.set(addresses, BYTES_AT);
    const r = io.native.vringStart(queue, size, base, BYTES_AT);
    if (r >= 0) started(queue);
    return r;
  },
  stop: (queue) => io.native.vringStop(queue),
  call: (queue, fd) => {
    io.native.vringCall(queue, fd);
  },
  // Each addition is an event, and nobody reads the counter: another process has it, too, and may have made reading wait.
  watchKick: (queue, fd) => io.native.watch(fd, io.EPOLLIN | io.EPOLLET, kickRef + queue),
  unwatchKick: (fd) => {
    io.native.unwatch(fd);
  },
  checkEvent: (fd) => io.native.checkEvent(fd),
  close: (fd) => {
    io.native.close(fd);
  },
});
