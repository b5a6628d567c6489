// SPDX-License-Identifier: Apache-2.0
/** What a front-end may say, in which pieces, with which descriptors, and what becomes of it when it lies. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openDescriptors, tcpPair, testkit } from '../../../test/support/testkit.ts';
import {
  eventfd,
  F,
  FrontEnd,
  message,
  REGION_BYTES,
  type Region,
  state,
  table,
  USER,
  u64,
} from '../../../test/support/vhost-front-end.ts';
import * as io from '../../io/io.ts';
import { type GuestLink, LINK_REF_BASE } from '../link.ts';
import { DEVICE_FEATURES, PROTOCOL_OFFERED } from './features.ts';
import { REQUEST } from './message.ts';
import { vhostLink } from './vhost-link.ts';

const CONNECTION = LINK_REF_BASE + 1;
const NEED_REPLY = 9;
const REPLY_ACK = 8n;
const FEATURES = F.VERSION_1 | F.PROTOCOL_FEATURES;
const KNOWN = Object.values(REQUEST);

let front: FrontEnd;
let link: GuestLink;
let gone: string[];
let before: number;

const connect = (): void => {
  front = new FrontEnd();
  link.connect(front.theirs);
};
const pump = (): void => {
  for (let i = 0; i < 8 && link.connected(); i++) link.onEvent(CONNECTION, io.EPOLLIN);
};
const refused = (): string => {
  pump();
  expect(link.connected()).toBe(false);
  expect(front.hungUp).toBe(true);
  return gone.at(-1) as string;
};

beforeEach(() => {
  before = openDescriptors();
  gone = [];
  link = vhostLink((why) => gone.push(why));
  link.open(() => {});
  connect();
});
afterEach(() => {
  front.close();
  pump();
  expect(link.connected()).toBe(false);
  expect(openDescriptors()).toBe(before);
  expect(readFileSync('/proc/self/maps', 'latin1')).not.toContain('pastiche-guest');
});

describe('questions and answers', () => {
  const ask = (request: number, payload?: Uint8Array, flags?: number): Buffer | undefined => {
    front.send(request, payload, [], flags);
    pump();
    return front.reply()?.payload;
  };
  test('what we offer', () => {
    expect(ask(REQUEST.GET_FEATURES)).toEqual(u64(DEVICE_FEATURES));
    expect(ask(REQUEST.GET_PROTOCOL_FEATURES)).toEqual(u64(PROTOCOL_OFFERED));
    expect(ask(REQUEST.GET_QUEUE_NUM)).toEqual(u64(1n));
  });
  test('REPLY_ACK: 0 for what was done, 1 for what is not served, nothing where it was not negotiated', () => {
    expect(ask(REQUEST.SET_OWNER, Buffer.alloc(0), NEED_REPLY)).toBeUndefined();
    ask(REQUEST.SET_PROTOCOL_FEATURES, u64(REPLY_ACK));
    expect(ask(REQUEST.SET_OWNER, Buffer.alloc(0), NEED_REPLY)).toEqual(u64(0n));
    expect(ask(REQUEST.SET_OWNER)).toBeUndefined();
    expect(ask(REQUEST.SEND_RARP, u64(0x525400123456n), NEED_REPLY)).toEqual(u64(0n));
    expect(ask(24, Buffer.alloc(12), NEED_REPLY)).toEqual(u64(1n));
    expect(ask(REQUEST.GET_FEATURES, Buffer.alloc(0), NEED_REPLY)).toEqual(u64(DEVICE_FEATURES));
  });
  test('in pieces of each length, descriptors with the first or the last', () => {
    const whole = Buffer.concat([
      message(REQUEST.SET_FEATURES, u64(FEATURES)),
      message(REQUEST.SET_MEM_TABLE, front.memoryTable()),
      message(REQUEST.GET_VRING_BASE, state(1, 0)),
    ]);
    const tableAt = 20;
    for (let cut = 1; cut < whole.length; cut++) {
      // The descriptors come with a byte of the message they belong to.
      const cuts =
        cut > tableAt && cut < tableAt + 84
          ? [0, cut, whole.length]
          : [0, tableAt, cut, whole.length].sort((a, b) => a - b);
      for (const [i, from] of cuts.slice(0, -1).entries()) {
        const with2 = cut > tableAt && cut < tableAt + 84 ? i === 1 : from === tableAt;
        if (from === cuts[i + 1]) continue;
        testkit.sendFds(front.socket, whole.subarray(from, cuts[i + 1]), with2 ? [front.file, front.file] : []);
        link.onEvent(CONNECTION, io.EPOLLIN);
      }
      pump();
      expect(gone).toEqual([]);
      expect(front.reply()?.payload, `cut at ${cut}`).toEqual(state(1, 0));
    }
  });
  test('a front-end that does not read its replies is not read from until it does', () => {
    testkit.nonBlocking(front.socket, true);
    const question = message(REQUEST.GET_FEATURES, Buffer.alloc(0));
    let asked = 0;
    for (let quiet = 0; quiet < 3; quiet++) {
      try {
        for (;;) {
          testkit.sendFds(front.socket, question, []);
          asked++;
          quiet = 0;
        }
      } catch {
        link.onEvent(CONNECTION, io.EPOLLIN);
      }
    }
    expect(asked).toBeGreaterThan(100);
    let answers = 0;
    const read = (): void => {
      for (;;) {
        let bytes: Uint8Array;
        try {
          bytes = testkit.recv(front.socket, 65_536, 0);
        } catch {
          return;
        }
        answers += bytes.length / 20;
      }
    };
    for (let i = 0; i < asked && answers < asked; i++) {
      read();
      link.onEvent(CONNECTION, io.EPOLLIN | io.EPOLLOUT);
    }
    read();
    expect(answers).toBe(asked);
    expect(gone).toEqual([]);
  });
});

describe('refused: the connection ends with a sentence, and nothing is kept', () => {
  const region = (over: Partial<Region> = {}): Region => ({
    physical: 0n,
    size: BigInt(REGION_BYTES),
    user: USER[0],
    offset: 0n,
    ...over,
  });
  const TOP = 1n << 64n;
  const memory = (...regions: readonly Region[]): void => {
    front.send(
      REQUEST.SET_MEM_TABLE,
      table(regions),
      regions.map(() => front.file),
    );
  };
  const FILE = 'a memory region that is empty, beyond its file, or of no file';
  const OVERLAP = 'memory regions that overlap';
  const CASES: Record<string, [() => void, string]> = {
    'another version': [() => front.send(REQUEST.SET_OWNER, Buffer.alloc(0), [], 2), 'vhost-user version 2, not 1'],
    'a reply': [
      () => front.send(REQUEST.SET_OWNER, Buffer.alloc(0), [], 5),
      'a vhost-user reply where a request was expected',
    ],
    'a payload that is too long': [
      () => testkit.write(front.socket, Buffer.from('010000000100000009010000', 'hex')),
      'a vhost-user message of 265 bytes',
    ],
    'a payload of another size': [
      () => front.send(REQUEST.SET_FEATURES, Buffer.alloc(4)),
      'vhost-user request 2 with 4 bytes',
    ],
    'a descriptor too many': [
      () => front.send(REQUEST.SET_OWNER, Buffer.alloc(0), [front.file]),
      'vhost-user request 3 with 1 descriptors',
    ],
    'many descriptors': [
      () => front.send(REQUEST.SET_MEM_TABLE, front.memoryTable(), Array(40).fill(front.file)),
      'more descriptors than a vhost-user message has',
    ],
    'a descriptor missing': [
      () => front.send(REQUEST.SET_MEM_TABLE, front.memoryTable(), [front.file]),
      '2 memory regions in 64 bytes with 1 descriptors',
    ],
    'more regions than bytes': [
      () =>
        front.send(REQUEST.SET_MEM_TABLE, Buffer.concat([state(3, 0), Buffer.alloc(64)]), Array(3).fill(front.file)),
      '3 memory regions in 64 bytes with 3 descriptors',
    ],
    'a request that is not served': [() => front.send(99, u64(0n)), 'vhost-user request 99 is not served'],
    'features that were not offered': [
      () => front.send(REQUEST.SET_FEATURES, u64(1n << 34n)),
      'features that were not offered',
    ],
    'protocol features that were not offered': [
      () => front.send(REQUEST.SET_PROTOCOL_FEATURES, u64(1n)),
      'protocol features that were not offered',
    ],
    'a second pair of queues': [
      () => front.send(REQUEST.SET_VRING_NUM, state(2, 256)),
      'queue 2: there is one pair of queues',
    ],
    'a kick of a queue there is not': [
      () => front.send(REQUEST.SET_VRING_KICK, u64(7n), [front.file]),
      'queue 7: there is one pair of queues',
    ],
    'a queue of an odd size': [() => front.send(REQUEST.SET_VRING_NUM, state(0, 100)), 'queue 0 of 100 entries'],
    'a queue of no size': [() => front.send(REQUEST.SET_VRING_NUM, state(0, 0)), 'queue 0 of 0 entries'],
    'a queue of too many': [() => front.send(REQUEST.SET_VRING_NUM, state(1, 2048)), 'queue 1 of 2048 entries'],
    'a base that is none': [() => front.send(REQUEST.SET_VRING_BASE, state(0, 65_536)), 'queue 0 from entry 65536'],
    'a kick without descriptor': [
      () => front.send(REQUEST.SET_VRING_KICK, u64(0x100n)),
      'a queue without a kick descriptor',
    ],
    'a call that says it has none, with one': [
      () => front.send(REQUEST.SET_VRING_CALL, u64(0x100n), [front.file]),
      'vhost-user request 13 with 1 descriptors',
    ],
    'a call that says it has one, without': [
      () => front.send(REQUEST.SET_VRING_CALL, u64(0n)),
      'vhost-user request 13 with 0 descriptors',
    ],
    'a kick by a file': [
      () => front.send(REQUEST.SET_VRING_KICK, u64(0n), [front.file]),
      'vhost-user request 12 with a descriptor that is no event counter',
    ],
    'a call by the other end of the connection itself': [
      () => front.send(REQUEST.SET_VRING_CALL, u64(1n), [front.socket]),
      'vhost-user request 13 with a descriptor that is no event counter',
    ],
    'an error descriptor that is so': [
      () => front.send(REQUEST.SET_VRING_ERR, u64(0n), [front.socket]),
      'vhost-user request 14 with a descriptor that is no event counter',
    ],
    'enabled by a number': [() => front.send(REQUEST.SET_VRING_ENABLE, state(0, 2)), 'queue 0 enabled by 2'],
    'a region of no size': [() => memory(region({ size: 0n })), FILE],
    'a region beyond its file': [() => memory(region({ offset: BigInt(REGION_BYTES + 1) })), FILE],
    'a region whose guest address overflows': [() => memory(region({ physical: TOP - 4096n })), FILE],
    'a region whose front-end address overflows': [() => memory(region({ user: TOP - 4096n })), FILE],
    'a region whose offset overflows': [() => memory(region({ offset: TOP - 4096n })), FILE],
    'regions that overlap in the guest': [
      () => memory(region(), region({ physical: BigInt(REGION_BYTES) - 1n, user: USER[1] })),
      OVERLAP,
    ],
    'regions that overlap in the front-end': [
      () => memory(region(), region({ physical: BigInt(REGION_BYTES), user: USER[0] + 4096n })),
      OVERLAP,
    ],
    'a region of a socket': [() => front.send(REQUEST.SET_MEM_TABLE, table([region()]), [front.socket]), FILE],
  };
  for (const [name, [lie, sentence]] of Object.entries(CASES)) {
    test(name, () => {
      lie();
      expect(refused()).toBe(sentence);
    });
  }

  const EPOLL_CREATE1 = process.arch === 'arm64' ? 20 : 291;
  const OTHERS: Record<string, () => readonly number[]> = {
    'a pipe': () => testkit.pipe(),
    // Without a type of file, as an eventfd is.
    'an epoll set': () => [testkit.syscall(EPOLL_CREATE1, 0)],
  };
  for (const [name, make] of Object.entries(OTHERS)) {
    test(`${name} is no event counter`, () => {
      for (const request of [REQUEST.SET_VRING_KICK, REQUEST.SET_VRING_CALL, REQUEST.SET_VRING_ERR]) {
        front.setUp({ features: FEATURES }, pump);
        const fds = make();
        front.send(request, u64(1n), [fds.at(-1) as number]);
        expect(refused()).toBe(`vhost-user request ${request} with a descriptor that is no event counter`);
        for (const fd of fds) testkit.close(fd);
        front.close();
        connect();
      }
    });
  }

  test('a socket is closed without waiting for its data: reset, at whatever place it came', () => {
    for (const [request, payload, fds] of [
      [REQUEST.SET_OWNER, Buffer.alloc(0), 1],
      [REQUEST.SET_VRING_ERR, u64(0n), 1],
      [REQUEST.SET_MEM_TABLE, table([region()]), 1],
      [REQUEST.SET_MEM_TABLE, table([region()]), 40],
    ] as const) {
      const [client, server] = tcpPair();
      front.send(request, payload, Array(fds).fill(client));
      testkit.close(client);
      refused();
      expect(testkit.poll(server, 1, 5000)).not.toBe(0);
      expect(() => testkit.recv(server, 1, 0)).toThrow('reset by peer');
      testkit.close(server);
      front.close();
      connect();
    }
  });

  const ADDRESSES: Record<string, (bytes: Buffer) => void> = {
    'descriptors that are not aligned': (b) => b.writeBigUInt64LE(b.readBigUInt64LE(8) + 8n, 8),
    'a used ring that is not aligned': (b) => b.writeBigUInt64LE(b.readBigUInt64LE(16) + 2n, 16),
    'an available ring that is not aligned': (b) => b.writeBigUInt64LE(b.readBigUInt64LE(24) + 1n, 24),
    'descriptors outside': (b) => b.writeBigUInt64LE(USER[0] + BigInt(REGION_BYTES), 8),
    'a used ring across the end': (b) => b.writeBigUInt64LE(USER[0] + BigInt(REGION_BYTES) - 128n, 16),
    'an available ring whose event index is outside': (b) =>
      b.writeBigUInt64LE(USER[0] + BigInt(REGION_BYTES) - 36n, 24),
    'addresses of the guest instead of the front-end': (b) => b.writeBigUInt64LE(0n, 8),
  };
  for (const [name, lie] of Object.entries(ADDRESSES)) {
    test(name, () => {
      const [rx] = front.setUp({ features: FEATURES }, pump);
      const bytes = front.addresses(0, rx);
      lie(bytes);
      front.send(REQUEST.SET_VRING_ADDR, bytes);
      expect(refused()).toBe("queue 0 does not lie in the guest's memory");
    });
  }
  test('a size, a base and features of a queue that runs', () => {
    for (const [request, payload, sentence] of [
      [REQUEST.SET_VRING_NUM, state(1, 16), 'the size of queue 1, which runs'],
      [REQUEST.SET_VRING_BASE, state(1, 16), 'the base of queue 1, which runs'],
      [REQUEST.SET_FEATURES, u64(F.VERSION_1), 'features of queue 0, which runs'],
    ] as const) {
      front.setUp({ features: FEATURES }, pump);
      front.send(request, payload);
      expect(refused()).toBe(sentence);
      front.close();
      connect();
    }
  });
});

describe('whatever comes', () => {
  /** Numbers that requests are made of, near and far from what is right. */
  const word = fc.oneof(fc.constantFrom(0, 1, 2, 16, 255, 256, 1024, 65_535, 0xffffffff), fc.nat());
  const payload = fc.oneof(
    fc.uint8Array({ maxLength: 264 }),
    fc.array(word, { maxLength: 66 }).map((words) => new Uint8Array(Uint32Array.from(words).buffer)),
  );
  const step = fc.record({
    request: fc.oneof(fc.constantFrom(...KNOWN), fc.nat(64)),
    flags: fc.constantFrom(1, 1, 1, NEED_REPLY, 0, 5),
    payload,
    fds: fc.array(fc.constantFrom('file', 'socket', 'event'), { maxLength: 3 }),
    cut: fc.nat(280),
  });
  test('no failure of ours, and no descriptor or mapping is left', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), fc.boolean(), (steps, begun) => {
        const events = [eventfd()];
        if (begun) front.setUp({ features: FEATURES }, pump);
        for (const { request, flags, payload, fds, cut } of steps) {
          if (!link.connected()) break;
          const bytes = message(request, payload, flags);
          const own = { file: front.file, socket: front.socket, event: events[0] as number };
          testkit.sendFds(
            front.socket,
            bytes.subarray(0, cut + 1),
            fds.map((kind) => own[kind]),
          );
          link.onEvent(CONNECTION, io.EPOLLIN);
          if (cut + 1 < bytes.length && link.connected()) testkit.sendFds(front.socket, bytes.subarray(cut + 1), []);
          pump();
          if (link.connected()) link.receive(8);
        }
        front.close();
        pump();
        for (const fd of events) testkit.close(fd);
        expect(link.connected()).toBe(false);
        connect();
        expect(openDescriptors()).toBe(before + 3);
      }),
      { numRuns: 300 },
    );
  });
});
