// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex, viewOf } from '../../test/support/bytes.ts';
import * as checksum from './checksum.ts';

/** RFC 1071 §1 with numbers that can not overflow. */
const reference = (bytes: Uint8Array): number => {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i] as number) * 256 + (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total % 0x10000) + Math.floor(total / 0x10000);
  return total;
};
const int32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const short = fc.integer({ min: 0, max: 0xffff });

describe('Internet checksum', () => {
  test('RFC 1071 §3: the sum of 00 01 f2 03 f4 f5 f6 f7 is ddf2', () => {
    expect(checksum.sum(viewOf(hex('0001 f203 f4f5 f6f7')), 0, 8, 0)).toBe(0xddf2);
  });

  test('any bytes sum up as the definition says, in one part or in two', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(150), (bytes, half) => {
        const v = viewOf(bytes);
        const whole = checksum.sum(v, 0, bytes.length, 0);
        expect(whole).toBe(reference(bytes));
        const cut = Math.min(half * 2, bytes.length & ~1);
        expect(checksum.sum(v, cut, bytes.length - cut, checksum.sum(v, 0, cut, 0))).toBe(whole);
      }),
    );
  });

  test('65535 bytes of 0xff do not overflow', () => {
    const bytes = new Uint8Array(65_535).fill(0xff);
    expect(checksum.sum(viewOf(bytes), 0, bytes.length, 0xffff)).toBe(0xff00);
  });

  test('an IPv4 header gets the checksum it had on the wire, whatever the field holds', () => {
    const header = viewOf(hex('4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7'));
    expect(checksum.ipv4HeaderChecksum(header, 0, 20)).toBe(0xb861);
    header.setUint16(10, 0xffff);
    expect(checksum.ipv4HeaderChecksum(header, 0, 20)).toBe(0xb861);
    header.setUint16(10, 0xb861);
    expect(checksum.sum(header, 0, 20, 0)).toBe(0xffff);
  });

  test('pseudo-headers sum up as their bytes do', () => {
    fc.assert(
      fc.property(int32, int32, fc.nat(255), short, (src, dst, protocol, length) => {
        const v = new DataView(new ArrayBuffer(12));
        v.setInt32(0, src);
        v.setInt32(4, dst);
        v.setUint8(9, protocol);
        v.setUint16(10, length);
        expect(checksum.pseudo4(src, dst, protocol, length)).toBe(reference(new Uint8Array(v.buffer)));
      }),
    );
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.nat(255),
        short,
        (addresses, protocol, length) => {
          const v = new DataView(new ArrayBuffer(40));
          new Uint8Array(v.buffer).set(addresses);
          v.setUint32(32, length);
          v.setUint8(39, protocol);
          const bytes = new Uint8Array(v.buffer);
          expect(checksum.pseudo6(v, 0, protocol, length)).toBe(reference(bytes));
        },
      ),
    );
  });

  test('an incremental update (RFC 1624) leaves a valid checksum valid', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 12, maxLength: 12 }), short, int32, (bytes, m16, m32) => {
        const v = viewOf(bytes);
        v.setUint16(10, 0);
        v.setUint16(10, checksum.finish(checksum.sum(v, 0, 12, 0)));
        let field = checksum.update16(v.getUint16(10), v.getUint16(0), m16);
        v.setUint16(0, m16);
        field = checksum.update32(field, v.getInt32(4), m32);
        v.setInt32(4, m32);
        v.setUint16(10, field);
        // 0 and 0xffff are the same in ones' complement: with all words 0 the sum can be either.
        expect([0, 0xffff]).toContain(checksum.sum(v, 0, 12, 0));
        if (m16 !== 0 || m32 !== 0) expect(checksum.sum(v, 0, 12, 0)).toBe(0xffff);
      }),
    );
  });

  test('a UDP checksum of 0 goes out as ffff (RFC 768)', () => {
    expect(checksum.finishUdp(0xffff)).toBe(0xffff);
    expect(checksum.finishUdp(0x1234)).toBe(0xedcb);
    expect(checksum.finish(0xffff)).toBe(0);
  });
});
