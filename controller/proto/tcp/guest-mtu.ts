// SPDX-License-Identifier: Apache-2.0
/**
 * A link behind the guest takes less than its tap: segments to it become smaller (RFC 1191 §6.4, RFC 8201 §5.4). What was
 * lost for its size is sent again when its time is over, in pieces of the new size.
 */
import { type Flow, isV4 } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as guestError from '../../link/guest-error.ts';
import * as ipv4 from '../../wire/ipv4.ts';
import * as ipv6 from '../../wire/ipv6.ts';
import * as seq from '../../wire/seq.ts';
import * as tcp from '../../wire/tcp.ts';
import * as conn from './conn.ts';
import { MSS_MIN } from './constants.ts';
import * as inbound from './inbound.ts';

/** Where the quoted header has its sequence number. */
const SEQUENCE = 4;

/**
 * The guest has an error to tell about a segment; of connections that are established only its size is believed, for a reset would
 * say the rest (RFC 5927 §5.2).
 */
export const onGuestError = (f: Flow, kind: guestError.Kind, mtu: number, quotedAt: number): void => {
  if (kind !== guestError.TOO_BIG) return inbound.unreachable(f, io.view.getInt32(quotedAt + SEQUENCE));
  // RFC 5927 §4.1: about data that is under way.
  const sent = io.view.getInt32(quotedAt + SEQUENCE);
  if (seq.before(sent, conn.ackFromTap(f)) || !seq.before(sent, conn.seqToTap(f))) return;
  const mss = mtu - tcp.HEADER_BYTES - (isV4(f) ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES);
  if (mss < conn.mss(f)) conn.setMss(f, Math.max(mss, MSS_MIN));
};
