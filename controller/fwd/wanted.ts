// SPDX-License-Identifier: Apache-2.0
/** Which sockets rules want, and what that is beside those that are open. */
import type { Side } from '../../shared/rpc/methods.ts';
import type { Direction, Protocol, Rule, Tables } from './rule.ts';
import { allGroups, type Group, groupOf, type Listener } from './sockets.ts';

/** Of each group, the rule that wants a port. */
export type Wanted = ReadonlyMap<Group, ReadonlyMap<number, Rule>>;
/** The ports of that side at which somebody else listens, in no order: what `auto` goes by. */
export type Heard = (side: Side, protocol: Protocol) => readonly number[];
/** A socket to be opened. */
export interface Wish {
  readonly group: Group;
  readonly port: number;
  readonly rule: Rule;
}

export const DIRECTIONS = ['host', 'splice'] as const satisfies readonly Direction[];
/** Where connections of that direction end. */
export const targetSide = (direction: Direction): Side => (direction === 'host' ? 'netns' : 'host');

export const wanted = (tables: Tables, heard: Heard): Wanted => {
  const found = new Map<Group, Map<number, Rule>>();
  for (const direction of DIRECTIONS) {
    const side = targetSide(direction);
    for (const rule of tables[direction]) {
      const group = groupOf(direction, rule);
      let ports = found.get(group);
      if (ports === undefined) {
        ports = new Map();
        found.set(group, ports);
      }
      if (rule.scan) {
        for (const target of heard(side, rule.protocol)) {
          const port = rule.first + (target - rule.to);
          if (port >= rule.first && port <= rule.last && !ports.has(port)) ports.set(port, rule);
        }
      } else {
        for (let port = rule.first; port <= rule.last; port++) if (!ports.has(port)) ports.set(port, rule);
      }
    }
  }
  return found;
};

/** What is wanted and not open. */
export const wishes = (want: Wanted): Wish[] => {
  const found: Wish[] = [];
  for (const [group, ports] of want) {
    for (const [port, rule] of ports) if (!group.open.has(port)) found.push({ group, port, rule });
  }
  return found;
};

/** What is open and not wanted. */
export const surplus = (want: Wanted): Listener[] => {
  const found: Listener[] = [];
  for (const group of allGroups()) {
    const ports = want.get(group);
    for (const [port, listener] of group.open) if (ports === undefined || !ports.has(port)) found.push(listener);
  }
  return found;
};
