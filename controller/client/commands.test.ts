// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { LISTING, SERVER_CAPS, SERVER_TABLES } from '../../test/support/pesto-exchange.ts';
import type { ToldTable } from '../control/pesto-protocol.ts';
import { EPHEMERAL_DEFAULT } from '../fwd/port-spec.ts';
import { printRule } from '../fwd/rule.ts';
import { ClientError, readArguments } from './arguments.ts';
import { applyCommands, changesAnything, listing } from './commands.ts';
import { PESTO_OPTIONS } from './pesto.ts';

const TOLD: readonly ToldTable[] = (['host', 'splice'] as const).map((direction) => ({
  direction,
  caps: SERVER_CAPS,
  rules: SERVER_TABLES[direction],
}));
const EMPTY: readonly ToldTable[] = TOLD.map((table) => ({ ...table, rules: [] }));
const apply = (told: readonly ToldTable[], ...args: string[]) =>
  applyCommands(told, readArguments(args, PESTO_OPTIONS).options, EPHEMERAL_DEFAULT);
const names = (tables: readonly ToldTable[], at = 0): string[] =>
  (tables[at]?.rules ?? []).map((rule) => printRule(rule).trimEnd());

describe('command lines', () => {
  test.each<[string[], [string, string][], string[]]>([
    [
      ['-A', '-t', '80', 'PATH'],
      [
        ['add', ''],
        ['tcp-ports', '80'],
      ],
      ['PATH'],
    ],
    [['PATH', '-t80'], [['tcp-ports', '80']], ['PATH']],
    [
      ['--add', '--tcp-ports=0.0.0.0/8080:80', 'PATH'],
      [
        ['add', ''],
        ['tcp-ports', '0.0.0.0/8080:80'],
      ],
      ['PATH'],
    ],
    [
      ['--del', '--tcp-p', '80', 'PATH'],
      [
        ['delete', ''],
        ['tcp-ports', '80'],
      ],
      ['PATH'],
    ],
    [
      ['-sD', '-u', '~80', '--', '-PATH'],
      [
        ['show', ''],
        ['delete', ''],
        ['udp-ports', '~80'],
      ],
      ['-PATH'],
    ],
  ])('%j', (args, options, operands) => {
    const read = readArguments(args, PESTO_OPTIONS);
    expect(read.options.map(({ name, value }) => [name, value])).toEqual(options);
    expect(read.operands).toEqual(operands);
  });
  test.each<[string[], RegExp]>([
    [['--tcp', '80'], /^option '--tcp' is ambiguous; possibilities: '--tcp-ports' '--tcp-ns'$/],
    [['--nonsense'], /^unrecognized option '--nonsense'$/],
    [['-x'], /^invalid option -- 'x'$/],
    [['-t'], /argument/i],
    [['--add=1'], /argument/i],
  ])('%j is refused in a sentence', (args, message) => {
    expect(() => readArguments(args, PESTO_OPTIONS)).toThrow(ClientError);
    expect(() => readArguments(args, PESTO_OPTIONS)).toThrow(message);
  });
});

describe('commands', () => {
  test('without a mode, the first specification of a direction empties its table, TCP and UDP alike', () => {
    const after = apply(TOLD, '-t', '1024', '-u', '1025', '-t', '1026');
    expect(names(after)).toEqual(['TCP [*]:1024  =>  1024', 'UDP [*]:1025  =>  1025', 'TCP [*]:1026  =>  1026']);
    expect(after[1]).toEqual(TOLD[1]);
    expect(names(apply(TOLD, '-t', 'none'))).toEqual([]);
    expect(names(apply(TOLD, '-T', '5'), 1)).toEqual(['TCP [*]%lo:5  =>  5']);
  });
  test('-A adds behind what is there, until -D', () => {
    const after = apply(EMPTY, '-A', '-t', '80', '-t', '81', '-D', '-t', '80', '-A', '-u', '[::1]/53');
    expect(names(after)).toEqual(['TCP [*]:81  =>  81', 'UDP [::1]:53  =>  53']);
  });
  test('-C empties a table, and what follows is added', () => {
    const after = apply(TOLD, '-C', 'HOST', '-t', '80', '-t', '81', '-C', 'SPLICE');
    expect(names(after)).toEqual(['TCP [*]:80  =>  80', 'TCP [*]:81  =>  81']);
    expect(names(after, 1)).toEqual([]);
  });
  test('-D deletes what it names exactly, the several rules of an exclusion too', () => {
    const there = apply(EMPTY, '-A', '-t', '80-90,~85');
    expect(names(there)).toEqual(['TCP [*]:80-84  =>  80-84', 'TCP [*]:86-90  =>  86-90']);
    expect(names(apply(there, '-D', '-t', '80-90,~85'))).toEqual([]);
    expect(() => apply(there, '-D', '-t', '80-90')).toThrow(/conflicts with .*:80-84.*, but doesn't match it/);
    expect(() => apply(there, '-D', '-t', '85')).toThrow(/^There is no rule TCP \[\*\]:85/);
  });
  test('what cannot be is refused whole', () => {
    expect(() => apply(TOLD, '-A', '-t', '18080:80')).toThrow(
      /^Forwarding configuration conflict:.*\nUnable to add rule/,
    );
    expect(() => apply(TOLD, '-C', 'TAP')).toThrow('Unsupported pif name TAP');
    expect(() => apply(TOLD.slice(0, 1), '-A', '-T', '80')).toThrow("Can't use -T, no outbound interface");
    expect(() => apply(TOLD, '-t', '80', '-t', 'none')).toThrow('-t none conflicts with previous options');
    expect(() =>
      apply(
        TOLD.map((table) => ({ ...table, caps: SERVER_CAPS & ~8 })),
        '-A',
        '-u',
        '80',
      ),
    ).toThrow('UDP');
    expect(() =>
      apply(
        TOLD.map((table) => ({ ...table, caps: SERVER_CAPS & ~2 })),
        '-A',
        '-t',
        '::1/80',
      ),
    ).toThrow('IPv6 forward, but IPv6 not enabled');
  });
  test('what changes nothing is seen to', () => {
    expect(changesAnything(readArguments(['-s'], PESTO_OPTIONS).options)).toBe(false);
    expect(changesAnything(readArguments(['-C', 'HOST'], PESTO_OPTIONS).options)).toBe(true);
  });
  test('the listing is the published one', () => {
    expect(listing('passt/pasta', 'PATH', TOLD)).toBe(LISTING);
  });
});
