// SPDX-License-Identifier: Apache-2.0
/**
 * test/fuzz/main.ts → dist/fuzz/main.mjs: the controller in one script, with the checked memory of test/fuzz/io.ts in the
 * place of controller/io/io.ts, and a counter in every block of the controller's own code, so that the fuzzer sees which
 * inputs reach something new. V8's own coverage would cost a millisecond a look; these counters cost next to nothing.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { rolldown } from 'rolldown';
import { parseAst } from 'rolldown/parseAst';
import { at } from './paths.mjs';

const IO = at('controller', 'io', 'io.ts');
const CHECKED_IO = at('test', 'fuzz', 'io.ts');
const FAKE_IO = at('test', 'support', 'fake-io.ts');
export const FUZZ_BUNDLE = at('dist', 'fuzz', 'main.mjs');

/** Whoever imports controller/io/io.ts, or the stand-in of it, gets ours; ours gets the stand-in. */
const checkedMemory = {
  name: 'checked-memory',
  async resolveId(source, importer) {
    if (!source.endsWith('/io.ts') || importer === undefined) return null;
    const resolved = await this.resolve(source, importer, { skipSelf: true });
    return resolved?.id === IO ? CHECKED_IO : null;
  },
  /** Constants of the stand-in that ours does not name (new regions of the arena) are the same in ours. */
  load(id) {
    if (id !== CHECKED_IO) return null;
    const ours = readFileSync(CHECKED_IO, 'utf8');
    const missing = [...readFileSync(FAKE_IO, 'utf8').matchAll(/^export const ([A-Z][A-Z_]*)\b/gm)]
      .map(([, name]) => name)
      .filter((name) => !new RegExp(`^export const ${name}\\b`, 'm').test(ours));
    return ours + missing.map((name) => `export const ${name} = fake.${name};\n`).join('');
  },
};

/** Ranges of the bundle that come from the controller: rolldown writes each module's path before it. */
const ownRanges = (code) => {
  const marks = [...code.matchAll(/^\/\/ (\S+\.(?:ts|js|mjs|cjs))$/gm)];
  if (marks.length === 0) throw new Error('no names of modules in the bundle of the fuzzer');
  return marks.flatMap(({ index, 1: path }, i) =>
    /^(controller|shared)\//.test(path) ? [[index, marks[i + 1]?.index ?? code.length]] : [],
  );
};

/** Source text with a counter in every block: where a function, a branch, a loop or the right side of a logical operator begins. */
const instrument = (code) => {
  const ranges = ownRanges(code);
  const own = (p) => ranges.some(([from, to]) => p >= from && p < to);
  const edits = [];
  let counters = 0;
  const count = () => `__cov[${counters++}]++`;
  const insert = (p, text, order) => edits.push([p, order, text]);
  const expression = (node) => {
    insert(node.start, `(${count()}, `, 1);
    insert(node.end, ')', -1);
  };
  const statement = (node) => {
    if (node === null || node === undefined) return;
    if (node.type === 'BlockStatement') insert(node.start + 1, `${count()};`, 0);
    else {
      insert(node.start, `{${count()};`, 1);
      insert(node.end, '}', -1);
    }
  };
  const visit = (node) => {
    if (own(node.start)) {
      switch (node.type) {
        case 'FunctionDeclaration':
        case 'FunctionExpression':
          statement(node.body);
          break;
        case 'ArrowFunctionExpression':
          if (node.body.type === 'BlockStatement') statement(node.body);
          else expression(node.body);
          break;
        case 'IfStatement':
          statement(node.consequent);
          statement(node.alternate);
          break;
        case 'ForStatement':
        case 'ForOfStatement':
        case 'WhileStatement':
        case 'DoWhileStatement':
          statement(node.body);
          break;
        case 'SwitchCase':
          // After the colon, whether or not something follows.
          insert(
            node.test === null ? code.indexOf(':', node.start) + 1 : code.indexOf(':', node.test.end) + 1,
            ` ${count()};`,
            0,
          );
          break;
        case 'ConditionalExpression':
          expression(node.consequent);
          expression(node.alternate);
          break;
        case 'LogicalExpression':
          expression(node.right);
          break;
        default:
      }
    }
    for (const value of Object.values(node)) {
      if (Array.isArray(value))
        for (const child of value) child !== null && typeof child?.type === 'string' && visit(child);
      else if (value !== null && typeof value?.type === 'string') visit(value);
    }
  };
  visit(parseAst(code));
  // Closings come before openings at one place; of nested openings the outer first, of nested closings the inner first.
  const sorted = edits
    .map((edit, i) => [...edit, i])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1] || (a[1] < 0 ? b[3] - a[3] : a[3] - b[3]));
  const parts = [];
  let from = 0;
  for (const [p, , text] of sorted) {
    parts.push(code.slice(from, p), text);
    from = p;
  }
  return { code: parts.join('') + code.slice(from), counters };
};

/** Builds the bundle; returns how many counters it has. */
export const bundleFuzz = async () => {
  const build = await rolldown({
    input: at('test', 'fuzz', 'main.ts'),
    platform: 'node',
    plugins: [checkedMemory],
    external: [/\.node$/],
    tsconfig: at('tsconfig.json'),
    logLevel: 'warn',
    onLog(level, entry, handle) {
      // What controller/io/io.ts got anew, test/fuzz/io.ts needs, too.
      if (entry.code === 'IMPORT_IS_UNDEFINED') throw new Error(`${entry.message}\n(in test/fuzz/io.ts)`);
      handle(level, entry);
    },
  });
  try {
    await build.write({ file: FUZZ_BUNDLE, format: 'es', codeSplitting: false, minify: false, keepNames: false });
  } finally {
    await build.close();
  }
  const { code, counters } = instrument(readFileSync(FUZZ_BUNDLE, 'utf8'));
  writeFileSync(FUZZ_BUNDLE, `const __cov = globalThis.__cov = new Uint8Array(${counters});\n${code}`);
  return counters;
};
