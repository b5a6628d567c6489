// SPDX-License-Identifier: Apache-2.0
/**
 * Opening, closing and failing: programs in the guest see what the same programs see on the host. Each scenario is played
 * on the host first, and its result there is checked, too: the network is what the test thinks it is.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET, REPOSITORY } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';
import { FAMILIES } from '../support/programs.ts';

const life = (...args: readonly (string | number)[]): string[] => [
  'python3',
  join(REPOSITORY, 'test/support/tcp-life.py'),
  ...args.map(String),
];

let lab: Lab;
let guest: Guest;
beforeAll(async () => {
  lab = await makeLab();
  for (const { server } of FAMILIES) {
    const started = lab.remote.spawn(life('serve', server));
    await waitFor(() => started.out().includes('listening'), { what: 'the server' });
  }
  // Networks that cannot be reached, each in its own way, as the router beyond the host says.
  await lab.remote.run(['sh', '-ec', UNREACHABLE]);
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

const UNREACHABLE = `
  echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
  echo 0 > /proc/sys/net/ipv4/icmp_ratelimit; echo 0 > /proc/sys/net/ipv6/icmp/ratelimit
  ip route add unreachable 203.0.113.0/25
  ip route add prohibit 203.0.113.128/25
  ip -6 route add unreachable 2001:db8:dead::/48
  ip -6 route add prohibit 2001:db8:beef::/48
`;

const EXPECTED = {
  halfClose: [true, null],
  peerHalfClose: [true, null, [['peerHalfClose', 300_000, null]]],
  peerReset: ['ECONNRESET'],
  aborted: ['ECONNRESET', 'ECONNRESET'],
  answerThenReset: [true, 'ECONNRESET'],
  urgent: 'uvwXyzabcDefg',
  writeAfterClose: expect.stringMatching(/^(EPIPE|ECONNRESET)$/),
} as const;

describe.each(FAMILIES)('$family', ({ server }) => {
  it.each(Object.entries(EXPECTED))('%s', async (scenario, expected) => {
    for (const [where, side] of Object.entries({ host: lab.host, guest }))
      expect(JSON.parse(await side.run(life('run', server, scenario))), where).toEqual({ [scenario]: expected });
  });
  it('2,000 connections from forty ports, each bound again right after it was closed', async () => {
    expect(JSON.parse(await guest.run(life('run', server, 'shortLived')))).toEqual({ shortLived: {} });
  });
});

it.each(FAMILIES)("the guest's keep-alives are kept up towards the peer, over $family", async ({ server }) => {
  const idle = guest.spawn(life('keepAlive', server), { stdin: 'pipe' });
  await waitFor(() => idle.out().includes('open'), { what: 'the connection' });
  const timers = () => lab.host.run(['ss', '-Htno', 'state', 'established', 'dst', `[${server}]`]);
  // The host's own interval is two hours.
  await waitFor(async () => /timer:\(keepalive,(\d+ms|1(\.\d+)?sec)/.test(await timers()), { what: 'the timer' });
  idle.child.stdin?.end();
  await idle.closed;
});

describe('connections that cannot be made fail as on the host, and as soon', () => {
  it.each([
    ['an unreachable network', '203.0.113.1', 'EHOSTUNREACH'],
    ['an unreachable network', '2001:db8:dead::1', 'ENETUNREACH'],
    ['a prohibited one', '203.0.113.129', 'EHOSTUNREACH'],
    ['a prohibited one', '2001:db8:beef::1', 'EACCES'],
    ['a closed port', NET.server4, 'ECONNREFUSED'],
    ['a closed port', NET.server6, 'ECONNREFUSED'],
    ['a neighbour that is not there', '192.0.2.77', 'EHOSTUNREACH'],
  ])('%s (%s): %s', async (_what, address, error) => {
    type Result = { error: string; ms: number };
    const connect = life('connect', address, 9);
    const onHost = JSON.parse(await lab.host.run(connect)) as Result;
    const inGuest = JSON.parse(await guest.run(connect)) as Result;
    expect([onHost.error, inGuest.error]).toEqual([error, error]);
    // Before the guest's SYN would have been sent again, that is, without waiting for it.
    expect(inGuest.ms).toBeLessThan(onHost.ms + 900);
  });
});
