// SPDX-License-Identifier: Apache-2.0
/** Addresses that stand for others: the gateway for the host's loopback, --map-host-loopback, --map-guest-addr, --dns-forward. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET, REPOSITORY } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';
import { client, ECHO_PORT, REFUSED_PORT } from '../support/programs.ts';

/** A port that only the host's loopback serves, and one that only its other addresses do. */
const LOOPBACK_PORT = 7008;
const HOST_PORT = 7009;
const DNS_PORT = 53;
const MAPPED4 = '169.254.1.2';
const MAPPED6 = 'fd00::2';

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
  const echo = (port: number, ...addresses: string[]) =>
    lab.host.spawn([process.execPath, join(REPOSITORY, 'test/support/echo.mjs'), String(port), ...addresses]);
  const all = [
    echo(LOOPBACK_PORT, '127.0.0.1', '::1'),
    echo(DNS_PORT, '127.0.0.1', '::1'),
    echo(HOST_PORT, NET.host4, NET.host6),
    lab.remote.spawn([
      process.execPath,
      join(REPOSITORY, 'test/support/echo.mjs'),
      String(ECHO_PORT),
      NET.gateway4,
      NET.gateway6,
    ]),
  ];
  for (const one of all)
    await waitFor(() => one.out().includes('listening') || one.child.exitCode !== null, { what: 'a server' });
  expect(all.map((one) => one.err())).toEqual(['', '', '', '']);
});
afterAll(() => lab.cleanup());

/** errno name of a connection attempt, null when it worked. */
const tcp = async (guest: Guest, address: string, port: number): Promise<string | null> =>
  (JSON.parse(await guest.run(client('connect', address, port), { timeoutMs: 10_000 })) as { code: string | null })
    .code;
/** Whether datagrams came back, or why not. */
const udp = async (guest: Guest, address: string, port: number): Promise<string> => {
  const done = await guest.attempt(client('udp', address, port, 100), { timeoutMs: 10_000 });
  return done.status === 0 ? done.stdout.trim() : (/E[A-Z]{4,}/.exec(done.stderr)?.[0] ?? done.stderr);
};
const ARRIVED = '{"lost":[]}';
const REFUSED = /^(EACCES|EHOSTUNREACH)$/;
const reaches = async (guest: Guest, address: string, port: number): Promise<void> => {
  expect([address, await tcp(guest, address, port)]).toEqual([address, null]);
  expect([address, await udp(guest, address, port)]).toEqual([address, ARRIVED]);
};
const pinged = async (guest: Guest, address: string): Promise<boolean> =>
  (await guest.attempt(['ping', '-c', '1', '-W', '1', address])).status === 0;

describe('by default', () => {
  let guest: Guest;
  beforeAll(async () => {
    guest = await lab.guest(['--config-net']);
  });
  afterAll(() => guest.close());

  it('the gateway stands for the loopback of the host', async () => {
    for (const gateway of [NET.gateway4, NET.gateway6]) {
      await reaches(guest, gateway, LOOPBACK_PORT);
      // What the gateway itself serves is out of reach by that address.
      expect(await tcp(guest, gateway, ECHO_PORT)).toBe('ECONNREFUSED');
      expect(await pinged(guest, gateway)).toBe(true);
    }
  });
  it('a port that nobody has there is refused, by the address that was asked', async () => {
    for (const gateway of [NET.gateway4, NET.gateway6]) {
      expect(await tcp(guest, gateway, REFUSED_PORT)).toBe('ECONNREFUSED');
      // A connected socket takes an ICMP error only if it is from its peer about its own datagram.
      expect(await udp(guest, gateway, REFUSED_PORT)).toBe('ECONNREFUSED');
    }
  });
});

it('--no-map-gw: the gateway is the gateway', async () => {
  const guest = await lab.guest(['--config-net', '--no-map-gw']);
  for (const gateway of [NET.gateway4, NET.gateway6]) {
    await reaches(guest, gateway, ECHO_PORT);
    expect(await tcp(guest, gateway, LOOPBACK_PORT)).toBe('ECONNREFUSED');
  }
  await guest.close();
});

it('--map-host-loopback: another address stands for it, and the gateway is the gateway', async () => {
  const guest = await lab.guest(['--config-net', '--map-host-loopback', MAPPED4, '--map-host-loopback', MAPPED6]);
  for (const address of [MAPPED4, MAPPED6]) {
    await reaches(guest, address, LOOPBACK_PORT);
    expect(await udp(guest, address, REFUSED_PORT)).toBe('ECONNREFUSED');
    expect(await pinged(guest, address)).toBe(true);
  }
  await reaches(guest, NET.gateway4, ECHO_PORT);
  await reaches(guest, NET.gateway6, ECHO_PORT);
  await guest.close();
});

it('--map-guest-addr: the host’s own addresses, which the guest has as well', async () => {
  const guest = await lab.guest([
    '--config-net',
    '--no-map-gw',
    '--map-guest-addr',
    MAPPED4,
    '--map-guest-addr',
    MAPPED6,
  ]);
  for (const address of [MAPPED4, MAPPED6]) {
    await reaches(guest, address, HOST_PORT);
    expect(await tcp(guest, address, LOOPBACK_PORT)).toBe('ECONNREFUSED');
    expect(await udp(guest, address, REFUSED_PORT)).toBe('ECONNREFUSED');
    expect(await pinged(guest, address)).toBe(true);
  }
  await guest.close();
});

it('without a mapping no address of the host can be reached, even by a guest with others', async () => {
  const guest = await lab.guest(['--config-net', '--no-map-gw', '-a', '192.0.2.100/24', '-a', '2001:db8:1::100/64']);
  for (const address of [NET.host4, NET.host6]) {
    expect(await tcp(guest, address, HOST_PORT)).toMatch(REFUSED);
    expect(await udp(guest, address, HOST_PORT)).toMatch(REFUSED);
  }
  await guest.close();
});

it('--dns-forward: names at that address are the host’s resolver’s, its loopback included', async () => {
  const options = ['--config-net', '--no-map-gw', '--dns-forward', MAPPED4, '--dns-forward', MAPPED6];
  const guest = await lab.guest([...options, '--dns-host', '127.0.0.1', '--dns-host', '::1']);
  for (const address of [MAPPED4, MAPPED6]) await reaches(guest, address, DNS_PORT);
  await guest.close();
  const other = await lab.guest(options);
  for (const address of [MAPPED4, MAPPED6]) {
    expect(await other.run(['busybox', 'nslookup', NET.name, address])).toContain(`Address: ${NET.server4}`);
  }
  await other.close();
});
