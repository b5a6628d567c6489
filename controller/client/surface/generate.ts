// SPDX-License-Identifier: Apache-2.0
/** For scripts/lib/manual.mjs, which writes what these make. */
import { bashCompletion } from './bash.ts';
import { fishCompletion } from './fish.ts';
import { manualPage } from './page.ts';
import { zshCompletion } from './zsh.ts';

export const COMPLETED = ['pasta', 'passt', 'pastiche', 'pesto', 'qrap', 'slirp4netns'] as const;

/** By path below dist/completions. */
const completions = (): Record<string, string> =>
  Object.fromEntries(
    COMPLETED.flatMap((name) => [
      [`bash/${name}`, bashCompletion(name)],
      [`zsh/_${name}`, zshCompletion(name)],
      [`fish/${name}.fish`, fishCompletion(name)],
    ]),
  );

export { completions, manualPage };
