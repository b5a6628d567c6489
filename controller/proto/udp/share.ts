// SPDX-License-Identifier: Apache-2.0
/**
 * Which class (flow/lru.ts) a UDP flow is in, so that whoever opens flows without end pays with his own:
 *
 *   answered          LRU_UDP        nearly half of the descriptors. Only another answered flow pushes one out.
 *   not yet answered  LRU_UDP_NEW    while its guest port, its destination port and its destination have few such flows
 *   "                 LRU_UDP_CROWD  beyond that share: a port scan, a storm from one or to one port, a peer discovery
 *   to port 53        LRU_DNS        answered or not: one flow a question
 *   to a group        LRU_GROUP      see group.ts
 *
 * and of those that peers open, through a forwarded port:
 *
 *   not yet answered  LRU_UDP_IN_NEW    whoever scans pushes out what nobody has answered
 *   answered          LRU_UDP_IN        while the peer's address has few of them
 *   "                 LRU_UDP_IN_CROWD  beyond that share
 *
 * These take their place from the guest's answered ones, as far as those have more than a third of the descriptors.
 *
 * A flow of a class that is full costs that class its flow that was idle longest. The caps add up to 25/32 of the
 * descriptors, with spliced flows 27/32 (with ping and the listeners of group.ts, 30/32), so that even all of them full leave some for TCP.
 */
import { oldestHolder } from '../../flow/descriptors.ts';
import * as lru from '../../flow/lru.ts';
import { FLOW_MAX, type Flow, guestPort, NO_FLOW, remotePort, remoteWord } from '../../flow/table.ts';

const DNS_PORT = 53;
/** Unanswered flows that one guest port, one destination port or one destination may have outside the crowd. */
const SHARE_MAX = 64;
/** …and which part of the class that may be, where descriptors are few. */
const SHARE_OF_CLASS = 4;
const FLOWS_MAX = 16_384;
const GROUP_FLOWS_MAX = 128;
const FLOWS_MIN = 1;
/** Which part of the answered flows that peers opened may be one peer's. */
const PEER_SHARE_OF_CLASS = 2;

let share = SHARE_MAX;
/** Answered flows of the guest's and all that peers opened; and of the first, those that the second cannot push out. */
let together = 0;
let reserved = 0;
let peerShare = SHARE_MAX;
const byGuestPort = new Uint16Array(65_536);
const byRemotePort = new Uint16Array(65_536);
/** By address folded to 16 bits; addresses that collide share. */
const byRemote = new Uint16Array(65_536);
/** Answered flows that peers opened, by address as above. */
const byPeer = new Uint16Array(65_536);
/** The row is counted above: among the guest's, among the peer's. */
const counted = new Uint8Array(FLOW_MAX);
const COUNTED_GUEST = 1;
const COUNTED_PEER = 2;

/** Divides `descriptors`, those that a process may have, among the classes. */
export const configure = (descriptors: number): void => {
  const cap = (part: number, most = FLOWS_MAX): number =>
    Math.max(Math.min(Math.floor(descriptors * part), most), FLOWS_MIN);
  together = cap(15 / 32);
  reserved = cap(5 / 16);
  lru.setCap(lru.LRU_UDP, together);
  lru.setCap(lru.LRU_UDP_NEW, cap(1 / 8, FLOWS_MAX / 4));
  lru.setCap(lru.LRU_UDP_CROWD, cap(1 / 32, FLOWS_MAX / 8));
  lru.setCap(lru.LRU_DNS, cap(1 / 8, FLOWS_MAX / 4));
  // Each has two descriptors.
  lru.setCap(lru.LRU_GROUP, cap(1 / 64, GROUP_FLOWS_MAX));
  lru.setCap(lru.LRU_UDP_IN_NEW, cap(1 / 32, FLOWS_MAX / 8));
  lru.setCap(lru.LRU_UDP_IN, cap(3 / 32));
  lru.setCap(lru.LRU_UDP_IN_CROWD, cap(1 / 32, FLOWS_MAX / 4));
  peerShare = Math.max(Math.floor(cap(3 / 32) / PEER_SHARE_OF_CLASS), 1);
  share = Math.max(Math.min(SHARE_MAX, Math.floor(cap(1 / 8) / SHARE_OF_CLASS)), 1);
};

const remoteKey = (f: Flow): number => {
  const folded = remoteWord(f, 0) ^ remoteWord(f, 1) ^ remoteWord(f, 2) ^ remoteWord(f, 3);
  return (folded ^ (folded >>> 16)) & 0xffff;
};

/** The class of a new flow, whose tuple is set. */
export const classOfNew = (f: Flow): number => {
  if (remotePort(f) === DNS_PORT) return lru.LRU_DNS;
  const most = Math.max(
    byGuestPort[guestPort(f)] as number,
    byRemotePort[remotePort(f)] as number,
    byRemote[remoteKey(f)] as number,
  );
  return most < share ? lru.LRU_UDP_NEW : lru.LRU_UDP_CROWD;
};

/** The class of a flow that a peer began, once the guest has answered. */
export const classOfAnswered = (f: Flow): number =>
  (byPeer[remoteKey(f)] as number) < peerShare ? lru.LRU_UDP_IN : lru.LRU_UDP_IN_CROWD;

/** Whether a flow that is to enter `cls` takes a place that an answered one of the guest's has only for as long as nobody else needs it. */
export const takesLent = (cls: number): boolean =>
  (cls === lru.LRU_UDP_IN_NEW || cls === lru.LRU_UDP_IN || cls === lru.LRU_UDP_IN_CROWD || cls === lru.LRU_UDP) &&
  lru.size(lru.LRU_UDP) > reserved &&
  lru.size(lru.LRU_UDP) + lru.size(lru.LRU_UDP_IN_NEW) + lru.size(lru.LRU_UDP_IN) + lru.size(lru.LRU_UDP_IN_CROWD) >=
    together;

const add = (counts: Uint16Array, key: number, n: number): void => {
  counts[key] = (counts[key] as number) + n;
};
const count = (f: Flow, n: 1 | -1): void => {
  add(byGuestPort, guestPort(f), n);
  add(byRemotePort, remotePort(f), n);
  add(byRemote, remoteKey(f), n);
};

/** The flow is in `cls` from now on; it is in none. */
export const enter = (cls: number, f: Flow): void => {
  lru.add(cls, f);
  if (cls === lru.LRU_UDP_NEW) {
    count(f, 1);
    counted[f] = COUNTED_GUEST;
  } else if (cls === lru.LRU_UDP_IN) {
    add(byPeer, remoteKey(f), 1);
    counted[f] = COUNTED_PEER;
  }
};

/** The flow leaves its class: it was answered, or ends. */
export const leave = (f: Flow): void => {
  if (counted[f] === COUNTED_GUEST) count(f, -1);
  else if (counted[f] === COUNTED_PEER) add(byPeer, remoteKey(f), -1);
  counted[f] = 0;
  lru.remove(f);
};

/** The flow whose descriptor is given up when there are none: unanswered, idle longest, of the class that needs it least. NO_FLOW: none. */
export const expendable = (but: Flow): Flow => {
  let f = oldestHolder(lru.LRU_UDP_IN_NEW, but);
  if (f === NO_FLOW) f = oldestHolder(lru.LRU_UDP_CROWD, but);
  if (f === NO_FLOW) f = oldestHolder(lru.LRU_UDP_NEW, but);
  return f === NO_FLOW ? oldestHolder(lru.LRU_DNS, but) : f;
};
