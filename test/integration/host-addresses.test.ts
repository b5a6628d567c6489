// SPDX-License-Identifier: Apache-2.0
/** The host's own addresses: out of the guest's reach, whatever the host calls its own and since when, unless granted. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET, REPOSITORY } from '../support/lab.mjs';
import { type Started, waitFor } from '../support/process.mjs';
import { client, ECHO_PORT, echoServer } from '../support/programs.ts';

/** As libvirt's bridge would be: a second interface of the host, with a resolver on its address. */
const BRIDGE4 = '10.9.0.1';
const BRIDGE6 = 'fd09::1';
const ANY_IP = '10.77.1.2';
const DNS_PORT = 53;

let lab: Lab;
let server: Started;
const ip = (...args: string[]): Promise<string> => lab.host.run(['ip', ...args]);
beforeAll(async () => {
  lab = await makeLab();
  await ip('link', 'add', 'bridge', 'type', 'veth', 'peer', 'name', 'other');
  await ip('link', 'set', 'bridge', 'up');
  await ip('link', 'set', 'other', 'up');
  await ip('addr', 'add', `${BRIDGE4}/24`, 'dev', 'bridge');
  await ip('addr', 'add', `${BRIDGE6}/64`, 'dev', 'bridge', 'nodad');
  await ip('route', 'add', 'local', '10.77.0.0/16', 'dev', 'lo');
  const echo = join(REPOSITORY, 'test/support/echo.mjs');
  server = lab.host.spawn([process.execPath, echo, String(ECHO_PORT), '::']);
  const resolver = lab.host.spawn([process.execPath, echo, String(DNS_PORT), BRIDGE4, BRIDGE6]);
  for (const one of [server, resolver])
    await waitFor(() => one.out().includes('listening') || one.child.exitCode !== null, { what: 'a server' });
  expect([server.err(), resolver.err()]).toEqual(['', '']);
  await echoServer(lab);
});
afterAll(() => lab.cleanup());

const linkLocal = async (name: string): Promise<string> =>
  /inet6 (fe80:[0-9a-f:]+)/.exec(await ip('-6', 'addr', 'show', 'dev', name))?.[1] ?? '';
/** errno name of a connection attempt, null when it worked. */
const tcp = async (guest: Guest, address: string, port = ECHO_PORT): Promise<string | null> =>
  (JSON.parse(await guest.run(client('connect', address, port), { timeoutMs: 10_000 })) as { code: string | null })
    .code;
/** Whether a datagram came back, or why not. */
const udp = async (guest: Guest, address: string, port = ECHO_PORT): Promise<string> => {
  const done = await guest.attempt(client('udp', address, port, 100), { timeoutMs: 10_000 });
  return done.status === 0 ? done.stdout.trim() : (/E[A-Z]{4,}/.exec(done.stderr)?.[0] ?? done.stderr);
};
const pinged = async (guest: Guest, address: string): Promise<boolean> =>
  (await guest.attempt(['ping', '-c', '1', '-W', '1', address])).status === 0;
/** An ordinary guest, but with addresses of its own, so that those of the host are others'. */
const OWN = ['--config-net', '-a', '192.0.2.100/24', '-a', '2001:db8:1::100/64'];
const REFUSED = /^(EACCES|EHOSTUNREACH)$/; // administratively prohibited: to TCP and UDP as connect(2) and send(2) tell it

describe('without a grant', () => {
  let guest: Guest;
  beforeAll(async () => {
    guest = await lab.guest(OWN);
  });
  afterAll(() => guest.close());

  const expectRefused = async (address: string): Promise<void> => {
    expect([address, await tcp(guest, address)]).toEqual([address, expect.stringMatching(REFUSED)]);
    expect([address, await udp(guest, address)]).toEqual([address, expect.stringMatching(REFUSED)]);
    expect([address, await pinged(guest, address)]).toEqual([address, false]);
  };

  it.each([NET.host4, BRIDGE4, ANY_IP, NET.host6, BRIDGE6])('%s is refused at once', expectRefused);

  it.each(['eth0', 'bridge'])('so is the link-local address of %s', async (name) => {
    const address = await linkLocal(name);
    expect(await tcp(guest, `${address}%eth0`)).toMatch(REFUSED); // the guest's own eth0
    expect(await udp(guest, `${address}%eth0`)).toMatch(REFUSED);
  });

  it('so are the IPv4 addresses inside of IPv6 ones', async () => {
    expect(await tcp(guest, `64:ff9b::${NET.host4}`)).toMatch(REFUSED);
    expect(await tcp(guest, '2002:a09:1::1')).toMatch(REFUSED);
  });

  it("so is what becomes the host's own later, at once, and not any longer than that", async () => {
    const [late4, late6] = ['192.0.2.77', '2001:db8:1::77'];
    await lab.remote.run(['ip', 'addr', 'add', `${late4}/24`, 'dev', 'eth0']);
    expect(await pinged(guest, late4)).toBe(true); // the neighbour's still
    await lab.remote.run(['ip', 'addr', 'del', `${late4}/24`, 'dev', 'eth0']);
    await ip('addr', 'add', `${late4}/24`, 'dev', 'bridge');
    await ip('addr', 'add', `${late6}/128`, 'dev', 'bridge', 'nodad');
    await expectRefused(late4);
    await expectRefused(late6);
    await ip('addr', 'del', `${late6}/128`, 'dev', 'bridge');
    await lab.remote.run(['ip', 'addr', 'add', `${late6}/64`, 'dev', 'eth0', 'nodad']);
    expect(await pinged(guest, late6)).toBe(true);
  });

  it('many addresses make no difference', async () => {
    const lines = Array.from({ length: 3000 }, (_, i) => `addr add 10.200.${i >> 8}.${i & 255}/32 dev bridge`);
    await lab.host.run(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
    expect(await tcp(guest, '10.200.11.183')).toMatch(REFUSED);
    expect(await tcp(guest, '10.200.0.0')).toMatch(REFUSED);
    expect(await tcp(guest, NET.server4)).toBe(null);
  });

  it('the network behind the host is there as ever', async () => {
    for (const address of [NET.server4, NET.server6]) {
      expect(await tcp(guest, address)).toBe(null);
      expect(await udp(guest, address)).toBe('{"lost":[]}');
      expect(await pinged(guest, address)).toBe(true);
    }
    expect(await pinged(guest, NET.gateway4)).toBe(true);
  });
});

describe('with a grant', () => {
  it("--host-access opens one address, for one port if one is given; the host's loopback stays closed", async () => {
    const guest = await lab.guest([...OWN, '--host-access', NET.host4, '--host-access', `${BRIDGE6}/${ECHO_PORT}`]);
    expect(await tcp(guest, NET.host4)).toBe(null);
    expect(await udp(guest, NET.host4)).toBe('{"lost":[]}');
    expect(await pinged(guest, NET.host4)).toBe(true);
    expect(await tcp(guest, BRIDGE6)).toBe(null);
    expect(await tcp(guest, BRIDGE6, DNS_PORT)).toMatch(REFUSED);
    expect(await tcp(guest, BRIDGE4)).toMatch(REFUSED);
    await guest.close();
  });

  it('a resolver on an address of the host can be asked, and nothing else there', async () => {
    const guest = await lab.guest([...OWN, '-D', BRIDGE4, '-D', BRIDGE6, '--dhcp-dns']);
    for (const address of [BRIDGE4, BRIDGE6]) {
      expect(await udp(guest, address, DNS_PORT)).toBe('{"lost":[]}');
      expect(await tcp(guest, address, DNS_PORT)).toBe(null);
      expect(await tcp(guest, address)).toMatch(REFUSED);
    }
    await guest.close();
  });
});
