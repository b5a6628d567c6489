// SPDX-License-Identifier: Apache-2.0
/**
 * Segments for the guest: headers, flag segments, and bursts of data read straight from the socket's queue into the
 * payload of frames.
 *
 * Data stays in the socket until the guest acknowledges it: it is read with MSG_PEEK, from behind what was sent already, or
 * from wherever something was lost. Kernels from 6.9 keep that offset (SO_PEEK_OFF); for older ones the part in front is
 * read again into a scrap area.
 */
import { IOV_MAX_BATCH } from '../../../shared/abi.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as out from '../../link/out.ts';
import * as station from '../../link/station.ts';
import * as checksum from '../../wire/checksum.ts';
import * as ethernet from '../../wire/ethernet.ts';
import * as tcp from '../../wire/tcp.ts';
import * as vnet from '../../wire/vnet.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import { BURST_BYTES, PACKET_BYTES_MAX } from './constants.ts';
import * as lateAck from './late-ack.ts';
import * as outOfOrder from './out-of-order.ts';
import * as pace from './pace.ts';
import { announceWindow } from './window.ts';

const ALIGN = 64;
const EAGAIN = 11;
const TTL = 64;
/** Round trips above this are those of a link behind the guest, not of the tap. */
const LINK_RTT_US = 2000;
export const SOL_SOCKET = 1;
export const SO_PEEK_OFF = 42;
/** Scrap for bytes already sent, on kernels without SO_PEEK_OFF. */
const SCRAP_BYTES = 65_536;
const SCRAP_AT = io.SOCK_END - SCRAP_BYTES;

/** Whether the tap segments for us (GSO): one frame then carries up to 64 KiB at any MSS. */
let segmentation = false;
let mss4 = 0;
let mss6 = 0;
export const configure = (tso: boolean, linkMtu: number): void => {
  segmentation = tso;
  mss4 = linkMtu - 20 - tcp.HEADER_BYTES;
  mss6 = linkMtu - 40 - tcp.HEADER_BYTES;
};
/** The MSS we announce: what fits the link (RFC 9293 §3.7.1, RFC 6691). */
export const ourMss = (f: Flow): number => (flows.isV4(f) ? mss4 : mss6);

const l4Offset = (f: Flow): number => (flows.isV4(f) ? 34 : 54);

/** The TCP header at `at`, checksum and urgent pointer 0. */
export const writeHeader = (
  at: number,
  srcPort: number,
  dstPort: number,
  seq: number,
  ack: number,
  headerBytes: number,
  flags: number,
  window: number,
): void => {
  const v = io.view;
  tcp.setSrcPort(v, at, srcPort);
  tcp.setDstPort(v, at, dstPort);
  tcp.setSeq(v, at, seq);
  tcp.setAck(v, at, ack);
  tcp.setHeaderBytes(v, at, headerBytes);
  tcp.setFlags(v, at, flags);
  tcp.setWindow(v, at, window);
  tcp.setChecksum(v, at, 0);
  tcp.setUrgent(v, at, 0);
};

/**
 * Writes Ethernet, IP and TCP headers of a segment whose frame starts at `at` (Ethernet header), options and payload in
 * place, and commits it. Sequence number `seq`, window field `window`; the acknowledgement is the flow's present one.
 */
const finish = (
  f: Flow,
  at: number,
  seq: number,
  flags: number,
  optionBytes: number,
  payload: number,
  window: number,
): void => {
  const v4 = flows.isV4(f);
  const l4 = at + (v4 ? 34 : 54);
  const segmentBytes = tcp.HEADER_BYTES + optionBytes + payload;
  if (v4) {
    station.ethernet(io.view, at, ethernet.IPV4);
    station.ipv4Header(io.view, at + 14, 20 + segmentBytes, 6, flows.remoteWord(f, 3), flows.guestWord(f, 3), TTL, 0);
  } else {
    station.ethernet(io.view, at, ethernet.IPV6);
    station.ipv6Header(
      io.view,
      at + 14,
      segmentBytes,
      6,
      flows.remoteWord(f, 0),
      flows.remoteWord(f, 1),
      flows.remoteWord(f, 2),
      flows.remoteWord(f, 3),
      flows.guestWord(f, 0),
      flows.guestWord(f, 1),
      flows.guestWord(f, 2),
      flows.guestWord(f, 3),
      TTL,
      0,
      0,
    );
  }
  if (station.several) station.direct(io.view, at);
  const ack = (flags & tcp.ACK) !== 0 ? conn.seqFromTap(f) : 0;
  writeHeader(l4, flows.remotePort(f), flows.guestPort(f), seq, ack, tcp.HEADER_BYTES + optionBytes, flags, window);
  // Ones' complement addition of the length to the constant part of the pseudo-header.
  const pseudo = checksum.fold(conn.pseudo(f) + segmentBytes);
  if (out.hasVnet()) {
    tcp.setChecksum(io.view, l4, pseudo);
    vnet.clear(io.view, at - vnet.HEADER_BYTES);
    vnet.needChecksum(io.view, at - vnet.HEADER_BYTES, l4 - at, tcp.CHECKSUM_OFFSET);
    if (payload > conn.mss(f)) {
      vnet.segment(
        io.view,
        at - vnet.HEADER_BYTES,
        v4 ? vnet.GSO_TCPV4 : vnet.GSO_TCPV6,
        conn.mss(f),
        l4 - at + tcp.HEADER_BYTES + optionBytes,
      );
    }
  } else {
    tcp.setChecksum(io.view, l4, ~io.native.checksum(l4, segmentBytes, pseudo) & 0xffff);
  }
  out.commitAt(at, l4 - at + segmentBytes);
  // Data goes without options: it acknowledges, but does not tell what waits out of order.
  if ((flags & tcp.ACK) === 0) return;
  lateAck.told(f, ack);
  if (payload === 0 || outOfOrder.bytes(f) === 0) conn.clear(f, conn.ACK_DUE);
};

/** A segment without data: ACK, FIN|ACK, RST… with sequence number `seq`. An ACK tells what waits out of order (RFC 2018). */
export const flagSegment = (f: Flow, seq: number, flags: number): void => {
  const options = (flags & tcp.RST) === 0 && conn.has(f, conn.SACK) ? outOfOrder.chooseBlocks(f) : 0;
  const headers = l4Offset(f) + tcp.HEADER_BYTES;
  const at = out.reserve(headers + options);
  if (options > 0) outOfOrder.writeBlocks(at + headers);
  finish(f, at, seq, flags, options, 0, announceWindow(f, false));
};
export const sendAck = (f: Flow): void => flagSegment(f, conn.seqToTap(f), tcp.ACK);

/**
 * SYN to a guest that has not answered one, else SYN|ACK; with MSS, and window scale (RFC 7323 §2.2) and SACK-permitted (RFC 2018
 * §2): in an answer only if the guest offered them.
 */
export const sendSyn = (f: Flow): void => {
  const flags = conn.has(f, conn.SYN_SENT) ? tcp.SYN : tcp.SYN | tcp.ACK;
  const scale = conn.scaleToTap(f);
  const sack = conn.has(f, conn.SACK);
  const optionBytes = tcp.MSS_BYTES + (scale > 0 ? 4 : 0) + (sack ? 4 : 0);
  const at = out.reserve(l4Offset(f) + tcp.HEADER_BYTES + optionBytes);
  let next = tcp.putMss(io.view, at + l4Offset(f) + tcp.HEADER_BYTES, ourMss(f));
  if (scale > 0) next = tcp.putWindowScale(io.view, next, scale);
  if (sack) tcp.putSackPermitted(io.view, next);
  finish(f, at, conn.ackFromTap(f), flags, optionBytes, 0, announceWindow(f, true));
};

/** Payload of one frame: as many whole segments as fit a packet where the tap segments, else one. */
const frameBytes = (f: Flow): number => {
  const mss = conn.mss(f);
  if (!segmentation) return mss;
  const most = PACKET_BYTES_MAX - (flows.isV4(f) ? 20 : 40) - tcp.HEADER_BYTES;
  return most > mss ? most - (most % mss) : mss;
};

/** Bytes the last burst asked for, and whether its answer of 0 bytes is the end of file. */
let asked = 0;
let ended = false;

/**
 * Up to `want` bytes of the socket's queue from `seq` on, as frames to the guest. Returns how many there were, or -errno.
 * Without SO_PEEK_OFF nothing can be read far behind the queue's head: then -EAGAIN.
 */
const burst = (f: Flow, seq: number, want: number): number => {
  const offset = (seq - conn.seqInSock(f)) | 0;
  const per = frameBytes(f);
  // Without segmentation a burst is bounded by ranges rather than bytes.
  let first = 0;
  ended = false;
  if (conn.has(f, conn.PEEK_OFFSET)) {
    if (conn.peekSeq(f) !== seq) {
      const r = io.native.setsockopt(flows.fd(f), SOL_SOCKET, SO_PEEK_OFF, offset);
      if (r < 0) return r;
    }
  } else {
    for (let left = offset; left > 0; left -= SCRAP_BYTES) {
      if (first === IOV_MAX_BATCH / 2) return -EAGAIN;
      io.col[io.COL.IOV_AT + first] = SCRAP_AT;
      io.col[io.COL.IOV_LEN + first] = Math.min(left, SCRAP_BYTES);
      first++;
    }
  }
  const framesMax = IOV_MAX_BATCH - first;
  asked = Math.min(want, framesMax * per);
  const frames = Math.ceil(asked / per);
  const headers = l4Offset(f) + tcp.HEADER_BYTES;
  const stride = (out.VNET_ROOM + headers + per + ALIGN - 1) & -ALIGN;
  const block = out.reserveBlock(frames, stride);
  for (let i = 0, left = asked; i < frames; i++, left -= per) {
    io.col[io.COL.IOV_AT + first + i] = block + i * stride + out.VNET_ROOM + headers;
    io.col[io.COL.IOV_LEN + first + i] = Math.min(left, per);
  }
  let n = io.native.recvv(flows.fd(f), first + frames, true);
  conn.setPeekSeq(f, n < 0 ? seq : (seq + n) | 0);
  if (n < 0) return n;
  if (first > 0) n = Math.max(n - offset, 0);
  if (n === 0) {
    // Only a queue at its end answers 0 bytes here; one that merely holds nothing new answers EAGAIN when the kernel
    // keeps the offset. Without that, the scrap alone came back: then RDHUP tells which it is.
    ended = first === 0 || conn.has(f, conn.SOCK_RDHUP);
    return 0;
  }
  pace.spent(f, n);
  let s = seq;
  const window = announceWindow(f, false);
  for (let i = 0, left = n; left > 0; i++, left -= per) {
    const payload = Math.min(left, per);
    const flags = left <= per ? tcp.ACK | tcp.PSH : tcp.ACK;
    finish(f, block + i * stride + out.VNET_ROOM, s, flags, 0, payload, window);
    s = (s + payload) | 0;
  }
  return n;
};

/** Result of sendData. */
export const DRAINED = 0;
export const MORE = 1;
export const WINDOW_FULL = 2;
export const END = 3;

/**
 * One burst of new data from the socket's queue to the guest, as far as the guest's window, `budget` (what may be under way
 * besides what is) and BURST_BYTES allow. Returns DRAINED (the queue is empty), MORE (the burst was used up), WINDOW_FULL,
 * END (end of file), or -errno.
 */
export const sendData = (f: Flow, budget: number): number => {
  const inFlight = conn.inFlight(f);
  const room = Math.min(conn.wndFromTap(f) - inFlight, budget);
  // Sender-side silly window avoidance (RFC 9293 §3.8.6.2.1): no small piece while a full one may be possible soon.
  if (room <= 0 || (room < conn.mss(f) && inFlight > 0)) return WINDOW_FULL;
  const n = burst(f, conn.seqToTap(f), Math.min(room, BURST_BYTES));
  if (n < 0) return n === -EAGAIN ? DRAINED : n;
  // Without SO_PEEK_OFF nothing behind the mark of urgent data can be read before what is in front of it was acknowledged.
  if (n === 0 && conn.has(f, conn.URGENT) && !conn.has(f, conn.PEEK_OFFSET) && inFlight > 0) return WINDOW_FULL;
  if (n === 0) return ended ? END : DRAINED;
  const next = (conn.seqToTap(f) + n) | 0;
  conn.setSeqToTap(f, next);
  congestion.sent(f, next, inFlight === 0);
  // A short read is the end of the queue, but where there is an end of file to be read, or a mark (RFC 6093 §3.1).
  if (n < asked) return conn.has(f, conn.SOCK_RDHUP | conn.URGENT) ? MORE : DRAINED;
  return asked === room ? WINDOW_FULL : MORE;
};

/** Whether the queue holds data that was never sent. Without SO_PEEK_OFF that is not looked for: false. */
export const hasMore = (f: Flow): boolean => {
  if (!conn.has(f, conn.PEEK_OFFSET)) return false;
  const next = conn.seqToTap(f);
  if (conn.peekSeq(f) !== next) {
    if (io.native.setsockopt(flows.fd(f), SOL_SOCKET, SO_PEEK_OFF, (next - conn.seqInSock(f)) | 0) < 0) return false;
  }
  io.col[io.COL.IOV_AT] = SCRAP_AT;
  io.col[io.COL.IOV_LEN] = 1;
  const n = io.native.recvv(flows.fd(f), 1, true);
  conn.setPeekSeq(f, n > 0 ? (next + n) | 0 : next);
  return n > 0;
};

/** Sends [seq, seq + len) again, a FIN at its end included. Returns how much of it went out. */
export const sendAgain = (f: Flow, seq: number, len: number): number => {
  const fin = conn.has(f, conn.TAP_FIN_SENT) && ((seq + len) | 0) === conn.seqToTap(f);
  const data = len - (fin ? 1 : 0);
  let sent = 0;
  while (sent < data) {
    const n = burst(f, (seq + sent) | 0, data - sent);
    if (n <= 0) return sent;
    sent += n;
  }
  if (!fin) return sent;
  flagSegment(f, (conn.seqToTap(f) - 1) | 0, tcp.FIN | tcp.ACK);
  return sent + 1;
};

/**
 * What the guest has acknowledged leaves the socket's queue: at once, or over a link with a round-trip time in halves of what
 * is there. (The kernel grows the receive buffer by what is read within one of its own round trips, and the guest's link may be
 * a hundred times longer than the peer's: read in crumbs, the buffer would not grow beyond what sock-room.ts asked for.)
 * Returns 0, or -errno.
 */
export const discardAcknowledged = (f: Flow): number => {
  const acked = (conn.ackFromTap(f) - (conn.has(f, conn.TAP_FIN_ACKED) ? 1 : 0)) | 0;
  const bytes = (acked - conn.seqInSock(f)) | 0;
  const inFlight = conn.inFlight(f);
  if (bytes <= 0) return 0;
  if (bytes < inFlight && conn.has(f, conn.PEEK_OFFSET) && congestion.srttUs(f) > LINK_RTT_US) return 0;
  const n = io.native.discard(flows.fd(f), bytes);
  if (n !== bytes) return n < 0 ? n : -EAGAIN;
  conn.setSeqInSock(f, acked);
  // The offset moves back with the queue, but not beyond its head.
  if (((acked - conn.peekSeq(f)) | 0) > 0) conn.setPeekSeq(f, acked);
  return 0;
};
