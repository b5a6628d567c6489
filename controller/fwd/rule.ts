// SPDX-License-Identifier: Apache-2.0
/**
 * One forwarding rule, and the two tables of them: what is bound on the host leads into the namespace, what is bound on the
 * namespace's loopback leads to the host's. Rules are made by `port-spec.ts` from -t, -u, -T, -U, or come over a control socket.
 * Frozen objects: there are few, and none is touched per packet.
 */

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
