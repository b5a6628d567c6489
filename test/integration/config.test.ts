// SPDX-License-Identifier: Apache-2.0
/** How the namespace gets its addresses: by --config-net, DHCP, SLAAC and DHCPv6, each with the kernel's or a real client. */
import { chmodSync, cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET, REPOSITORY } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';

let lab: Lab;
let hook: string;
beforeAll(async () => {
  lab = await makeLab();
  hook = join(lab.dir, 'dhcp-hook.sh');
  cpSync(join(REPOSITORY, 'test/support/dhcp-hook.sh'), hook);
  chmodSync(hook, 0o755);
});
afterAll(() => lab.cleanup());

interface AddressLine {
  readonly ifname: string;
  readonly mtu: number;
  readonly operstate: string;
  readonly addr_info: readonly { family: string; local: string; prefixlen: number; scope: string }[];
}
const addresses = async (guest: Guest): Promise<string[]> => {
  const [link] = JSON.parse(await guest.run(['ip', '-j', 'addr', 'show', 'dev', 'eth0'])) as AddressLine[];
  return (link?.addr_info ?? []).filter((a) => a.scope === 'global').map((a) => `${a.local}/${a.prefixlen}`);
};
const reaches = async (guest: Guest, address: string): Promise<boolean> =>
  (await guest.attempt(['ping', '-c', '1', '-W', '2', address])).status === 0;

/** A world-writable file of the lab for what a client learnt. */
const logFile = (name: string): string => {
  const path = join(lab.dir, name);
  writeFileSync(path, '');
  chmodSync(path, 0o666);
  return path;
};

describe('--config-net', () => {
  it('copies addresses and default routes of the template interface and brings the link up', async () => {
    const guest = await lab.guest(['--config-net']);
    expect((await addresses(guest)).sort()).toEqual([`${NET.host4}/24`, `${NET.host6}/64`].sort());
    expect(await guest.run(['ip', 'route', 'show', 'default'])).toContain(`via ${NET.gateway4} dev eth0`);
    expect(await guest.run(['ip', '-6', 'route', 'show', 'default'])).toContain(`via ${NET.gateway6} dev eth0`);
    expect(await reaches(guest, NET.server4)).toBe(true);
    expect(await reaches(guest, NET.server6)).toBe(true);
    expect((await guest.close()).status).toBe(0);
  });

  it('shows the command a finished configuration: no address is tentative when it starts, the link-local one neither', async () => {
    const done = await lab.pasta(['--config-net'], ['ip', '-o', 'addr', 'show', 'dev', 'eth0', 'tentative']);
    expect(done).toMatchObject({ status: 0, stdout: '' });
  });

  it.each([
    ['-4', NET.host4, 'inet6'],
    ['-6', NET.host6, 'inet '],
  ])('%s configures that family only', async (flag, address, absent) => {
    const done = await lab.pasta([flag, '--config-net'], ['ip', 'addr', 'show', 'dev', 'eth0', 'scope', 'global']);
    expect(done.status).toBe(0);
    expect(done.stdout).toContain(address);
    expect(done.stdout).not.toContain(absent);
  });

  it('names the interface, its MAC address and MTU as asked', async () => {
    const args = ['--config-net', '-I', 'net7', '--ns-mac-addr', '02:00:00:00:00:07', '-m', '1400'];
    const done = await lab.pasta(args, ['ip', '-o', 'link', 'show', 'dev', 'net7']);
    expect(done.stdout).toContain('mtu 1400');
    expect(done.stdout).toContain('02:00:00:00:00:07');
  });
});

describe('DHCP', () => {
  it.each([
    [
      'dhclient',
      (log: string) => [
        'dhclient',
        '-4',
        '-v',
        '-1',
        '-cf',
        '/dev/null',
        '-lf',
        '/dev/null',
        '-pf',
        '/dev/null',
        '-e',
        `LOG=${log}`,
        '-sf',
        hook,
        'eth0',
      ],
    ],
    ['udhcpc', (log: string) => ['env', `LOG=${log}`, 'busybox', 'udhcpc', '-i', 'eth0', '-n', '-q', '-f', '-s', hook]],
  ] as const)("%s gets the host's address, router and MTU, and the network works", async (name, argv) => {
    const guest = await lab.guest(['-4', '--dhcp-dns', '-m', '9000']);
    const log = logFile(`${name}.log`);
    await guest.run(argv(log), { timeoutMs: 30_000 });
    expect(await addresses(guest)).toEqual([`${NET.host4}/24`]);
    const learnt = readFileSync(log, 'utf8');
    expect(learnt).toMatch(new RegExp(`^(new_routers|router)=${NET.gateway4}$`, 'm'));
    expect(learnt).toMatch(new RegExp(`^(new_domain_name_servers|dns)=${NET.server4}`, 'm'));
    if (name === 'dhclient') expect(learnt).toMatch(/^new_interface_mtu=9000$/m);
    expect(await reaches(guest, NET.server4)).toBe(true);
    await guest.close();
  });
});

describe('SLAAC and DHCPv6', () => {
  it('the kernel configures a global address and a default route from our router advertisement', async () => {
    const guest = await lab.guest(['-6']);
    await guest.run(['ip', 'link', 'set', 'eth0', 'up']);
    const [first] = await waitFor(async () => (await addresses(guest)).length > 0 && addresses(guest), {
      what: 'SLAAC',
    });
    expect(first).toMatch(/^2001:db8:1:.*\/64$/);
    expect(await guest.run(['ip', '-6', 'route', 'show', 'default'])).toMatch(/via fe80::.* proto ra/);
    await waitFor(() => reaches(guest, NET.server6), { what: 'an address that is not tentative any more' });
    await guest.close();
  });

  it("dhclient -6 gets the host's address", async () => {
    const guest = await lab.guest(['-6', '--dhcp-dns']);
    const log = logFile('dhclient6.log');
    const files = ['-cf', '/dev/null', '-lf', '/dev/null', '-pf', '/dev/null'];
    await guest.run(['dhclient', '-6', '-v', '-1', ...files, '-e', `LOG=${log}`, '-sf', hook, 'eth0'], {
      timeoutMs: 30_000,
    });
    const learnt = readFileSync(log, 'utf8');
    expect(learnt).toMatch(new RegExp(`^new_ip6_address=${NET.host6}$`, 'm'));
    expect(learnt).toMatch(new RegExp(`^new_dhcp6_name_servers=${NET.server6}`, 'm'));
    expect((await addresses(guest)).some((a) => a.startsWith(NET.host6))).toBe(true);
    await guest.close();
  });
});
