// SPDX-License-Identifier: Apache-2.0
/** Which way a datagram goes that came to a listening UDP socket: to the guest as a frame, or from loopback to loopback past the tap. */
import { RECORD_DESTINATION } from '../flow/aside.ts';
import { MAPPED_WORD } from '../flow/table.ts';
import type { Taker, UdpListener } from '../fwd/udp-listener.ts';
import * as udpListener from '../fwd/udp-listener.ts';
import * as io from '../io/io.ts';
import { DROP, drop } from '../obs/drops.ts';
import * as splice from '../proto/splice/udp.ts';
import * as inbound from '../proto/udp/inbound.ts';
import * as ipv6 from '../wire/ipv6.ts';

export interface InboundUdpSettings {
  /** Loopback goes past the tap (not --no-splice). */
  readonly splice: boolean;
  /** There is a tap (not --splice-only). */
  readonly tap: boolean;
}

let settings: InboundUdpSettings;

/** Whether the address at `at` of the arena is one of the loopback's. */
const isLoopback = (at: number): boolean => {
  const v = io.view;
  const w0 = v.getInt32(at);
  const w1 = v.getInt32(at + 4);
  const w2 = v.getInt32(at + 8);
  const w3 = v.getInt32(at + 12);
  return w2 === MAPPED_WORD ? (w0 | w1) === 0 && w3 >>> 24 === 127 : ipv6.isLoopback(w0, w1, w2, w3);
};

const choose = (l: UdpListener, record: number): Taker | null => {
  const loopback = isLoopback(record) && isLoopback(record + RECORD_DESTINATION);
  if (l.side === 'netns') {
    if (loopback) return splice.taker;
    // To another address of the namespace's own, or from one: not what is forwarded from there.
    drop(DROP['ip-martian']);
    return null;
  }
  if (loopback && settings.splice && l.rule.target === '') return splice.taker;
  if (settings.tap) return inbound.taker;
  drop(DROP.disabled);
  return null;
};

/** Called once, before the first event. */
export const configure = (s: InboundUdpSettings): void => {
  settings = s;
  udpListener.configure(choose);
};

/** The listener's socket has an event. */
export const onReadable = udpListener.onReadable;
