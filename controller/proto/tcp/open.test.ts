// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const fake = await import('../../../test/support/fake-io.ts');
const { dropCount } = await import('../../obs/drops.ts');
const flows = await import('../../flow/table.ts');
const { SYN_ACK_RETRIES_MAX } = await import('./constants.ts');

const ECONNRESET = 104;
const ECONNREFUSED = 111;
const EHOSTUNREACH = 113;
const ENETUNREACH = 101;
const ETIMEDOUT = 110;
const MALFORMED = 'tcp-malformed';
const CHECKSUM = 'tcp-checksum';

describe.each(t.WORLDS)('opening ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  const { v4 } = world;
  beforeEach(() => {
    b = t.begin(world);
  });
  afterEach(t.finish);

  describe('the handshake (RFC 9293 §3.5)', () => {
    test('asks the helper for the destination the guest named, and answers only when it is connected', () => {
      b.guestSends({ flags: 'S', seq: 0, options: t.optionMss(t.MSS) });
      expect(bench.requests().map((r) => r.params)).toEqual([
        { protocol: 'tcp', address: v4 ? bench.REMOTE4 : '2001:db8:2::7', port: t.REMOTE_PORT, sourcePort: 0 },
      ]);
      b.helperAnswers();
      b.expectNothing();
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA', seq: 0, ack: 1, srcPort: t.REMOTE_PORT, dstPort: t.GUEST_PORT });
      b.guestSends({});
      b.expectNothing();
    });
    test('announces the MSS that fits the link (RFC 6691)', () => {
      b.opening();
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA', mss: 65_520 - (v4 ? 40 : 60) });
    });
    test('announces the MSS of a small link', () => {
      b = t.begin({ ...world, mtu: 1280 });
      b.opening();
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA', mss: 1280 - (v4 ? 40 : 60) });
    });
    test('offers window scaling if the guest did (RFC 7323 §2.2)', () => {
      b.opening({ options: [...t.optionMss(t.MSS), ...t.optionScale(0)] });
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA', scale: 8 });
    });
    test('offers no window scaling if the guest did not, and scales nothing then (RFC 7323 §2.2)', () => {
      b.established({ win: 1500 }, { options: t.optionMss(t.MSS) });
      b.peerSends(t.numbered(4000));
      b.expectData(1, t.numbered(1500));
      b.expectNothing();
    });
    test('says so in the SYN|ACK', () => {
      b.opening({ options: t.optionMss(t.MSS) });
      b.peer((s) => s.connected());
      const [s] = b.expectToGuest({ flags: 'SA', scale: null });
      expect(b.expectWindow(s, 0)).toBe(0xffff);
    });
    test('takes a shift above 14 as 14 (RFC 7323 §2.3)', () => {
      b.established({ win: 1 }, { options: [...t.optionMss(t.MSS), ...t.optionScale(255)] });
      b.peerSends(t.numbered(20_000));
      b.expectData(1, t.numbered(1 << 14));
      b.expectNothing();
    });
    test('does not scale the window of the SYN, but that of the ACK after it (RFC 7323 §2.2)', () => {
      b.established({ win: 10 }, { options: [...t.optionMss(t.MSS), ...t.optionScale(7)], win: 5 });
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(1280));
    });
    test('assumes an MSS of 536, or 1220 over IPv6, when the guest names none (RFC 9293 §3.7.1)', () => {
      b.established({}, { options: t.optionScale(7) });
      b.peerSends(t.numbered(4000));
      b.expectData(1, t.numbered(4000), v4 ? 536 : 1220);
    });
    test('sends nothing that the link would not take, however large an MSS the guest names (RFC 9293 §3.7.1)', () => {
      b = t.begin({ ...world, mtu: 1280 }).established({}, { options: [...t.optionMss(9000), ...t.optionScale(7)] });
      b.peerSends(t.numbered(8000));
      b.expectData(1, t.numbered(8000), 1280 - (v4 ? 40 : 60));
    });
    test('sends no tiny segments, whatever MSS the guest names', () => {
      b.established({}, { options: [...t.optionMss(1), ...t.optionScale(7)] });
      b.peerSends(t.numbered(800));
      b.expectData(1, t.numbered(800), 88);
    });
    test('reads options in any order and up to the end of the list (RFC 9293 §3.2)', () => {
      b.established(
        { win: 1 },
        { options: [1, 8, 10, ...new Array(8).fill(7), 4, 2, ...t.optionScale(10), 2, 4, 3, 232, 0, 2] },
      );
      b.peerSends(t.numbered(1024));
      b.expectData(1, t.numbered(1024), 1000);
    });
    test('takes data on the ACK that ends it', () => {
      b.opening();
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA' });
      b.guestSends({ flags: 'PA', data: 'early' });
      b.expectToGuest({ flags: 'A', ack: 6 });
      b.expectToSocket('early');
    });
    test('ends also by the data behind its lost ACK (RFC 9293 §3.10.7.4)', () => {
      b.opening();
      b.peer((s) => s.connected());
      b.peerSends('banner');
      b.expectToGuest({ flags: 'SA' });
      b.expectNothing();
      b.guestSends({ flags: 'PA', data: 'x' });
      b.expectToGuest({ flags: 'PA', seq: 1, ack: 2, data: 'banner' });
    });
    test('sends the banner that came with the connection once it is established', () => {
      b.opening();
      b.peer((s) => {
        s.connected();
        s.receives(Buffer.from('220 hello'));
        s.ends();
      });
      b.expectToGuest({ flags: 'SA' });
      b.guestSends({});
      b.expectData(1, '220 hello');
      b.expectToGuest({ flags: 'FA', seq: 10 });
    });
    test('takes a new initial sequence number for each tuple and moment (RFC 6528 §3)', () => {
      const isns = new Set<number>();
      for (let i = 0; i < 8; i++) {
        const one = t.begin(world).established({ srcPort: 5000 + i }, { srcPort: 5000 + i });
        isns.add(one.ourIsn);
        one.guestSends({ flags: 'R', srcPort: 5000 + i });
        one.expectGivenBack();
      }
      expect(isns.size).toBe(8);
    });
  });

  describe('retransmission', () => {
    test('a SYN that comes again while the socket connects makes no second request and no answer', () => {
      b.opening();
      b.guestSends({ flags: 'S', seq: 0 }, { flags: 'S', seq: 0 });
      b.after(3000);
      b.guestSends({ flags: 'S', seq: 0 });
      expect(bench.requests()).toEqual([]);
      expect(flows.count(flows.FLOW_TCP)).toBe(1);
      b.expectNothing();
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA' });
      b.expectNothing();
    });
    test('a SYN that comes again after the SYN|ACK gets it again, the same', () => {
      b.opening();
      b.peer((s) => s.connected());
      const [first] = b.expectToGuest({ flags: 'SA' });
      b.guestSends({ flags: 'S', seq: 0 });
      const [second] = b.expectToGuest({ flags: 'SA' });
      expect({ ...second, atMs: 0 }).toEqual({ ...first, atMs: 0 });
    });
    test('the SYN|ACK is sent again after 1, 2, 4 … s, then the guest is given up (RFC 6298 §5.5)', () => {
      b.opening();
      b.peer((s) => s.connected());
      b.after(300_000);
      const all = b.expectToGuest(...new Array(SYN_ACK_RETRIES_MAX + 1).fill({ flags: 'SA', seq: 0, ack: 1 }), {
        flags: 'RA',
      });
      for (let i = 1, rto = 1000; i < all.length; i++, rto *= 2) {
        const gap = (all[i]?.atMs ?? 0) - (all[i - 1]?.atMs ?? 0);
        expect(gap).toBeGreaterThanOrEqual(rto);
        expect(gap).toBeLessThanOrEqual(rto * 1.25);
      }
      expect(b.socket.linger).toBe(true);
      b.expectGivenBack();
    });
    test('nothing is sent again once it is established', () => {
      b.established();
      b.after(50_000);
      b.expectNothing();
    });
  });

  test("a hop limit that is not the default is the socket's, from its SYN on", () => {
    for (const [hopLimit, asked] of [
      [64, undefined],
      [1, 1],
      [255, 255],
    ] as const) {
      b = t.begin(world);
      b.guestSends({ flags: 'S', seq: 0, hopLimit });
      expect(bench.requests().map((r) => (r.params as { hopLimit?: number }).hopLimit)).toEqual([asked]);
      b.helperAnswers();
    }
    b.guestSends({ flags: 'S', seq: 0, srcPort: 5, hopLimit: 0 });
    expect(bench.requests()).toEqual([]);
  });
  test('an attempt that the guest has given up does not hold its socket', () => {
    const sockets: InstanceType<typeof t.Bench>['socket'][] = [];
    for (const srcPort of [1, 2]) sockets.push(b.opening({ srcPort }));
    const again = (seconds: number) => {
      b.after(seconds * 1000);
      b.guestSends({ flags: 'S', seq: 0, srcPort: 2 });
    };
    again(1);
    again(2);
    again(4);
    expect(sockets.map((s) => s.closed)).toEqual([false, false]);
    again(8);
    again(16);
    expect(sockets.map((s) => s.closed)).toEqual([true, false]);
    again(32);
    expect(sockets[1]?.closed).toBe(false);
    b.after(140_000);
    b.expectNothing();
    b.expectGivenBack();
  });
  test('the SYN of another attempt, while the first one still connects, takes its place', () => {
    b.opening();
    b.guestSends({ flags: 'S', seq: 5000, win: 7, options: t.optionMss(600) });
    expect(bench.requests()).toEqual([]);
    b.peer((s) => s.connected());
    b.expectToGuest({ flags: 'SA', seq: 0, ack: 5001, scale: null });
    b.guestSends({ seq: 5001, data: 'new' });
    b.expectToGuest({ ack: 5004 });
    b.expectToSocket('new');
  });

  describe('failures', () => {
    test('a refused connection is a reset that acknowledges the SYN (RFC 9293 §3.10.7.3)', () => {
      b.opening();
      b.peer((s) => s.fails(ECONNREFUSED));
      const [s] = b.expectToGuest({ flags: 'RA', ack: 1 });
      expect((s as import('../../../test/support/tcp-bench.ts').Seen).seq).toBe(0);
      b.expectGivenBack();
    });
    test('a peer that takes the connection and resets it at once did not refuse it: SYN|ACK, what it sent, reset', () => {
      b.opening();
      b.peer((x) => {
        x.receives(Buffer.from('503 busy'));
        x.fails(ECONNRESET);
      });
      b.expectToGuest({ flags: 'SA', seq: 0, ack: 1 });
      b.guestSends({ seq: 1, ack: 1, flags: 'A' });
      b.expectData(1, '503 busy');
      b.expectToGuest({ flags: 'RA', seq: 9 });
      b.expectGivenBack();
    });
    test('with nothing sent the reset comes right behind the SYN|ACK', () => {
      b.opening();
      b.peer((x) => x.fails(ECONNRESET));
      b.expectToGuest({ flags: 'SA', seq: 0, ack: 1 }, { flags: 'RA', seq: 1 });
      b.expectGivenBack();
    });
    test('so is one that connect(2) refused at once', () => {
      b.guestSends({ flags: 'S', seq: 0 });
      b.helperFails({ errno: ECONNREFUSED });
      b.expectToGuest({ flags: 'RA', ack: 1 });
      b.expectGivenBack();
    });
    test.each([
      ['host', EHOSTUNREACH, v4 ? [3, 1] : [1, 3]],
      ['network', ENETUNREACH, v4 ? [3, 0] : [1, 0]],
    ])('an unreachable %s is an ICMP error that quotes the SYN (RFC 1122 §4.2.3.9)', (_what, errno, typeAndCode) => {
      b.guestIsn = 0x12345678;
      b.opening();
      b.peer((s) => s.fails(errno));
      const [e] = b.errors.splice(0);
      expect([e?.type, e?.code]).toEqual(typeAndCode);
      expect(e?.quotedProtocol).toBe(6);
      expect(e?.quote.readUInt16BE(0)).toBe(t.GUEST_PORT);
      expect(e?.quote.readUInt16BE(2)).toBe(t.REMOTE_PORT);
      expect(e?.quote.readUInt32BE(4)).toBe(0x12345678);
      b.expectNothing();
      b.expectGivenBack();
    });
    test('what the helper does not allow is administratively prohibited (RFC 1812 §5.2.7.1)', () => {
      b.guestSends({ flags: 'S', seq: 0 });
      b.helperFails('refused');
      const [e] = b.errors.splice(0);
      expect([e?.type, e?.code]).toEqual(v4 ? [3, 13] : [1, 1]);
      b.expectGivenBack();
    });
    test('what the network said about the SYN is passed on as it was said: TCP traceroute', () => {
      b.opening();
      const router = v4 ? [192, 0, 2, 254] : [...Buffer.from('20010db800ff00000000000000000009', 'hex')];
      const offender = Uint8Array.from(v4 ? [...new Array(10).fill(0), 0xff, 0xff, ...router] : router);
      const [origin, type, code] = v4 ? [2, 11, 0] : [3, 3, 0];
      fake.sockets
        .get(b.socket.fd)
        ?.errors.push({ payload: new Uint8Array(20), origin, type, code, errno: 113, offender });
      b.peer((s) => s.fails(EHOSTUNREACH));
      const [e] = b.errors.splice(0);
      expect([e?.type, e?.code, e?.from]).toEqual([type, code, v4 ? '192.0.2.254' : '2001:db8:ff:0:0:0:0:9']);
      expect(e?.quote.readUInt32BE(4)).toBe(b.guestIsn);
      b.expectNothing();
      b.expectGivenBack();
    });
    test("the host's own word, from an address that the guest bears, too, is the gateway's", () => {
      b.opening();
      const guest = v4 ? [192, 0, 2, 10] : [...Buffer.from('20010db800010002000a000000000010', 'hex')];
      const offender = Uint8Array.from(v4 ? [...new Array(10).fill(0), 0xff, 0xff, ...guest] : guest);
      const [origin, type, code] = v4 ? [2, 3, 1] : [3, 1, 3];
      fake.sockets
        .get(b.socket.fd)
        ?.errors.push({ payload: new Uint8Array(20), origin, type, code, errno: 113, offender });
      b.peer((s) => s.fails(EHOSTUNREACH));
      const [e] = b.errors.splice(0);
      expect([e?.type, e?.code]).toEqual([type, code]);
      expect(e?.from).not.toBe(e?.quotedSrc);
      b.expectGivenBack();
    });
    test('once it stands, errors of the network are hints: the socket stops reporting them (RFC 1122 §4.2.3.9)', () => {
      b.established();
      expect(b.socket.options).toContainEqual(v4 ? [0, 11, 0] : [41, 25, 0]);
    });
    test('a connection that times out stays silent: the guest has its own timer', () => {
      b.opening();
      b.peer((s) => s.fails(ETIMEDOUT));
      b.expectNothing();
      b.expectGivenBack();
    });
    test('the guest may try again on the same ports', () => {
      b.opening();
      b.peer((s) => s.fails(ECONNREFUSED));
      b.expectToGuest({ flags: 'RA' });
      b.opening({ seq: 0 });
      expect(flows.count(flows.FLOW_TCP)).toBe(1);
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA', ack: 1 });
    });
  });

  describe('a reset while the socket connects', () => {
    test('ends the flow without an answer: resets are never answered (RFC 9293 §3.10.7.1)', () => {
      b.opening();
      b.guestSends({ flags: 'R', seq: 1 });
      b.expectNothing();
      b.expectGivenBack();
    });
    test('before the helper answered: the socket is closed as it comes', () => {
      b.guestSends({ flags: 'S', seq: 0 });
      b.guestSends({ flags: 'R', seq: 1 });
      b.helperAnswers();
      b.expectNothing();
      b.expectGivenBack();
    });
    test('counts only at the next sequence number (RFC 5961 §3.2)', () => {
      b.opening();
      b.guestSends({ flags: 'R', seq: 2 }, { flags: 'RA', seq: 70_000 }, { flags: 'R', seq: -1 });
      expect(flows.count(flows.FLOW_TCP)).toBe(1);
      b.expectNothing();
    });
  });

  describe('a segment in answer to the SYN|ACK', () => {
    beforeEach(() => {
      b.opening();
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA' });
    });
    test.each([[0], [2], [-5]])(
      'that acknowledges %i instead of 1 is reset and establishes nothing (RFC 9293 §3.10.7.4)',
      (ack) => {
        b.guestSends({ ack, data: 'x' });
        b.expectToGuest({ flags: 'R', seq: ack });
        b.expectToSocket('');
        b.guestSends({});
        b.peerSends('y');
        b.expectToGuest({ flags: 'PA', data: 'y' });
      },
    );
    test('that is a reset at the next number ends the flow quietly', () => {
      b.guestSends({ flags: 'R', seq: 1 });
      expect(b.socket.linger).toBe(true);
      b.expectNothing();
      b.expectGivenBack();
    });
    test('that is another SYN is challenged; the reset that answers clears the way (RFC 5961 §4.2)', () => {
      b.guestSends({ flags: 'S', seq: 5000 });
      const [s] = b.expectToGuest({ flags: 'A', ack: 1 });
      b.guestSends({ flags: 'R', seq: s?.ack ?? 0 });
      b.expectGivenBack();
    });
  });

  describe('a segment for no flow (RFC 9293 §3.10.7.1)', () => {
    test('with ACK is reset at the number it acknowledges', () => {
      b.guestSends({ seq: 77, ack: 123_456, data: 'abc' });
      b.expectToGuest({ flags: 'R', seq: 123_456, ack: 0, win: 0 });
      b.guestSends({ flags: 'SA', ack: -9 });
      b.expectToGuest({ flags: 'R', seq: -9 });
    });
    test('without ACK is reset from 0, acknowledging all it occupies', () => {
      b.guestSends({ flags: 'F', seq: 77, data: 'abc' });
      b.expectToGuest({ flags: 'RA', seq: 0, ack: 81 });
      b.guestSends({ flags: 'P', seq: 5 });
      b.expectToGuest({ flags: 'RA', seq: 0, ack: 5 });
    });
    test('that opens and closes at once is a scan: silence, as a listening host would keep', () => {
      const before = dropCount('tcp-malformed');
      b.guestSends({ flags: 'SF', seq: 0 }, { flags: 'SFPU', seq: 0 });
      b.expectNothing();
      expect(dropCount('tcp-malformed')).toBe(before + 2);
    });
    test('that is a reset is not answered', () => {
      b.guestSends({ flags: 'R' }, { flags: 'RA' }, { flags: 'SR' });
      b.expectNothing();
    });
    test('makes no flow', () => {
      b.guestSends({}, { flags: 'FA' }, { flags: 'SA' });
      b.seen.length = 0;
      b.expectGivenBack();
    });
  });

  describe('what is dropped', () => {
    const dropped = (reason: typeof MALFORMED | typeof CHECKSUM, what: () => void): void => {
      const before = dropCount(reason);
      what();
      expect(dropCount(reason)).toBe(before + 1);
      b.expectNothing();
      expect(flows.count(flows.FLOW_TCP)).toBe(0);
    };
    test('a wrong checksum, unless the virtio-net header vouches for it (RFC 9293 §3.1, virtio 1.2 §5.1.6.2)', () => {
      for (const corrupt of [1, 0x8000, 0xfffe]) {
        dropped(CHECKSUM, () => b.guestSends({ flags: 'S', seq: 0, data: 'odd', corrupt }));
      }
      for (const vouched of [1, 2]) {
        const one = t.begin(world);
        one.guestSends({ flags: 'S', seq: 0, corrupt: 1, vouched });
        expect(flows.count(flows.FLOW_TCP)).toBe(1);
        one.guestSends({ flags: 'R', corrupt: 1, vouched });
        one.helperAnswers();
        one.expectGivenBack();
      }
    });
    test('port 0, on either side', () => {
      dropped(MALFORMED, () => b.guestSends({ flags: 'S', srcPort: 0 }));
      dropped(MALFORMED, () => b.guestSends({ flags: 'S', dstPort: 0 }));
    });
    test('a data offset below 5, or beyond the segment', () => {
      for (const words of [0, 4, 6, 15]) {
        const l4 = b.segmentBytes({ flags: 'S' });
        l4[12] = words << 4;
        dropped(MALFORMED, () => b.turn(() => b.deliver(l4, 1)));
      }
    });
    test('a segment cut at any byte of its header', () => {
      const l4 = b.segmentBytes({ flags: 'S', options: t.optionMss(t.MSS) });
      for (let n = 0; n < l4.length; n++) dropped(MALFORMED, () => b.turn(() => b.deliver(l4.slice(0, n), 1)));
    });
    test('no segment with wild options makes more of them than they hold', () => {
      // A length of 0, one beyond the header, and an MSS cut short: what came before counts.
      for (const options of [[2, 0], [3, 40, 1, 1], [...t.optionScale(7), 1, 1, 2, 4], new Array(40).fill(255)]) {
        const one = t.begin(world).established({}, { options });
        one.peerSends(t.numbered(600));
        one.expectData(1, t.numbered(600), v4 ? 536 : 1220);
        one.finish();
      }
    });
  });
});

describe('what runs out', () => {
  const world = t.WORLDS[0] as import('../../../test/support/tcp-bench.ts').World;
  const ENOSPC = 28;
  let b: InstanceType<typeof t.Bench>;
  beforeEach(() => {
    b = t.begin(world);
  });
  afterEach(t.finish);

  test('rows of the table: the guest is refused at once', () => {
    const rows: import('../../flow/table.ts').Flow[] = [];
    for (let f = flows.alloc(flows.FLOW_UDP); f !== flows.NO_FLOW; f = flows.alloc(flows.FLOW_UDP)) rows.push(f);
    const before = dropCount('flow-table-full');
    b.guestSends({ flags: 'S', seq: 0 });
    expect(dropCount('flow-table-full')).toBe(before + 1);
    b.expectToGuest({ flags: 'RA', seq: 0, ack: 1 });
    for (const f of rows) flows.release(f);
    flows.endTurn();
    b.expectGivenBack();
  });
  test('requests to the helper: silence, so that the guest asks again', () => {
    const REQUESTS_MAX = 2048;
    b = t.begin({ ...world, descriptors: 1 << 20 });
    const before = dropCount('flow-pending-full');
    const syn = (i: number) => ({ flags: 'S', seq: 0, srcPort: 10_000 + i, vouched: 1 });
    for (let i = 0; i < REQUESTS_MAX; i += 512) b.guestSends(...Array.from({ length: 512 }, (_, k) => syn(i + k)));
    b.expectNothing();
    b.guestSends(syn(REQUESTS_MAX));
    b.expectNothing();
    expect(dropCount('flow-pending-full')).toBe(before + 1);
    // No place among those in the making is given up for it.
    expect(flows.count(flows.FLOW_TCP)).toBe(REQUESTS_MAX);
    // The channel reads sixteen replies a turn.
    b.helperFails({ errno: ETIMEDOUT });
    for (let i = 0; i < REQUESTS_MAX / 64 / 16; i++) b.helperFails({ errno: ETIMEDOUT });
    b.expectNothing();
    b.expectGivenBack();
  });
  test('places in the epoll set: both sides are reset', () => {
    b.guestSends({ flags: 'S', seq: 0 });
    b.helperAnswers(1, (s) => {
      s.failures.watch = ENOSPC;
    });
    b.expectToGuest({ flags: 'RA', seq: 0, ack: 1 });
    b.expectGivenBack();
  });
});
