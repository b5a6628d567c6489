// SPDX-License-Identifier: Apache-2.0
/** sd_notify(3): what the service manager hears, from whom, and when it hears nothing. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { commandName, type Lab, makeLab } from '../support/lab.mjs';
import { finish, hasExited, type Started, waitFor } from '../support/process.mjs';

/** Listens as a manager does; a line for each message: the sender's PID, and the message as JSON. */
const MANAGER = `
import json, socket, struct, sys
path = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(path.replace('@', '\\0', 1))
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
print('listening', flush=True)
while True:
    data, control, _, _ = s.recvmsg(4096, 256)
    print(json.dumps([struct.unpack('iii', control[0][2])[0], data.decode()]), flush=True)
`;

let lab: Lab;
let number = 0;
beforeAll(async () => {
  lab = await makeLab();
});
afterAll(() => lab.cleanup());

interface Told {
  readonly manager: Started;
  readonly socket: string;
  readonly heard: () => [number, string][];
}
const manager = async (prefix = '/run/scratch/'): Promise<Told> => {
  const socket = `${prefix}notify-${++number}`;
  const one = lab.user.spawn(['/usr/bin/python3', '-c', MANAGER, socket]);
  await waitFor(() => one.out().includes('listening') || hasExited(one), { what: 'the socket of the manager' });
  const heard = (): [number, string][] =>
    one
      .out()
      .split('\n')
      .slice(1, -1)
      .map((line) => JSON.parse(line));
  return { manager: one, socket, heard };
};
/** Runs a program as the process that the manager started, with PID `$$`, or as another's child. */
const launch = (told: Told, execPid: string, argv: readonly string[]): Started =>
  lab.user.spawn(
    [
      'sh',
      '-c',
      `export SYSTEMD_EXEC_PID=${execPid}; [ "$SYSTEMD_EXEC_PID" ] || unset SYSTEMD_EXEC_PID; echo $$; exec "$@"`,
      'sh',
      ...argv,
    ],
    {
      env: { NOTIFY_SOCKET: told.socket },
    },
  );
const target = async (): Promise<{ holder: Started; pid: string }> => {
  const holder = lab.user.spawn([
    'unshare',
    '--user',
    '--map-root-user',
    '--net',
    'sh',
    '-c',
    'echo $$; exec sleep 1000',
  ]);
  return { holder, pid: await waitFor(() => holder.out().trim(), { what: 'a namespace' }) };
};
const hasTap = async (pid: string): Promise<boolean> =>
  (await lab.into(pid).run(['ip', '-4', '-o', 'address'])).includes('eth0');

it.each([
  ['a path', '/run/scratch/', '$$'],
  ['an abstract name', '@', '$$'],
  ['from a manager that does not say whom it started', '/run/scratch/', ''],
])('ready and stopping: %s', async (_, prefix, execPid) => {
  const [told, { holder, pid }] = await Promise.all([manager(prefix), target()]);
  const pasta = launch(told, execPid, lab.argv(['-f', '-q', '--config-net', pid]));
  await waitFor(() => told.heard().length > 0 || hasExited(pasta), { what: 'a message' });
  const own = Number(pasta.out().trim());
  expect(told.heard()).toEqual([[own, 'READY=1\nSTATUS=The namespace has its network']]);
  expect(await hasTap(pid)).toBe(true); // at that moment already
  pasta.kill('SIGTERM');
  expect((await finish(pasta, {})).status).toBe(0);
  await waitFor(() => told.heard().length > 1, { what: 'the last message' });
  expect(told.heard()[1]).toEqual([own, 'STOPPING=1']);
  for (const one of [holder, told.manager]) one.kill('SIGKILL');
});

it('a failure after that is told with its reason', async () => {
  const [told, { holder, pid }] = await Promise.all([manager(), target()]);
  const pasta = launch(told, '$$', lab.argv(['-f', '-q', '--config-net', pid]));
  await waitFor(() => told.heard().length > 0 || hasExited(pasta), { what: 'a message' });
  const [node] = (await lab.host.run(['pgrep', '-P', pasta.out().trim(), 'node'])).split('\n');
  await lab.host.run(['kill', '-KILL', node ?? '']);
  expect((await finish(pasta, {})).status).toBe(1);
  await waitFor(() => told.heard().length > 1, { what: 'the last message' });
  expect(told.heard()[1]?.[1]).toBe('STOPPING=1\nSTATUS=The controller was killed by signal 9');
  for (const one of [holder, told.manager]) one.kill('SIGKILL');
});

it.each([
  ["another process's child says nothing", '1', ['-f']],
  ['a tool that goes to the background says nothing', '$$', []],
])('%s, and works', async (_, execPid, options) => {
  const [told, { holder, pid }] = await Promise.all([manager(), target()]);
  const pasta = launch(told, execPid, lab.argv([...options, '-q', '--config-net', pid]));
  await waitFor(() => hasTap(pid), { what: 'the network' });
  holder.kill('SIGKILL');
  await finish(pasta, {});
  // All of it is gone: what it had to say would be there.
  const isOurs = (each: number) => /^(pasta|node)$/.test(commandName(each));
  await waitFor(() => !lab.processes().some(isOurs), { what: 'the tool to be gone' });
  expect(told.heard()).toEqual([]);
  told.manager.kill('SIGKILL');
});

it('where a command is run, the socket is the command’s', async () => {
  const told = await manager();
  const pasta = launch(told, '$$', lab.argv(['-q', '--config-net'], ['sh', '-c', 'echo "socket=$NOTIFY_SOCKET"']));
  expect((await finish(pasta, {})).stdout).toContain(`socket=${told.socket}\n`);
  expect(told.heard()).toEqual([]);
  told.manager.kill('SIGKILL');
});

it.each([
  ['that nobody has', '/run/scratch/nobody', 'No such file or directory'],
  ['that is none', 'nonsense', 'Invalid argument'],
  ['that is too long', `/${'x'.repeat(120)}`, 'Invalid argument'],
])('a socket %s is a line on stderr, no failure', async (_, socket, why) => {
  const { holder, pid } = await target();
  const pasta = lab.user.spawn(lab.argv(['-f', '-q', '--config-net', pid]), { env: { NOTIFY_SOCKET: socket } });
  await waitFor(() => hasTap(pid), { what: 'the network' });
  holder.kill('SIGKILL');
  const done = await finish(pasta, {});
  expect(done.stderr).toBe(`Can't reach the service manager at NOTIFY_SOCKET=${socket}: ${why}\n`);
  expect(done.status).toBe(0);
});
