// SPDX-License-Identifier: Apache-2.0
/**
 * Transfers over a link with a round-trip time between the guest and us, on a fake clock, each from a seed. Held here:
 *
 *   whole      both streams arrive whole and in order, each end is told, and everything is given back
 *   honest     the model guest finds no broken rule (tcp-guest.ts): windows, acknowledgements, SACK blocks
 *   frugal     without loss nothing is sent twice and nothing waits for a time-out
 *   prompt     with selective acknowledgement, loss costs a few round trips, not time-outs: so much time and no more
 *   smooth     a window that a queue would not hold is spread over the round trip, and a full path is noticed
 *   bounded    what is sent again is in proportion to what was lost
 *
 * Time is that of the fake clock: the figures are the same on every machine.
 */
import { afterEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const { Guest, randomOf, STREAM } = await import('../../../test/support/tcp-guest.ts');
const { Line } = await import('../../../test/support/tcp-line.ts');
const recovery = await import('./recovery.ts');
type Seen = import('../../../test/support/tcp-bench.ts').Seen;
type Segment = import('../../../test/support/tcp-bench.ts').Segment;
type Stream = import('../../../test/support/fake-stream.ts').Stream;

const MIB = 1 << 20;
const STEP_MS = 2;
const LIFE_MS_MAX = 300_000;
const FEED_BYTES = 64 * 1024;

interface Plan {
  readonly seed: number;
  readonly rttMs: number;
  readonly loss: number;
  readonly reorder?: number;
  readonly duplicate?: number;
  readonly sack?: boolean;
  readonly reassembles?: boolean;
  readonly toGuest?: number;
  readonly fromGuest?: number;
  readonly capacity?: number;
  readonly socketRoom?: number;
  readonly queue?: { readonly length: number; readonly perMs: number };
  readonly world?: import('../../../test/support/tcp-bench.ts').World;
}
interface Outcome {
  readonly ms: number;
  readonly timeouts: number;
  readonly bytesAgain: number;
  readonly framesLost: number;
  readonly longestQueue: number;
}

const transfer = (p: Plan): Outcome => {
  const random = randomOf(p.seed);
  const b = t.begin(p.world ?? (t.WORLDS[2] as import('../../../test/support/tcp-bench.ts').World));
  const before = recovery.counts();
  const line = {
    delayMs: p.rttMs / 2,
    loss: p.loss,
    duplicate: p.duplicate ?? 0,
    reorder: p.reorder ?? 0,
    reorderMs: p.rttMs / 8,
  };
  const toGuestBytes = p.toGuest ?? 0;
  const fromGuestBytes = p.fromGuest ?? 0;
  const guest = new Guest(
    {
      port: 5000,
      total: fromGuestBytes,
      capacity: p.capacity ?? 4 * MIB,
      scale: 7,
      reassembles: p.reassembles ?? true,
      sack: p.sack ?? true,
    },
    random,
  );
  const toGuest = new Line<Seen>(p.queue === undefined ? line : { ...line, queue: p.queue }, random);
  const fromGuest = new Line<Segment>(line, random);
  let socket: Stream | null = null;
  let fed = 0;
  let written = 0;
  let writes = 0;
  const begun = b.nowMs;

  /** One step of the clock. True: all is done. */
  const step = (): boolean => {
    b.after(STEP_MS);
    const now = b.nowMs;
    for (const s of b.seen.splice(0)) {
      guest.checkAnnounced(s);
      toGuest.send(s, now);
    }
    for (const s of toGuest.arrived(now)) guest.receive(s);
    guest.reads(MIB);
    for (const s of guest.acts(now, 64, true)) fromGuest.send(s, now);
    const arrived = fromGuest.arrived(now);
    if (arrived.length > 0) b.guestSends(...arrived);
    if (socket === null && arrived.some((s) => s.flags === 'S')) {
      socket = b.helperAnswers()[0] as Stream;
      b.peer((s) => s.connected());
      if (toGuestBytes === 0) b.peer((s) => s.ends());
    }
    if (socket === null) return false;
    for (; writes < socket.writes.length; writes++) {
      const data = socket.writes[writes] as Buffer;
      if (!data.equals(STREAM.subarray(written, written + data.length))) throw new Error(`wrong bytes at ${written}`);
      written += data.length;
    }
    if (!socket.closed && fed < toGuestBytes && socket.queue.length < (p.socketRoom ?? MIB)) {
      const data = STREAM.subarray(fed, Math.min(fed + FEED_BYTES, toGuestBytes));
      fed += data.length;
      b.peer((s) => {
        s.receives(data);
        if (fed === toGuestBytes) s.ends();
      });
    }
    return guest.done && guest.allAcked && socket.closed && toGuest.empty && fromGuest.empty;
  };
  while (!step()) {
    if (b.nowMs - begun > LIFE_MS_MAX) throw new Error(`seed ${p.seed}: no end, ${guest.received} bytes came`);
  }
  const { bytesAgain, timeouts } = recovery.counts();
  const ms = b.nowMs - begun;
  expect([guest.received, written]).toEqual([toGuestBytes, fromGuestBytes]);
  expect([guest.state, socket === null || (socket as Stream).linger]).toEqual(['open', false]);
  b.seen.length = 0;
  b.after(120_000);
  b.seen.length = 0;
  b.expectGivenBack();
  return {
    ms,
    timeouts: timeouts - before.timeouts,
    bytesAgain: bytesAgain - before.bytesAgain,
    framesLost: toGuest.lost + fromGuest.lost,
    longestQueue: toGuest.longest,
  };
};

afterEach(t.finish);

describe('without loss nothing is sent twice and nothing waits for a time-out', () => {
  test.each([0, 20, 100])('round trip of %i ms', (rttMs) => {
    for (const world of t.WORLDS) {
      const o = transfer({ seed: 1, rttMs, loss: 0, toGuest: MIB, fromGuest: MIB / 2, world });
      expect(o).toMatchObject({ timeouts: 0, bytesAgain: 0 });
    }
  });
});

test('what may be under way doubles with every round trip', () => {
  // 256 KiB at first: with the handshake and the end, eight round trips; a fixed window would take fifteen.
  expect(transfer({ seed: 1, rttMs: 100, loss: 0, toGuest: 3 * MIB }).ms).toBeLessThan(900);
});

describe('loss with selective acknowledgement', () => {
  test.each([
    [20, 0.01],
    [20, 0.05],
    [100, 0.01],
    [100, 0.05],
  ])('to the guest, round trip of %i ms, %f lost', (rttMs, loss) => {
    for (let seed = 1; seed <= 3; seed++) {
      const o = transfer({ seed, rttMs, loss, toGuest: 3 * MIB });
      expect(o.framesLost).toBeGreaterThan(10);
      expect(o.timeouts).toBeLessThanOrEqual(2);
      // Three mebibytes are some six round trips of a window that doubles; each hole costs one more at most.
      expect(o.ms).toBeLessThan(30 * rttMs + 1500);
      expect(o.bytesAgain).toBeLessThan(3 * loss * 3 * MIB + 20 * t.MSS);
    }
  });
  test('that is only reordering costs little', () => {
    const o = transfer({ seed: 1, rttMs: 100, loss: 0, reorder: 0.05, toGuest: 3 * MIB });
    expect(o.timeouts).toBe(0);
    expect(o.ms).toBeLessThan(3000);
  });
});

describe('a link with a queue in front', () => {
  test('shorter than the window loses nothing of what the link can carry', () => {
    const o = transfer({ seed: 1, rttMs: 100, loss: 0, toGuest: MIB, queue: { length: 100, perMs: 30 } });
    expect(o).toMatchObject({ framesLost: 0, timeouts: 0, bytesAgain: 0 });
    expect(o.ms).toBeLessThan(1000);
  });
  test('that would hold everything is not filled with all that the guest would take', () => {
    const o = transfer({
      seed: 1,
      rttMs: 50,
      loss: 0,
      toGuest: 8 * MIB,
      socketRoom: 4 * MIB,
      queue: { length: 10_000, perMs: 4 },
    });
    expect(o).toMatchObject({ framesLost: 0, timeouts: 0, bytesAgain: 0 });
    // The path holds 200 frames; unbounded, the window would grow to four thousand.
    expect(o.longestQueue).toBeLessThan(1200);
  });
  test('that cannot hold what the guest would take is not filled over and over', () => {
    const o = transfer({ seed: 1, rttMs: 50, loss: 0, toGuest: 3 * MIB, queue: { length: 400, perMs: 8 } });
    expect(o.timeouts).toBe(0);
    // At the rate of the link it takes 400 ms.
    expect(o.ms).toBeLessThan(1200);
    expect(o.framesLost).toBeLessThan(800);
  });
});

describe('any link', () => {
  test('loses, repeats, reorders; guests with and without SACK and reassembly, small and large windows; both ways', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = randomOf(1000 + seed);
      const chance = (p: number): boolean => random() < p;
      transfer({
        seed,
        rttMs: [2, 10, 60, 200][Math.floor(random() * 4)] as number,
        loss: chance(0.2) ? 0 : random() * 0.1,
        reorder: chance(0.5) ? 0 : random() * 0.1,
        duplicate: chance(0.5) ? 0 : random() * 0.05,
        sack: chance(0.6),
        reassembles: chance(0.8),
        toGuest: chance(0.3) ? 0 : Math.floor(random() * 300_000),
        fromGuest: chance(0.3) ? 0 : Math.floor(random() * 150_000),
        capacity: chance(0.3) ? 3000 + Math.floor(random() * 20_000) : MIB,
        world: t.READING_WORLDS[seed % t.READING_WORLDS.length] as import('../../../test/support/tcp-bench.ts').World,
      });
    }
  }, 120_000);
});
