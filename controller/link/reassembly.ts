// SPDX-License-Identifier: Apache-2.0
/**
 * Datagrams that the guest sent in fragments (RFC 791 §3.2, RFC 8200 §4.5). Each is put together in a slot of the arena,
 * where its bytes go straight to their place; a bit for each 8 bytes tells what has come. The whole packet has the form
 * of a received frame and goes through the same checks as any other, its checksum being made by nobody else.
 *
 *   slot   | room | virtio-net 12 | Ethernet 14 | IP header 20…60 | data, up to 65,535 …
 *
 * What bounds it: the slots (the one that began first makes room, within its own source's share first), the time, and
 * the number of pieces. A fragment costs the same however many came before it.
 *
 * What is refused: data that differs from, or only partly repeats, what has come takes the whole datagram with it, and
 * all that follows of it (RFC 5722 §3; for IPv4 too, because nobody sends that in good faith). An exact repetition is ignored.
 */
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as checksum from '../wire/checksum.ts';
import * as eth from '../wire/ethernet.ts';
import * as fragment from '../wire/fragment.ts';
import * as icmpv4 from '../wire/icmpv4.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { FRAGMENT } from '../wire/protocols.ts';
import * as vnet from '../wire/vnet.ts';
import { Coverage } from './coverage.ts';
import * as icmpAbout from './icmp-about.ts';

/** Before the data of a slot: the headers, 86 bytes at most. */
const HEADROOM = 96;
const SLOT_BYTES = 65_664;
export const SLOTS = Math.floor((io.REASSEMBLY_END - io.REASSEMBLY_AT) / SLOT_BYTES);
/** One source may have half of them. */
export const SLOTS_PER_SOURCE = SLOTS >> 1;
/** Linux's (net.ipv4.ipfrag_time); RFC 1122 §3.3.2 would have 60 s or more. */
export const TIMEOUT_4_MS = 30_000;
/** RFC 8200 §4.5. */
export const TIMEOUT_6_MS = 60_000;
/** A datagram of full size over a link of the smallest MTU there is, 68 bytes, takes 1366. */
export const PIECES_MAX = 2048;
const KEY_WORDS = 8;
const ECN_CE = 3;

const FREE = 0;
const GATHERING = 1;
/** Overlapped: what still comes of it is dropped, until its time is over. */
const SPOILED = 2;
/** Handed over: its bytes are in use until the end of the turn. */
const WHOLE = 3;

const states = new Uint8Array(SLOTS);
const families = new Uint8Array(SLOTS);
/** IPv4 only: a part of the key (RFC 791); 0 for IPv6 (RFC 8200). */
const protocols = new Uint8Array(SLOTS);
const ids = new Int32Array(SLOTS);
/** Source and destination, IPv4 in the last word of each. */
const keys = new Int32Array(SLOTS * KEY_WORDS);
const startedMs = new Float64Array(SLOTS);
/** Length of the data once the last fragment is there, 0: not yet. */
const totals = new Int32Array(SLOTS);
/** Bytes that have come, and where the highest of them ends. */
const haves = new Int32Array(SLOTS);
const tops = new Int32Array(SLOTS);
const pieces = new Uint16Array(SLOTS);
/** A bit for each ECN field that was seen. */
const ecns = new Uint8Array(SLOTS);
/** Of the first fragment: its data and its headers (IPv6: with the fragment header), in bytes. 0: it has not come. */
const firstBytes = new Int32Array(SLOTS);
const firstHeaderBytes = new Int32Array(SLOTS);
/** IPv6: what the fragment header of the first fragment says comes next. */
const nextHeaders = new Uint8Array(SLOTS);
const coverage = new Coverage(SLOTS);

/** No datagram: the fragment was kept or dropped. */
export const NONE = -1;
let inUse = 0;
let toRelease = 0;
/** When the first of those under way is over; 0: none is. */
let nextMs = 0;
let end = 0;
/** After a datagram was completed: where it ends. */
export const wholeEnd = (): number => end;
/** Whether the frame at `frameAt` was made here. */
export const isMade = (frameAt: number): boolean => frameAt >= io.REASSEMBLY_AT;
/** Whether the packet whose IP header lies at `ipAt` must leave in one piece: DF, or IPv6 that its sender did not cut. */
export const isUncuttable = (frameAt: number, ipAt: number, v4: boolean): boolean =>
  v4 ? (ipv4.flagsAndFragment(io.view, ipAt) & ipv4.DF) !== 0 : !isMade(frameAt);

const dataOf = (slot: number): number => io.REASSEMBLY_AT + slot * SLOT_BYTES + HEADROOM;
const timeoutOf = (slot: number): number => (families[slot] === 4 ? TIMEOUT_4_MS : TIMEOUT_6_MS);

/** The key of the fragment at hand, kept out of the parameters. */
const key = new Int32Array(KEY_WORDS);

/**
 * Takes the IPv4 fragment in [at, packetEnd): a checked header, behind its Ethernet header. Returns where the Ethernet
 * header of a whole packet lies (up to {@link wholeEnd}; until the turn ends), or NONE.
 */
export const take4 = (at: number, packetEnd: number): number => {
  const v = io.view;
  const field = ipv4.flagsAndFragment(v, at);
  const offset = (field & ipv4.OFFSET_MASK) << 3;
  const more = (field & ipv4.MF) !== 0;
  const headerBytes = ipv4.headerBytes(v, at);
  const bytes = packetEnd - at - headerBytes;
  const protocol = ipv4.protocol(v, at);
  const fault = fragment.isTiny4(protocol, offset, bytes)
    ? fragment.TINY
    : fragment.judge(offset, bytes, more, headerBytes);
  if (fault !== fragment.OK) return refuse(reasonOf(fault));
  key.fill(0);
  key[3] = ipv4.src(v, at);
  key[7] = ipv4.dst(v, at);
  const slot = slotFor(4, ipv4.id(v, at), protocol);
  if (slot === NONE || !put(slot, at + headerBytes, offset, bytes, more, ipv4.tos(v, at) & 3)) return NONE;
  if (offset === 0) {
    const to = dataOf(slot) - headerBytes - eth.HEADER_BYTES;
    io.mem.copyWithin(to, at - eth.HEADER_BYTES, at + headerBytes);
    firstHeaderBytes[slot] = headerBytes;
    firstBytes[slot] = bytes;
  }
  if (!isWhole(slot)) return NONE;
  return complete4(slot);
};

/** The same for the IPv6 fragment in [at, packetEnd), whose fragment header lies at `fragmentAt`. */
export const take6 = (at: number, fragmentAt: number, packetEnd: number): number => {
  const v = io.view;
  const offset = fragment.offset(v, fragmentAt);
  const more = fragment.more(v, fragmentAt);
  const dataAt = fragmentAt + fragment.HEADER_BYTES;
  const bytes = packetEnd - dataAt;
  const fault = fault6(at, fragmentAt, packetEnd);
  if (fault !== fragment.OK) return refuse6(at, fragmentAt, packetEnd, fault);
  for (let i = 0; i < KEY_WORDS; i++) key[i] = v.getInt32(at + ipv6.SRC + i * 4);
  const slot = slotFor(6, fragment.id(v, fragmentAt), 0);
  if (slot === NONE || !put(slot, dataAt, offset, bytes, more, ipv6.trafficClass(v, at) & 3)) return NONE;
  if (offset === 0) keepFirst6(slot, at, fragmentAt, bytes);
  if (!isWhole(slot)) return NONE;
  return complete6(slot);
};

/** Extension headers before the fragment header have been looked at, and nothing behind us wants them: they are left out. */
const keepFirst6 = (slot: number, at: number, fragmentAt: number, bytes: number): void => {
  const v = io.view;
  const to = dataOf(slot) - fragment.HEADER_BYTES - ipv6.HEADER_BYTES;
  io.mem.copyWithin(to - eth.HEADER_BYTES, at - eth.HEADER_BYTES, at + ipv6.HEADER_BYTES);
  io.mem.copyWithin(to + ipv6.HEADER_BYTES, fragmentAt, fragmentAt + fragment.HEADER_BYTES);
  ipv6.setNextHeader(v, to, FRAGMENT);
  ipv6.setPayloadLength(v, to, fragment.HEADER_BYTES + bytes);
  nextHeaders[slot] = v.getUint8(fragmentAt);
  firstHeaderBytes[slot] = ipv6.HEADER_BYTES + fragment.HEADER_BYTES;
  firstBytes[slot] = bytes;
};

const fault6 = (at: number, fragmentAt: number, packetEnd: number): number => {
  const v = io.view;
  const dataAt = fragmentAt + fragment.HEADER_BYTES;
  const offset = fragment.offset(v, fragmentAt);
  const others = fragmentAt - at - ipv6.HEADER_BYTES;
  const fault = fragment.judge(offset, packetEnd - dataAt, fragment.more(v, fragmentAt), others);
  if (fault !== fragment.OK || offset !== 0) return fault;
  const tiny = fragment.isTiny6(v, fragment.nextHeader(v, fragmentAt), dataAt, packetEnd);
  return tiny ? fragment.TINY : fragment.OK;
};

/** RFC 8200 §4.5 and RFC 7112 §5 want the sender told, with the place of the field that is wrong: length, offset, none. */
const refuse6 = (at: number, fragmentAt: number, packetEnd: number, fault: number): number => {
  const code = fault === fragment.TINY ? icmpv6.INCOMPLETE_HEADER_CHAIN : icmpv6.ERRONEOUS_FIELD;
  const pointer = fault === fragment.WRONG_LENGTH ? 4 : fault === fragment.TOO_LONG ? fragmentAt + 2 - at : 0;
  icmpAbout.tell6(at, packetEnd, icmpv6.PARAMETER_PROBLEM, code, pointer, -1, packetEnd);
  return refuse(reasonOf(fault));
};

const reasonOf = (fault: number): number => {
  if (fault === fragment.WRONG_LENGTH) return DROP['fragment-length'];
  return fault === fragment.TINY ? DROP['fragment-tiny'] : DROP['fragment-too-long'];
};
const refuse = (reason: number): number => {
  drop(reason);
  return NONE;
};

/** The slot of the datagram that the fragment at hand belongs to; NONE, and counted, when there is no room. */
const slotFor = (family: number, id: number, protocol: number): number => {
  for (let s = 0; s < SLOTS; s++) {
    if (ids[s] === id && families[s] === family && protocols[s] === protocol && isUnderWay(s) && hasKey(s)) return s;
  }
  const s = room();
  if (s === NONE) return NONE;
  states[s] = GATHERING;
  families[s] = family;
  protocols[s] = protocol;
  ids[s] = id;
  keys.set(key, s * KEY_WORDS);
  startedMs[s] = io.nowMs();
  const overMs = io.nowMs() + timeoutOf(s);
  if (nextMs === 0 || overMs < nextMs) nextMs = overMs;
  inUse++;
  return s;
};
const isUnderWay = (slot: number): boolean => states[slot] === GATHERING || states[slot] === SPOILED;
const hasKey = (slot: number): boolean => {
  for (let i = 0; i < KEY_WORDS; i++) if (keys[slot * KEY_WORDS + i] !== key[i]) return false;
  return true;
};
const hasSource = (slot: number): boolean => {
  for (let i = 0; i < 4; i++) if (keys[slot * KEY_WORDS + i] !== key[i]) return false;
  return true;
};

/** A free slot; the oldest of the same source, if it has its share, or the oldest of all makes room. NONE: all were completed this turn. */
const room = (): number => {
  let free = NONE;
  let oldest = NONE;
  let oldestOwn = NONE;
  let own = 0;
  for (let s = 0; s < SLOTS; s++) {
    if (states[s] === FREE) free = s;
    if (!isUnderWay(s)) continue;
    oldest = older(oldest, s);
    if (!hasSource(s)) continue;
    own++;
    oldestOwn = older(oldestOwn, s);
  }
  if (free !== NONE && own < SLOTS_PER_SOURCE) return free;
  const s = own >= SLOTS_PER_SOURCE ? oldestOwn : oldest;
  drop(DROP['fragment-evicted']);
  if (s !== NONE) clear(s);
  return s;
};
const older = (a: number, b: number): number =>
  a === NONE || (startedMs[b] as number) < (startedMs[a] as number) ? b : a;

const clear = (slot: number): void => {
  if (states[slot] !== WHOLE) inUse--;
  states[slot] = FREE;
  totals[slot] = 0;
  haves[slot] = 0;
  tops[slot] = 0;
  pieces[slot] = 0;
  ecns[slot] = 0;
  firstBytes[slot] = 0;
  firstHeaderBytes[slot] = 0;
  coverage.clear(slot);
};

/** Puts the data at `from` in its place. False, and counted, when it must not go there. */
const put = (slot: number, from: number, offset: number, bytes: number, more: boolean, ecn: number): boolean => {
  if (states[slot] === SPOILED) return spoil(slot, DROP['fragment-overlap']);
  const top = offset + bytes;
  const total = totals[slot] as number;
  const there = coverage.test(slot, offset, top);
  if (there !== Coverage.NONE) {
    const again =
      there === Coverage.ALL && repeats(slot, from, offset, bytes) && (more ? top !== total : top === total);
    if (!again) return spoil(slot, DROP['fragment-overlap']);
    drop(DROP['fragment-duplicate']);
    return false;
  }
  // Two ends, or data behind the end.
  if (total !== 0 ? top > total || !more : !more && top < (tops[slot] as number)) {
    return spoil(slot, DROP['fragment-length']);
  }
  if ((pieces[slot] as number) === PIECES_MAX) return spoil(slot, DROP['fragment-pieces']);
  if (!more) totals[slot] = top;
  io.mem.copyWithin(dataOf(slot) + offset, from, from + bytes);
  coverage.mark(slot, offset, top);
  pieces[slot] = (pieces[slot] as number) + 1;
  haves[slot] = (haves[slot] as number) + bytes;
  tops[slot] = Math.max(tops[slot] as number, top);
  ecns[slot] = (ecns[slot] as number) | (1 << ecn);
  return true;
};
const spoil = (slot: number, reason: number): false => {
  states[slot] = SPOILED;
  drop(reason);
  return false;
};

/** One view of the arena as a Buffer, whose compare() takes ranges and makes no object. */
const bytesOf = Buffer.from(io.mem.buffer);
const repeats = (slot: number, from: number, offset: number, bytes: number): boolean => {
  const at = dataOf(slot) + offset;
  return bytesOf.compare(bytesOf, from, from + bytes, at, at + bytes) === 0;
};

const isWhole = (slot: number): boolean => totals[slot] !== 0 && haves[slot] === totals[slot];

/** The ECN field of the whole (RFC 3168 §5.3): congestion that one part met is the whole's; -1: parts that contradict each other. */
const mergedEcn = (slot: number, ofFirst: number): number => {
  const seen = ecns[slot] as number;
  if ((seen & (1 << ECN_CE)) === 0) return ofFirst;
  return (seen & 1) !== 0 ? -1 : ECN_CE;
};

/** Hands the slot over. Its bytes may be referred to (UDP and TCP gather them) until the turn ends. */
const handOver = (slot: number, ethAt: number): number => {
  inUse--;
  toRelease++;
  states[slot] = WHOLE;
  end = dataOf(slot) + (totals[slot] as number);
  vnet.clear(io.view, ethAt - vnet.HEADER_BYTES);
  return ethAt;
};
const abandon = (slot: number, reason: number): number => {
  clear(slot);
  return refuse(reason);
};

const complete4 = (slot: number): number => {
  const v = io.view;
  const headerBytes = firstHeaderBytes[slot] as number;
  const at = dataOf(slot) - headerBytes;
  const total = headerBytes + (totals[slot] as number);
  const tos = ipv4.tos(v, at);
  const ecn = mergedEcn(slot, tos & 3);
  if (total > fragment.PACKET_BYTES_MAX) return abandon(slot, DROP['fragment-too-long']);
  if (ecn < 0) return abandon(slot, DROP['fragment-ecn']);
  ipv4.setTotalLength(v, at, total);
  ipv4.setFlagsAndFragment(v, at, 0);
  ipv4.setTos(v, at, (tos & 0xfc) | ecn);
  ipv4.setChecksum(v, at, checksum.ipv4HeaderChecksum(v, at, headerBytes));
  return handOver(slot, at - eth.HEADER_BYTES);
};

const complete6 = (slot: number): number => {
  const v = io.view;
  const at = dataOf(slot) - ipv6.HEADER_BYTES;
  const from = at - fragment.HEADER_BYTES;
  const trafficClass = ipv6.trafficClass(v, from);
  const ecn = mergedEcn(slot, trafficClass & 3);
  if (ecn < 0) return abandon(slot, DROP['fragment-ecn']);
  io.mem.copyWithin(at - eth.HEADER_BYTES, from - eth.HEADER_BYTES, from + ipv6.HEADER_BYTES);
  ipv6.setClassAndLabel(v, at, (trafficClass & 0xfc) | ecn, ipv6.flowLabel(v, at));
  ipv6.setPayloadLength(v, at, totals[slot] as number);
  ipv6.setNextHeader(v, at, nextHeaders[slot] as number);
  return handOver(slot, at - eth.HEADER_BYTES);
};

/** Gives up datagrams whose time is over: the guest is told if their first fragment came (RFC 792, RFC 4443 §3.3). Call it each turn. */
export const tick = (nowMs: number): void => {
  if (nextMs === 0 || nowMs < nextMs) return;
  nextMs = 0;
  for (let s = 0; s < SLOTS; s++) {
    if (!isUnderWay(s)) continue;
    const overMs = (startedMs[s] as number) + timeoutOf(s);
    if (overMs <= nowMs) expire(s);
    else if (nextMs === 0 || overMs < nextMs) nextMs = overMs;
  }
};
/** Milliseconds until tick() has something to do; -1: nothing is under way. */
export const nextDelay = (nowMs: number): number => (nextMs === 0 ? -1 : Math.max(0, nextMs - nowMs));

const expire = (slot: number): void => {
  drop(DROP['fragment-timeout']);
  if (states[slot] === GATHERING && firstBytes[slot] !== 0) tellTimeout(slot);
  clear(slot);
};
const tellTimeout = (slot: number): void => {
  const at = dataOf(slot) - (firstHeaderBytes[slot] as number);
  const quotedEnd = dataOf(slot) + (firstBytes[slot] as number);
  if (families[slot] === 4) {
    icmpAbout.tell4(at, quotedEnd, icmpv4.TIME_EXCEEDED, icmpv4.REASSEMBLY_TIME, 0);
    return;
  }
  const next = nextHeaders[slot] as number;
  icmpAbout.tell6(at, quotedEnd, icmpv6.TIME_EXCEEDED, icmpv6.REASSEMBLY_TIME, 0, next, dataOf(slot));
};

/** Frees what was handed over. Called when nothing refers to it any more: at the end of each turn. */
export const endTurn = (): void => {
  if (toRelease === 0) return;
  toRelease = 0;
  for (let s = 0; s < SLOTS; s++) if (states[s] === WHOLE) clear(s);
};

/** Datagrams under way. */
export const size = (): number => inUse;
/** Forgets everything: for tests. */
export const reset = (): void => {
  for (let s = 0; s < SLOTS; s++) if (states[s] !== FREE) clear(s);
  inUse = 0;
  toRelease = 0;
  nextMs = 0;
};
