// SPDX-License-Identifier: Apache-2.0
/** The ways a spliced connection ends. */
import { end } from '../../flow/end.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import * as io from '../../io/io.ts';
import * as log from '../../obs/log.ts';
import * as conn from './conn.ts';
import { add, ENDED, has, held, intos, outs, PARTING, socket } from './conn.ts';
import * as pipes from './pipes.ts';

/** Until it is looked again whether a peer that shall be reset has everything, and for how long without progress. */
const PARTING_MS = 4;
const PARTING_MS_MAX = 10_000;

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
  for (let at = f * 2; at < f * 2 + 2; at++) {
    if (outs[at] !== 0) pipes.discard((outs[at] as number) - 1, (intos[at] as number) - 1);
  }
  conn.reset(f);
  // The accepted one was never another process's: closing it takes it out of the set.
  const first = flows.fd(f);
  flows.setFd(f, -1);
  io.native.close(first);
  end(f);
};

/** Socket `d` failed, and all that it had sent is in the other one, whose peer is reset when it has it. */
export const over = (f: Flow, d: 0 | 1): false => {
  const unsent = socket(f, 1) >= 0 && !has(f, PARTING | (PARTING << 1)) ? io.native.tcpOutq(socket(f, 1 - d)) : 0;
  if (unsent <= 0) {
    abort(f);
    return false;
  }
  add(f, (PARTING << (1 - d)) | ENDED | (ENDED << 1));
  held[f * 2 + d] = unsent;
  wheel.arm(f, io.nowMs() + PARTING_MS);
  return false;
};

/** Looks again whether the peer of socket `s` has everything. */
export const part = (f: Flow, s: 0 | 1): void => {
  const unsent = io.native.tcpOutq(socket(f, s));
  const at = f * 2 + 1 - s;
  const now = io.nowMs();
  if (unsent !== held[at]) flows.setLastActive(f, now | 0);
  if (unsent <= 0 || idleMs(f) > PARTING_MS_MAX) return abort(f);
  held[at] = unsent;
  wheel.arm(f, now + PARTING_MS);
};
