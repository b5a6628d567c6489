// SPDX-License-Identifier: Apache-2.0
/**
 * An interpreter for the classic BPF that seccomp filters are made of, as the kernel runs it (net/core/filter.c,
 * kernel/seccomp.c): 32-bit accumulator and index, loads only from struct seccomp_data, jumps only forwards.
 * It refuses what the kernel would refuse, so that a filter that passes here also installs.
 */
import { endianness } from 'node:os';

/** AUDIT_ARCH_* of linux/audit.h. */
export const AUDIT_ARCH = { x86_64: 0xc000003e, i386: 0x40000003, aarch64: 0xc00000b7, riscv64: 0xc00000f3 } as const;
export const NATIVE_ARCH = ({ x64: AUDIT_ARCH.x86_64, arm64: AUDIT_ARCH.aarch64 } as Record<string, number>)[
  process.arch
];
/** __X32_SYSCALL_BIT: x86_64 calls of the x32 ABI. */
export const X32_BIT = 0x40000000;

/** SECCOMP_RET_* of linux/seccomp.h. */
export const RET = { KILL_PROCESS: 0x80000000, ERRNO: 0x00050000, ALLOW: 0x7fff0000 } as const;

export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}
export interface SyscallData {
  readonly nr: number;
  readonly arch: number;
  readonly args?: readonly bigint[];
  readonly instructionPointer?: bigint;
}

const INSTRUCTION_BYTES = 8;
const INSTRUCTIONS_MAX = 4096;
const LITTLE = endianness() === 'LE';

/** The bytes of a sock_filter array, in this machine's byte order. Throws RangeError for a length that no filter has. */
export const decode = (bytes: Uint8Array): Instruction[] => {
  const count = bytes.length / INSTRUCTION_BYTES;
  if (!Number.isInteger(count) || count === 0 || count > INSTRUCTIONS_MAX)
    throw new RangeError(`${bytes.length} bytes are no filter`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: count }, (_, i) => ({
    code: view.getUint16(i * INSTRUCTION_BYTES, LITTLE),
    jt: view.getUint8(i * INSTRUCTION_BYTES + 2),
    jf: view.getUint8(i * INSTRUCTION_BYTES + 3),
    k: view.getUint32(i * INSTRUCTION_BYTES + 4, LITTLE),
  }));
};

/** struct seccomp_data { int nr; u32 arch; u64 instruction_pointer; u64 args[6]; } as 16 words. */
const words = ({ nr, arch, args = [], instructionPointer = 0n }: SyscallData): Uint32Array => {
  const out = new Uint32Array(16);
  const view = new DataView(out.buffer);
  view.setUint32(0, nr, LITTLE);
  view.setUint32(4, arch, LITTLE);
  view.setBigUint64(8, instructionPointer, LITTLE);
  for (const [i, arg] of args.entries()) view.setBigUint64(16 + 8 * i, arg, LITTLE);
  return out;
};

const ALU: Readonly<Record<number, (a: number, b: number) => number>> = {
  0: (a, b) => a + b,
  16: (a, b) => a - b,
  64: (a, b) => a | b,
  80: (a, b) => a & b,
  96: (a, b) => a << b,
  112: (a, b) => a >>> b,
  160: (a, b) => a ^ b,
};
const JUMP: Readonly<Record<number, (a: number, b: number) => boolean>> = {
  16: (a, b) => a === b,
  32: (a, b) => a > b,
  48: (a, b) => a >= b,
  64: (a, b) => (a & b) !== 0,
};

/** BPF_CLASS, and what is left of the code below it. */
const CLASS = { LD: 0, LDX: 1, ST: 2, STX: 3, ALU: 4, JMP: 5, RET: 6, MISC: 7 } as const;

/** The filter's answer (SECCOMP_RET_* | data) to one call. Throws for an instruction that seccomp refuses. */
export const evaluate = (program: readonly Instruction[], data: SyscallData): number => {
  const input = words(data);
  const scratch = new Uint32Array(16);
  let a = 0;
  let x = 0;
  for (let pc = 0; pc < program.length; pc++) {
    const { code, jt, jf, k } = program[pc] as Instruction;
    const operand = (code & 8) !== 0 ? x : k;
    switch (code & 7) {
      case CLASS.LD:
        if (code === 0x20) {
          if (k % 4 !== 0 || k >= 64) throw new Error(`load of ${k} is outside seccomp_data`);
          a = input[k / 4] as number;
        } else if (code === 0x00) a = k;
        else if (code === 0x60) a = scratch[k] as number;
        else throw new Error(`load 0x${code.toString(16)} at ${pc}`);
        break;
      case CLASS.LDX:
        if (code === 0x01) x = k;
        else if (code === 0x61) x = scratch[k] as number;
        else throw new Error(`load 0x${code.toString(16)} at ${pc}`);
        break;
      case CLASS.ST:
        scratch[k] = a;
        break;
      case CLASS.STX:
        scratch[k] = x;
        break;
      case CLASS.ALU: {
        const operate = ALU[code & 0xf0];
        if (operate === undefined) throw new Error(`arithmetic 0x${code.toString(16)} at ${pc}`);
        a = operate(a, operand) >>> 0;
        break;
      }
      case CLASS.JMP: {
        if ((code & 0xf0) === 0) {
          pc += k;
          break;
        }
        const compare = JUMP[code & 0xf0];
        if (compare === undefined) throw new Error(`jump 0x${code.toString(16)} at ${pc}`);
        pc += compare(a, operand) ? jt : jf;
        break;
      }
      case CLASS.RET:
        return (code & 0x18) === 0x10 ? a : k;
      default:
        if (code === 0x07) x = a;
        else if (code === 0x87) a = x;
        else throw new Error(`instruction 0x${code.toString(16)} at ${pc}`);
    }
  }
  throw new Error('the filter ends without an answer');
};
