// SPDX-License-Identifier: Apache-2.0
/** Name look-ups that lead to a resolver of the host: by --dns-forward, by the gateway, over UDP and TCP, IPv4 and IPv6. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GATEWAY, HOST, HOST_PORTS, OWN, socketsOf } from '../support/forward-cells.ts';
import { ask, lookUp, SILENCE_MS, seen, serve } from '../support/forward-programs.ts';
import { type Guest, type Lab, makeLab, NET, type Side } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';

const NAME = 'who.lab.test';
/** What each resolver says the name is. */
const STUB = '203.0.113.53';
const ROUTER = '203.0.113.1';
const FAR = '203.0.113.2';
const FORWARD = { 4: '192.0.2.53', 6: '2001:db8:1::53' };
const ADDRESS = ['-a', `${OWN[4]}/24`, '-a', `${OWN[6]}/64`];
const PROTOCOLS = ['udp', 'tcp'] as const;

let lab: Lab;
const resolver = async (side: Side, addresses: readonly string[], answer: string): Promise<void> => {
  const argv = [
    '--keep-in-foreground',
    '--conf-file=/dev/null',
    '--no-resolv',
    '--no-hosts',
    '--pid-file=',
    '--user=root',
  ];
  const rest = ['--group=', '--bind-interfaces', '--log-facility=/dev/null', `--host-record=${NAME},${answer}`];
  side.spawn(['dnsmasq', ...argv, ...rest, `--listen-address=${addresses.join(',')}`]);
  for (const address of addresses)
    await waitFor(async () => (await lookUp(side, 'udp', address, NAME)) === answer, {
      what: `the resolver at ${address}`,
    });
};
const resolvConf = (...servers: readonly string[]): Promise<string> =>
  lab.host.run(['sh', '-c', `printf 'nameserver %s\\n' ${servers.join(' ')} > /etc/resolv.conf`]);
beforeAll(async () => {
  lab = await makeLab();
  await lab.remote.run(['pkill', 'dnsmasq']);
  await resolver(lab.host, ['127.0.0.53', '::1'], STUB);
  await resolver(lab.remote, [GATEWAY[4], GATEWAY[6]], ROUTER);
  await resolver(lab.remote, [NET.server4, NET.server6], FAR);
  await serve(
    lab.host,
    socketsOf(HOST_PORTS, (family) => HOST[family]),
  );
});
afterAll(() => lab.cleanup());

const both = async (guest: Guest, server: string): Promise<string[]> =>
  Promise.all(PROTOCOLS.map((protocol) => lookUp(guest, protocol, server, NAME)));
/** Whether a service of the host's loopback is reached at an address. */
const service = async (guest: Guest, address: string): Promise<string[]> =>
  (
    await ask(
      guest,
      PROTOCOLS.map((protocol) => ({ protocol, address, port: HOST_PORTS.loopback, patienceMs: SILENCE_MS })),
    )
  ).map(seen);

describe('a resolver on the loopback of the host', () => {
  beforeAll(() => resolvConf('127.0.0.53', '::1'));

  it('is reached at the gateway, which is what the guest is told', async () => {
    const guest = await lab.guest(['--config-net', ...ADDRESS]);
    for (const family of [4, 6] as const) expect(await both(guest, GATEWAY[family])).toEqual([STUB, STUB]);
    await guest.close();
  });

  it('is reached by --dns-forward, and nothing else of the loopback is, with --no-map-gw', async () => {
    const forward = ['--dns-forward', FORWARD[4], '--dns-forward', FORWARD[6], '--no-map-gw'];
    const guest = await lab.guest(['--config-net', ...ADDRESS, ...forward]);
    for (const family of [4, 6] as const) {
      expect(await both(guest, FORWARD[family])).toEqual([STUB, STUB]);
      expect(await service(guest, FORWARD[family])).not.toContain(family === 4 ? '127.0.0.1' : '::1');
    }
    // The router's own resolver answers at the gateway: that is no way to the host.
    expect(await both(guest, GATEWAY[4])).toEqual([ROUTER, ROUTER]);
    await guest.close();
  });

  it('--dns-host chooses another one', async () => {
    const forward = [
      '--dns-forward',
      FORWARD[4],
      '--dns-host',
      NET.server4,
      '--dns-forward',
      FORWARD[6],
      '--dns-host',
      NET.server6,
    ];
    const guest = await lab.guest(['--config-net', ...ADDRESS, ...forward]);
    for (const family of [4, 6] as const) expect(await both(guest, FORWARD[family])).toEqual([FAR, FAR]);
    await guest.close();
  });
});

describe('a gateway that is a resolver of the host', () => {
  it('is asked itself, while its other ports are the loopback of the host', async () => {
    await resolvConf(GATEWAY[4], GATEWAY[6]);
    const guest = await lab.guest(['--config-net', ...ADDRESS]);
    for (const family of [4, 6] as const) {
      expect(await both(guest, GATEWAY[family])).toEqual([ROUTER, ROUTER]);
      const loopback = family === 4 ? '127.0.0.1' : '::1';
      expect(await service(guest, GATEWAY[family])).toEqual([loopback, loopback]);
    }
    await guest.close();
  });
});
