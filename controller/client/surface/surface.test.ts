// SPDX-License-Identifier: Apache-2.0
/** Manual pages, --help and capabilities say the same as the tables. What real programs make of them: test/interop/manual.test.ts. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { helpText, OPTIONS } from '../../cli/options.ts';
import { SLIRP_OPTIONS, slirpHelpText } from '../../cli/slirp/options.ts';
import { PESTO_OPTIONS } from '../pesto.ts';
import { capabilitiesOf, capabilitiesSchema, FEATURES } from './capabilities.ts';
import { COMPLETED, completions } from './generate.ts';
import { kindOf, offered } from './kinds.ts';
import { manualOf, manualPage, roff } from './page.ts';
import { PROGRAMS, type ProgramOption, program, WORDS, wordOf } from './programs.ts';

const directory = fileURLToPath(new URL('../../../docs/man/', import.meta.url));
const texts = Object.fromEntries(readdirSync(directory).map((name) => [name, readFileSync(directory + name, 'utf8')]));
const sources = fileURLToPath(new URL('../../../helper/src/', import.meta.url));
const early = readFileSync(`${sources}early.c`, 'utf8');
const page = (name: string): string => manualPage(texts[`${name}.in`] ?? '', '1.2.3', texts);

/** The options that a page has as items, as `-m, --mtu MTU`. */
const items = (text: string): string[] =>
  [...text.matchAll(/^\.TP\n((?:\\fB\\-[a-zA-Z0-9]\\fR, )?\\fB\\-\\-.*)$/gm)].map(([, line = '']) =>
    line.replace(/\\f[BIR]/g, '').replaceAll('\\-', '-'),
  );
/** The same of --help. */
const helped = (text: string): string[] =>
  [...text.matchAll(/^ {2}(?: {4})?((?:-[a-zA-Z0-9], )?--[a-z0-9-]+(?:[ =]\S+)?)(?: {2,}.*|)$/gm)].map(
    ([, line = '']) => line.replace('=', ' '),
  );
const heading = ({ name, short, argument }: ProgramOption): string =>
  `${short === null ? '' : `-${short}, `}--${name}${argument === null ? '' : ` ${argument}`}`;

const PAGES: readonly (readonly [page: string, programs: readonly string[]])[] = [
  ['pasta.1', ['pasta']],
  ['passt.1', ['passt']],
  ['slirp4netns.1', ['slirp4netns']],
  ['pesto.1', ['pesto']],
  ['qrap.1', ['qrap']],
  ['pastiche.1', ['ports', 'doctor', 'capabilities', 'audit', 'helper'].map((word) => `pastiche ${word}`)],
];

describe('manual pages', () => {
  test.each(PAGES)('%s has every option of %j, each once, and no other', (name, programs) => {
    const wanted = programs.flatMap((one) => program(one).options.map(heading));
    expect(items(page(name)).sort()).toEqual(wanted.sort());
    expect(wanted.length).toBeGreaterThan(1);
  });

  test('every program with options has a page', () => {
    const paged = PAGES.flatMap(([, programs]) => programs);
    expect(PROGRAMS.filter(({ options, name }) => options.length > 0 && !paged.includes(name))).toEqual([]);
  });

  test.each([
    ['pasta', helpText('pasta')],
    ['passt', helpText('passt')],
    ['slirp4netns', slirpHelpText()],
  ])('%s offers in --help what its page has, with the same arguments', (name, help) => {
    const compatible = program(name)
      .options.filter(({ help: line }) => line === null)
      .map(heading);
    expect([...helped(help), ...compatible].sort()).toEqual(items(page(`${name}.1`)).sort());
    // What is not offered stands under its own heading.
    const [before, after] = page(`${name}.1`).split('.SS Accepted for compatibility');
    expect(items(before ?? '').sort()).toEqual(helped(help).sort());
    expect(items(after ?? '').sort()).toEqual(compatible.sort());
  });

  test('every option has a text of its own, which ends with a full stop', () => {
    for (const one of PROGRAMS)
      for (const option of one.options)
        expect(manualOf(one, option), `${one.name} --${option.name}`).toMatch(/^(?=.{7})[A-Z"`].*\.$/s);
  });

  test('nothing in a text is a request or an escape of roff', () => {
    expect(roff(".TH\n'x\\fB")).toBe("\\&.TH\n\\&'x\\efB");
    expect(roff('a…’ñ')).toBe('a...\\(cq\\[u00F1]');
    for (const name of Object.keys(texts)) expect(page(name.replace(/\.in$/, ''))).not.toMatch(/[^\n -~]|@[A-Z]+/);
  });

  test('a placeholder of what there is not is an error', () => {
    expect(() => manualPage('@OPTIONS nothing@', '1', {})).toThrow('no program nothing');
    expect(() => manualPage('@FRAME nothing@', '1', {})).toThrow('no frame nothing');
  });
});

describe('the tables', () => {
  test('an option is offered in --help exactly if it is supported', () => {
    for (const [name, { help, state }] of Object.entries(OPTIONS))
      expect([name, help === null]).toEqual([name, state !== 'supported']);
  });
  test('every option of the tables is in the list of programs', () => {
    const names = (one: string) => program(one).options.map(({ name }) => name);
    expect([...new Set([...names('pasta'), ...names('passt')])].sort()).toEqual(Object.keys(OPTIONS).sort());
    expect(names('slirp4netns')).toEqual(Object.keys(SLIRP_OPTIONS));
    expect(names('pesto')).toEqual(Object.keys(PESTO_OPTIONS));
  });
});

describe('the words after pastiche', () => {
  test('have those that the helper knows, but for what only our own plugins say', () => {
    const known = [...early.matchAll(/\.word = "(\w+)"|strcmp\((?:word|argv\[1\]), "(\w+)"\) == 0/g)].map(
      ([, row, test]) => row ?? test,
    );
    expect(known.length).toBeGreaterThan(3);
    expect(WORDS.map(wordOf)).toEqual(expect.arrayContaining(known.filter((word) => word !== 'instance')));
  });
});

describe('completions', () => {
  test('there is one for every name and shell, with every option that is offered', () => {
    const made = completions();
    expect(Object.keys(made)).toHaveLength(3 * COMPLETED.length);
    for (const name of COMPLETED.filter((one) => one !== 'pastiche'))
      for (const path of [`bash/${name}`, `zsh/_${name}`, `fish/${name}.fish`])
        for (const { name: option } of offered(program(name)))
          expect(made[path], path).toMatch(new RegExp(`(--|-l )${option}\\b`));
  });
  test('an argument has a kind, an option without one has none', () => {
    for (const one of PROGRAMS)
      for (const option of one.options) expect(kindOf(one, option) === null).toBe(option.argument === null);
    const pasta = program('pasta');
    const kind = (name: string) => kindOf(pasta, pasta.options.find((one) => one.name === name) as ProgramOption);
    expect([kind('interface'), kind('netns'), kind('pid'), kind('netns-dir'), kind('mtu'), kind('tcp-ports')]).toEqual([
      ...['interface', 'netns', 'file', 'directory', 'some'],
      ['all', 'auto', 'none'],
    ]);
  });
});

describe('capabilities', () => {
  const all = capabilitiesOf('1.2.3');
  test('are of their published form', () => {
    expect(capabilitiesSchema().parse(JSON.parse(JSON.stringify(all)))).toEqual(all);
  });
  test('are those of the tables', () => {
    expect(all.programs['pasta']?.options).toContain('config-net');
    expect(all.programs['pasta']?.options).not.toContain('vhost-user');
    expect(all.programs['passt']?.unsupported).toContain('repair-path');
    expect(all.programs['pasta']?.deprecated).toContain('no-copy-routes');
    expect(all.features).toEqual(Object.keys(FEATURES));
    expect(all.interfaces.control).toEqual(['ports.list', 'ports.add', 'ports.remove']);
    expect(all.release).toBe('1.2.3');
  });
});
