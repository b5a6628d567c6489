// SPDX-License-Identifier: Apache-2.0
/** Echo requests and name look-ups, as a user's first commands. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET } from '../support/lab.mjs';
import { FAMILIES } from '../support/programs.ts';

let lab: Lab;
let guest: Guest;
beforeAll(async () => {
  lab = await makeLab();
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

describe.each(FAMILIES)('ping over $family', ({ server, gateway }) => {
  // 65,000 octets and their headers fit the tap's default MTU of 65,520; the link behind fragments.
  it.each([0, 1, 56, 1472, 1473, 9000, 65_000])('%i octets come back unchanged', async (size) => {
    const out = await guest.run(['ping', '-c', '1', '-W', '3', '-s', String(size), server]);
    expect(out).toContain('1 received');
    expect(out).not.toContain('wrong data byte');
  });

  it('the gateway answers, too', async () => {
    expect(await guest.run(['ping', '-c', '1', '-W', '3', gateway])).toContain('1 received');
  });

  it('several pingers with the same sequence numbers each get their own answers', async () => {
    const each = Array.from({ length: 8 }, () => guest.run(['ping', '-c', '3', '-i', '0.2', '-W', '3', server]));
    for (const out of await Promise.all(each)) expect(out).toContain('3 received');
  });
});

describe('DNS', () => {
  it.each([NET.server4, NET.server6])('a look-up through UDP at %s', async (resolver) => {
    const out = await guest.run(['busybox', 'nslookup', NET.name, resolver]);
    expect(out).toContain(`Address: ${NET.server4}`);
    expect(out).toContain(`Address: ${NET.server6}`);
  });

  it('the C library resolves by resolv.conf', async () => {
    expect(await guest.run(['getent', 'ahosts', NET.name])).toContain(NET.server4);
  });
});
