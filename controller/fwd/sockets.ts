// SPDX-License-Identifier: Apache-2.0
/**
 * The listening sockets that are open. Those of one protocol, address and interface are a group, in which a port is one
 * socket; whichever rule asked for it, it is the same socket, and a rule that replaces another takes it over as it is.
 */

import { SOCKOPT } from '../../shared/abi.ts';
import type { Params, Result, Side } from '../../shared/rpc/methods.ts';
import { LISTENER_REF_BASE, OTHER_REF_BASE } from '../flow/table.ts';
import * as io from '../io/io.ts';
import { type Direction, type Protocol, type Rule, targetPort } from './rule.ts';

export interface Group {
  readonly direction: Direction;
  /** Where its sockets are: listeners towards the host are in the namespace. */
  readonly side: Side;
  readonly protocol: Protocol;
  readonly address: string;
  readonly interface: string;
  /** By port. */
  readonly open: Map<number, Listener>;
  /** Ports that are wanted and could not be had, with the reason (errno). */
  missing: Map<number, number>;
}

export interface Listener {
  readonly group: Group;
  readonly direction: Direction;
  readonly side: Side;
  readonly fd: number;
  /** In the epoll set. */
  readonly ref: number;
  /** The helper's number for it. */
  readonly listener: number;
  readonly port: number;
  /** Who asked for it: may change while it is open, and is to be read at each event. */
  rule: Rule;
  /** False once it was closed. */
  open: boolean;
}

const UDP_QUEUE_BYTES = 4 * 1024 * 1024;
const REFS = OTHER_REF_BASE - LISTENER_REF_BASE;
const listeners: (Listener | null)[] = [];
/** Numbers of `listeners` to be used again, the longest unused first. */
const unused: number[] = [];
const groups = new Map<string, Group>();
let openCount = 0;
/** Sockets of others are told from ours by these: how many of ours are open at a port. */
const ownPorts: Record<Side, Record<Protocol, Uint8Array>> = {
  host: { tcp: new Uint8Array(65_536), udp: new Uint8Array(65_536) },
  netns: { tcp: new Uint8Array(65_536), udp: new Uint8Array(65_536) },
};

/** The listener that an event is about; null: closed earlier in this turn. */
export const of = (ref: number): Listener | null => listeners[ref - LISTENER_REF_BASE] ?? null;
/** All listeners together. */
export const count = (): number => openCount;
/** By port, how many listeners of ours are open there; not to be changed. */
export const ports = (side: Side, protocol: Protocol): Uint8Array => ownPorts[side][protocol];
export const allGroups = (): IterableIterator<Group> => groups.values();

const ANY = ['', '0.0.0.0', '::'];
/** Whether what goes to `address` of that side itself, which comes by its loopback, is the group's. */
const isHeard = ({ address: own, interface: device }: Group, address: string): boolean =>
  (device === '' || device === 'lo') &&
  (own === address || (ANY.includes(own) && (own === '' || own.includes(':') === address.includes(':'))));

const at = (side: Side, protocol: Protocol, address: string, port: number): Listener | null => {
  if (ports(side, protocol)[port] === 0) return null;
  for (const group of groups.values()) {
    if (group.side !== side || group.protocol !== protocol || !isHeard(group, address)) continue;
    const found = group.open.get(port);
    if (found !== undefined) return found;
  }
  return null;
};

/**
 * Whether what goes from socket to socket to that address and port of `side` would come to a listener of ours that leads to another
 * one: round and round, it may be. One listener more is a detour, and no harm.
 */
export const leadsRound = (side: Side, protocol: Protocol, address: string, port: number): boolean => {
  const l = at(side, protocol, address, port);
  if (l === null || l.rule.target !== '') return false;
  return ports(side === 'host' ? 'netns' : 'host', protocol)[targetPort(l.rule, port)] !== 0;
};

export const groupOf = (direction: Direction, { protocol, address, interface: device }: Rule): Group => {
  // In the namespace, nothing but its loopback is listened to.
  const name = direction === 'splice' ? 'lo' : device;
  const key = `${direction} ${protocol} ${address} ${name}`;
  let group = groups.get(key);
  if (group === undefined) {
    const side = direction === 'host' ? 'host' : 'netns';
    group = { direction, side, protocol, address, interface: name, open: new Map(), missing: new Map() };
    groups.set(key, group);
  }
  return group;
};

/** `everyAddress` stands for '': the helper's word for both IP versions, or what a kernel without IPv6 has. */
export const listenParams = (
  { protocol, address, interface: device }: Group,
  port: number,
  freebind: boolean,
  everyAddress: string,
): Params<'socket.listen'> => ({
  protocol,
  address: address === '' ? everyAddress : address,
  port,
  interface: device,
  freebind,
});

/** Takes what the helper opened. TCP is watched level-triggered; UDP by edges, since what waits is looked at by the helper first. */
export const adopt = (
  group: Group,
  port: number,
  rule: Rule,
  { fd, listener }: Result<'socket.listen'>,
): Listener | null => {
  const index = unused.shift() ?? listeners.length;
  if (index >= REFS) {
    io.native.close(fd);
    return null;
  }
  const { direction, side, protocol } = group;
  const ref = LISTENER_REF_BASE + index;
  const l: Listener = { group, direction, side, fd, ref, listener, port, rule, open: true };
  if (protocol === 'tcp') {
    // What is accepted inherits them.
    for (const { level, option } of [SOCKOPT.SO_KEEPALIVE, SOCKOPT.TCP_NODELAY])
      io.native.setsockopt(fd, level, option, 1);
  } else {
    // Peers that come all at once wait here; the kernel gives up to rmem_max.
    io.native.setsockopt(fd, SOCKOPT.SO_RCVBUF.level, SOCKOPT.SO_RCVBUF.option, UDP_QUEUE_BYTES);
  }
  listeners[index] = l;
  io.native.watch(fd, protocol === 'tcp' ? io.EPOLLIN : io.EPOLLIN | io.EPOLLET, ref);
  group.open.set(port, l);
  group.missing.delete(port);
  const own = ports(side, protocol);
  own[port] = (own[port] as number) + 1;
  openCount++;
  return l;
};

/** Closes our end; the helper's copy is the caller's matter. Connections and flows that came by it live on. */
export const close = (l: Listener): void => {
  l.open = false;
  io.native.close(l.fd);
  const index = l.ref - LISTENER_REF_BASE;
  listeners[index] = null;
  unused.push(index);
  l.group.open.delete(l.port);
  const own = ports(l.side, l.group.protocol);
  own[l.port] = (own[l.port] as number) - 1;
  openCount--;
};

/** At the end: the ports are free when the helper ends, not only when the kernel has dismantled this process. */
export const closeAll = (): void => {
  for (const l of listeners) if (l !== null && l !== undefined) close(l);
};
