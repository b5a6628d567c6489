// SPDX-License-Identifier: Apache-2.0
/** An allowlist is no longer than the code needs: every annotation stands in a file that makes its call. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { collect, RUNTIME_FILE } from '../../seccomp/collect.mjs';
import { makesCall, withoutComments } from '../support/annotations.ts';

it('no annotation is without a call', () => {
  const codeOf = new Map<string, string>();
  const code = (file: string): string => {
    const known = codeOf.get(file);
    if (known !== undefined) return known;
    const text = withoutComments(readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), 'utf8'));
    codeOf.set(file, text);
    return text;
  };
  const idle = collect()
    .filter(({ file, names }) => file !== RUNTIME_FILE && !names.some((name) => makesCall(code(file), name)))
    .map(({ file, line, call }) => `${file}:${line}: nothing in this file calls ${call}`);
  expect(idle).toEqual([]);
});
