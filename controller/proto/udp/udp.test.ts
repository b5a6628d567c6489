// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const { ip4, ip6, u16 } = await import('../../../test/support/guest-frames.ts');
const { dropCount } = await import('../../obs/drops.ts');
const flows = await import('../../flow/table.ts');
const lru = await import('../../flow/lru.ts');
const wheel = await import('../../flow/wheel.ts');
const out = await import('../../link/out.ts');
const udp = await import('./udp.ts');
const flow = await import('./flow.ts');
const { endBatch, fromTap } = await import('./from-tap.ts');
type Flow = import('../../flow/table.ts').Flow;

const GUEST_PORT = 40_000;
const REMOTE_PORT = 7;
const UDP = 17;
const NEEDS_CSUM = 1;
const GSO_UDP_L4 = 5;
const EAGAIN = 11;
const ECONNREFUSED = 111;

const configure = (change: Partial<import('./udp.ts').UdpSettings> = {}): void =>
  udp.configure({ linkMtu: 65_520, uso: true, singleMs: 30_000, streamMs: 120_000, ...change });

interface Options {
  v4?: boolean;
  srcPort?: number;
  dstPort?: number;
  hopLimit?: number;
  trafficClass?: number;
  dst?: string;
  vnet?: readonly [number, number, number];
  /** undefined: right. */
  checksum?: number;
  length?: number;
}
const datagram = (data: Uint8Array | string, o: Options = {}): void => {
  const v4 = o.v4 ?? true;
  const payload = Buffer.from(data);
  const length = o.length ?? payload.length + 8;
  const head = [...u16(o.srcPort ?? GUEST_PORT), ...u16(o.dstPort ?? REMOTE_PORT), ...u16(length)];
  const whole = [...head, 0, 0, ...payload];
  const l4 =
    o.checksum === undefined ? bench.withChecksum(v4, UDP, whole, 6) : [...head, ...u16(o.checksum), ...payload];
  bench.deliver(fromTap, { ...o, v4, protocol: UDP, l4 });
};
/** Small and large frames of one batch, then the batch ends. */
const batch = (frames: () => void): void => {
  bench.newBatch();
  frames();
  endBatch();
};
const numbered = (length: number, seed = 0): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff));
/** One flow with its socket, first datagram sent. */
const opened = (o: Options = {}): import('../../../test/support/fake-io.ts').FakeSocket => {
  batch(() => datagram('first', o));
  const [socket] = bench.answer({ fd: 20 });
  if (socket === undefined) throw new Error('nothing was asked of the helper');
  return socket;
};
const theFlow = (): Flow => {
  for (let f = 0; f < flows.highWater(); f++) if (flows.typeOf(f as Flow) === flows.FLOW_UDP) return f as Flow;
  throw new Error('no flow');
};
const expire = (ms: number): void => {
  fake.setNow(ms);
  wheel.expire(ms);
};

beforeEach(() => {
  bench.begin(1000, flow.onTimer);
  bench.resetAnswers();
  bench.newBatch();
  configure();
});
afterEach(() => {
  endBatch();
  for (let f = 0; f < flows.highWater(); f++) if (flows.typeOf(f as Flow) === flows.FLOW_UDP) flow.close(f as Flow);
  flows.endTurn();
  out.flush();
});

describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('%s', (_name, v4) => {
  const guest = v4 ? bench.GUEST4 : bench.full6(bench.GUEST6);
  const remote = v4 ? bench.REMOTE4 : bench.full6(bench.REMOTE6);

  test('the first datagram asks for a socket with the guest’s port, waits for it, and leaves', () => {
    batch(() => datagram('hello', { v4 }));
    expect(bench.requests().map((r) => r.params)).toEqual([
      {
        protocol: 'udp',
        address: v4 ? bench.REMOTE4 : bench.REMOTE6,
        port: REMOTE_PORT,
        sourcePort: GUEST_PORT,
      },
    ]);
    const [socket] = bench.answer({ fd: 20 });
    expect(socket?.sent.map(String)).toEqual(['hello']);
    expect(socket?.events).toBe(fake.EPOLLIN);
    expect(socket?.ref).toBe(theFlow());
  });

  test('a datagram from the socket reaches the guest, with TTL and traffic class as they came', () => {
    const socket = opened({ v4 });
    socket.incoming.push({ bytes: Buffer.from('answer'), ttl: 61, tos: 0x2e });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    const [a, ...more] = bench.arrived();
    expect(more).toEqual([]);
    expect(a).toMatchObject({ v4, src: remote, dst: guest, protocol: UDP, hopLimit: 61, trafficClass: 0x2e });
    expect(a?.l4.subarray(8).toString()).toBe('answer');
    expect([a?.l4.readUInt16BE(0), a?.l4.readUInt16BE(2), a?.l4.readUInt16BE(4)]).toEqual([
      REMOTE_PORT,
      GUEST_PORT,
      14,
    ]);
  });

  test('with a virtio-net header the checksum is left to the receiver: the field has the pseudo-header’s sum', () => {
    const socket = opened({ v4 });
    socket.incoming.push({ bytes: numbered(33) });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    const a = bench.arrived()[0];
    expect(a?.vnet[0]).toBe(NEEDS_CSUM);
    expect([a?.vnet.readUInt16LE(6), a?.vnet.readUInt16LE(8)]).toEqual([v4 ? 34 : 54, 6]);
    const l4 = a?.l4 ?? Buffer.alloc(0);
    // Complete it as the kernel does: the sum over everything from csum_start on, the field counting as it is.
    const completed = ~fake.checksumOf(l4) & 0xffff;
    l4.writeUInt16BE(completed, 6);
    expect(bench.transportSum(v4, remote, guest, UDP, l4)).toBe(0xffff);
  });

  test('without a virtio-net header the checksum is complete', () => {
    configure({ uso: false });
    out.attach(9, 0);
    fake.setVnetBytes(0);
    const socket = opened({ v4 });
    socket.incoming.push({ bytes: numbered(1001) }, { bytes: Buffer.alloc(0) });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.map((a) => a.l4.length)).toEqual([1009, 8]);
    for (const a of got) expect(bench.transportSum(v4, remote, guest, UDP, a.l4)).toBe(0xffff);
  });

  test('what UDP_GRO joined becomes one superframe', () => {
    const socket = opened({ v4 });
    socket.incoming.push({ bytes: numbered(3500), gso: 1000 });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.length).toBe(1);
    const vnet = got[0]?.vnet ?? Buffer.alloc(12);
    expect([vnet[0], vnet[1], vnet.readUInt16LE(2), vnet.readUInt16LE(4)]).toEqual([
      NEEDS_CSUM,
      GSO_UDP_L4,
      v4 ? 42 : 62,
      1000,
    ]);
    expect(got[0]?.l4.subarray(8).equals(numbered(3500))).toBe(true);
  });

  test('where the tap takes no superframes it is cut again, each with its checksum', () => {
    configure({ uso: false });
    const socket = opened({ v4 });
    socket.incoming.push({ bytes: numbered(3500), gso: 1000 });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.map((a) => a.l4.length - 8)).toEqual([1000, 1000, 1000, 500]);
    expect(Buffer.concat(got.map((a) => a.l4.subarray(8))).equals(numbered(3500))).toBe(true);
    for (const a of got) expect(bench.transportSum(v4, remote, guest, UDP, a.l4)).toBe(0xffff);
  });

  test('a datagram larger than the guest’s MTU becomes fragments that make it again, and those behind it keep their place', () => {
    configure({ linkMtu: 1500 });
    const socket = opened({ v4 });
    socket.incoming.push({ bytes: Buffer.from('a') }, { bytes: numbered(4000) }, { bytes: Buffer.from('b') });
    flow.onEvent(theFlow(), fake.EPOLLIN);
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
      expect([a.protocol, a.l4[0]]).toEqual([44, UDP]);
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
    expect(whole.subarray(8).equals(numbered(4000))).toBe(true);
    expect(bench.transportSum(v4, remote, guest, UDP, whole)).toBe(0xffff);
  });

  test('the largest datagram that IP can carry arrives', () => {
    const socket = opened({ v4 });
    const largest = v4 ? 65_507 : 65_527;
    socket.incoming.push({ bytes: numbered(largest) });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    // 65520 is the guest's MTU.
    expect(got.length).toBe(2);
    const total = got.reduce((n, a) => n + a.l4.length - (v4 ? 0 : 8), 0);
    expect(total).toBe(largest + 8);
  });

  test('TTL and traffic class of the guest are set on the socket, once each time they change', () => {
    const socket = opened({ v4, hopLimit: 64 });
    const [ttl, tos] = v4 ? [bench.SO.IP_TTL, bench.SO.IP_TOS] : [bench.SO.IPV6_UNICAST_HOPS, bench.SO.IPV6_TCLASS];
    batch(() => {
      datagram('x', { v4, hopLimit: 1 });
      datagram('y', { v4, hopLimit: 1 });
      datagram('z', { v4, hopLimit: 2, trafficClass: 0xb8 });
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

  test('an error of the network is passed on: who said it, what, and the guest’s own datagram', () => {
    const socket = opened({ v4 });
    const offender = Uint8Array.from(
      v4 ? [...new Array(10).fill(0), 255, 255, ...ip4('203.0.113.9')] : ip6('2001:db8:9::9'),
    );
    socket.errors.push({
      payload: Buffer.from('first'),
      origin: v4 ? 2 : 3,
      type: v4 ? 11 : 3,
      code: 0,
      errno: 113,
      offender,
    });
    flow.onEvent(theFlow(), fake.EPOLLERR);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect(e).toMatchObject({
      type: v4 ? 11 : 3,
      code: 0,
      rest: 0,
      from: v4 ? '203.0.113.9' : bench.full6('2001:db8:9::9'),
      quotedSrc: guest,
      quotedDst: remote,
      quotedProtocol: UDP,
    });
    expect([e.quote.readUInt16BE(0), e.quote.readUInt16BE(2)]).toEqual([GUEST_PORT, REMOTE_PORT]);
    expect(e.quote.subarray(8).toString()).toBe('first');
    expect(bench.transportSum(v4, guest, remote, UDP, e.quote)).toBe(0xffff);
  });

  test('an MTU travels with the error, and the error keeps its own size limit', () => {
    const socket = opened({ v4 });
    socket.errors.push({
      payload: numbered(1400),
      origin: v4 ? 2 : 3,
      type: v4 ? 3 : 2,
      code: v4 ? 4 : 0,
      info: 1380,
      errno: 90,
    });
    flow.onEvent(theFlow(), fake.EPOLLERR);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.type, e.code, e.rest]).toEqual(v4 ? [3, 4, 1380] : [2, 0, 1380]);
    expect(e.bytes).toBeLessThanOrEqual(v4 ? 576 : 1280);
    // Nobody named: the destination speaks for itself.
    expect(e.from).toBe(remote);
  });

  test('the host’s own "too long" tells the guest the MTU, from us', () => {
    const socket = opened({ v4 });
    socket.errors.push({ payload: new Uint8Array(0), origin: 1, type: 0, code: 0, info: 1280, errno: 90 });
    flow.onEvent(theFlow(), fake.EPOLLERR);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.type, e.code, e.rest, e.quote.length]).toEqual(v4 ? [3, 4, 1280, 8] : [2, 0, 1280, 8]);
    expect(e.from).toBe(v4 ? '192.0.2.1' : bench.full6('fe80::1'));
  });

  test.each([
    ['port unreachable', ECONNREFUSED, 3, 4, false],
    ['net unreachable', 101, 0, 0, true],
    ['host unreachable', 113, 1, 3, true],
    ['prohibited', 'refused' as const, 13, 1, true],
  ])(
    'a refused connect tells the guest "%s", also later datagrams, for a second',
    (_what, why, code4, code6, fromUs) => {
      batch(() => datagram('first', { v4 }));
      bench.answer(why === 'refused' ? why : { errno: why });
      batch(() => datagram('second', { v4 }));
      const errors = bench.arrived().map(bench.icmpError);
      expect(errors.map((e) => e.quote.subarray(8).toString())).toEqual(['first', 'second']);
      for (const e of errors) {
        expect([e.type, e.code]).toEqual(v4 ? [3, code4] : [1, code6]);
        expect(e.from).toBe(fromUs ? (v4 ? '192.0.2.1' : bench.full6('fe80::1')) : remote);
      }
      expect(bench.requests()).toEqual([]);
      expire(2100);
      batch(() => datagram('third', { v4 }));
      expect(bench.requests().length).toBe(1);
    },
  );
});

describe('what a guest may not send', () => {
  const dropped = (reason: Parameters<typeof dropCount>[0], f: () => void): void => {
    const before = dropCount(reason);
    const flowsBefore = flows.count(flows.FLOW_UDP);
    batch(f);
    expect(dropCount(reason)).toBe(before + 1);
    expect(flows.count(flows.FLOW_UDP)).toBe(flowsBefore);
  };
  test('a wrong checksum', () => dropped('udp-checksum', () => datagram('x', { checksum: 0x1234 })));
  test('no checksum over IPv6', () => dropped('udp-checksum', () => datagram('x', { v4: false, checksum: 0 })));
  test('a length beyond the packet', () => dropped('udp-malformed', () => datagram('x', { length: 10 })));
  test('a length shorter than the header', () => dropped('udp-malformed', () => datagram('x', { length: 7 })));
  test('port 0', () => dropped('udp-malformed', () => datagram('x', { dstPort: 0 })));
  test('no hops left', () => dropped('ip-martian', () => datagram('x', { hopLimit: 0 })));
  test('multicast', () => dropped('flow-refused', () => datagram('x', { dst: '239.255.255.250', checksum: 0 })));
  test('broadcast', () => dropped('flow-refused', () => datagram('x', { dst: '255.255.255.255', checksum: 0 })));

  test('but no checksum over IPv4 is fine, and a vouched one is not looked at', () => {
    batch(() => {
      datagram('a', { checksum: 0 });
      datagram('b', { checksum: 0x1234, vnet: [NEEDS_CSUM, 0, 0] });
    });
    expect(bench.answer({ fd: 20 })[0]?.sent.map(String)).toEqual(['a', 'b']);
  });
  test('bytes behind the length field are not data', () => {
    batch(() => datagram('datapadding', { length: 12, checksum: 0 }));
    expect(bench.answer({ fd: 20 })[0]?.sent.map(String)).toEqual(['data']);
  });
  test('source port 0 means no reply is expected, and is no reason to drop', () => {
    batch(() => datagram('x', { srcPort: 0 }));
    expect(bench.requests()[0]?.params.sourcePort).toBe(0);
  });
});

describe('many datagrams, few calls', () => {
  test('consecutive datagrams of one size leave in one write; the last may be shorter', () => {
    const socket = opened();
    const before = socket.writes;
    batch(() => {
      for (let i = 0; i < 5; i++) datagram(numbered(100, i));
      datagram(numbered(40));
    });
    expect(socket.writes - before).toBe(1);
    expect(socket.sent.slice(1).map((b) => b.length)).toEqual([100, 100, 100, 100, 100, 40]);
  });

  test('a superframe leaves in one write, cut as the guest had it cut', () => {
    const socket = opened();
    const before = socket.writes;
    batch(() => datagram(numbered(3500), { vnet: [NEEDS_CSUM, GSO_UDP_L4, 1000] }));
    expect(socket.writes - before).toBe(1);
    expect(socket.sent.slice(1).map((b) => b.length)).toEqual([1000, 1000, 1000, 500]);
    expect(Buffer.concat(socket.sent.slice(1)).equals(numbered(3500))).toBe(true);
  });

  test('a superframe with more segments than a write may have takes several', () => {
    const socket = opened();
    batch(() => datagram(numbered(2001), { vnet: [NEEDS_CSUM, GSO_UDP_L4, 10] }));
    expect(socket.sent.length).toBe(1 + 201);
    expect(Buffer.concat(socket.sent.slice(1)).equals(numbered(2001))).toBe(true);
  });

  test('datagrams without data stay datagrams, in their place', () => {
    const socket = opened();
    batch(() => {
      datagram('aa');
      datagram('');
      datagram('bb');
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
          const ports = [GUEST_PORT, GUEST_PORT + 1];
          batch(() => {
            for (const srcPort of ports) datagram('first', { srcPort });
          });
          const sockets = bench.answer({ fd: 30 });
          const expected: Buffer[][] = [[], []];
          bench.newBatch();
          steps.forEach((s, i) => {
            const data = numbered(s.length, i);
            const k = s.second ? 1 : 0;
            const superframe = s.gso !== 0 && s.length > 0;
            datagram(data, {
              srcPort: ports[k] as number,
              hopLimit: s.hopLimit,
              ...(superframe ? { vnet: [NEEDS_CSUM, GSO_UDP_L4, s.gso] as const } : {}),
            });
            const unit = superframe ? s.gso : Math.max(s.length, 1);
            let at = 0;
            do {
              expected[k]?.push(data.subarray(at, at + unit));
              at += unit;
            } while (at < s.length);
            if (s.cut) endBatch();
          });
          endBatch();
          sockets.forEach((socket, k) => {
            const got = socket.sent.slice(1).map((b) => b.toString('hex'));
            expect(got).toEqual(expected[k]?.map((b) => b.toString('hex')));
          });
          for (let f = 0; f < flows.highWater(); f++)
            if (flows.typeOf(f as Flow) === flows.FLOW_UDP) flow.close(f as Flow);
          flows.endTurn();
        },
      ),
      { numRuns: 60 },
    );
  });

  test('what TCP has gathered in the shared columns survives a write of ours', () => {
    const socket = opened();
    const { col, COL } = fake;
    col[COL.IOV_AT] = 1111;
    col[COL.IOV_LEN] = 2222;
    batch(() => {
      datagram('aa');
      datagram('bb');
    });
    expect(socket.sent.length).toBe(3);
    expect([col[COL.IOV_AT], col[COL.IOV_LEN]]).toEqual([1111, 2222]);
  });

  test('a size that the path does not take as segments goes one by one, and is not tried again', () => {
    const socket = opened();
    socket.writeResults.push(-22);
    const two = (n: number): void =>
      batch(() => {
        datagram(numbered(n));
        datagram(numbered(n));
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

describe('sockets that fail', () => {
  test('an error of an earlier datagram fails no later one: it is told, and the write repeated', () => {
    const socket = opened();
    socket.writeResults.push(-ECONNREFUSED);
    socket.errors.push({ payload: Buffer.from('first'), origin: 2, type: 3, code: 3, errno: ECONNREFUSED });
    batch(() => datagram('second'));
    expect(socket.sent.map(String)).toEqual(['first', 'second']);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.type, e.code, e.from]).toEqual([3, 3, bench.REMOTE4]);
  });

  test('the same for a gathering', () => {
    const socket = opened();
    socket.writeResults.push(-ECONNREFUSED);
    socket.errors.push({ payload: Buffer.from('first'), origin: 2, type: 3, code: 3, errno: ECONNREFUSED });
    batch(() => {
      datagram('bb');
      datagram('cc');
    });
    expect(socket.sent.map(String)).toEqual(['first', 'bb', 'cc']);
    expect(socket.segment).toBe(2);
  });

  test('a route that went away is told with the datagram that could not leave', () => {
    const socket = opened();
    socket.writeResults.push(-101, -101);
    const before = dropCount('sock-error');
    batch(() => datagram('second'));
    expect(dropCount('sock-error')).toBe(before + 1);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.type, e.code, e.quote.subarray(8).toString()]).toEqual([3, 0, 'second']);
  });

  test('a full socket drops, counted, one for each datagram, and says nothing', () => {
    const socket = opened();
    const before = dropCount('sock-full');
    socket.writeResults.push(-EAGAIN, -EAGAIN);
    batch(() => datagram('single'));
    batch(() => {
      datagram('aa');
      datagram('bb');
      datagram('cc');
    });
    expect(dropCount('sock-full')).toBe(before + 4);
    expect(bench.arrived()).toEqual([]);
  });

  test('an error reported by a receive does not hide what waits behind it', () => {
    const socket = opened();
    socket.receiveResults.push(-ECONNREFUSED);
    socket.incoming.push({ bytes: Buffer.from('behind') });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    expect(bench.arrived().map((a) => a.l4.subarray(8).toString())).toEqual(['behind']);
  });

  test('an offender that no packet can come from is replaced by the destination', () => {
    const socket = opened();
    const offender = Uint8Array.from([...new Array(10).fill(0), 255, 255, 127, 0, 0, 1]);
    socket.errors.push({ payload: Buffer.from('x'), origin: 2, type: 3, code: 3, errno: ECONNREFUSED, offender });
    flow.onEvent(theFlow(), fake.EPOLLERR);
    expect(bench.arrived()[0]?.src).toBe(bench.REMOTE4);
  });

  test('an error that is none of ICMP’s errors is not made up', () => {
    const socket = opened();
    socket.errors.push({ payload: Buffer.from('x'), origin: 2, type: 8, code: 0, errno: 1 });
    socket.errors.push({ payload: Buffer.from('x'), origin: 3, type: 1, code: 0, errno: 1 });
    socket.errors.push({ payload: Buffer.from('x'), origin: 1, type: 0, code: 0, errno: 12 });
    flow.onEvent(theFlow(), fake.EPOLLERR);
    expect(bench.arrived()).toEqual([]);
  });
});

describe('the life of a flow', () => {
  test('one way or one exchange ends after the short timeout, and everything is given back', () => {
    const socket = opened();
    socket.incoming.push({ bytes: Buffer.from('answer') });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    expire(30_900);
    expect(flows.count(flows.FLOW_UDP)).toBe(1);
    expire(31_600);
    expect(flows.count(flows.FLOW_UDP)).toBe(0);
    expect(socket.closed).toBe(true);
    expect(lru.size(lru.LRU_UDP)).toBe(0);
    expect(wheel.nextDelay(31_600)).toBe(-1);
  });

  test('a stream lives for the long one, counted from its last datagram', () => {
    const socket = opened();
    socket.incoming.push({ bytes: Buffer.from('answer') });
    flow.onEvent(theFlow(), fake.EPOLLIN);
    fake.setNow(20_000);
    batch(() => datagram('again'));
    expire(130_000);
    expect(flows.count(flows.FLOW_UDP)).toBe(1);
    // Late by at most an eighth of what was left.
    expire(140_000 + 15_000);
    expect(flows.count(flows.FLOW_UDP)).toBe(0);
  });

  test('at its cap the class gives up the flow that was idle longest', () => {
    configure({ flowsMax: 8 });
    for (let i = 0; i < 6; i++) {
      fake.setNow(1000 + i * 2000);
      batch(() => datagram('x', { srcPort: 50_000 + i }));
    }
    bench.answer({ fd: 20 });
    fake.setNow(20_000);
    batch(() => datagram('x', { srcPort: 50_000 }));
    batch(() => datagram('x', { srcPort: 60_000 }));
    expect(flows.count(flows.FLOW_UDP)).toBe(6);
    // The first one was used again, so the second one went.
    expect(fake.closedFds).toEqual([21]);
  });

  test('lookups do not push out other flows', () => {
    configure({ flowsMax: 8 });
    batch(() => datagram('x'));
    for (let i = 0; i < 20; i++) batch(() => datagram('q', { srcPort: 50_000 + i, dstPort: 53 }));
    expect(lru.size(lru.LRU_DNS)).toBe(2);
    expect(lru.size(lru.LRU_UDP)).toBe(1);
  });

  test('a flow that is pushed out sends first what was gathered for it', () => {
    configure({ flowsMax: 2 });
    const socket = opened();
    bench.newBatch();
    datagram('gathered');
    datagram('x', { srcPort: 50_001 });
    expect(socket.sent.map(String)).toEqual(['first', 'gathered']);
    expect(socket.closed).toBe(true);
  });

  test('a helper short of descriptors costs the oldest flow its own', () => {
    const socket = opened();
    batch(() => datagram('x', { srcPort: 50_001 }));
    bench.answer({ errno: 24 });
    expect(socket.closed).toBe(true);
  });

  test('datagrams beyond what may wait for a socket are dropped, counted, and the rest leaves in order', () => {
    const before = dropCount('flow-pending-full');
    batch(() => {
      for (let i = 0; i < 40; i++) datagram(`n${i}`);
    });
    expect(dropCount('flow-pending-full')).toBe(before + 8);
    const [socket] = bench.answer({ fd: 20 });
    expect(socket?.sent.map(String)).toEqual(Array.from({ length: 32 }, (_, i) => `n${i}`));
  });
});
