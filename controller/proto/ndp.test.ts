// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { toHex } from '../../test/support/bytes.ts';
import * as guest from '../../test/support/guest-frames.ts';
import { GUEST_MAC, makeNetwork, OUR_MAC } from '../../test/support/network.ts';
import type { Network } from '../host/network.ts';
import { decodeList } from '../wire/dns-name.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const out = await import('../link/out.ts');
const { tapLink } = await import('../link/tap-link.ts');
const station = await import('../link/station.ts');
const { dropCount } = await import('../obs/drops.ts');
const ndp = await import('./ndp.ts');

const LL = 'fe80::5eff:fe00:5302';
const OURS = 'fe80::1';
const ALL_ROUTERS = 'ff02::2';
const SOLICITED_NODE = 'ff02::1:ff00:1';
const SOURCE_OPTION = [1, 1, ...guest.mac(GUEST_MAC)];
const RS = [133, 0, 0, 0, 0, 0, 0, 0];
const ns = (target: string, options: readonly number[] = SOURCE_OPTION): number[] => [
  ...[135, 0, 0, 0, 0, 0, 0, 0],
  ...guest.ip6(target),
  ...options,
];
const icmp = (src: string, dst: string, body: readonly number[], hopLimit = 255): number[] =>
  guest.packet6(src, dst, 58, hopLimit, body, 2);

const L4 = guest.FRAME_AT + 54;
const sendFrame = (frame: readonly number[], vnetFlags = 0): Buffer[] => {
  fake.tapFrames.length = 0;
  const end = guest.place(frame, vnetFlags);
  ndp.handle(guest.FRAME_AT, guest.FRAME_AT + 14, L4, end);
  out.flush();
  return [...fake.tapFrames];
};
const configure = (change: Partial<Network> = {}): void => {
  const network = makeNetwork(change);
  station.configure(network);
  ndp.configure(network);
};
/** Sum over pseudo-header and message of a frame from us: 0xffff when its checksum is right. */
const sumOf = (frame: Buffer): number =>
  fake.checksumOf(
    Uint8Array.from([...frame.subarray(22, 54), ...guest.u32(frame.length - 54), 0, 0, 0, 58, ...frame.subarray(54)]),
  );
/** Options of a router advertisement: type → data behind type and length. */
const optionsOf = (frame: Buffer): Map<number, Buffer> => {
  const found = new Map<number, Buffer>();
  for (let p = 54 + 16; p < frame.length; p += (frame[p + 1] as number) * 8) {
    found.set(frame[p] as number, frame.subarray(p + 2, p + (frame[p + 1] as number) * 8));
  }
  return found;
};
const solicit = (): Buffer => {
  const [ra] = sendFrame(icmp(LL, ALL_ROUTERS, [...RS, ...SOURCE_OPTION]));
  if (ra === undefined) throw new Error('no router advertisement');
  return ra;
};

beforeEach(() => {
  fake.reset();
  out.attach(tapLink(7, 12));
  configure();
});

describe('neighbour solicitation', () => {
  test.each([OURS, 'fe80::99', '2001:db8:1:2::99', '2001:db8:ffff::1'])('%s is at our MAC', (target) => {
    const [frame] = sendFrame(icmp(LL, SOLICITED_NODE, ns(target)));
    const body = [136, 0, 0, 0, 0xe0, 0, 0, 0, ...guest.ip6(target), 2, 1, ...guest.mac(OUR_MAC)];
    const packet = guest.packet6(OURS, LL, 58, 255, body, 2).slice(14);
    const expected = guest.ethernet(0x86dd, packet, GUEST_MAC, OUR_MAC);
    expect(toHex(frame ?? new Uint8Array())).toBe(toHex(Uint8Array.from(expected)));
  });
  test("the guest's own addresses are not: those given, those seen, and the one that asks", () => {
    expect(sendFrame(icmp(LL, SOLICITED_NODE, ns('2001:db8:1:2:a::10')))).toEqual([]);
    expect(sendFrame(icmp(LL, SOLICITED_NODE, ns(LL)))).toEqual([]);
    station.see6(0x20010db8, 0x00010002, 0, 0x77);
    expect(sendFrame(icmp(LL, SOLICITED_NODE, ns('2001:db8:1:2::77')))).toEqual([]);
  });
  test('duplicate address detection finds our address only (RFC 4862 §5.4.3)', () => {
    for (const target of ['2001:db8:1:2:a::10', '2001:db8:1:2::1234', LL]) {
      expect(sendFrame(icmp('::', SOLICITED_NODE, ns(target, [])))).toEqual([]);
    }
    const [frame] = sendFrame(icmp('::', SOLICITED_NODE, ns(OURS, [])));
    expect(frame?.subarray(0, 6).toString('hex')).toBe('333300000001');
    expect(frame?.subarray(38, 54)).toEqual(Buffer.from(guest.ip6('ff02::1')));
    // Not solicited, but ours: router and override.
    expect(frame?.[58]).toBe(0xa0);
    expect(frame === undefined ? 0 : sumOf(frame)).toBe(0xffff);
  });
  test('what the guest is about to take is where it is from then on; of our own address it only asks', () => {
    const words = (get: (i: number) => number): number[] => [0, 1, 2, 3].map(get);
    const assigned = words(station.guest6Word);
    sendFrame(icmp('::', SOLICITED_NODE, ns(OURS, [])));
    expect(words(station.guest6Word)).toEqual(assigned);
    sendFrame(icmp('::', SOLICITED_NODE, ns('2001:db8:1:2::1234', [])));
    sendFrame(icmp('::', SOLICITED_NODE, ns('fe80::1234', [])));
    expect(words(station.guest6Word)).toEqual([0x20010db8, 0x00010002, 0, 0x1234]);
    expect(station.guestLinkLocal6Word(3)).toBe(0x1234);
  });

  test.each<[string, number[]]>([
    ['a hop limit below 255', icmp(LL, SOLICITED_NODE, ns(OURS), 254)],
    ['a code', icmp(LL, SOLICITED_NODE, [135, 1, ...ns(OURS).slice(2)])],
    ['a multicast target', icmp(LL, SOLICITED_NODE, ns('ff02::1'))],
    ['an option of length 0', icmp(LL, SOLICITED_NODE, ns(OURS, [1, 0, 0, 0, 0, 0, 0, 0]))],
    ['an option that runs over the end', icmp(LL, SOLICITED_NODE, ns(OURS, [1, 2, 0, 0, 0, 0, 0, 0]))],
    ['half an option', icmp(LL, SOLICITED_NODE, ns(OURS, [1, 1, 0, 0]))],
    ['a source option but no source', icmp('::', SOLICITED_NODE, ns(OURS))],
    ['no source, to one host only', icmp('::', OURS, ns(OURS, []))],
    ['no source, to a group that is no solicited-node one', icmp('::', 'ff02::1', ns(OURS, []))],
    ['the unspecified address as target', icmp(LL, SOLICITED_NODE, ns('::'))],
    ['the loopback address as target', icmp(LL, SOLICITED_NODE, ns('::1'))],
  ])('with %s is dropped (RFC 4861 §7.1.1)', (_what, frame) => {
    const before = dropCount('ndp-malformed');
    expect(sendFrame(frame)).toEqual([]);
    expect(dropCount('ndp-malformed')).toBe(before + 1);
  });
  test('with a wrong checksum is dropped, unless the virtio-net header vouches for it', () => {
    const frame = guest.packet6(LL, SOLICITED_NODE, 58, 255, ns(OURS), -1);
    const before = dropCount('icmp-checksum');
    expect(sendFrame(frame)).toEqual([]);
    expect(dropCount('icmp-checksum')).toBe(before + 1);
    expect(sendFrame(frame, 2)).toHaveLength(1);
  });
  test('truncated at any byte is dropped', () => {
    const body = ns(OURS);
    // After 24 bytes the message is whole, and what follows is no whole option.
    for (let n = 8; n < body.length; n++) {
      if (n !== 24) expect(sendFrame(icmp(LL, SOLICITED_NODE, body.slice(0, n)))).toEqual([]);
    }
  });
});

describe('router advertisement', () => {
  test('answers a solicitation, to the one that asked', () => {
    const ra = solicit();
    expect(ra.subarray(0, 6)).toEqual(Buffer.from(guest.mac(GUEST_MAC)));
    expect(ra.subarray(22, 38)).toEqual(Buffer.from(guest.ip6(OURS)));
    expect(ra.subarray(38, 54)).toEqual(Buffer.from(guest.ip6(LL)));
    expect(ra[21]).toBe(255);
    expect(sumOf(ra)).toBe(0xffff);
    // Type, code, checksum, hop limit 64, M, lifetime 65535 s, timers left to the host.
    expect(ra.subarray(54, 70).toString('hex')).toMatch(/^8600....4080ffff0000000000000000$/);
  });
  test('answers one from :: to all nodes', () => {
    const [ra] = sendFrame(icmp('::', ALL_ROUTERS, RS));
    expect(ra?.subarray(0, 6).toString('hex')).toBe('333300000001');
    expect(ra?.subarray(38, 54)).toEqual(Buffer.from(guest.ip6('ff02::1')));
  });
  test('carries MAC, MTU, prefix without host bits, resolvers and search list', () => {
    const options = optionsOf(solicit());
    expect([...options.keys()]).toEqual([1, 5, 3, 25, 31]);
    expect(options.get(1)?.toString('hex')).toBe('02005e005301');
    expect(options.get(5)?.toString('hex')).toBe('00000000fff0');
    expect(options.get(3)?.toString('hex')).toBe(`40c0ffffffffffffffff00000000${'20010db800010002'}0000000000000000`);
    expect(options.get(25)?.subarray(0, 6).toString('hex')).toBe('0000ffffffff');
    expect([...(options.get(25)?.subarray(6) ?? [])]).toEqual([
      ...guest.ip6('2001:db8:53::1'),
      ...guest.ip6('2001:db8:53::2'),
    ]);
    const list = options.get(31)?.subarray(6) ?? Buffer.alloc(0);
    expect(list.length % 8).toBe(0);
    expect(decodeList(list)?.filter((name) => name !== '')).toEqual(['example.org', 'lab.example.org']);
  });
  test('has a search list also when there is no resolver, and neither when they are not told', () => {
    const v6 = { ...(makeNetwork().v6 as NonNullable<Network['v6']>), dns: [] };
    configure({ v6 });
    expect([...optionsOf(solicit()).keys()]).toEqual([1, 5, 3, 31]);
    configure({ tellDns: false, tellSearch: false });
    expect([...optionsOf(solicit()).keys()]).toEqual([1, 5, 3]);
  });
  test('says M only when there is an address to get by DHCPv6', () => {
    configure({ enable: { ...makeNetwork().enable, dhcpv6: false } });
    expect(solicit()[59]).toBe(0);
    configure({ v6: { ...(makeNetwork().v6 as NonNullable<Network['v6']>), addresses: [] } });
    expect(solicit()[59]).toBe(0);
    expect(optionsOf(solicit()).has(3)).toBe(false);
  });
  test('says no MTU when none is told, or none that IPv6 could use', () => {
    for (const mtu of [0, 1279]) {
      configure({ mtu });
      expect(optionsOf(solicit()).has(5)).toBe(false);
    }
  });
  test('never exceeds 1280 bytes', () => {
    const dns = Array.from({ length: 100 }, (_, i) => `2001:db8::${i.toString(16)}`);
    const search = Array.from({ length: 50 }, (_, i) => `${'x'.repeat(60)}.n${i}.example`);
    configure({ v6: { ...(makeNetwork().v6 as NonNullable<Network['v6']>), dns: dns.slice(0, 5) }, search });
    expect(solicit().length).toBeLessThanOrEqual(14 + 1280);
    expect(optionsOf(solicit()).has(31)).toBe(true);
    configure({ v6: { ...(makeNetwork().v6 as NonNullable<Network['v6']>), dns }, search });
    expect(solicit().length).toBeLessThanOrEqual(14 + 1280);
  });
  test('does not come when it is off', () => {
    configure({ enable: { ...makeNetwork().enable, ra: false } });
    expect(sendFrame(icmp(LL, ALL_ROUTERS, RS))).toEqual([]);
    expect(ndp.nextDelay(0)).toBe(-1);
    ndp.tick(1e9);
    out.flush();
    expect(fake.tapFrames).toEqual([]);
  });
  test('comes unasked at start and every 200 to 600 s', () => {
    expect(ndp.nextDelay(5)).toBe(0);
    ndp.tick(5);
    out.flush();
    expect(fake.tapFrames).toHaveLength(1);
    expect(fake.tapFrames[0]?.subarray(38, 54)).toEqual(Buffer.from(guest.ip6('ff02::1')));
    const delay = ndp.nextDelay(5);
    expect(delay).toBeGreaterThanOrEqual(200_000);
    expect(delay).toBeLessThanOrEqual(600_000);
    ndp.tick(5 + delay - 1);
    out.flush();
    expect(fake.tapFrames).toHaveLength(1);
    ndp.tick(5 + delay);
    out.flush();
    expect(fake.tapFrames).toHaveLength(2);
  });
});

describe("the guest's advertisement", () => {
  const na = (target: string, flags = 0x20, options: readonly number[] = []): number[] => [
    ...[136, 0, 0, 0, flags, 0, 0, 0],
    ...guest.ip6(target),
    ...options,
  ];
  const OWN = '2001:db8:1:2::88';
  const isAskedFor = (): boolean => sendFrame(icmp(LL, SOLICITED_NODE, ns(OWN))).length > 0;

  test('unsolicited or not, names an address of its own, which is no longer at our MAC', () => {
    expect(isAskedFor()).toBe(true);
    expect(sendFrame(icmp(LL, 'ff02::1', na(OWN)))).toEqual([]);
    expect(isAskedFor()).toBe(false);
    configure();
    sendFrame(icmp(OWN, OURS, na(OWN, 0x60)));
    expect(isAskedFor()).toBe(false);
  });
  test.each<[string, number[]]>([
    ['a hop limit below 255', icmp(LL, 'ff02::1', na(OWN), 254)],
    ['a code', icmp(LL, 'ff02::1', [136, 1, ...na(OWN).slice(2)])],
    ['less than 24 bytes', icmp(LL, 'ff02::1', na(OWN).slice(0, 23))],
    ['the solicited flag, to a group', icmp(LL, 'ff02::1', na(OWN, 0x60))],
    ['a group as target', icmp(LL, 'ff02::1', na('ff02::2'))],
    ['an option of length 0', icmp(LL, 'ff02::1', na(OWN, 0x20, [2, 0, 0, 0, 0, 0, 0, 0]))],
  ])('with %s is dropped (RFC 4861 §7.1.2)', (_what, frame) => {
    const before = dropCount('ndp-malformed');
    sendFrame(frame);
    expect(dropCount('ndp-malformed')).toBe(before + 1);
    expect(isAskedFor()).toBe(true);
  });
});

test("router advertisements and redirects of the guest's tell us nothing", () => {
  for (const type of [134, 137]) {
    expect(sendFrame(icmp(LL, 'ff02::1', [type, 0, 0, 0, 0, 0, 0, 0, ...new Array<number>(32).fill(0)]))).toEqual([]);
  }
});

describe('a network that names its neighbours and lifetimes', () => {
  const neighbours = [
    { address: 'fd00::2', mac: '52:56:00:00:00:02' },
    { address: 'fd00::3', mac: '52:56:00:00:00:03' },
  ];
  beforeEach(() => {
    const { v6, enable } = makeNetwork();
    const advertised = { prefix: 'fd00::', validS: 86_400, preferredS: 14_400, routerS: 1800 };
    configure({
      v6: v6 && { ...v6, addresses: [], dns: ['fd00::3'], neighbours, advertised },
      enable: { ...enable, dhcpv6: false },
    });
  });
  test('answers for them alone, each with its own MAC', () => {
    for (const { address, mac } of neighbours) {
      const [answer] = sendFrame(icmp(LL, SOLICITED_NODE, ns(address)));
      expect(answer?.subarray(-6).toString('hex')).toBe(mac.replaceAll(':', ''));
      expect(sendFrame(icmp('::', SOLICITED_NODE, ns(address, [])))).toHaveLength(1);
    }
    for (const other of ['fd00::4', 'fe80::9', '2001:db8::1'])
      expect(sendFrame(icmp(LL, SOLICITED_NODE, ns(other)))).toEqual([]);
  });
  test('advertises its prefix for as long', () => {
    const ra = solicit();
    expect([ra[54 + 5], ra.readUInt16BE(54 + 6)]).toEqual([0, 1800]);
    const prefix = optionsOf(ra).get(3);
    expect([prefix?.[0], prefix?.readUInt32BE(2), prefix?.readUInt32BE(6)]).toEqual([64, 86_400, 14_400]);
    expect(prefix?.subarray(14).toString('hex')).toBe('fd000000000000000000000000000000');
    expect(optionsOf(ra).get(25)?.subarray(6).toString('hex')).toBe('fd000000000000000000000000000003');
  });
});
