// SPDX-License-Identifier: Apache-2.0
/** Links between the texts of this repository lead somewhere: to a file that is there, and to a heading that it has. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { CHECKS } from '../../controller/client/doctor/checks.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const pages = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((path) => path !== '' && existsSync(join(root, path)));

/** Without what is code, where brackets mean something else. */
const prose = (text: string): string => text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '');
const linksOf = (text: string): string[] =>
  [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)].map(([, to = '']) => to).filter((to) => !/^[a-z]+:/.test(to));

/** The anchors of headings, as GitHub makes them. */
const anchorsOf = (text: string): Set<string> => {
  const seen = new Map<string, number>();
  const anchors = new Set<string>();
  for (const [, heading = ''] of text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/^#{1,6} +(.*)$/gm)) {
    const plain = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .trim()
      .toLowerCase();
    const slug = plain.replace(/[^\p{L}\p{N}\- _]/gu, '').replaceAll(' ', '-');
    const times = seen.get(slug) ?? 0;
    seen.set(slug, times + 1);
    anchors.add(times === 0 ? slug : `${slug}-${times}`);
  }
  return anchors;
};

describe('links', () => {
  const links = pages.flatMap((from) => linksOf(read(from)).map((to) => ({ from, to })));
  it('are seen by this test at all', () => {
    expect(links.length).toBeGreaterThan(30);
    expect(anchorsOf('# Who reaches what\n## A `b`, c\n## A `b`, c\n')).toEqual(
      new Set(['who-reaches-what', 'a-b-c', 'a-b-c-1']),
    );
  });
  it('lead to files and headings that are there', () => {
    const broken = links.filter(({ from, to }) => {
      const [path = '', anchor] = to.split('#');
      const target = path === '' ? from : relative(root, resolve(root, dirname(from), path));
      if (!existsSync(join(root, target))) return true;
      return anchor !== undefined && !anchorsOf(read(target)).has(anchor);
    });
    expect(broken).toEqual([]);
  });
  it('lead from the README to every page of docs, by way of at most one other', () => {
    const next = (from: string) =>
      linksOf(read(from)).map((to) => relative(root, resolve(root, dirname(from), to.split('#')[0] ?? '')));
    const first = next('README.md');
    const reached = new Set([...first, ...first.filter((path) => path.endsWith('.md')).flatMap(next)]);
    expect(pages.filter((path) => path.startsWith('docs/') && !reached.has(path))).toEqual([]);
  });
});

describe('docs/TROUBLESHOOTING.md', () => {
  it('has a section for each check of pastiche doctor, in its order', () => {
    const [, checks = ''] = /^## The checks$([\s\S]*?)^## /m.exec(read('docs/TROUBLESHOOTING.md')) ?? [];
    expect([...checks.matchAll(/^### (.*)$/gm)].map(([, name]) => name)).toEqual(Object.keys(CHECKS));
  });
});
