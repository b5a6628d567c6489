// SPDX-License-Identifier: Apache-2.0
/** A bad link on the guest's side of the tool, where we are the sender and the receiver: everything still arrives. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab } from '../support/lab.mjs';
import { nestedLink } from '../support/nested.mjs';
import { FAMILIES, STREAM_PORT, streamServer } from '../support/programs.ts';

const MIB = 1024 ** 2;
const SEED = 20_261_121;

let lab: Lab;
let guest: Guest;
let stream: string;
beforeAll(async () => {
  lab = await makeLab();
  stream = await streamServer(lab);
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

const LINKS = [
  { name: '1 % loss, 20 ms', mib: 8, shim: { seed: SEED, loss: 1, delayMs: 10 } },
  {
    name: '5 % loss, 5 % reordered, 2 % twice, 60 ms',
    mib: 2,
    shim: { seed: SEED, loss: 5, duplicate: 2, reorder: 5, reorderMs: 6, delayMs: 30 },
  },
  {
    name: 'reordering and repetition only, 2 ms',
    mib: 16,
    shim: { seed: SEED, duplicate: 5, reorder: 20, reorderMs: 1, delayMs: 1 },
  },
];

describe.each(LINKS)('behind the guest: $name', ({ shim, mib }) => {
  let inner: Awaited<ReturnType<typeof nestedLink>>;
  beforeAll(async () => {
    inner = await nestedLink(lab, guest, shim);
  });
  afterAll(() => inner.close());

  const transfer = async (mode: string, server: string, bytes: number, seed: number) => {
    const argv = [stream, mode, server, String(STREAM_PORT), String(bytes), String(seed)];
    expect(await inner.side.run(argv, { timeoutMs: 60_000 })).toContain(`${bytes} of ${bytes} octets right`);
  };
  it.each(FAMILIES)('to the guest over $family', async ({ server }) => transfer('down', server, mib * MIB, 1));
  it.each(FAMILIES)('from the guest over $family', async ({ server }) => transfer('up', server, mib * MIB, 2));
  it('half-closed', async () => transfer('half', FAMILIES[0].server, MIB / 2, 3));
});
