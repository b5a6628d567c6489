// SPDX-License-Identifier: Apache-2.0
/**
 * Who gives up a descriptor when a flow cannot have one (EMFILE, ENFILE), whatever its protocol: first what costs its owner
 * least. Whoever pings pays with a ping if there is another one, so that a flood of them only costs pings.
 */
import * as lru from './lru.ts';
import { type Flow, fd, NO_FLOW } from './table.ts';

/** In the order in which they are asked. */
export const UDP = 0;
export const PING = 1;
export const TCP = 2;
/** Loopback to loopback. */
export const SPLICE = 3;
const OWNERS = 4;
export type Owner = typeof UDP | typeof PING | typeof TCP | typeof SPLICE;

/** Ends one flow other than `but` that nobody will miss much, and that has a descriptor. False: there is none. */
type GiveUp = (but: Flow) => boolean;
const owners: (GiveUp | null)[] = new Array(OWNERS).fill(null);

/** Called once an owner, at start. */
export const register = (owner: Owner, giveUp: GiveUp): void => {
  owners[owner] = giveUp;
};

/** That part of all is the guest's own: what others open, clients and loopback connections, leaves it free. */
const GUESTS_SHIFT = 3;
let reservedFrom = Number.POSITIVE_INFINITY;
/** Called once. `limit` is RLIMIT_NOFILE. */
export const configure = (limit: number): void => {
  reservedFrom = limit - (limit >> GUESTS_SHIFT);
};
/**
 * Whether `fd`, just opened for what others began, is one of the last that there are. A new descriptor is the lowest that is free
 * (POSIX.1-2017, 2.14), so its number says how many are in use, whoever has them.
 */
export const isReserved = (fd: number): boolean => fd >= reservedFrom;

const asks = (owner: number, but: Flow): boolean => owners[owner]?.(but) ?? false;

/** No descriptor was to be had for flow `f` of `owner`: one is given up for the next attempt, if anybody can. */
export const short = (owner: Owner, f: Flow): void => {
  if (owner === PING && asks(PING, f)) return;
  for (let each = 0; each < OWNERS; each++) if (asks(each, f)) return;
};

/** Flows looked at that have no descriptor (yet, or any more) before the class counts as without one. */
const LOOKS_MAX = 256;
/** The flow of a class that was idle longest, has a descriptor, and is not `but`; NO_FLOW: none. */
export const oldestHolder = (cls: number, but: Flow): Flow => {
  let f = lru.oldest(cls);
  for (let i = 0; f !== NO_FLOW && i < LOOKS_MAX; i++, f = lru.newer(f)) if (f !== but && fd(f) >= 0) return f;
  return NO_FLOW;
};
