// SPDX-License-Identifier: Apache-2.0
/**
 * A transport message with a complete checksum to the guest of a flow: one packet, or IP fragments where it is larger
 * than the guest's MTU (RFC 791 §3.2, RFC 8200 §4.5). What can go out in place and with offloads does not come here.
 */
import * as fragmentation from '../flow/fragmentation.ts';
import { type Flow, guestWord, isV4, remoteWord } from '../flow/table.ts';
import * as io from '../io/io.ts';
import * as checksum from '../wire/checksum.ts';
import * as eth from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import { FRAGMENT } from '../wire/protocols.ts';
import * as out from './out.ts';
import * as station from './station.ts';

const PACKET_BYTES_MAX = 65_535;
/** RFC 791: every host takes 68 bytes; a smaller MTU could not even carry headers. */
const MTU_MIN = 68;
const FRAGMENT_HEADER_BYTES = 8;
const MORE_6 = 1;

/** Where the IP header of the packet to send is put together: the end of the scratch region, empty between two calls. */
const HEADER_AT = io.SCRATCH_END - 64;

let mtu = PACKET_BYTES_MAX;
/** Makes identifications of different starts of the program differ; they need be unique only for a packet's lifetime. */
let identification = 0;

/** `linkMtu` of the guest's interface, 0: not known, then nothing but the size of an IP packet limits. */
export const configure = (linkMtu: number): void => {
  mtu = linkMtu === 0 ? PACKET_BYTES_MAX : Math.min(Math.max(linkMtu, MTU_MIN), PACKET_BYTES_MAX);
  io.native.random(io.SCRATCH_AT, 4);
  identification = io.view.getInt32(io.SCRATCH_AT);
};

/** Whether a transport message of that size (with its header) fits one packet to the flow's guest. */
export const fitsMtu = (f: Flow, bytes: number): boolean =>
  bytes + (isV4(f) ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES) <= fragmentation.guestMtu(f, mtu);

/** The IP header of a packet from the flow's remote to its guest, at `ipAt`; `bytes` of transport message follow it. */
export const ipHeader = (
  f: Flow,
  ipAt: number,
  bytes: number,
  protocol: number,
  hopLimit: number,
  trafficClass: number,
): void => {
  const v = io.view;
  const r3 = remoteWord(f, 3);
  const g3 = guestWord(f, 3);
  if (isV4(f)) {
    station.ipv4Header(v, ipAt, ipv4.HEADER_BYTES + bytes, protocol, r3, g3, hopLimit, trafficClass);
    return;
  }
  station.ipv6Header(
    v,
    ipAt,
    bytes,
    protocol,
    remoteWord(f, 0),
    remoteWord(f, 1),
    remoteWord(f, 2),
    r3,
    guestWord(f, 0),
    guestWord(f, 1),
    guestWord(f, 2),
    g3,
    hopLimit,
    trafficClass,
    0,
  );
};

/** Sum of the pseudo-header of a message of `bytes` in either direction between the flow's guest and remote. */
export const pseudoSum = (f: Flow, protocol: number, bytes: number): number => {
  if (isV4(f)) return checksum.pseudo4(remoteWord(f, 3), guestWord(f, 3), protocol, bytes);
  let total = protocol + bytes;
  for (let i = 0; i < 4; i++) total += checksum.fold(remoteWord(f, i)) + checksum.fold(guestWord(f, i));
  return checksum.fold(total);
};

/** Sends the message of `bytes` that lies in the arena at `l4At` (not in the region of frames to send). */
export const send = (
  f: Flow,
  protocol: number,
  l4At: number,
  bytes: number,
  hopLimit: number,
  trafficClass: number,
): void => {
  ipHeader(f, HEADER_AT, bytes, protocol, hopLimit, trafficClass);
  sendBehind(HEADER_AT, isV4(f), l4At, bytes, fragmentation.guestMtu(f, mtu));
};

/**
 * The same behind the IP header that lies at `headerAt` and is right for one packet, in packets of `most` bytes at most.
 * Neither is in the region of frames to send.
 */
export const sendBehind = (headerAt: number, v4: boolean, l4At: number, bytes: number, most = mtu): void => {
  const ipBytes = v4 ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES;
  if (ipBytes + bytes > most) {
    if (v4) fragments4(headerAt, l4At, bytes, most);
    else fragments6(headerAt, l4At, bytes, most);
    return;
  }
  begin(headerAt, ipBytes, 0, bytes, v4);
  finish(ipBytes, l4At, bytes);
};

/** Where the frame at hand has its IP header. */
let ip = 0;
/** What is for a group goes to the group's own MAC (RFC 1112 §6.4, RFC 2464 §7). */
const addressGroup = (frame: number, v4: boolean): void => {
  const v = io.view;
  if (v4) {
    const dst = ipv4.dst(v, ip);
    if (dst >>> 28 === 14) eth.setDst(v, frame, 0x0100, (0x5e << 24) | (dst & 0x7fffff));
  } else if (ipv6.isMulticast(ipv6.dstWord(v, ip, 0))) eth.setDst(v, frame, 0x3333, ipv6.dstWord(v, ip, 3));
};
/** Reserves a frame of `ipBytes`, `extraBytes` and `bytes`, with a copy of the IP header. */
const begin = (headerAt: number, ipBytes: number, extraBytes: number, bytes: number, v4: boolean): void => {
  const frame = out.reserve(eth.HEADER_BYTES + ipBytes + extraBytes + bytes);
  ip = frame + eth.HEADER_BYTES;
  station.ethernet(io.view, frame, v4 ? eth.IPV4 : eth.IPV6);
  io.mem.copyWithin(ip, headerAt, headerAt + ipBytes);
  if (station.several) station.direct(io.view, frame);
  addressGroup(frame, v4);
};
const finish = (headersBytes: number, from: number, bytes: number): void => {
  io.mem.copyWithin(ip + headersBytes, from, from + bytes);
  out.commit(eth.HEADER_BYTES + headersBytes + bytes);
};

const fragments4 = (headerAt: number, l4At: number, bytes: number, mtu: number): void => {
  const v = io.view;
  identification = (identification + 1) | 0;
  // Offsets count in units of 8 bytes.
  const most = (mtu - ipv4.HEADER_BYTES) & -8;
  for (let offset = 0; offset < bytes; offset += most) {
    const part = Math.min(most, bytes - offset);
    begin(headerAt, ipv4.HEADER_BYTES, 0, part, true);
    ipv4.setTotalLength(v, ip, ipv4.HEADER_BYTES + part);
    ipv4.setId(v, ip, identification & 0xffff);
    ipv4.setFlagsAndFragment(v, ip, (offset >> 3) | (offset + part < bytes ? ipv4.MF : 0));
    ipv4.setChecksum(v, ip, checksum.ipv4HeaderChecksum(v, ip, ipv4.HEADER_BYTES));
    finish(ipv4.HEADER_BYTES, l4At + offset, part);
  }
};

const fragments6 = (headerAt: number, l4At: number, bytes: number, mtu: number): void => {
  const v = io.view;
  identification = (identification + 1) | 0;
  const headersBytes = ipv6.HEADER_BYTES + FRAGMENT_HEADER_BYTES;
  const most = (mtu - headersBytes) & -8;
  for (let offset = 0; offset < bytes; offset += most) {
    const part = Math.min(most, bytes - offset);
    begin(headerAt, ipv6.HEADER_BYTES, FRAGMENT_HEADER_BYTES, part, false);
    const extension = ip + ipv6.HEADER_BYTES;
    v.setUint8(extension, ipv6.nextHeader(v, ip));
    v.setUint8(extension + 1, 0);
    v.setUint16(extension + 2, offset | (offset + part < bytes ? MORE_6 : 0));
    v.setInt32(extension + 4, identification);
    ipv6.setNextHeader(v, ip, FRAGMENT);
    ipv6.setPayloadLength(v, ip, FRAGMENT_HEADER_BYTES + part);
    finish(headersBytes, l4At + offset, part);
  }
};
