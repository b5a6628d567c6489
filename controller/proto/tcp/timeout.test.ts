// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const { DATA_RETRIES_MAX, RTO_MAX_MS, RTO_MIN_MS } = await import('./constants.ts');

describe.each(t.READING_WORLDS)('time ($name)', (world) => {
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

  describe('retransmission', () => {
    test('begins after the first timeout of 1 s while nothing was measured (RFC 6298 §2.1)', () => {
      // The handshake says nothing when its SYN|ACK went out twice.
      b = t.begin(world);
      b.opening();
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA' });
      b.after(1130);
      b.expectToGuest({ flags: 'SA' });
      b.guestSends({});
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
      b.guestSends({ ack: 2, win: 8 });
      b.after(250);
      b.expectData(2, t.numbered(1024, 1));
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
      b.guestSends({ ack: 2, win: 8 });
      b.after(250);
      b.expectData(2, t.numbered(1024, 1));
      b.guestSends({ ack: 2, win: 8, data: 'abc' });
      b.expectToGuest({ flags: 'A', seq: 4001, ack: 4 });
    });
  });
});
