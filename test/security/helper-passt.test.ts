// SPDX-License-Identifier: Apache-2.0
/** The helper as passt: the socket of the guest's hypervisor, and a life without a broker. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRoot, TEST_USER } from '../support/lab.mjs';
import { childrenOf, finish, isAlive, type Started, start, waitFor } from '../support/process.mjs';
import { call, Installation, NO_OUTBOUND, type RunOptions, type Step } from './helper-harness.ts';

const EAGAIN = 11;
const EBADF = 9;
const EALREADY = 114;
const program = 'bin/passt';

let install: Installation;
let path: string;
let servers: Server[];
let started: Started[];
/** Those that went to the background: nobody else would end them. */
const backgrounded = (): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/exe`).startsWith(install.directory);
      } catch {
        return false;
      }
    });
beforeEach(() => {
  install = new Installation();
  mkdirSync(install.path('run'));
  chmodSync(install.path('run'), 0o777);
  path = install.path('run/socket');
  servers = [];
  started = [];
});
afterEach(() => {
  for (const server of servers) server.close();
  for (const one of started) one.kill('SIGKILL');
  for (const pid of backgrounded()) process.kill(pid, 'SIGKILL');
  install.remove();
});

const seal = call('host', 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND });
const open = call('host', 'guest.open');
const accept = (): Step => call('host', 'guest.accept');
const ready = (...then: Step[]): Step[] => [
  call('host', 'session.hello', { protocol: 1 }),
  open,
  seal,
  { release: true },
  call('host', 'ready'),
  ...then,
];
const run = (args: readonly string[], steps: readonly Step[], more: RunOptions = {}): Started =>
  install.start(args, { program, steps, ...more });
const inTime = (one: Started): ReturnType<typeof finish> => finish(one, { timeoutMs: 15_000 });
const python = (code: string, ...args: string[]): Started => {
  const one = start(['python3', '-c', code, ...args], { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } });
  started.push(one);
  return one;
};
const CLIENT = `import socket,sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"from the guest")
print("connected", flush=True)
s.settimeout(9)
print(s.recv(99))`;
const stale = (): void => {
  expect(
    spawnSync('python3', ['-c', 'import socket,sys\nsocket.socket(socket.AF_UNIX).bind(sys.argv[1])', path]).status,
  ).toBe(0);
  if (isRoot) spawnSync('chown', [String(TEST_USER), path]);
};
const pidOf = (file: string): number => Number(readFileSync(file, 'utf8'));

describe('the command line', () => {
  it('has texts of its own, and an answer for who manages vhost-user back-ends, without Node', async () => {
    const env = { PASTICHE_NODE: '/nonexistent' };
    for (const [args, text] of [
      [['--help'], /^Usage: passt /],
      [['--version'], /^passt \d/],
    ] as const)
      expect(await install.run(args, { program, env })).toMatchObject({
        status: 0,
        stderr: '',
        stdout: expect.stringMatching(text) as string,
      });
    const capabilities = await install.run(['--vhost-user', '--print-capabilities'], { program, env });
    expect(capabilities).toMatchObject({ status: 0, stderr: '' });
    expect(JSON.parse(capabilities.stdout)).toEqual({ type: 'net' });
  });

  it.each([
    [['foo'], /^Extra non-option argument: foo\n$/],
    [['-f', '12'], /^Extra non-option argument: 12\n$/],
    [['-F', '2'], /^Invalid --fd: 2 /],
    [['--fd', 'x'], /^Invalid --fd: x /],
    [['--fd', ' 7'], /^Invalid --fd: {2}7 /],
    [['-F', '99999999999'], /^Invalid --fd: 99999999999 /],
    [['-F', '77'], /^Invalid --fd: 77 is not open\n$/],
    [['-F', '7', '-s', '/x'], /^Both --socket and --fd given\n$/],
    [['-s', `/${'x'.repeat(107)}`], /^Invalid socket path: \/x+ \(it has 1 to 107 bytes\)\n$/],
    [['-s', ''], /^Invalid socket path: {2}\(it has 1 to 107 bytes\)\n$/],
    [['-s', '/nonexistent/s'], /^Failed to bind UNIX domain socket \/nonexistent\/s: No such file or directory\n$/],
    [['--bogus'], /^passt: unrecognized option '--bogus'\nUsage: passt/],
  ])('%j is refused with one sentence, and nothing stays', async (args, message) => {
    const pid = install.path('run/pid');
    const done = await install.run(['-P', pid, ...args], { program });
    expect(done).toMatchObject({ status: 1, stdout: '', stderr: expect.stringMatching(message) as string });
    expect(existsSync(pid)).toBe(false);
  });

  it.each([
    ['a file', 'exec 7</etc/passwd'],
    ['a listening or unconnected socket', ''],
  ])('--fd refuses %s', async (_what, shell) => {
    const code = `import socket,subprocess,sys
s = socket.socket(socket.AF_UNIX)
sys.exit(subprocess.run(sys.argv[1:] + ["-F", str(s.fileno())], pass_fds=[s.fileno()]).returncode)`;
    const wrapper = shell === '' ? `exec python3 -c '${code}' "$@"` : `${shell}; exec "$@" -F 7`;
    const done = await install.run(['-f'], { program, shell: wrapper, env: { PATH: '/usr/bin:/bin' } });
    expect(done.status).toBe(1);
    expect(done.stderr).toMatch(/^Invalid --fd: \d is not a connected stream socket\n$/);
  });

  it.each([16, 127])(
    'a limit of %d open files, with which there is no start or no connection, is told',
    async (limit) => {
      const done = await install.run(['-s', path], { program, shell: `ulimit -n ${limit}; exec "$@"` });
      expect(done).toMatchObject({
        status: 1,
        stderr: `The hard limit of open files is ${limit}: at least 128 are needed, without any for forwarded ports (ulimit -Hn)\n`,
      });
      expect(existsSync(path)).toBe(false);
    },
  );

  it('a directory on PATH with the name of Node is none', async () => {
    mkdirSync(install.path('bin/node'));
    const env = { PASTICHE_NODE: '' };
    const shell = `PATH=${install.path('bin')}; exec "$@"`;
    const missing = 'Can\'t find Node.js: no "node" on PATH, and PASTICHE_NODE is not set\n';
    expect(await install.run(['-s', path], { program, env, shell })).toMatchObject({ status: 1, stderr: missing });
    const named = { PASTICHE_NODE: install.path('bin/node') };
    expect((await install.run(['-s', path], { program, env: named })).stderr).toMatch(/: Is a directory\n$/);
  });
});

describe('the socket', () => {
  it.each([
    ['022', '755'],
    ['077', '700'],
    ['002', '775'],
  ])('with a umask of %s has mode %s, listens, and is removed at the end', async (umask, mode) => {
    const one = run(['-f', '-s', path], ready(), { shell: `umask ${umask}; exec "$@"` });
    await install.scriptDone();
    expect(install.reply(0).result).toMatchObject({ tap: '', spawn: false, side: 'host' });
    expect(install.reply(1).result).toEqual({ fd: 0, listening: true, path });
    expect((statSync(path).mode & 0o7777).toString(8)).toBe(mode);
    one.kill('SIGTERM');
    expect(await inTime(one)).toMatchObject({ status: 0, stderr: '', stdout: '' });
    expect(existsSync(path)).toBe(false);
  });

  it('takes the place of one that nobody serves any more', async () => {
    stale();
    run(['-f', '-s', path], ready(accept()));
    await install.scriptDone();
    expect(install.reply(4).error?.data.errno).toBe(EAGAIN);
  });

  it.each(['a live socket', 'a file', 'a symbolic link', 'a directory'])('leaves %s alone', async (what) => {
    const connections: unknown[] = [];
    if (what === 'a live socket') {
      const server = createServer((connection) => connections.push(connection)).listen(path);
      servers.push(server);
      await new Promise((resolve) => server.once('listening', resolve));
      chmodSync(path, 0o777);
    } else if (what === 'a file') writeFileSync(path, 'precious', { mode: 0o666 });
    else if (what === 'a directory') mkdirSync(path);
    else symlinkSync('/nonexistent/target', path);
    const before = lstatSync(path).ino;
    const done = await install.run(['-s', path], { program });
    expect(done).toMatchObject({
      status: 1,
      stderr:
        what === 'a live socket'
          ? `Socket path ${path} already in use\n`
          : `Failed to bind UNIX domain socket: ${path} exists and is not a socket\n`,
    });
    expect(lstatSync(path).ino).toBe(before);
    // An instance with --one-off would take the question for its guest.
    expect(connections).toEqual([]);
  });

  it.each([
    ['listens by a relative path', ['listen', 'relative'], ''],
    ['listens in another network namespace', ['listen'], 'unshare'],
    ['is bound and does not listen yet', [], ''],
    ['takes datagrams', ['datagram'], ''],
  ])('of somebody who %s is left alone, and not connected to', async (_what, how, other) => {
    const code = `import os,signal,socket,sys
path, how = sys.argv[1], sys.argv[2:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if "datagram" in how else socket.SOCK_STREAM)
os.chdir(os.path.dirname(path))
s.bind(os.path.basename(path) if "relative" in how else path)
os.chmod(path, 0o777)
if "listen" in how: s.listen()
def end(*_):
    s.setblocking(False)
    try: print("accepted", s.accept(), flush=True)
    except OSError: print("nobody came", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("bound", flush=True)
while True: signal.pause()`;
    const namespace = other === '' ? [] : ['unshare', ...(isRoot ? [] : ['-Ur']), '-n'];
    const owner = start([...namespace, 'python3', '-c', code, path, ...how], {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    started.push(owner);
    await waitFor(() => owner.out().includes('bound'), { what: 'the other to be bound' });
    const done = await install.run(['-s', path], { program });
    expect(done).toMatchObject({ status: 1, stderr: `Socket path ${path} already in use\n` });
    owner.kill('SIGTERM');
    expect((await inTime(owner)).stdout).toContain('nobody came');
  });

  it('that another instance has made its own by the end is not removed', async () => {
    const one = run(['-f', '-s', path], ready());
    await install.scriptDone();
    spawnSync('rm', [path]);
    stale();
    one.kill('SIGTERM');
    await inTime(one);
    expect(existsSync(path)).toBe(true);
  });

  it('has a name of its own for each of several instances that start at once', async () => {
    const steps = [open, seal, { release: true }, call('host', 'ready')] as const;
    const all = Array.from({ length: 6 }, (_, i) => `${i}`);
    install.script(steps);
    const line = all.map((i) => `"$@" -P ${install.path(`run/pid${i}`)} &`).join(' ');
    const done = await install.run([], { program, steps, shell: `${line} wait` });
    expect(done.stderr.replaceAll('Started as root, will change to nobody.\n', '')).toBe('');
    const pids = all.map((i) => pidOf(install.path(`run/pid${i}`)));
    const listed = readFileSync('/proc/net/unix', 'utf8').split('\n');
    const mine = pids.map((pid) => {
      const inodes = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      const names = listed.filter(
        (row) => inodes.includes(`socket:[${row.split(/\s+/)[6]}]`) && row.includes(' /tmp/'),
      );
      expect(names.length).toBe(1);
      return names[0]?.replace(/^.* /, '') as string;
    });
    expect(new Set(mine).size).toBe(all.length);
    for (const name of mine) expect(name).toMatch(/^\/tmp\/passt_([1-9]|[1-5]\d|6[0-4])\.socket$/);
    for (const pid of pids) process.kill(pid, 'SIGTERM');
    await waitFor(() => !pids.some(isAlive), { what: 'all to end' });
    expect(mine.filter(existsSync)).toEqual([]);
  });

  it('by default is looked for behind one lock, however many names are taken and whoever holds it', async () => {
    const holder = python(`import fcntl,os,signal,socket
fcntl.flock(os.open("/tmp", os.O_RDONLY), fcntl.LOCK_EX)
held = []
for i in range(1, 13):
    s = socket.socket(socket.AF_UNIX)
    try: s.bind(f"/tmp/passt_{i}.socket")
    except OSError: continue
    s.listen()
    held.append(f"/tmp/passt_{i}.socket")
print("held", flush=True)
def end(*_):
    for name in held: os.unlink(name)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
while True: signal.pause()`);
    try {
      await waitFor(() => holder.out().includes('held'), { what: 'the names to be taken' });
      const trace = install.path('run/trace');
      run(['-f'], ready(), { shell: `exec strace -o ${trace} -e trace=open,openat,bind "$@"` });
      await install.scriptDone();
      const lines = readFileSync(trace, 'utf8').split('\n');
      expect(lines.filter((line) => line.includes('"/tmp/passt_')).length).toBeGreaterThan(12);
      expect(lines.filter((line) => /"\/tmp\/"/.test(line) && !line.includes('O_PATH'))).toHaveLength(1);
    } finally {
      holder.kill('SIGTERM');
      await inTime(holder);
    }
  });

  it('left behind is taken by one of several instances that start at once', async () => {
    stale();
    const steps = [open, seal, { release: true }, call('host', 'ready')] as const;
    const all = Array.from({ length: 6 }, (_, i) => `${i}`);
    const line = all.map((i) => `{ "$@" -P ${install.path(`run/pid${i}`)} -s ${path}; echo $?; } &`).join(' ');
    const done = await install.run([], { program, steps, shell: `${line} wait` });
    expect(done.stdout.split('\n').sort()).toEqual(['', '0', '1', '1', '1', '1', '1']);
    expect(done.stderr.split(`Socket path ${path} already in use\n`).length).toBe(6);
    const client = python(CLIENT, path);
    await waitFor(() => client.out().includes('connected'), { what: 'the one that is left to listen' });
    const winner = all.map((i) => install.path(`run/pid${i}`)).filter(existsSync);
    expect(winner.length).toBe(1);
  });

  it.runIf(isRoot)('is that of root, who started us, also in a directory of root’s alone', async () => {
    chmodSync(install.path('run'), 0o700);
    const one = run(['-f', '-s', path], ready({ pause: 'called' }, accept()), { root: true });
    await install.paused('called');
    expect(statSync(path).uid).toBe(0);
    expect(readFileSync(`/proc/${one.pid()}/status`, 'utf8')).toMatch(/^Uid:\t65534\t65534\t65534\t65534$/m);
    const client = python(CLIENT, path);
    await waitFor(() => client.out().includes('connected'), { what: 'a hypervisor of root’s' });
    install.go('called');
    await install.scriptDone();
    expect(install.reply(4).result).toMatchObject({ fd: 0 });
  });
});

describe.runIf(isRoot)('started by root, for ports below 1024', () => {
  it.each([
    ['of rules that can come later, keeps that capability alone', [{ protocol: 'tcp', first: 600, last: 700 }], '0400'],
    ['at the start only, keeps none', [], '0000'],
  ])('%s', async (_what, windows, capabilities) => {
    const listen = (port: number): Step =>
      call('host', 'socket.listen', { protocol: 'tcp', address: '127.0.0.1', port, interface: '', freebind: false });
    const sealed = call('host', 'seal', { deny: [], grant: [], listen: windows, outbound: NO_OUTBOUND });
    const one = run(['-f', '-s', path], [open, listen(601), sealed, listen(602), listen(701)], { root: true });
    await install.scriptDone();
    expect(install.reply(1).result).toMatchObject({ fd: 0 });
    const status = readFileSync(`/proc/${one.pid()}/status`, 'utf8');
    for (const set of ['CapPrm', 'CapEff']) expect(status).toMatch(new RegExp(`${set}:\t0+${capabilities}\n`));
    const may = install.reply(3);
    expect(windows.length > 0 ? may.result : may.error).toMatchObject(
      windows.length > 0 ? { fd: 0 } : { code: -32_001 },
    );
    expect(install.reply(4).error?.code).toBe(-32_001);
  });
});

describe('guest.open and guest.accept', () => {
  it('give the connections, one by one, with who made them', async () => {
    run(
      ['-f', '-s', path],
      [accept(), ...ready()]
        .slice(1)
        .concat({ pause: 'called' }, accept(), { take: 1 }, { send: 1, text: 'frames' }, accept()),
    );
    await install.paused('called');
    chmodSync(path, 0o777);
    const client = python(CLIENT, path);
    await waitFor(() => client.out().includes('connected'), { what: 'the client to be connected' });
    install.go('called');
    await install.scriptDone();
    expect(install.reply(4).result).toEqual({ fd: 0, pid: client.pid() });
    expect(install.outcomes()[5]).toEqual({ received: 14, text: 'from the guest' });
    expect(install.reply(6).error?.data.errno).toBe(EAGAIN);
    expect((await inTime(client)).stdout).toContain("b'frames'");
  });

  it('do not open twice, nor accept before', async () => {
    run(['-f', '-s', path], [open, open, seal, accept()]);
    await install.scriptDone();
    expect(install.reply(1).error?.data.errno).toBe(EALREADY);
    expect(install.reply(3).error?.data.errno).toBe(EAGAIN);
  });

  it('give nothing to a controller that never opened, and none of it in pasta mode', async () => {
    run(['-f', '-s', path], [seal, accept()]);
    await install.scriptDone();
    expect(install.reply(1).error?.data.errno).toBe(EBADF);
    install.start(['-I', 'tap0', '--', 'sleep', '1000'], {
      steps: [open, call('netns', 'session.hello', { protocol: 1 })],
    });
    await install.scriptDone();
    expect(install.reply(0).error).toMatchObject({ code: -32_000, data: { errno: 88 } });
  });

  it.each([
    ['accept before seal', [open, accept()], 'guest.accept, which is not for this stage or side'],
    ['open after seal', [seal, open], 'guest.open, which is not for this stage or side'],
    [
      'the broker’s methods',
      [call('host', 'tap.open', { name: 'tap0' })],
      'tap.open, which is not for this stage or side',
    ],
    ['a command', [seal, call('host', 'command.start')], 'command.start, which is not for this stage or side'],
  ])('%s is the end', async (_what, steps, why) => {
    const done = await install.run(['-f', '-s', path], { program, steps });
    expect(done).toMatchObject({ status: 1, stderr: `The controller called ${why}\n` });
    expect(existsSync(path)).toBe(false);
  });

  it('a controller that never stops accepting gets nothing, and does not keep the helper from ending', async () => {
    const flood = JSON.stringify(
      Array.from({ length: 128 }, (_, id) => ({ jsonrpc: '2.0', id, method: 'guest.accept', params: {} })),
    );
    const one = run(
      ['-f', '-s', path],
      ready(...Array.from({ length: 200 }, () => ({ side: 'host', text: flood }) as Step)),
    );
    await install.scriptDone();
    expect(install.replies(203).every(({ error }) => error?.data.errno === EAGAIN)).toBe(true);
    expect(readdirSync(`/proc/${one.pid()}/fd`).length).toBeLessThan(20);
    one.kill('SIGTERM');
    expect((await inTime(one)).status).toBe(0);
  });
});

describe('life', () => {
  it('goes to the background when ready: PID file, socket, nobody on the caller’s pipes', async () => {
    const pid = install.path('run/pid');
    // The second reader's end of file is the caller's: whoever kept a pipe open would keep it waiting.
    const done = await install.run(['-s', path, '-P', pid], {
      program,
      steps: ready(),
      shell: '"$@" 2>&1 | cat; echo over',
    });
    expect(done).toMatchObject({ status: 0, stdout: 'over\n', stderr: '' });
    const helper = pidOf(pid);
    const [controller, ...others] = childrenOf(helper);
    expect(others).toEqual([]);
    for (const one of [helper, controller as number])
      for (const fd of [0, 1, 2]) expect(readlinkSync(`/proc/${one}/fd/${fd}`)).toMatch(/\/null$/);
    process.kill(helper, 'SIGTERM');
    await waitFor(() => !isAlive(helper) && !isAlive(controller as number), { what: 'the end' });
    expect([existsSync(path), existsSync(pid)]).toEqual([false, false]);
  });

  it.each([
    ['a failed start', [open, { exit: 3 }], 3],
    ['a refused call', [open, accept()], 1],
  ])('tells of %s before that, and leaves nothing', async (_what, steps, status) => {
    const pid = install.path('run/pid');
    expect(await install.run(['-s', path, '-P', pid], { program, steps: steps as Step[] })).toMatchObject({ status });
    expect([existsSync(path), existsSync(pid)]).toEqual([false, false]);
  });

  it('with --one-off ends with 0 when its controller does, otherwise with 1', async () => {
    const steps = ready({ exit: 0 });
    expect(await install.run(['-f', '-1', '-s', path], { program, steps })).toMatchObject({ status: 0, stderr: '' });
    expect(existsSync(path)).toBe(false);
    expect(await install.run(['-f', '-s', path], { program, steps })).toMatchObject({ status: 1 });
    expect(existsSync(path)).toBe(false);
    const early = await install.run(['-f', '-1', '-s', path], { program, steps: [open, { exit: 0 }] });
    expect(early).toMatchObject({ status: 1, stderr: expect.stringContaining('before it was ready') as string });
  });

  it('with --one-off, a controller that is killed or fails is no success', async () => {
    for (const [step, status] of [
      [{ signal: 'SIGKILL' }, 1],
      [{ exit: 7 }, 7],
      [{ hang: true }, 1],
    ] as const)
      expect((await install.run(['-f', '-1', '-s', path], { program, steps: ready(step) })).status).toBe(status);
  });

  it('SIGKILL of the one PID ends the controller', async () => {
    const one = run(['-f', '-s', path], ready());
    await install.scriptDone();
    const children = childrenOf(one.pid());
    expect(children.length).toBe(1);
    one.kill('SIGKILL');
    await waitFor(() => !children.some(isAlive), { what: 'the controller to end', timeoutMs: 1000 });
    // Nobody is left who could: the next instance takes its place.
    expect(existsSync(path)).toBe(true);
    run(['-f', '-s', path], ready());
    await install.scriptDone();
  });

  it('is in an empty root without capabilities when sealed; the controller’s second channel is none', async () => {
    const one = run(['-f', '-s', path], ready());
    await install.scriptDone();
    const status = readFileSync(`/proc/${one.pid()}/status`, 'utf8');
    for (const set of ['CapPrm', 'CapEff', 'CapAmb']) expect(status).toMatch(new RegExp(`${set}:\t0+\n`));
    expect(status).toMatch(/NoNewPrivs:\t1\nSeccomp:\t2\n/);
    if (isRoot) expect(readdirSync(`/proc/${one.pid()}/root`)).toEqual([]);
    const { argv, descriptors } = install.surroundings();
    expect(argv).toEqual(['passt', '-f', '-s', path]);
    expect(descriptors.map(([fd]) => fd)).toEqual([0, 1, 2, 3, 4]);
    expect(descriptors[4]?.[1]).toBe('/dev/null');
  });
});

describe('--fd', () => {
  /** The caller of passt: keeps one end, hands on the other, and a descriptor that is nobody's business. */
  const CALLER = `import os,socket,subprocess,sys
a, b = socket.socketpair()
secret = os.open("/etc/hostname", os.O_RDONLY)
a.sendall(b"from the guest")
p = subprocess.Popen(sys.argv[1:] + ["-F", str(b.fileno())], pass_fds=[b.fileno(), secret])
b.close()
print(a.recv(99), flush=True)
print(a.recv(99), flush=True)
sys.exit(p.wait())`;

  it('hands the connection over, and nothing else of the caller’s; its end is ours, in the background, too', async () => {
    const pid = install.path('run/pid');
    const steps = [
      open,
      open,
      seal,
      accept(),
      { release: true },
      call('host', 'ready'),
      { take: 0 },
      { send: 0, text: 'frames' },
      { pause: 'look' },
      { exit: 0 },
    ] as Step[];
    const one = run(['-P', pid], steps, { shell: `exec python3 -c '${CALLER}' "$@"`, env: { PATH: '/usr/bin:/bin' } });
    await install.paused('look');
    expect(install.reply(0).result).toEqual({ fd: 0, listening: false, path: '' });
    expect(install.reply(1).error?.data.errno).toBe(EALREADY);
    expect(install.reply(3).error?.data.errno).toBe(EBADF);
    expect(install.outcomes()[5]).toEqual({ received: 14, text: 'from the guest' });
    await waitFor(() => one.out().includes("b'frames'"), { what: 'the answer' });
    const helper = pidOf(pid);
    for (const each of [helper, ...childrenOf(helper)])
      for (const fd of readdirSync(`/proc/${each}/fd`))
        expect(readlinkSync(`/proc/${each}/fd/${fd}`)).not.toBe('/etc/hostname');
    install.go('look');
    // The connection was the controller's alone.
    await waitFor(() => one.out().includes("b''"), { what: 'the end of the connection' });
    expect((await inTime(one)).status).toBe(0);
    await waitFor(() => !isAlive(helper) && !existsSync(pid), { what: 'the end' });
  });
});
