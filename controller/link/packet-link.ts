// SPDX-License-Identifier: Apache-2.0
/**
 * A UNIX socket of packets (SOCK_SEQPACKET), each one frame and nothing else, both ways: what User Mode Linux calls "bess". There are
 * no offloads: frames to it are complete and within the MTU, checksums of what comes are verified.
 */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import { guestSocket } from './guest-socket.ts';
import type { GuestLink, OnGone } from './link.ts';

const EPIPE = 32;
const EAGAIN = 11;
const EMSGSIZE = 90;
const ECONNRESET = 104;

export const packetLink = (onGone: OnGone): GuestLink => {
  /** The end of file and a packet without a byte read alike: it is the end where the events have said so. */
  let hungUp = false;
  const forget = (): void => {
    hungUp = false;
  };
  const socket = guestSocket(onGone, forget, io.EPOLLRDHUP);

  return {
    receivedHeaderBytes: 0,
    sentHeaderBytes: 0,
    tso: false,
    uso: false,
    ...socket.methods,
    onEvent: (ref, mask) => {
      hungUp ||= (mask & (io.EPOLLRDHUP | io.EPOLLHUP)) !== 0;
      return socket.methods.onEvent(ref, mask);
    },
    receive: (max) => {
      const fd = socket.fd();
      if (fd < 0) return 0;
      const n = io.native.readFrames(fd, io.RX_AT, io.RX_END, max);
      if (n >= 0) return n;
      if (n === -EPIPE && !hungUp) {
        drop(DROP['frame-too-short']);
        return 0;
      }
      socket.gone(
        n === -EPIPE || n === -ECONNRESET ? 'The guest has disconnected' : `The guest has disconnected (errno ${-n})`,
      );
      return 0;
    },
    // Level-triggered: a socket that has more says so again.
    more: () => false,
    send: (from, to) => {
      const fd = socket.fd();
      let next = from;
      while (fd >= 0 && next < to) {
        next += io.native.writeFrames(fd, next, to);
        if (next === to) break;
        const errno = io.col[io.COL.ERRNO] as number;
        if (errno === EAGAIN && socket.awaitRoom()) return next - from;
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
