// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex, viewOf } from '../../test/support/bytes.ts';
import * as ext from './ext-header.ts';

const HBH = '00';
const TCP = 6;
/** A packet whose first extension header is of kind `first`; `chain` is everything behind the 40 bytes. */
const packet = (first: string, chain: string): DataView => {
  const tail = hex(chain);
  const header = hex(`60000000 0000 ${first} 40 ${'fe80'.padEnd(32, '0')} ${'fe81'.padEnd(32, '0')}`);
  const v = viewOf(Uint8Array.from([...header, ...tail]));
  v.setUint16(4, tail.length);
  return v;
};
const walk = (first: string, chain: string): unknown => {
  const v = packet(first, chain);
  const verdict = ext.walk(v, 0, v.byteLength);
  return verdict === ext.OK ? [ext.protocol(), ext.payloadAt()] : verdict;
};
const PADDED = '0104 00000000';

describe('extension headers (RFC 8200 §4)', () => {
  test.each<[string, string, string, unknown]>([
    ['none', '06', 'aabb', [TCP, 40]],
    ['no payload at all', '06', '', [TCP, 40]],
    ['hop-by-hop options', HBH, `06 00 ${PADDED}`, [TCP, 48]],
    ['hop-by-hop with a router alert', HBH, '3a 00 0502 0000 0100', [58, 48]],
    ['destination options of 16 bytes', '3c', `06 01 ${PADDED} 0106 000000000000`, [TCP, 56]],
    ['Pad1 up to the end', '3c', '06 00 000000000000', [TCP, 48]],
    ['a routing header that is used up', '2b', '06 02 00 00 00000000 11111111111111111111111111111111', [TCP, 64]],
    ['an authentication header: units of 4', '33', '06 04 0000 11111111 22222222 333333333333333333333333', [TCP, 64]],
    ['an atomic fragment (RFC 6946)', '2c', '06 00 0000 12345678', [TCP, 48]],
    ['several in a row', HBH, `3c 00 ${PADDED} 2c 00 ${PADDED} 11 00 0000 00000001`, [17, 64]],
    ['a first fragment', '2c', '06 00 0001 12345678', ext.FRAGMENT],
    ['a later fragment', '2c', '06 00 0008 12345678', ext.FRAGMENT],
    ['a routing header with segments left', '2b', '06 00 00 01 00000000', ext.UNSUPPORTED],
    ['no next header', '3b', '', ext.UNSUPPORTED],
    ['an unknown option that may be skipped', '3c', '06 00 1e04 00000000', [TCP, 48]],
    ['an unknown option that says discard', '3c', '06 00 4004 00000000', ext.UNSUPPORTED],
    ['a jumbo payload', HBH, '06 00 c204 00020000', ext.UNSUPPORTED],
    ['hop-by-hop options that are not first', '3c', `00 00 ${PADDED} 06 00 ${PADDED}`, ext.UNSUPPORTED],
    ['an option that runs over its header', '3c', '06 00 0105 00000000 aabbcc', ext.MALFORMED],
    ['an option type in the last byte', '3c', '06 00 0103 000000 05', ext.MALFORMED],
    ['a header that runs over the packet', '3c', '06 01 0104 00000000', ext.MALFORMED],
    ['less than 8 bytes of header', '3c', '06 00 0102 0000', ext.MALFORMED],
  ])('%s', (_what, first, chain, expected) => {
    expect(walk(first, chain)).toEqual(expected);
  });

  test.each<[string, string, string, unknown]>([
    ['an option that says discard and tell', '3c', '06 00 0100 8002 0000', [ext.UNRECOGNISED_OPTION, 44]],
    ['a routing header with segments left', '2b', '06 00 04 01 00000000', [ext.ERRONEOUS_FIELD, 42]],
    [
      'hop-by-hop options that are not first',
      '3c',
      `00 00 ${PADDED} 06 00 ${PADDED}`,
      [ext.UNRECOGNISED_NEXT_HEADER, 40],
    ],
    ['an option that says discard', '3c', '06 00 4004 00000000', -1],
    ['no next header', '3b', '', -1],
  ])('%s: what is told of it, and its place', (_what, first, chain, expected) => {
    expect(walk(first, chain)).toBe(ext.UNSUPPORTED);
    expect(ext.problemAt() < 0 ? -1 : [ext.problemCode(), ext.problemAt()]).toEqual(expected);
  });

  test('the field that names the transport protocol is found, and an atomic fragment noticed', () => {
    walk('06', 'aabb');
    expect([ext.protocolAt(), ext.isFragmented()]).toEqual([6, false]);
    walk(HBH, `2c 00 ${PADDED} fd 00 0000 12345678`);
    expect([ext.protocolAt(), ext.protocol(), ext.isFragmented()]).toEqual([48, 253, true]);
    walk('06', 'aabb');
    expect(ext.isFragmented()).toBe(false);
  });

  test('eight headers are walked, nine are not', () => {
    const options = (n: number): string => `${`3c 00 ${PADDED}`.repeat(n - 1)} 06 00 ${PADDED}`;
    expect(walk('3c', options(ext.HEADERS_MAX))).toEqual([TCP, 40 + 8 * 8]);
    expect(walk('3c', options(ext.HEADERS_MAX + 1))).toBe(ext.UNSUPPORTED);
  });

  test('truncated at any byte, a chain is malformed', () => {
    const v = packet(HBH, `3c 00 ${PADDED} 33 00 ${PADDED} 06 01 0000 11111111 22222222`);
    for (let end = 40; end < v.byteLength; end++) {
      const cut = new DataView((v.buffer as ArrayBuffer).slice(0, end));
      expect(ext.walk(cut, 0, end)).toBe(ext.MALFORMED);
    }
    expect(ext.walk(v, 0, v.byteLength)).toBe(ext.OK);
  });

  test('any bytes are walked to an end, and the payload lies within the packet', () => {
    const kind = fc.constantFrom(0, 43, 44, 51, 60);
    fc.assert(
      fc.property(
        kind,
        fc.array(fc.tuple(kind, fc.nat(3), fc.uint8Array({ maxLength: 40 })), { maxLength: 12 }),
        (first, parts) => {
          const tail = parts.flatMap(([next, units, rest]) => [next, units, ...rest]);
          const v = packet(first.toString(16).padStart(2, '0'), '');
          const bytes = Uint8Array.from([...new Uint8Array(v.buffer as ArrayBuffer), ...tail]);
          const verdict = ext.walk(viewOf(bytes), 0, bytes.length);
          expect([ext.OK, ext.MALFORMED, ext.FRAGMENT, ext.UNSUPPORTED]).toContain(verdict);
          if (verdict === ext.OK) expect(ext.payloadAt()).toBeLessThanOrEqual(bytes.length);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
