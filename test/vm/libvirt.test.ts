// SPDX-License-Identifier: Apache-2.0
/**
 * The command lines of libvirt (11.3, `<backend type='passt'/>`) and of KubeVirt, which goes through libvirt: word for word, by an ordinary user
 * without any capability, and what they count on: status 0 when the socket listens, the PID file, the log file, an end by --one-off or by signal.
 */
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { isRoot, type Lab, makeLab, NET, type Side, TEST_USER } from '../support/lab.mjs';
import { type Finished, finish, type Started, waitFor } from '../support/process.mjs';

const STATE = '/run/scratch/passt';
const SOCKET = `${STATE}/1-demo-net0.socket`;
const PID = `${STATE}/1-demo-net0-passt.pid`;
const LOG = `${STATE}/passt.log`;
/** What qemuPasstStart() passes for each domain, in its order. */
const PLACE = ['--one-off', '--socket', SOCKET, '--pid', PID];
const VHOST_USER = ['--vhost-user', ...PLACE];

let lab: Lab;
let passt: string;
/** As libvirt starts it: the ordinary user, every capability dropped for good. */
let qemu: Side;
beforeAll(async () => {
  lab = await makeLab();
  passt = join(dirname(lab.binary), 'passt');
  const identity = isRoot
    ? [`--reuid=${TEST_USER}`, `--regid=${TEST_USER}`, '--clear-groups', '--bounding-set=-all']
    : [];
  qemu = lab.host.within(['setpriv', ...identity, '--inh-caps=-all', '--no-new-privs', '--']);
});
afterAll(() => lab?.cleanup());

const shell = async (script: string): Promise<string> => (await lab.host.run(['sh', '-c', script])).trimEnd();
const processes = async (): Promise<string[]> =>
  (await lab.host.attempt(['pgrep', '-f', '(bin/passt|controller.cjs)'])).stdout.split('\n').filter(Boolean);
const isAlive = async (pid: string): Promise<boolean> =>
  (await lab.host.attempt(['sh', '-c', `grep -q '^State:[[:space:]]*[^ZX]' /proc/${pid}/status`])).status === 0;
const gone = (pid: string): Promise<unknown> =>
  waitFor(async () => !(await isAlive(pid)), { what: `the end of ${pid}` });
const listens = async (): Promise<boolean> => (await lab.host.run(['ss', '-Hlx', 'src', SOCKET])).includes(SOCKET);
/** A process that ends has lost its name before it closes its sockets. */
const nothingLeft = (): Promise<unknown> =>
  waitFor(async () => (await processes()).length === 0 && !(await listens()), { what: 'all of it to end' });

/** Runs the line to its end; resolves at the end of file of both outputs, which nobody may keep. */
const run = (args: readonly string[]): Promise<Finished> => qemu.attempt([passt, ...args], { timeoutMs: 20_000 });
/** The same, which must be in the background when it is over; its PID. */
const begin = async (args: readonly string[]): Promise<string> => {
  const done = await run(args);
  expect(done, done.stderr).toMatchObject({ status: 0, signal: null, stdout: '', timedOut: false });
  return shell(`cat ${PID}`);
};
const end = async (pid: string): Promise<void> => {
  await shell(`kill -TERM ${pid}`);
  await nothingLeft();
};
/** A QEMU that runs nothing, with the network that libvirt gives it. */
const startQemu = (network: readonly string[]): Started =>
  qemu.spawn([
    'qemu-system-x86_64',
    '-S',
    '-display',
    'none',
    '-nodefaults',
    '-machine',
    'none',
    '-m',
    '0',
    ...network,
  ]);
/** libvirt 11.3 for QEMU 7.2, which does not know how to reconnect. */
const STREAM = [
  '-netdev',
  json({ type: 'stream', addr: { type: 'unix', path: SOCKET }, server: false, id: 'hostnet0' }),
];
/** A guest that asks for the gateway over and over. */
const ARP_FOREVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
mac = bytes.fromhex('525400123456')
frame = b'\\xff' * 6 + mac + bytes.fromhex('08060001080006040001') + mac + bytes([192, 0, 2, 2]) + bytes(6) + bytes([192, 0, 2, 1])
while True:
    s.sendall(len(frame).to_bytes(4, 'big') + frame)
    s.recv(65536)
`;
function json(value: object): string {
  return JSON.stringify(value);
}

afterEach(async () => {
  // Whatever a test that failed has left.
  for (const pid of await processes()) await lab.host.attempt(['kill', '-KILL', pid]);
  await nothingLeft();
});
beforeEach(async () => {
  await shell(`rm -rf ${STATE} && mkdir ${STATE} && chown ${isRoot ? `${TEST_USER}:${TEST_USER}` : '0:0'} ${STATE}`);
});

describe('libvirt', () => {
  const FULL = [
    ...[...PLACE, '--mtu', '1500', '--interface', 'eth0', '--log-file', LOG],
    ...['--address', NET.host4, '--netmask', '24', '--address', NET.host6],
    ...[
      '--tcp-ports',
      `${NET.host4}%eth0/7000-7020:8000-8020,~7010-7015`,
      '--tcp-ports',
      `${NET.host6}/7022:22,7050-7060,~7055`,
    ],
    ...['--udp-ports', '7053:53'],
  ];

  test('every option at once: what is there when the line returns', async () => {
    const pid = await begin(FULL);
    expect(await listens()).toBe(true);
    expect(await isAlive(pid)).toBe(true);
    const owner = isRoot ? TEST_USER : 0;
    expect(await shell(`stat -c '%a %u %g' ${PID}`)).toBe(`600 ${owner} ${owner}`);
    expect(await shell(`od -c ${PID} | head -c 200`)).toContain('\\n');
    // As the caller's umask leaves it, who runs QEMU as the same user.
    expect(await shell(`stat -c '%a %u %g' ${SOCKET}`)).toBe(`755 ${owner} ${owner}`);
    expect(await shell(`stat -c '%a %u %g' ${LOG}`)).toBe(`600 ${owner} ${owner}`);
    const log = await shell(`cat ${LOG}`);
    expect(log.split('\n')[0]).toMatch(/^passt \S+.*: \S+ \(\d+\)$/);
    expect(log).toMatch(/^\d+\.\d{4}: info: {4}/m);
    expect(log).toContain(SOCKET);
    const ports = await lab.host.run(['ss', '-Hltn']);
    for (const there of [
      `${NET.host4}%eth0:7000`,
      `${NET.host4}%eth0:7020`,
      `[${NET.host6}]:7022`,
      `[${NET.host6}]:7060`,
    ])
      expect(ports).toContain(there);
    for (const absent of [':7010 ', ':7015 ', ':7055 ']) expect(ports).not.toContain(absent);
    expect(await lab.host.run(['ss', '-Hlun'])).toContain(':7053 ');
    await end(pid);
  });

  test('nothing of the caller stays with it: descriptors, directory, terminal', async () => {
    const script = 'exec 7</etc/passwd 8</etc/passwd; exec "$0" "$@"';
    expect(await qemu.attempt(['sh', '-c', script, passt, ...PLACE])).toMatchObject({ status: 0, timedOut: false });
    const pid = await shell(`cat ${PID}`);
    for (const process of await processes()) {
      const held = await shell(`ls -l /proc/${process}/fd 2>/dev/null || true`);
      expect(held).not.toContain('/etc/passwd');
    }
    expect(await shell(`readlink /proc/${pid}/cwd`)).toBe('/');
    // A session of its own: fields are state, ppid, pgrp, session, tty.
    const [, , pgrp, session, tty] = (await shell(`sed 's/.*) //' /proc/${pid}/stat`)).split(' ');
    expect([pgrp, tty]).toEqual([session, '0']);
    await end(pid);
  });

  test('it holds no capability and cannot get any', async () => {
    const pid = await begin(PLACE);
    const status = await shell(`cat /proc/${pid}/status`);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'])
      expect(status).toMatch(new RegExp(`^${set}:\\t0+$`, 'm'));
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    await end(pid);
  });

  test("--one-off: QEMU's end is its end, with status 0 for who waits", async () => {
    const tool = qemu.spawn([passt, '--foreground', '--log-file', LOG, ...PLACE]);
    await waitFor(async () => (await lab.host.attempt(['test', '-s', PID])).status === 0, { what: 'the PID file' });
    const emulator = startQemu(STREAM);
    const connected = async () => (await lab.host.run(['ss', '-Hx', 'state', 'established', 'src', SOCKET])) !== '';
    await waitFor(connected, { what: 'the connection' });
    expect(tool.child.exitCode).toBeNull();
    emulator.kill('SIGKILL');
    expect(await finish(tool, { timeoutMs: 10_000 })).toMatchObject({ status: 0, signal: null });
    await emulator.closed;
    await nothingLeft();
  });

  test('SIGTERM ends all of it; SIGKILL, too, and the next start takes the stale socket over', async () => {
    for (const signal of ['TERM', 'KILL', 'TERM']) {
      const pid = await begin([...PLACE, '--log-file', LOG]);
      await shell(`kill -${signal} ${pid}`);
      await gone(pid);
      await nothingLeft();
    }
  });

  test('a second one at a live socket is refused, and the first goes on', async () => {
    const pid = await begin(PLACE);
    const second = await run(['--one-off', '--socket', SOCKET, '--pid', `${STATE}/other.pid`]);
    expect(second).toMatchObject({ status: 1, stdout: '', stderr: `Socket path ${SOCKET} already in use\n` });
    expect([await listens(), await isAlive(pid)]).toEqual([true, true]);
    await end(pid);
  });

  test.each([
    [
      'a log file that may not be written',
      ['--log-file', '/proc/passt.log'],
      /^Couldn't open log file \/proc\/passt\.log: .+\n$/,
    ],
    ['an interface that is not there', ['--interface', 'eth9'], /eth9/],
    ['a port twice', ['--tcp-ports', '7000', '--tcp-ports', 'x'], /x/],
    ['a state directory that is not there', ['--socket', '/nonexistent/a.socket'], /\/nonexistent\/a\.socket/],
    [
      'a PID file that may not be written',
      ['--pid', '/nonexistent/pid'],
      /^Couldn't open PID file \/nonexistent\/pid: .+\n$/,
    ],
  ])('%s: status 1, one sentence, nothing runs', async (_name, more, sentence) => {
    const done = await run([...PLACE, ...more]);
    expect(done).toMatchObject({ status: 1, stdout: '', timedOut: false });
    expect(done.stderr).toMatch(sentence);
    expect(done.stderr.trimEnd().split('\n')).toHaveLength(1);
    await nothingLeft();
  });

  test('a log file stays below its size', async () => {
    const line = [...PLACE, '--log-file', LOG, '--log-size', '40960', '--trace'];
    const pid = await begin(line);
    const client = qemu.spawn(['/usr/bin/python3', '-c', ARP_FOREVER, SOCKET]);
    await waitFor(async () => (await shell(`head -1 ${LOG}`)).includes('log truncated'), {
      what: 'a log that was cut',
    });
    client.kill('SIGKILL');
    expect(Number(await shell(`stat -c %s ${LOG}`))).toBeLessThanOrEqual(40_960);
    await gone(pid); // --one-off
    await nothingLeft();
  });
});

describe('vhost-user, as libvirt finds out about it and starts it', () => {
  test('--print-capabilities', async () => {
    const done = await run(['--print-capabilities']);
    expect(done).toMatchObject({ status: 0, stderr: '' });
    expect(JSON.parse(done.stdout)).toEqual({ type: 'net' });
    expect(await run(['--vhost-user', '--print-capabilities'])).toEqual(done);
  });
  test('the line', async () => {
    const pid = await begin([...VHOST_USER, '--interface', 'eth0', '--log-file', LOG, '--tcp-ports', '7022:22']);
    expect(await listens()).toBe(true);
    await end(pid);
  });
});

describe('KubeVirt', () => {
  beforeAll(() =>
    shell(
      "echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start && echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range",
    ),
  );
  /** A socket a port; in a pod the limit is a million. */
  const mayListenAtAll = async (): Promise<boolean> => {
    const limit = await qemu.run(['sh', '-c', 'ulimit -Hn']);
    return limit.trim() === 'unlimited' || Number(limit) > 150_000;
  };
  const ALL = ['--interface', 'eth0', '--log-file', LOG, '--tcp-ports', 'all', '--udp-ports', 'all'];
  test('all ports', async () => {
    if (!(await mayListenAtAll())) {
      // One sentence, then, that says what it takes.
      const done = await run([...PLACE, ...ALL]);
      expect(done).toMatchObject({ status: 1, stdout: '' });
      expect(done.stderr).toMatch(/^Couldn't listen on requested ports: .*RLIMIT_NOFILE.*\n$/);
      return;
    }
    const pid = await begin([...PLACE, ...ALL]);
    const ports = await lab.host.run(['ss', '-Hltn']);
    for (const there of [':22 ', ':80 ', ':443 ', ':15001 ']) expect(ports).toContain(there);
    await end(pid);
  });
  test.each([
    ['vhost-user', VHOST_USER],
    ['stream', PLACE],
  ])("all ports but Istio's, which stay the sidecar's (%s)", async (_kind, place) => {
    const istio = [15_000, 15_001, 15_004, 15_006, 15_008, 15_009, 15_020, 15_021, 15_053, 15_090];
    const excluded = [...istio.map((port) => `~${port}`), ...((await mayListenAtAll()) ? [] : ['~16000-65535'])];
    const pid = await begin([...place, '--interface', 'eth0', '--log-file', LOG, '--tcp-ports', excluded.join(',')]);
    const ports = await lab.host.run(['ss', '-Hltn']);
    for (const port of istio) expect(ports).not.toContain(`:${port} `);
    for (const there of [':22 ', ':80 ', ':443 ', ':15002 ']) expect(ports).toContain(there);
    await end(pid);
  });
  test('without user namespaces: one sentence, not half a start', async () => {
    // A user namespace of its own, so that the limit is nobody else's.
    const script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"';
    const done = await lab.user.attempt(['unshare', '--user', '--map-root-user', 'sh', '-c', script, passt, ...PLACE]);
    expect(done).toMatchObject({ status: 1, stdout: '' });
    expect(done.stderr).toMatch(/user namespace/);
    expect(done.stderr.trimEnd().split('\n')).toHaveLength(1);
    await nothingLeft();
  });
});
