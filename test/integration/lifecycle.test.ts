// SPDX-License-Identifier: Apache-2.0
/** Start, background, exit status, and the many ways to end: whatever dies, nothing stays. */
import { readlinkSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { descendants, type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { contextSwitches, finish, isAlive, type Started, status, waitFor } from '../support/process.mjs';

const GONE_WITHIN_MS = 1000;
const PID_FILE = '/run/scratch/pid';

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
});
afterAll(() => lab.cleanup());

/** PID in the lab's PID namespace, which is what the tool under test sees. */
const labPid = (pid: number): string => status(pid)['NSpid']?.split(/\s+/)[1] ?? '';
const allGone = (pids: readonly number[], what: string) =>
  waitFor(() => !pids.some(isAlive), { what: `${what} to be gone`, timeoutMs: GONE_WITHIN_MS });

/** A network namespace with its user namespace, held by a process of the ordinary user. */
const target = async (): Promise<{ holder: Started; pid: number }> => {
  const holder = lab.user.spawn(['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', 'echo made; exec cat'], {
    stdin: 'pipe',
  });
  await waitFor(() => holder.out().includes('made'), { what: 'a target namespace' });
  return { holder, pid: holder.pid() };
};
/** The processes of the lab that were not there before. */
const processesSince = (before: readonly number[]) =>
  lab.processes().filter((pid) => !before.includes(pid) && isAlive(pid));

describe('a command', () => {
  it.each([
    ['exit 0', 0],
    ['exit 3', 3],
    ['exit 255', 255],
  ])('%s: the tool ends with status %i', async (script, expected) => {
    expect(await lab.pasta(['--config-net'], ['sh', '-c', script])).toMatchObject({
      status: expected,
      timedOut: false,
    });
  });

  it('that dies by a signal: the tool ends with 128 and its number', async () => {
    // From outside: the command is process 1 of its PID namespace, which ordinary signals do not end.
    const guest = await lab.guest(['--config-net']);
    process.kill(guest.commandPid, 'SIGKILL');
    expect(await finish(guest.tool, { timeoutMs: 5000 })).toMatchObject({ status: 128 + 9, timedOut: false });
  });

  it('that does not exist is one clear line and status 1 or 127', async () => {
    const done = await lab.pasta(['--config-net'], ['/nonexistent/command']);
    expect([1, 127]).toContain(done.status);
    expect(done.stderr.trim()).toMatch(/^[^\n]*No such file or directory$/);
  });

  it("has the caller's standard input and output", async () => {
    const done = await lab.pasta(['--config-net'], ['sh', '-c', 'cat; echo error >&2'], { input: 'a line\n' });
    expect(done.stdout).toBe('a line\n');
    expect(done.stderr).toContain('error\n');
  });

  it('leaves no process behind', async () => {
    const before = lab.processes();
    await lab.pasta(['--config-net'], ['true']);
    await waitFor(() => processesSince(before).length === 0, { what: 'all to be gone', timeoutMs: GONE_WITHIN_MS });
  });
});

describe('in the background', () => {
  let namespace: { holder: Started; pid: number };
  let before: readonly number[];
  /** Starts the tool for a new target; the call returns when the network is ready and the caller's output is closed. */
  const background = async (): Promise<number[]> => {
    namespace = await target();
    before = lab.processes();
    const done = await lab.pasta(['--config-net', '-P', PID_FILE, labPid(namespace.pid)], [], { timeoutMs: 5000 });
    expect(done).toMatchObject({ status: 0, timedOut: false });
    return processesSince(before);
  };
  const pidFileExists = async () => (await lab.host.attempt(['test', '-e', PID_FILE])).status === 0;
  afterEach(async () => {
    namespace.holder.child.stdin?.end();
    await finish(namespace.holder, { timeoutMs: 2000 });
    await waitFor(() => processesSince(before).length === 0, {
      what: 'the tool to follow its namespace',
      timeoutMs: 3000,
    });
    expect(await pidFileExists()).toBe(false);
  });

  it("the network is ready, the PID file names a survivor, the caller's output is at its end", async () => {
    const survivors = await background();
    const written = (await lab.host.run(['cat', PID_FILE])).trim();
    expect(survivors.map(labPid)).toContain(written);
    expect(await lab.into(labPid(namespace.pid)).run(['ping', '-c', '1', '-W', '2', NET.server4])).toContain(
      '1 received',
    );
  });

  it.each(['TERM', 'INT', 'HUP', 'QUIT'])('SIG%s to the PID of the file ends all of it', async (signal) => {
    const survivors = await background();
    await lab.host.run(['sh', '-c', `kill -${signal} "$(cat ${PID_FILE})"`]);
    await allGone(survivors, 'every process');
    expect(await pidFileExists()).toBe(false);
  });

  it('SIGKILL of any one process ends all of it, and takes the tap and the PID file away', async () => {
    const count = (await background()).length;
    const tapSurvived: number[] = [];
    const fileSurvived: number[] = [];
    for (let victim = 0; victim < count; victim++) {
      if (victim > 0) await background();
      const all = processesSince(before);
      process.kill(all[victim] as number, 'SIGKILL');
      await allGone(all, `every process after the death of number ${victim} of ${count}`);
      // A process is a zombie a moment before the kernel has closed all its descriptors: a second is what is promised.
      const links = async (): Promise<string> => lab.into(labPid(namespace.pid)).run(['ip', '-o', 'link']);
      const second = { what: 'the tap and the PID file to go', timeoutMs: 1000 };
      await waitFor(async () => !(await links()).includes('eth0') && !(await pidFileExists()), second).catch(() => {});
      if ((await links()).includes('eth0')) tapSurvived.push(victim);
      if (await pidFileExists()) fileSurvived.push(victim);
      await lab.host.run(['rm', '-f', PID_FILE]);
      namespace.holder.child.stdin?.end();
      await namespace.holder.closed;
    }
    expect({ tapSurvived, fileSurvived }).toEqual({ tapSurvived: [], fileSurvived: [] });
  });

  it('a namespace bound to a name: ends when the name is removed', async () => {
    namespace = await target();
    before = lab.processes();
    await lab.host.run(['ip', 'netns', 'add', 'named']);
    const argv = lab.argv(['--config-net', '-P', PID_FILE, '--netns', 'named', '--runas', '0']);
    const done = await lab.host.attempt(argv, { timeoutMs: 5000 });
    expect(done).toMatchObject({ status: 0, timedOut: false });
    const survivors = processesSince(before);
    expect(survivors.length).toBeGreaterThan(0);
    await lab.host.run(['ip', 'netns', 'del', 'named']);
    await waitFor(() => !survivors.some(isAlive), { what: 'the tool to follow its namespace', timeoutMs: 3000 });
  });
});

describe('in the foreground', () => {
  const everything = (guest: Guest): number[] => [guest.pid, ...descendants(guest.pid)];

  it('SIGKILL of any one process ends all of it, the command included', async () => {
    let count = 1;
    for (let victim = 0; victim < count; victim++) {
      const guest = await lab.guest(['--config-net']);
      const tool = guest.toolProcesses();
      count = tool.length;
      const all = everything(guest);
      process.kill(tool[victim] as number, 'SIGKILL');
      await allGone(all, `every process after the death of number ${victim} of ${count}`);
    }
  });

  it("a controller that dies just before the command's end: the command's success is none", async () => {
    for (let i = 0; i < 5; i++) {
      const guest = await lab.guest(['--config-net']);
      const controller = guest.toolProcesses().find((pid) => status(pid)['Name'] === 'node') as number;
      // The command runs a moment before the tool counts itself as ready, and lets go of its caller's descriptors.
      await waitFor(() => readlinkSync(`/proc/${guest.pid}/fd/0`) === '/dev/null', { what: 'the tool to be ready' });
      process.kill(controller, 'SIGKILL');
      // The kernel takes some 20 ms to dismantle Node: this is within them.
      expect(await guest.close()).toMatchObject({ status: 1, timedOut: false });
    }
  });

  // SIGINT and SIGQUIT of a terminal belong to the command; `in the background` tries them.
  it.each(['SIGTERM', 'SIGHUP'] as const)('%s ends all of it', async (signal) => {
    const guest = await lab.guest(['--config-net']);
    const all = everything(guest);
    guest.tool.kill(signal);
    await allGone(all, 'every process');
  });

  it('wakes at most twice a second when idle', async () => {
    const guest = await lab.guest(['--config-net']);
    await guest.run(['ping', '-c', '1', NET.server4]);
    const switches = () => guest.toolProcesses().reduce((sum, pid) => sum + contextSwitches(pid), 0);
    // Start-up work (V8's compiler threads, neighbour discovery) takes a moment to come to rest.
    await new Promise((done) => setTimeout(done, 5000));
    const before = switches();
    await new Promise((done) => setTimeout(done, 5000));
    expect((switches() - before) / 5).toBeLessThanOrEqual(2);
    await guest.close();
  });
});
