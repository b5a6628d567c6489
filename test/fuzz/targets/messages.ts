// SPDX-License-Identifier: Apache-2.0
/** One protocol at a time, its headers given: the bytes of each step `data` are a message of DHCP, DHCPv6, ICMPv6, ARP, or TCP options. */
import { ALL } from '../repair.ts';
import { type Input, step } from '../steps.ts';
import type { Target } from '../target.ts';
import { play } from '../world.ts';

const GUEST_MAC = '02005e005302';
const OUR_MAC = '02005e005301';
const VNET = '000000000000000000000000';
const header4 = (protocol: string, src: string, dst: string): string =>
  `${VNET}${OUR_MAC}${GUEST_MAC}0800` + `4500000000000000ff${protocol}0000${src}${dst}`;
const header6 = (next: string, src: string, dst: string): string =>
  `${VNET}${OUR_MAC}${GUEST_MAC}86dd` + `600000000000${next}ff${src}${dst}`;
const LINK_LOCAL = 'fe800000000000000000000000000010';
const ALL_ROUTERS = 'ff020000000000000000000000000002';

const wrapped = (name: string, hex: string, words: readonly string[]): Target => {
  const head = Buffer.from(hex, 'hex');
  return {
    name,
    run: (input: Input) =>
      play(
        input.map((s) => (s.verb === 'data' ? step('frame', ALL | (s.arg & 16), Buffer.concat([head, s.bytes])) : s)),
      ),
    words: words.map((word) => Buffer.from(word, 'hex')),
  };
};

export const dhcpv4 = wrapped(
  'dhcpv4',
  `${header4('11', '00000000', 'ffffffff')}0044004300000000`,
  // Message types, requested address, server, parameters, sizes, client FQDN, overload, cookie.
  [
    '350101',
    '350103',
    '350107',
    '350108',
    '3204c000020a',
    '3604c0000201',
    '370401030679',
    '39020240',
    '5103010000',
    '340103',
    '63825363',
    'ff',
  ],
);
export const dhcpv6 = wrapped(
  'dhcpv6',
  `${header6('11', LINK_LOCAL, 'ff020000000000000000000000010002')}0222022300000000`,
  [
    '01',
    '0001000a00030001020000005302',
    '0002000a00030001020000005301',
    '0003000c000000010000000000000000',
    '0005001820010db800010002000a0000000000100000000000000000',
    '000400040000000a',
    '000600040017001800190027',
    '0019000c',
    '000e0000',
    '0027000300',
  ],
);
export const ndp = wrapped('ndp', header6('3a', LINK_LOCAL, ALL_ROUTERS), [
  '8500000000000000',
  '8700000000000000',
  'fe800000000000000000000000000001',
  '0101020000005302',
  '0201020000005302',
  '0000',
]);
export const arp = wrapped('arp', `${VNET}ffffffffffff${GUEST_MAC}0806`, [
  '0001080006040001',
  'c0000201',
  'c000020a',
  GUEST_MAC,
]);
