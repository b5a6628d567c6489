// SPDX-License-Identifier: Apache-2.0
/** What routers and hosts object to reaches the guest as it reaches the host; what the guest objects to, the peer. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab } from '../support/lab.mjs';
import { waitFor } from '../support/process.mjs';
import { FAR4, FAR6, lengthen, type Path } from '../support/routers.ts';

let lab: Lab;
let path: Path;
let guest: Guest;
beforeAll(async () => {
  lab = await makeLab();
  path = await lengthen(lab);
  // Destinations that the first router refuses, each in its own way.
  for (const [kind, last] of [
    ['unreachable', 1],
    ['prohibit', 2],
    ['throw', 3],
  ] as const) {
    await lab.remote.run(['ip', 'route', 'add', kind, `198.51.100.24${last}/32`]);
    await lab.remote.run(['ip', '-6', 'route', 'add', kind, `2001:db8:24::${last}/128`]);
  }
  guest = await lab.guest(['--config-net']);
});
afterAll(() => lab.cleanup());

const DESTINATIONS = [
  ['-4', 'unreachable', '198.51.100.241', /Destination Host Unreachable/],
  ['-4', 'prohibited', '198.51.100.242', /Packet filtered/],
  ['-4', 'without a route', '198.51.100.243', /Destination Net Unreachable/],
  ['-6', 'unreachable', '2001:db8:24::1', /Destination unreachable: (Address unreachable|No route)/],
  ['-6', 'prohibited', '2001:db8:24::2', /Destination unreachable: Administratively prohibited/],
  ['-6', 'without a route', '2001:db8:24::3', /Destination unreachable: No route/],
] as const;

// Linux routers allow themselves five of these at once over IPv4 (net.ipv4.route.error_burst), then one a second.
describe.each(DESTINATIONS)('%s, a destination %s', (flag, _how, address, expected) => {
  it('ping says so, and names the router', async () => {
    const router = flag === '-4' ? 'From 192.0.2.1 ' : 'From 2001:db8:1::1 ';
    const isTold = async () => {
      const { stdout } = await guest.attempt(['ping', flag, '-n', '-c', '1', '-W', '1', address]);
      return expected.test(stdout) && stdout.includes(router);
    };
    await waitFor(isTold, { what: `the router's word about ${address}`, everyMs: 1000, timeoutMs: 10_000 });
  });
});

it.each([
  ['-4', '198.51.100.242', '192.0.2.1'],
  ['-6', '2001:db8:24::2', '2001:db8:1::1'],
])('traceroute %s marks a destination that is prohibited', async (flag, address, router) => {
  const argv = ['traceroute', flag, '-n', '-q', '1', '-N', '1', '-m', '1', '-w', '3', address];
  expect(await guest.run(argv)).toMatch(new RegExp(` 1 +${router} +[0-9.]+ ms +!X`));
});

/** A peer that sends back one datagram for each it gets, and the moment its port is refused says so. */
const PEER = `
const s = require('dgram').createSocket(process.argv[1]);
s.on('error', (e) => console.log(e.code));
s.bind(7200, process.argv[2], () => console.log('listening'));
s.once('message', (m, from) => s.connect(from.port, from.address, () => {
  console.log('connected');
  setInterval(() => s.send('again', () => {}), 50);
}));`;
/** A client that leaves as soon as it was answered. */
const CLIENT = `
const s = require('dgram').createSocket(process.argv[1]);
s.on('message', () => { console.log('answered'); s.close(); });
s.send('x', 7200, process.argv[2]);`;

describe.each([
  ['udp4', FAR4],
  ['udp6', FAR6],
])('a %s port of the guest that is closed', (type, far) => {
  it('is refused to the peer by the host, once the guest has said so', async () => {
    const peer = path.far.spawn([process.execPath, '-e', PEER, type, far]);
    await waitFor(() => peer.out().includes('listening'), { what: 'the peer' });
    expect(await guest.run([process.execPath, '-e', CLIENT, type, far])).toContain('answered');
    await waitFor(() => peer.out().includes('ECONNREFUSED'), { what: 'the refusal', timeoutMs: 5000 });
    peer.kill('SIGKILL');
  });
});
