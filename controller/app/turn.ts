// SPDX-License-Identifier: Apache-2.0
/**
 * The loop. One turn: wait, read the clock, take what the tap has, what the sockets have and what the helper answered,
 * translate, ask the helper, write to the tap. All of it is synchronous; nothing here or below allocates per packet.
 *
 * Node's own loop (libuv) hangs in ours: its descriptor is in our set, and when it has something due the turn ends and
 * libuv runs once.
 */

import { availableParallelism } from 'node:os';
import type { Flow } from '../flow/table.ts';
import * as flows from '../flow/table.ts';
import * as wheel from '../flow/wheel.ts';
import * as listeners from '../fwd/listeners.ts';
import * as opening from '../fwd/opening.ts';
import * as resolver from '../fwd/resolver.ts';
import * as scan from '../fwd/scan.ts';
import * as io from '../io/io.ts';
import * as fragmentSlots from '../link/fragment-slots.ts';
import { LINK_REF_BASE, LINK_REFS, type Link } from '../link/link.ts';
import * as out from '../link/out.ts';
import * as pressure from '../link/pressure.ts';
import * as icmp from '../proto/icmp.ts';
import * as ndp from '../proto/ndp.ts';
import * as spliceTcp from '../proto/splice/tcp.ts';
import * as spliceUdp from '../proto/splice/udp.ts';
import { hasReady } from '../proto/tcp/close.ts';
import * as tcpFinish from '../proto/tcp/finish.ts';
import * as tcpFromSock from '../proto/tcp/from-sock.ts';
import * as tcpFromTap from '../proto/tcp/from-tap.ts';
import * as tcpKeepalive from '../proto/tcp/keepalive.ts';
import * as tcpLateAck from '../proto/tcp/late-ack.ts';
import * as tcpPace from '../proto/tcp/pace.ts';
import * as tcpTimeout from '../proto/tcp/timeout.ts';
import * as udp from '../proto/udp/flow.ts';
import * as udpFromTap from '../proto/udp/from-tap.ts';
import * as udpGroup from '../proto/udp/group.ts';
import * as connect from '../rpc/connect.ts';
import * as alert from './alert.ts';
import * as controlSockets from './control-sockets.ts';
import * as demux from './demux.ts';
import * as guest from './guest.ts';
import * as inbound from './inbound.ts';
import * as inboundUdp from './inbound-udp.ts';

/** References in the epoll set, see flow/table.ts. */
const REF_HOST = flows.OTHER_REF_BASE + 1;
const REF_NETNS = flows.OTHER_REF_BASE + 2;
const REF_UV = flows.OTHER_REF_BASE + 3;

export interface Edges {
  /** null: there are no frames (--splice-only). */
  readonly link: Link | null;
  readonly hostChannel: number;
  /** null: there is no namespace (passt). */
  readonly netnsChannel: number | null;
  /** Called for each received frame (Ethernet header first) when capturing or tracing. */
  readonly observe: ((at: number, len: number) => void) | null;
  /** Called at the end of each turn that had events (to write the capture). */
  readonly endTurn: (() => void) | null;
}

/** Most frames of one batch: enough to amortise, small enough to stay in cache and to be fair to sockets. */
const BATCH_FRAMES = 64;
/** Batches of one turn, of a link that has them at hand. */
const BATCHES_MAX = 8;

let edges: Edges;
let uvDue = false;
/** Why the loop ended: null while it runs. */
let ended: string | null = null;

export const configure = (e: Edges): void => {
  edges = e;
  wheel.start(io.nowMs(), onTimer);
  alert.configure(availableParallelism());
  const watch = (fd: number, events: number, ref: number): void => {
    const r = io.native.watch(fd, events, ref);
    if (r < 0) throw new Error(`cannot watch descriptor ${fd}: errno ${-r}`);
  };
  e.link?.open(out.resume);
  connect.attach(e.hostChannel, REF_HOST);
  if (e.netnsChannel !== null) connect.attach(e.netnsChannel, REF_NETNS, 'netns');
  watch(io.native.uvBackendFd(), io.EPOLLIN, REF_UV);
};

const onTimer = (f: Flow): void => {
  switch (flows.typeOf(f)) {
    case flows.FLOW_TCP:
      return tcpTimeout.onTimer(f);
    case flows.FLOW_UDP:
      return udp.onTimer(f);
    case flows.FLOW_PING:
      return icmp.onTimer(f);
    case flows.FLOW_GROUP:
      return udpGroup.onTimer(f);
    case flows.FLOW_SPLICE_TCP:
      return spliceTcp.onTimer(f);
    case flows.FLOW_SPLICE_UDP:
      return spliceUdp.onTimer(f);
    default:
  }
};

const onFlowEvent = (f: Flow, mask: number): void => {
  switch (flows.typeOf(f)) {
    case flows.FLOW_TCP:
      return tcpFromSock.onEvent(f, mask);
    case flows.FLOW_UDP:
      return udp.onEvent(f, mask);
    case flows.FLOW_PING:
      return icmp.onEvent(f, mask);
    case flows.FLOW_GROUP:
      return udpGroup.onEvent(f, mask);
    case flows.FLOW_SPLICE_TCP:
      return spliceTcp.onEvent(f, 0, mask);
    case flows.FLOW_SPLICE_UDP:
      return spliceUdp.onEvent(f, 0, mask);
    default:
    // The flow ended earlier in this batch of events.
  }
};

/** The second socket of a flow that has two. */
const onSecondEvent = (f: Flow, mask: number): void => {
  switch (flows.typeOf(f)) {
    case flows.FLOW_SPLICE_TCP:
      return spliceTcp.onEvent(f, 1, mask);
    case flows.FLOW_SPLICE_UDP:
      return spliceUdp.onEvent(f, 1, mask);
    default:
    // The flow ended earlier in this batch of events.
  }
};

const onListenerEvent = (ref: number): void => {
  const listener = listeners.of(ref);
  // It was closed earlier in this batch of events.
  if (listener === null) return;
  if (listener.group.protocol === 'udp') inboundUdp.onReadable(listener);
  else inbound.onReadable(listener);
};

/** What a link has at hand is taken in several batches before anything is acknowledged: an ACK is a frame that wakes the guest. */
const receiveFrom = (link: Link): void => {
  let batches = 0;
  do receiveBatch(link);
  while (++batches < BATCHES_MAX && link.more());
};
const receiveBatch = (link: Link): void => {
  const n = link.receive(BATCH_FRAMES);
  pressure.batch(n, n === BATCH_FRAMES);
  if (n > 0) tcpKeepalive.guestSeen(io.nowMs());
  const header = link.receivedHeaderBytes;
  for (let i = 0; i < n; i++) {
    const at = io.col[io.COL.FRAME_AT + i] as number;
    const len = io.col[io.COL.FRAME_LEN + i] as number;
    if (edges.observe !== null) edges.observe(at + header, len - header);
    demux.frame(at, len, header);
  }
  tcpFromTap.flushWrites();
  ended ??= link.ended() ?? guest.ended();
};

const onLinkEvent = (ref: number, mask: number): void => {
  const { link } = edges;
  if (link === null) return;
  if (link.onEvent(ref, mask)) receiveFrom(link);
};

const dispatch = (ref: number, mask: number): void => {
  if (ref >= 0 && ref < flows.FLOW_MAX) return onFlowEvent(ref as Flow, mask);
  if (ref >= flows.SECOND_REF_BASE && ref < flows.LISTENER_REF_BASE) {
    return onSecondEvent((ref - flows.SECOND_REF_BASE) as Flow, mask);
  }
  if (ref >= flows.LISTENER_REF_BASE && ref < flows.OTHER_REF_BASE) return onListenerEvent(ref);
  if (ref >= LINK_REF_BASE && ref < LINK_REF_BASE + LINK_REFS) return onLinkEvent(ref, mask);
  switch (ref) {
    case REF_HOST:
      if (!connect.onChannelReadable()) ended = 'the helper is gone';
      return;
    case REF_NETNS:
      if (!connect.onChannelReadable('netns')) ended = 'the netns broker is gone';
      return;
    case guest.REF_GUEST:
      return guest.onReadable();
    case resolver.REF_RESOLVER:
      return resolver.onReadable();
    case REF_UV:
      uvDue = true;
      return;
    default:
      return controlSockets.onEvent(ref, mask);
  }
};

/** The shortest of the delays that are not −1. */
const shortest = (a: number, b: number): number => (a < 0 ? b : b < 0 ? a : Math.min(a, b));

/** A delay from here on may be longer by less than a millisecond: a number with a fraction is an object, and there is one a turn. */
const EXACT_MS = 16;
/** Milliseconds until somebody wants to be called; −1: nobody does. */
const timers = (): number => {
  const now = io.nowMs();
  const delay = shortest(
    shortest(
      shortest(wheel.nextDelay(now), ndp.nextDelay(now)),
      shortest(spliceTcp.nextDelay(now), controlSockets.nextDelay(now)),
    ),
    shortest(
      shortest(
        fragmentSlots.nextDelay(now),
        shortest(
          shortest(tcpPace.nextDelay(now), tcpLateAck.nextDelay(now)),
          shortest(guest.nextDelay(now), resolver.nextDelay(now)),
        ),
      ),
      shortest(tcpKeepalive.nextDelay(now), shortest(scan.nextDelay(now), inbound.nextDelay(now))),
    ),
  );
  return delay < EXACT_MS ? delay : Math.ceil(delay);
};

/** The millisecond in which {@link tick} was called last. */
let tickedMs = 0;
/**
 * Calls whoever may have something due: in the first turn of each millisecond, and when a wait ended without an event, as it does
 * when a deadline came. Not in every turn: that would take longer than the turn has else to do, and the time, having a fraction, is
 * an object for each that is told it.
 */
const tick = (): void => {
  const now = io.nowMs();
  wheel.expire(now);
  ndp.tick(now);
  fragmentSlots.tick(now);
  tcpKeepalive.tick(now);
  scan.tick(now);
  inbound.tick(now);
  guest.tick(now);
  resolver.tick(now);
  spliceTcp.tick(now);
  controlSockets.tick(now);
};

/** One turn of the loop. {@link run} makes them. */
export const turn = (): void => {
  const n = io.native.wait(
    hasReady() || spliceTcp.hasReady() || (edges.link?.more() ?? false) ? 0 : timers(),
    alert.lookMs(),
  );
  alert.waited();
  for (let i = 0; i < n; i++) {
    dispatch(io.col[io.COL.EVENT_REF + i] as number, io.col[io.COL.EVENT_MASK + i] as number);
  }
  const { link } = edges;
  if (link?.more()) receiveFrom(link);
  const nowMs = io.nowMs() | 0;
  if (n <= 0 || nowMs !== tickedMs) {
    tickedMs = nowMs;
    tick();
  }
  tcpFinish.serveReady();
  spliceTcp.serveReady();
  tcpFinish.servePaced();
  udpFromTap.endBatch();
  tcpFinish.endBatch();
  opening.pump();
  connect.flushRequests();
  out.flush();
  fragmentSlots.endTurn();
  flows.endTurn();
  if (edges.endTurn !== null) edges.endTurn();
  // Sending may be what meets the end of a guest.
  ended ??= guest.ended();
};

/** Runs until the helper or the tap is gone; resolves with the reason. */
export const run = (): Promise<string> =>
  new Promise((resolve) => {
    ended ??= guest.ended();
    const pump = (): void => {
      uvDue = false;
      while (ended === null && !uvDue) turn();
      if (ended !== null) resolve(ended);
      else setImmediate(pump);
    };
    setImmediate(pump);
  });
