// SPDX-License-Identifier: Apache-2.0
/** The sockets of -c and --control: who may connect, what is replaced, what is removed. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRoot, TEST_USER } from '../support/lab.mjs';
import { finish, hasExited, type Started, start, waitFor } from '../support/process.mjs';
import { call, goReady, Installation, type Step, sealBoth } from './helper-harness.ts';

const REFUSED = -32_001;
const EACCES = 13;

let install: Installation;
let path: string;
let servers: Server[] = [];
beforeEach(() => {
  install = new Installation();
  mkdirSync(install.path('run'));
  chmodSync(install.path('run'), 0o777);
  path = install.path('run/socket');
});
afterEach(() => {
  for (const server of servers) server.close();
  servers = [];
  install.remove();
});

const run = (steps: readonly Step[], args: readonly string[] = ['-c', path]): Started =>
  install.start([...args, '-I', 'tap0', '--', 'sleep', '1000'], { steps });
const listen = (kind: string, at = path): Step => call('host', 'unix.listen', { kind, path: at });
const accept = (kind: string): Step => call('host', 'unix.accept', { kind });
/** Connects as a user; prints that it did, then what came before the end. */
const client = (user: number | undefined): Started => {
  const argv = [
    'python3',
    '-c',
    `import socket,sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
print("connected", flush=True)
s.settimeout(9)
print(s.recv(99))`,
    path,
  ];
  const as = ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups'];
  // A python3 of the caller's own may be closed to other users.
  return start(user === undefined ? argv : [...as, ...argv], { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } });
};
/** The client waits in the queue when the helper looks. */
const callIn = async (user: number | undefined): Promise<string> => {
  const caller = client(user);
  await waitFor(() => caller.out().includes('connected') || hasExited(caller), { what: 'the client to be connected' });
  expect(caller.err()).toBe('');
  install.go('called');
  await install.scriptDone();
  const { stdout } = await finish(caller, { timeoutMs: 10_000 });
  return stdout.split('\n')[1] as string;
};
const stale = (): void => {
  const made = spawnSync('python3', ['-c', 'import socket,sys\nsocket.socket(socket.AF_UNIX).bind(sys.argv[1])', path]);
  expect(made.status).toBe(0);
};

describe('unix.listen', () => {
  it('makes a socket for its user alone, and removes it at the end', async () => {
    const helper = run([listen('conf'), ...goReady(true)]);
    await install.scriptDone();
    expect(install.reply(0).result).toEqual({ fd: 0 });
    expect((statSync(path).mode & 0o7777).toString(8)).toBe('600');
    helper.kill('SIGTERM');
    await finish(helper, { timeoutMs: 10_000 });
    expect(existsSync(path)).toBe(false);
  });

  it('removes it as well when the start fails, but not one that is another instance’s by then', async () => {
    const helper = run([listen('control'), { exit: 3 }]);
    await finish(helper, { timeoutMs: 10_000 });
    expect(existsSync(path)).toBe(false);

    const other = run([listen('control'), { pause: 'replaced' }, { exit: 3 }]);
    await install.paused('replaced');
    spawnSync('rm', [path]);
    stale();
    install.go('replaced');
    await finish(other, { timeoutMs: 10_000 });
    expect(existsSync(path)).toBe(true);
  });

  it('takes the place of one that nobody serves any more', async () => {
    stale();
    if (isRoot) spawnSync('chown', [String(TEST_USER), path]);
    run([listen('conf'), ...sealBoth(), accept('conf')]);
    await install.scriptDone();
    expect(install.reply(0).result).toEqual({ fd: 0 });
    expect(install.reply(3).error?.data.errno).toBe(11);
  });

  it.each(['a live socket', 'a file', 'a symbolic link', 'a directory'])('leaves %s alone', async (what) => {
    if (what === 'a live socket') {
      const server = createServer().listen(path);
      servers.push(server);
      await new Promise((resolve) => server.once('listening', resolve));
      chmodSync(path, 0o777);
    } else if (what === 'a file') writeFileSync(path, 'precious', { mode: 0o666 });
    else if (what === 'a directory') mkdirSync(path);
    else symlinkSync('/nonexistent/target', path);
    run([listen('conf')]);
    await install.scriptDone();
    expect(install.reply(0).error).toEqual({
      code: -32_000,
      message: what === 'a live socket' ? `Socket path ${path} already in use` : `${path} exists and is not a socket`,
      data: { errno: what === 'a live socket' ? 98 : 88 },
    });
    expect(spawnSync('test', [what === 'a symbolic link' ? '-L' : '-e', path]).status).toBe(0);
  });

  it('takes only a path of the command line, once a kind, and none that is too long', async () => {
    const long = install.path(`run/${'é'.repeat(100 - install.path('run/').length)}`);
    run(
      [
        listen('conf', `${path}x`),
        listen('conf', `${install.directory}/nosuchdir/socket`),
        listen('conf', long),
        listen('conf'),
        listen('conf'),
        listen('control'),
      ],
      [`--conf-path=${path}`, '-l', `${install.directory}/nosuchdir/socket`, `--pcap=${long}`],
    );
    await install.scriptDone();
    const errors = [0, 1, 2, 3, 4, 5].map((i) => install.reply(i).error);
    expect(errors.map((error) => error?.data.errno)).toEqual([1, 2, 36, undefined, 114, 98]);
    expect(errors[0]?.code).toBe(REFUSED);
  });
});

describe('unix.accept', () => {
  const waiting = (): Step[] => [listen('conf'), ...sealBoth(), accept('control'), accept('conf'), { pause: 'called' }];

  it('lets our user in, and tells who it is', async () => {
    run([...waiting(), accept('conf'), { send: 1, text: 'welcome' }, accept('conf')]);
    await install.paused('called');
    expect(install.reply(3).error?.data.errno).toBe(9); // was never opened
    expect(install.reply(4).error?.data.errno).toBe(11);
    const user = isRoot ? TEST_USER : undefined;
    expect(await callIn(user)).toBe("b'welcome'");
    expect(install.reply(5).result).toEqual({ fd: 0, pid: expect.any(Number) });
    expect(install.reply(5).result?.['pid']).toBeGreaterThan(1);
  });

  it.runIf(isRoot)('keeps the helper where it can tell one user from another', async () => {
    const helper = run(waiting());
    await install.paused('called');
    expect(readFileSync(`/proc/${helper.pid()}/uid_map`, 'utf8')).toBe(readFileSync('/proc/self/uid_map', 'utf8'));
  });

  it.runIf(isRoot)('lets root in, and hangs up on everybody else, whatever the mode of the socket', async () => {
    for (const [user, word] of [
      [undefined, "b'welcome'"],
      [4711, "b''"],
    ] as const) {
      install.remove();
      install = new Installation();
      mkdirSync(install.path('run'));
      chmodSync(install.path('run'), 0o777);
      path = install.path('run/socket');
      run([...waiting(), accept('conf'), { send: user === undefined ? 1 : 0, text: 'welcome' }]);
      await install.paused('called');
      expect((await finish(client(4711), {})).stderr).toContain('Permission denied'); // the mode is enough
      chmodSync(path, 0o666);
      expect(await callIn(user)).toBe(word);
      const { error } = install.reply(5);
      expect([user, error?.code, error?.data.errno]).toEqual(
        user === undefined ? [user, undefined, undefined] : [user, REFUSED, EACCES],
      );
    }
  });
});
