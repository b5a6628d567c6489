// SPDX-License-Identifier: Apache-2.0
/** The connected socket of a guest and its place in the epoll set: what the links have in common that send frames over one. */
import * as io from '../io/io.ts';
import { type GuestLink, LINK_REF_BASE, type OnGone } from './link.ts';

export interface GuestSocket {
  /** -1: there is no guest. */
  readonly fd: () => number;
  /** Closes it, says why, and gives up what waited for room. */
  readonly gone: (why: string) => void;
  /** Calls `onRoom` once it can be written to again. False: it cannot be waited for. */
  readonly awaitRoom: () => boolean;
  /** These methods of the link. */
  readonly methods: Pick<GuestLink, 'open' | 'connected' | 'connect' | 'onEvent'>;
}

/** `forget`: what a link knows of a connection, when it has ended. `always`: events to watch beside those of data and room. */
export const guestSocket = (onGone: OnGone, forget: () => void, always = 0): GuestSocket => {
  let fd = -1;
  let waitsForRoom = false;
  let onRoom = (): void => {};

  const watch = (events: number): number => io.native.watch(fd, events | always, LINK_REF_BASE);
  const gone = (why: string): void => {
    io.native.unwatch(fd);
    io.native.close(fd);
    fd = -1;
    waitsForRoom = false;
    forget();
    // What waited for it goes the way of all frames without a guest.
    onRoom();
    onGone(why);
  };

  return {
    fd: () => fd,
    gone,
    awaitRoom: () => {
      waitsForRoom = watch(io.EPOLLIN | io.EPOLLOUT) === 0;
      return waitsForRoom;
    },
    methods: {
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
    },
  };
};
