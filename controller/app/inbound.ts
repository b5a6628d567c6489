// SPDX-License-Identifier: Apache-2.0
/**
 * TCP connections that come in at a forwarded port, and which way they go on: loopback to loopback from socket to socket
 * (proto/splice), the rest over the tap (proto/tcp/inbound), with the client's own address where the guest may see it.
 *
 *   port of the host (-t)       client and address both loopback, rule without a target: spliced, to the guest's own address in the
 *                               namespace, or with --host-lo-to-ns-lo to the same loopback address; else over the tap
 *   port of the namespace (-T)  spliced, to the same loopback address of the host; who is not loopback is turned away
 */
import type { Side } from '../../shared/rpc/methods.ts';
import * as descriptors from '../flow/descriptors.ts';
import { MAPPED_WORD, NO_FLOW } from '../flow/table.ts';
import * as nat from '../fwd/nat.ts';
import { type Rule, targetPort } from '../fwd/rule.ts';
import { parseIpv4, parseIpv6 } from '../host/address-text.ts';
import * as io from '../io/io.ts';
import * as station from '../link/station.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as log from '../obs/log.ts';
import { refuse } from '../proto/splice/close.ts';
import * as splice from '../proto/splice/tcp.ts';
import * as tcp from '../proto/tcp/inbound.ts';
import * as addr from '../wire/addr.ts';
import * as ipv6 from '../wire/ipv6.ts';

/** A listening socket as fwd/listeners keeps it. */
export interface Listener {
  readonly fd: number;
  /** Its reference in the epoll set. */
  readonly ref: number;
  readonly side: Side;
  readonly rule: Rule;
  /** The port it listens on. */
  readonly port: number;
  /** Not closed. */
  readonly open: boolean;
}

export interface Ways {
  /** Not --no-splice. */
  readonly splice: boolean;
  /** --splice-only: there is no tap. */
  readonly spliceOnly: boolean;
  /** --host-lo-to-ns-lo */
  readonly loopbackToLoopback: boolean;
}
let ways: Ways = { splice: true, spliceOnly: false, loopbackToLoopback: false };

/** Connections of one listener before others have their turn; it is reported again as long as there are more. */
const ACCEPTS_MAX = 64;
/** How long a listener is left alone where no descriptor is to be had: what waits, waits in its queue. */
const PAUSE_MS = 100;
const SHORT = log.site('Out of file descriptors: connections wait');
/** Where accept(2)'s addresses lie for a moment, see native.ts. */
const CLIENT_AT = io.SOCK_AT;
const ASKED_AT = CLIENT_AT + 32;
const PORT_AFTER = 16;

const EAGAIN = 11;
const EINVAL = 22;
const ENFILE = 23;
const EMFILE = 24;
const EBADF = 9;

/** Listeners that are left alone for now; few, and only in distress. */
const paused = new Set<Listener>();
let resumeMs = 0;

/** Called once. */
export const configure = (w: Ways): void => {
  ways = w;
};

/** Somebody connects at a TCP listener. */
export const onReadable = (l: Listener): void => {
  for (let i = 0; i < ACCEPTS_MAX; i++) {
    const fd = io.native.accept(l.fd, CLIENT_AT);
    if (fd >= 0) take(l, fd);
    else if (fd === -EAGAIN || fd === -EBADF || fd === -EINVAL) return;
    else if (fd === -EMFILE || fd === -ENFILE) return short(l);
    // Whatever else it is, is the fate of one connection that was gone before we took it (accept(2)).
    else drop(DROP['sock-error']);
  }
};

/** No descriptor: somebody gives up one, and the queue is looked at again a little later instead of at once and for ever. */
const short = (l: Listener): void => {
  log.warnAt(SHORT, io.nowMs(), 'Out of file descriptors: connections to forwarded ports wait (see RLIMIT_NOFILE)');
  descriptors.short(descriptors.TCP, NO_FLOW);
  io.native.watch(l.fd, 0, l.ref);
  if (paused.size === 0) resumeMs = io.nowMs() + PAUSE_MS;
  paused.add(l);
};
/** Milliseconds until {@link tick} has something to do; −1: nothing. */
export const nextDelay = (now: number): number => (paused.size === 0 ? -1 : Math.max(resumeMs - now, 0));
/** Once a turn. */
export const tick = (now: number): void => {
  if (paused.size === 0 || now < resumeMs) return;
  for (const l of paused) if (l.open) io.native.watch(l.fd, io.EPOLLIN, l.ref);
  paused.clear();
};

const word = (at: number, i: number): number => io.view.getInt32(at + 4 * i);
const isMapped = (at: number): boolean => (word(at, 0) | word(at, 1)) === 0 && word(at, 2) === MAPPED_WORD;
const isLoopback = (at: number): boolean =>
  isMapped(at) ? word(at, 3) >>> 24 === 127 : ipv6.isLoopback(word(at, 0), word(at, 1), word(at, 2), word(at, 3));
const text = (at: number): string =>
  isMapped(at) ? addr.ipv4Text(word(at, 3)) : addr.ipv6Text(word(at, 0), word(at, 1), word(at, 2), word(at, 3));

/** A connection was accepted; its addresses lie at CLIENT_AT and ASKED_AT. */
const take = (l: Listener, fd: number): void => {
  const port = targetPort(l.rule, l.port);
  const loopback = isLoopback(CLIENT_AT) && isLoopback(ASKED_AT);
  if (l.side === 'netns') {
    if (loopback) splice.open(fd, 'host', text(ASKED_AT), port);
    else turnAway(fd);
    return;
  }
  if (loopback && ways.splice && l.rule.target === '') {
    const to = ways.loopbackToLoopback ? text(ASKED_AT) : guestText(isMapped(ASKED_AT));
    if (to !== '') return splice.open(fd, 'netns', to, port);
  }
  if (ways.spliceOnly || !overTap(l.rule.target, fd, port)) turnAway(fd);
};

const turnAway = (fd: number): void => {
  drop(DROP['flow-refused']);
  refuse(fd);
};

/** The guest's own address; '': it has none of that IP version. */
const guestText = (v4: boolean): string => {
  if (v4) return station.guest4Word() === 0 ? '' : addr.ipv4Text(station.guest4Word());
  return ipv6.isUnspecified(guest6(0), guest6(1), guest6(2), guest6(3))
    ? ''
    : addr.ipv6Text(guest6(0), guest6(1), guest6(2), guest6(3));
};
const guest6 = (i: number): number => station.guest6Word(i);

/** Where the connection goes, in IPv6 form. */
const destination = new Int32Array(4);
const setDestination = (v4: boolean, target: string): boolean => {
  if (v4) {
    // The last one may have been of the other family.
    destination[0] = 0;
    destination[1] = 0;
    destination[2] = MAPPED_WORD;
    destination[3] = target === '' ? station.guest4Word() : parseIpv4(target);
    return destination[3] !== 0;
  }
  if (target !== '') destination.set(parseIpv6(target));
  else for (let i = 0; i < 4; i++) destination[i] = station.inbound6Word(i);
  return !ipv6.isUnspecified(
    destination[0] as number,
    destination[1] as number,
    destination[2] as number,
    destination[3] as number,
  );
};

/** False: the guest has no address of that IP version, or cannot be told who asks. */
const overTap = (target: string, fd: number, port: number): boolean => {
  const v4 = isMapped(CLIENT_AT);
  if (target !== '' && target.includes(':') === v4) return false;
  if (!setDestination(v4, target)) return false;
  const [d0, d1, d2, d3] = destination as unknown as [number, number, number, number];
  const c = CLIENT_AT;
  if (!nat.fromHost(v4, word(c, 0), word(c, 1), word(c, 2), word(c, 3), !v4 && ipv6.isLinkLocal(d0))) return false;
  const [s0, s1, s2, s3] = nat.source as unknown as [number, number, number, number];
  tcp.open(fd, v4, s0, s1, s2, s3, io.view.getUint16(c + PORT_AFTER), d0, d1, d2, d3, port);
  return true;
};
