// SPDX-License-Identifier: Apache-2.0
/** The filters in the kernel: forbidden calls die by SIGSYS, allowed ones run, and Node lives under the controller's. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectations } from '../support/allowlist.ts';
import { X32_BIT } from '../support/bpf.ts';
import { allowedNames, callsByProfile, parseStrace, unannotated } from '../support/strace.ts';
import { syscallNumbers } from '../support/syscalls.ts';

const path = (relative: string): string => fileURLToPath(new URL(`../../${relative}`, import.meta.url));
const CONTROLLER = path('dist/controller.bpf');
const { EBADF, EACCES } = constants.errno;
const ENOANO = 55;
const numbers = syscallNumbers();
let directory = '';
let victim = '';

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'pastiche-victim-'));
  victim = join(directory, 'victim');
  execFileSync('cc', [
    '-Wall',
    '-Werror',
    '-I',
    path('helper/gen'),
    path('test/security/seccomp-victim.c'),
    '-o',
    victim,
  ]);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

type Outcome = { readonly signal: NodeJS.Signals | null; readonly status: number | null };
const call = (
  profile: string,
  mode: 'native' | 'i386',
  nr: number,
  args: readonly (number | string)[] = [],
): Outcome => {
  const { signal, status } = spawnSync(victim, [profile, mode, String(nr), ...args.map(String)], { stdio: 'ignore' });
  return { signal, status };
};
const number = (name: string): number => {
  const found = numbers.get(name);
  if (found === undefined) throw new Error(`this architecture has no ${name}`);
  return found;
};
const KILLED: Outcome = { signal: 'SIGSYS', status: null };

/** Address arguments point to text: the kernel would run these calls, were it not for the filter. */
const FORBIDDEN_EVERYWHERE = [
  ['execve', ['@/bin/true', 0, 0]],
  ['ptrace', [0, 0, 0, 0]],
  ['bpf', [0, 0, 0]],
  ['io_uring_setup', [1, 0]],
  ['process_vm_readv', [1, 0, 0, 0, 0, 0]],
  ['userfaultfd', [1]],
  ['init_module', [0, 0, '@']],
  ['perf_event_open', [0, 0, 0, 0, 0]],
] as const;
const FORBIDDEN_SEALED = [
  ['openat', [-100, '@/dev/null', 0]],
  ['unshare', [0]],
  ['setns', [0, 0]],
  ['mount', [0, 0, 0, 0, 0]],
  ['clone', [constants.signals.SIGCHLD, 0, 0, 0, 0]],
] as const;
const FORBIDDEN_CONTROLLER = [
  ['socket', [2, 1, 0]],
  ['connect', [0, '@', 16]],
  ['bind', [0, '@', 16]],
  ['listen', [0, 1]],
  ['sendmsg', [0, 0, 0]],
  ['sendto', [0, '@text', 4, 0, '@address.........', 16]],
  ['clone3', [0, 0]],
  ['kill', [0, 0]],
  ['memfd_create', ['@x', 0]],
  ['getsockopt', [0, 1, 17, 0, 0]],
  ['setsockopt', [0, 1, 32, 0, 0]],
  ['ioctl', [0, 0x400454ca, 0]],
] as const;

const killed = (profile: string, rows: readonly (readonly [string, readonly (number | string)[]])[]): void => {
  it.each(rows.map(([name, args]) => ({ name, args })))('$name dies', ({ name, args }) => {
    expect(call(profile, 'native', number(name), args)).toEqual(KILLED);
  });
};

describe('the controller', () => {
  killed(CONTROLLER, [
    ...FORBIDDEN_EVERYWHERE,
    ...FORBIDDEN_SEALED.filter(([name]) => name !== 'openat'),
    ...FORBIDDEN_CONTROLLER,
  ]);

  it('may do what is annotated', () => {
    const status = (name: string, ...args: (number | string)[]): Outcome =>
      call(CONTROLLER, 'native', number(name), args);
    expect(status('close', -1)).toEqual({ signal: null, status: EBADF });
    expect(status('write', 99, '@text', 4)).toEqual({ signal: null, status: EBADF });
    expect(status('getpid')).toMatchObject({ signal: null });
  });

  it('is told no where the annotation says so', () => {
    expect(call(CONTROLLER, 'native', number('getpgid'), [0x70617374])).toEqual({ signal: null, status: ENOANO });
    expect(call(CONTROLLER, 'native', number('openat'), [-100, '@/dev/null', 0])).toEqual({
      signal: null,
      status: EACCES,
    });
    expect(call(CONTROLLER, 'native', number('getpgid'), [0])).toEqual(KILLED);
  });
});

describe.each(['host', 'netns'])('the helper, %s', (profile) => {
  killed(profile, [...FORBIDDEN_EVERYWHERE, ...FORBIDDEN_SEALED]);
});
describe('the helper, setup', () =>
  killed(
    'setup',
    FORBIDDEN_EVERYWHERE.filter(([name]) => name !== 'execve'),
  ));

describe.runIf(process.arch === 'x64').each(['setup', 'sandbox', 'host', 'netns', CONTROLLER])(
  'other ABIs under %s',
  (profile) => {
    it('die', () => {
      const EXIT_GROUP_I386 = 252;
      expect(call(profile, 'i386', EXIT_GROUP_I386, [0])).toEqual(KILLED);
      expect(call(profile, 'native', number('exit_group') + X32_BIT, [0])).toEqual(KILLED);
      expect(call(profile, 'native', number('exit_group'), [0])).toEqual({ signal: null, status: 0 });
    });
  },
);

/** Allocates, collects, compiles and waits under the filter, tries what has to fail softly, then leaves as `how` says. */
const SEALED_NODE = `
const { readFileSync } = require('node:fs');
const native = require(process.env.PASTICHE_ADDON);
if (native.probeFilter() === -${ENOANO}) process.exit(90);
const failed = native.installFilter(new Uint8Array(readFileSync(process.env.FILTER)));
if (failed !== 0 || native.probeFilter() !== -${ENOANO}) process.exit(91);
let kept = [];
const load = (ms) => {
  for (let i = 0, end = Date.now() + ms; Date.now() < end; i++) {
    const rows = Array.from({ length: 2000 }, (_, k) => ({ k, text: 'x' + k, bytes: new Uint8Array(64) }));
    if (i % 20 === 0) kept.push(rows);
    if (kept.length > 200) kept = [];
    if (i % 100 === 0) Buffer.alloc(4 << 20).fill(1);
    new Function('x', 'let s = 0; for (let i = 0; i < 20000; i++) s += i * x + ' + i + '; return s')(i);
  }
};
load(700);
try { readFileSync('/etc/passwd'); process.exit(92); } catch (error) { if (error.code !== 'EACCES') process.exit(93); }
new Date().toString();
setTimeout(() => {
  load(300);
  console.error('still here');
  if (process.env.HOW === 'exit') process.exit(7);
  if (process.env.HOW === 'throw') throw new Error('thrown on purpose');
  if (process.env.HOW === 'abort') process.abort();
}, 100);
`;
const sealedNode = (how: string, prefix: readonly string[] = []) => {
  const [command = '', ...args] = [...prefix, process.execPath, '-e', SEALED_NODE];
  const env = {
    PATH: process.env['PATH'],
    PASTICHE_ADDON: process.env['PASTICHE_ADDON'] ?? path('dist/pastiche.node'),
    FILTER: CONTROLLER,
    HOW: how,
  };
  return spawnSync(command, args, { encoding: 'utf8', env, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
};

describe('Node under the controller filter', () => {
  it.each([
    ['return', 0, /still here/],
    ['exit', 7, /still here/],
    ['throw', 1, /thrown on purpose/],
  ])('lives under load and leaves by %s', (how, status, text) => {
    const result = sealedNode(how);
    expect([result.signal, result.status]).toEqual([null, status]);
    expect(result.stderr).toMatch(text);
  });

  it('crashes as a crash, not as a violation', () => {
    expect(sealedNode('abort').signal).toMatch(/^SIG(?:SEGV|ILL|TRAP|ABRT|BUS)$/);
  });

  it.runIf(spawnSync('strace', ['-V']).status === 0)('makes no call without an annotation', () => {
    const log = join(directory, 'strace.log');
    expect(sealedNode('exit', ['strace', '-f', '-o', log]).status).toBe(7);
    const seen = callsByProfile(parseStrace(readFileSync(log, 'utf8')), () => 'controller' as const);
    expect([...(seen.get('controller')?.keys() ?? [])]).toEqual(
      expect.arrayContaining(['futex', 'mmap', 'mprotect', 'exit_group']),
    );
    expect(unannotated(seen, allowedNames(expectations()))).toEqual([]);
  });
});
