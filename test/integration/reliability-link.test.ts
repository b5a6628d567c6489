// SPDX-License-Identifier: Apache-2.0
/** The links under us come and go, on both sides: transfers that run arrive whole, and nothing spins meanwhile. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { descendants, type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { contextSwitches, finish, isAlive, type Started, waitFor } from '../support/process.mjs';
import { client, ECHO_PORT, echoServer, FAMILIES, STREAM_PORT, streamServer } from '../support/programs.ts';

const BYTES = 60_000_000;
/** What has gone over the host's link when the fault comes: the transfer runs, and is far from its end. */
const UNDER_WAY = 4_000_000;
/** Longer than the first retransmission time-outs of all three stacks (200 ms to 1 s). */
const OUTAGE_MS = 1500;

let lab: Lab;
let guest: Guest;
let stream: string;
beforeAll(async () => {
  // Its two taps are not a pair: one can be down while the other has its carrier, so that packets just vanish.
  lab = await makeLab({ shim: { seed: 20_261_121, delayMs: 10 } });
  stream = await streamServer(lab);
  await echoServer(lab);
  for (const side of [lab.host, lab.remote])
    await side.run([
      'sh',
      '-c',
      'echo 1 > /proc/sys/net/ipv6/conf/eth0/keep_addr_on_down; echo 1 > /proc/sys/net/ipv4/conf/eth0/promote_secondaries',
    ]);
});
afterAll(() => lab.cleanup());
beforeEach(async () => {
  guest = await lab.guest(['--config-net']);
});
afterEach(async () => {
  await guest.close();
});

const host = (line: string): Promise<string> => lab.host.run(['ip', ...line.split(' ')]);
const remote = (line: string): Promise<string> => lab.remote.run(['ip', ...line.split(' ')]);
/** Octets that have gone over the host's link, both directions. */
const carried = async (): Promise<number> => {
  const [link] = JSON.parse(await host('-s -j link show dev eth0')) as [
    { stats64: { rx: { bytes: number }; tx: { bytes: number } } },
  ];
  return link.stats64.rx.bytes + link.stats64.tx.bytes;
};
/** A transfer in each direction that is well under way. */
const underWay = async (server: string): Promise<Started[]> => {
  const before = await carried();
  const all = ['down', 'up'].map((mode) =>
    guest.spawn([stream, mode, server, String(STREAM_PORT), String(BYTES), mode === 'up' ? '1' : '2']),
  );
  await waitFor(async () => (await carried()) > before + UNDER_WAY, { what: 'the transfers to be under way' });
  return all;
};
const intact = async (transfers: readonly Started[]): Promise<void> => {
  for (const one of transfers)
    expect(await finish(one, { timeoutMs: 60_000 })).toMatchObject({ status: 0, stderr: '', timedOut: false });
};
const stillRuns = (transfers: readonly Started[]): void => {
  for (const { child } of transfers) expect(child.exitCode).toBe(null);
};
const pings = (address: string) =>
  waitFor(async () => (await guest.attempt(['ping', '-c', '1', '-W', '1', address])).status === 0, {
    what: `${address} to answer`,
  });
const switches = (): number => guest.toolProcesses().reduce((sum, pid) => sum + contextSwitches(pid), 0);

describe.each(FAMILIES)("the host's link, $family", ({ server }) => {
  it('packets vanish for longer than a retransmission time-out', async () => {
    const transfers = await underWay(server);
    await remote('link set eth0 down');
    await sleep(OUTAGE_MS);
    stillRuns(transfers);
    await remote('link set eth0 up');
    await intact(transfers);
  });

  it('is down, and up again with its routes', async () => {
    const transfers = await underWay(server);
    await host('link set eth0 down');
    await sleep(OUTAGE_MS);
    stillRuns(transfers);
    await host('link set eth0 up');
    await host(`route replace default via ${NET.gateway4}`);
    await host(`-6 route replace default via ${NET.gateway6}`);
    await intact(transfers);
    await pings(server);
  });

  it('changes its address and back: the transfer goes on, and what begins meanwhile has the new one', async () => {
    const is4 = server === NET.server4;
    const [old, next] = is4 ? ['192.0.2.2/24', '192.0.2.3/24'] : ['2001:db8:1::2/64', '2001:db8:1::3/64'];
    const ip = is4 ? 'addr' : '-6 addr';
    const flags = is4 ? '' : ' nodad';
    const transfers = await underWay(server);
    await host(`${ip} add ${next} dev eth0${flags}`);
    await host(`${ip} del ${old} dev eth0`);
    await host(is4 ? `route replace default via ${NET.gateway4}` : `-6 route replace default via ${NET.gateway6}`);
    const { code } = JSON.parse(await guest.run(client('connect', server, ECHO_PORT))) as { code: string | null };
    expect(code).toBe(null);
    await sleep(OUTAGE_MS);
    stillRuns(transfers);
    await host(`${ip} add ${old} dev eth0${flags}`);
    await intact(transfers);
    await host(`${ip} del ${next} dev eth0`);
    await host(is4 ? `route replace default via ${NET.gateway4}` : `-6 route replace default via ${NET.gateway6}`);
  });
});

describe('the tap', () => {
  it('is down, and up again: transfers arrive whole, and a tap that is down costs nothing', async () => {
    const transfers = await underWay(NET.server4);
    const [, ...routes] = (await guest.run(['ip', 'route', 'show', 'default'])).trim().split(' ');
    await guest.run(['ip', 'link', 'set', 'eth0', 'down']);
    await sleep(OUTAGE_MS / 2); // the sockets' buffers fill up
    const before = switches();
    await sleep(OUTAGE_MS);
    expect(switches() - before).toBeLessThan(200);
    stillRuns(transfers);
    await guest.run(['ip', 'link', 'set', 'eth0', 'up']);
    await guest.run(['ip', 'route', 'replace', 'default', ...routes]);
    await intact(transfers);
    await pings(NET.server4);
  });

  it('is deleted: all of it ends, and not with status 0', async () => {
    const all = [guest.pid, ...descendants(guest.pid)];
    await guest.run(['ip', 'link', 'del', 'eth0']);
    await waitFor(() => !all.some(isAlive), { what: 'all of it to end', timeoutMs: 1000 });
    const { status, timedOut } = await finish(guest.tool, { timeoutMs: 1000 });
    expect(timedOut).toBe(false);
    expect(status).not.toBe(0);
  });
});
