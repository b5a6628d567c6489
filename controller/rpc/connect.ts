// SPDX-License-Identifier: Apache-2.0
/**
 * What is asked of the helper once frames flow: sockets for new flows above all, on the host's side or the namespace's. A
 * packet of an established flow never waits for any of this. Channels and batches are rpc/channel.ts.
 *
 * Between the request and its reply the flow may have ended, and its row may even be another flow by now; the
 * generation noted with the request tells. A socket that nobody waits for any more is closed at once.
 */
import type { METHODS, MethodName, Params, Result, Side, Stage } from '../../shared/rpc/methods.ts';
import { debugFlow } from '../flow/describe.ts';
import {
  FLOW_FREE,
  type Flow,
  type FlowType,
  generation,
  isV4,
  NO_FLOW,
  remotePort,
  remoteWord,
  typeOf,
} from '../flow/table.ts';
import * as io from '../io/io.ts';
import * as log from '../obs/log.ts';
import * as addr from '../wire/addr.ts';
import { Channel, REQUESTS_MAX } from './channel.ts';

const METHOD = 'socket.connect';
const MULTICAST = 'socket.multicast';
const DESCRIPTORS = log.site('Out of file descriptors');
const ENFILE = 23;
const EMFILE = 24;
/**
 * The broker is behind: whoever needs it is refused at once. Any user of the host can bring it there (a connect() in a namespace
 * whose ports are used up takes milliseconds), and connections that wait for longer than this hold descriptors for nothing.
 */
const NETNS_LATE_MS = 1000;

type Protocol = Params<typeof METHOD>['protocol'];
/** What may be asked once sealed. */
export type SealedMethod = {
  [M in MethodName]: 'sealed' extends ((typeof METHODS)[M]['stages'] & readonly Stage[])[number] ? M : never;
}[MethodName];
/** `errno` 0 and the result, whose `fd` is a descriptor that is the callee's now; or what failed (EACCES: refused by the floor or a frozen limit) and null. */
export type Settle<M extends MethodName> = (errno: number, result: Result<M> | null) => void;

interface Handlers {
  /** The socket is the flow's now. */
  readonly onConnected: (f: Flow, fd: number) => void;
  /** `errno` of the call that failed; EACCES when the helper's floor refused. */
  readonly onFailed: (f: Flow, errno: number) => void;
}
const handlers = new Map<FlowType, Handlers>();

/** One side's channel, and who waits for the request in each of its slots. */
class Line {
  /** {@link NO_FLOW}: no flow does. */
  readonly flows = new Int32Array(REQUESTS_MAX);
  readonly generations = new Int32Array(REQUESTS_MAX);
  /** null: the handlers of the flow's type do. */
  readonly settles: (Settle<MethodName> | null)[] = [];
  readonly channel: Channel;

  constructor(lateMs?: number) {
    this.channel = new Channel((slot, errno, result) => {
      this.#onSettled(slot, errno, result as { fd?: number });
    }, lateMs);
  }

  /** False: too many wait, and nothing was queued. */
  ask<M extends MethodName>(f: Flow, method: M, params: Params<M>, settle: Settle<M> | null): boolean {
    const slot = this.channel.push(method, params);
    if (slot < 0) return false;
    this.flows[slot] = f;
    this.generations[slot] = f === NO_FLOW ? 0 : generation(f);
    this.settles[slot] = settle as Settle<MethodName> | null;
    return true;
  }

  #onSettled(slot: number, errno: number, result: { fd?: number } | null): void {
    const f = this.flows[slot] as Flow;
    const settle = this.settles[slot] ?? null;
    this.settles[slot] = null;
    if (errno === EMFILE || errno === ENFILE) {
      log.warnAt(DESCRIPTORS, io.nowMs(), 'Out of file descriptors: new flows are refused (see RLIMIT_NOFILE)');
    }
    if (f !== NO_FLOW && (typeOf(f) === FLOW_FREE || generation(f) !== this.generations[slot])) {
      if (result?.fd !== undefined) io.native.close(result.fd);
      return;
    }
    if (settle !== null) settle(errno, result as Result<MethodName> | null);
    else toHandlers(f, errno, result?.fd ?? -1);
  }
}

const toHandlers = (f: Flow, errno: number, fd: number): void => {
  const handler = handlers.get(typeOf(f) as FlowType);
  if (handler === undefined) {
    if (fd >= 0) io.native.close(fd);
  } else if (fd >= 0) {
    handler.onConnected(f, fd);
  } else {
    if (log.debugEnabled) debugFlow(f, 'from sock', `no socket, errno ${errno}`);
    handler.onFailed(f, errno);
  }
};

const host = new Line();
const netns = new Line(NETNS_LATE_MS);
const line = (side: Side): Line => (side === 'host' ? host : netns);

/** Takes over a helper channel, watched with `ref`; its events go to {@link onChannelReadable}. */
export const attach = (fd: number, ref: number, side: Side = 'host'): void => line(side).channel.attach(fd, ref);

/** Who takes the sockets of a type of flow. Called once a type, at start. */
export const register = (
  type: FlowType,
  onConnected: Handlers['onConnected'],
  onFailed: Handlers['onFailed'],
): void => {
  handlers.set(type, { onConnected, onFailed });
};

/** Text of the flow's remote address, as the helper wants it. */
export const remoteText = (f: Flow): string =>
  isV4(f)
    ? addr.ipv4Text(remoteWord(f, 3))
    : addr.ipv6Text(remoteWord(f, 0), remoteWord(f, 1), remoteWord(f, 2), remoteWord(f, 3));

/**
 * Asks one side of the helper for anything that may be asked once sealed. `settle` is called once, in a later turn. False
 * when too many requests wait: nothing was queued then, and `settle` is not called.
 */
export const ask = <M extends SealedMethod>(side: Side, method: M, params: Params<M>, settle: Settle<M>): boolean =>
  line(side).ask(NO_FLOW, method, params, settle);

/** {@link ask} on behalf of a flow: if it has ended meanwhile, the descriptor is closed and `settle` is not called. */
export const askFor = <M extends SealedMethod>(
  f: Flow,
  side: Side,
  method: M,
  params: Params<M>,
  settle: Settle<M>,
): boolean => line(side).ask(f, method, params, settle);

/**
 * Asks for a socket connected to `address` and `port`; `sourcePort` (or echo identifier) 0 leaves the choice to the
 * kernel, a `hopLimit` of 0 does the same. The answer comes to the handlers of the flow's type in a later turn, unless the flow has ended. False when
 * too many requests wait: nothing was queued then.
 */
export const requestTo = (
  f: Flow,
  protocol: Protocol,
  address: string,
  port: number,
  sourcePort: number,
  hopLimit = 0,
): boolean =>
  host.ask(
    f,
    METHOD,
    hopLimit === 0 ? { protocol, address, port, sourcePort } : { protocol, address, port, sourcePort, hopLimit },
    null,
  );

/** {@link requestTo} for groups and broadcast, --multicast: `address` is the group's. */
export const requestMulticast = (
  f: Flow,
  role: Params<typeof MULTICAST>['role'],
  address: string,
  port: number,
  sourcePort: number,
): boolean => host.ask(f, MULTICAST, { role, address, port, sourcePort }, null);

/** {@link requestTo} the remote port, at the remote address or what it stands for. */
export const request = (
  f: Flow,
  protocol: Protocol,
  sourcePort = 0,
  hopLimit = 0,
  address = remoteText(f),
): boolean => {
  if (log.debugEnabled) debugFlow(f, 'from tap', 'new');
  return requestTo(f, protocol, address, remotePort(f), sourcePort, hopLimit);
};

/** Tells the handlers of the flow's type that there will be no socket, as an answer of the helper's would. */
export const fail = (f: Flow, errno: number): void => toHandlers(f, errno, -1);

/** Sends what was queued for either side. Called once a turn. */
export const flushRequests = (): void => {
  host.channel.flush();
  netns.channel.flush();
};

/** Settles what a side's helper answered. False when it is gone. Throws on a reply that breaks the protocol. */
export const onChannelReadable = (side: Side = 'host'): boolean => line(side).channel.onReadable();

/** Requests that wait to be sent or answered. */
export const outstanding = (side: Side = 'host'): number => line(side).channel.outstanding();
