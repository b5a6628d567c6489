// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex, toHex } from '../../test/support/bytes.ts';
import * as dns from './dns-name.ts';

const label = fc.stringMatching(/^[a-z0-9_-]{1,12}$/);
const name = fc.array(label, { minLength: 1, maxLength: 6 }).map((parts) => parts.join('.'));
/** Names out of few labels share suffixes. */
const related = fc
  .array(fc.constantFrom('a', 'b', 'example', 'org'), { minLength: 1, maxLength: 4 })
  .map((l) => l.join('.'));

describe('domain names', () => {
  test('one name, with or without the final dot', () => {
    const bytes = '076578616d706c65036f726700';
    expect(toHex(dns.encode('example.org') ?? hex(''))).toBe(bytes);
    expect(toHex(dns.encode('example.org.') ?? hex(''))).toBe(bytes);
  });
  test.each(['', '.', 'a..b', '.a', 'a b', 'münchen.de', 'x'.repeat(64), Array(128).fill('ab').join('.')])(
    '%j is no domain name',
    (text) => {
      expect(dns.encode(text)).toBeNull();
    },
  );
  test('labels of 63 and names of 255 bytes are the longest', () => {
    expect(dns.encode('x'.repeat(63))?.length).toBe(65);
    const longest = [63, 63, 63, 61].map((n) => 'x'.repeat(n)).join('.');
    expect(dns.encode(longest)?.length).toBe(255);
    expect(dns.encode(`${longest}x`)).toBeNull();
  });

  test('the example of RFC 3397 §2: eng.apple.com. marketing.apple.com.', () => {
    expect(toHex(dns.encodeListCompressed(['eng.apple.com.', 'marketing.apple.com.']))).toBe(
      '03656e67056170706c6503636f6d00096d61726b6574696e67c004',
    );
  });
  test('a name that was there before is one pointer', () => {
    expect(toHex(dns.encodeListCompressed(['a.b', 'A.B']))).toBe('0161016200c000');
  });

  test('lists come back as they went in, compressed or not', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(name, related), { maxLength: 12 }), (names) => {
        expect(dns.decodeList(dns.encodeList(names))).toEqual(names);
        const compressed = dns.encodeListCompressed(names);
        expect(dns.decodeList(compressed)).toEqual(names);
        expect(compressed.length).toBeLessThanOrEqual(dns.encodeList(names).length);
      }),
    );
  });
  test('names that are none are left out', () => {
    expect(dns.decodeList(dns.encodeListCompressed(['a.b', 'not a name', 'c.b']))).toEqual(['a.b', 'c.b']);
  });

  test.each([
    ['a label that runs over the end', '0361'],
    ['no final label', '0161'],
    ['half a pointer', '0161c0'],
    ['a pointer to itself', 'c000'],
    ['a pointer forwards', 'c002016100'],
    ['a reserved label type', '4161'],
  ])('%s is malformed', (_what, bytes) => {
    expect(dns.decodeList(hex(bytes))).toBeNull();
  });
  test('any bytes are read to an end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const names = dns.decodeList(bytes);
        expect(names === null || names.length <= bytes.length).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
