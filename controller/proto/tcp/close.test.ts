// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const flows = await import('../../flow/table.ts');
const { dropCount } = await import('../../obs/drops.ts');

const ECONNRESET = 104;
const ETIMEDOUT = 110;
const EHOSTUNREACH = 113;
const EIO = 5;

describe.each(t.WORLDS)('closing ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  beforeEach(() => {
    b = t.begin(world).established();
  });
  afterEach(t.finish);

  describe('by the guest first (RFC 9293 §3.6)', () => {
    test('its FIN is acknowledged and shuts the socket for writing', () => {
      b.guestSends({ flags: 'FA' });
      b.expectToGuest({ flags: 'A', seq: 1, ack: 2 });
      expect([b.socket.shut, b.socket.closed]).toEqual([true, false]);
    });
    test('data comes through until the peer closes, too; then all is given back', () => {
      b.guestSends({ flags: 'FA' });
      b.expectToGuest({ ack: 2 });
      b.peerSends('answer');
      b.expectData(1, 'answer');
      b.guestSends({ seq: 2, ack: 7 });
      b.peer((s) => s.ends());
      b.expectToGuest({ flags: 'FA', seq: 7, ack: 2 });
      expect(b.socket.closed).toBe(false);
      b.guestSends({ seq: 2, ack: 8 });
      b.expectNothing();
      expect(b.socket.linger).toBe(false);
      b.expectGivenBack();
    });
    test('a FIN with data, and behind data of the same batch, counts after all of it', () => {
      b.guestSends({ data: 'abc' }, { flags: 'FPA', seq: 4, data: 'def' });
      b.expectToSocket('abcdef');
      expect(b.socket.shut).toBe(true);
      b.expectToGuest({ flags: 'A', ack: 8 });
    });
    test('a FIN that comes again is acknowledged again, and counts once', () => {
      b.guestSends({ flags: 'FA', data: 'abc' });
      b.expectToGuest({ ack: 5 });
      for (const again of [
        { flags: 'FA', data: 'abc' },
        { flags: 'FA', seq: 4 },
        { flags: 'FA', seq: 2, data: 'bc' },
      ]) {
        b.guestSends(again);
        b.expectToGuest({ flags: 'A', ack: 5 });
      }
      b.expectToSocket('abc');
    });
    test('data behind its FIN is not taken', () => {
      b.guestSends({ flags: 'FA' });
      b.expectToGuest({ ack: 2 });
      b.guestSends({ seq: 2, data: 'more' }, { flags: 'FA', seq: 6 });
      b.expectToGuest({ flags: 'A', ack: 2 });
      expect(b.socket.closed).toBe(false);
      b.expectToSocket('');
    });
    test('a FIN behind a gap counts when the gap is filled', () => {
      b.guestSends({ flags: 'FA', seq: 4 });
      b.expectToGuest({ flags: 'A', ack: 1 });
      expect(b.socket.shut).toBe(false);
      b.guestSends({ data: 'ab' });
      b.expectToGuest({ ack: 3 });
      expect(b.socket.shut).toBe(false);
      b.guestSends({ seq: 3, data: 'c' });
      b.expectToGuest({ ack: 5 });
      b.expectToSocket('abc');
      expect(b.socket.shut).toBe(true);
    });
    test('a FIN behind data beyond the window does not count', () => {
      b.socket.room = 0;
      b.guestSends({ data: 'x' });
      const [s] = b.expectToGuest({ ack: 2 });
      const window = b.expectWindow(s);
      const data = t.numbered(window + 1);
      b.guestSends(
        ...[0, 60_000, 120_000, 180_000].map((at) => ({
          seq: 2 + at,
          data: data.subarray(at, at + 60_000),
          vouched: 1,
        })),
        { flags: 'FA', seq: 2 + 240_000, data: data.subarray(240_000), vouched: 1 },
      );
      b.expectToGuest({ ack: 2 + window });
      b.peer((x) => x.gainsRoom(1 << 20));
      b.expectToGuest({ ack: 2 + window });
      expect(b.socket.shut).toBe(false);
    });
    test('a FIN counts at a closed window', () => {
      b.socket.room = 0;
      let seq = 1;
      for (let win = 0xffff; win > 0; ) {
        b.guestSends({ seq, data: new Uint8Array(Math.min(win, 60_000)), vouched: 1 });
        seq += Math.min(win, 60_000);
        win = b.expectWindow(b.expectToGuest({ ack: seq })[0]);
      }
      b.guestSends({ flags: 'FA', seq });
      b.expectToGuest({ ack: seq + 1, win: 0 });
      expect(b.socket.shut).toBe(false);
      b.peer((x) => x.gainsRoom(1 << 20));
      expect(b.socket.shut).toBe(true);
    });
    test('the socket is shut only after what was kept for it', () => {
      b.socket.room = 2;
      b.guestSends({ flags: 'FA', data: 'abcdef' });
      b.expectToGuest({ ack: 8 });
      expect(b.socket.shut).toBe(false);
      b.peer((s) => s.gainsRoom(2));
      expect(b.socket.shut).toBe(false);
      b.peer((s) => s.gainsRoom(2));
      b.expectToSocket('abcdef');
      expect(b.socket.shut).toBe(true);
    });
    test('a FIN on the ACK of the handshake', () => {
      b = t.begin(world);
      b.opening();
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA' });
      b.guestSends({ flags: 'FA', data: 'all' });
      b.expectToGuest({ ack: 5 });
      b.expectToSocket('all');
      expect(b.socket.shut).toBe(true);
    });
  });

  describe('by the peer first (RFC 9293 §3.6)', () => {
    test('end of file is a FIN behind the data; the guest may go on', () => {
      b.peer((s) => {
        s.receives(Buffer.from('bye'));
        s.ends();
      });
      b.expectData(1, 'bye');
      b.expectToGuest({ flags: 'FA', seq: 4, ack: 1 });
      b.guestSends({ ack: 5 });
      b.guestSends({ ack: 5, data: 'still here' });
      b.expectToGuest({ flags: 'A', seq: 5, ack: 11 });
      b.expectToSocket('still here');
      expect(b.socket.closed).toBe(false);
      b.guestSends({ flags: 'FA', seq: 11, ack: 5 });
      b.expectToGuest({ flags: 'A', seq: 5, ack: 12 });
      expect([b.socket.shut, b.socket.linger]).toEqual([true, false]);
      b.expectGivenBack();
    });
    test('the half that is open lives as long as the guest uses it', () => {
      b.peer((s) => s.ends());
      b.expectToGuest({ flags: 'FA', seq: 1 });
      b.guestSends({ ack: 2 });
      b.socket.room = 0;
      for (let i = 0; i < 60; i++) {
        b.guestSends({ seq: 1 + i * 3, ack: 2, data: 'abc' });
        b.expectToGuest({ flags: 'A', ack: 4 + i * 3 });
        // Each edge reports end of file, too.
        b.peer((s) => s.gainsRoom(2));
        b.expectToGuest({ flags: 'A', ack: 4 + i * 3 });
        b.after(50_000);
        b.expectNothing();
      }
    });
    test('a FIN that the guest does not acknowledge is sent again (RFC 6298)', () => {
      b.peer((s) => {
        s.receives(Buffer.from('x'));
        s.ends();
      });
      b.expectData(1, 'x');
      b.expectToGuest({ flags: 'FA', seq: 2 });
      b.guestSends({ ack: 2 });
      b.after(250);
      b.expectToGuest({ flags: 'FA', seq: 2 });
      b.guestSends({ ack: 3 });
      b.after(50_000);
      b.expectNothing();
    });
    test('data and FIN that were lost come again together', () => {
      b.peer((s) => {
        s.receives(t.numbered(2500));
        s.ends();
      });
      b.expectData(1, t.numbered(2500));
      b.expectToGuest({ flags: 'FA', seq: 2501 });
      b.after(250);
      b.expectData(1, t.numbered(2500));
      b.expectToGuest({ flags: 'FA', seq: 2501 });
      // A part of it arrived.
      b.guestSends({ ack: 1001 });
      b.after(250);
      b.expectData(1001, t.numbered(1500, 1000));
      b.expectToGuest({ flags: 'FA', seq: 2501 });
      b.guestSends({ ack: 2502 });
      b.after(50_000);
      b.expectNothing();
    });
    test('a FIN acknowledged while it is sent again counts', () => {
      b = t.begin(world).established({ win: 24 });
      b.peer((s) => {
        s.receives(t.numbered(2000));
        s.ends();
      });
      b.expectData(1, t.numbered(2000));
      b.expectToGuest({ flags: 'FA', seq: 2001 });
      // The window shrinks, so that what is sent again ends before the FIN; then the late acknowledgement of all comes.
      b.guestSends({ ack: 2, win: 8 });
      b.after(250);
      b.expectData(2, t.numbered(1024, 1));
      b.expectNothing();
      b.guestSends({ ack: 2002 });
      b.after(50_000);
      b.expectNothing();
      b.guestSends({ flags: 'FA', ack: 2002 });
      b.expectToGuest({ flags: 'A', seq: 2002, ack: 2 });
      b.expectGivenBack();
    });
    test('end of file behind a full window is a FIN when the window opens', () => {
      b = t.begin(world).established({ win: 8 });
      b.peer((s) => {
        s.receives(t.numbered(1500));
        s.ends();
      });
      b.expectData(1, t.numbered(1024));
      b.guestSends({ ack: 1025, win: 0 });
      b.expectNothing();
      b.guestSends({ ack: 1025, win: 100 });
      b.expectData(1025, t.numbered(476, 1024));
      b.expectToGuest({ flags: 'FA', seq: 1501 });
    });
  });

  describe('by both', () => {
    test('at the same time: each FIN is acknowledged (RFC 9293 figure 13)', () => {
      b.turn(() => {
        b.deliver(b.segmentBytes({ flags: 'FA' }));
        b.socket.ends();
      });
      b.expectToGuest({ flags: 'FA', seq: 1, ack: 2 });
      expect([b.socket.shut, b.socket.closed]).toEqual([true, false]);
      b.guestSends({ seq: 2, ack: 2 });
      b.expectGivenBack();
    });
    test('crossing: the FIN that did not see ours', () => {
      b.peer((s) => s.ends());
      b.expectToGuest({ flags: 'FA', seq: 1, ack: 1 });
      b.guestSends({ flags: 'FA', ack: 1 });
      b.expectToGuest({ flags: 'A', seq: 2, ack: 2 });
      b.guestSends({ seq: 2, ack: 2 });
      b.expectGivenBack();
    });
    test('the last FIN of the guest, after the flow is gone, is reset', () => {
      b.peer((s) => s.ends());
      b.expectToGuest({ flags: 'FA' });
      b.guestSends({ flags: 'FA', ack: 2 });
      b.expectToGuest({ ack: 2 });
      b.expectGivenBack();
      b.guestSends({ flags: 'FA', ack: 2 });
      b.expectToGuest({ flags: 'R', seq: 2 });
    });
    test('the ports can be used again at once', () => {
      b.peer((s) => s.ends());
      b.expectToGuest({ flags: 'FA' });
      b.guestSends({ flags: 'FA', ack: 2 });
      b.expectToGuest({ ack: 2 });
      b.opening({ seq: 100_000 });
      expect(flows.count(flows.FLOW_TCP)).toBe(1);
      b.peer((s) => s.connected());
      b.expectToGuest({ flags: 'SA', ack: 100_001 });
    });
  });

  describe('a reset from the guest (RFC 5961 §3.2)', () => {
    test('at the next number ends both sides: the peer is reset, too', () => {
      b.guestSends({ flags: 'R' });
      expect(b.socket.linger).toBe(true);
      b.expectNothing();
      b.expectGivenBack();
    });
    test('counts from behind the data of its batch, which still goes out', () => {
      b.guestSends({ data: 'abc' }, { flags: 'RA', seq: 4 });
      b.expectToSocket('abc');
      b.expectGivenBack();
    });
    test('elsewhere in the window is challenged', () => {
      b.guestSends({ flags: 'R', seq: 2 });
      b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
      b.guestSends({ flags: 'R', seq: 60_000 });
      b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
      expect(b.socket.closed).toBe(false);
    });
    test('outside the window is dropped', () => {
      const before = dropCount('tcp-out-of-window');
      b.guestSends({ flags: 'R', seq: 0 }, { flags: 'R', seq: 1 << 30 }, { flags: 'R', seq: -(1 << 30) });
      expect(dropCount('tcp-out-of-window')).toBe(before + 3);
      b.expectNothing();
      expect(b.socket.closed).toBe(false);
    });
    test('ends a flow in the middle of closing', () => {
      b.guestSends({ flags: 'FA' });
      b.expectToGuest({ ack: 2 });
      b.guestSends({ flags: 'R', seq: 2 });
      b.expectGivenBack();
    });
  });

  describe('other signs of another time', () => {
    test('a SYN in an established connection is challenged, whatever its number (RFC 5961 §4.2)', () => {
      for (const s of [{ seq: 0 }, { seq: 1 }, { seq: 5000 }, { seq: -70_000 }, { seq: 1, flags: 'SA' }]) {
        b.guestSends({ flags: 'S', ...s });
        b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
      }
      b.guestSends({ data: 'fine' });
      b.expectToGuest({ ack: 5 });
    });
    test('an acknowledgement of what was never sent is challenged and its segment dropped (RFC 5961 §5.2)', () => {
      const before = dropCount('tcp-bad-ack');
      b.guestSends({ ack: 2, data: 'abc' }, { ack: 1 << 30, data: 'abc' });
      b.expectToGuest({ flags: 'A', seq: 1, ack: 1 }, { flags: 'A', seq: 1, ack: 1 });
      expect(dropCount('tcp-bad-ack')).toBe(before + 2);
      b.expectToSocket('');
    });
    test('an old acknowledgement says nothing, but its data counts', () => {
      b.peerSends('abc');
      b.expectData(1, 'abc');
      b.guestSends({ ack: 4 });
      b.guestSends({ ack: 1, data: 'late' });
      b.expectToGuest({ flags: 'A', seq: 4, ack: 5 });
      b.expectToSocket('late');
    });
  });

  test('what the guest left with us reaches the peer after both have said good-bye, whatever the guest says then', () => {
    b.socket.room = 2;
    b.guestSends({ data: 'abcdef' });
    b.expectToGuest({ ack: 7 });
    b.peer((s) => s.ends());
    b.expectToGuest({ flags: 'FA', seq: 1 });
    b.guestSends({ flags: 'FA', seq: 7, ack: 2 });
    b.expectToGuest({ flags: 'A', ack: 8 });
    // No ACK that a guest without the connection would have to reset.
    b.peer((s) => s.gainsRoom(2));
    b.expectNothing();
    b.guestSends({ flags: 'R', seq: 8 });
    b.peer((s) => s.gainsRoom(100));
    b.expectToSocket('abcdef');
    expect([b.socket.shut, b.socket.closed, b.socket.linger]).toEqual([true, true, false]);
    b.expectNothing();
  });

  describe('an error of the socket', () => {
    test('comes behind what the peer had sent before', () => {
      b.peer((s) => {
        s.receives(t.numbered(3000));
        s.fails(ECONNRESET);
      });
      b.expectData(1, t.numbered(3000));
      b.expectToGuest({ flags: 'RA', seq: 3001, ack: 1 });
      b.expectGivenBack();
    });
    test('comes behind it also when a write meets it', () => {
      b.peer((s) => {
        s.failures.writev = ECONNRESET;
        s.queue = t.numbered(500);
      });
      b.guestSends({ data: 'x' });
      b.expectData(1, t.numbered(500));
      b.expectToGuest({ flags: 'RA', seq: 501, ack: 1 });
      b.expectGivenBack();
    });
    test("comes behind it when the guest's window was too small for it", () => {
      b = t.begin(world).established({ win: 16 });
      b.peer((s) => {
        s.receives(t.numbered(5000));
        s.fails(ECONNRESET);
      });
      b.expectData(1, t.numbered(2048));
      b.expectNothing();
      b.guestSends({ ack: 2049, win: 16 });
      b.expectData(2049, t.numbered(2048, 2048));
      b.guestSends({ ack: 4097, win: 16 });
      b.expectData(4097, t.numbered(904, 4096));
      b.expectToGuest({ flags: 'RA', seq: 5001, ack: 1 });
      b.expectGivenBack();
    });
    test('is told at once when the guest has everything, its window closed or not', () => {
      b = t.begin(world).established({ win: 16 });
      b.peerSends(t.numbered(2048));
      b.expectData(1, t.numbered(2048));
      b.guestSends({ ack: 2049, win: 0 });
      b.peer((s) => s.fails(ECONNRESET));
      b.expectToGuest({ flags: 'RA', seq: 2049 });
      b.expectGivenBack();
    });
    test('that is only a hint of the network does not end it (RFC 1122 §4.2.3.9)', () => {
      b.peer((s) => {
        s.hint(EHOSTUNREACH);
      });
      b.expectNothing();
      b.peerSends('still there');
      b.expectData(1, 'still there');
      b.guestSends({ ack: 12 });
    });
    test.each([
      ['the peer resets', ECONNRESET],
      ['the peer is not heard of any more', ETIMEDOUT],
    ])('%s: the guest is reset at the next number it expects', (_what, errno) => {
      b.peerSends('abc');
      b.expectData(1, 'abc');
      b.guestSends({ ack: 4, data: 'x' });
      b.expectToGuest({ ack: 2 });
      b.peer((s) => s.fails(errno));
      b.expectToGuest({ flags: 'RA', seq: 4, ack: 2 });
      b.expectGivenBack();
    });
    test('when it is read', () => {
      b.peer((s) => {
        s.failures.recvv = ECONNRESET;
        s.receives(Buffer.from('x'));
      });
      b.expectToGuest({ flags: 'RA', seq: 1, ack: 1 });
      b.expectGivenBack();
    });
    test('when acknowledged data is taken out of it, also if the segment had more to say', () => {
      for (const more of [{}, { data: 'abc' }, { flags: 'FA' }]) {
        b = t.begin(world).established();
        b.peerSends('xyz');
        b.expectData(1, 'xyz');
        b.socket.failures.discard = EIO;
        b.guestSends({ ack: 4, ...more });
        b.expectToGuest({ flags: 'RA' });
        b.expectGivenBack();
      }
    });
    test('that lost bytes the guest acknowledged cannot go on', () => {
      b.peerSends('xyz');
      b.expectData(1, 'xyz');
      b.socket.queue = b.socket.queue.subarray(2);
      b.guestSends({ ack: 4 });
      b.expectToGuest({ flags: 'RA' });
      b.expectGivenBack();
    });
    test('an event without an error is none', () => {
      b.guestSends({ flags: 'FA' });
      b.expectToGuest({ ack: 2 });
      b.peer((s) => s.ends());
      b.expectToGuest({ flags: 'FA', seq: 1 });
      // EPOLLHUP: both halves are closed.
      b.peer((s) => {
        s.raised = true;
      });
      b.guestSends({ seq: 2, ack: 2 });
      b.expectGivenBack();
    });
  });
});
