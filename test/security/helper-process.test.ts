// SPDX-License-Identifier: Apache-2.0
/** How the helper starts, what its children are given, and what it leaves behind: nothing. */
import { constants, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { descendants, isRoot } from '../support/lab.mjs';
import { childrenOf, descriptors, isAlive, namespaces, type Started, start, waitFor } from '../support/process.mjs';
import { call, goReady, Installation, ordinary, sealBoth } from './helper-harness.ts';

let install: Installation;
let helpers: Started[];
beforeEach(() => {
  install = new Installation();
  helpers = [];
});
afterEach(() => {
  for (const helper of helpers) helper.kill('SIGKILL');
  install.remove();
});

/** A process in namespaces of its own, made by the same ordinary user. */
const target = async (): Promise<number> => {
  const holder = start(ordinary(['unshare', '-Urn', 'sleep', '1000']), {});
  helpers.push(holder);
  await waitFor(() => readFileSync(`/proc/${holder.pid()}/comm`, 'utf8') === 'sleep\n', { what: 'the target' });
  return holder.pid();
};
const interfacesOf = async (pid: number): Promise<string> => {
  const list = start(['nsenter', '-t', String(pid), '-U', '-n', '--preserve-credentials', 'ip', '-br', 'link'], {});
  await list.closed;
  return list.out();
};
const spawnArgs = (...command: string[]): string[] => ['-I', 'tap0', '--', ...command];

describe('a spawned command', () => {
  it.each([
    ['exit 0', 0],
    ['exit 3', 3],
    ['exit 255', 255],
    ['kill -9 $$', 0], // the first process of a pid namespace cannot kill itself
    ['sh -c "kill -9 \\$\\$" 2>/dev/null; exit $?', 137],
  ])('%s gives its exit status', async (script, status) => {
    const done = await install.run(spawnArgs('sh', '-c', script), { steps: goReady(true) });
    expect(done).toMatchObject({ status, stderr: '' });
  });

  it('runs as root of its namespaces, with its own process list and host name', async () => {
    const script =
      'id -u; id -g; hostname; echo $$; cat /proc/sys/net/ipv4/ping_group_range; ls /proc/1/exe >/dev/null && ls /sys/class/net >/dev/null; ip -br link; ps ax -o comm | grep -c pasta';
    const done = await install.run(['-I', 'tap0', '-H', 'my-name', '--', 'sh', '-c', script], { steps: goReady(true) });
    expect(done.stderr).toBe('');
    expect(done.stdout).toMatch(/^0\n0\nmy-name\n1\n0\t0\nlo +UNKNOWN.*\ntap0 .*\n0\n$/s);
  });

  it('is named after the host by default', async () => {
    const done = await install.run(spawnArgs('hostname'), { steps: goReady(true) });
    expect(done.stdout).toMatch(/^pasta-./);
  });

  it("gets 0, 1, 2 and no other descriptor, the caller's limits and signal mask", async () => {
    const script =
      'ls /proc/self/fd | tr "\\n" " "; ulimit -Sn; ulimit -Hn; grep -e SigBlk -e SigIgn -e Seccomp: -e NoNewPrivs /proc/self/status';
    const done = await install.run(spawnArgs('bash', '-c', script), {
      steps: goReady(true),
      shell: 'ulimit -Sn 300; exec 5</etc/passwd 9>/dev/null; exec "$@"',
    });
    // 3 is the directory that ls reads.
    expect(done.stdout).toMatch(/^0 1 2 3 300\n(?!300\n)\d+\n/);
    expect(done.stdout).toMatch(/SigBlk:\t0+\n/);
    expect(done.stdout).toMatch(/NoNewPrivs:\t0\nSeccomp:\t0\n/);
  });

  it('waits until command.start', async () => {
    const run = install.start(spawnArgs('sh', '-c', 'echo ran'), { steps: goReady(true).slice(0, 4) });
    await install.scriptDone();
    await sleep(100);
    expect(run.out()).toBe('');
    run.kill('SIGTERM');
    await run.closed;
    expect(run.out()).toBe('');
  });

  it('that does not exist', async () => {
    const done = await install.run(spawnArgs('/nonexistent/program'), { steps: goReady(true) });
    expect(done).toMatchObject({ status: 1, stderr: 'Failed to start command or shell: No such file or directory\n' });
  });

  it('defaults to a login shell', async () => {
    const done = await install.run(['-I', 'tap0'], {
      steps: goReady(true),
      env: { SHELL: '/bin/sh' },
      shell: 'echo "echo \\$0" | "$@"',
    });
    expect(done.stdout).toBe('-/bin/sh\n');
  });

  it('is told to end by SIGTERM, and killed half a second later', async () => {
    const polite = install.start(spawnArgs('sh', '-c', 'trap "exit 7" TERM; while :; do sleep 0.05; done'), {
      steps: goReady(true),
    });
    await install.scriptDone();
    await sleep(100);
    polite.kill('SIGTERM');
    await polite.closed;
    expect(polite.child.exitCode).toBe(7);
    const deaf = install.start(spawnArgs('sleep', '1000'), { steps: goReady(true) });
    await install.scriptDone();
    const before = performance.now();
    deaf.kill('SIGTERM');
    await deaf.closed;
    expect(deaf.child.exitCode).toBe(137);
    expect(performance.now() - before).toBeLessThan(1000);
  });

  it('keeps Ctrl-C to itself', async () => {
    const run = install.start(spawnArgs('sleep', '1000'), { steps: goReady(true) });
    await install.scriptDone();
    const family = [run.pid(), ...childrenOf(run.pid())];
    for (const signal of ['SIGINT', 'SIGQUIT'] as const) run.kill(signal);
    await sleep(100);
    expect(family.every(isAlive)).toBe(true);
  });
});

describe('the controller', () => {
  it('is given two channels, an empty environment and no privilege', async () => {
    const args = spawnArgs('true');
    const done = await install.run(args, { steps: goReady(true), env: { NODE_OPTIONS: '--bogus', LD_PRELOAD: '' } });
    expect(done.status).toBe(0);
    const seen = install.surroundings();
    expect(seen.argv).toEqual(['pasta', ...args]);
    expect(seen.env).toEqual({ UV_USE_IO_URING: '0' });
    expect(seen.cwd).toBe('/');
    expect(seen.descriptors.map(([fd]) => fd)).toEqual([0, 1, 2, 3, 4]);
    expect(seen.descriptors[0]?.[1]).toBe('/dev/null');
    expect(seen.descriptors[3]?.[1]).toMatch(/^socket:/);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      expect(seen.status).toMatch(new RegExp(`${set}:\t0+\n`));
    expect(seen.status).toMatch(/NoNewPrivs:\t1\n/);
  });

  it('has user, network, ipc, uts and mount namespaces of its own', async () => {
    const run = install.start(spawnArgs('sleep', '1000'), { steps: goReady(true) });
    await install.scriptDone();
    const controller = childrenOf(run.pid()).find((pid) => /node/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')));
    const theirs = namespaces(controller as number);
    const ours = namespaces(process.pid);
    for (const name of ['user', 'net', 'ipc', 'uts', 'mnt'] as const) expect(theirs[name]).not.toBe(ours[name]);
  });
});

describe('files of the command line', () => {
  it('start from the directory of the caller; a log can be read back, a capture cannot', async () => {
    const done = install.start(['-P', 'sub/pid', '-l', 'sub/log', '--pcap=./sub/pcap', ...spawnArgs('sleep', '1000')], {
      shell: `mkdir ${install.path('sub')} && cd ${install.directory} && exec "$@"`,
      steps: [
        call('host', 'file.create', { kind: 'log', path: 'sub/log' }),
        call('host', 'file.create', { kind: 'pcap', path: './sub/pcap' }),
        ...goReady(true),
      ],
    });
    await install.scriptDone();
    expect(readFileSync(install.path('sub/pid'), 'utf8')).toBe(`${done.pid()}\n`);
    const controller = childrenOf(done.pid()).find((pid) => /node/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')));
    /** The access mode of the controller's descriptor of a file: fcntl(2) F_GETFL. */
    const accessOf = (file: string): number => {
      const [fd] = [...descriptors(controller as number)].find(([, path]) => path === install.path(file)) ?? [];
      return Number(/^flags:\t(\d+)/m.exec(readFileSync(`/proc/${controller}/fdinfo/${fd}`, 'utf8'))?.[1]) % 10;
    };
    expect([accessOf('sub/log'), accessOf('sub/pcap')]).toEqual([constants.O_RDWR, constants.O_WRONLY]);
    for (const file of ['sub/log', 'sub/pcap', 'sub/pid'])
      expect(statSync(install.path(file)).mode & 0o777).toBe(0o600);
    done.kill('SIGTERM');
    await done.closed;
    expect(existsSync(install.path('sub/pid'))).toBe(false);
  });

  it('are not created through a symbolic link, nor in a directory that does not exist', async () => {
    const elsewhere = install.path('elsewhere');
    await install.run(['-fllink', '-pnowhere/pcap', ...spawnArgs('true')], {
      shell: `ln -s ${elsewhere} ${install.path('link')} && cd ${install.directory} && exec "$@"`,
      steps: [
        call('host', 'file.create', { kind: 'log', path: 'link' }),
        call('host', 'file.create', { kind: 'pcap', path: 'nowhere/pcap' }),
        ...goReady(true),
      ],
    });
    const errors = [0, 1].map((step) => install.reply(step).error);
    expect(errors.map((error) => error?.data.errno)).toEqual([osConstants.errno.ELOOP, osConstants.errno.ENOENT]);
    expect(errors[0]?.message).toContain('open log file link');
    expect(existsSync(elsewhere)).toBe(false);
  });

  it('are regular files with one name: no FIFO that would never open, no device, nothing of /proc, no second name', async () => {
    const paths = ['./fifo', '/proc/self/mem', '/dev/null', './hard'];
    await install.run(['-l', './fifo', '--log-file=/proc/self/mem', '-p/dev/null', '-fl./hard', ...spawnArgs('true')], {
      shell: `cd ${install.directory} && mkfifo fifo && echo precious > theirs && chmod 666 theirs && ln theirs hard && exec "$@"`,
      steps: [...paths.map((path) => call('host', 'file.create', { kind: 'log', path })), ...goReady(true)],
    });
    const errors = paths.map((_, step) => install.reply(step).error);
    expect(errors.map((error) => error?.data.errno)).toEqual(paths.map(() => osConstants.errno.EINVAL));
    expect(errors[1]?.message).toContain('not a regular file');
    expect(readFileSync(install.path('theirs'), 'utf8')).toBe('precious\n');
  });

  it('are those of the command line only: no other path, no part of one, no argument of the command', async () => {
    const paths = ['other', 'og', 'log2', '/etc/log', 'argument'];
    await install.run(['-l', 'log', '--pcap=a=b', ...spawnArgs('true', 'argument')], {
      shell: `cd ${install.directory} && exec "$@"`,
      steps: [
        ...[...paths, 'log', 'a=b'].map((path) => call('host', 'file.create', { kind: 'pcap', path })),
        ...goReady(true),
      ],
    });
    const errors = paths.map((_, step) => install.reply(step).error);
    expect(errors.map((error) => error?.data.errno)).toEqual(paths.map(() => osConstants.errno.EPERM));
    expect(errors[0]?.message).toContain('create other, which is not on the command line');
    expect(paths.filter((path) => existsSync(install.path(path)))).toEqual([]);
    expect(['log', 'a=b'].filter((path) => !existsSync(install.path(path)))).toEqual([]);
  });

  it('a PID file that another instance has made since is left to it', async () => {
    const done = install.start(['-P', 'pid', ...spawnArgs('sleep', '1000')], {
      shell: `cd ${install.directory} && exec "$@"`,
      steps: goReady(true),
    });
    await install.scriptDone();
    rmSync(install.path('pid'));
    writeFileSync(install.path('pid'), 'theirs\n');
    done.kill('SIGTERM');
    await done.closed;
    expect(readFileSync(install.path('pid'), 'utf8')).toBe('theirs\n');
  });

  it('the PID file does not grow with further calls of ready', async () => {
    const done = install.start(['-P', 'pid', ...spawnArgs('sleep', '1000')], {
      shell: `cd ${install.directory} && exec "$@"`,
      steps: [...goReady(true), call('host', 'ready', {}), call('host', 'ready', {})],
    });
    await install.scriptDone();
    expect(readFileSync(install.path('pid'), 'utf8')).toBe(`${done.pid()}\n`);
    done.kill('SIGTERM');
    await done.closed;
  });
});

describe('joining a namespace', () => {
  it('by PID: the tap is there before the controller is, and gone with us', async () => {
    const pid = await target();
    const run = install.start(['-f', '-I', 'tap0', String(pid)], { steps: goReady(false) });
    await waitFor(async () => (await interfacesOf(pid)).includes('tap0'), { what: 'the tap' });
    await install.scriptDone();
    expect(await interfacesOf(pid)).toMatch(/lo +UNKNOWN/);
    run.kill('SIGTERM');
    await run.closed;
    expect(run.child.exitCode).toBe(0);
    expect(await interfacesOf(pid)).not.toContain('tap0');
  });

  it('in the background: exits 0 when ready, PID file written, standard output let go', async () => {
    const pid = await target();
    const pidFile = install.path('pid');
    const done = await install.run(['-P', pidFile, '-I', 'tap0', String(pid)], { steps: goReady(false) });
    expect(done).toMatchObject({ status: 0, stdout: '', stderr: '', timedOut: false });
    expect(statSync(pidFile).mode & 0o777).toBe(0o600);
    const survivor = Number(readFileSync(pidFile, 'utf8'));
    expect(readFileSync(pidFile, 'utf8')).toBe(`${survivor}\n`);
    const family = [survivor, ...descendants(survivor)];
    expect(family.length).toBe(3);
    process.kill(survivor, 'SIGTERM');
    await waitFor(() => !family.some(isAlive), { what: 'all of them to end', timeoutMs: 1000 });
    expect(existsSync(pidFile)).toBe(false);
  });

  it('ends when the process does, and stays with --no-netns-quit', async () => {
    const pid = await target();
    const run = install.start(['-f', '-I', 'tap0', String(pid)], { steps: goReady(false) });
    await install.scriptDone();
    process.kill(pid, 'SIGKILL');
    await waitFor(() => run.child.exitCode !== null, { what: 'the helper to notice', timeoutMs: 1000 });
    expect(run.child.exitCode).toBe(0);

    const other = await target();
    const staying = install.start(['-f', '--no-netns-quit', '-I', 'tap0', String(other)], { steps: goReady(false) });
    await install.scriptDone();
    process.kill(other, 'SIGKILL');
    await sleep(300);
    expect(staying.child.exitCode).toBe(null);
    staying.kill('SIGTERM');
    await staying.closed;
  });

  it('by name: ends when the name is removed', async () => {
    const script = `mount -t tmpfs tmpfs /run && ip netns add target && ip netns add other &&
      { "$@" & } && helper=$! && while ! [ -e ${install.path('script-done')} ]; do sleep 0.01; done &&
      ip netns exec target ip -br link && ip netns del other && sleep 0.2 && kill -0 $helper && ip netns del target && wait $helper; echo status $?`;
    install.script(goReady(false));
    const run = start(
      ordinary([
        'unshare',
        '-Urnm',
        'sh',
        '-c',
        script,
        'sh',
        install.path('bin/pasta'),
        '-f',
        '-I',
        'tap0',
        '--netns',
        'target',
      ]),
      { env: { PASTICHE_NODE: process.execPath } },
    );
    helpers.push(run);
    await run.closed;
    expect(run.err()).toBe('');
    expect(run.out()).toMatch(/^lo +UNKNOWN.*\ntap0 .*\nstatus 0\n$/s);
  });

  it.runIf(isRoot)('as root: changes to nobody, or to --runas', async () => {
    const uids = (pid: number): string[] =>
      [pid, ...descendants(pid)].map(
        (one) => /Uid:\t(\d+)/.exec(readFileSync(`/proc/${one}/status`, 'utf8'))?.[1] ?? '',
      );
    const nobody = install.start(spawnArgs('sleep', '1000'), { root: true, steps: goReady(true) });
    await install.scriptDone();
    expect(nobody.err()).toBe('Started as root, will change to nobody.\n');
    expect(new Set(uids(nobody.pid()))).toEqual(new Set(['65534']));
    expect(install.reply(0).result).toMatchObject({ startedAsRoot: true });
    nobody.kill('SIGKILL');
    await nobody.closed;

    const other = install.start(['--runas', '1234:5678', ...spawnArgs('sleep', '1000')], {
      root: true,
      steps: goReady(true),
    });
    await install.scriptDone();
    expect(new Set(uids(other.pid()))).toEqual(new Set(['1234']));
    expect(readFileSync(`/proc/${other.pid()}/status`, 'utf8')).toMatch(
      /Gid:\t5678\t5678\t5678\t5678\n.*Groups:\t ?\n/s,
    );
  });
});

describe('the death of one is the death of all, within a second', () => {
  const stages = {
    'while the controller boots': [],
    'in setup': [call('host', 'session.hello', { protocol: 1 })],
    sealed: sealBoth(),
    running: goReady(true),
  } as const;
  for (const [stage, steps] of Object.entries(stages)) {
    it.each([0, 1, 2, 3])(`${stage}: process %i of the tree`, async (index) => {
      const run = install.start(spawnArgs('sleep', '1000'), { steps });
      if (steps.length > 0) await install.scriptDone();
      const family = await waitFor(
        () => {
          const all = [run.pid(), ...descendants(run.pid())];
          return all.length === 4 ? all : null;
        },
        { what: 'host side, controller, broker and command' },
      );
      process.kill(family[index] as number, 'SIGKILL');
      await waitFor(() => !family.some(isAlive), { what: 'all of them to end', timeoutMs: 1000 });
      await run.closed;
      expect(run.child.exitCode).not.toBe(0);
    });
  }

  it('a controller that closes its channel and goes on living', async () => {
    const run = install.start(spawnArgs('sleep', '1000'), { steps: [...goReady(true), { hang: true }] });
    const family = await waitFor(
      () => {
        const all = [run.pid(), ...descendants(run.pid())];
        return all.length === 4 ? all : null;
      },
      { what: 'host side, controller, broker and command' },
    );
    await run.closed;
    expect(run.child.exitCode).toBe(1);
    expect(family.some(isAlive)).toBe(false);
  });

  it('a controller that ends with 0 while the command runs: that is a failure of ours', async () => {
    const run = install.start(spawnArgs('sleep', '1000'), { steps: [...goReady(true), { exit: 0 }] });
    await run.closed;
    expect(run.child.exitCode).toBe(1);
  });

  it('the launched process, while the survivor is not ready', async () => {
    const pid = await target();
    const run = install.start(['-I', 'tap0', String(pid)], { steps: sealBoth() });
    await install.scriptDone();
    const family = [run.pid(), ...descendants(run.pid())];
    expect(family.length).toBe(4);
    run.kill('SIGKILL');
    await waitFor(() => !family.some(isAlive), { what: 'all of them to end', timeoutMs: 1000 });
    expect(await interfacesOf(pid)).not.toContain('tap0');
  });
});

describe('time', () => {
  it('the tap exists within 10 ms of exec', async () => {
    const pid = await target();
    const times: number[] = [];
    install.script([]);
    for (let i = 0; i < 5; i++) {
      const log = install.path(`strace-${i}`);
      const run = start(
        ordinary([
          'strace',
          '-f',
          '--seccomp-bpf', // stops at nothing but the calls that are traced
          '-ttt',
          '-e',
          'trace=execve,ioctl',
          '-o',
          log,
          install.path('bin/pasta'),
          '-f',
          '-I',
          'tap0',
          String(pid),
        ]),
        {
          env: { PASTICHE_NODE: process.execPath },
        },
      );
      helpers.push(run);
      await waitFor(() => existsSync(log) && /TUNSETVNETHDRSZ/.test(readFileSync(log, 'utf8')), { what: 'the tap' });
      const lines = readFileSync(log, 'utf8').split('\n');
      const at = (pattern: RegExp): number => Number(lines.find((line) => pattern.test(line))?.split(/ +/)[1]);
      // The tap is attached when its header size is set.
      times.push((at(/TUNSETVNETHDRSZ/) - at(/execve/)) * 1000);
      process.kill(childrenOf(run.pid())[0] as number, 'SIGKILL');
      await run.closed;
    }
    expect(Math.min(...times)).toBeLessThan(10);
  });

  it('an idle helper sleeps', async () => {
    const run = install.start(spawnArgs('sleep', '1000'), { steps: goReady(true) });
    await install.scriptDone();
    await sleep(200);
    const switches = (pid: number): number =>
      Number(/^voluntary_ctxt_switches:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
    const natives = [run.pid(), ...childrenOf(run.pid())].filter(
      (pid) => !readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('controller.cjs'),
    );
    expect(natives.length).toBe(2);
    const before = natives.map(switches);
    await sleep(2000);
    expect(natives.map(switches)).toEqual(before);
  });
});
