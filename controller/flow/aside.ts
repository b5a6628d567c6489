// SPDX-License-Identifier: Apache-2.0
/**
 * Where datagrams are received that are not to become frames where they lie: slots of the largest datagram in the region of sockets,
 * room for a header before each, and behind them what is known of each (io.native.recvFrom). The first 2 KiB are also where errors
 * are read (proto/udp/errors.ts): whoever may run such code between receiving and the last datagram begins with slot 1.
 */
import * as io from '../io/io.ts';

/** As many of the largest datagrams fit the region. */
export const SLOTS = 15;
/** Headers of an IPv6 frame, its payload, rounded up so that frames are aligned. */
export const SLOT_BYTES = 65_664;
const HEADROOM = 64;
/** Records of the slots' datagrams. */
export const RECORDS_AT = io.SOCK_AT + HEADROOM + SLOTS * SLOT_BYTES;
const RECORD_BYTES = 64;
/** In a record: sender's address and port, 1 if it was for many, address it was sent to. */
export const RECORD_PORT = 16;
export const RECORD_FOR_MANY = 18;
export const RECORD_DESTINATION = 32;

export const slotAt = (i: number): number => io.SOCK_AT + HEADROOM + i * SLOT_BYTES;
export const recordAt = (i: number): number => RECORDS_AT + i * RECORD_BYTES;
