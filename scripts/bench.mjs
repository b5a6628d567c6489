// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Compares pastiche with Debian's pasta, slirp4netns and the direct path, in turn within each round, on this machine.
 *
 *   npm run bench [-- OPTION...]     as root; about 20 minutes
 *     --quick              one round
 *     --rounds N           default 5 (some rows have three or one); the table has medians
 *     --rows TEXT          only rows whose name contains TEXT (may be repeated)
 *     --peer NAME=PATH     another tool with pasta's command line, or slirp4netns' if the file is called that (may be repeated)
 *     --yardstick          beside them a relay that does nothing but copy (test/bench/relay.c), in the rows of bulk TCP
 *     --only NAME          only these peers (may be repeated)
 *     --congestion NAME    TCP congestion control of every namespace (may be repeated; default cubic and bbr, with --rows
 *                          cubic, with --impaired bbr)
 *     --wmem WHAT          net.core.wmem_max and rmem_max: default (208 KiB), raised (16 MiB), kept (as they are); may be
 *                          repeated; default: default and raised, with --rows kept. This and what new namespaces
 *                          begin with are settings of the whole machine; they come back at the end
 *     --check              only the rows of bench/baseline.json, about three minutes: exit status 1 where we got slower
 *     --write-baseline     measures those rows, and writes the file
 *     --impaired           the matrix of bad links instead of the rows, against the direct path: --link host|guest,
 *                          --cell RTT,LOSS,REORDER (may be repeated; default all, over an hour), --direction up|down
 *     --vm                 guests of passt instead, beside Debian's passt, about ten minutes: a namespace behind a stream
 *                          socket or vhost-user (test/bench/stream-tap.c, vhost-tap.c), and QEMU. With --rounds (default 3),
 *                          --rows, --only, --peer, --congestion (default cubic), --wmem (default: default and raised,
 *                          with --rows default) and --yardstick, which is here that namespace with no tool between it and the server
 *     --checksum           how fast the Internet checksum is made, by length; a few seconds
 *     --write              the table goes to docs/BENCHMARKS.md: that of the rows to its beginning, or to the section
 *                          --section NAME; those of bad links, of --vm and of --checksum to sections of their own
 *     --skip-setup         neither install nor build
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { baselineOf, compare, failed, figureOf } from '../test/bench/baseline.mjs';
import { checksumTable } from '../test/bench/checksum.mjs';
import { CELLS, impairedTable, measureImpaired } from '../test/bench/impaired.mjs';
import { direct, pastaLike, relay, slirp4netns } from '../test/bench/peers.mjs';
import { bestTable, score, settingTable } from '../test/bench/report.mjs';
import { PORT } from '../test/bench/row.mjs';
import { ROWS } from '../test/bench/rows.mjs';
import { measure, secondsOf } from '../test/bench/run.mjs';
import { DIRECT, OURS, PEERS, Samples } from '../test/bench/samples.mjs';
import { applyCongestion, settingsOf } from '../test/bench/settings.mjs';
import { measureVm, REFERENCE, VM_ROWS, vmGroups, vmSeconds, WIRE } from '../test/bench/vm.mjs';
import { isRoot, REPOSITORY } from '../test/support/lab.mjs';
import { wrongOption } from './lib/bench-options.mjs';
import { machine, writeChecksum, writeImpaired, writeRows, writeVm } from './lib/benchmarks.mjs';
import { readOptions } from './lib/options.mjs';
import { textTable } from './lib/table.mjs';
import { setupOrExit } from './setup.mjs';

/** @typedef {import('../test/bench/peers.mjs').Peer} Peer */
/** @typedef {import('../test/bench/row.mjs').Row} Row */
/** @typedef {import('../test/bench/settings.mjs').Setting} Setting */

const ROUNDS = 5;
const VM_ROUNDS = 3;
/** Of every setting but the first, which has most of what is asked. */
const OTHER_ROUNDS = 3;
const BASELINE = join(REPOSITORY, 'bench/baseline.json');

const options = readOptions(import.meta.url, {
  quick: { type: 'boolean' },
  rounds: { type: 'string' },
  rows: { type: 'string', multiple: true },
  peer: { type: 'string', multiple: true },
  yardstick: { type: 'boolean' },
  only: { type: 'string', multiple: true },
  congestion: { type: 'string', multiple: true },
  wmem: { type: 'string', multiple: true },
  check: { type: 'boolean' },
  'write-baseline': { type: 'boolean' },
  vm: { type: 'boolean' },
  checksum: { type: 'boolean' },
  impaired: { type: 'boolean' },
  link: { type: 'string', multiple: true },
  cell: { type: 'string', multiple: true },
  direction: { type: 'string', multiple: true },
  write: { type: 'boolean' },
  section: { type: 'string' },
  'skip-setup': { type: 'boolean' },
});
const rounds = options.quick ? 1 : Number(options.rounds ?? (options.vm ? VM_ROUNDS : ROUNDS));
const guard = options.check || options['write-baseline'];

/** Names and paths of --peer. */
const others = () =>
  (options.peer ?? []).map((each) => {
    const [name = '', path = ''] = each.split('=');
    return /** @type {const} */ ([name, path]);
  });

/** @returns {Peer[]} */
const choosePeers = () => {
  const peers = [pastaLike(OURS)];
  if (existsSync('/usr/bin/pasta')) peers.push(pastaLike('pasta', '/usr/bin/pasta'));
  for (const [name, path] of others())
    peers.push(basename(path) === 'slirp4netns' ? slirp4netns(path, name) : pastaLike(name, path));
  if (existsSync('/usr/bin/slirp4netns')) peers.push(slirp4netns('/usr/bin/slirp4netns'));
  if (options.yardstick) peers.push(relay(PORT));
  peers.push(direct);
  return options.only ? peers.filter(({ name }) => options.only?.includes(name)) : peers;
};

/** The rows of the first setting, and of each other one those that depend on it. @param {readonly Setting[]} settings */
const rowsOf = (settings) => {
  const rows = ROWS.filter(
    ({ name }) => options.rows === undefined || options.rows.some((text) => name.includes(text)),
  );
  if (rows.length === 0) throw new Error('no row has such a name');
  return settings.map((_, i) =>
    i === 0 || options.rows !== undefined ? rows : rows.filter((row) => row.settings === 'all'),
  );
};

const compareAll = async () => {
  const settings = settingsOf(
    options.congestion ?? (options.rows ? ['cubic'] : ['cubic', 'bbr']),
    options.wmem ?? (options.rows ? ['kept'] : ['default', 'raised']),
  );
  const [peers, rows, samples] = [choosePeers(), rowsOf(settings), new Samples()];
  // Its own stack takes it no further than the others' at a quarter of the speed: once is enough.
  const peersOf = (/** @type {number} */ i) => (i === 0 ? peers : peers.filter(({ name }) => name !== 'slirp4netns'));
  const roundsOf = (/** @type {number} */ i) => (i === 0 ? rounds : Math.min(rounds, OTHER_ROUNDS));
  const seconds = rows.reduce(
    (sum, some, i) => sum + secondsOf({ rows: some, peers: peersOf(i), rounds: roundsOf(i) }),
    0,
  );
  const names = peers.map(({ name }) => name);
  console.log(`bench: ${rows[0]?.length} rows × ${names.join(', ')}, about ${Math.ceil(seconds / 60)} min`);
  for (const [i, setting] of settings.entries()) {
    console.log(`\n${setting.label}`);
    await measure({ setting, rows: rows[i] ?? [], peers: peersOf(i), rounds: roundsOf(i), samples });
  }
  const all = { samples, rows: rows[0] ?? [], peers: names, settings };
  const tables = settings.map((setting, i) => ({ title: setting.label, content: settingTable(all, setting, i === 0) }));
  if (settings.length > 1) tables.push({ title: 'Each tool at its best setting', content: bestTable(all) });
  for (const { title, content } of tables) console.log(`\n${title}\n${textTable(content)}`);
  const { met, missed } = score(all);
  console.log(`\nbench: ${met} targets met, ${missed} missed (✗)`);
  if (options.write) {
    const allRows = options.rows === undefined;
    writeRows({ tables, rows: all.rows, rounds, met, missed, section: options.section, allRows });
  }
};

/** The rows of the guard, each with us and its reference alone. */
const checkAll = async () => {
  const [setting] = settingsOf(options.congestion ?? ['cubic'], options.wmem ?? ['kept']);
  if (setting === undefined) throw new Error('no setting');
  const rows = (rowsOf([setting])[0] ?? []).filter((row) => row.check !== undefined);
  const peers = choosePeers().filter(({ name }) => name === OURS || rows.some((row) => row.check === name));
  const missing = rows.find((row) => !peers.some(({ name }) => name === row.check));
  if (missing !== undefined)
    throw new Error(`${missing.check} is not there, and "${missing.name}" is compared with it`);
  const samples = new Samples();
  const takes = (/** @type {Row} */ row, /** @type {Peer} */ { name }) => name === OURS || name === row.check;
  await measure({ setting, rows, peers, rounds, samples, takes });
  /** @type {Map<string, import('../test/bench/baseline.mjs').Figure & { less: boolean }>} */
  const figures = new Map();
  for (const row of rows) {
    const figure = figureOf(samples, setting, row);
    if (figure !== null) figures.set(row.name, { ...figure, less: row.less === true });
  }
  if (options['write-baseline']) {
    if (figures.size < rows.length) throw new Error('a row failed: no baseline without it');
    const content = { machine: machine(), setting: setting.label, rounds, rows: baselineOf(figures, rounds) };
    writeFileSync(BASELINE, `${JSON.stringify(content, null, 2)}\n`);
    console.log(`bench: ${figures.size} rows are in bench/baseline.json`);
    return;
  }
  const known = JSON.parse(readFileSync(BASELINE, 'utf8')).rows;
  if (known === undefined) throw new Error('bench/baseline.json has no rows: --write-baseline makes it');
  const asked = Object.fromEntries(
    Object.entries(known).filter(([name]) => options.rows === undefined || rows.some((row) => row.name === name)),
  );
  const verdicts = compare(asked, figures);
  console.log(`\n${verdicts.map(({ text }) => text).join('\n')}`);
  const worse = verdicts.filter((each) => failed([each])).length;
  console.log(
    worse > 0
      ? `bench: ${worse} of ${verdicts.length} rows failed`
      : `bench: ${verdicts.length} rows as the baseline has them`,
  );
  if (worse > 0) process.exitCode = 1;
};

/** The matrix of bad links. */
const impaired = async () => {
  const congestion = options.congestion?.[0] ?? 'bbr';
  applyCongestion(congestion);
  const cells =
    options.cell?.map((text) => {
      const [rttMs = 0, lossPercent = 0, reorderPercent = 0] = text.split(',').map(Number);
      return { rttMs, lossPercent, reorderPercent };
    }) ?? CELLS;
  const directions = /** @type {const} */ ([
    ['down', 'to guest'],
    ['up', 'from guest'],
  ]).flatMap(([key, name]) => (options.direction === undefined || options.direction.includes(key) ? [name] : []));
  /** @type {import('../test/bench/impaired.mjs').Result[]} */
  const results = [];
  for (const link of /** @type {const} */ (['host', 'guest'])) {
    if (options.link !== undefined && !options.link.includes(link)) continue;
    await measureImpaired({
      link,
      cells,
      directions,
      congestion,
      onResult: (result) => {
        results.push(result);
        console.log(impairedTable([result])[1]?.join('  '));
      },
    });
  }
  console.log(`\n${textTable(impairedTable(results))}`);
  if (options.write) writeImpaired(impairedTable(results), congestion);
};

/** Guests of passt. */
const compareVm = async () => {
  const settings = settingsOf(
    options.congestion ?? ['cubic'],
    options.wmem ?? (options.rows ? ['default'] : ['default', 'raised']),
  );
  const { only, rows, yardstick = false } = options;
  const groups = vmGroups({ ...(only && { only }), ...(rows && { rows }), others: others(), yardstick });
  const seconds = vmSeconds(groups, settings, rounds);
  console.log(
    `bench: ${groups.reduce((n, group) => n + group.rows.length, 0)} rows, about ${Math.ceil(seconds / 60)} min`,
  );
  const samples = new Samples();
  const { tables, failures } = await measureVm(groups, settings, rounds, samples);
  for (const { title, content } of tables) console.log(`\n${title}\n${textTable(content)}`);
  const { met, missed } = score({ samples, rows: VM_ROWS, peers: [OURS, REFERENCE], settings });
  console.log(`\nbench: ${met} targets met, ${missed} missed (✗)`);
  if (failures > 0) throw new Error(`${failures} of the tables could not be made`);
  if (options.write) writeVm({ tables, rounds, met, missed });
};

const checksum = async () => {
  const table = await checksumTable();
  console.log(textTable(table));
  if (options.write) writeChecksum(table);
};

const main = async () => {
  const wrong = options.vm
    ? wrongOption(options, VM_ROWS, [OURS, REFERENCE, ...(options.yardstick ? [WIRE] : [])])
    : wrongOption(options, ROWS, [
        OURS,
        ...PEERS.filter((name) => name !== REFERENCE),
        DIRECT,
        ...(options.yardstick ? ['relay'] : []),
      ]);
  if (wrong !== null) {
    console.error(`bench: ${wrong}`);
    process.exit(2);
  }
  if (options.checksum) return checksum();
  if (!isRoot) throw new Error('needs root, so that every peer runs as an ordinary user in the same lab');
  if (!options['skip-setup']) setupOrExit({ bench: true });
  if (options.impaired) return impaired();
  if (options.vm) return compareVm();
  return guard ? checkAll() : compareAll();
};

main().catch((error) => {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
});
