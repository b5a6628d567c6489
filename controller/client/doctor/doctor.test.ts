// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { CHECKS, runChecks } from './checks.ts';
import { makeReport, reportSchema, reportText } from './report.ts';
import type { NativeFacts, World } from './world.ts';

/** A machine on which nothing is wrong. */
const NATIVE: NativeFacts = {
  caller: 1000,
  executable: '/usr/lib/pastiche/bin/pasta',
  wasRoot: false,
  node: { path: '/usr/bin/node', version: 'v20.19.0' },
  namespaces: null,
  controllerNamespaces: null,
  guestPing: null,
  tap: null,
  tapOffload: { tso: true, uso: true, header: true },
  tunDevice: null,
  tunOpen: null,
  ping4: null,
  ping6: null,
  socket6: null,
  lowPorts: false,
  filter: null,
  peekOffset: true,
  udpGro: true,
  inotify: null,
  template4: 'eth0',
  template6: 'eth0',
  nofile: { soft: 1024, hard: 524_288 },
};
const FILES: Readonly<Record<string, string>> = {
  '/proc/self/gid_map': '         0          0 4294967295\n',
  '/proc/sys/kernel/osrelease': '6.12.1-amd64\n',
  '/proc/sys/kernel/seccomp/actions_avail': 'kill_process errno allow\n',
  '/proc/sys/user/max_user_namespaces': '63000\n',
  '/proc/sys/net/ipv4/ping_group_range': '0\t2147483647\n',
  '/proc/sys/net/ipv4/ip_unprivileged_port_start': '1024\n',
  '/proc/sys/net/core/wmem_max': '212992\n',
  '/proc/sys/net/core/rmem_max': '212992\n',
  '/proc/sys/net/ipv4/tcp_wmem': '4096\t16384\t4194304\n',
  '/etc/resolv.conf': 'nameserver 192.0.2.53\n',
  '/etc/passwd': 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n',
  '/etc/subuid': 'user:100000:65536\n',
  '/etc/subgid': '1000:100000:65536\n',
};
interface Changes {
  readonly native?: Partial<NativeFacts>;
  /** null: not there. */
  readonly files?: Readonly<Record<string, string | null>>;
  readonly without?: readonly string[];
}
const world = ({ native = {}, files = {}, without = [] }: Changes = {}): World => ({
  native: { ...NATIVE, ...native },
  read: (path) => ({ ...FILES, ...files })[path] ?? null,
  hasProgram: (name) => !without.includes(name),
});
const check = (name: string, changes: Changes) => runChecks(world(changes)).find((one) => one.name === name);

describe('a machine on which nothing is wrong', () => {
  test('every check is ok, and means nothing', () => {
    const checks = runChecks(world());
    expect(checks.filter(({ status }) => status !== 'ok')).toEqual([]);
    expect(checks.every(({ found, meaning }) => found !== '' && meaning === '')).toBe(true);
    expect(checks.map(({ name }) => name)).toEqual(Object.keys(CHECKS).filter((name) => name !== 'apparmor'));
    expect(makeReport(checks).status).toBe('ok');
    expect(reportText(makeReport(checks))).toMatch(/\nAll is well\.\n$/);
  });
});

const sys = (name: string, value: string) => ({ [`/proc/sys/${name.replaceAll('.', '/')}`]: `${value}\n` });

test.each<[string, 'ok' | 'warning' | 'failure', RegExp, RegExp, Changes]>([
  ['kernel', 'failure', /5\.4/, /newer kernel/, { files: sys('kernel.osrelease', '5.4.0-1-amd64') }],
  ['kernel', 'ok', /5\.9/, /^$/, { files: sys('kernel.osrelease', '5.9.0') }],
  ['kernel', 'warning', /cannot be read/, /mount/, { files: { '/proc/sys/kernel/osrelease': null } }],
  ['seccomp', 'failure', /Invalid/, /CONFIG_SECCOMP_FILTER/, { native: { filter: 'Invalid argument' } }],
  [
    'user-namespaces',
    'failure',
    /No space.*max_user_namespaces is 0/,
    /^sudo sysctl -w user\.max_user_namespaces=/,
    {
      native: { namespaces: "Couldn't create a user namespace: No space left on device" },
      files: sys('user.max_user_namespaces', '0'),
    },
  ],
  [
    'user-namespaces',
    'failure',
    /max_net_namespaces is 0/,
    /max_net_namespaces=/,
    { native: { namespaces: 'No' }, files: sys('user.max_net_namespaces', '0') },
  ],
  [
    'user-namespaces',
    'failure',
    /unprivileged_userns_clone is 0/,
    /^sudo sysctl -w kernel\.unprivileged_userns_clone=1$/,
    { native: { namespaces: 'Operation not permitted' }, files: sys('kernel.unprivileged_userns_clone', '0') },
  ],
  [
    'user-namespaces',
    'failure',
    /AppArmor/,
    /apparmor_restrict_unprivileged_userns=0$/,
    { native: { namespaces: 'Permission denied' }, files: sys('kernel.apparmor_restrict_unprivileged_userns', '1') },
  ],
  [
    'user-namespaces',
    'failure',
    /no setting/,
    /inside a container/,
    { native: { namespaces: 'Operation not permitted' } },
  ],
  ['controller-namespaces', 'failure', /^No/, /container/, { native: { controllerNamespaces: 'No' } }],
  [
    'tun-device',
    'failure',
    /No such file/,
    /modprobe tun/,
    { native: { tunDevice: 'No such file or directory', tunOpen: 'x' } },
  ],
  ['tun-device', 'failure', /Permission denied/, /chmod 0666/, { native: { tunOpen: 'Permission denied' } }],
  ['tun-device', 'failure', /No such device/, /^sudo modprobe tun$/, { native: { tunOpen: 'No such device' } }],
  ['tap', 'failure', /create tap/, /dmesg/, { native: { tap: "Couldn't create tap tap0: Operation not permitted" } }],
  ['offload', 'warning', /no USO/, /6\.2/, { native: { tapOffload: { tso: true, uso: false, header: true } } }],
  ['offload', 'warning', /^none$/, /6\.2/, { native: { tapOffload: { tso: false, uso: false, header: false } } }],
  ['peek-offset', 'warning', /SO_PEEK_OFF/, /6\.9/, { native: { peekOffset: false } }],
  [
    'inotify',
    'warning',
    /Too many.*is 128/,
    /max_user_instances=/,
    { native: { inotify: 'Too many open files' }, files: sys('fs.inotify.max_user_instances', '128') },
  ],
  [
    'ping',
    'warning',
    /range is 1 0/,
    /ping_group_range=/,
    { native: { ping4: 'Permission denied' }, files: sys('net.ipv4.ping_group_range', '1\t0') },
  ],
  [
    'ping',
    'warning',
    /range is 65534 65534, in the numbers of this user namespace$/,
    /^outside of this user namespace: sudo/,
    {
      native: { ping4: 'Permission denied' },
      files: { ...sys('net.ipv4.ping_group_range', '65534\t65534'), '/proc/self/gid_map': '0 1000 1\n' },
    },
  ],
  ['guest-ping', 'warning', /Permission/, /CONFIG_IP_PING/, { native: { guestPing: 'Permission denied' } }],
  ['low-ports', 'ok', /from 1024/, /setcap/, {}],
  ['low-ports', 'ok', /every port/, /^$/, { native: { lowPorts: true } }],
  ['low-ports', 'ok', /from 80 /, /setcap/, { files: sys('net.ipv4.ip_unprivileged_port_start', '80') }],
  ['low-ports', 'ok', /every port/, /^$/, { files: sys('net.ipv4.ip_unprivileged_port_start', '0') }],
  ['socket-buffers', 'warning', /wmem_max is 4096/, /wmem_max=4194304/, { files: sys('net.core.wmem_max', '4096') }],
  [
    'socket-buffers',
    'warning',
    /tcp_wmem is 65536/,
    /tcp_wmem=/,
    { files: sys('net.ipv4.tcp_wmem', '4096 16384 65536') },
  ],
  ['open-files', 'warning', /^1024 /, /LimitNOFILE/, { native: { nofile: { soft: 1024, hard: 1024 } } }],
  ['open-files', 'ok', /no limit/, /^$/, { native: { nofile: { soft: -1, hard: -1 } } }],
  [
    'ipv6',
    'warning',
    /not supported/,
    /ipv6\.disable/,
    { native: { socket6: 'Address family not supported by protocol' } },
  ],
  ['ipv6', 'warning', /disable_ipv6 is 1/, /disable_ipv6=0/, { files: sys('net.ipv6.conf.all.disable_ipv6', '1') }],
  ['default-route', 'warning', /neither/, /-i NAME/, { native: { template4: null, template6: null } }],
  ['default-route', 'ok', /^IPv6: wg0/, /^$/, { native: { template4: null, template6: 'wg0' } }],
  ['resolvers', 'warning', /cannot be read/, /nameserver/, { files: { '/etc/resolv.conf': null } }],
  ['resolvers', 'warning', /no nameserver/, /nameserver/, { files: { '/etc/resolv.conf': '# none\n' } }],
  ['resolvers', 'ok', /loopback only/, /--dns-forward/, { files: { '/etc/resolv.conf': 'nameserver 127.0.0.53\n' } }],
  [
    'subordinate-ids',
    'warning',
    /for user in \/etc\/subgid/,
    /usermod .* user$/,
    { files: { '/etc/subgid': 'other:1:2\n' } },
  ],
  ['subordinate-ids', 'warning', /newuidmap/, /uidmap/, { without: ['newuidmap'] }],
  ['apparmor', 'ok', /pasta \(enforce\)/, /^$/, { files: { '/proc/self/attr/apparmor/current': 'pasta (enforce)\n' } }],
])('%s: %s, %s', (name, status, found, remedy, changes) => {
  const one = check(name, changes);
  expect(one).toMatchObject({ status, found: expect.stringMatching(found), remedy: expect.stringMatching(remedy) });
  // Whoever is told that something is wrong is told what it means and what to do.
  if (status !== 'ok') expect([one?.meaning, one?.remedy]).not.toContain('');
  expect(makeReport(runChecks(world(changes))).status).toBe(status);
});

describe('a check that would repeat another one', () => {
  test('says nothing', () => {
    expect(check('tap', { native: { tunOpen: 'Permission denied', tap: 'x' } })).toBeUndefined();
    expect(check('offload', { native: { tap: 'x' } })).toBeUndefined();
    expect(check('guest-ping', { native: { namespaces: 'x', guestPing: 'x' } })).toBeUndefined();
    expect(check('subordinate-ids', { native: { caller: 0 }, files: { '/etc/subuid': null } })).toBeUndefined();
  });
});

test('the text names what is wrong, and counts it', () => {
  const report = makeReport(
    runChecks(world({ native: { tunOpen: 'Permission denied', tap: 'x', peekOffset: false, ping4: 'x' } })),
  );
  expect(reportSchema().parse(JSON.parse(JSON.stringify(report)))).toEqual(report);
  const text = reportText(report);
  expect(text).toMatch(/^FAILURE {2}tun-device: .*\n {9}Pasta and .*\n {9}To do: sudo chmod/m);
  expect(text).toMatch(/\n1 failure, 2 warnings\.\n$/);
});
