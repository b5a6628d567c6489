// SPDX-License-Identifier: Apache-2.0
/** The helper as slirp4netns: its command line, how its callers learn of its life and end it, the sandbox, and who it is when root starts it. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRoot } from '../support/lab.mjs';
import { childrenOf, finish, isAlive, type Started, start, waitFor } from '../support/process.mjs';
import { call, Installation, NO_OUTBOUND, ordinary, type RunOptions, type Step, sealBoth } from './helper-harness.ts';

const program = 'bin/slirp4netns';
const EAGAIN = 11;
const TEST_NOBODY = 65_534;
const CAP_NET_BIND_SERVICE = 1 << 10;

let install: Installation;
let started: Started[];
let namespaces: string[];
beforeEach(() => {
  install = new Installation();
  mkdirSync(install.path('run'));
  chmodSync(install.path('run'), 0o777);
  started = [];
  namespaces = [];
});
afterEach(() => {
  for (const one of started) one.kill('SIGKILL');
  for (const name of namespaces) spawnSync('ip', ['netns', 'del', name]);
  install.remove();
});

const watched = (argv: readonly string[]): Started => {
  const one = start(argv, { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } });
  started.push(one);
  return one;
};
const run = (args: readonly string[], steps: readonly Step[] = [], more: RunOptions = {}): Started =>
  install.start(args, { program, steps, ...more });
const inTime = (one: Started): ReturnType<typeof finish> => finish(one, { timeoutMs: 15_000 });
const status = (pid: number, field: string): string =>
  new RegExp(`^${field}:[ \\t]*(.*?) *$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';

/** Namespaces of the ordinary user's, with `before` done in them. */
const target = async (before = 'true'): Promise<Started> => {
  const one = watched(ordinary(['unshare', '-Urn', 'sh', '-c', `${before} && echo there && exec sleep 1000`]));
  await waitFor(() => one.out() !== '', { what: 'the target namespaces' });
  return one;
};
const inside = (pid: number, ...command: string[]): string =>
  spawnSync('nsenter', ['-t', String(pid), '-U', '-n', '--preserve-credentials', ...command], { encoding: 'utf8' })
    .stdout;

const hello = call('host', 'session.hello', { protocol: 1 });
const ready = (...then: Step[]): Step[] => [hello, ...sealBoth(), { release: true }, call('host', 'ready'), ...then];
const alone = (...steps: Step[]): Step[] => [hello, ...steps];
const sealHost = call('host', 'seal', { deny: [], grant: [], outbound: NO_OUTBOUND });
/** Its standard output becomes what --ready-fd 3 writes to; `closed` is the end of file there, too. */
const READY_PIPE: RunOptions = { shell: 'exec 3>&1 >&2; exec "$@"' };
const whenReady = async (one: Started): Promise<void> => {
  await waitFor(() => one.out() === '1', { what: `the ready descriptor to be told (${one.err()})` });
};

describe('the command line', () => {
  it('has texts of its own, at once and without Node', async () => {
    const env = { PASTICHE_NODE: '/nonexistent' };
    for (const [args, text] of [
      [['--help'], /^Usage: slirp4netns .*--netns-type/s],
      [['-h', 'ignored'], /^Usage: slirp4netns /],
      [['1', '--versi', 'tap0'], /^slirp4netns version \d/],
    ] as const)
      expect(await install.run(args, { program, env })).toMatchObject({
        status: 0,
        stderr: '',
        stdout: expect.stringMatching(text) as string,
      });
  });

  it.each([
    [['foo', 'tap0'], 'PID must be a positive integer'],
    [['0', 'tap0'], 'PID must be a positive integer'],
    [['99999999999', 'tap0'], 'PID must be a positive integer'],
    [['--bogus'], "slirp4netns: unrecognized option '--bogus'"],
    [
      ['1', 'tap0', '--disable'],
      "slirp4netns: option '--disable' is ambiguous; possibilities: '--disable-host-loopback' '--disable-dns'",
    ],
    [['-m', '0'], 'MTU must be a positive integer (< 65522)'],
    [['-m', '65522'], 'MTU must be a positive integer (< 65522)'],
    [['--mtu=x'], 'MTU must be a positive integer (< 65522)'],
    [['-e', '-1'], 'exit-fd must be a non-negative integer'],
    [['-r', 'x'], 'ready-fd must be a non-negative integer'],
    [['--userns-path=/none'], "userns path doesn't exist: /none"],
    [
      ['--netns-type=path', '/none', 'tap0'],
      'existing path expected when --netns-type=path: No such file or directory',
    ],
    [['1', 'tap0', '--macaddress=x'], '--macaddr cannot be specified when --configure or -c is not specified'],
    [['--target-type=foo'], '--target-type must be either "netns" or "bess"'],
    [['--target-type=bess', '-c', 'S'], '--configure conflicts with --target-type=bess'],
    [['--target-type=bess', '--netns-type=path', 'S'], '--netns-type conflicts with --target-type=bess'],
    [['--target-type=bess', '--userns-path=/', 'S'], '--userns-path conflicts with --target-type=bess'],
    [['--target-type=bess', 'a', 'b'], 'too many arguments'],
    [['--netns-type=tapfd', 'x'], 'FD must be a non-negative integer'],
    [['1'], null],
    [['--target-type=bess'], null],
    [[], null],
  ])('says what is wrong with %j, and how it is used', async (args, message) => {
    const ended = await install.run(args, { program, env: { PASTICHE_NODE: '/nonexistent' } });
    expect(ended).toMatchObject({
      status: 1,
      stderr: message === null ? '' : `${message}\n`,
      stdout: expect.stringMatching(/^Usage: slirp4netns /) as string,
    });
  });

  it.each([
    [['999999999', 'tap0'], '/proc/999999999/ns/net: No such file or directory\nchild failed(1)\n'],
    [['--netns-type=path', '/etc/hostname', 'tap0'], 'setns(CLONE_NEWNET): Invalid argument\nchild failed(1)\n'],
    [['1', 'tap/0'], 'Invalid interface name: tap/0\n'],
    [['-a', `/${'x'.repeat(107)}`, '1', 'tap0'], 'the specified API socket path is too long (>= 108)\n'],
    [['--api-socket=', '1', 'tap0'], 'the specified API socket path is empty\n'],
    [['--target-type=bess', ''], 'the specified socket path is empty\n'],
    [['--netns-type=tapfd', '77'], '--netns-type=tapfd: descriptor 77 is not open\n'],
    [['--netns-type=tapfd', '0'], '--netns-type=tapfd: the descriptor is not a tap\n'],
    [['--target-type=bess', '/none/s'], 'bind: /none/s: No such file or directory\n'],
  ])('says what cannot be had of %j', async (args, message) => {
    const ended = await install.run(args, { program });
    expect(ended).toMatchObject({ status: 1, stderr: message });
    expect(ended.stdout).not.toContain('Usage');
  });

  it('warns, as callers know it, of what is old or an experiment, in the order given', async () => {
    const args = [
      '--no-host-loopback',
      '--outbound-addr6=x',
      '--create-sandbox',
      '--outbound-addr',
      'x',
      '--enable-sandbox',
      '-m0',
    ];
    const ended = await install.run(args, { program, env: { PASTICHE_NODE: '/nonexistent' } });
    const end = 'is deprecated and will be removed in future releases, please use';
    expect(ended.stdout.split('\n').slice(0, 4)).toEqual([
      `WARNING: --no-host-loopback ${end} --disable-host-loopback instead.`,
      'WARNING: Support for --outbound-addr6 is experimental',
      `WARNING: --create-sandbox ${end} --enable-sandbox instead.`,
      'WARNING: Support for --outbound-addr is experimental',
    ]);
    expect(ended.stdout.split('\n')[4]).toMatch(/^Usage: /);
    expect(ended).toMatchObject({ status: 1, stderr: 'MTU must be a positive integer (< 65522)\n' });
  });

  it('has a name for a tap without one: that of the first of a namespace', async () => {
    const { pid } = await target();
    run([`${pid()}`, ''], [hello]);
    await install.scriptDone();
    expect(install.reply(0).result).toMatchObject({ tap: 'tap0' });
    expect(inside(pid(), 'ip', '-o', 'link')).toContain('tap0:');
  });

  it('takes options in any place, cuts a long name, and hands all of it on as it was given', async () => {
    const { pid } = await target();
    const args = ['-6c', `${pid()}`, '-r7', 'a-tap-with-a-long-name', '--mtu', '1400', 'surplus'];
    run(args, [hello]);
    await install.scriptDone();
    expect(install.surroundings().argv).toEqual(['slirp4netns', ...args]);
    expect(install.reply(0).result).toMatchObject({ tap: 'a-tap-with-a-lo', spawn: false, foreground: true });
    expect(inside(pid(), 'ip', '-o', 'link')).toContain('a-tap-with-a-lo:');
  });
});

describe('how callers follow it', () => {
  it('says "1" when it is ready, not before, and closes that descriptor', async () => {
    const { pid } = await target();
    const one = run(['-r', '3', `${pid()}`, 'tap0'], [hello, { pause: 'looked' }, ...ready().slice(1)], READY_PIPE);
    let closed = false;
    one.child.stdout?.once('end', () => {
      closed = true;
    });
    await install.paused('looked');
    expect(one.out()).toBe('');
    install.go('looked');
    await whenReady(one);
    await waitFor(() => closed, { what: 'the end of file of the ready descriptor' });
    expect(isAlive(one.pid())).toBe(true);
    expect(one.err()).toBe('');
  });

  it('ends with status 0 when --exit-fd hangs up, removes the API socket, and ignores what is written there', async () => {
    const { pid } = await target();
    const path = install.path('run/api');
    spawnSync('mkfifo', ['-m', '666', install.path('run/exit')]);
    const writer = watched(['sh', '-c', 'exec 9>"$0"; echo something >&9; exec sleep 1000', install.path('run/exit')]);
    const one = run(
      ['-r', '3', '-e', '4', '-a', path, `${pid()}`, 'tap0'],
      [call('host', 'unix.listen', { kind: 'api', path }), ...ready()],
      { shell: 'exec 3>&1 >&2 4<run/exit; exec "$@"'.replace('run', install.path('run')) },
    );
    await whenReady(one);
    expect(existsSync(path)).toBe(true);
    writer.kill('SIGKILL');
    expect(await inTime(one)).toMatchObject({ status: 0, stderr: '' });
    expect(existsSync(path)).toBe(false);
  });

  it('ends at once, when ready, for an --exit-fd that is not open; a bad --ready-fd is no error', async () => {
    const { pid } = await target();
    const one = run(['-e', '9', '-r', '8', `${pid()}`, 'tap0'], ready());
    expect(await inTime(one)).toMatchObject({ status: 0, stderr: '' });
  });

  it.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('ends after %s with status %i, and its socket is gone', async (signal, code) => {
    const { pid } = await target();
    const path = install.path('run/api');
    const one = run(
      ['-r', '3', '-a', path, `${pid()}`, 'tap0'],
      [call('host', 'unix.listen', { kind: 'api', path }), ...ready()],
      READY_PIPE,
    );
    await whenReady(one);
    one.kill(signal);
    expect(await inTime(one)).toMatchObject({ status: code, stderr: '' });
    expect(existsSync(path)).toBe(false);
  });

  it.each(['before', 'after'])('leaves nobody behind when it is killed %s it is ready', async (when) => {
    const { pid } = await target();
    const one = run(
      ['-r', '3', `${pid()}`, 'tap0'],
      when === 'after' ? ready() : [hello, { pause: 'here' }],
      READY_PIPE,
    );
    if (when === 'after') await whenReady(one);
    else await install.paused('here');
    const children = childrenOf(one.pid());
    // The controller and the broker; the reader of resolv.conf as long as somebody may ask it.
    expect(children).toHaveLength(when === 'after' ? 2 : 3);
    one.kill('SIGKILL');
    // Its output is at its end only when nobody has it any more.
    await one.closed;
    await waitFor(() => children.every((child) => !isAlive(child)), {
      what: 'its children to be gone',
      timeoutMs: 2000,
    });
    await waitFor(() => !inside(pid(), 'ip', '-o', 'link').includes('tap0'), { what: 'the tap to be gone' });
  });

  it('outlives the process of the namespace', async () => {
    const one = await target();
    const slirp = run(
      ['-r', '3', `${one.pid()}`, 'tap0'],
      ready({ pause: 'gone' }, call('host', 'guest.accept')),
      READY_PIPE,
    );
    await whenReady(slirp);
    one.kill('SIGKILL');
    await one.closed;
    install.go('gone');
    await install.scriptDone();
    expect(install.reply(4).error?.message).toContain('accept'); // it still answers
    expect(isAlive(slirp.pid())).toBe(true);
  });

  it.each(isRoot ? ['an ordinary user', 'root'] : ['an ordinary user'])(
    'keeps the signal for the end of its caller that it was started with by %s',
    async (who) => {
      const { pid } = await target();
      const path = install.path('run/caller');
      const shell = `echo $$ >${path}; exec 3>&1 >&2; setpriv --pdeathsig SIGKILL "$@" & wait`;
      const one = run(['--enable-sandbox', '-r', '3', `${pid()}`, 'tap0'], ready(), { shell, root: who === 'root' });
      await whenReady(one);
      const caller = Number(readFileSync(path, 'utf8'));
      const [slirp] = childrenOf(caller);
      process.kill(caller, 'SIGKILL');
      await one.closed;
      await waitFor(() => !isAlive(slirp as number), { what: 'it to end with its caller', timeoutMs: 2000 });
    },
  );
});

describe('the tap', () => {
  it('may be there already, persistent', async () => {
    const { pid } = await target('ip tuntap add name tap0 mode tap && ip link set tap0 address 02:00:00:00:00:99 up');
    run([`${pid()}`, 'tap0'], [hello, call('netns', 'tap.open', { name: 'tap0' })]);
    await install.scriptDone();
    expect(install.reply(1).result).toMatchObject({ mac: '02:00:00:00:00:99', vnetHeaderBytes: 12 });
  });

  /** A tap in namespaces of its own, on descriptor 5. */
  const withTap = (flags: number): RunOptions => ({
    shell: `exec unshare -Urn --keep-caps python3 -c '
import fcntl,os,struct,sys
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"mine", ${flags}))
os.dup2(fd, 5)
os.execv(sys.argv[1], sys.argv[1:])' "$@"`,
  });
  it.each([
    ['with a header', 0x5002, 12],
    ['without one', 0x1002, 0],
  ])('may be inherited, %s', async (_what, flags, vnetHeaderBytes) => {
    const one = run(
      ['--netns-type=tapfd', '5'],
      alone(call('host', 'tap.open', { name: 'mine' }), call('host', 'tap.open', { name: 'mine' })),
      withTap(flags),
    );
    await install.scriptDone();
    expect(install.reply(0).result).toMatchObject({ tap: 'mine', side: 'host' });
    expect(install.reply(1).result).toMatchObject({ fd: 0, index: 0, vnetHeaderBytes, tso: vnetHeaderBytes > 0 });
    expect(install.reply(2).error).toMatchObject({ data: { errno: 19 } });
    // The controller, and the reader of resolv.conf.
    expect(childrenOf(one.pid())).toHaveLength(2);
  });
  it('is refused when it is a tun', async () => {
    expect(await inTime(run(['--netns-type=tapfd', '5'], [], withTap(0x1001)))).toMatchObject({
      status: 1,
      stderr: '--netns-type=tapfd: the descriptor is not a tap\n',
    });
  });
});

describe('the API socket', () => {
  it('is for its user alone, takes the place of another socket, even a live one, and of nothing else', async () => {
    const { pid } = await target();
    const path = install.path('run/api');
    const other = watched(
      ordinary([
        'python3',
        '-c',
        'import socket,sys,time\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint("on", flush=True)\ntime.sleep(999)',
        path,
      ]),
    );
    await waitFor(() => other.out() !== '', { what: 'the other socket' });
    const file = install.path('run/file');
    writeFileSync(file, 'precious');
    run(
      ['-a', path, '-a', file, '-a', '/none/x', `${pid()}`, 'tap0'],
      [
        call('host', 'unix.listen', { kind: 'api', path: file }),
        call('host', 'unix.listen', { kind: 'api', path: '/none/x' }),
        call('host', 'unix.listen', { kind: 'api', path }),
        ...sealBoth(),
        call('host', 'unix.accept', { kind: 'api' }),
        { pause: 'called' },
        call('host', 'unix.accept', { kind: 'api' }),
      ],
      { shell: 'umask 0; exec "$@"' },
    );
    await install.paused('called');
    expect(install.reply(0).error?.message).toBe(`${file} exists and is not a socket`);
    expect(readFileSync(file, 'utf8')).toBe('precious');
    expect(install.reply(1).error?.message).toBe('api_bindlisten: bind: No such file or directory');
    expect((statSync(path).mode & 0o7777).toString(8)).toBe('755');
    expect(install.reply(5).error?.data.errno).toBe(EAGAIN);
    const client = watched(
      ordinary([
        'python3',
        '-c',
        'import socket,sys,time\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nprint("on", flush=True)\ntime.sleep(999)',
        path,
      ]),
    );
    await waitFor(() => client.out() !== '', { what: `a client (${client.err()})` });
    install.go('called');
    await install.scriptDone();
    expect(install.reply(6).result).toEqual({ fd: 0, pid: client.pid() });
  });
});

describe('--target-type=bess', () => {
  it('hands over one client of packets, waits for it as long as it takes, and says so', async () => {
    const path = install.path('run/bess');
    const one = run(
      ['--target-type=bess', '-r', '3', path],
      alone(
        call('host', 'guest.open'),
        sealHost,
        call('host', 'guest.accept'),
        { pause: 'called' },
        call('host', 'guest.accept'),
        call('host', 'ready'),
        { exit: 0 },
      ),
      READY_PIPE,
    );
    await install.paused('called');
    expect(install.reply(1).result).toEqual({ fd: 0, listening: true, path });
    expect(install.reply(3).error?.data.errno).toBe(EAGAIN);
    expect(one.out()).toBe('');
    const client = watched(
      ordinary([
        'python3',
        '-c',
        'import socket,sys,time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.connect(sys.argv[1])\nprint("on", flush=True)\ntime.sleep(999)',
        path,
      ]),
    );
    await waitFor(() => client.out() !== '', { what: `a client (${client.err()})` });
    install.go('called');
    expect(await inTime(one)).toMatchObject({
      status: 0,
      stdout: '1',
      stderr: `WARNING: BESS mode is experimental\nWaiting for connection to ${path}\n`,
    });
    expect(install.reply(4).result).toMatchObject({ pid: client.pid() });
  });
});

describe('--enable-sandbox', () => {
  const look = (pid: number): { root: string[]; capabilities: number } => ({
    root: readdirSync(`/proc/${pid}/root`).sort(),
    capabilities: Number.parseInt(status(pid, 'CapEff'), 16),
  });
  it.runIf(isRoot)('shows /etc and /run to the process that was launched, and leaves it one capability', async () => {
    const { pid } = await target();
    const one = run(['--enable-sandbox', '--enable-seccomp', '-r', '3', `${pid()}`, 'tap0'], ready(), READY_PIPE);
    await whenReady(one);
    expect(look(one.pid())).toEqual({ root: ['etc', 'run'], capabilities: CAP_NET_BIND_SERVICE });
    expect(readdirSync(`/proc/${one.pid()}/root/etc`)).toContain('resolv.conf');
    expect(status(one.pid(), 'Seccomp')).toBe('2');
  });
  it.runIf(isRoot)(
    'does so for root, in mounts of the caller’s own, and keeps what is mounted below /run',
    async () => {
      const there = watched(['unshare', '-n', 'sh', '-c', 'echo there && exec sleep 1000']);
      await waitFor(() => there.out() !== '', { what: 'the target namespace' });
      const one = run(['--enable-sandbox', '-r', '3', `${there.pid()}`, 'tap0'], ready(), {
        shell:
          'mount -t tmpfs tmpfs /run && mkdir /run/here && mount -t tmpfs -o size=40k tmpfs /run/here && exec 3>&1 >&2 && exec "$@"',
        root: true,
      });
      await whenReady(one);
      expect(one.err()).toBe('');
      expect(look(one.pid())).toEqual({ root: ['etc', 'run'], capabilities: CAP_NET_BIND_SERVICE });
      expect(readFileSync(`/proc/${one.pid()}/mounts`, 'utf8')).toMatch(
        / \/run\/here tmpfs ro,nosuid,nodev,noexec,.*size=40k/,
      );
    },
  );
});

describe.runIf(isRoot)('started by root', () => {
  it('is nobody for files in the namespaces of a user', async () => {
    const { pid } = await target();
    const one = run(['-r', '3', `${pid()}`, 'tap0'], ready(), { ...READY_PIPE, root: true });
    await whenReady(one);
    const children = childrenOf(one.pid());
    expect(children).toHaveLength(2);
    for (const child of children) expect(status(child, 'Uid').split('\t').map(Number)[3]).toBe(TEST_NOBODY);
  });

  it('enters what only root may look at, and is nobody with the one capability of low ports at most', async () => {
    const name = `slirpc-${process.pid}`;
    spawnSync('ip', ['netns', 'add', name]);
    namespaces.push(name);
    const closed = install.path('closed');
    mkdirSync(closed, { mode: 0o700 });
    const path = `${closed}/api`;
    const one = run(
      ['-r', '3', '-a', path, '--netns-type=path', `/run/netns/${name}`, 'tap0'],
      [
        call('host', 'unix.listen', { kind: 'api', path }),
        call('netns', 'link.set', { name: 'tap0', up: true }),
        ...ready(),
      ],
      { ...READY_PIPE, root: true },
    );
    await whenReady(one);
    expect(one.err()).toBe('');
    expect(statSync(path).uid).toBe(0);
    for (const pid of [one.pid(), ...childrenOf(one.pid())]) {
      // For files it is root, to take away the socket: the one that was started, and nobody else.
      const files = pid === one.pid() ? 0 : TEST_NOBODY;
      expect(status(pid, 'Uid').split('\t').map(Number)).toEqual([...Array(3).fill(TEST_NOBODY), files]);
      expect(status(pid, 'Groups')).toBe('');
      expect(Number.parseInt(status(pid, 'CapPrm'), 16)).toBe(0);
      expect(Number.parseInt(status(pid, 'CapBnd'), 16)).toBe(0);
      expect(status(pid, 'NoNewPrivs')).toBe('1');
    }
    one.kill('SIGTERM');
    expect((await inTime(one)).status).toBe(143);
    expect(existsSync(path)).toBe(false);
  });
});
