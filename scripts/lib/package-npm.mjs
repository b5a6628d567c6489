// SPDX-License-Identifier: Apache-2.0
/**
 * The npm package: everything is built already, so there is no install script. npm's links in node_modules/.bin lead to the one
 * executable, which goes by the name it is called and finds the rest beside itself.
 */
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { BUILT, NAMES } from './layout.mjs';
import { at } from './paths.mjs';
import { description, run, strip, version } from './stage.mjs';

const manifest = (manuals) => {
  const { engines, license, os } = JSON.parse(readFileSync(at('package.json'), 'utf8'));
  return {
    name: 'pastiche',
    version,
    description,
    license,
    os,
    cpu: [process.arch],
    libc: ['glibc'],
    engines,
    bin: { ...Object.fromEntries(['pasta', ...NAMES].map((name) => [name, 'bin/pasta'])), qrap: 'bin/qrap' },
    ...(manuals.length > 0 && { man: manuals.map((name) => `man/${name}`) }),
  };
};

export const packageNpm = ({ scratch, output, date }) => {
  const root = join(scratch, 'npm', 'package');
  // No code cache: it is one Node's, and which one that will be is not known here.
  for (const name of BUILT) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    copyFileSync(at('dist', name), join(root, name));
    chmodSync(join(root, name), name.startsWith('bin/') ? 0o755 : 0o644);
    if (name.startsWith('bin/') || name.endsWith('.node')) strip(join(root, name));
  }
  for (const name of ['README.md', 'CHANGELOG.md']) copyFileSync(at(name), join(root, name));
  copyFileSync(at('LICENSES', 'Apache-2.0.txt'), join(root, 'LICENSE'));
  const manuals = existsSync(at('dist', 'man')) ? readdirSync(at('dist', 'man')).sort() : [];
  if (manuals.length > 0) cpSync(at('dist', 'man'), join(root, 'man'), { recursive: true });
  writeFileSync(join(root, 'package.json'), `${JSON.stringify(manifest(manuals), null, 2)}\n`);
  const name = `pastiche-${version}.tgz`;
  const owner = ['--owner=0', '--group=0', '--numeric-owner', '--mode=u+rwX,go+rX,go-w'];
  const tar = join(scratch, 'npm', 'package.tar');
  run('tar', [
    '--sort=name',
    `--mtime=@${date}`,
    ...owner,
    '--format=ustar',
    '-cf',
    tar,
    '-C',
    dirname(root),
    'package',
  ]);
  run('gzip', ['-9n', tar]);
  copyFileSync(`${tar}.gz`, join(output, name));
  return name;
};
