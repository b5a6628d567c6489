// SPDX-License-Identifier: Apache-2.0
/**
 * The window we announce to the guest: what the socket has room for, plus what we keep for it (see stash.ts).
 *
 * The right edge never moves back (RFC 9293 §3.8.6), so what was announced can always be taken. The window is certain
 * to re-open: it closes only when the stash holds data, data is in the stash only after the socket refused some
 * (EAGAIN, which sets SOCK_NOSPACE), and then EPOLLOUT comes, which drains the stash and announces again.
 */

import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as conn from './conn.ts';
import { STASH_CREDIT_BYTES, WINDOW_MAX } from './constants.ts';
import * as stash from './stash.ts';

/** Bytes the guest may send beyond seqFromTap. */
export const windowBytes = (f: Flow): number => {
  const held = stash.bytes(f);
  const credit = stash.scarce() ? 0 : STASH_CREDIT_BYTES - held;
  const room = held > 0 ? 0 : io.native.tcpRoom(flows.fd(f));
  const window = Math.max(room, 0) + Math.max(credit, 0);
  return Math.min(window, WINDOW_MAX);
};

/** The window field for the next segment; moves the announced edge. In a SYN the field is not scaled (RFC 7323 §2.2). */
export const announceWindow = (f: Flow, syn: boolean): number => {
  const scale = syn ? 0 : conn.scaleToTap(f);
  const standing = (conn.edgeToTap(f) - conn.seqFromTap(f)) | 0;
  let window = standing;
  const now = flows.fd(f) < 0 ? 0 : windowBytes(f);
  // Receiver-side silly window avoidance (RFC 9293 §3.8.6.2.2): open by a worthwhile step or not at all.
  if (now - standing >= 4096 || (now > standing && standing < 4096)) window = now;
  if (window < 0) window = 0;
  const field = Math.min(window >>> scale, 0xffff);
  const edge = (conn.seqFromTap(f) + (field << scale)) | 0;
  if (((edge - conn.edgeToTap(f)) | 0) > 0) conn.setEdgeToTap(f, edge);
  return field;
};
