// SPDX-License-Identifier: Apache-2.0
/** The ways a spliced connection ends. */
import { end } from '../../flow/end.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import * as io from '../../io/io.ts';
import * as log from '../../obs/log.ts';
import * as conn from './conn.ts';
import { add, ENDED, FAILED, has, held, intos, outs, PARTING, READABLE, socket } from './conn.ts';
import * as pipes from './pipes.ts';

/** Until it is looked again whether a peer that shall be reset has everything: doubled each time, since there may be thousands. */
const PARTING_MS_MIN = 4;
const PARTING_MS_MAX = 256;
/** Until it is looked again whether what a failed socket had sent is still moving. */
const PROGRESS_MS = 2000;
/** How long a peer may take nothing of what came before its reset. */
const NO_PROGRESS_MS = 10_000;

export const debug = (f: Flow, what: string): void => log.debug(log.flowLine(f, 'TCP, spliced', what));

export const idleMs = (f: Flow): number => ((io.nowMs() | 0) - flows.lastActive(f)) | 0;

/** Closes a socket so that its peer gets a reset. */
export const refuse = (fd: number): void => {
  io.native.lingerZero(fd);
  io.native.close(fd);
};

/** Ends a connection at once; both ends get a reset. */
export const abort = (f: Flow): void => {
  if (log.debugEnabled) debug(f, 'reset');
  io.native.lingerZero(flows.fd(f));
  if (socket(f, 1) >= 0) io.native.lingerZero(socket(f, 1));
  close(f);
};

export const close = (f: Flow): void => {
  const second = socket(f, 1);
  if (second >= 0) {
    // Explicitly: a descriptor that was duplicated across processes would stay in the set after close().
    io.native.unwatch(second);
    io.native.close(second);
  }
  giveUpPipe(f, 0);
  giveUpPipe(f, 1);
  conn.reset(f);
  // The accepted one was never another process's: closing it takes it out of the set.
  const first = flows.fd(f);
  flows.setFd(f, -1);
  io.native.close(first);
  end(f);
};

/** What is in the pipe of direction `d` will not arrive. */
const giveUpPipe = (f: Flow, d: 0 | 1): void => {
  const at = f * 2 + d;
  if (outs[at] !== 0) pipes.discard((outs[at] as number) - 1, (intos[at] as number) - 1);
  outs[at] = 0;
  held[at] = 0;
};

/**
 * Socket `s` failed. What it had sent is still to be delivered; nothing more goes to it, without a word to anybody, since the reset
 * will say it. The row's timer is armed in case the other end takes nothing.
 */
export const fail = (f: Flow, s: 0 | 1): void => {
  const back = s === 0 ? 1 : 0;
  add(f, (FAILED << s) | (ENDED << back) | (READABLE << s));
  giveUpPipe(f, back);
  flows.setLastActive(f, io.nowMs() | 0);
  wheel.arm(f, io.nowMs() + PROGRESS_MS);
};

/** Socket `s` failed some time ago, and what it had sent waits for room. */
export const checkProgress = (f: Flow, s: 0 | 1): void => {
  const other = s === 0 ? 1 : 0;
  const now = io.nowMs();
  if (wasAcknowledged(f, other)) flows.setLastActive(f, now | 0);
  if (idleMs(f) > NO_PROGRESS_MS) return abort(f);
  wheel.arm(f, now + PROGRESS_MS);
};

/** Whether the peer of socket `s`, to which only that direction is still served, has more than when last asked. */
const wasAcknowledged = (f: Flow, s: 0 | 1): boolean => {
  // Of the direction that is over, this column has no use of its own.
  const at = f * 2 + s;
  const unsent = socket(f, s) < 0 ? 0 : io.native.tcpOutq(socket(f, s));
  const changed = unsent !== held[at];
  held[at] = unsent;
  return changed;
};

/** Socket `d` failed, and all that it had sent is in the other one, whose peer is reset when it has it. */
export const over = (f: Flow, d: 0 | 1): false => {
  const other = d === 0 ? 1 : 0;
  const unsent = socket(f, 1) >= 0 && !has(f, PARTING | (PARTING << 1)) ? io.native.tcpOutq(socket(f, other)) : 0;
  if (unsent <= 0) {
    abort(f);
    return false;
  }
  giveUpPipe(f, other);
  add(f, (PARTING << other) | ENDED | (ENDED << 1));
  held[f * 2 + other] = unsent;
  held[f * 2 + d] = PARTING_MS_MIN;
  flows.setLastActive(f, io.nowMs() | 0);
  wheel.arm(f, io.nowMs() + PARTING_MS_MIN);
  return false;
};

/** Looks again whether the peer of socket `s` has everything. */
export const part = (f: Flow, s: 0 | 1): void => {
  const now = io.nowMs();
  if (wasAcknowledged(f, s)) flows.setLastActive(f, now | 0);
  if ((held[f * 2 + s] as number) <= 0 || idleMs(f) > NO_PROGRESS_MS) return abort(f);
  const wait = f * 2 + 1 - s;
  held[wait] = Math.min((held[wait] as number) * 2, PARTING_MS_MAX);
  wheel.arm(f, now + (held[wait] as number));
};
