// SPDX-License-Identifier: Apache-2.0
/** `ports.list`, `ports.add`, `ports.remove`: forwarding rules over the JSON-RPC socket, with a result for each rule, all or nothing. */
import { type Direction, type Protocol, printRule, type Rule, sameRule, type Tables } from '../fwd/rule.ts';
import type { Changes, Failure } from './changes.ts';
import { DIRECTIONS, refusal } from './check-rules.ts';
import { CAP } from './pesto-protocol.ts';
import { describeErrno } from './pesto-report.ts';
import {
  type DirectedRule,
  type GivenRules,
  type ListResult,
  type RuleResult,
  type RulesResult,
  ruleOf,
  rulesParams,
} from './rule-schema.ts';

/** Nothing was changed; `data`, where it is there, has a result for each rule that was given. */
export const NOT_CHANGED = -32_000;

export type Outcome =
  | { readonly result: RulesResult | ListResult }
  | { readonly error: { readonly code: number; readonly message: string; readonly data?: RulesResult } };
export type Done = (outcome: Outcome) => void;

export interface PortsOptions {
  readonly changes: Changes;
  readonly now: () => number;
  readonly caps: number;
  readonly directions: readonly Direction[];
  /** Protocols that were shut towards the host at the start. */
  readonly shut: readonly Protocol[];
}

const describe = (
  { direction, rule }: DirectedRule,
  state: RuleResult['state'],
  sockets: number,
  failure: { readonly errno: number; readonly port: number } | null,
): RuleResult => ({
  direction,
  ...rule,
  text: printRule(rule).trimEnd(),
  state,
  sockets,
  error: failure === null ? null : describeErrno(failure.errno, failure.port),
  port: failure === null ? null : failure.port,
  errno: failure === null ? null : failure.errno,
});

/** A rule of the tables, as it fares now. */
const inForce = (o: PortsOptions, one: DirectedRule): RuleResult => {
  const { listening, errno, port } = o.changes.forwarding.ruleState(one.direction, one.rule);
  if (errno !== 0) {
    const state = one.rule.weak && listening > 0 ? 'partial' : 'failed';
    return describe(one, state, listening, { errno, port });
  }
  return describe(one, listening === 0 ? 'waiting' : 'listening', listening, null);
};

export const list = (o: PortsOptions, done: Done): void => {
  const tables = o.changes.forwarding.tables();
  const rules = DIRECTIONS.flatMap((direction) => tables[direction].map((rule) => inForce(o, { direction, rule })));
  const has = (cap: number): boolean => (o.caps & cap) !== 0;
  const enabled = {
    ipv4: has(CAP.IPV4),
    ipv6: has(CAP.IPV6),
    tcp: has(CAP.TCP),
    udp: has(CAP.UDP),
    outbound: o.directions.includes('splice'),
  };
  done({ result: { rules, enabled } });
};

export const add = (o: PortsOptions, params: GivenRules, done: Done): void =>
  change(o, params, done, {
    find: (tables, { direction, rule }) =>
      tables[direction].some((other) => sameRule(other, rule)) ? 'this rule is there already' : null,
    next: (tables, given) => ({
      host: [...tables.host, ...rulesFor(given, 'host')],
      splice: [...tables.splice, ...rulesFor(given, 'splice')],
    }),
    result: (one) => inForce(o, one),
  });

export const remove = (o: PortsOptions, params: GivenRules, done: Done): void =>
  change(o, params, done, {
    find: (tables, { direction, rule }) =>
      tables[direction].some((other) => sameRule(other, rule)) ? null : 'there is no such rule',
    next: (tables, given) => ({
      host: tables.host.filter((rule) => !rulesFor(given, 'host').some((other) => sameRule(other, rule))),
      splice: tables.splice.filter((rule) => !rulesFor(given, 'splice').some((other) => sameRule(other, rule))),
    }),
    result: (one) => describe(one, 'removed', 0, null),
  });

const rulesFor = (given: readonly DirectedRule[], direction: Direction): Rule[] =>
  given.filter((one) => one.direction === direction).map(({ rule }) => rule);

const everyAddress = (caps: number): string =>
  (caps & CAP.IPV4) === 0 ? '::' : (caps & CAP.IPV6) === 0 ? '0.0.0.0' : '';

interface Kind {
  /** Why this rule of the request cannot be. */
  readonly find: (tables: Tables, one: DirectedRule) => string | null;
  readonly next: (tables: Tables, given: readonly DirectedRule[]) => Tables;
  readonly result: (one: DirectedRule) => RuleResult;
}

const change = (o: PortsOptions, params: GivenRules, done: Done, kind: Kind): void => {
  const given: DirectedRule[] = [];
  for (const [i, text] of rulesParams().parse(params).rules.entries()) {
    const one = ruleOf(text, everyAddress(o.caps));
    if (typeof one === 'string') return done({ error: { code: NOT_CHANGED, message: `rule ${i + 1}: ${one}` } });
    if (!o.directions.includes(one.direction))
      return done({ error: { code: NOT_CHANGED, message: `rule ${i + 1}: there is no table for that direction` } });
    given.push(one);
  }
  o.changes.inTurn((release) => {
    const settle: Done = (outcome) => {
      release();
      done(outcome);
    };
    const tables = o.changes.forwarding.tables();
    const missing = given.map((one) => kind.find(tables, one));
    const at = missing.findIndex((reason) => reason !== null);
    if (at >= 0) {
      const rules = given.map((one, i) => ({
        ...describe(one, missing[i] === null ? 'unchanged' : 'failed', 0, null),
        error: missing[i] ?? null,
      }));
      const message = `${printRule((given[at] as DirectedRule).rule).trimEnd()}: ${missing[at]}`;
      return settle({ error: { code: NOT_CHANGED, message, data: { rules } } });
    }
    const next = kind.next(tables, given);
    const reason = refusal(next, o.caps, tables, o.shut);
    if (reason !== null) return settle({ error: { code: NOT_CHANGED, message: reason } });
    o.changes.change(next, 'all-or-nothing', o.now, (failures, applied) =>
      settle(applied ? { result: { rules: given.map(kind.result) } } : rolledBack(given, failures)),
    );
  });
};

const rolledBack = (given: readonly DirectedRule[], failures: readonly Failure[]): Outcome => {
  const of = (one: DirectedRule) =>
    failures.find(({ direction, rule }) => direction === one.direction && sameRule(rule, one.rule)) ?? null;
  const rules = given.map((one) => describe(one, of(one) === null ? 'unchanged' : 'failed', 0, of(one)));
  const [first] = failures;
  const what =
    first === undefined
      ? 'no rule'
      : `port ${first.port} of ${printRule(first.rule).trimEnd()}: ${describeErrno(first.errno, first.port)}`;
  return { error: { code: NOT_CHANGED, message: `nothing was changed: ${what}`, data: { rules } } };
};
