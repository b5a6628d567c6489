// SPDX-License-Identifier: Apache-2.0
/**
 * What Node cannot give a test, as raw descriptors: sockets of any kind, SCM_RIGHTS, taps, network namespaces.
 * The native half is helper/addon/testkit.cc, built beside the addon and never installed. Failures throw an Error
 * with `errno` and `code`. Namespace calls concern the calling thread only, and all that it opens afterwards.
 */
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';

export interface Testkit {
  socket(domain: number, type: number, protocol: number): number;
  /** AF_UNIX pair of the given type, blocking. */
  socketpair(type: number): [number, number];
  /** [read end, write end], non-blocking. */
  pipe(): [number, number];
  bind(fd: number, address: string, port: number): void;
  /** EINPROGRESS is success. */
  connect(fd: number, address: string, port: number): void;
  listen(fd: number, backlog: number): void;
  accept(fd: number): number;
  port(fd: number): number;
  setInt(fd: number, level: number, option: number, value: number): void;
  getInt(fd: number, level: number, option: number): number;
  send(fd: number, bytes: Uint8Array): number;
  sendTo(fd: number, bytes: Uint8Array, address: string, port: number): number;
  recv(fd: number, max: number, flags: number): Uint8Array;
  read(fd: number, max: number): Uint8Array;
  write(fd: number, bytes: Uint8Array): number;
  sendFds(fd: number, bytes: Uint8Array, fds: readonly number[]): number;
  close(fd: number): void;
  nonBlocking(fd: number, on: boolean): void;
  isCloexec(fd: number): boolean;
  /** Returned events of poll(2); 0: timed out. */
  poll(fd: number, events: number, timeoutMs: number): number;
  /** A tap (IFF_NO_PI, non-blocking) in the thread's namespace; header bytes 0, 10 or 12; TUN_F_* offloads. */
  openTap(name: string, vnetHeaderBytes: number, offloads: number): number;
  linkUp(name: string): void;
  linkMtu(name: string, mtu: number): void;
  address4(name: string, address: string, prefix: number): void;
  /** AF_PACKET, all protocols, bound to the interface, non-blocking. */
  packetSocket(name: string): number;
  /** A new, empty network namespace for this thread; it ends with its last thread and socket. */
  unshareNet(): void;
  enterNet(path: string): void;
  /** Sets the soft RLIMIT_NOFILE; returns the one before. */
  descriptorLimit(limit: number): number;
  /** Any system call with integer arguments: its result or -errno. */
  syscall(number: number, ...args: number[]): number;
  /** The table of shared/abi.h with the values that the system's headers give. */
  sockopts(): Record<string, { level: number; option: number }>;
  checksumPortable(bytes: Uint8Array, initial: number): number;
  /** Absent where the CPU has no AVX2. */
  checksumAvx2?(bytes: Uint8Array, initial: number): number;
}

const require = createRequire(import.meta.url);
export const testkit = require('../../helper/build/Release/testkit.node') as Testkit;

export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_SEQPACKET = 5;
export const SOCK_NONBLOCK = 0o4000;
export const IPPROTO_ICMP = 1;
export const IPPROTO_ICMPV6 = 58;

export const LOOPBACK = { 4: '127.0.0.1', 6: '::1' } as const;
export type Family = keyof typeof LOOPBACK;
const DOMAIN = { 4: AF_INET, 6: AF_INET6 } as const;

/** A TCP connection over loopback: [connecting side, accepting side], both non-blocking. */
export const tcpPair = (family: Family = 4): [number, number] => {
  const listener = testkit.socket(DOMAIN[family], SOCK_STREAM, 0);
  testkit.bind(listener, LOOPBACK[family], 0);
  testkit.listen(listener, 1);
  const client = testkit.socket(DOMAIN[family], SOCK_STREAM, 0);
  testkit.connect(client, LOOPBACK[family], testkit.port(listener));
  const server = testkit.accept(listener);
  testkit.close(listener);
  testkit.nonBlocking(client, true);
  testkit.nonBlocking(server, true);
  return [client, server];
};

/** Two UDP sockets over loopback, connected to each other, non-blocking. */
export const udpPair = (family: Family = 4): [number, number] => {
  const a = testkit.socket(DOMAIN[family], SOCK_DGRAM | SOCK_NONBLOCK, 0);
  const b = testkit.socket(DOMAIN[family], SOCK_DGRAM | SOCK_NONBLOCK, 0);
  testkit.bind(a, LOOPBACK[family], 0);
  testkit.bind(b, LOOPBACK[family], 0);
  testkit.connect(a, LOOPBACK[family], testkit.port(b));
  testkit.connect(b, LOOPBACK[family], testkit.port(a));
  return [a, b];
};

/** A UDP socket connected to a loopback port where nobody listens. */
export const udpToClosedPort = (family: Family = 4): number => {
  const [a, b] = udpPair(family);
  testkit.close(b);
  return a;
};

/** Both ends of an RPC channel: AF_UNIX, SOCK_SEQPACKET, blocking. */
export const channelPair = (): [number, number] => testkit.socketpair(SOCK_SEQPACKET);

/** How many descriptors this process has open. */
export const openDescriptors = (): number => readdirSync('/proc/self/fd').length;
