// SPDX-License-Identifier: Apache-2.0
/**
 * Segments for the guest: headers, flag segments, and bursts of data read straight from the socket's queue into the
 * payload of frames.
 *
 * Data stays in the socket until the guest acknowledges it: it is read with MSG_PEEK from the offset seqToTap −
 * ackFromTap. Kernels from 6.9 keep that offset (SO_PEEK_OFF); for older ones the part already sent is read again into
 * a scrap area in front.
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
import * as conn from './conn.ts';
import { BURST_BYTES, PACKET_BYTES_MAX } from './constants.ts';
import { announceWindow } from './window.ts';

const ALIGN = 64;
const EAGAIN = 11;
const TTL = 64;
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
  if ((flags & tcp.ACK) !== 0) conn.clear(f, conn.ACK_DUE);
};

/** A segment without data: ACK, FIN|ACK, RST… with sequence number `seq`. */
export const flagSegment = (f: Flow, seq: number, flags: number): void => {
  finish(f, out.reserve(l4Offset(f) + tcp.HEADER_BYTES), seq, flags, 0, 0, announceWindow(f, false));
};
/**
 * A bare ACK, at the highest number sent: in a rewind seqToTap lies before what the guest may have long had, and a
 * segment from there is not acceptable (RFC 9293 §3.10.7.4), its acknowledgement lost.
 */
export const sendAck = (f: Flow): void => flagSegment(f, conn.seqMaxToTap(f), tcp.ACK);

/** SYN|ACK with MSS and window scale, the latter only if the guest offered it (RFC 7323 §2.2). */
export const sendSynAck = (f: Flow): void => {
  const scale = conn.scaleToTap(f);
  const optionBytes = scale > 0 ? 8 : 4;
  const at = out.reserve(l4Offset(f) + tcp.HEADER_BYTES + optionBytes);
  const next = tcp.putMss(io.view, at + l4Offset(f) + tcp.HEADER_BYTES, ourMss(f));
  if (scale > 0) tcp.putWindowScale(io.view, next, scale);
  finish(f, at, conn.ackFromTap(f), tcp.SYN | tcp.ACK, optionBytes, 0, announceWindow(f, true));
};

/** Payload of one frame: as many whole segments as fit a packet where the tap segments, else one. */
const frameBytes = (f: Flow): number => {
  const mss = conn.mss(f);
  if (!segmentation) return mss;
  const most = PACKET_BYTES_MAX - (flows.isV4(f) ? 20 : 40) - tcp.HEADER_BYTES;
  return most > mss ? most - (most % mss) : mss;
};

/** Result of sendData. */
export const DRAINED = 0;
export const MORE = 1;
export const WINDOW_FULL = 2;
export const END = 3;

/**
 * One burst of data from the socket's queue to the guest, as far as the guest's window and BURST_BYTES allow.
 * Returns DRAINED (the queue is empty), MORE (the burst was used up), WINDOW_FULL, END (end of file), or -errno.
 */
export const sendData = (f: Flow): number => {
  const inFlight = conn.inFlight(f);
  const room = conn.wndFromTap(f) - inFlight;
  const mss = conn.mss(f);
  // Sender-side silly window avoidance (RFC 9293 §3.8.6.2.1): no small piece while a full one may be possible soon.
  if (room <= 0 || (room < mss && inFlight > 0)) return WINDOW_FULL;
  const per = frameBytes(f);
  let want = Math.min(room, BURST_BYTES);
  // Without segmentation a burst is bounded by ranges rather than bytes.
  let first = 0;
  if (!conn.has(f, conn.PEEK_OFFSET) && inFlight > 0) {
    for (let left = inFlight; left > 0; left -= SCRAP_BYTES) {
      if (first === IOV_MAX_BATCH / 2) return WINDOW_FULL;
      io.col[io.COL.IOV_AT + first] = SCRAP_AT;
      io.col[io.COL.IOV_LEN + first] = Math.min(left, SCRAP_BYTES);
      first++;
    }
  }
  const framesMax = IOV_MAX_BATCH - first;
  if (want > framesMax * per) want = framesMax * per;
  const frames = Math.ceil(want / per);
  const headers = l4Offset(f) + tcp.HEADER_BYTES;
  const stride = (out.VNET_ROOM + headers + per + ALIGN - 1) & -ALIGN;
  const block = out.reserveBlock(frames, stride);
  for (let i = 0, left = want; i < frames; i++, left -= per) {
    io.col[io.COL.IOV_AT + first + i] = block + i * stride + out.VNET_ROOM + headers;
    io.col[io.COL.IOV_LEN + first + i] = Math.min(left, per);
  }
  let n = io.native.recvv(flows.fd(f), first + frames, true);
  if (n < 0) return n === -EAGAIN ? DRAINED : n;
  if (first > 0) {
    n -= inFlight;
    if (n < 0) n = 0;
  }
  if (n === 0) {
    // Only a queue at its end answers 0 bytes here; one that merely holds nothing new answers EAGAIN when the kernel
    // keeps the offset. Without that, the scrap alone came back: then RDHUP tells which it is.
    if (first === 0 || conn.has(f, conn.SOCK_RDHUP)) return END;
    return DRAINED;
  }
  const short = n < want;
  let seq = conn.seqToTap(f);
  const window = announceWindow(f, false);
  for (let i = 0, left = n; left > 0; i++, left -= per) {
    const payload = Math.min(left, per);
    const last = left <= per;
    const flags = last ? tcp.ACK | tcp.PSH : tcp.ACK;
    finish(f, block + i * stride + out.VNET_ROOM, seq, flags, 0, payload, window);
    seq = (seq + payload) | 0;
  }
  conn.setSeqToTap(f, seq);
  if (((seq - conn.seqMaxToTap(f)) | 0) > 0) conn.setSeqMaxToTap(f, seq);
  if (short) return conn.has(f, conn.SOCK_RDHUP) ? MORE : DRAINED;
  return want === room ? WINDOW_FULL : MORE;
};

/** Go back to what the guest has not acknowledged: the next burst begins there (go-back-N). */
export const rewind = (f: Flow): void => {
  if (conn.inFlight(f) === 0) return;
  conn.setSeqToTap(f, conn.ackFromTap(f));
  conn.setRecover(f, conn.seqMaxToTap(f));
  conn.clear(f, conn.TAP_FIN_SENT);
  conn.add(f, conn.READABLE | conn.RECOVERING);
  if (conn.has(f, conn.PEEK_OFFSET)) io.native.setsockopt(flows.fd(f), SOL_SOCKET, SO_PEEK_OFF, 0);
};
