// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const flows = await import('../../flow/table.ts');
const descriptors = await import('../../flow/descriptors.ts');
const lru = await import('../../flow/lru.ts');
const guestError = await import('../../link/guest-error.ts');
const station = await import('../../link/station.ts');
const { dropCount } = await import('../../obs/drops.ts');
const { EVICTABLE_OPENING_MS, SYN_LINEAR_TIMEOUTS, SYN_RETRIES_DEFAULT } = await import('./constants.ts');
const { streams } = await import('../../../test/support/fake-stream.ts');
const fake = await import('../../../test/support/fake-io.ts');
const flow = await import('../../../test/support/flow-bench.ts');
const { ip4, ip6, u16, u32 } = await import('../../../test/support/guest-frames.ts');
const icmp = await import('../icmp.ts');
const { onGuestError } = await import('./guest-mtu.ts');
type Stream = import('../../../test/support/fake-stream.ts').Stream;

const ECONNRESET = 104;
const OPTIONS = [...t.optionMss(t.MSS), ...t.optionScale(7), ...t.SACK_PERMITTED];

describe.each(t.WORLDS)('a connection to the guest ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  beforeEach(() => {
    b = t.begin(world);
  });
  afterEach(t.finish);

  /** The guest's answer and our acknowledgement: established. */
  const answered = (more: import('../../../test/support/tcp-bench.ts').Segment = {}): void => {
    b.guestSends({ flags: 'SA', seq: 0, ack: 1, options: OPTIONS, ...more });
  };
  const established = (o: Parameters<typeof b.accepts>[0] = {}): Stream => {
    const s = b.accepts(o);
    b.expectToGuest({ flags: 'S', seq: 0 });
    answered();
    b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
    b.expectNothing();
    return s;
  };
  const wasReset = (s: Stream): void => {
    expect([s.linger, s.closed]).toEqual([true, true]);
    b.expectGivenBack();
  };
  /** What the guest's network says about the SYN, or about something else. */
  const told = (kind: import('../../link/guest-error.ts').Kind, seq: number): void => {
    b.turn(() => {
      fake.view.setInt32(fake.RX_AT + 4, seq);
      onGuestError(b.flow, kind, 0, fake.RX_AT);
    });
  };

  test('goes to the MAC that the guest’s address was heard from, while others behind a bridge speak', () => {
    station.see4(station.guest4Word());
    station.see6(station.guest6Word(0), station.guest6Word(1), station.guest6Word(2), station.guest6Word(3));
    station.learn(new DataView(Uint8Array.of(0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0xb).buffer), 0);
    b.accepts();
    // The bench takes no frame to another MAC than its own.
    b.expectToGuest({ flags: 'S', seq: 0 });
  });
  test('begins with a SYN that offers what we can', () => {
    b.accepts();
    const [syn] = b.expectToGuest({
      flags: 'S',
      seq: 0,
      ack: 0,
      scale: 8,
      sackPermitted: true,
      srcPort: t.REMOTE_PORT,
      dstPort: t.GUEST_PORT,
    });
    expect(syn?.mss).toBe(65_520 - (world.v4 ? 40 : 60));
    expect(syn?.win).toBeGreaterThan(0);
    answered();
    const [ack] = b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
    expect(b.expectWindow(ack)).toBeGreaterThan(65_535);
    expect(lru.classOf(b.flow)).toBe(lru.LRU_TCP);
  });
  test('carries data both ways and closes both ways', () => {
    const s = established();
    b.guestSends({ flags: 'PA', seq: 1, data: 'from the guest' });
    b.expectToSocket('from the guest');
    b.expectToGuest({ flags: 'A', seq: 1, ack: 15 });
    b.peerSends('from the client');
    b.expectToGuest({ flags: 'PA', seq: 1, ack: 15, data: 'from the client' });
    b.guestSends({ seq: 15, ack: 16 });
    b.peer((p) => p.ends());
    b.expectToGuest({ flags: 'FA', seq: 16, ack: 15 });
    b.guestSends({ seq: 15, ack: 17, data: 'late' });
    b.expectToGuest({ flags: 'A', ack: 19 });
    b.guestSends({ flags: 'FA', seq: 19, ack: 17 });
    b.expectToGuest({ flags: 'A', seq: 17, ack: 20 });
    expect([s.sent.toString(), s.shut, s.linger]).toEqual(['from the guestlate', true, false]);
    b.expectNothing();
    b.expectGivenBack();
  });
  test('what the client sent before the guest answered waits, and goes with our acknowledgement', () => {
    const s = b.accepts({ prepare: (p) => p.receives(Buffer.from('early')) });
    b.expectToGuest({ flags: 'S', seq: 0 });
    b.peerSends(' bird');
    b.expectNothing();
    answered();
    b.expectToGuest({ flags: 'PA', seq: 1, ack: 1, data: 'early bird' });
    b.expectNothing();
    b.guestSends({ seq: 1, ack: 11 });
    expect(s.queue.length).toBe(0);
  });
  test('a client that has closed its half before the guest answered', () => {
    b.accepts({
      prepare: (p) => {
        p.receives(Buffer.from('all of it'));
        p.ends();
      },
    });
    b.expectToGuest({ flags: 'S', seq: 0 });
    answered();
    b.expectToGuest({ flags: 'PA', seq: 1, ack: 1, data: 'all of it' }, { flags: 'FA', seq: 10, ack: 1 });
    b.guestSends({ seq: 1, ack: 11, data: 'thanks' }, { flags: 'FA', seq: 7, ack: 11 });
    b.expectToGuest({ flags: 'A', ack: 8 });
    b.expectToSocket('thanks');
    b.expectGivenBack();
  });
  test('urgent data in the queue is passed, and what is behind it', () => {
    for (const peekOffset of [true, false]) {
      b = t.begin({ ...world, peekOffset });
      const s = b.accepts({
        prepare: (p) => {
          p.receives(Buffer.from('abc'));
          p.receivesUrgent(Buffer.from('D'));
          p.receives(Buffer.from('efg'));
          p.ends();
        },
      });
      b.expectToGuest({ flags: 'S' });
      answered();
      for (let acked = 0; acked < 7; ) {
        const sent = b.seen.splice(0).filter((x) => !x.flags.includes('F'));
        expect(sent.length).toBeGreaterThan(0);
        for (const one of sent) {
          expect(one.data).toBe('abcDefg'.slice(acked, acked + one.data.length));
          acked += one.data.length;
        }
        b.guestSends({ seq: 1, ack: 1 + acked });
      }
      b.guestSends({ flags: 'FA', seq: 1, ack: 9 });
      b.seen.length = 0;
      expect(s.closed).toBe(true);
    }
  });
  test('honours what the guest can not: no scale, no SACK, its MSS', () => {
    b.accepts();
    b.expectToGuest({ flags: 'S' });
    answered({ options: t.optionMss(600), win: 2000 });
    const [ack] = b.expectToGuest({ flags: 'A' });
    expect(ack?.win).toBeGreaterThan(1000);
    b.peerSends(t.numbered(3000));
    b.expectData(1, t.numbered(2000).subarray(0, 2000), 600);
    b.expectNothing();
    b.guestSends({ seq: 50, ack: 2001, win: 2000, data: 'ahead' });
    expect(b.seen.every((s) => s.sack.length === 0)).toBe(true);
    b.seen.length = 0;
  });
  test('the window of the SYN|ACK is not scaled', () => {
    b.accepts();
    b.expectToGuest({ flags: 'S' });
    answered({ win: 10 });
    b.expectToGuest({ flags: 'A' });
    b.peerSends('0123456789abcdef');
    b.expectToGuest({ data: '0123456789' });
    b.expectNothing();
    b.guestSends({ seq: 1, ack: 11, win: 10 });
    b.expectToGuest({ data: 'abcdef' });
  });
  test('its SYN|ACK that comes again is challenged, and data goes on', () => {
    established();
    answered();
    b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
    b.peerSends('x');
    b.expectToGuest({ data: 'x' });
  });

  test('a SYN that is not answered is sent again as the host would, then the client is reset', () => {
    const s = b.accepts();
    b.expectToGuest({ flags: 'S', seq: 0 });
    b.after(200_000);
    const waits = [1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64];
    expect(waits.length).toBe(SYN_RETRIES_DEFAULT + SYN_LINEAR_TIMEOUTS + 1);
    expect(b.seen.map(({ flags, seq }) => `${flags} ${seq}`)).toEqual(waits.map((_, i) => (i < 10 ? 'S 0' : 'R 1')));
    let last = 0;
    for (const [i, { atMs }] of b.seen.splice(0).entries()) {
      const wait = 1000 * (waits[i] as number);
      expect(atMs - last).toBeGreaterThanOrEqual(wait);
      // The wheel's steps.
      expect(atMs - last).toBeLessThan(wait * 1.1);
      last = atMs;
    }
    wasReset(s);
  });
  test('the host’s tcp_syn_retries is what counts', () => {
    b = t.begin({ ...world, synRetries: 1 });
    const s = b.accepts();
    b.after(8000);
    expect(b.seen.splice(0).map(({ flags }) => flags)).toEqual(['S', 'S', 'S', 'S', 'S', 'S', 'R']);
    wasReset(s);
  });
  test('an answer to a later SYN does as well', () => {
    const s = b.accepts({ prepare: (p) => p.receives(Buffer.from('hello')) });
    b.after(8000);
    expect(b.seen.splice(0).map((x) => x.flags)).toEqual(['S', 'S', 'S', 'S', 'S', 'S', 'S']);
    answered();
    b.expectToGuest({ flags: 'PA', seq: 1, ack: 1, data: 'hello' });
    // The time-out is that of data again, not that of the SYN.
    b.after(1500);
    b.expectToGuest({ data: 'hello' });
    b.guestSends({ seq: 1, ack: 6 });
    expect(s.closed).toBe(false);
  });

  test('nobody listens: the client is reset', () => {
    const s = b.accepts();
    b.expectToGuest({ flags: 'S' });
    b.guestSends({ flags: 'RA', seq: 0, ack: 1 });
    b.expectNothing();
    wasReset(s);
  });
  test('a reset that does not acknowledge our SYN is none (RFC 9293 §3.10.7.3)', () => {
    const s = b.accepts();
    b.expectToGuest({ flags: 'S' });
    b.guestSends({ flags: 'R', seq: 0 }, { flags: 'RA', seq: 0, ack: 2 }, { flags: 'RA', seq: 0, ack: 0 });
    b.expectNothing();
    expect(s.closed).toBe(false);
    answered();
    b.expectToGuest({ flags: 'A', ack: 1 });
  });
  test('an old connection that the guest still has is cleared away, and the SYN comes again', () => {
    b.accepts();
    b.expectToGuest({ flags: 'S' });
    // RFC 5961 §4: it challenges our SYN.
    b.guestSends({ seq: 777_777, ack: -5000 });
    b.expectToGuest({ flags: 'R', seq: -5000 });
    b.after(1100);
    b.expectToGuest({ flags: 'S', seq: 0 });
    answered();
    b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
  });
  test('what is no answer is dropped', () => {
    const before = dropCount('tcp-malformed');
    b.accepts();
    b.expectToGuest({ flags: 'S' });
    b.guestSends({ flags: 'A', ack: 1 }, { flags: 'FA', ack: 1 }, { flags: 'SFA', seq: 0, ack: 1 }, { flags: 'F' });
    b.expectNothing();
    expect(dropCount('tcp-malformed')).toBe(before + 4);
    answered();
    b.expectToGuest({ flags: 'A', ack: 1 });
  });
  test('the guest’s network has no way there: the client is reset, if it is about our SYN', () => {
    for (const kind of [guestError.GONE, guestError.UNREACHABLE] as const) {
      const s = b.accepts();
      b.expectToGuest({ flags: 'S' });
      told(kind, (b.ourIsn + 1) | 0);
      expect(s.closed).toBe(false);
      told(kind, b.ourIsn);
      b.expectNothing();
      wasReset(s);
      b = t.begin(world);
    }
  });
  test('the word of a firewall in the guest, as its frames have it', () => {
    const refusals = world.v4
      ? ([
          [3, 3],
          [3, 10],
          [3, 1],
        ] as const) // port unreachable; host prohibited; host unreachable
      : ([
          [1, 4],
          [1, 1],
          [1, 3],
        ] as const); // port unreachable; prohibited; address unreachable
    for (const [type, code] of refusals) {
      const s = b.accepts();
      b.expectToGuest({ flags: 'S' });
      const [src, dst] = world.v4 ? [flow.REMOTE4, flow.GUEST4] : [flow.REMOTE6, flow.GUEST6];
      const syn = [
        ...u16(t.REMOTE_PORT),
        ...u16(t.GUEST_PORT),
        ...u32(b.ourIsn),
        0,
        0,
        0,
        0,
        0x50,
        2,
        0,
        0,
        0,
        0,
        0,
        0,
      ];
      const quoted = world.v4
        ? [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, ...ip4(src), ...ip4(dst), ...syn]
        : [0x60, 0, 0, 0, 0, 20, 6, 64, ...ip6(src), ...ip6(dst), ...syn];
      const l4 = flow.withChecksum(
        world.v4,
        world.v4 ? 1 : 58,
        [type, code, 0, 0, 0, 0, 0, 0, ...quoted],
        2,
        !world.v4,
      );
      b.turn(() => flow.deliver(icmp.fromTap, { v4: world.v4, protocol: world.v4 ? 1 : 58, l4 }));
      b.expectNothing();
      wasReset(s);
      b = t.begin(world);
    }
  });
  test('no such word ends a connection that is established', () => {
    const s = established();
    told(guestError.GONE, b.ourIsn);
    told(guestError.UNREACHABLE, (b.ourIsn + 1) | 0);
    expect(s.closed).toBe(false);
  });

  test('a client that resets before the guest answered: the guest’s half-open end is reset', () => {
    const s = b.accepts();
    b.expectToGuest({ flags: 'S' });
    b.peer((p) => p.fails(ECONNRESET));
    b.expectToGuest({ flags: 'R', seq: 1 });
    wasReset(s);
    answered();
    b.expectToGuest({ flags: 'R', seq: 1 });
  });
  test('what it had sent before the reset reaches the guest', () => {
    b.accepts({ prepare: (p) => p.receives(Buffer.from('last words')) });
    b.expectToGuest({ flags: 'S' });
    b.peer((p) => p.fails(ECONNRESET));
    b.expectNothing();
    answered();
    b.expectToGuest({ data: 'last words' }, { flags: 'RA', seq: 11 });
    b.expectGivenBack();
  });
  test('resets pass in both directions once it is established', () => {
    const s = established();
    b.guestSends({ flags: 'R', seq: 1 });
    wasReset(s);
    b = t.begin(world);
    established();
    b.peer((p) => p.fails(ECONNRESET));
    b.expectToGuest({ flags: 'RA', seq: 1 });
    b.expectGivenBack();
  });

  test('the guest’s reset waits for what it sent before, as long as the peer takes it', () => {
    const s = established();
    s.unacked = 5000;
    b.guestSends({ flags: 'PA', seq: 1, data: 'the answer' }, { flags: 'R', seq: 11 });
    b.expectNothing();
    b.after(1900);
    expect([s.sent.toString(), s.closed]).toEqual(['the answer', false]);
    s.unacked = 100;
    b.after(1900);
    expect(s.closed).toBe(false);
    // The ports are free meanwhile.
    const next = b.accepts();
    const [syn] = b.expectToGuest({ flags: 'S' });
    b.guestSends({ flags: 'RA', seq: 0, ack: ((syn?.seq ?? 0) + 1) | 0 });
    expect([next.closed, s.closed]).toEqual([true, false]);
    s.unacked = 0;
    b.after(100);
    wasReset(s);
  });
  test('a peer that takes nothing for a while is reset all the same', () => {
    const s = established();
    s.unacked = 5000;
    b.guestSends({ flags: 'R', seq: 1 });
    b.after(2500);
    wasReset(s);
  });
  test('what is left with us goes out before the reset', () => {
    const s = established();
    s.room = 4;
    b.guestSends({ flags: 'PA', seq: 1, data: 'the answer' }, { flags: 'R', seq: 11 });
    expect([s.sent.toString(), s.closed]).toEqual(['the ', false]);
    b.peer((p) => p.gainsRoom(100));
    expect(s.sent.toString()).toBe('the answer');
    b.after(100);
    b.seen.length = 0;
    wasReset(s);
  });
  test('both ends open at once', () => {
    const s = b.accepts({ prepare: (p) => p.receives(Buffer.from('crossed')) });
    b.expectToGuest({ flags: 'S', seq: 0 });
    b.guestSends({ flags: 'S', seq: 0, options: OPTIONS });
    b.expectToGuest({ flags: 'SA', seq: 0, ack: 1, scale: 8, sackPermitted: true });
    // RFC 9293 §3.5, figure 7: its answer to our SYN.
    b.guestSends({ flags: 'SA', seq: 0, ack: 1, win: 1000, options: OPTIONS });
    b.expectToGuest({ flags: 'PA', seq: 1, ack: 1, data: 'crossed' });
    b.guestSends({ flags: 'PA', seq: 1, ack: 8, data: 'over' });
    b.expectToGuest({ flags: 'A', ack: 5 });
    expect(s.sent.toString()).toBe('over');
  });
  test('both ends open at once, and our answer is lost', () => {
    b.accepts();
    b.expectToGuest({ flags: 'S', seq: 0 });
    b.guestSends({ flags: 'S', seq: 0, options: OPTIONS });
    b.expectToGuest({ flags: 'SA', seq: 0, ack: 1 });
    b.after(1200);
    b.expectToGuest({ flags: 'SA', seq: 0, ack: 1 });
    b.guestSends({ seq: 1, ack: 1 });
    b.expectNothing();
    expect(lru.classOf(b.flow)).toBe(lru.LRU_TCP);
  });

  test('the same addresses and ports twice: the second client is reset, the first connection stays', () => {
    const first = established();
    const before = dropCount('tuple-in-use');
    const second = b.accepts();
    b.expectNothing();
    expect([second.linger, second.closed, first.closed]).toEqual([true, true, false]);
    expect(dropCount('tuple-in-use')).toBe(before + 1);
    b.socket = first;
    b.peerSends('still');
    b.expectToGuest({ data: 'still' });
  });
  test('a connection that the guest itself has there is not disturbed', () => {
    b.established();
    const own = b.socket;
    const client = b.accepts();
    b.expectNothing();
    expect([client.closed, own.closed]).toEqual([true, false]);
    b.socket = own;
  });
  test('in TIME-WAIT they may be used again, with higher numbers', () => {
    established();
    b.peer((p) => p.ends());
    b.expectToGuest({ flags: 'FA', seq: 1 });
    b.guestSends({ flags: 'FA', seq: 1, ack: 2 });
    b.expectToGuest({ flags: 'A', seq: 2, ack: 2 });
    expect(lru.size(lru.LRU_TCP_TIME_WAIT)).toBe(1);
    const again = b.accepts();
    const [syn] = b.expectToGuest({ flags: 'S' });
    expect(syn?.seq).toBeGreaterThan(65_535);
    expect(lru.size(lru.LRU_TCP_TIME_WAIT)).toBe(0);
    b.guestSends({ flags: 'RA', seq: 0, ack: ((syn?.seq ?? 0) + 1) | 0 });
    wasReset(again);
  });
  test('where the guest is not known nobody is sent', () => {
    const before = dropCount('flow-refused');
    const s = b.accepts({ guestPort: 0 });
    b.expectNothing();
    wasReset(s);
    expect(dropCount('flow-refused')).toBe(before + 1);
  });
  test('a socket that cannot be watched', () => {
    const s = b.accepts({
      prepare: (p) => {
        p.failures.watch = 28;
      },
    });
    b.expectNothing();
    wasReset(s);
  });
});

describe.each(t.WORLDS.slice(0, 2))('many clients ($name)', (world) => {
  afterEach(t.finish);
  const half = (b: InstanceType<typeof t.Bench>, remotePort: number): Stream => {
    const s = b.accepts({ remotePort });
    b.expectToGuest({ flags: 'S', srcPort: remotePort });
    return s;
  };
  const PORTS = 1000;
  /** Room for 16, of which two are left to the guest. */
  const DESCRIPTORS = 64 + 16;

  test('half-open ones beyond the budget: the oldest is reset at both ends', () => {
    // A quarter of 4096 are 1024, the half-open ones of clients.
    const b = t.begin({ ...world, descriptors: 64 + 4096 });
    const all = Array.from({ length: 1024 }, (_, i) => half(b, PORTS + i));
    const before = dropCount('flow-evicted');
    b.accepts({ remotePort: PORTS + 1024 });
    b.expectToGuest({ flags: 'R', srcPort: PORTS }, { flags: 'S', srcPort: PORTS + 1024 });
    expect([all[0]?.linger, all[0]?.closed, all[1]?.closed]).toEqual([true, true, false]);
    expect([dropCount('flow-evicted') - before, flows.count(flows.FLOW_TCP)]).toEqual([1, 1024]);
    // None of them pushed out what the guest opens.
    b.guestSends({ flags: 'S', seq: 0, srcPort: 7, dstPort: 7 });
    expect([flows.count(flows.FLOW_TCP), dropCount('flow-evicted') - before]).toEqual([1025, 1]);
    for (const s of streams.values()) if (!s.closed) s.fails(ECONNRESET);
    b.turn();
    b.seen.length = 0;
  });
  test('whoever holds the others: the last eighth of the descriptors is the guest’s', () => {
    const b = t.begin(world);
    const taken = b.accepts({ remotePort: 4 });
    b.seen.length = 0;
    descriptors.configure(taken.fd + 1);
    const before = dropCount('flow-refused');
    const refused = b.accepts({ remotePort: 5 });
    descriptors.configure(1e9);
    b.expectNothing();
    expect([refused.linger, refused.closed, dropCount('flow-refused') - before]).toEqual([true, true, 1]);
    expect(taken.closed).toBe(false);
    b.turn(() => taken.fails(ECONNRESET));
    b.seen.length = 0;
  });
  test('at the limit of descriptors clients are reset at once, and the guest still has some', () => {
    const b = t.begin({ ...world, descriptors: DESCRIPTORS });
    Array.from({ length: 14 }, (_, i) => half(b, PORTS + i));
    const before = dropCount('flow-refused');
    const refused = b.accepts({ remotePort: 5 });
    b.expectNothing();
    expect([refused.linger, refused.closed, dropCount('flow-refused') - before]).toEqual([true, true, 1]);
    b.guestSends({ flags: 'S', seq: 0, srcPort: 7, dstPort: 7 });
    b.expectNothing();
    expect(flows.count(flows.FLOW_TCP)).toBe(15);
    // Half-open for a while, one gives way.
    b.after(EVICTABLE_OPENING_MS);
    b.seen.length = 0;
    b.accepts({ remotePort: 6 });
    b.expectToGuest({ flags: 'R', srcPort: PORTS }, { flags: 'S', srcPort: 6 });
    b.turn(() => {
      for (const s of streams.values()) if (!s.closed) s.fails(ECONNRESET);
    });
    b.seen.length = 0;
  });
});
