// SPDX-License-Identifier: Apache-2.0
/**
 * Which hypervisor's connection is the link's: one at a time, whoever came first. The helper accepts, for it alone can; what comes over a connection
 * is the link's business. When one ends, the next is waited for, flows and all, or the whole ends (--one-off, --fd).
 */
import { OTHER_REF_BASE } from '../flow/table.ts';
import * as io from '../io/io.ts';
import type { GuestLink } from '../link/link.ts';
import * as station from '../link/station.ts';
import * as log from '../obs/log.ts';
import * as ndp from '../proto/ndp.ts';
import type { ask } from '../rpc/connect.ts';

/** Reference of the listening socket in the epoll set. */
export const REF_GUEST = OTHER_REF_BASE + 18;
/** Until the next attempt, where a connection could not be taken for lack of descriptors. */
const PAUSE_MS = 1000;
const EAGAIN = 11;

const CAME = log.site('Connections of guests accepted');
const WENT = log.site('Ends of connections of guests');
const CROWD = log.site('Further connections to the socket of a guest');
const REFUSED = log.site('Connections that could not be taken');

export interface GuestOptions {
  readonly link: GuestLink;
  /** What `guest.open` gave: listening, or the connection itself. */
  readonly fd: number;
  readonly listening: boolean;
  /** The end of a connection is the end of all. */
  readonly oneOff: boolean;
  /** rpc/connect's. */
  readonly ask: typeof ask;
}

let options: GuestOptions | null = null;
let over: string | null = null;
let onFirst: (() => void) | null = null;
/** When the listening socket is watched again; infinity: it is, or will be for another reason. */
let pausedUntil = Number.POSITIVE_INFINITY;

/** When sealed. Throws Error where the socket cannot be watched. */
export const configure = (o: GuestOptions): void => {
  options = o;
  over = null;
  pausedUntil = Number.POSITIVE_INFINITY;
  if (o.listening) watchListener();
  else begin(o.fd);
};

/** `call`, once, when the first connection has been taken. */
export const whenFirst = (call: () => void): void => {
  onFirst = call;
};

/** Why there will be no guest any more; null: there is one, or may be. */
export const ended = (): string | null => over;

/** The link's: a connection has ended. */
export const onGone = (why: string): void => {
  const last = options === null || options.oneOff || !options.listening;
  if (!last) return log.infoAt(WENT, io.nowMs(), why);
  log.info(`${why}: exiting`);
  over = why;
};

const watchListener = (): void => {
  pausedUntil = Number.POSITIVE_INFINITY;
  const fd = options?.fd ?? -1;
  const r = io.native.watch(fd, io.EPOLLIN, REF_GUEST);
  if (r < 0) throw new Error(`cannot watch descriptor ${fd}: errno ${-r}`);
};

const begin = (fd: number): void => {
  station.reconnected();
  options?.link.connect(fd);
  ndp.announce();
  onFirst?.();
  onFirst = null;
};

/** Somebody connects. */
export const onReadable = (): void => {
  if (options === null) return;
  io.native.unwatch(options.fd);
  const asked = options.ask('host', 'guest.accept', {}, (errno, result) => {
    if (result !== null) taken(result.fd, result.pid);
    if (errno === 0 || errno === EAGAIN) return watchListener();
    log.warnAt(REFUSED, io.nowMs(), `A connection could not be taken (errno ${errno})`);
    pausedUntil = io.nowMs() + PAUSE_MS;
  });
  if (!asked) pausedUntil = io.nowMs() + PAUSE_MS;
};

const taken = (fd: number, pid: number): void => {
  if (options?.link.connected() === false && over === null) {
    log.infoAt(CAME, io.nowMs(), `Accepted connection from PID ${pid}`);
    return begin(fd);
  }
  log.warnAt(CROWD, io.nowMs(), `Discarding connection from PID ${pid}`);
  io.native.close(fd);
};

/** Milliseconds until {@link tick} has something to do; −1: nothing. */
export const nextDelay = (now: number): number =>
  pausedUntil === Number.POSITIVE_INFINITY ? -1 : Math.max(0, pausedUntil - now);
export const tick = (now: number): void => {
  if (now >= pausedUntil) watchListener();
};
