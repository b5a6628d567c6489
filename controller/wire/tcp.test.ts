// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesOf, hex, toHex, truncations, viewOf } from '../../test/support/bytes.ts';
import * as tcp from './tcp.ts';

/** A SYN as Linux sends it: MSS 1460, SACK permitted, timestamps, NOP, window scale 7. */
const syn = hex('c350 01bb 89abcdef 00000000 a002 faf0 1234 0000 020405b4 0402 080a 00112233 00000000 01 030307');
const options = (text: string): DataView => {
  const list = hex(text);
  const bytes = Uint8Array.from([...new Uint8Array(20), ...list, ...new Uint8Array((4 - (list.length % 4)) % 4)]);
  const v = viewOf(bytes);
  tcp.setHeaderBytes(v, 0, bytes.length);
  return v;
};
const parsed = (v: DataView): unknown[] => {
  tcp.parseOptions(v, 0, v.byteLength);
  return [tcp.mss(), tcp.windowScale(), tcp.sackPermitted()];
};

describe('TCP header', () => {
  test('is read and written', () => {
    const v = viewOf(syn);
    expect(tcp.fits(v, 0, syn.length)).toBe(true);
    expect([tcp.srcPort(v, 0), tcp.dstPort(v, 0), tcp.seq(v, 0), tcp.ack(v, 0)]).toEqual([
      50000,
      443,
      0x89abcdef | 0,
      0,
    ]);
    expect([tcp.headerBytes(v, 0), tcp.flags(v, 0), tcp.window(v, 0), tcp.checksum(v, 0), tcp.urgent(v, 0)]).toEqual([
      40,
      tcp.SYN,
      0xfaf0,
      0x1234,
      0,
    ]);
    const w = new DataView(new ArrayBuffer(20));
    tcp.setSrcPort(w, 0, 50000);
    tcp.setDstPort(w, 0, 443);
    tcp.setSeq(w, 0, 0x89abcdef | 0);
    tcp.setAck(w, 0, 0);
    tcp.setHeaderBytes(w, 0, 40);
    tcp.setFlags(w, 0, tcp.SYN);
    tcp.setWindow(w, 0, 0xfaf0);
    tcp.setChecksum(w, 0, 0x1234);
    tcp.setUrgent(w, 0, 0);
    expect(toHex(bytesOf(w))).toBe(toHex(syn.subarray(0, 20)));
  });

  test('does not fit when truncated anywhere, or with a data offset below 5', () => {
    for (const v of truncations(syn)) expect(tcp.fits(v, 0, v.byteLength)).toBe(false);
    const v = viewOf(syn);
    tcp.setHeaderBytes(v, 0, 16);
    expect(tcp.fits(v, 0, syn.length)).toBe(false);
  });
});

describe('TCP options', () => {
  test('of a SYN of Linux', () => {
    expect(parsed(viewOf(syn))).toEqual([1460, 7, true]);
  });
  test('what one segment said is forgotten by the next', () => {
    parsed(viewOf(syn));
    expect(parsed(options(''))).toEqual([0, -1, false]);
  });
  test.each([
    ['nothing after the end of the list counts', '00 020405b4', [0, -1, false]],
    ['a length of 0 ends the walk', '0402 05 00 020405b4', [0, -1, true]],
    ['a length of 1 ends the walk', '05 01 020405b4', [0, -1, false]],
    ['a length beyond the header ends the walk', '0402 02 ff 0000', [0, -1, true]],
    ['an MSS option of the wrong length is passed over', '02 06 0102 0304 0402', [0, -1, true]],
    ['an unknown option is passed over', 'fd 05 aabbcc 030302 0402', [0, 2, true]],
    ['a kind in the last byte has no length', '010101 02', [0, -1, false]],
    ['a shift above 14 counts as 14 (RFC 7323 §2.3)', '0303ff', [0, 14, false]],
  ])('%s', (_what, list, expected) => {
    expect(parsed(options(list))).toEqual(expected);
  });

  test('any bytes are walked to an end, within the header and the segment', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 60 }), fc.integer({ min: 5, max: 15 }), (bytes, words) => {
        const v = viewOf(bytes);
        tcp.setHeaderBytes(v, 0, words * 4);
        const [mss, shift] = parsed(v) as [number, number];
        expect(mss).toBeLessThanOrEqual(0xffff);
        expect(shift).toBeLessThanOrEqual(14);
      }),
      { numRuns: 2000 },
    );
  });

  test('what is put is parsed again', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 0xffff }), fc.nat(14), (mss, shift) => {
        const v = new DataView(new ArrayBuffer(28));
        expect(tcp.putWindowScale(v, tcp.putMss(v, 20, mss), shift)).toBe(28);
        tcp.setHeaderBytes(v, 0, 28);
        expect(parsed(v)).toEqual([mss, shift, false]);
      }),
    );
  });
});
