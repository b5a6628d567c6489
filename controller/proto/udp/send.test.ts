// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const udp = await import('../../../test/support/udp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const fromTap = await import('./from-tap.ts');

beforeEach(udp.begin);
afterEach(udp.closeAll);

describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('%s', (_name, v4) => {
  test('TTL and traffic class of the guest are set on the socket, once each time they change', () => {
    const socket = udp.opened({ v4, hopLimit: 64 });
    const [ttl, tos] = v4 ? [bench.SO.IP_TTL, bench.SO.IP_TOS] : [bench.SO.IPV6_UNICAST_HOPS, bench.SO.IPV6_TCLASS];
    udp.batch(() => {
      udp.datagram('x', { v4, hopLimit: 1 });
      udp.datagram('y', { v4, hopLimit: 1 });
      udp.datagram('z', { v4, hopLimit: 2, trafficClass: 0xb8 });
    });
    expect(socket.options).toEqual([
      [...ttl, 64],
      [...ttl, 1],
      [...ttl, 2],
      [...tos, 0xb8],
    ]);
    expect(socket.sent.map(String)).toEqual(['first', 'x', 'y', 'z']);
    // Each datagram left after its own options were set and before those of the next.
    expect(socket.optionsBefore).toEqual([1, 2, 2, 4]);
  });
});

describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('don’t fragment over %s', (_name, v4) => {
  const [DONT, WANT, PROBE] = [0, 1, 3];
  const option = v4 ? bench.SO.IP_MTU_DISCOVER : bench.SO.IPV6_MTU_DISCOVER;
  /** Values that the option was given. */
  const modes = (socket: import('../../../test/support/fake-io.ts').FakeSocket): number[] =>
    socket.options.filter(([level, name]) => level === option[0] && name === option[1]).map(([, , value]) => value);
  const small = v4 ? 1252 : 1232;

  test('is kept for what not every path takes, and needs no call for the rest', () => {
    const socket = udp.opened({ v4 });
    udp.batch(() => udp.datagram(udp.numbered(small), { v4 }));
    expect(modes(socket)).toEqual([]);
    udp.batch(() => {
      udp.datagram(udp.numbered(small + 1), { v4 });
      udp.datagram(udp.numbered(1400), { v4 });
      udp.datagram(udp.numbered(10), { v4 });
    });
    expect(modes(socket)).toEqual([PROBE]);
  });

  if (v4) {
    test('that is not asked for is not set: routers may cut (IPv4 only)', () => {
      const socket = udp.opened({ v4, dontFragment: false });
      udp.batch(() => udp.datagram(udp.numbered(10), { v4 }));
      udp.batch(() => udp.datagram(udp.numbered(1400), { v4, dontFragment: false }));
      expect(modes(socket)).toEqual([DONT, WANT, DONT]);
    });
  }

  test('what exceeds the host’s link is left to the host to cut, at once the next time; nobody is told', () => {
    const socket = udp.opened({ v4 });
    socket.writeResults.push(-90);
    socket.errors.push({ payload: new Uint8Array(0), origin: 1, type: 0, code: 0, info: 1500, errno: 90 });
    udp.batch(() => udp.datagram(udp.numbered(4000, 1), { v4 }));
    expect([modes(socket), socket.writes]).toEqual([[PROBE, WANT], 3]);
    udp.batch(() => udp.datagram(udp.numbered(4001, 2), { v4 }));
    expect([modes(socket), socket.writes]).toEqual([[PROBE, WANT], 4]);
    udp.batch(() => udp.datagram(udp.numbered(3999, 3), { v4 }));
    expect(modes(socket)).toEqual([PROBE, WANT, PROBE]);
    expect(socket.sent.map((b) => b.length)).toEqual([5, 4000, 4001, 3999]);
    expect(bench.arrived()).toEqual([]);
  });
});

describe('the path’s objection', () => {
  test('to an earlier datagram does not leave the next one to the host', () => {
    const socket = udp.opened();
    udp.batch(() => udp.datagram(udp.numbered(1440)));
    socket.writeResults.push(-90);
    socket.errors.push({ payload: udp.numbered(1440), origin: 2, type: 3, code: 4, info: 1400, errno: 90 });
    udp.batch(() => udp.datagram(udp.numbered(1440)));
    expect(socket.options.filter(([level, name]) => level === 0 && name === 10)).toEqual([[0, 10, 3]]);
    expect(socket.sent.length).toBe(3);
    expect(bench.arrived().map(bench.icmpError)).toMatchObject([{ rest: 1400 }]);
  });
});

describe('many datagrams, few calls', () => {
  test('consecutive datagrams of one size leave in one write; the last may be shorter', () => {
    const socket = udp.opened();
    const before = socket.writes;
    udp.batch(() => {
      for (let i = 0; i < 5; i++) udp.datagram(udp.numbered(100, i));
      udp.datagram(udp.numbered(40));
    });
    expect(socket.writes - before).toBe(1);
    expect(socket.sent.slice(1).map((b) => b.length)).toEqual([100, 100, 100, 100, 100, 40]);
  });

  test('a superframe leaves in one write, cut as the guest had it cut', () => {
    const socket = udp.opened();
    const before = socket.writes;
    udp.batch(() => udp.datagram(udp.numbered(3500), { vnet: [udp.NEEDS_CSUM, udp.GSO_UDP_L4, 1000] }));
    expect(socket.writes - before).toBe(1);
    expect(socket.sent.slice(1).map((b) => b.length)).toEqual([1000, 1000, 1000, 500]);
    expect(Buffer.concat(socket.sent.slice(1)).equals(udp.numbered(3500))).toBe(true);
  });

  test('a superframe with more segments than a write may have takes several', () => {
    const socket = udp.opened();
    udp.batch(() => udp.datagram(udp.numbered(2001), { vnet: [udp.NEEDS_CSUM, udp.GSO_UDP_L4, 10] }));
    expect(socket.sent.length).toBe(1 + 201);
    expect(Buffer.concat(socket.sent.slice(1)).equals(udp.numbered(2001))).toBe(true);
  });

  test('datagrams without data stay datagrams, in their place', () => {
    const socket = udp.opened();
    udp.batch(() => {
      udp.datagram('aa');
      udp.datagram('');
      udp.datagram('bb');
    });
    expect(socket.sent.map(String)).toEqual(['first', 'aa', '', 'bb']);
  });

  test('any sequence of sizes, superframes and two flows arrives as it was, in order, for each flow', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            second: fc.boolean(),
            length: fc.oneof(fc.constantFrom(0, 1, 99, 100, 1400), fc.nat(3000)),
            gso: fc.option(fc.constantFrom(1, 33, 100, 1400), { nil: 0 }),
            hopLimit: fc.constantFrom(64, 64, 64, 3),
            cut: fc.boolean(),
          }),
          { maxLength: 60 },
        ),
        (steps) => {
          const ports = [udp.GUEST_PORT, udp.GUEST_PORT + 1];
          udp.batch(() => {
            for (const srcPort of ports) udp.datagram('first', { srcPort });
          });
          const sockets = bench.answer({ fd: 30 });
          const expected: Buffer[][] = [[], []];
          bench.newBatch();
          steps.forEach((s, i) => {
            const data = udp.numbered(s.length, i);
            const k = s.second ? 1 : 0;
            const superframe = s.gso !== 0 && s.length > 0;
            udp.datagram(data, {
              srcPort: ports[k] as number,
              hopLimit: s.hopLimit,
              ...(superframe ? { vnet: [udp.NEEDS_CSUM, udp.GSO_UDP_L4, s.gso] as const } : {}),
            });
            const unit = superframe ? s.gso : Math.max(s.length, 1);
            let at = 0;
            do {
              expected[k]?.push(data.subarray(at, at + unit));
              at += unit;
            } while (at < s.length);
            if (s.cut) fromTap.endBatch();
          });
          fromTap.endBatch();
          sockets.forEach((socket, k) => {
            const got = socket.sent.slice(1).map((b) => b.toString('hex'));
            expect(got).toEqual(expected[k]?.map((b) => b.toString('hex')));
          });
          udp.closeAll();
        },
      ),
      { numRuns: 60 },
    );
  });

  test('what TCP has gathered in the shared columns survives a write of ours', () => {
    const socket = udp.opened();
    const { col, COL } = fake;
    col[COL.IOV_AT] = 1111;
    col[COL.IOV_LEN] = 2222;
    udp.batch(() => {
      udp.datagram('aa');
      udp.datagram('bb');
    });
    expect(socket.sent.length).toBe(3);
    expect([col[COL.IOV_AT], col[COL.IOV_LEN]]).toEqual([1111, 2222]);
  });

  test('a size that the path does not take as segments goes one by one, and is not tried again', () => {
    const socket = udp.opened();
    socket.writeResults.push(-22);
    const two = (n: number): void =>
      udp.batch(() => {
        udp.datagram(udp.numbered(n));
        udp.datagram(udp.numbered(n));
      });
    two(2000);
    expect(socket.sent.slice(1).map((b) => b.length)).toEqual([2000, 2000]);
    const before = socket.writes;
    two(2000);
    expect(socket.writes - before).toBe(2);
    expect(socket.segment).toBe(0);
    two(500);
    expect(socket.writes - before).toBe(3);
    expect(socket.sent.length).toBe(7);
  });
});
