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
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { FRAGMENT } from '../wire/protocols.ts';
import * as vnet from '../wire/vnet.ts';
import * as slots from './fragment-slots.ts';
import * as icmpAbout from './icmp-about.ts';

/** No datagram: the fragment was kept or dropped. */
export const NONE = slots.NONE;
const ECN_CE = 3;

let end = 0;
/** After a datagram was completed: where it ends. */
export const wholeEnd = (): number => end;
/** Whether the frame at `frameAt` was made here. */
export const isMade = (frameAt: number): boolean => frameAt >= io.REASSEMBLY_AT;
/** Whether the packet whose IP header lies at `ipAt` must leave in one piece: DF, or IPv6 that its sender did not cut. */
export const isUncuttable = (frameAt: number, ipAt: number, v4: boolean): boolean =>
  v4 ? (ipv4.flagsAndFragment(io.view, ipAt) & ipv4.DF) !== 0 : !isMade(frameAt);

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
  slots.key.fill(0);
  slots.key[3] = ipv4.src(v, at);
  slots.key[7] = ipv4.dst(v, at);
  const slot = slots.slotFor(4, ipv4.id(v, at), protocol);
  if (slot === NONE || !slots.put(slot, at + headerBytes, offset, bytes, more, ipv4.tos(v, at) & 3)) return NONE;
  if (offset === 0) {
    const to = slots.dataOf(slot) - headerBytes - eth.HEADER_BYTES;
    io.mem.copyWithin(to, at - eth.HEADER_BYTES, at + headerBytes);
    slots.noteFirst(slot, headerBytes, bytes, 0);
  }
  if (!slots.isWhole(slot)) return NONE;
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
  for (let i = 0; i < slots.KEY_WORDS; i++) slots.key[i] = v.getInt32(at + ipv6.SRC + i * 4);
  const slot = slots.slotFor(6, fragment.id(v, fragmentAt), 0);
  if (slot === NONE || !slots.put(slot, dataAt, offset, bytes, more, ipv6.trafficClass(v, at) & 3)) return NONE;
  if (offset === 0) keepFirst6(slot, at, fragmentAt, bytes);
  if (!slots.isWhole(slot)) return NONE;
  return complete6(slot);
};

/** Extension headers before the fragment header have been looked at, and nothing behind us wants them: they are left out. */
const keepFirst6 = (slot: number, at: number, fragmentAt: number, bytes: number): void => {
  const v = io.view;
  const to = slots.dataOf(slot) - fragment.HEADER_BYTES - ipv6.HEADER_BYTES;
  io.mem.copyWithin(to - eth.HEADER_BYTES, at - eth.HEADER_BYTES, at + ipv6.HEADER_BYTES);
  io.mem.copyWithin(to + ipv6.HEADER_BYTES, fragmentAt, fragmentAt + fragment.HEADER_BYTES);
  ipv6.setNextHeader(v, to, FRAGMENT);
  ipv6.setPayloadLength(v, to, fragment.HEADER_BYTES + bytes);
  slots.noteFirst(slot, ipv6.HEADER_BYTES + fragment.HEADER_BYTES, bytes, fragment.nextHeader(v, fragmentAt));
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

/** The ECN field of the whole (RFC 3168 §5.3): congestion that one part met is the whole's; -1: parts that contradict each other. */
const mergedEcn = (slot: number, ofFirst: number): number => {
  const seen = slots.ecnsSeen(slot);
  if ((seen & (1 << ECN_CE)) === 0) return ofFirst;
  return (seen & 1) !== 0 ? -1 : ECN_CE;
};

const handOver = (slot: number, ethAt: number): number => {
  slots.handOver(slot);
  end = slots.dataOf(slot) + slots.total(slot);
  vnet.clear(io.view, ethAt - vnet.HEADER_BYTES);
  return ethAt;
};
const abandon = (slot: number, reason: number): number => {
  slots.clear(slot);
  return refuse(reason);
};

const complete4 = (slot: number): number => {
  const v = io.view;
  const headerBytes = slots.headerBytesOfFirst(slot);
  const at = slots.dataOf(slot) - headerBytes;
  const total = headerBytes + slots.total(slot);
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
  const at = slots.dataOf(slot) - ipv6.HEADER_BYTES;
  const from = at - fragment.HEADER_BYTES;
  const trafficClass = ipv6.trafficClass(v, from);
  const ecn = mergedEcn(slot, trafficClass & 3);
  if (ecn < 0) return abandon(slot, DROP['fragment-ecn']);
  io.mem.copyWithin(at - eth.HEADER_BYTES, from - eth.HEADER_BYTES, from + ipv6.HEADER_BYTES);
  ipv6.setClassAndLabel(v, at, (trafficClass & 0xfc) | ecn, ipv6.flowLabel(v, at));
  ipv6.setPayloadLength(v, at, slots.total(slot));
  ipv6.setNextHeader(v, at, slots.nextHeader(slot));
  return handOver(slot, at - eth.HEADER_BYTES);
};
