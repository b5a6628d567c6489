// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goReady, Installation } from './helper-harness.ts';

let install: Installation;
beforeAll(() => {
  install = new Installation();
});
afterAll(() => install.remove());

const version = (
  JSON.parse(readFileSync(fileURLToPath(new URL('../../package.json', import.meta.url)), 'utf8')) as { version: string }
).version;

describe('what the helper answers by itself, without Node', () => {
  it.each(['-h', '--help'])('%s goes to standard output', async (option) => {
    const done = await install.run([option], { env: { PASTICHE_NODE: '/nonexistent' } });
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout).toMatch(/^Usage: pasta /);
  });

  it('--version begins with "pasta VERSION"', async () => {
    const done = await install.run(['--version'], { env: { PASTICHE_NODE: '/nonexistent' } });
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(done.stdout.split('\n')[0]).toContain(`pasta ${version}`);
  });

  it('audit prints the allowlists, as text and as JSON', async () => {
    const text = await install.run(['audit'], { program: 'bin/pastiche' });
    expect(text).toMatchObject({ status: 0, stderr: '' });
    expect(text.stdout).toMatch(/sendmsg/);
    const json = await install.run(['audit', '--json'], { program: 'bin/pastiche' });
    expect(Object.keys(JSON.parse(json.stdout) as object).length).toBeGreaterThan(0);
    expect(await install.run(['audit', '--xml'], { program: 'bin/pastiche' })).toMatchObject({ status: 1 });
  });
});

describe('refused command lines: one sentence, exit status 1', () => {
  it.each([
    [['--bogus'], /^pasta: unrecognized option '--bogus'\nUsage: pasta/],
    [['-Z'], /^pasta: invalid option -- 'Z'\nUsage: pasta/],
    [['--netns'], /^pasta: option '--netns' requires an argument\n/],
    [['--netns', 'x', '1234'], /^Both --netns and PID or command given\n$/],
    [['--netns', 'x', 'sh'], /^Both --netns and PID or command given\n$/],
    [['--userns', '/x', '--netns-only', '--netns', 'x'], /^Both --userns and --netns-only given\n$/],
    [['99999999999'], /^Invalid PID 99999999999\n$/],
    [['0'], /^Invalid PID 0\n$/],
    [['-I', 'a/b'], /^Invalid interface name: a\/b\n$/],
    [['-I', 'sixteen-letters-'], /^Invalid interface name: sixteen-letters-\n$/],
    [['--runas', 'no-such-login', '--', 'true'], /^Invalid --runas option: no-such-login\n$/],
    [
      ['-P', '/nonexistent/pid', '--', 'true'],
      /^Couldn't open PID file \/nonexistent\/pid: No such file or directory\n$/,
    ],
  ])('%j', async (args, message) => {
    const done = await install.run(args);
    expect(done).toMatchObject({ status: 1, stdout: '' });
    expect(done.stderr).toMatch(message);
  });

  it.each([
    [['4194000'], "Couldn't open user namespace /proc/4194000/ns/user: No such file or directory\n"],
    [['--netns-only', '4194000'], "Couldn't open network namespace /proc/4194000/ns/net: No such file or directory\n"],
    [['--netns', '/nonexistent/ns'], "Couldn't open network namespace /nonexistent/ns: No such file or directory\n"],
    [['--netns', 'no-such'], "Couldn't open network namespace /run/netns/no-such: No such file or directory\n"],
    [['--netns-dir', '/x', '--netns', 'y'], "Couldn't open network namespace /x/y: No such file or directory\n"],
    [['--netns', '/etc/passwd'], "Couldn't switch to pasta namespaces: /etc/passwd: Invalid argument\n"],
    [['-i', 'nosuchif', '--', 'true'], 'Invalid interface name nosuchif: No such device\n'],
  ])('%j, in the foreground and in the background', async (args, stderr) => {
    expect(await install.run(args)).toMatchObject({ status: 1, stdout: '', stderr });
    expect(await install.run(['-f', ...args])).toMatchObject({ status: 1, stdout: '', stderr });
  });

  it('a name that is none of ours', async () => {
    copyFileSync(install.path('bin/pasta'), install.path('bin/spaghetti'));
    const done = await install.run([], { program: 'bin/spaghetti' });
    expect(done).toMatchObject({
      status: 1,
      stderr: 'Called as "spaghetti": the names of this program are pasta, passt, pastiche, pesto and slirp4netns\n',
    });
  });
});

describe('finding Node and the controller', () => {
  it('says that PASTICHE_NODE is not there', async () => {
    const done = await install.run(['--', 'true'], { env: { PASTICHE_NODE: '/nonexistent/node' } });
    expect(done).toMatchObject({
      status: 1,
      stderr: "Can't run Node.js at PASTICHE_NODE=/nonexistent/node: No such file or directory\n",
    });
  });

  it('says that there is no node on PATH', async () => {
    const done = await install.run(['--', 'true'], { shell: 'unset PASTICHE_NODE; PATH=/nonexistent exec "$@"' });
    expect(done).toMatchObject({
      status: 1,
      stderr: 'Can\'t find Node.js: no "node" on PATH, and PASTICHE_NODE is not set\n',
    });
  });

  it('says that what should be Node cannot be executed', async () => {
    copyFileSync(install.path('script.json'), install.path('bin/not-executable'));
    const other = await install.run(['--', 'true'], { env: { PASTICHE_NODE: install.path('bin/not-executable') } });
    expect(other.stderr).toBe(
      `Can't run Node.js at PASTICHE_NODE=${install.path('bin/not-executable')}: Permission denied\n`,
    );
  });

  it('says that the bundle is missing', async () => {
    renameSync(install.path('controller.cjs'), install.path('moved.cjs'));
    const done = await install.run(['--', 'true']);
    renameSync(install.path('moved.cjs'), install.path('controller.cjs'));
    expect(done).toMatchObject({
      status: 1,
      stderr: `Can't read the controller ${install.path('controller.cjs')}: No such file or directory\n`,
    });
  });

  it('finds node on PATH, and the bundle through a symbolic link', async () => {
    symlinkSync(install.path('bin/pasta'), install.path('pasta-link'));
    const done = await install.run(['-I', 'tap0', '--', 'true'], {
      program: 'pasta-link',
      steps: goReady(true),
      shell: `unset PASTICHE_NODE; PATH="$(dirname ${process.execPath}):$PATH" exec "$@"`,
    });
    expect(done).toMatchObject({ status: 0, stderr: '' });
  });

  it('reports a controller that ends before it is ready', async () => {
    expect(await install.run(['-I', 'tap0', '--', 'true'], { steps: [{ exit: 0 }] })).toMatchObject({
      status: 1,
      stderr: 'The controller ended before it was ready (is PASTICHE_NODE Node?)\n',
    });
    expect(await install.run(['-I', 'tap0', '--', 'true'], { steps: [{ exit: 5 }] })).toMatchObject({
      status: 5,
      stderr: '',
    });
    expect(await install.run(['-I', 'tap0', '--', 'true'], { steps: [{ signal: 'SIGSYS' }] })).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^The controller was killed: a system call is outside its allowlist; .*\n$/),
    });
  });
});

describe('the programs that talk to a running instance', () => {
  it.each([
    ['pesto', [], 'pesto'],
    ['pastiche', ['ports'], 'ports'],
    ['pastiche', ['capabilities'], 'capabilities'],
  ])(
    '%s %j is the client under Node, with its arguments, its input, its output and its status',
    async (name, words, which) => {
      symlinkSync('pasta', install.path('bin/pesto'));
      writeFileSync(
        install.path('client.cjs'),
        `const { readFileSync } = require('node:fs');
       console.log(JSON.stringify([process.argv.slice(2), readFileSync(0, 'utf8'), process.env.MARK]));
       process.exit(7);`,
      );
      const done = await install.run([...words, '-t', 'none', '--', 'a b', ''], {
        program: `bin/${name}`,
        env: { MARK: 'kept' },
        shell: 'echo input | "$@"',
      });
      rmSync(install.path('bin/pesto'));
      rmSync(install.path('client.cjs'));
      expect([done.stderr, done.status]).toEqual(['', 7]);
      expect(JSON.parse(done.stdout)).toEqual([[which, '-t', 'none', '--', 'a b', ''], 'input\n', 'kept']);
    },
  );

  it('say so when the client is missing', async () => {
    const done = await install.run(['ports', 'list'], { program: 'bin/pastiche' });
    expect(done).toMatchObject({
      status: 1,
      stdout: '',
      stderr: `Can't read the client ${install.path('client.cjs')}: No such file or directory\n`,
    });
  });
});
