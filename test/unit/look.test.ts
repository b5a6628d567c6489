// SPDX-License-Identifier: Apache-2.0
/** The kernel's own answers about real sockets: NETLINK_SOCK_DIAG, and the files of /proc/net, which must say the same. */
import { closeSync, openSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ANY, LOOPBACK, makeBound } from '../../controller/fwd/bound.ts';
import { type Eyes, look } from '../../controller/fwd/look.ts';
import { native } from '../../controller/io/io.ts';
import { testkit as kit } from '../support/testkit.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const STREAM = 1;
const DGRAM = 2;
const RAW_NONBLOCK = 3 | 0x800;
const NETLINK_SOCK_DIAG = 4;

const opened: number[] = [];
const socket = (domain: number, type: number, address: string): { fd: number; port: number } => {
  const fd = kit.socket(domain, type, 0);
  opened.push(fd);
  kit.bind(fd, address, 0);
  if (type === STREAM) kit.listen(fd, 1);
  return { fd, port: kit.port(fd) };
};
const eyes: Record<string, Eyes> = {};
beforeAll(() => {
  const open = (path: string): number => {
    const fd = openSync(path, 'r');
    opened.push(fd);
    return fd;
  };
  const netlink = kit.socket(AF_NETLINK, RAW_NONBLOCK, NETLINK_SOCK_DIAG);
  opened.push(netlink);
  eyes['sock_diag'] = { netlink, files: null };
  eyes['/proc/net'] = {
    netlink: -1,
    files: {
      tcp: { v4: open('/proc/net/tcp'), v6: open('/proc/net/tcp6') },
      udp: { v4: open('/proc/net/udp'), v6: open('/proc/net/udp6') },
    },
  };
});
afterAll(() => {
  for (const fd of opened) closeSync(fd);
});

describe.each(['sock_diag', '/proc/net'])('%s', (name) => {
  test.each<[string, 'tcp' | 'udp', number, string, number]>([
    ['TCP, any', 'tcp', AF_INET, '0.0.0.0', ANY],
    ['TCP, loopback', 'tcp', AF_INET, '127.0.0.1', LOOPBACK],
    ['TCP, IPv6 any', 'tcp', AF_INET6, '::', ANY],
    ['TCP, IPv6 loopback', 'tcp', AF_INET6, '::1', LOOPBACK],
    ['UDP, any', 'udp', AF_INET, '0.0.0.0', ANY],
    ['UDP, another loopback', 'udp', AF_INET, '127.3.2.1', LOOPBACK],
    ['UDP, IPv6 loopback', 'udp', AF_INET6, '::1', LOOPBACK],
  ])('%s', (_what, protocol, domain, address, kind) => {
    const { fd, port } = socket(domain, protocol === 'tcp' ? STREAM : DGRAM, address);
    const before = makeBound();
    expect(look(eyes[name] as Eyes, protocol, before)).toBe(0);
    expect((before.kinds[port] as number) & kind).toBe(kind);
    native.close(fd);
    opened.splice(opened.indexOf(fd), 1);
    const after = makeBound();
    expect(look(eyes[name] as Eyes, protocol, after)).toBe(0);
    expect((after.kinds[port] as number) & kind).toBe(0);
  });

  test('a connected UDP socket is nobody who listens', () => {
    const { fd, port } = socket(AF_INET, DGRAM, '127.0.0.1');
    kit.connect(fd, '127.0.0.1', port);
    const bound = makeBound();
    look(eyes[name] as Eyes, 'udp', bound);
    expect((bound.kinds[port] as number) & LOOPBACK).toBe(0);
  });

  test('more sockets than one answer holds', () => {
    const many = Array.from({ length: 700 }, () => socket(AF_INET, STREAM, '127.0.0.1'));
    const bound = makeBound();
    expect(look(eyes[name] as Eyes, 'tcp', bound)).toBe(0);
    expect(many.filter(({ port }) => ((bound.kinds[port] as number) & LOOPBACK) === 0)).toEqual([]);
    for (const { fd } of many) {
      native.close(fd);
      opened.splice(opened.indexOf(fd), 1);
    }
  });
});

test('a kernel that cannot tell says so', () => {
  expect(look({ netlink: 999_999, files: null }, 'tcp', makeBound())).toBe(9);
});
