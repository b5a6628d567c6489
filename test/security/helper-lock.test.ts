// SPDX-License-Identifier: Apache-2.0
/** --lock-fd and `pastiche instance`: an instance is found and ended by the lock that it holds, and by nothing else. */
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isRoot } from '../support/lab.mjs';
import { childrenOf, descriptors, isAlive, type Started, start, waitFor } from '../support/process.mjs';
import { goReady, Installation, ordinary } from './helper-harness.ts';

let install: Installation;
let target: Started;
let lock: string;
const makeLock = (): void => {
  writeFileSync(lock, '');
  chmodSync(lock, 0o666); // whatever the umask is
};
beforeEach(async () => {
  install = new Installation();
  lock = install.path('lock');
  makeLock();
  const holder = start(ordinary(['unshare', '-Urn', 'sleep', '1000']), {});
  target = holder;
  await waitFor(() => readFileSync(`/proc/${holder.pid()}/comm`, 'utf8') === 'sleep\n', { what: 'the target' });
});
afterEach(async () => {
  await keeper('end', '5000');
  target.kill('SIGKILL');
  install.remove();
});

/** With the lock file, open anew, as descriptor 3. */
const WITH_LOCK = (path: string) => `exec 3<${path} && exec "$@"`;
const args = (fd = '3'): string[] => ['-I', 'tap0', '--lock-fd', fd, String(target.pid())];
/** `pastiche instance …` on the lock file. */
const keeper = async (...words: string[]) =>
  install.run(['instance', ...words], { program: 'bin/pastiche', shell: WITH_LOCK(lock) });
const holders = async (): Promise<number> => Number((await keeper('holder')).stdout);
/** Host side, controller, broker. */
const family = async (): Promise<number[]> => {
  const known = await holders();
  const parent = Number(/^PPid:\t(\d+)/m.exec(readFileSync(`/proc/${known}/status`, 'utf8'))?.[1]);
  const first = childrenOf(parent).length > 1 && parent > 1 && commandOf(parent).includes('--lock-fd') ? parent : known;
  return [first, ...childrenOf(first)];
};
/** Of the kernel's table, those that a process waits for. */
const blockedLocks = (pid: number): string =>
  readFileSync('/proc/locks', 'ascii')
    .split('\n')
    .filter((line) => line.includes('->') && line.split(/\s+/).includes(String(pid)))
    .join('\n');
const commandOf = (pid: number): string => readFileSync(`/proc/${pid}/cmdline`, 'utf8');

const started = async (): Promise<number[]> => {
  const done = await install.run(args(), { steps: goReady(false), shell: WITH_LOCK(lock) });
  expect(done).toMatchObject({ status: 0, stderr: '' });
  return family();
};

describe('an instance in the background', () => {
  it('all of its processes hold the lock file, once each; its caller needs no descriptor of it', async () => {
    const pids = await started();
    expect(pids).toHaveLength(3);
    // What sealed processes have open is for root alone to see.
    for (const pid of isRoot ? pids : [])
      expect([...descriptors(pid).values()].filter((to) => to === lock)).toHaveLength(1);
    expect(await keeper('lock', '0')).toMatchObject({ status: 75 });
  });
  it('is ended in order, and the lock is free when nothing of it is left', async () => {
    const pids = await started();
    expect(await keeper('end', '10000')).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(pids.filter(isAlive)).toEqual([]);
    expect(await keeper('lock', '0')).toMatchObject({ status: 0 });
    expect(await keeper('holder')).toMatchObject({ status: 1 });
  });
  it.each([0, 1, 2])('is ended when process %i was stopped, and when all were', async (which) => {
    const pids = await started();
    for (const pid of which === 2 ? pids : [pids[which] as number]) process.kill(pid, 'SIGSTOP');
    expect(await keeper('end', '10000')).toMatchObject({ status: 0, stderr: '' });
    expect(pids.filter(isAlive)).toEqual([]);
  });
  it('frees the lock when it is killed', async () => {
    const pids = await started();
    process.kill(pids[0] as number, 'SIGKILL');
    expect(await keeper('lock', '5000')).toMatchObject({ status: 0 });
    await waitFor(() => !pids.some(isAlive), { what: 'the end of the others' });
  });
});

it('before it is ready it ends with its caller', async () => {
  const shell = `${WITH_LOCK(lock).replace('exec "$@"', '"$@"')}; echo after`;
  const caller = install.start(args(), { steps: [{ pause: 'here' }, ...goReady(false)], shell });
  await install.paused('here');
  expect(await holders()).toBeGreaterThan(0);
  caller.kill('SIGKILL');
  expect(await keeper('lock', '5000')).toMatchObject({ status: 0 });
  expect(caller.out()).not.toContain('after');
});

describe('is refused in a sentence', () => {
  const refused = async (shell: string, fd = '3') => {
    const done = await install.run(args(fd), { steps: goReady(false), shell });
    expect(done.status).toBe(1);
    expect(done.stderr.split('\n')).toHaveLength(2);
    return done.stderr;
  };
  it('what is no lock file, or not open', async () => {
    expect(await refused('exec "$@"')).toMatch(/lock file of --lock-fd: Bad file descriptor/);
    expect(await refused('exec "$@"', '2')).toMatch(/Invalid --lock-fd: 2/);
    expect(await refused('exec 3</ && exec "$@"')).toMatch(/is not a lock file/);
    expect(await refused(`exec 3<>${lock} && exec "$@"`)).toMatch(/for reading only/);
  });
  it('a lock file that was removed', async () => {
    expect(await refused(`exec 3<${lock} && rm ${lock} && exec "$@"`)).toMatch(/was removed/);
    makeLock();
  });
  it('one that somebody has, as `instance end` does until the file is removed', async () => {
    const owner = install.start([], { shell: `exec 3<>${lock} && flock -x 3 && echo has && exec sleep 1000` });
    await waitFor(() => owner.out().includes('has'), { what: 'the lock' });
    expect(await refused(WITH_LOCK(lock))).toMatch(/Resource temporarily unavailable/);
    unlinkSync(lock);
    makeLock();
  });
  it('the network namespace that pasta is in itself', async () => {
    const line = ['--netns', '/proc/self/ns/net', '--runas', '0', '-I', 'tap0', '--lock-fd', '3'];
    // One that has nothing to lose, whatever comes of it.
    const shell = `exec 3<${lock} && exec unshare -Urn "$@"`;
    const done = await install.run(line, { steps: goReady(false), shell });
    expect(done).toMatchObject({ status: 1, stderr: expect.stringContaining("is pasta's own\n") });
  });
  it('a command of its own', async () => {
    const done = await install.run(['--lock-fd', '3', '--', 'true'], { shell: WITH_LOCK(lock) });
    expect(done).toMatchObject({ status: 1, stderr: '--lock-fd needs --netns or a PID to join\n' });
  });
});

it('nobody but the instance is ended: not who has the file open, or locked it', async () => {
  const bystander = install.start([], { shell: `exec 3<>${lock} && flock -s 3 && echo has && exec sleep 1000` });
  await waitFor(() => bystander.out().includes('has'), { what: 'the lock' });
  expect(await keeper('end', '300')).toMatchObject({ status: 75 });
  expect(isAlive(bystander.pid())).toBe(true);
  bystander.kill('SIGKILL');
});

it('whoever waits ends with its caller', async () => {
  const owner = install.start([], { shell: `exec 3<>${lock} && flock -x 3 && echo has && exec sleep 1000` });
  await waitFor(() => owner.out().includes('has'), { what: 'the lock' });
  const shell = `exec 3<${lock}; "$@"; echo after`;
  const caller = install.start(['instance', 'lock', '60000'], { program: 'bin/pastiche', shell });
  let waiting: number[] = [];
  await waitFor(
    () => {
      waiting = childrenOf(caller.pid()).filter((pid) => commandOf(pid).includes('60000'));
      return waiting.some((pid) => /FLOCK/.test(blockedLocks(pid)));
    },
    { what: 'the one that waits' },
  );
  caller.kill('SIGKILL');
  await waitFor(() => !waiting.some(isAlive), { what: 'its end' });
  owner.kill('SIGKILL');
});

it('what runs in a PID namespace that is not seen from here is said to, at once', async () => {
  await started();
  const shell = `exec 3<${lock} && exec unshare -Urpf "$@"`;
  for (const words of [['holder'], ['end', '10000']])
    expect(await install.run(['instance', ...words], { program: 'bin/pastiche', shell })).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringContaining('in another PID namespace'),
    });
});

it('a FIFO is no namespace, and nobody is waited for at its other end', async () => {
  const fifo = install.path('fifo');
  execFileSync('mkfifo', ['-m', '666', fifo]);
  expect(await keeper('look', fifo, 'eth0')).toMatchObject({ status: 66 });
});

it('words that are none', async () => {
  for (const words of [[], ['start'], ['lock'], ['lock', 'x'], ['look', '/x']]) {
    const done = await keeper(...words);
    expect(done.status).toBe(1);
    expect(done.stderr).toMatch(/pastiche instance/);
  }
  expect(await keeper('look', '/nonexistent', 'eth0')).toMatchObject({ status: 66 });
  expect(await keeper('look', '/etc/passwd', 'eth0')).toMatchObject({ status: 66 });
});
