// SPDX-License-Identifier: Apache-2.0
/** Datagrams that the guest's kernel cuts into fragments because they exceed its MTU, and those that never become whole. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab } from '../support/lab.mjs';
import { client, ECHO_PORT, echoServer, FAMILIES } from '../support/programs.ts';

/** The most that one packet holds behind IP and UDP header: over IPv6 without the IP header. */
const LARGEST = { IPv4: 65_507, IPv6: 65_527 };

describe.each([576, 1280, 1500])('MTU of the guest %i', (mtu) => {
  let lab: Lab;
  let guest: Guest;
  beforeAll(async () => {
    lab = await makeLab();
    await echoServer(lab);
    guest = await lab.guest(['--config-net', '-m', String(mtu)]);
  });
  afterAll(() => lab.cleanup());
  // A link of less than 1280 bytes has no IPv6.
  const families = FAMILIES.filter(({ family }) => family === 'IPv4' || mtu >= 1280);

  it.each(families)('echo requests larger than it are answered, unchanged, over $family', async ({ server }) => {
    for (const size of [mtu, 9000, 60_000]) {
      const out = await guest.run(['ping', '-c', '2', '-i', '0.2', '-W', '3', '-s', String(size), server]);
      expect(out).toContain('2 received');
      expect(out).not.toContain('wrong data byte');
    }
  });

  it.each(families)('datagrams larger than it are echoed over $family', async ({ family, server }) => {
    const sizes = [mtu - 49, mtu - 28, mtu - 27, 2 * mtu, 9000, 32_768, LARGEST[family] - 1, LARGEST[family]];
    expect(JSON.parse(await guest.run(client('udp', server, ECHO_PORT, ...sizes)))).toEqual({ lost: [] });
  });
});
