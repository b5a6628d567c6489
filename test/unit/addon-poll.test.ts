// SPDX-License-Identifier: Apache-2.0
/** The epoll set, timeouts and the clock. */
import { constants } from 'node:os';
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import { testkit } from '../support/testkit.ts';

const { native, col, COL } = io;
const { ENOENT } = constants.errno;
let readEnd = -1;
let writeEnd = -1;

beforeEach(() => {
  [readEnd, writeEnd] = testkit.pipe();
});
afterEach(() => {
  native.close(readEnd);
  native.close(writeEnd);
});

test('an event comes with its ref, any int32', () => {
  for (const ref of [0, 1, -1, 0x7fffffff, -(2 ** 31)]) {
    expect(native.watch(writeEnd, io.EPOLLOUT, ref)).toBe(0);
    expect(native.wait(0, 0)).toBe(1);
    expect(col[COL.EVENT_REF]).toBe(ref);
    expect(col[COL.EVENT_MASK]).toBe(io.EPOLLOUT);
  }
});

test('level-triggered events repeat, edge-triggered ones do not', () => {
  native.watch(readEnd, io.EPOLLIN, 5);
  expect(native.wait(0, 0)).toBe(0);
  testkit.write(writeEnd, Uint8Array.of(1));
  expect(native.wait(0, 0)).toBe(1);
  expect(native.wait(0, 0)).toBe(1);
  native.watch(readEnd, io.EPOLLIN | io.EPOLLET, 6);
  expect(native.wait(0, 0)).toBe(1);
  expect(col[COL.EVENT_REF]).toBe(6);
  expect(native.wait(0, 0)).toBe(0);
});

test('unwatch ends events; a second one is -ENOENT', () => {
  native.watch(writeEnd, io.EPOLLOUT, 1);
  expect(native.unwatch(writeEnd)).toBe(0);
  expect(native.wait(0, 0)).toBe(0);
  expect(native.unwatch(writeEnd)).toBe(-ENOENT);
});

test('a number that was closed elsewhere and given out again can be watched', () => {
  native.watch(writeEnd, io.EPOLLOUT, 1);
  testkit.close(readEnd);
  testkit.close(writeEnd);
  const again = testkit.pipe();
  expect([...again].sort()).toEqual([readEnd, writeEnd].sort());
  [readEnd, writeEnd] = again;
  expect(native.watch(writeEnd, io.EPOLLOUT, 2)).toBe(0);
  expect(native.wait(0, 0)).toBe(1);
  expect(col[COL.EVENT_REF]).toBe(2);
});

test('a descriptor that dup2 replaced is watched anew', () => {
  const [otherRead, otherWrite] = testkit.pipe();
  native.watch(writeEnd, io.EPOLLOUT, 1);
  expect(native.dup2(otherWrite, writeEnd)).toBe(writeEnd);
  expect(native.watch(writeEnd, io.EPOLLOUT, 3)).toBe(0);
  expect(native.wait(0, 0)).toBe(1);
  expect(col[COL.EVENT_REF]).toBe(3);
  native.close(otherRead);
  native.close(otherWrite);
});

test('hang-up is reported without being asked for', () => {
  native.watch(readEnd, io.EPOLLIN, 1);
  testkit.close(writeEnd);
  expect(native.wait(0, 0)).toBe(1);
  expect((col[COL.EVENT_MASK] as number) & io.EPOLLHUP).toBe(io.EPOLLHUP);
  writeEnd = testkit.socketpair(1)[0];
});

test('more than EVENTS_MAX ready descriptors arrive over several waits', () => {
  const fds: number[] = [];
  for (let i = 0; i < 300; i++) {
    const [a, b] = testkit.pipe();
    fds.push(a, b);
    expect(native.watch(b, io.EPOLLOUT | io.EPOLLET, i)).toBe(0);
  }
  const seen = new Set<number>();
  expect(native.wait(0, 0)).toBe(256);
  for (let i = 0; i < 256; i++) seen.add(col[COL.EVENT_REF + i] as number);
  expect(native.wait(0, 0)).toBe(44);
  for (let i = 0; i < 44; i++) seen.add(col[COL.EVENT_REF + i] as number);
  expect(seen.size).toBe(300);
  for (const fd of fds) expect(native.close(fd)).toBe(0);
});

test('timeouts last at least what was asked for, fractions included', () => {
  for (const ms of [0.3, 1, 2.5, 20]) {
    const start = process.hrtime.bigint();
    expect(native.wait(ms, 0)).toBe(0);
    const took = Number(process.hrtime.bigint() - start) / 1e6;
    expect(took).toBeGreaterThanOrEqual(ms);
    expect(took).toBeLessThan(ms + 500);
  }
});

test('a fraction is not rounded up to a millisecond', () => {
  let shortest = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 50; i++) {
    const start = process.hrtime.bigint();
    native.wait(0.1, 0);
    shortest = Math.min(shortest, Number(process.hrtime.bigint() - start) / 1e6);
  }
  expect(shortest).toBeLessThan(0.9);
});

test('waiting for ever and for longer than a timespec ends with the event', () => {
  native.watch(writeEnd, io.EPOLLOUT, 9);
  expect(native.wait(-1, 0)).toBe(1);
  expect(native.wait(Number.POSITIVE_INFINITY, 0)).toBe(1);
  expect(native.wait(1e300, 0)).toBe(1);
});

test('looking before sleeping finds what is there, within the timeout', () => {
  expect(native.wait(2, 0.5)).toBe(0);
  expect(io.nowMs() - io.waitBeganMs()).toBeGreaterThanOrEqual(2);
  expect(native.wait(0.5, 1)).toBe(0);
  expect(io.nowMs() - io.waitBeganMs()).toBeGreaterThanOrEqual(0.5);
  expect(native.wait(0, 0.5)).toBe(0);
  native.watch(writeEnd, io.EPOLLOUT, 9);
  expect(native.wait(-1, 0.5)).toBe(1);
  expect(col[COL.EVENT_REF]).toBe(9);
  expect(() => native.wait(0, Number.NaN)).toThrow(RangeError);
});

test('the clock is CLOCK_MONOTONIC in milliseconds, read by wait and by nothing else', () => {
  native.wait(0, 0);
  const before = io.nowMs();
  // process.hrtime is CLOCK_MONOTONIC, too.
  expect(Math.abs(Number(process.hrtime.bigint()) / 1e6 - before)).toBeLessThan(500);
  expect(io.nowMs()).toBe(before);
  native.wait(5, 0);
  expect(io.nowMs()).toBeGreaterThanOrEqual(before + 5);
  expect(io.waitBeganMs()).toBeGreaterThanOrEqual(before);
  expect(io.nowMs()).toBeGreaterThanOrEqual(io.waitBeganMs() + 5);
});

test('the descriptor of libuv is an epoll descriptor that can be watched; its timers are told', async () => {
  expect(native.watch(native.uvBackendFd(), io.EPOLLIN, -7)).toBe(0);
  expect(native.unwatch(native.uvBackendFd())).toBe(0);
  const timer = setTimeout(() => undefined, 3_000);
  const due = native.uvTimeoutMs();
  clearTimeout(timer);
  expect(due).toBeGreaterThanOrEqual(0);
  expect(due).toBeLessThanOrEqual(3_000);
});
