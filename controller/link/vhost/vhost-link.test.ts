// SPDX-License-Identifier: Apache-2.0
/** The link end to end: a front-end over a socket pair, memory in a file, rings in that, the addon as it is. */
import { ftruncateSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openDescriptors, SOCK_NONBLOCK, testkit } from '../../../test/support/testkit.ts';
import {
  count,
  F,
  FrontEnd,
  INDIRECT,
  NEXT,
  type Piece,
  type Queue,
  REGION_BYTES,
  state,
  u64,
  WRITE,
} from '../../../test/support/vhost-front-end.ts';
import * as io from '../../io/io.ts';
import { type DropReason, dropCount } from '../../obs/drops.ts';
import * as checksum from '../../wire/checksum.ts';
import { type GuestLink, LINK_REF_BASE } from '../link.ts';
import { REQUEST } from './message.ts';
import { vhostLink } from './vhost-link.ts';

const CONNECTION = LINK_REF_BASE + 1;
const KICK = LINK_REF_BASE + 2;
const PLAIN = F.VERSION_1 | F.PROTOCOL_FEATURES;
const FULL = PLAIN | F.CSUM | F.GUEST_CSUM | F.GUEST_TSO4 | F.GUEST_TSO6 | F.MRG_RXBUF | F.INDIRECT_DESC | F.EVENT_IDX;
const FCNTL = process.arch === 'arm64' ? 25 : 72;
const F_GETFL = 3;
const HEADER = Buffer.alloc(12);
/** Where frames of the tests lie in the guest, beyond the rings. */
const DATA = 0x20000;

let front: FrontEnd;
let link: GuestLink;
let gone: string[];
let rooms: number;
let before: number;

beforeEach(() => {
  before = openDescriptors();
  gone = [];
  rooms = 0;
  front = new FrontEnd();
  link = vhostLink((why) => gone.push(why));
  link.open(() => {
    rooms++;
  });
  link.connect(front.theirs);
});
afterEach(() => {
  front.close();
  if (link.connected()) link.onEvent(CONNECTION, io.EPOLLIN);
  expect(link.connected()).toBe(false);
  expect(openDescriptors()).toBe(before);
});

const pump = (): void => {
  for (let i = 0; i < 4 && link.connected(); i++) link.onEvent(CONNECTION, io.EPOLLIN);
};
const received = (max = 64): Buffer[] => {
  const n = link.receive(max);
  return Array.from({ length: n }, (_, i) => {
    const at = io.col[io.COL.FRAME_AT + i] as number;
    return Buffer.from(io.mem.subarray(at, at + (io.col[io.COL.FRAME_LEN + i] as number)));
  });
};
/** Puts frames, each with its header, where out.ts would. */
const send = (...frames: readonly Uint8Array[]): number => {
  let at = io.OUT_AT;
  for (const [i, frame] of frames.entries()) {
    io.mem.set(frame, at);
    io.col[io.COL.OUT_AT + i] = at;
    io.col[io.COL.OUT_LEN + i] = frame.length;
    at += (frame.length + 63) & ~63;
  }
  return link.send(0, frames.length);
};
const frameOf = (len: number, seed = 1): Buffer =>
  Buffer.from(Uint8Array.from({ length: len }, (_, i) => (i * 7 + seed) & 0xff));
const withHeader = (frame: Uint8Array): Buffer => Buffer.concat([HEADER, frame]);
const counting = (reason: DropReason, body: () => void): number => {
  const was = dropCount(reason);
  body();
  return dropCount(reason) - was;
};
/** Writes bytes into the guest and offers them as one chain of such pieces. */
const offer = (queue: Queue, bytes: Uint8Array, cuts: readonly number[] = [], at = DATA): number => {
  front.write(at, bytes);
  const ends = [...cuts, bytes.length];
  const pieces: Piece[] = ends.map((end, i) => ({ at: at + (ends[i - 1] ?? 0), len: end - (ends[i - 1] ?? 0) }));
  const head = queue.chain(pieces);
  queue.offer(head);
  return head;
};

/** A TCP segment over IPv4 of `bytes` with a partial checksum, a superframe of `mss` a segment; the header in front. */
const superframe = (bytes: number, mss: number): Buffer => {
  const frame = Buffer.alloc(54 + bytes);
  frame.set([0x52, 0x54, 0, 1, 2, 3, 2, 0, 0, 0, 0, 1, 8, 0, 0x45]);
  frame.writeUInt16BE(40 + bytes, 16);
  frame.set([64, 6], 22);
  frame.set([192, 0, 2, 1, 192, 0, 2, 2], 26);
  frame.writeUInt16BE(80, 34);
  frame.writeUInt16BE(40_000, 36);
  frame.writeUInt32BE(0xfffffff0, 38);
  frame.set([0x50, 0x18], 46);
  frame.set(frameOf(bytes, 9), 54);
  const pseudo = checksum.pseudo4(0xc0000201 | 0, 0xc0000202 | 0, 6, 20 + bytes);
  frame.writeUInt16BE(pseudo, 50);
  const header = Buffer.from([1, mss === 0 ? 0 : 1, 54, 0, mss & 0xff, mss >> 8, 34, 0, 16, 0, 0, 0]);
  return Buffer.concat([header, frame]);
};

describe('from the guest', () => {
  test('a frame in one buffer, and in many', () => {
    const [, tx] = front.setUp({ features: PLAIN }, pump);
    expect(link.more()).toBe(true);
    const frame = withHeader(frameOf(1500));
    const a = offer(tx, frame);
    const b = offer(tx, frame, [1, 5, 12, 40, 41, 1000], DATA + 4096);
    expect(received()).toEqual([frame, frame]);
    expect(link.more()).toBe(false);
    expect(tx.taken()).toEqual([
      { head: a, written: 0 },
      { head: b, written: 0 },
    ]);
    expect(tx.told()).toBe(1);
  });

  test('a kick is an event, once', () => {
    const [, tx] = front.setUp({ features: PLAIN }, pump);
    expect(received()).toEqual([]);
    expect(tx.wantsKick).toBe(true);
    const frame = withHeader(frameOf(60));
    offer(tx, frame);
    testkit.write(tx.kick, u64(1n));
    expect(link.onEvent(KICK + 1, io.EPOLLIN)).toBe(true);
    expect(received()).toEqual([frame]);
    expect(io.native.wait(0, 0)).toBeGreaterThan(0);
    expect(kicks()).toEqual([]);
  });

  /** Kicks that the epoll set tells of. */
  const kicks = (): number[] =>
    Array.from({ length: io.native.wait(0, 0) }, (_, i) => io.col[io.COL.EVENT_REF + i] as number).filter(
      (ref) => ref === KICK || ref === KICK + 1,
    );

  test('one counter that kicks both queues, and that reading would wait for: each addition is an event of both, and nobody reads it', () => {
    const [rx, tx] = front.setUp({ features: PLAIN }, pump);
    front.send(REQUEST.SET_VRING_KICK, u64(0n), [tx.kick]);
    pump();
    expect(rx.kick).not.toBe(tx.kick);
    testkit.nonBlocking(tx.kick, false);
    for (let i = 0; i < 3; i++) {
      testkit.write(tx.kick, u64(1n));
      expect(kicks().sort()).toEqual([KICK, KICK + 1]);
      expect(link.onEvent(KICK, io.EPOLLIN)).toBe(false);
      expect(link.onEvent(KICK + 1, io.EPOLLIN)).toBe(true);
      expect(kicks()).toEqual([]);
    }
    expect(count(tx.kick)).toBe(3);
  });

  test('a call descriptor that its sender makes blocking again is not by the time it is written to', () => {
    const [, tx] = front.setUp({ features: PLAIN }, pump);
    testkit.nonBlocking(tx.call, false);
    offer(tx, withHeader(frameOf(60)));
    expect(received()).toHaveLength(1);
    const flags = testkit.syscall(FCNTL, tx.call, F_GETFL, 0);
    expect(flags & SOCK_NONBLOCK).toBe(SOCK_NONBLOCK);
    // And so a full one holds nobody up.
    testkit.nonBlocking(tx.call, false);
    expect(tx.told()).toBe(1);
    testkit.write(tx.call, u64(2n ** 64n - 2n));
    offer(tx, withHeader(frameOf(61)));
    expect(received()).toHaveLength(1);
  });

  test('the header of a legacy guest is made longer', () => {
    const [, tx] = front.setUp({ features: 0n }, pump);
    offer(tx, Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 0, 34, 0, 16, 0]), frameOf(100)]), [10]);
    expect(received()).toEqual([Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]), frameOf(100)])]);
  });

  test('a buffer that lies in two regions', () => {
    const [, tx] = front.setUp({ features: PLAIN }, pump);
    const frame = withHeader(frameOf(9000));
    offer(tx, frame, [], REGION_BYTES - 777);
    expect(received()).toEqual([frame]);
  });

  test('indirect descriptors, alone and behind a direct one', () => {
    const [, tx] = front.setUp({ features: PLAIN | F.INDIRECT_DESC }, pump);
    const frame = withHeader(frameOf(300));
    front.write(DATA, frame);
    const at = DATA + 0x4000;
    tx.descriptor(0, BigInt(DATA), 12, NEXT, 2, at);
    tx.descriptor(2, BigInt(DATA + 12), 100, NEXT, 1, at);
    tx.descriptor(1, BigInt(DATA + 112), 200, 0, 0, at);
    tx.offer(tx.chain([{ at, len: 48, flags: INDIRECT }]));
    tx.descriptor(0, BigInt(DATA + 12), 300, 0, 0, at + 64);
    tx.offer(
      tx.chain([
        { at: DATA, len: 12 },
        { at: at + 64, len: 16, flags: INDIRECT },
      ]),
    );
    expect(received()).toEqual([frame, frame]);
  });

  test('more than a call may take: the rest in the next, without a kick', () => {
    const [, tx] = front.setUp({ features: PLAIN, size: 8 }, pump);
    for (let i = 0; i < 8; i++) offer(tx, withHeader(frameOf(60, i)), [], DATA + 256 * i);
    expect(received(5)).toHaveLength(5);
    expect(link.more()).toBe(true);
    expect(received(5)).toEqual([5, 6, 7].map((i) => withHeader(frameOf(60, i))));
    expect(link.more()).toBe(false);
  });

  test('indices wrap around 65,536', () => {
    const [, tx] = front.setUp({ features: FULL, size: 4, base: 65_530 }, pump);
    for (let i = 0; i < 20; i++) {
      offer(tx, withHeader(frameOf(60, i)));
      expect(received()).toEqual([withHeader(frameOf(60, i))]);
      expect(tx.taken()).toHaveLength(1);
      expect(tx.availEvent).toBe(tx.avail);
    }
  });

  test('the guest is told when its event index is passed, and not before', () => {
    const [, tx] = front.setUp({ features: FULL, size: 16, base: 65_534 }, pump);
    tx.usedEvent = 65_534;
    offer(tx, withHeader(frameOf(60)));
    received();
    expect(tx.told()).toBe(1);
    // Now it wants to hear of the third from here on only.
    tx.usedEvent = 1;
    for (const told of [0, 0, 1, 0]) {
      offer(tx, withHeader(frameOf(60)));
      received();
      expect(tx.told()).toBe(told);
    }
  });

  test('the guest is not told when it says so', () => {
    const [, tx] = front.setUp({ features: PLAIN }, pump);
    tx.noInterrupt = true;
    offer(tx, withHeader(frameOf(60)));
    expect(received()).toHaveLength(1);
    expect(tx.told()).toBe(0);
  });
});

describe('lies of the guest', () => {
  const at = DATA + 0x8000;
  const good = withHeader(frameOf(80));
  const table = (tx: Queue, ...rows: readonly [address: bigint, len: number, flags: number, next: number][]): void => {
    for (const [i, [address, len, flags, next]] of rows.entries()) tx.descriptor(i, address, len, flags, next, at);
  };
  const ALL: Record<string, (tx: Queue) => number> = {
    'an address in no region': (tx) => tx.chain([{ at: 2 * REGION_BYTES, len: 80 }]),
    'an address just before the end of all': (tx) => tx.chain([{ at: 2 * REGION_BYTES - 10, len: 80 }]),
    'an address that overflows': (tx) => {
      tx.descriptor(3, 0xffff_ffff_ffff_fff0n, 64, 0, 0);
      return 3;
    },
    'a buffer that is ours to write': (tx) => tx.chain([{ at: DATA, len: 80, flags: WRITE }]),
    'a later one that is': (tx) =>
      tx.chain([
        { at: DATA, len: 40 },
        { at: DATA, len: 40, flags: WRITE },
      ]),
    'a descriptor that leads out of the table': (tx) => {
      tx.descriptor(3, BigInt(DATA), 64, NEXT, tx.size);
      return 3;
    },
    'a chain that bites its tail': (tx) => {
      tx.descriptor(3, BigInt(DATA), 1, NEXT, 4);
      tx.descriptor(4, BigInt(DATA), 1, NEXT, 3);
      return 3;
    },
    'less than a header': (tx) => tx.chain([{ at: DATA, len: 11 }]),
    'a buffer of no length in a good chain': (tx) =>
      tx.chain([
        { at: DATA, len: 80 },
        { at: DATA, len: 0 },
      ]),
    'nothing at all': (tx) => tx.chain([{ at: DATA, len: 0 }]),
    'an indirect table of no length': (tx) => tx.chain([{ at, len: 0, flags: INDIRECT }]),
    'an indirect table of a length that is no multiple': (tx) => tx.chain([{ at, len: 17, flags: INDIRECT }]),
    'an indirect table that is too long': (tx) => tx.chain([{ at: 0, len: 16 * 1025, flags: INDIRECT }]),
    'an indirect table outside': (tx) => tx.chain([{ at: 3 * REGION_BYTES, len: 16, flags: INDIRECT }]),
    'an indirect table across two regions': (tx) => tx.chain([{ at: REGION_BYTES - 8, len: 16, flags: INDIRECT }]),
    'an indirect table with a successor': (tx) =>
      tx.chain([
        { at, len: 16, flags: INDIRECT },
        { at: DATA, len: 80 },
      ]),
    'an indirect table in an indirect table': (tx) => {
      table(tx, [BigInt(at), 16, INDIRECT, 0]);
      return tx.chain([{ at, len: 16, flags: INDIRECT }]);
    },
    'an indirect table that leads out of itself': (tx) => {
      table(tx, [BigInt(DATA), 80, NEXT, 1]);
      return tx.chain([{ at, len: 16, flags: INDIRECT }]);
    },
    'an indirect table that bites its tail': (tx) => {
      table(tx, [BigInt(DATA), 1, NEXT, 1], [BigInt(DATA), 0, NEXT, 0]);
      return tx.chain([{ at, len: 32, flags: INDIRECT }]);
    },
  };
  for (const [name, lie] of Object.entries(ALL)) {
    test(`${name}: given back, counted, and the next frame goes on`, () => {
      const [, tx] = front.setUp({ features: FULL }, pump);
      const head = lie(tx);
      tx.offer(head);
      tx.offer(head);
      // Beyond what lies may have used.
      front.write(DATA + 0x1000, good);
      tx.descriptor(9, BigInt(DATA + 0x1000), good.length, 0, 0);
      tx.offer(9);
      let frames: Buffer[] = [];
      expect(
        counting('vring-chain', () => {
          frames = received();
        }),
      ).toBe(2);
      expect(frames).toEqual([good]);
      expect(tx.taken()).toEqual([head, head, 9].map((one) => ({ head: one, written: 0 })));
      expect(gone).toEqual([]);
    });
  }

  test('an indirect table that was not negotiated', () => {
    const [, tx] = front.setUp({ features: PLAIN }, pump);
    table(tx, [BigInt(DATA), 80, 0, 0]);
    tx.offer(tx.chain([{ at, len: 16, flags: INDIRECT }]));
    expect(counting('vring-chain', () => received())).toBe(1);
  });

  test('a frame longer than there are: given back, counted', () => {
    const [, tx] = front.setUp({ features: FULL }, pump);
    const longest = 12 + 14 + 65_535;
    tx.offer(tx.chain([{ at: DATA, len: longest }]));
    tx.offer(
      tx.chain([
        { at: DATA, len: longest },
        { at: DATA, len: 1 },
      ]),
    );
    tx.offer(tx.chain([{ at: DATA, len: 0xffffffff }]));
    tx.offer(tx.chain(Array.from({ length: 3 }, () => ({ at: DATA, len: 30_000 }))));
    let frames: Buffer[] = [];
    expect(
      counting('frame-too-long', () => {
        frames = received();
      }),
    ).toBe(3);
    expect(frames.map((frame) => frame.length)).toEqual([longest]);
    expect(tx.taken()).toHaveLength(4);
  });

  test('so it is with the header of a legacy guest, which is shorter', () => {
    const [, tx] = front.setUp({ features: 0n }, pump);
    const longest = 10 + 14 + 65_535;
    for (const len of [longest, longest + 1]) tx.offer(tx.chain([{ at: DATA, len }]));
    let frames: Buffer[] = [];
    expect(
      counting('frame-too-long', () => {
        frames = received();
      }),
    ).toBe(1);
    expect(frames.map((frame) => frame.length)).toEqual([longest + 2]);
  });

  const BREAKS: Record<string, (queue: Queue) => void> = {
    'an index further than the ring is long': (queue) => {
      front.set16(queue.availAt + 2, queue.avail + queue.size + 1);
    },
    'an index that goes back': (queue) => {
      front.set16(queue.availAt + 2, queue.avail - 1);
    },
    'a head outside the table': (queue) => queue.offer(queue.size),
  };
  for (const [name, lie] of Object.entries(BREAKS)) {
    test(`${name}: the ring is broken until it is set up again`, () => {
      const [, tx] = front.setUp({ features: FULL }, pump);
      lie(tx);
      expect(counting('vring-broken', () => received())).toBe(1);
      expect(testkit.poll(tx.error, 1, 0)).toBe(1);
      offer(tx, good);
      expect(received()).toEqual([]);
      expect(link.more()).toBe(false);
      expect(link.onEvent(KICK + 1, io.EPOLLIN)).toBe(false);
      // The hypervisor resets the device, and the guest begins again.
      front.stop(pump);
      const [, third] = front.setUp({ features: FULL }, pump);
      offer(third, good);
      expect(received()).toEqual([good]);
    });
    test(`${name}, of buffers to fill: broken, and what is sent is lost`, () => {
      const [rx] = front.setUp({ features: FULL }, pump);
      lie(rx);
      expect(counting('tap-full', () => expect(send(good, good)).toBe(2))).toBe(2);
      expect(counting('tap-full', () => expect(send(good)).toBe(1))).toBe(1);
      expect(testkit.poll(rx.error, 1, 0)).toBe(1);
    });
  }
});

describe('to the guest', () => {
  const give = (rx: Queue, at: number, ...sizes: readonly number[]): number => {
    let next = at;
    const head = rx.chain(
      sizes.map((len) => {
        const piece = { at: next, len, flags: WRITE };
        next += len;
        return piece;
      }),
    );
    rx.offer(head);
    return head;
  };

  test('a frame a buffer, the header in front', () => {
    const [rx] = front.setUp({ features: PLAIN }, pump);
    const a = give(rx, DATA, 12, 2000);
    const b = give(rx, DATA + 4096, 5, 7, 1, 1600);
    const frame = frameOf(1514);
    expect(send(withHeader(frame), withHeader(frame))).toBe(2);
    expect(rx.taken()).toEqual([a, b].map((head) => ({ head, written: 12 + 1514 })));
    const oneBuffer = Buffer.concat([HEADER.subarray(0, 10), Buffer.from([1, 0]), frame]);
    expect(front.read(DATA, 12 + 1514)).toEqual(oneBuffer);
    expect(front.read(DATA + 4096, 12 + 1514)).toEqual(oneBuffer);
    expect(rx.told()).toBe(1);
  });

  test('a frame in as many buffers as it takes, where the guest merges them', () => {
    const [rx] = front.setUp({ features: FULL }, pump);
    const frame = frameOf(10_000, 3);
    for (let i = 0; i < 4; i++) give(rx, DATA + 4096 * i, 4096);
    expect(send(withHeader(frame))).toBe(1);
    expect(rx.taken().map(({ written }) => written)).toEqual([4096, 4096, 10_012 - 8192]);
    const all = front.read(DATA, 10_012);
    expect(all.readUInt16LE(10)).toBe(3);
    expect(all.subarray(12)).toEqual(frame);
    // The fourth is there for the next frame.
    expect(send(withHeader(frameOf(100)))).toBe(1);
    expect(front.read(DATA + 3 * 4096, 12).readUInt16LE(10)).toBe(1);
  });

  test('a buffer that lies in two regions', () => {
    const [rx] = front.setUp({ features: PLAIN }, pump);
    give(rx, REGION_BYTES - 100, 2000);
    expect(send(withHeader(frameOf(1000)))).toBe(1);
    expect(front.read(REGION_BYTES - 88, 1000)).toEqual(frameOf(1000));
  });

  test('no buffer: it waits for the kick, and goes on', () => {
    for (const features of [PLAIN, FULL]) {
      const [rx] = front.setUp({ features }, pump);
      give(rx, DATA, 2000);
      expect(send(withHeader(frameOf(60)), withHeader(frameOf(61)))).toBe(1);
      if (features === PLAIN) expect(rx.wantsKick).toBe(true);
      else expect(rx.availEvent).toBe(rx.avail);
      give(rx, DATA, 2000);
      testkit.write(rx.kick, u64(1n));
      const before = rooms;
      expect(link.onEvent(KICK, io.EPOLLIN)).toBe(false);
      expect(rooms).toBe(before + 1);
      expect(send(withHeader(frameOf(61)))).toBe(1);
      if (features === PLAIN) expect(rx.wantsKick).toBe(false);
      expect(front.read(DATA + 12, 61)).toEqual(frameOf(61));
      front.stop(pump);
    }
  });

  test('a merged frame is not begun before all its buffers are there', () => {
    const [rx] = front.setUp({ features: FULL }, pump);
    give(rx, DATA, 1000);
    give(rx, DATA + 1000, 1000);
    expect(send(withHeader(frameOf(2500)))).toBe(0);
    expect(rx.taken()).toEqual([]);
    give(rx, DATA + 2000, 1000);
    expect(send(withHeader(frameOf(2500)))).toBe(1);
    expect(front.read(DATA + 12, 2500)).toEqual(frameOf(2500));
  });

  test('larger than the guest has room for: lost and counted, the buffers stay', () => {
    const [rx] = front.setUp({ features: PLAIN }, pump);
    give(rx, DATA, 1526);
    expect(
      counting('vring-room', () => expect(send(withHeader(frameOf(1515)), withHeader(frameOf(1514)))).toBe(2)),
    ).toBe(1);
    expect(rx.taken()).toHaveLength(1);
  });

  test('a ring full of small buffers that are not enough: lost and counted', () => {
    const [rx] = front.setUp({ features: FULL, size: 4 }, pump);
    for (let i = 0; i < 4; i++) give(rx, DATA + 64 * i, 64);
    expect(counting('vring-room', () => expect(send(withHeader(frameOf(400)), withHeader(frameOf(60)))).toBe(2))).toBe(
      1,
    );
    expect(rx.taken().map(({ written }) => written)).toEqual([64, 8]);
  });

  test('buffers that lie: given back unused, counted, the frame takes the next', () => {
    const [rx] = front.setUp({ features: FULL }, pump);
    rx.offer(rx.chain([{ at: DATA, len: 2000 }]));
    rx.offer(rx.chain([{ at: 4 * REGION_BYTES, len: 2000, flags: WRITE }]));
    rx.offer(rx.chain([{ at: DATA, len: 11, flags: WRITE }]));
    give(rx, DATA, 2000);
    expect(counting('vring-chain', () => expect(send(withHeader(frameOf(100)))).toBe(1))).toBe(3);
    expect(rx.taken().map(({ written }) => written)).toEqual([0, 0, 0, 112]);
  });

  test('a ring of nothing but lies ends, however often it is refilled', () => {
    const [rx] = front.setUp({ features: FULL, size: 16 }, pump);
    const head = rx.chain([{ at: DATA, len: 0, flags: WRITE }]);
    for (let i = 0; i < 16; i++) rx.offer(head);
    expect(counting('vring-chain', () => expect(send(withHeader(frameOf(100)))).toBe(0))).toBe(16);
    expect(rx.taken()).toHaveLength(16);
  });

  const transportSum = (frame: Buffer): number => {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    const bytes = frame.length - 34;
    return checksum.sum(view, 34, bytes, checksum.pseudo4(0xc0000201 | 0, 0xc0000202 | 0, 6, bytes));
  };

  test('offloads that the guest takes are left to it', () => {
    const [rx] = front.setUp({ features: FULL }, pump);
    give(rx, DATA, 65_536);
    const whole = superframe(10_000, 1460);
    expect(send(whole)).toBe(1);
    whole.writeUInt16LE(1, 10);
    expect(front.read(DATA, whole.length)).toEqual(whole);
  });

  test('a guest without checksum offload gets complete ones', () => {
    const [rx] = front.setUp({ features: PLAIN | F.GUEST_TSO4 }, pump);
    give(rx, DATA, 4096);
    expect(send(superframe(1000, 0))).toBe(1);
    expect(front.read(DATA, 12)).toEqual(Buffer.concat([HEADER.subarray(0, 10), Buffer.from([1, 0])]));
    const got = front.read(DATA + 12, 1054);
    expect(transportSum(got)).toBe(0xffff);
    expect(got.subarray(54)).toEqual(frameOf(1000, 9));
  });

  test('a guest without segmentation offload gets segments; one that has room for some gets the rest later', () => {
    for (const features of [PLAIN, PLAIN | F.GUEST_CSUM, PLAIN | F.GUEST_TSO4, PLAIN | F.GUEST_CSUM | F.GUEST_TSO6]) {
      const [rx] = front.setUp({ features, size: 4 }, pump);
      const got: Buffer[] = [];
      const whole = superframe(10_000, 1460);
      let rounds = 0;
      for (let done = 0; done === 0; rounds++) {
        for (let i = 0; i < 2; i++) give(rx, DATA + 2048 * i, 1600);
        done = send(whole, ...(rounds === 3 ? [withHeader(frameOf(60))] : []));
        for (const [i, { written }] of rx.taken().entries()) got.push(front.read(DATA + 2048 * i + 12, written - 12));
      }
      expect(rounds).toBe(4);
      expect(got.map((frame) => frame.length)).toEqual([...Array(6).fill(1514), 54 + 10_000 - 6 * 1460, 60]);
      const segments = got.slice(0, 7);
      expect(Buffer.concat(segments.map((frame) => frame.subarray(54)))).toEqual(frameOf(10_000, 9));
      for (const [i, frame] of segments.entries()) {
        expect(transportSum(frame)).toBe(0xffff);
        expect(frame.readUInt32BE(38)).toBe((0xfffffff0 + 1460 * i) % 2 ** 32);
        expect(frame[47]).toBe(i === 6 ? 0x18 : 0x10);
      }
      front.stop(pump);
    }
  });

  test('nobody drives the queue: lost and counted', () => {
    expect(counting('tap-full', () => expect(send(withHeader(frameOf(60)), withHeader(frameOf(60)))).toBe(2))).toBe(2);
  });
});

/** What a call of ours may look at (helper/addon/vring.h): so many descriptors, one chain more, and some for each frame sent. */
const LOOKS_MAX = 8192 + 2048;
const LOOKS_A_FRAME = 64 + 2;

describe('a guest that has us look at many descriptors', () => {
  const ENTRIES = 1024;
  const AT = 0x30000;
  const looks = (): number => io.col[io.COL.VRING_LOOKS] as number;
  /** A table of `ENTRIES` descriptors of a length each, for indirect ones; and what is last in it. */
  const bigTable = (queue: Queue, len: number, flags: number, last = flags): void => {
    for (let i = 0; i < ENTRIES; i++) {
      const end = i + 1 === ENTRIES;
      queue.descriptor(i, BigInt(DATA), len, end ? last : flags | NEXT, end ? 0 : i + 1, AT);
    }
  };
  /** All entries of a queue: the first one has room for a header, the others are as large as they like. */
  const fill = (queue: Queue, len: number, flags: number): void => {
    queue.descriptor(0, BigInt(DATA), 12, WRITE, 0);
    for (let i = 1; i < ENTRIES; i++) queue.descriptor(i, BigInt(AT), len, flags, 0);
    for (let i = 0; i < ENTRIES; i++) queue.offer(i);
  };
  const frame = withHeader(frameOf(1514));

  test('for buffers of no length: they are given back, and counted', () => {
    const [rx] = front.setUp({ features: FULL, size: ENTRIES }, pump);
    bigTable(rx, 0, WRITE);
    fill(rx, 16 * ENTRIES, INDIRECT);
    const lost = counting('vring-chain', () => {
      expect(send(...Array(64).fill(frame))).toBeLessThan(64);
    });
    expect(lost).toBeGreaterThan(0);
    expect(looks()).toBeLessThan(LOOKS_MAX);
  });

  test('for buffers of one byte, the whole queue too little: that is found out once, until the guest adds some', () => {
    const [rx] = front.setUp({ features: FULL, size: ENTRIES }, pump);
    fill(rx, 1, WRITE);
    expect(counting('vring-room', () => expect(send(...Array(64).fill(frame))).toBe(64))).toBe(64);
    expect(looks()).toBe(ENTRIES);
    expect(counting('vring-room', () => expect(send(...Array(64).fill(frame))).toBe(64))).toBe(64);
    expect(looks()).toBe(0);
    // What does fit goes, takes what it needs, and what is left is looked at once more.
    expect(send(withHeader(frameOf(500)))).toBe(1);
    expect(rx.taken()).toHaveLength(501);
    expect(send(frame)).toBe(0);
    for (let i = 0; i < 5; i++) {
      expect(send(frame)).toBe(0);
      expect(looks()).toBe(0);
    }
    front.set16(rx.availAt + 4 + 2 * (rx.avail % ENTRIES), 0);
    rx.descriptor(0, BigInt(DATA), 2000, WRITE, 0);
    rx.offer(0);
    expect(send(frame)).toBe(1);
  });

  test('for a superframe that becomes many segments: likewise', () => {
    const [rx] = front.setUp({ features: PLAIN | F.GUEST_CSUM | F.MRG_RXBUF, size: ENTRIES }, pump);
    fill(rx, 1, WRITE);
    expect(counting('vring-room', () => expect(send(superframe(41 * 1460, 1460))).toBe(1))).toBe(41);
    expect(looks()).toBe(ENTRIES);
  });

  test('for chains that turn out to lie at their ends: a call has its limit, and what it does not get to is lost and counted', () => {
    const [rx] = front.setUp({ features: FULL, size: ENTRIES }, pump);
    bigTable(rx, 1, WRITE, 0);
    rx.descriptor(0, BigInt(AT), 16 * ENTRIES, INDIRECT, 0);
    for (let i = 0; i < ENTRIES; i++) rx.offer(0);
    expect(counting('vring-room', () => expect(send(...Array(16).fill(frame))).toBe(16))).toBeGreaterThan(0);
    expect(looks()).toBeLessThan(LOOKS_MAX + 16 * LOOKS_A_FRAME);
    expect(gone).toEqual([]);
  });

  test('on their way to us: a call has its limit, the next goes on', () => {
    const [, tx] = front.setUp({ features: FULL, size: ENTRIES }, pump);
    bigTable(tx, 1, 0, WRITE);
    tx.descriptor(0, BigInt(AT), 16 * ENTRIES, INDIRECT, 0);
    for (let i = 0; i < ENTRIES; i++) tx.offer(0);
    let calls = 0;
    const lost = counting('vring-chain', () => {
      for (; link.more(); calls++) {
        expect(received(512)).toEqual([]);
        expect(looks()).toBeLessThan(LOOKS_MAX);
      }
    });
    expect(lost).toBe(ENTRIES);
    expect(calls).toBeGreaterThan(100);
    expect(tx.taken()).toHaveLength(ENTRIES);
  });
});

describe('a guest that', () => {
  test('asks where its rings ended gets what it has not seen yet', () => {
    const [, tx] = front.setUp({ features: FULL, base: 65_535 }, pump);
    for (let i = 0; i < 3; i++) offer(tx, withHeader(frameOf(60)));
    received(2);
    front.send(REQUEST.GET_VRING_BASE, state(1, 0));
    pump();
    expect(front.reply()?.payload).toEqual(state(1, 1));
    // Stopped: neither kick nor what is left is looked at.
    expect(received()).toEqual([]);
    expect(link.more()).toBe(false);
  });

  test('is told other memory goes on in it', () => {
    const [, tx] = front.setUp({ features: FULL }, pump);
    offer(tx, withHeader(frameOf(60)));
    expect(received()).toHaveLength(1);
    front.send(REQUEST.SET_MEM_TABLE, front.memoryTable(), [front.file, front.file]);
    pump();
    offer(tx, withHeader(frameOf(61)));
    expect(received()).toEqual([withHeader(frameOf(61))]);
    expect(gone).toEqual([]);
  });

  test('loses its memory ends its connection, not us: every time', () => {
    for (const [n, direction] of ['from', 'to', 'from'].entries()) {
      const [rx, tx] = front.setUp({ features: FULL }, pump);
      rx.offer(rx.chain([{ at: REGION_BYTES, len: 4096, flags: WRITE }]));
      tx.offer(tx.chain([{ at: REGION_BYTES, len: 4096 }]));
      ftruncateSync(front.file, REGION_BYTES);
      if (direction === 'from') expect(received()).toEqual([]);
      else expect(send(withHeader(frameOf(60)))).toBe(1);
      expect(gone).toHaveLength(n + 1);
      expect(gone[n]).toBe("the guest's memory is gone: its file was truncated");
      expect(link.connected()).toBe(false);
      expect(front.hungUp).toBe(true);
      front.close();
      front = new FrontEnd();
      link.connect(front.theirs);
    }
  });
});
