// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const udp = await import('../../../test/support/udp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const out = await import('../../link/out.ts');
const { tapLink } = await import('../../link/tap-link.ts');
const flow = await import('./flow.ts');

beforeEach(udp.begin);
afterEach(udp.closeAll);

describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('%s', (_name, v4) => {
  const guest = v4 ? bench.GUEST4 : bench.full6(bench.GUEST6);
  const remote = v4 ? bench.REMOTE4 : bench.full6(bench.REMOTE6);

  test('a datagram from the socket reaches the guest, with TTL and traffic class as they came', () => {
    const socket = udp.opened({ v4 });
    socket.incoming.push({ bytes: Buffer.from('answer'), ttl: 61, tos: 0x2e });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const [a, ...more] = bench.arrived();
    expect(more).toEqual([]);
    expect(a).toMatchObject({ v4, src: remote, dst: guest, protocol: udp.UDP, hopLimit: 61, trafficClass: 0x2e });
    expect(a?.l4.subarray(8).toString()).toBe('answer');
    expect([a?.l4.readUInt16BE(0), a?.l4.readUInt16BE(2), a?.l4.readUInt16BE(4)]).toEqual([
      udp.REMOTE_PORT,
      udp.GUEST_PORT,
      14,
    ]);
  });

  test('with a virtio-net header the checksum is left to the receiver: the field has the pseudo-header’s sum', () => {
    const socket = udp.opened({ v4 });
    socket.incoming.push({ bytes: udp.numbered(33) });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const a = bench.arrived()[0];
    expect(a?.vnet[0]).toBe(udp.NEEDS_CSUM);
    expect([a?.vnet.readUInt16LE(6), a?.vnet.readUInt16LE(8)]).toEqual([v4 ? 34 : 54, 6]);
    const l4 = a?.l4 ?? Buffer.alloc(0);
    // Complete it as the kernel does: the sum over everything from csum_start on, the field counting as it is.
    const completed = ~fake.checksumOf(l4) & 0xffff;
    l4.writeUInt16BE(completed, 6);
    expect(bench.transportSum(v4, remote, guest, udp.UDP, l4)).toBe(0xffff);
  });

  test('without a virtio-net header the checksum is complete', () => {
    udp.configure({ uso: false });
    out.attach(tapLink(9, 0));
    fake.setVnetBytes(0);
    const socket = udp.opened({ v4 });
    socket.incoming.push({ bytes: udp.numbered(1001) }, { bytes: Buffer.alloc(0) });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.map((a) => a.l4.length)).toEqual([1009, 8]);
    for (const a of got) expect(bench.transportSum(v4, remote, guest, udp.UDP, a.l4)).toBe(0xffff);
  });

  test('what UDP_GRO joined becomes one superframe', () => {
    const socket = udp.opened({ v4 });
    socket.incoming.push({ bytes: udp.numbered(3500), gso: 1000 });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.length).toBe(1);
    const vnet = got[0]?.vnet ?? Buffer.alloc(12);
    expect([vnet[0], vnet[1], vnet.readUInt16LE(2), vnet.readUInt16LE(4)]).toEqual([
      udp.NEEDS_CSUM,
      udp.GSO_UDP_L4,
      v4 ? 42 : 62,
      1000,
    ]);
    expect(got[0]?.l4.subarray(8).equals(udp.numbered(3500))).toBe(true);
  });

  /** Payloads of the frames that arrived, each cut as the guest's kernel does. */
  const taken = (): { sizes: number[]; segment: number; bytes: Buffer }[] =>
    bench.arrived().map((a) => {
      const bytes = a.l4.subarray(8);
      expect(a.l4.readUInt16BE(4)).toBe(a.l4.length);
      const superframe = a.vnet[1] === udp.GSO_UDP_L4;
      const segment = superframe ? a.vnet.readUInt16LE(4) : bytes.length;
      if (superframe) expect([a.vnet[0], a.vnet.readUInt16LE(2)]).toEqual([udp.NEEDS_CSUM, v4 ? 42 : 62]);
      const sizes = [];
      for (let at = 0; at < bytes.length; at += segment) sizes.push(Math.min(segment, bytes.length - at));
      return { sizes: bytes.length === 0 ? [0] : sizes, segment, bytes };
    });
  /** What comes of datagrams that wait together: sizes of each frame's, and all bytes in order. */
  const sendsAll = (sizes: readonly number[], each: (i: number) => object = () => ({})): number[][] => {
    const socket = udp.opened({ v4 });
    for (const [i, size] of sizes.entries()) socket.incoming.push({ bytes: udp.numbered(size, i), ...each(i) });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const frames = taken();
    const sent = Buffer.concat(sizes.map((size, i) => udp.numbered(size, i)));
    expect(Buffer.concat(frames.map((a) => a.bytes)).equals(sent)).toBe(true);
    return frames.map((a) => a.sizes);
  };

  test('datagrams of one size that wait together become one superframe, the last perhaps shorter', () => {
    expect(sendsAll([100, 100, 100])).toEqual([[100, 100, 100]]);
    udp.closeAll();
    expect(sendsAll([1400, 1400, 7])).toEqual([[1400, 1400, 7]]);
  });

  test('a longer one, one behind a shorter one, and one without data begin another frame', () => {
    expect(sendsAll([50, 50, 20, 20, 20, 60, 0, 60])).toEqual([[50, 50, 20], [20, 20], [60], [0], [60]]);
  });

  test('a superframe has no more than an IPv4 packet takes', () => {
    const frames = sendsAll(Array.from({ length: 14 }, () => 9000));
    expect(frames).toEqual([Array(7).fill(9000), Array(7).fill(9000)]);
  });

  test('what differs in TTL or traffic class, and what UDP_GRO had joined, is not joined', () => {
    expect(sendsAll([10, 10, 10, 10], (i) => ({ ttl: i < 2 ? 61 : 60 }))).toEqual([
      [10, 10],
      [10, 10],
    ]);
    udp.closeAll();
    expect(sendsAll([10, 10, 10], (i) => ({ tos: i === 1 ? 3 : 2 }))).toEqual([[10], [10], [10]]);
    udp.closeAll();
    expect(sendsAll([10, 30, 10], (i) => (i === 1 ? { gso: 10 } : {}))).toEqual([[10], [10, 10, 10], [10]]);
  });

  test('those beyond the guest’s MTU are fragments, what is before and behind them is joined or not, in order', () => {
    udp.configure({ linkMtu: 1500 });
    const socket = udp.opened({ v4 });
    for (const size of [500, 500, 3000, 200]) socket.incoming.push({ bytes: udp.numbered(size) });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.map((a) => a.vnet[1])).toEqual([udp.GSO_UDP_L4, 0, 0, 0, 0]);
    expect([got[0]?.l4.length, got[4]?.l4.length]).toEqual([1008, 208]);
  });

  test('where the tap takes no superframes it is cut again, each with its checksum', () => {
    udp.configure({ uso: false });
    const socket = udp.opened({ v4 });
    socket.incoming.push({ bytes: udp.numbered(3500), gso: 1000 });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.map((a) => a.l4.length - 8)).toEqual([1000, 1000, 1000, 500]);
    expect(Buffer.concat(got.map((a) => a.l4.subarray(8))).equals(udp.numbered(3500))).toBe(true);
    for (const a of got) expect(bench.transportSum(v4, remote, guest, udp.UDP, a.l4)).toBe(0xffff);
  });

  test('a datagram larger than the guest’s MTU becomes fragments that make it again, and those behind it keep their place', () => {
    udp.configure({ linkMtu: 1500 });
    const socket = udp.opened({ v4 });
    socket.incoming.push({ bytes: Buffer.from('a') }, { bytes: udp.numbered(4000) }, { bytes: Buffer.from('b') });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.length).toBe(5);
    expect([got[0]?.l4.subarray(8).toString(), got[4]?.l4.subarray(8).toString()]).toEqual(['a', 'b']);
    const parts = got.slice(1, 4).map((a) => {
      expect(a.l4.length + (v4 ? 20 : 40)).toBeLessThanOrEqual(1500);
      if (v4) {
        return {
          offset: (a.flagsAndFragment & 0x1fff) * 8,
          more: (a.flagsAndFragment & 0x2000) !== 0,
          id: a.id,
          data: a.l4,
        };
      }
      expect([a.protocol, a.l4[0]]).toEqual([44, udp.UDP]);
      const word = a.l4.readUInt16BE(2);
      return { offset: word & 0xfff8, more: (word & 1) !== 0, id: a.l4.readUInt32BE(4), data: a.l4.subarray(8) };
    });
    expect(parts.map((p) => p.more)).toEqual([true, true, false]);
    expect(new Set(parts.map((p) => p.id)).size).toBe(1);
    let expected = 0;
    for (const p of parts) {
      expect(p.offset).toBe(expected);
      expected += p.data.length;
    }
    const whole = Buffer.concat(parts.map((p) => p.data));
    expect(whole.subarray(8).equals(udp.numbered(4000))).toBe(true);
    expect(bench.transportSum(v4, remote, guest, udp.UDP, whole)).toBe(0xffff);
  });

  test('the largest datagram that IP can carry arrives', () => {
    const socket = udp.opened({ v4 });
    const largest = v4 ? 65_507 : 65_527;
    socket.incoming.push({ bytes: udp.numbered(largest) });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    // 65520 is the guest's MTU.
    expect(got.length).toBe(2);
    const total = got.reduce((n, a) => n + a.l4.length - (v4 ? 0 : 8), 0);
    expect(total).toBe(largest + 8);
  });
});

describe.each([true, false])('what is received while another flow must go (superframes: %s)', (uso) => {
  test('is not overwritten by what that flow has to tell', () => {
    udp.configure({ descriptors: 2, uso });
    const x = udp.opened({ srcPort: 1111 }, 20);
    udp.peerAnswers(udp.theFlow(1111), x);
    const y = udp.opened({ srcPort: 2222 }, 21);
    bench.arrived();
    // Its last write fails by an error whose text is as large as it can be.
    x.writeResults.push(-111);
    x.errors.push({ payload: Buffer.alloc(500, 'E'), origin: 2, type: 3, code: 3, errno: 111 });
    bench.newBatch();
    udp.datagram('gathered', { srcPort: 1111 });
    y.incoming.push({ bytes: Buffer.alloc(200, 'D') }, { bytes: Buffer.alloc(300, 'F') });
    flow.onEvent(udp.theFlow(2222), fake.EPOLLIN);
    const got = bench.arrived().filter((a) => a.protocol === udp.UDP);
    expect(got.map((a) => a.l4.subarray(8).toString())).toEqual(['D'.repeat(200), 'F'.repeat(300)]);
    expect([x.closed, y.closed]).toEqual([true, false]);
    expect(x.sent.map(String)).toEqual(['first', 'gathered']);
  });
});
