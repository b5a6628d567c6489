// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  dumpRequest,
  dumpStep,
  interrupted,
  type Message,
  messages,
  RTM,
  readAddress,
  readLink,
  readRoute,
} from '../../../controller/host/netlink.ts';
import { ADDRESSES, LINKS, ROUTES } from './rtnetlink-dumps.ts';

const decode = (dump: readonly string[]): Message[] => dump.flatMap((text) => messages(Buffer.from(text, 'base64')));
const rows = <T>(dump: readonly string[], read: (m: Message) => T | null): T[] =>
  decode(dump)
    .map(read)
    .filter((row) => row !== null);

const links = rows(LINKS, readLink);
const index = (name: string): number => links.find((link) => link.name === name)?.index ?? -1;

describe('recorded dumps', () => {
  it('gives links with index, MAC, MTU and state', () => {
    expect(links.map(({ name }) => name).sort()).toEqual(['eth0', 'eth1', 'lo', 'p0', 'p1']);
    expect(links.find(({ name }) => name === 'lo')).toMatchObject({ loopback: true, up: true, mtu: 65_536 });
    const eth1 = links.find(({ name }) => name === 'eth1');
    expect(eth1).toMatchObject({ mac: '02:00:00:00:00:02', mtu: 1400, up: true, loopback: false, operstate: 'up' });
  });

  it('gives addresses, the local one of a point-to-point pair, and their flags', () => {
    const addresses = rows(ADDRESSES, readAddress);
    const find = (address: string) => addresses.find((row) => row.address === address);
    expect(find('192.0.2.5')).toEqual({
      family: 4,
      index: index('eth0'),
      address: '192.0.2.5',
      prefix: 24,
      scope: 'universe',
      deprecated: false,
      tentative: false,
    });
    expect(find('10.9.9.1')).toMatchObject({ prefix: 32, index: index('eth1') });
    expect(find('10.9.9.2')).toBeUndefined();
    expect(find('127.0.0.1')).toMatchObject({ scope: 'host' });
    expect(find('2001:db8:1::5')).toMatchObject({ family: 6, prefix: 64, deprecated: false });
    expect(find('2001:db8:2::5')).toMatchObject({ deprecated: true });
    expect(addresses.filter(({ scope, family }) => family === 6 && scope === 'link').length).toBeGreaterThan(0);
  });

  it('gives unicast routes of the main table only', () => {
    const routes = rows(ROUTES, readRoute);
    const find = (destination: string, family = 4) =>
      routes.filter((row) => row.destination === destination && row.family === family);
    expect(find('0.0.0.0').map(({ metric, hops }) => [metric, hops[0].gateway])).toEqual([
      [50, '10.9.9.2'],
      [100, '192.0.2.1'],
    ]);
    expect(find('0.0.0.0')[1]).toMatchObject({ preferredSource: '192.0.2.5', prefix: 0 });
    expect(find('198.51.100.0')[0]?.hops).toEqual([
      { index: index('eth0'), gateway: '192.0.2.1', weight: 1, dead: false },
      { index: index('eth0'), gateway: '192.0.2.2', weight: 5, dead: false },
    ]);
    expect(find('203.0.113.0')[0]?.hops[0].gateway).toBe('fe80::99');
    expect(find('192.0.2.0')[0]).toMatchObject({ scope: 'link', hops: [{ gateway: null }] });
    expect(find('198.18.0.0'), 'blackhole').toEqual([]);
    expect(find('10.77.0.0'), 'another table').toEqual([]);
    expect(find('::', 6)[0]).toMatchObject({ metric: 1024, hops: [{ gateway: 'fe80::1' }] });
    // The kernel sends IPv6 multipath as RTA_MULTIPATH, too.
    expect(find('2001:db8:3::', 6)[0]?.hops.map(({ gateway }) => gateway)).toEqual(['fe80::2', 'fe80::3']);
    expect(routes.some(({ destination }) => destination.startsWith('ff00'))).toBe(false);
  });

  it('ends with DONE and is answered under the request’s sequence number', () => {
    for (const dump of [LINKS, ADDRESSES, ROUTES]) {
      const all = decode(dump);
      expect(all.map((message) => dumpStep(message).kind)).toEqual([...all.slice(1).map(() => 'row'), 'done']);
      expect(all.every(({ sequence }) => sequence === 7)).toBe(true);
      expect(all.some(interrupted)).toBe(false);
    }
  });
});

describe('malformed input', () => {
  it('every truncation of a recorded datagram is read without throwing', () => {
    for (const dump of [LINKS, ADDRESSES, ROUTES]) {
      const datagram = Buffer.from(dump[0] as string, 'base64');
      const whole = messages(datagram).length;
      for (let length = 0; length < datagram.length; length += 3) {
        const found = messages(datagram.subarray(0, length));
        expect(found.length).toBeLessThanOrEqual(whole);
        for (const message of found) for (const read of [readLink, readAddress, readRoute]) read(message);
      }
    }
  });

  it('flipped bytes never throw, and rows keep their promises', () => {
    const dumps = [LINKS, ADDRESSES, ROUTES].map((dump) => Buffer.from(dump[0] as string, 'base64'));
    fc.assert(
      fc.property(
        fc.constantFrom(...dumps),
        fc.array(fc.tuple(fc.nat(4000), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 12 }),
        (original, edits) => {
          const datagram = Buffer.from(original);
          for (const [at, byte] of edits) datagram[at % datagram.length] = byte;
          for (const message of messages(datagram)) {
            readLink(message);
            dumpStep(message);
            const address = readAddress(message);
            if (address !== null) expect(address.prefix).toBeLessThanOrEqual(address.family === 4 ? 32 : 128);
            const route = readRoute(message);
            if (route !== null) expect(route.hops.length).toBeGreaterThan(0);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('arbitrary bytes never throw', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => messages(bytes).length <= bytes.length / 16));
  });

  it('tells errors of the kernel apart', () => {
    const error = (type: number, errno: number): Message => {
      const body = new DataView(new ArrayBuffer(20));
      body.setInt32(0, -errno, true);
      return { type, flags: 0, sequence: 1, body };
    };
    expect(dumpStep(error(2, 1))).toEqual({ kind: 'error', errno: 1 });
    expect(dumpStep(error(3, 105))).toEqual({ kind: 'error', errno: 105 });
    expect(dumpStep(error(2, 0))).toEqual({ kind: 'done' });
    expect(interrupted({ ...error(3, 0), flags: 0x10 })).toBe(true);
  });
});

it('a request is what rtnetlink(7) says', () => {
  const request = dumpRequest(RTM.GETROUTE, 9);
  const v = new DataView(request.buffer);
  expect([v.getUint32(0, true), v.getUint16(4, true), v.getUint16(6, true), v.getUint32(8, true)]).toEqual([
    32, 26, 0x301, 9,
  ]);
  expect(request.subarray(12).every((byte) => byte === 0)).toBe(true);
});
