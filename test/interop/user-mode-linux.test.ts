// SPDX-License-Identifier: Apache-2.0
/** User Mode Linux, Debian's kernel as a program, behind `slirp4netns --target-type=bess`: its vector driver over a socket of packets. */
import { accessSync, chmodSync, constants, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { type Finished, finish, hasExited, type Started, waitFor } from '../support/process.mjs';
import { STREAM_PORT, streamServer } from '../support/programs.ts';
import { slirpBinary } from '../support/slirp.ts';

const KERNEL = '/usr/bin/linux.uml';
const MEGABYTES = 4;

const hasKernel = ((): boolean => {
  try {
    accessSync(KERNEL, constants.X_OK);
    return true;
  } catch {
    if (process.env['CI'] === 'true') return true;
    console.warn(`skipped: ${KERNEL} is not there (package user-mode-linux)`);
    return false;
  }
})();

let lab: Lab;
let dir: string;
let stream: string;
beforeAll(async () => {
  if (!hasKernel) return;
  lab = await makeLab();
  stream = await streamServer(lab);
  dir = join(lab.dir, 'uml');
  mkdirSync(dir);
  chmodSync(dir, 0o777);
});
afterAll(() => lab?.cleanup());

/** The first program of the guest: its root is the host's, read-only. A line each of what is asked, and how it ended. */
const INIT = (hook: string): string => `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc && mount -t tmpfs tmpfs /mnt
ip link set lo up
ip link set vec0 up
export LOG=/mnt/learnt
busybox udhcpc -i vec0 -n -q -f -s ${hook} >/dev/null 2>&1; echo "dhcp $? $(ip -o -4 addr show dev vec0 | grep -o '10[.][0-9.]*/[0-9]*')"
ping -c 1 -W 2 10.0.2.2 >/dev/null; echo "ping $?"
for way in down up half; do
  ${stream} $way ${NET.server4} ${STREAM_PORT} ${MEGABYTES << 20} 7; echo "$way $?"
done
busybox poweroff -f
`;

const boot = (side: Side, init: string, socket: string): Promise<Finished> => {
  const argv = [
    ...[KERNEL, 'mem=96M', 'rootfstype=hostfs', 'root=/dev/root', 'ro', 'hostfs=/', `init=${init}`, 'quiet'],
    ...[`vec0:transport=bess,dst=${socket}`, 'con=null', 'con0=null,fd:1', 'umid=guest', `uml_dir=${dir}/`],
  ];
  return side.attempt(argv, { timeoutMs: 60_000, env: { HOME: dir, TMPDIR: dir } });
};
const open = async (socket: string): Promise<Started> => {
  const script = `exec "$0" "$@" 5>${dir}/ready`;
  const args = ['--target-type=bess', '-r', '5', socket];
  const tool = lab.user.spawn(['sh', '-c', script, slirpBinary(lab), ...args]);
  await waitFor(() => tool.err().includes(`Waiting for connection to ${socket}`) || hasExited(tool), {
    what: 'the socket',
  });
  return tool;
};

it.runIf(hasKernel)('boots, gets an address by DHCP, and every byte is right, both ways; its end is ours', async () => {
  const socket = join(dir, 'socket');
  const hook = join(dir, 'hook');
  writeFileSync(hook, readFileSync(join(REPOSITORY, 'test/support/dhcp-hook.sh')));
  writeFileSync(join(dir, 'init'), INIT(hook));
  for (const path of [hook, join(dir, 'init')]) chmodSync(path, 0o755);
  const tool = await open(socket);
  expect(readFileSync(join(dir, 'ready'), 'utf8')).toBe('');
  const guest = await boot(lab.user, join(dir, 'init'), socket);
  const said = guest.stdout.split(/\r?\n/).filter((line) => /^(dhcp|ping|down|up|half) \d/.test(line));
  expect(said, guest.stdout + guest.stderr).toEqual([...['dhcp 0 10.0.2.15/24', 'ping 0', 'down 0', 'up 0', 'half 0']]);
  expect(readFileSync(join(dir, 'ready'), 'utf8')).toBe('1');
  expect(await finish(tool, { timeoutMs: 5000 })).toMatchObject({ status: 0, timedOut: false });
});
