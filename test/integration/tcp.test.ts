// SPDX-License-Identifier: Apache-2.0
/** TCP: every octet of large transfers, half-closed and refused connections, many flows at once. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab } from '../support/lab.mjs';
import { descriptors, finish, type Started, waitFor } from '../support/process.mjs';
import {
  client,
  ECHO_PORT,
  echoServer,
  FAMILIES,
  REFUSED_PORT,
  STREAM_PORT,
  streamServer,
} from '../support/programs.ts';

const GIB = 1024 ** 3;
const TRANSFER = { timeoutMs: 120_000 };

describe.each([1500, 65_520])('MTU %i', (mtu) => {
  let lab: Lab;
  let guest: Guest;
  let stream: string;
  beforeAll(async () => {
    lab = await makeLab({ mtu });
    stream = await streamServer(lab);
    guest = await lab.guest(['--config-net', '-m', String(mtu)]);
  });
  afterAll(() => lab.cleanup());

  it.each(FAMILIES)('1 GiB to the guest over $family, every octet right', async ({ server }) => {
    await guest.run([stream, 'down', server, String(STREAM_PORT), String(GIB), String(mtu)], TRANSFER);
  });
  it.each(FAMILIES)('1 GiB from the guest over $family, every octet right', async ({ server }) => {
    await guest.run([stream, 'up', server, String(STREAM_PORT), String(GIB), String(mtu)], TRANSFER);
  });
  it('both directions at once, four flows', async () => {
    const one = (mode: string, server: string, seed: number) =>
      guest.run([stream, mode, server, String(STREAM_PORT), String(GIB / 8), String(seed)], TRANSFER);
    await Promise.all(FAMILIES.flatMap(({ server }, i) => [one('up', server, i), one('down', server, i + 10)]));
  });
  it.each([0, 1, 1459, 1460, 1461, 65_535, 65_536, 100_000])('%i octets and a half-close come back', async (size) => {
    for (const { server } of FAMILIES)
      await guest.run([stream, 'half', server, String(STREAM_PORT), String(size), String(size)], { timeoutMs: 10_000 });
  });
});

describe('connections', () => {
  let lab: Lab;
  let guest: Guest;
  beforeAll(async () => {
    lab = await makeLab();
    await echoServer(lab);
    guest = await lab.guest(['--config-net']);
  });
  afterAll(() => lab.cleanup());

  /** Open descriptors of all the tool's processes together. */
  const openDescriptors = (): number => guest.toolProcesses().reduce((sum, pid) => sum + descriptors(pid).size, 0);
  const opened = (flows: Started, count: number) =>
    waitFor(() => flows.out().includes(`{"open":${count}}`) || flows.child.exitCode !== null, {
      what: `${count} open flows`,
      timeoutMs: 30_000,
    });

  it.each(FAMILIES)('a refused connection fails at once over $family', async ({ server }) => {
    const { code, ms } = JSON.parse(await guest.run(client('connect', server, REFUSED_PORT))) as {
      code: string;
      ms: number;
    };
    expect(code).toBe('ECONNREFUSED');
    expect(ms).toBeLessThan(500);
  });

  it.each(FAMILIES)('1,000 flows at once over $family echo, and give everything back', async ({ server }) => {
    const before = openDescriptors();
    const flows = guest.spawn(client('flows', server, ECHO_PORT, 1000), { stdin: 'pipe' });
    await opened(flows, 1000);
    expect(openDescriptors()).toBeGreaterThanOrEqual(before + 1000);
    flows.child.stdin?.end();
    const done = await finish(flows, { timeoutMs: 60_000 });
    expect(done.stderr).toBe('');
    expect(done.stdout).toContain('{"closed":1000}');
    await waitFor(() => openDescriptors() <= before, { what: `at most ${before} open descriptors`, timeoutMs: 15_000 });
  });

  it('flows of a client that is killed are given back, too', async () => {
    const before = openDescriptors();
    const flows = guest.spawn(client('flows', FAMILIES[0].server, ECHO_PORT, 100), { stdin: 'pipe' });
    await opened(flows, 100);
    flows.kill('SIGKILL');
    await flows.closed;
    await waitFor(() => openDescriptors() <= before, { what: `at most ${before} open descriptors`, timeoutMs: 15_000 });
  });
});
