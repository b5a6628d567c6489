// SPDX-License-Identifier: Apache-2.0
/**
 * Costs that are counted, not timed: they do not drift with the machine. A system call more, or an object, for each packet, round trip
 * or connection goes beyond the bounds. Of streams they are what was measured and a third more: strace slows the tool down, so batches are
 * larger than in use, and what is counted is the least that the tool does. Single packets and connections come with rests in
 * between, each step a turn: what is measured is exact, and a slow machine, where steps meet in a turn, has less.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serveLoad } from '../bench/peers.mjs';
import { lastLine, PORT } from '../bench/row.mjs';
import {
  collections,
  controllerOf,
  countCalls,
  helpersOf,
  onOneProcessor,
  tracingGc,
  YOUNG_BYTES,
} from '../support/counts.ts';
import { compile, type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { contextSwitches } from '../support/process.mjs';

const IDLE_SECONDS = 20;
const LOAD_MS = 10_000;
const MIB = 2 ** 20;
/** Between steps, ms: several times what a turn takes under strace. */
const REST_MS = 3;

let lab: Lab;
let load: string;
let guest: Guest;
let idle: { guest: Guest; since: number; switches: number };

const switchesOf = (of: Guest): number => of.toolProcesses().reduce((sum, pid) => sum + contextSwitches(pid), 0);
const client = async (of: Guest, ...args: (string | number)[]): Promise<Record<string, number>> =>
  lastLine(await of.run([load, ...args.map(String)], { timeoutMs: 30_000 }));

beforeAll(async () => {
  lab = await makeLab();
  load = await compile('test/bench/load.c', join(lab.dir, 'load'));
  await serveLoad(lab.remote, load, NET.server4, PORT);
  const resting = await lab.guest(['--config-net']);
  guest = await lab.guest(['--config-net'], onOneProcessor(lab));
  // Both have compiled what they need, and the first is left alone from here on.
  for (const each of [resting, guest]) await client(each, 'rr', 'udp', NET.server4, PORT, 300);
  await new Promise((done) => setTimeout(done, 1000));
  idle = { guest: resting, since: performance.now(), switches: switchesOf(resting) };
});
afterAll(() => lab.cleanup());

describe('system calls of the controller', () => {
  it.each([
    {
      what: 'a MiB to the guest',
      most: 44,
      args: ['bulk', 'down', NET.server4, PORT, 1, 800],
      key: 'bytes',
      unit: MIB,
    },
    {
      what: 'a MiB from the guest',
      most: 27,
      args: ['bulk', 'up', NET.server4, PORT, 1, 800],
      key: 'bytes',
      unit: MIB,
    },
    {
      what: '1,000 datagrams to the guest',
      most: 700,
      args: ['packets', 'down', NET.server4, PORT, 64, 500],
      key: 'packets',
      unit: 1000,
    },
    {
      what: '1,000 datagrams from the guest',
      most: 1400,
      args: ['packets', 'up', NET.server4, PORT, 64, 500],
      key: 'packets',
      unit: 1000,
    },
    {
      what: 'a round trip of UDP',
      most: 7.5,
      args: ['rr', 'udp', NET.server4, PORT, 1000, REST_MS],
      key: 'count',
      unit: 1,
    },
    {
      what: 'a round trip of TCP',
      most: 11.7,
      args: ['rr', 'tcp', NET.server4, PORT, 1000, REST_MS],
      key: 'count',
      unit: 1,
    },
    { what: 'a connection', most: 43.7, args: ['crr', NET.server4, PORT, 1, 2500, REST_MS], key: 'count', unit: 1 },
  ] as const)('are at most $most for $what', async ({ what, most, args, key, unit }) => {
    const { calls, byName, result } = await countCalls(lab, [controllerOf(guest)], () => client(guest, ...args));
    const units = (result[key] ?? 0) / unit;
    expect(units).toBeGreaterThan(1);
    expect(calls / units, `${(calls / units).toFixed(2)} for ${what}: ${byName}`).toBeLessThanOrEqual(most);
  });
});

it('the helper makes at most 11.5 system calls for a connection', async () => {
  const { calls, byName, result } = await countCalls(lab, helpersOf(guest), () =>
    client(guest, 'crr', NET.server4, PORT, 1, 2500, REST_MS),
  );
  const each = calls / (result['count'] ?? 0);
  expect(each, `${each.toFixed(2)}: ${byName}`).toBeLessThanOrEqual(11.5);
});

it('no object is made for each packet, either way, TCP or UDP', async () => {
  const traced = await lab.guest(['--config-net'], await tracingGc(lab));
  const everything = (ms: number) =>
    Promise.all([
      ...(['down', 'up'] as const).map((mode) => client(traced, 'bulk', mode, NET.server4, PORT, 1, ms)),
      ...(['down', 'up'] as const).map((mode) => client(traced, 'packets', mode, NET.server4, PORT, 64, ms)),
    ]);
  await everything(3000);
  const before = collections(traced);
  // Starting filled the young generation, so V8 does tell of it.
  expect(before.length).toBeGreaterThan(0);
  const figures = await everything(LOAD_MS);
  const told = collections(traced).slice(before.length);
  // Frames of streams are 64 KiB at most; there are more of them than that.
  const packets = figures.reduce((sum, { packets = 0, bytes = 0 }) => sum + packets + bytes / 65_536, 0);
  const bytes = (told.length * YOUNG_BYTES) / packets;
  expect(packets).toBeGreaterThan(200_000);
  // The smallest object has 16 bytes: one for each packet is more than that. What there is (3 to 10) is numbers with a fraction, some a
  // turn, and a turn serves the more packets the more of the processor we get.
  expect(
    bytes,
    `${bytes.toFixed(2)} bytes for each of ${packets.toFixed(0)} packets:\n${told.join('\n')}`,
  ).toBeLessThan(16);
});

it('an idle instance wakes up at most 20 times a minute', async () => {
  const left = IDLE_SECONDS * 1000 - (performance.now() - idle.since);
  if (left > 0) await new Promise((done) => setTimeout(done, left));
  const minutes = (performance.now() - idle.since) / 60_000;
  const each = (switchesOf(idle.guest) - idle.switches) / minutes;
  expect(each).toBeLessThanOrEqual(20);
});
