// SPDX-License-Identifier: Apache-2.0
/** A tap: one frame a system call, with a virtio-net header where the kernel has it. What it does not take is lost, as on a wire. */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import { LINK_REF_BASE, type Link } from './link.ts';

const EIO = 5;
const EAGAIN = 11;

export const tapLink = (fd: number, headerBytes: 0 | 12, tso = headerBytes !== 0, uso = tso): Link => {
  let ended: string | null = null;
  return {
    receivedHeaderBytes: headerBytes,
    sentHeaderBytes: headerBytes,
    tso,
    uso,
    open: () => {
      const r = io.native.watch(fd, io.EPOLLIN, LINK_REF_BASE);
      if (r < 0) throw new Error(`cannot watch the tap: errno ${-r}`);
    },
    onEvent: (_ref, mask) => {
      if ((mask & (io.EPOLLERR | io.EPOLLHUP)) !== 0 && (mask & io.EPOLLIN) === 0) ended = 'the tap is gone';
      return true;
    },
    // Level-triggered: a tap that has more says so again.
    more: () => false,
    receive: (max) => {
      const n = io.native.readFrames(fd, io.RX_AT, io.RX_END, max);
      if (n >= 0) return n;
      // EIO is a tap that is down: it may come up again. Anything else is its end.
      if (n !== -EIO && n !== -EAGAIN) ended = `the tap is gone (errno ${-n})`;
      return 0;
    },
    send: (from, to) => {
      for (let next = from; next < to; next++) {
        next += io.native.writeFrames(fd, next, to);
        // The tap refused this frame (down, or out of memory): drop it and go on with the next.
        if (next < to) drop(DROP['tap-full']);
      }
      return to - from;
    },
    ended: () => ended,
  };
};
