// SPDX-License-Identifier: Apache-2.0
/** The flow bench for UDP: datagrams of the guest, sockets with their first datagram sent, the flows there are. For tests that mock controller/io. */
import * as flows from '../../controller/flow/table.ts';
import * as wheel from '../../controller/flow/wheel.ts';
import * as out from '../../controller/link/out.ts';
import * as activity from '../../controller/proto/udp/activity.ts';
import * as flow from '../../controller/proto/udp/flow.ts';
import { endBatch, fromTap } from '../../controller/proto/udp/from-tap.ts';
import * as group from '../../controller/proto/udp/group.ts';
import * as udp from '../../controller/proto/udp/udp.ts';
import * as fake from './fake-io.ts';
import * as bench from './flow-bench.ts';
import { u16 } from './guest-frames.ts';
import { makeNetwork } from './network.ts';

export const GUEST_PORT = 40_000;
export const REMOTE_PORT = 7;
export const UDP = 17;
export const NEEDS_CSUM = 1;
export const GSO_UDP_L4 = 5;
export const DESCRIPTORS = 20_000;

export const configure = (change: Partial<udp.UdpSettings> = {}): void =>
  udp.configure({
    linkMtu: 65_520,
    uso: true,
    singleMs: 30_000,
    streamMs: 120_000,
    descriptors: DESCRIPTORS,
    network: makeNetwork(),
    multicast: false,
    ...change,
  });

export interface Options {
  v4?: boolean;
  srcPort?: number;
  dstPort?: number;
  hopLimit?: number;
  trafficClass?: number;
  dontFragment?: boolean;
  dst?: string;
  vnet?: readonly [number, number, number];
  /** undefined: right. */
  checksum?: number;
  length?: number;
}
export const datagram = (data: Uint8Array | string, o: Options = {}): void => {
  const v4 = o.v4 ?? true;
  const payload = Buffer.from(data);
  const length = o.length ?? payload.length + 8;
  const head = [...u16(o.srcPort ?? GUEST_PORT), ...u16(o.dstPort ?? REMOTE_PORT), ...u16(length)];
  const whole = [...head, 0, 0, ...payload];
  const l4 =
    o.checksum === undefined ? bench.withChecksum(v4, UDP, whole, 6) : [...head, ...u16(o.checksum), ...payload];
  bench.deliver(fromTap, { ...o, v4, protocol: UDP, l4 });
};
/** Frames of one batch, then the batch ends. */
export const batch = (frames: () => void): void => {
  bench.newBatch();
  frames();
  endBatch();
};
export const numbered = (length: number, seed = 0): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff));
/** One flow with its socket, first datagram sent. */
export const opened = (o: Options = {}, fd = 20): fake.FakeSocket => {
  batch(() => datagram('first', o));
  const [socket] = bench.answer({ fd });
  if (socket === undefined) throw new Error('nothing was asked of the helper');
  return socket;
};
export const udpFlows = (): flows.Flow[] => {
  const found: flows.Flow[] = [];
  for (let f = 0; f < flows.highWater(); f++)
    if (flows.typeOf(f as flows.Flow) === flows.FLOW_UDP) found.push(f as flows.Flow);
  return found;
};
/** The flow, or the one with that guest port. */
export const theFlow = (guestPort?: number): flows.Flow => {
  const f = udpFlows().find((each) => guestPort === undefined || flows.guestPort(each) === guestPort);
  if (f === undefined) throw new Error('no flow');
  return f;
};
/** The peer sends one datagram on the flow. */
export const peerAnswers = (f: flows.Flow, socket: fake.FakeSocket, text = 'answer'): void => {
  socket.incoming.push({ bytes: Buffer.from(text) });
  flow.onEvent(f, fake.EPOLLIN);
};
export const expire = (ms: number): void => {
  fake.setNow(ms);
  wheel.expire(ms);
};

/** Before each test: a fresh world. */
export const begin = (): void => {
  bench.begin(1000, (f) => (flows.typeOf(f) === flows.FLOW_GROUP ? group.onTimer(f) : flow.onTimer(f)));
  bench.resetAnswers();
  bench.newBatch();
  configure();
};
/** Ends every flow. */
export const closeAll = (): void => {
  endBatch();
  for (const f of udpFlows()) activity.close(f);
  flows.endTurn();
  out.flush();
};
