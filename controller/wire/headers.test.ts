// SPDX-License-Identifier: Apache-2.0
/** The fixed headers: known bytes are read, the same values give the same bytes back, and no truncation fits. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesOf, hex, toHex, truncations, viewOf } from '../../test/support/bytes.ts';
import * as arp from './arp.ts';
import * as eth from './ethernet.ts';
import * as icmpv4 from './icmpv4.ts';
import * as icmpv6 from './icmpv6.ts';
import * as ipv4 from './ipv4.ts';
import * as ipv6 from './ipv6.ts';
import * as udp from './udp.ts';

const blank = (n: number): DataView<ArrayBuffer> => new DataView(new ArrayBuffer(n));
const int32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const short = fc.integer({ min: 0, max: 0xffff });
const byte = fc.integer({ min: 0, max: 0xff });

describe('Ethernet', () => {
  const header = hex('ffffffffffff 02c0ffee1234 0806');
  test('is read and written', () => {
    const v = viewOf(header);
    expect(eth.fits(v, 0, 14)).toBe(true);
    expect([eth.dstHigh(v, 0), eth.dstLow(v, 0)]).toEqual([0xffff, -1]);
    expect([eth.srcHigh(v, 0), eth.srcLow(v, 0)]).toEqual([0x02c0, 0xffee1234 | 0]);
    expect([eth.etherType(v, 0), eth.toGroup(v, 0), eth.fromGroup(v, 0)]).toEqual([eth.ARP, true, false]);
    const w = blank(14);
    eth.setDst(w, 0, 0xffff, -1);
    eth.setSrc(w, 0, 0x02c0, 0xffee1234 | 0);
    eth.setEtherType(w, 0, eth.ARP);
    expect(toHex(bytesOf(w))).toBe(toHex(header));
  });
  test('does not fit when truncated', () => {
    for (const v of truncations(header)) expect(eth.fits(v, 0, v.byteLength)).toBe(false);
  });
});

describe('ARP', () => {
  const request = hex('0001 0800 06 04 0001 02c0ffee1234 0a000001 000000000000 0a000002');
  test('is read and written', () => {
    const v = viewOf(request);
    expect(arp.fits(v, 0, 28)).toBe(true);
    expect([arp.operation(v, 0), arp.senderIp(v, 0), arp.targetIp(v, 0)]).toEqual([1, 0x0a000001, 0x0a000002]);
    const w = blank(28);
    arp.setOperation(w, 0, arp.REQUEST);
    arp.setSender(w, 0, arp.senderMacHigh(v, 0), arp.senderMacLow(v, 0), 0x0a000001);
    arp.setTarget(w, 0, arp.targetMacHigh(v, 0), arp.targetMacLow(v, 0), 0x0a000002);
    expect(toHex(bytesOf(w))).toBe(toHex(request));
  });
  test('of other hardware, protocol or lengths, or truncated, does not fit', () => {
    for (const v of truncations(request)) expect(arp.fits(v, 0, v.byteLength)).toBe(false);
    for (const at of [1, 2, 4, 5]) {
      const v = viewOf(request);
      v.setUint8(at, 7);
      expect(arp.fits(v, 0, 28)).toBe(false);
    }
  });
});

describe('IPv4', () => {
  const header = hex('45 b8 0073 1234 4000 40 11 b861 c0a80001 c0a800c7');
  const packet = Uint8Array.from([...header, ...new Uint8Array(0x73 - 20)]);
  test('is read and written', () => {
    const v = viewOf(packet);
    expect(ipv4.fits(v, 0, v.byteLength)).toBe(true);
    const w = blank(20);
    ipv4.setHeaderBytes(w, 0, ipv4.headerBytes(v, 0));
    ipv4.setTos(w, 0, ipv4.tos(v, 0));
    ipv4.setTotalLength(w, 0, ipv4.totalLength(v, 0));
    ipv4.setId(w, 0, ipv4.id(v, 0));
    ipv4.setFlagsAndFragment(w, 0, ipv4.flagsAndFragment(v, 0));
    ipv4.setTtl(w, 0, ipv4.ttl(v, 0));
    ipv4.setProtocol(w, 0, ipv4.protocol(v, 0));
    ipv4.setChecksum(w, 0, ipv4.checksum(v, 0));
    ipv4.setSrc(w, 0, ipv4.src(v, 0));
    ipv4.setDst(w, 0, ipv4.dst(v, 0));
    expect(toHex(bytesOf(w))).toBe(toHex(header));
    expect([ipv4.headerBytes(v, 0), ipv4.totalLength(v, 0), ipv4.protocol(v, 0)]).toEqual([20, 0x73, 17]);
    expect([ipv4.src(v, 0), ipv4.dst(v, 0)]).toEqual([0xc0a80001 | 0, 0xc0a800c7 | 0]);
  });
  test('does not fit when truncated anywhere; padding after it does no harm', () => {
    for (const v of truncations(packet)) expect(ipv4.fits(v, 0, v.byteLength)).toBe(false);
    expect(ipv4.fits(viewOf(Uint8Array.from([...packet, 0, 0, 0])), 0, packet.length + 3)).toBe(true);
  });
  test.each([
    ['another version', 0, 0x65],
    ['a header of less than 20 bytes', 0, 0x44],
    ['options beyond the total length', 3, 0x10],
  ])('does not fit with %s', (_what, at, value) => {
    const v = viewOf(packet);
    v.setUint8(at, value);
    expect(ipv4.fits(v, 0, v.byteLength)).toBe(false);
  });
  test('DF alone is no fragment; MF or an offset is', () => {
    const v = viewOf(packet);
    expect(ipv4.isFragment(v, 0)).toBe(false);
    ipv4.setFlagsAndFragment(v, 0, ipv4.MF);
    expect(ipv4.isFragment(v, 0)).toBe(true);
    ipv4.setFlagsAndFragment(v, 0, 1);
    expect(ipv4.isFragment(v, 0)).toBe(true);
  });
  test('whatever fits can be read without leaving the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 80 }), (bytes) => {
        bytes[0] = 0x40 | ((bytes[0] as number) & 15);
        if (bytes.length > 3) bytes[2] = 0;
        const v = viewOf(bytes);
        if (!ipv4.fits(v, 0, v.byteLength)) return;
        expect(ipv4.headerBytes(v, 0)).toBeLessThanOrEqual(ipv4.totalLength(v, 0));
        expect(ipv4.totalLength(v, 0)).toBeLessThanOrEqual(v.byteLength);
        expect(() => [ipv4.src(v, 0), ipv4.dst(v, 0)]).not.toThrow();
      }),
    );
  });
});

describe('IPv6', () => {
  const header = hex('6b812345 0004 3a ff fe800000000000000000000000000001 ff0200000000000000000000000000fb');
  const packet = Uint8Array.from([...header, 1, 2, 3, 4]);
  test('is read and written', () => {
    const v = viewOf(packet);
    expect(ipv6.fits(v, 0, 44)).toBe(true);
    expect([ipv6.trafficClass(v, 0), ipv6.flowLabel(v, 0)]).toEqual([0xb8, 0x12345]);
    expect([ipv6.payloadLength(v, 0), ipv6.nextHeader(v, 0), ipv6.hopLimit(v, 0)]).toEqual([4, 58, 255]);
    const w = blank(40);
    ipv6.setClassAndLabel(w, 0, 0xb8, 0x12345);
    ipv6.setPayloadLength(w, 0, 4);
    ipv6.setNextHeader(w, 0, 58);
    ipv6.setHopLimit(w, 0, 255);
    const word = (get: typeof ipv6.srcWord): [number, number, number, number] => [
      get(v, 0, 0),
      get(v, 0, 1),
      get(v, 0, 2),
      get(v, 0, 3),
    ];
    ipv6.setSrc(w, 0, ...word(ipv6.srcWord));
    ipv6.setDst(w, 0, ...word(ipv6.dstWord));
    expect(toHex(bytesOf(w))).toBe(toHex(header));
  });
  test('traffic class and flow label stay apart', () => {
    fc.assert(
      fc.property(byte, fc.nat(0xfffff), (trafficClass, label) => {
        const v = blank(40);
        ipv6.setClassAndLabel(v, 0, trafficClass, label);
        expect([ipv6.version(v, 0), ipv6.trafficClass(v, 0), ipv6.flowLabel(v, 0)]).toEqual([6, trafficClass, label]);
      }),
    );
  });
  test('does not fit when truncated anywhere, or of another version', () => {
    for (const v of truncations(packet)) expect(ipv6.fits(v, 0, v.byteLength)).toBe(false);
    const v = viewOf(packet);
    v.setUint8(0, 0x4b);
    expect(ipv6.fits(v, 0, 44)).toBe(false);
  });
  test('kinds of address', () => {
    expect([0xfe800000, 0xfebf0000, 0xfec00000, 0x20010db8].map((w) => ipv6.isLinkLocal(w | 0))).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect([0xff020000, 0xfe800000].map((w) => ipv6.isMulticast(w | 0))).toEqual([true, false]);
    expect([ipv6.isUnspecified(0, 0, 0, 0), ipv6.isUnspecified(0, 0, 0, 1)]).toEqual([true, false]);
    expect([ipv6.isLoopback(0, 0, 0, 1), ipv6.isLoopback(1, 0, 0, 1)]).toEqual([true, false]);
  });
});

describe('UDP', () => {
  const datagram = hex('0035 d431 000b beef 616263');
  test('is read and written', () => {
    const v = viewOf(datagram);
    expect(udp.fits(v, 0, 11)).toBe(true);
    expect([udp.srcPort(v, 0), udp.dstPort(v, 0), udp.length(v, 0), udp.checksum(v, 0)]).toEqual([
      53, 0xd431, 11, 0xbeef,
    ]);
    const w = blank(8);
    udp.setSrcPort(w, 0, 53);
    udp.setDstPort(w, 0, 0xd431);
    udp.setLength(w, 0, 11);
    udp.setChecksum(w, 0, 0xbeef);
    expect(toHex(bytesOf(w))).toBe(toHex(datagram.subarray(0, 8)));
  });
  test('does not fit when truncated anywhere, or with a length below its header', () => {
    for (const v of truncations(datagram)) expect(udp.fits(v, 0, v.byteLength)).toBe(false);
    const v = viewOf(datagram);
    udp.setLength(v, 0, 7);
    expect(udp.fits(v, 0, 11)).toBe(false);
  });
});

describe('ICMP and ICMPv6', () => {
  test.each([
    ['ICMP', icmpv4],
    ['ICMPv6', icmpv6],
  ] as const)('%s: round trip of an echo header', (_name, wire) => {
    fc.assert(
      fc.property(byte, byte, short, short, short, (type, code, sum, id, sequence) => {
        const v = blank(8);
        wire.setRest(v, 0, -1);
        wire.setType(v, 0, type);
        wire.setCode(v, 0, code);
        wire.setChecksum(v, 0, sum);
        wire.setId(v, 0, id);
        wire.setSequence(v, 0, sequence);
        expect([wire.type(v, 0), wire.code(v, 0), wire.checksum(v, 0), wire.id(v, 0), wire.sequence(v, 0)]).toEqual([
          type,
          code,
          sum,
          id,
          sequence,
        ]);
      }),
    );
    for (const v of truncations(new Uint8Array(8))) expect(wire.fits(v, 0, v.byteLength)).toBe(false);
  });
  test('the MTU lies where RFC 1191 §4 and RFC 4443 §3.2 put it', () => {
    fc.assert(
      fc.property(short, int32, (mtu4, mtu6) => {
        const v4 = blank(8);
        icmpv4.setRest(v4, 0, 0);
        icmpv4.setNextHopMtu(v4, 0, mtu4);
        expect([v4.getUint16(4), v4.getUint16(6), icmpv4.nextHopMtu(v4, 0)]).toEqual([0, mtu4, mtu4]);
        const v6 = blank(8);
        icmpv6.setRest(v6, 0, mtu6);
        expect(icmpv6.mtu(v6, 0)).toBe(mtu6);
      }),
    );
  });
  test('types 133 to 137 are neighbour discovery', () => {
    expect([132, 133, 134, 135, 136, 137, 138].map(icmpv6.isNdp)).toEqual([false, true, true, true, true, true, false]);
  });
});
