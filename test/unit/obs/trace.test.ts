// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeFrame } from '../../../controller/obs/trace.ts';

const MACS = '020000000001 9a559a559a55';
const V4 = (protocol: string, length: string): string =>
  `0800 4500${length} 0000 4000 40${protocol} 0000 c0000205 c6336401`;
const V6 = (next: string, length: string): string =>
  `86dd 60000000 ${length} ${next}40 20010db8000000000000000000000005 20010db8000100000000000000000001`;
const frame = (hex: string): DataView => {
  const bytes = Buffer.from(`${MACS}${hex}`.replaceAll(' ', ''), 'hex');
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
};
const line = (hex: string, direction: 'from tap' | 'to tap' = 'from tap'): string => {
  const v = frame(hex);
  return describeFrame(direction, v, 0, v.byteLength);
};
const TCP = 'c001 0050 ffffffff 00000010 50 12 faf0 0000 0000';

describe('describeFrame', () => {
  it.each<[string, string]>([
    [
      `${V4('06', '002a')} ${TCP} 6869`,
      'TCP 192.0.2.5.49153 > 198.51.100.1.80: [S.] seq 4294967295 ack 16 win 64240 length 2',
    ],
    // Ethernet padding is no payload.
    [
      `${V4('06', '0028')} ${TCP} 000000000000`,
      'TCP 192.0.2.5.49153 > 198.51.100.1.80: [S.] seq 4294967295 ack 16 win 64240 length 0',
    ],
    [`${V4('11', '0020')} 0035 c000 000c 0000 61626364`, 'UDP 192.0.2.5.53 > 198.51.100.1.49152: length 4'],
    [`${V4('01', '001c')} 0800 0000 1234 0005`, 'ICMP 192.0.2.5 > 198.51.100.1: echo request id 4660 seq 5 length 8'],
    [`${V4('01', '001c')} 0303 0000 0000 0000`, 'ICMP 192.0.2.5 > 198.51.100.1: type 3 code 3 length 8'],
    [`${V4('2f', '0018')} 00000000`, 'IP protocol 47 192.0.2.5 > 198.51.100.1: length 4'],
    [`${V6('3a', '0008')} 8100 0000 0001 0002`, 'ICMPv6 2001:db8::5 > 2001:db8:1::1: echo reply id 1 seq 2 length 8'],
    [`${V6('3a', '0008')} 8500 0000 0000 0000`, 'ICMPv6 2001:db8::5 > 2001:db8:1::1: router solicitation length 8'],
    [`${V6('00', '0010')} 1100010400000000 0001 0002 0008 0000`, 'UDP 2001:db8::5.1 > 2001:db8:1::1.2: length 0'],
    [
      `${V6('2c', '0010')} 1100000100000000 0001 0002 0008 0000`,
      'IPv6 2001:db8::5 > 2001:db8:1::1: fragment, 56 bytes',
    ],
    ['0806 0001 0800 0604 0001 020000000001 c0000205 000000000000 c0000201', 'ARP who has 192.0.2.1 tell 192.0.2.5'],
    ['0806 0001 0800 0604 0002 020000000001 c0000205 9a559a559a55 c0000201', 'ARP 192.0.2.5 is at 02:00:00:00:00:01'],
    ['88cc 0000', 'EtherType 0x88cc, 16 bytes'],
    ['0800 45', 'IPv4 malformed, 1 bytes'],
    [`${V4('06', '0018')} 00500050`, 'TCP 192.0.2.5 > 198.51.100.1: malformed, 4 bytes'],
  ])('%s', (hex, text) => {
    expect(line(hex)).toBe(`from tap: ${text}`);
  });

  it('names the direction', () => {
    expect(line(`${V6('11', '0008')} 0001 0002 0008 0000`, 'to tap')).toBe(
      'to tap: UDP 2001:db8::5.1 > 2001:db8:1::1.2: length 0',
    );
  });

  it('takes every truncation and every flipped byte', () => {
    const samples = [
      `${V4('06', '002a')} ${TCP} 6869`,
      `${V4('01', '001c')} 0800 0000 1234 0005`,
      `${V6('00', '0010')} 1100010400000000 0001 0002 0008 0000`,
      '0806 0001 0800 0604 0001 020000000001 c0000205 000000000000 c0000201',
    ].map(frame);
    const direction = fc.constantFrom('from tap' as const, 'to tap' as const);
    fc.assert(
      fc.property(
        direction,
        fc.constantFrom(...samples),
        fc.nat(),
        fc.nat(255),
        fc.nat(),
        (side, sample, at, byte, cut) => {
          const bytes = new Uint8Array(sample.buffer.slice(sample.byteOffset, sample.byteOffset + sample.byteLength));
          bytes[at % bytes.length] = byte;
          const end = cut % (bytes.length + 1);
          // Nothing behind `end` exists, so reading there throws.
          const v = new DataView(bytes.buffer, 0, end);
          expect(describeFrame(side, v, 0, end)).toMatch(/^(from|to) tap: [ -~]+$/);
        },
      ),
      { numRuns: 3000 },
    );
  });
});
