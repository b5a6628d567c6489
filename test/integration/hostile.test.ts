// SPDX-License-Identifier: Apache-2.0
/**
 * A guest that floods its own interface from every processor, while flows of the same instance and of a second one go on.
 * STORM_SECONDS says for how long each storm blows (default 3).
 */
import { cpus } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CROWD_PORT, Crowd, crowdServer, descriptorCount, descriptorsBack, memoryKib } from '../support/crowd.mjs';
import { compile, type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { contextSwitches, hasExited, isAlive, type Started, waitFor } from '../support/process.mjs';
import { STREAM_PORT, streamServer } from '../support/programs.ts';

const SECONDS = Number(process.env['STORM_SECONDS'] ?? 3);
const SEED = 20_261_121;
/** Well-behaved flows that were there before the storms. */
const FLOWS = 20;
/** What half-open and one-datagram flows, reassembly and refused data may take at most. */
const GROWTH_KIB_MAX = 96 * 1024;
const IDLE_SECONDS = 5;
const IDLE_WAKE_UPS_PER_S_MAX = 2;
/** Longer than any time-out of ours that a storm can leave behind: SYN|ACK retries, 63 s. */
const FORGOTTEN_MS = 100_000;

let lab: Lab;
let attacked: Guest;
let second: Guest;
let storms: string;
let stream: string;
let program: string;
/** The established flows of the attacked instance and of the second. */
let flows: Crowd;
let memory: number;
let descriptors: number;
let pids: number[];

beforeAll(async () => {
  lab = await makeLab();
  storms = await compile('test/support/hostile.c', join(lab.dir, 'hostile'));
  program = await crowdServer(lab);
  stream = await streamServer(lab);
  // Lone datagrams are forgotten as soon as conntrack would: soon. Without conntrack in the kernel the test takes longer.
  await lab.host.attempt(['sh', '-c', 'echo 5 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout']);
  attacked = await lab.guest(['--config-net']);
  second = await lab.guest(['--config-net']);
  flows = new Crowd(attacked, [program, 'tcp', NET.server4, CROWD_PORT, FLOWS]);
  expect(await flows.next()).toMatchObject({ ok: FLOWS });
  memory = memoryKib(attacked);
  descriptors = descriptorCount(attacked);
  pids = [...attacked.toolProcesses(), ...second.toolProcesses()];
});
afterAll(() => lab.cleanup());

interface Link {
  readonly ifname: string;
  readonly addr_info: readonly { readonly family: string; readonly scope: string; readonly local: string }[];
}
/** What the storm's frames need to know of the guest: interface, gateway's MAC, addresses. */
const surroundings = async (guest: Guest): Promise<string[]> => {
  await guest.run(['ping', '-c', '1', '-W', '5', NET.gateway4]);
  const links = JSON.parse(await guest.run(['ip', '-j', 'addr'])) as Link[];
  const link = links.find(({ ifname }) => ifname !== 'lo');
  const address = (family: string) =>
    link?.addr_info.find((one) => one.family === family && one.scope === 'global')?.local ?? '';
  const [neighbour] = JSON.parse(await guest.run(['ip', '-j', 'neigh', 'show', NET.gateway4])) as { lladdr: string }[];
  return [
    link?.ifname ?? '',
    neighbour?.lladdr ?? '',
    address('inet'),
    NET.server4,
    address('inet6'),
    NET.server6,
    String(CROWD_PORT),
  ];
};

const half = (guest: Guest, octets: number, seed: number) =>
  guest.run([stream, 'half', NET.server4, STREAM_PORT, octets, seed].map(String), { timeoutMs: 60_000 });

/** Repeats until the storm is over, at least once. */
const until = async (storm: readonly Started[], work: (round: number) => Promise<unknown>): Promise<void> => {
  let round = 0;
  do await work(round++);
  while (storm.some((each) => !hasExited(each)));
};

describe(`${SECONDS} s each of`, () => {
  const frames = new Map<string, string[]>();

  it.each(['scan', 'syn', 'fragments', 'ping', 'mutated'])('%s: other flows and new ones go on', async (name) => {
    const around = await surroundings(attacked);
    const storm = cpus().map((_, i) => attacked.spawn([storms, name, ...around, String(SECONDS), String(SEED + i)]));
    await Promise.all([
      until(storm, async () => expect(await flows.tell('echo')).toMatchObject({ ok: FLOWS, errors: {} })),
      until(storm, (round) => half(attacked, 65_536, round)),
      until(storm, (round) => half(second, 1 << 20, round)),
    ]);
    expect(pids.filter((pid) => !isAlive(pid))).toEqual([]);
    for (const each of storm) expect(each.child.exitCode, each.err()).toBe(0);
    frames.set(
      name,
      storm.map((each) => String(JSON.parse(each.out()).frames)),
    );
    expect(memoryKib(attacked) - memory).toBeLessThanOrEqual(GROWTH_KIB_MAX);
  });

  it('leaves nothing: descriptors back, idle, established flows intact', async () => {
    const around = await surroundings(attacked);
    for (const [i, count] of (frames.get('syn') ?? []).entries())
      await attacked.run([storms, 'rst', ...around, count, String(SEED + i)]);
    await descriptorsBack(attacked, descriptors, FORGOTTEN_MS);
    expect(await flows.tell('echo')).toMatchObject({ ok: FLOWS, errors: {} });
    expect(memoryKib(attacked) - memory).toBeLessThanOrEqual(GROWTH_KIB_MAX);
    const wakeUps = () => attacked.toolProcesses().reduce((sum, pid) => sum + contextSwitches(pid), 0);
    let last = wakeUps();
    await waitFor(
      () => {
        const now = wakeUps();
        const quiet = now - last <= IDLE_SECONDS * IDLE_WAKE_UPS_PER_S_MAX;
        last = now;
        return quiet;
      },
      { what: 'an idle process', everyMs: IDLE_SECONDS * 1000, timeoutMs: 30_000 },
    );
  });
});
