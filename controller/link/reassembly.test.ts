// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import * as guest from '../../test/support/guest-frames.ts';
import { makeNetwork } from '../../test/support/network.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const out = await import('./out.ts');
const { tapLink } = await import('./tap-link.ts');
const station = await import('./station.ts');
const icmpSend = await import('./icmp-send.ts');
const { dropCount, dropCounts } = await import('../obs/drops.ts');
const reassembly = await import('./reassembly.ts');
const slots = await import('./fragment-slots.ts');
const ext = await import('../wire/ext-header.ts');
type DropReason = import('../obs/drops.ts').DropReason;

const V4 = { src: '192.0.2.10', dst: '198.51.100.7' };
const V6 = { src: '2001:db8:1:2:a::10', dst: '2001:db8:2::7' };
const DATA = Uint8Array.from({ length: 65_535 }, (_, i) => (i * 7 + (i >> 8)) & 0xff);
const UDP = 17;
const TCP = 6;

interface Fragment {
  readonly v4: boolean;
  /** Bytes of the whole's data: [from, to). */
  readonly from: number;
  readonly to: number;
  readonly more: boolean;
  readonly id?: number;
  readonly protocol?: number;
  readonly src?: string;
  readonly ecn?: number;
  /** Other bytes than the whole's. */
  readonly data?: Uint8Array;
  /** IPv4 options or IPv6 extension headers before the fragment header. */
  readonly extra?: readonly number[];
}
const frame4 = (f: Fragment): number[] => {
  const data = f.data ?? DATA.subarray(f.from, f.to);
  const options = f.extra ?? [];
  const head = [0x45 + options.length / 4, f.ecn ?? 0, ...guest.u16(20 + options.length + data.length)];
  const place = [...guest.u16(f.id ?? 1), ...guest.u16((f.from >> 3) | (f.more ? 0x2000 : 0)), 64, f.protocol ?? UDP];
  const addresses = [...guest.ip4(f.src ?? V4.src), ...guest.ip4(V4.dst)];
  const ip = [...head, ...place, 0, 0, ...addresses, ...options];
  ip.splice(10, 2, ...guest.u16(~fake.checksumOf(Uint8Array.from(ip)) & 0xffff));
  return guest.ethernet(0x0800, [...ip, ...data]);
};
const frame6 = (f: Fragment): number[] => {
  const data = f.data ?? DATA.subarray(f.from, f.to);
  const extra = f.extra ?? [];
  const header = [f.protocol ?? UDP, 0, ...guest.u16(f.from | (f.more ? 1 : 0)), ...guest.u32(f.id ?? 1)];
  const first = [0x60, (f.ecn ?? 0) << 4, 0, 0, ...guest.u16(extra.length + 8 + data.length)];
  const addresses = [...guest.ip6(f.src ?? V6.src), ...guest.ip6(V6.dst)];
  return guest.ethernet(0x86dd, [...first, extra.length > 0 ? 60 : 44, 64, ...addresses, ...extra, ...header, ...data]);
};

/** Hands a fragment over as the demux does. The whole packet from its IP header on, or null. */
const take = (f: Fragment): Buffer | null => {
  const end = guest.place(f.v4 ? frame4(f) : frame6(f));
  const at = guest.FRAME_AT + 14;
  if (!f.v4) expect(ext.walk(fake.view, at, end)).toBe(ext.FRAGMENT);
  const eth = f.v4 ? reassembly.take4(at, end) : reassembly.take6(at, ext.payloadAt(), end);
  if (eth === reassembly.NONE) return null;
  expect(reassembly.isMade(eth)).toBe(true);
  expect([...fake.mem.subarray(eth - 12, eth)]).toEqual(new Array(12).fill(0));
  return Buffer.from(fake.mem.slice(eth + 14, reassembly.wholeEnd()));
};
const headerOf = (packet: Buffer, v4: boolean): number => (v4 ? ((packet[0] as number) & 15) * 4 : 40);
/** Checks everything of a whole packet but its data, which is returned. */
const opened = (packet: Buffer | null, v4: boolean, protocol = UDP): Buffer => {
  if (packet === null) throw new Error('the datagram is not whole');
  const bytes = headerOf(packet, v4);
  if (v4) {
    expect(fake.checksumOf(packet.subarray(0, bytes))).toBe(0xffff);
    expect([packet.readUInt16BE(2), packet.readUInt16BE(6), packet[9]]).toEqual([packet.length, 0, protocol]);
  } else {
    expect([packet.readUInt16BE(4), packet[6]]).toEqual([packet.length - 40, protocol]);
  }
  return packet.subarray(bytes);
};
const drops = (): Partial<Record<DropReason, number>> =>
  Object.fromEntries(Object.entries(dropCounts()).filter(([, n]) => n !== 0));
/** What was dropped since `before`. */
const since = (before: Partial<Record<DropReason, number>>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(drops())
      .map(([name, n]) => [name, n - (before[name as DropReason] ?? 0)] as const)
      .filter(([, n]) => n !== 0),
  );
const toldFrames = (): Buffer[] => {
  out.flush();
  return fake.tapFrames.splice(0);
};

beforeEach(() => {
  out.attach(tapLink(7, 12));
  out.flush();
  fake.reset();
  fake.setNow(1000);
  station.configure(makeNetwork());
  slots.reset();
  icmpSend.resetLimit();
});

describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('%s', (_name, v4) => {
  const whole = (...parts: (Partial<Fragment> & { from: number; to: number; more: boolean })[]): Buffer | null => {
    let result: Buffer | null = null;
    for (const part of parts) {
      const taken = take({ v4, ...part });
      if (taken !== null) expect(result).toBeNull();
      result = taken ?? result;
    }
    return result;
  };

  test('two parts make the datagram, in either order', () => {
    const a = { from: 0, to: 1480, more: true };
    const b = { from: 1480, to: 2001, more: false };
    expect(opened(whole(a, b), v4).equals(DATA.subarray(0, 2001))).toBe(true);
    expect(opened(whole({ ...b, id: 2 }, { ...a, id: 2 }), v4).equals(DATA.subarray(0, 2001))).toBe(true);
    expect(slots.size()).toBe(0);
  });

  test('any cuts in any order, some of them twice, make the datagram', () => {
    let id = 100;
    const cuts = fc.uniqueArray(fc.integer({ min: 3, max: 800 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(cuts, fc.integer({ min: 1, max: 100 }), fc.infiniteStream(fc.nat()), (at, tail, order) => {
        const ends = [...at].sort((x, y) => x - y).map((n) => n * 8);
        const last = (ends.at(-1) as number) + tail;
        const parts = [0, ...ends].map((from, i) => ({ from, to: ends[i] ?? last, more: i < ends.length }));
        const shuffled = parts.map((part) => ({ part, key: order.next().value })).sort((x, y) => x.key - y.key);
        id++;
        const sequence = shuffled.map(({ part }) => ({ ...part, id }));
        const [again] = sequence;
        if (again !== undefined && sequence.length > 2) sequence.splice(1, 0, again);
        expect(opened(whole(...sequence), v4).equals(DATA.subarray(0, last))).toBe(true);
        slots.endTurn();
      }),
      { numRuns: 100 },
    );
    expect(slots.size()).toBe(0);
  });

  test('the largest datagram there is', () => {
    const most = v4 ? 65_515 : 65_535;
    const parts = Array.from({ length: Math.ceil(most / 1480) }, (_, i) => {
      const to = Math.min(most, (i + 1) * 1480);
      return { from: i * 1480, to, more: to < most };
    });
    expect(opened(whole(...parts), v4).equals(DATA.subarray(0, most))).toBe(true);
  });

  test('identification, source and destination tell datagrams apart', () => {
    const other = v4 ? '192.0.2.11' : '2001:db8:1:2:a::11';
    for (const change of [{ id: 2 }, { src: other }]) {
      expect(whole({ from: 0, to: 800, more: true }, { from: 800, to: 900, more: false, ...change })).toBeNull();
      expect(slots.size()).toBe(2);
      slots.reset();
    }
  });

  const START = { from: 0, to: 1600, more: true } as const;
  test.each<[string, DropReason, Omit<Fragment, 'v4'>[]]>([
    ['other bytes at the same place', 'fragment-overlap', [START, { ...START, data: new Uint8Array(1600) }]],
    ['a part of what is there', 'fragment-overlap', [START, { from: 800, to: 2400, more: true }]],
    ['more than is there', 'fragment-overlap', [START, { from: 0, to: 2400, more: true }]],
    [
      'one that fills a hole and goes on',
      'fragment-overlap',
      [START, { from: 2400, to: 3200, more: true }, { from: 1600, to: 2408, more: true }],
    ],
    ['the same bytes, but said to be the last', 'fragment-overlap', [START, { from: 800, to: 1600, more: false }]],
    [
      'data behind the end',
      'fragment-length',
      [
        { from: 800, to: 900, more: false },
        { from: 1600, to: 2400, more: true },
      ],
    ],
    [
      'a second end',
      'fragment-length',
      [
        { from: 800, to: 900, more: false },
        { from: 1600, to: 1700, more: false },
      ],
    ],
    [
      'an end before what is there',
      'fragment-length',
      [
        { from: 1600, to: 2400, more: true },
        { from: 800, to: 900, more: false },
      ],
    ],
    [
      'more to come at the end',
      'fragment-length',
      [
        { from: 800, to: 904, more: false },
        { from: 400, to: 800, more: true },
        { from: 904, to: 912, more: true },
      ],
    ],
  ])('%s spoils the datagram and all that follows of it', (_what, reason, parts) => {
    const before = drops();
    expect(whole(...parts)).toBeNull();
    expect(since(before)).toEqual({ [reason]: 1 });
    // What would complete it, had it not been spoilt, does not.
    const rest = [0, 800, 1600, 2400].map((from) => ({ from, to: from + 800, more: from < 2400 }));
    expect(whole(...rest)).toBeNull();
    expect(since(before)['fragment-overlap']).toBe(4 + (reason === 'fragment-overlap' ? 1 : 0));
    fake.setNow(1_000_000);
    slots.tick(1_000_000);
    expect(toldFrames()).toEqual([]);
    expect(slots.size()).toBe(0);
  });

  test.each<[string, DropReason, Omit<Fragment, 'v4'>]>([
    ['no data, more to come', 'fragment-length', { from: 800, to: 800, more: true }],
    ['no data at the end', 'fragment-length', { from: 800, to: 800, more: false }],
    ['a length that is no multiple of 8, more to come', 'fragment-length', { from: 0, to: 1001, more: true }],
    [
      'an end beyond 65,535 bytes',
      'fragment-too-long',
      { from: 65_528, to: 65_536, more: false, data: DATA.subarray(0, 8) },
    ],
    ['a TCP header that is not whole', 'fragment-tiny', { from: 0, to: 16, more: true, protocol: TCP }],
  ])('%s is dropped and leaves nothing behind', (_what, reason, part) => {
    const before = drops();
    expect(whole(part)).toBeNull();
    expect(since(before)).toEqual({ [reason]: 1 });
    expect(slots.size()).toBe(0);
  });

  test('options and extension headers count towards the largest size', () => {
    const extra = v4 ? [1, 1, 1, 1] : [44, 0, 1, 4, 0, 0, 0, 0];
    const most = (v4 ? 65_535 - 24 : 65_535 - 8) & -8;
    const before = drops();
    expect(take({ v4, from: most - 8, to: most, more: false, extra })).toBeNull();
    expect(since(before)).toEqual({});
    expect(take({ v4, from: most, to: most + 8, more: false, extra, id: 3 })).toBeNull();
    expect(since(before)).toEqual({ 'fragment-too-long': 1 });
  });

  test('congestion that one part met is the whole’s; parts that contradict each other make nothing (RFC 3168 §5.3)', () => {
    const ecnOf = (first: number, last: number, id: number): number | null => {
      const packet = whole(
        { from: 0, to: 800, more: true, ecn: first, id },
        { from: 800, to: 900, more: false, ecn: last, id },
      );
      if (packet === null) return null;
      return v4 ? (packet[1] as number) & 3 : ((packet[1] as number) >> 4) & 3;
    };
    expect([ecnOf(2, 2, 1), ecnOf(2, 3, 2), ecnOf(3, 1, 3), ecnOf(0, 0, 4)]).toEqual([2, 3, 3, 0]);
    const before = drops();
    expect(ecnOf(0, 3, 5)).toBeNull();
    expect(since(before)).toEqual({ 'fragment-ecn': 1 });
    expect(slots.size()).toBe(0);
  });

  describe('bounds', () => {
    const timeoutMs = v4 ? slots.TIMEOUT_4_MS : slots.TIMEOUT_6_MS;
    const expire = (): Buffer[] => {
      fake.setNow(1000 + timeoutMs - 1);
      slots.tick(fake.nowMs());
      expect(toldFrames()).toEqual([]);
      expect(slots.nextDelay(fake.nowMs())).toBe(1);
      fake.setNow(1000 + timeoutMs);
      slots.tick(fake.nowMs());
      expect([slots.size(), slots.nextDelay(fake.nowMs())]).toEqual([0, -1]);
      return toldFrames();
    };

    test('when the time is over, the sender of a first fragment is told with what it sent', () => {
      expect(slots.nextDelay(1000)).toBe(-1);
      const before = drops();
      take({ v4, from: 0, to: 1480, more: true });
      const [error] = expire();
      if (error === undefined) throw new Error('nothing was told');
      const l4 = error.subarray(14 + (v4 ? 20 : 40));
      expect([l4[0], l4[1], l4.readUInt32BE(4)]).toEqual([v4 ? 11 : 3, 1, 0]);
      const sent = Buffer.from((v4 ? frame4 : frame6)({ v4, from: 0, to: 1480, more: true })).subarray(14);
      const quote = l4.subarray(8);
      expect(quote.equals(sent.subarray(0, quote.length))).toBe(true);
      expect(error.length).toBe(14 + (v4 ? 576 : 1280));
      expect(since(before)).toEqual({ 'fragment-timeout': 1 });
    });

    test('without the first fragment nobody is told', () => {
      take({ v4, from: 1480, to: 2960, more: true });
      expect(expire()).toEqual([]);
    });

    test('one that comes after the end of its time begins anew', () => {
      take({ v4, from: 0, to: 800, more: true });
      expire();
      expect(take({ v4, from: 800, to: 900, more: false })).toBeNull();
      expect(slots.size()).toBe(1);
    });

    test('a source has its share; the oldest of its own makes room', () => {
      for (let id = 1; id <= slots.SLOTS_PER_SOURCE + 5; id++) {
        fake.setNow(1000 + id);
        take({ v4, from: 0, to: 800, more: true, id });
      }
      expect(slots.size()).toBe(slots.SLOTS_PER_SOURCE);
      expect(take({ v4, from: 800, to: 900, more: false, id: 6 })).not.toBeNull();
      expect(take({ v4, from: 800, to: 900, more: false, id: 5 })).toBeNull();
    });

    test('all slots taken, the oldest of all makes room', () => {
      const before = dropCount('fragment-evicted');
      const source = (n: number): string => (v4 ? `192.0.2.${n}` : `2001:db8:1:2::${n.toString(16)}`);
      for (let n = 1; n <= slots.SLOTS + 3; n++) {
        fake.setNow(1000 + n);
        take({ v4, from: 0, to: 800, more: true, src: source(n) });
      }
      expect(slots.size()).toBe(slots.SLOTS);
      expect(dropCount('fragment-evicted') - before).toBe(3);
      expect(take({ v4, from: 800, to: 900, more: false, src: source(4) })).not.toBeNull();
    });

    test('bytes of a whole datagram stay until the turn ends, however many come', () => {
      const end = { from: 800, to: 900, more: false };
      const source = (n: number): string => (v4 ? `192.0.2.${n}` : `2001:db8:1:2::${n.toString(16)}`);
      for (let n = 1; n <= slots.SLOTS; n++) take({ v4, from: 0, to: 800, more: true, src: source(n) });
      for (let n = 1; n <= slots.SLOTS; n++) expect(take({ v4, ...end, src: source(n) })).not.toBeNull();
      const before = dropCount('fragment-evicted');
      expect(take({ v4, from: 0, to: 800, more: true, src: source(99) })).toBeNull();
      expect([slots.size(), dropCount('fragment-evicted') - before]).toEqual([0, 1]);
      slots.endTurn();
      take({ v4, from: 0, to: 800, more: true, src: source(99) });
      expect(opened(take({ v4, ...end, src: source(99) }), v4).equals(DATA.subarray(0, 900))).toBe(true);
    });

    test('more pieces than any link can have made are none', () => {
      for (let i = 0; i < slots.PIECES_MAX; i++) take({ v4, from: i * 16 + 8, to: i * 16 + 16, more: true });
      const before = drops();
      take({ v4, from: 60_000, to: 60_008, more: true });
      expect(since(before)).toEqual({ 'fragment-pieces': 1 });
    });
  });
});

describe('IPv4', () => {
  test('the protocol is part of what tells datagrams apart', () => {
    take({ v4: true, from: 0, to: 800, more: true, protocol: UDP });
    expect(take({ v4: true, from: 800, to: 900, more: false, protocol: TCP })).toBeNull();
    expect(slots.size()).toBe(2);
  });
  test('a fragment that would cover TCP flags is tiny (RFC 3128)', () => {
    const before = dropCount('fragment-tiny');
    expect(take({ v4: true, from: 8, to: 800, more: true, protocol: TCP })).toBeNull();
    expect(take({ v4: true, from: 16, to: 800, more: true, protocol: TCP })).toBeNull();
    expect(dropCount('fragment-tiny') - before).toBe(2);
  });
  test('options of the first fragment are kept, and nobody else’s', () => {
    take({ v4: true, from: 800, to: 900, more: false });
    const packet = take({ v4: true, from: 0, to: 800, more: true, extra: [1, 1, 1, 0] });
    expect(opened(packet, true).equals(DATA.subarray(0, 900))).toBe(true);
    expect(packet?.subarray(20, 24).toString('hex')).toBe('01010100');
  });
});

describe('IPv6', () => {
  const told = (part: Omit<Fragment, 'v4'>): unknown[] => {
    take({ v4: false, ...part });
    return toldFrames().map((frame) => [frame[54], frame[55], frame.readUInt32BE(58)]);
  };
  test('what is wrong with a fragment is told with its place (RFC 8200 §4.5, RFC 7112)', () => {
    expect(told({ from: 0, to: 1001, more: true })).toEqual([[4, 0, 4]]);
    expect(told({ from: 65_528, to: 65_536, more: false, data: DATA.subarray(0, 8) })).toEqual([[4, 0, 42]]);
    expect(told({ from: 0, to: 16, more: true, protocol: TCP })).toEqual([[4, 3, 0]]);
  });
  test('a header chain that goes on in the next fragment is tiny', () => {
    const before = dropCount('fragment-tiny');
    // Destination options of 24 bytes, of which 16 are here.
    const data = Uint8Array.from([UDP, 2, 1, 12, ...new Array(12).fill(0)]);
    expect(take({ v4: false, from: 0, to: 16, more: true, protocol: 60, data })).toBeNull();
    expect(dropCount('fragment-tiny') - before).toBe(1);
  });
  test('extension headers before the fragment header are left out of the whole', () => {
    const extra = [44, 0, 1, 4, 0, 0, 0, 0];
    take({ v4: false, from: 0, to: 800, more: true, extra });
    const packet = take({ v4: false, from: 800, to: 900, more: false, extra });
    expect(opened(packet, false).equals(DATA.subarray(0, 900))).toBe(true);
  });
});
