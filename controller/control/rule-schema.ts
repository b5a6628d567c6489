// SPDX-License-Identifier: Apache-2.0
/** Rules as the JSON-RPC socket takes and tells them. Made on first use: an instance without that socket never pays for it. */
import * as z from 'zod/mini';
import type { Direction, Rule } from '../fwd/rule.ts';
import { RULES_MAX } from '../fwd/rule.ts';
import { parseAddress } from '../host/address.ts';

/** Made once, when it is first needed. */
export const lazy = <T>(make: () => T): (() => T) => {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
};

const port = () => z.int().check(z.gte(1), z.lte(65_535));
const text = () => z.string().check(z.maxLength(45));
const direction = () => z.enum(['host', 'splice']);

/** A rule to be added or removed; what is left out is what the same rule of a command line would have. */
const givenRule = () =>
  z.strictObject({
    direction: direction(),
    protocol: z.enum(['tcp', 'udp']),
    address: z._default(text(), ''),
    interface: z.optional(z.string().check(z.regex(/^[!-.0-9;-~]{0,15}$/))),
    first: port(),
    last: z.optional(port()),
    target: z._default(text(), ''),
    to: z.optional(port()),
    weak: z._default(z.boolean(), false),
    scan: z._default(z.boolean(), false),
  });
export const rulesParams = lazy(() =>
  z.strictObject({ rules: z.array(givenRule()).check(z.minLength(1), z.maxLength(2 * RULES_MAX)) }),
);
export type GivenRule = z.output<ReturnType<typeof givenRule>>;
export type GivenRules = z.input<ReturnType<typeof rulesParams>>;

/** A rule in force, or one of a request, and how it fares. */
const ruleResult = () =>
  z.strictObject({
    direction: direction(),
    protocol: z.enum(['tcp', 'udp']),
    address: z.string(),
    interface: z.string(),
    first: port(),
    last: port(),
    target: z.string(),
    to: port(),
    weak: z.boolean(),
    scan: z.boolean(),
    /** The rule as pesto prints it. */
    text: z.string(),
    /**
     * `listening`: every port of it; `partial`: best effort, and some port could not be bound; `failed`: none, or one asked for by
     * name could not; `waiting`: for a service to appear (auto); `removed`; `unchanged`: would have been possible alone.
     */
    state: z.enum(['listening', 'partial', 'failed', 'waiting', 'removed', 'unchanged']),
    /** Sockets that listen. */
    sockets: z.int(),
    /** What failed first, or null. */
    error: z.nullable(z.string()),
    port: z.nullable(port()),
    errno: z.nullable(z.int()),
  });
export const rulesResult = () => z.strictObject({ rules: z.array(ruleResult()) });
export type RuleResult = z.output<ReturnType<typeof ruleResult>>;
export type RulesResult = z.output<ReturnType<typeof rulesResult>>;
/** Of `ports.list`: the rules in force, and what rules may be here. */
export const listResult = () =>
  z.strictObject({
    rules: z.array(ruleResult()),
    enabled: z.strictObject({
      ipv4: z.boolean(),
      ipv6: z.boolean(),
      tcp: z.boolean(),
      udp: z.boolean(),
      /** Rules towards the host, direction `splice`. */
      outbound: z.boolean(),
    }),
  });
export type ListResult = z.output<ReturnType<typeof listResult>>;

export interface DirectedRule {
  readonly direction: Direction;
  readonly rule: Rule;
}

/** The rule that was meant, or a sentence. `every`: what listens on every address is called so, '' where both IP versions are on. */
export const ruleOf = (given: GivenRule, every: string): DirectedRule | string => {
  const last = given.last ?? given.first;
  const to = given.to ?? given.first;
  if (last < given.first) return `ports ${given.first}-${last} are in reverse order`;
  if (to + (last - given.first) > 65_535) return `ports ${given.first}-${last} do not fit from ${to} on`;
  const address = given.address === '' ? every : parseAddress(given.address)?.address;
  if (address === undefined) return `${given.address} is not an address`;
  const target = given.target === '' ? '' : parseAddress(given.target)?.address;
  if (target === undefined) return `${given.target} is not an address`;
  const rule: Rule = Object.freeze({
    protocol: given.protocol,
    address,
    interface: given.interface ?? (given.direction === 'splice' ? 'lo' : ''),
    first: given.first,
    last,
    target,
    to,
    weak: given.weak,
    scan: given.scan,
  });
  return { direction: given.direction, rule };
};
