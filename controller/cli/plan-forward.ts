// SPDX-License-Identifier: Apache-2.0
/**
 * Rules of -t, -u, -T and -U on this host, and what `seal` freezes for them: which ports may still be listened on, and which of
 * the host's loopback may be reached. Nothing is widened to make it fit: what is too much is refused.
 */
import { GRANTS_MAX } from '../../shared/rpc/methods.ts';
import { parsePortSpec } from '../fwd/port-spec.ts';
import { PortSpecError } from '../fwd/port-syntax.ts';
import { type Direction, type Protocol, type Rule, type Tables, tableFault, targetPort } from '../fwd/rule.ts';
import type { HostFacts } from '../host/facts.ts';
import type { PortRange } from '../host/port-range.ts';
import { PlanError } from './plan-error.ts';
import type { FamilyPlan } from './plan-family.ts';
import type { Plan } from './plan-schema.ts';
import type { GivenForward, Settings } from './settings.ts';

export interface Versions {
  readonly v4: FamilyPlan | null;
  readonly v6: FamilyPlan | null;
}

const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp'];
const EVERY_PORT: PortRange = { first: 1, last: 65_535 };
/** RFC 1122 §3.2.1.3, RFC 4291 §2.5.3 */
const LOOPBACK_4 = { address: '127.0.0.0', prefix: 8 };
const LOOPBACK_6 = { address: '::1', prefix: 128 };

const given = (settings: Settings, protocol: Protocol, direction: Direction): readonly GivenForward[] =>
  settings.forwards.filter((one) => one.protocol === protocol && one.direction === direction);

/** Where nothing was said: "auto", or nothing for a guest whose ports nobody can look at. */
const specs = (settings: Settings, protocol: Protocol, direction: Direction): readonly string[] => {
  const said = given(settings, protocol, direction);
  if (said.length > 0) return said.map(({ spec }) => spec);
  return settings.personality === 'pasta' && settings[protocol] ? ['auto'] : [];
};

const table = (settings: Settings, facts: HostFacts, versions: Versions, direction: Direction): readonly Rule[] => {
  const families = { v4: versions.v4 !== null, v6: versions.v6 !== null };
  const machine = settings.personality === 'passt';
  try {
    const rules = PROTOCOLS.flatMap((protocol) =>
      specs(settings, protocol, direction).flatMap((spec) =>
        parsePortSpec(spec, { protocol, direction, families, ephemeral: facts.ephemeral, machine }),
      ),
    );
    const fault = tableFault(rules);
    if (fault !== null) throw new PlanError('forwarding', fault);
    return rules;
  } catch (error) {
    if (error instanceof PortSpecError) throw new PlanError('forwarding', error.message);
    throw error;
  }
};

/** The same ports in as few ranges as there can be. */
const merged = (ranges: readonly PortRange[]): readonly PortRange[] => {
  const result: PortRange[] = [];
  for (const { first, last } of [...ranges].sort((a, b) => a.first - b.first)) {
    const before = result.at(-1);
    if (before === undefined || first > before.last + 1) result.push({ first, last });
    else result[result.length - 1] = { first: before.first, last: Math.max(before.last, last) };
  }
  return result;
};

/** Rules may still come over a socket. */
const changes = (settings: Settings): boolean => settings.conf !== null || settings.control !== null;
/** What was switched off at start stays so: nobody can ask for the host's loopback later. A virtual machine has no loopback of ours. */
const frozenShut = (settings: Settings, protocol: Protocol): boolean =>
  settings.personality === 'passt' ||
  !settings[protocol] ||
  given(settings, protocol, 'splice').some(({ spec }) => spec === 'none');

type Windows = Plan['listen']['host'];
/** No more of them than rules, which `seal` takes. */
const windows = (settings: Settings, rules: readonly Rule[], direction: Direction): Windows =>
  PROTOCOLS.flatMap((protocol) => {
    const shut = direction === 'splice' ? frozenShut(settings, protocol) : !settings[protocol];
    const later = rules.filter((rule) => rule.protocol === protocol && rule.scan);
    const ranges = changes(settings) && !shut ? [EVERY_PORT] : merged(later);
    return ranges.map((range) => ({ protocol, ...range }));
  });

/** What rules towards the host's loopback lead to, now or later. */
const spliceGrants = (settings: Settings, rules: readonly Rule[], { v4, v6 }: Versions): Plan['grant'] =>
  PROTOCOLS.flatMap((protocol) => {
    const open = changes(settings) && !frozenShut(settings, protocol);
    const led = rules.filter((rule) => rule.protocol === protocol);
    const ranges = open
      ? [EVERY_PORT]
      : merged(led.map((rule) => ({ first: rule.to, last: targetPort(rule, rule.last) })));
    return ranges.flatMap(({ first, last }) =>
      [v4 && LOOPBACK_4, v6 && LOOPBACK_6]
        .filter((loopback) => loopback !== null)
        .map((loopback) => ({ ...loopback, port: first, last, protocol })),
    );
  });

export interface Forwarding {
  readonly forward: Plan['forward'];
  readonly listen: Plan['listen'];
  readonly grant: Plan['grant'];
}

/** Throws {@link PlanError}. */
export const planForward = (settings: Settings, facts: HostFacts, versions: Versions): Forwarding => {
  const tables: Tables = {
    host: table(settings, facts, versions, 'host'),
    splice: table(settings, facts, versions, 'splice'),
  };
  return {
    forward: {
      tables,
      splice: settings.splice && settings.personality === 'pasta',
      spliceOnly: settings.spliceOnly,
      loopbackToLoopback: settings.loopbackToLoopback,
      freebind: settings.freebind,
    },
    listen: {
      host: windows(settings, tables.host, 'host'),
      netns: windows(settings, tables.splice, 'splice'),
    },
    grant: spliceGrants(settings, tables.splice, versions),
  };
};

/** All grants together, each once. Throws {@link PlanError} where they are more than the helper takes. */
export const allGrants = (grants: Plan['grant']): Plan['grant'] => {
  const once = new Map(grants.map((grant) => [JSON.stringify(grant), grant]));
  if (once.size <= GRANTS_MAX) return [...once.values()];
  throw new PlanError(
    'forwarding',
    `Too many separate ranges of ports towards the host: ${once.size}, at most ${GRANTS_MAX} with its own addresses`,
  );
};
