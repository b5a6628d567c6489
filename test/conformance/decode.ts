// SPDX-License-Identifier: Apache-2.0
/**
 * What a frame says, and what is wrong with it. Independent of controller/wire, like packet.ts. `faults` must stay empty
 * for every frame that anybody gets: checksums, lengths and header fields are looked at in each.
 */
import {
  ETHERTYPE,
  type Family,
  flagText,
  internetChecksum,
  ipText,
  macText,
  PROTOCOL,
  pseudoHeader,
} from './packet.ts';

export const VNET_BYTES = 10;
const NEEDS_CSUM = 1;

export interface DecodedIp {
  readonly family: Family;
  readonly src: string;
  readonly dst: string;
  readonly ttl: number;
  readonly tos: number;
  readonly protocol: number;
  readonly id: number;
  readonly df: boolean;
  readonly fragmented: boolean;
  readonly more: boolean;
  readonly offset: number;
  readonly payload: Buffer;
  readonly length: number;
}
export interface DecodedTcp {
  readonly srcPort: number;
  readonly dstPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: string;
  readonly window: number;
  readonly mss: number | undefined;
  readonly scale: number | undefined;
  readonly sackPermitted: boolean;
  readonly timestamps: readonly [number, number] | undefined;
  readonly sack: readonly (readonly [number, number])[];
  readonly payload: Buffer;
}
export interface DecodedUdp {
  readonly srcPort: number;
  readonly dstPort: number;
  readonly checksum: number;
  readonly payload: Buffer;
}
export interface DecodedIcmp {
  readonly type: number;
  readonly code: number;
  /** The 32 bits after the checksum. */
  readonly rest: number;
  readonly body: Buffer;
  /** What follows the eight bytes, read as the packet that an error quotes. */
  readonly quoted: { readonly ip: DecodedIp; readonly srcPort: number; readonly dstPort: number } | undefined;
}
export interface DecodedArp {
  readonly operation: number;
  readonly senderMac: string;
  readonly senderIp: string;
  readonly targetMac: string;
  readonly targetIp: string;
}
export interface Decoded {
  /** performance.now() of its arrival. */
  readonly ms: number;
  readonly dstMac: string;
  readonly srcMac: string;
  readonly etherType: number;
  /** Bytes of payload a segment, when it stands for more than one; else 0. */
  readonly gsoBytes: number;
  /** Of how many fragments it was put together; 1: it came whole. */
  readonly pieces: number;
  readonly frame: Buffer;
  readonly arp?: DecodedArp;
  readonly ip?: DecodedIp;
  readonly tcp?: DecodedTcp;
  readonly udp?: DecodedUdp;
  readonly icmp?: DecodedIcmp;
  readonly faults: readonly string[];
}

interface Reading {
  faults: string[];
  /** The transport checksum is left to the device that sends it. */
  partial: boolean;
}

const readIpv4 = (p: Buffer, r: Reading | null): DecodedIp | null => {
  if (p.length < 20) return null;
  const headerBytes = ((p[0] ?? 0) & 15) * 4;
  const total = p.readUInt16BE(2);
  if (headerBytes < 20 || p.length < headerBytes) return null;
  if (r !== null) {
    if (total > p.length) r.faults.push(`IPv4 total length ${total} of ${p.length}`);
    if (internetChecksum(p.subarray(0, headerBytes)) !== 0) r.faults.push('IPv4 header checksum');
    if (p[8] === 0) r.faults.push('TTL 0');
  }
  const field = p.readUInt16BE(6);
  const offset = (field & 0x1fff) * 8;
  const more = (field & 0x2000) !== 0;
  return {
    family: 4,
    src: ipText(p.subarray(12, 16)),
    dst: ipText(p.subarray(16, 20)),
    ttl: p[8] ?? 0,
    tos: p[1] ?? 0,
    protocol: p[9] ?? 0,
    id: p.readUInt16BE(4),
    df: (field & 0x4000) !== 0,
    fragmented: more || offset > 0,
    more,
    offset,
    payload: p.subarray(headerBytes, Math.max(headerBytes, total)),
    length: total,
  };
};

const readIpv6 = (p: Buffer, r: Reading | null): DecodedIp | null => {
  if (p.length < 40) return null;
  const length = p.readUInt16BE(4);
  if (r !== null && length > p.length - 40) r.faults.push(`IPv6 payload length ${length} of ${p.length - 40}`);
  let protocol = p[6] ?? 0;
  let at = 40;
  let id = 0;
  let offset = 0;
  let more = false;
  let fragmented = false;
  for (;;) {
    if (protocol === 44 && p.length >= at + 8) {
      const field = p.readUInt16BE(at + 2);
      offset = field & 0xfff8;
      more = (field & 1) !== 0;
      fragmented = offset > 0 || more;
      id = p.readUInt32BE(at + 4);
      protocol = p[at] ?? 0;
      at += 8;
    } else if ((protocol === 0 || protocol === 60 || protocol === 43) && p.length >= at + 8) {
      protocol = p[at] ?? 0;
      at += ((p[at + 1] ?? 0) + 1) * 8;
    } else break;
  }
  return {
    family: 6,
    src: ipText(p.subarray(8, 24)),
    dst: ipText(p.subarray(24, 40)),
    ttl: p[7] ?? 0,
    tos: (p.readUInt16BE(0) >> 4) & 0xff,
    protocol,
    id,
    df: true,
    fragmented,
    more,
    offset,
    payload: p.subarray(at, 40 + length),
    length: 40 + length,
  };
};

const addressBytes = (p: Buffer, family: Family): [Buffer, Buffer] =>
  family === 4 ? [p.subarray(12, 16), p.subarray(16, 20)] : [p.subarray(8, 24), p.subarray(24, 40)];

/** A partial checksum is the pseudo-header's sum, to be finished by the device; a whole one makes the sum all ones. */
const checksumFault = (packet: Buffer, ip: DecodedIp, at: number, partial: boolean, protocol: number): boolean => {
  const [src, dst] = addressBytes(packet, ip.family);
  const pseudo = pseudoHeader(src, dst, protocol, ip.payload.length);
  if (!partial) return internetChecksum(pseudo, ip.payload) !== 0;
  return ip.payload.readUInt16BE(at) !== (~internetChecksum(pseudo) & 0xffff);
};

const readTcp = (packet: Buffer, ip: DecodedIp, r: Reading): DecodedTcp | undefined => {
  const p = ip.payload;
  const header = p.length < 20 ? 0 : ((p[12] ?? 0) >> 4) * 4;
  if (header < 20 || header > p.length) {
    r.faults.push('TCP header');
    return undefined;
  }
  if (checksumFault(packet, ip, 16, r.partial, PROTOCOL.tcp)) r.faults.push('TCP checksum');
  if (((p[12] ?? 0) & 15) !== 0) r.faults.push('TCP reserved bits');
  let mss: number | undefined;
  let scale: number | undefined;
  let sackPermitted = false;
  let timestamps: readonly [number, number] | undefined;
  const sack: (readonly [number, number])[] = [];
  for (let at = 20; at < header; ) {
    const kind = p[at] ?? 0;
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = p[at + 1] ?? 0;
    if (length < 2 || at + length > header) {
      r.faults.push('TCP options');
      break;
    }
    if (kind === 2) mss = p.readUInt16BE(at + 2);
    if (kind === 3) scale = p[at + 2];
    if (kind === 4) sackPermitted = true;
    if (kind === 5) for (let b = at + 2; b < at + length; b += 8) sack.push([p.readUInt32BE(b), p.readUInt32BE(b + 4)]);
    if (kind === 8) timestamps = [p.readUInt32BE(at + 2), p.readUInt32BE(at + 6)];
    at += length;
  }
  return {
    srcPort: p.readUInt16BE(0),
    dstPort: p.readUInt16BE(2),
    seq: p.readUInt32BE(4),
    ack: p.readUInt32BE(8),
    flags: flagText(p[13] ?? 0),
    window: p.readUInt16BE(14),
    mss,
    scale,
    sackPermitted,
    timestamps,
    sack,
    payload: p.subarray(header),
  };
};

const readUdp = (packet: Buffer, ip: DecodedIp, r: Reading): DecodedUdp | undefined => {
  const p = ip.payload;
  if (p.length < 8) {
    r.faults.push('UDP header');
    return undefined;
  }
  if (p.readUInt16BE(4) !== p.length) r.faults.push(`UDP length ${p.readUInt16BE(4)} of ${p.length}`);
  const checksum = p.readUInt16BE(6);
  if (checksum === 0 ? ip.family === 6 : checksumFault(packet, ip, 6, r.partial, PROTOCOL.udp))
    r.faults.push('UDP checksum');
  return { srcPort: p.readUInt16BE(0), dstPort: p.readUInt16BE(2), checksum, payload: p.subarray(8) };
};

const readIcmp = (packet: Buffer, ip: DecodedIp, r: Reading): DecodedIcmp | undefined => {
  const p = ip.payload;
  if (p.length < 8) {
    r.faults.push('ICMP header');
    return undefined;
  }
  const [src, dst] = addressBytes(packet, ip.family);
  const pseudo = ip.family === 4 ? Buffer.alloc(0) : pseudoHeader(src, dst, PROTOCOL.icmpv6, p.length);
  if (internetChecksum(pseudo, p) !== 0) r.faults.push('ICMP checksum');
  const inner = p.subarray(8);
  const quotedIp = (inner[0] ?? 0) >> 4 === 4 ? readIpv4(inner, null) : readIpv6(inner, null);
  const quoted =
    quotedIp === null || quotedIp.payload.length < 4
      ? undefined
      : { ip: quotedIp, srcPort: quotedIp.payload.readUInt16BE(0), dstPort: quotedIp.payload.readUInt16BE(2) };
  return { type: p[0] ?? 0, code: p[1] ?? 0, rest: p.readUInt32BE(4), body: p.subarray(4), quoted };
};

const readArp = (p: Buffer): DecodedArp | undefined =>
  p.length < 28 || p.readUInt32BE(0) !== 0x00010800 || p.readUInt16BE(4) !== 0x0604
    ? undefined
    : {
        operation: p.readUInt16BE(6),
        senderMac: macText(p.subarray(8, 14)),
        senderIp: ipText(p.subarray(14, 18)),
        targetMac: macText(p.subarray(18, 24)),
        targetIp: ipText(p.subarray(24, 28)),
      };

/** Reads a frame with its virtio-net header of packet(7) before it; `pieces` when it was put together of fragments. */
export const decode = (vnet: Buffer, frame: Buffer, pieces = 1): Decoded => {
  const etherType = frame.readUInt16BE(12);
  const base = {
    ms: performance.now(),
    dstMac: macText(frame.subarray(0, 6)),
    srcMac: macText(frame.subarray(6, 12)),
    etherType,
    // struct virtio_net_hdr, in the host's byte order: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
    gsoBytes: vnet[1] === 0 ? 0 : vnet.readUInt16LE(4),
    pieces,
    frame,
  };
  const r: Reading = { faults: [], partial: ((vnet[0] ?? 0) & NEEDS_CSUM) !== 0 };
  const packet = frame.subarray(14);
  if (etherType === ETHERTYPE.arp) {
    const arp = readArp(packet);
    return arp === undefined ? { ...base, faults: ['ARP'] } : { ...base, arp, faults: [] };
  }
  const ip =
    etherType === ETHERTYPE.ipv4 ? readIpv4(packet, r) : etherType === ETHERTYPE.ipv6 ? readIpv6(packet, r) : null;
  if (ip === null) return { ...base, faults: [`EtherType ${etherType.toString(16)} or header`] };
  if (ip.fragmented) return { ...base, ip, faults: r.faults };
  const tcp = ip.protocol === PROTOCOL.tcp ? readTcp(packet, ip, r) : undefined;
  const udp = ip.protocol === PROTOCOL.udp ? readUdp(packet, ip, r) : undefined;
  const isIcmp = ip.protocol === (ip.family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6);
  const icmp = isIcmp ? readIcmp(packet, ip, r) : undefined;
  return { ...base, ip, ...(tcp && { tcp }), ...(udp && { udp }), ...(icmp && { icmp }), faults: r.faults };
};

/** One line for a person who reads a failure. */
export const describeFrame = (d: Decoded): string => {
  const wrong = d.faults.length > 0 ? ` WRONG: ${d.faults.join(', ')}` : '';
  if (d.arp)
    return `ARP ${d.arp.operation === 1 ? 'who-has' : `op ${d.arp.operation}`} ${d.arp.senderIp} > ${d.arp.targetIp}${wrong}`;
  if (!d.ip) return `EtherType ${d.etherType.toString(16)}, ${d.frame.length} bytes${wrong}`;
  const way = `${d.ip.src} > ${d.ip.dst}`;
  if (d.tcp) {
    const { srcPort, dstPort, flags, seq, ack, window, payload } = d.tcp;
    return `${way} TCP ${srcPort} > ${dstPort} [${flags}] seq ${seq} ack ${ack} win ${window} len ${payload.length}${wrong}`;
  }
  if (d.udp) return `${way} UDP ${d.udp.srcPort} > ${d.udp.dstPort} len ${d.udp.payload.length}${wrong}`;
  if (d.icmp) return `${way} ICMP type ${d.icmp.type} code ${d.icmp.code} len ${d.ip.payload.length}${wrong}`;
  const part = d.ip.fragmented ? ` fragment ${d.ip.offset}+${d.ip.payload.length}${d.ip.more ? '…' : ''}` : '';
  return `${way} protocol ${d.ip.protocol}${part}${wrong}`;
};
