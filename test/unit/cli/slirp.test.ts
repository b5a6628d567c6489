// SPDX-License-Identifier: Apache-2.0
/** slirp4netns' command line, its plan, and what it says of itself. */
import { describe, expect, it } from 'vitest';
import { UsageError } from '../../../controller/cli/errors.ts';
import type { Plan } from '../../../controller/cli/plan-schema.ts';
import { SLIRP_ROWS, slirpHelpText, slirpVersionText } from '../../../controller/cli/slirp/options.ts';
import { makeSlirpPlan } from '../../../controller/cli/slirp/plan.ts';
import { parseSlirp } from '../../../controller/cli/slirp/settings.ts';
import { slirpSummary } from '../../../controller/cli/slirp/summary.ts';
import type { HostFacts } from '../../../controller/host/facts.ts';

const parse = (line: string) => parseSlirp(line.split(' ').filter((word) => word !== ''));
const FACTS: HostFacts = {
  links: [{ index: 2, name: 'eth0', mtu: 1500, mac: null, up: true, loopback: false, operstate: 'up' }],
  addresses: [
    { family: 4, index: 2, address: '192.0.2.5', prefix: 24, scope: 'universe', deprecated: false, tentative: false },
    { family: 6, index: 2, address: 'fe80::5', prefix: 64, scope: 'link', deprecated: false, tentative: false },
    { family: 6, index: 2, address: '2001:db8::5', prefix: 64, scope: 'universe', deprecated: false, tentative: false },
  ],
  routes: [],
  resolvers: { servers: ['2001:db8::53', '192.0.2.53', '192.0.2.54'], search: ['example.org'] },
  ipv6: true,
  ephemeral: null,
};
const HELLO = { tap: 'tap0', foreground: true };
const TAP_MAC = '02:11:22:33:44:55';
const plan = (line: string, facts: Partial<HostFacts> = {}): Plan =>
  makeSlirpPlan(parse(line), HELLO, { ...FACTS, ...facts }, TAP_MAC);

describe('the command line', () => {
  it('has its defaults, and takes arguments before, between and after options', () => {
    expect(parse('4711 tap0')).toEqual({
      personality: 'slirp4netns',
      configure: false,
      mtu: 1500,
      ipv6: false,
      api: null,
      network: 0x0a000200,
      prefix: 24,
      hostLoopback: true,
      dns: true,
      outbound4: null,
      outbound6: null,
      mac: null,
      target: 'netns',
    });
    expect(parse('4711 -c tap0 --mtu=65520 -6')).toMatchObject({ configure: true, mtu: 65_520, ipv6: true });
    expect(parse('-c6m 1400 4711 tap0')).toMatchObject({ configure: true, ipv6: true, mtu: 1400 });
    expect(parse('--disable-host 4711 --disable-d tap0')).toMatchObject({ hostLoopback: false, dns: false });
    expect(parse('--no-host-loopback 4711 tap0').hostLoopback).toBe(false);
  });
  it('is taken literally as callers write it', () => {
    const podman =
      '--disable-host-loopback --mtu=65520 --enable-sandbox --enable-seccomp --enable-ipv6 --cidr=10.11.0.0/16 -c -e 3 -r 4 --api-socket /run/a.net --netns-type=path /run/netns/n tap0';
    expect(parse(podman)).toMatchObject({
      ...{ hostLoopback: false, mtu: 65_520, ipv6: true, configure: true, api: '/run/a.net', network: 0x0a0b0000 },
      ...{ prefix: 16, target: 'netns' },
    });
    const rootlesskit = '--mtu 65520 -r 3 --disable-host-loopback --api-socket /s/.s4nn.sock --enable-sandbox 1 tap0';
    expect(parse(rootlesskit)).toMatchObject({ configure: false, api: '/s/.s4nn.sock', mtu: 65_520 });
    expect(parse('--target-type=bess /s').target).toBe('bess');
    expect(parse('--netns-type=tapfd 7').target).toBe('tapfd');
  });
  it.each([
    ['--cidr 24', 'invalid CIDR: 24'],
    ['--cidr foo', 'invalid CIDR: foo'],
    ['--cidr 10.0.2.0', 'invalid CIDR: 10.0.2.0'],
    ['--cidr fd00::/64', 'invalid CIDR: fd00::/64'],
    ['--cidr 999.0.2.0/24', 'invalid network address: 999.0.2.0'],
    ['--cidr 10.0.2.0/26', 'prefix length needs to be 1-25'],
    ['--cidr 10.0.2.0/0', 'prefix length needs to be 1-25'],
    ['--cidr 10.0.2.100/24', 'CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24'],
    ['--macaddress 02:00:00:00:00:01', '--macaddr cannot be specified when --configure or -c is not specified'],
    ['-m 65522', 'MTU must be a positive integer (< 65522)'],
    ['-m 0', 'MTU must be a positive integer (< 65522)'],
    ['--target-type=foo', '--target-type must be either "netns" or "bess"'],
    ['--bogus', "unrecognized option '--bogus'"],
    ['--outbound-addr=1.2.3.4.5.6.7.8.9', 'outbound-addr has to be valid ipv4 address or interface name.'],
  ])('%s: %s', (line, message) => {
    expect(() => parse(`${line} 4711 tap0`)).toThrow(message);
    expect(() => parse(`${line} 4711 tap0`)).toThrow(UsageError);
  });
  it('names a MAC address that is none, as callers know it', () => {
    expect(() => parse('-c --macaddress zz:00:00:00:00:01 4711 tap0')).toThrow(
      /^"zz:00:00:00:00:01" is an invalid MAC address\. macaddress has to be a valid MAC address \(/,
    );
  });
});

describe('the plan', () => {
  it('is the same network whatever the host looks like', () => {
    const made = plan('-c 1 tap0');
    expect(plan('-c 1 tap0', { links: [], addresses: [], routes: [] })).toEqual(made);
    expect(made.network.v4).toEqual({
      addresses: [{ address: '10.0.2.100', prefix: 24 }],
      gateway: '10.0.2.2',
      dns: ['10.0.2.3'],
      pinned: true,
      neighbours: [
        { address: '10.0.2.2', mac: '52:55:0a:00:02:02' },
        { address: '10.0.2.3', mac: '52:55:0a:00:02:03' },
      ],
      pool: { first: '10.0.2.15', count: 16, leaseS: 86_400 },
    });
    expect(made.network.v6).toBeNull();
    expect(made.network.ourMac).toBe('52:55:0a:00:02:02');
    expect(made.configNet).toEqual({
      addresses: [{ address: '10.0.2.100', prefix: 24 }],
      routes: [{ destination: '0.0.0.0', prefix: 0, gateway: '10.0.2.2', metric: 0 }],
      mtu: 1500,
    });
    expect(made.forward.tables).toEqual({ host: [], splice: [] });
    expect(made.listen).toEqual({ host: [], netns: [] });
  });
  it('moves with --cidr', () => {
    const { network, nat } = plan('--cidr 192.168.128.0/17 1 tap0');
    expect([network.v4?.addresses, network.v4?.gateway, network.v4?.dns]).toEqual([
      [{ address: '192.168.128.100', prefix: 17 }],
      '192.168.128.2',
      ['192.168.128.3'],
    ]);
    expect(nat).toMatchObject({ hostLoopback4: '192.168.128.2', dnsForward4: '192.168.128.3' });
  });
  it('sets up nothing without -c', () => {
    expect(plan('1 tap0').configNet).toBeNull();
    expect(plan('1 tap0').nsMac).toBeNull();
    expect(plan('-c --macaddress 02:00:00:00:00:01 1 tap0').nsMac).toBe('02:00:00:00:00:01');
  });
  it('has IPv6 with -6 only', () => {
    const made = plan('-c -6 1 tap0');
    expect(made.network.v6).toMatchObject({
      addresses: [{ address: 'fd00::11:22ff:fe33:4455', prefix: 64 }],
      gateway: 'fd00::2',
      ourLinkLocal: 'fe80::2',
      dns: ['fd00::3'],
      advertised: { prefix: 'fd00::', validS: 86_400, preferredS: 14_400, routerS: 1800 },
    });
    expect(made.configNet?.routes[1]).toEqual({ destination: '::', prefix: 0, gateway: 'fe80::2', metric: 1024 });
    expect(made.network.enable).toMatchObject({ ndp: true, ra: true, dhcpv6: false });
    expect(plan('-c -6 1 tap0', { ipv6: false }).network.v6).toBeNull();
    expect(plan('-6 -m 1000 1 tap0').warnings).toEqual(['IPv6 is not available at an MTU of 1000']);
  });
  it('leads to the loopback of the host and to its first resolvers, and no further', () => {
    const on = plan('-6 1 tap0');
    expect(on.nat).toMatchObject({
      ...{ hostLoopback4: '10.0.2.2', hostLoopback6: 'fd00::2', dnsForward4: '10.0.2.3', dnsForward6: 'fd00::3' },
      ...{ dnsHost4: '192.0.2.53', dnsHost6: '2001:db8::53', dnsPorts: [53] },
      closed: ['10.0.2.2', '10.0.2.3', 'fd00::2', 'fe80::2', 'fd00::3'],
    });
    const off = plan('--disable-host-loopback --disable-dns 1 tap0');
    expect(off.nat).toMatchObject({ hostLoopback4: null, dnsForward4: null, closed: ['10.0.2.2'] });
    expect(off.grant).toEqual([{ address: '0.0.0.0', prefix: 0, port: 0 }]);
  });
  it('lets every port be listened on with --api-socket', () => {
    const made = plan('-a /run/api 1 tap0');
    expect(made.api).toEqual({ path: '/run/api', guest: '10.0.2.100' });
    expect(made.listen.host).toEqual([
      { protocol: 'tcp', first: 1, last: 65_535 },
      { protocol: 'udp', first: 1, last: 65_535 },
    ]);
  });
  it('takes an address or the first one of an interface for what leaves', () => {
    expect(plan('--outbound-addr 192.0.2.9 1 tap0').outbound.address4).toBe('192.0.2.9');
    const { outbound } = plan('--outbound-addr eth0 --outbound-addr6=eth0 1 tap0');
    expect([outbound.address4, outbound.address6]).toEqual(['192.0.2.5', '2001:db8::5']);
    expect(() => plan('--outbound-addr bogus0 1 tap0')).toThrow(
      'outbound-addr has to be valid ipv4 address or interface name.',
    );
  });
  it('has no namespace to set up behind a socket of packets', () => {
    const made = plan('--target-type=bess -6 /s');
    expect(made).toMatchObject({ guest: { kind: 'packets', oneOff: true }, ifname: '', configNet: null });
    expect(made.network.v6?.addresses).toEqual([]);
  });
  it('refuses an MTU that no interface takes', () => {
    expect(() => plan('-c -m 60 1 tap0')).toThrow('MTU 60 is too small');
    expect(plan('-m 60 1 tap0').network.mtu).toBe(60);
  });
});

describe('what it says of itself', () => {
  it('has the options that callers look for in --help, and no line of --version that misleads them', () => {
    const help = slirpHelpText();
    for (const name of ['disable-host-loopback', 'mtu', 'enable-sandbox', 'enable-seccomp', 'cidr', 'outbound-addr'])
      expect(help).toContain(`--${name}`);
    for (const name of ['enable-ipv6', 'api-socket', 'netns-type']) expect(help).toMatch(new RegExp(`--${name}\\b`));
    for (const [name, { help: text }] of SLIRP_ROWS) expect(help.includes(`--${name}`)).toBe(text !== null);
    const lines = slirpVersionText('9.8.7').split('\n');
    expect(lines[0]).toBe('slirp4netns version 1.3.2');
    expect(lines[1]).toBe('commit: pastiche-9.8.7');
    expect(lines[3]).toBe('SLIRP_CONFIG_VERSION_MAX: 4');
    expect(lines.filter((line) => line.includes('version'))).toHaveLength(1);
  });
  it('tells the addresses at start, and what reaches the host', () => {
    const settings = parse('-c -a /a 1 tap0');
    const told = slirpSummary(settings, makeSlirpPlan(settings, HELLO, FACTS, TAP_MAC)).join('\n');
    expect(told).toMatch(/^Starting slirp\n/);
    expect(told).toMatch(
      /\* Recommended IP: +10\.0\.2\.100\n\* API Socket: +\/a\nWARNING: 127\.0\.0\.1:\* on the host/,
    );
    expect(slirpSummary(parse('--disable-host-loopback'), plan('1 tap0')).join()).not.toContain('WARNING');
  });
});
