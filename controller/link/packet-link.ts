// SPDX-License-Identifier: Apache-2.0
/**
 * A UNIX socket of packets (SOCK_SEQPACKET), each one frame and nothing else, both ways: what User Mode Linux calls "bess". There are
 * no offloads: frames to it are complete and within the MTU, checksums of what comes are verified.
 */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import { type GuestLink, LINK_REF_BASE, type OnGone } from './link.ts';

const EPIPE = 32;
const EAGAIN = 11;
const EMSGSIZE = 90;
const ECONNRESET = 104;

export const packetLink = (onGone: OnGone): GuestLink => {
  let fd = -1;
  let waitsForRoom = false;
  let onRoom = (): void => {};

  const gone = (why: string): void => {
    io.native.unwatch(fd);
    io.native.close(fd);
    fd = -1;
    waitsForRoom = false;
    // What waited for it goes the way of all frames without a guest.
    onRoom();
    onGone(why);
  };
  const watch = (events: number): number => io.native.watch(fd, events, LINK_REF_BASE);

  return {
    receivedHeaderBytes: 0,
    sentHeaderBytes: 0,
    tso: false,
    uso: false,
    open: (hasRoom) => {
      onRoom = hasRoom;
    },
    connected: () => fd >= 0,
    connect: (to) => {
      fd = to;
      const r = watch(io.EPOLLIN);
      if (r < 0) gone(`The guest's socket cannot be watched (errno ${-r})`);
    },
    onEvent: (_ref, mask) => {
      if (fd < 0) return false;
      if (waitsForRoom && (mask & ~io.EPOLLIN) !== 0) {
        waitsForRoom = false;
        watch(io.EPOLLIN);
        onRoom();
      }
      return (mask & ~io.EPOLLOUT) !== 0;
    },
    receive: (max) => {
      if (fd < 0) return 0;
      const n = io.native.readFrames(fd, io.RX_AT, io.RX_END, max);
      if (n >= 0) return n;
      gone(
        n === -EPIPE || n === -ECONNRESET ? 'The guest has disconnected' : `The guest has disconnected (errno ${-n})`,
      );
      return 0;
    },
    // Level-triggered: a socket that has more says so again.
    more: () => false,
    send: (from, to) => {
      let next = from;
      while (fd >= 0 && next < to) {
        next += io.native.writeFrames(fd, next, to);
        if (next === to) break;
        const errno = io.col[io.COL.ERRNO] as number;
        if (errno === EAGAIN && watch(io.EPOLLIN | io.EPOLLOUT) === 0) {
          waitsForRoom = true;
          return next - from;
        }
        drop(DROP['tap-full']);
        next++;
        // A frame larger than the socket's buffer is one that was lost; anything else is the end, of which reading tells in its turn.
        if (errno !== EMSGSIZE) break;
      }
      for (; next < to; next++) drop(DROP['tap-full']);
      return to - from;
    },
    ended: () => null,
  };
};
