// SPDX-License-Identifier: Apache-2.0
/**
 * Datagrams from the host's network to a forwarded port: the guest sees who sent them, and answers by the flow's own socket, from the
 * address and port that the peer had asked. But for who began it is a flow like any other (flow.ts); how many there may be: share.ts.
 *
 * When the guest says that nobody has that port, the flow ends; the peer is not told, for a port unreachable is nothing that an
 * unprivileged process can send. His next datagram begins a new flow.
 */
import { RECORD_PORT } from '../../flow/aside.ts';
import * as hash from '../../flow/hash.ts';
import { FLOW_UDP, type Flow, fd, MAPPED_WORD, NO_FLOW } from '../../flow/table.ts';
import * as nat from '../../fwd/nat.ts';
import { type Rule, targetPort } from '../../fwd/rule.ts';
import type { Taker, UdpListener } from '../../fwd/udp-listener.ts';
import { parseIpv4, parseIpv6 } from '../../host/address-text.ts';
import * as io from '../../io/io.ts';
import * as station from '../../link/station.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as ipv6 from '../../wire/ipv6.ts';
import * as activity from './activity.ts';
import * as asked from './asked.ts';
import * as life from './flow.ts';
import * as fromSock from './from-sock.ts';
import * as send from './send.ts';
import * as state from './state.ts';

const EAGAIN = 11;
/** The guest's address for the datagram at hand, in IPv6 form. */
const guest = new Int32Array(4);
/** Targets of rules that name one, in the same form. */
const targets = new WeakMap<Rule, Int32Array>();

const targetOf = (rule: Rule): Int32Array => {
  let words = targets.get(rule);
  if (words === undefined) {
    const v6 = rule.target.includes(':');
    words = Int32Array.from(v6 ? parseIpv6(rule.target) : [0, 0, MAPPED_WORD, parseIpv4(rule.target)]);
    targets.set(rule, words);
  }
  return words;
};
const isMapped = (w0: number, w1: number, w2: number): boolean => w0 === 0 && w1 === 0 && w2 === MAPPED_WORD;

/** Where in the guest it goes. False: nowhere, for there is no such address. */
const findGuest = (rule: Rule, v4: boolean, fromLinkLocal: boolean): boolean => {
  if (rule.target !== '') {
    guest.set(targetOf(rule));
    return isMapped(guest[0] as number, guest[1] as number, guest[2] as number) === v4;
  }
  if (v4) {
    guest[0] = 0;
    guest[1] = 0;
    guest[2] = MAPPED_WORD;
    guest[3] = station.guest4Word();
    return guest[3] !== 0;
  }
  // What comes from the link is answered from a link-local address.
  for (let i = 0; i < 4; i++) guest[i] = fromLinkLocal ? station.likelyLinkLocal6Word(i) : station.inbound6Word(i);
  return guest[0] !== 0;
};

/** Finds the tuple of the datagram that `record` tells of: `guest`, `nat.source`. Whether it is of IPv4, or -1, counted: none. */
const tupleOf = (l: UdpListener, record: number): 0 | 1 | -1 => {
  const v = io.view;
  const w0 = v.getInt32(record);
  const w1 = v.getInt32(record + 4);
  const w2 = v.getInt32(record + 8);
  const v4 = isMapped(w0, w1, w2);
  if (!findGuest(l.rule, v4, ipv6.isLinkLocal(w0))) {
    drop(DROP['guest-address']);
    return -1;
  }
  if (!nat.fromHost(v4, w0, w1, w2, v.getInt32(record + 12), ipv6.isLinkLocal(guest[0] as number))) {
    drop(DROP['ip-martian']);
    return -1;
  }
  return v4 ? 1 : 0;
};

const take = (l: UdpListener, record: number): Flow => {
  const v4 = tupleOf(l, record);
  if (v4 < 0) return NO_FLOW;
  const ports = (targetPort(l.rule, l.port) << 16) | io.view.getUint16(record + RECORD_PORT);
  const [g0, g1, g2, g3] = guest as unknown as [number, number, number, number];
  const [r0, r1, r2, r3] = nat.source as unknown as [number, number, number, number];
  const f = hash.find(FLOW_UDP, g0, g1, g2, g3, r0, r1, r2, r3, ports);
  if (f === NO_FLOW) return life.openInbound(v4 === 1, guest, nat.source, ports);
  // The guest cannot tell the two apart: its answers are for the first.
  if ((fd(f) >= 0 || state.isAsked(f)) && asked.byAnother(f, record)) {
    drop(DROP['tuple-in-use']);
    return NO_FLOW;
  }
  return f;
};

const wants = (f: Flow, l: UdpListener, record: number): boolean => {
  // Under way, by this listener, another one, or as the guest's own flow.
  if (state.isAsked(f) || (state.phase(f) === state.OPENING && !state.isInbound(f))) return false;
  const same = asked.is(f, record, l.port);
  // The peer knows the guest's own flow by the address and port that it has: whoever forges a datagram of his must not change them.
  if (fd(f) >= 0 && (same || (!state.isInbound(f) && state.isAnswered(f)))) return false;
  return state.phase(f) !== state.REFUSED || !same || state.errno(f) === EAGAIN;
};

const onAsked = (f: Flow, l: UdpListener, record: number): void => {
  if (send.gathering() === f) send.flush();
  // What the guest says from now on answers this question: it waits for the socket.
  state.setPhase(f, state.OPENING);
  asked.set(f, record, l.port);
  state.setAsked(f, true);
};

const deliver = (f: Flow, i: number, slot: number): void => {
  fromSock.emitCopy(f, i, slot);
  activity.answered(f);
};

const onAnswer = (f: Flow, socket: number): void => {
  state.setAsked(f, false);
  if (fd(f) >= 0) life.closeSocket(f);
  life.onConnected(f, socket);
};

/** A flow that has a socket keeps it: the helper may have found that it is the one for this peer. */
const onNoAnswer = (f: Flow, errno: number): void => {
  state.setAsked(f, false);
  if (fd(f) < 0) life.onFailed(f, errno);
  else life.goOn(f);
};

export const taker: Taker = { take, wants, onAsked, deliver, onAnswer, onNoAnswer };
