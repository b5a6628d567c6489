// SPDX-License-Identifier: Apache-2.0
/** Segments arriving from the guest (RFC 9293 §3.10.7). */
import { IOV_MAX_BATCH } from '../../../shared/abi.ts';
import * as hash from '../../flow/hash.ts';
import * as lru from '../../flow/lru.ts';
import * as flows from '../../flow/table.ts';
import { type Flow, NO_FLOW } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as checksum from '../../wire/checksum.ts';
import * as ipv4 from '../../wire/ipv4.ts';
import * as ipv6 from '../../wire/ipv6.ts';
import { TCP } from '../../wire/protocols.ts';
import * as seq from '../../wire/seq.ts';
import * as tcp from '../../wire/tcp.ts';
import * as vnet from '../../wire/vnet.ts';
import * as challenge from './challenge.ts';
import { abort, touch } from './close.ts';
import * as conn from './conn.ts';
import { DUPLICATE_ACKS, RTO_INITIAL_MS, WINDOW_MAX } from './constants.ts';
import * as keepalive from './keepalive.ts';
import { reopen, resetReply, synFromTap, takeSyn } from './open.ts';
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
  let accepted = 0;
  if (stash.bytes(f) === 0) {
    const written = io.native.writev(flows.fd(f), n);
    if (written < 0 && written !== -EAGAIN) {
      // The peer is gone (EPIPE, ECONNRESET): the guest learns it as it would from the peer.
      abort(f);
      return;
    }
    if (written > 0) accepted = written;
  }
  if (accepted < total) {
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
  }
  conn.setSeqFromTap(f, (conn.seqFromTap(f) + accepted) | 0);
  conn.add(f, conn.ACK_DUE);
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
  if (!vnet.vouched(v, frameAt - vnet.HEADER_BYTES)) {
    const pseudo = v4
      ? checksum.pseudo4(ipv4.src(v, ipAt), ipv4.dst(v, ipAt), TCP, end - at)
      : checksum.pseudo6(v, ipAt + ipv6.SRC, TCP, end - at);
    if (io.native.checksum(at, end - at, pseudo) !== 0xffff) return drop(DROP['tcp-checksum']);
  }
  const srcPort = tcp.srcPort(v, at);
  const dstPort = tcp.dstPort(v, at);
  if (srcPort === 0 || dstPort === 0) return drop(DROP['tcp-malformed']);
  const f = hash.findFromTap(flows.FLOW_TCP, v4, ipAt, srcPort, dstPort);
  if (f >= 0) {
    if (!timeWait.is(f)) return segment(f, at, end);
    if (timeWait.segment(f, at, end)) reopen(f, ipAt, at, v4);
    return;
  }
  const flags = tcp.flags(v, at);
  if ((flags & (tcp.SYN | tcp.ACK | tcp.RST | tcp.FIN)) === tcp.SYN) {
    synFromTap(ipAt, at, v4);
    return;
  }
  // No program sends that, and a listening host does not answer it: a scan.
  if ((flags & (tcp.SYN | tcp.FIN)) === (tcp.SYN | tcp.FIN)) return drop(DROP['tcp-malformed']);
  drop(DROP['tcp-no-flow']);
  resetReply(ipAt, at, end, v4);
};

/** A segment of a known flow. */
const segment = (f: Flow, at: number, end: number): void => {
  const v = io.view;
  keepalive.heard(f);
  const flags = tcp.flags(v, at);
  const s = tcp.seq(v, at);
  if (!conn.has(f, conn.SOCK_CONNECTED)) {
    // The socket is still connecting. The guest's SYN retries need no answer; the SYN of another attempt takes its place.
    if ((flags & tcp.RST) !== 0) resetFromTap(f, s);
    else if ((flags & (tcp.SYN | tcp.ACK | tcp.FIN)) === tcp.SYN && ((s + 1) | 0) !== conn.seqFromTap(f))
      takeSyn(f, at);
    return;
  }
  if ((flags & tcp.RST) !== 0) return resetFromTap(f, s);
  if ((flags & tcp.SYN) !== 0) {
    // A repeated SYN before our SYN|ACK arrived; later ones are challenged (RFC 5961 §4.2).
    if (!conn.has(f, conn.ESTABLISHED) && ((s + 1) | 0) === conn.seqFromTap(f)) toTap.sendSynAck(f);
    else challenge.send(f);
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
  if (data < end || (flags & tcp.FIN) !== 0) payload(f, s, data, end, (flags & tcp.FIN) !== 0);
  else if (s !== nextFromTap(f)) {
    // Nothing in it and not where we are: a keep-alive or a stray; both want our state (RFC 9293 §3.10.7.4, §3.8.4).
    conn.add(f, conn.ACK_DUE);
    touch(f);
  }
};

/** RFC 5961 §3.2: exactly the next number resets, elsewhere in the window it is challenged, outside it is dropped. */
const resetFromTap = (f: Flow, s: number): void => {
  if (s === nextFromTap(f)) {
    if (gathering === f) flushWrites();
    // The write may have ended it already.
    if (flows.typeOf(f) !== flows.FLOW_FREE) abort(f, false);
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
    conn.add(f, conn.ESTABLISHED);
    conn.setAckFromTap(f, ack);
    conn.setWndFromTap(f, tcp.window(v, at) << conn.scaleFromTap(f));
    conn.setRetries(f, 0);
    conn.setRtoMs(f, RTO_INITIAL_MS);
    lru.move(lru.LRU_TCP, f);
    touch(f);
    return true;
  }
  if (seq.diff(ack, conn.seqMaxToTap(f)) > 0) {
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
  if (progress > 0) {
    if (!newlyAcknowledged(f, ack, progress)) return false;
    conn.setWndFromTap(f, window);
    touch(f);
    return true;
  }
  if (conn.wndFromTap(f) === 0) {
    // The answer to a probe: a guest that keeps its window closed is alive all the same (RFC 9293 §3.8.6.1).
    conn.setRetries(f, 0);
    if (window > 0) {
      conn.setWndFromTap(f, window);
      timeout.progress(f);
      touch(f);
    }
    return true;
  }
  const bare = at + tcp.headerBytes(v, at) === end && (flags & tcp.FIN) === 0;
  if (bare && window === conn.wndFromTap(f) && conn.inFlight(f) > 0) duplicate(f);
  else if (window !== conn.wndFromTap(f)) {
    conn.setWndFromTap(f, window);
    touch(f);
  }
  return true;
};

/** The guest has `progress` more bytes, up to `ack`: they leave the socket's queue. False: the flow ended over it. */
const newlyAcknowledged = (f: Flow, ack: number, progress: number): boolean => {
  let bytes = progress;
  // Once end of file was read the highest number sent is the FIN's, also while a rewind sends data again.
  if (conn.has(f, conn.SOCK_FIN_RCVD) && ack === conn.seqMaxToTap(f)) {
    conn.add(f, conn.TAP_FIN_SENT | conn.TAP_FIN_ACKED);
    bytes--;
  }
  if (bytes > 0 && io.native.discard(flows.fd(f), bytes) !== bytes) {
    // They were there when they were sent. Whatever came of them, from here on the socket's queue is not the guest's.
    drop(DROP['sock-error']);
    abort(f);
    return false;
  }
  conn.setAckFromTap(f, ack);
  // After a rewind the guest may acknowledge more than was sent again.
  if (seq.diff(ack, conn.seqToTap(f)) > 0) conn.setSeqToTap(f, ack);
  if (conn.has(f, conn.RECOVERING) && seq.diff(ack, conn.recover(f)) > 0) conn.clear(f, conn.RECOVERING);
  conn.setDupAcks(f, 0);
  conn.setRetries(f, 0);
  timeout.progress(f);
  return true;
};

/** RFC 5681 §3.2: the third duplicate means loss; sent again from what is missing. */
const duplicate = (f: Flow): void => {
  // What is sent again and was there already is answered by duplicates, too: they would start it all over (RFC 6582 §3.2).
  if (conn.has(f, conn.RECOVERING)) return;
  const n = conn.dupAcks(f) + 1;
  if (n > 255) return;
  conn.setDupAcks(f, n);
  if (n === DUPLICATE_ACKS) {
    toTap.rewind(f);
    touch(f);
  }
};

/** Data and FIN at sequence number `s`. */
const payload = (f: Flow, s: number, dataAt: number, end: number, fin: boolean): void => {
  touch(f);
  let at = dataAt;
  let len = end - dataAt;
  const next = nextFromTap(f);
  const known = seq.diff(next, s);
  if (known < 0) {
    // A hole before it: the duplicate ACK goes out now, one for each (RFC 5681 §4.2).
    flushWrites();
    drop(DROP['tcp-out-of-window']);
    if (flows.fd(f) >= 0) toTap.sendAck(f);
    return;
  }
  conn.add(f, conn.ACK_DUE);
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
  if (!fin || cut) return;
  const all = nextFromTap(f);
  flushWrites();
  // The FIN counts only when everything before it was taken.
  if (flows.fd(f) < 0 || conn.seqFromTap(f) !== all) return;
  conn.setSeqFromTap(f, (all + 1) | 0);
  conn.setEdgeToTap(f, seq.max(conn.edgeToTap(f), (all + 1) | 0));
  conn.add(f, conn.TAP_FIN_RCVD | conn.ACK_DUE);
};
