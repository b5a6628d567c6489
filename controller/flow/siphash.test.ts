// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const sip = await import('./siphash.ts');

const hex = (): string => {
  const out = Buffer.alloc(8);
  out.writeInt32LE(sip.hashLow(), 0);
  out.writeInt32LE(sip.hashHigh(), 4);
  return out.toString('hex');
};

/** The algorithm as its authors write it, on 64-bit integers, for any message. */
const reference = (key: Buffer, message: Buffer): string => {
  const M = (1n << 64n) - 1n;
  const rotl = (x: bigint, b: bigint): bigint => ((x << b) | (x >> (64n - b))) & M;
  const k0 = key.readBigUInt64LE(0);
  const k1 = key.readBigUInt64LE(8);
  let [v0, v1, v2, v3] = [
    k0 ^ 0x736f6d6570736575n,
    k1 ^ 0x646f72616e646f6dn,
    k0 ^ 0x6c7967656e657261n,
    k1 ^ 0x7465646279746573n,
  ];
  const round = (): void => {
    v0 = (v0 + v1) & M;
    v1 = rotl(v1, 13n) ^ v0;
    v0 = rotl(v0, 32n);
    v2 = (v2 + v3) & M;
    v3 = rotl(v3, 16n) ^ v2;
    v0 = (v0 + v3) & M;
    v3 = rotl(v3, 21n) ^ v0;
    v2 = (v2 + v1) & M;
    v1 = rotl(v1, 17n) ^ v2;
    v2 = rotl(v2, 32n);
  };
  const padded = Buffer.alloc((message.length & ~7) + 8);
  message.copy(padded);
  padded[padded.length - 1] = message.length & 0xff;
  for (let i = 0; i < padded.length; i += 8) {
    const m = padded.readBigUInt64LE(i);
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }
  v2 ^= 0xffn;
  for (let i = 0; i < 4; i++) round();
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(v0 ^ v1 ^ v2 ^ v3);
  return out.toString('hex');
};

const setMessage = (message: Buffer): void => {
  for (let i = 0; i < message.length; i += 4) sip.input[i / 4] = message.readInt32LE(i);
};
const counting = (n: number): Buffer => Buffer.from(Array.from({ length: n }, (_, i) => i));

describe('SipHash-2-4', () => {
  beforeEach(() => sip.setKey(0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c));

  // The authors' vectors: key 00 … 0f, message 00 01 02 … of the given length.
  test.each([
    [0, '310e0edd47db6f72'],
    [4, 'b7877127e09427cf'],
    [8, '6224939a79f5f593'],
    [12, 'fbe50e86bc8f1e75'],
  ])('official vector, %i bytes', (length, expected) => {
    setMessage(counting(length));
    sip.hashInput(length / 4);
    expect(hex()).toBe(expected);
  });

  test('the reference used below gives the vector of the paper, 15 bytes', () => {
    expect(reference(counting(16), counting(15))).toBe('e545be4961ca29a1');
  });

  test('equals the reference for every key and every number of words', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
        fc.integer({ min: 0, max: 16 }).chain((n) => fc.uint8Array({ minLength: n * 4, maxLength: n * 4 })),
        (keyBytes, bytes) => {
          const key = Buffer.from(keyBytes);
          const message = Buffer.from(bytes);
          sip.setKey(key.readInt32LE(0), key.readInt32LE(4), key.readInt32LE(8), key.readInt32LE(12));
          setMessage(message);
          sip.hashInput(message.length / 4);
          expect(hex()).toBe(reference(key, message));
        },
      ),
    );
  });

  test('a tuple hash is the hash of its ten words', () => {
    const words = [6, 1, -2, 3, -4, 5, 6, 7, 8, 0x1234_0035];
    sip.hashTuple(6, 1, -2, 3, -4, 5, 6, 7, 8, 0x1234_0035);
    const message = Buffer.alloc(40);
    for (const [i, w] of words.entries()) message.writeInt32LE(w, i * 4);
    expect(hex()).toBe(reference(counting(16), message));
  });

  test('the key is drawn from the kernel and not left behind', async () => {
    const { mem, SCRATCH_AT } = await import('../io/io.ts');
    sip.setKey(0, 0, 0, 0);
    const unkeyed = sip.hashTuple(1, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    sip.seed();
    expect(sip.hashTuple(1, 0, 0, 0, 0, 0, 0, 0, 0, 0)).not.toBe(unkeyed);
    expect([...mem.subarray(SCRATCH_AT, SCRATCH_AT + 16)]).toEqual(new Array(16).fill(0));
  });
});
