// SPDX-License-Identifier: Apache-2.0
/** A host link that loses, repeats, reorders and delays: everything still arrives. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { client, ECHO_PORT, echoServer, FAMILIES, STREAM_PORT, streamServer } from '../support/programs.ts';

const MIB = 1024 ** 2;
const SEED = 20_261_121;

let lab: Lab;
let guest: Guest;
let stream: string;
beforeAll(async () => {
  // BBR, where the kernel has it: cubic at 5 % loss would make this a test of patience. The guest's own stack is as it is.
  const shim = { seed: SEED, loss: 5, duplicate: 1, reorder: 5, reorderMs: 8, delayMs: 50 };
  lab = await makeLab({ shim, congestion: 'bbr' });
  stream = await streamServer(lab);
  await echoServer(lab);
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

describe('5 % loss, reordering, 50 ms each way', () => {
  it.each(FAMILIES)('32 MiB to the guest over $family', async ({ server }) => {
    const argv = [stream, 'down', server, String(STREAM_PORT), String(32 * MIB), '1'];
    await guest.run(argv, { timeoutMs: 280_000 });
  });
  it.each(FAMILIES)('32 MiB from the guest over $family', async ({ server }) => {
    const argv = [stream, 'up', server, String(STREAM_PORT), String(32 * MIB), '2'];
    await guest.run(argv, { timeoutMs: 280_000 });
  });
  it('half-closed connections', async () => {
    await guest.run([stream, 'half', NET.server4, String(STREAM_PORT), String(MIB), '3'], { timeoutMs: 60_000 });
  });
  it('50 connections one after another, echoed', async () => {
    const done = await guest.attempt(client('flows', NET.server4, ECHO_PORT, 50), { input: '', timeoutMs: 60_000 });
    expect(done.stdout).toContain('{"closed":50}');
  });
});
