// SPDX-License-Identifier: Apache-2.0
/** What the network says about a flow's datagrams (IP_RECVERR), passed on to the guest; and what calls on its socket say. */
import { type Flow, fd, guestPort, remotePort } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as icmpError from '../../link/icmp-error.ts';
import * as packetOut from '../../link/packet-out.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as checksum from '../../wire/checksum.ts';
import { UDP } from '../../wire/protocols.ts';
import * as udp from '../../wire/udp.ts';
import * as state from './state.ts';

const ENFILE = 23;
const EMFILE = 24;
/** All source ports to that peer are in use. */
const EADDRNOTAVAIL = 99;

/** Errors taken in one go; the rest has its own event. */
const ERRORS_PER_EVENT_MAX = 16;
const OFFENDER_AT = io.SOCK_AT;
/** The error queue holds the data that an error quotes; the header before it is written here. */
const HEADER_AT = OFFENDER_AT + 64;
const DATA_AT = HEADER_AT + udp.HEADER_BYTES;
/** As much as the longest ICMP error can quote. */
const DATA_BYTES_MAX = icmpError.QUOTE_BYTES_MAX_6 - udp.HEADER_BYTES;

/** The header that the guest gave to the datagram whose `bytes` of data the queue had. */
const writeHeader = (f: Flow, bytes: number): number => {
  const v = io.view;
  const total = udp.HEADER_BYTES + bytes;
  udp.setSrcPort(v, HEADER_AT, guestPort(f));
  udp.setDstPort(v, HEADER_AT, remotePort(f));
  udp.setLength(v, HEADER_AT, total);
  udp.setChecksum(v, HEADER_AT, 0);
  const sum = io.native.checksum(HEADER_AT, total, packetOut.pseudoSum(f, UDP, total));
  udp.setChecksum(v, HEADER_AT, checksum.finishUdp(sum));
  return total;
};

/** The same for `bytes` of data that lie at `at`; returns how much of the datagram can be quoted. */
const writeDatagram = (f: Flow, at: number, bytes: number): number => {
  const part = Math.min(bytes, DATA_BYTES_MAX);
  io.mem.copyWithin(DATA_AT, at, at + part);
  return writeHeader(f, part);
};

let tooLong = false;
/** Whether the last {@link drain} found that a datagram was larger than the host's link. */
export const wasTooLong = (): boolean => tooLong;

/** Empties the socket's error queue towards the guest. Returns how many errors there were. Overwrites io.SOCK_AT. */
export const drain = (f: Flow): number => {
  tooLong = false;
  let n = 0;
  for (; n < ERRORS_PER_EVENT_MAX; n++) {
    const bytes = io.native.recvError(fd(f), DATA_AT, DATA_BYTES_MAX, OFFENDER_AT);
    if (bytes < 0) break;
    // The host's own objection, to a datagram larger than its link: send.ts has the host cut it.
    if (icmpError.isTooLong()) {
      tooLong = true;
      continue;
    }
    const quoted = writeHeader(f, bytes);
    if (!icmpError.relay(f, OFFENDER_AT, UDP, HEADER_AT, quoted)) drop(DROP['sock-error']);
  }
  return n;
};

/** Empties the error queue of a socket that never sends: whatever is in it is forged. Returns how many errors there were. Overwrites io.SOCK_AT. */
export const discard = (f: Flow): number => {
  let n = 0;
  while (n < ERRORS_PER_EVENT_MAX && io.native.recvError(fd(f), DATA_AT, DATA_BYTES_MAX, OFFENDER_AT) >= 0) {
    drop(DROP['sock-error']);
    n++;
  }
  return n;
};

/** A router without a place left in its table says so, as a soft error (RFC 1122 §4.1.3.3): the guest may try again. */
const reasonOf = (errno: number): icmpError.Reason | -1 =>
  errno === EMFILE || errno === ENFILE || errno === EADDRNOTAVAIL
    ? icmpError.HOST_UNREACHABLE
    : icmpError.reasonOf(errno);

/**
 * Tells the guest that its datagram could not leave, if `errno` is something a router would tell: its UDP header lies
 * at `headerAt`, `bytes` with data.
 */
export const refuse = (f: Flow, errno: number, headerAt: number, bytes: number): void => {
  // RFC 1122 §3.2.2, RFC 4443 §2.4(e): no error about what was for many; of broadcast only we know it.
  if (state.isGroup(f)) return;
  const reason = reasonOf(errno);
  if (reason !== -1) icmpError.unreachable(f, reason, UDP, headerAt, bytes);
};

/** The same for `len` bytes of data at `at`, whose header may not lie before it (of a superframe only the first has one). */
export const refuseData = (f: Flow, errno: number, at: number, len: number): void =>
  refuse(f, errno, HEADER_AT, writeDatagram(f, at, len));
