// SPDX-License-Identifier: Apache-2.0
/** What was lost on the way to a guest with selective acknowledgements, and what is sent again (RFC 2018, RFC 6675, RFC 8985). */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const fake = await import('../../../test/support/fake-io.ts');
const congestion = await import('./congestion.ts');
const ranges = await import('./ranges.ts');
const { RTO_MIN_MS } = await import('./constants.ts');

let b: InstanceType<typeof t.Bench>;
const syn = { flags: 'S', seq: 0, options: [...t.optionMss(t.MSS), ...t.optionScale(7), ...t.SACK_PERMITTED] };
const all = t.numbered(10_000);
const expectAgain = (from: number, to: number): void => b.expectData(from, all.subarray(from - 1, to - 1));

describe.each(t.READING_WORLDS)('selective acknowledgement ($name)', (world) => {
  beforeEach(() => {
    b = t.begin(world).established({}, syn);
    b.peerSends(all);
    b.expectData(1, all);
  });
  afterEach(t.finish);

  test('one hole is filled, and nothing else is sent', () => {
    b.guestSends({ ack: 1001, sack: [[2001, 4001]] });
    b.expectNothing();
    b.guestSends({ ack: 1001, sack: [[2001, 5001]] });
    expectAgain(1001, 2001);
    b.guestSends({ ack: 1001, sack: [[2001, 10_001]] });
    b.expectNothing();
    b.guestSends({ ack: 10_001 });
    b.after(10_000);
    b.expectNothing();
  });
  test('several holes are filled in their order, each once', () => {
    b.guestSends({
      ack: 1001,
      sack: [
        [5001, 10_001],
        [2001, 3001],
      ],
    });
    expectAgain(1001, 2001);
    expectAgain(3001, 5001);
    b.guestSends({ ack: 3001, sack: [[5001, 10_001]] });
    b.expectNothing();
  });
  test('the third duplicate is enough when little is beyond the hole (RFC 5681 §3.2)', () => {
    b.guestSends({ ack: 8001 });
    b.guestSends({ ack: 8001, sack: [[9001, 9101]] }, { ack: 8001, sack: [[9001, 9201]] });
    b.expectNothing();
    b.guestSends({ ack: 8001, sack: [[9001, 9301]] });
    expectAgain(8001, 9001);
  });
  test('a tail that was lost is found by a probe, not by a time-out (RFC 8985 §7)', () => {
    b.guestSends({ ack: 7001 });
    b.after(1.2 * RTO_MIN_MS);
    expectAgain(9001, 10_001);
    b.guestSends({ ack: 7001, sack: [[9001, 10_001]] });
    expectAgain(7001, 9001);
    b.guestSends({ ack: 10_001 });
    b.after(10_000);
    b.expectNothing();
  });
  test('a time-out sends what the guest does not have', () => {
    b.guestSends({ ack: 1001, sack: [[3001, 9001]] });
    expectAgain(1001, 3001);
    b.after(4 * RTO_MIN_MS);
    const seqs = new Set(b.seen.splice(0).map((s) => s.seq));
    expect([seqs.has(1001), seqs.has(9001)]).toEqual([true, true]);
    for (const s of seqs) expect(s < 3001 || s >= 9001).toBe(true);
  });
  test('a guest that gives up what it told gets it again (RFC 2018 §8)', () => {
    b.guestSends({ ack: 1001, sack: [[2001, 10_001]] });
    expectAgain(1001, 2001);
    b.guestSends({ ack: 2001 });
    b.after(60 * RTO_MIN_MS);
    const seqs = new Set(b.seen.splice(0).flatMap((s) => (s.bytes.length > 0 ? [s.seq] : [])));
    expect(seqs.has(2001)).toBe(true);
  });
  test('blocks that cannot be are nothing', () => {
    const before = [1001, 5001] as const;
    b.guestSends({ ack: 1001 });
    for (const sack of [
      [[10_001, 20_001]],
      [[9001, 10_002]],
      [[5001, 4001]],
      [[5001, 5001]],
      [[1, 1001]],
      [[500, 9001]],
      [[1001, 9001]],
      [[1_000_000_000, -1_000_000_000]],
    ] as const) {
      b.guestSends({ ack: before[0], sack });
    }
    b.expectNothing();
  });
  test('a window that the guest takes back bounds what is sent again (RFC 9293 §3.8.6)', () => {
    b.guestSends({ ack: 1001, win: 12, sack: [[5001, 10_001]] });
    b.expectData(1001, all.subarray(1000, 1000 + 1536));
    b.expectNothing();
  });
});

describe.each([
  ['with', syn],
  ['without', { ...syn, options: syn.options.slice(0, -t.SACK_PERMITTED.length) }],
])('when other flows took all they can get of the pool, a guest %s selective acknowledgement', (_name, opening) => {
  const others = ranges.lists();
  const OTHERS = Array.from({ length: 20_000 }, (_, i) => (1000 + i) as never);
  beforeEach(() => {
    b = t.begin(t.WORLDS[0] as never).established({}, opening);
    for (const f of OTHERS) {
      for (let n = 0; n < 2000; n++) if (ranges.add(others, f, n * 4, n * 4 + 1) < 0) break;
    }
    expect(ranges.add(others, 999 as never, 1, 2)).toBe(-1);
    b.peerSends(all);
    b.expectData(1, all);
  });
  afterEach(() => {
    for (const f of OTHERS) ranges.clear(others, f);
    t.finish();
  });
  const firstsAgain = (): number[] => b.seen.splice(0).flatMap((s) => (s.seq === 1 ? [Math.round(s.atMs)] : []));

  test('time-outs send again, with back-off', () => {
    b.after(10 * RTO_MIN_MS);
    const times = firstsAgain();
    expect(times.length).toBeGreaterThan(2);
    const waits = times.slice(1).map((at, i) => at - (times[i] as number));
    for (const [i, wait] of waits.slice(1).entries()) expect(wait).toBeGreaterThan((waits[i] as number) * 1.5);
    b.guestSends({ ack: 10_001 });
    b.seen.length = 0;
  });
  test('so does fast retransmission', () => {
    const sack = opening === syn ? { sack: [[5001, 10_001]] as const } : {};
    b.guestSends({ ack: 1, ...sack }, { ack: 1, ...sack }, { ack: 1, ...sack });
    expect(firstsAgain().length).toBe(1);
    b.guestSends({ ack: 10_001 });
    b.seen.length = 0;
  });
});

test('a row that is used anew knows nothing of the guest’s times', () => {
  const f = 500 as never;
  const known = (): number[] => [
    congestion.patienceUs(f),
    congestion.rtoMs(f, 0),
    congestion.srttUs(f),
    congestion.leastRttUs(f),
    congestion.window(f),
    congestion.rate(f),
  ];
  congestion.reset(f);
  const fresh = known();
  congestion.sent(f, 1000, true);
  fake.setNow(fake.nowMs() + 1000);
  congestion.delivered(f, 1000, 1000);
  congestion.lost(f, 100);
  const used = known();
  expect(used.every((n, i) => n !== fresh[i])).toBe(true);
  congestion.reset(f);
  expect(known()).toEqual(fresh);
});
