// SPDX-License-Identifier: Apache-2.0
/**
 * The guest sees the hops that the host sees: the hop limit of what it sends is kept, and what the routers say comes back
 * with the guest's own packet quoted. Pastiche itself is no hop.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab } from '../support/lab.mjs';
import { FAR4, FAR6, HOPS4, HOPS6, lengthen } from '../support/routers.ts';

let lab: Lab;
let guest: Guest;
beforeAll(async () => {
  lab = await makeLab();
  await lengthen(lab);
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

/** Hop addresses of `traceroute -n -q 1`, in order; a probe without an answer is '*'. */
const hops = (out: string): string[] =>
  out
    .split('\n')
    .slice(1)
    .flatMap((line) => /^\s*\d+\s+(\S+)/.exec(line)?.[1] ?? []);

const PATHS = [
  { family: 'IPv4', flag: '-4', far: FAR4, expected: HOPS4 },
  { family: 'IPv6', flag: '-6', far: FAR6, expected: HOPS6 },
] as const;

describe.each(PATHS)('traceroute over $family', ({ flag, far, expected }) => {
  it.each([
    ['UDP to rising ports', []],
    ['UDP to one port', ['-U']],
    ['echo requests', ['-I']],
    ['TCP SYNs', ['-T', '-p', '9']],
  ])('with %s shows the hops', async (_what, how) => {
    const argv = ['traceroute', flag, '-n', '-q', '1', '-w', '3', ...how, far];
    expect(hops(await guest.run(argv))).toEqual(expected);
  });

  it('shows the guest the same as the host', async () => {
    const argv = ['traceroute', flag, '-n', '-q', '3', '-w', '3', far];
    const stripped = (out: string): string => out.replaceAll(/ +[\d.]+ ms/g, '');
    expect(stripped(await guest.run(argv))).toBe(stripped(await lab.host.run(argv)));
  });

  it('ping with a small hop limit names the router', async () => {
    const done = await guest.attempt(['ping', flag, '-n', '-c', '1', '-W', '3', '-t', '2', far]);
    expect(done.stdout).toMatch(new RegExp(`From ${expected[1]}:? icmp_seq=1 Time (to live )?exceeded`));
  });
});
