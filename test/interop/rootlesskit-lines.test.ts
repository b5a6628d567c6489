// SPDX-License-Identifier: Apache-2.0
/**
 * How RootlessKit 2.3 to 3.x starts pasta, run literally: it asks for the version and for an option, then starts pasta with all its
 * output on one pipe, reads that to its end and expects the network to be ready. It never kills it. No Debian release has them yet.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Lab, makeLab, NET, type Side } from '../support/lab.mjs';
import { isAlive, type Started, status, waitFor } from '../support/process.mjs';
import { client, ECHO_PORT, echoServer } from '../support/programs.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
  await echoServer(lab);
});
afterAll(async () => lab?.cleanup());

const COMMON = ['--stderr', '--ns-ifname=tap0', '--mtu=65520', '--config-net'];
const ADDRESSES = ['--address=10.0.2.100', '--netmask=24', '--gateway=10.0.2.2', '--dns-forward=10.0.2.3'];

/** A child as RootlessKit makes it; with `detached` its network is at a path of its mount namespace only. */
const child = async (detached: string | null): Promise<{ process: Started; pid: string; inside: Side }> => {
  const net = detached === null ? ['--net'] : [];
  const script =
    detached === null ? 'echo made; exec cat' : `: >${detached}; unshare --net=${detached} true; echo made; exec cat`;
  const process = lab.user.spawn(['unshare', '--user', '--map-root-user', '--mount', ...net, 'sh', '-c', script], {
    stdin: 'pipe',
  });
  await waitFor(() => process.out().includes('made'), { what: 'the child' });
  const pid = status(process.pid())['NSpid']?.split(/\s+/)[1] ?? '';
  const enter = detached === null ? ['-n'] : [`--net=/proc/${pid}/root${detached}`];
  const inside = lab.host.within(['nsenter', '-t', pid, '-U', '--preserve-credentials', ...enter, '--']);
  return { process, pid, inside };
};

/** Standard output and error on one pipe, read to the end of file. */
const combined = (argv: readonly string[]) => lab.user.attempt(['sh', '-c', 'exec 2>&1; exec "$@"', 'sh', ...argv]);

describe('what is asked first', () => {
  it.each([
    [['--version'], 0],
    [['--host-lo-to-ns-lo', '--version'], 0],
    [['--no-such-option', '--version'], 1],
  ])('pasta %j ends with %i', async (args, expected) => {
    expect((await combined([lab.binary, ...args])).status).toBe(expected);
  });
});

describe.each([
  ['2.3', [], ['--no-map-gw', '--ipv4-only', '--tcp-ports=auto', '--udp-ports=auto'], null],
  ['3', ['--host-lo-to-ns-lo'], ['--no-map-gw', '--ipv4-only', '--tcp-ports=none', '--udp-ports=none'], null],
  ['3 with IPv6', ['--host-lo-to-ns-lo'], ['--tcp-ports=auto', '--udp-ports=auto'], null],
  [
    '3 with a network apart',
    ['--host-lo-to-ns-lo'],
    ['--no-map-gw', '--tcp-ports=auto', '--udp-ports=auto'],
    '/run/scratch/apart',
  ],
])('RootlessKit %s', (_, last, middle, detached) => {
  it.concurrent('gets a network that is ready, and that ends with the child', async () => {
    const { process, pid, inside } = await child(detached);
    const where = detached === null ? [pid] : [`--userns=/proc/${pid}/ns/user`, `--netns=/proc/${pid}/root${detached}`];
    const before = new Set(lab.processes());
    const argv = [lab.binary, ...COMMON, ...ADDRESSES, ...middle, ...last, ...where];
    expect(await combined(argv)).toMatchObject({ status: 0, timedOut: false });
    const mine = lab.processes().filter((each) => !before.has(each));
    expect(await inside.run(['ip', '-4', 'address', 'show', 'tap0'])).toMatch(/ mtu 65520 .* 10\.0\.2\.100\/24 /s);
    expect(await inside.run(['ip', '-4', 'route', 'show', 'default'])).toContain('via 10.0.2.2 dev tap0');
    const udp = await inside.run(client('udp', NET.server4, ECHO_PORT, 1, 1400));
    expect(JSON.parse(udp)).toMatchObject({ lost: [] });
    if (!middle.includes('--ipv4-only')) {
      const udp6 = await inside.run(client('udp', NET.server6, ECHO_PORT, 1, 1400));
      expect(JSON.parse(udp6)).toMatchObject({ lost: [] });
    }
    process.child.stdin?.end();
    await process.closed;
    expect(mine.length).toBeGreaterThan(0);
    await waitFor(() => !mine.some(isAlive), { what: 'the end of pasta', timeoutMs: 5000 });
  });
});

it('has an error on that pipe, and status 1', async () => {
  const { status: code, stdout } = await combined([lab.binary, ...COMMON, ...ADDRESSES, '999999']);
  expect(code).toBe(1);
  expect(stdout).toMatch(/^[^\n]*999999[^\n]*No such file or directory\n$/);
});
