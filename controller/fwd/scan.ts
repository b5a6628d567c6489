// SPDX-License-Identifier: Apache-2.0
/**
 * `auto`: which ports somebody listens at, in the namespace and on the host, looked at each second while a rule wants to know.
 *
 * Towards the namespace a socket counts that is bound to any address or the guest's, to which all is forwarded (of several, the one that
 * it used last); one on loopback only if loopback leads to loopback; any other only if a rule names a target, which may be that. Towards the host, what loopback reaches: sockets bound to any address, or to loopback. UDP counts
 * the ports of TCP as well (iperf3 and its like). What is ours does not count, or a port would lead to itself.
 */
import type { Side } from '../../shared/rpc/methods.ts';
import * as flows from '../flow/table.ts';
import * as io from '../io/io.ts';
import * as station from '../link/station.ts';
import { ANY, type Bound, clear, ELSEWHERE, GUEST, LINK_LOCAL, LOOPBACK, makeBound, same, setGuest } from './bound.ts';
import { follow, isBusy, isLacking, tables } from './listeners.ts';
import { type Eyes, look } from './look.ts';
import type { Protocol, Tables } from './rule.ts';
import { ports } from './sockets.ts';
import { DIRECTIONS, targetSide } from './wanted.ts';

const PERIOD_MS = 1000;
const PROTOCOLS = ['tcp', 'udp'] as const satisfies readonly Protocol[];

/** How ports of a side are bound, as the last look had it. */
const bounds: Record<Side, Record<Protocol, Bound>> = {
  host: { tcp: makeBound(), udp: makeBound() },
  netns: { tcp: makeBound(), udp: makeBound() },
};
/** For the next look; it and the last one change places. */
let fresh = makeBound();
/** Kinds of sockets that count, by side. */
const counts: Record<Side, number> = { host: ANY | LOOPBACK, netns: ANY | GUEST };
/** Some rule that asks names a target. */
let anyTarget = false;

let eyes: Readonly<Record<Side, Eyes>> | null = null;
let nextAt = Number.NEGATIVE_INFINITY;
/** Something has changed that the sockets do not follow yet. */
let due = false;
/** What is wanted to be known, for the tables of `knownFor`. */
let knownFor: Tables | null = null;
const needed: Record<Side, Record<Protocol, boolean>> = {
  host: { tcp: false, udp: false },
  netns: { tcp: false, udp: false },
};
let anyNeeded = false;

/** null: nothing can be seen, and `auto` finds nothing. */
export const configure = (e: Readonly<Record<Side, Eyes>> | null, loopbackToLoopback: boolean): void => {
  eyes = e;
  counts.netns = ANY | GUEST | (loopbackToLoopback ? LOOPBACK : 0);
  nextAt = Number.NEGATIVE_INFINITY;
  due = false;
  knownFor = null;
  for (const side of ['host', 'netns'] as const) for (const protocol of PROTOCOLS) clear(bounds[side][protocol]);
};

const learnNeeds = (t: Tables): void => {
  knownFor = t;
  anyNeeded = false;
  anyTarget = t.host.some(({ scan, target }) => scan && target !== '');
  for (const direction of DIRECTIONS) {
    const rules = t[direction].filter(({ scan }) => scan);
    const need = needed[targetSide(direction)];
    need.udp = rules.some(({ protocol }) => protocol === 'udp');
    need.tcp = rules.length > 0;
    anyNeeded ||= rules.length > 0;
    // Nothing old is told when it is asked for again.
    for (const protocol of PROTOCOLS) if (!need[protocol]) clear(bounds[targetSide(direction)][protocol]);
  }
};

/** Adds what counts of the ports that are bound for `seen`, where nothing of ours is. */
const collect = (side: Side, seen: Protocol, protocol: Protocol, into: number[]): void => {
  const { kinds, ports: list, count } = bounds[side][seen];
  let counted = counts[side];
  if (side === 'netns' && protocol === 'udp') counted |= LINK_LOCAL;
  if (side === 'netns' && anyTarget) counted |= ELSEWHERE | LINK_LOCAL;
  for (let i = 0; i < count; i++) {
    const port = list[i] as number;
    const isOurs = ports(side, seen)[port] !== 0 || ports(side, protocol)[port] !== 0;
    if (!isOurs && ((kinds[port] as number) & counted) !== 0) into.push(port);
  }
};
/**
 * Ports of a side at which somebody else listens, as it was seen last. A port of ours there leads here: were it wanted here, it
 * would lead to itself.
 */
export const heard = (side: Side, protocol: Protocol): readonly number[] => {
  const found: number[] = [];
  collect(side, protocol, protocol, found);
  if (protocol === 'udp') collect(side, 'tcp', 'udp', found);
  return found;
};

/** Sockets of ours that are not connected, and no listeners: what hears groups. */
const forgetOurs = (udp: Bound): void => {
  if (flows.count(flows.FLOW_GROUP) === 0) return;
  for (let f = 0; f < flows.highWater(); f++) {
    if (flows.typeOf(f as flows.Flow) !== flows.FLOW_GROUP) continue;
    const port = io.native.localPort(flows.fd(f as flows.Flow));
    if (port > 0) udp.kinds[port] = 0;
  }
};

/** 0: nothing new; 1: something is; negative: −errno, and what was known stays. */
const lookAt = (e: Eyes, side: Side, protocol: Protocol): number => {
  clear(fresh);
  const errno = look(e, protocol, fresh);
  if (errno !== 0) return -errno;
  if (side === 'host' && protocol === 'udp') forgetOurs(fresh);
  const last = bounds[side][protocol];
  if (same(fresh, last)) return 0;
  bounds[side][protocol] = fresh;
  fresh = last;
  return 1;
};

/** Looks now at what the rules of `t` want to know. True: something has changed. */
export const lookNow = (t: Tables): boolean => {
  if (t !== knownFor) learnNeeds(t);
  setGuest(station.guest4Word(), station.guest6Word, station.likelyLinkLocal6Word);
  let changed = false;
  for (const side of ['host', 'netns'] as const) {
    for (const protocol of PROTOCOLS) {
      if (eyes !== null && needed[side][protocol]) changed = lookAt(eyes[side], side, protocol) > 0 || changed;
    }
  }
  return changed;
};

/** Milliseconds until the next look; −1: no rule wants one. */
export const nextDelay = (now: number): number => {
  if (tables() !== knownFor) learnNeeds(tables());
  return anyNeeded && eyes !== null ? Math.max(0, nextAt - now) : -1;
};

/** Looks if it is time to. */
export const tick = (now: number): void => {
  if (nextDelay(now) !== 0) return;
  nextAt = now + PERIOD_MS;
  if (lookNow(tables())) due = true;
  // Also when nothing has changed: what could not be had a second ago may be free now.
  if (isBusy() || !(due || isLacking())) return;
  due = false;
  follow();
};
