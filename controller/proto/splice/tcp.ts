// SPDX-License-Identifier: Apache-2.0
/**
 * TCP from loopback to loopback: an accepted socket and a connected one, and splice(2) between them. No frame, no byte copied
 * by us; what a program sees is what it would see if the two ends were one loopback.
 *
 * A row has two sockets, 0 the accepted one (in the epoll set as `flows.ref`), 1 the connected one (`flows.secondRef`). Direction
 * d goes from socket d to socket 1 − d. Both sockets are watched, edge-triggered; a direction is served when something
 * may be there (READABLE) and the receiver has not refused (BLOCKED), a budget at a time, so that one connection does
 * not keep the others waiting.
 *
 * End of file passes as shutdown(2), each way for itself; both ways, and the connection is closed. The failure of one
 * socket (a reset, a time-out) resets the other one, once its peer has what came before: a reset would take it out of the
 * send buffer, where programs that are connected directly would find it in their own receive buffer. Who takes nothing of
 * it for ten seconds is reset all the same.
 */
import {
  SOCKOPT,
  SPLICE_EMPTY,
  SPLICE_END,
  SPLICE_FROM_FAILED,
  SPLICE_FULL,
  SPLICE_TO_FAILED,
} from '../../../shared/abi.ts';
import type { Side } from '../../../shared/rpc/methods.ts';
import * as descriptors from '../../flow/descriptors.ts';
import * as lru from '../../flow/lru.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import { leadsRound } from '../../fwd/sockets.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as log from '../../obs/log.ts';
import * as connect from '../../rpc/connect.ts';
import { admit } from './caps.ts';
import { abort, checkProgress, close, debug, fail, over, part, refuse } from './close.ts';
import * as conn from './conn.ts';
import {
  add,
  BLOCKED,
  clear,
  ENDED,
  ENDING,
  FAILED,
  has,
  held,
  intos,
  LAST,
  OPEN,
  outs,
  PARTING,
  READABLE,
  READY,
  ROOM,
  socket,
  UNPACED,
  URGENT,
} from './conn.ts';
import * as pipes from './pipes.ts';
import * as waiting from './waiting.ts';

/** Bytes of one direction before others have their turn. */
const BUDGET_BYTES = 1024 * 1024;
/** A first look: whatever a client has sent, which a second one would seldom find more of. */
const FIRST_BYTES = 1;
/**
 * As many at once, and the socket that they go to is not paced from then on. BBR, where it is the host's default, takes loopback for a
 * path with a rate of its own and waits for timers. Short exchanges end before any of that, and are spared the call.
 */
const UNPACED_BYTES = 16 * 1024;
const ENFILE = 23;
const EMFILE = 24;

// A row is listed at most once (READY), so that the lists cannot overflow.
let ready = new Int32Array(flows.FLOW_MAX);
let serving = new Int32Array(flows.FLOW_MAX);
let readyCount = 0;

/**
 * Takes over `fd`, a connection that was accepted, and asks the helper for one to `address` (canonical text) and `port` on the side
 * `toward`. What the client sends meanwhile waits in its socket. Whatever fails, the client's connection is reset.
 */
export const open = (fd: number, toward: Side, address: string, port: number): void => {
  if (leadsRound(toward, 'tcp', address, port)) {
    drop(DROP['flow-refused']);
    return refuse(fd);
  }
  const f = admit(fd);
  if (f === flows.NO_FLOW) return refuse(fd);
  flows.setFd(f, fd);
  flows.setLastActive(f, io.nowMs() | 0);
  conn.reset(f);
  lru.add(lru.LRU_SPLICE_TCP, f);
  if (log.debugEnabled) debug(f, `to ${address} port ${port} of the ${toward}: new`);
  const params = { protocol: 'tcp', address, port, sourcePort: 0 } as const;
  const asked = connect.askFor(f, toward, 'socket.connect', params, (errno, result) => {
    if (result === null) onFailed(f, errno);
    else if (descriptors.isReserved(result.fd)) onNoRoom(f, result.fd);
    else onSocket(f, result.fd);
  });
  if (asked) return;
  drop(DROP['flow-pending-full']);
  abort(f);
};

const EVENTS = io.EPOLLIN | io.EPOLLPRI | io.EPOLLRDHUP | io.EPOLLET;

/**
 * The helper handed over the connecting socket, which over loopback is connected already: what the client has sent goes on at
 * once. Room is watched for where there was none once; most connections never need that.
 */
const onSocket = (f: Flow, fd: number): void => {
  conn.setSecond(f, fd);
  // The two connections are one to their users: what one end wrote leaves at once. The accepted one has it from its listener.
  io.native.setsockopt(fd, SOCKOPT.TCP_NODELAY.level, SOCKOPT.TCP_NODELAY.option, 1);
  add(f, READABLE);
  if (!pump(f, 0)) return;
  const all = EVENTS | io.EPOLLOUT;
  const blocked = has(f, BLOCKED);
  if (blocked) add(f, ROOM << 1);
  if (
    io.native.watch(fd, blocked ? all : EVENTS, flows.secondRef(f)) < 0 ||
    io.native.watch(flows.fd(f), EVENTS, flows.ref(f)) < 0
  ) {
    drop(DROP['sock-error']);
    return abort(f);
  }
  add(f, OPEN);
};

/** Socket `s` has no room: it is watched for some from now on. */
const watchRoom = (f: Flow, s: 0 | 1): void => {
  const ref = s === 0 ? flows.ref(f) : flows.secondRef(f);
  if (has(f, ROOM << s)) return;
  add(f, ROOM << s);
  io.native.watch(socket(f, s), EVENTS | io.EPOLLOUT, ref);
};

/** What is left of descriptors is the guest's. */
const onNoRoom = (f: Flow, fd: number): void => {
  io.native.close(fd);
  onFailed(f, EMFILE);
};

const onFailed = (f: Flow, errno: number): void => {
  if (log.debugEnabled) debug(f, `no socket, errno ${errno}`);
  drop(DROP['flow-refused']);
  if (errno === EMFILE || errno === ENFILE) descriptors.short(descriptors.SPLICE, f);
  abort(f);
};

/** What epoll says of socket `s` of the row. */
export const onEvent = (f: Flow, s: 0 | 1, mask: number): void => {
  // Of a row that is ending, nothing but progress counts.
  if (!has(f, ENDING)) flows.setLastActive(f, io.nowMs() | 0);
  lru.touch(f);
  if ((mask & ~io.EPOLLOUT) !== 0) add(f, READABLE << s);
  if ((mask & io.EPOLLPRI) !== 0) add(f, URGENT << s);
  if ((mask & (io.EPOLLRDHUP | io.EPOLLERR)) === io.EPOLLRDHUP) add(f, LAST << s);
  if ((mask & (io.EPOLLOUT | io.EPOLLERR | io.EPOLLHUP)) !== 0) clear(f, BLOCKED << (1 - s));
  if ((mask & io.EPOLLERR) !== 0 && !errorCanWait(f, s)) {
    over(f, s);
    return;
  }
  // The last event that there is of it; what it sent may have to wait for room long after.
  if ((mask & DEAD) === DEAD && !has(f, ENDING | (ENDED << s))) fail(f, s);
  serve(f);
};
/** A socket that failed: an error, and both directions shut. */
const DEAD = io.EPOLLERR | io.EPOLLHUP;

/** Whether an error of socket `s` will be met by reading from it; it is not where nothing more is read. */
const errorCanWait = (f: Flow, s: 0 | 1): boolean => !has(f, ENDED << s) || io.native.socketError(socket(f, s)) === 0;

const serve = (f: Flow): void => {
  if (pump(f, 0)) pump(f, 1);
};

/** Moves what can be moved in direction `d`. False: the connection is over. */
const pump = (f: Flow, d: 0 | 1): boolean => {
  const at = f * 2 + d;
  if (has(f, (BLOCKED | ENDED) << d)) return true;
  if (!has(f, READABLE << d) && held[at] === 0) return true;
  if (outs[at] === 0 && !takePipe(f, at)) return true;
  const out = (outs[at] as number) - 1;
  const into = (intos[at] as number) - 1;
  const from = socket(f, d);
  const to = socket(f, 1 - d);
  // The last bytes leave with the end of file that follows, in one segment: onEnd.
  const last = has(f, LAST << d);
  const budget = has(f, OPEN) ? BUDGET_BYTES : FIRST_BYTES;
  const moved = io.native.spliceThrough(from, into, out, to, held[at] as number, budget, last);
  if (moved > 0) flows.setLastActive(f, io.nowMs() | 0);
  if (moved >= UNPACED_BYTES && !has(f, UNPACED << d)) {
    add(f, UNPACED << d);
    io.native.sendUnpaced(to);
  }
  held[at] = io.col[io.COL.SPLICE_HELD] as number;
  const stop = io.col[io.COL.SPLICE_STOP] as number;
  // At an end there may be a mark that nobody has reported yet.
  const atMark = stop === SPLICE_END || (stop === SPLICE_EMPTY && has(f, URGENT << d));
  if (atMark && passMark(f, d, from, into)) return pump(f, d);
  if (held[at] === 0) {
    outs[at] = 0;
    pipes.give(out, into);
  }
  return settle(f, d, stop);
};

/**
 * splice(2) stops for ever before an urgent byte, or tells the end where that came, too; a read takes it like any other
 * (SO_OOBINLINE, RFC 6093). It goes through the pipe, which is empty, by hand. False: there is none.
 */
const passMark = (f: Flow, d: 0 | 1, from: number, into: number): boolean => {
  clear(f, URGENT << d);
  if (io.native.read(from, io.SOCK_AT, 1) !== 1) return false;
  if (io.native.write(into, io.SOCK_AT, 1) !== 1) throw new Error('an empty pipe takes no byte');
  held[f * 2 + d] = 1;
  return true;
};

const takePipe = (f: Flow, at: number): boolean => {
  const r = pipes.take();
  if (r === 0) {
    outs[at] = pipes.readEnd() + 1;
    intos[at] = pipes.writeEnd() + 1;
    return true;
  }
  descriptors.short(descriptors.SPLICE, f);
  waiting.add(f, io.nowMs());
  return false;
};

/** What follows from the reason for which direction `d` stopped. False: the connection is over. */
const settle = (f: Flow, d: 0 | 1, stop: number): boolean => {
  switch (stop) {
    case SPLICE_EMPTY:
      clear(f, READABLE << d);
      return !has(f, FAILED << d) || over(f, d);
    case SPLICE_FULL:
      add(f, BLOCKED << d);
      if (has(f, OPEN)) watchRoom(f, d === 0 ? 1 : 0);
      return true;
    case SPLICE_END:
      if (has(f, FAILED << d)) return over(f, d);
      return onEnd(f, d);
    case SPLICE_FROM_FAILED:
      return over(f, d);
    case SPLICE_TO_FAILED:
      return onReceiverFailed(f, d);
    default:
      // Until both sockets are watched: being watched from then on, they report what there is.
      if (has(f, OPEN)) makeReady(f);
      else clear(f, READABLE << d);
      return true;
  }
};

const onEnd = (f: Flow, d: 0 | 1): boolean => {
  add(f, ENDED << d);
  if (has(f, ENDED << (1 - d))) {
    if (log.debugEnabled) debug(f, 'closed');
    close(f);
    return false;
  }
  io.native.shutdownWrite(socket(f, 1 - d));
  return true;
};

/** Socket 1 − d takes nothing any more. What it had sent before that is still delivered, as far as there is room. */
const onReceiverFailed = (f: Flow, d: 0 | 1): boolean => {
  const back = d === 0 ? 1 : 0;
  if (has(f, ENDED << back)) return over(f, back);
  fail(f, back);
  return pump(f, back);
};

/** The connection used up its budget and has more. */
const makeReady = (f: Flow): void => {
  if (has(f, READY)) return;
  add(f, READY);
  ready[readyCount++] = f;
};
/** Whether some connection has more to move, so that the loop must not sleep. */
export const hasReady = (): boolean => readyCount > 0;
/** Another budget for each connection that used up its last one. Once a turn. */
export const serveReady = (): void => {
  const n = readyCount;
  if (n === 0) return;
  const list = ready;
  ready = serving;
  serving = list;
  readyCount = 0;
  for (let i = 0; i < n; i++) {
    const f = list[i] as Flow;
    if (flows.typeOf(f) !== flows.FLOW_SPLICE_TCP || !has(f, READY)) continue;
    clear(f, READY);
    serve(f);
  }
};

/** Milliseconds until {@link tick} has something to do; −1: nothing. */
export const nextDelay = (now: number): number => shortest(waiting.nextDelay(now, pipes.spare()), pipes.nextDelay(now));
const shortest = (a: number, b: number): number => (a < 0 ? b : b < 0 ? a : Math.min(a, b));
/** Once a turn: pipes for those who wait for one, and none that nobody needs. */
export const tick = (now: number): void => {
  waiting.serve(now, pipes.spare(), again);
  pipes.tick(now);
};
const again = (f: Flow): void => {
  if (flows.typeOf(f) === flows.FLOW_SPLICE_TCP && has(f, OPEN)) serve(f);
};

/** Only rows that are ending have a timer: a peer may have everything, or take nothing any more. */
export const onTimer = (f: Flow): void => {
  if (has(f, PARTING)) part(f, 0);
  else if (has(f, PARTING << 1)) part(f, 1);
  else if (has(f, FAILED)) checkProgress(f, 0);
  else if (has(f, FAILED << 1)) checkProgress(f, 1);
};
