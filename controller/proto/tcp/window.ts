// SPDX-License-Identifier: Apache-2.0
/**
 * The window we announce to the guest: what the socket has room for, plus what we keep for it (see stash.ts).
 *
 * The right edge never moves back (RFC 9293 §3.8.6), so what was announced can always be taken. The window is certain
 * to re-open: it closes only when the stash holds data, data is in the stash only after the socket refused some
 * (EAGAIN, which sets SOCK_NOSPACE), and then EPOLLOUT comes, which drains the stash and announces again.
 *
 * What we keep is little, for a tap has next to no round-trip time. A guest behind a link that has one sends a window a
 * round trip at most, and the socket's own room does not grow for that, since to the peer it may be near. So when the guest sends, within
 * a round trip, a good part of what it may, and the socket takes it all, we offer twice as much; once the socket is what
 * everything waits for, no more than at first.
 */

import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import { FLOW_MAX } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import { STASH_CREDIT_BYTES, STASH_CREDIT_MAX_BYTES, WINDOW_MAX } from './constants.ts';
import * as stash from './stash.ts';

/** Doublings of the credit. */
const DOUBLED = new Uint8Array(FLOW_MAX);
/** The round trip in which the guest's sending is measured: RCV.NXT at its start, and when that was (µs, int32). */
const ROUND_SEQ = new Int32Array(FLOW_MAX);
const ROUND_US = new Int32Array(FLOW_MAX);
/** A guest that sends this part of its window within a round trip may be waiting for the window. */
const WINDOW_PART = 4;

/** For a fresh row. */
export const reset = (f: Flow): void => {
  DOUBLED[f] = 0;
  ROUND_SEQ[f] = conn.seqFromTap(f);
  ROUND_US[f] = congestion.nowUs();
};

/** Adapts the credit to what came in the last round trip; `window` is the one that was announced. */
const adapt = (f: Flow, window: number): void => {
  const now = congestion.nowUs();
  const elapsed = (now - (ROUND_US[f] as number)) | 0;
  const rtt = congestion.leastRttUs(f);
  if (elapsed < rtt || rtt === 0) return;
  const bytes = (conn.seqFromTap(f) - (ROUND_SEQ[f] as number)) | 0;
  ROUND_SEQ[f] = conn.seqFromTap(f);
  ROUND_US[f] = now;
  if (stash.bytes(f) > 0) {
    DOUBLED[f] = 0;
    return;
  }
  const doubled = DOUBLED[f] as number;
  if ((bytes / elapsed) * rtt * WINDOW_PART < window || STASH_CREDIT_BYTES << doubled >= STASH_CREDIT_MAX_BYTES) return;
  DOUBLED[f] = doubled + 1;
};

/** Bytes the guest may send beyond seqFromTap. */
export const windowBytes = (f: Flow): number => {
  const held = stash.bytes(f);
  const credit = stash.scarce() ? 0 : (STASH_CREDIT_BYTES << (DOUBLED[f] as number)) - held;
  const room = held > 0 ? 0 : io.native.tcpRoom(flows.fd(f));
  const window = Math.max(room, 0) + Math.max(credit, 0);
  return Math.min(window, WINDOW_MAX);
};

/** The window field for the next segment; moves the announced edge. In a SYN the field is not scaled (RFC 7323 §2.2). */
export const announceWindow = (f: Flow, syn: boolean): number => {
  const scale = syn ? 0 : conn.scaleToTap(f);
  const standing = (conn.edgeToTap(f) - conn.seqFromTap(f)) | 0;
  if (standing > 0) adapt(f, standing);
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
