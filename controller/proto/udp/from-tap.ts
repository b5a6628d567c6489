// SPDX-License-Identifier: Apache-2.0
/** Datagrams of the guest (RFC 768): checked, matched with a flow, and sent by its socket or kept until it has one. */
import * as hash from '../../flow/hash.ts';
import * as pending from '../../flow/pending.ts';
import { FLOW_UDP, type Flow, NO_FLOW } from '../../flow/table.ts';
import * as io from '../../io/io.ts';
import * as reassembly from '../../link/reassembly.ts';
import * as received from '../../link/received.ts';
import { DROP, drop } from '../../obs/drops.ts';
import * as checksum from '../../wire/checksum.ts';
import * as ethernet from '../../wire/ethernet.ts';
import * as ipv4 from '../../wire/ipv4.ts';
import * as ipv6 from '../../wire/ipv6.ts';
import { UDP } from '../../wire/protocols.ts';
import * as udp from '../../wire/udp.ts';
import * as vnet from '../../wire/vnet.ts';
import * as activity from './activity.ts';
import * as errors from './errors.ts';
import * as life from './flow.ts';
import * as group from './group.ts';
import * as send from './send.ts';
import * as state from './state.ts';

/** RFC 768 and RFC 8200 §8.1: none is allowed over IPv4 only. */
const checksumHolds = (ipAt: number, at: number, bytes: number, v4: boolean): boolean => {
  const v = io.view;
  if (udp.checksum(v, at) === 0) return v4;
  const pseudo = v4
    ? checksum.pseudo4(ipv4.src(v, ipAt), ipv4.dst(v, ipAt), UDP, bytes)
    : checksum.pseudo6(v, ipAt + ipv6.SRC, UDP, bytes);
  return io.native.checksum(at, bytes, pseudo) === 0xffff;
};

/**
 * One UDP packet, or a superframe of several, from the guest: Ethernet header at `frameAt` (virtio-net header before it),
 * IP header at `ipAt`, UDP header at `at`, IP packet up to `end`. IP and virtio-net headers are checked.
 */
export const fromTap = (frameAt: number, ipAt: number, at: number, end: number, v4: boolean): void => {
  const v = io.view;
  const vnetAt = received.header(frameAt);
  const superframe = vnet.gsoType(v, vnetAt) === vnet.GSO_UDP_L4;
  const reason = fault(ipAt, at, end, v4, superframe, vnet.vouched(v, vnetAt));
  if (reason >= 0) {
    drop(reason);
    return;
  }
  const f = flowOf(frameAt, ipAt, at, v4);
  if (f === NO_FLOW) return;
  const bytes = sizeOf(at, end, superframe);
  const payload = bytes - udp.HEADER_BYTES;
  const segment = superframe ? Math.min(vnet.gsoSize(v, vnetAt), payload) : payload;
  const trafficClass = v4 ? ipv4.tos(v, ipAt) : ipv6.trafficClass(v, ipAt);
  deliver(f, at, bytes, segment, hopLimitOf(ipAt, v4), trafficClass, reassembly.isUncuttable(frameAt, ipAt, v4));
};

/** Header and data. The length field of a superframe says what its sender likes; the packet's end is what counts. */
const sizeOf = (at: number, end: number, superframe: boolean): number =>
  superframe ? end - at : udp.length(io.view, at);
const hopLimitOf = (ipAt: number, v4: boolean): number => (v4 ? ipv4.ttl(io.view, ipAt) : ipv6.hopLimit(io.view, ipAt));

/** Why the packet must be dropped, or -1. */
const fault = (ipAt: number, at: number, end: number, v4: boolean, superframe: boolean, vouched: boolean): number => {
  const v = io.view;
  if (!udp.fits(v, at, end) || udp.dstPort(v, at) === 0) return DROP['udp-malformed'];
  if (!vouched && !checksumHolds(ipAt, at, sizeOf(at, end, superframe), v4)) return DROP['udp-checksum'];
  // A packet with no hops left is on no wire (RFC 1122 §3.2.1.7).
  if (hopLimitOf(ipAt, v4) === 0) return DROP['ip-martian'];
  return -1;
};

const flowOf = (frameAt: number, ipAt: number, at: number, v4: boolean): Flow => {
  const srcPort = udp.srcPort(io.view, at);
  const dstPort = udp.dstPort(io.view, at);
  const f = hash.findFromTap(FLOW_UDP, v4, ipAt, srcPort, dstPort);
  if (f !== NO_FLOW) return f;
  const forMany = group.isForMany(ipAt, v4);
  if (forMany && !group.mayLeave(ipAt, v4)) {
    drop(DROP.multicast);
    return NO_FLOW;
  }
  // To one host, but in a frame to everybody: not for a router (RFC 1122 §3.3.6, RFC 1812 §5.3.4).
  if (!forMany && ethernet.toGroup(io.view, frameAt)) {
    drop(DROP['ip-martian']);
    return NO_FLOW;
  }
  return life.open(v4, ipAt, srcPort, dstPort, forMany);
};

const deliver = (
  f: Flow,
  at: number,
  bytes: number,
  segment: number,
  hopLimit: number,
  trafficClass: number,
  dontFragment: boolean,
): void => {
  activity.fromGuest(f);
  const phase = state.phase(f);
  if (phase === state.OPEN) {
    const data = bytes - udp.HEADER_BYTES;
    send.append(f, at + udp.HEADER_BYTES, data, segment, hopLimit, trafficClass, dontFragment);
  } else if (phase === state.REFUSED) {
    drop(DROP['flow-refused']);
    errors.refuse(f, state.errno(f), at, bytes);
  } else if (!pending.add(f, at, bytes, segment, hopLimit, trafficClass, dontFragment)) {
    drop(DROP['flow-pending-full']);
  }
};

/** Writes what is still gathered: after the last frame of a batch, before the arena's frames are overwritten. */
export const endBatch = (): void => send.flush();
