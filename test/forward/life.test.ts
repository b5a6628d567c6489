// SPDX-License-Identifier: Apache-2.0
/** Forwarded ports and the life of the tool: they end with the namespace, and cost little while nobody uses them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HOST, LOOPBACK } from '../support/forward-cells.ts';
import { askOne, seen, serve } from '../support/forward-programs.ts';
import { type Lab, makeLab } from '../support/lab.mjs';
import { contextSwitches, finish, isAlive, type Started, status, waitFor } from '../support/process.mjs';
import { client } from '../support/programs.ts';

const GONE_WITHIN_MS = 1000;
const PORT = 8001;
const HOST_PORT = 8101;
const FORWARDS = ['-t', `${PORT},${PORT + 1}`, '-u', String(PORT), '-T', 'auto', '-U', 'auto'];
const SETTLE_MS = 2500;
const IDLE_MS = 3000;
/** Of all processes: a look a second, and what V8 does by itself. */
const SWITCHES_PER_SECOND = 6;

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
  await serve(lab.host, [{ protocol: 'tcp', address: LOOPBACK[4], port: HOST_PORT }]);
});
afterAll(() => lab.cleanup());

const labPid = (pid: number): string => status(pid)['NSpid']?.split(/\s+/)[1] ?? '';
/** A network namespace with its user namespace, held by a process of the ordinary user, with its loopback up. */
const target = async (): Promise<{ holder: Started; pid: number }> => {
  const script = 'ip link set lo up; echo made; exec cat';
  const holder = lab.user.spawn(['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', script], {
    stdin: 'pipe',
  });
  await waitFor(() => holder.out().includes('made'), { what: 'a target namespace' });
  return { holder, pid: holder.pid() };
};
const listening = async (): Promise<boolean> =>
  (await lab.host.run(['ss', '-Hltun', 'sport', '=', `:${PORT}`, 'or', 'sport', '=', `:${PORT + 1}`])) !== '';

describe('a namespace that goes away', () => {
  it('takes the tool, its ports and its connections with it within a second', async () => {
    const namespace = await target();
    const before = lab.processes();
    const done = await lab.user.attempt([lab.binary, '--config-net', ...FORWARDS, labPid(namespace.pid)]);
    expect(done).toMatchObject({ status: 0, timedOut: false });
    const tool = lab.processes().filter((pid) => !before.includes(pid) && isAlive(pid));
    expect(tool.length).toBeGreaterThan(0);
    const inside = lab.into(labPid(namespace.pid));
    const server = await serve(inside, [{ protocol: 'tcp', address: '0.0.0.0', port: PORT }]);
    expect(seen(await askOne(lab.host, 'tcp', LOOPBACK[4], PORT))).toBe(HOST[4]);
    expect(seen(await askOne(inside, 'tcp', LOOPBACK[4], HOST_PORT))).toBe(LOOPBACK[4]);
    // One connection by the bypass and one by the tap are there when it ends.
    const held = [LOOPBACK[4], HOST[4]].map((address) =>
      lab.host.spawn(['busybox', 'nc', address, String(PORT)], { stdin: 'pipe' }),
    );
    const established = async (): Promise<number> =>
      (await lab.host.run(['ss', '-Htn', 'state', 'established', 'sport', '=', `:${PORT}`])).split('\n').length - 1;
    await waitFor(async () => (await established()) === 2, { what: 'two connections' });

    server.kill('SIGKILL'); // everything in the namespace has to end for it to go
    namespace.holder.kill('SIGKILL');
    await waitFor(() => !tool.some(isAlive), { what: 'the tool to be gone', timeoutMs: GONE_WITHIN_MS });
    expect(await listening()).toBe(false);
    await Promise.all(held.map((client) => finish(client, { timeoutMs: 3000 })));
    expect(held.map((client) => client.child.signalCode)).toEqual([null, null]);
  });

  it.each([
    ['does so by its name, too', []],
    ['is of no matter with --no-netns-quit', ['--no-netns-quit']],
  ])('%s', async (_, options) => {
    const before = lab.processes();
    await lab.host.run(['ip', 'netns', 'add', 'named']);
    const argv = [lab.binary, '--config-net', ...FORWARDS, ...options, '--netns', 'named', '--runas', '0'];
    expect(await lab.host.attempt(argv)).toMatchObject({ status: 0, timedOut: false });
    const tool = lab.processes().filter((pid) => !before.includes(pid) && isAlive(pid));
    expect(await listening()).toBe(true);
    await lab.host.run(['ip', 'netns', 'del', 'named']);
    if (options.length === 0) {
      await waitFor(() => !tool.some(isAlive), { what: 'the tool to be gone', timeoutMs: GONE_WITHIN_MS });
      expect(await listening()).toBe(false);
    } else {
      await new Promise((done) => setTimeout(done, 1.5 * GONE_WITHIN_MS));
      expect(tool.every(isAlive)).toBe(true);
      expect(await listening()).toBe(true);
      process.kill(tool[0] as number, 'SIGTERM');
      await waitFor(() => !tool.some(isAlive), { what: 'the tool to be gone' });
    }
  });
});

it('auto in all directions wakes a few times a second when idle', async () => {
  const auto = ['-t', 'auto', '-u', 'auto', '-T', 'auto', '-U', 'auto'];
  const guest = await lab.guest(['--config-net', ...auto], undefined, { forwards: true });
  await serve(guest, [{ protocol: 'tcp', address: '0.0.0.0', port: PORT }]);
  await waitFor(listening, { what: 'the port to be found' });
  const switches = (): number => guest.toolProcesses().reduce((sum, pid) => sum + contextSwitches(pid), 0);
  await new Promise((done) => setTimeout(done, SETTLE_MS));
  const before = switches();
  await new Promise((done) => setTimeout(done, IDLE_MS));
  expect(((switches() - before) * 1000) / IDLE_MS).toBeLessThanOrEqual(SWITCHES_PER_SECOND);
  expect(await guest.run(client('connect', LOOPBACK[4], HOST_PORT))).toContain('"code":null');
  await guest.close();
});
