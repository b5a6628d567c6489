// SPDX-License-Identifier: Apache-2.0
/** `pastiche doctor` on machines that lack something: each lack is made for real, in namespaces of its own. */
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Report, reportSchema } from '../../controller/client/doctor/report.ts';
import { isRoot, REPOSITORY, TEST_USER } from '../support/lab.mjs';
import { finish, start } from '../support/process.mjs';

const PROGRAM = join(REPOSITORY, 'dist/bin/pastiche');
let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'pastiche-doctor-'));
  chmodSync(scratch, 0o755);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const asUser = isRoot ? ['setpriv', `--reuid=${TEST_USER}`, `--regid=${TEST_USER}`, '--clear-groups'] : [];
/** Shell text in a user namespace of its own, as its root, with a mount and a network namespace; then the program. */
const within = (lack: string): string[] => [...asUser, 'unshare', '-rmn', 'sh', '-c', `${lack}\nexec "$@"`, 'sh'];

const run = async (prefix: readonly string[], args: readonly string[], env: Record<string, string> = {}) => {
  const program = start([...prefix, PROGRAM, 'doctor', ...args], { env });
  const { status: code } = await finish(program, { timeoutMs: 20_000 });
  return { code, out: program.out(), err: program.err() };
};
const examine = async (prefix: readonly string[], env: Record<string, string> = {}) => {
  const { code, out, err } = await run(prefix, ['--json'], env);
  expect(err).toBe('');
  const report: Report = reportSchema().parse(JSON.parse(out));
  expect(code).toBe(report.status === 'failure' ? 1 : 0);
  return { report, check: (name: string) => report.checks.find((one) => one.name === name) };
};

describe('a lack that was made', () => {
  test.each<[string, string, Record<string, ['warning' | 'failure', RegExp]>]>([
    [
      'no /dev/net/tun',
      'mount -t tmpfs tmpfs /dev/net 2>/dev/null || mount -t tmpfs tmpfs /dev',
      { 'tun-device': ['failure', /^\/dev\/net\/tun: No such file or directory$/] },
    ],
    [
      '/dev/net/tun is no device',
      'mount -t tmpfs tmpfs /dev/net && : > /dev/net/tun',
      { 'tun-device': ['failure', /not a character device/] },
    ],
    [
      'no user namespaces',
      'echo 0 > /proc/sys/user/max_user_namespaces',
      {
        'user-namespaces': ['failure', /No space left on device; user\.max_user_namespaces is 0$/],
        'controller-namespaces': ['failure', /No space left on device; user\.max_user_namespaces is 0$/],
      },
    ],
    [
      'no network namespaces',
      'echo 0 > /proc/sys/user/max_net_namespaces',
      { 'user-namespaces': ['failure', /network namespace: No space left on device; user\.max_net_namespaces is 0$/] },
    ],
    ['no group may ping', ':', { ping: ['warning', /^Permission denied; .*ping_group_range is /] }],
    ['no default route', ':', { 'default-route': ['warning', /of neither/] }],
    ['no IPv6', 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6', { ipv6: ['warning', /disable_ipv6 is 1/] }],
    ['no inotify', 'echo 0 > /proc/sys/user/max_inotify_instances', { inotify: ['warning', /^Too many open files/] }],
    [
      'small buffers',
      'echo 4096 16384 65536 > /proc/sys/net/ipv4/tcp_wmem',
      { 'socket-buffers': ['warning', /tcp_wmem is 65536/] },
    ],
    [
      'an empty resolv.conf',
      'mount --bind /dev/null "$(realpath /etc/resolv.conf)"',
      { resolvers: ['warning', /no nameserver/] },
    ],
    ['few open files', 'ulimit -n 512', { 'open-files': ['warning', /^512 /] }],
  ])('%s', async (_title, lack, expected) => {
    const { check } = await examine(within(lack));
    for (const [name, [status, found]] of Object.entries(expected)) {
      expect(check(name), name).toMatchObject({ status, found: expect.stringMatching(found) });
      expect([check(name)?.meaning, check(name)?.remedy]).not.toContain('');
    }
  });

  test('the remedy is one: a group range, and low ports for everybody', async () => {
    const { check } = await examine(
      within('echo 0 0 > /proc/sys/net/ipv4/ping_group_range; echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start'),
    );
    expect(check('ping')).toMatchObject({ status: 'ok' });
    expect(check('low-ports')).toMatchObject({ status: 'ok', remedy: '' });
  });

  test.skipIf(!isRoot)('a /dev/net/tun that is root’s alone (made by root: skipped without)', async () => {
    const { check } = await examine([
      ...['unshare', '-m', 'sh', '-c'],
      `mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod -m 600 /dev/net/tun c 10 200 && exec "$@"`,
      'sh',
    ]);
    // Root is told what holds for nobody.
    expect(check('tun-device')).toMatchObject({ status: 'failure', found: '/dev/net/tun: Permission denied' });
    expect(check('tap')).toBeUndefined();
  });
});

describe('without a Node that will do, the native program says so', () => {
  const standIn = (name: string, text: string): string => {
    writeFileSync(join(scratch, name), text, { mode: 0o755 });
    return join(scratch, name);
  };
  test.each<[string, () => string, RegExp]>([
    [
      'there is none',
      () => '/nonexistent/node',
      /^Can't run Node\.js at PASTICHE_NODE=\/nonexistent\/node: No such file/,
    ],
    ['it is old', () => standIn('old', '#!/bin/sh\necho v18.20.4\n'), /old is Node\.js 18\.20: 20\.19 is the oldest/],
    ['it is a little too old', () => standIn('older', '#!/bin/sh\necho v20.18.3\n'), /is Node\.js 20\.18: 20\.19/],
    [
      'it is something else',
      () => standIn('else', '#!/bin/sh\necho hello\necho\n'),
      /does not say which Node\.js it is: hello$/,
    ],
    ['it says nothing', () => standIn('nothing', '#!/bin/sh\n'), /does not say which .*: it wrote nothing/],
    ['it fails', () => standIn('fails', '#!/bin/sh\necho broken >&2; exit 3\n'), /does not say which .*: broken$/],
  ])('%s', async (_title, node, found) => {
    const { report } = await examine([], { PASTICHE_NODE: node() });
    expect(report.checks).toEqual([
      {
        name: 'node',
        status: 'failure',
        found: expect.stringMatching(found),
        meaning: expect.any(String),
        remedy: expect.stringContaining('20.19'),
      },
    ]);
    const text = await run([], [], { PASTICHE_NODE: node() });
    expect(text).toMatchObject({
      code: 1,
      err: '',
      out: expect.stringMatching(/^FAILURE {2}node: .*\n {9}Nothing runs.*\n {9}To do: install Node/),
    });
  });

  test('nor without the bundles', async () => {
    mkdirSync(join(scratch, 'bin'));
    copyFileSync(PROGRAM, join(scratch, 'bin/pastiche'));
    const program = start([join(scratch, 'bin/pastiche'), 'doctor', '--json'], {});
    const { status, stdout } = await finish(program, { timeoutMs: 20_000 });
    expect(status).toBe(1);
    expect(reportSchema().parse(JSON.parse(stdout)).checks).toMatchObject([
      {
        name: 'installation',
        status: 'failure',
        found: `Can't read the controller ${scratch}/controller.cjs: No such file or directory`,
      },
    ]);
  });

  test('nor without descriptors for it', async () => {
    const { report } = await examine(['sh', '-c', 'ulimit -n 100; exec "$@"', 'sh']);
    expect(report.checks).toMatchObject([
      { name: 'open-files', status: 'failure', found: expect.stringContaining('100') },
    ]);
  });
});

describe('the program', () => {
  test('says the same as text, and leaves nothing behind', async () => {
    const prefix = within('mount -t tmpfs tmpfs /dev/net');
    const [json, text] = [await examine(prefix), await run(prefix, [])];
    expect(text.code).toBe(1);
    const lines = text.out.match(/^(ok {7}|WARNING {2}|FAILURE {2})\S+: /gm);
    expect(lines).toHaveLength(json.report.checks.length);
  });

  test('a machine that runs pastiche has no failure', async () => {
    const { report } = await examine(asUser);
    expect(report.checks.filter(({ status }) => status === 'failure')).toEqual([]);
  });

  test('help, version, and what it does not know', async () => {
    expect(await run([], ['--help'])).toMatchObject({ code: 0, out: expect.stringMatching(/^Usage: pastiche doctor/) });
    expect(await run([], ['--version'])).toMatchObject({ code: 0, out: expect.stringMatching(/^pastiche \d/) });
    expect(await run([], ['--nonsense'])).toMatchObject({
      code: 1,
      err: expect.stringMatching(/unrecognized option '--nonsense'\nUsage/),
    });
    expect(await run([], ['now'])).toMatchObject({
      code: 1,
      err: expect.stringMatching(/there is no argument now\nUsage/),
    });
  });
});
