// SPDX-License-Identifier: Apache-2.0
/**
 * Installs what was built, or takes it away again.
 *
 *   npm run install-files [-- [NAME=VALUE…] [--force] [--no-list]]
 *   npm run uninstall-files [-- [NAME=VALUE…] [--force]]
 *
 * NAME is PREFIX (/usr/local), DESTDIR (none), BINDIR, LIBDIR, LIBEXECDIR, DATADIR, ZSHDIR, MANDIR, DOCDIR, SYSCONFDIR, UNITDIR, USERUNITDIR,
 * SYSUSERSDIR or TMPFILESDIR; it may be in the environment instead. --force replaces files that are not ours, or were changed since.
 * --no-list is for packages, whose manager keeps a list of its own: no list, no link to this Node, no code cache of it.
 * Exit status 1, with nothing changed, when something is in the way or not built.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { apparmorProfile, apparmorTooOld, directories, entries, isForSystem, VARIABLES } from './lib/layout.mjs';
import { at } from './lib/paths.mjs';
import { manifestPath, place, takeAway } from './lib/placed.mjs';

const OPTIONS = ['--uninstall', '--force', '--no-list'];

const parse = (args) => {
  const given = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]));
  const options = new Set();
  for (const arg of args) {
    const name = arg.slice(0, Math.max(0, arg.indexOf('=')));
    if (VARIABLES.includes(name)) given[name] = arg.slice(name.length + 1);
    else if (OPTIONS.includes(arg)) options.add(arg);
    else
      throw new Error(
        `unknown argument ${arg}; known are ${OPTIONS.join(', ')} and NAME=VALUE for ${VARIABLES.join(', ')}`,
      );
  }
  return { d: directories(given), options };
};

/** V8's compiled form of the controller, by the Node that will run it: that of the build may be another one. */
const codeCache = () => {
  const scratch = mkdtempSync(join(tmpdir(), 'pastiche-install-'));
  try {
    for (const name of ['controller.cjs', 'controller.bundle.cjs', 'controller.bpf', 'pastiche.node'])
      copyFileSync(at('dist', name), join(scratch, name));
    execFileSync(process.execPath, [join(scratch, 'controller.cjs'), '--write-code-cache'], { stdio: 'ignore' });
    return readFileSync(join(scratch, 'controller.cache'));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

/** What is true of the machine that installs, and so no part of a package. */
const machine = (d) => {
  const home = join(d.LIBDIR, 'pastiche');
  return [
    { path: join(home, 'node'), target: process.execPath },
    { path: join(home, 'controller.cache'), mode: 0o644, content: codeCache },
    ...apparmorTooOld(d),
  ];
};

const install = (d, options) => {
  const listed = !options.has('--no-list');
  const plan = [...entries(d), ...(listed ? machine(d) : [])];
  place(plan, { stage: d.stage, manifest: listed ? manifestPath(d) : null, force: options.has('--force') });
  if (!listed) return;
  const dropIns = join(d.LIBEXECDIR, 'pastiche');
  console.log(`install: ${plan.length} files below ${d.stage}${d.PREFIX}`);
  console.log(
    `install: pasta, passt, qrap, pesto and slirp4netns are in ${dropIns}: put it first on PATH to use them in place of others`,
  );
  const hints = [];
  if (isForSystem(d)) hints.push('systemctl daemon-reload', 'systemd-sysusers', 'systemd-tmpfiles --create');
  if (existsSync('/sys/kernel/security/apparmor') && apparmorTooOld(d).length === 0)
    hints.push(`apparmor_parser -r ${apparmorProfile(d)}`);
  if (d.stage === '' && hints.length > 0) console.log(`install: as root, where wanted: ${hints.join('; ')}`);
};

const uninstall = (d, options) => {
  const changed = takeAway({ stage: d.stage, manifest: manifestPath(d), force: options.has('--force') });
  for (const path of changed) console.log(`uninstall: ${path} stays: it was changed since it was installed`);
};

try {
  const { d, options } = parse(process.argv.slice(2));
  (options.has('--uninstall') ? uninstall : install)(d, options);
} catch (error) {
  console.error(`install: ${error.message}`);
  process.exit(1);
}
