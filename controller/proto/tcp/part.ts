// SPDX-License-Identifier: Apache-2.0
/**
 * The guest has reset a connection, and what it had sent before lies in the socket, or with us. On a plain network that would be
 * on its way and arrive first; a socket that is reset forgets it. So the reset waits until the peer has acknowledged everything, or
 * takes no more. The row is out of the hash: the guest may use the same ports at once.
 */
import { debugFlow } from '../../flow/describe.ts';
import * as hash from '../../flow/hash.ts';
import type { Flow } from '../../flow/table.ts';
import * as flows from '../../flow/table.ts';
import * as wheel from '../../flow/wheel.ts';
import * as io from '../../io/io.ts';
import * as log from '../../obs/log.ts';
import { abort, hasFailed } from './close.ts';
import * as conn from './conn.ts';
import { PARTING_MS, PARTING_MS_MAX } from './constants.ts';
import * as outOfOrder from './out-of-order.ts';
import * as pace from './pace.ts';
import * as recovery from './recovery.ts';
import * as sockRoom from './sock-room.ts';
import * as stash from './stash.ts';

/** Bytes that the peer had not acknowledged at the last look. */
const held = new Int32Array(flows.FLOW_MAX);

/** For a fresh row. */
export const reset = (f: Flow): void => {
  held[f] = 0;
};

const left = (f: Flow): number => stash.bytes(f) + Math.max(io.native.tcpOutq(flows.fd(f)), 0);

/** The guest's reset was believed. */
export const begin = (f: Flow): void => {
  const bytes = conn.has(f, conn.ESTABLISHED) && !hasFailed(f) ? left(f) : 0;
  if (bytes === 0) return abort(f, false);
  if (log.debugEnabled) debugFlow(f, 'from tap', `reset, when ${bytes} bytes have arrived`);
  hash.remove(f);
  outOfOrder.discardAll(f);
  recovery.reset(f);
  pace.reset(f);
  sockRoom.reset(f);
  conn.clear(f, conn.TOUCHED | conn.READY);
  conn.add(f, conn.PARTING);
  conn.setProgressMs(f, io.nowMs() | 0);
  held[f] = bytes;
  wheel.arm(f, io.nowMs() + PARTING_MS);
};

/** The socket has room, or time has passed. */
export const look = (f: Flow): void => {
  if (stash.bytes(f) > 0 && stash.drain(f, flows.fd(f)) < 0) return abort(f, false);
  const bytes = left(f);
  const now = io.nowMs();
  if (bytes !== held[f]) conn.setProgressMs(f, now | 0);
  held[f] = bytes;
  if (bytes === 0 || (((now | 0) - conn.progressMs(f)) | 0) >= PARTING_MS_MAX) return abort(f, false);
  wheel.arm(f, now + PARTING_MS);
};
