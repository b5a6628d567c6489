// SPDX-License-Identifier: Apache-2.0
/**
 * The two stations on the link, ours and the guest's: MAC addresses, IP addresses, and the headers of frames between them.
 *
 * The guest's MAC is what the last frame came from (at first what the interface was given; of a virtual machine nothing is known,
 * so everybody on its link is meant). The guest's IP addresses are those it was given, and beside them those seen, because it may
 * choose its own as well, or be several machines behind a bridge: inbound flows go to the last one seen, unless the command line
 * named it (`pinned`), and none of them is asked for at our MAC. Once frames have come from a second MAC, flows reach each address
 * at the MAC it was last heard from.
 *
 * Words are int32; an IPv6 address is four of them.
 */
import { parseIpv4, parseIpv6, parseMac } from '../host/address-text.ts';
import type { Network } from '../host/network.ts';
import * as checksum from '../wire/checksum.ts';
import * as eth from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';

/** Guest addresses that can be told apart; the command line allows fewer. */
const ADDRESSES_MAX = 64;
/** Addresses seen that are remembered, of each family; new ones take the place of the first. */
const SEEN_MAX = 64;
const WORDS = 4;
/** OUR_MAC of cli/plan.ts. */
const USUAL_HIGH = 0x9a55;
const USUAL_LOW = 0x9a55_9a55 | 0;

let ourHigh = 0;
let ourLow = 0;
let guestHigh = 0;
let guestLow = 0;

/** Counts the changes of the MAC that frames come from; `several`: frames came from more than one. */
let turns = 0;
/** Whether {@link direct} has something to do. */
export let several = false;

let our4 = 0;
/** Where inbound flows go, and whether it stays; and the last source, when `turns` was `heardAt4`. */
let seen4 = 0;
let pinned4 = false;
let heard4 = 0;
let heardAt4 = 0;
const assigned4 = new Int32Array(ADDRESSES_MAX);
/** The broadcast address of each one's subnet; 0: it has none (RFC 3021). */
const broadcasts4 = new Int32Array(ADDRESSES_MAX);
let assigned4Count = 0;
/** A ring, and how many were ever put there. */
const remembered4 = new Int32Array(SEEN_MAX);
let remembered4Count = 0;
/** The MAC each address was last heard from, assigned ones first; all zero: never. */
const high4 = new Uint16Array(ADDRESSES_MAX + SEEN_MAX);
const low4 = new Int32Array(ADDRESSES_MAX + SEEN_MAX);

const ourGateway6 = new Int32Array(WORDS);
const ourLinkLocal6 = new Int32Array(WORDS);
const seen6 = new Int32Array(WORDS);
const seenLinkLocal6 = new Int32Array(WORDS);
let pinned6 = false;
const heard6 = new Int32Array(WORDS);
let heardAt6 = 0;
const assigned6 = new Int32Array(ADDRESSES_MAX * WORDS);
let assigned6Count = 0;
const remembered6 = new Int32Array(SEEN_MAX * WORDS);
let remembered6Count = 0;
const high6 = new Uint16Array(ADDRESSES_MAX + SEEN_MAX);
const low6 = new Int32Array(ADDRESSES_MAX + SEEN_MAX);

/** Takes over addresses from the network; forgets everything seen. Throws RangeError for text that is no address. */
export const configure = (network: Network): void => {
  const ours = parseMac(network.ourMac);
  const guest = parseMac(network.guestMac);
  ourHigh = ours.high;
  ourLow = ours.low;
  guestHigh = guest.high;
  guestLow = guest.low;
  configure4(network);
  configure6(network);
  reconnected();
};

/** Another machine may be there now: forgets who has which address. The MAC is a good guess until a frame comes: it may be the same one. */
export const reconnected = (): void => {
  turns = 1;
  several = false;
  heardAt4 = 0;
  heardAt6 = 0;
  for (const column of [high4, low4, high6, low6]) column.fill(0);
};

const configure4 = (network: Network): void => {
  const addresses = (network.v4?.addresses ?? []).slice(0, ADDRESSES_MAX);
  assigned4Count = addresses.length;
  for (const [i, a] of addresses.entries()) {
    assigned4[i] = parseIpv4(a.address);
    broadcasts4[i] = a.prefix < 31 ? (assigned4[i] as number) | (0xffff_ffff >>> a.prefix) : 0;
  }
  seen4 = assigned4Count > 0 ? (assigned4[0] as number) : 0;
  pinned4 = network.v4?.pinned ?? false;
  remembered4Count = 0;
  our4 = network.v4 === null ? 0 : parseIpv4(network.v4.gateway);
};

const configure6 = (network: Network): void => {
  const addresses = (network.v6?.addresses ?? []).slice(0, ADDRESSES_MAX);
  assigned6Count = addresses.length;
  for (const [i, a] of addresses.entries()) assigned6.set(parseIpv6(a.address), i * WORDS);
  remembered6Count = 0;
  pinned6 = network.v6?.pinned ?? false;
  seen6.fill(0);
  seenLinkLocal6.fill(0);
  if (assigned6Count > 0) seen6.set(assigned6.subarray(0, WORDS));
  ourGateway6.set(network.v6 === null ? [0, 0, 0, 0] : parseIpv6(network.v6.gateway));
  ourLinkLocal6.set(network.v6 === null ? [0, 0, 0, 0] : parseIpv6(network.v6.ourLinkLocal));
};

/** Notes where the frame at `at` came from. A group, all-zero or our own source address says nothing about the guest, but for {@link giveWay}. */
export const learn = (v: DataView, at: number): void => {
  const high = eth.srcHigh(v, at);
  const low = eth.srcLow(v, at);
  if (high === guestHigh && low === guestLow) return;
  if (eth.fromGroup(v, at) || (high | low) === 0 || (high === ourHigh && low === ourLow && !giveWay())) return;
  // The first one that is heard of makes no second.
  if (!isGroup(guestHigh)) several = true;
  turns++;
  guestHigh = high;
  guestLow = low;
};
/** libvirt 9 says the guest's own MAC where ours is asked for: when a virtual machine's first frame shows that, ours is the usual one. */
const giveWay = (): boolean => {
  if (!isGroup(guestHigh) || (ourHigh === USUAL_HIGH && ourLow === USUAL_LOW)) return false;
  ourHigh = USUAL_HIGH;
  ourLow = USUAL_LOW;
  return true;
};
const isGroup = (high: number): boolean => (high & 0x0100) !== 0;

/** Notes the source of an IPv4 packet from the guest, unless no host can have that address (RFC 1122 §3.2.1.3) or it is ours. */
export const see4 = (src: number): void => {
  if (src === heard4 && heardAt4 === turns) return;
  const first = src >>> 24;
  if (first === 0 || first === 127 || first >= 224 || src === our4) return;
  heard4 = src;
  heardAt4 = turns;
  if (!pinned4) seen4 = src;
  let i = index4(src);
  if (i < 0) {
    const r = remembered4Count++ % SEEN_MAX;
    remembered4[r] = src;
    i = ADDRESSES_MAX + r;
  }
  high4[i] = guestHigh;
  low4[i] = guestLow;
};
/** Row of an address in the columns; -1: it is none of the guest's. */
const index4 = (word: number): number => {
  for (let i = 0; i < assigned4Count; i++) if (assigned4[i] === word) return i;
  const n = Math.min(remembered4Count, SEEN_MAX);
  for (let i = 0; i < n; i++) if (remembered4[i] === word) return ADDRESSES_MAX + i;
  return -1;
};

/** Notes the source of an IPv6 packet from the guest: a link-local one apart from all others. */
export const see6 = (w0: number, w1: number, w2: number, w3: number): void => {
  if (heardAt6 === turns && same(heard6, 0, w0, w1, w2, w3)) return;
  if (ipv6.isMulticast(w0) || ipv6.isUnspecified(w0, w1, w2, w3) || ipv6.isLoopback(w0, w1, w2, w3)) return;
  if (isOurs6(w0, w1, w2, w3)) return;
  setWords(heard6, 0, w0, w1, w2, w3);
  heardAt6 = turns;
  if (ipv6.isLinkLocal(w0)) setWords(seenLinkLocal6, 0, w0, w1, w2, w3);
  else if (!pinned6) setWords(seen6, 0, w0, w1, w2, w3);
  let i = index6(w0, w1, w2, w3);
  if (i < 0) {
    const r = remembered6Count++ % SEEN_MAX;
    setWords(remembered6, r * WORDS, w0, w1, w2, w3);
    i = ADDRESSES_MAX + r;
  }
  high6[i] = guestHigh;
  low6[i] = guestLow;
};
const index6 = (w0: number, w1: number, w2: number, w3: number): number => {
  for (let i = 0; i < assigned6Count; i++) if (same(assigned6, i * WORDS, w0, w1, w2, w3)) return i;
  const n = Math.min(remembered6Count, SEEN_MAX);
  for (let i = 0; i < n; i++) if (same(remembered6, i * WORDS, w0, w1, w2, w3)) return ADDRESSES_MAX + i;
  return -1;
};
const setWords = (words: Int32Array, at: number, w0: number, w1: number, w2: number, w3: number): void => {
  words[at] = w0;
  words[at + 1] = w1;
  words[at + 2] = w2;
  words[at + 3] = w3;
};
export const ourMacHigh = (): number => ourHigh;
export const ourMacLow = (): number => ourLow;
export const guestMacHigh = (): number => guestHigh;
export const guestMacLow = (): number => guestLow;
/** The gateway: our address on the tap. 0 without IPv4. */
export const our4Word = (): number => our4;
/** Where the guest is: the last source seen, or at first the address it is given. 0: not known. */
export const guest4Word = (): number => seen4;
/** Word `i` of the gateway; all zero without IPv6. */
export const our6Word = (i: number): number => ourGateway6[i] as number;
export const ourLinkLocal6Word = (i: number): number => ourLinkLocal6[i] as number;
/** Word `i` of the last global source seen, or at first of the first address given. All zero: not known. */
export const guest6Word = (i: number): number => seen6[i] as number;
/** The same, but of the link-local address where the guest has no other, as behind a host without one (local mode). */
export const inbound6Word = (i: number): number => (seen6[0] === 0 ? likelyLinkLocal6Word(i) : (seen6[i] as number));
/** Word `i` of the last link-local source seen; all zero: none yet. */
export const guestLinkLocal6Word = (i: number): number => seenLinkLocal6[i] as number;
/** The same, but before one was seen that which an interface makes of its MAC (RFC 4291 App. A); all zero while that is not known. */
export const likelyLinkLocal6Word = (i: number): number => {
  if (seenLinkLocal6[0] !== 0 || isGroup(guestHigh)) return seenLinkLocal6[i] as number;
  switch (i) {
    case 0:
      return 0xfe800000 | 0;
    case 2:
      return ((guestHigh ^ 0x0200) << 16) | ((guestLow >>> 16) & 0xff00) | 0xff;
    case 3:
      return 0xfe000000 | (guestLow & 0xffffff);
    default:
      return 0;
  }
};

/** An address the guest was given, or one that it used. */
export const isGuest4 = (word: number): boolean => word !== 0 && (word === seen4 || index4(word) >= 0);
/** The broadcast address of a subnet that the guest has an address in. */
export const isSubnetBroadcast4 = (word: number): boolean => {
  for (let i = 0; i < assigned4Count; i++) if (word !== 0 && broadcasts4[i] === word) return true;
  return false;
};
export const isAssigned4 = (word: number): boolean => {
  for (let i = 0; i < assigned4Count; i++) if (assigned4[i] === word) return true;
  return false;
};
export const isGuest6 = (w0: number, w1: number, w2: number, w3: number): boolean =>
  same(seen6, 0, w0, w1, w2, w3) || same(seenLinkLocal6, 0, w0, w1, w2, w3) || index6(w0, w1, w2, w3) >= 0;
export const isAssigned6 = (w0: number, w1: number, w2: number, w3: number): boolean => {
  for (let i = 0; i < assigned6Count; i++) if (same(assigned6, i * WORDS, w0, w1, w2, w3)) return true;
  return false;
};
/** The gateway or our link-local address. */
export const isOurs6 = (w0: number, w1: number, w2: number, w3: number): boolean =>
  same(ourGateway6, 0, w0, w1, w2, w3) || same(ourLinkLocal6, 0, w0, w1, w2, w3);

const same = (words: Int32Array, at: number, w0: number, w1: number, w2: number, w3: number): boolean =>
  words[at] === w0 && words[at + 1] === w1 && words[at + 2] === w2 && words[at + 3] === w3;

/** Ethernet header from us to the guest. */
export const ethernet = (v: DataView, at: number, etherType: number): void => {
  eth.setDst(v, at, guestHigh, guestLow);
  eth.setSrc(v, at, ourHigh, ourLow);
  eth.setEtherType(v, at, etherType);
};

/** Where several stations are: turns a frame, whose Ethernet and IP headers are complete, to the one that has its destination. */
export const direct = (v: DataView, at: number): void => {
  const ip = at + eth.HEADER_BYTES;
  if (eth.etherType(v, at) === eth.IPV4) {
    const i = index4(ipv4.dst(v, ip));
    if (i >= 0 && ((high4[i] as number) | (low4[i] as number)) !== 0)
      eth.setDst(v, at, high4[i] as number, low4[i] as number);
    return;
  }
  const i = index6(ipv6.dstWord(v, ip, 0), ipv6.dstWord(v, ip, 1), ipv6.dstWord(v, ip, 2), ipv6.dstWord(v, ip, 3));
  if (i >= 0 && ((high6[i] as number) | (low6[i] as number)) !== 0)
    eth.setDst(v, at, high6[i] as number, low6[i] as number);
};

/**
 * IPv4 header of 20 bytes with its checksum. An atomic datagram: DF set, so the identification carries nothing and is 0
 * (RFC 6864 §4.1). `totalLength` counts header and payload; `tos` is DSCP and ECN.
 */
export const ipv4Header = (
  v: DataView,
  at: number,
  totalLength: number,
  protocol: number,
  src: number,
  dst: number,
  ttl: number,
  tos: number,
): void => {
  ipv4.setHeaderBytes(v, at, ipv4.HEADER_BYTES);
  ipv4.setTos(v, at, tos);
  ipv4.setTotalLength(v, at, totalLength);
  ipv4.setId(v, at, 0);
  ipv4.setFlagsAndFragment(v, at, ipv4.DF);
  ipv4.setTtl(v, at, ttl);
  ipv4.setProtocol(v, at, protocol);
  ipv4.setSrc(v, at, src);
  ipv4.setDst(v, at, dst);
  ipv4.setChecksum(v, at, checksum.ipv4HeaderChecksum(v, at, ipv4.HEADER_BYTES));
};

/** IPv6 header of 40 bytes: `payloadLength` counts what follows it; then the words of source and destination. */
export const ipv6Header = (
  v: DataView,
  at: number,
  payloadLength: number,
  nextHeader: number,
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  hopLimit: number,
  trafficClass: number,
  flowLabel: number,
): void => {
  ipv6.setClassAndLabel(v, at, trafficClass, flowLabel);
  ipv6.setPayloadLength(v, at, payloadLength);
  ipv6.setNextHeader(v, at, nextHeader);
  ipv6.setHopLimit(v, at, hopLimit);
  ipv6.setSrc(v, at, s0, s1, s2, s3);
  ipv6.setDst(v, at, d0, d1, d2, d3);
};
