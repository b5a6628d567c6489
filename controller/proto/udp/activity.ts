// SPDX-License-Identifier: Apache-2.0
/** What a passing datagram does to its flow, and the end of flows: the part of their life that both directions share. */
import { end } from '../../flow/end.ts';
import * as lru from '../../flow/lru.ts';
import * as pending from '../../flow/pending.ts';
import { type Flow, lastActive, NO_FLOW, setLastActive } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as send from './send.ts';
import * as share from './share.ts';
import * as state from './state.ts';

/** Order of use is kept to that precision: a busy flow need not be moved for each datagram. */
const LRU_PRECISION_MS = 1000;

/** Ends a flow, having sent what was gathered for it. */
export const close = (f: Flow): void => {
  if (send.gathering() === f) send.flush();
  pending.clear(f);
  share.leave(f);
  const answers = state.answers(f);
  if (answers !== NO_FLOW) end(answers);
  end(f);
};

/** Ends the flow that was idle longest, where the class is full, or has lent its place. */
export const makeRoom = (cls: number): void => {
  const full = lru.isFull(cls);
  if (!full && !share.takesLent(cls)) return;
  drop(DROP['flow-evicted']);
  close(lru.oldest(full ? cls : lru.LRU_UDP));
};

/** Gives up the descriptor of an unanswered flow other than `but`. False: there is none. */
export const giveUpDescriptor = (but: Flow): boolean => {
  const f = share.expendable(but);
  if (f === NO_FLOW) return false;
  drop(DROP['flow-evicted']);
  close(f);
  return true;
};

/** A datagram passed, in either direction. */
export const touch = (f: Flow): void => {
  const now = io.nowMs() | 0;
  if (((now - lastActive(f)) | 0) >= LRU_PRECISION_MS) lru.touch(f);
  setLastActive(f, now);
  state.notePassing(f, now);
};

/** The guest sent something. To a peer that began, it has answered now. */
export const fromGuest = (f: Flow): void => {
  touch(f);
  if (lru.classOf(f) !== lru.LRU_UDP_IN_NEW) return;
  state.setAnswered(f);
  share.leave(f);
  const cls = share.classOfAnswered(f);
  makeRoom(cls);
  share.enter(cls, f);
};

/**
 * The peer sent something: from now on the flow counts as answered, if the guest began. It may push out another one, which sends what was
 * gathered for it: never between receiving and the last frame of what was received, whose place in memory errors need.
 */
export const answered = (f: Flow): void => {
  if (!state.isInbound(f)) state.setAnswered(f);
  touch(f);
  const cls = lru.classOf(f);
  if (cls !== lru.LRU_UDP_NEW && cls !== lru.LRU_UDP_CROWD) return;
  share.leave(f);
  makeRoom(lru.LRU_UDP);
  share.enter(lru.LRU_UDP, f);
};
