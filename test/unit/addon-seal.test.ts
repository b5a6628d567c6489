// SPDX-License-Identifier: Apache-2.0
/** Sealing, in a process of its own each time: the filter reaches every thread of Node, and the probe proves it. */
import { spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { native } from '../../controller/io/io.ts';

const ESRCH = 3;
const ENOANO = 55;
const SYS_GETPGID = process.arch === 'x64' ? 121 : 155;
const ALLOW = 0x7fff0000;
const ERRNO = 0x00050000;
const KILL_PROCESS = 0x80000000;

/** struct sock_filter { u16 code; u8 jt, jf; u32 k }, in this machine's byte order. */
const program = (...instructions: [code: number, jt: number, jf: number, k: number][]): Buffer => {
  const bytes = Buffer.alloc(instructions.length * 8);
  for (const [i, [code, jt, jf, k]] of instructions.entries()) {
    bytes.writeUInt16LE(code, i * 8);
    bytes.writeUInt8(jt, i * 8 + 2);
    bytes.writeUInt8(jf, i * 8 + 3);
    bytes.writeUInt32LE(k, i * 8 + 4);
  }
  return bytes;
};
const LOAD = 0x20;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;
/** Allows everything but getpgid, which meets `action`. */
const onGetpgid = (action: number): Buffer =>
  program([LOAD, 0, 0, 0], [JUMP_IF_EQUAL, 0, 1, SYS_GETPGID], [RETURN, 0, 0, action], [RETURN, 0, 0, ALLOW]);

const seal = (filter: Buffer): ReturnType<typeof spawnSync> =>
  spawnSync(
    process.execPath,
    [fileURLToPath(new URL('../support/seal-victim.mjs', import.meta.url)), filter.toString('hex')],
    { encoding: 'utf8', env: { PASTICHE_ADDON: process.env['PASTICHE_ADDON'] } },
  );
const report = (filter: Buffer) =>
  JSON.parse(String(seal(filter).stdout)) as {
    before: { probe: number; threads: number[][] };
    result: number;
    after: { probe: number; threads: number[][] };
  };

test('the filter is in force in all threads, with no new privileges, and the probe turns', () => {
  const { before, result, after } = report(onGetpgid(ERRNO | ENOANO));
  expect(before.probe).toBe(-ESRCH);
  expect(before.threads.length).toBeGreaterThan(1);
  expect(before.threads.every(([, seccomp]) => seccomp === 0)).toBe(true);
  expect(result).toBe(0);
  expect(after.probe).toBe(-ENOANO);
  expect(after.threads.length).toBeGreaterThanOrEqual(before.threads.length);
  expect(after.threads.every(([noNewPrivs, seccomp]) => noNewPrivs === 1 && seccomp === 2)).toBe(true);
});

test('a call outside the filter kills the process', () => {
  const child = seal(onGetpgid(KILL_PROCESS));
  expect(child.signal).toBe('SIGSYS');
  expect(child.stdout).toBe('');
});

test('what the kernel refuses is -EINVAL, and nothing is in force', () => {
  const { result, after } = report(program([0xffff, 0, 0, 0]));
  expect(result).toBe(-constants.errno.EINVAL);
  expect(after.probe).toBe(-ESRCH);
  expect(after.threads.every(([, seccomp]) => seccomp === 0)).toBe(true);
});

test('bytes that are no array of instructions are a RangeError', () => {
  expect(() => native.installFilter(new Uint8Array(0))).toThrow(RangeError);
  expect(() => native.installFilter(new Uint8Array(7))).toThrow(RangeError);
  expect(() => native.installFilter(new Uint8Array(8 * 4097))).toThrow(RangeError);
});

test('without a filter the probe finds no such process', () => {
  expect(native.probeFilter()).toBe(-ESRCH);
});
