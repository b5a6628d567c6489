// SPDX-License-Identifier: Apache-2.0
/**
 * Makes packages of what was built, in dist/packages: a Debian one, an RPM and an npm tarball. The same commit, built by the same
 * compiler, gives the same bytes.
 *
 *   npm run package [-- deb rpm npm] [-- --output=DIRECTORY]
 *
 * Needs dpkg-deb, rpmbuild, strip and readelf, each for its part. Exit status 1 with a sentence when one cannot be made.
 */
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { packageDeb } from './lib/package-deb.mjs';
import { packageNpm } from './lib/package-npm.mjs';
import { packageRpm } from './lib/package-rpm.mjs';
import { at } from './lib/paths.mjs';
import { requireBuilt, sourceDate } from './lib/stage.mjs';

const KINDS = { deb: packageDeb, rpm: packageRpm, npm: packageNpm };

const main = (args) => {
  const asked = args.filter((arg) => !arg.startsWith('--output='));
  const unknown = asked.find((kind) => KINDS[kind] === undefined);
  if (unknown !== undefined)
    throw new Error(`unknown argument ${unknown}; known are ${Object.keys(KINDS).join(', ')} and --output=DIRECTORY`);
  const given = args.find((arg) => arg.startsWith('--output='))?.slice('--output='.length);
  const output = given ? resolve(given) : at('dist', 'packages');
  requireBuilt();
  mkdirSync(output, { recursive: true });
  process.umask(0o022);
  const scratch = mkdtempSync(join(tmpdir(), 'pastiche-package-'));
  try {
    const date = sourceDate();
    for (const [kind, make] of Object.entries(KINDS)) {
      if (asked.length > 0 && !asked.includes(kind)) continue;
      const name = make({ scratch, output, date });
      console.log(`package: ${join(output, name)}, ${Math.round(statSync(join(output, name)).size / 1024)} KiB`);
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

try {
  main(process.argv.slice(2));
} catch (error) {
  console.error(`package: ${error.message}`);
  process.exit(1);
}
