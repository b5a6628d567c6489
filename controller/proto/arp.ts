// SPDX-License-Identifier: Apache-2.0
/**
 * ARP towards the guest (RFC 826, RFC 5227). Every host outside is reached through us, so every address asked for is at
 * our MAC, but not the guest's own. A probe, by which the guest finds out whether it may take an address, is answered for our
 * own address only: it may take any other, and an answer would take it away from it.
 *
 * Where the network names its neighbours (slirp4netns' does), only those are answered for, each with its own MAC.
 *
 * What a request or an announcement says of its sender is believed: that is an address of the guest's. We announce nothing,
 * because our MAC never changes.
 */
import { parseIpv4, parseMac } from '../host/address-text.ts';
import type { Network } from '../host/network.ts';
import * as io from '../io/io.ts';
import * as out from '../link/out.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as arp from '../wire/arp.ts';
import * as eth from '../wire/ethernet.ts';

const FRAME_BYTES = eth.HEADER_BYTES + arp.BYTES;

/** Neighbours: address, and the two integers of the MAC; null: everybody. */
let neighbours: Int32Array | null = null;
const COLUMNS = 3;

/** Throws RangeError for text that is no address. */
export const configure = (network: Network): void => {
  const named = network.v4?.neighbours;
  neighbours =
    named === undefined
      ? null
      : Int32Array.from(
          named.flatMap(({ address, mac }) => [parseIpv4(address), parseMac(mac).high, parseMac(mac).low]),
        );
};

/** Handles the ARP frame whose Ethernet header is at `at`; bytes beyond the message are link padding. */
export const handle = (at: number, end: number): void => {
  const v = io.view;
  const message = at + eth.HEADER_BYTES;
  if (!arp.fits(v, message, end)) return drop(DROP['arp-malformed']);
  // We ask nothing, so a reply tells us nothing.
  if (arp.operation(v, message) !== arp.REQUEST) return;
  const sender = arp.senderIp(v, message);
  const target = arp.targetIp(v, message);
  // Nobody asks for nobody but qrap, upstream's and ours: whether anyone is there at all.
  if (sender === 0 && target === 0) return reply(arp.senderMacHigh(v, message), arp.senderMacLow(v, message), 0, 0);
  if (!isUnicast(target)) return drop(DROP['arp-malformed']);
  station.see4(sender);
  // An announcement (RFC 5227 §3) or the old gratuitous request: sender and target are one.
  if (sender === target || station.isGuest4(target)) return;
  const high = arp.senderMacHigh(v, message);
  const low = arp.senderMacLow(v, message);
  if (neighbours !== null) {
    for (let i = 0; i < neighbours.length; i += COLUMNS) {
      if (neighbours[i] !== target) continue;
      return reply(high, low, sender, target, neighbours[i + 1] as number, neighbours[i + 2] as number);
    }
    return;
  }
  if (sender === 0 && target !== station.our4Word()) return;
  reply(high, low, sender, target);
};

/** RFC 1122 §3.2.1.3: nobody has an address of 0/8, 127/8, 224/4 or 240/4. */
const isUnicast = (word: number): boolean => {
  const first = word >>> 24;
  return first !== 0 && first !== 127 && first < 224;
};

/** Tells the guest that `target` is at our MAC, or at that one. `sender` is 0 when it was a probe. */
const reply = (
  askerHigh: number,
  askerLow: number,
  sender: number,
  target: number,
  high = station.ourMacHigh(),
  low = station.ourMacLow(),
): void => {
  const v = io.view;
  const at = out.reserve(FRAME_BYTES);
  station.ethernet(v, at, eth.ARP);
  const message = at + eth.HEADER_BYTES;
  arp.setOperation(v, message, arp.REPLY);
  arp.setSender(v, message, high, low, target);
  arp.setTarget(v, message, askerHigh, askerLow, sender);
  out.commit(FRAME_BYTES);
};
