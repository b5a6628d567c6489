// SPDX-License-Identifier: Apache-2.0
/** What needs no namespace: the environment, configurations, versions of results. */
import { describe, expect, it } from 'vitest';
import { argumentsOf } from '../attach/instance.ts';
import { gatewayOf, parseSubnet, type Subnet } from '../attach/layout.ts';
import { parseLook } from '../attach/look.ts';
import { readConfig, readInput } from './config.ts';
import { type Parameters, readParameters } from './environment.ts';
import { extend, readResult, writeResult } from './result.ts';
import { VERSIONS } from './versions.ts';
import { wantedBy } from './wanted.ts';

const NET = { cniVersion: '1.1.0', name: 'n', type: 'pastiche-cni' };
const PARAMETERS: Parameters = {
  command: 'ADD',
  containerID: 'c',
  netns: '/run/netns/n',
  ifname: 'eth0',
  args: new Map(),
};
const failure = (act: () => unknown) => {
  try {
    act();
  } catch (error) {
    const { code, message, details } = error as { code: number; message: string; details: string };
    return { code, message, details };
  }
  throw new Error('it did not fail');
};
const wanted = (config: object, parameters: Partial<Parameters> = {}) =>
  wantedBy(readConfig({ ...NET, ...config }), { ...PARAMETERS, ...parameters });

describe('the environment', () => {
  const ENV = { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'c-1_2.3', CNI_IFNAME: 'eth0', CNI_PATH: '/x' };
  it('is read', () => {
    expect(readParameters(ENV)).toMatchObject({ command: 'DEL', containerID: 'c-1_2.3', netns: '', ifname: 'eth0' });
    expect(readParameters({})).toBeNull();
    expect(readParameters({ CNI_COMMAND: 'GC' })).toMatchObject({ command: 'GC' });
  });
  it.each([
    [{ CNI_COMMAND: 'del' }, /CNI_COMMAND/],
    [{ CNI_CONTAINERID: '' }, /CNI_CONTAINERID/],
    [{ CNI_CONTAINERID: '../x' }, /CNI_CONTAINERID/],
    [{ CNI_IFNAME: '' }, /CNI_IFNAME/],
    [{ CNI_IFNAME: '..' }, /CNI_IFNAME/],
    [{ CNI_IFNAME: 'a:b' }, /CNI_IFNAME/],
    [{ CNI_IFNAME: 'a b' }, /CNI_IFNAME/],
    [{ CNI_IFNAME: 'eth%d' }, /CNI_IFNAME/],
    [{ CNI_IFNAME: 'sixteen-octets-x' }, /CNI_IFNAME/],
    [{ CNI_COMMAND: 'ADD' }, /CNI_NETNS/],
    [{ CNI_COMMAND: 'ADD', CNI_NETNS: 'relative' }, /CNI_NETNS/],
  ])('is refused by the name of the variable: %o', (change, says) => {
    expect(failure(() => readParameters({ ...ENV, ...change }))).toMatchObject({
      code: 4,
      message: expect.stringMatching(says),
    });
  });
  it.each(['/proc/self/ns/net', '/proc/thread-self/ns/net'])('the namespace of the plugin is refused: %s', (path) => {
    for (const env of [{}, { CNI_NETNS_OVERRIDE: '1' }])
      expect(failure(() => readParameters({ ...ENV, ...env, CNI_COMMAND: 'ADD', CNI_NETNS: path }))).toMatchObject({
        code: 8,
      });
  });
  it('all that is missing is named at once', () => {
    expect(failure(() => readParameters({ CNI_COMMAND: 'ADD' })).message).toMatch(
      /CNI_CONTAINERID.*CNI_NETNS.*CNI_IFNAME/,
    );
  });
});

describe('the configuration', () => {
  it.each([
    ['not JSON', '{', 6],
    ['a list', '[]', 6],
    ['nested too deeply', `{"bridge":${'['.repeat(50_000)}${']'.repeat(50_000)}}`, 6],
    ['of a version to come', '{"cniVersion":"9.0.0"}', 1],
    ['of a version that is none', '{"cniVersion":4}', 1],
  ])('%s is refused', (_, text, code) => {
    expect(failure(() => readInput(text)).code).toBe(code);
  });
  it('that names no version has the first one', () => {
    expect(readInput('{"name":"n"}').version).toBe('0.1.0');
  });
  it.each([
    [{ name: '' }, 7, /name/],
    [{ name: undefined }, 7, /^name is missing: it has to be a string$/],
    [{ mtu: 'x' }, 7, /^mtu is "x": it has to be a whole number from 1280 to 65520$/],
    [
      { runtimeConfig: { portMappings: [{ hostPort: 99_999, containerPort: 1 }] } },
      7,
      /^runtimeConfig\.portMappings\.0\.hostPort is 99999: it has to be a whole number from 1 to 65535$/,
    ],
    [{ mtu: 1500.5 }, 7, /^mtu is 1500\.5: it has to be a whole number from 1280 to 65520$/],
    [{ name: 'a b' }, 7, /^name is "a b": it has to be letters, .* first$/],
    [{ name: `${'x'.repeat(150)} ` }, 7, /^name is "x{99}…: it has/],
    [{ hostLoopback: 'true' }, 7, /^hostLoopback is "true": it has to be true or false$/],
    [{ hostAddress: 4 }, 7, /^hostAddress is 4: it has to be an address or a list of them$/],
    [{ runtimeConfig: { ips: [4] } }, 7, /^runtimeConfig\.ips\.0 is 4: it has to be a string$/],
    [{ runtimeConfig: { portMappings: {} } }, 7, /^runtimeConfig\.portMappings is \{\}: it has to be a list$/],
    [{ dns: [] }, 7, /^dns is \[\]: it has to be an object$/],
    [{ bridge: 'cni0' }, 2, /bridge.*cni0/],
    [{ ipam: { type: 'host-local' } }, 2, /ipam.*host-local/],
    [{ mtu: 'large' }, 7, /mtu/],
    [{ mtu: 100 }, 7, /mtu/],
    [{ ipv4: false, ipv6: false }, 7, /nothing is left/],
    [{ subnet: '10.0.0.0/30' }, 7, /too small/],
    [{ subnet: 'fd00::/64' }, 7, /subnet/],
    [{ runtimeConfig: { bandwidth: { ingressRate: 1 } } }, 2, /bandwidth/],
    [{ runtimeConfig: { portMappings: [{ hostPort: 0, containerPort: 1 }] } }, 7, /hostPort/],
    [{ runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 1, protocol: 'sctp' }] } }, 2, /sctp/],
    [{ runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 1, hostIP: 'x' }] } }, 7, /hostIP/],
    [{ runtimeConfig: { ips: ['10.0.2.2/24'] } }, 7, /gateway/],
    [{ runtimeConfig: { ips: ['10.0.3.1/24'] } }, 7, /10\.0\.2\.0\/24/],
    [{ runtimeConfig: { mac: '01:00:00:00:00:00' } }, 7, /mac/],
    [{ dns: { servers: ['1.1.1.1'] } }, 2, /dns\.servers/],
    [{ dns: { nameservers: ['name'] } }, 7, /dns/],
  ])('%o is refused', (change, code, says) => {
    expect(failure(() => wanted(change))).toMatchObject({ code, message: expect.stringMatching(says) });
  });
  it('what runtimes put in beside is taken', () => {
    const given = {
      capabilities: { portMappings: true },
      runtimeConfig: { portMappings: null },
      ipam: {},
      'cni.dev/attachments': [],
      args: { cni: { labels: [] }, other: 1 },
    };
    expect(wanted(given).wanted.ports).toEqual([]);
  });
  it('ports that follow one another are one range', () => {
    const mapping = (hostPort: number, containerPort: number, protocol = 'tcp') => ({
      ...{ hostPort, containerPort, protocol },
    });
    const range = Array.from({ length: 1000 }, (_, i) => mapping(20_000 + i, 30_000 + i));
    const portMappings = [...range, mapping(21_000, 80), mapping(21_001, 81, 'udp'), mapping(21_003, 83, 'udp')];
    for (const given of [portMappings, portMappings.toReversed()])
      expect(wanted({ runtimeConfig: { portMappings: given } }).wanted.ports).toMatchObject([
        { protocol: 'tcp', hostPort: 20_000, containerPort: 30_000, count: 1000 },
        { hostPort: 21_000, count: 1 },
        { protocol: 'udp', hostPort: 21_001, count: 1 },
        { hostPort: 21_003, count: 1 },
      ]);
  });
  it('becomes a command line', () => {
    const { wanted: all } = wanted({
      hostLoopback: true,
      outboundInterface: 'eth7',
      hostAddress: '10.0.2.9',
      ipv6: false,
      runtimeConfig: {
        portMappings: [
          { hostPort: 80, containerPort: 8080, protocol: 'TCP' },
          { hostPort: 53, containerPort: 53, protocol: 'udp', hostIP: '2001:db8::0:1' },
        ],
      },
    });
    const args = argumentsOf(all).join(' ');
    for (const part of [
      ...[
        '--ipv4-only',
        '--address 10.0.2.100/24',
        '--gateway 10.0.2.2',
        '--map-host-loopback 10.0.2.2',
        '--map-guest-addr 10.0.2.9',
      ],
      ...[
        '--outbound-if4 eth7',
        '--tcp-ports 80:8080',
        '--udp-ports 2001:db8::1/53:53',
        '--tcp-ns none',
        '--udp-ns none',
        '--dns-forward 10.0.2.3',
      ],
    ])
      expect(args).toContain(part);
    expect(args).not.toContain('outbound-if6');
    expect(argumentsOf(wanted({}).wanted)).toEqual(expect.arrayContaining(['--no-map-gw', '--tcp-ports', 'none']));
  });
  it('what the runtime asks for wins over args, and those over CNI_ARGS', () => {
    const args = new Map([
      ['IP', '10.0.2.12'],
      ['MAC', '02:00:00:00:00:12'],
    ]);
    expect(wanted({}, { args }).wanted).toMatchObject({
      mac: '02:00:00:00:00:12',
      addresses: [{ address: '10.0.2.12', prefix: 24 }, { address: 'fd00::64' }],
    });
    const cni = { ips: ['10.0.2.11'], mac: '02:00:00:00:00:11' };
    expect(wanted({ args: { cni } }, { args }).wanted).toMatchObject({
      mac: cni.mac,
      addresses: [{ address: '10.0.2.11' }, {}],
    });
    const runtimeConfig = { ips: ['fd00::10/64'], mac: '02-00-00-00-00-10' };
    expect(wanted({ args: { cni }, runtimeConfig }, { args }).wanted).toMatchObject({
      mac: '02:00:00:00:00:10',
      addresses: [{ address: '10.0.2.100' }, { address: 'fd00::10' }],
    });
  });
});

describe('the layout', () => {
  it.each([
    ['10.0.2.0/24', 4, '10.0.2.2'],
    ['10.0.2.77/16', 4, '10.0.0.2'],
    ['fd00::/64', 6, 'fd00::2'],
    ['fd12:3456:789a:1::/64', 6, 'fd12:3456:789a:1::2'],
    ['2001:db8:0:0:1::/80', 6, '2001:db8::1:0:0:2'],
  ] as const)('%s', (text, family, gateway) => {
    expect(gatewayOf(parseSubnet(text, family) as Subnet)).toBe(gateway);
  });
});

describe('results', () => {
  const { result } = wanted({ runtimeConfig: { mac: '02:00:00:00:00:01' } });
  it.each(VERSIONS)('of version %s are read as they were written', (version) => {
    const written = JSON.parse(JSON.stringify(writeResult(result, version)));
    const read = readResult(written, version);
    expect(JSON.parse(JSON.stringify(writeResult(read, version)))).toEqual(written);
    expect(read.ips.map(({ address }) => address)).toEqual(['10.0.2.100/24', 'fd00::64/64']);
    expect(read.routes).toEqual(result.routes);
  });
  it('fields that only later plugins know are passed on', () => {
    const before = readResult(
      {
        interfaces: [{ name: 'x', new: 1 }],
        ips: null,
        routes: [{ dst: '::/0', mtu: 9, new: 2 }],
        dns: { search: ['a'] },
      },
      '1.1.0',
    );
    expect(writeResult(extend(before, result), '1.1.0')).toMatchObject({
      interfaces: [{ name: 'x', new: 1 }, { name: 'eth0' }],
      ips: [{ interface: 1 }, { interface: 1 }],
      routes: [{ dst: '::/0', mtu: 9, new: 2 }, {}, {}],
      dns: { search: ['a'], nameservers: ['10.0.2.3'] },
    });
  });
  it('what is none is refused', () => {
    expect(failure(() => readResult({ ips: [{}] }, '1.0.0'))).toMatchObject({
      code: 6,
      details: 'ips.0.address is missing: it has to be a string',
    });
    expect(failure(() => readResult('x', '0.2.0')).code).toBe(6);
  });
});

it('an interface is read as the native program prints it', () => {
  const text = [
    ...['mac 02:00:00:00:00:01', 'state up', 'address 10.0.2.100/24', 'address fd00::64/64', 'mtu 1500'],
    'route4 Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT',
    'route4 eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0',
    'route4 eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0',
    'route6 00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000002 00000400 00000001 00000000 00000003     eth0',
    'route6 fd000000000000000000000000000064 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001     eth0',
    'route6 00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo',
  ].join('\n');
  expect(parseLook(`${text}\n`, 'eth0')).toEqual({
    mac: '02:00:00:00:00:01',
    up: true,
    mtu: 1500,
    addresses: ['10.0.2.100/24', 'fd00::64/64'],
    routes: [
      { dst: '0.0.0.0/0', gw: '10.0.2.2' },
      { dst: '10.0.2.0/24', gw: '' },
      { dst: '::/0', gw: 'fd00::2' },
    ],
  });
  expect(parseLook('', 'eth0')).toBeNull();
});
