// SPDX-License-Identifier: Apache-2.0
/**
 * Connections to the guest: a socket that a client of the host or the network has connected, and the handshake with the
 * guest that is still to come (RFC 9293 §3.5, we are the side that opens).
 *
 *   accepted socket → row, SYN to the guest (SYN_SENT) → its SYN|ACK → ESTABLISHED, and from there as any other connection
 *
 * The client was answered by the host before the guest knew of it; so whatever the guest's answer is but a connection (reset,
 * unreachable, none at all) reaches the client as a reset. What the client sends meanwhile waits in the socket. The source the
 * guest sees is the client's own; its port always is.
 *
 * Half-open ones have a class of their own (caps.ts), so that clients cannot push out what the guest opens.
 */
import { debugFlow } from '../../flow/describe.ts';
import * as hash from '../../flow/hash.ts';
import * as lru from '../../flow/lru.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as log from '../../obs/log.ts';
import * as tcp from '../../wire/tcp.ts';
import * as begin from './begin.ts';
import * as caps from './caps.ts';
import { abort, closeQuietly } from './close.ts';
import * as congestion from './congestion.ts';
import * as conn from './conn.ts';
import { OUR_WINDOW_SCALE } from './constants.ts';
import * as timeWait from './time-wait.ts';
import * as timeout from './timeout.ts';
import * as toTap from './to-tap.ts';

/** The client is reset; `reason` of DROP. */
const refuse = (fd: number, reason: number): void => {
  drop(reason);
  io.native.lingerZero(fd);
  io.native.close(fd);
};

/**
 * A connection from a client at `r0` … `r3` and `remotePort`, as the guest shall see it, to the guest's `g0` … `g3` and `guestPort`;
 * IPv4 in IPv6 form. `fd`, non-blocking, is the flow's from now on; when there is no room for one, or the same addresses and ports
 * are in use already, the client is reset and the reason counted.
 */
export const open = (
  fd: number,
  v4: boolean,
  r0: number,
  r1: number,
  r2: number,
  r3: number,
  remotePort: number,
  g0: number,
  g1: number,
  g2: number,
  g3: number,
  guestPort: number,
): void => {
  // Neither is a place where a connection can lead to: the guest's address is not known.
  if (guestPort === 0 || (v4 ? g3 === 0 : (g0 | g1 | g2 | g3) === 0)) return refuse(fd, DROP['flow-refused']);
  const old = hash.find(flows.FLOW_TCP, g0, g1, g2, g3, r0, r1, r2, r3, (guestPort << 16) | remotePort);
  if (old !== flows.NO_FLOW && !timeWait.is(old)) return refuse(fd, DROP['tuple-in-use']);
  if (!caps.admitInbound(fd)) return refuse(fd, DROP['flow-refused']);
  const f = flows.alloc(flows.FLOW_TCP);
  if (f === flows.NO_FLOW) return refuse(fd, DROP['flow-table-full']);
  flows.setV4(f, v4);
  flows.setPorts(f, guestPort, remotePort);
  flows.setGuest(f, g0, g1, g2, g3);
  flows.setRemote(f, r0, r1, r2, r3);
  if (old === flows.NO_FLOW) begin.enter(f, lru.LRU_TCP_INBOUND);
  else {
    const floor = begin.floorAfter(old);
    closeQuietly(old);
    begin.enter(f, lru.LRU_TCP_INBOUND);
    begin.raiseIsn(f, floor);
  }
  if (log.debugEnabled) debugFlow(f, 'from sock', 'new');
  // What we can do; the guest's answer says what of it we shall.
  conn.add(f, conn.SOCK_CONNECTED | conn.SYN_SENT | conn.SACK);
  conn.setScales(f, 0, OUR_WINDOW_SCALE);
  conn.setSeqFromTap(f, 0);
  conn.setEdgeToTap(f, 0);
  // Its options are those of the listener that it came by (fwd/sockets.ts).
  if (!begin.adopt(f, fd)) return abort(f, false);
  toTap.sendSyn(f);
  congestion.sent(f, conn.seqToTap(f), true);
  timeout.armRetransmission(f);
};

/** A segment of the guest, at `at`, to a connection that waits for its SYN|ACK (RFC 9293 §3.10.7.3). */
export const segment = (f: Flow, at: number): void => {
  const v = io.view;
  const flags = tcp.flags(v, at);
  const acknowledges = (flags & tcp.ACK) !== 0;
  const ack = tcp.ack(v, at);
  if (acknowledges && ack !== conn.seqToTap(f)) {
    // Of another connection, which the guest still has: it is told, and our SYN comes again (RFC 9293 §3.5.1).
    drop(DROP['tcp-bad-ack']);
    if ((flags & tcp.RST) === 0) toTap.flagSegment(f, ack, tcp.RST);
    return;
  }
  if ((flags & tcp.RST) !== 0) {
    if (acknowledges) abort(f, false);
    else drop(DROP['tcp-out-of-window']);
    return;
  }
  if ((flags & (tcp.SYN | tcp.FIN)) !== tcp.SYN) return drop(DROP['tcp-malformed']);
  const announced = conn.edgeToTap(f);
  begin.takeSyn(f, at);
  // The window of our SYN stands (RFC 9293 §3.8.6): it was counted from 0, for the guest's number was not known.
  conn.setEdgeToTap(f, (conn.seqFromTap(f) + announced) | 0);
  conn.clear(f, conn.SYN_SENT);
  if (acknowledges) {
    conn.add(f, conn.ACK_DUE);
    begin.established(f, ack, conn.wndFromTap(f));
    return;
  }
  // Both open at once (RFC 9293 §3.5, figure 7): from here on as after a SYN of the guest.
  toTap.sendSyn(f);
  timeout.armRetransmission(f);
};

/** The network in the guest says that our SYN with that sequence number cannot reach its destination. */
export const unreachable = (f: Flow, seq: number): void => {
  if (!conn.has(f, conn.SYN_SENT) || seq !== conn.ackFromTap(f)) return;
  if (log.debugEnabled) debugFlow(f, 'from tap', 'unreachable');
  abort(f, false);
};
