// SPDX-License-Identifier: Apache-2.0
/**
 * docs/RFC-COVERAGE.md says what the conformance test holds, no more and no less, and what it names is there.
 * `RFC_COVERAGE=write npx vitest run --project style rfc-coverage` writes its tables anew.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { coverage, ELSEWHERE } from '../conformance/coverage.ts';
import { CHAPTERS } from '../conformance/rows/index.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const path = join(root, 'docs/RFC-COVERAGE.md');
const [BEGIN, END] = ['<!-- begin of the tables -->\n', '<!-- end of the tables -->\n'];
const rows = CHAPTERS.flatMap(([, each]) => each);

describe('docs/RFC-COVERAGE.md', () => {
  it('has the tables of the conformance test', () => {
    const text = readFileSync(path, 'utf8');
    const from = text.indexOf(BEGIN) + BEGIN.length;
    const to = text.indexOf(END);
    expect(from).toBeLessThanOrEqual(to);
    if (process.env['RFC_COVERAGE'] === 'write')
      writeFileSync(path, `${text.slice(0, from)}\n${coverage()}\n${text.slice(to)}`);
    else expect(text.slice(from, to)).toBe(`\n${coverage()}\n`);
  });
  it('names files that there are', () => {
    const named = [...rows.map((row) => row.where), ...ELSEWHERE.flatMap((each) => [each.where, each.file])];
    expect([...new Set(named)].filter((each) => !existsSync(join(root, each)))).toEqual([]);
  });
  it('names tests that there are', () => {
    const missing = ELSEWHERE.filter(({ file, test }) => !readFileSync(join(root, file), 'utf8').includes(test));
    expect(missing.map(({ file, test }) => `${file}: ${test}`)).toEqual([]);
  });
  it('has each case once, with an RFC and a sentence', () => {
    expect(new Set(rows.map((row) => row.id)).size).toBe(rows.length);
    for (const row of rows) {
      expect(row.rfc).toMatch(/^RFC \d+/);
      expect(row.what).toMatch(/^[A-Z].*\.$/);
    }
  });
});
