// SPDX-License-Identifier: Apache-2.0
/** Processes that are killed, stopped and continued in every stage, and exit statuses that tell the truth about it. */
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { descendants, type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { finish, isAlive, type Started, signalQuietly, status, waitFor } from '../support/process.mjs';
import { client, ECHO_PORT, echoServer } from '../support/programs.ts';

/** Promised: docs/SECURITY.md, "Life and death". */
const GONE_WITHIN_MS = 1000;

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
  await echoServer(lab);
});
afterAll(() => lab.cleanup());

const labPid = (pid: number): string => status(pid)['NSpid']?.split(/\s+/)[1] ?? '';
const commandLine = (pid: number): string => readFileSync(`/proc/${pid}/cmdline`, 'utf8');
const isController = (pid: number): boolean => commandLine(pid).includes('controller.cjs');
const state = (pid: number): string => status(pid)['State']?.[0] ?? '';
/** The three processes of an instance by what they are. */
const roles = (guest: Guest): { host: number; controller: number; broker: number } => {
  const others = guest.toolProcesses().filter((pid) => pid !== guest.pid);
  const controller = others.find(isController) as number;
  return { host: guest.pid, controller, broker: others.find((pid) => pid !== controller) as number };
};
const allGone = (pids: readonly number[]) =>
  waitFor(() => !pids.some(isAlive), { what: 'all of them to be gone', timeoutMs: GONE_WITHIN_MS });
const whole = (guest: Guest): number[] => [guest.pid, ...descendants(guest.pid)];

describe('killed while it starts', () => {
  let namespace: Started;
  let before: readonly number[];
  const mine = (): number[] => lab.processes().filter((pid) => !before.includes(pid) && isAlive(pid));
  const target = async (): Promise<string> => {
    namespace = lab.user.spawn(['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', 'echo made; exec cat'], {
      stdin: 'pipe',
    });
    await waitFor(() => namespace.out().includes('made'), { what: 'a target namespace' });
    before = lab.processes();
    return labPid(namespace.pid());
  };
  afterEach(async () => {
    namespace.child.stdin?.end();
    await namespace.closed;
  });
  const links = (pid: string): Promise<string> => lab.into(pid).run(['ip', '-o', 'link']);
  const nothingLeft = async (pid: string): Promise<void> => {
    await waitFor(() => mine().length === 0, { what: 'all of them to be gone', timeoutMs: GONE_WITHIN_MS });
    await waitFor(async () => !(await links(pid)).includes('eth0'), { what: 'the tap to go', timeoutMs: 1000 });
    // In the first milliseconds there is one process only, and nobody to remove its file: never one that names a process.
    expect((await lab.host.attempt(['cat', '/run/scratch/pid'])).stdout).toBe('');
    await lab.host.run(['rm', '-f', '/run/scratch/pid']);
  };

  /** From before the tap is there until the network is about to be ready (in 80 ms or so); in the background and not. */
  const moments = [0, 5, 15, 30, 45, 60, 80].flatMap((ms) => [true, false].map((isBackground) => [ms, isBackground]));
  it.each(moments as [number, boolean][])(
    'the launched process, after %i ms, background: %s',
    async (ms, isBackground) => {
      const pid = await target();
      const argv = ['--config-net', '-P', '/run/scratch/pid', ...(isBackground ? [] : ['-f']), pid];
      const tool = lab.user.spawn(lab.argv(argv));
      await waitFor(() => tool.pid() > 1, { what: 'a process that can be killed', everyMs: 1 });
      await new Promise((done) => setTimeout(done, ms));
      tool.kill('SIGKILL');
      await tool.closed;
      // In the background it may have been ready by then: the survivor is another process, and has to live.
      if (tool.child.exitCode === 0) for (const survivor of mine()) signalQuietly(survivor, 'SIGTERM');
      await nothingLeft(pid);
    },
  );

  it.each([1, 2, 3])('process %i of those that appear', async (nth) => {
    const pid = await target();
    const tool = lab.user.spawn(lab.argv(['--config-net', '-f', '-P', '/run/scratch/pid', pid]));
    const victim = await waitFor(() => [tool.pid(), ...descendants(tool.pid())].filter((one) => one > 0)[nth - 1], {
      what: 'the process',
      everyMs: 1,
    });
    signalQuietly(victim, 'SIGKILL');
    await tool.closed;
    expect(tool.child.exitCode).not.toBe(0);
    await nothingLeft(pid);
  });
});

describe('stopped', () => {
  it('all of it, and continued: established flows and new ones go on', async () => {
    const guest = await lab.guest(['--config-net']);
    const flows = guest.spawn(client('flows', NET.server4, ECHO_PORT, 20), { stdin: 'pipe' });
    await waitFor(() => flows.out().includes('{"open":20}'), { what: '20 open flows' });
    const tool = guest.toolProcesses();
    for (const pid of tool) process.kill(pid, 'SIGSTOP');
    await waitFor(() => tool.every((pid) => state(pid) === 'T'), { what: 'all to stand still' });
    flows.child.stdin?.end(); // echoes on each and closes
    expect(await guest.attempt(['ping', '-c', '1', '-W', '1', NET.server4])).toMatchObject({ status: 1 });
    expect(flows.out()).not.toContain('closed');
    for (const pid of tool) process.kill(pid, 'SIGCONT');
    process.kill(guest.tool.child.pid as number, 'SIGCONT'); // nsenter stops when its child does
    expect((await finish(flows, { timeoutMs: 10_000 })).stdout).toContain('{"closed":20}');
    expect(await guest.run(['ping', '-c', '1', '-W', '2', NET.server4])).toContain('1 received');
    expect(await guest.close()).toMatchObject({ status: 0, timedOut: false });
  });

  const pairs = [
    ['broker', 'host'],
    ['broker', 'controller'],
    ['controller', 'host'],
    ['controller', 'broker'],
  ] as const;
  it.each(pairs)('the %s, when the %s is killed: nothing outlives it', async (stopped, killed) => {
    const guest = await lab.guest(['--config-net']);
    const all = whole(guest);
    const pids = roles(guest);
    process.kill(pids[stopped], 'SIGSTOP');
    await waitFor(() => state(pids[stopped]) === 'T', { what: 'it to stand still' });
    process.kill(pids[killed], 'SIGKILL');
    await allGone(all);
  });

  it.each(['broker', 'controller'] as const)('the %s, when all is told to end: it ends', async (stopped) => {
    const guest = await lab.guest(['--config-net']);
    const all = whole(guest);
    process.kill(roles(guest)[stopped], 'SIGSTOP');
    guest.tool.kill('SIGTERM');
    await allGone(all);
  });
});

describe('our own failure is never status 0', () => {
  it.each(['host', 'controller', 'broker'] as const)('the %s killed while the command runs', async (victim) => {
    const guest = await lab.guest(['--config-net']);
    process.kill(roles(guest)[victim], 'SIGKILL');
    const { status: exit, signal } = await finish(guest.tool, { timeoutMs: 5000 });
    expect(exit === null ? signal : exit).not.toBe(0);
  });

  it.each([
    ['a namespace that is not there', ['--netns', '/run/netns/none']],
    ['a process that is not there', ['4194303']],
    ['an interface that is not there', ['--config-net', '-i', 'none0', '--', 'true']],
    ['a directory that is not there', ['--config-net', '--pcap', '/nonexistent/file', '--', 'true']],
    ['a PID file that cannot be made', ['--config-net', '-P', '/nonexistent/pid', '--', 'true']],
    ['an option that is not there', ['--no-such-option']],
  ])('%s: one sentence', async (_, args) => {
    const done = await lab.user.attempt([lab.binary, ...args], { timeoutMs: 5000 });
    expect(done).toMatchObject({ status: 1, timedOut: false, stdout: '' });
    expect(done.stderr.split('\n')[0]).toMatch(/^\S.{10,}/);
  });
});

describe('started again and again', () => {
  it('30 times: each is ready, ends with its status, and leaves nothing', async () => {
    const before = lab.processes();
    for (let i = 0; i < 30; i++) {
      const script = `ip -o addr show dev eth0 | grep -q ${NET.host4} && exit ${i}; exit 99`;
      expect(await lab.pasta(['--config-net'], ['sh', '-c', script], { timeoutMs: 5000 })).toMatchObject({
        status: i,
        stderr: '',
        timedOut: false,
      });
    }
    await waitFor(() => lab.processes().every((pid) => before.includes(pid)), {
      what: 'all to be gone',
      timeoutMs: 1000,
    });
  });
});
