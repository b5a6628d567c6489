// SPDX-License-Identifier: Apache-2.0
/** The RPC channel: messages with descriptors, close-on-exec, and nothing left open when something was cut off. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import { channelPair, openDescriptors, testkit } from '../support/testkit.ts';

const { native, mem, col, COL } = io;
const { EAGAIN, EMSGSIZE } = constants.errno;
const AT = io.SCRATCH_AT;
const message = Buffer.from('{"jsonrpc":"2.0"}');
let helper = -1;
let ours = -1;
let before = 0;

beforeEach(() => {
  [helper, ours] = channelPair();
  before = openDescriptors();
});
afterEach(() => {
  native.close(helper);
  native.close(ours);
});

const receivedFds = (): number[] => [...col.subarray(COL.FD, COL.FD + (col[COL.FD_COUNT] as number))];
/** Descriptors to be sent: the same open file that many times, so that the kernel has to make as many numbers. */
const copies = (n: number): number[] => new Array(n).fill(ours);

test('a message without descriptors, both ways', () => {
  mem.set(message, AT);
  expect(native.channelSend(ours, AT, message.length)).toBe(message.length);
  expect(testkit.recv(helper, 1000, 0)).toEqual(new Uint8Array(message));
  col[COL.FD_COUNT] = 9;
  testkit.sendFds(helper, message, []);
  expect(native.channelRecv(ours, AT + 1000, 1000, true)).toBe(message.length);
  expect(Buffer.from(mem.subarray(AT + 1000, AT + 1000 + message.length))).toEqual(message);
  expect(col[COL.FD_COUNT]).toBe(0);
});

test('one descriptor: the same open file, close-on-exec', () => {
  const file = openSync('/proc/self/status', 'r');
  testkit.sendFds(helper, message, [file]);
  expect(native.channelRecv(ours, AT, 1000, true)).toBe(message.length);
  const [received] = receivedFds() as [number];
  expect(received).not.toBe(file);
  expect(fstatSync(received).ino).toBe(fstatSync(file).ino);
  expect(testkit.isCloexec(received)).toBe(true);
  closeSync(received);
  closeSync(file);
  expect(openDescriptors()).toBe(before);
});

test('253 descriptors, in order', () => {
  const pipes = Array.from({ length: 126 }, () => testkit.pipe()).flat();
  testkit.sendFds(helper, message, [...pipes, helper]);
  expect(native.channelRecv(ours, AT, 1000, true)).toBe(message.length);
  const fds = receivedFds();
  expect(fds.length).toBe(253);
  expect(new Set(fds).size).toBe(253);
  for (const [i, fd] of pipes.entries()) expect(fstatSync(fds[i] as number).ino).toBe(fstatSync(fd).ino);
  for (const fd of [...fds, ...pipes]) expect(native.close(fd)).toBe(0);
  expect(openDescriptors()).toBe(before);
});

test('messages keep their boundaries and their own descriptors', () => {
  testkit.sendFds(helper, Buffer.from('first'), copies(2));
  testkit.sendFds(helper, Buffer.from('second'), copies(3));
  expect(native.channelRecv(ours, AT, 1000, false)).toBe(5);
  expect(col[COL.FD_COUNT]).toBe(2);
  receivedFds().forEach(native.close);
  expect(native.channelRecv(ours, AT, 1000, false)).toBe(6);
  expect(col[COL.FD_COUNT]).toBe(3);
  receivedFds().forEach(native.close);
  expect(openDescriptors()).toBe(before);
});

test('a message longer than the range is -EMSGSIZE and its descriptors are closed; the next one is whole', () => {
  testkit.sendFds(helper, message, copies(253));
  testkit.sendFds(helper, message, []);
  expect(native.channelRecv(ours, AT, message.length - 1, true)).toBe(-EMSGSIZE);
  expect(col[COL.FD_COUNT]).toBe(0);
  expect(openDescriptors()).toBe(before);
  expect(native.channelRecv(ours, AT, message.length, true)).toBe(message.length);
});

test('more descriptors than the process may have: -EMSGSIZE, and those that came are closed', () => {
  testkit.sendFds(helper, message, copies(100));
  const limit = testkit.descriptorLimit(Math.max(helper, ours) + 20);
  const result = native.channelRecv(ours, AT, 1000, true);
  testkit.descriptorLimit(limit);
  expect(result).toBe(-EMSGSIZE);
  expect(col[COL.FD_COUNT]).toBe(0);
  expect(openDescriptors()).toBe(before);
});

test('nothing waiting is -EAGAIN when asked not to block, and on a non-blocking descriptor', () => {
  col[COL.FD_COUNT] = 9;
  expect(native.channelRecv(ours, AT, 1000, false)).toBe(-EAGAIN);
  expect(col[COL.FD_COUNT]).toBe(0);
  testkit.nonBlocking(ours, true);
  expect(native.channelRecv(ours, AT, 1000, true)).toBe(-EAGAIN);
});

test('the end of file is 0, after what was sent before', () => {
  testkit.sendFds(helper, message, copies(1));
  native.close(helper);
  expect(native.channelRecv(ours, AT, 1000, true)).toBe(message.length);
  receivedFds().forEach(native.close);
  expect(native.channelRecv(ours, AT, 1000, true)).toBe(0);
  mem.set(message, AT);
  expect(native.channelSend(ours, AT, 5)).toBe(-constants.errno.EPIPE);
  helper = testkit.socketpair(1)[0];
});

test('a channel that is full is -EAGAIN, although its descriptor blocks', () => {
  let sent = 0;
  while (native.channelSend(ours, AT, 60_000) === 60_000) sent++;
  expect(sent).toBeGreaterThan(0);
  expect(native.channelSend(ours, AT, 60_000)).toBe(-EAGAIN);
});
