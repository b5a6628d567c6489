// SPDX-License-Identifier: Apache-2.0
/**
 * What an installation consists of, and where each file of it goes. Nothing that another package has is shadowed: the drop-in
 * names are in a directory of their own (LIBEXECDIR/pastiche), which is on nobody's PATH by itself.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, relative } from 'node:path';
import { at } from './paths.mjs';

/** Names of the one executable; each is a link beside it. */
export const NAMES = ['passt', 'pastiche', 'pesto', 'slirp4netns', 'pastiche-cni', 'pastiche-netavark'];
/** Those that callers look for under the name of another package. */
const DROP_INS = ['pasta', 'passt', 'pesto', 'qrap', 'slirp4netns'];
/** Prefixes in which the system itself looks for units and profiles. */
const SYSTEM_PREFIXES = ['/usr', '/usr/local'];

/** Each with what it is when it is not given, which may depend on those before it. */
const DIRECTORIES = {
  PREFIX: () => '/usr/local',
  BINDIR: (d) => join(d.PREFIX, 'bin'),
  LIBDIR: (d) => join(d.PREFIX, 'lib'),
  LIBEXECDIR: (d) => join(d.PREFIX, 'libexec'),
  DATADIR: (d) => join(d.PREFIX, 'share'),
  // Debian's packages have theirs in zsh/vendor-completions.
  ZSHDIR: (d) => join(d.DATADIR, 'zsh', 'site-functions'),
  MANDIR: (d) => join(d.DATADIR, 'man'),
  DOCDIR: (d) => join(d.DATADIR, 'doc', 'pastiche'),
  SYSCONFDIR: (d) => (SYSTEM_PREFIXES.includes(d.PREFIX) ? '/etc' : join(d.PREFIX, 'etc')),
  UNITDIR: (d) => join(d.LIBDIR, 'systemd', 'system'),
  // ~/.local/share is where a user's own systemd looks.
  USERUNITDIR: (d) => join(SYSTEM_PREFIXES.includes(d.PREFIX) ? d.LIBDIR : d.DATADIR, 'systemd', 'user'),
  SYSUSERSDIR: (d) => join(d.LIBDIR, 'sysusers.d'),
  TMPFILESDIR: (d) => join(d.LIBDIR, 'tmpfiles.d'),
};
export const VARIABLES = ['DESTDIR', ...Object.keys(DIRECTORIES)];

/** The directories, from NAME=VALUE pairs. Throws an Error whose message is for the user. */
export const directories = (given) => {
  const found = {};
  for (const [name, fallback] of Object.entries(DIRECTORIES)) {
    const path = given[name] || fallback(found);
    if (!isAbsolute(path)) throw new Error(`${name} must be an absolute path: ${path}`);
    found[name] = join(path);
  }
  const stage = given['DESTDIR'] || '';
  if (stage !== '' && !isAbsolute(stage)) throw new Error(`DESTDIR must be an absolute path: ${stage}`);
  return { ...found, stage: stage === '' ? '' : join(stage) };
};

const list = (directory) => (existsSync(directory) ? readdirSync(directory, { withFileTypes: true }) : []);
/** Files below a directory, as paths relative to it, in a fixed order. */
const below = (directory, prefix = '') =>
  list(join(directory, prefix))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(prefix, entry.name);
      return entry.isDirectory() ? below(directory, path) : [path];
    });

const file = (path, from, mode = 0o644) => ({ path, mode, content: () => readFileSync(from) });
const link = (path, target) => ({ path, target });
/** A link from one installed path to another that works wherever both are moved together. */
const linkTo = (path, installed) => link(path, relative(dirname(path), installed));

/** Unit files name programs of this installation by placeholders. */
const filled = (path, from, d) => ({
  path,
  mode: 0o644,
  content: () => {
    const places = {
      '@BINDIR@': d.BINDIR,
      '@LIBEXECDIR@': join(d.LIBEXECDIR, 'pastiche'),
      '@LIBDIR@': join(d.LIBDIR, 'pastiche'),
    };
    const text = readFileSync(from, 'utf8').replaceAll(/@[A-Z]+DIR@/g, (place) => {
      if (places[place] === undefined) throw new Error(`${from}: unknown placeholder ${place}`);
      return places[place];
    });
    return Buffer.from(text);
  },
});

/** What a build made that runs, below dist/; the code cache is made where it is installed. */
export const BUILT = [
  'bin/pasta',
  'bin/qrap',
  'client.cjs',
  'controller.bpf',
  'controller.bundle.cjs',
  'controller.cjs',
  'pastiche.node',
];

const program = (d) => {
  const home = join(d.LIBDIR, 'pastiche');
  return [
    ...BUILT.map((name) => file(join(home, name), at('dist', name), name.startsWith('bin/') ? 0o755 : 0o644)),
    // Not what an older build left there.
    ...below(at('dist', 'seccomp'))
      .filter((name) => /\.(txt|pfc|oci\.json)$/.test(name))
      .map((name) => file(join(home, 'seccomp', name), at('dist', 'seccomp', name))),
    ...NAMES.map((name) => link(join(home, 'bin', name), 'pasta')),
    linkTo(join(d.BINDIR, 'pastiche'), join(home, 'bin', 'pastiche')),
    ...DROP_INS.map((name) => linkTo(join(d.LIBEXECDIR, 'pastiche', name), join(home, 'bin', name))),
    linkTo(join(d.LIBEXECDIR, 'pastiche', 'pastiche'), join(home, 'bin', 'pastiche')),
    linkTo(join(d.LIBEXECDIR, 'pastiche', 'cni', 'pastiche-cni'), join(home, 'bin', 'pastiche-cni')),
    linkTo(join(d.LIBEXECDIR, 'pastiche', 'netavark', 'pastiche-netavark'), join(home, 'bin', 'pastiche-netavark')),
  ];
};

/** man(1) looks in DIR/man for each DIR on PATH: the pages of drop-in names are found by whom these names are for. */
const manuals = (d) =>
  below(at('dist', 'man')).map((name) => {
    const section = name.slice(name.lastIndexOf('.') + 1);
    const own = DROP_INS.some((dropIn) => name.startsWith(`${dropIn}.`))
      ? join(d.LIBEXECDIR, 'pastiche', 'man')
      : d.MANDIR;
    return file(join(own, `man${section}`, basename(name)), at('dist', 'man', name));
  });

const completions = (d) =>
  Object.entries({
    bash: join(d.DATADIR, 'bash-completion', 'completions'),
    zsh: d.ZSHDIR,
    fish: join(d.DATADIR, 'fish', 'vendor_completions.d'),
  }).flatMap(([shell, where]) =>
    below(at('dist', 'completions', shell)).map((name) =>
      file(join(where, name), at('dist', 'completions', shell, name)),
    ),
  );

/** Templates of systemd/ and what the build generates in the same form. */
const units = (d) => {
  const kinds = { system: d.UNITDIR, user: d.USERUNITDIR, 'sysusers.d': d.SYSUSERSDIR, 'tmpfiles.d': d.TMPFILESDIR };
  // Nobody but root's systemd reads the others.
  const wanted = Object.entries(kinds).filter(([kind]) => kind === 'user' || isForSystem(d));
  return [at('systemd'), at('dist', 'systemd')].flatMap((tree) =>
    wanted.flatMap(([kind, to]) =>
      below(join(tree, kind)).map((name) => filled(join(to, name), join(tree, kind, name), d)),
    ),
  );
};

export const isForSystem = (d) => SYSTEM_PREFIXES.includes(d.PREFIX);
export const apparmorProfile = (d) => join(d.SYSCONFDIR, 'apparmor.d', 'pastiche');
/** An AppArmor older than 4.0 knows no user namespaces, restricts none, and would stumble over the profile. */
export const apparmorTooOld = (d) =>
  existsSync(join(d.stage + d.SYSCONFDIR, 'apparmor.d', 'abi', '4.0'))
    ? []
    : [link(join(d.SYSCONFDIR, 'apparmor.d', 'disable', 'pastiche'), '../pastiche')];

/** Whose code is in what is installed, and where its licence lies on the machine that builds. */
const THIRD_PARTIES = [
  ...['zod', 'json-rpc-2.0', 'ipaddr.js', 'node-addon-api'].map((name) => [
    name,
    list(at('node_modules', name))
      .filter((entry) => /^licen[cs]e/i.test(entry.name))
      .map((entry) => at('node_modules', name, entry.name))[0],
  ]),
  ['jansson (linked statically)', '/usr/share/doc/libjansson-dev/copyright'],
  ['GNU C library (linked statically)', '/usr/share/doc/libc6-dev/copyright'],
];
const thirdParties = () =>
  Buffer.from(
    THIRD_PARTIES.map(([name, from]) => {
      const notice =
        from !== undefined && existsSync(from) ? readFileSync(from, 'utf8').trim() : 'See its own distribution.';
      return `${'='.repeat(76)}\n${name}\n${'='.repeat(76)}\n\n${notice}\n`;
    }).join('\n'),
  );

const texts = (d) => [
  { path: join(d.DOCDIR, 'THIRD-PARTY.txt'), mode: 0o644, content: thirdParties },
  ...['README.md', 'CHANGELOG.md'].map((name) => file(join(d.DOCDIR, name), at(name))),
  ...below(at('docs'))
    .filter((name) => name.endsWith('.md') && !name.includes('/'))
    .map((name) => file(join(d.DOCDIR, 'docs', name), at('docs', name))),
  ...below(at('LICENSES')).map((name) => file(join(d.DOCDIR, 'LICENSES', name), at('LICENSES', name))),
];

/** Every file and link of an installation. Throws when something is not built. */
export const entries = (d) => {
  const missing = BUILT.filter((name) => !existsSync(at('dist', name)));
  if (missing.length > 0) throw new Error(`dist/${missing.join(' and dist/')} are not there: run npm run build first`);
  return [
    ...program(d),
    ...manuals(d),
    ...completions(d),
    ...units(d),
    filled(apparmorProfile(d), at('scripts', 'packaging', 'apparmor.profile'), d),
    ...texts(d),
  ];
};
