// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IPV4, IPV6 } from './ethernet.ts';
import { ICMP, TCP, UDP } from './protocols.ts';
import * as vnet from './vnet.ts';

/** 12 bytes of header and a frame of 114: 14 of Ethernet, 20 of IPv4, 80 of transport. */
const FRAME = vnet.HEADER_BYTES + 114;
const TRANSPORT = vnet.HEADER_BYTES + 34;
const tcpFrame = (): DataView<ArrayBuffer> => {
  const v = new DataView(new ArrayBuffer(FRAME));
  vnet.needChecksum(v, 0, 34, 16);
  vnet.segment(v, 0, vnet.GSO_TCPV4, 20, 54);
  return v;
};
const saneTcp = (v: DataView): boolean => vnet.sane(v, 0, FRAME, IPV4, TCP, TRANSPORT);

describe('virtio-net header', () => {
  test('is little endian, in the order of struct virtio_net_hdr_v1', () => {
    const v = tcpFrame();
    vnet.setNumBuffers(v, 0, 0x0102);
    expect(Buffer.from(v.buffer, 0, 12).toString('hex')).toBe('010136001400220010000201');
    expect([vnet.flags(v, 0), vnet.gsoType(v, 0), vnet.hdrLen(v, 0), vnet.gsoSize(v, 0)]).toEqual([1, 1, 54, 20]);
    expect([vnet.csumStart(v, 0), vnet.csumOffset(v, 0), vnet.numBuffers(v, 0)]).toEqual([34, 16, 0x0102]);
    vnet.clear(v, 0);
    expect(Buffer.from(v.buffer, 0, 12).toString('hex')).toBe('00'.repeat(12));
  });

  test('what kernels send is sane', () => {
    expect(saneTcp(tcpFrame())).toBe(true);
    const plain = new DataView(new ArrayBuffer(FRAME));
    expect(vnet.sane(plain, 0, FRAME, IPV4, ICMP, TRANSPORT)).toBe(true);
    expect(vnet.vouched(plain, 0)).toBe(false);
    vnet.setFlags(plain, 0, vnet.DATA_VALID);
    expect([saneTcp(plain), vnet.vouched(plain, 0)]).toEqual([true, true]);
    const uso = new DataView(new ArrayBuffer(FRAME));
    vnet.needChecksum(uso, 0, 34, 6);
    vnet.segment(uso, 0, vnet.GSO_UDP_L4, 10, 42);
    expect(vnet.sane(uso, 0, FRAME, IPV4, UDP, TRANSPORT)).toBe(true);
    expect(vnet.sane(uso, 0, FRAME, IPV6, UDP, TRANSPORT)).toBe(true);
    const ecn = tcpFrame();
    vnet.setGsoType(ecn, 0, vnet.GSO_TCPV4 | vnet.GSO_ECN);
    expect(saneTcp(ecn)).toBe(true);
  });

  test.each<[string, (v: DataView) => void]>([
    ['a flag that is not known', (v) => vnet.setFlags(v, 0, 5)],
    ['a superframe without partial checksum', (v) => vnet.setFlags(v, 0, 0)],
    ['a segment size of 0', (v) => vnet.setGsoSize(v, 0, 0)],
    ['headers longer than the frame', (v) => vnet.setHdrLen(v, 0, 115)],
    ['a checksum that does not start at the transport header', (v) => vnet.setCsumStart(v, 0, 33)],
    ['a checksum that starts behind the frame', (v) => vnet.setCsumStart(v, 0, 0xffff)],
    ['a checksum field where the protocol has none', (v) => vnet.setCsumOffset(v, 0, 6)],
    ['a checksum field behind the frame', (v) => vnet.setCsumOffset(v, 0, 0xffff)],
    ['TCP over IPv6 in an IPv4 packet', (v) => vnet.setGsoType(v, 0, vnet.GSO_TCPV6)],
    ['UDP segments in a TCP packet', (v) => vnet.setGsoType(v, 0, vnet.GSO_UDP_L4)],
    ['UDP fragments, which we do not offer', (v) => vnet.setGsoType(v, 0, vnet.GSO_UDP)],
    ['a type that is not known', (v) => vnet.setGsoType(v, 0, 2)],
  ])('%s is not sane', (_what, spoil) => {
    const v = tcpFrame();
    spoil(v);
    expect(saneTcp(v)).toBe(false);
  });

  test('a UDP superframe has no more segments than Linux makes, whatever their size', () => {
    const of = (bytes: number, size: number): boolean => {
      const end = TRANSPORT + 8 + bytes;
      const v = new DataView(new ArrayBuffer(end));
      vnet.needChecksum(v, 0, 34, 6);
      vnet.segment(v, 0, vnet.GSO_UDP_L4, size, 42);
      return vnet.sane(v, 0, end, IPV4, UDP, TRANSPORT);
    };
    expect([of(128, 1), of(129, 1), of(65_507, 1), of(65_507, 511), of(65_507, 512)]).toEqual([
      true,
      false,
      false,
      false,
      true,
    ]);
  });

  test('the ECN bit is for TCP only', () => {
    const v = new DataView(new ArrayBuffer(FRAME));
    vnet.needChecksum(v, 0, 34, 6);
    vnet.segment(v, 0, vnet.GSO_UDP_L4 | vnet.GSO_ECN, 10, 42);
    expect(vnet.sane(v, 0, FRAME, IPV4, UDP, TRANSPORT)).toBe(false);
  });

  test('a frame too short for the checksum field is not sane, at any length', () => {
    for (let end = 0; end < TRANSPORT + 18; end++) {
      const v = new DataView(tcpFrame().buffer.slice(0, end));
      expect(vnet.sane(v, 0, end, IPV4, TCP, TRANSPORT)).toBe(false);
    }
  });

  test('of any 12 bytes that are sane, every field is usable', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 12, maxLength: 12 }),
        fc.constantFrom(TCP, UDP, ICMP),
        (bytes, protocol) => {
          const v = new DataView(new ArrayBuffer(FRAME));
          new Uint8Array(v.buffer).set(bytes);
          if (!vnet.sane(v, 0, FRAME, IPV4, protocol, TRANSPORT)) return;
          expect(vnet.hdrLen(v, 0)).toBeLessThanOrEqual(114);
          if ((vnet.flags(v, 0) & vnet.NEEDS_CSUM) !== 0) expect(protocol).not.toBe(ICMP);
          if (vnet.gsoType(v, 0) !== vnet.GSO_NONE) expect(vnet.gsoSize(v, 0)).toBeGreaterThan(0);
        },
      ),
      { numRuns: 5000 },
    );
  });
});
