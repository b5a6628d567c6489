// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const udp = await import('../../../test/support/udp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const { dropCount } = await import('../../obs/drops.ts');
const flows = await import('../../flow/table.ts');

beforeEach(udp.begin);
afterEach(udp.closeAll);

describe('what a guest may not send', () => {
  const dropped = (reason: Parameters<typeof dropCount>[0], f: () => void): void => {
    const before = dropCount(reason);
    const flowsBefore = flows.count(flows.FLOW_UDP);
    udp.batch(f);
    expect(dropCount(reason)).toBe(before + 1);
    expect(flows.count(flows.FLOW_UDP)).toBe(flowsBefore);
  };
  test('a wrong checksum', () => dropped('udp-checksum', () => udp.datagram('x', { checksum: 0x1234 })));
  test('no checksum over IPv6', () => dropped('udp-checksum', () => udp.datagram('x', { v4: false, checksum: 0 })));
  test('a length beyond the packet', () => dropped('udp-malformed', () => udp.datagram('x', { length: 10 })));
  test('a length shorter than the header', () => dropped('udp-malformed', () => udp.datagram('x', { length: 7 })));
  test('port 0', () => dropped('udp-malformed', () => udp.datagram('x', { dstPort: 0 })));
  test('no hops left', () => dropped('ip-martian', () => udp.datagram('x', { hopLimit: 0 })));
  test('multicast', () => dropped('multicast', () => udp.datagram('x', { dst: '239.255.255.250', checksum: 0 })));
  test('broadcast', () => dropped('multicast', () => udp.datagram('x', { dst: '255.255.255.255', checksum: 0 })));

  test('but no checksum over IPv4 is fine, and a vouched one is not looked at', () => {
    udp.batch(() => {
      udp.datagram('a', { checksum: 0 });
      udp.datagram('b', { checksum: 0x1234, vnet: [udp.NEEDS_CSUM, 0, 0] });
    });
    expect(bench.answer({ fd: 20 })[0]?.sent.map(String)).toEqual(['a', 'b']);
  });
  test('bytes behind the length field are not data', () => {
    udp.batch(() => udp.datagram('datapadding', { length: 12, checksum: 0 }));
    expect(bench.answer({ fd: 20 })[0]?.sent.map(String)).toEqual(['data']);
  });
  test('source port 0 means no reply is expected, and is no reason to drop', () => {
    udp.batch(() => udp.datagram('x', { srcPort: 0 }));
    expect(bench.requests()[0]?.params.sourcePort).toBe(0);
  });
});
