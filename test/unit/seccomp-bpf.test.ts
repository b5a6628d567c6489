// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { AUDIT_ARCH, decode, evaluate, type Instruction, RET } from '../support/bpf.ts';

const ins = (code: number, k: number, jt = 0, jf = 0): Instruction => ({ code, jt, jf, k });
const load = (k: number): Instruction => ins(0x20, k);
const ret = (k: number): Instruction => ins(0x06, k);
const data = { nr: 41, arch: AUDIT_ARCH.x86_64, args: [0x1_0000_0002n, 0n, 0n, 0n, 0n, 0xffff_ffff_ffff_fffen] };

describe('the BPF interpreter', () => {
  it('loads number, architecture and both halves of arguments', () => {
    const loaded = (offset: number): number => evaluate([load(offset), ins(0x16, 0)], data);
    expect([0, 4, 16, 20, 56, 60].map(loaded)).toEqual([41, 0xc000003e, 2, 1, 0xfffffffe, 0xffffffff]);
  });

  it.each([
    ['jeq', 0x15, 41, 42],
    ['jgt', 0x25, 40, 41],
    ['jge', 0x35, 41, 42],
    ['jset', 0x45, 0x08, 0x10],
  ])('%s takes both ways', (_, code, hit, miss) => {
    const run = (k: number): number =>
      evaluate([load(0), ins(code, k, 0, 1), ret(RET.ALLOW), ret(RET.KILL_PROCESS)], data);
    expect([run(hit), run(miss)]).toEqual([RET.ALLOW, RET.KILL_PROCESS]);
  });

  it('compares as unsigned', () => {
    const program = [load(60), ins(0x25, 0x7fffffff, 0, 1), ret(1), ret(2)];
    expect(evaluate(program, data)).toBe(1);
  });

  it('masks, jumps, stores', () => {
    expect(evaluate([load(56), ins(0x54, 0xff), ins(0x05, 1), ret(9), ins(0x16, 0)], data)).toBe(0xfe);
    expect(evaluate([load(0), ins(0x02, 3), ins(0x00, 0), ins(0x60, 3), ins(0x16, 0)], data)).toBe(41);
  });

  it.each([
    ['a load outside seccomp_data', [load(64), ret(0)]],
    ['an unaligned load', [load(2), ret(0)]],
    ['a packet load', [ins(0x30, 0), ret(0)]],
    ['no answer', [load(0)]],
    ['a jump over the end', [load(0), ins(0x15, 41, 5, 0), ret(0)]],
    ['division', [load(0), ins(0x34, 2), ret(0)]],
  ])('refuses %s', (_, program) => {
    expect(() => evaluate(program, data)).toThrow();
  });

  it('reads sock_filter arrays and refuses what is none', () => {
    const bytes = new Uint8Array(new Uint32Array([0x02010020, 0x10]).buffer);
    expect(decode(bytes)).toEqual([{ code: 0x20, jt: 1, jf: 2, k: 0x10 }]);
    for (const length of [0, 7, 8 * 4097]) expect(() => decode(new Uint8Array(length))).toThrow(RangeError);
  });
});
