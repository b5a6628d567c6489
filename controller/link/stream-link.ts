// SPDX-License-Identifier: Apache-2.0
/**
 * A hypervisor's stream socket (QEMU's `-netdev stream` and `socket`): frames one after the other, each behind its length, 32 bits
 * big-endian. There are no offloads: checksums of what comes are verified, and what goes is completed and cut into segments by the
 * addon while it writes. The connection may be cut anywhere, between two bytes of a length, too, both ways.
 */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import { guestSocket } from './guest-socket.ts';
import type { GuestLink, OnGone } from './link.ts';

const LENGTH_BYTES = 4;
/** An Ethernet header. */
export const FRAME_BYTES_MIN = 14;
/** An Ethernet header and the largest IP packet that has its length in 16 bits; a jumbogram (RFC 2675) is nothing a link of ours carries. */
export const FRAME_BYTES_MAX = 14 + 65_535;

/** Bytes of one read at most: more than a socket holds unless it was given much room. */
const READ_BYTES = 512 * 1024;
/** Where received bytes lie: two reads, small enough to stay in a processor's cache. */
const BYTES_AT = io.RX_AT;
const BYTES_END = BYTES_AT + 2 * READ_BYTES;

const EAGAIN = 11;

export const BAD_FRAME = 'Bad frame size from guest, resetting connection';

export const streamLink = (onGone: OnGone): GuestLink => {
  /** Received bytes not given out yet. */
  let from: number = BYTES_AT;
  let to: number = BYTES_AT;
  /** Bytes written of what the first frame to send becomes. */
  let skip = 0;
  const socket = guestSocket(onGone, () => {
    from = to = BYTES_AT;
    skip = 0;
  });
  const { gone } = socket;

  /** Length of the frame at `from`; -1: not all of it is there. */
  const nextLength = (): number => {
    if (to - from < LENGTH_BYTES) return -1;
    const length = io.view.getUint32(from);
    return isFrame(length) && to - from - LENGTH_BYTES < length ? -1 : length;
  };
  const isFrame = (length: number): boolean => length >= FRAME_BYTES_MIN && length <= FRAME_BYTES_MAX;

  /** Up to `max` frames of what was received, as far as they are whole and their lengths can be. */
  const take = (max: number): number => {
    let n = 0;
    for (; n < max; n++) {
      const length = nextLength();
      if (!isFrame(length)) break;
      io.col[io.COL.FRAME_AT + n] = from + LENGTH_BYTES;
      io.col[io.COL.FRAME_LEN + n] = length;
      from += LENGTH_BYTES + length;
    }
    return n;
  };

  /** One read of as much as there is. Whether there was something. */
  const read = (): boolean => {
    if (from === to) from = to = BYTES_AT;
    else if (BYTES_END - to < READ_BYTES) {
      io.mem.copyWithin(BYTES_AT, from, to);
      to -= from - BYTES_AT;
      from = BYTES_AT;
    }
    const n = io.native.read(socket.fd(), to, Math.min(READ_BYTES, BYTES_END - to));
    if (n > 0) to += n;
    else if (n === 0) gone('The guest has disconnected');
    else if (n !== -EAGAIN) gone(`The guest has disconnected (errno ${-n})`);
    return n > 0;
  };

  return {
    receivedHeaderBytes: 0,
    sentHeaderBytes: 12,
    tso: true,
    uso: true,
    ...socket.methods,
    receive: (max) => {
      if (socket.fd() < 0) return 0;
      let n = take(max);
      if (n === 0 && nextLength() < 0 && read()) n = take(max);
      if (n === 0 && nextLength() >= 0) {
        drop(DROP['frame-length']);
        gone(BAD_FRAME);
      }
      return n;
    },
    more: () => socket.fd() >= 0 && nextLength() >= 0,
    send: (first, end) => {
      const fd = socket.fd();
      let done = 0;
      if (fd >= 0) {
        done = io.native.writeStreamFrames(fd, first, end, skip);
        skip = io.col[io.COL.STREAM_SKIP] as number;
        const errno = io.col[io.COL.ERRNO] as number;
        if (errno === EAGAIN && socket.awaitRoom()) return done;
        // Reading tells of the end of a connection, in its turn.
        skip = 0;
      }
      for (let i = first + done; i < end; i++) drop(DROP['tap-full']);
      return end - first;
    },
    ended: () => null,
  };
};
