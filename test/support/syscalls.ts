// SPDX-License-Identifier: Apache-2.0
/**
 * What system calls and C constants are called and worth on this machine, from the C compiler and the kernel's headers:
 * a second opinion beside libseccomp and seccomp/compiler.cc.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HEADERS = fileURLToPath(new URL('../../seccomp/headers.h', import.meta.url));

/** Name → number, from the __NR_ macros of <asm/unistd.h>. */
export const syscallNumbers = (): ReadonlyMap<string, number> => {
  const macros = execFileSync('cc', ['-E', '-dM', '-'], { input: '#include <asm/unistd.h>\n', encoding: 'utf8' });
  const numbers = new Map<string, number>();
  for (const [, name, value] of macros.matchAll(/^#define __NR_([a-z_][a-z0-9_]*) ([0-9]+)$/gm))
    numbers.set(name as string, Number(value));
  return numbers;
};

export interface ConstantValue {
  /** As C converts it to a 64-bit register. */
  readonly bits: bigint;
  /** A negative int: a compiler may extend it with zeros or with ones. */
  readonly negativeInt: boolean;
}

/** The values of C expressions, by compiling and running a program that prints them. */
export const constants = (expressions: readonly string[]): ReadonlyMap<string, ConstantValue> => {
  const unique = [...new Set(expressions)];
  const rows = unique.map(
    (expression) =>
      `  printf("%llu %d\\n", (unsigned long long)(${expression}), ` +
      `sizeof(+(${expression})) == sizeof(int) && (${expression}) < 0);`,
  );
  const program = `#define _GNU_SOURCE\n#include <stdio.h>\n#include "${HEADERS}"\nint main(void) {\n${rows.join('\n')}\n  return 0;\n}\n`;
  const directory = mkdtempSync(join(tmpdir(), 'pastiche-constants-'));
  try {
    const binary = join(directory, 'print');
    execFileSync('cc', ['-w', '-x', 'c', '-', '-o', binary], { input: program });
    const lines = execFileSync(binary, { encoding: 'utf8' }).trimEnd().split('\n');
    return new Map(
      unique.map((expression, i) => {
        const [bits, negative] = (lines[i] as string).split(' ') as [string, string];
        return [expression, { bits: BigInt(bits), negativeInt: negative === '1' }];
      }),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
};
