// SPDX-License-Identifier: Apache-2.0
/**
 * TIME-WAIT (RFC 9293 §3.6.1): the peer closed first, and our last ACK to the guest may be lost. The row stays for a
 * while, without a socket, to acknowledge the FIN again; else the guest would be told of a reset after all had gone well.
 * Where the guest closed first, TIME-WAIT is at its end, and nothing is kept here.
 *
 * The rows have an LRU class with a cap, oldest first, which is also the order in which they expire (see keepalive.ts):
 * no timer, and a guest that opens and closes without end recycles its own.
 */

import * as lru from '../../flow/lru.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as seq from '../../wire/seq.ts';
import * as tcp from '../../wire/tcp.ts';
import * as challenge from './challenge.ts';
import { closeQuietly, forget } from './close.ts';
import * as conn from './conn.ts';
import { TIME_WAIT_MS } from './constants.ts';

/** 1: our FIN went out before the guest's came. */
const closedFirst = new Uint8Array(flows.FLOW_MAX);

/** For a fresh row. */
export const reset = (f: Flow): void => {
  closedFirst[f] = 0;
};
/** Our FIN goes out; it may be one that is sent again. */
export const finSent = (f: Flow): void => {
  if (!conn.has(f, conn.TAP_FIN_RCVD)) closedFirst[f] = 1;
};

export const is = (f: Flow): boolean => lru.classOf(f) === lru.LRU_TCP_TIME_WAIT;

/** Both lines are closed: the socket is given back, and the row, too, unless we closed first towards the guest. */
export const closed = (f: Flow): void => {
  if (closedFirst[f] === 0) {
    closeQuietly(f);
    return;
  }
  if (lru.isFull(lru.LRU_TCP_TIME_WAIT)) closeQuietly(lru.oldest(lru.LRU_TCP_TIME_WAIT));
  forget(f);
  wheel.disarm(f);
  io.native.unwatch(flows.fd(f));
  io.native.close(flows.fd(f));
  flows.setFd(f, -1);
  flows.setLastActive(f, io.nowMs() | 0);
  lru.move(lru.LRU_TCP_TIME_WAIT, f);
};

/** Ends what has waited long enough. Returns how long the next one still has to wait, in ms. */
export const expire = (now: number): number => {
  for (;;) {
    const f = lru.oldest(lru.LRU_TCP_TIME_WAIT);
    if (f === flows.NO_FLOW) return TIME_WAIT_MS;
    const left = TIME_WAIT_MS - ((now - flows.lastActive(f)) | 0);
    if (left > 0) return left;
    closeQuietly(f);
  }
};

/** A segment at [at, end). True: it is a SYN that may begin a new connection (RFC 9293 §3.10.7.4 and RFC 6191 §2). */
export const segment = (f: Flow, at: number, end: number): boolean => {
  const v = io.view;
  const flags = tcp.flags(v, at);
  if ((flags & tcp.RST) !== 0) {
    // RFC 1337 §3: an old reset must not cut the waiting short.
    drop(DROP['tcp-no-flow']);
    return false;
  }
  const s = tcp.seq(v, at);
  const next = conn.seqFromTap(f);
  if ((flags & (tcp.SYN | tcp.ACK | tcp.FIN)) === tcp.SYN && seq.after(s, next)) return true;
  // A bare ACK where the guest stands, one that was on its way, wants nothing.
  const bare = at + tcp.headerBytes(v, at) === end && (flags & (tcp.SYN | tcp.FIN)) === 0;
  if (bare && s === next) return false;
  if ((flags & tcp.FIN) !== 0) {
    flows.setLastActive(f, io.nowMs() | 0);
    lru.touch(f);
  }
  challenge.send(f);
  return false;
};
