// SPDX-License-Identifier: Apache-2.0
/**
 * The guest as an attacker, frame by frame: every kind of frame cut at every byte, every byte of every header at both ends
 * of its range, lengths that lie, addresses that must not be on a wire, virtio-net headers that contradict the frame.
 *
 * Each frame is handled twice, with different bytes behind its end. Whatever differs then was read outside the frame.
 */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import * as guest from '../../test/support/guest-frames.ts';
import { makeNetwork } from '../../test/support/network.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const bench = await import('../../test/support/flow-bench.ts');
const { DROPS, dropCount } = await import('../obs/drops.ts');
const flows = await import('../flow/table.ts');
const wheel = await import('../flow/wheel.ts');
const icmpSend = await import('../link/icmp-send.ts');
const out = await import('../link/out.ts');
const slots = await import('../link/fragment-slots.ts');
const station = await import('../link/station.ts');
const dhcpv4 = await import('../proto/dhcpv4.ts');
const dhcpv6 = await import('../proto/dhcpv6.ts');
const icmp = await import('../proto/icmp.ts');
const ndp = await import('../proto/ndp.ts');
const tcpTimeout = await import('../proto/tcp/timeout.ts');
const tcp = await import('../proto/tcp/tcp.ts');
const tcpFromTap = await import('../proto/tcp/from-tap.ts');
const tcpFinish = await import('../proto/tcp/finish.ts');
const udpFlow = await import('../proto/udp/flow.ts');
const udpFromTap = await import('../proto/udp/from-tap.ts');
const udp = await import('../proto/udp/udp.ts');
const demux = await import('./demux.ts');
type DropReason = import('../obs/drops.ts').DropReason;

const { u16, u32, ip4, ip6 } = guest;
const NETWORK = makeNetwork();
const G4 = '192.0.2.10';
const R4 = '198.51.100.7';
const G6 = '2001:db8:1:2:a::10';
const R6 = '2001:db8:2::7';
const [ICMP, TCP, UDP, ICMPV6] = [1, 6, 17, 58];
const inverted = (bytes: readonly number[]): number[] => u16(~fake.checksumOf(Uint8Array.from(bytes)) & 0xffff);

interface Ends {
  readonly src?: string;
  readonly dst?: string;
}
/** Checksum of transport headers, by protocol; the place of the field. */
const SUM_AT: Record<number, number> = { [ICMP]: 2, [TCP]: 16, [UDP]: 6, [ICMPV6]: 2 };
const summed = (v4: boolean, protocol: number, l4: readonly number[], o: Ends): number[] => {
  const at = SUM_AT[protocol];
  if (at === undefined) return [...l4];
  const [src, dst] = v4 ? [ip4(o.src ?? G4), ip4(o.dst ?? R4)] : [ip6(o.src ?? G6), ip6(o.dst ?? R6)];
  const pseudo = protocol === ICMP ? [] : [...src, ...dst, ...u32(l4.length), 0, 0, 0, protocol];
  const body = [...l4];
  body.splice(at, 2, ...inverted([...pseudo, ...l4]));
  return body;
};
const header4 = (
  protocol: number,
  bytes: number,
  place: number,
  o: Ends & { options?: readonly number[] },
): number[] => {
  const options = o.options ?? [];
  const first = [0x45 + options.length / 4, 0, ...u16(20 + options.length + bytes), 0, 7, ...u16(place), 64, protocol];
  const h = [...first, 0, 0, ...ip4(o.src ?? G4), ...ip4(o.dst ?? R4), ...options];
  h.splice(10, 2, ...inverted(h));
  return h;
};
const packet4 = (
  protocol: number,
  l4: readonly number[],
  o: Ends & { options?: readonly number[]; place?: number } = {},
): number[] => {
  const whole = o.place === undefined ? summed(true, protocol, l4, o) : [...l4];
  return guest.ethernet(0x0800, [...header4(protocol, l4.length, o.place ?? 0x4000, o), ...whole]);
};
/** `chain`: extension headers; the first has the number `next`, the last names `protocol`. */
const packet6 = (
  protocol: number,
  l4: readonly number[],
  o: Ends & { next?: number; chain?: readonly number[]; hops?: number } = {},
): number[] => {
  const payload = [...(o.chain ?? []), ...summed(false, protocol, l4, o)];
  const head = [0x60, 0, 0, 0, ...u16(payload.length), o.next ?? protocol, o.hops ?? 64];
  return guest.ethernet(0x86dd, [...head, ...ip6(o.src ?? G6), ...ip6(o.dst ?? R6), ...payload]);
};

const datagram = (dstPort = 7, data = [1, 2, 3, 4]): number[] => [
  ...u16(40_000),
  ...u16(dstPort),
  ...u16(8 + data.length),
  0,
  0,
  ...data,
];
const SYN = [
  ...[...u16(40_000), ...u16(80), ...u32(9), ...u32(0)],
  ...[0x70, 2, 0x40, 0, 0, 0, 0, 0],
  ...[2, 4, 5, 180, 3, 3, 7, 1],
];
const echo = (type: number): number[] => [type, 0, 0, 0, 0x12, 0x34, 0, 1, 0xaa, 0xbb];
const LL = 'fe80::5eff:fe00:5302';
const SOURCE_OPTION = [1, 1, ...guest.mac('02:00:5e:00:53:02')];
const QUOTE4 = [...header4(UDP, 8, 0x4000, { src: R4, dst: G4 }), ...u16(7), ...u16(40_000), 0, 8, 0, 0];
const QUOTE6 = [0x60, 0, 0, 0, 0, 8, UDP, 60, ...ip6(R6), ...ip6(G6), ...u16(7), ...u16(40_000), 0, 8, 0, 0];
const DHCP = [1, 1, 6, 0, ...u32(0x1234), ...new Array<number>(228).fill(0), 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255];

const PADN = [1, 4, 0, 0, 0, 0];
const FRAMES: readonly (readonly [string, readonly number[]])[] = [
  [
    'ARP request',
    guest.ethernet(0x0806, [
      0,
      1,
      8,
      0,
      6,
      4,
      0,
      1,
      ...guest.mac('02:00:5e:00:53:02'),
      ...ip4(G4),
      0,
      0,
      0,
      0,
      0,
      0,
      ...ip4('192.0.2.1'),
    ]),
  ],
  ['UDP', packet4(UDP, datagram())],
  ['UDP with options', packet4(UDP, datagram(), { options: [7, 7, 4, 0, 0, 0, 0, 0] })],
  ['TCP', packet4(TCP, SYN)],
  ['echo', packet4(ICMP, echo(8))],
  ['echo to the gateway', packet4(ICMP, echo(8), { dst: '192.0.2.1' })],
  ['port unreachable', packet4(ICMP, [3, 3, 0, 0, 0, 0, 0, 0, ...QUOTE4])],
  ['fragmentation needed', packet4(ICMP, [3, 4, 0, 0, 0, 0, 5, 0, ...QUOTE4])],
  ['DHCP', packet4(UDP, datagram(67, DHCP), { src: '0.0.0.0', dst: '255.255.255.255' })],
  ['first fragment', packet4(UDP, [...datagram(), 0, 0, 0, 0], { place: 0x2000 })],
  ['last fragment', packet4(UDP, [1, 2, 3], { place: 2 })],
  [
    'IGMP report',
    packet4(2, [0x16, 0, ...inverted([0x16, 0, 0, 0, 239, 1, 2, 3]), 239, 1, 2, 3], { dst: '239.1.2.3' }),
  ],
  ['unknown protocol', packet4(253, [1, 2, 3, 4])],
  ['UDP 6', packet6(UDP, datagram())],
  ['TCP 6', packet6(TCP, SYN)],
  ['echo 6', packet6(ICMPV6, echo(128))],
  ['echo to the router', packet6(ICMPV6, echo(128), { dst: 'fe80::1', src: LL })],
  ['packet too big', packet6(ICMPV6, [2, 0, 0, 0, 0, 0, 5, 0x14, ...QUOTE6])],
  [
    'neighbour solicitation',
    packet6(ICMPV6, [135, 0, 0, 0, 0, 0, 0, 0, ...ip6('fe80::1'), ...SOURCE_OPTION], {
      src: LL,
      dst: 'ff02::1:ff00:1',
      hops: 255,
    }),
  ],
  [
    'neighbour advertisement',
    packet6(ICMPV6, [136, 0, 0, 0, 0x20, 0, 0, 0, ...ip6(LL)], { src: LL, dst: 'ff02::1', hops: 255 }),
  ],
  [
    'router solicitation',
    packet6(ICMPV6, [133, 0, 0, 0, 0, 0, 0, 0, ...SOURCE_OPTION], { src: LL, dst: 'ff02::2', hops: 255 }),
  ],
  [
    'DHCPv6',
    packet6(
      UDP,
      datagram(
        547,
        [1, 1, 2, 3, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0x5e, 0, 0x53, 2, 0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
      ),
      { src: LL, dst: 'ff02::1:2' },
    ),
  ],
  [
    'hop-by-hop, routing and destination options',
    packet6(UDP, datagram(), {
      next: 0,
      chain: [43, 0, ...PADN, 60, 0, 4, 0, 0, 0, 0, 0, UDP, 1, ...PADN, 1, 6, 0, 0, 0, 0, 0, 0],
    }),
  ],
  ['authentication header', packet6(TCP, SYN, { next: 51, chain: [TCP, 4, 0, 0, ...new Array<number>(20).fill(9)] })],
  ['atomic fragment', packet6(UDP, datagram(), { next: 44, chain: [UDP, 0, 0, 0, 0, 0, 0, 5] })],
  ['first fragment 6', packet6(253, [...datagram(), 0, 0, 0, 0], { next: 44, chain: [UDP, 0, 0, 1, 0, 0, 0, 5] })],
  ['last fragment 6', packet6(253, [1, 2, 3], { next: 44, chain: [UDP, 0, 0, 16, 0, 0, 0, 5] })],
  ['option that wants an answer', packet6(UDP, datagram(), { next: 60, chain: [UDP, 0, 0x80, 4, 0, 0, 0, 0] })],
  ['unknown next header', packet6(253, [1, 2, 3, 4])],
];

const VNET_BYTES = 12;
const NEEDS_CSUM = 1;
/** The device checked the checksum: so that what is changed gets past it. */
const DATA_VALID = 2;
interface Outcome {
  /** How often each reason was counted. */
  readonly drops: Partial<Record<DropReason, number>>;
  readonly frames: string[];
  readonly requests: string[];
}
let now = 1000;
/** Handles a frame with its virtio-net header and `poison` behind its end, and the helper's refusal of what it asks for. */
const once = (frame: readonly number[], vnet: readonly number[], poison: number): Outcome => {
  now += 3000;
  fake.setNow(now);
  wheel.expire(now);
  flows.endTurn();
  slots.reset();
  station.configure(NETWORK);
  icmpSend.resetLimit();
  out.flush();
  fake.tapFrames.length = 0;
  const before = DROPS.map(dropCount);
  const sentBefore = fake.channelSent.length;
  fake.mem.fill(poison, guest.FRAME_AT - VNET_BYTES, guest.FRAME_AT + frame.length + 512);
  fake.mem.set(vnet, guest.FRAME_AT - VNET_BYTES);
  fake.mem.set(frame, guest.FRAME_AT);
  demux.frame(guest.FRAME_AT - VNET_BYTES, VNET_BYTES + frame.length, VNET_BYTES);
  tcpFromTap.flushWrites();
  udpFromTap.endBatch();
  bench.answer('refused');
  tcpFinish.endBatch();
  out.flush();
  slots.endTurn();
  const drops = Object.fromEntries(
    DROPS.map((name, i) => [name, dropCount(name) - (before[i] as number)] as const).filter(([, n]) => n !== 0),
  );
  const requests = fake.channelSent.slice(sentBefore).map((text) => text.replaceAll(/"id":\d+/g, ''));
  fake.channelSent.length = sentBefore;
  bench.setAnswered(sentBefore);
  return { drops, frames: fake.tapFrames.splice(0).map((b) => b.toString('hex')), requests };
};
const NO_OFFLOAD: readonly number[] = new Array<number>(VNET_BYTES).fill(0);
const handle = (frame: readonly number[], vnet: readonly number[] = NO_OFFLOAD): Outcome => {
  const first = once(frame, vnet, 0x00);
  const second = once(frame, vnet, 0xff);
  if (JSON.stringify(first) !== JSON.stringify(second)) {
    expect.fail(`read outside: ${Buffer.from(frame).toString('hex')}\n${JSON.stringify([first, second])}`);
  }
  const dropped = Object.values(first.drops).reduce((sum, n) => sum + n, 0);
  if (dropped > 1) expect.fail(`counted ${JSON.stringify(first.drops)}: ${Buffer.from(frame).toString('hex')}`);
  return first;
};
const onlyDrop = (outcome: Outcome): string => {
  const [reason = 'none', ...others] = Object.keys(outcome.drops);
  return others.length === 0 ? reason : `${reason} and others`;
};
/** The IPv4 header checksum made right again. */
const repaired = (frame: readonly number[]): number[] => {
  const f = [...frame];
  const bytes = ((f[14] ?? 0) & 15) * 4;
  if ((((f[12] ?? 0) << 8) | (f[13] ?? 0)) !== 0x0800 || bytes < 20 || f.length < 14 + bytes) return f;
  f.splice(24, 2, 0, 0);
  f.splice(24, 2, ...inverted(f.slice(14, 14 + bytes)));
  return f;
};

beforeEach(() => {
  bench.begin(now, (f) => {
    if (flows.typeOf(f) === flows.FLOW_UDP) udpFlow.onTimer(f);
    else if (flows.typeOf(f) === flows.FLOW_PING) icmp.onTimer(f);
    else if (flows.typeOf(f) === flows.FLOW_TCP) tcpTimeout.onTimer(f);
  });
  bench.resetAnswers();
  ndp.configure(NETWORK);
  dhcpv4.configure(NETWORK);
  dhcpv6.configure(NETWORK);
  icmp.configure({ linkMtu: 65_520, descriptors: 20_000 });
  udp.configure({
    linkMtu: 65_520,
    uso: true,
    descriptors: 20_000,
    network: NETWORK,
    multicast: false,
    singleMs: 30_000,
    streamMs: 120_000,
  });
  tcp.configure({
    tso: true,
    hypervisor: false,
    linkMtu: 65_520,
    descriptors: 20_000,
    synRetries: 6,
    rtoMaxMs: 120_000,
  });
  demux.configure(NETWORK);
});

describe.each(FRAMES)('%s', (name, frame) => {
  test('as it is, it is understood', () => {
    const outcome = handle(frame);
    const refused = outcome.drops['flow-refused'] !== undefined;
    const expected = new Map([
      ['unknown protocol', 'ip-protocol'],
      ['unknown next header', 'ip-protocol'],
      ['IGMP report', 'group-report'],
      ['option that wants an answer', 'ip6-extension'],
      ['port unreachable', 'icmp-no-flow'],
      ['fragmentation needed', 'icmp-no-flow'],
      ['packet too big', 'icmp-no-flow'],
    ]).get(name);
    expect(onlyDrop(outcome)).toBe(expected ?? (refused ? 'flow-refused' : 'none'));
  });

  test('cut at any byte, it is dropped once and nothing comes of it', () => {
    for (let n = 0; n < frame.length; n++) {
      const outcome = handle(frame.slice(0, n));
      expect([n, onlyDrop(outcome) === 'none', outcome.frames, outcome.requests]).toEqual([n, false, [], []]);
    }
  });

  test('cut at any byte with lengths to match, nothing is read beyond the end', () => {
    const v4 = frame[12] === 0x08 && frame[13] === 0;
    const v6 = frame[12] === 0x86;
    for (let n = 14; n < frame.length; n++) {
      const cut = frame.slice(0, n);
      if (v4 && n >= 34) cut.splice(16, 2, ...u16(n - 14));
      if (v6 && n >= 54) cut.splice(18, 2, ...u16(n - 54));
      for (const flags of [0, DATA_VALID]) handle(repaired(cut), [flags, ...NO_OFFLOAD.slice(1)]);
    }
  });

  test('every byte at both ends of its range and in between: nothing throws, nothing is read outside', () => {
    for (let at = 0; at < Math.min(frame.length, 110); at++) {
      for (const value of [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff]) {
        if (frame[at] === value) continue;
        const changed = [...frame];
        changed[at] = value;
        handle(repaired(changed), [DATA_VALID, ...NO_OFFLOAD.slice(1)]);
      }
    }
  });

  test('lengths that say more than there is are dropped', () => {
    if (frame[12] === 0x08 && frame[13] === 6) return;
    const at = frame[12] === 0x86 ? 18 : 16;
    const said = ((frame[at] as number) << 8) | (frame[at + 1] as number);
    for (const more of [1, 8, 1000, 0xffff - said]) {
      const lying = [...frame];
      lying.splice(at, 2, ...u16(said + more));
      expect(onlyDrop(handle(repaired(lying)))).toBe(at === 18 ? 'ip6-malformed' : 'ip4-malformed');
    }
  });

  test('a checksum that is wrong in any bit is dropped', () => {
    const v4 = frame[12] === 0x08 && frame[13] === 0;
    if (v4) {
      for (let bit = 0; bit < 16; bit++) {
        const wrong = [...frame];
        wrong[24 + (bit >> 3)] = (wrong[24 + (bit >> 3)] as number) ^ (1 << (bit & 7));
        expect(onlyDrop(handle(wrong))).toBe('ip4-checksum');
      }
    }
    const plain = v4 ? frame[14] === 0x45 && frame[20] === 0x40 : frame[12] === 0x86;
    const protocol = v4 ? frame[23] : frame[20];
    const sumAt = plain && protocol !== undefined ? SUM_AT[protocol] : undefined;
    if (sumAt === undefined) return;
    const reason =
      protocol === UDP
        ? /DHCP/.test(name)
          ? null
          : 'udp-checksum'
        : protocol === TCP
          ? 'tcp-checksum'
          : 'icmp-checksum';
    if (reason === null) return;
    for (let bit = 0; bit < 16; bit++) {
      const wrong = [...frame];
      const at = (v4 ? 34 : 54) + sumAt + (bit >> 3);
      wrong[at] = (wrong[at] as number) ^ (1 << (bit & 7));
      expect(onlyDrop(handle(wrong))).toBe(reason);
    }
  });
});

describe('addresses that must not be on a wire', () => {
  const SOURCES4 = [
    '0.0.0.0',
    '0.1.2.3',
    '127.0.0.1',
    '127.255.255.255',
    '224.0.0.1',
    '239.255.255.255',
    '240.0.0.1',
    '255.255.255.255',
  ];
  const DESTINATIONS4 = ['0.0.0.0', '0.255.255.255', '127.0.0.1', '127.1.2.3'];
  const FORMS6 = [
    '::',
    '::1',
    '::2',
    '::192.0.2.1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:198.51.100.7',
    '::ffff:0.0.0.0',
  ].map((text) =>
    text.replace(
      /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
      (_, a, b, c, d) => `${((+a << 8) | +b).toString(16)}:${((+c << 8) | +d).toString(16)}`,
    ),
  );
  const SOURCES6 = [...FORMS6, 'ff02::1', 'ff0e::1'];
  const bodies4 = [
    [UDP, datagram()],
    [TCP, SYN],
    [ICMP, echo(8)],
  ] as const;
  const bodies6 = [
    [UDP, datagram()],
    [TCP, SYN],
    [ICMPV6, echo(128)],
  ] as const;
  const both = (frame: number[], fragment: number[]): string[] => [frame, fragment].map((f) => onlyDrop(handle(f)));

  test.each(SOURCES4)('source %s', (src) => {
    for (const [protocol, l4] of bodies4) {
      const fragment = packet4(protocol, [...l4, 0, 0, 0, 0].slice(0, 24), { src, place: 0x2000 });
      expect(both(packet4(protocol, l4, { src }), fragment)).toEqual(['ip-martian', 'ip-martian']);
    }
  });
  test.each(DESTINATIONS4)('destination %s', (dst) => {
    for (const [protocol, l4] of bodies4) {
      const fragment = packet4(protocol, [...l4, 0, 0, 0, 0].slice(0, 24), { dst, place: 0x2000 });
      expect(both(packet4(protocol, l4, { dst }), fragment)).toEqual(['ip-martian', 'ip-martian']);
    }
  });
  test.each(SOURCES6)('source %s', (src) => {
    for (const [protocol, l4] of bodies6) {
      const fragment = packet6(253, [...l4, ...l4].slice(0, 24), {
        src,
        next: 44,
        chain: [protocol, 0, 0, 1, 0, 0, 0, 1],
      });
      expect(both(packet6(protocol, l4, { src }), fragment)).toEqual(['ip-martian', 'ip-martian']);
    }
  });
  test.each(FORMS6)('destination %s', (dst) => {
    for (const [protocol, l4] of bodies6) {
      const fragment = packet6(253, [...l4, ...l4].slice(0, 24), {
        dst,
        next: 44,
        chain: [protocol, 0, 0, 1, 0, 0, 0, 1],
      });
      expect(both(packet6(protocol, l4, { dst }), fragment)).toEqual(['ip-martian', 'ip-martian']);
    }
  });
  test.each(['::1', 'ff02::1'])('neighbour discovery from %s', (src) => {
    const body = [135, 0, 0, 0, 0, 0, 0, 0, ...ip6('fe80::1')];
    expect(onlyDrop(handle(packet6(ICMPV6, body, { src, dst: 'ff02::1:ff00:1', hops: 255 })))).toBe('ip-martian');
  });
  test.each<[string, number[]]>([
    ['TCP to a group', packet4(TCP, SYN, { dst: '224.0.0.1' })],
    ['TCP to everybody', packet4(TCP, SYN, { dst: '255.255.255.255' })],
    ['TCP to an IPv6 group', packet6(TCP, SYN, { dst: 'ff02::1' })],
  ])('%s', (_what, frame) => {
    expect(onlyDrop(handle(frame))).toBe('ip-martian');
  });
});

describe('the virtio-net header', () => {
  const le = (n: number): number[] => [n & 0xff, n >> 8];
  const vnet = (flags: number, type: number, hdr: number, size: number, start: number, offset: number): number[] => [
    ...[flags, type],
    ...[hdr, size, start, offset, 0].flatMap(le),
  ];
  const TCP4 = packet4(TCP, SYN);
  const UDP4 = packet4(UDP, datagram(7, new Array<number>(3000).fill(1)));
  const UDP6 = packet6(UDP, datagram());
  const ECHO = packet4(ICMP, echo(8));
  const FRAGMENT4 = packet4(UDP, [...datagram(), 0, 0, 0, 0], { place: 0x2000 });
  const FRAGMENT6 = packet6(253, [...datagram(), 0, 0, 0, 0], { next: 44, chain: [UDP, 0, 0, 1, 0, 0, 0, 5] });

  test('that fits its frame is believed', () => {
    expect(onlyDrop(handle(TCP4, vnet(NEEDS_CSUM, 0, 54, 0, 34, 16)))).toBe('none');
    expect(onlyDrop(handle(UDP4, vnet(NEEDS_CSUM, 5, 42, 1000, 34, 6)))).toBe('flow-refused');
    expect(onlyDrop(handle(UDP6, vnet(NEEDS_CSUM, 0, 0, 0, 54, 6)))).toBe('flow-refused');
    expect(onlyDrop(handle(FRAGMENT4, vnet(DATA_VALID, 0, 0, 0, 0, 0)))).toBe('none');
  });
  test.each<[string, number[], number[]]>([
    ['a flag that nobody has', TCP4, vnet(4, 0, 0, 0, 0, 0)],
    ['all flags', TCP4, vnet(0xff, 0, 0, 0, 34, 16)],
    ['headers longer than the frame', TCP4, vnet(0, 0, TCP4.length + 1, 0, 0, 0)],
    ['headers of 65,535 bytes', TCP4, vnet(0, 0, 0xffff, 0, 0, 0)],
    ['a checksum of the Ethernet header', TCP4, vnet(NEEDS_CSUM, 0, 0, 0, 0, 0)],
    ['a checksum of the IP header', TCP4, vnet(NEEDS_CSUM, 0, 0, 0, 14, 10)],
    ['a checksum beyond the frame', TCP4, vnet(NEEDS_CSUM, 0, 0, 0, 0xffff, 0xffff)],
    ['a checksum whose sum wraps', TCP4, vnet(NEEDS_CSUM, 0, 0, 0, 34, 0xffff)],
    ['a checksum one byte off', TCP4, vnet(NEEDS_CSUM, 0, 0, 0, 34, 15)],
    ['another protocol’s checksum', TCP4, vnet(NEEDS_CSUM, 0, 0, 0, 34, 6)],
    ['a checksum of an echo request', ECHO, vnet(NEEDS_CSUM, 0, 0, 0, 34, 2)],
    ['segments without a size', TCP4, vnet(NEEDS_CSUM, 1, 54, 0, 34, 16)],
    ['segments without a checksum', TCP4, vnet(0, 1, 54, 1000, 0, 0)],
    ['segments of the other family', TCP4, vnet(NEEDS_CSUM, 4, 54, 1000, 34, 16)],
    ['segments of the other protocol', TCP4, vnet(NEEDS_CSUM, 5, 54, 1000, 34, 16)],
    ['UDP fragments', UDP4, vnet(NEEDS_CSUM, 3, 42, 1000, 34, 6)],
    ['UDP segments with ECN', UDP4, vnet(NEEDS_CSUM, 0x85, 42, 1000, 34, 6)],
    ['a type that nobody has', TCP4, vnet(NEEDS_CSUM, 0x7f, 54, 1000, 34, 16)],
    ['a fragment whose checksum is left to us', FRAGMENT4, vnet(NEEDS_CSUM, 0, 0, 0, 34, 6)],
    ['a fragment that is to be segmented', FRAGMENT4, vnet(0, 5, 42, 1000, 0, 0)],
    ['an IPv6 fragment whose checksum is left to us', FRAGMENT6, vnet(NEEDS_CSUM, 0, 0, 0, 62, 6)],
  ])('with %s is dropped', (_what, frame, header) => {
    expect(onlyDrop(handle(frame, header))).toBe('vnet-header');
  });
  test('with every field at both ends: nothing throws, nothing is read outside', () => {
    for (const frame of [TCP4, UDP4, UDP6, ECHO, FRAGMENT4, FRAGMENT6]) {
      for (let at = 0; at < VNET_BYTES; at++) {
        for (const base of [NO_OFFLOAD, vnet(NEEDS_CSUM, 1, 54, 1000, 34, 16), vnet(NEEDS_CSUM, 5, 42, 1, 34, 6)]) {
          for (const value of [0x00, 0x01, 0x7f, 0x80, 0xff]) handle(frame, base.with(at, value));
        }
      }
    }
  });
});

describe('fragments', () => {
  const data = datagram(7, new Array<number>(40).fill(3));
  const whole = summed(true, UDP, data, {});
  const first = guest.ethernet(0x0800, [...header4(UDP, 24, 0x2000, {}), ...whole.slice(0, 24)]);
  const last = guest.ethernet(0x0800, [...header4(UDP, 24, 3, {}), ...whole.slice(24)]);
  /** Both parts in one turn. */
  const pair = (a: readonly number[], b: readonly number[], flags = 0): string => {
    const before = DROPS.map(dropCount);
    now += 3000;
    fake.setNow(now);
    wheel.expire(now);
    flows.endTurn();
    slots.reset();
    for (const frame of [a, b]) {
      const end = guest.place(frame, flags);
      demux.frame(guest.FRAME_AT - VNET_BYTES, end - guest.FRAME_AT + VNET_BYTES, VNET_BYTES);
    }
    udpFromTap.endBatch();
    bench.answer('refused');
    slots.endTurn();
    return DROPS.filter((name, i) => dropCount(name) !== before[i]).join(' ');
  };
  test('make a datagram that is taken like any other', () => {
    expect(pair(first, last)).toBe('flow-refused');
    expect(pair(last, first)).toBe('flow-refused');
  });
  test('of TCP and ICMP are whole segments and messages, too', () => {
    for (const [protocol, l4, dropped] of [
      [TCP, SYN, ''],
      [ICMP, [...echo(8), ...new Array<number>(20).fill(7)], 'flow-refused'],
    ] as const) {
      const all = summed(true, protocol, l4, {});
      const parts = [
        guest.ethernet(0x0800, [...header4(protocol, 24, 0x2000, {}), ...all.slice(0, 24)]),
        guest.ethernet(0x0800, [...header4(protocol, all.length - 24, 3, {}), ...all.slice(24)]),
      ] as const;
      const sent = fake.channelSent.length;
      expect(pair(parts[0], parts[1])).toBe(dropped);
      expect(fake.channelSent.slice(sent).join()).toContain(protocol === TCP ? '"tcp"' : '"icmp"');
    }
  });
  test('are checked by the whole’s checksum, whoever vouches for the parts', () => {
    const wrong = [...last];
    wrong[40] = (wrong[40] as number) ^ 1;
    for (const flags of [0, DATA_VALID]) expect(pair(first, wrong, flags)).toBe('udp-checksum');
  });
  test('of neighbour discovery are dropped (RFC 6980)', () => {
    const body = [135, 0, 0, 0, 0, 0, 0, 0, ...ip6('fe80::1'), ...SOURCE_OPTION];
    const o = { src: LL, dst: 'ff02::1:ff00:1', hops: 255, next: 44 };
    expect(onlyDrop(handle(packet6(ICMPV6, body, { ...o, chain: [ICMPV6, 0, 0, 0, 0, 0, 0, 5] })))).toBe(
      'ndp-malformed',
    );
    const sum = summed(false, ICMPV6, body, o);
    const part = (from: number, to: number, more: number): number[] =>
      packet6(253, sum.slice(from, to), { ...o, chain: [ICMPV6, 0, ...u16(from | more), 0, 0, 0, 5] });
    expect(pair(part(0, 16, 1), part(16, 32, 0))).toBe('ndp-malformed');
  });
  test('within fragments are dropped', () => {
    const inner = [UDP, 0, 0, 1, 0, 0, 0, 7, ...data];
    const o = { next: 44 };
    const part = (from: number, to: number, more: number): number[] =>
      packet6(253, inner.slice(from, to), { ...o, chain: [44, 0, ...u16(from | more), 0, 0, 0, 5] });
    expect(pair(part(0, 24, 1), part(24, 56, 0))).toBe('fragment-tiny');
    expect(pair(part(24, 56, 0), part(0, 24, 1))).toBe('fragment-tiny');
  });
});
