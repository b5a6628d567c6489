// SPDX-License-Identifier: Apache-2.0
/** Stream calls on real TCP connections over loopback: ranges, peeking with SO_PEEK_OFF, discarding, queries. */
import { constants } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as io from '../../controller/io/io.ts';
import { SOCKOPT } from '../../shared/abi.ts';
import { AF_INET, type Family, SOCK_STREAM, tcpPair, testkit } from '../support/testkit.ts';

const { native, mem, col, COL } = io;
const { EAGAIN, ECONNREFUSED, ECONNRESET, EINVAL, EPIPE, EOPNOTSUPP } = constants.errno;
const ESTABLISHED = 1;
const CLOSE_WAIT = 8;
/** The interface has 65536; a path over IPv4 never more than its largest packet. */
const LOOPBACK_MTU = { 4: 65_535, 6: 65_536 } as const;
const POLLIN = 1;
const POLLRDHUP = 0x2000;

const setRanges = (...ranges: [number, number][]): number => {
  ranges.forEach(([at, len], i) => {
    col[COL.IOV_AT + i] = at;
    col[COL.IOV_LEN + i] = len;
  });
  return ranges.length;
};
const text = (at: number, len: number): string => Buffer.from(mem.subarray(at, at + len)).toString('latin1');
const put = (at: number, string: string): number => mem.set(Buffer.from(string), at) ?? string.length;

describe.each<Family>([4, 6])('IPv%i', (family) => {
  let a = -1;
  let b = -1;
  beforeEach(() => {
    [a, b] = tcpPair(family);
  });
  afterEach(() => {
    native.close(a);
    native.close(b);
  });

  test('writev gathers, readv scatters', () => {
    put(1000, 'one');
    put(2000, 'four');
    put(3000, 'sixsix');
    expect(native.writev(a, setRanges([1000, 3], [2000, 4], [3000, 6]))).toBe(13);
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvv(b, setRanges([5000, 5], [6000, 5], [7000, 100]), false)).toBe(13);
    expect([text(5000, 5), text(6000, 5), text(7000, 3)]).toEqual(['onefo', 'ursix', 'six']);
  });

  test('nothing there: -EAGAIN; after FIN: 0; discard likewise', () => {
    setRanges([5000, 10]);
    expect(native.recvv(b, 1, false)).toBe(-EAGAIN);
    expect(native.recvv(b, 1, true)).toBe(-EAGAIN);
    expect(native.discard(b, 10)).toBe(-EAGAIN);
    expect(native.shutdownWrite(a)).toBe(0);
    testkit.poll(b, POLLRDHUP, 1000);
    expect(native.recvv(b, 1, false)).toBe(0);
    expect(native.recvv(b, 1, true)).toBe(0);
    expect(native.discard(b, 10)).toBe(0);
    expect(native.write(a, 5000, 1)).toBe(-EPIPE);
  });

  test('peeked bytes stay; SO_PEEK_OFF goes on where it ended, moves back with a discard, and can be set back', () => {
    const { level, option } = SOCKOPT.SO_PEEK_OFF;
    expect(native.setsockopt(b, level, option, 0)).toBe(0);
    testkit.send(a, Buffer.from('abcdefghij'));
    testkit.poll(b, POLLIN, 1000);
    expect(native.recvv(b, setRanges([5000, 2], [6000, 2]), true)).toBe(4);
    expect(text(5000, 2) + text(6000, 2)).toBe('abcd');
    expect(native.recvv(b, setRanges([5000, 3]), true)).toBe(3);
    expect(text(5000, 3)).toBe('efg');
    // The guest acknowledged four bytes.
    expect(native.discard(b, 4)).toBe(4);
    expect(native.recvv(b, setRanges([5000, 10]), true)).toBe(3);
    expect(text(5000, 3)).toBe('hij');
    expect(native.recvv(b, setRanges([5000, 10]), true)).toBe(-EAGAIN);
    // A segment was lost: from the first unacknowledged byte again.
    expect(native.setsockopt(b, level, option, 0)).toBe(0);
    expect(native.recvv(b, setRanges([5000, 10]), true)).toBe(6);
    expect(text(5000, 6)).toBe('efghij');
    expect(native.discard(b, 100)).toBe(6);
    expect(native.discard(b, 1)).toBe(-EAGAIN);
  });

  test('a discard of a megabyte takes what is there', () => {
    testkit.send(a, new Uint8Array(100_000));
    let dropped = 0;
    while (dropped < 100_000) {
      testkit.poll(b, POLLIN, 1000);
      const n = native.discard(b, 1 << 20);
      expect(n).toBeGreaterThan(0);
      dropped += n;
    }
    expect(dropped).toBe(100_000);
  });

  test('tcpInfo tells state, buffers and queues', () => {
    expect(native.tcpOutq(a)).toBe(0);
    expect(native.tcpInfo(a)).toBe(0);
    expect(col[COL.TCPI_STATE]).toBe(ESTABLISHED);
    expect(col[COL.TCPI_OUTQ]).toBe(0);
    expect(col[COL.TCPI_SND_MSS]).toBeGreaterThan(500);
    expect(col[COL.TCPI_SND_WND]).toBeGreaterThan(1000);
    expect(col[COL.TCPI_SND_CWND]).toBeGreaterThan(0);
    expect(col[COL.TCPI_PMTU]).toBe(LOOPBACK_MTU[family]);
    expect(col[COL.TCPI_SNDBUF]).toBe(testkit.getInt(a, 1, 7));
    expect(col[COL.TCPI_RCVBUF]).toBe(testkit.getInt(a, 1, 8));
    const before = col[COL.TCPI_BYTES_ACKED_LO] as number;
    testkit.send(a, new Uint8Array(5000));
    testkit.poll(b, POLLIN, 1000);
    expect(native.tcpInfo(b)).toBe(0);
    expect(col[COL.TCPI_RMEM_ALLOC]).toBeGreaterThanOrEqual(5000);
    for (let tries = 0; tries < 100; tries++) {
      native.tcpInfo(a);
      if (col[COL.TCPI_OUTQ] === 0) break;
      native.wait(2, 0);
    }
    expect((col[COL.TCPI_BYTES_ACKED_LO] as number) - before).toBe(5000);
    native.shutdownWrite(b);
    testkit.poll(a, POLLRDHUP, 1000);
    expect(native.tcpInfo(a)).toBe(0);
    expect(col[COL.TCPI_STATE]).toBe(CLOSE_WAIT);
  });

  test('tcpRoom is the send buffer minus what lies in it, as tcpInfo has them', () => {
    expect(native.tcpRoom(a)).toBe(testkit.getInt(a, 1, 7));
    expect(col[COL.ERRNO]).toBe(0);
    let written = 0;
    for (;;) {
      const n = native.write(a, 0, 256 * 1024);
      if (n < 0) {
        expect(n).toBe(-EAGAIN);
        break;
      }
      written += n;
    }
    native.tcpInfo(a);
    const room = (col[COL.TCPI_SNDBUF] as number) - (col[COL.TCPI_WMEM_QUEUED] as number);
    expect(native.tcpRoom(a)).toBe(room);
    expect(room).toBeLessThan(65_536);
    expect(col[COL.TCPI_OUTQ]).toBeGreaterThan(0);
    expect(col[COL.TCPI_OUTQ]).toBeLessThanOrEqual(written);
    expect(col[COL.TCPI_NOTSENT]).toBeGreaterThan(0);
    expect(native.tcpOutq(a)).toBe(col[COL.TCPI_OUTQ]);
  });

  test('lingerZero makes close a reset', () => {
    expect(native.lingerZero(a)).toBe(0);
    expect(native.close(a)).toBe(0);
    a = testkit.socketpair(1)[0];
    testkit.poll(b, POLLIN, 1000);
    expect(native.socketError(b)).toBe(ECONNRESET);
    expect(native.socketError(b)).toBe(0);
  });

  test('localPort and pathMtu', () => {
    expect(native.localPort(a)).toBe(testkit.port(a));
    expect(native.pathMtu(a, family === 6)).toBe(LOOPBACK_MTU[family]);
  });

  test('options arrive', () => {
    const { level, option } = SOCKOPT.TCP_NODELAY;
    expect(native.setsockopt(a, level, option, 1)).toBe(0);
    expect(testkit.getInt(a, level, option)).toBe(1);
    expect(native.setsockopt(a, SOCKOPT.SO_SNDBUF.level, SOCKOPT.SO_SNDBUF.option, 50_000)).toBe(0);
    expect(testkit.getInt(a, 1, 7)).toBe(100_000);
    expect(native.setsockopt(a, SOCKOPT.TCP_MAXSEG.level, SOCKOPT.TCP_MAXSEG.option, 1 << 20)).toBe(-EINVAL);
  });
});

test('every row of SOCKOPT has the numbers of the system headers', () => {
  expect(testkit.sockopts()).toEqual(SOCKOPT);
});

test('a refused connection is a pending error', () => {
  const [a, b] = tcpPair();
  const port = testkit.port(b);
  native.lingerZero(a);
  native.close(a);
  native.close(b);
  const fd = testkit.socket(AF_INET, SOCK_STREAM, 0);
  testkit.nonBlocking(fd, true);
  testkit.connect(fd, '127.0.0.1', port);
  testkit.poll(fd, 4, 1000);
  expect(native.socketError(fd)).toBe(ECONNREFUSED);
  native.close(fd);
});

test('tcpInfo of a listening socket is -EINVAL, of something else -EOPNOTSUPP; a Unix socket has no port', () => {
  const listener = testkit.socket(AF_INET, SOCK_STREAM, 0);
  testkit.bind(listener, '127.0.0.1', 0);
  testkit.listen(listener, 1);
  expect(native.tcpInfo(listener)).toBe(-EINVAL);
  const [x, y] = testkit.socketpair(SOCK_STREAM);
  expect(native.tcpInfo(x)).toBe(-EOPNOTSUPP);
  expect(native.localPort(x)).toBe(-constants.errno.EAFNOSUPPORT);
  for (const fd of [listener, x, y]) native.close(fd);
});

test('a closed peer is -EPIPE, not a signal', () => {
  const [a, b] = testkit.socketpair(SOCK_STREAM);
  native.close(b);
  expect(native.write(a, 0, 1)).toBe(-EPIPE);
  expect(native.writev(a, setRanges([0, 1]))).toBe(-EPIPE);
  native.close(a);
});
