// SPDX-License-Identifier: Apache-2.0
/**
 * A model of a guest's TCP for simulations: small, slow and strict. It keeps RFC 9293 where it matters for the other
 * end (what is acceptable, what an ACK may say, zero windows), segments at random, and throws when the other end
 * breaks a rule: data that is not the stream's, data beyond every window it announced, an acknowledgement of what was
 * never sent, a right edge that moves back.
 *
 * Streams are `numbered` bytes; offsets count from 0, the first byte of each direction.
 */
import { MSS, numbered, optionMss, optionScale, SACK_PERMITTED, type Seen, type Segment } from './tcp-bench.ts';

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export const randomOf = (seed: number): (() => number) => {
  let s = seed | 0;
  return () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  };
};

export interface GuestPlan {
  readonly port: number;
  /** Bytes it sends before its FIN. */
  readonly total: number;
  /** Receive buffer, bytes. */
  readonly capacity: number;
  /** Shift it offers; null: no window scaling. */
  readonly scale: number | null;
  /** Keeps what comes out of order. */
  readonly reassembles: boolean;
  /** Offers selective acknowledgements, and gives them if it reassembles. */
  readonly sack: boolean;
  /** It is connected to: it listens, or answers a SYN with a reset. Left out: it connects. */
  readonly passive?: 'listens' | 'refuses';
}

const RTO_MS = 250;
const OUR_SCALE = 8;
/** `numbered` repeats itself every 64 KiB. */
export const STREAM = Buffer.concat(Array.from({ length: 512 }, () => numbered(1 << 16)));

export class Guest {
  readonly plan: GuestPlan;
  state: 'closed' | 'syn' | 'asked' | 'open' | 'reset' = 'closed';
  /** Received in order, and by the application read. */
  received = 0;
  finReceived = false;
  finAcked = false;
  /** Times it closed its window entirely, and segments it saw again. */
  zeroWindows = 0;
  repeated = 0;
  private read = 0;
  private readonly random: () => number;
  private base = 0;
  private una = 0;
  private next = 0;
  private max = 0;
  private sendEdge = 0;
  private sendEdgeMax = 0;
  private finSent = false;
  private lastMs = Number.NEGATIVE_INFINITY;
  private announced = 0;
  private announcedMax = 0;
  private ackDue = false;
  private finAt = -1;
  private latest = 0;
  /** Times our data was told by SACK. */
  told = 0;
  private readonly holes: [from: number, to: number][] = [];
  private readonly out: Segment[] = [];

  constructor(plan: GuestPlan, random: () => number) {
    this.plan = plan;
    this.random = random;
  }
  private upTo(n: number): number {
    return Math.floor(this.random() * (n + 1));
  }
  private fail(what: string): never {
    throw new Error(`guest ${this.plan.port}: ${what}`);
  }
  get allAcked(): boolean {
    return this.una === this.plan.total;
  }
  get done(): boolean {
    // A client that gave up before its SYN arrived leaves nothing here.
    if (this.plan.passive !== undefined && this.state === 'closed') return true;
    return this.state === 'reset' || (this.finReceived && this.finAcked);
  }

  /** Its window as the field for the next segment. */
  private window(): number {
    const shift = this.state === 'open' ? (this.plan.scale ?? 0) : 0;
    const free = this.plan.capacity - (this.received - this.read);
    const field = Math.min(free >> shift, 0xffff);
    this.announced = this.received + (field << shift);
    this.announcedMax = Math.max(this.announcedMax, this.announced);
    if (field === 0) this.zeroWindows++;
    return field;
  }
  private send(s: Segment): void {
    const ack = (this.base + 1 + this.received + (this.finReceived ? 1 : 0)) | 0;
    this.ackDue = false;
    const sack = this.plan.sack && this.holes.length > 0 ? { sack: this.blocks() } : {};
    this.out.push({ srcPort: this.plan.port, ack, win: this.window(), vouched: 1, ...sack, ...s });
  }
  /** RFC 2018 §4: three at most, that of the latest segment first. The list is sorted, without overlaps. */
  private blocks(): [number, number][] {
    const latest = this.holes.findIndex(([from, to]) => this.latest >= from && this.latest < to);
    const at = latest < 0 ? this.holes.length - 1 : latest;
    return this.holes
      .slice(Math.max(at - 2, 0), at + 1)
      .reverse()
      .map(([from, to]) => [this.base + 1 + from, this.base + 1 + to]);
  }
  private keep(from: number, to: number): void {
    this.latest = from;
    const i = this.holes.findIndex((h) => h[1] >= from);
    if (i < 0) {
      this.holes.push([from, to]);
      return;
    }
    let n = 0;
    let [low, high] = [from, to];
    for (let h = this.holes[i]; h !== undefined && h[0] <= high; h = this.holes[i + n]) {
      low = Math.min(low, h[0]);
      high = Math.max(high, h[1]);
      n++;
    }
    this.holes.splice(i, n, [low, high]);
  }
  private bareAck(): void {
    this.send({ seq: 1 + this.max + (this.finSent ? 1 : 0) });
  }

  /** A frame arrives. */
  receive(s: Seen): void {
    if (this.state === 'closed' && this.plan.passive !== undefined) return this.asked(s);
    if (this.state === 'closed') return;
    if (this.state === 'reset') {
      if (s.flags === 'S') this.refuses(s);
      else if (!s.flags.includes('R') && s.flags.includes('A')) this.out.push(this.reset(s.ack));
      return;
    }
    if (this.state === 'syn') return this.answered(s);
    if (this.state === 'asked' && !this.confirmed(s)) return;
    const at = (s.seq - this.base - 1) | 0;
    const length = s.bytes.length + (s.flags.includes('F') ? 1 : 0);
    if (s.flags.includes('R')) return this.resetReceived(at);
    if (s.flags.includes('S')) {
      this.ackDue = true;
      return;
    }
    this.checkData(s, at);
    const edge = this.received + (this.finReceived ? 1 : 0);
    // RFC 9293 §3.10.7.4: what is not acceptable is answered by an ACK, and its own ACK does not count.
    if (
      at + length < edge ||
      at > Math.max(this.announced, edge) ||
      (length > 0 && at + length === edge && at < edge)
    ) {
      this.repeated++;
      this.bareAck();
      return;
    }
    this.acknowledged(s);
    if (length > 0) this.take(at, s);
  }
  /** RFC 9293 §3.10.7.2, LISTEN and CLOSED. */
  private asked(s: Seen): void {
    if (s.flags !== 'S') return;
    if (s.scale !== OUR_SCALE || !s.sackPermitted || s.mss === null) this.fail('a SYN without its options');
    if (this.plan.passive === 'refuses') {
      this.state = 'reset';
      return this.refuses(s);
    }
    this.base = s.seq;
    this.state = 'asked';
    this.sendEdge = s.win;
    this.sendEdgeMax = s.win;
    this.synAcks();
  }
  private refuses(s: Seen): void {
    this.out.push({ flags: 'RA', seq: 0, ack: (s.seq + 1) | 0, srcPort: this.plan.port, vouched: 1 });
  }
  private synAcks(): void {
    const win = this.window();
    this.announcedMax = win;
    const ack = (this.base + 1) | 0;
    this.out.push({ flags: 'SA', seq: 0, ack, srcPort: this.plan.port, win, options: this.options(), vouched: 1 });
  }
  /** SYN-RECEIVED: the answer to the SYN|ACK, or the SYN again. False: nothing more is in it. */
  private confirmed(s: Seen): boolean {
    if (s.flags === 'S') {
      if (s.seq !== this.base) this.fail(`another SYN, ${s.seq}`);
      this.repeated++;
      this.synAcks();
    } else if (s.flags.includes('R')) {
      if (s.seq !== ((this.base + 1) | 0)) this.fail(`a reset at ${s.seq}`);
      this.state = 'reset';
    } else if (s.ack === 1) {
      this.state = 'open';
      this.announced = 0;
      return true;
    } else this.fail(`an acknowledgement of ${s.ack} to a SYN|ACK`);
    return false;
  }
  private answered(s: Seen): void {
    if (s.flags === 'RA' && s.ack === 1) this.state = 'reset';
    if (s.flags !== 'SA') return;
    if (s.ack !== 1) this.fail(`a SYN|ACK that acknowledges ${s.ack}`);
    this.base = s.seq;
    this.state = 'open';
    this.sendEdge = s.win;
    this.sendEdgeMax = s.win;
    this.announced = 0;
    this.ackDue = true;
  }
  private resetReceived(at: number): void {
    const expected = this.received + (this.finReceived ? 1 : 0);
    if (at === expected) this.state = 'reset';
    else if (at > expected && at <= this.announcedMax) this.bareAck();
  }
  private checkData(s: Seen, at: number): void {
    if (s.bytes.length === 0) return;
    if (at < 0) this.fail(`data at ${at}`);
    if (at + s.bytes.length > this.announcedMax) this.fail(`data up to ${at + s.bytes.length} of ${this.announcedMax}`);
    if (!s.bytes.equals(STREAM.subarray(at, at + s.bytes.length))) this.fail(`wrong bytes at ${at}`);
  }
  /** Also for frames that get lost: what they say must be right. */
  checkAnnounced(s: Seen): void {
    if (this.state !== 'open' || !s.flags.includes('A') || s.flags.includes('S') || s.flags.includes('R')) return;
    const shift = this.plan.scale === null ? 0 : OUR_SCALE;
    const edge = s.ack - 1 + (s.win << shift);
    if (edge <= this.sendEdgeMax - (1 << shift))
      this.fail(`the window's edge moves back from ${this.sendEdgeMax} to ${edge}`);
    this.sendEdgeMax = Math.max(this.sendEdgeMax, edge);
    if (s.ack - 1 > this.max + (this.finSent ? 1 : 0)) this.fail(`acknowledgement of ${s.ack - 1} of ${this.max}`);
    if (s.sack.length > 0 && !this.plan.sack) this.fail('a SACK option that was not permitted');
    s.sack.forEach(([from, to], i) => {
      this.told++;
      if (from >= to || to - 1 > this.max) this.fail(`a SACK block [${from}, ${to}) of ${this.max}`);
      // Only the first may tell what came twice (RFC 2883 §4); the others lie beyond the acknowledgement.
      if (i > 0 && from <= s.ack) this.fail(`a SACK block at ${from}, acknowledged up to ${s.ack}`);
    });
  }
  private acknowledged(s: Seen): void {
    const at = s.ack - 1;
    if (at < this.una) return;
    this.sendEdge = at + (s.win << (this.plan.scale === null ? 0 : OUR_SCALE));
    if (this.finSent && at === this.plan.total + 1) this.finAcked = true;
    const bytes = Math.min(at, this.plan.total);
    if (bytes > this.una) this.lastMs = Number.NaN;
    this.una = bytes;
    this.next = Math.max(this.next, bytes);
  }
  private take(at: number, s: Seen): void {
    const end = at + s.bytes.length;
    if (s.flags.includes('F')) this.finAt = end;
    if (at > this.received) {
      if (this.plan.reassembles && end > at) this.keep(at, end);
      else if (s.flags.includes('F')) this.finAt = -1;
      // A duplicate ACK for each, at once (RFC 5681 §4.2).
      this.bareAck();
      return;
    }
    const room = this.read + this.plan.capacity;
    this.received = Math.min(Math.max(this.received, end), Math.max(room, this.received));
    for (let h = this.holes[0]; h !== undefined && h[0] <= this.received; h = this.holes[0]) {
      this.received = Math.max(this.received, Math.min(h[1], room));
      this.holes.shift();
    }
    if (this.finAt === this.received) this.finReceived = true;
    this.ackDue = true;
  }

  private reset(seq: number): Segment {
    return { flags: 'R', srcPort: this.plan.port, seq, vouched: 1 };
  }
  /** The application is gone: a reset, and one for whatever comes after it. */
  abort(): void {
    if (this.state === 'open' || this.state === 'syn' || this.state === 'asked')
      this.out.push(this.reset(1 + this.max + (this.finSent ? 1 : 0)));
    this.state = 'reset';
  }
  /** The application reads up to `bytes`. */
  reads(bytes: number): void {
    const before = this.announced - this.received;
    this.read = Math.min(this.read + bytes, this.received);
    const free = this.plan.capacity - (this.received - this.read);
    // Receiver's silly window avoidance (RFC 9293 §3.8.6.2.2): worth telling, and told.
    if (this.state === 'open' && free - before >= Math.min(MSS, this.plan.capacity / 2)) this.ackDue = true;
  }
  /** What it sends now: at most `most` segments of new data; timers; what is owed. */
  acts(nowMs: number, most: number, close: boolean): Segment[] {
    if (this.state === 'closed' || this.state === 'syn' || this.state === 'asked') this.opens(nowMs);
    else if (this.state === 'open') {
      if (Number.isNaN(this.lastMs)) this.lastMs = nowMs;
      this.timers(nowMs);
      for (let i = 0; i < most && this.next < Math.min(this.plan.total, this.sendEdge); i++) this.sendsData(nowMs);
      if (close && this.next === this.plan.total && !this.finSent) this.sendsFin(nowMs);
      if (this.ackDue) this.bareAck();
    }
    return this.out.splice(0);
  }
  private options(): number[] {
    return [
      ...optionMss(MSS),
      ...(this.plan.scale === null ? [] : optionScale(this.plan.scale)),
      ...(this.plan.sack ? SACK_PERMITTED : []),
    ];
  }
  private opens(nowMs: number): void {
    if (nowMs - this.lastMs < 1000 || (this.plan.passive !== undefined && this.state === 'closed')) return;
    this.lastMs = nowMs;
    if (this.state === 'asked') return this.synAcks();
    this.state = 'syn';
    const win = this.window();
    this.announcedMax = win;
    this.out.push({ flags: 'S', seq: 0, srcPort: this.plan.port, win, options: this.options(), vouched: 1 });
  }
  private timers(nowMs: number): void {
    if (nowMs - this.lastMs < RTO_MS) return;
    const pending = this.una < this.max || (this.finSent && !this.finAcked);
    if (pending) {
      // Go back to what is missing; a closed window is probed by its first byte.
      this.next = this.una;
      if (this.una < this.max) {
        if (this.sendEdge <= this.una) this.probes(nowMs);
        else this.sendsData(nowMs);
      } else this.sendsFin(nowMs);
    } else if (this.next < this.plan.total && this.sendEdge <= this.next) this.probes(nowMs);
  }
  private probes(nowMs: number): void {
    this.lastMs = nowMs;
    if (this.random() < 0.5) return this.send({ seq: this.una });
    this.max = Math.max(this.max, this.una + 1);
    this.send({ seq: 1 + this.una, data: STREAM.subarray(this.una, this.una + 1) });
  }
  private sendsData(nowMs: number): void {
    const most = Math.min(this.plan.total, Math.max(this.sendEdge, this.next + 1)) - this.next;
    // Often large superframes, sometimes crumbs, sometimes starting before what is due.
    const length = Math.min(most, 1 + this.upTo(this.random() < 0.2 ? 40_000 : this.random() < 0.3 ? 10 : MSS - 1));
    const from = this.random() < 0.05 ? Math.max(this.una, this.next - this.upTo(50)) : this.next;
    const to = this.next + length;
    const fin = this.finSent && to === this.plan.total;
    this.lastMs = nowMs;
    this.next = to;
    this.max = Math.max(this.max, to);
    this.send({ flags: fin ? 'FPA' : 'PA', seq: 1 + from, data: STREAM.subarray(from, to) });
  }
  private sendsFin(nowMs: number): void {
    this.lastMs = nowMs;
    this.finSent = true;
    this.send({ flags: 'FA', seq: 1 + this.plan.total });
  }
}
