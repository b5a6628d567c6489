// SPDX-License-Identifier: Apache-2.0
/** Manual pages and completions as the build made them, read by mandoc and by the shells themselves. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { offered } from '../../controller/client/surface/kinds.ts';
import { program, WORDS, wordOf } from '../../controller/client/surface/programs.ts';
import { REPOSITORY } from '../support/lab.mjs';
import { finish, searchPath, start } from '../support/process.mjs';

const PAGES = join(REPOSITORY, 'dist/man');
const COMPLETIONS = join(REPOSITORY, 'dist/completions');

/** Whether it is there; said where it is not, and an error in continuous integration. */
const installed = (name: string): boolean => {
  const found = searchPath()
    .split(':')
    .some((directory) => existsSync(join(directory, name)));
  if (!found && process.env['CI'] === 'true') throw new Error(`${name} is not installed`);
  if (!found) console.warn(`skipped: ${name} is not installed`);
  return found;
};

/** Where files, directories and names are completed from. */
let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'pastiche-completion-'));
  writeFileSync(join(scratch, 'a file.log'), '');
  mkdirSync(join(scratch, 'a-directory'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const run = async (argv: readonly string[], input = ''): Promise<string> => {
  const done = await finish(start(argv, { input, env: { HOME: scratch, TERM: 'dumb' } }), {
    timeoutMs: 30_000,
  });
  expect(done, argv.join(' ')).toMatchObject({ status: 0, stderr: '' });
  return done.stdout;
};
const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');
const longNames = (name: string): string[] => offered(program(name)).map((option) => `--${option.name}`);

describe.skipIf(!installed('mandoc'))('manual pages', () => {
  test.each(readdirSync(PAGES))('%s: mandoc has nothing to say, and sets it', async (name) => {
    const path = join(PAGES, name);
    expect(await run(['mandoc', '-Tlint', '-W', 'warning', path])).toBe('');
    // Bold is a letter, a backspace and the letter again.
    const struck = (await run(['mandoc', '-Tascii', path])).split('\b');
    const plain = struck.map((part, i) => (i < struck.length - 1 ? part.slice(0, -1) : part)).join('');
    expect(plain).toMatch(/^NAME\n\s+\S+.* - \S/m);
    for (const section of ['SYNOPSIS', 'DESCRIPTION', 'EXIT STATUS', 'SEE ALSO'])
      if (name !== 'qrap.1' || section !== 'SEE ALSO') expect(plain).toContain(`\n${section}\n`);
    expect(plain).not.toMatch(/@|\\f/);
  });
});

describe.skipIf(!installed('groff'))('manual pages, for man-db', () => {
  test.each(readdirSync(PAGES))('%s: groff has nothing to say', async (name) => {
    // Warnings are on standard error, which run() expects to be empty.
    await run(['groff', '-man', '-ww', '-Tutf8', '-z', join(PAGES, name)]);
  });
  test("slirp4netns' longest request is shown as it is to be sent", async () => {
    const page = await run(['groff', '-man', '-Tascii', '-P-cbou', join(PAGES, 'slirp4netns.1')]);
    const [request = ''] = /\{"execute":"add_hostfwd"[^}]*\}\}/.exec(page) ?? [];
    expect(JSON.parse(request)).toMatchObject({ arguments: { host_addr: '0.0.0.0', guest_port: 80 } });
  });
});

interface Case {
  readonly words: readonly string[];
  readonly expected: (found: readonly string[]) => void;
}
const has =
  (...wanted: string[]) =>
  (found: readonly string[]): void =>
    expect(found).toEqual(expect.arrayContaining(wanted));
const exactly =
  (...wanted: string[]) =>
  (found: readonly string[]): void =>
    expect([...found].sort()).toEqual([...wanted].sort());

/** The last word is the one that is completed. */
const CASES: readonly (readonly [string, Case])[] = [
  ['long options of pasta', { words: ['pasta', '--no-d'], expected: exactly('--no-dhcp', '--no-dhcpv6') }],
  ['all of passt’s', { words: ['passt', '--'], expected: has(...longNames('passt')) }],
  ['all of slirp4netns’', { words: ['slirp4netns', '--'], expected: has(...longNames('slirp4netns')) }],
  ['port specifications', { words: ['pasta', '-t', ''], expected: exactly('all', 'auto', 'none') }],
  ['those of passt, which has no auto', { words: ['passt', '--tcp-ports', ''], expected: exactly('all', 'none') }],
  ['interfaces', { words: ['pasta', '--interface', ''], expected: has('lo') }],
  [
    'directories',
    {
      words: ['pasta', '--netns-dir', 'a'],
      expected: (found) => expect(found.map((one) => one.replace(/\/$/, ''))).toEqual(['a-directory']),
    },
  ],
  [
    'files',
    { words: ['pasta', '--log-file', 'a'], expected: (found) => expect(found.join()).toMatch(/a(\\)? file\.log/) },
  ],
  ['words of an option', { words: ['slirp4netns', '--netns-type', ''], expected: exactly('path', 'pid', 'tapfd') }],
  ['tables of pesto', { words: ['pesto', '-C', ''], expected: exactly('HOST', 'SPLICE') }],
  ['words of pastiche', { words: ['pastiche', ''], expected: has(...WORDS.map(wordOf)) }],
  ['words of pastiche ports', { words: ['pastiche', 'ports', ''], expected: has('list', 'add', 'remove') }],
  ['options of a word', { words: ['pastiche', 'doctor', '--'], expected: exactly(...longNames('pastiche doctor')) }],
  ['pastiche’s own, which are pasta’s', { words: ['pastiche', '--config'], expected: exactly('--config-net') }],
];

describe.skipIf(!installed('bash'))('bash', () => {
  const complete = async (words: readonly string[]): Promise<string[]> => {
    const name = words[0] ?? '';
    const script = `source "$1/bash/${name}"; shift; cd ${scratch}
      read -ra registered < <(complete -p "$1"); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
      COMP_LINE="$*"; COMP_POINT=\${#COMP_LINE}
      "\${registered[2]}" "$1" "\${COMP_WORDS[COMP_CWORD]}" "\${COMP_WORDS[COMP_CWORD - 1]}"
      for word in "\${COMPREPLY[@]}"; do printf '%s\\n' "$word"; done`;
    return lines(await run(['bash', '--norc', '-uc', script, 'bash', COMPLETIONS, ...words]));
  };
  test.each(CASES)('%s', async (_title, { words, expected }) => expected(await complete(words)));
  test('an argument behind "=", and what comes after a value', async () => {
    exactly('all', 'auto', 'none')(await complete(['pasta', '--tcp-ports', '=', '']));
    exactly('auto')(await complete(['pasta', '--tcp-ports', '=', 'au']));
    exactly('list')(await complete(['pastiche', 'ports', '--json', 'li']));
  });
  test('operands: a command, then its own arguments', async () => {
    has('true')(await complete(['pasta', '--mtu', '1500', 'tru']));
    has('a-directory')(await complete(['pasta', '--config-net', '--', 'ls', 'a-']));
    exactly()(await complete(['passt', 'a']));
  });
});

describe.skipIf(!installed('fish'))('fish', () => {
  const complete = async (words: readonly string[]): Promise<string[]> => {
    const line = words.join(' ');
    const script = `cd ${scratch}; source ${COMPLETIONS}/fish/${words[0]}.fish; complete -C ${JSON.stringify(line)}`;
    return lines(await run(['fish', '--no-config', '-c', script])).map((one) => one.split('\t')[0] ?? '');
  };
  test.each(CASES)('%s', async (_title, { words, expected }) => expected(await complete(words)));
});

describe.skipIf(!installed('zsh'))('zsh', () => {
  let found: readonly string[][];
  beforeAll(async () => {
    const script = join(REPOSITORY, 'test/support/complete.zsh');
    const questions = CASES.map(([, { words }]) => words.join(' '));
    const out = await run(['zsh', '-f', script, scratch, join(COMPLETIONS, 'zsh'), ...questions]);
    const matches = (text: string) => new Set([...text.matchAll(/^<(.*)>$/gm)].map(([, word = '']) => word));
    found = out.split(/^$/m).map((text) => [...matches(text)]);
  });
  test.each(CASES.map(([title, { expected }], i) => [title, expected, i] as const))('%s', (_title, expected, i) =>
    expected(found[i] ?? []),
  );
});
