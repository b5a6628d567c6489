// SPDX-License-Identifier: Apache-2.0
/** Host side, controller and broker that are not each other's children: who may come, what is told, and that no one outlives another. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Lab, makeLab, NET } from '../support/lab.mjs';
import { finish, hasExited, isAlive, namespaces, type Started, status, waitFor } from '../support/process.mjs';

const GONE_WITHIN_MS = 1000;
/** sd_listen_fds(3), as a service manager does it: sockets from 3 on, at "TYPE:PATH" each; `foreign` names another process. */
const PASS_ON = `
import os, socket, sys
kinds = {'seqpacket': socket.SOCK_SEQPACKET, 'stream': socket.SOCK_STREAM}
kept = []
for at in filter(None, sys.argv[1].split(',')):
    kind, path = at.split(':')
    s = socket.socket(socket.AF_UNIX, kinds[kind]); s.bind(path); s.listen(); s.set_inheritable(True)
    assert s.fileno() == 3 + len(kept); kept.append(s)
os.environ['LISTEN_PID'] = str(os.getpid() + (sys.argv[2] == 'foreign'))
os.environ['LISTEN_FDS'] = str(len(kept))
print('listening', flush=True)
os.execv(sys.argv[3], sys.argv[3:])
`;
/** What is no helper of ours: sends the message of the second argument to the first who comes, and waits for its end. */
const PRETENDER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(sys.argv[1]); s.listen()
print('listening', flush=True)
c, _ = s.accept()
if sys.argv[2]: c.send(sys.argv[2].encode().decode('unicode_escape').encode())
c.shutdown(socket.SHUT_WR); c.recv(1)
`;

let lab: Lab;
let program: string;
let number = 0;
let started: Started[] = [];
beforeAll(async () => {
  lab = await makeLab();
  program = join(dirname(lab.binary), 'pastiche');
});
afterEach(() => {
  for (const each of started) each.kill('SIGKILL');
  started = [];
});
afterAll(() => lab.cleanup());

const path = (): string => `/run/scratch/split-${++number}`;
const spawn = (argv: readonly string[]): Started => {
  const one = lab.user.spawn(argv);
  started.push(one);
  return one;
};
/** Python that says when it listens. */
const listening = async (argv: readonly string[]): Promise<Started> => {
  const one = spawn(['/usr/bin/python3', '-c', ...argv]);
  await waitFor(() => one.out().includes('listening') || hasExited(one), { what: 'a socket' });
  return one;
};
const helper = (sockets: readonly string[], args: readonly string[], whose = 'own') =>
  listening([PASS_ON, sockets.join(','), whose, program, 'helper', ...args]);
const end = (one: Started) => finish(one, { timeoutMs: 10_000 });

describe('`pastiche helper` begins with one or two sockets of sequential packets', () => {
  it.each([
    ['none', () => [], 'own', 'No socket was passed'],
    ["another process's", () => [`seqpacket:${path()}`], 'foreign', 'No socket was passed'],
    ['a stream', () => [`stream:${path()}`], 'own', 'not a UNIX socket of sequential packets'],
    ['three', () => [1, 2, 3].map(() => `seqpacket:${path()}`), 'own', '3 sockets were passed'],
  ])('%s: a sentence and status 1', async (_, sockets, whose, sentence) => {
    const done = await end(await helper(sockets(), ['pasta', '1'], whose));
    expect(done).toMatchObject({ status: 1, timedOut: false });
    expect(done.stderr.trim()).toMatch(new RegExp(`^[^\n]*${sentence}[^\n]*$`));
  });

  it.each([
    ['no personality', [], /^Usage: pastiche helper /],
    ['a group that does not exist', ['--group', 'no-such-group', 'pasta', '1'], /^Invalid --group: no-such-group/],
    ['a user that does not exist', ['--user', 'no-such-user', 'pasta', '1'], /^Invalid --user: no-such-user/],
  ])('%s: a sentence, before anybody comes', async (_, args, sentence) => {
    const done = await end(await helper([`seqpacket:${path()}`], args));
    expect(done).toMatchObject({ status: 1, timedOut: false });
    expect(done.stderr).toMatch(sentence);
  });

  it.each([
    ['a command', 1, ['pasta', '--', 'true'], 'runs no command'],
    ['slirp4netns', 1, ['slirp4netns', '1', 'tap0'], 'is for pasta and passt'],
    ['a broker of passt', 2, ['passt'], 'passt has no broker'],
    ['a descriptor', 1, ['passt', '--fd', '9'], 'takes no --fd'],
    ['an option that does not exist', 1, ['pasta', '--no-such-option'], '--no-such-option'],
  ])('%s: a sentence, and who has come is hung up on', async (_, count, args, sentence) => {
    const sockets = Array.from({ length: count }, path);
    const host = await helper(
      sockets.map((at) => `seqpacket:${at}`),
      args,
    );
    const others = sockets.map((at, i) => spawn([program, i === 0 ? 'controller' : 'broker', at]));
    const done = await end(host);
    expect(done).toMatchObject({ status: 1, timedOut: false });
    expect(done.stderr).toContain(sentence);
    for (const other of await Promise.all(others.map(end)))
      expect(other).toMatchObject({
        status: 1,
        stderr: 'The helper ended before it began: its own unit has the reason\n',
      });
  });
});

it.each(['--user', '--group'])(
  '%s: who has another is hung up on, and the helper waits for who has it',
  async (option) => {
    const at = path();
    const host = await helper([`seqpacket:${at}`], [option, '4242', 'pasta', '1']);
    const refused = await end(spawn([program, 'controller', at]));
    expect(refused).toMatchObject({ status: 1, timedOut: false });
    await waitFor(() => /^Refused the connection of process \d+, user \d+, group \d+/m.test(host.err()), {
      what: 'the refusal to be told',
    });
    expect(hasExited(host)).toBe(false);
  },
);

describe('`pastiche controller` and `pastiche broker` believe no other', () => {
  it.each([
    ['another version', '9.9.9\\0pasta\\0tap0\\0', 'The helper is of version 9.9.9, this program of '],
    ['too few words', '0.1.0\\0', 'The helper is of version 0.1.0'],
    ['no end of the words', '0.1.0\\0pasta', 'What listens there is no helper of ours'],
    ['silence', '', 'The helper ended before it began'],
  ])('%s', async (_, message, sentence) => {
    for (const which of ['controller', 'broker']) {
      const at = path();
      await listening([PRETENDER, at, message]);
      const done = await end(spawn([program, which, at]));
      expect(done).toMatchObject({ status: 1, timedOut: false });
      expect(done.stderr).toContain(sentence);
    }
  });

  it('a broker that is given no channels', async () => {
    const version = /pasta ([^ ]+)/.exec(await lab.user.run([lab.binary, '--version']))?.[1];
    const at = path();
    await listening([PRETENDER, at, `${version}\\0pasta\\0tap0\\0--netns\\0x\\0`]);
    const done = await end(spawn([program, 'broker', at]));
    expect(done).toMatchObject({ status: 1, stderr: 'What listens there is no helper of ours\n' });
  });

  it('nobody there: a sentence with the path', async () => {
    const done = await end(spawn([program, 'controller', '/run/scratch/nobody']));
    expect(done).toMatchObject({
      status: 1,
      stderr: "Can't connect to the helper at /run/scratch/nobody: No such file or directory\n",
    });
  });
});

describe('an instance', () => {
  /** The network of a process, by a helper with the broker as its child, and a controller that is not. */
  const instance = async () => {
    const holder = spawn(['unshare', '--user', '--map-root-user', '--net', 'sh', '-c', 'echo $$; exec sleep 1000']);
    const target = await waitFor(() => holder.out().trim(), { what: 'a namespace' });
    const at = path();
    const host = await helper([`seqpacket:${at}`], ['pasta', '--config-net', '--quiet', target]);
    const controller = spawn([program, 'controller', at]);
    const guest = lab.into(target);
    await waitFor(
      async () =>
        hasExited(host) ||
        (await guest.attempt(['ping', '-c1', '-W1', NET.server4])).stdout.includes(' 0% packet loss'),
      { what: 'the network' },
    );
    expect(hasExited(host), host.err() + controller.err()).toBe(false);
    return { host, controller, holder };
  };

  it('its controller has the namespaces, filters and environment that a child has', async () => {
    const { host, controller } = await instance();
    const pid = controller.pid();
    const [own, theirs] = [namespaces(pid), namespaces(host.pid())];
    for (const kind of ['user', 'net', 'mnt', 'ipc', 'uts']) expect(own[kind]).not.toBe(theirs[kind]);
    expect(status(pid)).toMatchObject({ CapEff: '0000000000000000', NoNewPrivs: '1', Seccomp: '2' });
    expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).toBe('UV_USE_IO_URING=0\0');
  });

  it.each(['host', 'controller', 'holder'] as const)('%s is killed: nobody stays', async (which) => {
    const all = await instance();
    const pids = [all.host.pid(), all.controller.pid()];
    all[which].kill('SIGKILL');
    await waitFor(() => !pids.some(isAlive), { what: 'both to be gone', timeoutMs: GONE_WITHIN_MS });
    if (which === 'controller') expect((await end(all.host)).status).toBe(1);
    if (which === 'holder') expect((await end(all.host)).status).toBe(0);
  });

  it('of passt: the guest is accepted, by --one-off its end is the end of both, in order', async () => {
    const [at, socket] = [path(), path()];
    const host = await helper([`seqpacket:${at}`], ['passt', '--one-off', '--quiet', '--socket', socket]);
    const controller = spawn([program, 'controller', at]);
    const guest =
      'import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.recv(9999)[12:])';
    // The router tells every guest of itself: a frame comes without being asked for.
    const heard = await waitFor(
      async () => hasExited(host) || (await lab.user.attempt(['/usr/bin/python3', '-c', guest, socket])).stdout,
      { what: 'a guest that is served' },
    );
    expect(heard).not.toBe(true);
    const [first, second] = await Promise.all([end(host), end(controller)]);
    expect([first.status, second.status]).toEqual([0, 0]);
  });

  it('SIGTERM to the host side is an end in order for both', async () => {
    const { host, controller } = await instance();
    host.kill('SIGTERM');
    const [first, second] = await Promise.all([end(host), end(controller)]);
    expect([first.status, second.status]).toEqual([0, 0]);
  });
});
