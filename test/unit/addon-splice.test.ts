// SPDX-License-Identifier: Apache-2.0
/** accept, pipe and spliceThrough on real sockets and pipes. */
import { execFileSync } from 'node:child_process';
import { constants } from 'node:os';
import { afterEach, describe, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import { SPLICE_EMPTY, SPLICE_END, SPLICE_FROM_FAILED, SPLICE_FULL, SPLICE_TO_FAILED } from '../../shared/abi.ts';
import {
  AF_INET,
  AF_INET6,
  type Family,
  LOOPBACK,
  openDescriptors,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  tcpPair,
  testkit,
} from '../support/testkit.ts';

const { native, mem, view, col, COL } = io;
const { EAGAIN, ECONNRESET, EPIPE } = constants.errno;
const POLLIN = 1;
const BUDGET = 1 << 20;
const open: number[] = [];
const keep = <T extends readonly number[]>(...fds: T): T => {
  open.push(...fds);
  return fds;
};
afterEach(() => {
  for (const fd of open.splice(0)) native.close(fd);
});
const pair = (family: Family = 4): [number, number] => keep(...tcpPair(family)) as [number, number];
const pipe = (bytes = 65_536): [number, number] => {
  expect(native.pipe(bytes)).toBeGreaterThanOrEqual(4096);
  return keep(col[COL.FD] as number, col[COL.FD + 1] as number) as [number, number];
};
/** Waits until `fd` has `bytes` in its receive queue. */
const arrived = (fd: number, bytes: number): void => {
  for (let tries = 0; tries < 200; tries++) {
    testkit.poll(fd, POLLIN, 1000);
    native.tcpInfo(fd);
    if (testkit.recv(fd, bytes, 2).length === bytes) return;
    native.wait(1, 0);
  }
  throw new Error('it did not come');
};
const outcome = (): [stop: number, held: number, errno: number] => [
  col[COL.SPLICE_STOP] as number,
  col[COL.SPLICE_HELD] as number,
  col[COL.SPLICE_ERRNO] as number,
];

describe.each<Family>([4, 6])('IPv%i', (family) => {
  test('accept tells both addresses, IPv4 in its IPv6 form; the socket is non-blocking and close-on-exec', () => {
    const listener = testkit.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
    const client = testkit.socket(family === 4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
    keep(listener, client);
    testkit.bind(listener, LOOPBACK[family], 0);
    testkit.listen(listener, 4);
    expect(native.accept(listener, 4096)).toBe(-EAGAIN);
    testkit.connect(client, LOOPBACK[family], testkit.port(listener));
    testkit.poll(listener, POLLIN, 1000);
    mem.fill(0xee, 4096, 4160);
    const fd = native.accept(listener, 4096);
    keep(fd);
    const address = family === 4 ? '00000000000000000000ffff7f000001' : '00000000000000000000000000000001';
    const hex = (at: number): string => Buffer.from(mem.subarray(at, at + 16)).toString('hex');
    expect([hex(4096), view.getUint16(4112)]).toEqual([address, testkit.port(client)]);
    expect([hex(4128), view.getUint16(4144)]).toEqual([address, testkit.port(listener)]);
    expect(testkit.isCloexec(fd)).toBe(true);
    expect(native.read(fd, 4096, 1)).toBe(-EAGAIN);
  });

  test('bytes arrive in order and unchanged, then the end of file', () => {
    const [a, from] = pair(family);
    const [to, b] = pair(family);
    const [out, into] = pipe();
    expect(native.spliceThrough(from, into, out, to, 0, BUDGET, false)).toBe(0);
    expect(outcome()).toEqual([SPLICE_EMPTY, 0, 0]);
    testkit.send(a, Buffer.from('hello'));
    arrived(from, 5);
    expect(native.spliceThrough(from, into, out, to, 0, BUDGET, false)).toBe(5);
    expect(outcome()).toEqual([SPLICE_EMPTY, 0, 0]);
    testkit.send(a, Buffer.from(' world'));
    arrived(from, 6);
    native.shutdownWrite(a);
    testkit.poll(from, 0x2000, 1000);
    expect(native.spliceThrough(from, into, out, to, 0, BUDGET, false)).toBe(6);
    expect(outcome()).toEqual([SPLICE_END, 0, 0]);
    arrived(b, 11);
    expect(Buffer.from(testkit.recv(b, 100, 0)).toString()).toBe('hello world');
  });
});

test('a full receiver: what is in the pipe is told, and goes first the next time', () => {
  const [a, from] = pair();
  const [to, b] = pair();
  const [out, into] = pipe();
  let sent = 0;
  let moved = 0;
  let held = 0;
  const chunk = Buffer.alloc(100_000);
  for (let i = 0; i < 10_000 && col[COL.SPLICE_STOP] !== SPLICE_FULL; i++) {
    for (let k = 0; k < chunk.length; k++) chunk[k] = (sent + k) % 251;
    sent += Math.max(testkit.send(a, chunk), 0);
    testkit.poll(from, POLLIN, 1000);
    moved += native.spliceThrough(from, into, out, to, held, BUDGET, false);
    held = col[COL.SPLICE_HELD] as number;
  }
  expect(col[COL.SPLICE_STOP]).toBe(SPLICE_FULL);
  expect(held).toBeGreaterThan(0);
  let got = 0;
  for (let i = 0; i < 10_000 && got < sent; i++) {
    testkit.poll(b, POLLIN, 10);
    for (;;) {
      const n = native.read(b, 0, 65_536);
      if (n <= 0) break;
      for (let k = 0; k < n; k++) if (mem[k] !== (got + k) % 251) throw new Error(`byte ${got + k} is wrong`);
      got += n;
    }
    moved += native.spliceThrough(from, into, out, to, held, BUDGET, false);
    held = col[COL.SPLICE_HELD] as number;
  }
  expect([got, moved, held]).toEqual([sent, sent, 0]);
});

test('the budget ends a call, and the next goes on', () => {
  const [a, from] = pair();
  const [to] = pair();
  const [out, into] = pipe();
  testkit.send(a, Buffer.alloc(50_000));
  arrived(from, 50_000);
  // A budget is looked at between two fillings of the pipe.
  expect(native.spliceThrough(from, into, out, to, 0, 1, false)).toBe(50_000);
  expect(outcome()).toEqual([0, 0, 0]);
});

test('the last bytes wait for the end of file, and arrive with it', () => {
  const [a, from] = pair();
  const [to, b] = pair();
  const [out, into] = pipe();
  testkit.send(a, Buffer.from('goodbye'));
  native.shutdownWrite(a);
  arrived(from, 7);
  expect(native.spliceThrough(from, into, out, to, 0, BUDGET, true)).toBe(7);
  expect(outcome()).toEqual([SPLICE_END, 0, 0]);
  // Over loopback what leaves is there before the call returns.
  expect(testkit.poll(b, POLLIN, 0)).toBe(0);
  native.shutdownWrite(to);
  arrived(b, 7);
  const [c, source] = pair();
  testkit.send(c, Buffer.from('more'));
  arrived(source, 4);
  const [sink, d] = pair();
  expect(native.spliceThrough(source, into, out, sink, 0, BUDGET, false)).toBe(4);
  expect(testkit.poll(d, POLLIN, 0)).toBe(POLLIN);
});

test("the sender's reset is told after what it sent before; the receiver's at once", () => {
  const [a, from] = pair();
  const [to, b] = pair();
  const [out, into] = pipe();
  testkit.send(a, Buffer.from('last words'));
  arrived(from, 10);
  native.lingerZero(a);
  native.close(a);
  testkit.poll(from, 8, 1000);
  expect(native.spliceThrough(from, into, out, to, 0, BUDGET, false)).toBe(10);
  expect(outcome()).toEqual([SPLICE_FROM_FAILED, 0, ECONNRESET]);

  const [c, source] = pair();
  testkit.send(c, Buffer.from('nobody reads this'));
  arrived(source, 17);
  native.lingerZero(b);
  native.close(b);
  testkit.poll(to, 8, 1000);
  expect(native.spliceThrough(source, into, out, to, 0, BUDGET, false)).toBe(0);
  expect([SPLICE_TO_FAILED, 17]).toEqual(outcome().slice(0, 2));
  expect([EPIPE, ECONNRESET]).toContain(col[COL.SPLICE_ERRNO]);
  open.splice(open.indexOf(a), 1);
  open.splice(open.indexOf(b), 1);
});

test('pipes are as large as asked, non-blocking, close-on-exec; no descriptor stays after a failure', () => {
  expect(native.pipe(262_144)).toBe(262_144);
  const [out, into] = keep(col[COL.FD] as number, col[COL.FD + 1] as number);
  expect(native.read(out as number, 0, 1)).toBe(-EAGAIN);
  expect([testkit.isCloexec(out as number), testkit.isCloexec(into as number)]).toEqual([true, true]);
  const before = openDescriptors();
  expect(native.accept(out as number, 0)).toBeLessThan(0);
  expect(openDescriptors()).toBe(before);
});

test('ranges outside the arena are refused', () => {
  expect(() => native.accept(0, mem.length - 63)).toThrow(RangeError);
  expect(() => native.spliceThrough(0, 0, 0, 0, -1, 1, false)).toThrow(RangeError);
});

test('sending without pacing: the congestion control is reno, which every kernel grants', () => {
  const [a, b] = pair();
  expect(native.sendUnpaced(a)).toBe(0);
  const shown = execFileSync('ss', ['-tinH', `sport = :${testkit.port(a)}`], { encoding: 'utf8' });
  expect(shown).toMatch(/\breno\b/);
  expect([native.sendUnpaced(pipe()[0]), native.shutdownWrite(b)]).toEqual([-constants.errno.ENOTSOCK, 0]);
});
