// SPDX-License-Identifier: Apache-2.0
/**
 * Lives of connections, thousands of them, each from a seed: model guests behind a tap that loses and repeats frames,
 * sockets that take and give what they like. Whatever happens, both streams arrive whole and in order, the invariants of
 * conn.ts hold after each turn (the bench looks), and at the end everything is given back.
 */
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
const { Guest, randomOf, STREAM } = await import('../../../test/support/tcp-guest.ts');
const stash = await import('./stash.ts');
type Stream = import('../../../test/support/fake-stream.ts').Stream;
type Bench = InstanceType<typeof t.Bench>;

const LIVES_A_WORLD = 250;
const STEPS_MAX = 120;
const DRAIN_TURNS_MAX = 2000;
const ECONNREFUSED = 111;
const ECONNRESET = 104;

/** What came to pass in all lives, so that the simulation cannot lose its teeth unnoticed. */
const seen = {
  inbound: 0,
  inboundWhole: 0,
  retransmitted: 0,
  told: 0,
  zeroWindows: 0,
  kept: 0,
  resets: 0,
  lost: 0,
  wholeLives: 0,
};

type Ending = 'both close' | 'guest aborts' | 'peer resets' | 'refused';
interface Life {
  readonly guest: InstanceType<typeof Guest>;
  readonly ending: Ending;
  /** Bytes the peer sends before its FIN. */
  readonly total: number;
  socket: Stream | null;
  connected: boolean;
  sent: number;
  written: number;
  writes: number;
  ended: boolean;
}

const play = (world: import('../../../test/support/tcp-bench.ts').World, seed: number): void => {
  const random = randomOf(seed);
  const upTo = (n: number): number => Math.floor(random() * (n + 1));
  const chance = (p: number): boolean => random() < p;
  const size = (): number => upTo(chance(0.3) ? 200_000 : chance(0.5) ? 8000 : 50);
  const nearWrap = (): number => (chance(0.5) ? -upTo(20_000) : Math.floor(random() * 0x1_0000_0000) | 0);
  const loss = chance(0.3) ? 0 : random() * 0.3;
  const b: Bench = t.begin({ ...world, guestIsn: nearWrap(), ...(chance(0.3) ? { ourIsn: nearWrap() } : {}) });

  const endingOf = (): Ending =>
    chance(0.8) ? 'both close' : chance(0.4) ? 'guest aborts' : chance(0.7) ? 'peer resets' : 'refused';
  const endings = Array.from({ length: chance(0.3) ? 3 : 1 }, endingOf);
  const lives: Life[] = endings.map((ending, i) => ({
    guest: new Guest(
      {
        ...(chance(0.5) ? { passive: ending === 'refused' ? 'refuses' : 'listens' } : {}),
        port: 5000 + i,
        total: size(),
        // At least what the largest shift can say.
        capacity: 512 + upTo(chance(0.3) ? 100_000 : 5000),
        scale: chance(0.2) ? null : upTo(9),
        reassembles: chance(0.7),
        sack: chance(0.6),
      },
      random,
    ),
    ending,
    total: size(),
    socket: null,
    connected: false,
    sent: 0,
    written: 0,
    writes: 0,
    ended: false,
  }));
  const waiting: Life[] = [];

  /** What the tap lets through reaches the guests. */
  const toGuests = (lossNow: number): void => {
    for (const s of b.seen.splice(0)) {
      const life = lives[s.dstPort - 5000];
      if (life === undefined) throw new Error(`a frame for port ${s.dstPort}`);
      life.guest.checkAnnounced(s);
      if (s.flags.includes('R')) seen.resets++;
      if (random() < lossNow) {
        seen.lost++;
        continue;
      }
      life.guest.receive(s);
      if (random() < lossNow / 3) life.guest.receive(s);
    }
    for (const life of lives) checkWritten(life);
  };
  const checkWritten = (life: Life): void => {
    const { socket } = life;
    if (socket === null) return;
    for (; life.writes < socket.writes.length; life.writes++) {
      const data = socket.writes[life.writes] as Buffer;
      if (!data.equals(STREAM.subarray(life.written, life.written + data.length))) {
        throw new Error(`wrong bytes to the socket at ${life.written}`);
      }
      life.written += data.length;
    }
  };
  const guestsAct = (most: number, lossNow: number, close: boolean): void => {
    const segments = lives.flatMap((life) => {
      const all = life.guest.acts(b.nowMs, most, close);
      // A SYN that comes again after the answer was lost begins anew.
      if (all.some((s) => s.flags === 'S') && (life.socket?.closed ?? true) && !waiting.includes(life)) {
        waiting.push(life);
        life.connected = false;
      }
      return all.filter((s) => s.flags === 'S' || random() >= lossNow / 3);
    });
    // Interleaved, but each guest's own in order.
    if (lives.length > 1 && segments.length > 1) {
      const byPort = lives.map((life) => segments.filter((s) => s.srcPort === life.guest.plan.port));
      segments.length = 0;
      for (let i = 0; byPort.some((l) => i < l.length); i++) segments.push(...byPort.flatMap((l) => l.slice(i, i + 1)));
    }
    b.guestSends(...segments);
  };
  const helper = (): void => {
    if (waiting.length === 0) return;
    b.helperAnswers(waiting.length).forEach((s, i) => {
      (waiting[i] as Life).socket = s;
    });
    waiting.length = 0;
  };
  const connects = (life: Life): void => {
    if (life.guest.plan.passive !== undefined && life.socket === null) {
      seen.inbound++;
      life.connected = true;
      const early = STREAM.subarray(0, chance(0.5) ? upTo(Math.min(life.total, 3000)) : 0);
      life.sent = early.length;
      life.socket = b.accepts({
        guestPort: life.guest.plan.port,
        prepare: (s) => {
          s.room = upTo(chance(0.5) ? 5000 : 500_000) + 1;
          if (early.length > 0) s.receives(early);
        },
      });
      return;
    }
    const { socket } = life;
    if (socket === null || life.connected || socket.closed) return;
    life.connected = true;
    if (life.ending === 'refused') return b.peer((s) => s.fails(ECONNREFUSED), socket);
    socket.room = upTo(chance(0.5) ? 5000 : 500_000) + 1;
    b.peer((s) => s.connected(), socket);
  };
  const peerSends = (life: Life, bytes: number): void => {
    const { socket } = life;
    if (socket === null || !life.connected || socket.closed || life.ended) return;
    const data = STREAM.subarray(life.sent, Math.min(life.sent + bytes, life.total));
    life.sent += data.length;
    b.peer((s) => {
      if (data.length > 0) s.receives(data);
      if (life.sent === life.total && chance(0.5)) {
        life.ended = true;
        s.ends();
      }
    }, socket);
  };
  const gainsRoom = (life: Life, bytes: number): void => {
    if (life.socket !== null && life.connected && !life.socket.closed) b.peer((s) => s.gainsRoom(bytes), life.socket);
  };
  const interrupts = (life: Life): void => {
    if (life.ending === 'guest aborts') life.guest.abort();
    if (life.ending === 'peer resets' && life.socket !== null && life.connected && !life.socket.closed) {
      b.peer((s) => s.fails(ECONNRESET), life.socket);
    }
  };

  const steps = upTo(STEPS_MAX);
  for (let i = 0; i < steps; i++) {
    const life = lives[upTo(lives.length - 1)] as Life;
    const dice = random();
    if (dice < 0.35) guestsAct(upTo(8), loss, chance(0.2));
    else if (dice < 0.5) peerSends(life, upTo(chance(0.3) ? 100_000 : 3000));
    else if (dice < 0.6) gainsRoom(life, upTo(20_000));
    else if (dice < 0.75) life.guest.reads(upTo(20_000));
    else if (dice < 0.8) helper();
    else if (dice < 0.85) connects(life);
    else b.after(upTo(chance(0.2) ? 700 : 30));
    if (stash.chunksInUse() > 0) seen.kept++;
    toGuests(loss);
  }

  // Now everybody does what is left to do, over a tap that loses nothing.
  const over = (life: Life): boolean => (life.socket?.closed ?? false) && life.guest.done;
  let turns = 0;
  for (; turns < DRAIN_TURNS_MAX && !lives.every(over); turns++) {
    guestsAct(50, 0, true);
    toGuests(0);
    helper();
    for (const life of lives) {
      connects(life);
      peerSends(life, 1 << 20);
      gainsRoom(life, 1 << 16);
      interrupts(life);
      toGuests(0);
      life.guest.reads(1 << 20);
    }
    b.after(turns % 20 === 19 ? 10_000 : 100);
    toGuests(0);
  }
  for (const life of lives) {
    expect(over(life), `${life.ending} comes to its end`).toBe(true);
    seen.retransmitted += life.guest.repeated;
    seen.told += life.guest.told;
    seen.zeroWindows += life.guest.zeroWindows;
    if (life.ending !== 'both close') continue;
    seen.wholeLives++;
    if (life.guest.plan.passive !== undefined) seen.inboundWhole++;
    expect(life.written).toBe(life.guest.plan.total);
    // There is no TIME-WAIT: when the very last ACK was lost, what the guest sends again is answered by a reset.
    if (life.guest.state === 'open') expect(life.guest.allAcked).toBe(true);
    expect(life.guest.received).toBe(life.total);
    expect([life.guest.finReceived, life.socket?.shut, life.socket?.linger]).toEqual([true, true, false]);
  }
  b.expectGivenBack();
};

describe('any life of a connection', () => {
  afterEach(t.finish);
  test.each(t.READING_WORLDS)('$name', { timeout: 60_000 }, (world) => {
    for (let seed = 1; seed <= LIVES_A_WORLD; seed++) {
      try {
        play(world, seed);
      } catch (e) {
        throw new Error(`life ${seed}: ${e instanceof Error ? e.message : String(e)}`, { cause: e });
      }
    }
  });
  afterAll(() => {
    for (const [what, n] of Object.entries(seen)) expect(n, what).toBeGreaterThan(100);
  });
});
