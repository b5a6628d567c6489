// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const { streams } = await import('../../../test/support/fake-stream.ts');
const { dropCount } = await import('../../obs/drops.ts');
const flows = await import('../../flow/table.ts');
const conn = await import('./conn.ts');
const { PARTING_MS_MAX, STASH_CREDIT_BYTES, WINDOW_MAX } = await import('./constants.ts');
const stash = await import('./stash.ts');
const io = await import('../../../test/support/fake-io.ts');
type Stream = import('../../../test/support/fake-stream.ts').Stream;

const EPIPE = 32;
const ECONNRESET = 104;

describe.each(t.WORLDS)('from the guest ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  beforeEach(() => {
    b = t.begin(world).established();
  });
  afterEach(t.finish);
  /** The socket's send buffer has room for `bytes` and no more. */
  const leaveRoom = (bytes: number): void => {
    b.socket.room = bytes;
  };
  const kept = (): number => stash.bytes(b.flow);

  describe('data', () => {
    test('reaches the socket and is acknowledged', () => {
      b.guestSends({ flags: 'PA', data: 'abc' });
      b.expectToSocket('abc');
      b.expectToGuest({ flags: 'A', seq: 1, ack: 4, data: '' });
    });
    test('of one batch in order is one write and one acknowledgement', () => {
      b.guestSends({ data: 'abc' }, { seq: 4, data: 'def' }, { flags: 'PA', seq: 7, data: 'g' });
      expect(b.socket.writes.map(String)).toEqual(['abcdefg']);
      b.expectToGuest({ flags: 'A', ack: 8 });
    });
    test('of more segments than a write has ranges is written in order all the same', () => {
      const all = t.numbered(150 * 10);
      b.guestSends(
        ...Array.from({ length: 150 }, (_, i) => ({ seq: 1 + i * 10, data: all.subarray(i * 10, i * 10 + 10) })),
      );
      expect(b.socket.writes.length).toBe(3);
      b.expectToSocket(all);
      b.expectToGuest({ ack: 1501 });
    });
    test('is acknowledged by data that goes the other way in the same turn', () => {
      b.turn(() => {
        b.deliver(b.segmentBytes({ flags: 'PA', data: 'ping' }));
        b.socket.receives(Buffer.from('pong'));
      });
      b.expectToGuest({ flags: 'PA', seq: 1, ack: 5, data: 'pong' });
    });
    test('of several flows in one batch goes where it belongs', () => {
      const ports = [5001, 5002, 5003];
      const opened = ports.map((srcPort) => {
        const s = b.opening({ srcPort, options: [] });
        b.peer((x) => x.connected(), s);
        const [synAck] = b.expectToGuest({ flags: 'SA', dstPort: srcPort });
        b.guestSends({ srcPort, ack: (synAck?.seq ?? 0) + 1 });
        return { s, srcPort, ack: (synAck?.seq ?? 0) + 1 };
      });
      const parts = [0, 1, 2, 3].flatMap((i) =>
        opened.map(({ srcPort, ack }) => ({ srcPort, ack, seq: 1 + i * 7, data: `${srcPort}-${i};` })),
      );
      b.guestSends(...parts);
      for (const { s, srcPort } of opened) {
        b.expectToSocket([0, 1, 2, 3].map((i) => `${srcPort}-${i};`).join(''), s);
      }
      expect(b.seen.splice(0).map((s) => [s.flags, s.dstPort, s.ack])).toEqual(ports.map((p) => ['A', p, 29]));
    });
    test('with urgent, PSH and congestion bits is data (RFC 9293 §3.8.5)', () => {
      const l4 = b.segmentBytes({ flags: 'UPA', data: 'abc' });
      l4[13] = (l4[13] ?? 0) | 0xc0;
      b.turn(() => b.deliver(l4, 1));
      b.expectToSocket('abc');
      b.expectToGuest({ ack: 4 });
    });
    test('without ACK is dropped (RFC 9293 §3.10.7.4)', () => {
      b.guestSends({ flags: 'P', data: 'abc' });
      b.expectToSocket('');
      b.expectNothing();
    });
    test('behind header options lies where the data offset says', () => {
      b.guestSends({ data: 'abc', options: [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] });
      b.expectToSocket('abc');
      b.expectToGuest({ ack: 4 });
    });
  });

  describe('what was there before', () => {
    beforeEach(() => {
      b.guestSends({ data: 'abcdef' });
      b.expectToGuest({ ack: 7 });
    });
    test('is acknowledged again and not written again (RFC 9293 §3.10.7.4)', () => {
      b.guestSends({ data: 'abcdef' });
      b.expectToGuest({ flags: 'A', seq: 1, ack: 7 });
      b.guestSends({ seq: 3, data: 'cd' });
      b.expectToGuest({ ack: 7 });
      b.expectToSocket('abcdef');
    });
    test('is cut from what is new', () => {
      b.guestSends({ seq: 4, data: 'defghi' });
      b.expectToGuest({ ack: 10 });
      b.expectToSocket('abcdefghi');
    });
    test('is cut within one batch, too', () => {
      b.guestSends({ seq: 7, data: 'ghi' }, { seq: 5, data: 'efghijk' }, { seq: 7, data: 'ghi' });
      b.expectToGuest({ ack: 12 });
      b.expectToSocket('abcdefghijk');
    });
    test('is an acknowledgement all the same when the guest keeps alive (RFC 9293 §3.8.4)', () => {
      b.guestSends({ seq: 6 });
      b.expectToGuest({ flags: 'A', seq: 1, ack: 7 });
      b.guestSends({ seq: 6, data: '?' });
      b.expectToGuest({ flags: 'A', seq: 1, ack: 7 });
      b.expectToSocket('abcdef');
    });
  });

  describe('a gap', () => {
    test('is answered at once by a duplicate ACK for each segment (RFC 5681 §4.2)', () => {
      b.guestSends({ seq: 4, data: 'def' }, { seq: 7, data: 'ghi' });
      b.expectToGuest({ flags: 'A', seq: 1, ack: 1, data: '' }, { flags: 'A', seq: 1, ack: 1, data: '' });
      b.expectToSocket('');
    });
    test('after data in order acknowledges that first', () => {
      b.guestSends({ data: 'abc' }, { seq: 7, data: 'ghi' }, { seq: 10, data: 'jkl' });
      b.expectToGuest({ ack: 4 }, { ack: 4 });
      b.guestSends({ seq: 4, data: 'def' });
      b.expectToGuest({ ack: 13 });
      b.expectToSocket('abcdefghijkl');
    });
    test('before an empty segment is answered once (RFC 9293 §3.10.7.4)', () => {
      b.guestSends({ seq: 9 });
      b.expectToGuest({ flags: 'A', ack: 1 });
    });
  });

  describe('the window (RFC 9293 §3.8.6)', () => {
    test('is what the socket has room for and what is kept for it', () => {
      leaveRoom(100_000);
      b.guestSends({ data: 'x' });
      const [s] = b.expectToGuest({ ack: 2 });
      const window = b.expectWindow(s);
      // What was announced before is not taken back; it is less than that here.
      expect(window).toBeGreaterThan(100_000 + STASH_CREDIT_BYTES - 1 - 256);
      expect(window).toBeLessThanOrEqual(100_000 + STASH_CREDIT_BYTES - 1);
    });
    test('is never more than the field and its scale can say', () => {
      leaveRoom(1 << 30);
      b.guestSends({ data: 'x' });
      const [s] = b.expectToGuest({ ack: 2 });
      expect(b.expectWindow(s)).toBe(WINDOW_MAX);
    });
    test('does not take back what it announced when the socket shrinks', () => {
      leaveRoom(1_000_000);
      b.guestSends({ data: 'x' });
      const [before] = b.expectToGuest({ ack: 2 });
      leaveRoom(0);
      b.guestSends({ seq: 2, data: 'y' });
      const [after] = b.expectToGuest({ ack: 3 });
      // By less than one step of the scale (RFC 7323 §2.4).
      const retreat = 2 + b.expectWindow(before) - (3 + b.expectWindow(after));
      expect(retreat).toBeLessThan(256);
    });
    test('bounds what is taken: what lies beyond it is not acknowledged', () => {
      leaveRoom(100_000);
      b.guestSends({ data: 'x' });
      const [s] = b.expectToGuest({ ack: 2 });
      const window = b.expectWindow(s);
      const data = t.numbered(window + 10);
      const before = dropCount('tcp-out-of-window');
      const segments: { seq: number; data: Buffer }[] = [];
      for (let at = 0; at < data.length; at += 60_000) {
        segments.push({ seq: 2 + at, data: data.subarray(at, at + 60_000) });
      }
      b.guestSends(...segments);
      expect(dropCount('tcp-out-of-window')).toBe(before + 1);
      b.expectToGuest({ ack: 2 + window });
      b.peer((x) => x.gainsRoom(1 << 20));
      b.expectToGuest({ ack: 2 + window });
      b.expectToSocket(Buffer.concat([Buffer.from('x'), data.subarray(0, window)]));
    });
  });

  describe('a socket that takes only a part', () => {
    test('leaves the rest with us, acknowledged, to be written at EPOLLOUT', () => {
      leaveRoom(4);
      b.guestSends({ data: 'abcdef' });
      b.expectToSocket('abcd');
      expect(kept()).toBe(2);
      b.expectToGuest({ ack: 7 });
      b.peer((s) => s.gainsRoom(100));
      b.expectToSocket('abcdef');
      expect(kept()).toBe(0);
      b.expectToGuest({ flags: 'A', ack: 7 });
    });
    test('keeps the order while more comes', () => {
      leaveRoom(4);
      b.guestSends({ data: 'abc' }, { seq: 4, data: 'def' });
      b.guestSends({ seq: 7, data: 'ghi' });
      leaveRoom(1);
      b.guestSends({ seq: 10, data: 'jkl' });
      b.seen.length = 0;
      b.expectToSocket('abcd');
      b.peer((s) => s.gainsRoom(2));
      b.expectToSocket('abcdefg');
      b.expectToGuest({ ack: 13 });
      b.guestSends({ seq: 13, data: 'm' });
      b.expectToGuest({ ack: 14 });
      b.peer((s) => s.gainsRoom(100));
      b.expectToSocket('abcdefghijklm');
      b.expectToGuest({ ack: 14 });
      expect(stash.chunksInUse()).toBe(0);
    });
    test('with room again that EPOLLOUT has not told of yet: nothing overtakes what is kept, and the room does not count', () => {
      leaveRoom(4);
      b.guestSends({ data: 'abcdef' });
      b.seen.length = 0;
      // The kernel raises the edge only when a third of the buffer is free.
      leaveRoom(3_000_000);
      b.guestSends({ seq: 7, data: 'ghi' });
      const [s] = b.expectToGuest({ ack: 10 });
      b.expectToSocket('abcd');
      expect((conn.edgeToTap(b.flow) - conn.seqFromTap(b.flow)) | 0).toBeLessThanOrEqual(STASH_CREDIT_BYTES);
      expect(b.expectWindow(s)).toBeGreaterThan(STASH_CREDIT_BYTES - 1024);
      b.peer((x) => x.gainsRoom(1));
      b.expectToSocket('abcdefghi');
      b.expectToGuest({ ack: 10 });
    });
    test('sees the window shrink by what is kept, close, and open again as it drains', () => {
      leaveRoom(0);
      const edge = (): number => (conn.edgeToTap(b.flow) - conn.seqFromTap(b.flow)) | 0;
      const all: Buffer[] = [];
      let sent = 0;
      for (let n = 0; edge() > 0 && n < 100; n++) {
        const data = t.numbered(Math.min(edge(), 60_000), sent);
        all.push(data);
        b.guestSends({ seq: 1 + sent, data });
        sent += data.length;
        b.expectToGuest({ ack: 1 + sent });
      }
      expect(edge()).toBe(0);
      expect(kept()).toBe(sent);
      // A probe of the closed window is answered and not taken (RFC 9293 §3.8.6.1).
      b.guestSends({ seq: 1 + sent, data: '?' });
      b.expectToGuest({ ack: 1 + sent, win: 0 });
      b.peer((s) => s.gainsRoom(10_000));
      b.expectToSocket(Buffer.concat(all).subarray(0, 10_000));
      const [s] = b.expectToGuest({ flags: 'A', ack: 1 + sent });
      expect(b.expectWindow(s)).toBeGreaterThan(0);
      b.peer((x) => x.gainsRoom(1 << 30));
      b.expectToSocket(Buffer.concat(all));
      const [last] = b.expectToGuest({ ack: 1 + sent });
      expect(b.expectWindow(last)).toBe(WINDOW_MAX);
      expect(stash.chunksInUse()).toBe(0);
    });
    test('gets it chunk by chunk, across chunks, and gives every chunk back', () => {
      leaveRoom(1);
      const all = t.numbered(3 * stash.CHUNK_BYTES + 17);
      for (let at = 0; at < all.length; at += 50_000)
        b.guestSends({ seq: 1 + at, data: all.subarray(at, at + 50_000) });
      b.seen.length = 0;
      expect(stash.chunksInUse()).toBe(4);
      for (let n = 0; kept() > 0 && n < 100; n++) b.peer((s) => s.gainsRoom(4099));
      b.seen.length = 0;
      b.expectToSocket(all);
      expect(stash.chunksInUse()).toBe(0);
    });
    test('loses what is kept when the guest resets, and the peer takes no more', () => {
      leaveRoom(1);
      b.guestSends({ data: 'abc' });
      b.expectToGuest({ ack: 4 });
      b.guestSends({ flags: 'R', seq: 4 });
      b.after(PARTING_MS_MAX * 1.2);
      b.expectToSocket('a');
      b.expectGivenBack();
    });
    test('may fail as it drains: the guest is reset', () => {
      leaveRoom(1);
      b.guestSends({ data: 'abc' });
      b.expectToGuest({ ack: 4 });
      b.peer((s) => {
        s.failures.writev = ECONNRESET;
        s.gainsRoom(10);
      });
      b.expectToGuest({ flags: 'RA', seq: 1, ack: 4 });
      b.expectGivenBack();
    });
  });

  test('a write that fails resets both sides (EPIPE: the peer is gone)', () => {
    b.socket.failures.writev = EPIPE;
    b.guestSends({ data: 'abc' }, { seq: 4, data: 'def' });
    b.expectToGuest({ flags: 'RA', seq: 1, ack: 1 });
    expect(b.socket.linger).toBe(true);
    b.expectGivenBack();
  });
  test('a write that fails in the batch in which the guest resets ends the flow once', () => {
    b.socket.failures.writev = EPIPE;
    b.guestSends({ data: 'abc' }, { flags: 'R', seq: 4 });
    b.seen.length = 0;
    b.expectGivenBack();
  });
  test('a write that fails before a FIN, a gap or more data of the batch ends the flow once', () => {
    const more = Array.from({ length: 70 }, (_, i) => ({ seq: 4 + i, data: 'x' }));
    for (const tail of [[{ flags: 'FA', seq: 4 }], [{ seq: 9, data: 'x' }], more]) {
      const one = t.begin(world).established();
      one.socket.failures.writev = EPIPE;
      one.guestSends({ data: 'abc' }, ...tail);
      expect(one.seen.shift()).toMatchObject({ flags: 'RA', ack: 1 });
      // Whatever comes after it belongs to no connection.
      expect(one.seen.splice(0).every((s) => s.flags === 'R')).toBe(true);
      one.expectGivenBack();
    }
  });
});

describe('the pool of kept data', () => {
  const world = t.WORLDS[0] as import('../../../test/support/tcp-bench.ts').World;
  afterEach(t.finish);
  const CHUNKS = (io.STASH_END - io.STASH_AT) / stash.CHUNK_BYTES;

  test('exhausted: what it does not take was never received, and comes through when it is sent again', () => {
    const b = t.begin(world);
    const ack: number[] = [];
    const sockets: Stream[] = [];
    // Each flow fills the window it was told; together they would need more than there is.
    for (let i = 0; i < 150; i++) {
      const srcPort = 2000 + i;
      sockets.push(b.opening({ srcPort }));
      b.peer((s) => s.connected());
      b.socket.room = 0;
      const [s] = b.expectToGuest({ flags: 'SA' });
      ack[i] = (s?.seq ?? 0) + 1;
      b.guestSends({ srcPort, ack: ack[i] as number });
    }
    const took = new Array<number>(sockets.length).fill(0);
    const data = t.numbered(260_000);
    const before = dropCount('sock-full');
    const send = (i: number): void => {
      const srcPort = 2000 + i;
      const at = took[i] as number;
      b.guestSends({ srcPort, ack: ack[i] as number, seq: 1 + at, data: data.subarray(at, at + 50_000), vouched: 1 });
      const answer = b.seen.filter((s) => s.dstPort === srcPort).at(-1);
      took[i] = (answer?.ack ?? 1) - 1;
      b.seen.length = 0;
    };
    for (let round = 0; round < 6; round++) for (let i = 0; i < sockets.length; i++) send(i);
    expect(dropCount('sock-full')).toBeGreaterThan(before);
    expect(stash.chunksInUse()).toBe(CHUNKS);
    // All sockets have room again.
    for (const s of sockets) b.peer((x) => x.gainsRoom(1 << 20), s);
    b.seen.length = 0;
    expect(stash.chunksInUse()).toBe(0);
    for (let round = 0; round < 6; round++) for (let i = 0; i < sockets.length; i++) send(i);
    for (const s of sockets) b.expectToSocket(data, s);
    for (const s of streams.values()) b.peer((x) => x.fails(ECONNRESET), s);
    b.seen.length = 0;
    b.expectGivenBack();
    expect(flows.count(flows.FLOW_TCP)).toBe(0);
    expect(bench.requests()).toEqual([]);
  });

  test('exhausted: a FIN counts only when all before it was taken', () => {
    const b = t.begin(world).established();
    const other = flows.alloc(flows.FLOW_UDP);
    while (stash.append(other, io.OUT_AT, stash.CHUNK_BYTES) > 0);
    b.socket.room = 1;
    b.guestSends({ flags: 'FA', data: 'abc' });
    b.expectToGuest({ flags: 'A', ack: 2 });
    b.expectToSocket('a');
    expect(b.socket.shut).toBe(false);
    stash.discardAll(other);
    flows.release(other);
    flows.endTurn();
    b.guestSends({ flags: 'FA', data: 'abc' });
    b.expectToGuest({ flags: 'A', ack: 5 });
    b.peer((s) => s.gainsRoom(2));
    b.expectToSocket('abc');
    expect(b.socket.shut).toBe(true);
  });

  test('scarce: no more credit is announced, so that it does not come to that', () => {
    const b = t.begin(world).established();
    const f = b.flow;
    // Three quarters of the pool and a little, by a flow of the test's own.
    const other = flows.alloc(flows.FLOW_UDP);
    for (let n = 0; n < (CHUNKS * 3) / 4 + 1; n++) stash.append(other, io.OUT_AT, stash.CHUNK_BYTES);
    b.socket.room = 0;
    let seq = 1;
    for (let n = 0; n < 100 && ((conn.edgeToTap(f) - conn.seqFromTap(f)) | 0) > 0; n++) {
      const len = Math.min((conn.edgeToTap(f) - conn.seqFromTap(f)) | 0, 50_000);
      b.guestSends({ seq, data: new Uint8Array(len) });
      b.expectToGuest({ ack: seq + len });
      seq += len;
    }
    // Only what the SYN|ACK announced.
    expect(seq).toBe(1 + 0xffff);
    stash.discardAll(other);
    flows.release(other);
    flows.endTurn();
    b.peer((s) => s.gainsRoom(1 << 20));
    const [s] = b.expectToGuest({ ack: seq });
    expect(b.expectWindow(s)).toBeGreaterThan(STASH_CREDIT_BYTES);
  });
});
