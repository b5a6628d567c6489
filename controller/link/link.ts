// SPDX-License-Identifier: Apache-2.0
/**
 * What frames come from and go to, and what every kind of it offers: a tap, a hypervisor's stream socket, the rings of
 * vhost-user. There is one at a time (link/out.ts sends by it, app/turn.ts receives by it).
 */
import { OTHER_REF_BASE } from '../flow/table.ts';

/** References in the epoll set that belong to the link, {@link LINK_REFS} of them; a link numbers them itself. */
export const LINK_REF_BASE = OTHER_REF_BASE + 4;
export const LINK_REFS = 12;

export interface Link {
  /** Length of the virtio-net header (wire/vnet.ts) at COL.FRAME_AT, in front of each received frame; 0: there is none, and nothing vouches for checksums. */
  readonly receivedHeaderBytes: 0 | 12;
  /** The same of frames to send; 0: they are complete, with all checksums, and within the MTU. */
  readonly sentHeaderBytes: 0 | 12;
  /** Whether TCP (GSO_TCPV4, GSO_TCPV6) and UDP (GSO_UDP_L4) superframes may be sent. */
  readonly tso: boolean;
  readonly uso: boolean;
  /** Enters its descriptors into the epoll set. `onRoom`: see {@link Link.send}. Throws Error where that fails. */
  readonly open: (onRoom: () => void) => void;
  /** An event of one of its references. True: there may be frames to {@link Link.receive}. */
  readonly onEvent: (ref: number, mask: number) => boolean;
  /** Receives up to `max` (≤ FRAMES_MAX) frames into the region from io.RX_AT to io.RX_END, as COL.FRAME_AT and FRAME_LEN say (the header included). How many. */
  readonly receive: (max: number) => number;
  /** There are frames to {@link Link.receive} that no event will tell of: the next turn does so without waiting. */
  readonly more: () => boolean;
  /**
   * Sends frames [from, to) of COL.OUT_AT and COL.OUT_LEN (the header included) in their order. How many it is done with, be they sent or
   * lost (counted by the link); fewer than all: it has no room now, and calls `onRoom` when it has. Until then it is not asked again, and the
   * frames left are the first of those it is asked for next: the same bytes, perhaps elsewhere.
   */
  readonly send: (from: number, to: number) => number;
  /** Why there will never be a frame again; null: there may be. */
  readonly ended: () => string | null;
}

/** A link whose far end is a hypervisor, which connects, goes and comes again. While there is none, frames to it are lost (counted). */
export interface GuestLink extends Link {
  /** Takes over a connected socket, non-blocking; there is none at that time. */
  readonly connect: (fd: number) => void;
  readonly connected: () => boolean;
}
/** Called when a connection has ended, all of it given back, so that there may be the next: a sentence for the log. */
export type OnGone = (why: string) => void;
