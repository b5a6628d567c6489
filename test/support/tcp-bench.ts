// SPDX-License-Identifier: Apache-2.0
/**
 * A bench for the TCP translation, in the manner of packetdrill: segments of a guest in, segments to the guest out,
 * and a socket whose peer is the test. One turn of the loop is made for each stimulus, in the order of app/turn.ts.
 * For test files that mock controller/io with fake-io.ts.
 *
 * Sequence numbers are relative, as a person reads them in a trace: the guest's SYN is 0 and its first byte 1; our
 * SYN|ACK is 0 and the peer's first byte 1. Windows are in bytes as the header's field has them, not scaled.
 */
import { strict as assert } from 'node:assert';
import { expect } from 'vitest';
import * as lru from '../../controller/flow/lru.ts';
import * as flows from '../../controller/flow/table.ts';
import * as wheel from '../../controller/flow/wheel.ts';
import { parseIpv4, parseIpv6 } from '../../controller/host/address-text.ts';
import * as out from '../../controller/link/out.ts';
import { tapLink } from '../../controller/link/tap-link.ts';
import { hasReady } from '../../controller/proto/tcp/close.ts';
import * as conn from '../../controller/proto/tcp/conn.ts';
import { TIME_WAIT_MS } from '../../controller/proto/tcp/constants.ts';
import { endBatch, servePaced, serveReady } from '../../controller/proto/tcp/finish.ts';
import { onEvent } from '../../controller/proto/tcp/from-sock.ts';
import { flushWrites, fromTap } from '../../controller/proto/tcp/from-tap.ts';
import * as inbound from '../../controller/proto/tcp/inbound.ts';
import * as keepalive from '../../controller/proto/tcp/keepalive.ts';
import * as outOfOrder from '../../controller/proto/tcp/out-of-order.ts';
import * as pace from '../../controller/proto/tcp/pace.ts';
import * as ranges from '../../controller/proto/tcp/ranges.ts';
import * as stash from '../../controller/proto/tcp/stash.ts';
import { configure } from '../../controller/proto/tcp/tcp.ts';
import { onTimer } from '../../controller/proto/tcp/timeout.ts';
import * as connect from '../../controller/rpc/connect.ts';
import * as fake from './fake-io.ts';
import { Stream, streams } from './fake-stream.ts';
import * as bench from './flow-bench.ts';
import { u16, u32 } from './guest-frames.ts';

export const GUEST_PORT = 40_000;
export const REMOTE_PORT = 80;
export const MSS = 1000;
const TCP = 6;
const FIRST_FD = 100;
const NEEDS_CSUM = 1;
const ADDRESSES_4 = [bench.REMOTE4, bench.GUEST4] as const;
const ADDRESSES_6 = [bench.full6(bench.REMOTE6), bench.full6(bench.GUEST6)] as const;
/** Any moment will do; that of the initial sequence number is made from it. */
const START_MS = 1_000_000;
/** RFC 6528: one tick of the initial sequence number is 4 µs. */
const ISN_TICKS_A_MS = 250;

export interface World {
  readonly name: string;
  readonly v4: boolean;
  /** The tap has a virtio-net header: partial checksums and superframes to the guest. */
  readonly vnet: boolean;
  /** False: a kernel without SO_PEEK_OFF for TCP. */
  readonly peekOffset?: boolean;
}
/** What every scenario is played in. */
export const WORLDS: readonly World[] = [
  { name: 'IPv4, offloads', v4: true, vnet: true },
  { name: 'IPv6, offloads', v4: false, vnet: true },
  { name: 'IPv4, plain frames', v4: true, vnet: false },
  { name: 'IPv6, plain frames', v4: false, vnet: false },
];
/** Those, with both ways of reading what was sent already: the kernel keeps the offset (Linux 6.9), or it is read over. */
export const READING_WORLDS: readonly World[] = WORLDS.flatMap((w) => [
  w,
  { ...w, name: `${w.name}, no SO_PEEK_OFF`, peekOffset: false },
]);

export interface Options extends World {
  readonly mtu?: number;
  /** RLIMIT_NOFILE. */
  readonly descriptors?: number;
  /** tcp_syn_retries of the host. */
  readonly synRetries?: number;
  /** Absolute initial sequence numbers of the guest, and of ours (then the clock is set to what makes it). */
  readonly guestIsn?: number;
  readonly ourIsn?: number;
}

/** A segment of the guest; what is left out is an ACK at the beginning of the connection. */
export interface Segment {
  /** Letters of FSRPAU. */
  readonly flags?: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly win?: number;
  readonly data?: string | Uint8Array;
  readonly options?: readonly number[];
  readonly srcPort?: number;
  readonly dstPort?: number;
  readonly hopLimit?: number;
  /** Blocks of a SACK option, in relative numbers of ours. */
  readonly sack?: readonly (readonly [from: number, to: number])[];
  /** What is added to the right checksum. */
  readonly corrupt?: number;
  /** The virtio-net header's flags, 1 NEEDS_CSUM or 2 DATA_VALID; the checksum is 0 then. */
  readonly vouched?: number;
}
/** A segment that reached the guest. */
export interface Seen {
  readonly flags: string;
  readonly seq: number;
  readonly ack: number;
  readonly win: number;
  readonly data: string;
  readonly bytes: Buffer;
  readonly mss: number | null;
  readonly scale: number | null;
  readonly sackPermitted: boolean;
  /** Blocks of a SACK option, in relative numbers. */
  readonly sack: readonly (readonly [from: number, to: number])[];
  readonly srcPort: number;
  readonly dstPort: number;
  /** Since the bench began. */
  readonly atMs: number;
  readonly gsoSize: number;
}
export type Expected = Partial<Omit<Seen, 'bytes'>>;

const LETTERS = 'FSRPAU';
export const flagBits = (text: string): number => [...text].reduce((bits, c) => bits | (1 << LETTERS.indexOf(c)), 0);
const flagText = (bits: number): string =>
  [...'SFRPAU'].filter((c) => (bits & (1 << LETTERS.indexOf(c))) !== 0).join('');
export const optionMss = (n: number): number[] => [2, 4, ...u16(n)];
export const optionScale = (n: number): number[] => [1, 3, 3, n];
export const SACK_PERMITTED: readonly number[] = [1, 1, 4, 2];
/** Bytes that tell their place. */
export const numbered = (length: number, from = 0): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => ((from + i) * 31 + ((from + i) >> 8)) & 0xff));

const toBuffer = (data: string | Uint8Array | undefined): Buffer =>
  typeof data === 'string' ? Buffer.from(data) : Buffer.from(data ?? []);

/** RFC 9293 §3.2, RFC 7323, RFC 2018: kinds 2 to 5. Blocks are absolute. */
const readOptions = (l4: Buffer) => {
  const end = ((l4[12] as number) >> 4) * 4;
  let [mss, scale]: (number | null)[] = [null, null];
  let sackPermitted = false;
  const sack: [number, number][] = [];
  for (let p = 20; p < end && l4[p] !== 0; p += l4[p] === 1 ? 1 : (l4[p + 1] as number)) {
    if (l4[p] === 2) mss = l4.readUInt16BE(p + 2);
    if (l4[p] === 3) scale = l4[p + 2] as number;
    if (l4[p] === 4) sackPermitted = true;
    if (l4[p] === 5) {
      for (let at = p + 2; at < p + (l4[p + 1] as number); at += 8)
        sack.push([l4.readInt32BE(at), l4.readInt32BE(at + 4)]);
    }
  }
  return { mss: mss ?? null, scale: scale ?? null, sackPermitted, sack };
};

export class Bench {
  readonly o: Options;
  /** Segments to the guest, and what else came, that no expectation has consumed yet. */
  readonly seen: Seen[] = [];
  readonly errors: bench.IcmpError[] = [];
  /** The most frames that one turn sent. */
  mostAtOnce = 0;
  /** The socket handed over last. */
  socket: Stream = new Stream(-1);
  guestIsn: number;
  ourIsn = 0;
  private knowsIsn = false;
  private nextFd = FIRST_FD;
  private readonly startMs: number;

  constructor(o: Options, startMs: number) {
    this.o = o;
    this.startMs = startMs;
    this.guestIsn = o.guestIsn ?? 1_000_000;
    streams.clear();
    bench.begin(startMs, onTimer);
    bench.resetAnswers();
    fake.setVnetBytes(o.vnet ? 12 : 0);
    out.attach(tapLink(9, o.vnet ? 12 : 0));
    configure({
      tso: o.vnet,
      linkMtu: o.mtu ?? 65_520,
      descriptors: o.descriptors ?? 20_000,
      hypervisor: false,
      synRetries: o.synRetries ?? 6,
      rtoMaxMs: 120_000,
    });
  }

  /** One turn of the loop, and more while something has more to do. */
  turn(stimulus: () => void = () => {}): void {
    bench.newBatch();
    stimulus();
    flushWrites();
    for (let again = true, n = 0; again; n++) {
      if (n > 1000) throw new Error('the loop does not come to rest');
      this.dispatch();
      wheel.expire(fake.nowMs());
      keepalive.tick(fake.nowMs());
      serveReady();
      servePaced();
      endBatch();
      connect.flushRequests();
      this.collect();
      flows.endTurn();
      this.check();
      again =
        hasReady() ||
        keepalive.nextDelay(fake.nowMs()) === 0 ||
        [...streams.values()].some((s) => s.raised && s.watched);
    }
  }
  private dispatch(): void {
    for (const s of streams.values()) {
      if (!s.raised || !s.watched) continue;
      s.raised = false;
      const f = s.ref as flows.Flow;
      if (s.mask !== 0 && flows.typeOf(f) === flows.FLOW_TCP) onEvent(f, s.mask);
    }
  }
  private collect(): void {
    const all = bench.arrived();
    this.mostAtOnce = Math.max(this.mostAtOnce, all.length);
    for (const a of all) {
      assert.equal(a.v4, this.o.v4);
      if (a.protocol === TCP) this.seen.push(this.taken(a));
      else this.errors.push(bench.icmpError(a));
    }
  }
  /** T1 and T2 of conn.ts for every flow that has begun to talk. */
  private check(): void {
    for (const s of streams.values()) {
      const f = s.ref as flows.Flow;
      if (s.closed || f < 0 || flows.typeOf(f) !== flows.FLOW_TCP) continue;
      const inFlight = (conn.seqToTap(f) - conn.ackFromTap(f)) | 0;
      const acked = conn.has(f, conn.ESTABLISHED) ? (conn.ackFromTap(f) - conn.seqInSock(f)) | 0 : 0;
      if (inFlight < 0 || acked < 0) throw new Error('T1 does not hold');
      if (((conn.edgeToTap(f) - conn.seqFromTap(f)) | 0) < 0) throw new Error('T2 does not hold');
    }
  }
  private taken(a: bench.Arrived): Seen {
    const { l4 } = a;
    const bits = l4[13] as number;
    const headerBytes = ((l4[12] as number) >> 4) * 4;
    const payload = l4.subarray(headerBytes);
    const { mss, scale, sackPermitted, sack } = readOptions(l4);
    const gsoSize = a.vnet.length === 0 ? 0 : a.vnet.readUInt16LE(4);
    const [from, to] = a.v4 ? ADDRESSES_4 : ADDRESSES_6;
    assert.equal(a.src, from);
    assert.equal(a.dst, to);
    const partial = ((a.vnet[0] ?? 0) & NEEDS_CSUM) !== 0;
    if (partial) {
      // The field holds the pseudo-header's sum, and the header says where (virtio 1.2 §5.1.6.2).
      assert.equal(l4.readUInt16BE(16), bench.transportSum(a.v4, a.src, a.dst, TCP, Buffer.alloc(l4.length)));
      assert.equal(a.vnet.readUInt16LE(6), a.v4 ? 34 : 54);
      assert.equal(a.vnet.readUInt16LE(8), 16);
    } else assert.equal(bench.transportSum(a.v4, a.src, a.dst, TCP, l4), 0xffff);
    if (gsoSize !== 0) {
      assert.equal(a.vnet[1], a.v4 ? 1 : 4);
      assert.equal(a.vnet.readUInt16LE(2), (a.v4 ? 34 : 54) + headerBytes);
      assert.ok(payload.length > gsoSize && partial);
    } else if (a.vnet.length > 0) assert.equal(a.vnet[1], 0);
    if (!this.knowsIsn && (bits & 2) !== 0) {
      this.ourIsn = l4.readInt32BE(4);
      this.knowsIsn = true;
    }
    return {
      flags: flagText(bits),
      seq: (l4.readInt32BE(4) - (this.knowsIsn ? this.ourIsn : 0)) | 0,
      ack: (bits & 16) !== 0 ? (l4.readInt32BE(8) - this.guestIsn) | 0 : 0,
      win: l4.readUInt16BE(14),
      data: payload.toString('latin1'),
      bytes: Buffer.from(payload),
      mss,
      scale,
      sackPermitted,
      sack: sack.map(([from, to]) => [(from - this.guestIsn) | 0, (to - this.guestIsn) | 0] as const),
      srcPort: l4.readUInt16BE(0),
      dstPort: l4.readUInt16BE(2),
      atMs: fake.nowMs() - this.startMs,
      gsoSize,
    };
  }

  /** The TCP segment in bytes, its checksum right unless `s` says otherwise. */
  segmentBytes(s: Segment): Buffer {
    const options = [...(s.options ?? [])];
    if (s.sack !== undefined && s.sack.length > 0) {
      options.push(1, 1, 5, 2 + 8 * s.sack.length);
      for (const block of s.sack) for (const n of block) options.push(...u32((this.ourIsn + n) | 0));
    }
    while (options.length % 4 !== 0) options.push(0);
    const bits = flagBits(s.flags ?? 'A');
    const ack = (bits & 16) !== 0 ? (this.ourIsn + (s.ack ?? 1)) | 0 : 0;
    const head = [
      ...[...u16(s.srcPort ?? GUEST_PORT), ...u16(s.dstPort ?? REMOTE_PORT)],
      ...[...u32((this.guestIsn + (s.seq ?? 1)) | 0), ...u32(ack)],
      ...[(5 + options.length / 4) << 4, bits, ...u16(s.win ?? 0xffff), 0, 0, 0, 0, ...options],
    ];
    const l4 = Buffer.concat([Uint8Array.from(head), toBuffer(s.data)]);
    if ((s.vouched ?? 0) !== 0) return l4;
    const { v4 } = this.o;
    const [from, to] = v4 ? [bench.GUEST4, bench.REMOTE4] : [bench.GUEST6, bench.REMOTE6];
    l4.writeUInt16BE(((~bench.transportSum(v4, from, to, TCP, l4) & 0xffff) + (s.corrupt ?? 0)) & 0xffff, 16);
    return l4;
  }
  /** Hands a segment's bytes to the translation, within a turn. */
  deliver(l4: Uint8Array, vouched = 0, hopLimit = 64): void {
    bench.deliver(fromTap, { v4: this.o.v4, protocol: TCP, l4, hopLimit, vnet: [vouched, 0, 0] });
  }
  /** One batch from the tap. */
  guestSends(...segments: readonly Segment[]): void {
    this.turn(() => {
      keepalive.guestSeen(fake.nowMs());
      for (const s of segments) this.deliver(this.segmentBytes(s), s.vouched, s.hopLimit);
    });
  }

  /** The helper hands over connecting sockets for the requests that wait, in their order. */
  helperAnswers(count = 1, prepare: (s: Stream) => void = () => {}): Stream[] {
    const made: Stream[] = [];
    for (let i = 0; i < count; i++) {
      this.socket = new Stream(this.nextFd + i);
      this.socket.peekOffset = this.o.peekOffset ?? true;
      streams.set(this.socket.fd, this.socket);
      prepare(this.socket);
      made.push(this.socket);
    }
    expect(bench.requests().length).toBe(count);
    this.turn(() => bench.answer({ fd: this.nextFd }));
    this.nextFd += count;
    return made;
  }
  helperFails(result: { errno: number } | 'refused'): void {
    this.turn(() => bench.answer(result));
  }
  /** A client of {@link REMOTE_PORT}, or another, has connected to the host; its socket is handed over for the guest's port. */
  accepts(o: { remotePort?: number; guestPort?: number; prepare?: (s: Stream) => void } = {}): Stream {
    const { v4 } = this.o;
    const s = new Stream(this.nextFd++);
    s.peekOffset = this.o.peekOffset ?? true;
    s.connected();
    o.prepare?.(s);
    streams.set(s.fd, s);
    this.socket = s;
    const words = (v4Text: string, v6Text: string) =>
      v4 ? ([0, 0, flows.MAPPED_WORD, parseIpv4(v4Text)] as const) : parseIpv6(v6Text);
    const remote = words(bench.REMOTE4, bench.REMOTE6);
    const guest = words(bench.GUEST4, bench.GUEST6);
    this.turn(() =>
      inbound.open(s.fd, v4, ...remote, o.remotePort ?? REMOTE_PORT, ...guest, o.guestPort ?? GUEST_PORT),
    );
    return s;
  }
  /** Something happens at the other end of the socket. */
  peer(what: (s: Stream) => void, socket: Stream = this.socket): void {
    this.turn(() => what(socket));
  }
  peerSends(data: string | Uint8Array): void {
    this.peer((s) => s.receives(toBuffer(data)));
  }

  /** Milliseconds the loop would sleep; -1: until something happens. */
  get nextDelay(): number {
    const now = fake.nowMs();
    const delays = [wheel.nextDelay(now), keepalive.nextDelay(now), pace.nextDelay(now)].filter((ms) => ms >= 0);
    return delays.length === 0 ? -1 : Math.min(...delays);
  }
  /** Time passes; the loop wakes whenever a deadline comes. */
  after(ms: number): void {
    const until = fake.nowMs() + ms;
    for (let n = 0; ; n++) {
      if (n > 100_000) throw new Error('the timers do not come to rest');
      const delay = this.nextDelay;
      if (delay < 0 || fake.nowMs() + delay > until) break;
      fake.setNow(fake.nowMs() + delay);
      this.turn();
    }
    fake.setNow(until);
    this.turn();
  }

  /** The next segments to the guest, in order; returns what they were. */
  expectToGuest(...expected: readonly Expected[]): Seen[] {
    return expected.map((e) => {
      const s = this.seen.shift();
      expect(s, `a segment like ${JSON.stringify(e)}`).toBeDefined();
      expect(s).toMatchObject(e);
      return s as Seen;
    });
  }
  /** The next segments carry exactly `data`, from `seq` on, in frames that the tap can take; the last one pushes. */
  expectData(seq: number, data: string | Uint8Array, mss = MSS): void {
    const want = toBuffer(data);
    const got: Buffer[] = [];
    for (let n = 0; n < want.length; ) {
      const [s] = this.expectToGuest({ seq: (seq + n) | 0 }) as [Seen];
      expect(s.bytes.length).toBeGreaterThan(0);
      expect(s.gsoSize).toBe(s.bytes.length > mss ? mss : 0);
      if (!this.o.vnet) expect(s.bytes.length).toBeLessThanOrEqual(mss);
      got.push(s.bytes);
      n += s.bytes.length;
      if (n >= want.length) expect(s.flags).toBe('PA');
    }
    expect(Buffer.concat(got).equals(want)).toBe(true);
  }
  expectNothing(): void {
    expect(this.seen).toEqual([]);
    expect(this.errors).toEqual([]);
  }
  expectToSocket(data: string | Uint8Array, socket: Stream = this.socket): void {
    expect(socket.sent.equals(toBuffer(data))).toBe(true);
  }
  expectWindow(s: Seen | undefined, scale = 8): number {
    expect(s).toBeDefined();
    return (s as Seen).win << scale;
  }

  /** Until the socket connects: the guest's SYN, with the usual options unless others are given. */
  opening(syn: Segment = {}): Stream {
    this.guestSends({ flags: 'S', seq: 0, options: [...optionMss(MSS), ...optionScale(7)], ...syn });
    return this.helperAnswers()[0] as Stream;
  }
  /** A connection, both ends established, nothing sent. The guest's window is 65535 << 7 unless given. */
  established(ack: Segment = {}, syn: Segment = {}): this {
    this.opening(syn);
    this.peer((s) => s.connected());
    this.expectToGuest({ flags: 'SA', seq: 0, ack: 1 });
    this.guestSends(ack);
    this.expectNothing();
    return this;
  }
  get nowMs(): number {
    return fake.nowMs();
  }
  get flow(): flows.Flow {
    return this.socket.ref as flows.Flow;
  }

  /** Nothing is left of any flow: rows, sockets, kept bytes, timers, requests. */
  expectGivenBack(): void {
    if (lru.size(lru.LRU_TCP_TIME_WAIT) > 0) this.after(TIME_WAIT_MS * 1.1);
    expect(flows.count(flows.FLOW_TCP)).toBe(0);
    expect([...streams.values()].filter((s) => !s.closed || s.watched)).toEqual([]);
    expect([stash.chunksInUse(), outOfOrder.chunksInUse(), ranges.nodesInUse()]).toEqual([0, 0, 0]);
    expect(this.nextDelay).toBe(-1);
    expect(connect.outstanding()).toBe(0);
    expect(hasReady()).toBe(false);
  }
  /** Ends what a test left open, by the peers' resets, and holds that nothing unexpected was sent. */
  finish(): void {
    const unexpected = [...this.seen.splice(0), ...this.errors.splice(0)];
    if (connect.outstanding() > 0) this.turn(() => bench.answer({ errno: 110 }));
    this.turn(() => {
      for (const s of streams.values())
        if (!s.closed) {
          s.queue = Buffer.alloc(0);
          s.fails(111);
        }
    });
    this.seen.length = 0;
    this.expectGivenBack();
    expect(unexpected).toEqual([]);
  }
}

let current: Bench | null = null;
/** For afterEach: the bench of the test ends, and holds that everything was given back. */
export const finish = (): void => {
  const b = current;
  current = null;
  b?.finish();
};
/** The bench that is in use is finished first. With `ourIsn` the clock is put where that number comes out. */
export const begin = (o: Options): Bench => {
  finish();
  let startMs = START_MS;
  if (o.ourIsn !== undefined) {
    const trial = new Bench({ ...o, guestIsn: 0 }, startMs).established();
    startMs += ((o.ourIsn - trial.ourIsn) >>> 0) / ISN_TICKS_A_MS + 0.5 / ISN_TICKS_A_MS;
    trial.guestSends({ flags: 'R' });
    trial.expectGivenBack();
  }
  current = new Bench(o, startMs);
  return current;
};
