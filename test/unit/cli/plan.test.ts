// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCommandLine } from '../../../controller/cli/parse.ts';
import { makePlan } from '../../../controller/cli/plan.ts';
import { PlanError } from '../../../controller/cli/plan-error.ts';
import type { Plan } from '../../../controller/cli/plan-schema.ts';
import { planSummary } from '../../../controller/cli/summary.ts';
import { inPrefix } from '../../../controller/host/address.ts';
import type { HostAddress, HostFacts, HostRoute, NextHop } from '../../../controller/host/facts.ts';

const TAP_MAC = '02:11:22:33:44:55';
const hello = { spawn: false, foreground: false, tap: 'eth0' };

const link = (index: number, name: string, loopback = false) => ({
  index,
  name,
  mtu: 1500,
  mac: null,
  up: true,
  loopback,
  operstate: 'up',
});
const address = (index: number, cidr: string, extra: Partial<HostAddress> = {}): HostAddress => {
  const [text, prefix] = cidr.split('/') as [string, string];
  const family = text.includes(':') ? 6 : 4;
  const scope = text.startsWith('fe80') ? 'link' : 'universe';
  return { family, index, address: text, prefix: Number(prefix), scope, deprecated: false, tentative: false, ...extra };
};
const hop = (index: number, gateway: string | null, extra: Partial<NextHop> = {}): NextHop => ({
  index,
  gateway,
  weight: 1,
  dead: false,
  ...extra,
});
const route = (cidr: string, hops: readonly [NextHop, ...NextHop[]], metric = 0): HostRoute => {
  const [destination, prefix] = cidr.split('/') as [string, string];
  const family = destination.includes(':') ? 6 : 4;
  return { family, destination, prefix: Number(prefix), scope: 'universe', metric, preferredSource: null, hops };
};

/** A host as most are: loopback, one link with both versions, link-local and connected routes. */
const HOST: HostFacts = {
  links: [link(1, 'lo', true), link(2, 'eth0'), link(3, 'wlan0')],
  addresses: [
    address(1, '127.0.0.1/8', { scope: 'host' }),
    address(2, '192.0.2.5/24'),
    address(2, '192.0.2.6/24'),
    address(3, '10.1.0.5/16'),
    address(2, '2001:db8::5/64'),
    address(2, 'fe80::aa/64'),
  ],
  routes: [
    route('0.0.0.0/0', [hop(2, '192.0.2.1')], 100),
    route('0.0.0.0/0', [hop(3, '10.1.0.1')], 600),
    route('192.0.2.0/24', [hop(2, null)]),
    route('198.51.100.0/24', [hop(2, '192.0.2.9')]),
    route('10.1.0.0/16', [hop(3, null)]),
    route('2001:db8::/64', [hop(2, null)], 256),
    route('fe80::/64', [hop(2, null)], 256),
    route('::/0', [hop(2, 'fe80::1')], 1024),
  ],
  resolvers: { servers: ['192.0.2.53', '2001:db8::53'], search: ['example.org'] },
  ipv6: true,
  ephemeral: { first: 32_768, last: 60_999 },
};
const NOWHERE: HostFacts = {
  links: [link(1, 'lo', true)],
  addresses: [address(1, '127.0.0.1/8', { scope: 'host' })],
  routes: [],
  resolvers: { servers: [], search: [] },
  ipv6: true,
  ephemeral: { first: 32_768, last: 60_999 },
};

const plan = (line: string, facts: HostFacts = HOST, with_: Partial<typeof hello> = {}): Plan =>
  makePlan(
    parseCommandLine(
      'pasta',
      line.split(' ').filter((w) => w !== ''),
    ),
    { ...hello, ...with_ },
    facts,
    TAP_MAC,
  );
/** Nothing of the host's loopback is to be reached. */
const SHUT = '--no-map-gw -T none -U none';
const routesOf = ({ configNet }: Plan): string[] =>
  (configNet?.routes ?? []).map(
    ({ destination, prefix, gateway }) => `${destination}/${prefix} ${gateway ?? 'on link'}`,
  );

describe('template', () => {
  it('is the link with the best default route; address, gateway and our link-local come from it', () => {
    const { network, templates, ifname, configNet } = plan('');
    expect(templates).toEqual({ v4: 'eth0', v6: 'eth0' });
    expect(network.v4).toEqual({
      addresses: [{ address: '192.0.2.5', prefix: 24 }],
      gateway: '192.0.2.1',
      dns: ['192.0.2.53'],
      pinned: false,
    });
    expect(network.v6).toMatchObject({ addresses: [{ address: '2001:db8::5', prefix: 64 }], gateway: 'fe80::1' });
    expect(network.v6?.ourLinkLocal).toBe('fe80::1');
    expect(network).toMatchObject({ ourMac: '9a:55:9a:55:9a:55', guestMac: TAP_MAC, mtu: 65_520, tellDns: false });
    expect([ifname, configNet]).toEqual(['eth0', null]);
  });

  it('-i names it for both versions; a version it lacks goes local', () => {
    const { network, templates } = plan('-i wlan0');
    expect(templates).toEqual({ v4: 'wlan0', v6: null });
    expect(network.v4).toMatchObject({ addresses: [{ address: '10.1.0.5', prefix: 16 }], gateway: '10.1.0.1' });
    expect(network.v6).toMatchObject({ addresses: [], gateway: 'fe80::1' });
  });

  it('--outbound-if4 names it for IPv4 only', () => {
    expect(plan('--outbound-if4 wlan0').templates).toEqual({ v4: 'wlan0', v6: 'eth0' });
    expect(plan('--outbound-if4 wlan0').outbound.interface4).toBe('wlan0');
  });

  it('a missing interface is refused, not replaced', () => {
    expect(() => plan('-i eth7')).toThrow('Invalid interface name eth7: No such device');
    expect(() => plan('--outbound-if6 eth7')).toThrow(PlanError);
  });

  it('prefers the most specific address that is not deprecated, tentative or link-local', () => {
    const addresses = [
      address(2, '192.0.2.7/32', { deprecated: true }),
      address(2, '192.0.2.8/30', { tentative: true }),
      address(2, '169.254.7.7/28', { scope: 'link' }),
      ...HOST.addresses,
      address(2, '192.0.2.9/26'),
    ];
    expect(plan('', { ...HOST, addresses }).network.v4?.addresses).toEqual([{ address: '192.0.2.9', prefix: 26 }]);
  });

  it('without default route, any route that leads beyond the link makes one', () => {
    const routes = HOST.routes.filter(({ prefix }) => prefix > 0);
    const { templates, network } = plan('', { ...HOST, routes });
    expect(templates).toEqual({ v4: 'eth0', v6: 'eth0' });
    expect(network.v4?.gateway).toBe('169.254.2.2');
    expect(network.v6).toMatchObject({ gateway: 'fe80::1', ourLinkLocal: 'fe80::1' });
  });

  it('of a multipath default route the heaviest living hop counts', () => {
    const hops = [
      hop(2, '192.0.2.1'),
      hop(2, '192.0.2.2', { weight: 9, dead: true }),
      hop(2, '192.0.2.3', { weight: 5 }),
    ] as const;
    expect(plan('', { ...HOST, routes: [route('0.0.0.0/0', hops)] }).network.v4?.gateway).toBe('192.0.2.3');
  });
});

describe('local mode', () => {
  it('needs nothing of the host, and both versions have it', () => {
    const made = plan('--config-net', NOWHERE);
    expect(made.templates).toEqual({ v4: null, v6: null });
    expect(made.network.v4).toEqual({
      addresses: [{ address: '169.254.2.1', prefix: 16 }],
      gateway: '169.254.2.2',
      dns: [],
      pinned: false,
    });
    expect(made.network.v6).toMatchObject({ addresses: [], gateway: 'fe80::1', ourLinkLocal: 'fe80::1', dns: [] });
    expect(made.network.enable).toMatchObject({ dhcp: true, dhcpv6: false, ndp: true, ra: false });
    expect(routesOf(made)).toEqual(['0.0.0.0/0 169.254.2.2']);
  });

  it('takes -a and -g all the same', () => {
    const made = plan('--config-net -a 10.0.2.100 -n 24 -g 10.0.2.2', NOWHERE);
    expect(made.network.v4).toMatchObject({ addresses: [{ address: '10.0.2.100', prefix: 24 }], gateway: '10.0.2.2' });
    expect(routesOf(made)[0]).toBe('0.0.0.0/0 10.0.2.2');
  });
});

describe('versions', () => {
  it('-4 and -6 leave the other one out', () => {
    expect(plan('-4').network).toMatchObject({
      v6: null,
      enable: { ndp: false, ra: false, dhcpv6: false, dhcp: true },
    });
    expect(plan('-6').network).toMatchObject({ v4: null, enable: { ndp: true, dhcp: false } });
  });

  it('a kernel without IPv6 gets a warning, or an error if only IPv6 was wanted', () => {
    const facts = { ...HOST, ipv6: false };
    expect(plan('', facts).network.v6).toBeNull();
    expect(plan('', facts).warnings).toEqual(['IPv6 is not available on this host: IPv4 only']);
    expect(plan('-4', facts).warnings).toEqual([]);
    expect(() => plan('-6', facts)).toThrow('IPv6 is not available on this host');
  });
});

describe('addresses and gateways given', () => {
  it.each<[string, string, number]>([
    ['10.0.0.2', '10.0.0.2', 8],
    ['172.16.0.2', '172.16.0.2', 16],
    ['192.168.0.2', '192.168.0.2', 24],
    ['192.168.0.2/20', '192.168.0.2', 20],
    ['192.168.0.2 -n 255.255.255.252', '192.168.0.2', 30],
  ])('-a %s', (option, text, prefix) => {
    expect(plan(`-a ${option}`).network.v4?.addresses).toEqual([{ address: text, prefix }]);
  });

  it('an IPv6 one without prefix is a /64, a given prefix is kept', () => {
    const { v6 } = plan('-a fd00::2 -a fd00:1::2/48').network;
    expect(v6?.addresses).toEqual([
      { address: 'fd00::2', prefix: 64 },
      { address: 'fd00:1::2', prefix: 48 },
    ]);
  });

  it('-n alone changes the mask of the template’s address', () => {
    expect(plan('-n 16').network.v4?.addresses).toEqual([{ address: '192.0.2.5', prefix: 16 }]);
  });

  it('a global IPv6 gateway leaves our link-local to the template’s', () => {
    expect(plan('-g 2001:db8::1').network.v6).toMatchObject({ gateway: '2001:db8::1', ourLinkLocal: 'fe80::aa' });
  });

  it('our link-local is never the one the guest makes of its MAC', () => {
    const addresses = [
      ...HOST.addresses.filter(({ address: a }) => a !== 'fe80::aa'),
      address(2, 'fe80::11:22ff:fe33:4455/64'),
    ];
    expect(plan('-g 2001:db8::1', { ...HOST, addresses }).network.v6?.ourLinkLocal).toBe('fe80::1');
  });

  it('refuses what cannot work', () => {
    expect(() => plan('-a 10.0.0.1 -g 10.0.0.1')).toThrow(
      "10.0.0.1 cannot be both the guest's address and its gateway",
    );
    expect(() => plan(`-M ${TAP_MAC}`)).toThrow('cannot be both our MAC address');
    expect(() => plan('-M 02:00:00:00:00:09 --ns-mac-addr 02:00:00:00:00:09')).toThrow(PlanError);
  });

  it('--ns-mac-addr is the guest’s', () => {
    const made = plan('--ns-mac-addr 02:00:00:00:00:09');
    expect([made.nsMac, made.network.guestMac]).toEqual(['02:00:00:00:00:09', '02:00:00:00:00:09']);
  });
});

describe('--config-net', () => {
  it('copies all addresses, and the routes through the template in a workable order', () => {
    const made = plan('--config-net');
    expect(made.configNet?.addresses.map(({ address: a }) => a)).toEqual(['192.0.2.5', '192.0.2.6', '2001:db8::5']);
    // Connected prefixes come with the addresses; link-local ones with the link.
    expect(routesOf(made)).toEqual(['198.51.100.0/24 192.0.2.9', '0.0.0.0/0 192.0.2.1', '::/0 fe80::1']);
    expect(made.configNet?.routes[1]?.metric).toBe(100);
    expect(made.configNet?.mtu).toBe(65_520);
    expect(made.network.enable.ra).toBe(false);
    expect(plan('--config-net -m 0').configNet?.mtu).toBeNull();
  });

  it('-a or --no-copy-addrs: one address; -g or --no-copy-routes: one route', () => {
    expect(plan('--config-net --no-copy-addrs -4').configNet?.addresses).toEqual([
      { address: '192.0.2.5', prefix: 24 },
    ]);
    expect(routesOf(plan('--config-net -4 -g 192.0.2.77'))).toEqual(['0.0.0.0/0 192.0.2.77']);
    expect(routesOf(plan('--config-net -4 --no-copy-routes'))).toEqual(['0.0.0.0/0 192.0.2.1']);
  });

  it('a gateway outside every prefix gets an on-link route first', () => {
    expect(routesOf(plan('--config-net -4 -a 10.5.0.2/24'))).toEqual([
      '192.0.2.0/24 on link',
      '198.51.100.0/24 192.0.2.9',
      '0.0.0.0/0 192.0.2.1',
    ]);
    expect(routesOf(plan('--config-net -4 -a 10.5.0.2/24 -g 10.6.0.1'))).toEqual([
      '10.6.0.1/32 on link',
      '0.0.0.0/0 10.6.0.1',
    ]);
    expect(routesOf(plan('--config-net -6 -g 2001:db8:9::1'))).toEqual([
      '2001:db8:9::1/128 on link',
      '::/0 2001:db8:9::1',
    ]);
  });

  it('skips dead hops and routes shared with other links; a gateway of the other version becomes on link', () => {
    const routes = [
      route('0.0.0.0/0', [hop(2, '192.0.2.1')]),
      route('203.0.113.0/24', [hop(2, '192.0.2.1', { dead: true })]),
      route('203.0.114.0/24', [hop(2, '192.0.2.1'), hop(3, '10.1.0.1')]),
      route('203.0.115.0/24', [hop(2, '192.0.2.1'), hop(2, '192.0.2.2', { weight: 2 })]),
      route('203.0.116.0/24', [hop(2, 'fe80::9')]),
      route('224.0.0.0/4', [hop(2, null)]),
    ];
    expect(routesOf(plan('--config-net -4', { ...HOST, routes }))).toEqual([
      '203.0.116.0/24 on link',
      '203.0.115.0/24 192.0.2.2',
      '0.0.0.0/0 192.0.2.1',
    ]);
  });

  it('a point-to-point default route needs no gateway', () => {
    const routes = [route('0.0.0.0/0', [hop(2, null)])];
    const made = plan('--config-net -4', { ...HOST, routes });
    expect(routesOf(made)).toEqual(['0.0.0.0/0 on link']);
    expect(made.network.v4?.gateway).toBe('169.254.2.2');
  });
});

describe('names', () => {
  it('are told only when asked for', () => {
    const { network } = plan('--dhcp-dns --dhcp-search');
    expect(network).toMatchObject({ tellDns: true, tellSearch: true, search: ['example.org'] });
    expect(network.v6?.dns).toEqual(['2001:db8::53']);
    expect(plan('--dhcp-dns -D none').network).toMatchObject({ tellDns: false });
  });

  it('resolvers on the host’s loopback are told as what stands for it', () => {
    const facts = { ...HOST, resolvers: { servers: ['127.0.0.53', '::1'], search: [] } };
    const { network, warnings, nat } = plan('--dhcp-dns', facts);
    expect([network.v4?.dns, network.v6?.dns]).toEqual([['192.0.2.1'], ['fe80::1']]);
    expect(nat).toMatchObject({
      dnsForward4: '192.0.2.1',
      dnsHost4: '127.0.0.53',
      dnsForward6: 'fe80::1',
      dnsHost6: '::1',
    });
    expect(warnings).toEqual([]);
    expect(plan('--dhcp-dns --dns-forward 10.0.0.3', facts).network.v4?.dns).toEqual(['10.0.0.3']);
    expect(plan('--dhcp-dns --dns-forward 10.0.0.3 --no-map-gw', facts).network.v4?.dns).toEqual(['10.0.0.3']);
    expect(plan('-D 10.0.0.4', facts).nat).toMatchObject({ dnsForward4: null, dnsForward6: null });
  });

  it('resolvers on the host’s loopback are dropped where nothing does, with a warning when they would have been told', () => {
    const facts = { ...HOST, resolvers: { servers: ['127.0.0.53', '::1'], search: [] } };
    expect(plan('--no-map-gw', facts).warnings).toEqual([]);
    const { network, warnings } = plan('--dhcp-dns --no-map-gw', facts);
    expect([network.v4?.dns, network.v6?.dns]).toEqual([[], []]);
    expect(warnings).toEqual([
      expect.stringContaining('127.0.0.53'),
      expect.stringContaining('::1'),
      "Couldn't get any nameserver address: give one with --dns",
    ]);
    expect(plan('--dhcp-dns -D 127.0.0.1', facts).network.v4?.dns).toEqual(['127.0.0.1']);
    expect(plan(`--dhcp-dns -D 127.0.0.1 ${SHUT}`, facts).grant).toEqual([]);
  });

  it('options without effect and surplus resolvers are said', () => {
    expect(plan('-D 192.0.2.1').warnings).toEqual(['--dns has no effect without --dhcp-dns']);
    expect(plan('-S a.example').warnings).toEqual(['--search has no effect without --dhcp-search']);
    const { network, warnings } = plan('--dhcp-dns -D 192.0.2.1 -D 192.0.2.2 -D 192.0.2.3 -D 192.0.2.4');
    expect(network.v4?.dns).toEqual(['192.0.2.1', '192.0.2.2', '192.0.2.3']);
    expect(warnings).toEqual(['Only the first 3 of 4 IPv4 resolvers are told to the guest']);
    expect(plan('-m 1000').warnings).toEqual(['MTU 1000 is below 1280: no IPv6']);
    expect(plan('-m 1000').network.v6).toBe(null);
    expect(plan('-o 203.0.113.9').warnings).toEqual([
      '203.0.113.9 (--outbound) is not an address of this host: connections will be refused',
    ]);
  });
});

describe('the rest', () => {
  it.each<[string, Partial<typeof hello>, Partial<Plan['log']>]>([
    ['', {}, { level: 'info', toStderr: false, toSyslog: true }],
    ['', { spawn: true }, { level: 'quiet', toStderr: false }],
    ['-d', { spawn: true }, { level: 'debug', toStderr: true, toSyslog: false }],
    ['-d', {}, { level: 'debug', toStderr: false, toSyslog: true }],
    ['--trace -f', { foreground: true }, { level: 'trace', toStderr: true }],
    ['-f', { foreground: true }, { level: 'info', toStderr: false }],
    ['-l /x', {}, { file: '/x', size: 1_048_576, toSyslog: false }],
  ])('log: %s %o', (line, with_, expected) => {
    expect(plan(line, HOST, with_).log).toMatchObject(expected);
  });

  it('--no-icmp leaves neighbour discovery alone', () => {
    expect(plan('--no-icmp').network.enable).toMatchObject({ icmp: false, ndp: true, ra: true });
    expect(plan('--no-ndp').network.enable).toMatchObject({ icmp: true, ndp: false, ra: false });
  });

  it('is frozen throughout', () => {
    const frozen = (value: unknown): boolean =>
      typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(frozen));
    expect(frozen(plan('--config-net'))).toBe(true);
  });

  it('is summed up in a few lines', () => {
    expect(planSummary(plan('--dhcp-dns -o 192.0.2.5 -t 22,8080-8081:80-81 -u none -T auto,~1-65534 -U none'))).toEqual(
      [
        'Template interface: eth0 (IPv4), eth0 (IPv6)',
        'Outbound: 192.0.2.5',
        'Namespace interface: eth0, MAC 02:11:22:33:44:55, MTU 65520',
        'Our MAC: 9a:55:9a:55:9a:55',
        'IPv4: 192.0.2.5/24, router 192.0.2.1, DHCP',
        'IPv6: 2001:db8::5/64, router fe80::1, our link-local fe80::1, RA, DHCPv6',
        'NAT to host 127.0.0.1: 192.0.2.1',
        'NAT to host ::1: fe80::1',
        'DNS: 192.0.2.53, 2001:db8::53',
        'Inbound forwarding rules (HOST):',
        '    TCP [*]:22  =>  22 ',
        '    TCP [*]:8080-8081  =>  80-81 ',
        'Outbound forwarding rules (SPLICE):',
        '    TCP [*]%lo:65535  =>  65535  (best effort) (auto-scan)',
      ],
    );
  });

  it('any host gives a consistent plan: each gateway is reachable by what precedes it', () => {
    const text4 = fc.ipV4().filter((t) => !/^(0|127|22[4-9]|2[3-5]\d)\./.test(t));
    const hosts = fc.record({
      prefixes: fc.array(fc.tuple(text4, fc.integer({ min: 8, max: 32 })), { minLength: 1, maxLength: 3 }),
      gateways: fc.array(fc.tuple(text4, fc.integer({ min: 0, max: 32 }), fc.option(text4)), { maxLength: 5 }),
    });
    fc.assert(
      fc.property(hosts, ({ prefixes, gateways }) => {
        const addresses = prefixes.map(([text, prefix]) => address(2, `${text}/${prefix}`));
        const routes = gateways
          .filter(([, , gateway]) => !addresses.some(({ address: a }) => a === gateway))
          .map(([text, prefix, gateway], metric) => route(`${text}/${prefix}`, [hop(2, gateway)], metric));
        const made = plan('--config-net -4 -i eth0', { ...HOST, addresses, routes });
        const onLink = prefixes.map(([text, prefix]) => ({ destination: text, prefix }));
        for (const { destination, prefix, gateway } of made.configNet?.routes ?? []) {
          if (gateway === null) onLink.push({ destination, prefix });
          else
            expect(onLink.some((net) => net.prefix > 0 && inPrefix(gateway, net.destination, net.prefix))).toBe(true);
        }
      }),
    );
  });
});

describe('what the guest may reach on the host', () => {
  const dns = (address: string) => ({ address, port: 53 });
  it('is its resolvers for their port, told or not, and what --host-access names', () => {
    expect(plan(SHUT).grant).toEqual([dns('192.0.2.53'), dns('2001:db8::53')]);
    expect(plan(`-D none --host-access 192.0.2.5/80 ${SHUT}`).grant).toEqual([{ address: '192.0.2.5', port: 80 }]);
    expect(plan(`-D 10.1.0.5 --host-access fd00::1 ${SHUT}`).grant).toEqual([
      { address: 'fd00::1', port: 0 },
      dns('10.1.0.5'),
    ]);
  });
});
