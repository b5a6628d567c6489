// SPDX-License-Identifier: Apache-2.0
/**
 * Neighbour discovery towards the guest, as its only router and as the neighbour that has every address (RFC 4861).
 *
 * - Neighbour solicitation → advertisement with our MAC for any target but the guest's own.
 * - Duplicate address detection (source ::, RFC 4862 §5.4) is answered for our own two addresses only: the guest may take
 *   any other, and answering would take it away from it. Inbound flows go to what it takes at once.
 * - Router solicitation → router advertisement; an unsolicited one at start and every 200 to 600 s. The whole advertisement
 *   is made once, in configure(); only addresses and checksum differ.
 *
 * Where the network names its neighbours (slirp4netns' does), only those are answered for, each with its own MAC.
 *
 * The virtio-net header before each frame has been checked (wire/vnet sane()) or cleared before handle() is called.
 */
import { parseIpv6, parseMac } from '../host/address-text.ts';
import type { Network } from '../host/network.ts';
import * as io from '../io/io.ts';
import * as out from '../link/out.ts';
import * as received from '../link/received.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import { ipv6MaskWord } from '../wire/addr.ts';
import * as checksum from '../wire/checksum.ts';
import * as dnsName from '../wire/dns-name.ts';
import * as eth from '../wire/ethernet.ts';
import * as icmpv6 from '../wire/icmpv6.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as ndp from '../wire/ndp.ts';
import { ICMPV6 } from '../wire/protocols.ts';
import * as vnet from '../wire/vnet.ts';

// Specification.
/** No fragmentation on this link may be needed (RFC 8200 §5). */
const PACKET_BYTES_MAX = 1280;
/** Largest of the field; RFC 8319 §4 lifts the limit of 9000 s. */
const ROUTER_LIFETIME_S = 65_535;
/** IANA's recommended default (RFC 1700), and what hosts use by themselves. */
const CURRENT_HOP_LIMIT = 64;
/** ff02::1, and its Ethernet group (RFC 2464 §7). */
const ALL_NODES_0 = 0xff020000 | 0;
const ALL_NODES_3 = 1;
const GROUP_MAC_HIGH = 0x3333;

// Implementation.
/** Between unsolicited advertisements: RFC 4861 §6.2.1's default for the longest, one third of it for the shortest. */
const ADVERTISE_MIN_MS = 200_000;
const ADVERTISE_MAX_MS = 600_000;

const L3 = eth.HEADER_BYTES;
const L4 = L3 + ipv6.HEADER_BYTES;
const NA_BYTES = ndp.NEIGHBOUR_BYTES + ndp.LINK_LAYER_BYTES;

/** The router advertisement from its ICMPv6 header on, checksum 0; empty: router advertisements are off. */
let advertisement = new Uint8Array(0);
let nextMs = 0;

/** Neighbours: four words of the address, and the two integers of the MAC; null: everybody. */
let neighbours: Int32Array | null = null;
const COLUMNS = 6;

/** Makes the advertisement. Throws RangeError for text that is no address. */
export const configure = (network: Network): void => {
  const named = network.v6?.neighbours;
  neighbours =
    named === undefined
      ? null
      : Int32Array.from(
          named.flatMap(({ address, mac }) => [...parseIpv6(address), parseMac(mac).high, parseMac(mac).low]),
        );
  const on = network.v6 !== null && network.enable.ndp && network.enable.ra;
  advertisement = on ? build(network, network.v6) : new Uint8Array(0);
  nextMs = 0;
};

const build = (network: Network, v6: NonNullable<Network['v6']>): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(PACKET_BYTES_MAX - ipv6.HEADER_BYTES);
  const v = new DataView(bytes.buffer);
  const managed = network.enable.dhcpv6 && v6.addresses.length > 0;
  icmpv6.setType(v, 0, icmpv6.ROUTER_ADVERTISEMENT);
  const routerS = v6.advertised?.routerS ?? ROUTER_LIFETIME_S;
  ndp.setAdvertisement(v, 0, CURRENT_HOP_LIMIT, managed ? ndp.RA_MANAGED : 0, routerS);
  const mac = parseMac(network.ourMac);
  let p = ndp.putLinkLayer(v, ndp.RA_BYTES, ndp.SOURCE_LINK_LAYER, mac.high, mac.low);
  // A smaller one is no IPv6 link, and hosts ignore it (RFC 4861 §4.6.4).
  if (network.mtu >= PACKET_BYTES_MAX) p = ndp.putMtu(v, p, network.mtu);
  const prefix = v6.advertised?.prefix ?? v6.addresses[0]?.address;
  if (prefix !== undefined) p = putPrefix(v, p, prefix, v6.advertised);
  if (network.tellDns) p = putResolvers(v, p, v6.dns);
  if (network.tellSearch) p = putSearch(v, p, network.search);
  return bytes.slice(0, p);
};

const putPrefix = (
  v: DataView,
  p: number,
  address: string,
  lifetimes: NonNullable<Network['v6']>['advertised'],
): number => {
  const words = parseIpv6(address);
  const [w0, w1] = [words[0] & ipv6MaskWord(64, 0), words[1] & ipv6MaskWord(64, 1)];
  const flags = ndp.PREFIX_ON_LINK | ndp.PREFIX_AUTONOMOUS;
  return ndp.putPrefix64(v, p, flags, w0, w1, lifetimes?.validS, lifetimes?.preferredS);
};
/** As many resolvers as there is room for. */
const putResolvers = (v: DataView, p: number, dns: readonly string[]): number => {
  const room = Math.floor((v.byteLength - p - 8) / ipv6.ADDRESS_BYTES);
  const words = dns.slice(0, room).flatMap((address) => parseIpv6(address));
  return words.length === 0 ? p : ndp.putRdnss(v, p, Int32Array.from(words));
};
/** As many search domains as there is room for. */
const putSearch = (v: DataView, p: number, search: readonly string[]): number => {
  const room = v.byteLength - p;
  let names = new Uint8Array(0);
  for (let n = 1; n <= search.length; n++) {
    const more = dnsName.encodeList(search.slice(0, n));
    if (ndp.dnsslBytes(more.length) > room) break;
    names = new Uint8Array(more);
  }
  return names.length === 0 ? p : ndp.putDnssl(v, p, names);
};

/** Handles types 133 to 137: `at` is the IPv6 header of the frame at `frameAt`, `icmpAt` the ICMPv6 header (8 bytes of it fit), `end` the packet's end. */
export const handle = (frameAt: number, at: number, icmpAt: number, end: number): void => {
  const v = io.view;
  // RFC 4861 §6.1, §7.1: what was forwarded, or is not exactly a message, is not answered.
  if (ipv6.hopLimit(v, at) !== ndp.HOP_LIMIT || icmpv6.code(v, icmpAt) !== 0) return drop(DROP['ndp-malformed']);
  if (!vnet.vouched(v, received.header(frameAt)) && !checksumGood(at, icmpAt, end)) {
    return drop(DROP['icmp-checksum']);
  }
  switch (icmpv6.type(v, icmpAt)) {
    case icmpv6.ROUTER_SOLICITATION:
      return routerSolicitation(at, icmpAt, end);
    case icmpv6.NEIGHBOUR_SOLICITATION:
      return neighbourSolicitation(at, icmpAt, end);
    case icmpv6.NEIGHBOUR_ADVERTISEMENT:
      return guestAdvertisement(at, icmpAt, end);
    default:
      // We take no other router's word.
      return;
  }
};

const checksumGood = (at: number, icmpAt: number, end: number): boolean => {
  const pseudo = checksum.pseudo6(io.view, at + ipv6.SRC, ICMPV6, end - icmpAt);
  return io.native.checksum(icmpAt, end - icmpAt, pseudo) === 0xffff;
};

const isFromUnspecified = (at: number): boolean => {
  const v = io.view;
  return ipv6.isUnspecified(
    ipv6.srcWord(v, at, 0),
    ipv6.srcWord(v, at, 1),
    ipv6.srcWord(v, at, 2),
    ipv6.srcWord(v, at, 3),
  );
};
/** A sender without an address has no business with a source link-layer option (RFC 4861 §6.1.1, §7.1.1). */
const hasSourceOption = (optionsAt: number, end: number): boolean =>
  ndp.findOption(io.view, optionsAt, end, ndp.SOURCE_LINK_LAYER) >= 0;

const routerSolicitation = (at: number, icmpAt: number, end: number): void => {
  const v = io.view;
  if (!ndp.routerSolicitationFits(v, icmpAt, end)) return drop(DROP['ndp-malformed']);
  const unspecified = isFromUnspecified(at);
  if (unspecified && hasSourceOption(icmpAt + ndp.RS_BYTES, end)) return drop(DROP['ndp-malformed']);
  if (advertisement.length === 0) return drop(DROP.disabled);
  if (unspecified) return advertise(ALL_NODES_0, 0, 0, ALL_NODES_3);
  advertise(ipv6.srcWord(v, at, 0), ipv6.srcWord(v, at, 1), ipv6.srcWord(v, at, 2), ipv6.srcWord(v, at, 3));
};

const neighbourSolicitation = (at: number, icmpAt: number, end: number): void => {
  const v = io.view;
  if (!ndp.solicitationFits(v, icmpAt, end)) return drop(DROP['ndp-malformed']);
  const t0 = ndp.targetWord(v, icmpAt, 0);
  const t1 = ndp.targetWord(v, icmpAt, 1);
  const t2 = ndp.targetWord(v, icmpAt, 2);
  const t3 = ndp.targetWord(v, icmpAt, 3);
  if (!isUnicast(t0, t1, t2, t3)) return drop(DROP['ndp-malformed']);
  if (isFromUnspecified(at)) {
    // RFC 4861 §7.1.1: detection goes to a solicited-node group and carries no link-layer address.
    if (!isToSolicitedNode(at) || hasSourceOption(icmpAt + ndp.NEIGHBOUR_BYTES, end)) {
      return drop(DROP['ndp-malformed']);
    }
    // Nobody but us could object, so from here on it is the guest's: what is for it need not wait until it says something.
    if (neighbours === null ? !station.isOurs6(t0, t1, t2, t3) : !isNeighbour(t0, t1, t2, t3))
      station.see6(t0, t1, t2, t3);
    else neighbourAdvertisement(t0, t1, t2, t3, ALL_NODES_0, 0, 0, ALL_NODES_3, 0);
    return;
  }
  const d0 = ipv6.srcWord(v, at, 0);
  const d1 = ipv6.srcWord(v, at, 1);
  const d2 = ipv6.srcWord(v, at, 2);
  const d3 = ipv6.srcWord(v, at, 3);
  station.see6(d0, d1, d2, d3);
  if (station.isGuest6(t0, t1, t2, t3) || isSource(at, t0, t1, t2, t3)) return;
  if (neighbours !== null && !isNeighbour(t0, t1, t2, t3)) return;
  neighbourAdvertisement(t0, t1, t2, t3, d0, d1, d2, d3, ndp.NA_SOLICITED);
};

/** Row of a neighbour in the table; -1: none. */
const rowOf = (w0: number, w1: number, w2: number, w3: number): number => {
  const table = neighbours as Int32Array;
  for (let i = 0; i < table.length; i += COLUMNS) {
    if (table[i + 3] === w3 && table[i + 2] === w2 && table[i + 1] === w1 && table[i] === w0) return i;
  }
  return -1;
};
const isNeighbour = (w0: number, w1: number, w2: number, w3: number): boolean => rowOf(w0, w1, w2, w3) >= 0;

const isUnicast = (w0: number, w1: number, w2: number, w3: number): boolean =>
  !ipv6.isMulticast(w0) && !ipv6.isUnspecified(w0, w1, w2, w3) && !ipv6.isLoopback(w0, w1, w2, w3);
/** ff02::1:ff00:0/104 (RFC 4291 §2.7.1). */
const isToSolicitedNode = (at: number): boolean => {
  const v = io.view;
  return (
    ipv6.dstWord(v, at, 0) === ALL_NODES_0 &&
    ipv6.dstWord(v, at, 1) === 0 &&
    ipv6.dstWord(v, at, 2) === 1 &&
    ipv6.dstWord(v, at, 3) >>> 24 === 0xff
  );
};

/** What the guest advertises, asked or not, is an address of its own (RFC 4861 §7.2.6); its MAC is that of the frame. */
const guestAdvertisement = (at: number, icmpAt: number, end: number): void => {
  const v = io.view;
  if (!ndp.solicitationFits(v, icmpAt, end)) return drop(DROP['ndp-malformed']);
  const t0 = ndp.targetWord(v, icmpAt, 0);
  const t1 = ndp.targetWord(v, icmpAt, 1);
  const t2 = ndp.targetWord(v, icmpAt, 2);
  const t3 = ndp.targetWord(v, icmpAt, 3);
  const solicited = (ndp.naFlags(v, icmpAt) & ndp.NA_SOLICITED) !== 0;
  // RFC 4861 §7.1.2: to all nodes, it cannot be an answer.
  if (!isUnicast(t0, t1, t2, t3) || (solicited && ipv6.isMulticast(ipv6.dstWord(v, at, 0)))) {
    return drop(DROP['ndp-malformed']);
  }
  station.see6(t0, t1, t2, t3);
};

const isSource = (at: number, w0: number, w1: number, w2: number, w3: number): boolean => {
  const v = io.view;
  return (
    ipv6.srcWord(v, at, 0) === w0 &&
    ipv6.srcWord(v, at, 1) === w1 &&
    ipv6.srcWord(v, at, 2) === w2 &&
    ipv6.srcWord(v, at, 3) === w3
  );
};

/** Tells `d` that target `t` is at our MAC. Everything is behind us, so everything is advertised as a router. */
const neighbourAdvertisement = (
  t0: number,
  t1: number,
  t2: number,
  t3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  solicited: number,
): void => {
  const v = io.view;
  const at = out.reserve(L4 + NA_BYTES);
  const message = at + L4;
  icmpv6.setType(v, message, icmpv6.NEIGHBOUR_ADVERTISEMENT);
  icmpv6.setCode(v, message, 0);
  ndp.setNaFlags(v, message, ndp.NA_ROUTER | solicited | ndp.NA_OVERRIDE);
  ndp.setTarget(v, message, t0, t1, t2, t3);
  const option = message + ndp.NEIGHBOUR_BYTES;
  const row = neighbours === null ? -1 : rowOf(t0, t1, t2, t3);
  const high = row < 0 ? station.ourMacHigh() : ((neighbours as Int32Array)[row + 4] as number);
  const low = row < 0 ? station.ourMacLow() : ((neighbours as Int32Array)[row + 5] as number);
  ndp.putLinkLayer(v, option, ndp.TARGET_LINK_LAYER, high, low);
  send(at, NA_BYTES, d0, d1, d2, d3);
};

const advertise = (d0: number, d1: number, d2: number, d3: number): void => {
  const at = out.reserve(L4 + advertisement.length);
  io.mem.set(advertisement, at + L4);
  ndp.putLinkLayer(io.view, at + L4 + ndp.RA_BYTES, ndp.SOURCE_LINK_LAYER, station.ourMacHigh(), station.ourMacLow());
  send(at, advertisement.length, d0, d1, d2, d3);
};

/** Completes headers and checksum around the message that lies at `frameAt` + L4, and sends it from our link-local address. */
const send = (frameAt: number, bytes: number, d0: number, d1: number, d2: number, d3: number): void => {
  const v = io.view;
  station.ethernet(v, frameAt, eth.IPV6);
  if (ipv6.isMulticast(d0)) eth.setDst(v, frameAt, GROUP_MAC_HIGH, d3);
  const at = frameAt + L3;
  const s0 = station.ourLinkLocal6Word(0);
  const s1 = station.ourLinkLocal6Word(1);
  const s2 = station.ourLinkLocal6Word(2);
  const s3 = station.ourLinkLocal6Word(3);
  station.ipv6Header(v, at, bytes, ICMPV6, s0, s1, s2, s3, d0, d1, d2, d3, ndp.HOP_LIMIT, 0, 0);
  const message = frameAt + L4;
  icmpv6.setChecksum(v, message, 0);
  const pseudo = checksum.pseudo6(v, at + ipv6.SRC, ICMPV6, bytes);
  icmpv6.setChecksum(v, message, checksum.finish(checksum.sum(v, message, bytes, pseudo)));
  out.commit(L4 + bytes);
};

/** Sends the unsolicited advertisement when it is due. Call it each turn. */
export const tick = (nowMs: number): void => {
  if (advertisement.length === 0 || nowMs < nextMs) return;
  nextMs = nowMs + ADVERTISE_MIN_MS + Math.random() * (ADVERTISE_MAX_MS - ADVERTISE_MIN_MS);
  advertise(ALL_NODES_0, 0, 0, ALL_NODES_3);
};
/** Milliseconds until tick() has something to do; -1: never. */
export const nextDelay = (nowMs: number): number => (advertisement.length === 0 ? -1 : Math.max(0, nextMs - nowMs));
/** Lets the next tick() send one: a guest that came while we had nobody to tell should not wait for its turn. */
export const announce = (): void => {
  nextMs = 0;
};
