// SPDX-License-Identifier: Apache-2.0
/**
 * Port specifications and the rules they stand for. Where no range is given ("all", "auto", "~PORTS" alone) they stand for every
 * port but the host's ephemeral ones, best effort. "all" beside ranges is the union of both: the ranges as asked by name, the
 * rest best effort. What "~" excludes is excluded from everything, wherever it stands.
 */
import { addressKind, familyOf } from '../host/address.ts';
import type { PortRange } from '../host/port-range.ts';
import { type Chunk, PORT_MAX, PortSpecError, type PortSyntax, readPortSyntax } from './port-syntax.ts';
import { type Direction, type Protocol, printRule, RULES_MAX, type Rule, sameRule } from './rule.ts';

/** RFC 6335 §6: where the host does not say (ip_local_port_range). */
export const EPHEMERAL_DEFAULT: PortRange = { first: 49_152, last: 65_535 };

export interface SpecContext {
  readonly protocol: Protocol;
  /** 'host': -t, -u. 'splice': -T, -U. */
  readonly direction: Direction;
  /** IP versions that are on; at least one. */
  readonly families: { readonly v4: boolean; readonly v6: boolean };
  /** Of the host; null: that of RFC 6335. */
  readonly ephemeral: PortRange | null;
  /** Messages do not name what is for namespaces only: the guest is a virtual machine. */
  readonly machine?: boolean;
}

const EVERY = { 4: '0.0.0.0', 6: '::' } as const;
const isOn = ({ families }: SpecContext, family: 4 | 6): boolean => (family === 4 ? families.v4 : families.v6);

const notEnabled = (text: string, position: number, family: 4 | 6): PortSpecError =>
  new PortSpecError(text, position, text, `IPv${family} forward, but IPv${family} not enabled: `);

/** The listening address: '' only where both IP versions are on. */
const listenAddress = (text: string, syntax: PortSyntax, context: SpecContext): string => {
  const { address } = syntax;
  const position = text.startsWith('[') ? 2 : 1;
  if (context.direction === 'splice' && syntax.placed) {
    throw new PortSpecError(
      text,
      1,
      text,
      'Listening address not allowed, it is always the loopback of the namespace: ',
    );
  }
  if (address === '') return context.families.v4 && context.families.v6 ? '' : EVERY[context.families.v4 ? 4 : 6];
  const family = familyOf(address);
  if (!isOn(context, family)) throw notEnabled(text, position, family);
  const kind = addressKind(address);
  if (kind === 'multicast' || kind === 'broadcast' || (kind === 'unspecified' && address !== EVERY[family]))
    throw new PortSpecError(text, position, 'nothing can be listened to at that address');
  if (family === 6 && kind === 'link-local' && syntax.interface === '')
    throw new PortSpecError(text, position, 'a link-local address needs its interface, as in fe80::1%eth0/PORT');
  return address;
};

/** A chunk's target, '' for none, and never for an unspecified address, which says the same. */
const targetOf = (text: string, chunk: Chunk, address: string, context: SpecContext): string => {
  const { target, targetPosition } = chunk;
  if (target === '' || target === EVERY[4] || target === EVERY[6]) return '';
  const fail = (what: string): never => {
    throw new PortSpecError(text, targetPosition, what);
  };
  if (context.direction === 'splice') fail('no target address here: it leads to the loopback of the host');
  const kind = addressKind(target);
  if (kind === 'multicast') fail('the target is a multicast address');
  if (kind === 'broadcast' || kind === 'unspecified') fail('nothing can be reached at the target address');
  // It would be delivered as a packet with a loopback destination, which every host must drop (RFC 1122 §3.2.1.3).
  if (kind === 'loopback')
    fail(
      context.machine === true
        ? 'the target is a loopback address, at which a guest cannot be reached from outside'
        : 'the target is a loopback address: the start option --host-lo-to-ns-lo leads to the loopback of the namespace',
    );
  const family = familyOf(target);
  if (!isOn(context, family)) throw notEnabled(text, targetPosition, family);
  if (address === '')
    throw new PortSpecError(
      text,
      targetPosition,
      `begin with ${EVERY[family]}/ to listen for that IP version only`,
      `Dual stack forward to IPv${family} address ${target} unsupported: `,
    );
  if (familyOf(address) !== family) fail(`IPv${familyOf(address)} cannot be forwarded to an IPv${family} address`);
  return target;
};

const fill = (ports: Uint8Array, first: number, last: number): void => void ports.fill(1, first, last + 1);
/** Runs of ports from `first` to `last` that are 0 in `taken`. */
const freeRuns = (taken: Uint8Array, first: number, last: number): PortRange[] => {
  const runs: PortRange[] = [];
  for (let begin = taken.indexOf(0, first); begin >= 0 && begin <= last; ) {
    const end = taken.indexOf(1, begin);
    runs.push({ first: begin, last: end < 0 ? last : Math.min(end - 1, last) });
    begin = end < 0 ? -1 : taken.indexOf(0, end);
  }
  return runs;
};

/** Chunks that give no range stand for everything; two that differ in target would give each port two. */
const everything = (text: string, chunks: readonly Chunk[]): Chunk | null => {
  const all = chunks.filter(({ kind }) => kind === 'all');
  const [first, ...others] = all;
  const other = others.find(({ target }) => target !== first?.target);
  if (other !== undefined) throw new PortSpecError(text, other.position, '"all" is given with another target');
  const ranges = chunks.some(({ kind }) => kind === 'ports');
  return first ?? (ranges ? null : (chunks[0] ?? null));
};

/**
 * The rules that `text` stands for: ranges in their order, then best effort. None for "none", and where everything is excluded.
 * Throws {@link PortSpecError}.
 */
export const parsePortSpec = (text: string, context: SpecContext): readonly Rule[] => {
  const syntax = readPortSyntax(text, context.machine !== true);
  const { chunks } = syntax;
  if (chunks.length === 0) return [];
  const address = listenAddress(text, syntax, context);
  const base = {
    protocol: context.protocol,
    address,
    interface: context.direction === 'splice' ? 'lo' : syntax.interface,
    scan: chunks.some(({ kind }) => kind === 'auto'),
  };
  const excluded = new Uint8Array(PORT_MAX + 2);
  for (const { kind, first, last } of chunks) if (kind === 'except') fill(excluded, first, last);
  const rules: Rule[] = [];
  const named = new Uint8Array(PORT_MAX + 2);
  for (const chunk of chunks) {
    if (chunk.kind !== 'ports') continue;
    const twice = named.indexOf(1, chunk.first);
    if (twice >= 0 && twice <= chunk.last)
      throw new PortSpecError(
        text,
        chunk.position,
        text,
        `Forwarding configuration conflict: port ${twice} is given twice in `,
      );
    fill(named, chunk.first, chunk.last);
    const target = targetOf(text, chunk, address, context);
    for (const run of freeRuns(excluded, chunk.first, chunk.last))
      rules.push({ ...base, ...run, target, to: chunk.to + run.first - chunk.first, weak: false });
  }
  const all = everything(text, chunks);
  if (all !== null) {
    const target = targetOf(text, all, address, context);
    const taken = named.slice();
    for (const { kind, first, last } of chunks) if (kind === 'except') fill(taken, first, last);
    const ephemeral = context.ephemeral ?? EPHEMERAL_DEFAULT;
    fill(taken, ephemeral.first, ephemeral.last);
    for (const run of freeRuns(taken, 1, PORT_MAX)) rules.push({ ...base, ...run, target, to: run.first, weak: true });
  }
  if (rules.length > RULES_MAX)
    throw new PortSpecError(text, text.length + 1, `it stands for ${rules.length} rules, more than ${RULES_MAX}`);
  return rules.map((rule) => Object.freeze(rule));
};

const bracketed = (address: string): string => (address.includes(':') ? `[${address}]` : address);
const span = (first: number, last: number): string => (first === last ? `${first}` : `${first}-${last}`);
const printPorts = ({ first, last, to, target }: Rule): string => {
  const mapped = span(to, to + last - first);
  if (target !== '') return `${span(first, last)}:${bracketed(target)}/${mapped}`;
  return to === first ? span(first, last) : `${span(first, last)}:${mapped}`;
};

/**
 * A specification that stands for exactly `rules`, in the context they were made in: all of one protocol and direction, in the
 * order of {@link parsePortSpec}. null where there is none: rules that listen at different addresses or differ in being scanned for, and best effort ones with ephemeral or mapped ports.
 */
export const printSpec = (rules: readonly Rule[], direction: Direction, own: PortRange | null): string | null => {
  const ephemeral = own ?? EPHEMERAL_DEFAULT;
  const [head] = rules;
  if (head === undefined) return 'none';
  const weak = rules.filter((rule) => rule.weak);
  const [all] = weak;
  const alike = rules.every(
    (r) => r.address === head.address && r.interface === head.interface && r.scan === head.scan,
  );
  const plain = weak.every(
    (r) => r.to === r.first && r.target === all?.target && (r.last < ephemeral.first || r.first > ephemeral.last),
  );
  if (!alike || !plain || (direction === 'splice' && head.interface !== 'lo')) return null;
  const chunks = rules.filter((rule) => !rule.weak).map(printPorts);
  if (all !== undefined) {
    // Alone, "auto" stands for every port already.
    if (all.target !== '') chunks.push(`all:${bracketed(all.target)}`);
    else if (!head.scan || chunks.length > 0) chunks.push('all');
    const covered = new Uint8Array(PORT_MAX + 2);
    for (const { first, last } of rules) fill(covered, first, last);
    fill(covered, ephemeral.first, ephemeral.last);
    chunks.push(...freeRuns(covered, 1, PORT_MAX).map(({ first, last }) => `~${span(first, last)}`));
  }
  if (head.scan) chunks.push('auto');
  if (direction === 'splice') return chunks.join(',');
  const any = head.interface === '' ? '' : '*';
  const address = head.address === '' ? any : bracketed(head.address);
  const where = `${address}${head.interface === '' ? '' : `%${head.interface}`}`;
  return `${where === '' ? '' : `${where}/`}${chunks.join(',')}`;
};

/** Why a rule that no text was read for (the pesto protocol's) cannot be one in this context, as a sentence, or null. */
export const ruleFault = (rule: Rule, context: SpecContext): string | null => {
  const name = printRule(rule).trimEnd();
  if (rule.protocol !== context.protocol) return `${name} is not a rule for ${context.protocol.toUpperCase()}`;
  const plain = { ...rule, weak: false, scan: false };
  const text = printSpec([plain], context.direction, context.ephemeral);
  if (text === null) return `${name} does not listen on interface lo`;
  try {
    const [again] = parsePortSpec(text, context);
    if (again !== undefined && sameRule(again, plain)) return null;
  } catch (error) {
    if (error instanceof PortSpecError) return error.message;
    throw error;
  }
  const only = context.families.v4 ? 'IPv4' : 'IPv6';
  return context.families.v4 && context.families.v6
    ? `${name} does not listen on every address`
    : `${name} is not a rule for ${only} alone`;
};
