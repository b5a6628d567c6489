// SPDX-License-Identifier: Apache-2.0
/**
 * A hypervisor that stops reading while a thousand connections push towards its guest: what is kept is bounded, everything else goes on, and
 * when it reads again nothing is missing. The guest is a namespace behind stream-tap.c, which can be stopped like any process.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { emptyNamespace } from '../bench/peers.mjs';
import { compile, descendants, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { finish, hasExited, pssKib, type Started, waitFor } from '../support/process.mjs';
import { startPasst } from '../support/vm.mjs';

const CONNECTIONS = 1000;
const OCTETS = 100_000;
const PORT = 7700;
/** The queue of 2 MiB, the tables of a thousand flows, and what a heap grows by meanwhile. */
const MORE_KIB = 32 * 1024;
const SOCKET = '/run/scratch/guest.socket';
const CONTROL = '/run/scratch/control.socket';
const PUSH = join(REPOSITORY, 'test/support/push.mjs');

let lab: Lab;
let passt: Started;
let hypervisor: Started;
let guest: Side;
let closeNamespace: () => Promise<unknown>;

beforeAll(async () => {
  lab = await makeLab();
  const streamTap = await compile('test/bench/stream-tap.c', join(lab.dir, 'stream-tap'));
  passt = await startPasst(lab, SOCKET, ['-q', '-m', '1500', '-t', String(PORT), '--control', CONTROL]);
  const namespace = await emptyNamespace(lab);
  closeNamespace = namespace.close;
  guest = lab.into(namespace.labPid);
  hypervisor = guest.spawn([streamTap, 'connect', SOCKET, 'tap0']);
  await waitFor(() => hypervisor.out().includes('ready') || hasExited(hypervisor), { what: 'the guest' });
  await guest.run([
    'sh',
    '-ec',
    `ip link set lo up; ip addr add ${NET.host4}/24 dev tap0; ip link set tap0 mtu 1500 up; ip route add default via ${NET.gateway4}`,
  ]);
}, 30_000);
afterAll(async () => {
  hypervisor?.kill('SIGKILL');
  await closeNamespace?.();
  await lab?.cleanup();
});

const controller = (): number => {
  const node = [passt.pid(), ...descendants(passt.pid())].find((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('controller'),
  );
  if (node === undefined) throw new Error('no controller');
  return node;
};
/** Clock ticks of processor time so far. */
const ticks = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ') ?? [];
  return Number(fields[11]) + Number(fields[12]);
};

test('a thousand connections push, and it does not read: bounded, awake, and nothing is lost', async () => {
  const server = guest.spawn(['node', PUSH, 'serve', '0.0.0.0', String(PORT)]);
  await waitFor(() => server.out().includes('listening') || hasExited(server), { what: 'the server in the guest' });
  const client = lab.remote.spawn(
    ['node', PUSH, 'push', NET.host4, String(PORT), String(CONNECTIONS), String(OCTETS)],
    {
      stdin: 'pipe',
    },
  );
  await waitFor(() => client.out().includes('open') || hasExited(client), {
    what: 'all connections',
    timeoutMs: 20_000,
  });
  // The guest has all of them.
  await waitFor(
    async () =>
      Number(await guest.run(['sh', '-c', `ss -Htn state established sport = :${PORT} | wc -l`])) === CONNECTIONS,
    {
      what: 'all connections in the guest',
      timeoutMs: 20_000,
    },
  );

  const pastiche = join(dirname(lab.binary), 'pastiche');
  const pid = controller();
  const before = pssKib(pid);
  hypervisor.kill('SIGSTOP');
  client.child.stdin?.write('go\n');
  // Our sockets hold it, as far as they have room, and the peers' the rest: when no more comes, all is where it will stay.
  let queued = '';
  await waitFor(
    async () => {
      const last = queued;
      queued = await lab.host.run(['sh', '-c', `ss -Htn sport = :${PORT} | awk '{ n += $2 } END { print n }'`]);
      return Number(queued) > 0 && queued === last;
    },
    { what: 'all that can be pushed', everyMs: 300, timeoutMs: 20_000 },
  );
  expect(pssKib(pid) - before).toBeLessThan(MORE_KIB);
  expect(await lab.user.run([pastiche, 'ports', 'list', CONTROL])).toContain(String(PORT));
  // The loop sleeps: one that spins would use all of the time there is, and no such moment would come.
  const sleeps = async (): Promise<boolean> => {
    const from = ticks(pid);
    await new Promise((resolve) => setTimeout(resolve, 400));
    return ticks(pid) - from < 8;
  };
  await waitFor(sleeps, { what: 'the loop to sleep' });

  hypervisor.kill('SIGCONT');
  hypervisor.child.kill('SIGCONT'); // nsenter, which stops with its child
  expect((await finish(client, { timeoutMs: 20_000 })).status).toBe(0);
  await waitFor(() => server.out().includes('ended') || hasExited(server), {
    what: 'the last connection in the guest',
  });
  expect(JSON.parse(server.out().trim().split('\n').at(-1) ?? '')).toEqual({
    ended: CONNECTIONS,
    right: CONNECTIONS,
    bytes: CONNECTIONS * OCTETS,
  });
  server.kill('SIGKILL');
}, 90_000);

test('nor does it keep SIGTERM from ending us', async () => {
  hypervisor.kill('SIGSTOP');
  passt.kill('SIGTERM');
  expect((await finish(passt, { timeoutMs: 5000 })).status).toBe(0);
  hypervisor.kill('SIGCONT');
  hypervisor.child.kill('SIGCONT'); // nsenter, which stops with its child
}, 20_000);
