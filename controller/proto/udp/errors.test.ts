// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const udp = await import('../../../test/support/udp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const { ip4, ip6 } = await import('../../../test/support/guest-frames.ts');
const { dropCount } = await import('../../obs/drops.ts');
const flow = await import('./flow.ts');

const EAGAIN = 11;
const ECONNREFUSED = 111;

beforeEach(udp.begin);
afterEach(udp.closeAll);

describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('%s', (_name, v4) => {
  const guest = v4 ? bench.GUEST4 : bench.full6(bench.GUEST6);
  const remote = v4 ? bench.REMOTE4 : bench.full6(bench.REMOTE6);

  test('an error of the network is passed on: who said it, what, and the guest’s own datagram', () => {
    const socket = udp.opened({ v4 });
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
    flow.onEvent(udp.theFlow(), fake.EPOLLERR);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect(e).toMatchObject({
      type: v4 ? 11 : 3,
      code: 0,
      rest: 0,
      from: v4 ? '203.0.113.9' : bench.full6('2001:db8:9::9'),
      quotedSrc: guest,
      quotedDst: remote,
      quotedProtocol: udp.UDP,
    });
    expect([e.quote.readUInt16BE(0), e.quote.readUInt16BE(2)]).toEqual([udp.GUEST_PORT, udp.REMOTE_PORT]);
    expect(e.quote.subarray(8).toString()).toBe('first');
    expect(bench.transportSum(v4, guest, remote, udp.UDP, e.quote)).toBe(0xffff);
  });

  test('an MTU travels with the error, and the error keeps its own size limit', () => {
    const socket = udp.opened({ v4 });
    socket.errors.push({
      payload: udp.numbered(1400),
      origin: v4 ? 2 : 3,
      type: v4 ? 3 : 2,
      code: v4 ? 4 : 0,
      info: 1380,
      errno: 90,
    });
    flow.onEvent(udp.theFlow(), fake.EPOLLERR);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.type, e.code, e.rest]).toEqual(v4 ? [3, 4, 1380] : [2, 0, 1380]);
    expect(e.bytes).toBeLessThanOrEqual(v4 ? 576 : 1280);
    // Nobody named: the destination speaks for itself.
    expect(e.from).toBe(remote);
  });

  test.each([
    ['port unreachable', ECONNREFUSED, 3, 4, false],
    ['net unreachable', 101, 0, 0, true],
    ['host unreachable', 113, 1, 3, true],
    ['prohibited', 'refused' as const, 13, 1, true],
  ])(
    'a refused connect tells the guest "%s", also later datagrams, for a second',
    (_what, why, code4, code6, fromUs) => {
      udp.batch(() => udp.datagram('first', { v4 }));
      bench.answer(why === 'refused' ? why : { errno: why });
      udp.batch(() => udp.datagram('second', { v4 }));
      const errors = bench.arrived().map(bench.icmpError);
      expect(errors.map((e) => e.quote.subarray(8).toString())).toEqual(['first', 'second']);
      for (const e of errors) {
        expect([e.type, e.code]).toEqual(v4 ? [3, code4] : [1, code6]);
        expect(e.from).toBe(fromUs ? (v4 ? '192.0.2.1' : bench.full6('fe80::1')) : remote);
      }
      expect(bench.requests()).toEqual([]);
      udp.expire(2100);
      udp.batch(() => udp.datagram('third', { v4 }));
      expect(bench.requests().length).toBe(1);
    },
  );
});

describe('sockets that fail', () => {
  test('an error of an earlier datagram fails no later one: it is told, and the write repeated', () => {
    const socket = udp.opened();
    socket.writeResults.push(-ECONNREFUSED);
    socket.errors.push({ payload: Buffer.from('first'), origin: 2, type: 3, code: 3, errno: ECONNREFUSED });
    udp.batch(() => udp.datagram('second'));
    expect(socket.sent.map(String)).toEqual(['first', 'second']);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.type, e.code, e.from]).toEqual([3, 3, bench.REMOTE4]);
  });

  test('the same for a gathering', () => {
    const socket = udp.opened();
    socket.writeResults.push(-ECONNREFUSED);
    socket.errors.push({ payload: Buffer.from('first'), origin: 2, type: 3, code: 3, errno: ECONNREFUSED });
    udp.batch(() => {
      udp.datagram('bb');
      udp.datagram('cc');
    });
    expect(socket.sent.map(String)).toEqual(['first', 'bb', 'cc']);
    expect(socket.segment).toBe(2);
  });

  test('a route that went away is told with the datagram that could not leave', () => {
    const socket = udp.opened();
    socket.writeResults.push(-101, -101);
    const before = dropCount('sock-error');
    udp.batch(() => udp.datagram('second'));
    expect(dropCount('sock-error')).toBe(before + 1);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.type, e.code, e.quote.subarray(8).toString()]).toEqual([3, 0, 'second']);
  });

  test('a full socket drops, counted, one for each datagram, and says nothing', () => {
    const socket = udp.opened();
    const before = dropCount('sock-full');
    socket.writeResults.push(-EAGAIN, -EAGAIN);
    udp.batch(() => udp.datagram('single'));
    udp.batch(() => {
      udp.datagram('aa');
      udp.datagram('bb');
      udp.datagram('cc');
    });
    expect(dropCount('sock-full')).toBe(before + 4);
    expect(bench.arrived()).toEqual([]);
  });

  test('an error reported by a receive does not hide what waits behind it', () => {
    const socket = udp.opened();
    socket.receiveResults.push(-ECONNREFUSED);
    socket.incoming.push({ bytes: Buffer.from('behind') });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    expect(bench.arrived().map((a) => a.l4.subarray(8).toString())).toEqual(['behind']);
  });

  test('more errors than one event takes come with the next; a socket that reports one for ever ends its flow', () => {
    const socket = udp.opened();
    const f = udp.theFlow();
    const serve = (): number => fake.serveEvents(socket, (mask) => flow.onEvent(f, mask));
    for (let i = 0; i < 40; i++)
      socket.errors.push({ payload: Buffer.from('x'), origin: 2, type: 3, code: 3, errno: ECONNREFUSED });
    socket.pendingError = ECONNREFUSED;
    expect(serve()).toBeLessThan(10);
    // Now and then one that was read already is no reason.
    for (let ms = 2000; ms < 30_000; ms += 200) {
      fake.setNow(ms);
      flow.onEvent(f, fake.EPOLLERR);
    }
    expect(socket.closed).toBe(false);
    socket.stuck = fake.EPOLLHUP;
    expect(serve()).toBeLessThan(100);
    expect(socket.closed).toBe(true);
  });

  test('an offender that no packet can come from is replaced by the destination', () => {
    const socket = udp.opened();
    const offender = Uint8Array.from([...new Array(10).fill(0), 255, 255, 127, 0, 0, 1]);
    socket.errors.push({ payload: Buffer.from('x'), origin: 2, type: 3, code: 3, errno: ECONNREFUSED, offender });
    flow.onEvent(udp.theFlow(), fake.EPOLLERR);
    expect(bench.arrived()[0]?.src).toBe(bench.REMOTE4);
  });

  test('an error that is none of ICMP’s errors is not made up', () => {
    const socket = udp.opened();
    socket.errors.push({ payload: Buffer.from('x'), origin: 2, type: 8, code: 0, errno: 1 });
    socket.errors.push({ payload: Buffer.from('x'), origin: 3, type: 1, code: 0, errno: 1 });
    socket.errors.push({ payload: Buffer.from('x'), origin: 1, type: 0, code: 0, errno: 12 });
    flow.onEvent(udp.theFlow(), fake.EPOLLERR);
    expect(bench.arrived()).toEqual([]);
  });
});
