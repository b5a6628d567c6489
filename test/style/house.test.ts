// SPDX-License-Identifier: Apache-2.0
/** House rules that no tool checks: licence lines, who may import whom, the form of the changelog. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
/** Tracked and new files, without the ignored ones. */
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => path !== '' && existsSync(join(root, path)));

describe('licence', () => {
  /** Files that can not carry a comment, or are the licence; REUSE.toml speaks for them. */
  const covered = read('REUSE.toml');
  const exempt = (path: string) => path.startsWith('LICENSES/') || covered.includes(`"${path}"`);
  it('every file names it in its first lines, or REUSE.toml does', () => {
    const without = files.filter(
      (path) =>
        !exempt(path) && !read(path).split('\n').slice(0, 4).join('\n').includes('SPDX-License-Identifier: Apache-2.0'),
    );
    expect(without).toEqual([]);
  });
  it('LICENSES has the full text', () => {
    expect(read('LICENSES/Apache-2.0.txt')).toContain('TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION');
  });
});

/** DESIGN §3: what each part of the controller may import beside itself. `*` stands for every other part. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  shared: [],
  wire: [],
  io: ['wire', 'shared'],
  obs: ['wire', 'shared'],
  flow: ['wire', 'shared', 'io', 'obs'],
  link: ['wire', 'shared', 'io', 'obs', 'flow', 'host', 'rpc'],
  host: ['wire', 'shared', 'io', 'obs', 'flow', 'link', 'rpc'],
  rpc: ['wire', 'shared', 'io', 'obs', 'flow', 'link', 'host'],
  fwd: ['wire', 'shared', 'io', 'obs', 'flow', 'link', 'host', 'rpc'],
  proto: ['wire', 'shared', 'io', 'obs', 'flow', 'link', 'host', 'rpc', 'fwd'],
  cli: ['wire', 'shared', 'obs', 'flow', 'link', 'host', 'rpc', 'fwd'],
  policy: ['wire', 'shared', 'obs', 'flow', 'link', 'host', 'rpc', 'fwd'],
  control: ['wire', 'shared', 'obs', 'flow', 'link', 'host', 'rpc', 'fwd'],
  /** Programs that talk to a running instance: pesto, `pastiche ports`. No addon, no frames. */
  client: ['shared', 'host', 'fwd', 'cli', 'control'],
};
/** Packages from the registry, and who may use them. */
const PACKAGES: Record<string, readonly string[]> = {
  zod: ['shared', 'cli', 'rpc', 'control', 'client'],
  'json-rpc-2.0': ['rpc', 'control', 'client'],
  'ipaddr.js': ['cli', 'host', 'policy', 'control'],
};

interface Import {
  readonly from: string;
  readonly to: string;
}
const part = (path: string): string => path.split('/')[path.startsWith('controller/') ? 1 : 0] ?? '';
const sources = files.filter((path) => /^(controller|shared)\/.*\.ts$/.test(path) && !path.endsWith('.test.ts'));
const specifiers = (path: string): string[] =>
  [
    ...read(path).matchAll(
      /^\s*(?:import|export)\b[^'"]*?from\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm,
    ),
  ].map((match) => match[1] ?? match[2] ?? match[3] ?? '');
const imports: Import[] = sources.flatMap((from) => specifiers(from).map((to) => ({ from, to })));

describe('imports', () => {
  const relatives = imports
    .filter(({ to }) => to.startsWith('.'))
    .map(({ from, to }) => ({ from, to: relative(root, resolve(root, dirname(from), to)) }));

  it('are seen by this test at all', () => {
    expect(relatives.length).toBeGreaterThan(50);
  });
  it('point downwards only', () => {
    const wrong = relatives.filter(({ from, to }) => {
      const [importer, imported] = [part(from), part(to)];
      return importer !== 'app' && importer !== imported && !MAY_IMPORT[importer]?.includes(imported);
    });
    expect(wrong).toEqual([]);
  });
  it('never go from one protocol to another', () => {
    const protocol = (path: string) => /^controller\/proto\/([^/]+)(?:\/|\.ts$)/.exec(path)?.[1]?.replace(/\.ts$/, '');
    const wrong = relatives.filter(({ from, to }) => {
      const [importer, imported] = [protocol(from), protocol(to)];
      return importer !== undefined && imported !== undefined && importer !== imported;
    });
    expect(wrong).toEqual([]);
  });
  it('take packages only where the house lets them in', () => {
    const wrong = imports.filter(({ from, to }) => {
      if (to.startsWith('.') || to.startsWith('node:')) return false;
      // Their subpaths, like zod/mini, are the package's.
      const owner = Object.keys(PACKAGES).find((name) => to === name || to.startsWith(`${name}/`)) ?? to;
      return part(from) !== 'app' && !PACKAGES[owner]?.includes(part(from));
    });
    expect(wrong).toEqual([]);
  });
});

describe('protocol code', () => {
  it('has no promises, timers or calendar', () => {
    const forbidden = /\b(async |await |Promise\b|(?:setTimeout|setInterval|setImmediate)\b|queueMicrotask|Date\b)/;
    const code = (path: string) =>
      read(path)
        .replace(/\/\*[\s\S]*?\*\//g, '')
        .replace(/\/\/.*$/gm, '');
    const wrong = sources.filter((path) => /^controller\/(proto|wire|flow)\//.test(path) && forbidden.test(code(path)));
    expect(wrong).toEqual([]);
  });
});

describe('changelog', () => {
  const SECTIONS = ['Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'];
  const text = read('CHANGELOG.md');
  it('has releases in the form of Keep a Changelog, newest first', () => {
    const releases = [...text.matchAll(/^## (.*)$/gm)].map((match) => match[1] ?? '');
    expect(releases.length).toBeGreaterThan(0);
    for (const release of releases) expect(release).toMatch(/^\[(Unreleased|\d+\.\d+\.\d+)\]( - \d{4}-\d{2}-\d{2})?$/);
    const dates = releases.flatMap((release) => / - (.*)$/.exec(release)?.[1] ?? []);
    expect(dates).toEqual([...dates].sort().reverse());
  });
  it('has only its sections, and every entry begins with its area', () => {
    for (const [, section] of text.matchAll(/^### (.*)$/gm)) expect(SECTIONS).toContain(section);
    const entries = [...text.matchAll(/^- (.*)$/gm)].map((match) => match[1] ?? '');
    expect(entries.length).toBeGreaterThan(0);
    for (const entry of entries) expect(entry).toMatch(/^[a-z][a-z, -]*: [A-Z`]/);
  });
});

describe('committed text', () => {
  it("names no directory of a developer's machine", () => {
    const own = 'test/style/house.test.ts';
    const wrong = files.filter((path) => path !== own && /(^|[\s"'`(=])\/(work|home\/[a-z]+)\//.test(read(path)));
    expect(wrong).toEqual([]);
  });
});
