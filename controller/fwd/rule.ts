// SPDX-License-Identifier: Apache-2.0
/**
 * One forwarding rule, and the two tables of them: what is bound on the host leads into the namespace, what is bound on the
 * namespace's loopback leads to the host's. Rules are made by `port-spec.ts` from -t, -u, -T, -U, or come over a control socket.
 * Frozen objects: there are few, and none is touched per packet.
 */

import { familyOf } from '../host/address.ts';

export type Protocol = 'tcp' | 'udp';

export interface Rule {
  readonly protocol: Protocol;
  /** Where to listen, canonical text; '': every address of the IP versions that are on (one socket for both where the kernel can). */
  readonly address: string;
  /** Listen on this interface only (SO_BINDTODEVICE); '': on all. */
  readonly interface: string;
  /** Ports to listen on, 1 to 65535, `first` ≤ `last`. */
  readonly first: number;
  readonly last: number;
  /** Where connections go, canonical text; '': chosen by what they are (the guest's address, or the same loopback address). */
  readonly target: string;
  /** The target's port for `first`; the others follow. */
  readonly to: number;
  /** Best effort: a port that cannot be bound is a warning. */
  readonly weak: boolean;
  /** `auto`: only ports that somebody listens on at the other end, looked at every second. */
  readonly scan: boolean;
}

/** HOST: from the host into the namespace (-t, -u). SPLICE: from the namespace to the host (-T, -U). Names of the pesto protocol. */
export type Direction = 'host' | 'splice';

export interface Tables {
  readonly host: readonly Rule[];
  readonly splice: readonly Rule[];
}

/** Limits of one table. */
export const RULES_MAX = 255;
export const SOCKETS_MAX = 327_680;

/** The target's port for a port of the rule. */
export const targetPort = (rule: Rule, port: number): number => rule.to + (port - rule.first);

/** Every field the same: what deleting a rule asks for. */
export const sameRule = (a: Rule, b: Rule): boolean =>
  a.protocol === b.protocol &&
  a.address === b.address &&
  a.interface === b.interface &&
  a.first === b.first &&
  a.last === b.last &&
  a.target === b.target &&
  a.to === b.to &&
  a.weak === b.weak &&
  a.scan === b.scan;

const everyAddressOf = (address: string, family: 4 | 6): boolean =>
  address === '' || address === (family === 4 ? '0.0.0.0' : '::');
const addressesOverlap = (a: string, b: string): boolean => {
  if (a === b || a === '' || b === '') return true;
  const family = familyOf(a);
  return family === familyOf(b) && (everyAddressOf(a, family) || everyAddressOf(b, family));
};

/** The first of `rules` that could want a socket of `rule`'s: interfaces are not looked at. null: none. */
export const conflict = (rules: readonly Rule[], rule: Rule): Rule | null =>
  rules.find(
    (other) =>
      other.protocol === rule.protocol &&
      other.first <= rule.last &&
      rule.first <= other.last &&
      addressesOverlap(other.address, rule.address),
  ) ?? null;

/** Ports of all rules together: one socket each, where the kernel has one socket for both IP versions. */
export const socketsOf = (rules: readonly Rule[]): number =>
  rules.reduce((sum, { first, last }) => sum + last - first + 1, 0);

const range = (first: number, last: number): string => (first === last ? `${first}` : `${first}-${last}`);

/** One line of a listing, as callers of the original read it: a blank after the ports, and one more before each flag. */
export const printRule = (rule: Rule): string => {
  const from = `[${rule.address === '' ? '*' : rule.address}]${rule.interface === '' ? '' : `%${rule.interface}`}`;
  const target = rule.target === '' ? '' : `${rule.target}:`;
  const to = range(rule.to, targetPort(rule, rule.last));
  const flags = `${rule.weak ? ' (best effort)' : ''}${rule.scan ? ' (auto-scan)' : ''}`;
  return `${rule.protocol.toUpperCase()} ${from}:${range(rule.first, rule.last)}  =>  ${target}${to} ${flags}`;
};

/** Why `rules` cannot all be in one table, as a sentence, or null. */
export const tableFault = (rules: readonly Rule[]): string | null => {
  if (rules.length > RULES_MAX)
    return `${rules.length} forwarding rules are more than the ${RULES_MAX} of one direction`;
  const sockets = socketsOf(rules);
  if (sockets > SOCKETS_MAX) return `${sockets} forwarded ports are more than the ${SOCKETS_MAX} of one direction`;
  for (const [i, rule] of rules.entries()) {
    const other = conflict(rules.slice(0, i), rule);
    if (other !== null)
      return `Forwarding configuration conflict: ${printRule(rule).trimEnd()} and ${printRule(other).trimEnd()}`;
  }
  return null;
};
