// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const { BURST_BYTES, DATA_RETRIES_MAX, RTO_MIN_MS } = await import('./constants.ts');
const { WINDOW_INITIAL } = await import('./congestion.ts');
type Seen = import('../../../test/support/tcp-bench.ts').Seen;

describe.each(t.READING_WORLDS)('to the guest ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  beforeEach(() => {
    b = t.begin(world).established();
  });
  afterEach(t.finish);

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
    test('fills a superframe with whole segments only', () => {
      b.peerSends(t.numbered(200_500));
      const all = b.seen.splice(0);
      const last = all.pop();
      for (const s of all) expect(s.bytes.length % t.MSS).toBe(0);
      expect(last?.bytes.length).toBeLessThan(65_536);
      if (world.vnet) expect(all.length).toBe(3);
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
      b.expectData(1, all.subarray(0, WINDOW_INITIAL));
      // What is acknowledged makes room for twice as much.
      b.guestSends({ ack: 1 + WINDOW_INITIAL });
      b.expectData(1 + WINDOW_INITIAL, all.subarray(WINDOW_INITIAL, 3 * WINDOW_INITIAL));
      b.guestSends({ ack: 1 + 3 * WINDOW_INITIAL });
      b.expectData(1 + 3 * WINDOW_INITIAL, all.subarray(3 * WINDOW_INITIAL));
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
      b.after(50_000);
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
    test('closed over data in flight is probed, too, and what was lost comes when it opens', () => {
      b = t.begin(world).established({ win: 24 });
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(3000));
      b.guestSends({ ack: 1001, win: 0 });
      b.after(RTO_MIN_MS * 1.25);
      b.expectToGuest({ flags: 'A', seq: 1000, data: '' });
      b.guestSends({ ack: 1001, win: 24 });
      b.after(RTO_MIN_MS * 1.25);
      b.expectData(1001, t.numbered(2000, 1000));
    });
    test('closed for an hour and answering is life', () => {
      b = t.begin(world).established({ win: 8 });
      b.peerSends(t.numbered(3000));
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1025, win: 0 });
      let probes = 0;
      for (let s = 0; s < 3600; s++) {
        b.after(1000);
        for (const p of b.seen.splice(0)) {
          probes++;
          expect(p).toMatchObject({ flags: 'A', seq: 1024 });
          b.guestSends({ ack: 1025, win: 0 });
        }
      }
      // Answered or not, they become more seldom: two minutes apart in the end (RFC 9293 §3.8.6.1).
      expect(probes).toBeLessThan(50);
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
      b.expectData(1001, t.numbered(1000, 1000));
      b.expectNothing();
    });
    test('more of them mean nothing more', () => {
      for (let i = 0; i < 300; i++) b.guestSends({ ack: 1001 });
      b.expectData(1001, t.numbered(1000, 1000));
      b.expectNothing();
    });
    test('what an acknowledgement of a part still misses is lost, too (RFC 6582 §3.2)', () => {
      b.guestSends({ ack: 1001 }, { ack: 1001 }, { ack: 1001 });
      b.expectData(1001, t.numbered(1000, 1000));
      b.guestSends({ ack: 3001 });
      b.expectData(3001, t.numbered(1000, 3000));
      b.guestSends({ ack: 5001 });
      b.after(10_000);
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
      b.expectData(1001, t.numbered(1000, 1000));
      // Only the second segment was lost: the guest has all now.
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
      b.expectData(1001, t.numbered(1000, 1000));
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
    b.expectData(1, t.numbered(Math.min(3 * BURST_BYTES, WINDOW_INITIAL)));
  });
});
