// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Writes what was measured to docs/BENCHMARKS.md: its beginning or a section of it, nothing else of it. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { at } from './paths.mjs';
import { markdownTable } from './table.mjs';

/** @typedef {readonly (readonly string[])[]} Content */

const DOCUMENT = at('docs', 'BENCHMARKS.md');
const BAD_LINKS = 'Bad links';
const CHECKSUM = 'The Internet checksum';
const VIRTUAL_MACHINES = 'Virtual machines';

/** Date, versions and hardware. */
export const machine = () => {
  const model = cpus()[0]?.model ?? 'unknown processor';
  const { version } = JSON.parse(readFileSync(at('package.json'), 'utf8'));
  const today = new Date().toISOString().slice(0, 10);
  return `${today}, pastiche ${version}, Node ${process.versions.node}, Linux ${release()}, ${cpus().length} × ${model}, ${Math.round(totalmem() / 2 ** 30)} GiB`;
};

const command = () => {
  const args = process.argv.slice(2).filter((arg) => arg !== '--skip-setup');
  const quoted = args.map((arg) => (/^[\w,.=/-]+$/.test(arg) ? arg : `'${arg}'`));
  return `\`\`\`sh\nnpm run bench -- ${quoted.join(' ')}\n\`\`\``;
};

/** What a run of some rows wrote to a section of its own. */
const SOME_ROWS = /^npm run bench -- .*--rows/m;

/**
 * Replaces one section of the document, or adds it.
 * @param {string | null} heading null: what is before the first section
 * @param {string} text
 * @param {boolean} [allRows] the text has every row: sections of some rows go
 */
const writeSection = (heading, text, allRows = false) => {
  const [beginning = '', ...found] = readFileSync(DOCUMENT, 'utf8').split(/^(?=## )/m);
  const sections = found.filter((each) => !(allRows && SOME_ROWS.test(each)));
  const own = `## ${heading}\n`;
  const others = sections.map((each) => (heading !== null && each.startsWith(own) ? `${own}\n${text}\n` : each));
  if (heading !== null && !sections.some((each) => each.startsWith(own))) others.push(`${own}\n${text}\n`);
  writeFileSync(
    DOCUMENT,
    [heading === null ? `${text}\n` : beginning, ...others].map((each) => `${each.trimEnd()}\n`).join('\n'),
  );
};

/**
 * @param {object} what
 * @param {readonly { title: string, content: Content }[]} what.tables
 * @param {readonly import('../../test/bench/row.mjs').Row[]} what.rows
 * @param {number} what.rounds
 * @param {number} what.met
 * @param {number} what.missed
 * @param {string | undefined} what.section
 * @param {boolean} what.allRows
 */
export const writeRows = ({ tables, rows, rounds, met, missed, section, allRows }) => {
  const mtu = [...new Set(rows.map((row) => row.mtu))].join(' or ');
  const facts = [
    machine(),
    `Host and remote are two network namespaces joined by veth; link and tap have the MTU ${mtu}. TCP congestion control and the limit of socket buffers are those of the table.`,
    `${rounds} round${rounds === 1 ? '' : 's'} (rows that take long, of IPv6 and of forwarded ports, and all settings but the first have three or one), the peers in turn within each round; medians. The receiver's count, not the sender's.`,
    '`pasta` and `slirp4netns` are Debian\'s packages. "direct" has no tool between client and server. A dash: no such thing, or it failed.',
    'Ratios: our figure divided by the other\'s. Of times, memory, processor time and wake-ups less is better. "Better peer": of pasta and slirp4netns.',
    "Processor time is that of all of a tool's processes; work of the kernel's in softirqs counts for whoever is running then. Memory is PSS: what processes share is divided among them. Idle and after load it is of the only instance, and what it shares with the benchmark's own Node counts in full.",
    `A ✗ misses its target: ${missed} of ${met + missed}.`,
  ];
  const [first, ...others] = tables;
  const parts = [
    `The command that made ${tables.length > 1 ? 'these tables' : 'this table'}, as root:\n\n${command()}`,
    facts.map((fact) => `- ${fact}`).join('\n'),
    tables.length > 1 ? `### ${first?.title}` : `${first?.title}:`,
    markdownTable(first?.content ?? []),
    ...others.flatMap(({ title, content }) => [`### ${title}`, markdownTable(content)]),
  ];
  const head = '<!-- SPDX-License-Identifier: Apache-2.0 -->\n# Benchmarks\n\nOne run on one machine; yours differs. ';
  const body = parts.join('\n\n');
  writeSection(section ?? null, section === undefined ? head + body : body, allRows && section === undefined);
};

/** @param {Content} content @param {string} congestion */
export const writeImpaired = (content, congestion) =>
  writeSection(BAD_LINKS, `Both ends use ${congestion}. ${machine()}.\n\n${command()}\n\n${markdownTable(content)}`);

/**
 * @param {object} what
 * @param {readonly { title: string, content: Content }[]} what.tables
 * @param {number} what.rounds
 * @param {number} what.met
 * @param {number} what.missed
 */
export const writeVm = ({ tables, rounds, met, missed }) => {
  const facts = [
    machine(),
    `Host and remote are two network namespaces joined by veth of the guest's MTU, as above; the servers are in the remote one. ${rounds} round${rounds === 1 ? '' : 's'}, the tools in turn within each; medians. The receiver's count.`,
    "`passt` is Debian's package (2023-03, which knows the stream socket only). There is no direct path from a virtual machine: nothing else carries its frames without privileges.",
    '"netns, stream": the guest is a namespace, whose tap test/bench/stream-tap.c joins to the socket that QEMU would connect to: two threads that cut and join segments and make and verify checksums as a guest without offloads does. The guest then has the speed of this kernel; all of tool, guest, server and that program share the processors. With `--yardstick` there is a column without a tool: two of these programs back to back.',
    '"netns, vhost-user": likewise, with test/bench/vhost-tap.c as the front end that QEMU would be: the rings of a Linux guest, frames with TSO as QEMU negotiates it. Beside it is what the other tool does by its stream socket, as it has no vhost-user.',
    '"QEMU": QEMU emulates the processor (TCG, no KVM), which bounds most of these rows: they show whether it works as well as theirs, not how fast it can be.',
    `Ratios: our figure divided by theirs; of times and of processor time less is better. A ✗ misses its target: ${missed} of ${met + missed}.`,
  ];
  const parts = [
    `The command that made these tables, as root:\n\n${command()}`,
    facts.map((fact) => `- ${fact}`).join('\n'),
    ...tables.flatMap(({ title, content }) => [`### ${title}`, markdownTable(content)]),
  ];
  writeSection(VIRTUAL_MACHINES, parts.join('\n\n'));
};

/** @param {Content} content */
export const writeChecksum = (content) =>
  writeSection(
    CHECKSUM,
    [
      'What frames without offloads need (virtual machines behind a stream socket). The best of many short runs, nothing else in the caches; the C is called from C.',
      `${machine()}.`,
      command(),
      markdownTable(content),
    ].join('\n\n'),
  );
