// SPDX-License-Identifier: Apache-2.0
/**
 * Whether tables that came over a control socket may be put in force at all: checked as a command line would be. Whether a
 * port is free is found out by binding it.
 */
import { EPHEMERAL_DEFAULT, ruleFault } from '../fwd/port-spec.ts';
import { type Direction, type Protocol, printRule, sameRule, type Tables, tableFault } from '../fwd/rule.ts';
import { CAP } from './pesto-protocol.ts';

/** Both directions of a change, in the order of listings. */
export const DIRECTIONS = ['host', 'splice'] as const satisfies readonly Direction[];

/** Of {@link CAP}: the IP versions and protocols that are on, and what rules may ask for. */
export const capsOf = (on: {
  readonly v4: boolean;
  readonly v6: boolean;
  readonly tcp: boolean;
  readonly udp: boolean;
  /** There is somebody to look who listens: a namespace. */
  readonly scan: boolean;
}): number =>
  (on.v4 ? CAP.IPV4 : 0) |
  (on.v6 ? CAP.IPV6 : 0) |
  (on.tcp ? CAP.TCP : 0) |
  (on.udp ? CAP.UDP : 0) |
  (on.scan ? CAP.SCAN : 0) |
  CAP.INTERFACE;

/** What the grammar of rules depends on, as far as a server tells it. */
export const contextOf = (direction: Direction, protocol: Protocol, caps: number, ephemeral = EPHEMERAL_DEFAULT) => ({
  direction,
  protocol,
  families: { v4: (caps & CAP.IPV4) !== 0, v6: (caps & CAP.IPV6) !== 0 },
  ephemeral,
  machine: (caps & CAP.SCAN) === 0,
});

/**
 * The reason why these tables cannot be, one sentence; null: none. Rules that are in force have been looked at before: a check
 * costs 0.15 ms, and frames wait meanwhile. `shut`: protocols for which nothing may lead to the host any more.
 */
export const refusal = (tables: Tables, caps: number, inForce: Tables, shut: readonly Protocol[]): string | null => {
  for (const direction of DIRECTIONS) {
    for (const rule of tables[direction]) {
      if (inForce[direction].some((known) => sameRule(known, rule))) continue;
      if (direction === 'splice' && shut.includes(rule.protocol))
        return `-${rule.protocol === 'tcp' ? 'T' : 'U'} was none at the start: no such rule can be added: ${printRule(rule).trimEnd()}`;
      if ((caps & (rule.protocol === 'tcp' ? CAP.TCP : CAP.UDP)) === 0)
        return `${printRule(rule).trimEnd()}: ${rule.protocol.toUpperCase()} is not enabled`;
      if (rule.scan && (caps & CAP.SCAN) === 0)
        return `${printRule(rule).trimEnd()}: 'auto' port forwarding is only allowed for pasta`;
      const fault = ruleFault(rule, contextOf(direction, rule.protocol, caps));
      if (fault !== null) return fault;
    }
    const fault = tableFault(tables[direction]);
    if (fault !== null) return fault;
  }
  return null;
};
