// SPDX-License-Identifier: Apache-2.0
/**
 * UDP from loopback to loopback, never a frame: a row has two connected sockets, 0 to the peer (from the address and port that it asked,
 * `socket.answer`), 1 to the service on the other side, from the peer's port where that is free. Batches of datagrams go from one to the
 * other, each of its size.
 *
 *   first datagram → both sockets asked for; datagrams are kept until 1 is there → both there → idle, pushed out, or an error of either → ended
 *
 * An error (nobody listens there, the peer is gone) ends the row and so both sockets; the peer's next datagram begins another. The peer
 * does not learn of it: the port that it asked is still open.
 *
 * Rows are in the hash while they live, under what the peer's datagrams have: its address and port, those that it asked, and the side.
 */
import type { Side } from '../../../shared/rpc/methods.ts';
import * as aside from '../../flow/aside.ts';
import * as descriptors from '../../flow/descriptors.ts';
import { end } from '../../flow/end.ts';
import * as hash from '../../flow/hash.ts';
import * as lru from '../../flow/lru.ts';
import * as pending from '../../flow/pending.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import { targetPort } from '../../fwd/rule.ts';
import { leadsRound } from '../../fwd/sockets.ts';
import type { Taker, UdpListener } from '../../fwd/udp-listener.ts';
import * as io from '../../io/io.ts';
import * as out from '../../link/out.ts';
import * as station from '../../link/station.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as log from '../../obs/log.ts';
import * as connect from '../../rpc/connect.ts';
import * as addr from '../../wire/addr.ts';
import { HEADER_BYTES } from '../../wire/udp.ts';
import * as send from './udp-send.ts';

export interface SpliceUdpSettings {
  /** Those that a process may have; each row has two. */
  readonly descriptors: number;
  /** Timeouts of a router: one way or one exchange, and more than that. */
  readonly singleMs: number;
  readonly streamMs: number;
  /** --host-lo-to-ns-lo: to the same loopback address in the namespace, not to the guest's own. */
  readonly sameAddress: boolean;
}

const FLOWS_MAX = 4096;
/** Of the descriptors, for the rows that begin on each of the two sides. */
const FLOWS_PART = 1 / 64;
/** Datagrams of one call, and calls of one event: the others want their turn. */
const DATAGRAMS = 64;
const CALLS_MAX = 4;
/** As in proto/udp: traffic both ways, and still some after that time. */
const EXCHANGE_MS = 2000;
const ENFILE = 23;
const EMFILE = 24;
const EAGAIN = 11;
const EIO = 5;

// Bits of a row.
const ASKED = 1;
const ANSWERED = 2;
const STREAM = 4;

let singleMs = 0;
let streamMs = 0;
let sameAddress = false;

const bits = new Uint8Array(flows.FLOW_MAX);
/** Descriptor + 1 of socket 1. */
const seconds = new Int32Array(flows.FLOW_MAX);
/** UDP_SEGMENT of each socket. */
const segments = new Uint16Array(2 * flows.FLOW_MAX);
/** When the row began, int32 milliseconds modulo 2^32. */
const begins = new Int32Array(flows.FLOW_MAX);

/** Called once, before the first event. */
export const configure = (settings: SpliceUdpSettings): void => {
  singleMs = settings.singleMs;
  streamMs = settings.streamMs;
  sameAddress = settings.sameAddress;
  const cap = Math.max(Math.min(Math.floor(settings.descriptors * FLOWS_PART), FLOWS_MAX), 1);
  lru.setCap(lru.LRU_SPLICE_UDP, cap);
  lru.setCap(lru.LRU_SPLICE_UDP_OUT, cap);
};

const has = (f: Flow, bit: number): boolean => ((bits[f] as number) & bit) !== 0;
const set = (f: Flow, bit: number): void => {
  bits[f] = (bits[f] as number) | bit;
};
const second = (f: Flow): number => (seconds[f] as number) - 1;
const socket = (f: Flow, s: number): number => (s === 0 ? flows.fd(f) : second(f));

/** Words of loopback addresses have this one free: it says where the row began. */
const sideWord = (side: Side): number => (side === 'host' ? 0 : 1);

const take = (l: UdpListener, record: number): Flow => {
  const v = io.view;
  const d = record + aside.RECORD_DESTINATION;
  const ports = (l.port << 16) | v.getUint16(record + aside.RECORD_PORT);
  const f = hash.find(
    flows.FLOW_SPLICE_UDP,
    v.getInt32(d),
    sideWord(l.side),
    v.getInt32(d + 8),
    v.getInt32(d + 12),
    v.getInt32(record),
    v.getInt32(record + 4),
    v.getInt32(record + 8),
    v.getInt32(record + 12),
    ports,
  );
  return f !== flows.NO_FLOW ? f : open(l, record, ports);
};

const open = (l: UdpListener, record: number, ports: number): Flow => {
  const cls = l.side === 'host' ? lru.LRU_SPLICE_UDP : lru.LRU_SPLICE_UDP_OUT;
  if (lru.isFull(cls)) {
    drop(DROP['flow-evicted']);
    close(lru.oldest(cls));
  }
  const f = flows.alloc(flows.FLOW_SPLICE_UDP);
  if (f === flows.NO_FLOW) {
    drop(DROP['flow-table-full']);
    return f;
  }
  const v = io.view;
  const d = record + aside.RECORD_DESTINATION;
  flows.setV4(f, v.getInt32(d + 8) === flows.MAPPED_WORD);
  flows.setGuest(f, v.getInt32(d), sideWord(l.side), v.getInt32(d + 8), v.getInt32(d + 12));
  flows.setRemote(f, v.getInt32(record), v.getInt32(record + 4), v.getInt32(record + 8), v.getInt32(record + 12));
  flows.setPorts(f, ports >>> 16, ports & 0xffff);
  flows.setLastActive(f, io.nowMs() | 0);
  bits[f] = 0;
  seconds[f] = 0;
  segments[2 * f] = 0;
  segments[2 * f + 1] = 0;
  begins[f] = io.nowMs() | 0;
  hash.insert(f);
  lru.add(cls, f);
  wheel.arm(f, io.nowMs() + singleMs);
  return askSecond(f, l) ? f : flows.NO_FLOW;
};

const askSecond = (f: Flow, l: UdpListener): boolean => {
  const toward = l.side === 'host' ? 'netns' : 'host';
  const address = targetText(f, l);
  const port = targetPort(l.rule, l.port);
  if (log.debugEnabled) debug(f, `to ${address} port ${port} of the ${toward}: new`);
  if (leadsRound(toward, 'udp', address, port)) {
    drop(DROP['flow-refused']);
    close(f);
    return false;
  }
  const params = { protocol: 'udp', address, port, sourcePort: flows.remotePort(f) } as const;
  const asked = connect.askFor(f, toward, 'socket.connect', params, (errno, result) => {
    if (result === null) refused(f, errno);
    else if (descriptors.isReserved(result.fd)) onNoRoom(f, result.fd);
    else onSecond(f, result.fd);
  });
  if (asked) return true;
  drop(DROP['flow-pending-full']);
  close(f);
  return false;
};

/** A service in the namespace is asked at its own address, as from outside, unless the option says otherwise, or there is none. */
const targetText = (f: Flow, l: UdpListener): string => {
  if (l.rule.target !== '') return l.rule.target;
  const v4 = flows.isV4(f);
  const known = v4 ? station.guest4Word() !== 0 : station.guest6Word(0) !== 0;
  if (l.side === 'netns' || sameAddress || !known) {
    return v4 ? addr.ipv4Text(flows.guestWord(f, 3)) : addr.ipv6Text(0, 0, 0, 1);
  }
  return v4
    ? addr.ipv4Text(station.guest4Word())
    : addr.ipv6Text(station.guest6Word(0), station.guest6Word(1), station.guest6Word(2), station.guest6Word(3));
};

const debug = (f: Flow, what: string): void => {
  log.debug(log.flowLine(f, 'UDP, spliced', `from port ${flows.remotePort(f)} ${what}`));
};

const wants = (f: Flow): boolean => !has(f, ASKED) && flows.fd(f) < 0;
const onAsked = (f: Flow): void => set(f, ASKED);

const deliver = (f: Flow, i: number, slot: number): void => {
  const len = io.col[io.COL.DGRAM_LEN + i] as number;
  if (len < 0) return drop(DROP['sock-error']);
  const gso = io.col[io.COL.DGRAM_GSO + i] as number;
  const size = gso !== 0 && gso < len ? gso : len;
  const at = aside.slotAt(slot);
  touch(f, 0);
  if (second(f) >= 0) {
    send.begin(second(f), segments[2 * f + 1] as number);
    send.append(at, len, size);
    finish(f, 1);
    // Kept as the others are, with room for a header: none of them has no bytes.
  } else if (!pending.add(f, at - HEADER_BYTES, len + HEADER_BYTES, size, 0, 0)) {
    drop(DROP['flow-pending-full']);
  }
};

/** False: it failed, and the row has ended. */
const finish = (f: Flow, s: 0 | 1): boolean => {
  const r = send.finish();
  segments[2 * f + s] = send.lastSegment();
  if (r === 0) return true;
  fail(f, -r);
  return false;
};

const onSecond = (f: Flow, fd: number): void => {
  seconds[f] = fd + 1;
  send.begin(fd, 0);
  for (let e = pending.first(f); e >= 0; e = pending.next(e)) {
    send.append(pending.atOf(e) + HEADER_BYTES, pending.lenOf(e) - HEADER_BYTES, pending.segmentOf(e));
  }
  const sent = finish(f, 1);
  if (!sent) return;
  pending.clear(f);
  begin(f);
};

const onAnswer = (f: Flow, fd: number): void => {
  flows.setFd(f, fd);
  begin(f);
};

/** Watches the sockets once both are there: what one has before is for the other. */
const begin = (f: Flow): void => {
  if (flows.fd(f) < 0 || second(f) < 0) return;
  const { watch } = io.native;
  if (watch(flows.fd(f), io.EPOLLIN, flows.ref(f)) < 0 || watch(second(f), io.EPOLLIN, flows.secondRef(f)) < 0) {
    fail(f, EIO);
  }
};

/** There is no socket for it. */
const refused = (f: Flow, errno: number): void => {
  drop(DROP['flow-refused']);
  if (errno === ENFILE || errno === EMFILE) descriptors.short(descriptors.SPLICE, f);
  if (log.debugEnabled) debug(f, `no socket, errno ${errno}`);
  close(f);
};

/** What is left of descriptors is the guest's. */
const onNoRoom = (f: Flow, fd: number): void => {
  io.native.close(fd);
  refused(f, EMFILE);
};

const fail = (f: Flow, errno: number): void => {
  if (log.debugEnabled) debug(f, `ended by errno ${errno}`);
  close(f);
};

const close = (f: Flow): void => {
  pending.clear(f);
  const fd = second(f);
  if (fd >= 0) {
    io.native.unwatch(fd);
    io.native.close(fd);
    seconds[f] = 0;
  }
  end(f);
};

/** Something came from socket `s`. */
const touch = (f: Flow, s: 0 | 1): void => {
  const now = io.nowMs() | 0;
  lru.touch(f);
  flows.setLastActive(f, now);
  if (s === 1) set(f, ANSWERED);
  if (has(f, ANSWERED) && ((now - (begins[f] as number)) | 0) >= EXCHANGE_MS) set(f, STREAM);
};

/** An event of socket `s`. */
export const onEvent = (f: Flow, s: 0 | 1, mask: number): void => {
  if ((mask & io.EPOLLIN) !== 0 && !relay(f, s)) return;
  if ((mask & (io.EPOLLERR | io.EPOLLHUP)) !== 0) {
    drop(DROP['sock-error']);
    fail(f, io.native.socketError(socket(f, s)));
  }
};

/** Takes what socket `s` has to the other one, as far as one event goes. False: the row has ended. */
const relay = (f: Flow, s: 0 | 1): boolean => {
  const other = s === 0 ? 1 : 0;
  for (let call = 0; call < CALLS_MAX; call++) {
    // Nothing of it is committed: it is memory for as long as this call takes.
    const base = out.reserveBlock(DATAGRAMS, aside.SLOT_BYTES);
    const n = io.native.recvDatagrams(socket(f, s), base, aside.SLOT_BYTES, DATAGRAMS);
    if (n === -EAGAIN) return true;
    if (n < 0) {
      drop(DROP['sock-error']);
      fail(f, -n);
      return false;
    }
    touch(f, s);
    send.begin(socket(f, other), segments[2 * f + other] as number);
    for (let i = 0; i < n; i++) {
      const len = io.col[io.COL.DGRAM_LEN + i] as number;
      const gso = io.col[io.COL.DGRAM_GSO + i] as number;
      if (len < 0) drop(DROP['sock-error']);
      else send.append(base + i * aside.SLOT_BYTES, len, gso !== 0 && gso < len ? gso : len);
    }
    if (!finish(f, other)) return false;
    if (n < DATAGRAMS) return true;
  }
  return true;
};

/** The row's timer fired. */
export const onTimer = (f: Flow): void => {
  const idle = ((io.nowMs() | 0) - flows.lastActive(f)) | 0;
  const timeout = has(f, STREAM) ? streamMs : singleMs;
  if (idle >= timeout) close(f);
  else wheel.arm(f, io.nowMs() + timeout - idle);
};

/** EAGAIN: the socket was one that others' datagrams had come to; it is asked for with the next one. */
const onNoAnswer = (f: Flow, errno: number): void => {
  if (errno !== EAGAIN) return refused(f, errno);
  bits[f] = (bits[f] as number) & ~ASKED;
};

export const taker: Taker = { take, wants, onAsked, deliver, onAnswer, onNoAnswer };
