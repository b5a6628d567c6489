// SPDX-License-Identifier: Apache-2.0
/** A TypeScript module with all it imports, as one that this Node can import: Node 20 does not strip types, so rolldown bundles it first. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { rolldown } from 'rolldown';
import { at } from './paths.mjs';

export const loadTypeScript = async (path) => {
  const scratch = mkdtempSync(join(tmpdir(), 'pastiche-load-'));
  try {
    const bundle = await rolldown({ input: at(path), platform: 'node', cwd: at() });
    const file = join(scratch, 'module.mjs');
    await bundle.write({ file, format: 'esm', codeSplitting: false });
    await bundle.close();
    return await import(pathToFileURL(file).href);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};
