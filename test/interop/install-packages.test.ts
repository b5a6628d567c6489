// SPDX-License-Identifier: Apache-2.0
/** `npm run package`: the same bytes each time, and packages that install, run, and go again in a root directory where nothing else is. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { debianTree, TREES } from '../../scripts/lib/debian-tree.mjs';
import { PROGRAMS, treeSide } from '../support/installed.ts';
import { isRoot, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { type Finished, finish, hasExited, type Started, start, waitFor } from '../support/process.mjs';
import { ECHO_PORT, echoServer } from '../support/programs.ts';

const { version } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8'));
const PACKAGE = join(REPOSITORY, 'scripts', 'package.mjs');
const LIB = '/usr/lib/pastiche';
const LIBEXEC = '/usr/libexec/pastiche';
const USER = ['setpriv', '--reuid=1000', '--regid=1000', '--clear-groups', '--inh-caps=-all', '--'];
const ECHO = ['bash', '-c', `exec 3<>/dev/tcp/${NET.server4}/${ECHO_PORT}; echo through >&3; head -n 1 <&3`];

let lab: Lab;
let echo: Started;
let packages: string;
let names: string[];
/** They take seconds, which others wait. */
let lintian: Promise<Finished>;
let again: Promise<Finished>;
beforeAll(async () => {
  lab = await makeLab();
  echo = await echoServer(lab);
  packages = join(lab.dir, 'packages');
  execFileSync(process.execPath, [PACKAGE, `--output=${packages}`]);
  chmodSync(packages, 0o755);
  names = readdirSync(packages).sort();
  const elsewhere = join(lab.dir, 'a longer name for temporary files');
  mkdirSync(elsewhere);
  const script = [
    'sh',
    '-c',
    'umask 077; exec "$0" "$@"',
    process.execPath,
    PACKAGE,
    `--output=${join(lab.dir, 'again')}`,
  ];
  const env = { ...(process.env as Record<string, string>), TMPDIR: elsewhere, TZ: 'Pacific/Auckland', LC_ALL: 'C' };
  again = finish(start(script, { env }), {});
  lintian = lab.user.attempt(['lintian', '--fail-on=error,warning', join(packages, named('.deb'))]);
});
afterAll(async () => {
  echo?.kill('SIGTERM');
  await lab?.cleanup();
});
const named = (end: string): string => names.find((name) => name.endsWith(end)) ?? '';

it('the descriptions of .deb and .rpm have every name that stands in for another program', async () => {
  const texts = [
    await lab.user.run(['dpkg-deb', '--field', join(packages, named('.deb')), 'Description']),
    await lab.user.run(['rpm', '-qp', '--queryformat', '%{DESCRIPTION}', join(packages, named('.rpm'))]),
  ];
  const standIns = new Set(PROGRAMS.map(({ path }) => path).filter((path) => /^(?!pastiche$)[a-z0-9]+$/.test(path)));
  expect([...standIns]).toContain('pesto');
  for (const text of texts) for (const name of standIns) expect(text).toMatch(new RegExp(`\\b${name}\\b`));
});

describe('npm', () => {
  let directory: string;
  let bin: string;
  beforeAll(async () => {
    directory = join(lab.dir, 'project');
    bin = join(directory, 'node_modules', '.bin');
    mkdirSync(directory);
    chmodSync(directory, 0o777);
    writeFileSync(join(directory, 'package.json'), '{}');
    chmodSync(join(directory, 'package.json'), 0o666);
    const install = ['npm', 'install', '--ignore-scripts', '--offline', '--no-audit', '--no-fund'];
    await lab.user.run([...install, '--prefix', directory, join(packages, named('.tgz'))], { env: NPM });
  });
  const NPM = { HOME: '/run/scratch', npm_config_cache: '/run/scratch/npm' };

  it.each(PROGRAMS)('$path $args runs from node_modules/.bin', async ({ path, args, env, input, says }) => {
    const options = { ...(env && { env }), ...(input !== undefined && { input }) };
    const done = await lab.user.attempt([join(bin, basename(path)), ...args], options);
    expect(done).toMatchObject({ status: 0, stdout: expect.stringMatching(says), stderr: '' });
  });
  it('pasta carries traffic, and npx finds it', async () => {
    expect(await lab.user.run([join(bin, 'pasta'), '--config-net', '-q', '--', ...ECHO])).toBe('through\n');
    const npx = ['npx', '--offline', '--prefix', directory, 'pastiche', '--version'];
    expect(await lab.user.run(npx, { env: NPM })).toMatch(new RegExp(`^pasta ${version.replaceAll('.', '\\.')} `));
  });
});

describe.skipIf(!isRoot)('in a root directory of Debian (made by root: skipped without)', () => {
  let tree: string;
  beforeAll(() => {
    tree = debianTree(TREES.plain);
  });
  const side = (): Promise<Side> =>
    treeSide(lab, tree, { '/packages': packages, '/checkout': dirname(dirname(PACKAGE)) });
  /** Whatever is there by our name, but for dpkg's own notes. */
  const left = async (place: Side): Promise<string> =>
    place.run([
      'sh',
      '-c',
      "find / -xdev -path /packages -prune -o -iname '*pastiche*' ! -path '/var/lib/dpkg/*' -print",
    ]);

  const runsThere = async (place: Side) => {
    for (const { path, args, env, input, says } of PROGRAMS) {
      const options = { ...(env && { env }), ...(input !== undefined && { input }) };
      const done = await place.within(USER).attempt([`${LIBEXEC}/${path}`, ...args], options);
      expect({ path, ...done }).toMatchObject({ status: 0, stdout: expect.stringMatching(says), stderr: '' });
    }
    const argv = [`${LIBEXEC}/pasta`, '--config-net', '-q', '-t', 'none', '-u', 'none', '--', ...ECHO];
    expect(await place.run(argv)).toBe('through\n');
    expect(await place.within(USER).run(argv)).toBe('through\n');
    expect(await place.within(USER).run(['pastiche', ...argv.slice(1)])).toBe('through\n');
  };
  /** V8 of that Node takes the code cache that the package's script has made. */
  const cacheIsTaken = async (place: Side) => {
    const probe = `const { readFileSync } = require('fs'); const { wrap } = require('module');
      const script = new (require('vm').Script)(wrap(readFileSync('${LIB}/controller.bundle.cjs', 'latin1')),
        { filename: '${LIB}/controller.bundle.cjs', cachedData: readFileSync('${LIB}/controller.cache').subarray(0, -4) });
      console.log(script.cachedDataRejected);`;
    expect(await place.run(['node', '-e', probe])).toBe('false\n');
  };

  it('the .deb: installs by apt alone, runs for root and a user, survives an upgrade, and leaves nothing', async () => {
    const place = await side();
    const apt = { env: { DEBIAN_FRONTEND: 'noninteractive' } };
    await place.run(['apt-get', 'install', '-y', `/packages/${named('.deb')}`], apt);
    await runsThere(place);
    await cacheIsTaken(place);
    expect(await place.run(['dpkg', '--verify', 'pastiche'])).toBe('');

    // The profile is one for that AppArmor; this kernel need not have any.
    const parser = await place.attempt(['apparmor_parser', '-Q', '-K', '/etc/apparmor.d/pastiche']);
    expect(parser.stderr).not.toContain('error');
    expect(parser.status).toBe(0);
    expect((await place.attempt(['test', '-e', '/etc/apparmor.d/disable/pastiche'])).status).toBe(1);

    // A newer version arrives while an instance runs, which goes on.
    const running = place
      .within(USER)
      .spawn([`${LIBEXEC}/pasta`, '--config-net', '-q', '-t', 'none', '--', 'bash', '-c', `echo up; cat; ${ECHO[2]}`], {
        stdin: 'pipe',
      });
    await waitFor(() => running.out().includes('up') || hasExited(running), { what: 'an instance' });
    const newer = `dpkg-deb -R /packages/${named('.deb')} /tmp/new && sed -i 's/^Version: .*/Version: 99/' /tmp/new/DEBIAN/control &&
      rm /tmp/new/usr/share/doc/pastiche/README.md && dpkg-deb -b /tmp/new /tmp/new.deb && rm ${LIB}/controller.cache && dpkg -i /tmp/new.deb`;
    await place.run(['sh', '-c', newer], apt);
    expect((await place.attempt(['test', '-e', '/usr/share/doc/pastiche/README.md'])).status).toBe(1);
    await cacheIsTaken(place);
    running.child.stdin?.end();
    await running.closed;
    expect([running.child.exitCode, running.out(), running.err()]).toEqual([0, 'up\nthrough\n', '']);

    // Another Node: the cache is made again.
    await place.run([
      'sh',
      '-c',
      `echo stale >${LIB}/controller.cache; dpkg-trigger --no-await /usr/bin/node && dpkg --configure --pending`,
    ]);
    await cacheIsTaken(place);

    await place.run(['apt-get', 'remove', '-y', 'pastiche'], apt);
    expect(await left(place)).toBe('/etc/apparmor.d/pastiche\n');
    await place.run(['dpkg', '--purge', 'pastiche'], apt);
    expect(await left(place)).toBe('');
    expect(await place.run(['sh', '-c', 'dpkg -l pastiche 2>/dev/null || true'])).toBe('');
  });

  it('the .rpm: installs, runs, and leaves nothing', async () => {
    const place = await side();
    // Debian's packages are not in the database of rpm.
    await place.run(['rpm', '--install', '--nodeps', `/packages/${named('.rpm')}`]);
    await runsThere(place);
    await cacheIsTaken(place);
    expect(await place.run(['rpm', '--verify', '--nodeps', 'pastiche'])).toBe('');
    await place.run(['rpm', '--upgrade', '--force', '--nodeps', `/packages/${named('.rpm')}`]);
    await cacheIsTaken(place);
    await place.run(['rpm', '--erase', 'pastiche']);
    expect(await left(place)).toBe('');
  });

  it("what was installed with this machine's Node runs with that one", async () => {
    const prefix = join(lab.dir, 'system');
    await lab.host.run([process.execPath, join(REPOSITORY, 'scripts', 'install-files.mjs'), `PREFIX=${prefix}`]);
    // The link to this machine's Node may lead nowhere there.
    const place = await treeSide(lab, tree, { '/opt/pastiche': prefix });
    const argv = ['/opt/pastiche/libexec/pastiche/pasta', '--config-net', '-q', '-t', 'none', '--', ...ECHO];
    expect(await place.within(USER).run(argv)).toBe('through\n');
    rmSync(prefix, { recursive: true });
  });
});

it('lintian has nothing to say but what is overridden by name', async () => {
  expect(await lintian).toMatchObject({ status: 0, stdout: '' });
});

it('makes three packages, with the same bytes wherever and with whatever umask they are made', async () => {
  expect(names).toEqual([
    expect.stringMatching(`^pastiche-${version}-1\\.[a-z0-9_]+\\.rpm$`),
    `pastiche-${version}.tgz`,
    expect.stringMatching(`^pastiche_${version}_[a-z0-9]+\\.deb$`),
  ]);
  expect(await again).toMatchObject({ status: 0, stderr: '' });
  for (const name of names)
    expect(readFileSync(join(lab.dir, 'again', name)).equals(readFileSync(join(packages, name))), name).toBe(true);
});
