// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const udp = await import('../../test/support/udp-bench.ts');
const bench = await import('../../test/support/flow-bench.ts');
const { ip4, ip6, u16, u32 } = await import('../../test/support/guest-frames.ts');
const { dropCount } = await import('../obs/drops.ts');
const flows = await import('../flow/table.ts');
const icmp = await import('../proto/icmp.ts');
const guestError = await import('./guest-error.ts');
const guestMtu = await import('../proto/tcp/guest-mtu.ts');
const conn = await import('../proto/tcp/conn.ts');
const udpFlow = await import('../proto/udp/flow.ts');
type DropReason = import('../obs/drops.ts').DropReason;

beforeEach(() => {
  udp.begin();
  icmp.configure({ linkMtu: 65_520, descriptors: 20_000 });
});
afterEach(udp.closeAll);

interface Quote {
  readonly protocol?: number;
  readonly src?: string;
  readonly dst?: string;
  readonly l4?: readonly number[];
  /** First byte of the quoted packet; IPv4: flags and offset. */
  readonly first?: number;
  readonly place?: number;
}
describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('%s', (_name, v4) => {
  const [guest, remote] = v4 ? [bench.GUEST4, bench.REMOTE4] : [bench.GUEST6, bench.REMOTE6];
  const elsewhere = v4 ? '198.51.100.99' : '2001:db8:2::99';
  const [PORT_GONE, TOO_BIG] = v4
    ? ([
        [3, 3],
        [3, 4],
      ] as const)
    : ([
        [1, 4],
        [2, 0],
      ] as const);
  const UDP = [...u16(udp.REMOTE_PORT), ...u16(udp.GUEST_PORT), ...u16(20), 0, 0];

  /** A packet of ours, remote to guest, as the guest quotes it. */
  const quote = (q: Quote = {}): number[] => {
    const l4 = q.l4 ?? UDP;
    const [src, dst] = [q.src ?? remote, q.dst ?? guest];
    return v4
      ? [
          q.first ?? 0x45,
          0,
          ...u16(20 + l4.length),
          0,
          0,
          ...u16(q.place ?? 0x4000),
          60,
          q.protocol ?? 17,
          0,
          0,
          ...ip4(src),
          ...ip4(dst),
          ...l4,
        ]
      : [q.first ?? 0x60, 0, 0, 0, ...u16(l4.length), q.protocol ?? 17, 60, ...ip6(src), ...ip6(dst), ...l4];
  };
  const tell = (
    [type, code]: readonly [number, number],
    quoted: readonly number[],
    o: { mtu?: number; src?: string; dst?: string; broken?: boolean } = {},
  ): void => {
    const rest = v4 ? [0, 0, ...u16(o.mtu ?? 0)] : u32(o.mtu ?? 0);
    const message = [type, code, 0, 0, ...rest, ...quoted];
    const [src, dst] = [o.src ?? guest, o.dst ?? remote];
    const bytes = Uint8Array.from(message);
    const sum = v4 ? fake.checksumOf(bytes) : bench.transportSum(false, src, dst, 58, bytes);
    message.splice(2, 2, ...u16((~sum & 0xffff) ^ (o.broken ? 1 : 0)));
    bench.deliver(icmp.fromTap, { v4, protocol: v4 ? 1 : 58, l4: message, src, dst });
  };
  /** How often each reason was counted while `action` ran. */
  const counted = (reason: DropReason, action: () => void): number => {
    const before = dropCount(reason);
    action();
    return dropCount(reason) - before;
  };

  test('a port that is gone ends its flow and closes the socket; no other', () => {
    udp.opened({ v4 }, 20);
    udp.opened({ v4, srcPort: 40_001 }, 21);
    tell(PORT_GONE, quote());
    expect(udp.udpFlows().map(flows.guestPort)).toEqual([40_001]);
    expect(fake.closedFds).toEqual([20]);
    expect(bench.arrived()).toEqual([]);
  });

  test('a smaller MTU holds for that flow, and only downwards', () => {
    const socket = udp.opened({ v4 });
    const other = udp.opened({ v4, srcPort: 40_001 }, 21);
    const received = (from: typeof socket, port: number): number[] => {
      from.incoming.push({ bytes: udp.numbered(3000) });
      udpFlow.onEvent(udp.theFlow(port), fake.EPOLLIN);
      return bench.arrived().map((a) => a.l4.length + (v4 ? 20 : 40));
    };
    expect(received(socket, udp.GUEST_PORT).length).toBe(1);
    tell(TOO_BIG, quote(), { mtu: 1400 });
    const sizes = received(socket, udp.GUEST_PORT);
    expect(sizes.length).toBe(3);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1400);
    tell(TOO_BIG, quote(), { mtu: 9000 });
    expect(received(socket, udp.GUEST_PORT)).toEqual(sizes);
    expect(received(other, 40_001).length).toBe(1);
  });

  test('an MTU that no link of the family has is not believed', () => {
    udp.opened({ v4 });
    if (v4) {
      expect(counted('icmp-quote', () => tell(TOO_BIG, quote(), { mtu: 0 }))).toBe(1);
      // Believed, but not below 552.
      tell(TOO_BIG, quote(), { mtu: 68 });
    } else {
      expect(counted('icmp-quote', () => tell(TOO_BIG, quote(), { mtu: 1279 }))).toBe(1);
      tell(TOO_BIG, quote(), { mtu: 0xffff_ffff });
    }
    const socket = fake.sockets.get(20);
    socket?.incoming.push({ bytes: udp.numbered(2000) });
    udpFlow.onEvent(udp.theFlow(), fake.EPOLLIN);
    expect(bench.arrived().length).toBe(v4 ? 4 : 1);
  });

  test.each<[string, DropReason, readonly number[], { src?: string; dst?: string }?]>([
    ['a packet of another remote', 'icmp-quote', quote({ src: elsewhere })],
    ['one for another than who complains', 'icmp-quote', quote({ dst: elsewhere })],
    ['a message to another than who sent it', 'icmp-quote', quote(), { dst: elsewhere }],
    ['another version', 'icmp-quote', quote({ first: v4 ? 0x65 : 0x40 })],
    ['ports that no flow has', 'icmp-no-flow', quote({ l4: [...UDP.slice(0, 3), 1, ...UDP.slice(4)] })],
    ['the guest’s own datagram', 'icmp-quote', quote({ src: guest, dst: remote })],
    ['a protocol that has no flows', 'icmp-no-flow', quote({ protocol: 132 })],
    [
      'an echo request, which we never send',
      'icmp-no-flow',
      quote({ protocol: v4 ? 1 : 58, l4: [v4 ? 8 : 128, 0, 0, 0, 0, 1, 0, 1] }),
    ],
    ...(v4
      ? ([
          ['a later fragment', 'icmp-quote', quote({ place: 1 })],
          ['a header length below its minimum', 'icmp-quote', quote({ first: 0x44 })],
          ['options that are not there', 'icmp-quote', quote({ first: 0x4f })],
        ] as [string, DropReason, number[]][])
      : []),
  ])('a quote of %s ends nothing', (_what, reason, quoted, o) => {
    udp.opened({ v4 });
    expect(counted(reason, () => tell(PORT_GONE, quoted, o))).toBe(1);
    expect(udp.udpFlows().length).toBe(1);
  });

  test('a quote cut anywhere is dropped and counted', () => {
    udp.opened({ v4 });
    const whole = quote();
    for (let n = 0; n < whole.length; n++) {
      expect(counted('icmp-quote', () => tell(PORT_GONE, whole.slice(0, n)))).toBe(1);
    }
    expect(udp.udpFlows().length).toBe(1);
    tell(PORT_GONE, whole);
    expect(udp.udpFlows()).toEqual([]);
  });

  test('a wrong checksum, or an error that says nothing to a flow, ends nothing', () => {
    udp.opened({ v4 });
    expect(counted('icmp-checksum', () => tell(PORT_GONE, quote(), { broken: true }))).toBe(1);
    for (const type of v4 ? [4, 5, 11, 12] : [3, 4])
      expect(counted('icmp-type', () => tell([type, 0], quote()))).toBe(1);
    expect(counted('icmp-type', () => tell(v4 ? [3, 1] : [1, 3], quote()))).toBe(1);
    expect(udp.udpFlows().length).toBe(1);
  });

  test('TCP believes the size only, of a segment that is under way', () => {
    const f = flows.alloc(flows.FLOW_TCP);
    flows.setV4(f, v4);
    conn.reset(f);
    conn.setMss(f, 1460);
    conn.setAckFromTap(f, 1000);
    conn.setSeqToTap(f, 5000);
    const error = (sequence: number, mtu: number, kind: 0 | 1 = guestError.TOO_BIG): number => {
      fake.view.setInt32(fake.RX_AT + 4, sequence);
      guestMtu.onGuestError(f, kind, mtu, fake.RX_AT);
      return conn.mss(f);
    };
    expect(error(999, 1280)).toBe(1460);
    expect(error(5000, 1280)).toBe(1460);
    expect(error(4999, 1280, guestError.GONE)).toBe(1460);
    expect(error(1000, 1280)).toBe(v4 ? 1240 : 1220);
    expect(error(4999, 1500)).toBe(v4 ? 1240 : 1220);
    flows.release(f);
  });
});

describe('IPv6', () => {
  test('our own fragments are recognised in a quote', () => {
    udp.opened({ v4: false });
    const header = [17, 0, 0, 1, 0, 0, 0, 9, ...u16(udp.REMOTE_PORT), ...u16(udp.GUEST_PORT), 0, 20, 0, 0];
    const packet = [
      0x60,
      0,
      0,
      0,
      ...u16(header.length),
      44,
      60,
      ...ip6(bench.REMOTE6),
      ...ip6(bench.GUEST6),
      ...header,
    ];
    const message = [1, 4, 0, 0, 0, 0, 0, 0, ...packet];
    const sum = bench.transportSum(false, bench.GUEST6, bench.REMOTE6, 58, Uint8Array.from(message));
    message.splice(2, 2, ...u16(~sum & 0xffff));
    bench.deliver(icmp.fromTap, { v4: false, protocol: 58, l4: message });
    expect(udp.udpFlows()).toEqual([]);
  });
});
