// SPDX-License-Identifier: Apache-2.0
/** What runs out: disk, descriptors, memory, the patience of readers. What can go on goes on, and comes to rest again. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { descendants, Guest, isRoot, type Lab, makeLab, NET, REPOSITORY } from '../support/lab.mjs';
import { contextSwitches, finish, isAlive, pssKib, type Started, waitFor } from '../support/process.mjs';
import { client, ECHO_PORT, echoServer, STREAM_PORT, streamServer } from '../support/programs.ts';

const MIB = 1024 ** 2;
const STALL_PORT = 7200;
const FULL = '/run/full';

let lab: Lab;
let stream: string;
const stall = (...args: (string | number)[]): string[] => [
  process.execPath,
  join(REPOSITORY, 'test/support/stall.mjs'),
  ...args.map(String),
];
beforeAll(async () => {
  lab = await makeLab();
  stream = await streamServer(lab);
  await echoServer(lab);
  const server = lab.remote.spawn(stall('serve', STALL_PORT, NET.server4, NET.server6));
  await waitFor(() => server.out().includes('listening'), { what: 'the server' });
  await lab.host.run(['sh', '-c', `mkdir ${FULL} && mount -t tmpfs -o mode=777,size=256k tmpfs ${FULL}`]);
});
afterAll(() => lab.cleanup());

/** A tool with a command that waits, started by `prefix`, which becomes the tool. */
const guestBy = async (prefix: readonly string[], args: readonly string[]): Promise<Guest> => {
  const tool = lab.host.spawn([...prefix, ...lab.asUser, ...lab.argv(args, ['sh', '-c', 'echo running; exec cat'])], {
    stdin: 'pipe',
  });
  await waitFor(() => tool.out().includes('running') || tool.child.exitCode !== null, { what: 'the command' });
  expect(tool.child.exitCode).toBe(null);
  const named = (name: string) =>
    descendants(tool.pid()).find((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === name);
  return new Guest(tool, await waitFor(() => named('cat'), { what: 'the command' }));
};
const cpuTicks = (pids: readonly number[]): number =>
  pids.reduce((sum, pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return sum + Number(fields[11]) + Number(fields[12]);
  }, 0);
const switches = (guest: Guest): number => guest.toolProcesses().reduce((sum, pid) => sum + contextSwitches(pid), 0);
const transfer = (guest: Guest, mode: string, bytes: number): Promise<string> =>
  guest.run([stream, mode, NET.server4, String(STREAM_PORT), String(bytes), '1'], { timeoutMs: 60_000 });

describe('a full disk', () => {
  it('under the log: the network goes on, and the log says what it lost when there is room again', async () => {
    await lab.host.run(['sh', '-c', `head -c 200000 /dev/zero > ${FULL}/filler`]);
    const guest = await lab.guest(['--config-net', '--trace', '--log-file', `${FULL}/log`]);
    const free = async () => Number((await lab.host.run(['stat', '-f', '-c', '%a', FULL])).trim());
    for (let i = 0; (await free()) > 0; i++) {
      expect(i).toBeLessThan(50);
      await transfer(guest, 'down', MIB);
    }
    await transfer(guest, 'down', 8 * MIB);
    expect(await guest.run(['ping', '-c', '1', '-W', '2', NET.server4])).toContain('1 received');
    await lab.host.run(['rm', `${FULL}/filler`]);
    const said = async () =>
      (await lab.host.run(['cat', `${FULL}/log`])).split('\n').filter((line) => /Lines lost/.test(line));
    const isSaid = async () => {
      await guest.run(['ping', '-c', '1', '-W', '2', NET.server4]);
      return (await said()).length > 0;
    };
    await waitFor(isSaid, { what: 'the log to go on' });
    for (let i = 0; i < 3; i++) await isSaid();
    expect(await said()).toEqual([expect.stringMatching(/^[0-9.]+: WARNING: Lines lost: [0-9]+ \(ENOSPC/)]);
    expect(await guest.close()).toMatchObject({ status: 0 });
  });

  it('under the capture: it ends, which is said once, and the network goes on', async () => {
    await lab.host.run(['sh', '-c', `rm -f ${FULL}/*; mkdir -m 777 /run/logs`]);
    const guest = await lab.guest(['--config-net', '--pcap', `${FULL}/pcap`, '--log-file', '/run/logs/log']);
    for (const mode of ['down', 'up']) await transfer(guest, mode, 8 * MIB);
    const said = (await lab.host.run(['cat', '/run/logs/log'])).split('\n').filter((line) => /Capturing/.test(line));
    expect(said).toEqual([expect.stringMatching(/WARNING: Capturing has ended: ENOSPC/)]);
    const seen = await lab.host.attempt(['tcpdump', '-nn', '-r', `${FULL}/pcap`]);
    expect(seen.stdout.split('\n').length).toBeGreaterThan(3);
    expect(await guest.close()).toMatchObject({ status: 0 });
  });
});

describe('256 descriptors', () => {
  it('under 512 connections: those that were there go on, new ones are refused at once, later ones succeed', async () => {
    const guest = await guestBy(['prlimit', '--nofile=256:256', '--'], ['--config-net']);
    const before = guest.spawn(client('flows', NET.server4, ECHO_PORT, 100), { stdin: 'pipe' });
    await waitFor(() => before.out().includes('{"open":100}'), { what: '100 flows' });
    const attempts = `
      const { connect } = require('node:net');
      let open = 0, refused = 0;
      for (let i = 0; i < 512; i++) {
        const s = connect(${ECHO_PORT}, '${NET.server4}');
        s.once('connect', () => { open++; say(); });
        s.once('error', () => { refused++; say(); });
      }
      const say = () => { if (open + refused === 512) { console.log(JSON.stringify({ open, refused })); process.exit(); } };`;
    const storm = await guest.attempt([process.execPath, '-e', attempts], { timeoutMs: 15_000 });
    expect(storm).toMatchObject({ timedOut: false, stderr: '' });
    const { open, refused } = JSON.parse(storm.stdout) as { open: number; refused: number };
    expect(open + refused).toBe(512);
    expect(refused).toBeGreaterThan(200);
    before.child.stdin?.end();
    expect((await finish(before, { timeoutMs: 10_000 })).stdout).toContain('{"closed":100}');
    await waitFor(
      async () => {
        const after = await guest.attempt(client('flows', NET.server4, ECHO_PORT, 50), {
          input: '',
          timeoutMs: 10_000,
        });
        return after.stdout.includes('{"closed":50}');
      },
      { what: '50 flows after the storm', timeoutMs: 20_000 },
    );
    expect(await guest.close()).toMatchObject({ status: 0 });
  });
});

/** A memory cgroup of our own (v2, or v1's controller), or why there is none. */
const V2 = '/sys/fs/cgroup';
const V1 = '/sys/fs/cgroup/memory';
const makeGroup = (): { path: string; limit: string; usage: string } | string => {
  const isV1 = existsSync(join(V1, 'memory.limit_in_bytes'));
  const path = join(isV1 ? V1 : V2, `pastiche-test-${process.pid}`);
  try {
    mkdirSync(path);
  } catch (error) {
    return (error as Error).message;
  }
  const limit = join(path, isV1 ? 'memory.limit_in_bytes' : 'memory.max');
  if (existsSync(limit)) return { path, limit, usage: join(path, isV1 ? 'memory.usage_in_bytes' : 'memory.current') };
  rmdirSync(path);
  return 'the memory controller is not given to this group';
};
describe('a memory limit', () => {
  const group = isRoot ? makeGroup() : 'only root may make cgroups';
  if (typeof group === 'string') console.log(`skipped: a cgroup's memory limit: ${group}`);
  afterAll(async () => {
    if (typeof group === 'string') return;
    // Processes leave it a moment after their end.
    await waitFor(() => readFileSync(join(group.path, 'cgroup.procs'), 'utf8') === '', { what: 'an empty cgroup' });
    rmdirSync(group.path);
  });

  it.skipIf(typeof group === 'string')('that is hit: it is killed as a whole, and nothing is left', async () => {
    if (typeof group === 'string') return;
    const join_ = `echo 0 > ${join(group.path, 'cgroup.procs')} && exec "$@"`;
    const guest = await guestBy(['sh', '-c', join_, 'sh'], ['--config-net']);
    const all = [guest.pid, ...descendants(guest.pid)];
    // The client is outside. What it opens costs memory here, which there is not.
    writeFileSync(group.limit, String(Number(readFileSync(group.usage, 'utf8')) + MIB / 4));
    const flows = guest.spawn(client('flows', NET.server4, ECHO_PORT, 4000), { stdin: 'pipe' });
    await waitFor(() => all.some((pid) => !isAlive(pid)), { what: 'the limit to be hit', timeoutMs: 30_000 });
    await waitFor(() => !all.some(isAlive), { what: 'all of it to be gone', timeoutMs: 1000 });
    const { status, signal } = await finish(guest.tool, { timeoutMs: 5000 });
    expect(status === null ? signal : status).not.toBe(0);
    flows.kill('SIGKILL');
    await flows.closed;
  });
});

describe('readers that stall', () => {
  const COUNT = 200;
  it(`${COUNT} of them: what waits for them stays bounded and costs nothing, and arrives whole`, async () => {
    const guest = await lab.guest(['--config-net']);
    const tool = guest.toolProcesses();
    const memory = (): number => tool.reduce((sum, pid) => sum + pssKib(pid), 0);
    const before = memory();
    const readers: Started[] = [NET.server4, NET.server6].map((server) =>
      guest.spawn(stall('read', server, STALL_PORT, COUNT / 2, MIB), { stdin: 'pipe' }),
    );
    await waitFor(() => readers.every((one) => one.out().includes('stalled')), { what: 'the readers' });
    await sleep(1500); // the windows close
    const ticks = cpuTicks(tool);
    await sleep(3000);
    expect(cpuTicks(tool) - ticks).toBeLessThanOrEqual(9); // 3 %, in ticks of 10 ms
    expect(memory() - before).toBeLessThan(16 * 1024);
    for (const one of readers) one.child.stdin?.end();
    for (const one of readers)
      expect(await finish(one, { timeoutMs: 30_000 })).toMatchObject({
        status: 0,
        stdout: expect.stringContaining(`{"intact":${COUNT / 2}}`),
      });

    // After all that, rest: once what the flows left behind has run out.
    const rate = async (): Promise<number> => {
      const start = switches(guest);
      await sleep(2500);
      return (switches(guest) - start) / 2.5;
    };
    await waitFor(async () => (await rate()) <= 2, { what: 'two wake-ups a second at most', timeoutMs: 30_000 });
    const idle = cpuTicks(tool);
    await sleep(2000);
    expect(cpuTicks(tool) - idle).toBeLessThanOrEqual(2); // 1 %
    await guest.close();
  });
});
