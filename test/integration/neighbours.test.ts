// SPDX-License-Identifier: Apache-2.0
/** Addresses that the guest takes for itself: none is refused to it but ours, and all of them work. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';

let lab: Lab;
let guest: Guest;
beforeAll(async () => {
  lab = await makeLab();
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

/** Adds an IPv6 address, waits until duplicate address detection is over, and says whether it succeeded. */
const detect = async (address: string): Promise<boolean> => {
  await guest.run(['ip', '-6', 'addr', 'add', `${address}/64`, 'dev', 'eth0']);
  const state = (): Promise<string> => guest.run(['ip', '-6', '-o', 'addr', 'show', 'dev', 'eth0', 'to', address]);
  const settled = await waitFor(
    async () => {
      const now = await state();
      return now.includes('dadfailed') || !now.includes('tentative') ? now : null;
    },
    { what: 'duplicate address detection', timeoutMs: 10_000 },
  );
  const failed = String(settled).includes('dadfailed');
  // The kernel keeps it all the same, and would not send to it.
  if (failed) await guest.run(['ip', '-6', 'addr', 'del', `${address}/64`, 'dev', 'eth0']);
  return !failed;
};

describe('duplicate address detection', () => {
  it('leaves the guest every IPv6 address but ours', async () => {
    for (const s of ['accept_dad', 'dad_transmits'])
      await guest.run(['sh', '-c', `echo 1 > /proc/sys/net/ipv6/conf/eth0/${s}`]);
    const ours = /via (fe80::\S+)/.exec(await guest.run(['ip', '-6', 'route', 'show', 'default']))?.[1];
    expect(await detect('2001:db8:1::77')).toBe(true);
    expect(await detect('fe80::77')).toBe(true);
    expect(await detect(ours ?? '2001:db8:1::1')).toBe(false);
  });

  it('leaves the guest every IPv4 address but the gateway’s', async () => {
    const probe = async (address: string): Promise<number | null> =>
      (await guest.attempt(['busybox', 'arping', '-D', '-c', '1', '-w', '1', '-I', 'eth0', address])).status;
    expect(await probe('192.0.2.77')).toBe(0);
    expect(await probe(NET.gateway4)).toBe(1);
  });
});

it('several addresses of the guest work side by side', async () => {
  await guest.run(['ip', 'addr', 'add', '192.0.2.77/24', 'dev', 'eth0']);
  await guest.run(['ip', '-6', 'addr', 'add', '2001:db8:1::78/64', 'dev', 'eth0', 'nodad']);
  const from = async (source: string, server: string): Promise<string> =>
    guest.run(['ping', '-c', '2', '-i', '0.2', '-W', '3', '-I', source, server]);
  const each = [
    from('192.0.2.77', NET.server4),
    from(NET.host4, NET.server4),
    from('2001:db8:1::78', NET.server6),
    from(NET.host6, NET.server6),
  ];
  for (const out of await Promise.all(each)) expect(out).toContain('2 received');
});

it('a MAC that the guest gives itself is learnt from its first frame', async () => {
  await guest.run(['ip', 'link', 'set', 'eth0', 'address', '02:00:5e:10:00:77']);
  expect(await guest.run(['ping', '-c', '1', '-W', '3', NET.server4])).toContain('1 received');
  expect(await guest.run(['ping', '-c', '1', '-W', '3', NET.gateway4])).toContain('1 received');
});
