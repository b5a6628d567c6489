// SPDX-License-Identifier: Apache-2.0
/**
 * Collects the `#syscalls` annotations of the sources (grammar: grammar.mjs) and writes, for seccomp/compiler.cc,
 *   helper/gen/annotations.json   the list, with file and line
 *   helper/gen/annotations.inc    the same as C++ rules, so that the C compiler resolves the constants
 * Plain JavaScript without dependencies: it runs before anything is built.
 *
 *   node seccomp/collect.mjs           write the files (only when they change)
 *   node seccomp/collect.mjs --list    print the source files that are read, relative to the current directory
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { at, root, writeIfChanged } from '../scripts/lib/paths.mjs';
import { AnnotationError, combinations, parseAnnotation } from './grammar.mjs';

const TREES = [
  { under: 'helper/src', names: /\.[ch]$/ },
  // The test kit is a module for tests only; it runs in no sealed process.
  { under: 'helper/addon', names: /^(?!testkit).*\.(cc|h)$/ },
  { under: 'controller', names: /(?<!\.test)\.ts$/ },
];
/** What Node, V8 and libuv call by themselves: no code of ours makes these calls. */
export const RUNTIME_FILE = 'seccomp/node-runtime.txt';

/** Paths of all annotated sources, relative to the root, sorted. */
export const sourceFiles = (base = root) => {
  const files = TREES.flatMap(({ under, names }) =>
    readdirSync(join(base, under), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && names.test(basename(entry.name)))
      .map((entry) => relative(base, join(entry.parentPath ?? entry.path, entry.name))),
  );
  return [...files, RUNTIME_FILE].sort();
};

/** A comment's line without its decoration. */
const undecorated = (line) => line.replace(/^\s*(\/\/|\/\*+|\*(?!\/)|#(?!syscalls))?\s*/, '');

/** The annotation that starts on lines[i], joined with the comment lines it goes on over, up to its reason. */
const annotationAt = (lines, i) => {
  let text = lines[i].slice(lines[i].indexOf('#syscalls:') + '#syscalls:'.length);
  for (let next = i + 1; !text.includes('—') && !text.includes('*/') && next < lines.length && next <= i + 4; next++) {
    if (lines[next].includes('#syscalls:')) break;
    text += ` ${undecorated(lines[next])}`;
  }
  return text.replace(/\*\/.*$/s, '').trim();
};

/** Annotations of one file's text: [{ file, line, profiles, calls, reason }]. Throws with file:line. */
export const annotationsOf = (file, source) => {
  const lines = source.split('\n');
  const found = [];
  for (const [i, line] of lines.entries()) {
    if (!/(^|[/*\s])#syscalls:/.test(line)) continue;
    try {
      found.push({ file, line: i + 1, ...parseAnnotation(annotationAt(lines, i)) });
    } catch (error) {
      if (error instanceof AnnotationError) throw new AnnotationError(`${file}:${i + 1}: #syscalls: ${error.message}`);
      throw error;
    }
  }
  return found;
};

/**
 * A profile's filters are stacked: what `host` or `netns` may do after the seal, `setup` must have allowed before it. `sandbox` is in
 * the place of `setup` for one option, and has more.
 */
const withStages = (profiles) => {
  const before = profiles.some((profile) => profile === 'host' || profile === 'netns' || profile === 'setup')
    ? ['setup', 'sandbox']
    : [];
  return [...new Set([...before, ...profiles])];
};

/** All rules: one per call and combination of argument values. */
export const collect = (base = root) => {
  const annotations = sourceFiles(base).flatMap((file) => annotationsOf(file, readFileSync(join(base, file), 'utf8')));
  return annotations.flatMap(({ file, line, profiles, calls, reason }) =>
    calls.map((call) => ({
      file,
      line,
      profiles: withStages(profiles),
      arch: call.arch,
      names: call.names,
      call: call.text,
      errno: call.errno,
      combinations: combinations(call.args),
      reason,
    })),
  );
};

const quoted = (text) => JSON.stringify(text);
const cTerm = ({ arg, mask, value }) =>
  `{${arg}, ${mask === '' ? 'ALL_BITS' : `constant(${mask})`}, constant(${value})}`;

/** `#line` makes the C compiler report an unknown constant at the annotation. */
const cRules = (rules) =>
  rules
    .flatMap((rule, index) =>
      rule.combinations.map(
        (terms) =>
          `#line ${rule.line} ${quoted(rule.file)}\n` +
          `{${index}, ${rule.profiles.map((profile) => `PROFILE_${profile.toUpperCase()}`).join(' | ')}, ${quoted(rule.arch)}, ` +
          `{${rule.names.map(quoted).join(', ')}}, ${rule.errno === '' ? '0' : rule.errno}, {${terms.map(cTerm).join(', ')}}},\n`,
      ),
    )
    .join('');

const main = () => {
  if (process.argv.includes('--list')) {
    console.log(
      sourceFiles()
        .map((file) => relative(process.cwd(), at(file)))
        .join('\n'),
    );
    return;
  }
  try {
    const rules = collect();
    writeIfChanged(at('helper', 'gen', 'annotations.json'), `${JSON.stringify(rules, null, 1)}\n`);
    writeIfChanged(at('helper', 'gen', 'annotations.inc'), `/* Generated by seccomp/collect.mjs. */\n${cRules(rules)}`);
  } catch (error) {
    console.error(error instanceof AnnotationError ? error.message : error);
    process.exit(1);
  }
};
if (process.argv[1] === fileURLToPath(import.meta.url)) main();
