// SPDX-License-Identifier: Apache-2.0
/**
 * The host's resolver, followed while we run (slirp4netns): before a flow to it gets its socket, resolv.conf is looked at again, once a second
 * at most. The helper's reader has the file; a byte asks it, a message answers. Who is idle asks nothing.
 */
import { OTHER_REF_BASE } from '../flow/table.ts';
import { familyOf } from '../host/address.ts';
import { parseResolvConf } from '../host/resolv.ts';
import * as io from '../io/io.ts';
import * as nat from './nat.ts';

/** Of the reader's socket in the epoll set. */
export const REF_RESOLVER = OTHER_REF_BASE + 20;
const LOOK_MS = 1000;
/** For an answer; then the resolver is the one it was. */
const PATIENCE_MS = 500;
const ANSWER_BYTES_MAX = 16_384;

let fd = -1;
let lookedMs = 0;
let waiting: (() => void)[] = [];

/** `socket`: to the reader; −1: resolv.conf is not followed. */
export const configure = (socket: number): void => {
  fd = socket;
  lookedMs = io.nowMs();
  waiting = [];
  if (fd >= 0) io.native.watch(fd, io.EPOLLIN, REF_RESOLVER);
};

/** Calls `then` when it is known which resolver it is. False: it is known already, and `then` is not called. */
export const look = (then: () => void): boolean => {
  if (fd < 0) return false;
  if (waiting.length === 0) {
    if (io.nowMs() - lookedMs < LOOK_MS) return false;
    io.mem[io.SCRATCH_AT] = 0;
    if (io.native.write(fd, io.SCRATCH_AT, 1) < 0) return false;
    lookedMs = io.nowMs();
  }
  waiting.push(then);
  return true;
};

/** The reader has answered, or is gone: what it said last holds then. */
export const onReadable = (): void => {
  if (fd < 0) return;
  const n = io.native.read(fd, io.SCRATCH_AT, ANSWER_BYTES_MAX);
  // A zero byte: the file cannot be read, and what it said last holds.
  if (n > 0 && io.mem[io.SCRATCH_AT] !== 0)
    use(Buffer.from(io.mem.subarray(io.SCRATCH_AT, io.SCRATCH_AT + n)).toString('utf8'));
  else if (n <= 0) {
    io.native.unwatch(fd);
    io.native.close(fd);
    fd = -1;
  }
  goOn();
};
const use = (text: string): void => {
  const { servers } = parseResolvConf(text);
  for (const family of [4, 6] as const)
    nat.setDnsHost(family === 4, servers.find((server) => familyOf(server) === family) ?? null);
};
const goOn = (): void => {
  const all = waiting;
  waiting = [];
  for (const then of all) then();
};

/** Milliseconds until {@link tick} has something to do; −1: nothing. */
export const nextDelay = (now: number): number =>
  waiting.length === 0 ? -1 : Math.max(0, lookedMs + PATIENCE_MS - now);
export const tick = (now: number): void => {
  if (waiting.length > 0 && now >= lookedMs + PATIENCE_MS) goOn();
};
