// SPDX-License-Identifier: Apache-2.0
/**
 * The compiled filters do what the annotations say, and nothing else: for every number, for every argument condition and
 * one step outside it, for the x32 ABI and other architectures.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { collect } from '../../seccomp/collect.mjs';
import { PROFILES } from '../../seccomp/grammar.mjs';
import {
  ALL_BITS,
  answer,
  type Expectation,
  expectations,
  filterBytes,
  filterOf,
  type Match,
} from '../support/allowlist.ts';
import { AUDIT_ARCH, evaluate, type Instruction, NATIVE_ARCH, RET, X32_BIT } from '../support/bpf.ts';
import { syscallNumbers } from '../support/syscalls.ts';

/** MS_BIND | MS_REC */
const BIND_TREE = 0x5000n;
const AT_RECURSIVE = 0x8000n;
const NUMBERS = Array.from({ length: 1024 }, (_, nr) => nr);
const root = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const all = expectations();
const listOf = (profile: (typeof PROFILES)[number]): readonly Expectation[] => all.get(profile) ?? [];

/** Arguments that no condition is likely to ask for. */
const FILLS: readonly (readonly bigint[])[] = [
  [0n, 0n, 0n, 0n, 0n, 0n],
  Array<bigint>(6).fill(ALL_BITS),
  [3n, 0x7ffe_1234_5678n, 0x1_0000_0001n, 7n, 0x8000_0000n, 0x5555_5555_5555_5555n],
];

const satisfying = (fill: readonly bigint[], matches: readonly Match[]): bigint[] => {
  const args = [...fill];
  for (const { arg, mask, value } of matches) args[arg] = ((args[arg] as bigint) & ~mask) | value;
  return args;
};

/** One step outside a value: its neighbours, every single bit turned over, what other conditions ask of this argument. */
const steps = (value: bigint, others: readonly bigint[]): bigint[] => [
  (value + 1n) & ALL_BITS,
  (value - 1n) & ALL_BITS,
  ...Array.from({ length: 64 }, (_, bit) => value ^ (1n << BigInt(bit))),
  value | 0xffff_ffff_0000_0000n,
  ...others,
];

/** Every call worth trying for one expectation: fulfilled, and each argument one step off. */
const probes = (one: Expectation, list: readonly Expectation[]): bigint[][] =>
  FILLS.flatMap((fill) => {
    const exact = satisfying(fill, one.matches);
    const off = one.matches.flatMap(({ arg }) => {
      const others = list.flatMap((other) =>
        other.matches.filter((match) => match.arg === arg).map(({ value }) => value),
      );
      return steps(exact[arg] as bigint, others).map((value) => exact.with(arg, value));
    });
    return [exact, ...off];
  });

const run = (
  filter: readonly Instruction[],
  nr: number,
  args: readonly bigint[],
  arch = NATIVE_ARCH as number,
): number => evaluate(filter, { nr, arch, args });
const isAllowed = (action: number): boolean => (action & 0xffff0000) >>> 0 === RET.ALLOW;

it('the filters were compiled from the annotations of this tree', () => {
  const built: unknown = JSON.parse(readFileSync(root('helper/gen/annotations.json'), 'utf8'));
  expect(built, 'run npm run build').toEqual(JSON.parse(JSON.stringify(collect())));
  expect(readFileSync(root('dist/controller.bpf')).equals(filterBytes('controller'))).toBe(true);
});

it("the helper's header holds the same instructions", () => {
  const header = readFileSync(root('helper/gen/filters.h'), 'utf8');
  for (const profile of ['setup', 'sandbox', 'host', 'netns'] as const) {
    const [, start = ''] = header.split(`FILTER_${profile.toUpperCase()}[] = {`);
    const body = start.slice(0, start.indexOf('};'));
    const found = [...body.matchAll(/\{(0x[0-9a-f]+), (\d+), (\d+), (0x[0-9a-f]+)\}/g)].map(([, ...fields]) => {
      const [code, jt, jf, k] = fields.map(Number);
      return { code, jt, jf, k };
    });
    expect(found).toEqual(filterOf(profile));
  }
});

describe.each(PROFILES)('profile %s', (profile) => {
  const list = listOf(profile);
  const filter = filterOf(profile);

  it('has rules', () => expect(list.length).toBeGreaterThan(3));

  it('answers every number as annotated, whatever the arguments', () => {
    for (const nr of [...NUMBERS, 0x3fffffff, 0x7fffffff, 0x80000000, 0xffffffff])
      for (const fill of FILLS) expect(run(filter, nr, fill), `number ${nr}`).toBe(answer(list, nr, fill));
  });

  it('answers each argument condition as annotated, and one step outside it', () => {
    for (const one of list) {
      const siblings = list.filter(({ number }) => number === one.number);
      for (const args of probes(one, siblings)) {
        const got = run(filter, one.number, args);
        if (got !== answer(siblings, one.number, args))
          expect.fail(`${one.name}(${args.join(', ')}) of ${one.origin} answers 0x${got.toString(16)}`);
      }
    }
  });

  it('lets no high half through where only whole values are annotated', () => {
    for (const one of list)
      for (const { arg, value } of one.matches) {
        const siblings = list.filter(({ number }) => number === one.number);
        const wholeOnly = siblings.every(({ matches }) =>
          matches.some((match) => match.arg === arg && match.mask === ALL_BITS && match.value < 1n << 32n),
        );
        if (!wholeOnly) continue;
        const args = satisfying(FILLS[0] as bigint[], one.matches);
        for (const high of [1n << 32n, 1n << 63n, 0x7fff_ffff_0000_0000n, 0xffff_ffff_0000_0000n])
          expect(run(filter, one.number, args.with(arg, value | high)), `${one.name} of ${one.origin}`).toBe(
            RET.KILL_PROCESS,
          );
      }
  });

  it('kills x32 numbers and other architectures', () => {
    const calls = [...NUMBERS.map((nr) => ({ nr, args: FILLS[0] as readonly bigint[] }))];
    for (const one of list) calls.push({ nr: one.number, args: satisfying(FILLS[0] as bigint[], one.matches) });
    for (const { nr, args } of calls) {
      if (process.arch === 'x64') expect(run(filter, nr | X32_BIT, args)).toBe(RET.KILL_PROCESS);
      for (const arch of [...Object.values(AUDIT_ARCH), 0, 0xffffffff])
        if (arch !== NATIVE_ARCH) expect(run(filter, nr, args, arch)).toBe(RET.KILL_PROCESS);
    }
  });
});

describe('stages', () => {
  it.each([
    ['host', 'setup'],
    ['netns', 'setup'],
    ['setup', 'sandbox'],
  ] as const)('what %s may do, %s may do', (profile, before) => {
    const [sealed, setup] = [filterOf(profile), filterOf(before)];
    const calls = NUMBERS.flatMap((nr) => FILLS.map((args) => ({ nr, args: [...args] })));
    for (const one of listOf(profile)) for (const args of probes(one, [])) calls.push({ nr: one.number, args });
    for (const { nr, args } of calls)
      if (isAllowed(run(sealed, nr, args))) expect(isAllowed(run(setup, nr, args)), `number ${nr}`).toBe(true);
  });
});

it('only --enable-sandbox lets a helper show a directory in another place, or make one', () => {
  const numbers = syscallNumbers();
  const calls: [string, bigint[]][] = [
    ['mkdirat', [0xffff_ff9cn, 0n, 0o755n, 0n, 0n, 0n]],
    ['mount', [1n, 1n, 0n, BIND_TREE, 0n, 0n]],
    ['mount_setattr', [0xffff_ff9cn, 1n, AT_RECURSIVE, 1n, 32n, 0n]],
  ];
  for (const [name, args] of calls) {
    const allowed = PROFILES.filter((profile) => isAllowed(run(filterOf(profile), numbers.get(name) as number, args)));
    expect([name, allowed]).toEqual([name, ['sandbox']]);
  }
});

describe('what a sealed controller can never do', () => {
  const FORBIDDEN =
    'socket socketpair connect bind listen accept accept4 sendmsg sendmmsg execve execveat fork vfork clone clone3 ptrace ' +
    'process_vm_readv process_vm_writev open creat openat2 bpf io_uring_setup io_uring_enter io_uring_register unshare setns ' +
    'mount umount2 pivot_root chroot kill tkill pidfd_open pidfd_getfd userfaultfd perf_event_open keyctl prctl seccomp';
  const numbers = syscallNumbers();
  it.each(FORBIDDEN.split(' ').filter((name) => numbers.has(name)))('%s', (name) => {
    const filter = filterOf('controller');
    for (const fill of FILLS) expect(run(filter, numbers.get(name) as number, fill)).toBe(RET.KILL_PROCESS);
  });

  it('send to an address', () => {
    const filter = filterOf('controller');
    const nr = numbers.get('sendto') as number;
    const DONTWAIT_NOSIGNAL = 0x4040n;
    const address = [3n, 0x7f00_0000_1000n, 100n, DONTWAIT_NOSIGNAL, 0x7f00_0000_2000n, 16n];
    expect(run(filter, nr, address.with(4, 0n).with(5, 0n))).toBe(RET.ALLOW);
    expect(run(filter, nr, address)).toBe(RET.KILL_PROCESS);
    expect(run(filter, nr, address.with(5, 0n))).toBe(RET.KILL_PROCESS);
    expect(run(filter, nr, address.with(4, 0n))).toBe(RET.KILL_PROCESS);
  });

  it('map a file, but for a guest to be read and written, and never run', () => {
    const map = (flags: bigint, protection = 5n): number =>
      run(filterOf('controller'), numbers.get('mmap') as number, [0n, 4096n, protection, flags, 3n, 0n]);
    expect([map(0x02n), map(0x01n), map(0x12n)]).toEqual(Array(3).fill(RET.KILL_PROCESS));
    expect(map(0x22n)).toBe(RET.ALLOW);
    expect(map(0x01n, 3n)).toBe(RET.ALLOW);
    expect([map(0x01n, 7n), map(0x01n, 1n), map(0x02n, 3n), map(0x11n, 3n)]).toEqual(Array(4).fill(RET.KILL_PROCESS));
  });

  it('open a path: refused, not killed, for what malloc and Date try', () => {
    const EACCES = 13;
    expect(run(filterOf('controller'), numbers.get('openat') as number, FILLS[0] as bigint[])).toBe(RET.ERRNO | EACCES);
  });
});
