// SPDX-License-Identifier: Apache-2.0
/** Forwarded ports where there are several addresses: of the host, of the guest, and of sockets that leave. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { GATEWAY, HOST, LAN, LOOPBACK, OWN } from '../support/forward-cells.ts';
import { askOne, type ServerSocket, seen, serve } from '../support/forward-programs.ts';
import { type Guest, type Lab, makeLab, type Side } from '../support/lab.mjs';

const PROTOCOLS = ['tcp', 'udp'] as const;
const FAMILIES = [4, 6] as const;
const PORT = 8001;
/** A second link between host and remote, on which the host has an address and no default route. */
const SECOND = {
  4: { host: '203.0.113.2', remote: '203.0.113.1' },
  6: { host: '2001:db8:3::2', remote: '2001:db8:3::1' },
};
const MORE = { 4: '192.0.2.101', 6: '2001:db8:1::101' };
const HOST_ONLY = 8102;
const WILDCARDS = { 4: '0.0.0.0', 6: '::' } as const;
const ADDRESS = ['-a', `${OWN[4]}/24`, '-a', `${OWN[6]}/64`];
const both = (spec: string): string[] => ['-t', spec, '-u', spec];
const sockets = (address: Record<4 | 6, string>, port: number): ServerSocket[] =>
  PROTOCOLS.flatMap((protocol) => FAMILIES.map((family) => ({ protocol, address: address[family], port })));

let lab: Lab;
beforeAll(async () => {
  lab = await makeLab();
  await lab.host.run(['ip', 'link', 'add', 'second', 'type', 'veth', 'peer', 'name', 'second', 'netns', 'remote']);
  for (const side of ['host', 'remote'] as const) {
    const addresses = [`${SECOND[4][side]}/24`, `${SECOND[6][side]}/64`];
    await lab[side].run(['ip', 'addr', 'add', addresses[0] ?? '', 'dev', 'second']);
    await lab[side].run(['ip', 'addr', 'add', addresses[1] ?? '', 'dev', 'second', 'nodad']);
    await lab[side].run(['ip', 'link', 'set', 'second', 'up']);
  }
  await serve(lab.host, sockets(LOOPBACK, HOST_ONLY));
});
afterAll(() => lab.cleanup());
let running: Guest | null = null;
afterEach(async () => {
  await running?.close();
  running = null;
});

/** Ends with the test. */
const join = async (args: readonly string[]): Promise<Guest> => {
  running = await lab.guest(['--config-net', ...args], undefined, { forwards: true });
  return running;
};
const start = async (args: readonly string[]): Promise<Guest> => {
  const guest = await join(args);
  await serve(guest, sockets(WILDCARDS, PORT));
  return guest;
};
/** Whom the servers of TCP and UDP see. */
const ask = (side: Side, address: string, port: number, from?: string): Promise<string[]> =>
  Promise.all(PROTOCOLS.map(async (protocol) => seen(await askOne(side, protocol, address, port, from))));
const twice = (address: string): string[] => [address, address];

describe.each(FAMILIES)('IPv%i', (family) => {
  it('answers leave from the address that was asked, wherever outbound sockets leave', async () => {
    const outbound = ['-o', HOST[4], '-o', HOST[6], '--outbound-if4', 'eth0', '--outbound-if6', 'eth0'];
    const guest = await start([
      ...ADDRESS,
      ...outbound,
      ...both(String(PORT)),
      '-T',
      String(HOST_ONLY),
      '-U',
      String(HOST_ONLY),
    ]);
    expect(await ask(lab.remote, HOST[family], PORT, LAN[family])).toEqual(twice(LAN[family]));
    expect(await ask(lab.remote, SECOND[family].host, PORT)).toEqual(twice(SECOND[family].remote));
    expect(await ask(lab.host, LOOPBACK[family], PORT)).toEqual(twice(OWN[family]));
    expect(await ask(guest, LOOPBACK[family], HOST_ONLY)).toEqual(twice(LOOPBACK[family]));
    expect(await ask(guest, GATEWAY[family], HOST_ONLY)).toEqual(twice(LOOPBACK[family]));
    expect(await ask(guest, HOST[family], PORT)).toEqual(twice(HOST[family]));
  });

  it('a port of one address or interface is not open at the others', async () => {
    const address = family === 4 ? SECOND[4].host : `[${SECOND[6].host}]`;
    await start([
      ...ADDRESS,
      ...both(`${address}/${PORT}`),
      ...both(`%second/9000:${PORT}`),
      '-T',
      'none',
      '-U',
      'none',
    ]);
    expect(await ask(lab.remote, SECOND[family].host, PORT)).toEqual(twice(SECOND[family].remote));
    expect(await ask(lab.remote, SECOND[family].host, 9000)).toEqual(twice(SECOND[family].remote));
    for (const port of [PORT, 9000])
      for (const [side, to] of [
        [lab.remote, HOST[family]],
        [lab.host, LOOPBACK[family]],
      ] as const)
        expect(seen(await askOne(side, 'tcp', to, port))).toBe('ECONNREFUSED');
  });

  it('a target leads to another address of the guest, past the loopback bypass', async () => {
    const target = family === 4 ? MORE[4] : `[${MORE[6]}]`;
    const listen = family === 4 ? '0.0.0.0' : '[::]';
    const guest = await join([...ADDRESS, ...both(`${listen}/9001:${target}/${PORT}`), '-T', 'none', '-U', 'none']);
    const prefix = family === 4 ? 24 : 64;
    await guest.run([
      'ip',
      'addr',
      'add',
      `${MORE[family]}/${prefix}`,
      'dev',
      'eth0',
      ...(family === 6 ? ['nodad'] : []),
    ]);
    await serve(
      guest,
      PROTOCOLS.map((protocol) => ({ protocol, address: MORE[family], port: PORT })),
    );
    expect(await ask(lab.remote, HOST[family], 9001, LAN[family])).toEqual(twice(LAN[family]));
    expect(await ask(lab.host, LOOPBACK[family], 9001)).toEqual(twice(GATEWAY[family]));
  });

  it('several addresses of the guest: all go out, the first is what ports lead to, whichever was heard from last', async () => {
    const more = ['-a', `${MORE[4]}/24`, '-a', `${MORE[6]}/64`];
    const guest = await join([...ADDRESS, ...more, ...both(String(PORT)), '-T', 'none', '-U', 'none']);
    await serve(guest, sockets(OWN, PORT));
    const server = await serve(lab.remote, sockets(LAN, PORT));
    expect(await ask(lab.remote, HOST[family], PORT, LAN[family])).toEqual(twice(LAN[family]));
    expect(await ask(guest, LAN[family], PORT, MORE[family])).toEqual(twice(HOST[family]));
    expect(await ask(lab.remote, HOST[family], PORT, LAN[family])).toEqual(twice(LAN[family]));
    server.kill('SIGKILL');
  });

  it('--map-guest-addr is how a guest with the address of the host sees the host, and reaches it', async () => {
    const map = ['--map-guest-addr', MORE[4], '--map-guest-addr', MORE[6]];
    const guest = await start([...map, ...both(String(PORT)), '-T', 'none', '-U', 'none']);
    const server = await serve(
      lab.host,
      PROTOCOLS.map((protocol) => ({ protocol, address: HOST[family], port: HOST_ONLY })),
    );
    expect(await ask(lab.host, HOST[family], PORT)).toEqual(twice(MORE[family]));
    expect(await ask(guest, MORE[family], HOST_ONLY)).toEqual(twice(HOST[family]));
    server.kill('SIGKILL');
  });

  it('--map-host-loopback is whom the guest sees where the loopback of the host asks past the bypass', async () => {
    const map = ['--map-host-loopback', MORE[4], '--map-host-loopback', MORE[6], '--no-splice'];
    await start([...ADDRESS, ...map, ...both(String(PORT)), '-T', 'none', '-U', 'none']);
    expect(await ask(lab.host, LOOPBACK[family], PORT)).toEqual(twice(MORE[family]));
  });
});
