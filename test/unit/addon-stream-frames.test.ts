// SPDX-License-Identifier: Apache-2.0
/** Frames over a stream socket pair, compared with the plain specification of test/support/segments.ts; every place a write can stop. */
import { constants } from 'node:os';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import * as vnet from '../../controller/wire/vnet.ts';
import { type FrameShape, frameOf, headersBytes, streamOf } from '../support/segments.ts';
import { SOCK_NONBLOCK, SOCK_STREAM, testkit } from '../support/testkit.ts';

const { native, mem, col, COL } = io;
const { EAGAIN, EPIPE } = constants.errno;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;

const bytesOf = (length: number, seed: number): Uint8Array => {
  const out = new Uint8Array(length);
  for (let i = 0, x = seed | 1; i < length; i++) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) | 0;
    out[i] = x >>> 16;
  }
  return out;
};
const shape = (changes: Partial<FrameShape> = {}): FrameShape => ({
  v4: true,
  tcp: true,
  optionBytes: 0,
  payload: bytesOf(5000, 1),
  flags: 0x10,
  seq: 1_000_000,
  id: 0,
  segmentBytes: 1448,
  seed: 77,
  ...changes,
});

/** Puts frames where translators do; returns how many. */
const commit = (...frames: Uint8Array[]): number => {
  let at: number = io.OUT_AT;
  frames.forEach((frame, i) => {
    mem.set(frame, at);
    col[COL.OUT_AT + i] = at;
    col[COL.OUT_LEN + i] = frame.length;
    at = (at + frame.length + 63) & -64;
  });
  return frames.length;
};

let ours = -1;
let guest = -1;
beforeEach(() => {
  [ours, guest] = testkit.socketpair(SOCK_STREAM | SOCK_NONBLOCK);
});
afterEach(() => {
  native.close(ours);
  native.close(guest);
});
const drain = (): Uint8Array => {
  const parts: Uint8Array[] = [];
  for (;;) {
    try {
      const part = testkit.read(guest, 1 << 20);
      if (part.length === 0) break;
      parts.push(part);
    } catch {
      break;
    }
  }
  return Buffer.concat(parts);
};
/** Sends all of `n` frames, reading whenever the socket is full. */
const sendAll = (n: number): Uint8Array => {
  const parts: Uint8Array[] = [];
  for (let from = 0, skip = 0; from < n; skip = col[COL.STREAM_SKIP] as number) {
    from += native.writeStreamFrames(ours, from, n, skip);
    expect(from === n ? 0 : EAGAIN).toBe(col[COL.ERRNO]);
    const part = drain();
    expect(from === n || part.length > 0).toBe(true);
    parts.push(part);
  }
  return Buffer.concat(parts);
};
const same = (got: Uint8Array, want: Uint8Array): void => {
  expect(Buffer.compare(got, want), `${got.length} bytes, ${want.length} expected`).toBe(0);
};

describe('what becomes of a frame', () => {
  const arbitrary = fc
    .record({
      v4: fc.boolean(),
      tcp: fc.boolean(),
      options: fc.integer({ min: 0, max: 10 }),
      length: fc.oneof(fc.integer({ min: 0, max: 64 }), fc.integer({ min: 0, max: 65_000 })),
      flags: fc.integer({ min: 0, max: 255 }),
      seq: fc.integer(),
      id: fc.integer({ min: 0, max: 65_535 }),
      segment: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 100 }), fc.integer({ min: 100, max: 9000 })),
      seed: fc.integer({ min: 1, max: 1 << 30 }),
    })
    .map((a) =>
      shape({
        v4: a.v4,
        tcp: a.tcp,
        optionBytes: a.tcp ? a.options * 4 : 0,
        payload: bytesOf(a.segment > 0 && a.segment < 20 ? Math.min(a.length, 4000) : a.length, a.seed),
        flags: a.flags,
        seq: a.seq,
        id: a.id,
        // Nothing to cut is no superframe.
        segmentBytes: a.length === 0 ? 0 : a.segment,
        seed: a.seed,
      }),
    );

  test('equals the specification, many frames a call', () => {
    fc.assert(
      fc.property(fc.array(arbitrary, { minLength: 1, maxLength: 12 }), (shapes) => {
        const n = commit(...shapes.map(frameOf));
        same(sendAll(n), Buffer.concat(shapes.map(streamOf)));
      }),
      { numRuns: 150 },
    );
  });

  test('a frame that asks for nothing goes as it is', () => {
    const frame = Buffer.concat([new Uint8Array(12), bytesOf(60, 3)]);
    commit(frame);
    same(sendAll(1), Buffer.concat([Uint8Array.of(0, 0, 0, 60), frame.subarray(12)]));
  });

  test('a UDP checksum that comes to 0 is sent as 0xffff', () => {
    // The payload that makes the sum full: the complement of the checksum of the same with zeros in its place.
    const zeros = shape({ tcp: false, segmentBytes: 0, payload: new Uint8Array(2) });
    const sent = Buffer.from(streamOf(zeros));
    const payload = new Uint8Array(2);
    new DataView(payload.buffer).setUint16(0, sent.readUInt16BE(4 + 34 + 6));
    const full = shape({ tcp: false, segmentBytes: 0, payload });
    commit(frameOf(full));
    const got = Buffer.from(sendAll(1));
    expect(got.readUInt16BE(4 + 34 + 6)).toBe(0xffff);
    same(got, streamOf(full));
  });
});

describe('a write that stops in the middle', () => {
  const shapes = [
    shape({ segmentBytes: 0, payload: bytesOf(30, 5) }),
    shape({ v4: false, payload: bytesOf(150, 6), segmentBytes: 40, optionBytes: 12, flags: 0x99 }),
    shape({ tcp: false, payload: bytesOf(100, 7), segmentBytes: 33, id: 65_535 }),
    shape({ segmentBytes: 0, payload: new Uint8Array(0) }),
  ];
  const want = Buffer.concat(shapes.map(streamOf));
  const lengths = shapes.map((one) => streamOf(one).length);

  test('goes on at any byte', () => {
    for (let at = 0; at < want.length; at++) {
      let first = 0;
      let skip = at;
      while (skip >= (lengths[first] as number)) skip -= lengths[first++] as number;
      const n = commit(...shapes.map(frameOf));
      // As after a write that stopped there: the frame in question was looked at before.
      if (at % 2 === 1) sendAll(n);
      expect(native.writeStreamFrames(ours, first, n, skip), `at ${at}`).toBe(n - first);
      same(drain(), want.subarray(at));
    }
  });

  test('leaves the rest to the next one, whatever the socket holds', () => {
    const large = [
      shape({ payload: bytesOf(60_000, 8), segmentBytes: 1000 }),
      shape({ payload: bytesOf(64_000, 9), segmentBytes: 0 }),
      shape({ v4: false, payload: bytesOf(65_000, 10), segmentBytes: 1428 }),
      shape({ tcp: false, payload: bytesOf(40_000, 11), segmentBytes: 700 }),
    ];
    for (const room of [1, 8192, 20_000, 100_000]) {
      testkit.setInt(ours, SOL_SOCKET, SO_SNDBUF, room);
      const n = commit(...large.map(frameOf), ...large.map(frameOf));
      const whole = Buffer.concat(large.map(streamOf));
      same(sendAll(n), Buffer.concat([whole, whole]));
    }
  });

  test('by a guest that has closed, is told by the errno', () => {
    native.close(guest);
    const n = commit(...shapes.map(frameOf));
    expect(native.writeStreamFrames(ours, 0, n, 0)).toBe(0);
    expect(col[COL.ERRNO]).toBe(EPIPE);
    guest = testkit.socketpair(SOCK_STREAM)[0];
  });
});

describe('a header that asks for what cannot be', () => {
  const broken = (change: (frame: Uint8Array, v: DataView) => void, of = shape()): (() => void) => {
    const frame = frameOf(of);
    change(frame, new DataView(frame.buffer));
    return () => {
      commit(frame);
      expect(() => native.writeStreamFrames(ours, 0, 1, 0)).toThrow(RangeError);
      expect(drain()).toHaveLength(0);
    };
  };
  const plain = shape({ segmentBytes: 0 });
  test(
    'a checksum beyond the frame',
    broken((f, v) => vnet.needChecksum(v, 0, f.length - 12 - 17, 16), plain),
  );
  test(
    'a checksum far beyond it',
    broken((_, v) => vnet.needChecksum(v, 0, 65_535, 65_535), plain),
  );
  test(
    'segments of no length',
    broken((_, v) => vnet.setGsoSize(v, 0, 0)),
  );
  test(
    'segments without checksums',
    broken((_, v) => vnet.setFlags(v, 0, 0)),
  );
  test(
    'segments of another protocol',
    broken((_, v) => vnet.setGsoType(v, 0, vnet.GSO_UDP_L4)),
  );
  test(
    'segments of another IP version',
    broken((_, v) => vnet.setGsoType(v, 0, vnet.GSO_TCPV6)),
  );
  test(
    'segments of UDP by fragments',
    broken((_, v) => vnet.setGsoType(v, 0, vnet.GSO_UDP), shape({ tcp: false })),
  );
  test(
    'segments of what is no IP',
    broken((_, v) => v.setUint16(12 + 12, 0x0806)),
  );
  test(
    'an IP header too short',
    broken((_, v) => v.setUint8(12 + 14, 0x44)),
  );
  test(
    'a TCP header too short',
    broken((_, v) => v.setUint8(12 + 34 + 12, 0x40)),
  );
  test(
    'a TCP header beyond the frame',
    broken((_, v) => v.setUint8(12 + 34 + 12, 0xf0), shape({ payload: bytesOf(30, 1), segmentBytes: 10 })),
  );
  test(
    'headers and nothing else',
    broken(() => {}, shape({ payload: new Uint8Array(0) })),
  );
  test(
    'a checksum that is not the transport header’s',
    broken((_, v) => vnet.setCsumStart(v, 0, 36)),
  );

  test('no frame, only a header', () => {
    commit(new Uint8Array(12));
    expect(() => native.writeStreamFrames(ours, 0, 1, 0)).toThrow(RangeError);
  });
  test('more bytes written before than it has', () => {
    commit(frameOf(plain));
    expect(() => native.writeStreamFrames(ours, 0, 1, 4 + headersBytes(plain) + plain.payload.length)).toThrow(
      RangeError,
    );
  });
});
