// SPDX-License-Identifier: Apache-2.0
/**
 * Listening sockets opened and closed while frames flow, a few requests at a time: each side answers in order, so a port that
 * was given up before it is asked for again is free by then.
 */
import type { Params, Result, Side } from '../../shared/rpc/methods.ts';
import { ask } from '../rpc/connect.ts';
import { adopt, close, type Listener, listenParams } from './sockets.ts';
import type { Wish } from './wanted.ts';

/** Requests under way: flows have the rest of the channel. */
const UNDER_WAY_MAX = 256;
const ENFILE = 23;
const EAFNOSUPPORT = 97;

/** errno 0 and the listener, or why there is none. */
export type OnOpened = (wish: Wish, errno: number, listener: Listener | null) => void;

type Opened = Result<'socket.listen'>;
interface Goodbye {
  readonly side: Side;
  readonly listener: number;
}
/** What the helper is to forget, before anything new is asked for. */
let goodbyes: Goodbye[] = [];
let queue: Wish[] = [];
let next = 0;
let underWay = 0;
let onOpened: OnOpened | null = null;
let whenDone: (() => void) | null = null;
let freebind = false;
/** What the helper is told for "every address": '' (one socket for both IP versions) unless the kernel has no IPv6. */
let everyAddress = '';

export const configure = (withFreebind: boolean): void => {
  freebind = withFreebind;
  everyAddress = '';
  goodbyes = [];
  queue = [];
  next = 0;
  underWay = 0;
  onOpened = null;
  whenDone = null;
};
export const params = ({ group, port }: Wish): Params<'socket.listen'> =>
  listenParams(group, port, freebind, everyAddress);

/** After a failure: true when the wish is worth another try, because the kernel has no IPv6 at all. */
export const withoutIpv6 = (asked: Params<'socket.listen'>, errno: number): boolean => {
  if (errno !== EAFNOSUPPORT || asked.address !== '') return false;
  everyAddress = '0.0.0.0';
  return true;
};

/** Closes a listener on both sides of the channel. */
export const shut = (listener: Listener): void => {
  close(listener);
  goodbyes.push(listener);
};

/** Opens them one after the other; `done` is called when the last one is settled, not within this call. One at a time. */
export const openAll = (wishes: readonly Wish[], opened: OnOpened, done: () => void): void => {
  queue = [...wishes];
  next = 0;
  onOpened = opened;
  whenDone = done;
};

const settled = (wish: Wish, asked: Params<'socket.listen'>, errno: number, result: Opened | null): void => {
  underWay--;
  if (result === null) {
    if (!withoutIpv6(asked, errno)) return onOpened?.(wish, errno, null);
    queue.push(wish);
    return;
  }
  const listener = adopt(wish.group, wish.port, wish.rule, result);
  if (listener === null) goodbyes.push({ side: wish.group.side, listener: result.listener });
  onOpened?.(wish, listener === null ? ENFILE : 0, listener);
};

/** Asks for what may be asked for now; called once a turn, before the requests are sent. */
export const pump = (): void => {
  // What begins because something has ended is asked for in this turn: no event would wake the next one.
  while (pumpOnce());
};

/** Whether something has ended. */
const pumpOnce = (): boolean => {
  while (goodbyes.length > 0 && underWay < UNDER_WAY_MAX) {
    const { side, listener } = goodbyes[goodbyes.length - 1] as Goodbye;
    // It may be that the helper has forgotten it; there is nothing to be done about an error.
    if (!ask(side, 'socket.unlisten', { listener }, () => void underWay--)) return false;
    underWay++;
    goodbyes.pop();
  }
  while (next < queue.length && underWay < UNDER_WAY_MAX) {
    const wish = queue[next] as Wish;
    const asked = params(wish);
    const settle = (errno: number, result: Opened | null): void => settled(wish, asked, errno, result);
    if (!ask(wish.group.side, 'socket.listen', asked, settle)) return false;
    underWay++;
    next++;
  }
  if (whenDone === null || next < queue.length || underWay > 0) return false;
  const done = whenDone;
  whenDone = null;
  done();
  return true;
};
