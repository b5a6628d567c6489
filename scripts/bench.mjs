// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Compares pastiche with Debian's pasta, slirp4netns and the direct path, in turn within each round, on this machine.
 *
 *   npm run bench [-- OPTION...]     as root; about five minutes
 *     --quick              one round
 *     --rounds N           default 3; the table has medians
 *     --rows TEXT          only rows whose name contains TEXT (may be repeated)
 *     --peer NAME=PATH     another tool with pasta's command line (may be repeated)
 *     --only NAME          only these peers (may be repeated)
 *     --congestion NAME    TCP congestion control (default cubic; with --impaired bbr)
 *     --impaired           the matrix of bad links instead of the rows, against the direct path: --link host|guest,
 *                          --cell RTT,LOSS,REORDER (may be repeated; default all, over an hour), --direction up|down
 *     --write              the table goes to docs/BENCHMARKS.md: that of the rows to its beginning, or to the section
 *                          --section NAME; that of bad links to a section of its own
 *     --skip-setup         neither install nor build
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { CELLS, impairedTable, measureImpaired } from '../test/bench/impaired.mjs';
import { direct, INBOUND_PORT, OUTBOUND_PORT, pastaLike, serveLoad, slirp4netns } from '../test/bench/peers.mjs';
import { PORT, ROWS } from '../test/bench/rows.mjs';
import { compile, isRoot, makeLab, NET, REPOSITORY } from '../test/support/lab.mjs';
import { readOptions } from './lib/options.mjs';
import { markdownTable, textTable } from './lib/table.mjs';
import { setupOrExit } from './setup.mjs';

/** @typedef {import('../test/bench/peers.mjs').Peer} Peer */
/** @typedef {import('../test/bench/peers.mjs').Running} Running */
/** @typedef {import('../test/bench/rows.mjs').Row} Row */
/** @typedef {import('../test/support/lab.mjs').Lab} Lab */

const OURS = 'pastiche';
const REFERENCE = 'pasta';
const BAD_LINKS = 'Bad links';

const options = readOptions(import.meta.url, {
  quick: { type: 'boolean' },
  rounds: { type: 'string' },
  rows: { type: 'string', multiple: true },
  peer: { type: 'string', multiple: true },
  only: { type: 'string', multiple: true },
  congestion: { type: 'string' },
  impaired: { type: 'boolean' },
  link: { type: 'string', multiple: true },
  cell: { type: 'string', multiple: true },
  direction: { type: 'string', multiple: true },
  write: { type: 'boolean' },
  section: { type: 'string' },
  'skip-setup': { type: 'boolean' },
});
const rounds = options.quick ? 1 : Number(options.rounds ?? 3);

/** @returns {Peer[]} */
const choosePeers = () => {
  const peers = [pastaLike(OURS)];
  if (existsSync('/usr/bin/pasta')) peers.push(pastaLike(REFERENCE, '/usr/bin/pasta'));
  for (const each of options.peer ?? []) {
    const [name = '', path = ''] = each.split('=');
    if (!existsSync(path)) throw new Error(`--peer ${each}: there is no file "${path}"`);
    peers.push(pastaLike(name, path));
  }
  if (existsSync('/usr/bin/slirp4netns')) peers.push(slirp4netns('/usr/bin/slirp4netns'));
  peers.push(direct);
  return options.only ? peers.filter(({ name }) => options.only?.includes(name)) : peers;
};

/** Row name → peer name → samples. @type {Map<string, Map<string, number[]>>} */
const samples = new Map();
/** @param {Row} row @param {Peer} peer @param {number} value */
const record = (row, peer, value) => {
  const byPeer = samples.get(row.name) ?? new Map();
  samples.set(row.name, byPeer.set(peer.name, [...(byPeer.get(peer.name) ?? []), value]));
};

/** @param {Row} row @param {Peer} peer @param {Lab} lab @param {Running} running @param {string} load */
const sampleOne = async (row, peer, lab, running, load) => {
  try {
    const value = await row.sample({ lab, load, peer, running });
    if (value !== null) record(row, peer, value);
    return value === null ? '–' : value.toFixed(row.digits);
  } catch (error) {
    console.error(
      `\nbench: ${row.name}, ${peer.name}: ${error instanceof Error ? error.message.split('\n', 2).join(': ') : error}`,
    );
    return 'failed';
  }
};

/** All peers at work; with `forwards` those that can forward ports. @param {Lab} lab @param {string} load @param {number} mtu @param {boolean} forwards @param {readonly Peer[]} peers */
const startAll = async (lab, load, mtu, forwards, peers) => {
  /** @type {Map<Peer, Running>} */
  const running = new Map();
  if (forwards) await serveLoad(lab.host, load, '127.0.0.1', OUTBOUND_PORT);
  else for (const address of [NET.server4, NET.server6]) await serveLoad(lab.remote, load, address, PORT);
  for (const [i, peer] of peers.entries())
    running.set(
      peer,
      forwards && peer.startForwarding !== null
        ? await peer.startForwarding(lab, mtu, load, INBOUND_PORT + 10 * i)
        : await peer.start(lab, mtu),
    );
  return running;
};

/** Rows of one MTU, all with `forwards` or all without. @param {Lab} lab @param {number} mtu @param {readonly Row[]} rows @param {readonly Peer[]} all */
const measure = async (lab, mtu, rows, all) => {
  const load = await compile('test/bench/load.c', join(lab.dir, 'load'));
  const forwards = rows[0]?.forwards === true;
  const peers = all.filter((peer) => !forwards || peer.startForwarding !== null);
  const running = await startAll(lab, load, mtu, forwards, peers);
  for (let round = 0; round < rounds; round++)
    for (const row of rows) {
      if (row.once && round > 0) continue;
      process.stdout.write(`round ${round + 1}/${rounds}  ${row.name} (${row.unit}):`);
      for (const peer of peers)
        process.stdout.write(
          `  ${peer.name} ${await sampleOne(row, peer, lab, /** @type {Running} */ (running.get(peer)), load)}`,
        );
      process.stdout.write('\n');
    }
  for (const each of running.values()) await each.close();
};

/** @param {readonly number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** @param {readonly Row[]} rows @param {readonly Peer[]} peers */
const table = (rows, peers) => {
  const others = peers.map(({ name }) => name).filter((name) => name !== OURS);
  const heading = ['', 'unit', ...peers.map(({ name }) => name), ...others.map((name) => `${OURS} ÷ ${name}`)];
  const body = rows.map((row) => {
    const value = (/** @type {string} */ peer) => median(samples.get(row.name)?.get(peer) ?? []);
    const ratio = (/** @type {string} */ peer) => {
      const [ours, other] = [value(OURS), value(peer)];
      return ours === undefined || other === undefined || other === 0 ? '–' : (ours / other).toFixed(2);
    };
    return [
      row.name,
      row.unit,
      ...peers.map(({ name }) => value(name)?.toFixed(row.digits) ?? '–'),
      ...others.map(ratio),
    ];
  });
  return [heading, ...body];
};

const command = () => {
  const args = process.argv.slice(2).filter((arg) => arg !== '--skip-setup');
  const quoted = args.map((arg) => (/^[\w,.=/-]+$/.test(arg) ? arg : `'${arg}'`));
  return `\`\`\`sh\nnpm run bench -- ${quoted.join(' ')}\n\`\`\``;
};
const machine = () => {
  const model = cpus()[0]?.model ?? 'unknown processor';
  const { version } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8'));
  const today = new Date().toISOString().slice(0, 10);
  return `${today}, pastiche ${version}, Node ${process.versions.node}, Linux ${release()}, ${cpus().length} × ${model}, ${Math.round(totalmem() / 2 ** 30)} GiB`;
};

/** Replaces one section of the document, or adds it. @param {string | null} heading null: what is before the first section @param {string} text */
const writeSection = (heading, text) => {
  const path = join(REPOSITORY, 'docs/BENCHMARKS.md');
  const [beginning = '', ...sections] = readFileSync(path, 'utf8').split(/^(?=## )/m);
  const own = `## ${heading}\n`;
  const others = sections.map((each) => (heading !== null && each.startsWith(own) ? `${own}\n${text}\n` : each));
  if (heading !== null && !sections.some((each) => each.startsWith(own))) others.push(`${own}\n${text}\n`);
  writeFileSync(
    path,
    [heading === null ? `${text}\n` : beginning, ...others].map((each) => `${each.trimEnd()}\n`).join('\n'),
  );
};

/** @param {readonly (readonly string[])[]} content @param {readonly Row[]} rows */
const writeRows = (content, rows) => {
  const mtu = [...new Set(rows.map((row) => row.mtu))].join(' or ');
  const facts = [
    machine(),
    `Host and remote are two network namespaces joined by veth; link and tap have the MTU ${mtu}; ${options.congestion ?? 'cubic'}.`,
    `${rounds} round${rounds === 1 ? '' : 's'}, the peers in turn within each round; medians. The receiver's count, not the sender's.`,
    '`pasta` and `slirp4netns` are Debian\'s packages. "direct" has no tool between client and server. A dash: no such thing, or it failed.',
    "The last columns: our figure divided by the other's. Of times, memory and wake-ups less is better.",
  ];
  const body = `The command that made this table, as root:\n\n${command()}\n\n${facts.map((fact) => `- ${fact}`).join('\n')}\n\n${markdownTable(content)}`;
  const licence =
    '<!-- SPDX-License-Identifier: Apache-2.0 -->\n# Benchmarks\n\nOne run on one machine; yours differs. ';
  writeSection(options.section ?? null, options.section === undefined ? licence + body : body);
};

/** @param {readonly (readonly string[])[]} content */
const writeImpaired = (content) =>
  writeSection(
    BAD_LINKS,
    `Both ends use ${options.congestion ?? 'bbr'}. ${machine()}.\n\n${command()}\n\n${markdownTable(content)}`,
  );

/** The matrix of bad links. */
const impaired = async () => {
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
      congestion: options.congestion ?? 'bbr',
      onResult: (result) => {
        results.push(result);
        console.log(impairedTable([result])[1]?.join('  '));
      },
    });
  }
  console.log(`\n${textTable(impairedTable(results))}`);
  if (options.write) writeImpaired(impairedTable(results));
};

const main = async () => {
  if (!isRoot) throw new Error('needs root, so that every peer runs as an ordinary user in the same lab');
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error(`--rounds ${options.rounds}: a number from 1 on is needed`);
  if (!options['skip-setup']) setupOrExit({ bench: true });
  if (options.impaired) return impaired();
  const rows = ROWS.filter(
    ({ name }) => options.rows === undefined || options.rows.some((text) => name.includes(text)),
  );
  if (rows.length === 0) throw new Error('no row has such a name');
  const peers = choosePeers();
  const seconds = rows.reduce((sum, row) => sum + row.seconds * peers.length * (row.once ? 1 : rounds), 0);
  console.log(
    `bench: ${rows.length} rows × ${peers.map(({ name }) => name).join(', ')}, about ${Math.ceil(seconds / 60)} min`,
  );
  const kinds = [1500, 65_520].flatMap((mtu) => [false, true].map((forwards) => ({ mtu, forwards })));
  for (const { mtu, forwards } of kinds) {
    const some = rows.filter((row) => row.mtu === mtu && (row.forwards ?? false) === forwards);
    if (some.length === 0) continue;
    const lab = await makeLab({ mtu, congestion: options.congestion ?? 'cubic' });
    const interrupt = () => lab.cleanup().then(() => process.exit(130));
    process.once('SIGINT', interrupt).once('SIGTERM', interrupt).once('SIGHUP', interrupt);
    try {
      await measure(lab, mtu, some, peers);
    } finally {
      process.off('SIGINT', interrupt).off('SIGTERM', interrupt).off('SIGHUP', interrupt);
      await lab.cleanup();
    }
  }
  const content = table(rows, peers);
  console.log(`\n${textTable(content)}`);
  if (options.write) writeRows(content, rows);
};

main().catch((error) => {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
});
