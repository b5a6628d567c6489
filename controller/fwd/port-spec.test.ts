// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parsePortSpec, printSpec, ruleFault, type SpecContext } from './port-spec.ts';
import { PortSpecError } from './port-syntax.ts';
import { conflict, printRule, type Rule, sameRule, tableFault, targetPort } from './rule.ts';

const TCP: SpecContext = {
  protocol: 'tcp',
  direction: 'host',
  families: { v4: true, v6: true },
  ephemeral: { first: 32_768, last: 60_999 },
};
const NS: SpecContext = { ...TCP, direction: 'splice' };
const V4: SpecContext = { ...TCP, families: { v4: true, v6: false } };
const V6: SpecContext = { ...TCP, families: { v4: false, v6: true } };
const printed = (text: string, context = TCP): string[] => parsePortSpec(text, context).map(printRule);

describe('what a specification stands for', () => {
  it.each<[string, string[]]>([
    ['none', []],
    ['80', ['TCP [*]:80  =>  80 ']],
    ['18080:80', ['TCP [*]:18080  =>  80 ']],
    ['::1/18081', ['TCP [::1]:18081  =>  18081 ']],
    ['[::1]/18081', ['TCP [::1]:18081  =>  18081 ']],
    ['%lo/18082', ['TCP [*]%lo:18082  =>  18082 ']],
    ['*%lo/18082', ['TCP [*]%lo:18082  =>  18082 ']],
    ['[*]%lo/18082', ['TCP [*]%lo:18082  =>  18082 ']],
    ['*/7', ['TCP [*]:7  =>  7 ']],
    ['[*]/7', ['TCP [*]:7  =>  7 ']],
    ['18100-18200,auto', ['TCP [*]:18100-18200  =>  18100-18200  (auto-scan)']],
    ['auto,18100-18200', ['TCP [*]:18100-18200  =>  18100-18200  (auto-scan)']],
    ['0.0.0.0/28600:10.0.2.15/81', ['TCP [0.0.0.0]:28600  =>  10.0.2.15:81 ']],
    ['::/18300:fd00::1/8300', ['TCP [::]:18300  =>  fd00::1:8300 ']],
    ['[::]/8080:[fd00::2]/80', ['TCP [::]:8080  =>  fd00::2:80 ']],
    ['[10.0.0.1]%eth0/80', ['TCP [10.0.0.1]%eth0:80  =>  80 ']],
    ['fe80::1%eth0/80', ['TCP [fe80::1]%eth0:80  =>  80 ']],
    ['::ffff:192.0.2.1/80', ['TCP [192.0.2.1]:80  =>  80 ']],
    ['2001:DB8:0::1/80', ['TCP [2001:db8::1]:80  =>  80 ']],
    ['10.0.0.1/80:10.9.0.1', ['TCP [10.0.0.1]:80  =>  10.9.0.1:80 ']],
    ['10.0.0.1/80-81:10.9.0.1/90-91', ['TCP [10.0.0.1]:80-81  =>  10.9.0.1:90-91 ']],
    ['0.0.0.0/80:0.0.0.0/81', ['TCP [0.0.0.0]:80  =>  81 ']],
    ['80:[::]/81', ['TCP [*]:80  =>  81 ']],
    ['22,80:8080', ['TCP [*]:22  =>  22 ', 'TCP [*]:80  =>  8080 ']],
    [
      '20-30:120-130,~22,~25-26',
      ['TCP [*]:20-21  =>  120-121 ', 'TCP [*]:23-24  =>  123-124 ', 'TCP [*]:27-30  =>  127-130 '],
    ],
    ['~30,20-30', ['TCP [*]:20-29  =>  20-29 ']],
    ['80,~80', []],
    ['all', ['TCP [*]:1-32767  =>  1-32767  (best effort)', 'TCP [*]:61000-65535  =>  61000-65535  (best effort)']],
    [
      'auto',
      [
        'TCP [*]:1-32767  =>  1-32767  (best effort) (auto-scan)',
        'TCP [*]:61000-65535  =>  61000-65535  (best effort) (auto-scan)',
      ],
    ],
    ['~1-65000', ['TCP [*]:65001-65535  =>  65001-65535  (best effort)']],
    ['auto,~1-65000', ['TCP [*]:65001-65535  =>  65001-65535  (best effort) (auto-scan)']],
    // The union: what is named is asked by name, ephemeral or not, the rest is best effort.
    [
      'all,40000,10:11,~1-9,~20-32767',
      [
        'TCP [*]:40000  =>  40000 ',
        'TCP [*]:10  =>  11 ',
        'TCP [*]:11-19  =>  11-19  (best effort)',
        'TCP [*]:61000-65535  =>  61000-65535  (best effort)',
      ],
    ],
    ['0.0.0.0/all:10.0.0.9,~1-65534', ['TCP [0.0.0.0]:65535  =>  10.0.0.9:65535  (best effort)']],
    // An address before the first slash says where to listen, even one that looks like a port with a target.
    ['80:fd00::1/81', ['TCP [80:fd00::1]:81  =>  81 ']],
    ['::/80:[fd00::1]/81', ['TCP [::]:80  =>  fd00::1:81 ']],
  ])('%s', (text, expected) => {
    expect(printed(text)).toEqual(expected);
  });

  it('towards the host: on the loopback device of the namespace', () => {
    expect(printed('80,auto', NS)).toEqual(['TCP [*]%lo:80  =>  80  (auto-scan)']);
    expect(printed('80', { ...NS, protocol: 'udp', families: V4.families })).toEqual(['UDP [0.0.0.0]%lo:80  =>  80 ']);
  });

  it('of one IP version where the other is off', () => {
    expect(printed('80', V4)).toEqual(['TCP [0.0.0.0]:80  =>  80 ']);
    expect(printed('*/80', V6)).toEqual(['TCP [::]:80  =>  80 ']);
    expect(printed('80:10.0.0.1/81', V4)).toEqual(['TCP [0.0.0.0]:80  =>  10.0.0.1:81 ']);
  });
});

describe('refused, with the character at fault', () => {
  it.each<[string, number, string, SpecContext?]>([
    ['', 1, 'Invalid port specifier : a port, a range, "all", "auto" or "~" is expected (at the end)'],
    ['80-x', 4, 'Invalid port specifier 80-x: a port is expected (character 4, "x")'],
    ['80,', 4, 'is expected (at the end)'],
    ['0', 1, 'a port is a number from 1 to 65535 (character 1, "0")'],
    ['80:0', 4, 'a port is a number from 1 to 65535'],
    ['65536', 1, 'a port is a number from 1 to 65535'],
    ['-1', 1, 'a port, a range'],
    ['+80', 1, 'a port, a range'],
    ['90-80', 4, 'the range ends before it begins (character 4, "8")'],
    ['~90-80', 5, 'the range ends before it begins'],
    ['80-90:180-191', 7, 'the two ranges differ in length'],
    ['80-90:180', 7, 'the two ranges differ in length'],
    ['80:', 4, 'a port or an address is expected (at the end)'],
    ['80:81:82', 4, 'an IP address is expected'],
    ['80:81x', 6, '"," or the end is expected (character 6, "x")'],
    ['80 ', 3, '":", "," or the end is expected (character 3, " ")'],
    ['80,none', 4, '"none" stands alone'],
    ['all:', 5, 'an IP address is expected (at the end)'],
    ['allx', 1, 'a port, a range, "all", "auto" or "~" is expected'],
    ['auto:80', 5, '"," or the end is expected (character 5, ":")'],
    ['autos', 1, 'a port, a range'],
    ['example.org/80', 2, 'an IP address is expected (character 2, "x")'],
    ['300.0.0.1/80', 1, 'an IP address is expected'],
    ['[::1/80', 5, '"]" is expected (character 5, "/")'],
    ['[::1]80', 1, 'a port, a range'],
    ['/80', 1, 'an IP address is expected'],
    ['%/80', 2, 'the name of an interface is expected'],
    ['%0123456789abcdef/80', 17, "an interface's name has at most 15 characters"],
    ['%a b/80', 3, 'an interface has no such character in its name'],
    ['10.0.0.1/', 10, 'is expected (at the end)'],
    ['224.0.0.1/80', 1, 'nothing can be listened to at that address'],
    ['[ff02::1]/80', 2, 'nothing can be listened to at that address'],
    ['fe80::1/80', 1, 'a link-local address needs its interface'],
    ['0.0.0.0/80:224.0.0.1/80', 12, 'the target is a multicast address'],
    ['0.0.0.0/80:127.0.0.1/81', 12, 'the target is a loopback address'],
    ['::/80:::1', 7, 'the target is a loopback address'],
    ['10.0.0.1/80:fd00::1/80', 13, 'IPv4 cannot be forwarded to an IPv6 address'],
    ['all,all:10.0.0.1', 5, '"all" is given with another target'],
    ['80:10.0.0.1/81', 4, 'Dual stack forward to IPv4 address 10.0.0.1 unsupported: begin with 0.0.0.0/ '],
    ['10.0.0.1/80', 1, 'IPv4 forward, but IPv4 not enabled: 10.0.0.1/80 (character 1, "1")', V6],
    ['[::1]/80', 2, 'IPv6 forward, but IPv6 not enabled: ', V4],
    ['80:[fd00::1]', 4, 'IPv6 forward, but IPv6 not enabled: ', V4],
    ['127.0.0.1/80', 1, 'Listening address not allowed', NS],
    ['%lo/80', 1, 'Listening address not allowed', NS],
    ['80:10.0.0.1/80', 4, 'no target address here', NS],
    ['80,70-90', 4, 'Forwarding configuration conflict: port 80 is given twice in 80,70-90 (character 4, "7")'],
    [Array.from({ length: 256 }, (_, i) => i * 2 + 1).join(), 969, 'it stands for 256 rules, more than 255'],
  ])('%s', (text, position, sentence, context = TCP) => {
    const parse = () => parsePortSpec(text, context);
    expect(parse).toThrow(PortSpecError);
    expect(parse).toThrow(sentence);
    try {
      parse();
    } catch (error) {
      expect((error as PortSpecError).position).toBe(position);
    }
  });
});

/** What each port leads to, by the words of the grammar and not by the parser. */
interface Model {
  readonly text: string;
  readonly context: SpecContext;
  readonly leads: Map<number, { to: number; target: string; weak: boolean }>;
  readonly scan: boolean;
}
const port = fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.integer({ min: 1, max: 40 }));
const ports = fc
  .tuple(port, fc.integer({ min: 0, max: 30 }))
  .map(([first, n]) => [first, Math.min(first + n, 65_535)] as const);
const target4 = fc.constantFrom('', '10.0.0.7', '[192.0.2.1]');
const chunk = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('ports' as const),
      ports,
      to: fc.option(port, { nil: null }),
      target: target4,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('except' as const), ports }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('auto' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('all' as const) }) },
);
const span = ([first, last]: readonly [number, number]): string => (first === last ? `${first}` : `${first}-${last}`);
const bare = (address: string): string => address.replace(/[[\]]/g, '');

const model: fc.Arbitrary<Model> = fc
  .record({
    chunks: fc.array(chunk, { minLength: 1, maxLength: 6 }),
    where: fc.constantFrom(
      '',
      '0.0.0.0',
      '192.0.2.9',
      '[0.0.0.0]',
      '*',
      '[*]',
      '%lo',
      '*%eth0',
      '10.0.0.1%eth0',
      '[::1]',
      '::',
    ),
    direction: fc.constantFrom('host' as const, 'splice' as const),
    ephemeral: fc.constantFrom(
      { first: 32_768, last: 60_999 },
      { first: 10, last: 20 },
      { first: 49_152, last: 65_535 },
    ),
  })
  .map(({ chunks, where, direction, ephemeral }) => {
    const place = direction === 'splice' ? '' : where;
    // Targets are of IPv4: where the listening address is not, there is none.
    const plain = !/\d\./.test(place);
    const leads: Model['leads'] = new Map();
    const texts: string[] = [];
    const asked = chunks.filter((c) => c.kind === 'ports');
    const taken = new Set<number>();
    for (const c of chunks) {
      if (c.kind !== 'ports') {
        texts.push(c.kind === 'except' ? `~${span(c.ports)}` : c.kind);
        continue;
      }
      const [first, last] = c.ports;
      const clash = Array.from({ length: last - first + 1 }, (_, i) => first + i).some((p) => taken.has(p));
      if (clash) continue;
      const to = c.to === null || c.to + last - first > 65_535 ? first : c.to;
      const target = plain ? '' : c.target;
      for (let p = first; p <= last; p++) {
        taken.add(p);
        leads.set(p, { to: to + p - first, target: bare(target), weak: false });
      }
      const mapped = span([to, to + last - first]);
      texts.push(
        target === '' && to === first
          ? span(c.ports)
          : `${span(c.ports)}:${target === '' ? '' : `${target}/`}${mapped}`,
      );
    }
    if (asked.length === 0 || chunks.some((c) => c.kind === 'all')) {
      for (let p = 1; p <= 65_535; p++) {
        if (taken.has(p) || (p >= ephemeral.first && p <= ephemeral.last)) continue;
        leads.set(p, { to: p, target: '', weak: true });
      }
    }
    for (const c of chunks) if (c.kind === 'except') for (let p = c.ports[0]; p <= c.ports[1]; p++) leads.delete(p);
    return {
      text: `${place === '' ? '' : `${place}/`}${texts.join(',')}`,
      context: { ...TCP, direction, ephemeral },
      leads,
      scan: chunks.some((c) => c.kind === 'auto'),
    };
  });

describe('properties', () => {
  it('a specification stands for exactly the ports it says', () => {
    fc.assert(
      fc.property(model, ({ text, context, leads, scan }) => {
        const found: Model['leads'] = new Map();
        for (const rule of parsePortSpec(text, context)) {
          expect(rule.scan).toBe(scan);
          for (let p = rule.first; p <= rule.last; p++) {
            if (found.has(p)) expect.unreachable(`port ${p} twice`);
            found.set(p, { to: targetPort(rule, p), target: rule.target, weak: rule.weak });
          }
        }
        expect(found.size).toBe(leads.size);
        const wrong = [...leads].find(([p, lead]) => {
          const f = found.get(p);
          return f?.to !== lead.to || f.target !== lead.target || f.weak !== lead.weak;
        });
        expect(wrong).toBeUndefined();
      }),
      { numRuns: 60 },
    );
  });

  it('parse, print, parse gives the same rules, and a table without conflict', () => {
    fc.assert(
      fc.property(model, ({ text, context }) => {
        const rules = parsePortSpec(text, context);
        const again = printSpec(rules, context.direction, context.ephemeral);
        expect(parsePortSpec(again as string, context)).toEqual(rules);
        expect(tableFault(rules)).toBeNull();
      }),
      { numRuns: 120 },
    );
  });

  it('what is refused names a character within the text or its end, in one sentence', () => {
    const letters = fc.string({ unit: fc.constantFrom(...'0123456789,:-/~%[]*.aleunot \u00e9'), maxLength: 24 });
    const broken = fc
      .tuple(model, fc.nat(), fc.constantFrom('', 'x', '0', ',', '/', ':', '-', '~', '[', '%', '\n'))
      .map(([{ text }, at, what]) => {
        const i = at % (text.length + 1);
        return text.slice(0, i) + what + text.slice(i + (what === '' ? 1 : 0));
      });
    let refused = 0;
    fc.assert(
      fc.property(fc.oneof(letters, broken), fc.constantFrom(TCP, NS, V4, V6), (text, context) => {
        try {
          parsePortSpec(text, context);
        } catch (error) {
          refused++;
          if (!(error instanceof PortSpecError)) throw error;
          expect(error.position).toBeGreaterThanOrEqual(1);
          expect(error.position).toBeLessThanOrEqual(text.length + 1);
          expect(error.message).toContain(
            error.position > text.length ? '(at the end)' : `(character ${error.position}, "`,
          );
        }
      }),
      { numRuns: 800 },
    );
    expect(refused).toBeGreaterThan(80);
  });
});

describe('conflicts', () => {
  const one = (text: string, context = TCP): Rule => {
    const [rule] = parsePortSpec(text, context);
    if (rule === undefined) throw new Error(`${text} stands for nothing`);
    return rule;
  };
  it.each<[string, string, boolean]>([
    ['80', '80', true],
    ['80-90', '90-99', true],
    ['80', '81', false],
    ['80', '10.0.0.1/80', true],
    ['0.0.0.0/8080', '[::]/8080', false],
    ['0.0.0.0/80', '10.0.0.1/80', true],
    ['::/80', '::1/80', true],
    ['::/80', '80', true],
    ['10.0.0.1/80', '10.0.0.2/80', false],
    ['%eth0/80', '%eth1/80', true],
    ['auto', '8080', true],
  ])('%s and %s: %s', (a, b, expected) => {
    expect(conflict([one(a)], one(b)) !== null).toBe(expected);
    expect(conflict([one(b)], one(a)) !== null).toBe(expected);
    expect(conflict([one(a)], one(b, { ...TCP, protocol: 'udp' }))).toBeNull();
  });
  it('are told with both rules', () => {
    expect(tableFault([one('80'), one('127.0.0.1/70-90')])).toBe(
      'Forwarding configuration conflict: TCP [127.0.0.1]:70-90  =>  70-90 and TCP [*]:80  =>  80',
    );
  });
  it('limits of a table', () => {
    const many = Array.from({ length: 256 }, (_, i) => one(`${i + 1}`));
    expect(tableFault(many.slice(1))).toBeNull();
    expect(tableFault(many)).toContain('256 forwarding rules are more than the 255');
    const wide = Array.from({ length: 6 }, (_, i) => one(`10.0.0.${i + 1}/1-65535`));
    expect(tableFault(wide.slice(1))).toBeNull();
    expect(tableFault(wide)).toContain('393210 forwarded ports are more than the 327680');
  });
  it('a rule of another program is held to the same rules', () => {
    const rule = one('10.0.0.1%eth0/80-90:10.0.0.9/81-91');
    const fault = (changed: Partial<Rule>, context = TCP) => ruleFault({ ...rule, ...changed }, context);
    expect(fault({})).toBeNull();
    expect(fault({ weak: true, scan: true })).toBeNull();
    expect(ruleFault(one('80', NS), NS)).toBeNull();
    expect(fault({ to: 65_530 })).toContain('a port is a number');
    expect(fault({ first: 0 })).toContain('a port is a number');
    expect(fault({ last: 79 })).toContain('ends before it begins');
    expect(fault({ target: '127.0.0.1' })).toContain('loopback');
    expect(fault({ address: '' })).toContain('Dual stack forward');
    expect(fault({ address: '224.0.0.1' })).toContain('nothing can be listened to');
    expect(fault({ interface: 'a:b' })).toContain('no such character');
    expect(fault({}, V6)).toContain('IPv4 not enabled');
    expect(fault({ protocol: 'udp' })).toContain('is not a rule for TCP');
    expect(ruleFault(one('80'), V4)).toBe('TCP [*]:80  =>  80 is not a rule for IPv4 alone');
    expect(ruleFault(one('80'), NS)).toContain('interface lo');
  });
  it('every field counts for being the same', () => {
    const rule = one('10.0.0.1%eth0/80:10.0.0.9/81');
    expect(sameRule(rule, { ...rule })).toBe(true);
    const other = {
      address: '10.0.0.2',
      interface: 'lo',
      first: 79,
      last: 82,
      target: '',
      to: 1,
      weak: true,
      scan: true,
    };
    for (const [field, value] of Object.entries(other)) expect(sameRule(rule, { ...rule, [field]: value })).toBe(false);
    expect(sameRule(rule, { ...rule, protocol: 'udp' })).toBe(false);
  });
});
