// SPDX-License-Identifier: Apache-2.0
/**
 * The conformance table: each row put to Linux, which shows that the expectation is one, and to pastiche. docs/RFC-COVERAGE.md
 * lists the rows. After each chapter an ordinary exchange of each kind must work, and no process may be gone (Talk.finish).
 */
import { afterAll, beforeAll, describe, it } from 'vitest';
import { type Bed, type BedName, Beds } from './bed.ts';
import { pattern } from './packet.ts';
import { familiesOf, type Row } from './row.ts';
import { CHAPTERS } from './rows/index.ts';
import { Talk } from './talk.ts';
import { TcpTalk } from './tcp-talk.ts';

let beds: Beds;
const made = new Map<BedName, Bed>();
beforeAll(async () => {
  beds = await Beds.make();
  for (const bed of await Promise.all([beds.linux(), beds.pastiche()])) made.set(bed.name, bed);
});
afterAll(() => beds?.cleanup());

/** A clean flow of every kind. */
const allIsWell = async (bed: Bed): Promise<void> => {
  for (const family of [4, 6] as const) {
    const t = new Talk(bed, family);
    await t.echoes(await t.echoServer(), pattern(1000, t.port));
    const tcp = await TcpTalk.open(t);
    await tcp.converse(3000);
    t.finish();
  }
};

const put = (row: Row, name: BedName, test: typeof it | typeof it.concurrent): void => {
  for (const family of familiesOf(row))
    test(`${row.id} over IPv${family}`, { timeout: 40_000 }, async () => {
      const t = new Talk(made.get(name) as Bed, family);
      await row.run(t);
      t.finish();
    });
};
const asked = (rows: readonly Row[], name: BedName, slow: boolean): Row[] =>
  rows.filter((row) => (row.slow ?? false) === slow && (name === 'pastiche' || row.notLinux === undefined));

const BEDS = ['Linux', 'pastiche'] as const;
describe.each(BEDS)('%s', (name) => {
  describe.each(CHAPTERS)('%s', (_title, rows) => {
    for (const row of asked(rows, name, false)) put(row, name, it);
    it('and an ordinary exchange of every kind works', () => allIsWell(made.get(name) as Bed));
  });
});
// These do little but wait, so all of them do it at once.
describe('what waits for a timer', () => {
  for (const name of BEDS)
    describe(name, () => {
      for (const [, rows] of CHAPTERS) for (const row of asked(rows, name, true)) put(row, name, it.concurrent);
    });
});
describe.each(BEDS)('%s at the end', (name) => {
  it('an ordinary exchange of every kind works', () => allIsWell(made.get(name) as Bed));
});
