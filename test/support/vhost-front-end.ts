// SPDX-License-Identifier: Apache-2.0
/**
 * The other side of vhost-user, for tests: a front-end with two regions of memory (a file, read and written by position, so that each access sees
 * what the back-end's mapping does), and a guest's driver of two split rings in it. Nothing of it checks anything: it lies as well as it tells the truth.
 */
import { closeSync, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { REQUEST } from '../../controller/link/vhost/message.ts';
import { SOCK_NONBLOCK, SOCK_STREAM, testkit } from './testkit.ts';

export const REGION_BYTES = 1 << 20;
/** The second region follows the first in the guest, not in the front-end. */
export const USER = [0x7f00_0000_0000n, 0x7f00_4000_0000n] as const;
export const MEMORY_BYTES = 2 * REGION_BYTES;

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

const bit = (n: number): bigint => 1n << BigInt(n);
export const F = {
  CSUM: bit(0),
  GUEST_CSUM: bit(1),
  GUEST_TSO4: bit(7),
  GUEST_TSO6: bit(8),
  HOST_TSO4: bit(11),
  HOST_TSO6: bit(12),
  MRG_RXBUF: bit(15),
  INDIRECT_DESC: bit(28),
  EVENT_IDX: bit(29),
  PROTOCOL_FEATURES: bit(30),
  VERSION_1: bit(32),
  GUEST_USO4: bit(54),
  GUEST_USO6: bit(55),
  HOST_USO: bit(56),
} as const;

const EVENTFD = process.arch === 'arm64' ? 19 : 290;
export const eventfd = (): number => testkit.syscall(EVENTFD, 0, 0o4000);

export interface Piece {
  readonly at: number;
  readonly len: number;
  readonly flags?: number;
}

/** One queue of a guest's driver, its three parts at fixed places of the first region. */
export class Queue {
  readonly size: number;
  readonly descriptorsAt: number;
  readonly availAt: number;
  readonly usedAt: number;
  readonly kick = eventfd();
  readonly call = eventfd();
  readonly error = eventfd();
  readonly #memory: FrontEnd;
  avail: number;
  used: number;
  #free = 0;

  constructor(memory: FrontEnd, at: number, size: number, base: number) {
    this.#memory = memory;
    this.size = size;
    this.descriptorsAt = at;
    this.availAt = at + 16 * size;
    this.usedAt = (this.availAt + 6 + 2 * size + 3) & ~3;
    this.avail = base;
    this.used = base;
    memory.set16(this.availAt + 2, base);
    memory.set16(this.usedAt + 2, base);
  }

  descriptor(
    index: number,
    address: bigint,
    len: number,
    flags: number,
    next: number,
    table = this.descriptorsAt,
  ): void {
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, address), 0);
    bytes.writeUInt32LE(len >>> 0, 8);
    bytes.writeUInt16LE(flags, 12);
    bytes.writeUInt16LE(next, 14);
    this.#memory.write(table + 16 * index, bytes);
  }

  /** Chains the pieces and returns the head; offer() makes it available. Descriptors are taken in turn. */
  chain(pieces: readonly Piece[]): number {
    const head = this.#free;
    for (const [i, { at, len, flags = 0 }] of pieces.entries()) {
      const index = this.#free;
      this.#free = (this.#free + 1) % this.size;
      this.descriptor(index, BigInt(at), len, flags | (i + 1 < pieces.length ? NEXT : 0), this.#free);
    }
    return head;
  }
  offer(head: number): void {
    this.#memory.set16(this.availAt + 4 + 2 * (this.avail % this.size), head);
    this.avail = (this.avail + 1) & 0xffff;
    this.#memory.set16(this.availAt + 2, this.avail);
  }
  /** What was given back since the last call. */
  taken(): { head: number; written: number }[] {
    const until = this.#memory.get16(this.usedAt + 2);
    const out: { head: number; written: number }[] = [];
    for (; this.used !== until; this.used = (this.used + 1) & 0xffff) {
      const entry = this.#memory.read(this.usedAt + 4 + 8 * (this.used % this.size), 8);
      out.push({ head: entry.readUInt32LE(0), written: entry.readUInt32LE(4) });
    }
    return out;
  }
  get wantsKick(): boolean {
    return (this.#memory.get16(this.usedAt) & 1) === 0;
  }
  get availEvent(): number {
    return this.#memory.get16(this.usedAt + 4 + 8 * this.size);
  }
  set usedEvent(index: number) {
    this.#memory.set16(this.availAt + 4 + 2 * this.size, index);
  }
  set noInterrupt(on: boolean) {
    this.#memory.set16(this.availAt, on ? 1 : 0);
  }
  /** How often the guest was told since the last call. */
  told(): number {
    return count(this.call);
  }
  close(): void {
    for (const fd of [this.kick, this.call, this.error]) testkit.close(fd);
  }
}

/** The value of an eventfd, which is 0 from then on. */
export const count = (fd: number): number => {
  if (testkit.poll(fd, 1, 0) === 0) return 0;
  return Number(Buffer.from(testkit.read(fd, 8)).readBigUInt64LE());
};

export interface SetUp {
  readonly features: bigint;
  readonly size?: number;
  readonly base?: number;
}

export class FrontEnd {
  /** Our end of the connection, and the back-end's. */
  readonly socket: number;
  readonly theirs: number;
  readonly file: number;
  queues: readonly [Queue, Queue] | null = null;

  constructor() {
    [this.socket, this.theirs] = testkit.socketpair(SOCK_STREAM | SOCK_NONBLOCK);
    const path = join(tmpdir(), `pastiche-guest-${process.pid}-${this.socket}`);
    this.file = openSync(path, 'w+');
    unlinkSync(path);
    ftruncateSync(this.file, MEMORY_BYTES);
  }

  read(at: number, len: number): Buffer {
    const out = Buffer.alloc(len);
    readSync(this.file, out, 0, len, at);
    return out;
  }
  write(at: number, bytes: Uint8Array): void {
    writeSync(this.file, bytes, 0, bytes.length, at);
  }
  get16(at: number): number {
    return this.read(at, 2).readUInt16LE();
  }
  set16(at: number, value: number): void {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16LE(value & 0xffff);
    this.write(at, bytes);
  }

  send(request: number, payload: Uint8Array = Buffer.alloc(0), fds: readonly number[] = [], flags = 1): void {
    testkit.sendFds(this.socket, message(request, payload, flags), fds);
  }
  /** The next reply; null: there is none. */
  reply(): { request: number; payload: Buffer } | null {
    if (testkit.poll(this.socket, 1, 0) === 0) return null;
    const bytes = Buffer.from(testkit.recv(this.socket, 4096, 0));
    if (bytes.length === 0) return null;
    return { request: bytes.readUInt32LE(0), payload: bytes.subarray(12) };
  }
  get hungUp(): boolean {
    return (testkit.poll(this.socket, 1, 0) & 0x10) !== 0;
  }

  memoryTable(): Buffer {
    return table([
      { physical: 0n, size: BigInt(REGION_BYTES), user: USER[0], offset: 0n },
      { physical: BigInt(REGION_BYTES), size: BigInt(REGION_BYTES), user: USER[1], offset: BigInt(REGION_BYTES) },
    ]);
  }
  /** All that a hypervisor says until both queues run; `pump` lets the back-end read it. */
  setUp({ features, size = 16, base = 0 }: SetUp, pump: () => void): readonly [Queue, Queue] {
    for (const queue of this.queues ?? []) queue.close();
    this.send(REQUEST.SET_OWNER);
    this.send(REQUEST.SET_FEATURES, u64(features));
    this.send(REQUEST.SET_MEM_TABLE, this.memoryTable(), [this.file, this.file]);
    const queues = [new Queue(this, 0, size, base), new Queue(this, 0x10000, size, base)] as const;
    for (const [i, queue] of queues.entries()) {
      this.send(REQUEST.SET_VRING_NUM, state(i, size));
      this.send(REQUEST.SET_VRING_BASE, state(i, base));
      this.send(REQUEST.SET_VRING_ADDR, this.addresses(i, queue));
      this.send(REQUEST.SET_VRING_CALL, u64(BigInt(i)), [queue.call]);
      this.send(REQUEST.SET_VRING_ERR, u64(BigInt(i)), [queue.error]);
      this.send(REQUEST.SET_VRING_KICK, u64(BigInt(i)), [queue.kick]);
      if ((features & F.PROTOCOL_FEATURES) !== 0n) this.send(REQUEST.SET_VRING_ENABLE, state(i, 1));
    }
    pump();
    this.queues = queues;
    return queues;
  }
  /** The device is reset: both queues are asked where they ended. */
  stop(pump: () => void): void {
    for (const i of [0, 1]) this.send(REQUEST.GET_VRING_BASE, state(i, 0));
    pump();
    while (this.reply() !== null);
  }
  addresses(index: number, { descriptorsAt, usedAt, availAt }: Queue): Buffer {
    const out = Buffer.alloc(40);
    out.writeUInt32LE(index, 0);
    for (const [i, at] of [descriptorsAt, usedAt, availAt].entries()) {
      out.writeBigUInt64LE(USER[0] + BigInt(at), 8 + 8 * i);
    }
    return out;
  }
  /** `theirs` is the back-end's to close. */
  close(): void {
    testkit.close(this.socket);
    closeSync(this.file);
    for (const queue of this.queues ?? []) queue.close();
  }
}

export const message = (request: number, payload: Uint8Array, flags = 1): Buffer => {
  const header = Buffer.alloc(12);
  header.writeUInt32LE(request, 0);
  header.writeUInt32LE(flags, 4);
  header.writeUInt32LE(payload.length, 8);
  return Buffer.concat([header, payload]);
};
export const u64 = (value: bigint): Buffer => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64LE(value);
  return out;
};
export const state = (index: number, number: number): Buffer => {
  const out = Buffer.alloc(8);
  out.writeUInt32LE(index, 0);
  out.writeUInt32LE(number >>> 0, 4);
  return out;
};
export interface Region {
  readonly physical: bigint;
  readonly size: bigint;
  readonly user: bigint;
  readonly offset: bigint;
}
/** The payload of SET_MEM_TABLE. */
export const table = (regions: readonly Region[]): Buffer => {
  const out = Buffer.alloc(8 + 32 * regions.length);
  out.writeUInt32LE(regions.length, 0);
  for (const [i, { physical, size, user, offset }] of regions.entries()) {
    const at = 8 + 32 * i;
    out.writeBigUInt64LE(physical, at);
    out.writeBigUInt64LE(size, at + 8);
    out.writeBigUInt64LE(user, at + 16);
    out.writeBigUInt64LE(offset, at + 24);
  }
  return out;
};
