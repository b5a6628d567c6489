// SPDX-License-Identifier: Apache-2.0
/** Reads the host's links, addresses, routes and resolvers through descriptors the helper opened; once, during set-up. */
import { constants } from 'node:os';
import * as io from '../io/io.ts';
import type { HostFacts } from './facts.ts';
import {
  dumpRequest,
  dumpStep,
  interrupted,
  type Message,
  messages,
  RTM,
  readAddress,
  readLink,
  readRoute,
} from './netlink.ts';
import { parsePortRange } from './port-range.ts';
import { parseResolvConf } from './resolv.ts';

/** The kernel fills what a read offers, up to 32 KiB. */
const DATAGRAM_BYTES_MAX = 64 * 1024;
/** A dump that keeps being interrupted by changes is taken as it is after this many attempts. */
const DUMP_ATTEMPTS = 5;
const FILE_BYTES_MAX = 64 * 1024;

/** A system call on one of the descriptors failed: the host cannot be looked at. */
export class DiscoverError extends Error {
  readonly errno: number;
  constructor(what: string, errno: number) {
    const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `error ${errno}`;
    super(`Couldn't read ${what}: ${name}`);
    this.name = 'DiscoverError';
    this.errno = errno;
  }
}

const nonNegative = (result: number, what: string): number => {
  if (result < 0) throw new DiscoverError(what, -result);
  return result;
};

let sequence = 0;

interface Dump {
  readonly rows: readonly Message[];
  readonly complete: boolean;
}

/** Replies of an earlier, abandoned dump are told by their sequence number and skipped. */
const dumpOnce = (fd: number, type: number, what: string): Dump => {
  const request = dumpRequest(type, ++sequence);
  io.mem.set(request, io.SCRATCH_AT);
  nonNegative(io.native.write(fd, io.SCRATCH_AT, request.length), what);
  const rows: Message[] = [];
  let complete = true;
  for (;;) {
    const length = nonNegative(io.native.read(fd, io.SCRATCH_AT, DATAGRAM_BYTES_MAX), what);
    if (length === 0) throw new DiscoverError(what, constants.errno.EPIPE);
    // A copy, because the messages outlive the next read.
    const datagram = io.mem.slice(io.SCRATCH_AT, io.SCRATCH_AT + length);
    for (const message of messages(datagram)) {
      if (message.sequence !== sequence) continue;
      if (interrupted(message)) complete = false;
      const step = dumpStep(message);
      if (step.kind === 'error') throw new DiscoverError(what, step.errno);
      if (step.kind === 'done') return { rows, complete };
      rows.push(message);
    }
  }
};

const dump = <T>(fd: number, type: number, what: string, read: (message: Message) => T | null): T[] => {
  for (let attempt = 1; ; attempt++) {
    const { rows, complete } = dumpOnce(fd, type, what);
    if (complete || attempt === DUMP_ATTEMPTS) return rows.map(read).filter((row) => row !== null);
  }
};

const readText = (fd: number, what: string): string => {
  let length = 0;
  while (length < FILE_BYTES_MAX) {
    const n = nonNegative(io.native.read(fd, io.SCRATCH_AT + length, FILE_BYTES_MAX - length), what);
    if (n === 0) break;
    length += n;
  }
  return Buffer.from(io.mem.subarray(io.SCRATCH_AT, io.SCRATCH_AT + length)).toString('utf8');
};

export interface HostDescriptors {
  /** NETLINK_ROUTE socket of the host's namespace. */
  readonly netlink: number;
  /** resolv.conf, or null when there is none. */
  readonly resolvConf: number | null;
  /** Whether /proc/net/tcp6 could be opened: kernels without IPv6 have none. */
  readonly ipv6: boolean;
  /** ip_local_port_range, or null when there is none. */
  readonly ephemeral: number | null;
}

/** Leaves the descriptors open. Throws {@link DiscoverError}. */
export const discover = ({ netlink, resolvConf, ipv6, ephemeral }: HostDescriptors): HostFacts => ({
  links: dump(netlink, RTM.GETLINK, 'network interfaces', readLink),
  addresses: dump(netlink, RTM.GETADDR, 'addresses', readAddress),
  routes: dump(netlink, RTM.GETROUTE, 'routes', readRoute),
  resolvers: resolvConf === null ? { servers: [], search: [] } : parseResolvConf(readText(resolvConf, 'resolv.conf')),
  ipv6,
  ephemeral: ephemeral === null ? null : parsePortRange(readText(ephemeral, 'ip_local_port_range')),
});
