// SPDX-License-Identifier: Apache-2.0
/** Frames as a guest sends them, for unit tests with the stand-in of controller/io: built in plain bytes, independently of controller/wire. */
import * as fake from './fake-io.ts';
import { GUEST_MAC, OUR_MAC } from './network.ts';

export const mac = (text: string): number[] => text.split(':').map((b) => Number.parseInt(b, 16));
export const ip4 = (text: string): number[] => text.split('.').map(Number);
/** Full or "::" form. */
export const ip6 = (text: string): number[] => {
  const [head = '', tail] = text.split('::');
  const groups = (s: string): number[] => (s === '' ? [] : s.split(':').map((g) => Number.parseInt(g, 16)));
  const [a, b] = [groups(head), groups(tail ?? '')];
  const all = [...a, ...new Array<number>(8 - a.length - b.length).fill(0), ...b];
  return all.flatMap((g) => [g >> 8, g & 0xff]);
};
export const u16 = (n: number): number[] => [(n >> 8) & 0xff, n & 0xff];
export const u32 = (n: number): number[] => [(n >>> 24) & 0xff, (n >> 16) & 0xff, (n >> 8) & 0xff, n & 0xff];
const inverted = (bytes: readonly number[]): number[] => u16(~fake.checksumOf(Uint8Array.from(bytes)) & 0xffff);

export const ethernet = (type: number, payload: readonly number[], dst = OUR_MAC, src = GUEST_MAC): number[] => [
  ...mac(dst),
  ...mac(src),
  ...u16(type),
  ...payload,
];
/** `checksum` null: a right one. */
export const udp4 = (
  src: string,
  dst: string,
  ports: readonly [number, number],
  data: readonly number[],
  checksum: number | null = null,
): number[] => {
  const length = 8 + data.length;
  const head = [...u16(ports[0]), ...u16(ports[1]), ...u16(length)];
  const pseudo = [...ip4(src), ...ip4(dst), 0, 17, ...u16(length)];
  const sum = checksum === null ? inverted([...pseudo, ...head, 0, 0, ...data]) : u16(checksum);
  const ip = [0x45, 0, ...u16(20 + length), 0, 0, 0x40, 0, 64, 17, 0, 0, ...ip4(src), ...ip4(dst)];
  ip.splice(10, 2, ...inverted(ip));
  return ethernet(0x0800, [...ip, ...head, ...sum, ...data]);
};
/** IPv6 packet whose upper-layer checksum, at `checksumAt` in `payload`, is filled in when `checksumAt` ≥ 0. */
export const packet6 = (
  src: string,
  dst: string,
  next: number,
  hopLimit: number,
  payload: readonly number[],
  checksumAt: number,
): number[] => {
  const body = [...payload];
  if (checksumAt >= 0) {
    const pseudo = [...ip6(src), ...ip6(dst), ...u32(body.length), 0, 0, 0, next];
    body.splice(checksumAt, 2, ...inverted([...pseudo, ...body]));
  }
  return ethernet(0x86dd, [0x60, 0, 0, 0, ...u16(body.length), next, hopLimit, ...ip6(src), ...ip6(dst), ...body]);
};

/** Where received frames lie: after room for a virtio-net header. */
export const FRAME_AT = fake.RX_AT + 64;
/** Puts a frame there, with poison behind it and the virtio-net header `vnetFlags` before it. Returns its end. */
export const place = (frame: readonly number[], vnetFlags = 0): number => {
  fake.mem.fill(0xee, FRAME_AT - 12, FRAME_AT + frame.length + 2048);
  fake.mem.fill(0, FRAME_AT - 12, FRAME_AT);
  fake.mem[FRAME_AT - 12] = vnetFlags;
  fake.mem.set(frame, FRAME_AT);
  return FRAME_AT + frame.length;
};
