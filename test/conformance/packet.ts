// SPDX-License-Identifier: Apache-2.0
/**
 * Packets by hand. Nothing of controller/wire is used here, on purpose: a mistake made the same way in writing and in reading
 * would not be seen. Every field can be given a wrong value; what is not given is right.
 *
 * Addresses are text, numbers unsigned, TCP flags letters: F S R P A U E C.
 */

export type Family = 4 | 6;

export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;
export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;

export const macBytes = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');
export const macText = (bytes: Uint8Array): string =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');

const groups = (text: string): number[] =>
  text === ''
    ? []
    : text.split(':').flatMap((part) => (part.includes('.') ? quadGroups(part) : Number.parseInt(part, 16)));
const quadGroups = (text: string): number[] => {
  const [a = 0, b = 0, c = 0, d = 0] = text.split('.').map(Number);
  return [(a << 8) | b, (c << 8) | d];
};

/** 4 or 16 bytes of an address. */
export const ipBytes = (text: string): Buffer => {
  if (!text.includes(':')) return Buffer.from(text.split('.').map(Number));
  const [head = '', tail] = text.split('::');
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const middle = tail === undefined ? [] : new Array<number>(8 - before.length - after.length).fill(0);
  const bytes = Buffer.alloc(16);
  for (const [i, group] of [...before, ...middle, ...after].entries()) bytes.writeUInt16BE(group, i * 2);
  return bytes;
};
/** Text that can be compared: IPv6 as eight groups without leading zeros, the canonical form given by ipText(ipBytes(x)). */
export const ipText = (bytes: Uint8Array): string => {
  if (bytes.length === 4) return bytes.join('.');
  const b = Buffer.from(bytes);
  return Array.from({ length: 8 }, (_, i) => b.readUInt16BE(i * 2).toString(16)).join(':');
};
/** The same address in the form that decoded packets have. */
export const canonical = (text: string): string => ipText(ipBytes(text));

/** RFC 1071: the complement of the ones' complement sum. */
export const internetChecksum = (...parts: readonly Uint8Array[]): number => {
  const bytes = Buffer.concat(parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
};

export const pseudoHeader = (src: Uint8Array, dst: Uint8Array, protocol: number, length: number): Buffer => {
  const tail = Buffer.alloc(src.length === 4 ? 4 : 8);
  if (src.length === 4) {
    tail.writeUInt8(protocol, 1);
    tail.writeUInt16BE(length, 2);
  } else {
    tail.writeUInt32BE(length, 0);
    tail.writeUInt8(protocol, 7);
  }
  return Buffer.concat([src, dst, tail]);
};

export const u8 = (...values: readonly number[]): Buffer => Buffer.from(values);
export const u16 = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 2);
  for (const [i, value] of values.entries()) bytes.writeUInt16BE(value & 0xffff, i * 2);
  return bytes;
};
export const u32 = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, i * 4);
  return bytes;
};
export const bytes = (...parts: readonly (Uint8Array | string)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));

export const ethernet = (dst: string, src: string, type: number, payload: Uint8Array): Buffer =>
  bytes(macBytes(dst), macBytes(src), u16(type), payload);

export interface Arp {
  hardware?: number;
  protocol?: number;
  hardwareBytes?: number;
  protocolBytes?: number;
  operation: number;
  senderMac: string;
  senderIp: string;
  targetMac?: string;
  targetIp: string;
}
export const arp = (a: Arp): Buffer =>
  bytes(
    u16(a.hardware ?? 1, a.protocol ?? ETHERTYPE.ipv4),
    u8(a.hardwareBytes ?? 6, a.protocolBytes ?? 4),
    u16(a.operation),
    macBytes(a.senderMac),
    ipBytes(a.senderIp),
    macBytes(a.targetMac ?? '00:00:00:00:00:00'),
    ipBytes(a.targetIp),
  );

/** Fields of either IP header; those that the family does not have are not looked at. */
export interface Ip {
  src: string;
  dst: string;
  protocol: number;
  /** Or hop limit. */
  ttl?: number;
  /** Or traffic class. */
  tos?: number;
  version?: number;
  id?: number;
  /** The three flag bits, DF = 2, MF = 1. */
  flags?: number;
  /** In bytes. */
  offset?: number;
  options?: Uint8Array;
  headerWords?: number;
  totalLength?: number;
  checksum?: number;
  payloadLength?: number;
  flowLabel?: number;
}

export const ipv4 = (ip: Ip, payload: Uint8Array): Buffer => {
  const options = ip.options ?? Buffer.alloc(0);
  const words = ip.headerWords ?? 5 + options.length / 4;
  const header = bytes(
    u8(((ip.version ?? 4) << 4) | words, ip.tos ?? 0),
    u16(
      ip.totalLength ?? 20 + options.length + payload.length,
      ip.id ?? 0,
      ((ip.flags ?? 2) << 13) | ((ip.offset ?? 0) >> 3),
    ),
    u8(ip.ttl ?? 64, ip.protocol),
    u16(0),
    ipBytes(ip.src),
    ipBytes(ip.dst),
    options,
  );
  header.writeUInt16BE(ip.checksum ?? internetChecksum(header), 10);
  return bytes(header, payload);
};

export const ipv6 = (ip: Ip, payload: Uint8Array): Buffer =>
  bytes(
    u32((((ip.version ?? 6) << 28) | ((ip.tos ?? 0) << 20) | (ip.flowLabel ?? 0)) >>> 0),
    u16(ip.payloadLength ?? payload.length),
    u8(ip.protocol, ip.ttl ?? 64),
    ipBytes(ip.src),
    ipBytes(ip.dst),
    payload,
  );

/** An IPv6 fragment header; `offset` in bytes. */
export const fragmentHeader = (next: number, id: number, offset: number, more: boolean): Buffer =>
  bytes(u8(next, 0), u16((offset & 0xfff8) | (more ? 1 : 0)), u32(id));
/** Hop-by-hop or destination options: `options` are padded to a whole header. */
export const optionsHeader = (next: number, options: Uint8Array): Buffer => {
  const length = Math.ceil((2 + options.length) / 8) * 8;
  const pad = length - 2 - options.length;
  const padding = pad === 0 ? Buffer.alloc(0) : pad === 1 ? u8(0) : bytes(u8(1, pad - 2), Buffer.alloc(pad - 2));
  return bytes(u8(next, length / 8 - 1), options, padding);
};

export interface Udp {
  srcPort: number;
  dstPort: number;
  length?: number;
  checksum?: number;
}
export const udp = (ip: Pick<Ip, 'src' | 'dst'>, u: Udp, payload: Uint8Array = Buffer.alloc(0)): Buffer => {
  const length = u.length ?? 8 + payload.length;
  const datagram = bytes(u16(u.srcPort, u.dstPort, length, 0), payload);
  const pseudo = pseudoHeader(ipBytes(ip.src), ipBytes(ip.dst), PROTOCOL.udp, datagram.length);
  datagram.writeUInt16BE(u.checksum ?? (internetChecksum(pseudo, datagram) || 0xffff), 6);
  return datagram;
};

const FLAGS = 'FSRPAUEC';
export const flagBits = (letters: string): number => [...letters].reduce((sum, c) => sum | (1 << FLAGS.indexOf(c)), 0);
export const flagText = (bits: number): string => [...FLAGS].filter((_, i) => (bits & (1 << i)) !== 0).join('');

export interface Tcp {
  srcPort: number;
  dstPort: number;
  seq: number;
  ack?: number;
  flags: string;
  window?: number;
  urgent?: number;
  options?: Uint8Array;
  /** The four bits between data offset and flags. */
  reserved?: number;
  offsetWords?: number;
  checksum?: number;
}
export const tcp = (ip: Pick<Ip, 'src' | 'dst'>, t: Tcp, payload: Uint8Array = Buffer.alloc(0)): Buffer => {
  const options = t.options ?? Buffer.alloc(0);
  const segment = bytes(
    u16(t.srcPort, t.dstPort),
    u32(t.seq, t.ack ?? 0),
    u8(((t.offsetWords ?? 5 + options.length / 4) << 4) | (t.reserved ?? 0), flagBits(t.flags)),
    u16(t.window ?? 65_535, 0, t.urgent ?? 0),
    options,
    payload,
  );
  const pseudo = pseudoHeader(ipBytes(ip.src), ipBytes(ip.dst), PROTOCOL.tcp, segment.length);
  segment.writeUInt16BE(t.checksum ?? internetChecksum(pseudo, segment), 16);
  return segment;
};

/** TCP options, padded by end-of-list to whole words. */
export interface TcpOptions {
  mss?: number;
  scale?: number;
  sackPermitted?: boolean;
  timestamps?: readonly [value: number, echo: number];
  sack?: readonly (readonly [left: number, right: number])[];
}
export const tcpOptions = (o: TcpOptions): Buffer => {
  const parts: Buffer[] = [];
  if (o.mss !== undefined) parts.push(u8(2, 4), u16(o.mss));
  if (o.scale !== undefined) parts.push(u8(3, 3, o.scale));
  if (o.sackPermitted) parts.push(u8(4, 2));
  if (o.timestamps !== undefined) parts.push(u8(8, 10), u32(...o.timestamps));
  if (o.sack !== undefined) parts.push(u8(5, 2 + o.sack.length * 8), u32(...o.sack.flat()));
  return paddedOptions(bytes(...parts));
};
export const paddedOptions = (options: Uint8Array): Buffer =>
  bytes(options, Buffer.alloc((4 - (options.length % 4)) % 4));

/** An ICMP message of either family: the pseudo-header is part of the sum in one of them only. */
export const icmp = (
  ip: Pick<Ip, 'src' | 'dst'>,
  type: number,
  code: number,
  body: Uint8Array,
  checksum?: number,
): Buffer => {
  const message = bytes(u8(type, code), u16(0), body);
  const src = ipBytes(ip.src);
  const pseudo =
    src.length === 4 ? Buffer.alloc(0) : pseudoHeader(src, ipBytes(ip.dst), PROTOCOL.icmpv6, message.length);
  message.writeUInt16BE(checksum ?? internetChecksum(pseudo, message), 2);
  return message;
};
export const echo = (id: number, sequence: number, data: Uint8Array): Buffer => bytes(u16(id, sequence), data);

/** A pattern whose every part differs from every other. */
export const pattern = (length: number, seed = 1): Buffer => {
  const out = Buffer.alloc(length);
  let x = (seed * 2_654_435_761) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    out[i] = x >>> 24;
  }
  return out;
};

/** Sequence numbers, modulo 2^32. */
export const add = (sequence: number, n: number): number => (sequence + n) >>> 0;
export const distance = (to: number, from: number): number => (to - from) | 0;
