// SPDX-License-Identifier: Apache-2.0
/** The link to a hypervisor over a real socket pair: frames cut anywhere, lengths that cannot be, a guest that does not read, one that goes. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import type { GuestLink } from '../../controller/link/link.ts';
import * as out from '../../controller/link/out.ts';
import { BAD_FRAME, FRAME_BYTES_MAX, FRAME_BYTES_MIN, streamLink } from '../../controller/link/stream-link.ts';
import { dropCount } from '../../controller/obs/drops.ts';
import { SOCK_NONBLOCK, SOCK_STREAM, testkit } from '../support/testkit.ts';

const { native, mem, col, COL } = io;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;

const numbered = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
const stream = (...frames: Uint8Array[]): Buffer =>
  Buffer.concat(
    frames.flatMap((frame) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(frame.length);
      return [length, frame];
    }),
  );

let link: GuestLink;
let guest = -1;
let gone: string[] = [];
let roomTold = 0;
const connect = (): void => {
  const [ours, theirs] = testkit.socketpair(SOCK_STREAM | SOCK_NONBLOCK);
  guest = theirs;
  link.connect(ours);
};
beforeEach(() => {
  gone = [];
  roomTold = 0;
  link = streamLink((why) => gone.push(why));
  link.open(() => {
    roomTold++;
    out.resume();
  });
  out.attach(link);
  connect();
});
afterEach(() => {
  native.close(guest);
  if (link.connected()) link.receive(1);
});

/** Serves the link's events until there are none, as the loop does; what was received. */
const serve = (max = 64): Buffer[] => {
  const frames: Buffer[] = [];
  const receive = (): void => {
    const n = link.receive(max);
    for (let i = 0; i < n; i++) {
      const at = col[COL.FRAME_AT + i] as number;
      frames.push(Buffer.from(mem.slice(at, at + (col[COL.FRAME_LEN + i] as number))));
    }
  };
  for (let rounds = 0; ; rounds++) {
    expect(rounds).toBeLessThan(10_000);
    const n = native.wait(0, 0);
    for (let i = 0; i < n; i++)
      if (link.onEvent(col[COL.EVENT_REF + i] as number, col[COL.EVENT_MASK + i] as number)) receive();
    if (link.more()) receive();
    else if (n === 0) return frames;
  }
};
const drain = (): Buffer => {
  const parts: Uint8Array[] = [];
  try {
    for (;;) parts.push(testkit.read(guest, 1 << 20));
  } catch {
    return Buffer.concat(parts);
  }
};
const send = (payload: Uint8Array): void => {
  const at = out.reserve(payload.length);
  mem.set(payload, at);
  out.commit(payload.length);
};

describe('frames of the guest', () => {
  const frames = [numbered(60, 1), numbered(FRAME_BYTES_MIN, 2), numbered(1514, 3), numbered(15, 4)];
  const bytes = stream(...frames);

  test('come whole, wherever the stream is cut', () => {
    for (let cut = 0; cut <= bytes.length; cut++) {
      testkit.write(guest, bytes.subarray(0, cut));
      const before = serve();
      testkit.write(guest, bytes.subarray(cut));
      expect(
        [...before, ...serve()].map((one) => one.toString('hex')),
        `cut at ${cut}`,
      ).toEqual(frames.map((one) => Buffer.from(one).toString('hex')));
    }
  });

  test('byte by byte', () => {
    const got: Buffer[] = [];
    for (const byte of bytes.subarray(0, 170)) {
      testkit.write(guest, Uint8Array.of(byte));
      got.push(...serve());
    }
    expect(got.map((one) => one.length)).toEqual([60, FRAME_BYTES_MIN]);
  });

  test('the largest, and many more than a batch: each once, in their order', () => {
    const large = Array.from({ length: 40 }, (_, i) => numbered(FRAME_BYTES_MAX - i, i));
    const small = Array.from({ length: 3000 }, (_, i) => numbered(60 + (i % 5), i));
    const all = [...large.slice(0, 20), ...small, ...large.slice(20)];
    const whole = stream(...all);
    const got: Buffer[] = [];
    for (let at = 0; at < whole.length; ) {
      try {
        at += testkit.write(guest, whole.subarray(at, at + 100_003));
      } catch {
        // Full: it is read now.
      }
      got.push(...serve(7));
    }
    expect(got).toHaveLength(all.length);
    for (const [i, one] of all.entries()) expect(Buffer.compare(got[i] as Buffer, one), `frame ${i}`).toBe(0);
  });

  test.each([0, 1, FRAME_BYTES_MIN - 1, FRAME_BYTES_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff])(
    'a length of %i ends the connection, not what came before it, and the next may come',
    (length) => {
      const counted = dropCount('frame-length');
      const bad = Buffer.alloc(100);
      bad.writeUInt32BE(length);
      testkit.write(guest, Buffer.concat([bytes, bad]));
      expect(serve()).toHaveLength(frames.length);
      expect(gone).toEqual([BAD_FRAME]);
      expect(dropCount('frame-length')).toBe(counted + 1);
      expect(link.connected()).toBe(false);
      expect(link.ended()).toBe(null);
      native.close(guest);
      connect();
      testkit.write(guest, bytes);
      expect(serve()).toHaveLength(frames.length);
    },
  );

  test('half a frame of one guest is not the beginning of the next one’s', () => {
    testkit.write(guest, bytes.subarray(0, 40));
    serve();
    native.close(guest);
    serve();
    expect(gone).toHaveLength(1);
    connect();
    testkit.write(guest, bytes);
    expect(serve()).toHaveLength(frames.length);
  });
});

describe('frames to the guest', () => {
  test('wait for one that does not read, bounded; then they come, and the framing holds', () => {
    const SIZE = 3000;
    let sent = 0;
    const before = dropCount('tap-full');
    while (!out.blocked()) {
      send(numbered(SIZE, sent++));
      out.flush();
    }
    for (let i = 0; i < 2000; i++) send(numbered(SIZE, sent++));
    out.flush();
    const lost = dropCount('tap-full') - before;
    expect(lost).toBeGreaterThan(1000);
    const parts: Buffer[] = [];
    for (let i = 0; out.blocked(); i++) {
      expect(i).toBeLessThan(1000);
      parts.push(drain());
      serve();
    }
    parts.push(drain());
    const got = Buffer.concat(parts);
    expect(roomTold).toBeGreaterThan(0);
    expect(Buffer.compare(got, stream(...Array.from({ length: sent - lost }, (_, i) => numbered(SIZE, i))))).toBe(0);
    // Nobody waits for room any more: the loop may sleep.
    expect(native.wait(0, 0)).toBe(0);
  });

  test('half of one is not sent to the next guest', () => {
    testkit.setInt(guest, SOL_SOCKET, SO_SNDBUF, 1);
    while (!out.blocked()) {
      send(numbered(60_000, 1));
      out.flush();
    }
    native.close(guest);
    serve();
    expect(gone).toHaveLength(1);
    expect(out.blocked()).toBe(false);
    connect();
    send(numbered(60, 9));
    out.flush();
    expect(Buffer.compare(drain(), stream(numbered(60, 9)))).toBe(0);
  });

  test('to nobody are lost, and counted', () => {
    native.close(guest);
    serve();
    const before = dropCount('tap-full');
    for (let i = 0; i < 5; i++) send(numbered(60, i));
    out.flush();
    expect(dropCount('tap-full') - before).toBe(5);
    expect(out.blocked()).toBe(false);
  });
});
