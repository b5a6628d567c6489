// SPDX-License-Identifier: Apache-2.0
/**
 * A path that takes less than the guest's link: "don't fragment" is kept, the routers' objections reach the guest, and the
 * guest's own kernel does what it does on any network: learns, cuts, or tells its program. (TCP: tcp.test.ts.)
 */
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, REPOSITORY } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';
import { client, ECHO_PORT } from '../support/programs.ts';
import { FAR4, FAR6, lengthen, type Path } from '../support/routers.ts';

const MTU = 1400;
const HOST_MTU = 1500;
/** Octets of data in an echo request that fill an IPv4 packet of 1468, an IPv6 packet of 1488: above the path's MTU, below the host's. */
const TOO_MUCH = '1440';

let lab: Lab;
let path: Path;
let guest: Guest;
beforeAll(async () => {
  lab = await makeLab();
  path = await lengthen(lab);
  const echo = join(REPOSITORY, 'test/support/echo.mjs');
  const server = path.far.spawn([process.execPath, echo, String(ECHO_PORT), FAR4, FAR6]);
  await waitFor(() => server.out().includes('listening'), { what: 'the echo server' });
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());
beforeEach(async () => {
  await path.setMtu(MTU);
  // What was learnt before is forgotten, on both sides of us.
  for (const side of [guest, lab.host])
    for (const family of ['-4', '-6']) await side.run(['ip', family, 'route', 'flush', 'cache']);
});

const FAMILIES = [
  { family: 'IPv4', flag: '-4', far: FAR4, router: '203.0.113.2', says: 'Frag needed and DF set (mtu = 1400)' },
  { family: 'IPv6', flag: '-6', far: FAR6, router: '2001:db8:12::2', says: 'Packet too big: mtu=1400' },
] as const;

describe.each(FAMILIES)('$family', ({ family, flag, far, router, says }) => {
  const ping = async (...args: string[]): Promise<string> =>
    (await guest.attempt(['ping', flag, '-n', '-i', '0.2', '-W', '1', ...args, far])).stdout;

  it('an echo request that must not be cut meets the router that objects; the next one is not even sent', async () => {
    const done = await guest.attempt([
      'ping',
      flag,
      '-n',
      '-c',
      '2',
      '-i',
      '0.2',
      '-W',
      '1',
      '-M',
      'do',
      '-s',
      TOO_MUCH,
      far,
    ]);
    expect(done.stdout).toContain(`From ${router} icmp_seq=1 ${says}`);
    expect(done.stdout).toContain('0 received, +2 errors');
    expect(done.stderr).toMatch(/message too long, mtu[=:] ?1400/);
  });

  it('an echo request that may be cut is lost once, then cut by the guest', async () => {
    const out = await ping('-c', '3', '-M', 'want', '-s', TOO_MUCH);
    expect(out).toContain(says);
    expect(out).toContain('3 packets transmitted, 2 received, +1 errors');
  });

  // Over IPv6 every packet has it.
  if (family === 'IPv4') {
    it('what has no DF is cut on its way, and nobody objects', async () => {
      expect(await ping('-c', '2', '-M', 'dont', '-s', TOO_MUCH)).toContain(
        '2 packets transmitted, 2 received, 0% packet loss',
      );
    });
  }

  it('a datagram larger than the host’s own link is cut by the host', async () => {
    await path.setMtu(HOST_MTU);
    expect(JSON.parse(await guest.run(client('udp', far, ECHO_PORT, 4000, 9000, 65_000, 65_000)))).toEqual({
      lost: [],
    });
  });

  it('and so is an echo request', async () => {
    await path.setMtu(HOST_MTU);
    expect(await ping('-c', '2', '-M', 'want', '-s', '4000')).toContain('2 received, 0% packet loss');
  });

  it('datagrams lose one each time the path becomes smaller, and go on', async () => {
    const echo = async (...sizes: number[]): Promise<number[]> =>
      JSON.parse(await guest.run(client('udp', far, ECHO_PORT, ...sizes))).lost;
    expect(await echo(1440, 1440, 1440, 1200)).toEqual([1440]);
    await path.setMtu(1300);
    expect(await echo(1340, 1340, 1440, 9000)).toEqual([1340]);
    await path.setMtu(HOST_MTU);
    expect(await echo(1440, 9000)).toEqual([]);
  });

  // What QUIC and others do to find a path's MTU (RFC 8899) is what tracepath does: IP_PMTUDISC_PROBE.
  it('probes find the true MTU of the path: none gets through in fragments', async () => {
    const out = await guest.run(['tracepath', flag, '-n', '-l', String(HOST_MTU), far]);
    expect(out).toContain(`${router}`);
    expect(out).toMatch(/Resume: pmtu 1400 hops \d/);
  });
});
