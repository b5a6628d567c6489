// SPDX-License-Identifier: Apache-2.0
/**
 * A bench for the protocols that have flows: packets of a guest in, a scripted helper, sockets of the stand-in, frames to
 * the guest out and taken apart again. Packets are built and read in plain bytes, independently of controller/wire.
 * For test files that mock controller/io with fake-io.ts.
 */
import { strict as assert } from 'node:assert';
import { expect } from 'vitest';
import * as flows from '../../controller/flow/table.ts';
import * as wheel from '../../controller/flow/wheel.ts';
import * as out from '../../controller/link/out.ts';
import * as station from '../../controller/link/station.ts';
import { tapLink } from '../../controller/link/tap-link.ts';
import * as connect from '../../controller/rpc/connect.ts';
import * as fake from './fake-io.ts';
import { FRAME_AT, ip4, ip6, u16 } from './guest-frames.ts';
import { makeNetwork } from './network.ts';

export const CHANNEL = 3;
export const GUEST4 = '192.0.2.10';
export const REMOTE4 = '198.51.100.7';
export const GUEST6 = '2001:db8:1:2:a::10';
export const REMOTE6 = '2001:db8:2::7';
export const SO = {
  IP_TOS: [0, 1],
  IP_TTL: [0, 2],
  IPV6_UNICAST_HOPS: [41, 16],
  IPV6_TCLASS: [41, 67],
  IP_MTU_DISCOVER: [0, 10],
  IPV6_MTU_DISCOVER: [41, 23],
} as const;

type FromTap = (frameAt: number, ipAt: number, at: number, end: number, v4: boolean) => void;

/** A fresh world; flows of the test before are ended by `closeAll`. */
export const begin = (nowMs: number, onExpire: (f: flows.Flow) => void): void => {
  fake.reset();
  fake.setNow(nowMs);
  fake.addSocket(CHANNEL);
  station.configure(makeNetwork());
  out.attach(tapLink(9, 12));
  connect.attach(CHANNEL, flows.FLOW_MAX);
  wheel.start(nowMs, onExpire);
  wheel.expire(nowMs);
};

export interface Packet {
  readonly v4: boolean;
  readonly protocol: number;
  readonly l4: ArrayLike<number>;
  readonly src?: string;
  readonly dst?: string;
  readonly hopLimit?: number;
  readonly trafficClass?: number;
  /** IPv4: false clears DF. */
  readonly dontFragment?: boolean;
  /** virtio-net header: flags, gso_type, gso_size. */
  readonly vnet?: readonly [flags: number, type: number, size: number];
}
let nextAt = FRAME_AT;
/** Forgets earlier frames of the batch: the arena's receive region is written from its start. */
export const newBatch = (): void => {
  nextAt = FRAME_AT;
};
/** Lays the packet out as a received frame, each behind the last, and hands it over as the demux does. */
export const deliver = (fromTap: FromTap, p: Packet): void => {
  const src = p.src ?? (p.v4 ? GUEST4 : GUEST6);
  const dst = p.dst ?? (p.v4 ? REMOTE4 : REMOTE6);
  const hops = p.hopLimit ?? 64;
  const tc = p.trafficClass ?? 0;
  const header = p.v4
    ? [
        0x45,
        tc,
        ...u16(20 + p.l4.length),
        0,
        0,
        p.dontFragment === false ? 0 : 0x40,
        0,
        hops,
        p.protocol,
        0,
        0,
        ...ip4(src),
        ...ip4(dst),
      ]
    : [0x60 | (tc >> 4), (tc & 15) << 4, 0, 0, ...u16(p.l4.length), p.protocol, hops, ...ip6(src), ...ip6(dst)];
  const frameAt = nextAt;
  const [flags, type, size] = p.vnet ?? [0, 0, 0];
  fake.mem.set([flags, type, 0, 0, size & 0xff, size >> 8, 0, 0, 0, 0, 0, 0], frameAt - 12);
  const ipAt = frameAt + 14;
  const at = ipAt + header.length;
  fake.mem.set(header, ipAt);
  fake.mem.set(p.l4, at);
  nextAt = (at + p.l4.length + 12 + 63) & -64;
  fromTap(frameAt, ipAt, at, at + p.l4.length, p.v4);
};

/** Sum of pseudo-header and message; 0xffff when the checksum in it holds. */
export const transportSum = (v4: boolean, src: string, dst: string, protocol: number, l4: Uint8Array): number => {
  const pseudo = v4
    ? [...ip4(src), ...ip4(dst), 0, protocol, ...u16(l4.length)]
    : [...ip6(src), ...ip6(dst), 0, 0, ...u16(l4.length), 0, 0, 0, protocol];
  return fake.checksumOf(l4, fake.checksumOf(Uint8Array.from(pseudo)));
};
/** The message with its checksum, at `checksumAt`, made right. */
export const withChecksum = (
  v4: boolean,
  protocol: number,
  l4: readonly number[],
  checksumAt: number,
  pseudo = true,
): number[] => {
  const body = [...l4];
  body.splice(checksumAt, 2, 0, 0);
  const bytes = Uint8Array.from(body);
  const sum = pseudo
    ? transportSum(v4, v4 ? GUEST4 : GUEST6, v4 ? REMOTE4 : REMOTE6, protocol, bytes)
    : fake.checksumOf(bytes);
  body.splice(checksumAt, 2, ...u16(~sum & 0xffff));
  return body;
};

interface Request {
  readonly id: number;
  readonly method: string;
  readonly params: { protocol: string; role?: string; address: string; port: number; sourcePort: number };
}
/** The requests of the batches sent so far that were not answered yet. */
let answeredBatches = 0;
export const requests = (): Request[] => {
  connect.flushRequests();
  return fake.channelSent.slice(answeredBatches).flatMap((t) => JSON.parse(t) as Request[]);
};
/** The helper answers all of them with sockets of descriptors from `fd` on, or with an errno. Returns the sockets. */
export const answer = (result: { fd: number } | { errno: number } | 'refused'): fake.FakeSocket[] => {
  connect.flushRequests();
  const sockets: fake.FakeSocket[] = [];
  for (const text of fake.channelSent.slice(answeredBatches)) {
    const fds: number[] = [];
    const replies = (JSON.parse(text) as Request[]).map(({ id }) => {
      if (result === 'refused') return { jsonrpc: '2.0', id, error: { code: -32_001, message: 'refused' } };
      if ('errno' in result) {
        return { jsonrpc: '2.0', id, error: { code: -32_000, message: 'no', data: { errno: result.errno } } };
      }
      const fd = result.fd + sockets.length;
      sockets.push(fake.addSocket(fd));
      fds.push(fd);
      return { jsonrpc: '2.0', id, result: { fd: fds.length - 1 } };
    });
    fake.channelIncoming.push({ text: JSON.stringify(replies), fds });
  }
  answeredBatches = fake.channelSent.length;
  connect.onChannelReadable();
  return sockets;
};
export const resetAnswers = (): void => {
  answeredBatches = 0;
};
/** The test took back what was sent after the first `n` batches. */
export const setAnswered = (n: number): void => {
  answeredBatches = n;
};

export interface Arrived {
  readonly v4: boolean;
  readonly src: string;
  readonly dst: string;
  readonly protocol: number;
  readonly hopLimit: number;
  readonly trafficClass: number;
  /** IPv4 only. */
  readonly flagsAndFragment: number;
  readonly id: number;
  readonly l4: Buffer;
  readonly vnet: Buffer;
}
const text4 = (b: Buffer): string => b.join('.');
const text6 = (b: Buffer): string => {
  const groups = Array.from({ length: 8 }, (_, i) => b.readUInt16BE(i * 2).toString(16));
  return groups.join(':');
};
export const full6 = (text: string): string => text6(Buffer.from(ip6(text)));

/**
 * Flushes, and takes apart every frame that reached the guest, checking what every one of them must have (by assert: an
 * expect takes as long as all of the rest).
 */
export const arrived = (): Arrived[] => {
  out.flush();
  const frames = fake.tapFrames.splice(0);
  const headers = fake.tapVnet.splice(0);
  return frames.map((frame, i) => {
    assert.equal(frame.subarray(0, 12).toString('hex'), `${expectedMac(frame)}02005e005301`);
    const v4 = frame.readUInt16BE(12) === 0x0800;
    const ip = frame.subarray(14);
    const vnet = headers[i] as Buffer;
    return v4 ? taken4(ip, vnet) : taken6(ip, vnet);
  });
};
/** The guest's, or that of the group that the packet is for (RFC 1112 §6.4, RFC 2464 §7). */
const expectedMac = (frame: Buffer): string => {
  const ip = frame.subarray(14);
  if (frame.readUInt16BE(12) === 0x0800) {
    const dst = ip.readUInt32BE(16);
    if (dst >>> 28 === 14) return `01005e${(dst & 0x7fffff).toString(16).padStart(6, '0')}`;
  } else if (ip[24] === 0xff) return `3333${ip.subarray(36, 40).toString('hex')}`;
  return '02005e005302';
};
const taken4 = (ip: Buffer, vnet: Buffer): Arrived => {
  assert.equal(ip[0], 0x45);
  assert.equal(fake.checksumOf(ip.subarray(0, 20)), 0xffff);
  assert.equal(ip.readUInt16BE(2), ip.length);
  return {
    v4: true,
    src: text4(ip.subarray(12, 16)),
    dst: text4(ip.subarray(16, 20)),
    protocol: ip[9] as number,
    hopLimit: ip[8] as number,
    trafficClass: ip[1] as number,
    flagsAndFragment: ip.readUInt16BE(6),
    id: ip.readUInt16BE(4),
    l4: ip.subarray(20),
    vnet,
  };
};
const taken6 = (ip: Buffer, vnet: Buffer): Arrived => {
  assert.equal((ip[0] as number) >> 4, 6);
  assert.equal(ip.readUInt16BE(4), ip.length - 40);
  return {
    v4: false,
    src: text6(ip.subarray(8, 24)),
    dst: text6(ip.subarray(24, 40)),
    protocol: ip[6] as number,
    hopLimit: ip[7] as number,
    trafficClass: (ip.readUInt16BE(0) >> 4) & 0xff,
    flagsAndFragment: 0,
    id: 0,
    l4: ip.subarray(40),
    vnet,
  };
};

/** What an ICMP or ICMPv6 error says, its own checksum checked. */
export interface IcmpError {
  readonly type: number;
  readonly code: number;
  readonly rest: number;
  readonly from: string;
  readonly quotedSrc: string;
  readonly quotedDst: string;
  readonly quotedProtocol: number;
  readonly quote: Buffer;
  readonly bytes: number;
}
export const icmpError = (a: Arrived): IcmpError => {
  expect(a.protocol).toBe(a.v4 ? 1 : 58);
  if (a.v4) expect(fake.checksumOf(a.l4)).toBe(0xffff);
  else {
    const pseudo = Buffer.concat([
      Buffer.from(ip6(a.src)),
      Buffer.from(ip6(a.dst)),
      Buffer.from([0, 0, ...u16(a.l4.length), 0, 0, 0, 58]),
    ]);
    expect(fake.checksumOf(a.l4, fake.checksumOf(pseudo))).toBe(0xffff);
  }
  const inner = a.v4 ? taken4(a.l4.subarray(8), a.vnet) : taken6(a.l4.subarray(8), a.vnet);
  return {
    type: a.l4[0] as number,
    code: a.l4[1] as number,
    rest: a.l4.readUInt32BE(4),
    from: a.src,
    quotedSrc: inner.src,
    quotedDst: inner.dst,
    quotedProtocol: inner.protocol,
    quote: inner.l4,
    bytes: a.l4.length + (a.v4 ? 20 : 40),
  };
};
