// SPDX-License-Identifier: Apache-2.0
/** Who was killed, and for which system call: told by the process that survives, wherever it can still be read. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { descendants, TEST_USER } from '../support/lab.mjs';
import { childrenOf, isAlive, type Started, signalQuietly, start, waitFor } from '../support/process.mjs';
import { call, goReady, Installation, ordinary, type Step, sealBoth } from './helper-harness.ts';
import { callNumber, Injector, whyNoInjection } from './inject.ts';

let install: Installation;
let others: Started[];
beforeEach(() => {
  install = new Installation();
  others = [];
});
afterEach(() => {
  for (const other of others) other.kill('SIGKILL');
  install.remove();
});

const UNNAMED = "a system call is outside its allowlist; the kernel's log has its number (type=1326)";
const named = (name: string): string => `system call "${name}" (${callNumber(name)}) is outside its allowlist`;
const spawnArgs = ['-I', 'tap0', '--', 'sleep', '1000'];

/** PROC_PID_INIT_INO: the kernel names processes by the numbers of this namespace. */
const FIRST_PID_NAMESPACE = 0xefff_fffc;
const whyNoKernelLog = (): string | null => {
  if (whyNoInjection() !== null) return whyNoInjection();
  if (statSync('/proc/self/ns/pid').ino !== FIRST_PID_NAMESPACE) return 'this is not the first pid namespace';
  return existsSync('/dev/kmsg') ? null : 'there is no /dev/kmsg';
};

/** The kernel drops audit lines that come too fast, ten in five seconds (printk_ratelimit): waits until it would not. */
const quietKernelLog = async (): Promise<void> => {
  const WINDOW_S = 5.3;
  const log = execFileSync('dmesg', { encoding: 'utf8', maxBuffer: 64 << 20 });
  const last = Number([...log.matchAll(/^\[ *([\d.]+)\] audit: /gm)].at(-1)?.[1] ?? Number.NEGATIVE_INFINITY);
  const uptime = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  await sleep(Math.max(0, last + WINDOW_S - uptime) * 1000);
};

const openLog = readFileSync('/proc/sys/kernel/dmesg_restrict', 'utf8') === '0\n';
if (openLog) console.log('kill-report: the line without a name is not tested, everybody may read this kernel log');
it.skipIf(openLog)('who may not read the kernel log is told that it has the number', async () => {
  const done = await install.run(spawnArgs, { steps: [{ forbidden: true }] });
  expect(done).toMatchObject({ status: 1, stderr: `The controller was killed: ${UNNAMED}\n` });
});

const why = whyNoKernelLog();
if (why !== null) console.log(`kill-report: names are not tested, ${why}`);
describe.skipIf(why !== null)('started as root, which may read the kernel log', () => {
  beforeAll(quietKernelLog);

  const isController = (pid: number): boolean =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('controller.cjs');

  const isLogDaemon = (pid: number): boolean => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('syslogd');

  it('before it is ready: on stderr', async () => {
    const done = await install.run(spawnArgs, { root: true, steps: [{ forbidden: true }] });
    expect(done).toMatchObject({
      status: 1,
      stderr: `Started as root, will change to nobody.\nThe controller was killed: ${named('kill')}\n`,
    });
  });

  /** A log daemon of our own, in a /dev of our own. */
  const withSyslog = `cd "$(mktemp -d)" && mkdir dev && mount -t tmpfs dev dev && mkdir dev/net && mknod -m 666 dev/net/tun c 10 200 &&
    for n in null zero urandom random kmsg; do cp -a /dev/$n dev/$n; done && mount --move dev /dev && rmdir dev && cd / &&
    { busybox syslogd -n -S -O "$SYSLOG" </dev/null >/dev/null 2>&1 & echo $! > "$SYSLOG.pid"; } &&
    until [ -S /dev/log ]; do sleep 0.01; done; exec "$@"`;

  const inSyslog = async (line: string): Promise<void> => {
    const syslog = install.path('syslog');
    await waitFor(() => existsSync(syslog) && readFileSync(syslog, 'utf8').includes(`pasta: ${line}\n`), {
      what: 'the line in the system log',
    });
  };
  const withinSyslog = async (steps: readonly Step[], use: (run: Started) => Promise<void>): Promise<void> => {
    const syslog = install.path('syslog');
    const options = { root: true, shell: withSyslog, env: { SYSLOG: syslog }, steps };
    try {
      await use(install.start(['-q', '-l', install.path('log'), ...spawnArgs], options));
    } finally {
      signalQuietly(Number(readFileSync(`${syslog}.pid`, 'utf8')), 'SIGTERM');
    }
  };

  it('once it is ready: in the log file and in the system log', async () => {
    const log = install.path('log');
    const create = call('host', 'file.create', { kind: 'log', path: log });
    await withinSyslog([create, ...goReady(true), { forbidden: true }], async (run) => {
      await run.closed;
      const line = `The controller was killed: ${named('kill')}`;
      expect([run.child.exitCode, run.err()]).toEqual([1, '']);
      expect(readFileSync(log, 'utf8')).toMatch(/^\d+\.\d{4}: ERROR: {3}[^\n]+\n$/);
      expect(readFileSync(log, 'utf8')).toContain(line);
      await inSyslog(line);
    });
  });

  it('the host side, once it is ready: by the broker, in the system log', async () => {
    await withinSyslog(goReady(true), async (run) => {
      await install.scriptDone();
      const family = [run.pid(), ...descendants(run.pid())].filter((pid) => !isLogDaemon(pid));
      await new Injector(install.directory).call(run.pid(), 'ptrace');
      await waitFor(() => !family.some(isAlive), { what: 'all of them to end', timeoutMs: 1000 });
      await inSyslog(`The helper was killed: ${named('ptrace')}`);
    });
  });

  it("does not believe lines that are not the kernel's, and survives odd ones", async () => {
    const run = install.start(['-q', ...spawnArgs], { root: true, steps: sealBoth() });
    await install.scriptDone();
    const pid = childrenOf(run.pid()).find(isController) as number;
    const fields = `pid=${pid} comm="node" exe="node" sig=31 arch=c000003e`;
    const start = 'audit: type=1326 audit(1.0:1):';
    for (const line of [
      `${start} ${fields} syscall=41`,
      `${start} ${fields} syscall=`,
      start,
      'x'.repeat(900),
      ';;,\n',
    ])
      writeFileSync('/dev/kmsg', `<5>${line}`);
    process.kill(pid, 'SIGSYS');
    await run.closed;
    expect(run.err()).toBe(`The controller was killed: ${UNNAMED}\n`);
  });

  it('the broker', async () => {
    const run = install.start(['-q', ...spawnArgs], { root: true, steps: sealBoth() });
    await install.scriptDone();
    const broker = childrenOf(run.pid()).find((pid) => !isController(pid)) as number;
    await new Injector(install.directory).call(broker, 'execve');
    await run.closed;
    expect(run.err()).toBe(`The broker was killed: ${named('execve')}\n`);
    expect(run.child.exitCode).not.toBe(0);
  });

  it('the helper on its way to the background: by the launched process', async () => {
    const holder = start(ordinary(['unshare', '-Urn', 'sleep', '1000']), {});
    others.push(holder);
    await waitFor(() => readFileSync(`/proc/${holder.pid()}/comm`, 'utf8') === 'sleep\n', { what: 'the target' });
    const user = `${TEST_USER}:${TEST_USER}`;
    const run = install.start(['-q', '--runas', user, '-I', 'tap0', String(holder.pid())], {
      root: true,
      steps: sealBoth(),
    });
    await install.scriptDone();
    const family = descendants(run.pid());
    await new Injector(install.directory).call(family[0] as number, 'listen', [3, 1]);
    await run.closed;
    expect(run.err()).toBe(`The helper was killed: ${named('listen')}\n`);
    expect(run.child.exitCode).toBe(1);
    await waitFor(() => !family.some(isAlive), { what: 'all of them to end', timeoutMs: 1000 });
  });
});
