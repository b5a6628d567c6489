// SPDX-License-Identifier: Apache-2.0
/**
 * What a stream link makes of a frame with its virtio-net header, written down plainly: the specification that the addon's C is compared with
 * (helper/addon/segments.cc). Ethernet, IPv4 without options or IPv6 without extension headers, TCP or UDP.
 */
import * as checksum from '../../controller/wire/checksum.ts';
import * as vnet from '../../controller/wire/vnet.ts';

export interface FrameShape {
  readonly v4: boolean;
  readonly tcp: boolean;
  /** TCP options, a multiple of 4. */
  readonly optionBytes: number;
  readonly payload: Uint8Array;
  /** TCP flags. */
  readonly flags: number;
  readonly seq: number;
  readonly id: number;
  /** Payload bytes of a segment; 0: no superframe. */
  readonly segmentBytes: number;
  /** Addresses and ports. */
  readonly seed: number;
}
const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const ipBytes = (s: FrameShape): number => (s.v4 ? 20 : 40);
const transportBytes = (s: FrameShape): number => (s.tcp ? 20 + s.optionBytes : 8);
export const headersBytes = (s: FrameShape): number => 14 + ipBytes(s) + transportBytes(s);

const pseudo = (s: FrameShape, frame: Uint8Array, bytes: number): number => {
  const addresses = s.v4 ? frame.subarray(26, 34) : frame.subarray(22, 54);
  return checksum.sum(view(addresses), 0, addresses.length, (s.tcp ? 6 : 17) + bytes);
};
const checksumAt = (s: FrameShape): number => 14 + ipBytes(s) + (s.tcp ? 16 : 6);

/** Headers for `payload` bytes, IP checksum right, the transport checksum 0. */
const headers = (s: FrameShape, payload: number, seq: number, id: number, flags: number): Uint8Array => {
  const h = new Uint8Array(headersBytes(s));
  const v = view(h);
  for (let i = 0; i < 12; i++) h[i] = (s.seed * (i + 3)) & 0xff;
  v.setUint16(12, s.v4 ? 0x0800 : 0x86dd);
  const at = 14 + ipBytes(s);
  const l4 = transportBytes(s) + payload;
  if (s.v4) {
    v.setUint16(14, 0x4500);
    v.setUint16(16, 20 + l4);
    v.setUint16(18, id & 0xffff);
    v.setUint16(20, 0x4000);
    v.setUint8(22, 64);
    v.setUint8(23, s.tcp ? 6 : 17);
    for (let i = 26; i < 34; i++) h[i] = (s.seed * i) & 0xff;
    v.setUint16(24, ~checksum.sum(v, 14, 20, 0) & 0xffff);
  } else {
    v.setUint32(14, 0x60000000);
    v.setUint16(18, l4);
    v.setUint8(20, s.tcp ? 6 : 17);
    v.setUint8(21, 64);
    for (let i = 22; i < 54; i++) h[i] = (s.seed * i) & 0xff;
  }
  v.setUint16(at, s.seed & 0xffff);
  v.setUint16(at + 2, (s.seed >>> 3) & 0xffff);
  if (s.tcp) {
    v.setInt32(at + 4, seq);
    v.setInt32(at + 8, s.seed);
    v.setUint8(at + 12, (transportBytes(s) / 4) << 4);
    v.setUint8(at + 13, flags);
    v.setUint16(at + 14, 0xffee);
    h.fill(1, at + 20);
  } else v.setUint16(at + 4, l4);
  return h;
};

/** The frame as a translator commits it: virtio-net header, headers with the pseudo-header's sum, payload. */
export const frameOf = (s: FrameShape): Uint8Array => {
  const h = headers(s, s.payload.length, s.seq, s.id, s.flags);
  view(h).setUint16(checksumAt(s), pseudo(s, h, transportBytes(s) + s.payload.length));
  const out = new Uint8Array(vnet.HEADER_BYTES + h.length + s.payload.length);
  const v = view(out);
  vnet.needChecksum(v, 0, 14 + ipBytes(s), s.tcp ? 16 : 6);
  if (s.segmentBytes > 0) {
    const type = s.tcp ? (s.v4 ? vnet.GSO_TCPV4 : vnet.GSO_TCPV6) : vnet.GSO_UDP_L4;
    vnet.segment(v, 0, type, s.segmentBytes, h.length);
  }
  out.set(h, vnet.HEADER_BYTES);
  out.set(s.payload, vnet.HEADER_BYTES + h.length);
  return out;
};

/** The bytes of it on the stream. */
export const streamOf = (s: FrameShape): Uint8Array => {
  const each = s.segmentBytes > 0 ? s.segmentBytes : Math.max(s.payload.length, 1);
  const count = Math.max(Math.ceil(s.payload.length / each), 1);
  const parts: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const payload = s.payload.subarray(i * each, (i + 1) * each);
    let flags = s.flags;
    if (i < count - 1) flags &= ~0x09;
    if (i > 0) flags &= ~0x80;
    const h = headers(s, payload.length, (s.seq + i * each) | 0, s.id + i, flags);
    const whole = new Uint8Array(h.length + payload.length);
    whole.set(h);
    whole.set(payload, h.length);
    const at = 14 + ipBytes(s);
    let sum = ~checksum.sum(view(whole), at, whole.length - at, pseudo(s, whole, whole.length - at)) & 0xffff;
    if (sum === 0 && !s.tcp) sum = 0xffff;
    view(whole).setUint16(checksumAt(s), sum);
    const length = new Uint8Array(4);
    view(length).setUint32(0, whole.length);
    parts.push(length, whole);
  }
  return Buffer.concat(parts);
};
