// SPDX-License-Identifier: Apache-2.0
import { afterEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const flows = await import('../../flow/table.ts');
const conn = await import('./conn.ts');
const { RTO_MIN_MS } = await import('./constants.ts');

describe.each([
  ['ours', { ourIsn: -1500 }],
  ['ours, at the sign', { ourIsn: 0x7fff_ffff - 1500 }],
  ["the guest's", { guestIsn: -1500 }],
  ["the guest's, at the sign", { guestIsn: 0x7fff_ffff - 1500 }],
  ['both', { ourIsn: -3, guestIsn: -3 }],
])('sequence numbers wrap at 2^32 (RFC 9293 §3.4): %s', (_name, isn) => {
  afterEach(t.finish);
  test.each(t.READING_WORLDS)('$name', (world) => {
    const b = t.begin({ ...world, ...isn });
    b.established();
    if ('ourIsn' in isn) expect(Math.abs(b.ourIsn - (isn.ourIsn as number))).toBeLessThan(3);
    for (let at = 0; at < 4000; at += 500) {
      b.guestSends({ seq: 1 + at, data: t.numbered(500, at) });
      b.expectToGuest({ flags: 'A', ack: 501 + at });
      // An old segment, a gap, a reset outside the window.
      b.guestSends({ seq: 1 + at, data: t.numbered(500, at) }, { flags: 'R', seq: at - 5000 });
      b.expectToGuest({ ack: 501 + at });
      if (at < 3500) {
        b.guestSends({ seq: 601 + at, data: t.numbered(3, 600 + at) });
        b.expectToGuest({ ack: 501 + at });
      }
    }
    b.expectToSocket(t.numbered(4000));
    b.peerSends(t.numbered(5000));
    b.expectData(1, t.numbered(5000));
    b.guestSends({ seq: 4001, ack: 1001 });
    for (let i = 0; i < 3; i++) b.guestSends({ seq: 4001, ack: 1001 });
    b.expectData(1001, t.numbered(1000, 1000));
    b.guestSends({ seq: 4001, ack: 3001 });
    b.expectData(3001, t.numbered(1000, 3000));
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
    b.after(50_000);
    b.expectNothing();
    expect(flows.count(flows.FLOW_TCP)).toBe(1);
  });
  test('nor its duplicate ACKs, nor its retries', () => {
    const b = t.begin(world);
    b.opening();
    const row = b.flow;
    b.peer((s) => s.connected());
    // All retries are used up; two duplicates are counted.
    b.after(300_000);
    expect(b.seen.splice(0).pop()).toMatchObject({ flags: 'RA' });
    conn.setDupAcks(row, 2);
    b.opening({ srcPort: 5001 });
    expect(b.flow).toBe(row);
    b.peer((s) => s.connected());
    b.after(1250);
    const [s] = b.expectToGuest({ flags: 'SA' }, { flags: 'SA' });
    const ack = (s?.seq ?? 0) + 1;
    b.guestSends({ srcPort: 5001, ack });
    b.peerSends('abc');
    b.expectToGuest({ data: 'abc' });
    b.guestSends({ srcPort: 5001, ack });
    b.expectNothing();
  });
});
