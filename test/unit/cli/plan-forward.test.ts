// SPDX-License-Identifier: Apache-2.0
/** Rules, mapped addresses, and what `seal` freezes for them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCommandLine } from '../../../controller/cli/parse.ts';
import { makePlan } from '../../../controller/cli/plan.ts';
import { PlanError } from '../../../controller/cli/plan-error.ts';
import type { Plan } from '../../../controller/cli/plan-schema.ts';
import { planSummary } from '../../../controller/cli/summary.ts';
import { printRule, targetPort } from '../../../controller/fwd/rule.ts';
import type { HostFacts } from '../../../controller/host/facts.ts';

const plain = { family: 4, index: 2, scope: 'universe', deprecated: false, tentative: false } as const;
const HOST: HostFacts = {
  links: [{ index: 2, name: 'eth0', mtu: 1500, mac: null, up: true, loopback: false, operstate: 'up' }],
  addresses: [
    { ...plain, address: '192.0.2.5', prefix: 24 },
    { ...plain, family: 6, address: '2001:db8::5', prefix: 64 },
  ],
  routes: [
    {
      family: 4,
      destination: '0.0.0.0',
      prefix: 0,
      scope: 'universe',
      metric: 0,
      preferredSource: null,
      hops: [{ index: 2, gateway: '192.0.2.1', weight: 1, dead: false }],
    },
    {
      family: 6,
      destination: '::',
      prefix: 0,
      scope: 'universe',
      metric: 0,
      preferredSource: null,
      hops: [{ index: 2, gateway: 'fe80::1', weight: 1, dead: false }],
    },
  ],
  resolvers: { servers: ['192.0.2.53', '2001:db8::53'], search: [] },
  ipv6: true,
  ephemeral: { first: 32_768, last: 60_999 },
};
const hello = { spawn: false, foreground: false, tap: 'eth0' };
const plan = (line: string, facts = HOST): Plan =>
  makePlan(
    parseCommandLine(
      'pasta',
      line.split(' ').filter((word) => word !== ''),
    ),
    hello,
    facts,
    '02:11:22:33:44:55',
  );
const NONE = '-t none -u none -T none -U none';
const rules = ({ forward }: Plan): string[] => [...forward.tables.host, ...forward.tables.splice].map(printRule);
const grants = (made: Plan): string[] =>
  made.grant
    .filter(({ port }) => port !== 53)
    .map(
      ({ address, prefix, port, last, protocol }) =>
        `${protocol ?? 'any'} ${address}${prefix === undefined ? '' : `/${prefix}`} ${port}-${last ?? port}`,
    );
const windows = (side: Plan['listen']['host']): string[] => side.map((w) => `${w.protocol} ${w.first}-${w.last}`);

describe('rules', () => {
  it('auto for each letter that was never given, and for what is on', () => {
    expect(rules(plan(''))).toHaveLength(8);
    expect(rules(plan('-u none -T none -U none'))).toEqual([
      'TCP [*]:1-32767  =>  1-32767  (best effort) (auto-scan)',
      'TCP [*]:61000-65535  =>  61000-65535  (best effort) (auto-scan)',
    ]);
    expect(rules(plan('--no-tcp -U none -4')).map((line) => line.slice(0, 13))).toEqual([
      'UDP [0.0.0.0]',
      'UDP [0.0.0.0]',
    ]);
    expect(rules(plan(NONE))).toEqual([]);
  });

  it('of several specifications are one table', () => {
    expect(
      rules(plan('-t 22 -t 0.0.0.0/80:10.0.0.9/8080 -t none -u none -T 5 -U none'.replace('-t none ', ''))),
    ).toEqual(['TCP [*]:22  =>  22 ', 'TCP [0.0.0.0]:80  =>  10.0.0.9:8080 ', 'TCP [*]%lo:5  =>  5 ']);
    expect(rules(plan('-t 0.0.0.0/8080 -t [::]/8080 -u none -T none -U none'))).toHaveLength(2);
  });

  it.each<[string, string, HostFacts?]>([
    ['-t 80 -t 70-90', 'Forwarding configuration conflict: TCP [*]:70-90  =>  70-90 and TCP [*]:80  =>  80'],
    ['-t auto -t 80', 'Forwarding configuration conflict: '],
    [
      `-t ${Array.from({ length: 200 }, (_, i) => 2 * i + 1)} -u ${Array.from({ length: 56 }, (_, i) => 2 * i + 1)}`,
      '256 forwarding rules',
    ],
    ['-t ::1/80', 'IPv6 forward, but IPv6 not enabled: ::1/80', { ...HOST, ipv6: false }],
  ])('%s is refused in one sentence', (line, sentence, facts = HOST) => {
    expect(() => plan(line, facts)).toThrow(PlanError);
    expect(() => plan(line, facts)).toThrow(sentence);
  });

  it('the host’s own range of ephemeral ports is left out, or that of RFC 6335', () => {
    const only = '-u none -T none -U none -t all';
    expect(rules(plan(only, { ...HOST, ephemeral: { first: 1, last: 65_534 } }))).toEqual([
      'TCP [*]:65535  =>  65535  (best effort)',
    ]);
    expect(rules(plan(only, { ...HOST, ephemeral: null }))).toEqual(['TCP [*]:1-49151  =>  1-49151  (best effort)']);
  });
});

describe('what seal freezes', () => {
  const LOOPBACK = (protocol: string, ports: string) => [
    `${protocol} 127.0.0.0/8 ${ports}`,
    `${protocol} ::1/128 ${ports}`,
  ];

  it('nothing of the loopback without rules towards it and without mapping', () => {
    expect(grants(plan(`${NONE} --no-map-gw`))).toEqual([]);
    expect(grants(plan(`${NONE} --map-host-loopback none`))).toEqual([]);
    expect(plan(`${NONE} --no-map-gw`).listen).toEqual({ host: [], netns: [] });
  });

  it('every port of the loopback where an address stands for it, of the protocols and versions that are on', () => {
    expect(grants(plan(NONE))).toEqual(['tcp 127.0.0.1 0-0', 'udp 127.0.0.1 0-0', 'tcp ::1 0-0', 'udp ::1 0-0']);
    expect(grants(plan(`-t none -T none --no-udp -4`))).toEqual(['tcp 127.0.0.1 0-0']);
    expect(grants(plan(`${NONE} --no-map-gw --map-host-loopback fd00::9`))).toEqual(['tcp ::1 0-0', 'udp ::1 0-0']);
  });

  it('the ports that -T and -U lead to, by protocol', () => {
    expect(grants(plan('-t 1 -u 1 -T 80:8080,81:8081,90 -U none --no-map-gw'))).toEqual([
      ...LOOPBACK('tcp', '90-90'),
      ...LOOPBACK('tcp', '8080-8081'),
    ]);
    // Two rules may lead to one port, and one range lie within another.
    expect(grants(plan('-t none -u none -U none -T 1-100,200:50 --no-map-gw'))).toEqual(LOOPBACK('tcp', '1-100'));
    expect(grants(plan('-t none -u none -U 54 -T none --no-map-gw -6'))).toEqual(['udp ::1/128 54-54']);
  });

  it('auto: all but ephemeral ports, to be listened on later and to be reached', () => {
    const made = plan('-t 22 -u none -U none --no-map-gw');
    expect(grants(made)).toEqual([...LOOPBACK('tcp', '1-32767'), ...LOOPBACK('tcp', '61000-65535')]);
    expect(windows(made.listen.host)).toEqual([]);
    expect(windows(made.listen.netns)).toEqual(['tcp 1-32767', 'tcp 61000-65535']);
    expect(windows(plan('-t auto,22-23,24 -u all -T none -U none').listen.host)).toEqual(['tcp 22-24']);
  });

  it('with a control socket every port may be asked for later, unless that letter was none', () => {
    for (const socket of ['-c /run/x', '--control /run/x']) {
      const made = plan(`${socket} -t none -u none -T none --no-map-gw`);
      expect(windows(made.listen.host)).toEqual(['tcp 1-65535', 'udp 1-65535']);
      expect(windows(made.listen.netns)).toEqual(['udp 1-65535']);
      expect(grants(made)).toEqual(LOOPBACK('udp', '1-65535'));
      expect(windows(plan(`${socket} --no-udp`).listen.host)).toEqual(['tcp 1-65535']);
    }
  });

  it('the host’s own address, and its resolver, where others stand for them', () => {
    expect(grants(plan(`${NONE} --no-map-gw -a 10.0.0.2 --map-guest-addr 169.254.1.2`))).toEqual(['any 192.0.2.5 0-0']);
    const made = plan(`${NONE} --no-map-gw --dns-forward 169.254.1.1 --dns-host 127.0.0.53 -D none`);
    expect(made.grant).toEqual([
      { address: '127.0.0.53', port: 53 },
      { address: '127.0.0.53', port: 853 },
    ]);
  });

  it('too many ranges are refused, not widened', () => {
    const odd = Array.from({ length: 130 }, (_, i) => 2 * i + 1).join();
    expect(() => plan(`-T ${odd} -U none`)).toThrow('Too many separate ranges of ports towards the host: ');
    expect(plan(`-T ${odd} -U none -4 --no-map-gw`).grant).toHaveLength(132);
  });

  it('grants and windows cover exactly what the rules need', () => {
    const spec = fc.constantFrom(
      'none',
      'auto',
      'all',
      '22',
      '80:8080',
      '70-90,~80',
      'auto,100-200',
      '61000-65535:1-4536',
    );
    const key = (protocol: string, port: number) => `${protocol} ${port}`;
    fc.assert(
      fc.property(spec, spec, spec, spec, (t, u, T, U) => {
        const made = plan(`-t ${t} -u ${u} -T ${T} -U ${U} --no-map-gw -4`);
        const reached = new Set<string>();
        const watched = { host: new Set<string>(), splice: new Set<string>() };
        for (const side of ['host', 'splice'] as const)
          for (const rule of made.forward.tables[side])
            for (let port = rule.first; port <= rule.last; port++) {
              if (side === 'splice') reached.add(key(rule.protocol, targetPort(rule, port)));
              if (rule.scan) watched[side].add(key(rule.protocol, port));
            }
        const ports = (
          ranges: readonly {
            protocol?: string | undefined;
            port?: number;
            first?: number;
            last?: number | undefined;
          }[],
        ) => {
          const found: string[] = [];
          for (const { protocol, port, first, last } of ranges) {
            const from = first ?? port ?? 0;
            for (let p = from; p <= (last ?? from); p++) found.push(key(protocol ?? '', p));
          }
          return found;
        };
        const granted = ports(made.grant.filter(({ address }) => address === '127.0.0.0'));
        expect(granted.length).toBe(reached.size);
        expect(granted.every((one) => reached.has(one))).toBe(true);
        for (const [side, found] of [
          ['host', ports(made.listen.host)],
          ['splice', ports(made.listen.netns)],
        ] as const) {
          expect(found.length).toBe(watched[side].size);
          expect(found.every((one) => watched[side].has(one))).toBe(true);
        }
      }),
      { numRuns: 12 },
    );
  });
});

describe('addresses that stand for others', () => {
  it('the gateway for the loopback, unless said otherwise for that IP version', () => {
    expect(plan('').nat).toMatchObject({ hostLoopback4: '192.0.2.1', hostLoopback6: 'fe80::1', guestAddr4: null });
    expect(plan('--map-host-loopback 10.0.0.3').nat).toMatchObject({
      hostLoopback4: '10.0.0.3',
      hostLoopback6: 'fe80::1',
    });
    expect(plan('--no-map-gw').nat).toMatchObject({ hostLoopback4: null, hostLoopback6: null });
    expect(plan('--no-map-gw --map-gw').nat).toMatchObject({ hostLoopback4: '192.0.2.1' });
    expect(plan('-4').nat).toMatchObject({ hostLoopback6: null, host6: null, dnsHost6: null });
    expect(plan('-g 192.0.2.77').nat).toMatchObject({ hostLoopback4: '192.0.2.77' });
  });

  it('--dns-forward leads to --dns-host, or the first resolver of that IP version', () => {
    expect(plan('--dns-forward 169.254.1.1').nat).toMatchObject({ dnsForward4: '169.254.1.1', dnsHost4: '192.0.2.53' });
    expect(plan('--dns-forward 169.254.1.1 --dns-host 10.0.0.53').nat).toMatchObject({ dnsHost4: '10.0.0.53' });
    const facts = { ...HOST, resolvers: { servers: ['2001:db8::53'], search: [] } };
    const made = plan('--dns-forward 169.254.1.1', facts);
    expect(made.nat.dnsForward4).toBeNull();
    expect(made.warnings).toEqual([
      '--dns-forward 169.254.1.1 has no effect: the host has no IPv4 resolver (--dns-host)',
    ]);
  });

  it.each([
    ['-a 10.0.0.2 --map-host-loopback 10.0.0.2', "10.0.0.2 cannot be both the guest's address and --map-host-loopback"],
    ['--map-guest-addr 192.0.2.5', "192.0.2.5 cannot be both the guest's address and --map-guest-addr"],
    ['--dns-forward 2001:db8::5', "2001:db8::5 cannot be both the guest's address and --dns-forward"],
  ])('%s is refused', (line, sentence) => {
    expect(() => plan(line)).toThrow(sentence);
  });

  it('what has no effect is said', () => {
    expect(plan('--map-guest-addr 192.0.2.1').warnings).toEqual([
      '--map-guest-addr 192.0.2.1 has no effect: it stands for the loopback of the host (--no-map-gw)',
    ]);
    expect(plan('--map-guest-addr 192.0.2.1 --no-map-gw').warnings).toEqual([]);
    expect(plan('--map-guest-addr 169.254.1.2 --dns-forward 169.254.1.1 -6').warnings).toEqual([]);
  });

  it('are in the summary', () => {
    const lines = planSummary(plan(`${NONE} --map-guest-addr 169.254.1.2 --dns-forward fd00::1`));
    expect(lines).toContain('NAT to host 192.0.2.5: 169.254.1.2');
    expect(lines).toContain('DNS forwarding to 2001:db8::53: fd00::1');
  });
});

describe('--splice-only', () => {
  it('maps no address, tells no names and answers no ping; what it forwards goes from loopback to loopback', () => {
    const made = plan('--splice-only -t 80 -u none -T 81 -U none --dhcp-dns');
    expect(made.forward).toMatchObject({ spliceOnly: true, splice: true, loopbackToLoopback: true });
    expect(made.nat).toMatchObject({ hostLoopback4: null, dnsForward4: null });
    expect(made.network).toMatchObject({ tellDns: false, enable: { icmp: false } });
    expect(made.grant).toEqual([
      { address: '127.0.0.0', prefix: 8, port: 81, last: 81, protocol: 'tcp' },
      { address: '::1', prefix: 128, port: 81, last: 81, protocol: 'tcp' },
    ]);
    expect(planSummary(made)).toEqual([
      'No interface in the namespace: from loopback to loopback only',
      'Inbound forwarding rules (HOST):',
      '    TCP [*]:80  =>  80 ',
      'Outbound forwarding rules (SPLICE):',
      '    TCP [*]%lo:81  =>  81 ',
    ]);
  });

  it('needs no tap and configures none', () => {
    const settings = parseCommandLine('pasta', ['--splice-only', '--config-net']);
    const made = makePlan(settings, { ...hello, tap: '' }, HOST, null);
    expect(made).toMatchObject({ ifname: '', configNet: null });
  });
});
