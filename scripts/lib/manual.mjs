// SPDX-License-Identifier: Apache-2.0
/** dist/man/*.1 and dist/completions/{bash,zsh,fish}, from the tables of options and the frames in docs/man. */
import { readdirSync, readFileSync } from 'node:fs';
import { loadTypeScript } from './load.mjs';
import { at, writeIfChanged } from './paths.mjs';

const FRAMES = at('docs', 'man');

export const buildManual = async () => {
  const { completions, manualPage } = await loadTypeScript('controller/client/surface/generate.ts');
  const { version } = JSON.parse(readFileSync(at('package.json'), 'utf8'));
  const texts = Object.fromEntries(
    readdirSync(FRAMES).map((name) => [name, readFileSync(at('docs', 'man', name), 'utf8')]),
  );
  for (const [name, frame] of Object.entries(texts))
    if (name.endsWith('.in')) writeIfChanged(at('dist', 'man', name.slice(0, -3)), manualPage(frame, version, texts));
  for (const [path, text] of Object.entries(completions())) writeIfChanged(at('dist', 'completions', path), text);
  return undefined;
};
