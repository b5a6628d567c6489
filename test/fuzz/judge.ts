// SPDX-License-Identifier: Apache-2.0
/** What every frame to the guest must be, whatever the guest sent: sound headers, right lengths, right checksums. */
import { ETH_BYTES, layersOf, pseudo, sum } from './repair.ts';

const NEEDS_CSUM = 1;
const TCP = 6;
const UDP = 17;
const ICMP = 1;
const IGMP = 2;
const ICMPV6 = 58;
const ARP_BYTES = 28;
const FIELD_AT: Readonly<Record<number, number>> = { [TCP]: 16, [UDP]: 6, [ICMP]: 2, [IGMP]: 2, [ICMPV6]: 2 };
const OUR_MAC = '02005e005301';

const insist = (yes: boolean, what: string): void => {
  if (!yes) throw new Error(`a frame to the guest: ${what}`);
};

/** Throws unless `frame`, with the virtio-net header `header` (empty where the tap has none), is sound. `mtu`: of the link, bytes. */
export const judge = (frame: Buffer, header: Buffer, mtu: number): void => {
  insist(frame.length >= ETH_BYTES, `${frame.length} bytes`);
  insist(frame.subarray(6, 12).toString('hex') === OUR_MAC, 'not from our MAC');
  const type = frame.readUInt16BE(12);
  const gso = header.length === 0 ? 0 : (header[1] as number);
  if (type === 0x0806) {
    insist(frame.length >= ETH_BYTES + ARP_BYTES, 'short ARP');
    return;
  }
  const l = layersOf(frame, 0);
  if (l === null) throw new Error(`a frame to the guest: EtherType ${type.toString(16)}`);
  const b = frame;
  insist((b[l.ip] as number) >> 4 === (l.v4 ? 4 : 6), 'IP version');
  const stated = l.v4 ? b.readUInt16BE(l.ip + 2) : b.readUInt16BE(l.ip + 4) + 40;
  insist(stated === b.length - ETH_BYTES, `IP length ${stated} of ${b.length - ETH_BYTES}`);
  if (l.v4) insist(sum(b.subarray(l.ip, l.l4)) === 0xffff, 'IPv4 checksum');
  if (gso === 0) insist(stated <= mtu, `a packet of ${stated} for an MTU of ${mtu}`);
  if (l.fragment) return;
  const at = FIELD_AT[l.protocol];
  if (at === undefined) throw new Error(`a frame to the guest: protocol ${l.protocol}`);
  insist(l.l4 + at + 2 <= l.end, 'a cut transport header');
  if (l.protocol === UDP) insist(b.readUInt16BE(l.l4 + 4) === l.end - l.l4, 'UDP length');
  const partial = header.length > 0 && ((header[0] as number) & NEEDS_CSUM) !== 0;
  if (partial) {
    insist(header.readUInt16LE(6) === l.l4 && header.readUInt16LE(8) === at, 'checksum start and offset');
    insist(b.readUInt16BE(l.l4 + at) === pseudo(b, l), 'sum of the pseudo-header');
  } else if (l.protocol !== UDP || b.readUInt16BE(l.l4 + 6) !== 0 || !l.v4) {
    insist(
      sum(b.subarray(l.l4, l.end), l.protocol === ICMP || l.protocol === IGMP ? 0 : pseudo(b, l)) === 0xffff,
      'transport checksum',
    );
  }
  if (gso !== 0) superframe(header, partial, l.end - l.l4, mtu);
};

const superframe = (header: Buffer, partial: boolean, bytes: number, mtu: number): void => {
  const size = header.readUInt16LE(4);
  insist(partial, 'segments without checksums');
  insist(size > 0 && size < bytes && size <= mtu, `segments of ${size}`);
};
