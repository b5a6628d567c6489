// SPDX-License-Identifier: Apache-2.0
/** The guest's end of one TCP connection, played by hand. Sequence numbers are as RFC 9293 has them, from the guest's side. */
import type { DecodedTcp } from './decode.ts';
import {
  add,
  distance,
  internetChecksum,
  ipBytes,
  PROTOCOL,
  pattern,
  pseudoHeader,
  type Tcp,
  type TcpOptions,
  tcpOptions,
} from './packet.ts';
import type { Connection, Listener } from './peer.ts';
import { equal, same, type Talk, truth, until } from './talk.ts';

export interface Opening {
  readonly options?: TcpOptions;
  /** Initial sequence number. */
  readonly iss?: number;
  /** As in the field, of the SYN and of everything after it. */
  readonly window?: number;
  readonly listener?: Listener;
  /** The server does not read until it is told to. */
  readonly paused?: boolean;
}

type Sent = Partial<Tcp>;

export interface Segment extends DecodedTcp {
  /** Of payload; in a superframe, of each of the segments that it stands for. */
  readonly bytes: number;
  /** performance.now() of its arrival. */
  readonly ms: number;
}

export class TcpTalk {
  readonly t: Talk;
  readonly listener: Listener;
  readonly port: number;
  readonly iss: number;
  window: number;
  /** SND.NXT and RCV.NXT. */
  seq: number;
  ack = 0;
  irs = 0;
  synAck: Segment | undefined;
  /** The value that goes into the timestamps option of every segment; undefined: no option. */
  timestamp: number | undefined;
  /** Which of the listener's connections is ours. */
  readonly #index: number;

  constructor(t: Talk, listener: Listener, opening: Opening = {}) {
    this.t = t;
    this.listener = listener;
    this.#index = listener.connections.length;
    this.port = t.port;
    this.iss = opening.iss ?? (0x10_0000 + t.port * 7919) >>> 0;
    this.window = opening.window ?? 65_535;
    this.seq = this.iss;
  }

  /** SYN and its answer, without the third segment. */
  static async begin(t: Talk, opening: Opening = {}): Promise<TcpTalk> {
    const c = new TcpTalk(t, opening.listener ?? (await t.listen(opening.paused)), opening);
    c.sendSyn(opening.options ?? { mss: 1460 });
    const synAck = await c.expect((s) => s.flags.includes('S'), 'SYN|ACK');
    equal(synAck.flags.replace('E', ''), 'SA', 'flags');
    equal(synAck.ack, c.seq, 'acknowledgement of the SYN');
    c.synAck = synAck;
    c.irs = synAck.seq;
    c.ack = add(synAck.seq, 1);
    return c;
  }
  /** The whole handshake; the server has accepted. */
  static async open(t: Talk, opening: Opening = {}): Promise<TcpTalk> {
    const c = await TcpTalk.begin(t, opening);
    await c.complete();
    return c;
  }
  sendSyn(options: TcpOptions): void {
    this.#transmit({ flags: 'S', seq: this.iss, ack: 0, options: tcpOptions(options) });
    this.seq = add(this.iss, 1);
  }
  async complete(): Promise<void> {
    this.send('A');
    await until(() => this.listener.connections.length > this.#index, 'the connection at the server');
  }
  get server(): Connection {
    const found = this.listener.connections[this.#index];
    if (found === undefined) throw new Error('the server has not accepted');
    return found;
  }

  #transmit(fields: Sent & { flags: string }, payload?: Uint8Array): void {
    const own = this.timestamp === undefined ? {} : { options: tcpOptions({ timestamps: [this.timestamp, 0] }) };
    const { t, listener, window, seq, ack } = this;
    t.send(t.tcp({ srcPort: this.port, dstPort: listener.port, seq, ack, window, ...own, ...fields }, payload));
  }
  /** The next segment in sequence. */
  send(flags: string, payload: Uint8Array = Buffer.alloc(0), fields: Sent = {}): void {
    this.#transmit({ flags, ...fields }, payload);
    this.seq = add(this.seq, payload.length + (flags.includes('F') ? 1 : 0));
  }
  /** All of it as one frame, for the device to cut: its header says so, and the checksum is the pseudo-header's only. */
  superframe(payload: Uint8Array, segmentBytes: number): void {
    const { t, listener } = this;
    const ip = { src: t.guest, dst: t.at.server };
    const whole = { srcPort: this.port, dstPort: listener.port, seq: this.seq, ack: this.ack, flags: 'PA' };
    const length = 20 + payload.length;
    const partial = ~internetChecksum(pseudoHeader(ipBytes(ip.src), ipBytes(ip.dst), PROTOCOL.tcp, length)) & 0xffff;
    const frame = t.tcp({ ...whole, window: this.window, checksum: partial }, payload);
    const l4 = t.family === 4 ? 34 : 54;
    // struct virtio_net_hdr in the host's byte order: NEEDS_CSUM, TCPv4 or TCPv6, header, segment, checksum's place.
    const vnet = Buffer.alloc(10);
    vnet.writeUInt8(1, 0);
    vnet.writeUInt8(t.family === 4 ? 1 : 4, 1);
    for (const [i, value] of [l4 + 20, segmentBytes, l4, 16].entries()) vnet.writeUInt16LE(value, 2 + i * 2);
    t.bed.wire.send(frame, vnet);
    this.seq = add(this.seq, payload.length);
  }
  /** A segment that changes nothing here. */
  stray(flags: string, fields: Sent = {}, payload?: Uint8Array): void {
    this.#transmit({ flags, ...fields }, payload);
  }

  isMine(f: { tcp?: DecodedTcp }): boolean {
    return f.tcp?.dstPort === this.port && f.tcp.srcPort === this.listener.port;
  }
  /** The next segment that matches. */
  async expect(match: (s: DecodedTcp) => boolean, what: string, timeoutMs?: number): Promise<Segment> {
    const found = await this.t.expect((f) => this.isMine(f) && match(f.tcp as DecodedTcp), what, timeoutMs);
    const tcp = found.tcp as DecodedTcp;
    const bytes = found.gsoBytes === 0 ? tcp.payload.length : Math.min(found.gsoBytes, tcp.payload.length);
    return { ...tcp, bytes, ms: found.ms };
  }
  /** A segment that acknowledges everything sent. */
  acknowledged(what = 'its acknowledgement', timeoutMs?: number): Promise<Segment> {
    return this.expect((s) => s.flags.includes('A') && s.ack === this.seq, what, timeoutMs);
  }
  /** An acknowledgement of the state as it is, without data. */
  async challenge(what: string): Promise<Segment> {
    const s = await this.expect((each) => !each.flags.includes('P') && each.payload.length === 0, what);
    equal(s.flags, 'A', 'flags');
    equal(s.seq, this.ack, 'sequence number');
    equal(s.ack, this.seq, 'acknowledgement');
    return s;
  }
  reset(what = 'a reset', timeoutMs?: number): Promise<Segment> {
    return this.expect((s) => s.flags.includes('R'), what, timeoutMs);
  }
  /** Nothing came for this connection, and nothing comes before the sentinel. */
  silence(what: string): Promise<void> {
    return this.t.silence((f) => this.isMine(f), what);
  }

  /** The server sends, and the guest gets it in order, acknowledging each segment. */
  async receives(data: Uint8Array): Promise<Segment[]> {
    this.t.bed.peer.write(this.server, data);
    return this.collect(data);
  }
  async collect(data: Uint8Array): Promise<Segment[]> {
    const segments: Segment[] = [];
    let got = Buffer.alloc(0);
    while (got.length < data.length) {
      const s = await this.expect((each) => each.payload.length > 0 && each.seq === this.ack, 'data in order');
      segments.push(s);
      got = Buffer.concat([got, s.payload]);
      this.ack = add(this.ack, s.payload.length);
      this.send('A');
    }
    same(got, data, 'what the server sent');
    return segments;
  }
  /** The server has got exactly this, in all. */
  async delivered(data: Uint8Array): Promise<void> {
    await until(() => this.server.received.length >= data.length || this.server.error, 'the data at the server');
    same(this.server.received, data, 'what the guest sent');
  }
  /** Data both ways, then an orderly end. */
  async converse(length: number): Promise<void> {
    const data = pattern(length, this.port);
    for (let at = 0; at < length; at += 1000) this.send('PA', data.subarray(at, at + 1000));
    await this.acknowledged();
    await this.delivered(data);
    await this.receives(pattern(length, this.port + 1));
    await this.closes();
  }
  /** The guest closes first, then the server. */
  async closes(): Promise<void> {
    this.send('FA');
    await this.acknowledged('the acknowledgement of the FIN');
    await until(() => this.server.ended, 'end of file at the server');
    this.t.bed.peer.end(this.server);
    await this.takesFin();
  }
  /** The server's FIN comes and is acknowledged. */
  async takesFin(): Promise<Segment> {
    const fin = await this.expect((s) => s.flags.includes('F'), 'FIN');
    equal(fin.seq, this.ack, 'sequence number of the FIN');
    this.ack = add(this.ack, 1);
    this.send('A');
    return fin;
  }
  /** The connection still carries data both ways. */
  async lives(): Promise<void> {
    const before = this.server.received.length;
    const data = pattern(77, this.seq);
    this.send('PA', data);
    await this.acknowledged('the acknowledgement of later data');
    await until(() => this.server.received.length >= before + data.length, 'later data at the server');
    same(this.server.received.subarray(before), data, 'later data');
    await this.receives(pattern(88, this.seq));
  }
  /** SND.NXT as the other end has it, by its last acknowledgement. */
  isAcked(s: DecodedTcp): boolean {
    truth(distance(s.ack, this.seq) <= 0, 'an acknowledgement of what was never sent');
    return s.ack === this.seq;
  }
}
