// SPDX-License-Identifier: Apache-2.0
/** Connections by the thousand: a steady rate of them, a mix of checked transfers, and what happens without descriptors. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CROWD_PORT, Crowd, crowdServer, descriptorCount, descriptorsBack } from '../support/crowd.mjs';
import { type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { FAMILIES, STREAM_PORT, streamServer } from '../support/programs.ts';

let lab: Lab;
let program: string;
beforeAll(async () => {
  lab = await makeLab();
  program = await crowdServer(lab);
});
afterAll(() => lab.cleanup());

describe('2,000 connections a second', () => {
  const PER_SECOND = 2000;
  const MS = 4000;
  let guest: Guest;
  beforeAll(async () => {
    guest = await lab.guest(['--config-net']);
  });
  afterAll(() => guest.close());

  it('without one failure, and all descriptors back', async () => {
    const before = descriptorCount(guest);
    const rate = new Crowd(guest, [program, 'rate', NET.server4, CROWD_PORT, PER_SECOND, MS]);
    const offered = (PER_SECOND * MS) / 1000;
    expect(await rate.next()).toMatchObject({ offered, ok: offered, errors: {} });
    await rate.leave();
    await descriptorsBack(guest, before);
  });
});

describe('160 transfers of 1 octet to 4 MiB in three directions', () => {
  const COUNT = 160;
  let guest: Guest;
  let stream: string;
  beforeAll(async () => {
    stream = await streamServer(lab);
    guest = await lab.guest(['--config-net']);
  });
  afterAll(() => guest.close());

  it.each(FAMILIES.flatMap((family) => [1, 8].map((parallel) => ({ ...family, parallel }))))(
    'over $family, $parallel at once, every octet right',
    async ({ server, parallel }) => {
      const argv = [stream, 'mix', server, STREAM_PORT, COUNT, parallel, 20_261_121].map(String);
      expect(JSON.parse(await guest.run(argv, { timeoutMs: 60_000 }))).toMatchObject({ right: COUNT });
    },
  );
});

describe('256 descriptors and 512 connections', () => {
  const LIMIT = 256;
  let guest: Guest;
  beforeAll(async () => {
    const limited = join(lab.dir, 'limited');
    writeFileSync(limited, `#!/bin/sh\nulimit -n ${LIMIT}\nexec ${lab.binary} "$@"\n`);
    chmodSync(limited, 0o755);
    guest = await lab.guest(['--config-net'], limited);
  });
  afterAll(() => guest.close());

  it('new ones are refused at once, the others go on, and later ones succeed', async () => {
    const before = descriptorCount(guest);
    const many = new Crowd(guest, [program, 'tcp', NET.server4, CROWD_PORT, 2 * LIMIT]);
    const opened = await many.next();
    expect(opened.ok).toBeGreaterThan(LIMIT / 2);
    expect(opened.ok).toBeLessThan(LIMIT);
    expect(opened.errors).toEqual({ ECONNREFUSED: 2 * LIMIT - opened.ok });
    expect(await many.tell('echo')).toMatchObject({ ok: opened.ok, errors: {} });
    expect(await many.tell('close')).toMatchObject({ ok: opened.ok, errors: {} });
    await descriptorsBack(guest, before);
    const later = new Crowd(guest, [program, 'tcp', NET.server6, CROWD_PORT, LIMIT / 2]);
    expect(await later.next()).toMatchObject({ ok: LIMIT / 2, errors: {} });
    await Promise.all([many.leave(), later.leave()]);
  });
});
