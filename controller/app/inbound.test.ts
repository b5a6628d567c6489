// SPDX-License-Identifier: Apache-2.0
/** Which way a connection goes that came in at a forwarded port, and what happens where none can be accepted. */
import { beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const ways: (string | number | boolean)[][] = [];
vi.mock('../proto/splice/tcp.ts', () => ({
  open: (...args: (string | number)[]): void => void ways.push(['splice', ...args]),
}));
vi.mock('../proto/splice/close.ts', () => ({
  refuse: (fd: number): void => void ways.push(['reset', fd]),
}));
vi.mock('../proto/tcp/inbound.ts', () => ({
  open: (fd: number, v4: boolean, ...rest: number[]): void => void ways.push(['tap', fd, v4, ...rest]),
}));
const fake = await import('../../test/support/fake-io.ts');
const inbound = await import('./inbound.ts');
const nat = await import('../fwd/nat.ts');
const station = await import('../link/station.ts');
const descriptors = await import('../flow/descriptors.ts');
const { parseIpv4, parseIpv6 } = await import('../host/address-text.ts');
const { makeNetwork } = await import('../../test/support/network.ts');
type Listener = import('./inbound.ts').Listener;

const EAGAIN = 11;
const EMFILE = 24;
const ECONNABORTED = 103;
const FD = 77;
const CLIENT_PORT = 40_000;
/** What accept(2) gives, in turn: a connection, or an errno. */
const queue: (readonly [client: string, asked: string] | number)[] = [];
const words = (text: string): readonly number[] =>
  text.includes(':') ? parseIpv6(text) : [0, 0, 0xffff, parseIpv4(text)];
Object.assign(fake.native, {
  accept: (_fd: number, at: number): number => {
    const next = queue.shift() ?? EAGAIN;
    if (typeof next === 'number') return -next;
    for (const [k, address] of next.entries()) {
      for (const [i, word] of words(address).entries()) fake.view.setInt32(at + 32 * k + 4 * i, word);
      fake.view.setUint16(at + 32 * k + 16, k === 0 ? CLIENT_PORT : 8080);
    }
    return FD;
  },
});

const network = makeNetwork();
const GUEST_4 = network.v4?.addresses[0].address as string;
const GUEST_6 = network.v6?.addresses[0]?.address as string;
const GATEWAY_4 = network.v4?.gateway as string;
const RULE = {
  protocol: 'tcp',
  address: '',
  interface: '',
  first: 8000,
  last: 8100,
  target: '',
  to: 9000,
  weak: false,
  scan: false,
} as const;
/** Port 8080 of the rule leads to 9080. */
const listener = (side: 'host' | 'netns', target = ''): Listener & { open: boolean } => {
  const s = { fd: 5, ref: 300_000, side, rule: { ...RULE, target }, port: 8080, open: true };
  fake.addSocket(s.fd);
  return s;
};
const comes = (client: string, asked: string, l = listener('host')): (string | number | boolean)[] => {
  ways.length = 0;
  queue.push([client, asked]);
  inbound.onReadable(l);
  return ways[0] ?? [];
};

beforeEach(() => {
  fake.reset();
  fake.setNow(1000);
  queue.length = 0;
  ways.length = 0;
  station.configure(network);
  const none = { hostLoopback6: null, guestAddr4: null, guestAddr6: null, dnsForward4: null, dnsForward6: null };
  const host = { host4: null, host6: null, dnsHost4: null, dnsHost6: null, resolvers: [] };
  nat.configure({ hostLoopback4: GATEWAY_4, ...none, ...host });
  inbound.configure({ splice: true, spliceOnly: false, loopbackToLoopback: false });
});

describe('at a port of the host', () => {
  test("loopback to loopback is spliced to the guest's own address, at the port of the rule", () => {
    expect(comes('127.0.0.1', '127.0.0.9')).toEqual(['splice', FD, 'netns', GUEST_4, 9080]);
    expect(comes('::1', '::1')).toEqual(['splice', FD, 'netns', GUEST_6, 9080]);
  });
  test('with --host-lo-to-ns-lo to the same loopback address', () => {
    inbound.configure({ splice: true, spliceOnly: false, loopbackToLoopback: true });
    expect(comes('127.0.0.1', '127.5.6.7')).toEqual(['splice', FD, 'netns', '127.5.6.7', 9080]);
    expect(comes('::1', '::1')).toEqual(['splice', FD, 'netns', '::1', 9080]);
  });
  test("with --no-splice over the tap, from the address that stands for the host's loopback", () => {
    inbound.configure({ splice: false, spliceOnly: false, loopbackToLoopback: false });
    const expected = ['tap', FD, true, ...words(GATEWAY_4), CLIENT_PORT, ...words(GUEST_4), 9080];
    expect(comes('127.0.0.1', '127.0.0.1')).toEqual(expected);
  });
  test.each([
    ['198.51.100.7', '192.0.2.2'],
    ['2001:db8:9::1', '2001:db8:1::2'],
    ['198.51.100.7', '127.0.0.1'],
  ])('%s asks for %s: over the tap, as it is', (client, asked) => {
    const v4 = !client.includes(':');
    const guest = words(v4 ? GUEST_4 : GUEST_6);
    expect(comes(client, asked)).toEqual(['tap', FD, v4, ...words(client), CLIENT_PORT, ...guest, 9080]);
  });
  test('a guest with a link-local address alone is reached there, from ours, once that can be known', () => {
    inbound.configure({ splice: false, spliceOnly: false, loopbackToLoopback: false });
    const v6 = { ...(network.v6 as NonNullable<typeof network.v6>), addresses: [] };
    station.configure({ ...network, v6, guestMac: 'ff:ff:ff:ff:ff:ff' });
    expect(comes('::1', '::1')).toEqual(['reset', FD]);
    station.see6(...parseIpv6('fe80::77'));
    const ours = words(v6.ourLinkLocal);
    expect(comes('::1', '::1')).toEqual(['tap', FD, false, ...ours, CLIENT_PORT, ...words('fe80::77'), 9080]);
  });
  test('a rule with a target is never spliced', () => {
    const there = words('192.0.2.99');
    expect(comes('127.0.0.1', '127.0.0.1', listener('host', '192.0.2.99')).slice(7)).toEqual([
      CLIENT_PORT,
      ...there,
      9080,
    ]);
  });
  test('a target of the other IP version, a source that nobody has, and anything but loopback with --splice-only: turned away', () => {
    expect(comes('127.0.0.1', '127.0.0.1', listener('host', '2001:db8::9'))).toEqual(['reset', FD]);
    expect(comes('0.1.2.3', '192.0.2.2')).toEqual(['reset', FD]);
    inbound.configure({ splice: true, spliceOnly: true, loopbackToLoopback: true });
    expect(comes('198.51.100.7', '192.0.2.2')).toEqual(['reset', FD]);
  });
});

describe('at a port of the namespace', () => {
  test('loopback is spliced to the same loopback address of the host; nobody else is served', () => {
    expect(comes('127.0.0.1', '127.8.9.10', listener('netns'))).toEqual(['splice', FD, 'host', '127.8.9.10', 9080]);
    expect(comes('::1', '::1', listener('netns'))).toEqual(['splice', FD, 'host', '::1', 9080]);
    expect(comes('192.0.2.2', '127.0.0.1', listener('netns'))).toEqual(['reset', FD]);
    expect(comes('127.0.0.1', '192.0.2.2', listener('netns'))).toEqual(['reset', FD]);
  });
});

test('all that wait are taken, one that is gone does not stop the others, and a flood leaves others their turn', () => {
  for (let i = 0; i < 3; i++) queue.push(['127.0.0.1', '127.0.0.1']);
  queue.splice(1, 0, ECONNABORTED);
  inbound.onReadable(listener('host'));
  expect(ways.length).toBe(3);
  ways.length = 0;
  for (let i = 0; i < 1000; i++) queue.push(['127.0.0.1', '127.0.0.1']);
  inbound.onReadable(listener('host'));
  expect(ways.length).toBeLessThan(100);
});

test('without a descriptor somebody gives up one, and the listener is left alone for a moment', () => {
  const asked: number[] = [];
  descriptors.register(descriptors.UDP, (but) => asked.push(but) > 0);
  const l = listener('host');
  const s = fake.sockets.get(l.fd);
  fake.native.watch(l.fd, fake.EPOLLIN, l.ref);
  queue.push(EMFILE, ['127.0.0.1', '127.0.0.1']);
  inbound.onReadable(l);
  expect([asked, ways.length, s?.events, inbound.nextDelay(1000)]).toEqual([[-1], 0, 0, 100]);
  inbound.tick(1050);
  expect(s?.events).toBe(0);
  inbound.tick(1100);
  expect([s?.events, s?.ref, inbound.nextDelay(1100)]).toEqual([fake.EPOLLIN, l.ref, -1]);
});

test('one that was closed meanwhile is not watched again', () => {
  const l = listener('host');
  queue.push(EMFILE);
  inbound.onReadable(l);
  l.open = false;
  const s = fake.addSocket(l.fd);
  inbound.tick(1100);
  expect(s.events).toBe(0);
});
