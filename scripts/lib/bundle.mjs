// SPDX-License-Identifier: Apache-2.0
/**
 * controller/app/main.ts → dist/controller.bundle.cjs (one readable script), dist/controller.cache (V8's compiled form of
 * it, valid for this very Node: another one compiles anew) and dist/controller.cjs, which loads the two.
 * controller/client/main.ts → dist/client.cjs, the programs that talk to a running instance.
 *
 * Why not one ES module: Node's ES loader and compiling half a megabyte cost 30 ms of a start that callers wait for.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { rolldown } from 'rolldown';
import { sharedColumns } from './columns.mjs';
import { at, writeIfChanged } from './paths.mjs';

const CLIENT_ENTRY = at('controller', 'client', 'main.ts');
const CLIENT = at('dist', 'client.cjs');
const ENTRY = at('controller', 'app', 'main.ts');
const BUNDLE = at('dist', 'controller.bundle.cjs');
const CACHE = at('dist', 'controller.cache');
const LOADER = at('dist', 'controller.cjs');

/** Escapes what is not ASCII: the loader then reads one octet a character, and V8 holds the source in half the memory. */
const asciiOnly = () => ({
  name: 'ascii-only',
  renderChunk: (code) => ({
    code: code.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`),
    map: null,
  }),
});

/** One entry with all it imports as one CommonJS script. */
const oneScript = async (entry, file, plugins = []) => {
  const { version } = JSON.parse(readFileSync(at('package.json'), 'utf8'));
  const build = await rolldown({
    input: entry,
    platform: 'node',
    // The addon is loaded at run time, from beside the bundle.
    external: [/\.node$/],
    tsconfig: at('tsconfig.json'),
    transform: { define: { PASTICHE_VERSION: JSON.stringify(version) } },
    logLevel: 'warn',
    treeshake: true,
    plugins,
  });
  try {
    const { output } = await build.generate({
      file,
      format: 'cjs',
      codeSplitting: false,
      minify: false,
      keepNames: false,
      sourcemap: false,
      comments: { legal: true, jsdoc: false, annotation: false },
    });
    writeIfChanged(file, output[0].code);
  } finally {
    await build.close();
  }
};

export const bundle = async () => {
  if (!existsSync(ENTRY)) return { skipped: 'controller/app/main.ts is not there' };
  await oneScript(ENTRY, BUNDLE, [sharedColumns(), asciiOnly()]);
  await oneScript(CLIENT_ENTRY, CLIENT);
  writeIfChanged(LOADER, readFileSync(at('scripts', 'lib', 'loader.cjs'), 'utf8'));
  rmSync(CACHE, { force: true });
  rmSync(at('dist', 'controller.mjs'), { force: true });
  return undefined;
};

/** After the addon is in place: one run of the program without a helper, which fails at its first request, compiles what a start needs. */
export const compile = () => {
  try {
    execFileSync(process.execPath, [LOADER, '--write-code-cache'], { stdio: 'pipe' });
  } catch (error) {
    throw new Error(`the controller does not load: ${error.stderr?.toString() || error.message}`);
  }
  if (!existsSync(CACHE) || statSync(CACHE).size === 0) throw new Error('V8 gave no code cache');
};
