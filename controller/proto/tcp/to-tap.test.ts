// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const flows = await import('../../flow/table.ts');
const conn = await import('./conn.ts');
const { BURST_BYTES, DATA_RETRIES_MAX, RTO_MAX_MS, RTO_MIN_MS } = await import('./constants.ts');
type Seen = import('../../../test/support/tcp-bench.ts').Seen;

/** Both ways of reading what was sent already: the kernel keeps the offset (Linux 6.9), or it is read over again. */
const WORLDS = t.WORLDS.flatMap((w) => [
  { ...w, peekOffset: true },
  { ...w, name: `${w.name}, no SO_PEEK_OFF`, peekOffset: false },
]);

describe.each(WORLDS)('to the guest ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  beforeEach(() => {
    b = t.begin(world).established();
  });
  afterEach(t.finish);
  /** The guest acknowledges something, so that the timeout is no longer the first one (RFC 6298 §2.1). Next byte: 2. */
  const measured = (): void => {
    b.peerSends('!');
    b.expectData(1, '!');
    b.guestSends({ ack: 2 });
    b.after(2000);
    b.expectNothing();
  };

  describe('data', () => {
    test('goes out with PSH and stays in the socket until it is acknowledged', () => {
      b.peerSends('abc');
      b.expectToGuest({ flags: 'PA', seq: 1, ack: 1, data: 'abc' });
      expect(b.socket.queue.toString()).toBe('abc');
      b.guestSends({ ack: 3 });
      expect(b.socket.queue.toString()).toBe('c');
      b.guestSends({ ack: 4 });
      expect(b.socket.queue.length).toBe(0);
      b.expectNothing();
    });
    test('is cut at the MSS, by the tap where it can (virtio 1.2 §5.1.6.2)', () => {
      b.peerSends(t.numbered(10_500));
      expect(b.seen.length).toBe(world.vnet ? 1 : 11);
      b.expectData(1, t.numbered(10_500));
    });
    test('goes on where the last burst ended, without waiting for acknowledgements', () => {
      b.peerSends('abc');
      b.peerSends('def');
      b.expectToGuest({ seq: 1, data: 'abc' }, { seq: 4, data: 'def' });
      b.guestSends({ ack: 4 });
      b.peerSends('ghi');
      b.expectToGuest({ seq: 7, data: 'ghi' });
      b.guestSends({ ack: 10 });
    });
    test('larger than a burst and a packet comes whole', () => {
      const all = t.numbered(2 * BURST_BYTES + 12_345);
      b.peerSends(all);
      b.expectData(1, all);
      b.guestSends({ ack: 1 + all.length });
      b.expectNothing();
      expect(b.socket.queue.length).toBe(0);
    });
    test('carries the window and acknowledges what came meanwhile', () => {
      b.guestSends({ data: 'request' });
      b.expectToGuest({ ack: 8 });
      b.peerSends('answer');
      const [s] = b.expectToGuest({ seq: 1, ack: 8, data: 'answer' }) as [Seen];
      expect(b.expectWindow(s)).toBeGreaterThan(1 << 20);
    });
    test('acknowledged in part is not sent again', () => {
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(3000));
      for (const ack of [1001, 1501, 3001]) b.guestSends({ ack });
      b.after(60_000);
      b.expectNothing();
    });
  });

  describe('the window of the guest (RFC 9293 §3.8.6)', () => {
    test('is filled and not exceeded', () => {
      b = t.begin(world).established({ win: 20 });
      b.peerSends(t.numbered(9000));
      b.expectData(1, t.numbered(2560));
      b.guestSends({ ack: 1001, win: 20 });
      b.expectData(2561, t.numbered(1000, 2560));
      b.guestSends({ ack: 3561, win: 40 });
      b.expectData(3561, t.numbered(5120, 3560));
      b.guestSends({ ack: 8681, win: 40 });
      b.expectData(8681, t.numbered(320, 8680));
    });
    test('is not filled by small pieces while more is in flight (RFC 9293 §3.8.6.2.1)', () => {
      b = t.begin(world).established({ win: 8 });
      b.peerSends(t.numbered(5000));
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 301, win: 8 });
      b.expectNothing();
      b.guestSends({ ack: 1001, win: 8 });
      b.expectData(1025, t.numbered(1000, 1024));
    });
    test('smaller than a segment is used when nothing is in flight', () => {
      b = t.begin(world).established({ win: 2 });
      b.peerSends(t.numbered(600));
      b.expectData(1, t.numbered(256));
      b.guestSends({ ack: 257, win: 2 });
      b.expectData(257, t.numbered(256, 256));
    });
    test('that opens resumes the sending at once', () => {
      b = t.begin(world).established({ win: 8 });
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1025, win: 0 });
      b.after(700);
      b.seen.length = 0;
      b.guestSends({ ack: 1025, win: 100 });
      b.expectData(1025, t.numbered(1976, 1024));
    });
    test('that grows without an acknowledgement is used', () => {
      b = t.begin(world).established({ win: 8 });
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(1024));
      b.guestSends({ win: 24 });
      b.expectData(1025, t.numbered(1976, 1024));
    });
    test('closed: it is probed with back-off, by a segment before the window (RFC 9293 §3.8.6.1)', () => {
      b = t.begin(world).established({ win: 8 });
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1025, win: 0 });
      const from = b.nowMs;
      b.after(30_000);
      const probes = b.seen.splice(0);
      expect(probes.length).toBeGreaterThanOrEqual(4);
      for (const p of probes) expect(p).toMatchObject({ flags: 'A', seq: 1024, data: '' });
      const gaps = probes.map((p, i) => p.atMs - (probes[i - 1]?.atMs ?? probes[0]?.atMs ?? 0)).slice(1);
      gaps.forEach((gap, i) => {
        expect(gap / (gaps[i - 1] ?? gap / 2)).toBeGreaterThan(1.6);
      });
      expect(b.nowMs - from).toBe(30_000);
    });
    test('closed for an hour and answering is life', () => {
      b = t.begin(world).established({ win: 8 });
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1025, win: 0 });
      for (let s = 0; s < 3600; s++) {
        b.after(1000);
        for (const p of b.seen.splice(0)) {
          expect(p).toMatchObject({ flags: 'A', seq: 1024 });
          b.guestSends({ ack: 1025, win: 0 });
        }
      }
      b.guestSends({ ack: 1025, win: 100 });
      b.expectData(1025, t.numbered(1976, 1024));
    });
    test('closed and silent for all probes ends the flow', () => {
      b = t.begin(world).established({ win: 8 });
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1025, win: 0 });
      b.after(3_600_000);
      const all = b.seen.splice(0);
      expect(all.pop()).toMatchObject({ flags: 'RA', seq: 1025 });
      expect(all.length).toBe(DATA_RETRIES_MAX);
      b.expectGivenBack();
    });
    test('closed while the peer closes: the FIN comes when it opens, and the flow ends', () => {
      b = t.begin(world).established({ win: 8 });
      b.peer((s) => {
        s.receives(t.numbered(1024));
        s.ends();
      });
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1025, win: 0 });
      b.after(10_000);
      b.seen.length = 0;
      b.guestSends({ ack: 1025, win: 8 });
      b.expectToGuest({ flags: 'FA', seq: 1025 });
      b.guestSends({ flags: 'FA', ack: 1026 });
      b.expectToGuest({ ack: 2 });
      b.expectGivenBack();
    });
    test('loss after a long closure is noticed after the first timeout, not the last', () => {
      b = t.begin(world).established({ win: 8 });
      b.peerSends(t.numbered(2000));
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1025, win: 0 });
      for (let s = 0; s < 300; s++) {
        b.after(1000);
        if (b.seen.splice(0).length > 0) b.guestSends({ ack: 1025, win: 0 });
      }
      b.guestSends({ ack: 1025, win: 8 });
      b.expectData(1025, t.numbered(976, 1024));
      b.after(RTO_MIN_MS * 1.25);
      b.expectData(1025, t.numbered(976, 1024));
    });
  });

  describe('retransmission', () => {
    test('begins after the first timeout of 1 s while nothing was acknowledged (RFC 6298 §2.1)', () => {
      b.peerSends('abc');
      b.expectData(1, 'abc');
      b.after(999);
      b.expectNothing();
      b.after(250);
      b.expectData(1, 'abc');
    });
    test('backs off by two from 200 ms and gives up in the end (RFC 6298 §5.5, RFC 9293 §3.8.3)', () => {
      measured();
      b.peerSends('abc');
      b.after(3_600_000);
      const all = b.seen.splice(0);
      expect(all.pop()).toMatchObject({ flags: 'RA', seq: 5 });
      expect(all.length).toBe(1 + DATA_RETRIES_MAX);
      for (const s of all) expect(s).toMatchObject({ flags: 'PA', seq: 2, data: 'abc' });
      for (let i = 1, rto = RTO_MIN_MS; i < all.length; i++, rto = Math.min(rto * 2, RTO_MAX_MS)) {
        const gap = (all[i]?.atMs ?? 0) - (all[i - 1]?.atMs ?? 0);
        expect(gap).toBeGreaterThanOrEqual(rto);
        expect(gap).toBeLessThanOrEqual(rto * 1.26);
      }
      expect(b.socket.linger).toBe(true);
      b.expectGivenBack();
    });
    test('goes back to the first byte that was not acknowledged and sends all from there, the right bytes', () => {
      measured();
      b.peerSends(t.numbered(5500));
      b.expectData(2, t.numbered(5500));
      b.guestSends({ ack: 2002 });
      b.after(RTO_MIN_MS * 1.25);
      b.expectData(2002, t.numbered(3500, 2000));
      b.guestSends({ ack: 4002 });
      b.after(RTO_MIN_MS * 1.25);
      b.expectData(4002, t.numbered(1500, 4000));
      b.guestSends({ ack: 5502 });
      b.peerSends('next');
      b.expectData(5502, 'next');
    });
    test('keeps the order with what arrives meanwhile', () => {
      measured();
      b.peerSends('abc');
      b.expectData(2, 'abc');
      b.after(150);
      b.peerSends('def');
      b.expectData(5, 'def');
      b.after(100);
      b.expectData(2, 'abcdef');
    });
    test('a timeout is counted from the sending, not from an earlier timer (RFC 6298 §5.1)', () => {
      measured();
      b.peerSends('abc');
      b.expectData(2, 'abc');
      b.after(10);
      b.guestSends({ ack: 5 });
      b.after(180);
      b.peerSends('def');
      b.expectData(5, 'def');
      b.after(199);
      b.expectNothing();
      b.after(60);
      b.expectData(5, 'def');
    });
    test('begins anew with each acknowledgement of something new (RFC 6298 §5.3)', () => {
      measured();
      b.peerSends(t.numbered(3000));
      b.expectData(2, t.numbered(3000));
      for (let i = 1; i < 15; i++) {
        b.after(150);
        b.guestSends({ ack: 2 + i * 200 });
      }
      b.after(150);
      b.expectNothing();
      b.guestSends({ ack: 3002 });
    });
    test('waits the short time again after a back-off that ended well (RFC 6298 §5.7)', () => {
      measured();
      b.peerSends('abc');
      b.after(8000);
      b.seen.length = 0;
      b.guestSends({ ack: 5 });
      b.peerSends('def');
      b.expectData(5, 'def');
      b.after(RTO_MIN_MS * 1.25);
      b.expectData(5, 'def');
    });
    test('late acknowledgement of what is being sent again is believed', () => {
      b = t.begin(world).established({ win: 40 });
      b.peerSends(t.numbered(4000));
      b.expectData(1, t.numbered(4000));
      b.guestSends({ win: 8 });
      b.after(1250);
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 3001, win: 8 });
      b.expectData(3001, t.numbered(1000, 3000));
      b.guestSends({ ack: 4001 });
      b.peerSends('!');
      b.expectData(4001, '!');
    });
    test('does not move our ACKs back to what the guest has long had (RFC 9293 §3.10.7.4)', () => {
      b = t.begin(world).established({ win: 40 });
      b.peerSends(t.numbered(4000));
      b.expectData(1, t.numbered(4000));
      b.guestSends({ win: 8 });
      b.after(1250);
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1, win: 8, data: 'abc' });
      b.expectToGuest({ flags: 'A', seq: 4001, ack: 4 });
    });
  });

  describe('duplicate acknowledgements (RFC 5681 §3.2)', () => {
    beforeEach(() => {
      b.peerSends(t.numbered(5000));
      b.expectData(1, t.numbered(5000));
      b.guestSends({ ack: 1001 });
    });
    test('three of them mean loss: it is sent again at once', () => {
      b.guestSends({ ack: 1001 }, { ack: 1001 });
      b.expectNothing();
      b.guestSends({ ack: 1001 });
      b.expectData(1001, t.numbered(4000, 1000));
    });
    test('more of them mean nothing more', () => {
      for (let i = 0; i < 300; i++) b.guestSends({ ack: 1001 });
      b.expectData(1001, t.numbered(4000, 1000));
      b.expectNothing();
    });
    test('not with another window, with data, or with a FIN', () => {
      b.guestSends({ ack: 1001 }, { ack: 1001, win: 60_000 }, { ack: 1001, win: 50_000 }, { ack: 1001, win: 40_000 });
      b.expectNothing();
      for (let i = 0; i < 3; i++) b.guestSends({ ack: 1001, win: 40_000, seq: 1 + i, data: 'x' });
      b.expectToGuest({ ack: 2 }, { ack: 3 }, { ack: 4 });
    });
    test('not when nothing is in flight', () => {
      b.guestSends({ ack: 5001 });
      for (let i = 0; i < 5; i++) b.guestSends({ ack: 5001 });
      b.expectNothing();
    });
    test('that the retransmission itself causes start no other one (RFC 6582 §3.2)', () => {
      b.guestSends({ ack: 1001 }, { ack: 1001 }, { ack: 1001 });
      b.expectData(1001, t.numbered(4000, 1000));
      // Only the second segment was lost: the guest has all now, and each segment that it had before is a duplicate.
      b.guestSends({ ack: 5001 });
      b.peerSends(t.numbered(2000, 5000));
      b.expectData(5001, t.numbered(2000, 5000));
      b.guestSends({ ack: 5001 }, { ack: 5001 }, { ack: 5001 }, { ack: 5001 });
      b.expectNothing();
      b.guestSends({ ack: 7001 });
      // A loss after that is one again.
      b.peerSends(t.numbered(2000, 7000));
      b.expectData(7001, t.numbered(2000, 7000));
      b.guestSends({ ack: 8001 });
      b.guestSends({ ack: 8001 }, { ack: 8001 }, { ack: 8001 });
      b.expectData(8001, t.numbered(1000, 8000));
    });
    test('and the timeout still works when the retransmission is lost, too', () => {
      b.guestSends({ ack: 1001 }, { ack: 1001 }, { ack: 1001 });
      b.expectData(1001, t.numbered(4000, 1000));
      b.after(RTO_MIN_MS * 1.5);
      b.expectData(1001, t.numbered(4000, 1000));
    });
  });

  test('one flow with much to send does not keep another from its turn', () => {
    const first = b.socket;
    const second = b.opening({ srcPort: 5001 });
    b.peer((s) => s.connected(), second);
    const [synAck] = b.expectToGuest({ flags: 'SA' });
    const isn = synAck?.seq ?? 0;
    b.guestSends({ srcPort: 5001, ack: isn + 1 });
    b.turn(() => {
      first.receives(t.numbered(3 * BURST_BYTES));
      second.receives(Buffer.from('small'));
    });
    const place = b.seen.findIndex((s) => s.dstPort === 5001);
    const before = b.seen.slice(0, place).reduce((n, s) => n + s.bytes.length, 0);
    expect(b.seen[place]).toMatchObject({ seq: isn + 1, data: 'small' });
    expect(before).toBeLessThanOrEqual(BURST_BYTES);
    b.seen.splice(place, 1);
    b.expectData(1, t.numbered(3 * BURST_BYTES));
  });
});

describe.each([
  ['ours', { ourIsn: -1500 }],
  ['ours, at the sign', { ourIsn: 0x7fff_ffff - 1500 }],
  ["the guest's", { guestIsn: -1500 }],
  ["the guest's, at the sign", { guestIsn: 0x7fff_ffff - 1500 }],
  ['both', { ourIsn: -3, guestIsn: -3 }],
])('sequence numbers wrap at 2^32 (RFC 9293 §3.4): %s', (_name, isn) => {
  afterEach(t.finish);
  test.each(WORLDS)('$name', (world) => {
    const b = t.begin({ ...world, ...isn });
    b.established();
    if ('ourIsn' in isn) expect(Math.abs(b.ourIsn - (isn.ourIsn as number))).toBeLessThan(3);
    for (let at = 0; at < 4000; at += 500) {
      b.guestSends({ seq: 1 + at, data: t.numbered(500, at) });
      b.expectToGuest({ flags: 'A', ack: 501 + at });
      // An old segment, a gap, a reset outside the window.
      b.guestSends({ seq: 1 + at, data: t.numbered(500, at) }, { flags: 'R', seq: at - 5000 });
      b.expectToGuest({ ack: 501 + at });
      b.guestSends({ seq: 601 + at, data: 'gap' });
      b.expectToGuest({ ack: 501 + at });
    }
    b.expectToSocket(t.numbered(4000));
    b.peerSends(t.numbered(5000));
    b.expectData(1, t.numbered(5000));
    b.guestSends({ seq: 4001, ack: 1001 });
    for (let i = 0; i < 3; i++) b.guestSends({ seq: 4001, ack: 1001 });
    b.expectData(1001, t.numbered(4000, 1000));
    b.guestSends({ seq: 4001, ack: 3001 });
    b.after(RTO_MIN_MS * 1.25);
    b.expectData(3001, t.numbered(2000, 3000));
    b.guestSends({ seq: 4001, ack: 5001 });
    b.peer((s) => s.ends());
    b.expectToGuest({ flags: 'FA', seq: 5001, ack: 4001 });
    b.guestSends({ flags: 'FA', seq: 4001, ack: 5002 });
    b.expectToGuest({ flags: 'A', seq: 5002, ack: 4002 });
    b.expectGivenBack();
  });
});

describe('the record (conn.ts)', () => {
  const world = t.WORLDS[0] as import('../../../test/support/tcp-bench.ts').World;
  afterEach(t.finish);
  test('names for logs what has been observed, in the order of a life', () => {
    const b = t.begin(world);
    b.opening();
    const f = b.flow;
    const names = (): string => conn.eventNames(f);
    expect(names()).toBe('connecting');
    b.peer((s) => s.connected());
    b.expectToGuest({ flags: 'SA' });
    expect(names()).toBe('sock-connected');
    b.guestSends({});
    b.guestSends({ flags: 'FA' });
    b.expectToGuest({ ack: 2 });
    expect(names()).toBe('sock-connected,established,tap-fin-rcvd,sock-fin-sent');
    b.peer((s) => s.ends());
    b.expectToGuest({ flags: 'FA' });
    expect(names()).toBe('sock-connected,established,sock-fin-rcvd,tap-fin-sent,tap-fin-rcvd,sock-fin-sent');
  });
  test('a row that is used again has nothing of its last flow', () => {
    const b = t.begin(world).established({ win: 8 });
    const row = b.flow;
    b.peer((s) => {
      s.receives(t.numbered(3000));
      s.ends();
    });
    b.expectData(1, t.numbered(1024));
    b.guestSends({ flags: 'R' });
    b.opening({ srcPort: 5001 });
    expect(b.flow).toBe(row);
    b.peer((s) => s.connected());
    const [s] = b.expectToGuest({ flags: 'SA' });
    b.guestSends({ srcPort: 5001, ack: (s?.seq ?? 0) + 1 });
    b.after(100_000);
    b.expectNothing();
    expect(flows.count(flows.FLOW_TCP)).toBe(1);
  });
});
