// SPDX-License-Identifier: Apache-2.0
/** controller/app/main.ts → dist/controller.mjs: one readable ES module, so that Node opens one file at start. */
import { existsSync } from 'node:fs';
import { rolldown } from 'rolldown';
import { at } from './paths.mjs';

const ENTRY = at('controller', 'app', 'main.ts');

export const bundle = async () => {
  if (!existsSync(ENTRY)) return { skipped: 'controller/app/main.ts is not there' };
  const build = await rolldown({
    input: ENTRY,
    platform: 'node',
    // The addon is loaded at run time, from beside the bundle.
    external: [/\.node$/],
    tsconfig: at('tsconfig.json'),
    logLevel: 'warn',
    treeshake: true,
  });
  try {
    await build.write({
      file: at('dist', 'controller.mjs'),
      format: 'esm',
      codeSplitting: false,
      minify: false,
      keepNames: true,
      sourcemap: false,
      comments: { legal: true, jsdoc: false, annotation: false },
    });
  } finally {
    await build.close();
  }
  return undefined;
};
