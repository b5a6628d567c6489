// SPDX-License-Identifier: Apache-2.0
/**
 * UDP and ping against the kernel: the real addon, real sockets over loopback set up as the helper does it, and a datagram
 * socket pair in the place of the tap. What the stand-in of controller/io assumes about the kernel is checked here.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Flow } from '../../controller/flow/table.ts';
import * as flows from '../../controller/flow/table.ts';
import * as wheel from '../../controller/flow/wheel.ts';
import * as io from '../../controller/io/io.ts';
import * as out from '../../controller/link/out.ts';
import * as station from '../../controller/link/station.ts';
import { tapLink } from '../../controller/link/tap-link.ts';
import * as activity from '../../controller/proto/udp/activity.ts';
import * as flow from '../../controller/proto/udp/flow.ts';
import { endBatch, fromTap } from '../../controller/proto/udp/from-tap.ts';
import * as udp from '../../controller/proto/udp/udp.ts';
import * as connect from '../../controller/rpc/connect.ts';
import { makeNetwork } from '../support/network.ts';
import { channelPair, openDescriptors, SOCK_DGRAM, testkit, udpPair, udpToClosedPort } from '../support/testkit.ts';

const SOL_IP = 0;
const SOL_IPV6 = 41;
const SOL_UDP = 17;
const IP_RECVERR = 11;
const IPV6_RECVERR = 25;
const IP_RECVTTL = 12;
const IP_TTL = 2;
const UDP_GRO = 104;
const UDP_SEGMENT = 103;
const POLLIN = 1;
const NEEDS_CSUM = 1;
const GSO_UDP_L4 = 5;

let tapEnd = -1;
const opened: number[] = [];
const keep = <T extends readonly number[]>(fds: T): T => {
  opened.push(...fds);
  return fds;
};
let descriptorsBefore = 0;

beforeAll(() => {
  descriptorsBefore = openDescriptors();
  io.native.wait(0, 0);
  station.configure(makeNetwork());
  const [tap, end] = keep(testkit.socketpair(SOCK_DGRAM));
  testkit.nonBlocking(end, true);
  tapEnd = end;
  out.attach(tapLink(tap, 12));
  const [channel] = keep(channelPair());
  connect.attach(channel, flows.FLOW_MAX);
  wheel.start(io.nowMs(), flow.onTimer);
});
afterAll(() => {
  for (let f = 0; f < flows.highWater(); f++) if (flows.typeOf(f as Flow) === flows.FLOW_UDP) activity.close(f as Flow);
  for (const fd of opened) testkit.close(fd);
  // The epoll descriptor of the addon stays with the process.
  expect(openDescriptors()).toBeLessThanOrEqual(descriptorsBefore + 1);
});
beforeEach(() =>
  udp.configure({
    linkMtu: 65_520,
    uso: true,
    singleMs: 30_000,
    streamMs: 120_000,
    descriptors: 20_000,
    network: makeNetwork(),
    multicast: false,
  }),
);

let port = 1000;
/** A datagram of the guest to 198.51.100.7, vouched for by a virtio-net header, at `at` of the receive region. */
const datagram = (at: number, data: Uint8Array, gso = 0): void => {
  const v = io.view;
  const frame = at + 64;
  const ip = frame + 14;
  const l4 = ip + 20;
  io.mem.fill(0, frame - 12, l4 + 8);
  v.setUint8(frame - 12, NEEDS_CSUM);
  if (gso !== 0) v.setUint8(frame - 11, GSO_UDP_L4);
  v.setUint16(frame - 8, gso, true);
  v.setUint8(ip, 0x45);
  v.setUint16(ip + 2, 28 + data.length);
  v.setUint8(ip + 8, 64);
  v.setUint8(ip + 9, 17);
  io.mem.set([192, 0, 2, 10, 198, 51, 100, 7], ip + 12);
  v.setUint16(l4, port);
  v.setUint16(l4 + 2, 7);
  v.setUint16(l4 + 4, 8 + data.length);
  io.mem.set(data, l4 + 8);
  fromTap(frame, ip, l4, l4 + 8 + data.length, true);
};
const theFlow = (): Flow => {
  for (let f = 0; f < flows.highWater(); f++) {
    if (flows.typeOf(f as Flow) === flows.FLOW_UDP && flows.guestPort(f as Flow) === port) return f as Flow;
  }
  throw new Error('no flow');
};
/** A flow of its own whose socket is `socket`, with the options that the helper sets. */
const open = (socket: number): Flow => {
  port++;
  testkit.setInt(socket, SOL_IP, IP_RECVERR, 1);
  testkit.setInt(socket, SOL_IP, IP_RECVTTL, 1);
  testkit.setInt(socket, SOL_UDP, UDP_GRO, 1);
  datagram(io.RX_AT, Buffer.from('first'));
  const f = theFlow();
  flow.onConnected(f, socket);
  return f;
};
const received = (fd: number): Buffer[] => {
  const all: Buffer[] = [];
  while (testkit.poll(fd, POLLIN, 200) > 0) all.push(Buffer.from(testkit.recv(fd, 65_536, 0)));
  return all;
};
/** Frames that reached the place of the tap, virtio-net header first. */
const frames = (): Buffer[] => {
  out.flush();
  const all: Buffer[] = [];
  while (testkit.poll(tapEnd, POLLIN, 0) > 0) all.push(Buffer.from(testkit.read(tapEnd, 70_000)));
  return all;
};
const numbered = (length: number, seed: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * 13 + seed) & 0xff));

describe('datagrams of the guest reach the peer as they were', () => {
  test('kept until the socket came, gathered, empty, and as superframe', () => {
    const [ours, peer] = udpPair();
    keep([peer]);
    open(ours);
    const data = [numbered(100, 1), numbered(100, 2), numbered(40, 3), Buffer.alloc(0), numbered(9, 4)];
    data.forEach((d, i) => {
      datagram(io.RX_AT + (i + 1) * 4096, d);
    });
    datagram(io.RX_AT + 32_768, numbered(3500, 5), 1000);
    endBatch();
    const expected = ['first', ...data.map((d) => d.toString('latin1'))];
    for (let at = 0; at < 3500; at += 1000)
      expected.push(
        numbered(3500, 5)
          .subarray(at, at + 1000)
          .toString('latin1'),
      );
    expect(received(peer).map((d) => d.toString('latin1'))).toEqual(expected);
  });

  test('the largest that IP can carry', () => {
    const [ours, peer] = udpPair();
    keep([peer]);
    open(ours);
    // Loopback has an MTU of 65536: with the header these are just within it.
    datagram(io.RX_AT + 4096, numbered(65_507, 1));
    endBatch();
    const got = received(peer);
    expect(got.map((d) => d.length)).toEqual([5, 65_507]);
    expect(got[1]?.equals(numbered(65_507, 1))).toBe(true);
  });

  test('its TTL is the socket’s', () => {
    const [ours, peer] = udpPair();
    keep([peer]);
    open(ours);
    expect(testkit.getInt(ours, SOL_IP, IP_TTL)).toBe(64);
    expect(received(peer).map(String)).toEqual(['first']);
  });
});

describe('datagrams of the peer reach the guest', () => {
  test('as frames with TTL and a partial checksum, without a copy', () => {
    const [ours, peer] = udpPair();
    keep([peer]);
    const f = open(ours);
    testkit.setInt(peer, SOL_IP, IP_TTL, 33);
    testkit.send(peer, Buffer.from('hello'));
    testkit.send(peer, new Uint8Array(0));
    flow.onEvent(f, io.EPOLLIN);
    const got = frames();
    expect(got.map((b) => b.subarray(12 + 14 + 28).toString())).toEqual(['hello', '']);
    for (const b of got) expect([b[0], b[12 + 14 + 8]]).toEqual([NEEDS_CSUM, 33]);
  });

  test('a segmented send of the peer arrives as one superframe', () => {
    const [ours, peer] = udpPair();
    keep([peer]);
    const f = open(ours);
    testkit.setInt(peer, SOL_UDP, UDP_SEGMENT, 1000);
    testkit.send(peer, numbered(3500, 9));
    flow.onEvent(f, io.EPOLLIN);
    const got = frames();
    expect(got.length).toBe(1);
    const b = got[0] ?? Buffer.alloc(64);
    expect([b[0], b[1], b.readUInt16LE(4)]).toEqual([NEEDS_CSUM, GSO_UDP_L4, 1000]);
    expect(b.subarray(12 + 14 + 28).equals(numbered(3500, 9))).toBe(true);
  });
});

describe('errors of the network', () => {
  test('a closed port is told to the guest, and the event stops', () => {
    const ours = udpToClosedPort();
    const f = open(ours);
    expect(testkit.poll(ours, 0, 1000)).not.toBe(0);
    flow.onEvent(f, io.EPOLLERR);
    const b = frames()[0] ?? Buffer.alloc(100);
    const icmp = b.subarray(12 + 14 + 20);
    expect([icmp[0], icmp[1]]).toEqual([3, 3]);
    // From the destination as the guest knows it, not from the loopback address that really answered.
    expect([...b.subarray(12 + 14 + 12, 12 + 14 + 20)]).toEqual([198, 51, 100, 7, 192, 0, 2, 10]);
    expect([icmp.readUInt16BE(28), icmp.readUInt16BE(30), icmp.subarray(36).toString()]).toEqual([port, 7, 'first']);
    expect(testkit.poll(ours, 0, 0)).toBe(0);
  });

  test('it fails no datagram that comes later', () => {
    const [ours, peer] = udpPair();
    const f = open(ours);
    expect(received(peer).map(String)).toEqual(['first']);
    testkit.close(peer);
    datagram(io.RX_AT, Buffer.from('lost'));
    endBatch();
    expect(testkit.poll(ours, 0, 1000)).not.toBe(0);
    // The write meets the pending error; it is told, and the write repeated: the second error is that one's own.
    datagram(io.RX_AT, Buffer.from('again'));
    endBatch();
    expect(testkit.poll(ours, 0, 1000)).not.toBe(0);
    flow.onEvent(f, io.EPOLLERR);
    expect(frames().map((b) => b.subarray(12 + 14 + 20 + 36).toString())).toEqual(['lost', 'again']);
  });

  test('the same over IPv6', () => {
    const ours = keep([udpToClosedPort(6)])[0] as number;
    testkit.setInt(ours, SOL_IPV6, IPV6_RECVERR, 1);
    testkit.send(ours, Buffer.from('x'));
    expect(testkit.poll(ours, 0, 1000)).not.toBe(0);
    expect(io.native.recvError(ours, io.SOCK_AT + 64, 1200, io.SOCK_AT)).toBe(1);
    const { col, COL } = io;
    expect([col[COL.ERR_ORIGIN], col[COL.ERR_TYPE], col[COL.ERR_CODE]]).toEqual([3, 1, 4]);
  });
});
