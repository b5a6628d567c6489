// SPDX-License-Identifier: Apache-2.0
/**
 * What a case has in its hands: one family, ports of its own, and a cursor in what has come over the wire. Expectations move
 * the cursor; nothing that a case did not ask about disturbs it. At the end every frame that came must have been sound.
 */
import { waitFor } from '../support/process.mjs';
import { AT, type Bed, GUEST_MAC } from './bed.ts';
import { type Decoded, describeFrame } from './decode.ts';
import * as packet from './packet.ts';
import { ETHERTYPE, type Family, PROTOCOL } from './packet.ts';
import type { Connection, Listener, UdpServer } from './peer.ts';
import type { Match } from './wire.ts';

let lastPort = 20_000;
let lastEcho = 0;

export const ECHO_REQUEST = { 4: 8, 6: 128 } as const;
export const ECHO_REPLY = { 4: 0, 6: 129 } as const;
export const UNREACHABLE = { 4: 3, 6: 1 } as const;
export const TIME_EXCEEDED = { 4: 11, 6: 3 } as const;

export class Talk {
  readonly bed: Bed;
  readonly family: Family;
  readonly at: (typeof AT)[Family];
  /** A port of the guest's that no other case uses. */
  readonly port: number;
  /** The guest's address in this case. */
  guest: string;
  cursor: number;
  readonly #began: number;

  constructor(bed: Bed, family: Family) {
    this.bed = bed;
    this.family = family;
    this.at = AT[family];
    this.guest = this.at.guest;
    this.port = this.freshPort();
    this.cursor = bed.wire.frames.length;
    this.#began = this.cursor;
  }
  /** The same with ports of its own. */
  sibling(): Talk {
    return new Talk(this.bed, this.family);
  }
  get onLinux(): boolean {
    return this.bed.name === 'Linux';
  }
  freshPort(): number {
    return ++lastPort;
  }

  // ---- Sending ----

  send(frame: Uint8Array): void {
    this.bed.wire.send(frame);
  }
  /** A frame to the other end of the wire with this as its payload. */
  ethernet(type: number, payload: Uint8Array, dst: string = this.bed.mac): Buffer {
    return packet.ethernet(dst, GUEST_MAC, type, payload);
  }
  /** A packet of the guest's to the server, unless the fields say otherwise. */
  ip(fields: Partial<packet.Ip> & { protocol: number }, payload: Uint8Array): Buffer {
    const ip = { src: this.guest, dst: this.at.server, ...fields };
    return this.family === 4
      ? this.ethernet(ETHERTYPE.ipv4, packet.ipv4(ip, payload))
      : this.ethernet(ETHERTYPE.ipv6, packet.ipv6(ip, payload));
  }
  udp(
    dstPort: number,
    payload: Uint8Array = Buffer.alloc(0),
    fields: Partial<packet.Udp> = {},
    ip: Partial<packet.Ip> = {},
  ): Buffer {
    const ends = { src: ip.src ?? this.guest, dst: ip.dst ?? this.at.server };
    const datagram = packet.udp(ends, { srcPort: this.port, dstPort, ...fields }, payload);
    return this.ip({ protocol: PROTOCOL.udp, ...ip }, datagram);
  }
  tcp(
    t: Partial<packet.Tcp> & { dstPort: number; flags: string },
    payload?: Uint8Array,
    ip: Partial<packet.Ip> = {},
  ): Buffer {
    const ends = { src: ip.src ?? this.guest, dst: ip.dst ?? this.at.server };
    const segment = packet.tcp(ends, { srcPort: this.port, seq: 0, ...t }, payload);
    return this.ip({ protocol: PROTOCOL.tcp, ...ip }, segment);
  }
  icmp(type: number, code: number, body: Uint8Array, ip: Partial<packet.Ip> = {}, checksum?: number): Buffer {
    const ends = { src: ip.src ?? this.guest, dst: ip.dst ?? this.at.server };
    const message = packet.icmp(ends, type, code, body, checksum);
    return this.ip({ protocol: this.family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6, ...ip }, message);
  }
  ping(id: number, sequence: number, data: Uint8Array, ip: Partial<packet.Ip> = {}): Buffer {
    return this.icmp(ECHO_REQUEST[this.family], 0, packet.echo(id, sequence, data), ip);
  }

  // ---- Expecting ----

  /** The next frame that matches; the cursor stands behind it. */
  async expect(match: Match, what: string, timeoutMs?: number): Promise<Decoded> {
    const at = await this.bed.wire.find(this.cursor, match, what, timeoutMs);
    this.cursor = at + 1;
    return this.bed.wire.frames[at] as Decoded;
  }
  /** Nothing that matches has come since the cursor, nor does before the answer to an echo request sent now. */
  async silence(match: Match, what: string): Promise<void> {
    await this.sentinel();
    this.none(match, what);
  }
  none(match: Match, what: string): void {
    const frame = this.bed.wire.frames.slice(this.cursor).find((f) => match(f));
    if (frame !== undefined) throw new Error(`there should be no ${what}: ${describeFrame(frame)}`);
  }
  /** An echo to the gateway: what was sent before it has been looked at when its answer comes. */
  async sentinel(): Promise<void> {
    const sequence = ++lastEcho & 0xffff;
    const from = this.bed.wire.frames.length;
    this.send(this.ping(0x5e4e, sequence, Buffer.from('sentinel'), { src: this.at.guest, dst: this.at.gateway }));
    const isAnswer: Match = (f) =>
      f.ip?.family === this.family &&
      f.icmp?.type === ECHO_REPLY[this.family] &&
      f.icmp.rest === ((0x5e4e << 16) | sequence) >>> 0;
    await this.bed.wire.find(from, isAnswer, 'the answer to the echo request that shows that all is well');
  }
  isUdp(f: Decoded): boolean {
    return f.udp?.dstPort === this.port && f.ip?.dst === packet.canonical(this.guest);
  }
  isTcp(f: Decoded): boolean {
    return f.tcp?.dstPort === this.port && f.ip?.dst === packet.canonical(this.guest);
  }
  /** An ICMP error that quotes a packet of this case. */
  isError(f: Decoded): boolean {
    return f.icmp?.quoted?.srcPort === this.port;
  }
  isFrom(f: Decoded, address: string): boolean {
    return f.ip?.src === packet.canonical(address);
  }
  /** Any packet that was not there before the case: only for cases that run alone. */
  isAnything(f: Decoded): boolean {
    return f.icmp?.type !== ECHO_REPLY[this.family] || f.icmp.rest >>> 16 !== 0x5e4e ? f.icmp?.type !== 134 : false;
  }

  /** Back to the beginning of the case. */
  rewind(): void {
    this.cursor = this.#began;
  }

  // ---- Servers ----

  listen(paused = false): Promise<Listener> {
    return this.bed.peer.listen(this.family, paused);
  }
  echoServer(): Promise<UdpServer> {
    return this.bed.peer.bind(this.family, true);
  }
  closedPort(): number {
    return this.bed.peer.closedPort();
  }
  /** The datagram comes back from where it went to, byte for byte. */
  async echoes(server: UdpServer, payload: Uint8Array, frame = this.udp(server.port, payload)): Promise<Decoded> {
    this.send(frame);
    const back = await this.expect((f) => this.isUdp(f), 'the echoed datagram');
    same(back.udp?.payload, payload, 'the echoed datagram');
    equal(back.udp?.srcPort, server.port, 'its source port');
    equal(back.ip?.src, packet.canonical(this.at.server), 'its source address');
    return back;
  }
  /** The frames do not reach the server's socket, and nobody says anything about them; a good datagram after them does. */
  async ignoredByUdp(server: UdpServer, frames: readonly Uint8Array[]): Promise<void> {
    const before = server.datagrams.length;
    for (const frame of frames) this.send(frame);
    await this.echoes(server, packet.pattern(33, this.port));
    await this.got(server, before + 1);
    this.none((f) => this.isUdp(f) || this.isError(f), 'answer');
  }
  /** The server's socket got so many datagrams in all, and no more. */
  async got(server: UdpServer, count: number): Promise<void> {
    await until(() => server.datagrams.length >= count, 'the datagrams at the server');
    equal(server.datagrams.length, count, 'datagrams at the server');
  }
  /**
   * Sends the frame, again every half a second, until something matches: for what routers say, who may limit their rate
   * (RFC 1812 §4.3.2.8).
   */
  async insist(frame: Uint8Array, match: Match, what: string): Promise<Decoded> {
    for (let tries = 1; ; tries++) {
      this.send(frame);
      try {
        return await this.expect(match, what, 500);
      } catch (error) {
        if (tries === 20) throw error;
      }
    }
  }
  until(condition: () => unknown, what: string, timeoutMs?: number): Promise<unknown> {
    return until(condition, what, timeoutMs);
  }

  /** What every frame of this case must be, whatever else it is. */
  finish(): void {
    const faulty = this.bed.wire.frames.slice(this.#began).filter((f) => f.faults.length > 0);
    if (faulty.length > 0) throw new Error(`unsound frames: ${faulty.slice(0, 5).map(describeFrame).join('\n  ')}`);
    this.bed.alive();
  }
}

export const until = (condition: () => unknown, what: string, timeoutMs = 5000): Promise<unknown> =>
  waitFor(condition, { what, timeoutMs, everyMs: 2 });

export const equal = (actual: unknown, wanted: unknown, what: string): void => {
  if (actual !== wanted) throw new Error(`${what}: ${String(actual)} in place of ${String(wanted)}`);
};
export const truth = (holds: unknown, what: string): void => {
  if (!holds) throw new Error(what);
};
export const same = (actual: Uint8Array | undefined, wanted: Uint8Array, what: string): void => {
  const a = Buffer.from(actual ?? []);
  const b = Buffer.from(wanted);
  if (a.equals(b)) return;
  const at = [...b].findIndex((byte, i) => a[i] !== byte);
  throw new Error(`${what}: ${a.length} bytes in place of ${b.length}, different from ${at < 0 ? b.length : at} on`);
};
export type { Connection, Listener };
