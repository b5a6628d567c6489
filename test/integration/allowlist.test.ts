// SPDX-License-Identifier: Apache-2.0
/** The main job under strace: whatever a process calls under its filter has an annotation. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectations } from '../support/allowlist.ts';
import { compile, type Lab, makeLab, NET } from '../support/lab.mjs';
import { finish, hasExited, waitFor } from '../support/process.mjs';
import {
  client,
  ECHO_PORT,
  echoServer,
  FAMILIES,
  REFUSED_PORT,
  STREAM_PORT,
  streamServer,
} from '../support/programs.ts';
import { type Slirp, startSlirp } from '../support/slirp.ts';
import { allowedNames, callsByProfile, parseStrace, pasticheProfiles, unannotated } from '../support/strace.ts';

let lab: Lab;
let stream: string;
beforeAll(async () => {
  lab = await makeLab();
  // clone() returns numbers of the caller's PID namespace: the command's small ones must not be mistaken for the tool's.
  await lab.host.run(['sh', '-c', 'echo 20000 > /proc/sys/kernel/ns_last_pid']);
  stream = await streamServer(lab);
  await echoServer(lab);
});
afterAll(() => lab.cleanup());

/** Everything the data path does, as lines of a shell script; the tool is slow under strace, so little of each. */
const everything = (): string => {
  const quote = (argv: readonly string[]) => argv.map((arg) => `'${arg}'`).join(' ');
  const lines = FAMILIES.flatMap(({ server }) => [
    quote(['ping', '-c', '2', '-i', '0.2', server]),
    quote(client('udp', server, ECHO_PORT, 1, 1000, 9000)),
    `${quote(client('udp', server, REFUSED_PORT, 1))} || true`,
    quote(client('connect', server, REFUSED_PORT)),
    `${quote(client('flows', server, ECHO_PORT, 20))} </dev/null`,
    ...['up', 'down', 'half'].map((mode) => quote([stream, mode, server, String(STREAM_PORT), String(4 << 20), '1'])),
  ]);
  return ['set -e', ...lines, quote(['busybox', 'nslookup', NET.name, NET.server4])].join('\n');
};

/** `everything` in a namespace that is joined to a hypervisor's socket: the guest has the host's addresses. */
const asGuest = (program: string, socket: string): string =>
  [
    'set -e',
    `mkfifo /run/scratch/said; ${program} ${socket} tap0 >/run/scratch/said & guest=$!`,
    'read -r word </run/scratch/said; rm /run/scratch/said; case $word in ready*) ;; *) exit 1 ;; esac',
    `ip link set lo up; ip link set tap0 up`,
    `ip addr add ${NET.host4}/24 dev tap0; ip addr add ${NET.host6}/64 dev tap0 nodad`,
    `ip route add default via ${NET.gateway4}; ip -6 route replace default via ${NET.gateway6} dev tap0`,
    everything(),
    'kill $guest',
  ].join('\n');

/** One request to a UNIX socket, and all of its answer. */
const ASK = `import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode())
s.shutdown(socket.SHUT_WR)
print(s.recv(2048).decode())`;

/** The profiles that were in force, none of which met a call outside it. */
const profilesOf = (file: string, hostSetup: 'setup' | 'sandbox' = 'setup'): string[] => {
  const calls = parseStrace(readFileSync(file, 'utf8'));
  const seen = callsByProfile(calls, pasticheProfiles(calls, hostSetup));
  expect(unannotated(seen, allowedNames(expectations()))).toEqual([]);
  return [...seen.keys()].sort();
};

describe('under strace', () => {
  it.each([
    ['quietly', ['--config-net', '-q']],
    ['with log, capture and trace', ['--config-net', '--trace', '-l', '/run/scratch/log', '-p', '/run/scratch/pcap']],
  ])('the main job %s makes no call without an annotation', async (name, args) => {
    const file = join(lab.dir, `strace-${name.replaceAll(' ', '-')}.log`);
    const strace = ['strace', '-f', '-e', 'signal=none', '-o', file, ...lab.asUser];
    await lab.host.run([...strace, ...lab.argv(args, ['sh', '-c', everything()])], { timeoutMs: 120_000 });
    expect(profilesOf(file)).toEqual(['controller', 'host', 'netns', 'setup']);
  });

  it.each([
    ['stream socket', 'stream-tap connect', ['--trace', '-l', '/run/scratch/log', '-p', '/run/scratch/pcap']],
    ['vhost-user', 'vhost-tap', ['--vhost-user', '-q']],
  ])('a guest of passt, %s, makes it do no call without an annotation', async (name, link, args) => {
    const file = join(lab.dir, `strace-passt-${name.replaceAll(' ', '-')}.log`);
    const socket = `/run/scratch/strace-${args.length}.socket`;
    const [program, ...mode] = link.split(' ') as [string, ...string[]];
    const guest = [await compile(`test/bench/${program}.c`, join(lab.dir, program)), ...mode].join(' ');
    const strace = ['strace', '-f', '-e', 'signal=none', '-o', file, ...lab.asUser];
    const passt = lab.host.spawn([...strace, join(dirname(lab.binary), 'passt'), '-f', '-1', '-s', socket, ...args]);
    await waitFor(async () => hasExited(passt) || (await lab.host.attempt(['test', '-S', socket])).status === 0, {
      what: 'the socket',
    });
    await lab.host.run(['unshare', '-n', 'sh', '-c', asGuest(guest, socket)], { timeoutMs: 120_000 });
    // Its guest has hung up.
    expect((await finish(passt, { timeoutMs: 20_000 })).status).toBe(0);
    expect(profilesOf(file)).toEqual(['controller', 'host', 'setup']);
  });

  it('slirp4netns, with sandbox and API socket, makes no call without an annotation', async () => {
    const under = (dir: string) => ['strace', '-f', '-e', 'signal=none', '-o', join(dir, 'trace')];
    let slirp: Slirp | null = null;
    try {
      slirp = await startSlirp(lab, {
        args: ['-c', '-6', '--enable-sandbox', '--enable-seccomp', '-a', '/run/scratch/api'],
        under,
      });
      const request = {
        execute: 'add_hostfwd',
        arguments: { proto: 'tcp', host_addr: '127.0.0.1', host_port: 7099, guest_port: 7099 },
      };
      const answers: string[] = [];
      for (const text of [JSON.stringify(request), '{"execute":"remove_hostfwd","arguments":{"id":1}}', 'x'])
        answers.push(await lab.user.run(['/usr/bin/python3', '-c', ASK, '/run/scratch/api', text]));
      expect(answers.map((answer) => answer.slice(0, 9))).toEqual(['{"return"', '{"return"', '{"error":']);
      await slirp.inside.run(['sh', '-c', everything()], { timeoutMs: 120_000 });
      slirp.hangUp();
      await finish(slirp.tool, { timeoutMs: 20_000 });
      expect(profilesOf(join(slirp.dir, 'trace'), 'sandbox')).toEqual([
        'controller',
        'host',
        'netns',
        'resolver',
        'sandbox',
        'setup',
      ]);
    } finally {
      await slirp?.close();
    }
  });
});
