// SPDX-License-Identifier: Apache-2.0
/**
 * What the socket of a datagram flow does with datagrams that the path does not take whole: as a router does that the
 * guest's packet passes, by the packet's "don't fragment" (RFC 791 §2.3, RFC 1191; over IPv6 every packet has it).
 *
 * - MAY: leaves without DF, so that the host and routers may cut it (IP_PMTUDISC_DONT; IPv6, where only the sender cuts
 *   and the guest has done so: by the host).
 * - MUST_NOT: leaves with DF whatever the host remembers of the path (IP_PMTUDISC_PROBE). A router's objection comes back
 *   by the error queue, and what exceeds the host's own interface is refused by the call: both are told to the guest.
 * - HOST: the host's own habit (IP_PMTUDISC_WANT): DF up to the path MTU that it knows, fragments above. It is the same as
 *   MUST_NOT for what is small enough for every path, and a socket begins with it: most need no call.
 */
import { SOCKOPT } from '../../shared/abi.ts';
import * as io from '../io/io.ts';
import { FLOW_MAX, type Flow, fd, isV4 } from './table.ts';

export const HOST = 0;
export const MAY = 1;
export const MUST_NOT = 2;
export type Mode = 0 | 1 | 2;

/** RFC 8200 §5; over IPv4 less is possible, but hardly found. With IP header, in bytes. */
const EVERY_PATH_TAKES = 1280;

/** linux/in.h: IP_PMTUDISC_DONT, WANT, PROBE; the same numbers for IPv6. */
const DONT = 0;
const WANT = 1;
const PROBE = 3;

const modes = new Uint8Array(FLOW_MAX);
/** The smallest packet, in bytes, that exceeds the host's own link and that the host shall cut without a word; 0: none. */
const leftToHost = new Uint16Array(FLOW_MAX);
/** What a link behind the guest takes, in bytes; 0: as much as its tap. */
const guestMtus = new Uint16Array(FLOW_MAX);

/** For a new flow, whose socket is new as well. */
export const reset = (f: Flow): void => {
  modes[f] = HOST;
  leftToHost[f] = 0;
  guestMtus[f] = 0;
};
/** The flow has another socket now. */
export const resetSocket = (f: Flow): void => {
  modes[f] = HOST;
};
/** From now on packets of that size, IP header included, and larger ones are for the host to cut. */
export const leaveToHost = (f: Flow, bytes: number): void => {
  leftToHost[f] = Math.min(bytes, 65_535);
};
export const mode = (f: Flow): Mode => modes[f] as Mode;
/** What a packet of `bytes` (IP header included) from the guest wants, given what the socket does now. */
export const wanted = (f: Flow, dontFragment: boolean, bytes: number): Mode => {
  if (!dontFragment) return MAY;
  if (leftToHost[f] !== 0 && bytes >= (leftToHost[f] as number)) return HOST;
  if (bytes > EVERY_PATH_TAKES) return MUST_NOT;
  return modes[f] === MAY ? HOST : (modes[f] as Mode);
};

/** Has the flow's socket, which is there, do that. */
export const set = (f: Flow, to: Mode): void => {
  if (modes[f] === to) return;
  modes[f] = to;
  const v4 = isV4(f);
  const o = v4 ? SOCKOPT.IP_MTU_DISCOVER : SOCKOPT.IPV6_MTU_DISCOVER;
  io.native.setsockopt(fd(f), o.level, o.option, to === MUST_NOT ? PROBE : to === MAY && v4 ? DONT : WANT);
};

/** The guest said that packets of the flow to it may have `mtu` bytes at most. */
export const lowerGuestMtu = (f: Flow, mtu: number): void => {
  if (guestMtus[f] === 0 || mtu < (guestMtus[f] as number)) guestMtus[f] = mtu;
};
/** The largest packet to the guest: `linkMtu`, that of its tap, or less. */
export const guestMtu = (f: Flow, linkMtu: number): number => {
  const told = guestMtus[f] as number;
  return told !== 0 && told < linkMtu ? told : linkMtu;
};
