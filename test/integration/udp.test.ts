// SPDX-License-Identifier: Apache-2.0
/** UDP: datagrams of every size that matters, both families, small and large MTU. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab } from '../support/lab.mjs';
import { client, ECHO_PORT, echoServer, FAMILIES, REFUSED_PORT } from '../support/programs.ts';

/** Octets of IP and UDP header. */
const HEADERS = { IPv4: 28, IPv6: 48 };

describe.each([1500, 65_520])('MTU %i', (mtu) => {
  let lab: Lab;
  let guest: Guest;
  beforeAll(async () => {
    lab = await makeLab({ mtu });
    await echoServer(lab);
    guest = await lab.guest(['--config-net', '-m', String(mtu)]);
  });
  afterAll(() => lab.cleanup());

  it.each(FAMILIES)('datagrams of 0 octets to the MTU are echoed over $family', async ({ family, server }) => {
    const largest = mtu - HEADERS[family];
    const sizes = [0, 1, 2, 17, 64, 512, 1000, 1400, 1440, 4000, 9000, 32_768, 65_000, largest - 1, largest];
    const fitting = sizes.filter((size) => size <= largest);
    expect(JSON.parse(await guest.run(client('udp', server, ECHO_PORT, ...fitting)))).toEqual({ lost: [] });
  });

  it.each(FAMILIES)('200 sources at once keep their own answers over $family', async ({ server }) => {
    const each = Array.from({ length: 20 }, (_, i) =>
      guest.run(client('udp', server, ECHO_PORT, ...Array.from({ length: 10 }, (_, j) => 10 + i + j))),
    );
    for (const out of await Promise.all(each)) expect(JSON.parse(out)).toEqual({ lost: [] });
  });

  it.each(FAMILIES)('a closed port is told to the guest over $family', async ({ server }) => {
    const done = await guest.attempt(client('udp', server, REFUSED_PORT, 10));
    expect(done.stderr).toContain('ECONNREFUSED');
  });
});
