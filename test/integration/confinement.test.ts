// SPDX-License-Identifier: Apache-2.0
/** What the running processes may still do, read from /proc, and what the spawned command was given. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, isRoot, type Lab, makeLab } from '../support/lab.mjs';
import { descriptors, namespaces, status } from '../support/process.mjs';

let lab: Lab;
let guest: Guest;
beforeAll(async () => {
  lab = await makeLab();
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

const NO_CAPABILITIES = '0000000000000000';
/** CAP_NET_BIND_SERVICE */
const LOW_PORTS = '0000000000000400';
const commandLine = (pid: number) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
const controller = (): number => {
  const found = guest.toolProcesses().filter((pid) => commandLine(pid).some((arg) => arg.endsWith('controller.cjs')));
  expect(found).toHaveLength(1);
  return found[0] as number;
};

describe('every process', () => {
  it('is the helper, its netns broker, or the controller', () => {
    expect(guest.toolProcesses()).toHaveLength(3);
    expect(guest.toolProcesses()).toContain(controller());
  });

  it('has no capability, can gain none, and is filtered', () => {
    for (const pid of guest.toolProcesses())
      expect(status(pid)).toMatchObject({
        CapInh: NO_CAPABILITIES,
        CapPrm: NO_CAPABILITIES,
        CapEff: NO_CAPABILITIES,
        CapAmb: NO_CAPABILITIES,
        NoNewPrivs: '1',
        Seccomp: '2',
      });
  });

  it('with ports to follow, keeps the one capability that opens low ones in the namespace; the controller has none', async () => {
    const forwarding = await lab.guest(['--config-net'], undefined, { forwards: true });
    const processes = forwarding.toolProcesses();
    const isNode = (pid: number): boolean => commandLine(pid).some((arg) => arg.endsWith('controller.cjs'));
    expect(processes).toHaveLength(3);
    for (const pid of processes) {
      const { CapEff, CapPrm, CapInh, CapAmb } = status(pid);
      const broker = pid !== forwarding.pid && !isNode(pid);
      // The host side of an ordinary user has nothing to keep; where the lab's user is root of its namespaces, it has.
      const allowed = broker ? [LOW_PORTS] : isNode(pid) || isRoot ? [NO_CAPABILITIES] : [NO_CAPABILITIES, LOW_PORTS];
      expect(allowed).toContain(CapEff);
      expect(CapPrm).toBe(CapEff);
      expect([CapInh, CapAmb]).toEqual([NO_CAPABILITIES, NO_CAPABILITIES]);
    }
    forwarding.tool.kill('SIGTERM');
    await forwarding.tool.closed;
  });

  it('is filtered in every thread', () => {
    const threads = guest
      .toolProcesses()
      .flatMap((pid) => readdirSync(`/proc/${pid}/task`).map((task) => `${pid}/task/${task}`));
    expect(threads.length).toBeGreaterThan(3);
    for (const thread of threads) expect(status(thread)).toMatchObject({ Seccomp: '2', NoNewPrivs: '1' });
  });

  it('holds neither standard input nor standard output of the caller', () => {
    const callers = [0, 1].map((fd) => descriptors(guest.commandPid).get(fd));
    expect(callers.every((target) => /^(socket|pipe):/.test(target ?? ''))).toBe(true);
    for (const pid of guest.toolProcesses())
      for (const target of descriptors(pid).values()) expect(callers).not.toContain(target);
  });

  // The owner of a user namespace may look at everything in it: an ordinary user's lab can not show this.
  it.runIf(isRoot)('of the helper hides its memory and descriptors from others of the same user', () => {
    const helpers = guest.toolProcesses().filter((pid) => pid !== controller());
    const strangers = helpers.map((pid) => String(status(pid)['NSpid']?.split(/\s+/)[1]));
    return Promise.all(
      strangers.map(async (pid) =>
        expect((await lab.user.attempt(['cat', `/proc/${pid}/environ`])).status).not.toBe(0),
      ),
    );
  });
});

describe('the controller', () => {
  it('has an empty bounding set and namespaces of its own', () => {
    expect(status(controller())['CapBnd']).toBe(NO_CAPABILITIES);
    const own = namespaces(controller());
    for (const other of [guest.pid, guest.commandPid, process.pid])
      for (const kind of ['user', 'net', 'ipc', 'uts', 'mnt'] as const)
        expect(own[kind], kind).not.toBe(namespaces(other)[kind]);
  });

  it('has no directory open, nor a file on disk that can be written', () => {
    const targets = [...descriptors(controller()).values()];
    expect(targets.length).toBeGreaterThan(3);
    for (const target of targets)
      expect(target).toMatch(/^(socket:|anon_inode:|pipe:|\/dev\/net\/tun|\/dev\/null|\/proc\/)/);
  });

  it("has none of the caller's environment", () => {
    const environment = readFileSync(`/proc/${controller()}/environ`, 'utf8');
    expect(environment).not.toMatch(/NODE_OPTIONS|NODE_PATH|LD_/);
  });
});

describe('the command', () => {
  it('has descriptors 0, 1 and 2 and nothing else, whatever the caller had open', async () => {
    const argv = lab.argv(
      ['--config-net'],
      ['sh', '-c', 'for fd in $(seq 0 63); do [ -e /proc/self/fd/$fd ] && echo $fd; done; :'],
    );
    const leaky = ['sh', '-c', 'exec 7</dev/null 8>/dev/null; exec "$@"', 'sh', ...argv];
    expect((await lab.user.attempt(leaky)).stdout.split('\n').filter(Boolean)).toEqual(['0', '1', '2']);
  });

  it('is user 0 of its own user namespace, with all capabilities there', async () => {
    expect((await guest.run(['id', '-u'])).trim()).toBe('0');
    const own = namespaces(guest.commandPid);
    expect(own['user']).not.toBe(namespaces(process.pid)['user']);
  });
});
