// SPDX-License-Identifier: Apache-2.0
/**
 * What the rules want against what is open, while we run. A change opens what is new before it closes what is gone, so that it
 * can be taken back; what stays is never touched, and connections outlive the socket that they came by.
 *
 * Only where an old socket is in the way of a new one (the same port, with another address or interface) must it be closed
 * first; if the change then fails, it is opened again.
 */
import * as log from '../obs/log.ts';
import { openAll, shut } from './opening.ts';
import { type Direction, type Rule, sameRule, type Tables } from './rule.ts';
import { fits, type Shared, shareOut } from './share.ts';
import { allGroups, groupOf, type Listener, of } from './sockets.ts';
import { DIRECTIONS, type Heard, surplus, type Wanted, type Wish, wanted, wishes } from './wanted.ts';

export { type Listener, of };

/** A rule that could not be put in force whole: its first port that failed, and why. */
export interface Failure {
  readonly direction: Direction;
  readonly rule: Rule;
  readonly port: number;
  readonly errno: number;
}
/** `all-or-nothing`: with a failure, everything stays as it was. `what-works`: the table is as asked for, and what can listen does. */
export type ChangeMode = 'all-or-nothing' | 'what-works';
type Done = (failures: readonly Failure[], applied: boolean) => void;

const EMFILE = 24;
const EMPTY: Tables = { host: [], splice: [] };

let inForce: Tables = EMPTY;
let heard: Heard = () => [];
let descriptors = 0;
/** A change, or what `auto` found, is being put in force. */
let busy = false;
/** A change that waits for what `auto` found. */
let waiting: (() => void) | null = null;
let changing = false;
/** What `auto` found beyond its share; noted as missing, too. */
let beyond: Shared['left'] = new Map();
/** That there was such was said. */
let isTold = false;

/** `limit`: RLIMIT_NOFILE. `ports`: what `auto` goes by. */
export const configure = (limit: number, ports: Heard): void => {
  descriptors = limit;
  heard = ports;
  inForce = EMPTY;
  busy = false;
  waiting = null;
  changing = false;
  beyond = new Map();
  isTold = false;
};

/** The tables in force, as they were given. */
export const tables = (): Tables => inForce;
/** At start: what fwd/listen-start opened. */
export const begin = (t: Tables): void => {
  inForce = t;
};

/** What tables want, of which `auto` has no more than its share; null: what is wanted by name is more than there may be. */
export const affordable = (t: Tables): Shared | null => {
  const shared = shareOut(wanted(t, heard), descriptors);
  return fits(shared.want, descriptors) ? shared : null;
};
/** Notes what of the wanted is not to be had for now, and forgets what is not wanted any more. Warns once. */
export const noteLeft = ({ want, left }: Shared): void => {
  for (const group of allGroups()) {
    const ports = want.get(group);
    for (const port of group.missing.keys()) if (ports?.has(port) !== true) group.missing.delete(port);
  }
  beyond = left;
  let count = 0;
  for (const [group, ports] of left) {
    for (const port of ports) group.missing.set(port, EMFILE);
    count += ports.length;
  }
  if (count === 0 || isTold) return;
  isTold = true;
  log.warn(
    `auto found more ports than the limit of open files (RLIMIT_NOFILE, ${descriptors}) has room for: ${count} of them are not forwarded, the lowest ones are`,
  );
};

/** How many sockets of the rule listen; why (errno) and at which port one does not, 0 if none is missing. */
export const ruleState = (
  direction: Direction,
  rule: Rule,
): { readonly listening: number; readonly errno: number; readonly port: number } => {
  const group = groupOf(direction, rule);
  let listening = 0;
  for (const [port] of group.open) if (port >= rule.first && port <= rule.last) listening++;
  let first = 0;
  let errno = 0;
  for (const [port, reason] of group.missing) {
    if (port < rule.first || port > rule.last || (first !== 0 && port > first)) continue;
    first = port;
    errno = reason;
  }
  return { listening, errno, port: first };
};

const isBestEffort = ({ weak, scan }: Rule): boolean => weak || scan;
/** One a rule. */
const failuresOf = (failed: readonly Failed[]): Failure[] => {
  const byRule = new Map<Rule, Failure>();
  for (const { wish, errno } of failed) {
    const { rule, port, group } = wish;
    const earlier = byRule.get(rule);
    if (earlier === undefined || port < earlier.port)
      byRule.set(rule, { direction: group.direction, rule, port, errno });
  }
  return [...byRule.values()];
};

interface Failed {
  readonly wish: Wish;
  readonly errno: number;
}
interface Operation {
  readonly next: Tables;
  readonly want: Wanted;
  readonly left: Shared['left'];
  /** Fails the whole of it. */
  readonly mustOpen: (wish: Wish) => boolean;
  readonly failed: Failed[];
  readonly opened: Listener[];
  readonly done: Done;
}

const portKey = (direction: Direction, protocol: string, port: number): string => `${direction} ${protocol} ${port}`;
const wishKey = ({ group, port }: Wish): string => portKey(group.direction, group.protocol, port);
const listenerKey = ({ group, port }: Listener): string => portKey(group.direction, group.protocol, port);

const run = (op: Operation, opening: readonly Wish[]): void => {
  busy = true;
  const going = surplus(op.want);
  const inTheWay = new Set(going.map(listenerKey));
  const isFree = (wish: Wish): boolean => !inTheWay.has(wishKey(wish));
  const note = (wish: Wish, errno: number, listener: Listener | null): void => {
    if (listener !== null) op.opened.push(listener);
    else op.failed.push({ wish, errno });
  };
  openAll(opening.filter(isFree), note, () => {
    if (op.failed.some(({ wish }) => op.mustOpen(wish))) return takeBack(op, []);
    const late = opening.filter((wish) => !isFree(wish));
    const keys = new Set(late.map(wishKey));
    const replaced = going.filter((l) => keys.has(listenerKey(l)));
    for (const l of replaced) shut(l);
    openAll(late, note, () => {
      if (op.failed.some(({ wish }) => op.mustOpen(wish))) return takeBack(op, replaced);
      commit(op, going);
    });
  });
};

/** Closes what was opened, and opens again what had to be closed. */
const takeBack = (op: Operation, replaced: readonly Listener[]): void => {
  for (const l of op.opened) shut(l);
  const failures = failuresOf(op.failed.filter(({ wish }) => op.mustOpen(wish)));
  const again = replaced.map(({ group, port, rule }) => ({ group, port, rule }));
  openAll(
    again,
    ({ group, port }, errno) => {
      if (errno !== 0) group.missing.set(port, errno);
    },
    () => finish(op, failures, false),
  );
};

const commit = (op: Operation, going: readonly Listener[]): void => {
  for (const l of going) if (l.open) shut(l);
  noteLeft(op);
  for (const group of allGroups()) {
    const ports = op.want.get(group);
    for (const [port, l] of group.open) l.rule = ports?.get(port) ?? l.rule;
  }
  for (const { wish, errno } of op.failed) wish.group.missing.set(wish.port, errno);
  inForce = op.next;
  const failures = failuresOf(op.failed.filter(({ wish }) => !isBestEffort(wish.rule)));
  // The helper's copies of what was shut keep it listening until they are closed, too.
  openAll(
    [],
    () => {},
    () => finish(op, failures, true),
  );
};

const finish = (op: Operation, failures: readonly Failure[], applied: boolean): void => {
  busy = false;
  op.done(failures, applied);
  const then = waiting;
  waiting = null;
  then?.();
};

/**
 * Puts other tables in force. `done` is called once, in a later turn; false: another change is under way, and it is not called.
 * A rule that is in force already and does not listen (left so by an earlier `what-works`) fails nothing.
 */
export const change = (next: Tables, mode: ChangeMode, done: Done): boolean => {
  if (changing) return false;
  changing = true;
  const start = (): void => begun(next, mode, done);
  if (busy) waiting = start;
  else start();
  return true;
};

const begun = (next: Tables, mode: ChangeMode, done: Done): void => {
  const before = inForce;
  // Most are the very same object, and there may be thousands.
  const same = new Set([...before.host, ...before.splice]);
  const had = (direction: Direction, rule: Rule): boolean =>
    same.has(rule) || before[direction].some((one) => sameRule(one, rule));
  const known = new Map<Rule, boolean>();
  for (const direction of DIRECTIONS) for (const rule of next[direction]) known.set(rule, had(direction, rule));
  const isKnown = (rule: Rule): boolean => known.get(rule) === true;
  const shared = affordable(next);
  const { want, left } = shared ?? { want: wanted(next, heard), left: new Map() };
  const op: Operation = {
    next,
    want,
    left,
    mustOpen: ({ rule }) => mode === 'all-or-nothing' && !isBestEffort(rule) && !isKnown(rule),
    failed: [],
    opened: [],
    done: (failures, applied) => {
      changing = false;
      done(failures, applied);
    },
  };
  // Best effort was made once; whoever wants another one asks for the rule anew.
  const opening = wishes(want).filter(
    ({ group, port, rule }) => !(rule.weak && !rule.scan && isKnown(rule) && group.missing.has(port)),
  );
  if (shared !== null) return run(op, opening);
  busy = true;
  for (const wish of opening) op.failed.push({ wish, errno: EMFILE });
  const settle =
    mode === 'all-or-nothing' ? () => finish(op, failuresOf(op.failed), false) : () => commit(op, surplus(want));
  openAll([], () => {}, settle);
};

/** A change or what `auto` found is being put in force. */
export const isBusy = (): boolean => busy;
/** Some socket that is wanted could not be had, and might be now: no matter what is beyond the share of `auto`. */
export const isLacking = (): boolean => {
  for (const group of allGroups()) if (group.missing.size > (beyond.get(group)?.length ?? 0)) return true;
  return false;
};

/** Opens and closes what `auto` says, and tries again what it could not have. Not while {@link isBusy}. */
export const follow = (): void => {
  const { want, left } = shareOut(wanted(inForce, heard), descriptors);
  const opening = wishes(want).filter(({ rule }) => rule.scan);
  if (opening.length === 0 && surplus(want).length === 0) return noteLeft({ want, left });
  run({ next: inForce, want, left, mustOpen: () => false, failed: [], opened: [], done: () => {} }, opening);
};
