// SPDX-License-Identifier: Apache-2.0
/** Datagram calls on real UDP sockets over loopback: batches, coalescing, segmentation, control data, ICMP errors. */
import { constants } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import { ARENA_BYTES, DATAGRAMS_MAX } from '../../shared/abi.ts';
import { type Family, testkit, udpPair, udpToClosedPort } from '../support/testkit.ts';

const { native, mem, col, COL } = io;
const { EAGAIN, ECONNREFUSED, EINVAL, EMSGSIZE } = constants.errno;
const SLOT = 65_536;
const AT = io.SOCK_AT;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const SOL_UDP = 17;
const UDP_GRO = 104;
const POLLIN = 1;
const POLLERR = 8;
type Option = Record<Family, readonly [level: number, option: number]>;
const RECVERR: Option = { 4: [SOL_IP, 11], 6: [SOL_IPV6, 25] };
const RECVTTL: Option = { 4: [SOL_IP, 12], 6: [SOL_IPV6, 51] };
const RECVTOS: Option = { 4: [SOL_IP, 13], 6: [SOL_IPV6, 66] };
const PKTINFO: Option = { 4: [SOL_IP, 8], 6: [SOL_IPV6, 49] };
const TTL: Option = { 4: [SOL_IP, 2], 6: [SOL_IPV6, 16] };
const TOS: Option = { 4: [SOL_IP, 1], 6: [SOL_IPV6, 67] };

const lengths = (n: number): number[] => [...col.subarray(COL.DGRAM_LEN, COL.DGRAM_LEN + n)];
const slot = (i: number, stride = SLOT): string =>
  Buffer.from(mem.subarray(AT + i * stride, AT + i * stride + (col[COL.DGRAM_LEN + i] as number))).toString('latin1');

describe.each<Family>([4, 6])('UDP over IPv%i', (family) => {
  let a = -1;
  let b = -1;
  beforeEach(() => {
    [a, b] = udpPair(family);
  });
  afterEach(() => {
    native.close(a);
    native.close(b);
  });

  test('nothing waiting is -EAGAIN', () => {
    expect(native.recvDatagrams(b, AT, SLOT, 4)).toBe(-EAGAIN);
  });

  test('a batch in order, an empty datagram included; at most max at a time', () => {
    for (const payload of ['one', '', 'three', 'four']) testkit.send(a, Buffer.from(payload));
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvDatagrams(b, AT, 2048, 3)).toBe(3);
    expect(lengths(3)).toEqual([3, 0, 5]);
    expect([0, 1, 2].map((i) => slot(i, 2048))).toEqual(['one', '', 'three']);
    expect([...col.subarray(COL.DGRAM_GSO, COL.DGRAM_GSO + 3)]).toEqual([0, 0, 0]);
    expect(native.recvDatagrams(b, AT, 2048, DATAGRAMS_MAX)).toBe(1);
    expect(slot(0)).toBe('four');
  });

  const LOOPBACK =
    family === 4 ? [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1] : [...new Array(15).fill(0), 1];
  const RECORDS = AT + 8 * 2048;

  test('who sent a datagram: address and port', () => {
    mem.fill(0xee, RECORDS, RECORDS + 128);
    testkit.send(a, Buffer.from('x'));
    testkit.send(a, Buffer.from('yy'));
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvFrom(b, AT, 2048, 8, RECORDS, false)).toBe(2);
    expect(lengths(2)).toEqual([1, 2]);
    for (const at of [RECORDS, RECORDS + 64]) {
      expect([...mem.subarray(at, at + 16)]).toEqual(LOOPBACK);
      expect(io.view.getUint16(at + 16)).toBe(native.localPort(a));
      expect([...mem.subarray(at + 18, at + 64)]).toEqual(new Array(46).fill(0));
    }
    expect(() => native.recvFrom(b, AT, 2048, 8, ARENA_BYTES - 8 * 64 + 1, false)).toThrow(RangeError);
  });

  test('where it was sent to, of a socket that reports it, beside everything else', () => {
    for (const each of [RECVTTL, RECVTOS, PKTINFO]) testkit.setInt(b, ...each[family], 1);
    testkit.setInt(b, SOL_UDP, UDP_GRO, 1);
    mem.fill(7, 0, 5000);
    expect(native.udpSegment(a, 1200)).toBe(0);
    expect(native.write(a, 0, 5000)).toBe(5000);
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvFrom(b, AT, SLOT, 1, RECORDS + SLOT, false)).toBe(1);
    expect([...mem.subarray(RECORDS + SLOT + 18, RECORDS + SLOT + 64)]).toEqual([
      ...new Array(14).fill(0),
      ...LOOPBACK,
      ...new Array(16).fill(0),
    ]);
    expect([col[COL.DGRAM_LEN], col[COL.DGRAM_GSO]]).toEqual([5000, 1200]);
    expect([col[COL.DGRAM_TTL], col[COL.DGRAM_TOS]]).toEqual([64, 0]);
  });

  test('a look leaves the first datagram where it is', () => {
    for (const payload of ['one', 'two']) testkit.send(a, Buffer.from(payload));
    testkit.poll(b, POLLIN, 1000);
    for (const [peek, expected] of [
      [true, 'one'],
      [true, 'one'],
      [false, 'one'],
      [true, 'two'],
      [false, 'two'],
    ] as const) {
      expect(native.recvFrom(b, AT, 2048, 1, RECORDS, peek)).toBe(1);
      expect(slot(0)).toBe(expected);
      expect(io.view.getUint16(RECORDS + 16)).toBe(native.localPort(a));
    }
    expect(native.recvFrom(b, AT, 2048, 1, RECORDS, true)).toBe(-EAGAIN);
  });

  test('a datagram longer than its slot is -EMSGSIZE, its neighbours are whole', () => {
    mem.fill(0xee, AT, AT + 64);
    for (const payload of ['abc', '0123456789', 'def']) testkit.send(a, Buffer.from(payload));
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvDatagrams(b, AT, 8, 3)).toBe(3);
    expect(lengths(3)).toEqual([3, -EMSGSIZE, 3]);
    expect(Buffer.from(mem.subarray(AT + 16, AT + 19)).toString()).toBe('def');
    expect(mem[AT + 24]).toBe(0xee);
  });

  test('TTL and TOS as sent, -1 where nobody asked', () => {
    testkit.setInt(a, ...TTL[family], 33);
    testkit.setInt(a, ...TOS[family], 0xb8);
    testkit.send(a, Buffer.from('x'));
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvDatagrams(b, AT, SLOT, 1)).toBe(1);
    expect([col[COL.DGRAM_TTL], col[COL.DGRAM_TOS]]).toEqual([-1, -1]);
    testkit.setInt(b, ...RECVTTL[family], 1);
    testkit.setInt(b, ...RECVTOS[family], 1);
    testkit.send(a, Buffer.from('x'));
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvDatagrams(b, AT, SLOT, 1)).toBe(1);
    expect([col[COL.DGRAM_TTL], col[COL.DGRAM_TOS]]).toEqual([33, 0xb8]);
  });

  test('one write leaves as segments: separate datagrams without UDP_GRO, one with it', () => {
    mem.subarray(0, 5000).forEach((_, i) => {
      mem[i] = i % 251;
    });
    expect(native.udpSegment(a, 1200)).toBe(0);
    expect(native.write(a, 0, 5000)).toBe(5000);
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvDatagrams(b, AT, 2048, 8)).toBe(5);
    expect(lengths(5)).toEqual([1200, 1200, 1200, 1200, 200]);
    expect(Buffer.compare(mem.subarray(AT + 2048, AT + 2048 + 1200), mem.subarray(1200, 2400))).toBe(0);

    testkit.setInt(b, SOL_UDP, UDP_GRO, 1);
    expect(native.write(a, 0, 5000)).toBe(5000);
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvDatagrams(b, AT, SLOT, 8)).toBe(1);
    expect(lengths(1)).toEqual([5000]);
    expect(col[COL.DGRAM_GSO]).toBe(1200);
    expect(Buffer.compare(mem.subarray(AT, AT + 5000), mem.subarray(0, 5000))).toBe(0);

    expect(native.udpSegment(a, 0)).toBe(0);
    expect(native.write(a, 0, 5000)).toBe(5000);
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvDatagrams(b, AT, SLOT, 8)).toBe(1);
    expect([lengths(1)[0], col[COL.DGRAM_GSO]]).toEqual([5000, 0]);
  });

  test('a segment size that no datagram can have is -EINVAL', () => {
    expect(native.udpSegment(a, -1)).toBe(-EINVAL);
    expect(native.udpSegment(a, 1 << 20)).toBe(-EINVAL);
  });

  test('the port of the peer that is gone: an error once, then its description, payload and offender', () => {
    const fd = udpToClosedPort(family);
    testkit.setInt(fd, ...RECVERR[family], 1);
    testkit.send(fd, Buffer.from('anyone?'));
    expect(testkit.poll(fd, POLLIN, 1000) & POLLERR).toBe(POLLERR);
    const offenderAt = AT + 1000;
    mem.fill(0xee, offenderAt, offenderAt + 17);
    expect(native.recvDatagrams(fd, AT, SLOT, 1)).toBe(-ECONNREFUSED);
    expect(native.recvError(fd, AT, 100, offenderAt)).toBe(7);
    expect(Buffer.from(mem.subarray(AT, AT + 7)).toString()).toBe('anyone?');
    const [origin, type, code, , errno] = col.subarray(COL.ERR_ORIGIN, COL.ERR_ERRNO + 1);
    // SO_EE_ORIGIN_ICMP, port unreachable; SO_EE_ORIGIN_ICMP6, port unreachable.
    expect([origin, type, code]).toEqual(family === 4 ? [2, 3, 3] : [3, 1, 4]);
    expect(errno).toBe(ECONNREFUSED);
    const loopback = family === 4 ? '00000000000000000000ffff7f000001' : '00000000000000000000000000000001';
    expect(Buffer.from(mem.subarray(offenderAt, offenderAt + 16)).toString('hex')).toBe(loopback);
    expect(mem[offenderAt + 16]).toBe(0xee);
    expect(native.recvError(fd, AT, 100, offenderAt)).toBe(-EAGAIN);
    native.close(fd);
  });

  test('a datagram that the path cannot carry: the local error tells the MTU', () => {
    testkit.setInt(a, ...RECVERR[family], 1);
    // IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = DO
    expect(native.setsockopt(a, family === 4 ? SOL_IP : SOL_IPV6, family === 4 ? 10 : 23, 2)).toBe(0);
    mem.fill(0, 0, 65_536);
    expect(native.write(a, 0, 65_530)).toBe(-EMSGSIZE);
    expect(native.pathMtu(a, family === 6)).toBeGreaterThanOrEqual(65_535);
  });

  test('localPort', () => {
    expect(native.localPort(a)).toBe(testkit.port(a));
  });
});

test('no error waiting is -EAGAIN', () => {
  const [a, b] = udpPair();
  expect(native.recvError(a, AT, 100, AT + 1000)).toBe(-EAGAIN);
  native.close(a);
  native.close(b);
});
