// SPDX-License-Identifier: Apache-2.0
/** The passt personality: its command lines, the literal ones of libvirt included, and the plans that follow. */
import { describe, expect, it } from 'vitest';
import { UsageError } from '../../../controller/cli/errors.ts';
import { OPTION_ROWS } from '../../../controller/cli/options.ts';
import { parseCommandLine } from '../../../controller/cli/parse.ts';
import { makePlan } from '../../../controller/cli/plan.ts';
import type { Plan } from '../../../controller/cli/plan-schema.ts';
import type { Settings } from '../../../controller/cli/settings.ts';
import { guestSummary, planSummary } from '../../../controller/cli/summary.ts';
import { printRule } from '../../../controller/fwd/rule.ts';
import type { HostFacts } from '../../../controller/host/facts.ts';

const words = (line: string): string[] => line.split(' ').filter((word) => word !== '');
const parse = (line: string): Settings => parseCommandLine('passt', words(line));

const link = { mtu: 1500, mac: null, up: true, operstate: 'up' };
const unicast = { scope: 'universe', deprecated: false, tentative: false } as const;
const hop = (gateway: string, dead = false) => [{ index: 2, gateway, weight: 1, dead }] as const;
const HOST: HostFacts = {
  links: [
    { ...link, index: 1, name: 'lo', loopback: true },
    { ...link, index: 2, name: 'eth0', loopback: false },
  ],
  addresses: [
    { ...unicast, family: 4, index: 2, address: '192.0.2.5', prefix: 24 },
    { ...unicast, family: 6, index: 2, address: '2001:db8::5', prefix: 64 },
  ],
  routes: [
    {
      family: 4,
      destination: '0.0.0.0',
      prefix: 0,
      scope: 'universe',
      metric: 0,
      preferredSource: null,
      hops: hop('192.0.2.1'),
    },
    {
      family: 6,
      destination: '::',
      prefix: 0,
      scope: 'universe',
      metric: 0,
      preferredSource: null,
      hops: hop('fe80::1'),
    },
  ],
  resolvers: { servers: ['192.0.2.53', '2001:db8::53'], search: ['example.org'] },
  ipv6: true,
  ephemeral: { first: 32_768, last: 60_999 },
};
const NOWHERE: HostFacts = {
  ...HOST,
  links: HOST.links.slice(0, 1),
  addresses: [],
  routes: [],
  resolvers: { servers: [], search: [] },
};
const planOf = (settings: Settings, facts = HOST): Plan =>
  makePlan(settings, { spawn: false, foreground: settings.foreground, tap: '' }, facts, null);
const plan = (line: string, facts = HOST): Plan => planOf(parse(line), facts);
const rules = ({ forward }: Plan): string[] =>
  forward.tables.host.map((rule) => printRule(rule).replace(/ +/g, ' ').trim());

describe('the command line', () => {
  it.each<[string, Partial<Settings>]>([
    [
      '',
      { socket: null, fd: null, oneOff: false, vhostUser: false, tellDns: true, tellSearch: true, foreground: false },
    ],
    ['-s /run/a.socket', { socket: '/run/a.socket' }],
    ['--socket-path /a --socket /b', { socket: '/b' }],
    ['-F 5', { fd: 5, oneOff: true }],
    ['-f1s/run/a', { foreground: true, oneOff: true, socket: '/run/a' }],
    ['--vhost-user --one-off', { vhostUser: true, oneOff: true }],
    ['--no-dhcp-dns --no-dhcp-search', { tellDns: false, tellSearch: false }],
    ['--repair-path none', { migration: [] }],
    ['-H box --fqdn box.example.org', { hostname: 'box', fqdn: 'box.example.org' }],
  ])('%s', (line, expected) => {
    expect(parse(line)).toMatchObject(expected);
  });

  it.each<[string, string]>([
    ['--config-net', '--config-net is for pasta mode only'],
    ['-T 22', '-T is for pasta mode only'],
    ['--udp-ns 53', '--udp-ns is for pasta mode only'],
    ['--dhcp-dns', '--dhcp-dns is for pasta mode only'],
    ['--netns /run/netns/a', '--netns is for pasta mode only'],
    ['ls', 'Extra non-option argument: ls'],
    ['-f 1234', 'Extra non-option argument: 1234'],
    ['-t auto', "'auto' port forwarding is only allowed for pasta: -t auto"],
    ['--udp-ports 53,auto', "'auto' port forwarding is only allowed for pasta: --udp-ports 53,auto"],
    ['-F 2', 'Invalid --fd: 2 (-F takes the number of an open descriptor, 3 or more)'],
    ['--fd x', 'Invalid --fd: x'],
    ['-F 5 -s /a', 'Both --fd and --socket given'],
    ['--fd 5 --socket-path /a', 'Both --fd and --socket-path given'],
    ['-s ', "option requires an argument -- 's'"],
    [`-s ${'x'.repeat(108)}`, 'Invalid socket path:'],
    ['--repair-path /a', '--repair-path is for vhost-user mode only'],
    ['--migrate-exit', '--migrate-exit is for vhost-user mode only'],
    ['--migrate-exit --vhost-user', '--migrate-exit is not supported: connections cannot be migrated'],
    ['--vhost-user --repair-path /a', '--repair-path is not supported: connections cannot be migrated'],
    ['-m 65522', 'Invalid MTU: 65522 (-m takes 0 or 68 to 65521)'],
    ['-a 10.0.2.15/24 -n 24', 'Redundant prefix length specification'],
    ['-a 192.0.2.9 -a 2001:db8::9 -a 192.0.2.10', 'Two IPv4 addresses for -a: 192.0.2.9 and 192.0.2.10'],
    ['-a fd00::1 --address fd00::1', 'Two IPv6 addresses for --address: fd00::1 and fd00::1'],
    ['-g 192.0.2.1 -g fe80::1 -g 192.0.2.7', 'Two IPv4 addresses for -g: 192.0.2.1 and 192.0.2.7'],
    ['-t foo', 'Invalid port specifier foo: a port, a range, "all" or "~" is expected (character 1, "f") in -t'],
    ['-u +', 'a port, a range, "all" or "~" is expected'],
    ['-t 2222:127.0.0.1/22', 'the target is a loopback address, at which a guest cannot be reached from outside'],
  ])('%s is refused', (line, message) => {
    expect(() => parse(line)).toThrow(UsageError);
    expect(() => parse(line)).toThrow(message);
  });

  it('each personality refuses every option that only the other has, by its name', () => {
    for (const [name, { only, argument }] of OPTION_ROWS) {
      if (only === null) continue;
      const other = only === 'pasta' ? 'passt' : 'pasta';
      const given = argument === null ? [`--${name}`] : [`--${name}`, 'x'];
      expect(() => parseCommandLine(other, given), name).toThrow(`--${name} is for ${only} mode only`);
    }
  });
});

it('pasta takes -a more than once, and the last -g', () => {
  const settings = parseCommandLine('pasta', words('-a 192.0.2.9 -a 192.0.2.10 -g 192.0.2.1 -g 192.0.2.7'));
  expect(settings.addresses.map(({ address }) => address)).toEqual(['192.0.2.9', '192.0.2.10']);
  expect(settings.gateway4).toBe('192.0.2.7');
});

it.each<[string, HostFacts, readonly string[], string | undefined]>([
  ['-6 -D 9.9.9.9', HOST, ['Resolver 9.9.9.9 is not told to the guest, which has no IPv4'], undefined],
  [
    '-4 -D 2620:fe::9 -D 9.9.9.9',
    HOST,
    ['Resolver 2620:fe::9 is not told to the guest, which has no IPv6'],
    'DNS: 9.9.9.9',
  ],
  ['-6', HOST, [], 'DNS: 2001:db8::53'],
  [
    '-6',
    { ...HOST, resolvers: { servers: ['192.0.2.53'], search: [] } },
    ["Couldn't get any nameserver address: give one with --dns"],
    undefined,
  ],
])('a resolver of an IP version that is off is not told, and that is: %s', (line, facts, warnings, shown) => {
  const made = plan(line, facts);
  expect(made.warnings).toEqual(warnings);
  expect(planSummary(made).find((text) => text.startsWith('DNS: '))).toBe(shown);
});

describe('the command lines of libvirt', () => {
  it('of an interface with everything that its XML can say', () => {
    const made = plan(
      '--one-off --socket /run/libvirt/qemu/passt/1-guest-net0.socket --pid /run/libvirt/qemu/passt/1-guest-net0-passt.pid ' +
        '--mtu 1500 --interface eth0 --log-file /var/log/passt.log --address 172.17.2.4 --netmask 24 ' +
        '--address 2001:db8:ac10:fd01::1:10 --tcp-ports 2022:22 --udp-ports 1.2.3.4%eth0/5000-5020:6000-6020,~5010-5015 ' +
        '--tcp-ports 2001:db8:ac10:fd01::1:10/22:2022,1000-1050,~1020,~1030-1040',
    );
    expect(made.network).toMatchObject({
      mtu: 1500,
      v4: { addresses: [{ address: '172.17.2.4', prefix: 24 }], gateway: '192.0.2.1', pinned: true },
      v6: { addresses: [{ address: '2001:db8:ac10:fd01::1:10', prefix: 64 }], pinned: true },
    });
    expect([made.guest, made.log.file, made.spawn]).toEqual([
      { kind: 'stream', oneOff: true },
      '/var/log/passt.log',
      false,
    ]);
    expect(rules(made)).toEqual([
      'TCP [*]:2022 => 22',
      'TCP [2001:db8:ac10:fd01::1:10]:22 => 2022',
      'TCP [2001:db8:ac10:fd01::1:10]:1000-1019 => 1000-1019',
      'TCP [2001:db8:ac10:fd01::1:10]:1021-1029 => 1021-1029',
      'TCP [2001:db8:ac10:fd01::1:10]:1041-1050 => 1041-1050',
      'UDP [1.2.3.4]%eth0:5000-5009 => 6000-6009',
      'UDP [1.2.3.4]%eth0:5016-5020 => 6016-6020',
    ]);
  });

  it('of a port forward without ranges, and of KubeVirt', () => {
    const made = plan(
      '--vhost-user --one-off --socket /run/libvirt/qemu/passt/1-vm-net0.socket --pid /run/libvirt/qemu/passt/1-vm-net0-passt.pid ' +
        '--interface eth0 --log-file /var/run/kubevirt/passt.log --tcp-ports %eth0/all --udp-ports all',
    );
    expect(made.guest).toEqual({ kind: 'vhost-user', oneOff: true });
    expect(rules(made)).toEqual([
      'TCP [*]%eth0:1-32767 => 1-32767 (best effort)',
      'TCP [*]%eth0:61000-65535 => 61000-65535 (best effort)',
      'UDP [*]:1-32767 => 1-32767 (best effort)',
      'UDP [*]:61000-65535 => 61000-65535 (best effort)',
    ]);
  });

  it('of KubeVirt with Istio: exclusions alone stand for all other ports', () => {
    expect(rules(plan('--tcp-ports ~15000-15001,~15006,~15090'))).toEqual([
      'TCP [*]:1-14999 => 1-14999 (best effort)',
      'TCP [*]:15002-15005 => 15002-15005 (best effort)',
      'TCP [*]:15007-15089 => 15007-15089 (best effort)',
      'TCP [*]:15091-32767 => 15091-32767 (best effort)',
      'TCP [*]:61000-65535 => 61000-65535 (best effort)',
    ]);
  });
});

describe('the plan', () => {
  it('has a guest that is not known yet, is told everything, and gets no ports', () => {
    const made = plan('');
    expect(made.network).toMatchObject({
      guestMac: 'ff:ff:ff:ff:ff:ff',
      tellDns: true,
      tellSearch: true,
      search: ['example.org'],
      v4: {
        addresses: [{ address: '192.0.2.5', prefix: 24 }],
        gateway: '192.0.2.1',
        dns: ['192.0.2.53'],
        pinned: false,
      },
      v6: { addresses: [{ address: '2001:db8::5', prefix: 64 }], ourLinkLocal: 'fe80::1', pinned: false },
      enable: { dhcp: true, dhcpv6: true, ndp: true, ra: true },
    });
    expect(made.forward).toMatchObject({ tables: { host: [], splice: [] }, splice: false });
    expect([made.ifname, made.configNet, made.nsMac, made.warnings]).toEqual(['', null, null, []]);
  });

  it('never lets rules lead to the loopback of the host, at runtime neither', () => {
    const made = plan('--control /run/c -c /run/d --no-map-gw -D none');
    expect(made.listen).toEqual({
      host: [
        { protocol: 'tcp', first: 1, last: 65_535 },
        { protocol: 'udp', first: 1, last: 65_535 },
      ],
      netns: [],
    });
    expect(made.grant).toEqual([]);
  });

  it('is local without a template: DHCP gives a link-local address, IPv6 has nothing to give', () => {
    const made = plan('', NOWHERE);
    expect(made.templates).toEqual({ v4: null, v6: null });
    expect(made.network).toMatchObject({
      v4: { addresses: [{ address: '169.254.2.1', prefix: 16 }], gateway: '169.254.2.2', pinned: false },
      v6: { addresses: [], gateway: 'fe80::1', ourLinkLocal: 'fe80::1' },
      enable: { dhcp: true, dhcpv6: false, ra: true },
    });
    expect(made.warnings).toEqual(["Couldn't get any nameserver address: give one with --dns"]);
  });

  it('takes the address of an interface without carrier, whose routes lead nowhere', () => {
    const dead = { ...HOST, routes: HOST.routes.map((route) => ({ ...route, hops: hop('192.0.2.1', true) })) };
    expect(plan('-i eth0', dead).network).toMatchObject({
      v4: { addresses: [{ address: '192.0.2.5', prefix: 24 }], gateway: '169.254.2.2' },
      v6: { addresses: [{ address: '2001:db8::5', prefix: 64 }], gateway: 'fe80::1' },
    });
    expect(() => plan('-i eth7')).toThrow('Invalid interface name eth7: No such device');
  });

  it('-m 0 says nothing of an MTU, a small one leaves no IPv6', () => {
    expect(plan('-m 0').network).toMatchObject({ mtu: 0, v6: { gateway: 'fe80::1' } });
    const small = plan('-m 1279');
    expect([small.network.v6, small.warnings]).toEqual([null, ['MTU 1279 is below 1280: no IPv6']]);
  });

  it('warns of names that are not told', () => {
    expect(plan('--no-dhcp-dns --no-dhcp-search -D 192.0.2.7 -S a.example').warnings).toEqual([
      '--dns has no effect with --no-dhcp-dns',
      '--search has no effect with --no-dhcp-search',
    ]);
  });
});

describe('what the log says at start', () => {
  it('tells template, addresses, names, ports, and nothing of a namespace', () => {
    const lines = planSummary(plan('-t 2222:22'));
    expect(lines).toEqual([
      'Template interface: eth0 (IPv4), eth0 (IPv6)',
      'Guest: MTU 65520',
      'Our MAC: 9a:55:9a:55:9a:55',
      'IPv4: 192.0.2.5/24, router 192.0.2.1, DHCP',
      'IPv6: 2001:db8::5/64, router fe80::1, our link-local fe80::1, RA, DHCPv6',
      'NAT to host 127.0.0.1: 192.0.2.1',
      'NAT to host ::1: fe80::1',
      'DNS: 192.0.2.53, 2001:db8::53',
      'DNS search list: example.org',
      'Inbound forwarding rules (HOST):',
      '    TCP [*]:2222  =>  22 ',
    ]);
  });
  it('and how QEMU is started', () => {
    expect(guestSummary(plan(''), '/tmp/passt_1.socket')).toEqual([
      'UNIX domain socket bound at /tmp/passt_1.socket',
      'Start QEMU with:',
      '    -device virtio-net-pci,netdev=s -netdev stream,id=s,server=off,addr.type=unix,addr.path=/tmp/passt_1.socket',
    ]);
    expect(guestSummary(plan('--vhost-user'), '/a').slice(2)).toEqual([
      '    -chardev socket,id=c,path=/a -netdev vhost-user,id=s,chardev=c -device virtio-net-pci,netdev=s',
      '    -m SIZE -object memory-backend-memfd,id=m,size=SIZE,share=on -numa node,memdev=m',
    ]);
    expect(guestSummary(plan('-F 5'), '')).toEqual([]);
  });
});
