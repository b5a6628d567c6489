// SPDX-License-Identifier: Apache-2.0
/**
 * A guest that floods its own interface from every processor, while flows of the same instance and of a second one go on.
 * STORM_SECONDS says for how long each storm blows; without it 3 s, and what is remembered for a minute is not waited for:
 * pings (RFC 5508 REQ-2) and the few handshakes among the mutated frames that are right.
 */
import { cpus } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CROWD_PORT, Crowd, crowdServer, descriptorCount, descriptorsBack, memoryKib } from '../support/crowd.mjs';
import { compile, type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { contextSwitches, hasExited, isAlive, type Started, waitFor } from '../support/process.mjs';
import { STREAM_PORT, streamServer } from '../support/programs.ts';

const LONG = process.env['STORM_SECONDS'] !== undefined;
const SECONDS = Number(process.env['STORM_SECONDS'] ?? 3);
const SEED = 20_261_121;
const MUTATED_HANDSHAKES_MAX = 512;
/** Well-behaved flows that were there before the storms. */
const FLOWS = 20;
const ALL_WELL = { ok: FLOWS, errors: {} };
/** What half-open and one-datagram flows, reassembly and refused data may take at most. */
const GROWTH_KIB_MAX = 96 * 1024;
const IDLE_SECONDS = 5;
const IDLE_WAKE_UPS_PER_S_MAX = 2;
/** Longer than anything that a storm leaves behind: datagrams that were answered, on a kernel without conntrack. */
const FORGOTTEN_MS = 150_000;

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
let around: string[];

beforeAll(async () => {
  lab = await makeLab();
  storms = await compile('test/support/hostile.c', join(lab.dir, 'hostile'));
  program = await crowdServer(lab);
  stream = await streamServer(lab);
  // Datagrams are forgotten when conntrack would (where the kernel has it), connects to nowhere when TCP gives up.
  for (const [name, seconds] of [
    ['udp_timeout', 5],
    ['udp_timeout_stream', 10],
  ])
    await lab.host.attempt(['sh', '-c', `echo ${seconds} >/proc/sys/net/netfilter/nf_conntrack_${name}`]);
  await lab.host.run(['sh', '-c', 'echo 2 >/proc/sys/net/ipv4/tcp_syn_retries']);
  attacked = await lab.guest(['--config-net']);
  second = await lab.guest(['--config-net']);
  flows = new Crowd(attacked, [program, 'tcp', NET.server4, CROWD_PORT, FLOWS]);
  expect(await flows.next()).toMatchObject({ ok: FLOWS });
  memory = memoryKib(attacked);
  descriptors = descriptorCount(attacked);
  around = await surroundings(attacked);
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

const half = (octets: number, seed: number) => [stream, 'half', NET.server4, STREAM_PORT, octets, seed].map(String);

/** Repeats until the storm is over, at least once. */
const until = async (storm: readonly Started[], work: (round: number) => Promise<unknown>): Promise<void> => {
  let round = 0;
  do await work(round++);
  while (storm.some((each) => !hasExited(each)));
};

describe(`${SECONDS} s each of`, () => {
  const frames = new Map<string, string[]>();
  let remembered = 0;

  it.each(['ping', 'scan', 'syn', 'fragments', 'mutated'])('%s: other flows and new ones go on', async (name) => {
    let through = 0;
    const storm = cpus().map((_, i) => attacked.spawn([storms, name, ...around, String(SECONDS), String(SEED + i)]));
    await Promise.all([
      until(storm, async () => expect(await flows.tell('echo')).toMatchObject(ALL_WELL)),
      until(storm, async (round) => {
        // A flood of handshakes may cost a new connection its own; a program tries again.
        const { status } = await attacked.attempt(half(65_536, round), { timeoutMs: 30_000 });
        if (status === 0) through++;
      }),
      until(storm, (round) => second.run(half(1 << 20, round), { timeoutMs: 30_000 })),
    ]);
    // In three seconds a SYN and its repetition can both be lost: the next attempt then finds no storm any more.
    if (through === 0) await attacked.run(half(65_536, 0), { timeoutMs: 30_000 });
    expect(pids.filter((pid) => !isAlive(pid))).toEqual([]);
    for (const each of storm) expect(each.child.exitCode, each.err()).toBe(0);
    frames.set(
      name,
      storm.map((each) => String(JSON.parse(each.out()).frames)),
    );
    expect(memoryKib(attacked) - memory).toBeLessThanOrEqual(GROWTH_KIB_MAX);
    if (name === 'ping' && !LONG) remembered = descriptorCount(attacked) - descriptors + MUTATED_HANDSHAKES_MAX;
  });

  it('leaves nothing: descriptors back, idle, established flows intact', async () => {
    // The flood's senders give up, or its handshakes would be remembered for as long as SYN|ACK is repeated: a minute.
    const takeBack = (frames.get('syn') ?? []).map((count, i) =>
      attacked.run([storms, 'rst', ...around, count, String(SEED + i)]),
    );
    await Promise.all(takeBack);
    await descriptorsBack(attacked, descriptors + remembered, FORGOTTEN_MS);
    expect(await flows.tell('echo')).toMatchObject(ALL_WELL);
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
