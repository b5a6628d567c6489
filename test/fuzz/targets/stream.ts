// SPDX-License-Identifier: Apache-2.0
/**
 * A hypervisor's stream, each step `data N bytes` what one read gives, `batch N` how many frames are taken at a time: however it is cut, the frames
 * are those of the whole, up to the first length that cannot be; there the connection ends.
 */
import { FRAME_BYTES_MAX, FRAME_BYTES_MIN, streamLink } from '../../../controller/link/stream-link.ts';
import * as fake from '../../support/fake-io.ts';
import * as io from '../io.ts';
import type { Input } from '../steps.ts';
import type { Target } from '../target.ts';

const FD = 9;
const EAGAIN = 11;
const BYTES_MAX = 400_000;

const insist = (yes: boolean, what: string): void => {
  if (!yes) throw new Error(what);
};

/** Frames of the whole as hexadecimal, and whether a bad length follows them. */
const parsed = (whole: Buffer): { frames: string[]; bad: boolean } => {
  const frames: string[] = [];
  for (let at = 0; at + 4 <= whole.length; ) {
    const length = whole.readUInt32BE(at);
    if (length < FRAME_BYTES_MIN || length > FRAME_BYTES_MAX) return { frames, bad: true };
    at += 4 + length;
    if (at <= whole.length) frames.push(whole.subarray(at - length, at).toString('hex'));
  }
  return { frames, bad: false };
};

const played = (input: Input): void => {
  fake.reset();
  io.forgetAll();
  io.forgetDescriptors();
  fake.addSocket(FD);
  io.lend(FD);
  const reads = input.filter(({ verb }) => verb === 'data').map(({ bytes }) => Buffer.from(bytes));
  const whole = Buffer.concat(reads);
  if (whole.length > BYTES_MAX) return;
  const batches = input.filter(({ verb }) => verb === 'batch').map(({ arg }) => 1 + (Math.abs(arg) % 64));
  const waiting = reads.filter((one) => one.length > 0);
  const read = fake.native.read;
  fake.native.read = (fd, at, len) => {
    insist(fd === FD, 'a read of another descriptor');
    insist(at >= io.RX_AT && len > 0 && at + len <= io.RX_END, `a read to [${at}, +${len})`);
    const first = waiting[0];
    if (first === undefined) return -EAGAIN;
    const part = first.subarray(0, len);
    if (part.length === first.length) waiting.shift();
    else waiting[0] = first.subarray(len);
    fake.mem.set(part, at);
    io.mark(at, part.length);
    return part.length;
  };
  try {
    compare(parsed(whole), batches, () => waiting.length > 0);
  } finally {
    fake.native.read = read;
  }
};

const compare = (want: ReturnType<typeof parsed>, batches: readonly number[], mayRead: () => boolean): void => {
  const gone: string[] = [];
  const link = streamLink((why) => gone.push(why));
  link.connect(FD);
  const frames: string[] = [];
  for (let turn = 0; link.connected() && (mayRead() || link.more()); turn++) {
    insist(turn < 200_000, 'no end');
    const max = batches.length === 0 ? 64 : (batches[turn % batches.length] as number);
    const n = link.receive(max);
    insist(n >= 0 && n <= max, `${n} frames of ${max}`);
    for (let i = 0; i < n; i++) {
      const at = fake.col[fake.COL.FRAME_AT + i] as number;
      const len = fake.col[fake.COL.FRAME_LEN + i] as number;
      frames.push(Buffer.from(fake.mem.slice(at, at + len)).toString('hex'));
    }
  }
  insist(frames.length === want.frames.length, `${frames.length} frames, not ${want.frames.length}`);
  insist(
    frames.every((one, i) => one === want.frames[i]),
    'another frame',
  );
  insist(gone.length === (want.bad ? 1 : 0), `the connection ended ${gone.length} times`);
  insist(link.connected() !== want.bad, 'a connection after its end');
};

export const stream: Target = {
  name: 'stream',
  run: played,
  words: [
    '0000000e',
    '0000000d',
    '0000002a',
    '0001000d',
    '0001000e',
    '0000000e0102030405060708090a0b0c0d0e',
    '00000000',
    'ffffffff',
    '000005ea',
  ].map((hex) => Buffer.from(hex, 'hex')),
};
