// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { describe, expect, test } from 'vitest';
import * as addr from '../wire/addr.ts';
import { parseIpv4, parseIpv6, parseMac } from './address-text.ts';

const int32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
/** Words with many zero groups, where "::" is decided. */
const sparse = fc.oneof(fc.constantFrom(0, 1, 0x10000, -1), int32);

describe('addresses', () => {
  test('MAC text round trip', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff }), int32, (high, low) => {
        expect(addr.parseMac(addr.macText(high, low))).toEqual({ high, low });
      }),
    );
    expect(addr.macText(0x02c0, 0xffee1234 | 0)).toBe('02:c0:ff:ee:12:34');
    expect(addr.parseMac('02:C0:FF:EE:12:34')).toEqual({ high: 0x02c0, low: 0xffee1234 | 0 });
  });
  test.each([
    '',
    '02:c0:ff:ee:12',
    '02:c0:ff:ee:12:34:56',
    '2:c0:ff:ee:12:34',
    '02-c0-ff-ee-12-34',
    '02:c0:ff:ee:12:3g',
  ])('%j is no MAC address', (text) => {
    expect(addr.parseMac(text)).toBeNull();
    expect(() => parseMac(text)).toThrow(RangeError);
  });

  test('IPv4 text round trip', () => {
    fc.assert(
      fc.property(int32, (word) => {
        expect(parseIpv4(addr.ipv4Text(word))).toBe(word);
      }),
    );
    expect(addr.ipv4Text(0xc0a80001 | 0)).toBe('192.168.0.1');
  });
  test.each(['', '1.2.3', '1.2.3.256', '0x1.2.3.4', '1.2.3.4 ', '::1', '1.2.3.4.5'])(
    '%j is no IPv4 address',
    (text) => {
      expect(() => parseIpv4(text)).toThrow(RangeError);
    },
  );

  test('IPv6 text is that of RFC 5952, and a round trip', () => {
    fc.assert(
      fc.property(sparse, sparse, sparse, sparse, (w0, w1, w2, w3) => {
        const text = addr.ipv6Text(w0, w1, w2, w3);
        expect(parseIpv6(text)).toEqual([w0, w1, w2, w3]);
        // ipaddr.js writes IPv4-mapped addresses in hexadecimal, too.
        expect(text).toBe(ipaddr.IPv6.parse(text).toRFC5952String());
      }),
      { numRuns: 1000 },
    );
    expect(addr.ipv6Text(0, 0, 0, 0)).toBe('::');
    expect(addr.ipv6Text(0x20010db8, 0, 0x00010000, 0)).toBe('2001:db8:0:0:1::');
    expect(addr.ipv6Text(0x20010000, 1, 0, 1)).toBe('2001:0:0:1::1');
    expect(addr.ipv6Text(0x20010000, 0x00010002, 0x00030004, 0x00050006)).toBe('2001:0:1:2:3:4:5:6');
  });
  test.each(['', '1.2.3.4', 'fe80::1%eth0', '1::2::3', 'fe80::10000'])('%j is no IPv6 address', (text) => {
    expect(() => parseIpv6(text)).toThrow(RangeError);
  });

  test('masks', () => {
    expect([0, 1, 8, 24, 31, 32].map((n) => addr.ipv4Mask(n) >>> 0)).toEqual([
      0, 0x80000000, 0xff000000, 0xffffff00, 0xfffffffe, 0xffffffff,
    ]);
    expect([0, 1, 2, 3].map((i) => addr.ipv6MaskWord(48, i) >>> 0)).toEqual([0xffffffff, 0xffff0000, 0, 0]);
    expect([0, 1, 2, 3].map((i) => addr.ipv6MaskWord(128, i))).toEqual([-1, -1, -1, -1]);
  });
});
