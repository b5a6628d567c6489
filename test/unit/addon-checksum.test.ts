// SPDX-License-Identifier: Apache-2.0
/** The Internet checksum of the addon against RFC 1071 §4.1 written down word by word, on both paths. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { mem, native } from '../../controller/io/io.ts';
import { sum as specification } from '../../controller/wire/checksum.ts';
import { ARENA_BYTES } from '../../shared/abi.ts';
import { testkit } from '../support/testkit.ts';

const reference = (bytes: Uint8Array, initial: number): number => {
  let sum = initial >>> 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i] as number) * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
};

/** At an address that is as odd as the bytes' own. */
const inArena = (bytes: Uint8Array, initial: number, at = 4096 + (bytes.byteOffset & 31)): number => {
  mem.set(bytes, at);
  return native.checksum(at, bytes.length, initial);
};
const paths: [string, (bytes: Uint8Array, initial: number) => number][] = [
  ['addon', inArena],
  ['portable', testkit.checksumPortable],
];
if (testkit.checksumAvx2) paths.push(['AVX2', testkit.checksumAvx2]);

describe.each(paths)('%s', (_name, sum) => {
  test('the example of RFC 1071 §3', () => {
    expect(sum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0)).toBe(0xddf2);
  });

  test('an IPv4 header sums to all ones', () => {
    const header = Buffer.from('45000073000040004011b861c0a80001c0a800c7', 'hex');
    expect(sum(header, 0)).toBe(0xffff);
  });

  test('nothing, one byte, and zeros', () => {
    expect(sum(new Uint8Array(0), 0)).toBe(0);
    expect(sum(new Uint8Array(0), 0x12345)).toBe(0x2346);
    expect(sum(Uint8Array.of(0xab), 0)).toBe(0xab00);
    expect(sum(new Uint8Array(100), 0)).toBe(0);
  });

  test('every length from 0 to 600, with the largest carries', () => {
    const ones = new Uint8Array(600).fill(0xff);
    for (let len = 0; len <= ones.length; len++) {
      const bytes = ones.subarray(0, len);
      expect(sum(bytes, 0xffffffff | 0), `${len} bytes`).toBe(reference(bytes, 0xffffffff));
    }
  });

  test('any bytes, any length, any initial sum', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 4096, size: 'max' }),
        fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
        (bytes, initial) => sum(bytes, initial) === reference(bytes, initial),
      ),
    );
  });

  test('what the specification in TypeScript says, at every alignment', () => {
    // Random octets, and ones, whose carries go furthest.
    const random = new Uint8Array(700).map((_, i) => (i * i * 31 + 7) >> (i % 5));
    for (const bytes of [random, new Uint8Array(700).fill(0xff)]) {
      const view = new DataView(bytes.buffer);
      for (let at = 0; at < 33; at++)
        for (let len = 0; len < 300; len += at % 2 === 0 ? 7 : 11)
          expect(sum(bytes.subarray(at, at + len), 0xabcd), `${len} bytes at ${at}`).toBe(
            specification(view, at, len, 0xabcd),
          );
    }
  });

  test('the largest frame', () => {
    const frame = new Uint8Array(65_561).map((_, i) => (i * 31 + 7) & 0xff);
    expect(sum(frame, 1)).toBe(reference(frame, 1));
  });
});

test('any offset in the arena, odd ones included, and nothing beside the range', () => {
  mem.fill(0xff, 0, 8192);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 1, max: 4096 }), (bytes, at) => {
      const result = inArena(bytes, 0, at);
      mem.fill(0xff, at, at + bytes.length);
      return result === reference(bytes, 0);
    }),
  );
});

test('parts of even length add up to the whole (how headers and payload are summed apart)', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 2000 }), fc.nat(999), (bytes, half) => {
      const cut = Math.min(half * 2, bytes.length);
      const whole = inArena(bytes, 0);
      return native.checksum(4096 + cut, bytes.length - cut, native.checksum(4096, cut, 0)) === whole;
    }),
  );
});

test('the whole arena', () => {
  mem.fill(0xff);
  expect(native.checksum(0, ARENA_BYTES, 0)).toBe(0xffff);
  expect(native.checksum(0, ARENA_BYTES - 1, 1)).toBe(reference(Uint8Array.of(0xff, 0x00), 1));
  mem.fill(0);
});
