// SPDX-License-Identifier: Apache-2.0
/**
 * What holds for every format in this folder, a new one included: its exports are looked up, not listed.
 *
 * A view that ends where the data ends turns every read beyond it into a RangeError.
 */
import { readdirSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hex } from '../../test/support/bytes.ts';
import * as addr from './addr.ts';
import * as dhcpv4 from './dhcpv4.ts';
import * as dhcpv6 from './dhcpv6.ts';
import * as fragment from './fragment.ts';
import * as ndp from './ndp.ts';
import * as tcp from './tcp.ts';

type Get = (v: DataView, at: number, i?: number) => number | boolean;
type Set = (v: DataView, at: number, n: number) => void;
type Fits = (v: DataView, at: number, end: number) => boolean;
type Format = Readonly<Record<string, unknown>>;

const files = readdirSync(new URL('.', import.meta.url)).filter((f) => f.endsWith('.ts') && !f.endsWith('.test.ts'));
const formats = new Map<string, Format>();
for (const file of files)
  formats.set(file.replace('.ts', ''), (await import(/* @vite-ignore */ `./${file}`)) as Format);

const ROOM = 96;
const word = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const background = fc.uint8Array({ minLength: ROOM, maxLength: ROOM });
const tight = (bytes: Uint8Array): DataView => new DataView(bytes.slice().buffer);

/** Setters that write more than a field of their own, by what their comments say. */
const NOT_FIELDS = new Set([
  // Only 20, 24 … 60, and the rest of the byte becomes what it must be.
  'ipv4.setHeaderBytes',
  'tcp.setHeaderBytes',
  // The reserved bits beside the flags become 0.
  'ndp.setNaFlags',
  // Hardware and protocol types are written with it.
  'arp.setOperation',
]);

const pairs = [...formats].flatMap(([name, format]) =>
  Object.entries(format).flatMap(([key, set]) => {
    if (!/^set[A-Z]/.test(key) || typeof set !== 'function' || set.length !== 3) return [];
    const get = format[(key[3] ?? '').toLowerCase() + key.slice(4)];
    if (typeof get !== 'function' || get.length !== 2 || NOT_FIELDS.has(`${name}.${key}`)) return [];
    return [{ field: `${name}.${key}`, set: set as Set, get: get as Get }];
  }),
);

describe('fields', () => {
  test('are found at all', () => {
    expect(pairs.length).toBeGreaterThan(35);
  });
  test.each(pairs)('$field: what is written is read, and nothing else changes', ({ set, get }) => {
    const probe = new DataView(new ArrayBuffer(ROOM));
    set(probe, 8, -1);
    const mask = Number(get(probe, 8));
    fc.assert(
      fc.property(background, word, (bytes, n) => {
        const v = tight(bytes);
        const before = Number(get(v, 8));
        set(v, 8, n & mask);
        expect(Number(get(v, 8))).toBe(n & mask);
        set(v, 8, before);
        expect(new Uint8Array(v.buffer)).toEqual(bytes);
      }),
      { numRuns: 50 },
    );
  });
});

/** A sound header of each format, to be changed. */
const SOUND: Readonly<Record<string, string>> = {
  arp: '0001 0800 06 04 0001 02c0ffee1234 0a000001 000000000000 0a000002',
  dhcpv4: `01010600 12345678 00008000 ${'00'.repeat(16)} 02005e005302 ${'00'.repeat(202)} 63825363 350101 3204c000020a ff 0000`,
  dhcpv6: '01123456 0001000a 00030001 02005e005302 0003000c 000000010000000000000000',
  ethernet: 'ffffffffffff 02c0ffee1234 0806',
  icmpv4: '0800 1234 0001 0002 6162',
  icmpv6: '8000 1234 0001 0002 6162',
  igmp: '2200 0000 0000 0001 04000000 e00000fb',
  mld: `8f00 0000 0000 0001 04000000 ff02${'00'.repeat(13)}fb`,
  ipv4: '4700 0020 0000 4000 4006 0000 c000020a c6336407 9404000001010101 6162 6364',
  ipv6: `60000000 0004 1140 ${'20010db8'.repeat(8)} 61626364`,
  tcp: '9c400050 00000001 00000000 80020000 00000000 020405b4 01030307 04020101 6162',
  udp: '9c401388 000a 0000 6162',
};
/** Of those, what its readers say themselves that they need beside fits(). */
const readers = (format: Format): [string, Get][] =>
  Object.entries(format).flatMap(([key, get]) =>
    typeof get === 'function' && get.length === 2 && !/^(set|put|fits|option|next|option)/.test(key)
      ? [[key, get as Get] as [string, Get]]
      : [],
  );

const withFits = [...formats].filter(([, format]) => typeof format['fits'] === 'function');
describe('what fits can be read', () => {
  test('every format that has fits() has a sound header here', () => {
    expect(withFits.map(([name]) => name).filter((name) => SOUND[name] === undefined)).toEqual([]);
  });
  test.each(withFits.filter(([name]) => SOUND[name] !== undefined))('%s', (name, format) => {
    const sound = hex(SOUND[name] as string);
    const fits = format['fits'] as Fits;
    expect(fits(tight(sound), 0, sound.length)).toBe(true);
    let fitted = 0;
    const changes = fc.array(fc.tuple(fc.nat(sound.length - 1), fc.nat(255)), { maxLength: 3 });
    fc.assert(
      fc.property(changes, fc.nat(sound.length), fc.boolean(), (changed, cut, whole) => {
        const bytes = sound.slice();
        for (const [at, n] of changed) bytes[at] = n;
        const v = tight(whole ? bytes : bytes.subarray(0, cut));
        if (!fits(v, 0, v.byteLength)) return;
        fitted++;
        for (const [, get] of readers(format)) for (let i = 0; i < 4; i++) get(v, 0, i);
      }),
      { numRuns: 1000 },
    );
    // Otherwise nothing was shown.
    expect(fitted).toBeGreaterThan(50);
  });
  test.each(withFits.filter(([name]) => SOUND[name] !== undefined))(
    '%s: no place in memory matters',
    (name, format) => {
      const sound = hex(SOUND[name] as string);
      const fits = format['fits'] as Fits;
      fc.assert(
        fc.property(fc.nat(40), fc.nat(sound.length), fc.uint8Array({ maxLength: 40 }), (before, cut, after) => {
          const bytes = new Uint8Array(before + cut + after.length);
          bytes.set(sound.subarray(0, cut), before);
          bytes.set(after, before + cut);
          const alone = tight(sound.subarray(0, cut));
          expect(fits(new DataView(bytes.buffer), before, before + cut)).toBe(fits(alone, 0, cut));
        }),
      );
    },
  );
});

/** Lists of options: how they are put, looked up and checked. */
interface List {
  readonly name: string;
  readonly put: (v: DataView, p: number, code: number, data: Uint8Array) => number;
  readonly fits: Fits;
  /** Where the data of the first one with that code lies, and how long it is; null: there is none. */
  readonly find: (v: DataView, end: number, code: number) => [at: number, bytes: number] | null;
  readonly codes: fc.Arbitrary<number>;
  readonly data: fc.Arbitrary<Uint8Array>;
  readonly head: Uint8Array;
}
const dhcpHead = hex(`01010600 12345678 00008000 ${'00'.repeat(16)} 02005e005302 ${'00'.repeat(202)} 63825363`);
const LISTS: readonly List[] = [
  {
    name: 'DHCP',
    head: dhcpHead,
    // Not the overload, which changes where the others are looked for.
    codes: fc.integer({ min: 1, max: 254 }).filter((code) => code !== dhcpv4.OVERLOAD),
    data: fc.uint8Array({ minLength: 1, maxLength: 255 }),
    put: dhcpv4.putBytes,
    fits: dhcpv4.fits,
    find: (v, end, code) => {
      const p = dhcpv4.findOption(v, 0, end, code);
      return p < 0 ? null : [p, dhcpv4.optionLength(v, p)];
    },
  },
  {
    name: 'DHCPv6',
    head: hex('01123456'),
    codes: fc.nat(0xffff),
    data: fc.uint8Array({ maxLength: 300 }),
    put: dhcpv6.putBytes,
    fits: dhcpv6.fits,
    find: (v, end, code) => {
      const p = dhcpv6.findOption(v, 4, end, code);
      return p < 0 ? null : [dhcpv6.optionData(p), dhcpv6.optionLength(v, p)];
    },
  },
  {
    name: 'NDP',
    head: new Uint8Array(0),
    codes: fc.nat(255),
    data: fc.nat(4).chain((units) => fc.uint8Array({ minLength: units * 8 + 6, maxLength: units * 8 + 6 })),
    put: (v, p, code, data) => {
      v.setUint8(p, code);
      v.setUint8(p + 1, (data.length + 2) / 8);
      for (const [i, byte] of data.entries()) v.setUint8(p + 2 + i, byte);
      return p + 2 + data.length;
    },
    fits: ndp.optionsFit,
    find: (v, end, code) => {
      const p = ndp.findOption(v, 0, end, code);
      return p < 0 ? null : [p + 2, v.getUint8(p + 1) * 8 - 2];
    },
  },
];

describe.each(LISTS)('options of $name', ({ put, fits, find, codes, data, head }) => {
  const list = fc.array(fc.tuple(codes, data), { maxLength: 8 });
  const build = (options: readonly (readonly [number, Uint8Array])[]): { bytes: Uint8Array; ends: number[] } => {
    const v = new DataView(new ArrayBuffer(head.length + 8 * 320));
    new Uint8Array(v.buffer).set(head);
    const ends = [head.length];
    for (const [code, bytes] of options) ends.push(put(v, ends.at(-1) as number, code, bytes));
    return { bytes: new Uint8Array(v.buffer).slice(0, ends.at(-1)), ends };
  };

  test('what is put is found, the first of each code', () => {
    fc.assert(
      fc.property(list, codes, (options, other) => {
        const v = tight(build(options).bytes);
        expect(fits(v, 0, v.byteLength)).toBe(true);
        for (const code of [other, ...options.map(([code]) => code)]) {
          const wanted = options.find(([one]) => one === code)?.[1];
          const found = find(v, v.byteLength, code);
          if (wanted === undefined) expect(found).toBeNull();
          else expect(found && new Uint8Array(v.buffer, ...found)).toEqual(wanted);
        }
      }),
    );
  });
  test('cut inside of an option, a list does not fit', () => {
    fc.assert(
      fc.property(list, fc.nat(), (options, n) => {
        const { bytes, ends } = build(options);
        const cut = head.length + (n % (bytes.length - head.length + 1));
        const v = tight(bytes.subarray(0, cut));
        expect(fits(v, 0, cut)).toBe(ends.includes(cut));
      }),
    );
  });
  test('any bytes are walked to an end within them', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), codes, (rest, code) => {
        const v = tight(Uint8Array.from([...head, ...rest]));
        if (fits(v, 0, v.byteLength)) find(v, v.byteLength, code);
      }),
      { numRuns: 1000 },
    );
  });
});

test('TCP options cut at any byte are walked to an end within the segment', () => {
  const option = fc.oneof(
    fc.constant([1]),
    fc.constant([0]),
    fc.tuple(fc.nat(255), fc.nat(255)).map(([kind, len]) => [kind, len]),
    fc.constantFrom(
      [2, 4, 5, 180],
      [3, 3, 7],
      [4, 2],
      [5, 10, 0, 0, 0, 1, 0, 0, 0, 9],
      [8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
    ),
  );
  fc.assert(
    fc.property(fc.array(option, { maxLength: 12 }), fc.nat(60), (options, cut) => {
      const bytes = [...hex('9c400050 00000001 00000000 f0020000 00000000'), ...options.flat()].slice(0, 60);
      const v = tight(Uint8Array.from(bytes).subarray(0, Math.max(cut, 20)));
      tcp.parseOptions(v, 0, v.byteLength);
      expect(tcp.mss()).toBeLessThanOrEqual(0xffff);
      expect(tcp.windowScale()).toBeLessThanOrEqual(14);
    }),
    { numRuns: 1000 },
  );
});

test('fragments that are judged sound lie within a packet, and all but the last in units of 8', () => {
  fc.assert(
    fc.property(fc.nat(0xffff), fc.nat(0xffff), fc.boolean(), fc.nat(60), (field, bytes, more, others) => {
      const v = tight(Uint8Array.from([17, 0, field >> 8, field & 0xff, 0, 0, 0, 1]));
      const offset = fragment.offset(v, 0);
      expect([offset % 8, fragment.more(v, 0)]).toEqual([0, (field & 1) === 1]);
      if (fragment.judge(offset, bytes, more, others) !== fragment.OK) return;
      expect(offset + bytes + others).toBeLessThanOrEqual(0xffff);
      expect(bytes > 0 && (!more || bytes % 8 === 0)).toBe(true);
    }),
  );
});

test('MAC addresses in text are those that were written', () => {
  fc.assert(
    fc.property(fc.nat(0xffff), word, (high, low) => {
      expect(addr.parseMac(addr.macText(high, low))).toEqual({ high, low });
    }),
  );
  fc.assert(
    fc.property(fc.string({ maxLength: 20 }), (text) => {
      const mac = addr.parseMac(text);
      expect(mac === null || addr.macText(mac.high, mac.low) === text.toLowerCase()).toBe(true);
    }),
  );
});
