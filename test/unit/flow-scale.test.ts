// SPDX-License-Identifier: Apache-2.0
/**
 * What a flow costs does not depend on how many there are: accesses to columns are counted, one flow among ten against one among
 * 100,000, in the table, its hash, its lists and its wheel, and for whole packets through the protocol. No clock is read.
 */
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import * as counter from '../support/count-columns.ts';
import { makeNetwork } from '../support/network.ts';

vi.mock('../../controller/io/io.ts', () => import('../support/fake-io.ts'));
const fake = await import('../support/fake-io.ts');
counter.watch();
const flows = await import('../../controller/flow/table.ts');
const hash = await import('../../controller/flow/hash.ts');
const lru = await import('../../controller/flow/lru.ts');
const wheel = await import('../../controller/flow/wheel.ts');
const t = await import('../support/tcp-bench.ts');
const bench = await import('../support/flow-bench.ts');
const guest = await import('../support/guest-frames.ts');
const out = await import('../../controller/link/out.ts');
const demux = await import('../../controller/app/demux.ts');
const conn = await import('../../controller/proto/tcp/conn.ts');
const { tick, heard, nextDelay, reset } = await import('../../controller/proto/tcp/keepalive.ts');
const caps = await import('../../controller/proto/tcp/caps.ts');
const { EVICTABLE_IDLE_MS, KEEPALIVE_IDLE_MS } = await import('../../controller/proto/tcp/constants.ts');
counter.unwatch();
type Flow = import('../../controller/flow/table.ts').Flow;

const FEW = 10;
const SOME = 1000;
/** Most connections of TCP; a few are of the test's own. */
const MANY = 100_000 - 20;
/** The "flat within 20 %". */
const FLAT = 1.2;
const SAMPLES = 1000;
const LIFE_MS = 120_000;
/** Descriptors that proto/tcp/caps.ts leaves to others. */
const RESERVED = 64;

/** A generator of its own, so that a failure comes again. */
let seed = 1;
const random = (below: number): number => {
  seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
};

/** Flows that only are there: connections of the guest from many ports to many addresses. */
const rows: Flow[] = [];
const tuple = (f: Flow, n: number): void => {
  flows.setV4(f, true);
  flows.setGuest(f, 0, 0, flows.MAPPED_WORD, 0xc000020a | 0);
  flows.setRemote(f, 0, 0, flows.MAPPED_WORD, (0x0a000000 + (n >> 14)) | 0);
  flows.setPorts(f, 1024 + (n & 0x3fff), 443);
};
const add = (): void => {
  const f = flows.alloc(flows.FLOW_TCP);
  if (f === flows.NO_FLOW) throw new Error('the table is full');
  tuple(f, rows.length);
  hash.insert(f);
  lru.add(lru.LRU_TCP, f);
  conn.reset(f);
  conn.setAckFromTap(f, 1);
  conn.setSeqToTap(f, 1);
  reset(f);
  rows.push(f);
};
const drop = (): void => {
  const f = rows.pop() as Flow;
  wheel.disarm(f);
  lru.remove(f);
  if (!hash.remove(f)) throw new Error('a flow was not found');
  flows.release(f);
};
const grow = (to: number): void => {
  while (rows.length < to) add();
};
const shrink = (to: number): void => {
  while (rows.length > to) drop();
  flows.endTurn();
};
const any = (): Flow => rows[random(rows.length)] as Flow;
const find = (f: Flow): Flow =>
  hash.find(
    flows.FLOW_TCP,
    0,
    0,
    flows.MAPPED_WORD,
    flows.guestWord(f, 3),
    0,
    0,
    flows.MAPPED_WORD,
    flows.remoteWord(f, 3),
    flows.ports(f),
  );

afterEach(() => shrink(0));

describe(`one flow among ${FEW} and among ${MANY}`, () => {
  let absent = 0;
  const OPERATIONS: Record<string, () => void> = {
    'is found': () => {
      const f = any();
      if (find(f) !== f) throw new Error('another flow was found');
    },
    'is looked for in vain': () => {
      const none = hash.find(flows.FLOW_UDP, 0, 0, flows.MAPPED_WORD, 1, 0, 0, flows.MAPPED_WORD, absent++, 7);
      if (none !== flows.NO_FLOW) throw new Error('a flow was found');
    },
    'begins and ends': () => {
      add();
      drop();
      flows.endTurn();
    },
    'is used, and so is the youngest of its class': () => lru.touch(any()),
    'waits, and waits for something else': () => {
      wheel.arm(any(), 1 + random(LIFE_MS));
      wheel.disarm(any());
    },
  };
  const among = (n: number): Map<string, number> => {
    grow(n);
    const each = (work: () => void): number => {
      const all = (): void => {
        for (let i = 0; i < SAMPLES; i++) work();
      };
      return counter.count(all) / SAMPLES;
    };
    return new Map(Object.entries(OPERATIONS).map(([name, work]) => [name, each(work)]));
  };
  let few: Map<string, number>;
  let many: Map<string, number>;
  beforeAll(() => {
    wheel.start(0, () => {});
    fake.setNow(0);
    few = among(FEW);
    many = among(MANY);
  });
  test.each(Object.keys(OPERATIONS))('%s', (name) => {
    const accesses = few.get(name) as number;
    expect(accesses).toBeGreaterThan(1);
    expect(many.get(name)).toBeLessThanOrEqual(FLAT * accesses);
  });
});

describe('deadlines of two minutes', () => {
  /** Everything is armed, and the clock runs until all has come. Accesses and wake-ups. */
  const lives = (n: number): { perFlow: number; wakes: number } => {
    let served = 0;
    wheel.start(0, () => {
      served++;
    });
    fake.setNow(0);
    wheel.expire(0);
    grow(n);
    let wakes = 0;
    const accesses = counter.count(() => {
      for (const f of rows) wheel.arm(f, 1 + random(LIFE_MS));
      for (let delay = wheel.nextDelay(fake.nowMs()); delay >= 0; delay = wheel.nextDelay(fake.nowMs())) {
        fake.setNow(fake.nowMs() + delay);
        wheel.expire(fake.nowMs());
        wakes++;
      }
    });
    expect(served).toBe(n);
    shrink(0);
    return { perFlow: accesses / n, wakes };
  };
  test('cost a flow no more, and wake the loop no more often than there are slots', () => {
    const few = lives(FEW);
    const many = lives(MANY);
    expect(many.perFlow).toBeLessThanOrEqual(FLAT * few.perFlow);
    // Eight levels of 64, of which these deadlines use six; 56 of each are not in the reach of the level below.
    expect(many.wakes).toBeLessThanOrEqual(64 + 5 * 57);
  });
});

describe('packets beside other flows', () => {
  let b: InstanceType<typeof t.Bench>;
  /** As app/turn.ts hands it on: with an Ethernet header, and everything looked at. */
  const viaDemux = (frameAt: number, ipAt: number, _at: number, end: number): void => {
    fake.mem.set(guest.ethernet(0x0800, []), frameAt);
    fake.mem.fill(0, ipAt + 10, ipAt + 12);
    const sum = ~fake.checksumOf(fake.mem.subarray(ipAt, ipAt + 20)) & 0xffff;
    fake.mem.set([sum >> 8, sum & 0xff], ipAt + 10);
    demux.frame(frameAt - 12, end - frameAt + 12, 12);
  };
  const begin = (): void => {
    b = t.begin({ ...(t.WORLDS[0] as import('../support/tcp-bench.ts').World), descriptors: 1 << 20 });
    demux.configure(makeNetwork());
    b.deliver = (l4, vouched = 0) => bench.deliver(viaDemux, { v4: true, protocol: 6, l4, vnet: [vouched, 0, 0] });
    b.established();
  };
  const idle = (ms: number): void => {
    fake.setNow(fake.nowMs() + ms);
  };
  afterEach(() => {
    shrink(0);
    t.finish();
  });

  /** The ports of the guest's that frames went to since the last call. */
  const portsSentTo = (): number[] => {
    out.flush();
    fake.tapVnet.length = 0;
    return fake.tapFrames.splice(0).map((frame) => frame.readUInt16BE(14 + 20 + 2));
  };

  /** What `FEW` of each kind cost beside so many; the look-up is never that of the packet before. */
  const beside = (n: number): number[] => {
    begin();
    grow(n);
    let [sent, got, srcPort] = [1, 1, 50_000];
    const stimuli = [
      () => {
        b.guestSends({ flags: 'PA', seq: sent, ack: got, data: 'x' });
        b.expectToGuest({ flags: 'A', ack: ++sent });
      },
      () => {
        b.peerSends('y');
        b.expectData(got, 'y');
        b.guestSends({ seq: sent, ack: ++got });
      },
      () => {
        const first = b.socket;
        b.guestSends({ flags: 'S', seq: 0, srcPort: ++srcPort, options: t.optionMss(t.MSS) });
        b.helperAnswers();
        b.peer((s) => s.connected());
        b.seen.length = 0;
        b.guestSends({ flags: 'R', srcPort });
        expect(b.socket.closed).toBe(true);
        b.socket = first;
      },
    ];
    const costs = stimuli.map((stimulus) => {
      let accesses = 0;
      for (let i = 0; i < FEW; i++) {
        find(any());
        idle(1);
        accesses += counter.count(stimulus);
      }
      return accesses / FEW;
    });
    shrink(0);
    t.finish();
    return costs;
  };
  test('data of the guest, data of the peer, and whole connections', () => {
    const few = beside(FEW);
    const many = beside(MANY);
    few.forEach((cost, i) => {
      expect(cost).toBeGreaterThan(100);
      expect(many[i]).toBeLessThanOrEqual(FLAT * cost);
    });
  });

  /** Accesses for a place where there is none: the connection that was idle longest goes. */
  const evicting = (n: number): number => {
    begin();
    grow(n);
    caps.configure(flows.count(flows.FLOW_TCP) + RESERVED);
    idle(EVICTABLE_IDLE_MS + 1000);
    lru.touch(b.flow);
    let accesses = 0;
    for (let i = 0; i < FEW / 2; i++) {
      const oldest = rows.shift() as Flow;
      accesses += counter.count(() => expect(caps.admit()).toBe(true));
      expect(flows.typeOf(oldest)).toBe(flows.FLOW_FREE);
      add();
    }
    expect(portsSentTo().length).toBe(FEW / 2);
    shrink(0);
    t.finish();
    return accesses;
  };
  test('a connection that another one makes room for', () => {
    const few = evicting(FEW);
    expect(few).toBeGreaterThan(100);
    expect(evicting(SOME * FEW)).toBeLessThanOrEqual(FLAT * few);
  });

  /** Accesses a flow until every one was asked whether it is there, by the loop's turns; how many were. */
  const asked = (n: number): { perFlow: number; probes: number } => {
    begin();
    grow(n);
    idle(KEEPALIVE_IDLE_MS + 1000);
    let probes = 0;
    const accesses = counter.count(() => {
      do {
        tick(fake.nowMs());
        probes += portsSentTo().length;
      } while (nextDelay(fake.nowMs()) === 0);
    });
    shrink(0);
    t.finish();
    return { perFlow: accesses / n, probes };
  };
  test('idle connections are asked after, all of them, each looked at once', () => {
    const some = asked(SOME);
    const many = asked(MANY);
    expect([some.probes, many.probes]).toEqual([SOME + 1, MANY + 1]);
    expect(many.perFlow).toBeLessThanOrEqual(FLAT * some.perFlow);
  });
  test('whoever is used, or ends, while they are asked does not keep others from it', () => {
    begin();
    grow(SOME);
    idle(KEEPALIVE_IDLE_MS + 1000);
    const ports: number[] = [];
    const gone = new Set<number>();
    for (let turn = 1; ; turn++) {
      tick(fake.nowMs());
      ports.push(...portsSentTo());
      if (nextDelay(fake.nowMs()) !== 0) break;
      // The one that the look has come to, and those beside it.
      const at = rows.findIndex((f) => !ports.includes(flows.guestPort(f)) && !gone.has(flows.guestPort(f)));
      for (const f of rows.slice(at - 1, at + 2)) {
        gone.add(flows.guestPort(f));
        if (turn % 2 === 0) heard(f);
        else lru.remove(f);
      }
    }
    const others = rows.map(flows.guestPort).filter((port) => !gone.has(port));
    expect(gone.size).toBeGreaterThan(30);
    expect(others.filter((port) => !ports.includes(port))).toEqual([]);
    expect(new Set(ports).size).toBe(ports.length);
    shrink(0);
    t.finish();
  });
});

describe('columns', () => {
  beforeAll(() => shrink(0));
  test('are bounded in bytes a flow, and only rows that were used are touched', () => {
    const perRow = counter.made.filter(({ elements }) => elements >= flows.FLOW_MAX);
    const bytes = perRow.reduce((sum, column) => sum + column.bytes, 0) / flows.FLOW_MAX;
    expect(bytes).toBeLessThanOrEqual(1024);
  });
  test('hold 100,000 flows and what else there is', () => {
    expect(flows.FLOW_MAX).toBeGreaterThanOrEqual(1.3 * MANY);
  });
});
