// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const flows = await import('../../flow/table.ts');
const { IDLE_ESTABLISHED_MS, KEEPALIVE_IDLE_MS, KEEPALIVE_INTERVAL_MS } = await import('./constants.ts');

/** Within this, what the guest does not know of any more is forgotten. */
const FORGOTTEN_MS = 120_000;
const HOUR_MS = 3_600_000;
const PROBE = { flags: 'A', seq: 0, ack: 1, data: '' };

describe.each(t.WORLDS)('idle connections ($name)', (world) => {
  let b: InstanceType<typeof t.Bench>;
  beforeEach(() => {
    b = t.begin(world).established();
  });
  afterEach(t.finish);
  const alive = (): number => flows.count(flows.FLOW_TCP);
  /** Another connection of the guest is in use every ten seconds. */
  const guestLives = (ms: number): void => {
    for (let left = ms; left > 0; left -= 10_000) {
      b.after(Math.min(left, 10_000));
      b.guestSends({ flags: 'R', srcPort: 999 });
    }
  };

  test('are asked after in good time, not before', () => {
    b.after(KEEPALIVE_IDLE_MS - 100);
    b.expectNothing();
    b.after(3000);
    b.expectToGuest(PROBE);
    b.expectNothing();
  });
  test('live as long as the guest stands by them, asked once a minute', () => {
    let asked = 0;
    for (let i = 0; i < 600; i++) {
      b.after(1000);
      for (const s of b.seen.splice(0)) {
        expect(s).toMatchObject(PROBE);
        asked++;
        b.guestSends({});
      }
    }
    expect(alive()).toBe(1);
    expect(asked).toBeGreaterThanOrEqual(9);
    expect(asked).toBeLessThanOrEqual(600_000 / KEEPALIVE_IDLE_MS);
    b.peerSends('at last');
    b.expectData(1, 'at last');
    b.guestSends({ ack: 8 });
  });
  test('that the guest does not know any more are forgotten with its reset', () => {
    b.after(KEEPALIVE_IDLE_MS + 3000);
    b.expectToGuest(PROBE);
    // As Linux answers a segment for no connection (RFC 9293 §3.10.7.1): from the number that was acknowledged.
    b.guestSends({ flags: 'R', seq: 1 });
    b.expectNothing();
    expect(b.socket.linger).toBe(true);
    b.expectGivenBack();
  });
  test('without any answer are forgotten, if the guest is there', () => {
    guestLives(FORGOTTEN_MS);
    b.expectToGuest(PROBE, PROBE, PROBE, { flags: 'RA', seq: 1, ack: 1 });
    expect(b.socket.linger).toBe(true);
    b.expectGivenBack();
  });
  test('a single answer in time is enough', () => {
    guestLives(KEEPALIVE_IDLE_MS + 2 * KEEPALIVE_INTERVAL_MS + 5000);
    b.expectToGuest(PROBE, PROBE, PROBE);
    b.guestSends({});
    guestLives(KEEPALIVE_IDLE_MS - 10_000);
    b.expectNothing();
    expect(alive()).toBe(1);
  });
  test('are kept while the whole guest is silent (paused), for 2 h 4 min (RFC 5382 REQ-5)', () => {
    b.after(2 * HOUR_MS);
    expect(alive()).toBe(1);
    b.seen.length = 0;
    // It wakes up, and has time for an answer.
    b.guestSends({ flags: 'R', srcPort: 999 });
    b.after(KEEPALIVE_INTERVAL_MS + 2500);
    expect(alive()).toBe(1);
    expect(b.seen.splice(0).length).toBeGreaterThan(0);
    b.guestSends({});
    b.after(IDLE_ESTABLISHED_MS + 60_000);
    expect(b.seen.splice(0).pop()).toMatchObject({ flags: 'RA' });
    b.expectGivenBack();
  });
  test('half-closed by the guest are asked after, too, and live on', () => {
    b.guestSends({ flags: 'FA' });
    b.expectToGuest({ ack: 2 });
    for (let i = 0; i < 30; i++) {
      b.after(60_000);
      for (const s of b.seen.splice(0)) {
        expect(s).toMatchObject({ flags: 'A', seq: 0, ack: 2 });
        b.guestSends({ seq: 2 });
      }
    }
    b.peerSends('late');
    b.expectData(1, 'late');
    b.guestSends({ seq: 2, ack: 5 });
  });
  test('half-closed by the peer are asked after with a number before what the guest has', () => {
    b.peer((s) => s.ends());
    b.expectToGuest({ flags: 'FA', seq: 1 });
    b.guestSends({ ack: 2 });
    b.after(KEEPALIVE_IDLE_MS + 3000);
    b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
    b.guestSends({ ack: 2 });
  });
  test('with data that the guest owes an answer to are not: the data asks', () => {
    b.peerSends('abc');
    b.expectData(1, 'abc');
    b.after(FORGOTTEN_MS);
    for (const s of b.seen.splice(0)) expect(s).toMatchObject({ seq: 1, data: 'abc' });
  });
  test('traffic puts the question off', () => {
    for (let i = 0; i < 10; i++) {
      b.after(KEEPALIVE_IDLE_MS - 5000);
      b.guestSends({ seq: 1 + i, data: 'x' });
      b.expectToGuest({ flags: 'A', ack: 2 + i });
      b.expectNothing();
    }
  });
  test("the guest's own keep-alive segments are answered (RFC 9293 §3.8.4)", () => {
    b.guestSends({ seq: 0 });
    b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
    b.guestSends({ seq: 0, data: '\0' });
    b.expectToGuest({ flags: 'A', seq: 1, ack: 1 });
    b.expectToSocket('');
  });
  test('the guest that asks after its peer has the host ask, too, and as often', () => {
    const [SOL_TCP, TCP_KEEPIDLE, TCP_KEEPINTVL] = [6, 4, 5];
    const intervals = () =>
      b.socket.options.filter(([l, o]) => l === SOL_TCP && (o === TCP_KEEPIDLE || o === TCP_KEEPINTVL));
    b.guestSends({ seq: 0 });
    expect(intervals()).toEqual([]);
    for (let n = 0; n < 3; n++) {
      b.after(30_000);
      b.guestSends({ seq: 0 });
    }
    expect(intervals()).toEqual([
      [SOL_TCP, TCP_KEEPIDLE, 30],
      [SOL_TCP, TCP_KEEPINTVL, 30],
    ]);
    b.expectToGuest({ ack: 1 }, { ack: 1 }, { ack: 1 }, { ack: 1 });
    b = t.begin(world).established();
    b.after(50_000);
    b.guestSends({ seq: 1, data: 'x' });
    b.expectToGuest({ ack: 2 });
    b.socket.room = 0;
    b.after(40_000);
    b.guestSends({ seq: 2 });
    expect(intervals()).toEqual([]);
  });
});

describe('many idle connections', () => {
  afterEach(t.finish);
  test('share wake-ups, and are asked a few at a time', () => {
    const COUNT = 3000;
    const b = t.begin(t.WORLDS[0] as never);
    const ports = Array.from({ length: COUNT }, (_, i) => 10_000 + i);
    for (let at = 0; at < COUNT; at += 100) {
      const some = ports.slice(at, at + 100);
      b.guestSends(...some.map((srcPort) => ({ flags: 'S', seq: 0, srcPort, options: t.optionMss(t.MSS) })));
      const sockets = b.helperAnswers(some.length);
      b.turn(() => {
        for (const s of sockets) s.connected();
      });
      const replies = b.seen.splice(0);
      // Each has a number of its own: the bench's are relative to the first one's.
      b.guestSends(...replies.map((s) => ({ srcPort: s.dstPort, ack: (s.seq + 1) | 0 })));
      b.after(20);
    }
    expect(flows.count(flows.FLOW_TCP)).toBe(COUNT);
    b.seen.length = 0;
    let wakes = 0;
    b.mostAtOnce = 0;
    let asked = 0;
    const until = b.nowMs + 10 * KEEPALIVE_IDLE_MS;
    while (b.nowMs < until) {
      b.after(Math.max(b.nextDelay, 1));
      wakes++;
      const probes = b.seen.splice(0);
      asked += probes.length;
      b.guestSends(...probes.map((s) => ({ srcPort: s.dstPort, ack: (s.seq + 1) | 0 })));
    }
    expect(flows.count(flows.FLOW_TCP)).toBe(COUNT);
    expect(asked).toBeGreaterThan(8 * COUNT);
    // Every two seconds at most; what one look asks is spread over turns that do not sleep.
    expect(wakes).toBeLessThan((10 * KEEPALIVE_IDLE_MS) / 1900);
    expect(b.mostAtOnce).toBeLessThanOrEqual(64);
  });
});
