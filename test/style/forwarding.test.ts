// SPDX-License-Identifier: Apache-2.0
/**
 * docs/FORWARDING.md has the tables that the matrix test tries. `FORWARDING=write npx vitest run --project style forwarding`
 * writes them anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { cellsOf, forwardingTables, SITUATIONS, type SituationName } from '../support/forward-cells.ts';

const path = join(fileURLToPath(new URL('../..', import.meta.url)), 'docs/FORWARDING.md');
const [BEGIN, END] = ['<!-- begin of the tables -->\n', '<!-- end of the tables -->\n'];

it('docs/FORWARDING.md has the tables of the matrix test', () => {
  const text = readFileSync(path, 'utf8');
  const from = text.indexOf(BEGIN) + BEGIN.length;
  const to = text.indexOf(END);
  expect(from).toBeLessThanOrEqual(to);
  if (process.env['FORWARDING'] === 'write')
    writeFileSync(path, `${text.slice(0, from)}\n${forwardingTables()}\n\n${text.slice(to)}`);
  else expect(text.slice(from, to)).toBe(`\n${forwardingTables()}\n\n`);
});

it('every situation tries both protocols and both IP versions, and no cell twice', () => {
  for (const situation of Object.keys(SITUATIONS) as SituationName[]) {
    const cells = cellsOf(situation);
    expect(new Set(cells.map(({ name }) => name)).size).toBe(cells.length);
    for (const protocol of ['tcp', 'udp'])
      for (const family of [4, 6])
        expect(cells.filter((cell) => cell.protocol === protocol && cell.family === family).length).toBe(
          cells.length / 4,
        );
  }
});
