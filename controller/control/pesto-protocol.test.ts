// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CLEARED_BYTES,
  CLIENT_BYTES,
  CLIENT_TABLES,
  SERVER_BYTES,
  SERVER_CAPS,
  SERVER_TABLES,
} from '../../test/support/pesto-exchange.ts';
import type { Rule } from '../fwd/rule.ts';
import {
  decodeRule,
  encodeRule,
  encodeTables,
  encodeUpdate,
  HELLO_BYTES,
  ProtocolError,
  RULE_BYTES,
  TablesReader,
  UPDATE_BYTES_MAX,
  UpdateReader,
} from './pesto-protocol.ts';

const tables = (['host', 'splice'] as const).map((direction) => ({
  direction,
  caps: SERVER_CAPS,
  rules: SERVER_TABLES[direction],
}));

const address = fc.oneof(
  fc.constantFrom('0.0.0.0', '::', '127.0.0.1', '::1', 'fe80::1', '255.255.255.255', '2001:db8::ffff:1'),
  fc.ipV4(),
);
const rule: fc.Arbitrary<Rule> = fc
  .record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    address: fc.oneof(fc.constant(''), address),
    interface: fc.oneof(fc.constant(''), fc.stringMatching(/^[!-.0-9;-~]{1,15}$/)),
    ports: fc.tuple(fc.integer({ min: 1, max: 65_535 }), fc.nat(65_534), fc.nat(65_534)),
    target: fc.oneof(
      fc.constant(''),
      address.filter((text) => text !== '::' && text !== '0.0.0.0'),
    ),
    weak: fc.boolean(),
    scan: fc.boolean(),
  })
  .map(({ ports: [first, more, shift], ...others }) => {
    const last = Math.min(first + more, 65_535);
    return { ...others, first, last, to: 1 + (shift % (65_535 - (last - first))) };
  });
const update = fc
  .record({ host: fc.array(rule, { maxLength: 5 }), splice: fc.array(rule, { maxLength: 3 }) })
  .map(({ host, splice }) => [
    { direction: 'host' as const, rules: host },
    { direction: 'splice' as const, rules: splice },
  ]);

/** The bytes in pieces that end where `cuts` say. */
const pieces = (bytes: Buffer, cuts: readonly number[]): Buffer[] => {
  const ends = [...new Set(cuts.map((cut) => cut % bytes.length))].sort((a, b) => a - b);
  return [0, ...ends].map((from, i) => bytes.subarray(from, ends[i] ?? bytes.length));
};

describe('the published exchange', () => {
  test("the server's side is made and read, octet by octet", () => {
    expect(encodeTables(tables).toString('hex')).toBe(SERVER_BYTES.toString('hex'));
    const reader = new TablesReader();
    expect(reader.feed(SERVER_BYTES)).toBe(true);
    expect(reader.tables).toEqual(tables);
  });
  test("the client's side is made and read, octet by octet", () => {
    const sent = tables.map(({ direction }) => ({ direction, rules: CLIENT_TABLES[direction] }));
    expect(encodeUpdate(sent).toString('hex')).toBe(CLIENT_BYTES.toString('hex'));
    const reader = new UpdateReader();
    expect(reader.feed(CLIENT_BYTES)).toBe(true);
    expect(reader.update).toEqual(CLIENT_TABLES);
  });
  test('a table that the client does not send becomes empty', () => {
    const reader = new UpdateReader();
    expect(reader.feed(CLEARED_BYTES)).toBe(true);
    expect(reader.update).toEqual({ host: [], splice: SERVER_TABLES.splice });
  });
  test('a viewer sends nothing, which is not the beginning of anything', () => {
    expect(new UpdateReader().begun).toBe(false);
    const reader = new UpdateReader();
    reader.feed(CLIENT_BYTES.subarray(0, 1));
    expect(reader.begun).toBe(true);
  });
});

describe('any rules', () => {
  test('are read as they were written', () =>
    fc.assert(
      fc.property(rule, (one) => {
        expect(decodeRule(encodeRule(one))).toEqual(one);
      }),
    ));

  test('in pieces of any size, and what follows the end is kept apart', () =>
    fc.assert(
      fc.property(update, fc.array(fc.nat(600)), fc.uint8Array({ maxLength: 20 }), (sent, cuts, rest) => {
        const reader = new UpdateReader();
        const bytes = encodeUpdate(sent);
        const parts = pieces(bytes, cuts);
        for (const [i, part] of parts.entries()) {
          expect(reader.ended).toBe(false);
          reader.feed(i === parts.length - 1 ? Buffer.concat([part, rest]) : part);
        }
        expect(reader.ended).toBe(true);
        expect(reader.rest).toEqual(Buffer.from(rest));
        expect(reader.update).toEqual({ host: sent[0]?.rules, splice: sent[1]?.rules });
      }),
    ));

  test('every truncation waits for more', () => {
    for (let n = 0; n < CLIENT_BYTES.length; n++) {
      const reader = new UpdateReader();
      expect(reader.feed(CLIENT_BYTES.subarray(0, n)), `${n} octets`).toBe(false);
    }
    for (let n = 0; n < SERVER_BYTES.length; n++)
      expect(new TablesReader().feed(SERVER_BYTES.subarray(0, n)), `${n} octets`).toBe(false);
  });

  test('every flipped bit is refused, waits for more, or is a rule that can be written again', () => {
    let refused = 0;
    for (let bit = 0; bit < CLIENT_BYTES.length * 8; bit++) {
      const bytes = Buffer.from(CLIENT_BYTES);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      const reader = new UpdateReader();
      try {
        if (!reader.feed(bytes)) continue;
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolError);
        refused++;
        continue;
      }
      const again = new UpdateReader();
      again.feed(encodeUpdate(reader.tables));
      expect(again.tables).toEqual(reader.tables);
    }
    expect(refused).toBeGreaterThan(100);
  });
});

describe('what no rule can say is refused', () => {
  const good = Buffer.from(encodeRule({ ...(SERVER_TABLES.host[0] as Rule) }));
  const changed = (at: number, ...octets: number[]): Buffer => {
    const bytes = Buffer.from(good);
    bytes.set(octets, at);
    return bytes;
  };
  test.each<[string, Buffer, RegExp]>([
    ['port 0', changed(48, 0, 0), /ports 0-/],
    ['a reversed range', changed(50, 0, 1), /ports 18080-1$/],
    ['target port 0', changed(52, 0, 0), /to 0/],
    ['a target range beyond 65535', changed(48, 0, 1, 0, 9, 0xff, 0xff), /to 65535/],
    ['another protocol', changed(54, 132), /protocol 132/],
    ['an unknown flag', changed(55, 8), /flags 0x8/],
    ['every address and one of them', changed(15, 1), /every address and/],
    ['an interface without end', changed(32, ...new Array(16).fill(0x61)), /without end/],
    ['an interface with a slash', changed(32, 0x61, 0x2f), /cannot be one/],
    ['an interface with a newline', changed(32, 0x61, 0x0a), /cannot be one/],
  ])('%s', (_name, bytes, message) => {
    expect(bytes.length).toBe(RULE_BYTES);
    expect(() => decodeRule(bytes)).toThrow(message);
  });

  test.each<[string, string, RegExp]>([
    ['the tap as a table', '02', /interface 2/],
    ['an unknown table', 'ff', /interface 255/],
    ['256 rules', '0100000100', /256 rules/],
    ['four thousand million rules', '01ffffffff', /4294967295 rules/],
    ['a table twice', '0100000000' + '0100000000', /HOST twice/],
  ])('%s, before anything behind it', (_name, hex, message) => {
    expect(() => new UpdateReader().feed(Buffer.from(hex, 'hex'))).toThrow(message);
  });

  test.each<[string, number, string, RegExp]>([
    ['another magic', 0, '62617369', /another protocol/],
    ['version 1', 8, '00000001', /version 1, not 2/],
    ['version 3', 8, '00000003', /version 3, not 2/],
    ['shorter names', 12, '00000040', /names of 64/],
    ['longer interface names', 16, '00000011', /and 17 bytes/],
    ['a table of another name', HELLO_BYTES + 1, '48', /a table/],
  ])('of a server: %s', (_name, at, hex, message) => {
    const bytes = Buffer.from(SERVER_BYTES);
    bytes.set(Buffer.from(hex, 'hex'), at);
    if (at === 0) bytes[0] = 0x42;
    if (at === HELLO_BYTES + 1) bytes[at] = 0x47;
    expect(() => new TablesReader().feed(bytes)).toThrow(message);
  });

  test('the longest update in order fits what is said of it', () => {
    const rules = Array.from({ length: 255 }, () => SERVER_TABLES.host[0] as Rule);
    const bytes = encodeUpdate([
      { direction: 'host', rules },
      { direction: 'splice', rules },
    ]);
    expect(bytes.length).toBe(UPDATE_BYTES_MAX);
    expect(new UpdateReader().feed(bytes)).toBe(true);
  });
});
