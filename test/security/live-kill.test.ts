// SPDX-License-Identifier: Apache-2.0
/**
 * The running, sealed processes: each forbidden call ends the one that makes it, and with it all of them. Every call has an
 * instance of its own, and is made by a thread of the process itself (inject.c).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab } from '../support/lab.mjs';
import { isAlive, waitFor } from '../support/process.mjs';
import { type Argument, type Injected, Injector, whyNoInjection } from './inject.ts';

type Role = 'controller' | 'second thread of the controller' | 'host side' | 'broker';
interface Case {
  readonly role: Role;
  readonly call: string;
  readonly args: readonly Argument[];
  readonly expected: Injected;
  /** What distinguishes this case from others of its call. */
  readonly what: string;
}
interface Result {
  readonly injected: Injected;
  /** Whether every process of the instance was gone a second later. */
  readonly gone: boolean;
}

const { SIGSYS, SIGKILL } = constants.signals;
const KILLED: Injected = { killed: SIGSYS };
const AF = { unix: 1, inet: 2, inet6: 10, netlink: 16, packet: 17 } as const;
const SOCK = { stream: 1, dgram: 2, raw: 3, nonblockCloexec: 0o2004000 } as const;
const IPPROTO_ICMP = 1;
const IPPROTO_TCP = 6;
const SOL_SOCKET = 1;
const SO_BROADCAST = 6;
const AT_FDCWD = -100;
const TUNSETIFF = 0x400454ca;
const PR_SET_DUMPABLE = 4;
/** A channel, open in each of the processes. */
const OPEN_FD = 3;
/** Groups of this number do not exist: no harm, should the call be let through. */
const NO_GROUP = -4_000_000;

type Row = readonly [call: string, args: readonly Argument[], what?: string];
const EVERYWHERE: readonly Row[] = [
  ['open', ['@/etc/passwd', 0]],
  ['execve', ['@/bin/true', 0, 0]],
  ['execveat', [AT_FDCWD, '@/bin/true', 0, 0, 0]],
  ['ptrace', [0]],
  ['process_vm_readv', [1]],
  ['io_uring_setup', [1]],
  ['bpf', []],
  ['userfaultfd', [1]],
  ['memfd_create', ['@name', 0]],
  ['clone', [constants.signals.SIGCHLD]],
  ['clone3', []],
  ['fork', []],
  ['setns', [OPEN_FD, 0]],
  ['unshare', [0x10000000]],
  ['mount', ['@none', '@/', '@tmpfs', 0, 0]],
  ['prctl', [PR_SET_DUMPABLE, 1]],
  ['seccomp', [0, 0, 0]],
  ['setuid', [0]],
  ['listen', [OPEN_FD, 1]],
  ['accept4', [OPEN_FD, 0, 0, 0]],
  ['socket', [AF.netlink, SOCK.raw, 0], 'netlink'],
  ['socket', [AF.packet, SOCK.raw, 0], 'packet'],
  ['socket', [AF.unix, SOCK.dgram + SOCK.nonblockCloexec, 0], 'unix'],
  ['socket', [AF.inet, SOCK.raw, 1], 'raw'],
  ['socket', [AF.inet, SOCK.stream, IPPROTO_TCP], 'stream without close-on-exec'],
  ['sendto', [OPEN_FD, '@text', 4, 0, '@an address.....', 16]],
  ['sendmsg', [OPEN_FD, '@', 0]],
  ['ioctl', [OPEN_FD, TUNSETIFF, '@']],
  ['kill', [1, 0], 'another process'],
  ['pidfd_open', [1, 0]],
  ['x32:getpid', [], 'x32'],
];
const HELPER: readonly Row[] = [
  ['openat', [AT_FDCWD, '@/etc/passwd', 0]],
  ['kill', [NO_GROUP, SIGKILL], 'a group'],
  ['dup3', [0, 9, 0]],
  ['mprotect', [0, 0, 3]],
  ['mmap', [0, 4096, 3, 0x22, -1, 0]],
];
const CONNECTS: readonly Row[] = [
  ['socket', [AF.inet6, SOCK.stream + SOCK.nonblockCloexec, IPPROTO_TCP], 'for a flow'],
  ['connect', [OPEN_FD, '@an address.....', 16]],
  ['bind', [OPEN_FD, '@an address.....', 16]],
];
const OWN_CONTROLLER: readonly Row[] = [
  ...CONNECTS,
  ['sendmmsg', [OPEN_FD, '@', 1, 0]],
  ['mmap', [0, 4096, 1, 2, OPEN_FD, 0], 'a file'],
  ['fcntl', [OPEN_FD, 8, 1], 'F_SETOWN'],
  ['setsockopt', [OPEN_FD, 1, 25, '@lo', 2], 'SO_BINDTODEVICE'],
  ['getpgid', [0]],
];

const cases = (role: Role, expected: Injected, rows: readonly Row[]): Case[] =>
  rows.map(([call, args, what = '']) => ({ role, call, args, expected, what }));
const CASES: readonly Case[] = [
  ...cases('controller', KILLED, [...EVERYWHERE, ...OWN_CONTROLLER]),
  ...cases('controller', { returned: -constants.errno.EACCES }, [['openat', [AT_FDCWD, '@/etc/passwd', 0]]]),
  ...cases('controller', { returned: -55 }, [['getpgid', [0x70617374], 'the proof, ENOANO']]),
  ...cases('second thread of the controller', KILLED, [['socket', [AF.inet, SOCK.stream, 0]]]),
  ...cases('host side', KILLED, [...EVERYWHERE, ...HELPER, ['unlinkat', [AT_FDCWD, '@nothing', 0x200]]]),
  ...cases('host side', { returned: -constants.errno.EBADF }, [['close', [999]]]),
  ...cases('broker', KILLED, [
    ...EVERYWHERE,
    ...HELPER,
    ['socket', [AF.inet, SOCK.dgram + SOCK.nonblockCloexec, IPPROTO_ICMP], 'ping'],
    ['accept4', [OPEN_FD, 0, 0, SOCK.nonblockCloexec], 'as the host side may'],
    ['setsockopt', [OPEN_FD, SOL_SOCKET, SO_BROADCAST, '@1', 4], 'SO_BROADCAST'],
  ]),
  ...cases('broker', { returned: -constants.errno.EBADF }, [['close', [999]]]),
];
/** Starts of Node that overlap. */
const AT_ONCE = 5;

const isController = (pid: number): boolean => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('controller.cjs');
const threadOf = (guest: Guest, role: Role): number => {
  const tools = guest.toolProcesses();
  const controller = tools.find(isController) as number;
  if (role === 'controller') return controller;
  if (role === 'host side') return guest.pid;
  if (role === 'broker') return tools.find((pid) => pid !== guest.pid && pid !== controller) as number;
  return Number(readdirSync(`/proc/${controller}/task`).find((tid) => Number(tid) !== controller));
};

const why = whyNoInjection();
if (why !== null) console.log(`live-kill: skipped, ${why}`);
describe.skipIf(why !== null)('a forbidden call in a running process', () => {
  let lab: Lab;
  const results = new Map<Case, Result | Error>();

  const attempt = async (injector: Injector, one: Case): Promise<Result> => {
    const guest = await lab.guest(['--config-net', '-q']);
    try {
      const family = [...guest.toolProcesses(), guest.commandPid];
      if (family.length !== 4) throw new Error(`${family.length} processes instead of 4`);
      const injected = await injector.call(threadOf(guest, one.role), one.call, one.args);
      const allGone = (): boolean => !family.some(isAlive);
      const gone = await waitFor(allGone, { what: 'all of them to end', timeoutMs: 'killed' in injected ? 1000 : 100 })
        .then(() => true)
        .catch(() => false);
      return { injected, gone };
    } finally {
      guest.tool.kill('SIGKILL');
      await guest.tool.closed;
    }
  };

  beforeAll(async () => {
    lab = await makeLab();
    const injector = new Injector(lab.dir);
    const left = [...CASES];
    const worker = async (): Promise<void> => {
      for (let one = left.shift(); one !== undefined; one = left.shift())
        results.set(one, await attempt(injector, one).catch((error: unknown) => error as Error));
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  }, 120_000);
  afterAll(() => lab?.cleanup());

  it.each(CASES)('$role: $call $what', (one) => {
    expect(results.get(one)).toEqual({ injected: one.expected, gone: 'killed' in one.expected });
  });
});
