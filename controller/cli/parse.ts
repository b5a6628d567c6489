// SPDX-License-Identifier: Apache-2.0
/** Command line → {@link Settings}: the options applied in order, then what can only be judged when all are known. */
import { parsePortSpec } from '../fwd/port-spec.ts';
import { PortSpecError } from '../fwd/port-syntax.ts';
import { UsageError } from './errors.ts';
import { getopt, type Parsed } from './getopt.ts';
import type { Personality } from './options/row.ts';
import { defaultSettings, type RawSettings, type Settings } from './settings.ts';

/** The kernel's PID_MAX_LIMIT is far below; what must fit is a pid_t. */
const PID_MAX = 0x7fff_ffff;

const checkPersonality = ({ options }: Parsed, personality: Personality): void => {
  const other = options.find(({ row }) => row.only !== null && row.only !== personality);
  if (other !== undefined) throw new UsageError('wrong-mode', `${other.spelling} is for ${other.row.only} mode only`);
};

/** Connections cannot move with a guest to another host: who asks for that must not believe that they do. */
const checkMigration = ({ migration, vhostUser }: RawSettings): void => {
  const [first] = migration;
  if (first === undefined) return;
  if (vhostUser) throw new UsageError('not-supported', `${first} is not supported: connections cannot be migrated`);
  throw new UsageError('wrong-mode', `${first} is for vhost-user mode only`);
};

const checkTogether = ({ options }: Parsed): void => {
  const given = new Set<string>(options.map(({ name }) => name));
  for (const { name, row } of options) {
    const other = row.conflicts.find((conflicting) => given.has(conflicting));
    if (other !== undefined) throw new UsageError('conflict', `Both --${name} and --${other} given`);
    if (row.needs !== null && !given.has(row.needs)) throw new UsageError('conflict', `--${name} needs --${row.needs}`);
  }
};

const checkOperands = (raw: RawSettings, operands: readonly string[]): void => {
  const [first] = operands;
  if (first === undefined) return;
  if (raw.personality === 'passt') throw new UsageError('unexpected-argument', `Extra non-option argument: ${first}`);
  if (raw.netns !== null) throw new UsageError('conflict', 'Both --netns and PID or command given');
  if (operands.length === 1 && /^[0-9]+$/.test(first) && Number(first) > PID_MAX) {
    throw new UsageError('invalid-value', `Invalid PID ${first}`);
  }
};

const checkMask = (raw: RawSettings): void => {
  if (raw.netmask === null) return;
  const redundant = raw.addresses.find(({ family, prefix }) => family === 4 && prefix !== null);
  if (redundant === undefined) return;
  const text = `${redundant.address}/${redundant.prefix}`;
  throw new UsageError('conflict', `Redundant prefix length specification: --netmask and --address ${text}`);
};

/** What each family-specific option asked for, as [what to call it, value or null]. */
const asked = (raw: RawSettings, family: 4 | 6): readonly (readonly [string, string | null])[] => [
  ['Address', raw.addresses.find((given) => given.family === family)?.address ?? null],
  ['Gateway', family === 4 ? raw.gateway4 : raw.gateway6],
  ['Outbound address', family === 4 ? raw.outbound4 : raw.outbound6],
  ['Outbound interface', family === 4 ? raw.outboundInterface4 : raw.outboundInterface6],
  ['Netmask', family === 4 && raw.netmask !== null ? String(raw.netmask) : null],
];

/** An option for an IP version that is switched off would otherwise silently do nothing. */
const checkFamily = (raw: RawSettings): void => {
  if (raw.family === 'both') return;
  const off = raw.family === 4 ? 6 : 4;
  const wrong = asked(raw, off).find(([, value]) => value !== null);
  if (wrong !== undefined)
    throw new UsageError('conflict', `${wrong[0]} ${wrong[1]} given, but IPv${off} is not enabled`);
};

/** What can be said without knowing the host: the rest is the plan's. */
const checkForwards = (raw: RawSettings): void => {
  const families = { v4: raw.family !== 6, v6: raw.family !== 4 };
  const machine = raw.personality === 'passt';
  for (const [i, { protocol, direction, spec, spelling }] of raw.forwards.entries()) {
    const earlier = raw.forwards.slice(0, i).filter((o) => o.protocol === protocol && o.direction === direction);
    if (spec === 'none' && earlier.some((other) => other.spec !== 'none'))
      throw new UsageError('conflict', `${spelling} none conflicts with previous options`);
    if (spec !== 'none' && !raw[protocol]) {
      const name = protocol.toUpperCase();
      throw new UsageError(
        'conflict',
        `${name} port forwarding requested but ${name} is disabled: ${spelling} ${spec}`,
      );
    }
    try {
      const rules = parsePortSpec(spec, { protocol, direction, families, ephemeral: null, machine });
      // There is no looking into a virtual machine for who listens there.
      if (machine && rules.some(({ scan }) => scan))
        throw new UsageError('wrong-mode', `'auto' port forwarding is only allowed for pasta: ${spelling} ${spec}`);
    } catch (error) {
      if (error instanceof PortSpecError) throw new UsageError('invalid-value', `${error.message} in ${spelling}`);
      throw error;
    }
  }
};

const freeze = (raw: RawSettings, operands: readonly string[]): Settings => {
  const settings = { ...raw, operands };
  for (const value of Object.values(settings)) if (typeof value === 'object') Object.freeze(value);
  return Object.freeze(settings);
};

/**
 * Reads the arguments, without the program's name. Later options override earlier ones; -a, -D and -S accumulate.
 * Throws {@link UsageError} for the first thing that is wrong; nothing has been touched by then.
 */
export const parseCommandLine = (personality: Personality, args: readonly string[]): Settings => {
  const parsed = getopt(args);
  checkPersonality(parsed, personality);
  const raw = defaultSettings(personality);
  for (const { row, value, spelling } of parsed.options) row.apply(raw, value, spelling);
  checkTogether(parsed);
  checkMigration(raw);
  checkOperands(raw, parsed.operands);
  checkMask(raw);
  checkFamily(raw);
  checkForwards(raw);
  return freeze(raw, parsed.operands);
};
