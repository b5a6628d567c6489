// SPDX-License-Identifier: Apache-2.0
/**
 * Makes lengths and checksums of a mutated frame right again, so that more than the first check of each layer is fuzzed.
 * Written without controller/wire: a defect there must not hide itself.
 */
export const LENGTHS = 1;
export const L4_CHECKSUM = 2;
export const IP_CHECKSUM = 4;
/** Acknowledgement numbers count from our initial sequence number, which an input can not know. */
export const RELATIVE_ACK = 8;
export const ALL = 15;

export const VNET_BYTES = 12;
export const ETH_BYTES = 14;
const TCP = 6;
const UDP = 17;
const ICMP = 1;
const IGMP = 2;
const ICMPV6 = 58;
const CHECKSUM_AT: Readonly<Record<number, number>> = { [TCP]: 16, [UDP]: 6, [ICMP]: 2, [IGMP]: 2, [ICMPV6]: 2 };

/** RFC 1071, byte by byte. */
export const sum = (bytes: Uint8Array, initial = 0): number => {
  let total = initial;
  for (let i = 0; i < bytes.length; i++) total += (i & 1) === 0 ? (bytes[i] as number) << 8 : (bytes[i] as number);
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x1_0000);
  return total;
};

export interface Layers {
  readonly v4: boolean;
  readonly ip: number;
  readonly l4: number;
  readonly protocol: number;
  readonly end: number;
  /** A part of a datagram: its transport header, if there is one, is not of this packet. */
  readonly fragment: boolean;
}

const EXTENSIONS = new Set([0, 43, 51, 60]);
/** Where things lie in a frame after `eth`, believing its fields as far as they lie in it; null: no IP. */
export const layersOf = (b: Buffer, eth: number): Layers | null => {
  const ip = eth + ETH_BYTES;
  if (b.length < ip) return null;
  const type = b.readUInt16BE(eth + 12);
  if (type === 0x0800 && b.length >= ip + 20) {
    const l4 = ip + ((b[ip] as number) & 15) * 4;
    const end = Math.min(ip + b.readUInt16BE(ip + 2), b.length);
    const fragment = (b.readUInt16BE(ip + 6) & 0x3fff) !== 0;
    return { v4: true, ip, l4, protocol: b[ip + 9] as number, end, fragment };
  }
  if (type !== 0x86dd || b.length < ip + 40) return null;
  const end = Math.min(ip + 40 + b.readUInt16BE(ip + 4), b.length);
  let protocol = b[ip + 6] as number;
  let l4 = ip + 40;
  let fragment = false;
  for (let n = 0; n < 12 && l4 + 8 <= end; n++) {
    if (protocol === 44) {
      fragment ||= (b.readUInt16BE(l4 + 2) & 0xfff9) !== 0;
      protocol = b[l4] as number;
      l4 += 8;
    } else if (EXTENSIONS.has(protocol)) {
      const units = b[l4 + 1] as number;
      const bytes = protocol === 51 ? (units + 2) * 4 : (units + 1) * 8;
      protocol = b[l4] as number;
      l4 += bytes;
    } else break;
  }
  return { v4: false, ip, l4, protocol, end, fragment };
};

/** Sum of the pseudo-header of what lies at l4. */
export const pseudo = (b: Buffer, { v4, ip, l4, protocol, end }: Layers): number =>
  sum(b.subarray(ip + (v4 ? 12 : 8), ip + (v4 ? 20 : 40)), protocol + (end - l4));

const lengths = (b: Buffer, eth: number): void => {
  const ip = eth + ETH_BYTES;
  const type = b.length >= ip ? b.readUInt16BE(eth + 12) : 0;
  if (type === 0x0800 && b.length >= ip + 20) {
    const ihl = (b[ip] as number) & 15;
    b[ip] = 0x40 | (ihl >= 5 && ip + ihl * 4 <= b.length ? ihl : 5);
    b.writeUInt16BE(Math.min(b.length - ip, 0xffff), ip + 2);
  } else if (type === 0x86dd && b.length >= ip + 40) {
    b[ip] = 0x60 | ((b[ip] as number) & 15);
    b.writeUInt16BE(Math.min(b.length - ip - 40, 0xffff), ip + 4);
  }
  const l = layersOf(b, eth);
  if (l === null || l.fragment || l.l4 + 8 > l.end) return;
  if (l.protocol === UDP) b.writeUInt16BE(Math.min(l.end - l.l4, 0xffff), l.l4 + 4);
  else if (l.protocol === TCP && l.l4 + 20 <= l.end && (b[l.l4 + 12] as number) >> 4 < 5) {
    b[l.l4 + 12] = 0x50 | ((b[l.l4 + 12] as number) & 15);
  }
};

/** Selective acknowledgements (RFC 2018 §3) name our sequence numbers, too. */
const relativeBlocks = (b: Buffer, { l4, end }: Layers, base: number): void => {
  const optionsEnd = Math.min(l4 + ((b[l4 + 12] as number) >> 4) * 4, end);
  for (let p = l4 + 20; p + 2 <= optionsEnd; ) {
    const kind = b[p] as number;
    const bytes = kind < 2 ? 1 : (b[p + 1] as number);
    if (kind === 0 || bytes === 0 || p + bytes > optionsEnd) return;
    if (kind === 5) for (let k = p + 2; k + 4 <= p + bytes; k += 4) b.writeInt32BE((b.readInt32BE(k) + base) | 0, k);
    p += bytes;
  }
};

/** Repairs what `what` says in the frame (virtio-net header first), in place. `isn`: our initial sequence number for RELATIVE_ACK. */
export const repair = (b: Buffer, what: number, isn: (guestPort: number) => number): void => {
  const eth = VNET_BYTES;
  if (b.length < eth + ETH_BYTES) return;
  if ((what & LENGTHS) !== 0) lengths(b, eth);
  const l = layersOf(b, eth);
  if (l === null) return;
  const at = CHECKSUM_AT[l.protocol];
  const whole = at !== undefined && !l.fragment && l.l4 + at + 2 <= l.end;
  if ((what & RELATIVE_ACK) !== 0 && whole && l.protocol === TCP) {
    if (((b[l.l4 + 13] as number) & 16) !== 0) {
      const base = isn(b.readUInt16BE(l.l4));
      b.writeInt32BE((b.readInt32BE(l.l4 + 8) + base) | 0, l.l4 + 8);
      relativeBlocks(b, l, base);
    }
  }
  if ((what & L4_CHECKSUM) !== 0 && whole) {
    const field = l.l4 + at;
    b.writeUInt16BE(0, field);
    const right = ~sum(b.subarray(l.l4, l.end), l.protocol === ICMP || l.protocol === IGMP ? 0 : pseudo(b, l)) & 0xffff;
    b.writeUInt16BE(l.protocol === UDP && right === 0 ? 0xffff : right, field);
  }
  if ((what & IP_CHECKSUM) !== 0 && l.v4 && l.l4 <= b.length) {
    b.writeUInt16BE(0, l.ip + 10);
    b.writeUInt16BE(~sum(b.subarray(l.ip, l.l4)) & 0xffff, l.ip + 10);
  }
};
