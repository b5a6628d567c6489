// SPDX-License-Identifier: Apache-2.0
/**
 * A path that comes to take less while a transfer is under way, in either direction: the routers tell the host's TCP, sealed
 * processes or not, and the transfer goes on, every octet right. The guest need not know (see proto/tcp/tcp.ts).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { compile, type Guest, type Lab, makeLab } from '../support/lab.mjs';
import { finish, waitFor } from '../support/process.mjs';
import { STREAM_PORT } from '../support/programs.ts';
import { FAR4, FAR6, lengthen, type Path } from '../support/routers.ts';

const OCTETS = 1024 ** 3;
/** Under way for sure, and far from the end. */
const UNDER_WAY = OCTETS / 16;
const WIDE = 1500;
const NARROW = 1300;

let lab: Lab;
let path: Path;
let guest: Guest;
let stream: string;
beforeAll(async () => {
  lab = await makeLab();
  path = await lengthen(lab);
  stream = await compile('test/support/stream.c', join(lab.dir, 'stream'));
  for (const address of [FAR4, FAR6]) {
    const server = path.far.spawn([stream, 'serve', address, String(STREAM_PORT)]);
    await waitFor(() => server.out().includes('listening'), { what: 'the stream server' });
  }
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

/** Both links around the middle router: either end of the transfer meets a router that objects. */
const setMtu = async (mtu: number): Promise<void> => {
  await path.setMtu(mtu);
  await lab.remote.run(['ip', 'link', 'set', 'right', 'mtu', String(mtu)]);
  await path.middle.run(['ip', 'link', 'set', 'left', 'mtu', String(mtu)]);
};
afterEach(() => setMtu(WIDE));

/** Octets that the lab's outer link has carried, both ways. */
const carried = (): number => {
  const line = readFileSync(`/proc/${lab.init}/net/dev`, 'ascii')
    .split('\n')
    .find((each) => each.includes('eth0'));
  const fields = line?.split(':')[1]?.trim().split(/\s+/).map(Number) ?? [];
  return (fields[0] ?? 0) + (fields[8] ?? 0);
};
/** The path MTU that the host has learnt for `address`, or NaN. */
const learnt = async (address: string): Promise<number> =>
  Number(/mtu (\d+)/.exec(await lab.host.run(['ip', 'route', 'get', address]))?.[1]);

describe.each([
  ['IPv4', FAR4],
  ['IPv6', FAR6],
])('over %s', (_family, far) => {
  it.each(['up', 'down'])('%s: the path narrows, and the transfer goes on', async (direction) => {
    const before = carried();
    const transfer = guest.spawn([stream, direction, far, String(STREAM_PORT), String(OCTETS), '7']);
    await waitFor(() => carried() - before > UNDER_WAY || transfer.child.exitCode !== null, { what: 'the transfer' });
    await setMtu(NARROW);
    expect(transfer.child.exitCode).toBe(null);
    const done = await finish(transfer, { timeoutMs: 60_000 });
    expect([done.status, done.stderr]).toEqual([0, '']);
    if (direction === 'up') expect(await learnt(far)).toBe(NARROW);
  });
});
