// SPDX-License-Identifier: Apache-2.0
/** The life of a spliced connection, over sockets and pipes that are the test's. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { SPLICE_EMPTY, SPLICE_END, SPLICE_FROM_FAILED, SPLICE_FULL, SPLICE_TO_FAILED } from '../../../shared/abi.ts';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const asked: { f: number; side: string; params: unknown; settle: (errno: number, result: unknown) => void }[] = [];
let accepting = true;
vi.mock('../../rpc/connect.ts', () => ({
  askFor: (f: number, side: string, _method: string, params: unknown, settle: () => void): boolean => {
    if (accepting) asked.push({ f, side, params, settle });
    return accepting;
  },
}));
const fake = await import('../../../test/support/fake-io.ts');
const { Stream, streams } = await import('../../../test/support/fake-stream.ts');
const splice = await import('./tcp.ts');
const caps = await import('./caps.ts');
const pipes = await import('./pipes.ts');
const flows = await import('../../flow/table.ts');
const descriptors = await import('../../flow/descriptors.ts');
const sockets = await import('../../fwd/sockets.ts');
const wheel = await import('../../flow/wheel.ts');
const { dropCount } = await import('../../obs/drops.ts');
type Flow = import('../../flow/table.ts').Flow;
type Stream = InstanceType<typeof Stream>;

const EAGAIN = 11;
const EMFILE = 24;
const ECONNRESET = 104;
const ECONNREFUSED = 111;
const ETIMEDOUT = 110;
const { IN, OUT } = { IN: fake.EPOLLIN, OUT: fake.EPOLLOUT };
const { COL } = fake;
/** What a socket's peer has not acknowledged, by descriptor, and how often it was asked for. */
const unsent = new Map<number, number>();
let unsentAsked = 0;

/** Where a socket's queue has its urgent mark; splice(2) does not pass it. */
const marks = new Map<number, number>();
/** Contents of the pipes, by read end. */
const contents = new Map<number, Buffer>();
let nextFd = 1000;
let pipeError = 0;
let pipesAsked = 0;
/** The sockets that were told that end of file follows. */
const toldLast = new Set<number>();
/** Events that each socket is watched for. */
const watchedFor = new Map<number, number>();
const { watch } = fake.native;
/** What was told to send without pacing, as often as it was. */
const unpaced: number[] = [];
/** Bytes that a pipe takes. */
const PIPE_BYTES = 1000;
const end = (stop: number, errno: number, moved: number, left: Buffer, out: number): number => {
  fake.col[COL.SPLICE_STOP] = stop;
  fake.col[COL.SPLICE_ERRNO] = errno;
  fake.col[COL.SPLICE_HELD] = left.length;
  contents.set(out, left);
  return moved;
};
const stream = (fd: number): Stream => {
  const s = streams.get(fd);
  if (s === undefined || s.closed) throw new Error(`descriptor ${fd} is not open`);
  return s;
};
Object.assign(fake.native, {
  watch: (fd: number, events: number, ref: number): number => {
    watchedFor.set(fd, events);
    // Every change of what a socket is watched for reports what is there, epoll_ctl(2).
    const s = streams.get(fd);
    if (s !== undefined) s.raised = true;
    return watch(fd, events, ref);
  },
  sendUnpaced: (fd: number): number => {
    unpaced.push(fd);
    return 0;
  },
  tcpOutq: (fd: number): number => {
    unsentAsked++;
    return unsent.get(fd) ?? 0;
  },
  pipe: (bytes: number): number => {
    pipesAsked++;
    if (pipeError !== 0) return -pipeError;
    fake.col[COL.FD] = nextFd++;
    fake.col[COL.FD + 1] = nextFd++;
    contents.set(nextFd - 2, Buffer.alloc(0));
    return bytes;
  },
  read: (fd: number, at: number, len: number): number => {
    const byte = stream(fd).queue.subarray(0, len);
    marks.delete(fd);
    fake.mem.set(byte, at);
    stream(fd).discard(len);
    return byte.length;
  },
  write: (fd: number, at: number, len: number): number => {
    contents.set(fd - 1, Buffer.from(fake.mem.slice(at, at + len)));
    return len;
  },
  // As native.ts describes it.
  spliceThrough: (
    from: number,
    into: number,
    out: number,
    to: number,
    held: number,
    budget: number,
    last: boolean,
  ): number => {
    if (last) toldLast.add(to);
    let inside = contents.get(out) as Buffer;
    if (into !== out + 1 || inside.length !== held) throw new Error('not what is in the pipe');
    const [source, sink] = [stream(from), stream(to)];
    let moved = 0;
    for (;;) {
      while (inside.length > 0) {
        const failed = sink.takeError();
        if (failed !== 0) return end(SPLICE_TO_FAILED, failed, moved, inside, out);
        const n = sink.mask === 0 && sink.room > 0 ? -EAGAIN : sink.writev(inside); // connecting, or not
        if (n < 0)
          return end(n === -EAGAIN ? SPLICE_FULL : SPLICE_TO_FAILED, n === -EAGAIN ? 0 : -n, moved, inside, out);
        moved += n;
        inside = inside.subarray(n);
      }
      if (moved >= budget) return end(0, 0, moved, inside, out);
      const mark = marks.get(from) ?? source.queue.length;
      const n = Math.min(mark, PIPE_BYTES);
      if (n > 0) {
        inside = Buffer.from(source.queue.subarray(0, n));
        source.discard(n);
        if (marks.has(from)) marks.set(from, mark - n);
        continue;
      }
      const failed = source.takeError();
      if (failed !== 0) return end(SPLICE_FROM_FAILED, failed, moved, inside, out);
      if (marks.has(from))
        return end((source.mask & fake.EPOLLRDHUP) !== 0 ? SPLICE_END : SPLICE_EMPTY, 0, moved, inside, out);
      return end(source.discard(1) === 0 ? SPLICE_END : SPLICE_EMPTY, 0, moved, inside, out);
    }
  },
});

const make = (): Stream => {
  const s = new Stream(nextFd++);
  streams.set(s.fd, s);
  return s;
};
/** Delivers every edge until there is none. Returns how many: more than a few, and the loop would spin. */
const settle = (): number => {
  let n = 0;
  for (let again = true; again; ) {
    again = false;
    for (const s of streams.values()) {
      if (!s.raised || !s.watched || s.closed) continue;
      s.raised = false;
      const mask = s.mask & ((watchedFor.get(s.fd) ?? 0) | fake.EPOLLERR | fake.EPOLLHUP);
      if (mask === 0) continue;
      again = true;
      n++;
      if (n > 1000) throw new Error('the loop spins');
      const second = s.ref >= flows.SECOND_REF_BASE;
      const f = (second ? s.ref - flows.SECOND_REF_BASE : s.ref) as Flow;
      if (flows.typeOf(f) === flows.FLOW_SPLICE_TCP) splice.onEvent(f, second ? 1 : 0, mask);
    }
    while (splice.hasReady()) {
      splice.serveReady();
      n++;
    }
  }
  flows.endTurn();
  return n;
};

/** Lets time pass, with `meanwhile` each second. */
const runTo = (until: number, meanwhile: () => void = () => {}): void => {
  for (let ms = fake.nowMs(); ms <= until; ms++) {
    fake.setNow(ms);
    wheel.expire(ms);
    splice.tick(ms);
    if (ms % 1000 === 0) meanwhile();
  }
};

/** A connection that is through: the accepted socket and the one behind it. */
const opened = (): { f: Flow; a: Stream; b: Stream } => {
  const [a, b] = [make(), make()];
  a.connected();
  splice.open(a.fd, 'netns', '127.0.0.1', 80);
  const { f, settle: answer } = asked.at(-1) as (typeof asked)[number];
  answer(0, { fd: b.fd });
  b.connected();
  settle();
  return { f: f as Flow, a, b };
};

afterEach(() => {
  unsent.clear();
  toldLast.clear();
  for (const s of streams.values()) s.fails(ECONNRESET);
  settle();
  expect([flows.count(flows.FLOW_SPLICE_TCP), pipes.inUse()]).toEqual([0, 0]);
});
beforeEach(() => {
  streams.clear();
  asked.length = 0;
  accepting = true;
  pipeError = 0;
  descriptors.configure(1e9);
  fake.reset();
  fake.setNow(1000);
  wheel.start(1000, (f) => splice.onTimer(f));
  caps.configure(10_000);
});

describe('opening', () => {
  test('the far side is asked for by address and port; what the client sent goes on once it is there', () => {
    const a = make();
    a.connected();
    a.receives(Buffer.from('early'));
    splice.open(a.fd, 'host', '127.0.0.7', 8080);
    expect(asked[0]).toMatchObject({
      side: 'host',
      params: { protocol: 'tcp', address: '127.0.0.7', port: 8080, sourcePort: 0 },
    });
    const b = make();
    asked[0]?.settle(0, { fd: b.fd });
    settle();
    expect(b.sent.length).toBe(0);
    b.connected();
    settle();
    expect(b.sent.toString()).toBe('early');
  });
  test.each([
    ['a port where nobody listens', (b: Stream) => b.fails(ECONNREFUSED)],
    ['a far side that does not answer', (b: Stream) => b.fails(ETIMEDOUT)],
  ])('%s: the client is reset', (_what, fail) => {
    const [a, b] = [make(), make()];
    a.connected();
    splice.open(a.fd, 'netns', '::1', 80);
    asked[0]?.settle(0, { fd: b.fd });
    fail(b);
    settle();
    expect([a.linger, a.closed, b.closed]).toEqual([true, true, true]);
  });
  test('no socket from the helper, or nobody to ask: the client is reset, and it is counted', () => {
    const [a, b] = [make(), make()];
    const refused = dropCount('flow-refused');
    splice.open(a.fd, 'netns', '::1', 80);
    asked[0]?.settle(EMFILE, null);
    expect([a.linger, a.closed, dropCount('flow-refused')]).toEqual([true, true, refused + 1]);
    accepting = false;
    const full = dropCount('flow-pending-full');
    splice.open(b.fd, 'netns', '::1', 80);
    expect([b.linger, b.closed, dropCount('flow-pending-full')]).toEqual([true, true, full + 1]);
    expect(flows.count(flows.FLOW_SPLICE_TCP)).toBe(0);
  });
  test('listeners that lead to one another: nothing is asked, or one connection would go round until nothing is left', () => {
    const rule = { protocol: 'tcp', address: '', interface: '', first: 80, last: 80, target: '', to: 80 } as const;
    const ours = (['host', 'splice'] as const).map((direction, listener) => {
      const full = { ...rule, weak: false, scan: false };
      return sockets.adopt(sockets.groupOf(direction, full), 80, full, { fd: 800 + listener, listener });
    });
    const refused = dropCount('flow-refused');
    const a = make();
    splice.open(a.fd, 'netns', '127.0.0.1', 80);
    expect([asked.length, a.linger, a.closed, dropCount('flow-refused')]).toEqual([0, true, true, refused + 1]);
    for (const l of ours) if (l !== null) sockets.close(l);
  });
  test('a client that resets while the far side is asked for ends it', () => {
    const [a, b] = [make(), make()];
    a.connected();
    splice.open(a.fd, 'netns', '::1', 80);
    asked[0]?.settle(0, { fd: b.fd });
    a.fails(ECONNRESET);
    settle();
    expect([a.closed, b.closed, b.linger]).toEqual([true, true, true]);
  });
  test('at the limit the one that was idle for a minute goes, and without one the new one is refused', () => {
    caps.configure(6);
    const first = opened();
    const second = opened();
    const third = make();
    splice.open(third.fd, 'netns', '::1', 80);
    expect([third.linger, third.closed, first.a.closed]).toEqual([true, true, false]);
    fake.setNow(62_000);
    second.a.receives(Buffer.from('busy'));
    settle();
    const { a } = opened();
    expect([first.a.closed, second.a.closed, a.closed]).toEqual([true, false, false]);
  });
});

describe('descriptors that are the guest’s', () => {
  /** A limit of which `fd` is the first of the last eighth. */
  const reservedFrom = (fd: number): void => {
    let limit = fd;
    while (limit - (limit >> 3) < fd) limit++;
    descriptors.configure(limit);
  };
  test('a connection that was accepted as one of them is refused, unless an idle one gives up its own', () => {
    const first = opened();
    const second = make();
    reservedFrom(second.fd);
    const refused = dropCount('flow-refused');
    splice.open(second.fd, 'netns', '::1', 80);
    expect([second.linger, second.closed, dropCount('flow-refused')]).toEqual([true, true, refused + 1]);
    fake.setNow(62_000);
    const third = make();
    splice.open(third.fd, 'netns', '::1', 80);
    expect([first.a.closed, third.closed]).toEqual([true, false]);
    asked.at(-1)?.settle(EMFILE, null);
  });
  test('so is one whose far side would be one of them', () => {
    const [a, b] = [make(), make()];
    reservedFrom(b.fd);
    splice.open(a.fd, 'netns', '::1', 80);
    asked[0]?.settle(0, { fd: b.fd });
    expect([a.linger, a.closed, b.closed]).toEqual([true, true, true]);
  });
  test('a pipe that would take one is to be waited for', () => {
    const { a, b } = opened();
    while (pipes.spare() > 0) if (pipes.take() === 0) pipes.discard(pipes.readEnd(), pipes.writeEnd());
    reservedFrom(nextFd + 1);
    a.receives(Buffer.from('patience'));
    const closed = fake.closedFds.length;
    settle();
    expect([b.sent.length, fake.closedFds.length - closed]).toEqual([0, 2]);
    descriptors.configure(1e9);
    runTo(1030);
    expect(b.sent.toString()).toBe('patience');
  });
});

describe('data', () => {
  test('more than a short exchange: the socket that it goes to is not paced any more, which is asked for once', () => {
    const { a, b } = opened();
    unpaced.length = 0;
    b.room = 10_000_000;
    a.receives(Buffer.alloc(16 * 1024 - 1, 'x'));
    b.receives(Buffer.from('answer'));
    settle();
    expect(unpaced).toEqual([]);
    for (let i = 0; i < 2; i++) {
      a.receives(Buffer.alloc(16 * 1024, 'x'));
      settle();
    }
    expect(unpaced).toEqual([b.fd]);
  });
  test('goes both ways, more than a budget too, and an idle connection holds no pipe', () => {
    const { a, b } = opened();
    const big = Buffer.alloc(3_000_000, 'x');
    b.room = a.room = 10_000_000;
    a.receives(big);
    b.receives(Buffer.from('answer'));
    settle();
    expect([b.sent.length, a.sent.toString()]).toEqual([big.length, 'answer']);
    expect(pipes.inUse()).toBe(0);
  });
  test('what came with an end of file leaves with it, and nothing else waits', () => {
    const { a, b } = opened();
    a.receives(Buffer.from('question'));
    settle();
    expect([...toldLast]).toEqual([]);
    b.receives(Buffer.from('answer'));
    b.ends();
    settle();
    expect([...toldLast]).toEqual([a.fd]);
    expect([a.sent.toString(), a.shut]).toEqual(['answer', true]);
    a.receives(Buffer.from('more'));
    settle();
    expect([...toldLast]).toEqual([a.fd]);
    expect(b.sent.toString()).toBe('questionmore');
  });
  test('what a client sends while it is handed over goes on in order', () => {
    const [a, b] = [make(), make()];
    a.connected();
    a.receives(Buffer.alloc(2500, 'x'));
    a.ends();
    b.connected();
    splice.open(a.fd, 'netns', '127.0.0.1', 80);
    asked.at(-1)?.settle(0, { fd: b.fd });
    expect(splice.hasReady()).toBe(false);
    settle();
    expect([b.sent.length, b.shut]).toEqual([2500, true]);
  });
  test('one that has more than a budget lets others go first', () => {
    const [one, two] = [opened(), opened()];
    one.b.room = 10_000_000;
    one.a.receives(Buffer.alloc(3_000_000));
    two.a.receives(Buffer.from('small'));
    one.a.raised = false;
    splice.onEvent(one.f, 0, IN);
    expect(one.b.sent.length).toBeLessThan(2_000_000);
    expect(splice.hasReady()).toBe(true);
    settle();
    expect([one.b.sent.length, two.b.sent.length]).toEqual([3_000_000, 5]);
  });
  test('a receiver without room stops the sender without a busy loop, and goes on when it has some', () => {
    const { a, b } = opened();
    b.room = 10;
    a.receives(Buffer.alloc(5000, 'y'));
    settle();
    expect(b.sent.length).toBe(10);
    expect(pipes.inUse()).toBe(1);
    expect([settle(), splice.hasReady()]).toEqual([0, false]);
    a.receives(Buffer.alloc(1000, 'z'));
    expect(settle()).toBe(1);
    expect(b.sent.length).toBe(10);
    b.gainsRoom(100_000);
    settle();
    expect(b.sent.toString()).toBe('y'.repeat(5000) + 'z'.repeat(1000));
    expect(pipes.inUse()).toBe(0);
  });
  test('pipes that nobody needed for a second are closed', () => {
    const { a } = opened();
    a.receives(Buffer.from('one'));
    settle();
    const kept = pipes.spare();
    expect([kept > 0, pipes.nextDelay(1500)]).toEqual([true, 500]);
    pipes.tick(1999);
    expect(pipes.spare()).toBe(kept);
    pipes.tick(2000);
    expect([pipes.spare(), pipes.nextDelay(2000), fake.closedFds.length]).toEqual([0, -1, 2 * kept]);
  });
  test('urgent data stays where it is in the stream, and so does what is behind it', () => {
    const { f, a, b } = opened();
    a.receives(Buffer.from('abcDefg'));
    marks.set(a.fd, 3);
    a.raised = false;
    splice.onEvent(f, 0, IN | fake.EPOLLPRI);
    expect([b.sent.toString(), pipes.inUse()]).toEqual(['abcDefg', 0]);
    a.receives(Buffer.from('hijKlm'));
    a.ends();
    marks.set(a.fd, 3);
    a.raised = false;
    splice.onEvent(f, 0, IN | fake.EPOLLPRI | fake.EPOLLRDHUP);
    expect([b.sent.toString(), b.shut]).toEqual(['abcDefghijKlm', true]);
  });
  test('without a descriptor for a pipe it is tried again a moment later', () => {
    const { a, b } = opened();
    while (pipes.spare() > 0) if (pipes.take() === 0) pipes.discard(pipes.readEnd(), pipes.writeEnd());
    pipeError = EMFILE;
    a.receives(Buffer.from('patience'));
    settle();
    expect(b.sent.length).toBe(0);
    pipeError = 0;
    expect(splice.nextDelay(1000)).toBe(20);
    runTo(1030);
    expect(b.sent.toString()).toBe('patience');
  });
  test('hundreds that wait for a pipe cost a call now and then, and go on in turn as soon as one is given back', () => {
    const holder = opened();
    const many = Array.from({ length: 300 }, opened);
    holder.b.room = 1;
    holder.a.receives(Buffer.from('blocked'));
    settle();
    while (pipes.spare() > 0) if (pipes.take() === 0) pipes.discard(pipes.readEnd(), pipes.writeEnd());
    pipeError = EMFILE;
    for (const { a } of many) a.receives(Buffer.from('patience'));
    settle();
    const asked = pipesAsked;
    runTo(11_000);
    expect(pipesAsked - asked).toBeLessThan(50);
    holder.b.gainsRoom(100);
    settle();
    expect([splice.nextDelay(11_000), many.every(({ b }) => b.sent.length === 0)]).toEqual([0, true]);
    runTo(11_000);
    expect(many.every(({ b }) => b.sent.toString() === 'patience')).toBe(true);
    expect(splice.nextDelay(20_000)).toBe(0);
  });
});

describe('the end', () => {
  test('of one direction passes, the other goes on; of both closes both sockets without a reset', () => {
    const { f, a, b } = opened();
    a.receives(Buffer.from('question'));
    a.ends();
    settle();
    expect([b.sent.toString(), b.shut, a.shut, a.closed]).toEqual(['question', true, false, false]);
    b.receives(Buffer.from('answer'));
    settle();
    expect(a.sent.toString()).toBe('answer');
    b.ends();
    settle();
    expect([a.closed, b.closed, a.linger, b.linger]).toEqual([true, true, false, false]);
    expect([flows.typeOf(f), pipes.inUse()]).toEqual([flows.FLOW_FREE, 0]);
  });
  test('comes after everything before it, however slow the receiver', () => {
    const { a, b } = opened();
    b.room = 3;
    a.receives(Buffer.from('abcdefgh'));
    a.ends();
    settle();
    expect([b.sent.toString(), b.shut]).toEqual(['abc', false]);
    b.gainsRoom(100);
    settle();
    expect([b.sent.toString(), b.shut]).toEqual(['abcdefgh', true]);
  });
  test.each([
    ['the client', 0],
    ['the far side', 1],
  ])('a reset of %s resets the other one, after what it sent before', (_who, s) => {
    const { a, b } = opened();
    const [from, to] = s === 0 ? [a, b] : [b, a];
    from.receives(Buffer.from('last words'));
    from.fails(ECONNRESET);
    settle();
    expect([to.sent.toString(), to.linger, to.closed, from.closed]).toEqual(['last words', true, true, true]);
  });
  test('a reset that a write meets: what the other had sent is delivered first, then it is reset', () => {
    const { f, a, b } = opened();
    a.room = 4;
    b.receives(Buffer.from('partial answer'));
    settle();
    b.fails(ECONNRESET);
    b.raised = false;
    a.receives(Buffer.from('too late'));
    a.raised = false;
    splice.onEvent(f, 0, IN);
    expect([a.closed, b.closed]).toEqual([false, false]);
    a.gainsRoom(100);
    splice.onEvent(f, 0, OUT);
    expect([a.sent.toString(), a.linger, a.closed, b.closed]).toEqual(['partial answer', true, true, true]);
  });
  test.each([
    ['has it', 0],
    ['reads nothing for ten seconds', 100],
  ])('a reset waits for what came before it until the peer %s', (_what, left) => {
    const { a, b } = opened();
    a.receives(Buffer.from('a long answer'));
    unsent.set(b.fd, 300);
    a.fails(ECONNRESET);
    settle();
    const at = (ms: number): boolean => {
      fake.setNow(ms);
      wheel.expire(ms);
      return b.closed;
    };
    expect([b.sent.toString(), at(1010)]).toEqual(['a long answer', false]);
    unsent.set(b.fd, 100);
    expect([at(1020), at(9000)]).toEqual([false, false]);
    unsent.set(b.fd, left);
    expect([at(left === 0 ? 9300 : 11_300), a.closed, b.linger]).toEqual([true, true, true]);
  });
  test('thousands of such resets are looked at ever more seldom', () => {
    const { a, b } = opened();
    a.receives(Buffer.from('a long answer'));
    unsent.set(b.fd, 300);
    a.fails(ECONNRESET);
    settle();
    unsentAsked = 0;
    runTo(9000);
    expect([b.closed, unsentAsked]).toEqual([false, expect.toSatisfy((n: number) => n > 20 && n < 60)]);
    unsent.set(b.fd, 0);
    runTo(9300);
    expect(b.closed).toBe(true);
  });
  test.each([
    ['the client', 0],
    ['the far side', 1],
  ])(
    'a reset of %s, whose bytes wait for room: they are delivered as long as some are taken, ten seconds without any are the end',
    (_who, s) => {
      const { a, b } = opened();
      const [from, to] = s === 0 ? [a, b] : [b, a];
      to.room = 100;
      from.receives(Buffer.alloc(20_000, 'x'));
      settle();
      from.fails(ECONNRESET);
      settle();
      expect([to.sent.length, to.closed, pipes.inUse()]).toEqual([100, false, 1]);
      // What the other end does is not progress; nor need it do anything.
      const writes = (): void => {
        if (s === 0) return;
        to.receives(Buffer.from('nobody reads this'));
        settle();
      };
      runTo(9000, writes);
      to.gainsRoom(50);
      settle();
      runTo(18_000, writes);
      expect([to.sent.length, to.closed]).toEqual([150, false]);
      // Acknowledged is taken, too, though too little for room.
      unsent.set(to.fd, 70);
      runTo(27_000, writes);
      expect([to.closed, from.closed]).toEqual([false, false]);
      runTo(41_000, writes);
      expect([to.linger, to.closed, from.closed, pipes.inUse()]).toEqual([true, true, true, 0]);
    },
  );
  test('the reset of a slow receiver waits for everything that it is still taking', () => {
    const { a, b } = opened();
    b.room = 100;
    a.receives(Buffer.alloc(3000, 'x'));
    a.fails(ECONNRESET);
    settle();
    for (let ms = 5000; ms <= 200_000; ms += 5000) {
      runTo(ms);
      b.gainsRoom(100);
      settle();
    }
    expect([b.sent.length, b.linger, a.closed]).toEqual([3000, true, true]);
  });
  test('a reset after the end of file is no end of file', () => {
    const { a, b } = opened();
    a.ends();
    settle();
    a.fails(ECONNRESET);
    settle();
    expect([b.linger, b.closed, a.closed]).toEqual([true, true, true]);
  });
  test('what is in the pipe goes with the connection', () => {
    const { a, b } = opened();
    b.room = 1;
    a.receives(Buffer.from('stuck'));
    settle();
    expect(pipes.inUse()).toBe(1);
    b.fails(ECONNRESET);
    settle();
    expect([a.closed, b.closed, a.linger, pipes.inUse()]).toEqual([true, true, true, 0]);
  });
});
