// SPDX-License-Identifier: Apache-2.0
/**
 * An exchange of the pesto protocol, version 2, octet by octet as the format is published; none of it is made by our own
 * codec. A server tells two tables with every kind of rule, a client sends them back changed, a viewer sends nothing.
 */
import type { Tables } from '../../controller/fwd/rule.ts';

const ANY = '00'.repeat(16);
const v4 = (hex: string): string => `00000000000000000000ffff${hex}`;
const text = (value: string, octets: number): string =>
  Buffer.from(value, 'latin1')
    .toString('hex')
    .padEnd(octets * 2, '0');

/** address, target, interface, first, last, to, protocol, flags */
const RULES = {
  /** TCP [*]:18080  =>  80 */
  anyMapped: `${ANY}${ANY}${text('', 16)}46a046a000500601`,
  /** TCP [::1]:18081  =>  18081 */
  loopback6: `${'00'.repeat(15)}01${ANY}${text('', 16)}46a146a146a10600`,
  /** TCP [*]%lo:18082  =>  18082 */
  interface: `${ANY}${ANY}${text('lo', 16)}46a246a246a20601`,
  /** TCP [*]:18100-18200  =>  18100-18200  (auto-scan) */
  scanned: `${ANY}${ANY}${text('', 16)}46b4471846b40605`,
  /** UDP [127.0.0.1]:18090  =>  18090 */
  udp4: `${v4('7f000001')}${ANY}${text('', 16)}46aa46aa46aa1100`,
  /** TCP [0.0.0.0]:28600  =>  10.0.2.15:81 */
  target4: `${v4('00000000')}${v4('0a00020f')}${text('', 16)}6fb86fb800510600`,
  /** TCP [::]:18300  =>  fd00::1:8300 */
  target6: `${ANY}fd00${'00'.repeat(13)}01${text('', 16)}477c477c206c0600`,
  /** TCP [*]%lo:1-32767  =>  1-32767  (best effort) (auto-scan) */
  bestEffort: `${ANY}${ANY}${text('lo', 16)}00017fff00010607`,
} as const;

/** magic "basil:s" and a NUL, version 2, 128 octets of name, 16 of interface name */
const HELLO = '626173696c3a7300' + '00000002' + '00000080' + '00000010';
const ALL_CAPS = '0000003f';
const HOST = [
  RULES.anyMapped,
  RULES.loopback6,
  RULES.interface,
  RULES.scanned,
  RULES.udp4,
  RULES.target4,
  RULES.target6,
];
const hex = (...parts: readonly string[]): Buffer => Buffer.from(parts.join(''), 'hex');

export const SERVER_BYTES = hex(
  HELLO,
  '01',
  text('HOST', 128),
  ALL_CAPS,
  '00000007',
  ...HOST,
  '03',
  text('SPLICE', 128),
  ALL_CAPS,
  '00000001',
  RULES.bestEffort,
  '00',
);

const base = { interface: '', target: '', weak: false, scan: false } as const;
export const SERVER_TABLES: Tables = {
  host: [
    { ...base, protocol: 'tcp', address: '', first: 18_080, last: 18_080, to: 80 },
    { ...base, protocol: 'tcp', address: '::1', first: 18_081, last: 18_081, to: 18_081 },
    { ...base, protocol: 'tcp', address: '', interface: 'lo', first: 18_082, last: 18_082, to: 18_082 },
    { ...base, protocol: 'tcp', address: '', first: 18_100, last: 18_200, to: 18_100, scan: true },
    { ...base, protocol: 'udp', address: '127.0.0.1', first: 18_090, last: 18_090, to: 18_090 },
    { ...base, protocol: 'tcp', address: '0.0.0.0', target: '10.0.2.15', first: 28_600, last: 28_600, to: 81 },
    { ...base, protocol: 'tcp', address: '::', target: 'fd00::1', first: 18_300, last: 18_300, to: 8300 },
  ],
  splice: [
    { ...base, protocol: 'tcp', address: '', interface: 'lo', first: 1, last: 32_767, to: 1, weak: true, scan: true },
  ],
};
export const SERVER_CAPS = 0x3f;

/** What pesto shows of it; the blank at the ends is the original's. */
export const LISTING = `passt/pasta configuration (PATH)
  HOST
    TCP [*]:18080  =>  80${' '}
    TCP [::1]:18081  =>  18081${' '}
    TCP [*]%lo:18082  =>  18082${' '}
    TCP [*]:18100-18200  =>  18100-18200  (auto-scan)
    UDP [127.0.0.1]:18090  =>  18090${' '}
    TCP [0.0.0.0]:28600  =>  10.0.2.15:81${' '}
    TCP [::]:18300  =>  fd00::1:8300${' '}
  SPLICE
    TCP [*]%lo:1-32767  =>  1-32767  (best effort) (auto-scan)
`;

/** `pesto -D -u 127.0.0.1/18090`, as a client of the original sends it: both tables whole, and the end. */
export const CLIENT_BYTES = hex(
  '01',
  '00000006',
  ...HOST.filter((rule) => rule !== RULES.udp4),
  '03',
  '00000001',
  RULES.bestEffort,
  '00',
);
export const CLIENT_TABLES: Tables = {
  host: SERVER_TABLES.host.filter(({ protocol }) => protocol === 'tcp'),
  splice: SERVER_TABLES.splice,
};
/** `pesto -C HOST`: HOST is not sent, SPLICE is. */
export const CLEARED_BYTES = hex('03', '00000001', RULES.bestEffort, '00');
