// SPDX-License-Identifier: Apache-2.0
/** What connections of the guest (open.ts) and to it (inbound.ts) have in common at their beginning. */
import { SOCKOPT } from '../../../shared/abi.ts';
import * as hash from '../../flow/hash.ts';
import * as lru from '../../flow/lru.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as checksum from '../../wire/checksum.ts';
import * as seq from '../../wire/seq.ts';
import * as tcp from '../../wire/tcp.ts';
import * as challenge from './challenge.ts';
import { touch } from './close.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import {
  MSS_DEFAULT_4,
  MSS_DEFAULT_6,
  MSS_MIN,
  OUR_WINDOW_SCALE,
  PACKET_BYTES_MAX,
  WINDOW_SCALE_MAX,
} from './constants.ts';
import * as keepalive from './keepalive.ts';
import * as part from './part.ts';
import * as timeWait from './time-wait.ts';
import * as timeout from './timeout.ts';
import * as toTap from './to-tap.ts';
import { reset as resetWindow } from './window.ts';

/** More than an unscaled window, as in Linux: no old segment falls into the new connection's. */
const REOPEN_DISTANCE = 65_537;

/** A fresh record for the row, whose tuple is set: findable from now on, in class `cls` of flow/lru. */
export const enter = (f: Flow, cls: number): void => {
  hash.insert(f);
  conn.reset(f);
  keepalive.reset(f);
  challenge.reset(f);
  timeWait.reset(f);
  part.reset(f);
  lru.add(cls, f);
  setIsn(f, initialSequence(f));
  congestion.reset(f);
  conn.setPseudo(f, pseudoHeader(f));
};

const setIsn = (f: Flow, isn: number): void => {
  conn.setAckFromTap(f, isn);
  conn.setSeqToTap(f, (isn + 1) | 0);
  conn.setSeqInSock(f, (isn + 1) | 0);
  conn.setPeekSeq(f, (isn + 1) | 0);
};

/** Sequence numbers of the next connection with the addresses and ports of `old`, which is in TIME-WAIT, begin here or later. */
export const floorAfter = (old: Flow): number => (conn.seqToTap(old) + REOPEN_DISTANCE) | 0;
/** The new connection's numbers lie behind all of the old one's (RFC 6191 §2). */
export const raiseIsn = (f: Flow, floor: number): void => {
  if (seq.before(conn.ackFromTap(f), floor)) setIsn(f, floor);
};

/** RFC 6528 §3: a keyed hash of the addresses and ports plus a clock of 4 µs ticks. */
const initialSequence = (f: Flow): number => (hash.publicHash(f) + io.nowMs() * 250) | 0;

const pseudoHeader = (f: Flow): number => {
  let sum = 6;
  for (let i = flows.isV4(f) ? 3 : 0; i < 4; i++) {
    const g = flows.guestWord(f, i);
    const r = flows.remoteWord(f, i);
    sum += (g >>> 16) + (g & 0xffff) + (r >>> 16) + (r & 0xffff);
  }
  return checksum.fold(sum);
};

/** What the guest's SYN or SYN|ACK at `at` says about its end of the connection. */
export const takeSyn = (f: Flow, at: number): void => {
  tcp.parseOptions(io.view, at, at + tcp.headerBytes(io.view, at));
  const v4 = flows.isV4(f);
  const offered = tcp.mss() || (v4 ? MSS_DEFAULT_4 : MSS_DEFAULT_6);
  const most = PACKET_BYTES_MAX - (v4 ? 40 : 60);
  conn.setMss(f, Math.min(Math.max(offered, MSS_MIN), toTap.ourMss(f), most));
  conn.clear(f, conn.SACK);
  if (tcp.sackPermitted()) conn.add(f, conn.SACK);
  const scale = tcp.windowScale();
  if (scale >= 0) conn.setScales(f, Math.min(scale, WINDOW_SCALE_MAX), OUR_WINDOW_SCALE);
  else conn.setScales(f, 0, 0);
  // The window of a SYN is not scaled (RFC 7323 §2.2).
  conn.setWndFromTap(f, tcp.window(io.view, at));
  conn.setSeqOfWindow(f, tcp.seq(io.view, at));
  conn.setSeqFromTap(f, (tcp.seq(io.view, at) + 1) | 0);
  conn.setEdgeToTap(f, conn.seqFromTap(f));
  resetWindow(f);
};

const set = (fd: number, o: { readonly level: number; readonly option: number }, value: number): number =>
  io.native.setsockopt(fd, o.level, o.option, value);

/** Small segments at once; and at the host's intervals: a peer that has gone must not hold a descriptor for ever. */
export const setOptions = (fd: number): void => {
  set(fd, SOCKOPT.TCP_NODELAY, 1);
  set(fd, SOCKOPT.SO_KEEPALIVE, 1);
};

/** The socket is the flow's from now on. False: it cannot be watched. */
export const adopt = (f: Flow, fd: number): boolean => {
  flows.setFd(f, fd);
  if (set(fd, SOCKOPT.SO_PEEK_OFF, 0) === 0) conn.add(f, conn.PEEK_OFFSET);
  const events = io.EPOLLIN | io.EPOLLPRI | io.EPOLLOUT | io.EPOLLRDHUP | io.EPOLLET;
  return io.native.watch(fd, events, flows.ref(f)) >= 0;
};

/** The guest's acknowledgement of our SYN came, with the window that it offers in bytes. */
export const established = (f: Flow, ack: number, window: number): void => {
  conn.add(f, conn.ESTABLISHED);
  conn.setAckFromTap(f, ack);
  conn.setWndFromTap(f, window);
  if (conn.retries(f) === 0) congestion.delivered(f, 0, ack);
  lru.move(lru.LRU_TCP, f);
  timeout.opened(f);
  touch(f);
};
