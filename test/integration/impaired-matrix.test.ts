// SPDX-License-Identifier: Apache-2.0
/**
 * Some of the combinations of round-trip time, loss and reordering on the host's link: transfers of all sizes and
 * directions at once arrive as they were sent. The whole matrix, with throughput: `npm run bench -- --impaired`.
 */
import { describe, expect, it } from 'vitest';
import { makeLab } from '../support/lab.mjs';
import { FAMILIES, STREAM_PORT, streamServer } from '../support/programs.ts';

const SEED = 20_261_121;
const COUNT = 16;
const CELLS = [
  { rttMs: 0, loss: 5, reorder: 5 },
  { rttMs: 10, loss: 1, reorder: 0 },
  { rttMs: 50, loss: 5, reorder: 5 },
  { rttMs: 100, loss: 0.1, reorder: 5 },
  { rttMs: 300, loss: 0.1, reorder: 0 },
] as const;

describe.each(CELLS)('RTT $rttMs ms, $loss % lost, $reorder % late', ({ rttMs, loss, reorder }) => {
  it(`${COUNT} transfers at once in each family, every octet right`, async () => {
    const shim = { seed: SEED + rttMs, loss, reorder, reorderMs: Math.max(rttMs / 10, 1), delayMs: rttMs / 2 };
    const lab = await makeLab({ shim, congestion: 'bbr' });
    try {
      const stream = await streamServer(lab);
      const guest = await lab.guest(['--config-net']);
      const said = await Promise.all(
        FAMILIES.map(({ server }) =>
          guest.run([stream, 'mix', server, STREAM_PORT, COUNT, COUNT, SEED].map(String), { timeoutMs: 120_000 }),
        ),
      );
      for (const each of said) expect(JSON.parse(each)).toMatchObject({ right: COUNT });
    } finally {
      await lab.cleanup();
    }
  });
});
