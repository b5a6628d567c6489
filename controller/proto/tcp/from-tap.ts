// SPDX-License-Identifier: Apache-2.0
/** Segments arriving from the guest (RFC 9293 §3.10.7). */
import { IOV_MAX_BATCH } from '../../../shared/abi.ts';
import * as hash from '../../flow/hash.ts';
import * as flows from '../../flow/table.ts';
import { type Flow, NO_FLOW } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as pressure from '../../link/pressure.ts';
import * as received from '../../link/received.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as checksum from '../../wire/checksum.ts';
import * as ipv4 from '../../wire/ipv4.ts';
import * as ipv6 from '../../wire/ipv6.ts';
import { TCP } from '../../wire/protocols.ts';
import * as seq from '../../wire/seq.ts';
import * as tcp from '../../wire/tcp.ts';
import * as vnet from '../../wire/vnet.ts';
import { established, takeSyn } from './begin.ts';
import * as challenge from './challenge.ts';
import { fail, touch } from './close.ts';
import * as conn from './conn.ts';
import { WINDOW_MAX } from './constants.ts';
import * as inbound from './inbound.ts';
import * as keepalive from './keepalive.ts';
import { reopen, resetReply, synFromTap } from './open.ts';
import * as outOfOrder from './out-of-order.ts';
import * as part from './part.ts';
import * as recovery from './recovery.ts';
import * as stash from './stash.ts';
import * as timeWait from './time-wait.ts';
import * as timeout from './timeout.ts';
import * as toTap from './to-tap.ts';

const EAGAIN = 11;

// The write being gathered: in-order payloads of one flow. It lives in the range columns of io, which others use, too:
// it is written before anything but segments is looked at (flushWrites at the end of each batch from the tap).
let gathering: Flow = NO_FLOW;
let ranges = 0;
let gathered = 0;

/**
 * Writes `n` ranges of IOV_AT/IOV_LEN, `total` bytes, to the socket, the rest to the stash. Returns how many bytes either took;
 * -1: the flow ended over it.
 */
const write = (f: Flow, n: number, total: number): number => {
  let accepted = 0;
  if (stash.bytes(f) === 0) {
    const written = io.native.writev(flows.fd(f), n);
    if (written < 0 && written !== -EAGAIN) {
      // The peer is gone (EPIPE, ECONNRESET): the guest learns it as it would from the peer.
      fail(f);
      return -1;
    }
    if (written > 0) accepted = written;
  }
  if (accepted === total) return total;
  let skip = accepted;
  for (let i = 0; i < n; i++) {
    const len = io.col[io.COL.IOV_LEN + i] as number;
    if (skip >= len) {
      skip -= len;
      continue;
    }
    const taken = stash.append(f, (io.col[io.COL.IOV_AT + i] as number) + skip, len - skip);
    accepted += taken;
    if (taken < len - skip) {
      drop(DROP['sock-full']);
      break;
    }
    skip = 0;
  }
  return accepted;
};

/** Writes what was gathered; what the socket refuses goes to the stash, what that refuses was never received. */
export const flushWrites = (): void => {
  if (ranges === 0) return;
  const f = gathering;
  const n = ranges;
  const total = gathered;
  ranges = 0;
  gathered = 0;
  gathering = NO_FLOW;
  if (flows.fd(f) < 0) return;
  const accepted = write(f, n, total);
  if (accepted < 0) return;
  conn.setSeqFromTap(f, (conn.seqFromTap(f) + accepted) | 0);
  conn.add(f, conn.ACK_DUE);
  if (outOfOrder.bytes(f) > 0) takeQueued(f);
};

/** What was out of order and is not any more goes the way of all data. */
const takeQueued = (f: Flow): void => {
  for (;;) {
    const next = conn.seqFromTap(f);
    outOfOrder.release(f, next);
    const total = outOfOrder.pick(f, next);
    if (total === 0) return;
    const taken = write(f, outOfOrder.pieces(), total);
    if (taken < 0) return;
    conn.setSeqFromTap(f, (next + taken) | 0);
    // What is refused was told to be here, but never acknowledged: it comes again.
    if (taken < total) outOfOrder.release(f, (next + total) | 0);
  }
};

const gather = (f: Flow, at: number, len: number): void => {
  if (gathering !== f || ranges === IOV_MAX_BATCH) {
    flushWrites();
    gathering = f;
  }
  io.col[io.COL.IOV_AT + ranges] = at;
  io.col[io.COL.IOV_LEN + ranges] = len;
  ranges++;
  gathered += len;
};

/** RCV.NXT with what has been gathered but not written yet. */
const nextFromTap = (f: Flow): number => (conn.seqFromTap(f) + (gathering === f ? gathered : 0)) | 0;

/**
 * One TCP segment at [at, end) of the packet at `ipAt`, frame at `frameAt`. The caller has checked the IP header; here
 * the TCP header and, unless the virtio-net header vouches for it, the checksum (RFC 9293 §3.1).
 */
export const fromTap = (frameAt: number, ipAt: number, at: number, end: number, v4: boolean): void => {
  const v = io.view;
  if (!tcp.fits(v, at, end)) return drop(DROP['tcp-malformed']);
  if (!vnet.vouched(v, received.header(frameAt))) {
    const pseudo = v4
      ? checksum.pseudo4(ipv4.src(v, ipAt), ipv4.dst(v, ipAt), TCP, end - at)
      : checksum.pseudo6(v, ipAt + ipv6.SRC, TCP, end - at);
    if (io.native.checksum(at, end - at, pseudo) !== 0xffff) return drop(DROP['tcp-checksum']);
  }
  const srcPort = tcp.srcPort(v, at);
  const dstPort = tcp.dstPort(v, at);
  if (srcPort === 0 || dstPort === 0) return drop(DROP['tcp-malformed']);
  const flags = tcp.flags(v, at);
  let f = hash.findFromTap(flows.FLOW_TCP, v4, ipAt, srcPort, dstPort);
  // The last ACK and the next connection's SYN came in one batch.
  if (f >= 0 && (flags & tcp.SYN) !== 0 && conn.hasAll(f, conn.SOCK_FIN_SENT | conn.TAP_FIN_ACKED)) f = settle(f);
  if (f >= 0) {
    if (!timeWait.is(f)) return segment(f, at, end);
    if (timeWait.segment(f, at, end)) reopen(f, ipAt, at, v4);
    return;
  }
  if ((flags & (tcp.SYN | tcp.ACK | tcp.RST | tcp.FIN)) === tcp.SYN) {
    synFromTap(ipAt, at, v4);
    return;
  }
  // No program sends that, and a listening host does not answer it: a scan.
  if ((flags & (tcp.SYN | tcp.FIN)) === (tcp.SYN | tcp.FIN)) return drop(DROP['tcp-malformed']);
  drop(DROP['tcp-no-flow']);
  if (pressure.mayServe()) resetReply(ipAt, at, end, v4);
};

/** Ends a connection whose both lines are closed before its batch ends. Returns the row if it stays, in TIME-WAIT. */
const settle = (f: Flow): Flow => {
  if (timeWait.is(f)) return f;
  flushWrites();
  // Unread data would make a reset of the socket's end.
  toTap.discardAcknowledged(f);
  timeWait.closed(f);
  return timeWait.is(f) ? f : NO_FLOW;
};

/** A segment of a known flow. */
const segment = (f: Flow, at: number, end: number): void => {
  const v = io.view;
  const idle = keepalive.heard(f);
  const flags = tcp.flags(v, at);
  const s = tcp.seq(v, at);
  if (!conn.has(f, conn.ESTABLISHED) && conn.has(f, conn.SYN_SENT)) return inbound.segment(f, at);
  if (!conn.has(f, conn.SOCK_CONNECTED)) {
    // The socket is still connecting. The guest's SYN retries need no answer; the SYN of another attempt takes its place.
    if ((flags & tcp.RST) !== 0) resetFromTap(f, s);
    else if ((flags & (tcp.SYN | tcp.ACK | tcp.FIN)) === tcp.SYN && ((s + 1) | 0) !== conn.seqFromTap(f))
      takeSyn(f, at);
    return;
  }
  if ((flags & tcp.RST) !== 0) return resetFromTap(f, s);
  if ((flags & tcp.SYN) !== 0) {
    // A repeated SYN before our SYN|ACK arrived, or the guest's half of two ends that opened at once; later ones are
    // challenged (RFC 5961 §4.2).
    if (conn.has(f, conn.ESTABLISHED) || ((s + 1) | 0) !== conn.seqFromTap(f)) challenge.send(f);
    else if ((flags & tcp.ACK) === 0) toTap.sendSyn(f);
    else if (acknowledgement(f, at, end, flags)) conn.add(f, conn.ACK_DUE);
    return;
  }
  if (seq.diff(s, conn.edgeToTap(f)) > 0 || seq.diff(s, conn.seqFromTap(f)) < -WINDOW_MAX) {
    // Neither what we may be sent nor what we were sent: it says nothing, its ACK included (RFC 9293 §3.10.7.4).
    drop(DROP['tcp-out-of-window']);
    challenge.send(f);
    return;
  }
  if ((flags & tcp.ACK) === 0) return drop(DROP['tcp-malformed']);
  if (!acknowledgement(f, at, end, flags)) return;
  const data = at + tcp.headerBytes(v, at);
  if (((s + 1) | 0) === conn.seqFromTap(f) && end - data <= 1 && (flags & tcp.FIN) === 0) keepalive.guestAsks(f, idle);
  if (data < end || (flags & tcp.FIN) !== 0) payload(f, s, data, end, (flags & tcp.FIN) !== 0);
  else if (s !== nextFromTap(f)) {
    // Nothing in it and not where we are: a keep-alive or a stray; both want our state (RFC 9293 §3.10.7.4, §3.8.4).
    conn.add(f, conn.ACK_DUE);
    touch(f);
  }
};

/** RFC 5961 §3.2: exactly the next number resets, elsewhere in the window it is challenged, outside it is dropped. */
const resetFromTap = (f: Flow, s: number): void => {
  // Both ends have said good-bye: the guest has no such connection any more. What it left with us still goes to the peer.
  if (conn.hasAll(f, conn.TAP_FIN_RCVD | conn.TAP_FIN_ACKED)) return drop(DROP['tcp-no-flow']);
  if (s === nextFromTap(f)) {
    if (gathering === f) flushWrites();
    // The write may have ended it already.
    if (flows.typeOf(f) !== flows.FLOW_FREE) part.begin(f);
  } else if (seq.diff(s, conn.seqFromTap(f)) >= 0 && seq.diff(s, conn.edgeToTap(f)) < 0) {
    challenge.send(f);
  } else drop(DROP['tcp-out-of-window']);
};

/** The ACK and window fields (RFC 9293 §3.10.7.4, RFC 5961 §5.2). False: the segment goes no further. */
const acknowledgement = (f: Flow, at: number, end: number, flags: number): boolean => {
  const v = io.view;
  const ack = tcp.ack(v, at);
  const una = conn.ackFromTap(f);
  const progress = seq.diff(ack, una);
  if (!conn.has(f, conn.ESTABLISHED)) {
    if (progress !== 1) {
      // SYN-RECEIVED: an acknowledgement of something else is of another connection's (RFC 9293 §3.10.7.4).
      drop(DROP['tcp-bad-ack']);
      toTap.flagSegment(f, ack, tcp.RST);
      return false;
    }
    // The window of a SYN is not scaled (RFC 7323 §2.2).
    established(f, ack, tcp.window(v, at) << ((flags & tcp.SYN) !== 0 ? 0 : conn.scaleFromTap(f)));
    return true;
  }
  if (seq.diff(ack, conn.seqToTap(f)) > 0) {
    drop(DROP['tcp-bad-ack']);
    challenge.send(f);
    return false;
  }
  if (progress < -conn.wndMaxFromTap(f)) {
    // Older than anything that can still be on its way (RFC 5961 §5.2).
    drop(DROP['tcp-bad-ack']);
    challenge.send(f);
    return false;
  }
  // An old ACK says nothing new, but the segment's data may still be wanted.
  if (progress < 0) return true;
  const window = tcp.window(v, at) << conn.scaleFromTap(f);
  const s = tcp.seq(v, at);
  const sack = conn.has(f, conn.SACK) && tcp.headerBytes(v, at) > tcp.HEADER_BYTES;
  if (progress > 0) {
    newlyAcknowledged(f, ack, progress);
    if (sack) recovery.sackFromTap(f, at);
    conn.setWndFromTap(f, window);
    conn.setSeqOfWindow(f, s);
    touch(f);
    return true;
  }
  if (sack && recovery.sackFromTap(f, at) > 0) {
    conn.setDupAcks(f, Math.min(conn.dupAcks(f) + 1, 255));
    touch(f);
  }
  const before = conn.wndFromTap(f);
  if (before === 0) {
    // The answer to a probe: a guest that keeps its window closed is alive all the same (RFC 9293 §3.8.6.1).
    conn.setRetries(f, 0);
    if (window > 0) {
      conn.setWndFromTap(f, window);
      conn.setSeqOfWindow(f, s);
      timeout.opened(f);
      touch(f);
    }
    return true;
  }
  if (window === before) {
    const bare = at + tcp.headerBytes(v, at) === end && (flags & tcp.FIN) === 0;
    if (bare && conn.inFlight(f) > 0) {
      recovery.duplicate(f);
      if (recovery.active(f)) touch(f);
    }
  } else if (window > before || window === 0 || seq.after(s, conn.seqOfWindow(f))) {
    // RFC 9293 §3.10.7.4, SND.WL1 and WL2. Of two that acknowledge the same from the same place, which order tells nothing
    // about, the larger window is the later one: a window shrinks by nothing but data.
    conn.setWndFromTap(f, window);
    conn.setSeqOfWindow(f, s);
    touch(f);
  }
  return true;
};

/** The guest has `progress` more bytes, up to `ack`. */
const newlyAcknowledged = (f: Flow, ack: number, progress: number): void => {
  recovery.acknowledged(f, ack, progress);
  if (conn.has(f, conn.TAP_FIN_SENT) && ack === conn.seqToTap(f)) conn.add(f, conn.TAP_FIN_ACKED);
  conn.setAckFromTap(f, ack);
  conn.clear(f, conn.PROBED);
  conn.setDupAcks(f, 0);
  if (conn.has(f, conn.RECOVERING)) {
    const beyond = seq.diff(ack, conn.recover(f));
    if (beyond > 0 || (beyond === 0 && conn.has(f, conn.SACK))) conn.clear(f, conn.RECOVERING);
    else if (beyond < 0 && !recovery.active(f)) recovery.firstIsLost(f);
  }
  timeout.progress(f);
};

/** Data and FIN at sequence number `s`. */
const payload = (f: Flow, s: number, dataAt: number, end: number, fin: boolean): void => {
  touch(f);
  let at = dataAt;
  let len = end - dataAt;
  const next = nextFromTap(f);
  const known = seq.diff(next, s);
  if (known < 0) return aheadOfTime(f, s, dataAt, len, fin);
  conn.add(f, conn.ACK_DUE);
  if (known > 0 && len > 0) outOfOrder.repeated(f, s, Math.min(known, len));
  // All of it is old, or the FIN was counted already.
  if (known > len || (known === len && len > 0 && !fin) || conn.has(f, conn.TAP_FIN_RCVD)) return;
  at += known;
  len -= known;
  const room = seq.diff(conn.edgeToTap(f), next);
  let cut = false;
  if (len > room) {
    len = Math.max(room, 0);
    cut = true;
    drop(DROP['tcp-out-of-window']);
  }
  if (len > 0) gather(f, at, len);
  const all = nextFromTap(f);
  if (fin && !cut) {
    conn.setFinFromTap(f, all);
    conn.add(f, conn.TAP_FIN_WAITS);
  }
  if (conn.has(f, conn.TAP_FIN_WAITS) || (outOfOrder.bytes(f) > 0 && outOfOrder.reaches(f, all))) flushWrites();
  if (conn.has(f, conn.TAP_FIN_WAITS)) finReached(f);
};

/** The guest's FIN counts when everything before it was taken. */
const finReached = (f: Flow): void => {
  if (flows.fd(f) < 0 || conn.seqFromTap(f) !== conn.finFromTap(f)) return;
  const after = (conn.finFromTap(f) + 1) | 0;
  conn.clear(f, conn.TAP_FIN_WAITS);
  conn.setSeqFromTap(f, after);
  conn.setEdgeToTap(f, seq.max(conn.edgeToTap(f), after));
  conn.add(f, conn.TAP_FIN_RCVD | conn.ACK_DUE);
};

/**
 * Something is missing before it: kept as far as it lies in the window, and the duplicate ACK goes out now (RFC 5681 §4.2). Only
 * where selective acknowledgement can tell of many segments at once, and nothing more has happened than that one follows the
 * other, is a batch answered together from the fourth on: over a bad link there is a hole nearly always, and an
 * ACK for each segment costs as much as the segment, on both sides and on the link between.
 */
const aheadOfTime = (f: Flow, s: number, at: number, len: number, fin: boolean): void => {
  flushWrites();
  if (flows.fd(f) < 0) return;
  const room = seq.diff(conn.edgeToTap(f), s);
  let longer = false;
  if (conn.has(f, conn.TAP_FIN_RCVD) || room < len || room <= 0) drop(DROP['tcp-out-of-window']);
  if (!conn.has(f, conn.TAP_FIN_RCVD) && room > 0) {
    if (len > 0) longer = outOfOrder.insert(f, s, at, Math.min(len, room)) && room >= len;
    if (fin && len <= room) {
      conn.setFinFromTap(f, (s + len) | 0);
      conn.add(f, conn.TAP_FIN_WAITS);
    }
  }
  const now = outOfOrder.mustTell(f, conn.seqFromTap(f)) || !longer || fin || !conn.has(f, conn.SACK);
  if (now) toTap.sendAck(f);
  else conn.add(f, conn.ACK_DUE);
};
