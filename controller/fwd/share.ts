// SPDX-License-Identifier: Apache-2.0
/**
 * How many sockets `auto` may have. It opens what other people listen at, on the host any user's: with as many as they like, nothing
 * would be left for connections. Each direction and protocol has a share of its own, so that none is lost to another's, and the
 * lowest ports are those that are kept: of the host's, users without privileges cannot take the ones below 1024.
 */
import { LISTENERS_MAX, type Side } from '../../shared/rpc/methods.ts';
import type { Protocol, Rule } from './rule.ts';
import type { Group } from './sockets.ts';
import { DIRECTIONS, targetSide, type Wanted } from './wanted.ts';

/** Descriptors that listeners leave to everything else. */
export const DESCRIPTORS_KEPT = 128;
/** Of the descriptors that rules by name leave, the part that each direction and protocol has: half of them all together. */
const SHARE = 1 / 8;
const PROTOCOLS = ['tcp', 'udp'] as const satisfies readonly Protocol[];

/** Do so many sockets fit the limits of this process, which has `descriptors`, and of the helper? */
export const fits = (want: Wanted, descriptors: number): boolean => {
  const { host, netns } = socketsOf(want);
  return host + netns <= descriptors - DESCRIPTORS_KEPT && Math.max(host, netns) <= LISTENERS_MAX;
};

const socketsOf = (want: Wanted, isNamed: (rule: Rule) => boolean = () => true): Record<Side, number> => {
  const sockets = { host: 0, netns: 0 };
  for (const [group, ports] of want) for (const rule of ports.values()) if (isNamed(rule)) sockets[group.side]++;
  return sockets;
};

/** What is wanted by name, and of what `auto` found as much as it may have; `left`: what that is not. */
export interface Shared {
  readonly want: Wanted;
  readonly left: ReadonlyMap<Group, readonly number[]>;
}

/** `descriptors`: RLIMIT_NOFILE. */
export const shareOut = (want: Wanted, descriptors: number): Shared => {
  const named = socketsOf(want, ({ scan }) => !scan);
  const rest = Math.max(0, descriptors - DESCRIPTORS_KEPT - named.host - named.netns);
  const left = new Map<Group, number[]>();
  for (const direction of DIRECTIONS) {
    const helpers = LISTENERS_MAX - named[targetSide(direction) === 'host' ? 'netns' : 'host'];
    const each = Math.max(0, Math.floor(Math.min(rest * SHARE, helpers / PROTOCOLS.length)));
    for (const protocol of PROTOCOLS) {
      const found: { group: Group; port: number }[] = [];
      for (const [group, ports] of want) {
        if (group.direction !== direction || group.protocol !== protocol) continue;
        for (const [port, { scan }] of ports) if (scan) found.push({ group, port });
      }
      if (found.length <= each) continue;
      for (const { group, port } of found.sort((a, b) => a.port - b.port).slice(each)) {
        const ports = left.get(group);
        if (ports === undefined) left.set(group, [port]);
        else ports.push(port);
      }
    }
  }
  if (left.size === 0) return { want, left };
  const cut = new Map([...want].map(([group, ports]) => [group, new Map(ports)] as const));
  for (const [group, ports] of left) for (const port of ports) cut.get(group)?.delete(port);
  return { want: cut, left };
};
