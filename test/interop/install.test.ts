// SPDX-License-Identifier: Apache-2.0
/** `npm run install-files` and `uninstall-files`: where things go, that they run from there, and that nothing else is touched. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PROGRAMS, readOnlyCheckout, snapshot } from '../support/installed.ts';
import { isRoot, type Lab, makeLab, NET } from '../support/lab.mjs';
import { hasExited, type Started, status, waitFor } from '../support/process.mjs';
import { ECHO_PORT, echoServer } from '../support/programs.ts';

let lab: Lab;
let echo: Started;
let checkout: string;
/** The ordinary user's home, seen from outside the lab, too. */
let home: string;
beforeAll(async () => {
  lab = await makeLab();
  echo = await echoServer(lab);
  checkout = readOnlyCheckout(join(lab.dir, 'checkout'));
  home = join(lab.dir, 'home');
  mkdirSync(home);
  chmodSync(home, 0o777);
});
afterAll(async () => {
  echo?.kill('SIGTERM');
  await lab?.cleanup();
});

/** As the ordinary user. */
const install = (...args: string[]) =>
  lab.user.attempt([process.execPath, join(checkout, 'scripts', 'install-files.mjs'), ...args], { timeoutMs: 30_000 });
const BARE = ['env', 'PATH=/nonexistent'];
const ECHO = `exec 3<>/dev/tcp/${NET.server4}/${ECHO_PORT}; echo through >&3; /usr/bin/head -n 1 <&3`;

describe("in an ordinary user's home", () => {
  let prefix: string;
  beforeAll(async () => {
    prefix = join(home, '.local');
    mkdirSync(join(prefix, 'share', 'man'), { recursive: true });
    for (const path of [prefix, join(prefix, 'share'), join(prefix, 'share', 'man')]) chmodSync(path, 0o777);
    writeFileSync(join(prefix, 'share', 'other'), "another package's");
    expect(await install(`PREFIX=${prefix}`)).toMatchObject({ status: 0, stderr: '' });
  });
  const at = (name: string) => join(prefix, 'libexec', 'pastiche', name);

  it.each(PROGRAMS)('$path $args runs, with nothing on PATH', async ({ path, args, env, input, says }) => {
    const options = { ...(env && { env }), ...(input !== undefined && { input }) };
    const done = await lab.user.attempt([...BARE, at(path), ...args], options);
    expect(done).toMatchObject({ status: 0, stdout: expect.stringMatching(says), stderr: '' });
  });

  it('pasta, and pastiche on PATH, carry traffic of a command; Node need not be on PATH', async () => {
    for (const program of [at('pasta'), join(prefix, 'bin', 'pastiche')]) {
      const done = await lab.user.attempt([...BARE, program, '--config-net', '-q', '--', '/bin/bash', '-c', ECHO]);
      expect(done).toMatchObject({ status: 0, stdout: 'through\n', stderr: '' });
    }
  });

  it('passt listens and ends', async () => {
    const [socket, pidFile] = ['/run/scratch/vm.socket', '/run/scratch/vm.pid'];
    expect(await lab.user.attempt([at('passt'), '-s', socket, '-P', pidFile])).toMatchObject({ status: 0 });
    await lab.user.run(['test', '-S', socket]);
    await lab.user.run(['sh', '-c', `kill "$(cat ${pidFile})"`]);
    await waitFor(async () => (await lab.user.attempt(['test', '-e', socket])).status === 1, { what: 'passt to end' });
  });

  it("V8 takes the code cache, which is this Node's", async () => {
    const lib = join(prefix, 'lib', 'pastiche');
    expect(readlinkSync(join(lib, 'node'))).toBe(process.execPath);
    const probe = `const { readFileSync } = require('fs'); const { wrap } = require('module');
      const script = new (require('vm').Script)(wrap(readFileSync('${lib}/controller.bundle.cjs', 'latin1')),
        { filename: '${lib}/controller.bundle.cjs', cachedData: readFileSync('${lib}/controller.cache').subarray(0, -4) });
      console.log(script.cachedDataRejected);`;
    expect(await lab.user.run([process.execPath, '-e', probe])).toBe('false\n');
  });

  /** V8 never writes the same cache twice, and so the list of digests differs. */
  const comparable = (all: Record<string, string>) => ({
    ...all,
    [join(prefix, 'lib', 'pastiche', 'controller.cache')]: '',
    [join(prefix, 'lib', 'pastiche', 'manifest.json')]: '',
  });

  it('changes nothing when it is done again, and takes away what is no longer part of it', async () => {
    const before = snapshot(prefix);
    expect((await install(`PREFIX=${prefix}`)).status).toBe(0);
    expect(comparable(snapshot(prefix))).toEqual(comparable(before));

    const extra = join(checkout, 'docs', 'EXTRA.md');
    chmodSync(join(checkout, 'docs'), 0o755);
    writeFileSync(extra, 'of another version\n');
    expect((await install(`PREFIX=${prefix}`)).status).toBe(0);
    const installed = join(prefix, 'share', 'doc', 'pastiche', 'docs', 'EXTRA.md');
    expect(existsSync(installed)).toBe(true);
    rmSync(extra);
    expect((await install(`PREFIX=${prefix}`)).status).toBe(0);
    expect(existsSync(installed)).toBe(false);
    expect(comparable(snapshot(prefix))).toEqual(comparable(before));
  });

  it('leaves everything as it was when it fails half-way, in each of its two passes', async () => {
    const before = snapshot(prefix);
    const docs = join(prefix, 'share', 'doc', 'pastiche', 'docs');
    // No name is left for the new file: others have been written by then. (A mode would not stop the lab's user 0.)
    const beside = join(docs, 'VM.md.pastiche-new');
    mkdirSync(join(beside, 'full'), { recursive: true });
    expect(await install(`PREFIX=${prefix}`)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^install: .*VM\.md\.pastiche-new/),
    });
    rmSync(beside, { recursive: true });
    expect(snapshot(prefix)).toEqual(before);
    // Nor for the old one: half of the names have changed hands by then.
    const kept = join(docs, 'VM.md.pastiche-old');
    mkdirSync(join(kept, 'full'), { recursive: true });
    expect(await install(`PREFIX=${prefix}`)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^install: .*VM\.md\.pastiche-old/),
    });
    rmSync(kept, { recursive: true });
    expect(snapshot(prefix)).toEqual(before);
  });

  it('does not replace what was changed since', async () => {
    const readme = join(prefix, 'share', 'doc', 'pastiche', 'README.md');
    const original = readFileSync(readme);
    await lab.user.run(['sh', '-c', `echo edited >${readme}`]);
    expect(await install(`PREFIX=${prefix}`)).toMatchObject({
      status: 1,
      stderr: `install: changed since they were installed: ${readme}; --force replaces them\n`,
    });
    expect(readFileSync(readme, 'utf8')).toBe('edited\n');
    expect((await install(`PREFIX=${prefix}`, '--force')).status).toBe(0);
    expect(readFileSync(readme)).toEqual(original);
  });

  it('goes without a trace, but for what was changed and what others have there', async () => {
    const readme = join(prefix, 'share', 'doc', 'pastiche', 'README.md');
    await lab.user.run(['sh', '-c', `echo edited >${readme}`]);
    expect(await install(`PREFIX=${prefix}`, '--uninstall')).toMatchObject({
      status: 0,
      stdout: `uninstall: ${readme} stays: it was changed since it was installed\n`,
    });
    expect(Object.keys(snapshot(prefix)).sort()).toEqual(
      [
        join(prefix, 'share'),
        join(prefix, 'share', 'doc'),
        join(prefix, 'share', 'doc', 'pastiche'),
        readme,
        join(prefix, 'share', 'man'),
        join(prefix, 'share', 'other'),
      ].sort(),
    );
    expect(await install(`PREFIX=${prefix}`, '--uninstall')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('nothing is installed'),
    });
  });
});

describe('elsewhere', () => {
  it('stays away from files that are not its own, unless it is told to replace them', async () => {
    const prefix = join(home, 'foreign');
    mkdirSync(join(prefix, 'bin'), { recursive: true });
    for (const path of [prefix, join(prefix, 'bin')]) chmodSync(path, 0o777);
    writeFileSync(join(prefix, 'bin', 'pastiche'), 'mine');
    const before = snapshot(prefix);
    expect(await install(`PREFIX=${prefix}`)).toMatchObject({
      status: 1,
      stderr: `install: not of an earlier installation: ${prefix}/bin/pastiche; --force replaces them\n`,
    });
    expect(snapshot(prefix)).toEqual(before);
    expect((await install(`PREFIX=${prefix}`, '--force')).status).toBe(0);
    expect((await install(`PREFIX=${prefix}`, '--uninstall')).status).toBe(0);
    expect(snapshot(prefix)).toEqual({ [join(prefix, 'bin')]: 'directory 777' });
  });

  it('a stage can be moved: links are relative, and files name the place they are for', async () => {
    const stage = join(home, 'stage');
    expect((await install(`DESTDIR=${stage}`, 'PREFIX=/usr', 'UNITDIR=/etc/units')).status).toBe(0);
    const moved = join(home, 'moved');
    renameSync(stage, moved);
    const paths = Object.keys(snapshot(moved));
    for (const path of paths) expect(() => statSync(path), path).not.toThrow();
    const files = paths.filter((path) => path !== join(moved, 'usr/lib/pastiche/node') && statSync(path).isFile());
    expect(files.filter((path) => readFileSync(path, 'latin1').includes(stage))).toEqual([]);
    const profile = readFileSync(join(moved, 'etc/apparmor.d/pastiche'), 'utf8');
    expect(profile).toContain('profile pastiche /usr/lib/pastiche/bin/pasta ');
    expect(files.filter((path) => !path.includes('/doc/') && /@[A-Z]+DIR@/.test(readFileSync(path, 'latin1')))).toEqual(
      [],
    );
    // Pages of names that other packages have are where man(1) looks for whom these names are on PATH.
    for (const page of ['share/man/man1/pastiche.1', 'libexec/pastiche/man/man1/pasta.1']) {
      expect(files).toContain(join(moved, 'usr', page));
    }
    for (const completion of [
      'bash-completion/completions/pasta',
      'zsh/site-functions/_pasta',
      'fish/vendor_completions.d/pasta.fish',
    ]) {
      expect(files).toContain(join(moved, 'usr/share', completion));
    }
    const templates = join(checkout, 'systemd', 'system');
    const units = existsSync(templates) ? readdirSync(templates) : [];
    expect(files).toEqual(expect.arrayContaining(units.map((unit) => join(moved, 'etc/units', unit))));
    const list = JSON.parse(readFileSync(join(moved, 'usr/lib/pastiche/manifest.json'), 'utf8'));
    expect(Object.keys(list.files)).toContain('/usr/bin/pastiche');
    expect((await install(`DESTDIR=${moved}`, 'PREFIX=/usr', '--uninstall')).status).toBe(0);
    expect(existsSync(moved) ? snapshot(moved) : {}).toEqual({});
  });

  it.each([
    [['PREFIX=relative'], /^install: PREFIX must be an absolute path: relative$/],
    [['DESTDIR=here', 'PREFIX=/usr'], /^install: DESTDIR must be an absolute path: here$/],
    [['PREFFIX=/usr'], /^install: unknown argument PREFFIX=\/usr; known are /],
  ])('%j is refused', async (args, says) => {
    const done = await install(...args);
    expect(done.status).toBe(1);
    expect(done.stderr.trim()).toMatch(says);
  });
});

describe.skipIf(!isRoot)('ports below 1024 for an ordinary user (setcap needs root: skipped without)', () => {
  let program: string;
  let slirp4netns: string;
  beforeAll(async () => {
    const prefix = join(lab.dir, 'system');
    const done = await lab.host.attempt([
      process.execPath,
      join(checkout, 'scripts', 'install-files.mjs'),
      `PREFIX=${prefix}`,
    ]);
    expect(done).toMatchObject({ status: 0 });
    program = join(prefix, 'lib', 'pastiche', 'bin', 'pasta');
    slirp4netns = join(prefix, 'libexec', 'pastiche', 'slirp4netns');
  });
  const setcap = (text: string) => lab.host.run(text === '' ? ['setcap', '-r', program] : ['setcap', text, program]);
  const LOW = 81;
  const serving = (args: readonly string[] = []) =>
    [program, '--config-net', '-q', '-t', `${LOW}`, '-u', 'none', '-T', 'none', '-U', 'none', ...args].concat(
      '--',
      process.execPath,
      join(checkout, '..', 'serve.cjs'),
    );
  beforeAll(() => {
    // Answers one connection, then ends.
    const server = `const server = require('net').createServer((socket) => { socket.end('low'); server.close(); });
      server.listen(${LOW}, () => console.log('listening'));`;
    writeFileSync(join(checkout, '..', 'serve.cjs'), server);
  });
  const fetchLow = () =>
    lab.remote.run(['bash', '-c', `exec 3<>/dev/tcp/${NET.host4}/${LOW}; cat <&3`], { timeoutMs: 10_000 });

  it('without anything: refused, and nothing is left', async () => {
    expect(await lab.user.attempt(serving())).toMatchObject({
      status: 1,
      stderr: `Couldn't listen on requested ports: TCP port ${LOW}: permission denied\n`,
    });
  });

  it.each([
    ['cap_net_bind_service=p', [], 0],
    ['cap_net_bind_service=ep', [], 0],
    // Other ports may follow.
    ['cap_net_bind_service=p', ['--control', '/run/scratch/low.control'], 1 << 10],
  ])('setcap %s, pasta %j: the port is served; capabilities held then: %j', async (text, args, mask) => {
    await setcap(text);
    const tool = lab.user.spawn(serving(args));
    await waitFor(() => tool.out().includes('listening') || hasExited(tool), { what: 'the server' });
    expect(tool.err()).toBe('');
    const { CapPrm, CapEff } = status(tool.pid());
    expect([CapPrm, CapEff].map((hex) => Number.parseInt(hex ?? '', 16))).toEqual([mask, mask]);
    expect(await fetchLow()).toBe('low');
    await tool.closed;
    expect(tool.child.exitCode).toBe(0);
  });

  it('a capability that is permitted only does no harm where none may be had; an effective one keeps it from starting', async () => {
    // As a systemd unit with CapabilityBoundingSet= and a container without capabilities have it.
    const bound = (argv: readonly string[]) => ['setpriv', '--bounding-set=-net_bind_service', ...lab.asUser, ...argv];
    const run = [program, '--config-net', '-q', '-t', 'none', '--', 'echo', 'started'];
    await setcap('cap_net_bind_service=p');
    expect(await lab.host.attempt(bound(run))).toMatchObject({ status: 0, stdout: 'started\n' });
    await setcap('cap_net_bind_service=ep');
    expect((await lab.host.attempt(bound(run))).status).not.toBe(0);
  });

  it('namespaces of other processes are joined as ever', async () => {
    await setcap('cap_net_bind_service=p');
    const target = lab.user.spawn(['unshare', '-r', '-n', 'sh', '-c', 'echo $$; exec cat'], { stdin: 'pipe' });
    await waitFor(() => target.out() !== '', { what: 'the namespace' });
    const pid = target.out().trim();
    const pidFile = '/run/scratch/joined.pid';
    const done = await lab.user.attempt([program, '--config-net', '-q', '-t', `${LOW}`, '-P', pidFile, pid]);
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(await lab.into(pid).run(['bash', '-c', ECHO])).toBe('through\n');
    await lab.user.run(['sh', '-c', `kill "$(cat ${pidFile})"`]);
    // The next one wants the same port.
    await waitFor(async () => (await lab.user.attempt(['test', '-e', pidFile])).status === 1, { what: 'its end' });
    target.child.stdin?.end();
    await target.closed;
  });

  // The sandbox of a user is in a user namespace, which has no power over the host's ports.
  it.each([
    [[], { return: { id: 1 } }],
    [['--enable-sandbox'], { error: { desc: 'bad request: add_hostfwd: slirp_add_hostfwd failed' } }],
  ])('slirp4netns %j: a low port is asked for through its API', async (sandbox, expected) => {
    await setcap('cap_net_bind_service=p');
    const target = lab.user.spawn(['unshare', '-r', '-n', 'sh', '-c', 'echo $$; exec cat'], { stdin: 'pipe' });
    await waitFor(() => target.out() !== '', { what: 'the namespace' });
    const pid = target.out().trim();
    const api = '/run/scratch/low-api.sock';
    const ready = ['sh', '-c', 'exec "$@" 4>&1', 'sh'];
    const tool = lab.user.spawn([...ready, slirp4netns, '-c', ...sandbox, '-r', '4', '-a', api, pid, 'tap0']);
    await waitFor(() => /1$/.test(tool.out()) || hasExited(tool), { what: 'slirp4netns' });
    expect(hasExited(tool), tool.err()).toBe(false);
    const server = lab.into(pid).spawn([process.execPath, join(checkout, '..', 'serve.cjs')]);
    await waitFor(() => server.out().includes('listening') || hasExited(server), { what: 'the server' });
    const request = { execute: 'add_hostfwd', arguments: { proto: 'tcp', host_port: LOW, guest_port: LOW } };
    const ask = `const socket = require('net').connect('${api}', () => socket.end(process.argv[1])); socket.pipe(process.stdout);`;
    const answer = await lab.user.run([process.execPath, '-e', ask, JSON.stringify(request)]);
    expect(JSON.parse(answer)).toEqual(expected);
    if ('return' in expected) expect(await fetchLow()).toBe('low');
    tool.kill('SIGTERM');
    server.kill('SIGTERM');
    target.child.stdin?.end();
    await Promise.all([tool.closed, target.closed, server.closed]);
  });

  it('the caller does not choose the Node that runs beside the capability', async () => {
    await setcap('cap_net_bind_service=p');
    const fake = join(home, 'node');
    writeFileSync(fake, '#!/bin/sh\necho chosen by the caller >&2\n');
    chmodSync(fake, 0o755);
    const argv = [program, '--config-net', '-q', '-t', 'none', '--', '/bin/echo', 'started'];
    const chosen = ['env', `PASTICHE_NODE=${fake}`, `PATH=${home}`, ...argv];
    expect(await lab.user.attempt(chosen)).toMatchObject({ status: 0, stdout: 'started\n', stderr: '' });
    // Without the capability there is nothing to guard, and it is the caller's to choose.
    await setcap('');
    expect(await lab.user.attempt(chosen)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('chosen by the caller'),
    });
  });

  it('set-user-ID is refused', async () => {
    chmodSync(program, 0o4755);
    const done = await lab.user.attempt([program, '--config-net', '-q', '--', 'true']);
    chmodSync(program, 0o755);
    expect(done).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^This program must not be set-user-ID or set-group-ID/),
    });
  });

  it('net.ipv4.ip_unprivileged_port_start is the other way', async () => {
    const file = '/proc/sys/net/ipv4/ip_unprivileged_port_start';
    const before = (await lab.host.run(['cat', file])).trim();
    await lab.host.run(['sh', '-c', `echo ${LOW} >${file}`]);
    try {
      const tool = lab.user.spawn(serving());
      await waitFor(() => tool.out().includes('listening') || hasExited(tool), { what: 'the server' });
      expect(await fetchLow()).toBe('low');
      await tool.closed;
    } finally {
      await lab.host.run(['sh', '-c', `echo ${before} >${file}`]);
    }
  });
});
