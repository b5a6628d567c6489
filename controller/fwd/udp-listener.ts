// SPDX-License-Identifier: Apache-2.0
/**
 * UDP sockets that listen, for every peer's first datagrams: as soon as a peer has a socket of its own, made by the helper
 * (`socket.answer`), the kernel gives that what he sends. The helper looks who sent the datagram at the head of the queue, so this must stay
 * there meanwhile:
 *
 *   look at the head → a new peer: row, datagram delivered, socket asked for … the helper answers: head taken, socket handed over → look …
 *                    → a known one: delivered, head taken → look …
 *
 * So nobody waits to be heard, peers get their sockets one after another (at some 10,000 a second a listener), and what lies behind
 * waits for as long as the helper takes. Listeners are watched edge-triggered, because a head that stays would be reported for ever.
 *
 * Between being bound and being connected a new socket gets whatever comes to that address and port: its first datagrams are
 * sorted by sender, and those of others are delivered as from the listener. Such a peer gets his socket with his next datagram; what the
 * guest answers before that is lost.
 */
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
  /** Whether a socket for answers is to be asked for; if so, that is noted, and one of the two below follows, or the flow ends. */
  asks(f: Flow, l: UdpListener, record: number): boolean;
  /** Datagram `i` of the last receive, which lies in slot `slot`. May end the flow. */
  deliver(f: Flow, i: number, slot: number): void;
  onAnswer(f: Flow, fd: number): void;
  /** `errno` EAGAIN: there may be one with the next datagram. */
  onNoAnswer(f: Flow, errno: number): void;
}

/** The first ones may be overwritten by a taker's reading of errors. */
export const FIRST_SLOT = 1;
/** Datagrams of one event; the rest comes back. */
const DATAGRAMS_PER_EVENT_MAX = 64;
/** Reads of a new socket, each of as many datagrams as there are slots: more cannot have come while it was bound. */
const SORT_READS_MAX = 4;
const SORT_SLOTS = SLOTS - FIRST_SLOT;
const EAGAIN = 11;
const EPROTO = 71;
/** Bytes of addresses in a record: the sender's with its port, the destination. */
const WORDS = 4;

interface Ask {
  readonly f: Flow;
  readonly generation: number;
  readonly taker: Taker;
  /** Four words of the peer's address, four of the one it sent to. */
  readonly addresses: Int32Array;
  readonly port: number;
}
const asks = new Map<UdpListener, Ask>();

let choose: (l: UdpListener, record: number) => Taker | null = () => null;

/** `chooseTaker`: null, counted, for datagrams that go nowhere. Called once, before the first event. */
export const configure = (chooseTaker: typeof choose): void => {
  choose = chooseTaker;
  asks.clear();
};

/** The listener has datagrams, or an error that is over by being read. */
export const onReadable = (l: UdpListener): void => {
  if (!asks.has(l)) serve(l);
};

const serve = (l: UdpListener): void => {
  for (let i = 0; i < DATAGRAMS_PER_EVENT_MAX; i++) {
    const n = io.native.recvFrom(l.fd, slotAt(FIRST_SLOT), SLOT_BYTES, 1, RECORDS_AT, true);
    if (n === -EAGAIN) return;
    if (n <= 0) drop(DROP['sock-error']);
    else if (isFirst(l)) return;
    else takeHead(l);
  }
  // To be reported again.
  io.native.watch(l.fd, io.EPOLLIN | io.EPOLLET, l.ref);
};

/** Its bytes are not wanted any more. */
const takeHead = (l: UdpListener): void => {
  io.native.recvFrom(l.fd, slotAt(FIRST_SLOT), 1, 1, RECORDS_AT, false);
};

/** Delivers the head. Whether it has to stay, because a socket for its sender is asked for. */
const isFirst = (l: UdpListener): boolean => {
  const taker = takerOf(l, RECORDS_AT);
  const f = taker === null ? NO_FLOW : taker.take(l, RECORDS_AT);
  if (taker === null || f === NO_FLOW) return false;
  const ask = taker.asks(f, l, RECORDS_AT) ? askOf(f, taker, RECORDS_AT) : null;
  taker.deliver(f, 0, FIRST_SLOT);
  return ask !== null && isAlive(ask) && send(l, ask);
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

const send = (l: UdpListener, a: Ask): boolean => {
  const asked = connect.ask(l.side, 'socket.answer', { listener: l.listener }, (errno, result) => {
    settle(l, a, errno, result);
  });
  if (!asked) {
    drop(DROP['flow-pending-full']);
    a.taker.onNoAnswer(a.f, EAGAIN);
    return false;
  }
  asks.set(l, a);
  return true;
};

const settle = (l: UdpListener, a: Ask, errno: number, result: Result<'socket.answer'> | null): void => {
  asks.delete(l);
  // Nothing waited there, for the helper: what is there now, if anything, is not what was delivered.
  if (l.open && errno !== EAGAIN) takeHead(l);
  if (result === null) {
    if (isAlive(a)) a.taker.onNoAnswer(a.f, errno);
  } else if (!isAlive(a)) {
    io.native.close(result.fd);
  } else if (!isFor(a, result)) {
    io.native.close(result.fd);
    drop(DROP['sock-error']);
    a.taker.onNoAnswer(a.f, EPROTO);
  } else {
    sortOut(l, a, result.fd);
    if (isAlive(a)) a.taker.onAnswer(a.f, result.fd);
    else io.native.close(result.fd);
  }
  if (l.open) serve(l);
};

const isFor = (a: Ask, { address, port }: Result<'socket.answer'>): boolean => {
  const words = address.includes(':') ? parseIpv6(address) : [0, 0, MAPPED_WORD, parseIpv4(address)];
  for (let i = 0; i < WORDS; i++) if (words[i] !== a.addresses[i]) return false;
  return port === a.port;
};

/** Takes what a new socket got before it was connected. */
const sortOut = (l: UdpListener, a: Ask, fd: number): void => {
  for (let reads = 0; reads < SORT_READS_MAX; reads++) {
    const n = io.native.recvFrom(fd, slotAt(FIRST_SLOT), SLOT_BYTES, SORT_SLOTS, RECORDS_AT, false);
    for (let i = 0; i < n; i++) sort(l, a, i);
    if (n < SORT_SLOTS) return;
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
  const asked = taker.asks(f, l, record);
  const noted = generation(f);
  taker.deliver(f, i, FIRST_SLOT + i);
  if (asked && typeOf(f) !== FLOW_FREE && generation(f) === noted) taker.onNoAnswer(f, EAGAIN);
};

const isFrom = (a: Ask, record: number): boolean => {
  for (let k = 0; k < WORDS; k++) if (io.view.getInt32(record + 4 * k) !== a.addresses[k]) return false;
  return io.view.getUint16(record + RECORD_PORT) === a.port;
};
