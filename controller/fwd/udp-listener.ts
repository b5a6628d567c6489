// SPDX-License-Identifier: Apache-2.0
/**
 * UDP sockets that listen, for every peer's first datagrams: as soon as a peer has a socket of its own, made by the helper
 * (`socket.answer`), the kernel gives that what he sends. The helper looks who sent a datagram in the queue, so those must stay
 * there meanwhile:
 *
 *   look at what waits → of known peers: delivered
 *                      → of new ones: row, delivered, socket asked for … all answered: sockets handed over
 *                      → taken from the queue, look again …
 *
 * Nobody waits to be heard; what lies behind waits for as long as the helper takes. Which datagram each look is at is the socket's peek
 * offset (SO_PEEK_OFF), the same for the helper's copy: it goes on with each, past all that have no bytes. So one of those is asked for alone,
 * at the head of the queue, without an offset. Listeners are watched edge-triggered: what stays would be reported for ever.
 *
 * Between being bound and being connected a new socket gets whatever comes to that address and port: its first datagrams are
 * sorted by sender, and those of others are delivered as from the listener. Such a peer gets his socket with his next datagram; what the
 * guest answers before that is lost.
 */
import { SOCKOPT } from '../../shared/abi.ts';
import type { Result, Side } from '../../shared/rpc/methods.ts';
import {
  RECORD_DESTINATION,
  RECORD_FOR_MANY,
  RECORD_PORT,
  RECORDS_AT,
  recordAt,
  SLOT_BYTES,
  SLOTS,
  slotAt,
} from '../flow/aside.ts';
import * as descriptors from '../flow/descriptors.ts';
import { FLOW_FREE, type Flow, generation, MAPPED_WORD, NO_FLOW, typeOf } from '../flow/table.ts';
import { parseIpv4, parseIpv6 } from '../host/address-text.ts';
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as connect from '../rpc/connect.ts';
import type { Rule } from './rule.ts';

export interface UdpListener {
  readonly fd: number;
  /** In the epoll set: EPOLLIN | EPOLLET. */
  readonly ref: number;
  /** Where it is bound. */
  readonly side: Side;
  /** The helper's number for it. */
  readonly listener: number;
  readonly rule: Rule;
  readonly port: number;
  /** It was not closed. */
  readonly open: boolean;
}

/**
 * Who has the flows of a kind of peer. `record`: where the arena tells of the datagram at hand (flow/aside.ts). None of this
 * may use slots of the region aside from {@link FIRST_SLOT} on.
 */
export interface Taker {
  /** The row of the datagram's peer, a new one if need be. NO_FLOW: there is none, counted. */
  take(l: UdpListener, record: number): Flow;
  /** Whether a socket for answers is to be asked for. */
  wants(f: Flow, l: UdpListener, record: number): boolean;
  /** It is asked for: one of the last two follows, or the flow ends. */
  onAsked(f: Flow, l: UdpListener, record: number): void;
  /** Datagram `i` of the last receive, which lies in slot `slot`. May end the flow. */
  deliver(f: Flow, i: number, slot: number): void;
  onAnswer(f: Flow, fd: number): void;
  /** `errno` EAGAIN: there may be one with the next datagram. */
  onNoAnswer(f: Flow, errno: number): void;
}

/** The first ones may be overwritten by a taker's reading of errors. */
export const FIRST_SLOT = 1;
/** One look, as many as there are slots, and looks of one event; the rest comes back. */
const BATCH = SLOTS - FIRST_SLOT;
const LOOKS_PER_EVENT_MAX = 5;
/** Reads of a new socket: more cannot have come while it was bound. */
const SORT_READS_MAX = 4;
const EAGAIN = 11;
const EMFILE = 24;
const EPROTO = 71;
const WORDS = 4;

interface Ask {
  readonly f: Flow;
  readonly generation: number;
  readonly taker: Taker;
  /** Four words of the peer's address, four of the one it sent to. */
  readonly addresses: Int32Array;
  readonly port: number;
}
/** A look whose questions are under way. */
interface Look {
  /** Datagrams that it delivered, to be taken from the queue. */
  delivered: number;
  unanswered: number;
}
const looks = new Map<UdpListener, Look>();
/** What to ask of each datagram of a look: null where that is only to get past it. */
const toAsk: (Ask | null)[] = [];

let choose: (l: UdpListener, record: number) => Taker | null = () => null;

/** `chooseTaker`: null, counted, for datagrams that go nowhere. Called once, before the first event. */
export const configure = (chooseTaker: typeof choose): void => {
  choose = chooseTaker;
  looks.clear();
};

/** The listener has datagrams, or an error that is over by being read. */
export const onReadable = (l: UdpListener): void => {
  if (!looks.has(l)) serve(l);
};

const serve = (l: UdpListener): void => {
  for (let i = 0; i < LOOKS_PER_EVENT_MAX; i++) {
    setOffset(l, 0);
    const n = io.native.recvFrom(l.fd, slotAt(FIRST_SLOT), SLOT_BYTES, BATCH, RECORDS_AT, true);
    if (n === -EAGAIN) return;
    if (n <= 0) drop(DROP['sock-error']);
    else if (look(l, n)) return;
  }
  // To be reported again.
  io.native.watch(l.fd, io.EPOLLIN | io.EPOLLET, l.ref);
};

/** Where the next look is at, in bytes of the queue; -1: the head, whatever it is. */
const setOffset = (l: UdpListener, bytes: number): void => {
  const { level, option } = SOCKOPT.SO_PEEK_OFF;
  io.native.setsockopt(l.fd, level, option, bytes);
};

/** Their bytes are not wanted any more. */
const takeFirst = (l: UdpListener, n: number): void => {
  if (n > 0) io.native.recvFrom(l.fd, slotAt(FIRST_SLOT), 1, n, RECORDS_AT, false);
};

/** Delivers the `n` datagrams that were looked at. Whether they have to stay, because sockets for their senders are asked for. */
const look = (l: UdpListener, n: number): boolean => {
  toAsk.length = 0;
  /** Before the first that is asked for. */
  let offset = 0;
  /** The last that is asked for, of those with bytes from the first one on; and the datagrams that are done. */
  let last = 0;
  let done = 0;
  for (; done < n; done++) {
    const bytes = Math.max(io.col[io.COL.DGRAM_LEN + done] as number, 0);
    const record = recordAt(done);
    const taker = takerOf(l, record);
    const f = taker === null ? NO_FLOW : taker.take(l, record);
    if (taker === null || f === NO_FLOW) {
      offset = pass(bytes, offset);
      continue;
    }
    const wanted = taker.wants(f, l, record);
    // Delivered and asked for next, when it is the first.
    if (wanted && bytes === 0 && done > 0) break;
    if (wanted) taker.onAsked(f, l, record);
    const ask = wanted ? askOf(f, taker, record) : null;
    taker.deliver(f, done, FIRST_SLOT + done);
    if (ask === null || !isAlive(ask)) {
      offset = pass(bytes, offset);
      continue;
    }
    toAsk.push(ask);
    last = toAsk.length;
    if (bytes > 0) continue;
    done = 1;
    offset = -1;
    break;
  }
  toAsk.length = last;
  if (last > 0 && send(l, offset, done)) return true;
  takeFirst(l, done);
  return false;
};

/** A datagram of `bytes` that is not asked for: before the first that is, it moves the offset; behind, it is asked for all the same. */
const pass = (bytes: number, offset: number): number => {
  if (toAsk.length === 0) return offset + bytes;
  if (bytes > 0) toAsk.push(null);
  return offset;
};

const takerOf = (l: UdpListener, record: number): Taker | null => {
  const v = io.view;
  if (v.getUint16(record + RECORD_PORT) === 0) {
    drop(DROP['ip-martian']);
    return null;
  }
  if (v.getUint8(record + RECORD_FOR_MANY) !== 0) {
    drop(DROP.multicast);
    return null;
  }
  return choose(l, record);
};

const askOf = (f: Flow, taker: Taker, record: number): Ask => {
  const addresses = new Int32Array(2 * WORDS);
  for (let i = 0; i < WORDS; i++) {
    addresses[i] = io.view.getInt32(record + 4 * i);
    addresses[WORDS + i] = io.view.getInt32(record + RECORD_DESTINATION + 4 * i);
  }
  return { f, generation: generation(f), taker, addresses, port: io.view.getUint16(record + RECORD_PORT) };
};
const isAlive = (a: Ask): boolean => typeOf(a.f) !== FLOW_FREE && generation(a.f) === a.generation;

/** Asks for all of `toAsk`, from the datagram at `offset` on. False: nothing was asked. */
const send = (l: UdpListener, offset: number, delivered: number): boolean => {
  setOffset(l, offset);
  const under: Look = { delivered, unanswered: 0 };
  for (const a of toAsk) {
    const asked = connect.ask(l.side, 'socket.answer', { listener: l.listener }, (errno, result) => {
      settle(l, under, a, errno, result);
    });
    if (asked) under.unanswered++;
    else if (a !== null) {
      drop(DROP['flow-pending-full']);
      a.taker.onNoAnswer(a.f, EAGAIN);
    }
  }
  if (under.unanswered === 0) return false;
  looks.set(l, under);
  return true;
};

const settle = (
  l: UdpListener,
  under: Look,
  a: Ask | null,
  errno: number,
  result: Result<'socket.answer'> | null,
): void => {
  // Nothing was there, for the helper: one less of what is there now was delivered.
  if (errno === EAGAIN) under.delivered--;
  if (result === null) {
    if (a !== null && isAlive(a)) a.taker.onNoAnswer(a.f, errno);
  } else if (a === null || !isAlive(a)) {
    io.native.close(result.fd);
  } else if (!isFor(a, result)) {
    io.native.close(result.fd);
    drop(DROP['sock-error']);
    a.taker.onNoAnswer(a.f, EPROTO);
  } else {
    sortOut(l, a, result.fd);
    handOver(a, result.fd);
  }
  if (--under.unanswered > 0) return;
  looks.delete(l);
  if (!l.open) return;
  takeFirst(l, under.delivered);
  serve(l);
};

const handOver = (a: Ask, fd: number): void => {
  const alive = isAlive(a);
  if (alive && !descriptors.isReserved(fd)) return a.taker.onAnswer(a.f, fd);
  io.native.close(fd);
  // What is left of descriptors is the guest's.
  if (alive) a.taker.onNoAnswer(a.f, EMFILE);
};

const isFor = (a: Ask, { address, port }: Result<'socket.answer'>): boolean => {
  const words = address.includes(':') ? parseIpv6(address) : [0, 0, MAPPED_WORD, parseIpv4(address)];
  for (let i = 0; i < WORDS; i++) if (words[i] !== a.addresses[i]) return false;
  return port === a.port;
};

/** Takes what a new socket got before it was connected. */
const sortOut = (l: UdpListener, a: Ask, fd: number): void => {
  for (let reads = 0; reads < SORT_READS_MAX; reads++) {
    const n = io.native.recvFrom(fd, slotAt(FIRST_SLOT), SLOT_BYTES, BATCH, RECORDS_AT, false);
    for (let i = 0; i < n; i++) sort(l, a, i);
    if (n < BATCH) return;
  }
};

const sort = (l: UdpListener, a: Ask, i: number): void => {
  const record = recordAt(i);
  if (isFrom(a, record)) {
    if (isAlive(a)) a.taker.deliver(a.f, i, FIRST_SLOT + i);
    return;
  }
  // It came to the same address, which this socket need not report.
  for (let k = 0; k < WORDS; k++) {
    io.view.setInt32(record + RECORD_DESTINATION + 4 * k, a.addresses[WORDS + k] as number);
  }
  const taker = takerOf(l, record);
  const f = taker === null ? NO_FLOW : taker.take(l, record);
  if (taker === null || f === NO_FLOW) return;
  const wanted = taker.wants(f, l, record);
  if (wanted) taker.onAsked(f, l, record);
  const noted = generation(f);
  taker.deliver(f, i, FIRST_SLOT + i);
  if (wanted && typeOf(f) !== FLOW_FREE && generation(f) === noted) taker.onNoAnswer(f, EAGAIN);
};

const isFrom = (a: Ask, record: number): boolean => {
  for (let k = 0; k < WORDS; k++) if (io.view.getInt32(record + 4 * k) !== a.addresses[k]) return false;
  return io.view.getUint16(record + RECORD_PORT) === a.port;
};
