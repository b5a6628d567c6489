// SPDX-License-Identifier: Apache-2.0
/** The link to User Mode Linux over a real pair of packet sockets: what is a frame, what is none, and what is the end. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import type { GuestLink } from '../../controller/link/link.ts';
import { packetLink } from '../../controller/link/packet-link.ts';
import { dropCount } from '../../controller/obs/drops.ts';
import { SOCK_NONBLOCK, SOCK_SEQPACKET, testkit } from '../support/testkit.ts';

const { native, col, COL } = io;
let link: GuestLink;
let guest = -1;
let gone: string[] = [];
beforeEach(() => {
  gone = [];
  link = packetLink((why) => gone.push(why));
  link.open(() => {});
  const [ours, theirs] = testkit.socketpair(SOCK_SEQPACKET | SOCK_NONBLOCK);
  guest = theirs;
  link.connect(ours);
});
afterEach(() => {
  if (guest >= 0) native.close(guest);
  serve();
  expect(link.connected()).toBe(false);
});

/** Serves the link's events until there are none, as the loop does; lengths of what was received. */
const serve = (): number[] => {
  const lengths: number[] = [];
  for (let rounds = 0; ; rounds++) {
    expect(rounds).toBeLessThan(100);
    const events = native.wait(0, 0);
    if (events === 0) return lengths;
    for (let i = 0; i < events; i++) {
      if (!link.onEvent(col[COL.EVENT_REF + i] as number, col[COL.EVENT_MASK + i] as number)) continue;
      const n = link.receive(64);
      for (let k = 0; k < n; k++) lengths.push(col[COL.FRAME_LEN + k] as number);
    }
  }
};

test('a packet without a byte is a frame that is too short, first or between others, and not the end', () => {
  const before = dropCount('frame-too-short');
  testkit.send(guest, new Uint8Array(0));
  expect(serve()).toEqual([]);
  expect([gone, link.connected()]).toEqual([[], true]);
  expect(dropCount('frame-too-short')).toBe(before + 1);
  for (const length of [60, 0, 61]) testkit.send(guest, new Uint8Array(length));
  expect(serve()).toEqual([60, 61]);
  expect(gone).toEqual([]);
});

test('the end is one: after what came before it, and once', () => {
  testkit.send(guest, new Uint8Array(60));
  native.close(guest);
  guest = -1;
  expect(serve()).toEqual([60]);
  expect(gone).toEqual(['The guest has disconnected']);
});
