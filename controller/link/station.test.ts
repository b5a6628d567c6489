// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, test } from 'vitest';
import { bytesOf, toHex } from '../../test/support/bytes.ts';
import { GUEST_MAC, makeNetwork, OUR_MAC } from '../../test/support/network.ts';
import { parseIpv4, parseIpv6 } from '../host/address-text.ts';
import { ipv4Text, ipv6Text, macText } from '../wire/addr.ts';
import * as checksum from '../wire/checksum.ts';
import * as eth from '../wire/ethernet.ts';
import * as station from './station.ts';

const frameFrom = (high: number, low: number): DataView => {
  const v = new DataView(new ArrayBuffer(14));
  eth.setSrc(v, 0, high, low);
  return v;
};
const guestMac = (): string => macText(station.guestMacHigh(), station.guestMacLow());
const words = (get: (i: number) => number): string => ipv6Text(get(0), get(1), get(2), get(3));
const see6 = (text: string): void => station.see6(...parseIpv6(text));

beforeEach(() => station.configure(makeNetwork()));

describe('the guest', () => {
  test('is first what it was given', () => {
    expect(guestMac()).toBe(GUEST_MAC);
    expect(ipv4Text(station.guest4Word())).toBe('192.0.2.10');
    expect(words(station.guest6Word)).toBe('2001:db8:1:2:a::10');
    expect(words(station.guestLinkLocal6Word)).toBe('::');
    expect(words(station.likelyLinkLocal6Word)).toBe('fe80::5eff:fe00:5302');
  });
  test('is where frames come from', () => {
    station.learn(frameFrom(0x0200, 0x5e005377), 0);
    expect(guestMac()).toBe('02:00:5e:00:53:77');
  });
  test.each([
    ['a group address', 0x0300, 1],
    ['zero', 0, 0],
    ['ours', 0x0200, 0x5e005301],
  ])('is not where a frame from %s comes from', (_what, high, low) => {
    station.learn(frameFrom(high, low), 0);
    expect(guestMac()).toBe(GUEST_MAC);
  });
  test('knows the broadcast address of each of its subnets, and takes no other address for one', () => {
    const yes = (a: string) => station.isSubnetBroadcast4(parseIpv4(a));
    expect(['192.0.2.255', '192.0.2.254', '0.0.0.0', '192.0.2.10'].map(yes)).toEqual([true, false, false, false]);
  });
  test('has the last IPv4 address it used, and those it was given', () => {
    station.see4(parseIpv4('192.0.2.99'));
    expect(ipv4Text(station.guest4Word())).toBe('192.0.2.99');
    expect(['192.0.2.99', '192.0.2.10', '192.0.2.11'].map((a) => station.isGuest4(parseIpv4(a)))).toEqual([
      true,
      true,
      false,
    ]);
    expect(station.isAssigned4(parseIpv4('192.0.2.99'))).toBe(false);
  });
  test.each(['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255', '192.0.2.1'])('does not become %s', (text) => {
    station.see4(parseIpv4(text));
    expect(ipv4Text(station.guest4Word())).toBe('192.0.2.10');
  });
  test('keeps the addresses it used, up to 64 of a family; the first go first', () => {
    const a4 = (n: number): number => 0xc0000200 | n | 0;
    for (let n = 100; n < 165; n++) {
      station.see4(a4(n));
      station.see6(0x20010db8, 0, 0, n);
    }
    const known = (n: number): boolean[] => [station.isGuest4(a4(n)), station.isGuest6(0x20010db8, 0, 0, n)];
    expect([known(99), known(100), known(101), known(164)].map(String)).toEqual([
      'false,false',
      'false,false',
      'true,true',
      'true,true',
    ]);
    // One that is used again and again takes no other's place.
    for (let i = 0; i < 200; i++) {
      station.see4(a4(164 - (i & 1)));
      station.see6(0x20010db8, 0, 0, 164 - (i & 1));
    }
    expect(known(101)).toEqual([true, true]);
    station.configure(makeNetwork());
    expect(known(164)).toEqual([false, false]);
  });
  test('has a link-local and another IPv6 address at the same time', () => {
    see6('fe80::77');
    see6('2001:db8:1:2::77');
    expect(words(station.guestLinkLocal6Word)).toBe('fe80::77');
    expect(words(station.likelyLinkLocal6Word)).toBe('fe80::77');
    expect(words(station.guest6Word)).toBe('2001:db8:1:2::77');
    for (const a of ['fe80::77', '2001:db8:1:2::77', '2001:db8:1:2:a::10']) {
      expect(station.isGuest6(...parseIpv6(a))).toBe(true);
    }
    expect(station.isGuest6(...parseIpv6('fe80::78'))).toBe(false);
  });
  test.each(['::', '::1', 'ff02::1', 'fe80::1'])('does not become %s', (text) => {
    see6(text);
    expect(words(station.guest6Word)).toBe('2001:db8:1:2:a::10');
    expect(words(station.guestLinkLocal6Word)).toBe('::');
  });
  test('without a family has no address of it', () => {
    station.configure(makeNetwork({ v4: null, v6: null }));
    expect([station.guest4Word(), station.our4Word(), station.isGuest4(0)]).toEqual([0, 0, false]);
    expect(words(station.our6Word)).toBe('::');
  });
  test('of text that is no address is refused', () => {
    expect(() => station.configure(makeNetwork({ ourMac: 'nonsense' }))).toThrow(RangeError);
  });
});

describe('headers', () => {
  test('Ethernet: from us to the guest', () => {
    const v = new DataView(new ArrayBuffer(14));
    station.ethernet(v, 0, eth.IPV6);
    expect(toHex(bytesOf(v))).toBe(`${GUEST_MAC}${OUR_MAC}86dd`.replaceAll(':', ''));
  });
  test('IPv4: DF, identification 0, a right checksum', () => {
    const v = new DataView(new Uint8Array(20).fill(0xff).buffer);
    station.ipv4Header(v, 0, 120, 17, parseIpv4('198.51.100.7'), parseIpv4('192.0.2.10'), 61, 0xb8);
    expect(toHex(bytesOf(v))).toMatch(/^45b80078000040003d11....c6336407c000020a$/);
    expect(checksum.sum(v, 0, 20, 0)).toBe(0xffff);
  });
  test('IPv6: every field', () => {
    const v = new DataView(new Uint8Array(40).fill(0xff).buffer);
    station.ipv6Header(v, 0, 99, 6, ...parseIpv6('2001:db8::1'), ...parseIpv6('fe80::2'), 63, 0x12, 0xabcde);
    expect(toHex(bytesOf(v))).toBe('612abcde0063063f20010db8000000000000000000000001fe800000000000000000000000000002');
  });
});

describe('a virtual machine', () => {
  const broadcast = { guestMac: 'ff:ff:ff:ff:ff:ff' };
  test('is everybody, without a link-local address, until its first frame', () => {
    station.configure(makeNetwork(broadcast));
    expect(guestMac()).toBe('ff:ff:ff:ff:ff:ff');
    expect(words(station.likelyLinkLocal6Word)).toBe('::');
    station.learn(frameFrom(0x0200, 0x5e005302), 0);
    expect([guestMac(), station.several]).toEqual([GUEST_MAC, false]);
    expect(words(station.likelyLinkLocal6Word)).toBe('fe80::5eff:fe00:5302');
  });
  test.each([
    ['a group address', 0x0300, 1],
    ['zero', 0, 0],
    ['ours', 0x9a55, 0x9a559a55],
  ])('stays unknown after a frame from %s', (_what, high, low) => {
    station.configure(makeNetwork({ ...broadcast, ourMac: '9a:55:9a:55:9a:55' }));
    station.learn(frameFrom(high, low), 0);
    expect(guestMac()).toBe('ff:ff:ff:ff:ff:ff');
  });
});

test('a MAC that is named as ours and turns out to be the guest’s is the guest’s; ours is the usual one, for good', () => {
  const ours = (): string => macText(station.ourMacHigh(), station.ourMacLow());
  station.configure(makeNetwork({ guestMac: 'ff:ff:ff:ff:ff:ff', ourMac: GUEST_MAC }));
  station.learn(frameFrom(0x0200, 0x5e005302), 0);
  expect([guestMac(), ours(), station.several]).toEqual([GUEST_MAC, '9a:55:9a:55:9a:55', false]);
  station.learn(frameFrom(0x9a55, 0x9a559a55), 0);
  expect([guestMac(), ours()]).toEqual([GUEST_MAC, '9a:55:9a:55:9a:55']);
});

describe('an address that the command line names', () => {
  const { v4, v6 } = makeNetwork();
  beforeEach(() =>
    station.configure(makeNetwork({ v4: v4 && { ...v4, pinned: true }, v6: v6 && { ...v6, pinned: true } })),
  );
  test('is where inbound flows go, whatever else is heard', () => {
    station.see4(parseIpv4('192.0.2.99'));
    see6('2001:db8:1:2::99');
    see6('fe80::99');
    expect(ipv4Text(station.guest4Word())).toBe('192.0.2.10');
    expect(words(station.guest6Word)).toBe('2001:db8:1:2:a::10');
    expect(words(station.guestLinkLocal6Word)).toBe('fe80::99');
  });
  test('does not make the others ours', () => {
    station.see4(parseIpv4('192.0.2.99'));
    see6('2001:db8:1:2::99');
    expect([station.isGuest4(parseIpv4('192.0.2.99')), station.isGuest6(...parseIpv6('2001:db8:1:2::99'))]).toEqual([
      true,
      true,
    ]);
  });
});

describe('several stations on the link', () => {
  const A = [0x0200, 0xa] as const;
  const B = [0x0200, 0xb] as const;
  const heard = (mac: readonly [number, number], ...addresses: string[]): void => {
    station.learn(frameFrom(...mac), 0);
    for (const a of addresses)
      if (a.includes(':')) see6(a);
      else station.see4(parseIpv4(a));
  };
  /** Where a packet to `text` goes. */
  const goesTo = (text: string): string => {
    const v = new DataView(new ArrayBuffer(60));
    const [d0, d1, d2, d3] = text.includes(':') ? parseIpv6(text) : [0, 0, 0, parseIpv4(text)];
    station.ethernet(v, 0, text.includes(':') ? eth.IPV6 : eth.IPV4);
    if (text.includes(':')) station.ipv6Header(v, 14, 0, 17, 0, 0, 0, 1, d0, d1, d2, d3, 64, 0, 0);
    else station.ipv4Header(v, 14, 20, 17, 1, d3, 64, 0);
    if (station.several) station.direct(v, 0);
    return macText(v.getUint16(0), v.getInt32(2));
  };
  const [a, b] = [macText(...A), macText(...B)];
  beforeEach(() => {
    station.configure(makeNetwork({ guestMac: 'ff:ff:ff:ff:ff:ff' }));
    heard(A, '192.0.2.10', '2001:db8:1:2:a::10', 'fe80::a');
  });

  test('one alone needs no looking up', () => expect([station.several, goesTo('192.0.2.77')]).toEqual([false, a]));
  test('each address is at the MAC it was last heard from', () => {
    heard(B, '192.0.2.20', '2001:db8::20');
    const all = ['192.0.2.10', '192.0.2.20', '2001:db8:1:2:a::10', '2001:db8::20', 'fe80::a'];
    expect(all.map(goesTo)).toEqual([a, b, a, b, a]);
    heard(A, '192.0.2.20');
    expect(goesTo('192.0.2.20')).toBe(a);
  });
  test('what nobody was heard to have goes where the last frame came from', () => {
    heard(B);
    expect(['192.0.2.77', '2001:db8::77', 'ff02::1'].map(goesTo)).toEqual([b, b, b]);
  });
  test('a guest that comes back with another MAC has its address there', () => {
    heard(B, '192.0.2.10');
    expect(goesTo('192.0.2.10')).toBe(b);
  });
  test('a new connection forgets who had what, not the MAC', () => {
    heard(B, '192.0.2.20');
    station.reconnected();
    expect([station.several, goesTo('192.0.2.10')]).toEqual([false, b]);
    heard(A, '192.0.2.20');
    expect(['192.0.2.10', '192.0.2.20'].map(goesTo)).toEqual([a, a]);
  });
});
