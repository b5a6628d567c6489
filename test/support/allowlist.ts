// SPDX-License-Identifier: Apache-2.0
/**
 * The allowlists as the annotations mean them: what a filter must answer, worked out without libseccomp and without
 * seccomp/compiler.cc. The tests compare the two.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { collect } from '../../seccomp/collect.mjs';
import type { Profile } from '../../seccomp/grammar.mjs';
import { decode, type Instruction, RET } from './bpf.ts';
import { type ConstantValue, constants, syscallNumbers } from './syscalls.ts';

export const ALL_BITS = 0xffff_ffff_ffff_ffffn;

export interface Match {
  readonly arg: number;
  readonly mask: bigint;
  readonly value: bigint;
}
export interface Expectation {
  readonly name: string;
  readonly number: number;
  /** RET.ALLOW, or RET.ERRNO | errno. */
  readonly action: number;
  readonly matches: readonly Match[];
  readonly origin: string;
}

const MACHINE = ({ x64: 'x86_64', arm64: 'aarch64', ia32: 'i686' } as Record<string, string>)[process.arch] ?? '';

/** A negative int has two 64-bit forms (see seccomp/compiler.cc). */
const forms = ({ bits, negativeInt }: ConstantValue): readonly bigint[] =>
  negativeInt ? [bits, bits & 0xffff_ffffn] : [bits];

/** Everything the annotations of this tree let each profile do, on this architecture. */
export const expectations = (): ReadonlyMap<Profile, readonly Expectation[]> => {
  const rules = collect().filter((rule) => rule.arch === '' || rule.arch === MACHINE);
  const expressions = rules.flatMap((rule) => [
    ...(rule.errno === '' ? [] : [rule.errno]),
    ...rule.combinations.flat().flatMap(({ mask, value }) => (mask === '' ? [value] : [mask, value])),
  ]);
  const values = constants(expressions.length === 0 ? ['0'] : expressions);
  const numbers = syscallNumbers();
  const constantOf = (expression: string): ConstantValue => values.get(expression) as ConstantValue;
  const out = new Map<Profile, Expectation[]>();
  for (const rule of rules) {
    const origin = `${rule.file}:${rule.line}`;
    const name = rule.names.find((candidate) => numbers.has(candidate));
    if (name === undefined) throw new Error(`${origin}: no ${rule.names.join(' or ')} on this architecture`);
    const action = rule.errno === '' ? RET.ALLOW : RET.ERRNO | Number(constantOf(rule.errno).bits);
    const rows = rule.combinations.flatMap((conditions) =>
      conditions.reduce<readonly (readonly Match[])[]>(
        (sets, { arg, mask, value }) =>
          sets.flatMap((set) =>
            mask === ''
              ? forms(constantOf(value)).map((form) => [...set, { arg, mask: ALL_BITS, value: form }])
              : [[...set, { arg, mask: constantOf(mask).bits, value: constantOf(value).bits }]],
          ),
        [[]],
      ),
    );
    for (const profile of rule.profiles) {
      const list = out.get(profile) ?? [];
      out.set(profile, list);
      for (const matches of rows) list.push({ name, number: numbers.get(name) as number, action, matches, origin });
    }
  }
  return out;
};

/** What the annotations answer to a call: RET.KILL_PROCESS unless one of them matches. */
export const answer = (list: readonly Expectation[], nr: number, args: readonly bigint[]): number =>
  list.find(
    ({ number, matches }) =>
      number === nr && matches.every(({ arg, mask, value }) => ((args[arg] as bigint) & mask) === value),
  )?.action ?? RET.KILL_PROCESS;

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
export const filterBytes = (profile: Profile): Buffer => readFileSync(path(`helper/gen/seccomp/${profile}.bpf`));
export const filterOf = (profile: Profile): Instruction[] => decode(filterBytes(profile));
