// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, test, vi } from 'vitest';
import * as guest from '../../test/support/guest-frames.ts';
import { GUEST_MAC, makeNetwork, OUR_MAC } from '../../test/support/network.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const bench = await import('../../test/support/flow-bench.ts');
const out = await import('./out.ts');
const { tapLink } = await import('./tap-link.ts');
const station = await import('./station.ts');
const icmpSend = await import('./icmp-send.ts');
const icmpAbout = await import('./icmp-about.ts');
const { dropCount } = await import('../obs/drops.ts');

const G4 = '192.0.2.10';
const R4 = '198.51.100.7';
const G6 = '2001:db8:1:2:a::10';
const R6 = '2001:db8:2::7';
const AT = guest.FRAME_AT + 14;
const GROUP_MAC = '33:33:00:00:00:01';

interface Packet {
  readonly src?: string;
  readonly dst?: string;
  readonly mac?: string;
  readonly protocol?: number;
  readonly place?: number;
  readonly data?: readonly number[];
}
const tell4 = (p: Packet = {}): Buffer[] => {
  const data = p.data ?? [1, 2, 3, 4, 5, 6, 7, 8];
  const head = [0x45, 0, ...guest.u16(20 + data.length), 0, 1, ...guest.u16(p.place ?? 0), 64, p.protocol ?? 253, 0, 0];
  const ip = [...head, ...guest.ip4(p.src ?? G4), ...guest.ip4(p.dst ?? R4)];
  ip.splice(10, 2, ...guest.u16(~fake.checksumOf(Uint8Array.from(ip)) & 0xffff));
  const end = guest.place(guest.ethernet(0x0800, [...ip, ...data], p.mac ?? OUR_MAC, GUEST_MAC));
  icmpAbout.tell4(AT, end, 3, 2, 0);
  out.flush();
  return fake.tapFrames;
};
const tell6 = (p: Packet = {}, evenToGroup = false): Buffer[] => {
  const data = p.data ?? [1, 2, 3, 4, 5, 6, 7, 8];
  const protocol = p.protocol ?? 253;
  const head = [0x60, 0, 0, 0, ...guest.u16(data.length), protocol, 64];
  const packet = [...head, ...guest.ip6(p.src ?? G6), ...guest.ip6(p.dst ?? R6), ...data];
  const end = guest.place(guest.ethernet(0x86dd, packet, p.mac ?? OUR_MAC, GUEST_MAC));
  icmpAbout.tell6(AT, end, 4, 1, 6, protocol, AT + 40, evenToGroup);
  out.flush();
  return fake.tapFrames;
};

beforeEach(() => {
  out.attach(tapLink(9, 12));
  out.flush();
  fake.reset();
  fake.setNow(1000);
  station.configure(makeNetwork());
  icmpSend.resetLimit();
});

describe('an error about a packet', () => {
  test('comes from the gateway and quotes the packet as it was, as much as fits', () => {
    const data = Array.from({ length: 2000 }, (_, i) => i & 0xff);
    tell4({ data });
    const packet4 = [...fake.mem.subarray(AT, AT + 20), ...data];
    tell6({ data });
    const packet6 = [...fake.mem.subarray(AT, AT + 40), ...data];
    const [a4, a6] = bench.arrived();
    if (a4 === undefined || a6 === undefined) throw new Error('nothing was sent');
    expect([a4.src, a4.dst, a4.protocol, a4.hopLimit]).toEqual(['192.0.2.1', G4, 1, 255]);
    expect([a6.src, a6.dst, a6.protocol, a6.hopLimit]).toEqual([bench.full6('fe80::1'), bench.full6(G6), 58, 255]);
    expect([...a4.l4.subarray(4, 8), a4.l4[0], a4.l4[1]]).toEqual([0, 0, 0, 0, 3, 2]);
    expect([...a6.l4.subarray(4, 8), a6.l4[0], a6.l4[1]]).toEqual([0, 0, 0, 6, 4, 1]);
    expect([...a4.l4.subarray(8)]).toEqual(packet4.slice(0, 576 - 20 - 8));
    expect([...a6.l4.subarray(8)]).toEqual(packet6.slice(0, 1280 - 40 - 8));
    expect(fake.checksumOf(a4.l4)).toBe(0xffff);
    expect(bench.transportSum(false, 'fe80::1', G6, 58, a6.l4)).toBe(0xffff);
  });

  test.each<[string, Packet]>([
    ['another error', { protocol: 1, data: [3, 1, 0, 0, 0, 0, 0, 0] }],
    ['a redirect', { protocol: 1, data: [5, 0, 0, 0, 0, 0, 0, 0] }],
    ['ICMP without a type', { protocol: 1, data: [] }],
    ['a fragment but the first', { place: 1 }],
    ['a packet to a group', { dst: '239.1.2.3' }],
    ['a packet to everybody', { dst: '255.255.255.255' }],
    ['a packet that came to a group’s MAC', { mac: GROUP_MAC }],
    ['a packet from nobody', { src: '0.0.0.0' }],
    ['a packet from itself', { src: '127.0.0.1' }],
    ['a packet from a group', { src: '224.0.0.1' }],
  ])('is not sent about %s (RFC 1122 §3.2.2)', (_what, p) => {
    expect(tell4(p)).toEqual([]);
  });
  test.each<[string, Packet]>([
    ['another error', { protocol: 58, data: [1, 4, 0, 0, 0, 0, 0, 0] }],
    ['a redirect', { protocol: 58, data: [137, 0, 0, 0, 0, 0, 0, 0] }],
    ['ICMPv6 without a type', { protocol: 58, data: [] }],
    ['a packet to a group', { dst: 'ff02::1' }],
    ['a packet that came to a group’s MAC', { mac: GROUP_MAC }],
    ['a packet from nobody', { src: '::' }],
    ['a packet from itself', { src: '::1' }],
    ['a packet from a group', { src: 'ff02::1' }],
  ])('is not sent about %s (RFC 4443 §2.4(e))', (_what, p) => {
    expect(tell6(p)).toEqual([]);
  });
  test('is sent about an echo request, a first fragment, and where the option asks for it to a group', () => {
    expect(tell4({ protocol: 1, data: [8, 0, 0, 0, 0, 0, 0, 0] })).toHaveLength(1);
    expect(tell4({ place: 0x2000 })).toHaveLength(2);
    expect(tell6({ protocol: 58, data: [128, 0, 0, 0, 0, 0, 0, 0] })).toHaveLength(3);
    expect(tell6({ dst: 'ff02::1' }, true)).toHaveLength(4);
  });

  test('is one of so many a second at most; the others are counted (RFC 1812 §4.3.2.8, RFC 4443 §2.4(f))', () => {
    const before = dropCount('icmp-limited');
    for (let i = 0; i < 400; i++) tell4();
    expect(fake.tapFrames.length).toBe(256);
    expect(dropCount('icmp-limited') - before).toBe(144);
    fake.setNow(1100);
    for (let i = 0; i < 400; i++) tell6();
    expect(fake.tapFrames.length).toBe(256 + 100);
  });
});
