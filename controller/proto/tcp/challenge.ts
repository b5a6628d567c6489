// SPDX-License-Identifier: Apache-2.0
/**
 * Challenge ACKs (RFC 5961): the answer to a reset, SYN or acknowledgement that is near the mark but not on it. The guest,
 * if it was the sender, answers with what can be believed. Limited for each flow by itself (§7): a limit that flows shared
 * would tell one user of the guest what another's connection does.
 */
import type { Flow } from '../../flow/table.ts';
import { FLOW_MAX } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import { CHALLENGE_WINDOW_MS, CHALLENGES_MAX } from './constants.ts';
import * as toTap from './to-tap.ts';

/** Start of the present window of time, int32 ms, and how many were sent in it. */
const sinces = new Int32Array(FLOW_MAX);
const sents = new Uint8Array(FLOW_MAX);

/** For a fresh row. */
export const reset = (f: Flow): void => {
  sinces[f] = 0;
  sents[f] = 0;
};

/** Sends one, unless the flow has had its share: counted then. */
export const send = (f: Flow): void => {
  const now = io.nowMs() | 0;
  if (sents[f] === 0 || ((now - (sinces[f] as number)) | 0) >= CHALLENGE_WINDOW_MS) {
    sinces[f] = now;
    sents[f] = 0;
  }
  if ((sents[f] as number) >= CHALLENGES_MAX) {
    drop(DROP['tcp-challenge-limit']);
    return;
  }
  sents[f] = (sents[f] as number) + 1;
  toTap.sendAck(f);
};
