// SPDX-License-Identifier: Apache-2.0
/** Copies what was built to where it is run from: dist/bin/pasta with its other names, dist/bin/qrap, dist/pastiche.node. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { at } from './paths.mjs';

const OUTPUTS = [
  { from: at('helper', 'build', 'Release', 'pasta'), to: at('dist', 'bin', 'pasta'), mode: 0o755 },
  { from: at('helper', 'build', 'Release', 'qrap'), to: at('dist', 'bin', 'qrap'), mode: 0o755 },
  { from: at('helper', 'build', 'Release', 'pastiche.node'), to: at('dist', 'pastiche.node'), mode: 0o644 },
];

/** A new file takes the old one's name: a running program or a mapped addon keeps the old inode. */
const replace = (from, to, mode) => {
  if (existsSync(to) && readFileSync(to).equals(readFileSync(from))) return;
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, `${to}.new`);
  chmodSync(`${to}.new`, mode);
  renameSync(`${to}.new`, to);
};

const link = (target, path) => {
  const present = lstatSync(path, { throwIfNoEntry: false });
  if (present?.isSymbolicLink() && readlinkSync(path) === target) return;
  rmSync(path, { force: true });
  symlinkSync(target, path);
};

export const installOutputs = () => {
  const missing = [];
  for (const { from, to, mode } of OUTPUTS) {
    if (existsSync(from)) replace(from, to, mode);
    else missing.push(from.slice(at().length + 1));
  }
  if (existsSync(at('dist', 'bin', 'pasta')))
    for (const name of ['passt', 'pastiche', 'pesto', 'slirp4netns', 'pastiche-cni', 'pastiche-netavark'])
      link('pasta', at('dist', 'bin', name));
  return missing.length === 0
    ? undefined
    : { skipped: `${missing.join(' and ')} ${missing.length > 1 ? 'are' : 'is'} not built` };
};
