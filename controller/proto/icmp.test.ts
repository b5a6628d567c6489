// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const bench = await import('../../test/support/flow-bench.ts');
const { ip4, ip6, u16 } = await import('../../test/support/guest-frames.ts');
const { dropCount } = await import('../obs/drops.ts');
const flows = await import('../flow/table.ts');
const lru = await import('../flow/lru.ts');
const wheel = await import('../flow/wheel.ts');
const out = await import('../link/out.ts');
const icmp = await import('./icmp.ts');
type Flow = import('../flow/table.ts').Flow;

const ID = 0x4321;
const SOCKET_ID = 0x0999;

interface Options {
  v4: boolean;
  seq?: number;
  data?: Uint8Array;
  type?: number;
  code?: number;
  id?: number;
  dst?: string;
  hopLimit?: number;
  trafficClass?: number;
  broken?: boolean;
}
/** An echo request, its checksum right unless `broken`. */
const ping = (o: Options): void => {
  const type = o.type ?? (o.v4 ? 8 : 128);
  const message = [type, o.code ?? 0, 0, 0, ...u16(o.id ?? ID), ...u16(o.seq ?? 1), ...(o.data ?? Buffer.from('data'))];
  const protocol = o.v4 ? 1 : 58;
  const dst = o.dst ?? (o.v4 ? bench.REMOTE4 : bench.REMOTE6);
  const zero = Uint8Array.from(message);
  const sum = o.v4 ? fake.checksumOf(zero) : bench.transportSum(false, bench.GUEST6, dst, 58, zero);
  message.splice(2, 2, ...u16((~sum & 0xffff) ^ (o.broken ? 1 : 0)));
  bench.deliver(icmp.fromTap, { ...o, protocol, l4: message });
};
/** What the kernel hands over from a ping socket: its own identifier, the sender's checksum. */
const echoReply = (v4: boolean, seq: number, data: Uint8Array): Uint8Array =>
  Uint8Array.from([v4 ? 0 : 129, 0, 0xab, 0xcd, ...u16(SOCKET_ID), ...u16(seq), ...data]);
const opened = (v4: boolean): import('../../test/support/fake-io.ts').FakeSocket => {
  ping({ v4 });
  const [socket] = bench.answer({ fd: 20 });
  if (socket === undefined) throw new Error('nothing was asked of the helper');
  return socket;
};
const theFlow = (): Flow => {
  for (let f = 0; f < flows.highWater(); f++) if (flows.typeOf(f as Flow) === flows.FLOW_PING) return f as Flow;
  throw new Error('no flow');
};
const expire = (ms: number): void => {
  fake.setNow(ms);
  wheel.expire(ms);
};

beforeEach(() => {
  bench.begin(1000, icmp.onTimer);
  bench.resetAnswers();
  bench.newBatch();
  icmp.configure({ linkMtu: 1500, descriptors: 20_000 });
});
afterEach(() => {
  // Refused and idle flows all end by then.
  expire(1_000_000);
  expire(2_000_000);
  expect(flows.count(flows.FLOW_PING)).toBe(0);
  flows.endTurn();
  out.flush();
});

describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('%s', (_name, v4) => {
  const guest = v4 ? bench.GUEST4 : bench.full6(bench.GUEST6);
  const remote = v4 ? bench.REMOTE4 : bench.full6(bench.REMOTE6);
  const holds = (l4: Buffer): boolean =>
    (v4 ? fake.checksumOf(l4) : bench.transportSum(false, remote, guest, 58, l4)) === 0xffff;

  test('a request asks for a ping socket with the guest’s identifier, and leaves when it is there', () => {
    ping({ v4, seq: 7 });
    expect(bench.requests().map((r) => r.params)).toEqual([
      { protocol: 'icmp', address: v4 ? bench.REMOTE4 : bench.REMOTE6, port: 0, sourcePort: ID },
    ]);
    const [socket] = bench.answer({ fd: 20 });
    const sent = socket?.sent[0] ?? Buffer.alloc(8);
    expect([sent[0], sent[1], sent.readUInt16BE(6), sent.subarray(8).toString()]).toEqual([v4 ? 8 : 128, 0, 7, 'data']);
  });

  test('the reply has the guest’s identifier, its own sequence number and data, and a checksum that holds', () => {
    const socket = opened(v4);
    socket.incoming.push({ bytes: echoReply(v4, 1, Buffer.from('data')), ttl: 57, tos: 4 });
    icmp.onEvent(theFlow(), fake.EPOLLIN);
    const [a] = bench.arrived();
    expect(a).toMatchObject({ src: remote, dst: guest, protocol: v4 ? 1 : 58, hopLimit: 57, trafficClass: 4 });
    const l4 = a?.l4 ?? Buffer.alloc(8);
    expect([l4[0], l4.readUInt16BE(4), l4.readUInt16BE(6), l4.subarray(8).toString()]).toEqual([
      v4 ? 0 : 129,
      ID,
      1,
      'data',
    ]);
    expect(holds(l4)).toBe(true);
  });

  test('replies with the same sequence number all arrive', () => {
    const socket = opened(v4);
    const reply = { bytes: echoReply(v4, 1, Buffer.from('data')) };
    socket.incoming.push(reply, reply);
    icmp.onEvent(theFlow(), fake.EPOLLIN);
    expect(bench.arrived().length).toBe(2);
  });

  test('a reply larger than the guest’s MTU comes in fragments that make it again', () => {
    const socket = opened(v4);
    const data = Buffer.from(Array.from({ length: 5000 }, (_, i) => i & 0xff));
    socket.incoming.push({ bytes: echoReply(v4, 1, data) });
    icmp.onEvent(theFlow(), fake.EPOLLIN);
    const got = bench.arrived();
    expect(got.length).toBe(4);
    const whole = Buffer.concat(got.map((a) => (v4 ? a.l4 : a.l4.subarray(8))));
    expect(whole.subarray(8).equals(data)).toBe(true);
    expect(holds(whole)).toBe(true);
  });

  test('a request larger than the host’s link is left to the host to cut, and nobody told', () => {
    const socket = opened(v4);
    const data = Buffer.from(Array.from({ length: 4000 }, (_, i) => i & 0xff));
    socket.writeResults.push(-90);
    socket.errors.push({ payload: new Uint8Array(0), origin: 1, type: 0, code: 0, info: 1500, errno: 90 });
    ping({ v4, seq: 9, data });
    ping({ v4, seq: 10, data });
    expect(bench.arrived()).toEqual([]);
    expect(socket.sent.slice(1).map((b) => [b.length, b.readUInt16BE(6)])).toEqual([
      [4008, 9],
      [4008, 10],
    ]);
    const option = v4 ? bench.SO.IP_MTU_DISCOVER : bench.SO.IPV6_MTU_DISCOVER;
    const [PROBE, WANT] = [3, 1];
    expect(socket.options.filter(([level, name]) => level === option[0] && name === option[1])).toEqual([
      [...option, PROBE],
      [...option, WANT],
    ]);
  });

  test('a router’s objection to an earlier request does not leave the next one to the host', () => {
    const socket = opened(v4);
    const data = Buffer.from(Array.from({ length: 1440 }, (_, i) => i & 0xff));
    ping({ v4, seq: 1, data });
    const payload = (socket.sent[1] as Buffer).slice();
    socket.writeResults.push(-90);
    socket.errors.push({ payload, origin: v4 ? 2 : 3, type: v4 ? 3 : 2, code: v4 ? 4 : 0, info: 1400, errno: 90 });
    ping({ v4, seq: 2, data });
    expect(bench.arrived().map(bench.icmpError)).toMatchObject([{ rest: 1400 }]);
    const option = v4 ? bench.SO.IP_MTU_DISCOVER : bench.SO.IPV6_MTU_DISCOVER;
    expect(socket.options.filter(([level, name]) => level === option[0] && name === option[1])).toEqual([
      [...option, 3],
    ]);
    expect(socket.sent.length).toBe(3);
  });

  test('the gateway’s own reply is cut for the guest’s MTU, too', () => {
    const data = Buffer.from(Array.from({ length: 3000 }, (_, i) => i & 0xff));
    ping({ v4, seq: 3, data, dst: v4 ? '192.0.2.1' : 'fe80::1' });
    const got = bench.arrived();
    expect(got.length).toBe(3);
    expect(new Set(got.map((a) => a.src))).toEqual(new Set([v4 ? '192.0.2.1' : bench.full6('fe80::1')]));
    const whole = Buffer.concat(got.map((a) => (v4 ? a.l4 : a.l4.subarray(8))));
    expect([whole[0], whole.readUInt16BE(4), whole.readUInt16BE(6)]).toEqual([v4 ? 0 : 129, ID, 3]);
    expect(whole.subarray(8).equals(data)).toBe(true);
    const from = v4 ? '192.0.2.1' : 'fe80::1';
    expect(v4 ? fake.checksumOf(whole) : bench.transportSum(false, from, bench.GUEST6, 58, whole)).toBe(0xffff);
  });

  test('the guest’s hop limit is the socket’s, so that traceroute works', () => {
    const socket = opened(v4);
    ping({ v4, seq: 2, hopLimit: 1 });
    ping({ v4, seq: 3, hopLimit: 1 });
    const option = v4 ? bench.SO.IP_TTL : bench.SO.IPV6_UNICAST_HOPS;
    expect(socket.options).toEqual([
      [...option, 64],
      [...option, 1],
    ]);
    const offender = Uint8Array.from(
      v4 ? [...new Array(10).fill(0), 255, 255, ...ip4('203.0.113.9')] : ip6('2001:db8:9::9'),
    );
    const quoted = (socket.sent[1] as Buffer).slice();
    quoted.writeUInt16BE(SOCKET_ID, 4);
    socket.errors.push({ payload: quoted, origin: v4 ? 2 : 3, type: v4 ? 11 : 3, code: 0, errno: 113, offender });
    icmp.onEvent(theFlow(), fake.EPOLLERR);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect(e).toMatchObject({
      type: v4 ? 11 : 3,
      from: v4 ? '203.0.113.9' : bench.full6('2001:db8:9::9'),
      quotedSrc: guest,
      quotedDst: remote,
      quotedProtocol: v4 ? 1 : 58,
    });
    expect([e.quote[0], e.quote.readUInt16BE(4), e.quote.readUInt16BE(6)]).toEqual([v4 ? 8 : 128, ID, 2]);
  });

  test('an error that quotes nothing still names the request’s identifier', () => {
    const socket = opened(v4);
    socket.errors.push({
      payload: new Uint8Array(0),
      origin: v4 ? 2 : 3,
      type: v4 ? 3 : 1,
      code: v4 ? 1 : 3,
      errno: 113,
    });
    icmp.onEvent(theFlow(), fake.EPOLLERR);
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.quote.length, e.quote[0], e.quote.readUInt16BE(4)]).toEqual([8, v4 ? 8 : 128, ID]);
  });

  test.each(v4 ? ['192.0.2.1'] : ['fe80::1'])('our own address %s answers by itself', (dst) => {
    ping({ v4, dst, seq: 9, trafficClass: 8 });
    expect(bench.requests()).toEqual([]);
    const [a] = bench.arrived();
    const us = v4 ? dst : bench.full6(dst);
    expect(a).toMatchObject({ src: us, dst: guest, trafficClass: 8 });
    const l4 = a?.l4 ?? Buffer.alloc(8);
    expect([l4[0], l4[1], l4.readUInt16BE(4), l4.readUInt16BE(6), l4.subarray(8).toString()]).toEqual([
      v4 ? 0 : 129,
      0,
      ID,
      9,
      'data',
    ]);
    expect(v4 ? fake.checksumOf(l4) : bench.transportSum(false, us, guest, 58, l4)).toBe(0xffff);
  });

  test('a refused socket is told to the guest', () => {
    ping({ v4 });
    bench.answer({ errno: 101 });
    const e = bench.icmpError(bench.arrived()[0] as never);
    expect([e.type, e.code, e.quote.subarray(8).toString()]).toEqual(v4 ? [3, 0, 'data'] : [1, 0, 'data']);
    ping({ v4, seq: 2 });
    expect(bench.arrived().length).toBe(1);
    expect(bench.requests()).toEqual([]);
  });

  test('a pending error fails no later request', () => {
    const socket = opened(v4);
    socket.writeResults.push(-113);
    ping({ v4, seq: 2 });
    expect(socket.sent.length).toBe(2);
  });

  const faults: [string, Parameters<typeof dropCount>[0], Partial<Options>][] = [
    ['a wrong checksum', 'icmp-checksum', { broken: true }],
    ['a reply', 'icmp-type', { type: v4 ? 0 : 129 }],
    ['an error message that says nothing here', 'icmp-type', { type: v4 ? 11 : 3 }],
    ['an error message about nothing', 'icmp-quote', { type: v4 ? 3 : 1 }],
    ['a code that echo has not', 'icmp-type', { code: 1 }],
    ['no hops left', 'ip-martian', { hopLimit: 0 }],
    ['multicast', 'flow-refused', { dst: v4 ? '224.0.0.1' : 'ff02::1' }],
    ['what is for the whole link', 'flow-refused', { dst: v4 ? '192.0.2.255' : 'ff02::1:2' }],
  ];
  test.each(faults)('%s is dropped, counted', (_what, reason, change) => {
    const before = dropCount(reason);
    ping({ v4, ...change });
    expect(dropCount(reason)).toBe(before + 1);
    expect(bench.requests()).toEqual([]);
    expect(bench.arrived()).toEqual([]);
  });

  test('a message cut short is dropped, counted', () => {
    const before = dropCount('icmp-malformed');
    bench.deliver(icmp.fromTap, { v4, protocol: v4 ? 1 : 58, l4: [v4 ? 8 : 128, 0, 0, 0, 0, 0, 0] });
    expect(dropCount('icmp-malformed')).toBe(before + 1);
  });
});

describe('the life of a ping', () => {
  test('each identifier has its socket, which a minute without use ends', () => {
    for (const id of [1, 2, 1]) ping({ v4: true, id });
    expect(bench.requests().length).toBe(2);
    const sockets = bench.answer({ fd: 20 });
    expect(sockets.map((s) => s.sent.length)).toEqual([2, 1]);
    fake.setNow(40_000);
    ping({ v4: true, id: 1 });
    expire(72_000);
    expect(sockets.map((s) => s.closed)).toEqual([false, true]);
    expire(109_000);
    expect(sockets.map((s) => s.closed)).toEqual([true, true]);
  });

  test.each([
    ['the helper', 24],
    ['the host', 23],
  ])('%s is out of descriptors: the oldest ping goes, and the next try is served', (_who, errno) => {
    for (const id of [1, 2, 1]) ping({ v4: true, id });
    const sockets = bench.answer({ fd: 20 });
    ping({ v4: true, id: 3 });
    bench.answer({ errno });
    expect(sockets.map((s) => s.closed)).toEqual([false, true]);
    // The one that was refused has none to give up.
    ping({ v4: true, id: 4 });
    bench.answer({ errno });
    expect(sockets.map((s) => s.closed)).toEqual([true, true]);
    expire(3000);
    ping({ v4: true, id: 3 });
    expect(bench.answer({ fd: 30 })[0]?.sent.length).toBe(1);
  });

  test('at its cap the class gives up the ping that was idle longest', () => {
    icmp.configure({ linkMtu: 1500, descriptors: 2 * 16 });
    for (const id of [1, 2, 1, 3]) ping({ v4: true, id });
    expect(lru.size(lru.LRU_PING)).toBe(2);
    expect(bench.requests().map((r) => r.params.sourcePort)).toEqual([1, 2, 3]);
    const sockets = bench.answer({ fd: 20 });
    // The socket of the one that was given up came too late.
    expect(fake.closedFds).toEqual([21]);
    expect(sockets.map((s) => s.sent.length)).toEqual([2, 0, 1]);
  });

  test.each([true, false])('a socket that reports an error for ever ends its flow (v4: %s)', (v4) => {
    const socket = opened(v4);
    const f = theFlow();
    const serve = (): number => fake.serveEvents(socket, (mask) => icmp.onEvent(f, mask));
    socket.pendingError = 111;
    expect(serve()).toBe(1);
    expect(socket.closed).toBe(false);
    socket.stuck = fake.EPOLLERR;
    expect(serve()).toBeLessThan(100);
    expect(socket.closed).toBe(true);
  });
});
