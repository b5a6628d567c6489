// SPDX-License-Identifier: Apache-2.0
/** Podman as root drives our plugins: Debian 12's through CNI, with a plugin of Debian's behind ours, and Debian 13's through netavark. */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { debianTree, TREES } from '../../scripts/lib/debian-tree.mjs';
import { Runtime } from '../support/cni.ts';
import { ask, askOne, PATIENCE_MS, seen, serve } from '../support/forward-programs.ts';
import { type Lab, makeLab, NET, type Side } from '../support/lab.mjs';
import {
  type Container,
  gone,
  machinePlace,
  type Place,
  Podman,
  podmanMissing,
  processesWith,
  treePlace,
} from '../support/podman.ts';
import { ECHO_PORT as SERVER_PORT } from '../support/programs.ts';

/** Podman 4 and 5 reserve published ports themselves, which keeps others from having them. */
const ENGINE = ['enable_port_reservation = false'];
const both = (address: string, port: number) =>
  (['tcp', 'udp'] as const).map((protocol) => ({ protocol, address, port }));
const whomTheySee = async (side: Side, address: string, port: number) =>
  (
    await ask(
      side,
      both(address, port).map((one) => ({ ...one, patienceMs: PATIENCE_MS })),
    )
  ).map(seen);

const served = async (lab: Lab, container: Container, resolver: string) => {
  for (const [server, host] of [
    [NET.server4, NET.host4],
    [NET.server6, NET.host6],
  ] as const)
    expect(await whomTheySee(container.net, server, SERVER_PORT)).toEqual([host, host]);
  expect((await container.exec(['cat', '/etc/resolv.conf'])).split('\n')).toContain(`nameserver ${resolver}`);
  expect(await container.exec(['nslookup', NET.name])).toContain(NET.server4);
  for (const [address, client] of [
    [NET.host4, NET.gateway4],
    [NET.host6, NET.gateway6],
  ] as const)
    expect(await whomTheySee(lab.remote, address, 8080)).toEqual([client, client]);
};
const makeServed = async (): Promise<Lab> => {
  const lab = await makeLab();
  await serve(lab.remote, [...both(NET.server4, SERVER_PORT), ...both(NET.server6, SERVER_PORT)]);
  return lab;
};
const interfaceOf = async (container: Container) => {
  const [link] = JSON.parse(await container.net.run(['ip', '-j', 'address', 'show', 'eth0']));
  return link as { mtu: number; address: string; addr_info: { local: string; prefixlen: number }[] };
};

/** Runs behind ours in a chain; the name of its package is on no PATH, and is named as missing. */
const TUNING = '/usr/lib/cni/tuning';
const missingCni = podmanMissing([
  ...['podman', 'crun', 'conmon', 'busybox'],
  ...(existsSync(TUNING) ? [] : ['containernetworking-plugins']),
]);
describe.skipIf(missingCni !== '')('Podman 4.3, CNI', () => {
  const CONFIGURATIONS = '/run/cni-conf';
  let lab: Lab;
  let podman: Podman;
  let runtime: Runtime;
  beforeAll(async () => {
    lab = await makeServed();
    runtime = new Runtime(lab);
    const place = await machinePlace(lab);
    const conflist = {
      cniVersion: '1.0.0',
      name: 'chain',
      plugins: [
        { type: 'pastiche-cni', capabilities: { portMappings: true, ips: true, mac: true } },
        { type: 'tuning', mtu: 1400, sysctl: { 'net.core.somaxconn': '333' } },
      ],
    };
    await lab.host.run(['sh', '-c', `mkdir ${CONFIGURATIONS}; cat >${CONFIGURATIONS}/chain.conflist`], {
      input: JSON.stringify(conflist),
    });
    podman = await Podman.make(lab, place, 'root', {
      engine: ENGINE,
      network: [
        'network_backend = "cni"',
        `cni_plugin_dirs = ["${place.programs}", "/usr/lib/cni"]`,
        `network_config_dir = "${CONFIGURATIONS}"`,
      ],
    });
  });
  afterAll(() => lab?.cleanup());

  it('a container, its ports, its name server, its life', async () => {
    const web = await podman.witness('web', ['--network', 'chain', '-p', '8080:80', '-p', '8080:80/udp'], [80]);
    await served(lab, web, '10.0.2.3');
    const { mtu, addr_info } = await interfaceOf(web);
    expect(mtu).toBe(1400);
    expect(addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`)).toEqual(
      expect.arrayContaining(['10.0.2.100/24', 'fd00::64/64']),
    );
    expect((await web.net.run(['cat', '/proc/sys/net/core/somaxconn'])).trim()).toBe('333');
    expect(runtime.state()).toHaveLength(1);
    await podman.run(['restart', '-t', '0', 'web']);
    const again = await podman.container('web');
    await podman.listening(again, [80]);
    expect(await whomTheySee(lab.remote, NET.host4, 8080)).toEqual([NET.gateway4, NET.gateway4]);
    await podman.remove('web');
    expect(runtime.state()).toEqual([]);
    expect(processesWith(lab, '--lock-fd')).toEqual([]);
  });
  it('several at once, with an address and a MAC that were asked for; a taken port is said, and nothing is left of it', async () => {
    const own = ['--ip', '10.0.2.77', '--mac-address', '02:00:00:00:00:77'];
    const [one] = await Promise.all([
      podman.start('one', ['--network', 'chain', '-p', '8090:80', ...own]),
      podman.start('two', ['--network', 'chain']),
      podman.start('three', ['--network', 'chain']),
    ]);
    expect(await interfaceOf(one)).toMatchObject({ address: '02:00:00:00:00:77' });
    expect((await interfaceOf(one)).addr_info.map(({ local }) => local)).toContain('10.0.2.77');
    expect(runtime.state()).toHaveLength(3);
    const taken = await podman.tryStart('four', ['--network', 'chain', '-p', '8090:80']);
    expect(taken.status).not.toBe(0);
    expect(taken.stderr).toMatch(/8090.*in use/);
    expect(runtime.state()).toHaveLength(3);
    await podman.remove('one', 'two', 'three', 'four');
    expect(runtime.state()).toEqual([]);
    await gone(lab, '--lock-fd');
  });
});

const missingTree = podmanMissing(['mmdebstrap', 'busybox']);
describe.skipIf(missingTree !== '')('Podman 5.4, netavark', () => {
  let lab: Lab;
  let place: Place;
  let podman: Podman;
  let state: () => Promise<string[]>;
  beforeAll(async () => {
    lab = await makeServed();
    place = await treePlace(lab, debianTree(TREES.consumers));
    podman = await Podman.make(lab, place, 'root', {
      engine: ENGINE,
      network: [`netavark_plugin_dirs = ["${place.programs}"]`, 'network_config_dir = "/run/networks"'],
    });
    state = async () => (await place.side.run(['sh', '-c', 'ls /run/pastiche/cni'])).split('\n').filter(Boolean);
  });
  afterAll(() => lab?.cleanup());

  it('a network, a container with ports, addresses and MAC, and their end', async () => {
    await podman.run(['network', 'create', '-d', 'pastiche-netavark', '--ipv6', '--opt', 'mtu=1400', 'net']);
    const [network] = JSON.parse(await podman.run(['network', 'inspect', 'net']));
    expect(network).toMatchObject({ driver: 'pastiche-netavark', dns_enabled: false, ipv6_enabled: true });
    expect(network.subnets.map(({ subnet }: { subnet: string }) => subnet)).toEqual(
      expect.arrayContaining(['10.0.2.0/24', 'fd00::/64']),
    );
    const own = ['--network', 'net:ip=10.0.2.77,mac=02:00:00:00:00:77'];
    const web = await podman.witness(
      'web',
      [...own, '-p', '8080:80', '-p', '8080:80/udp', '-p', '8081-8082:81-82'],
      [80, 81, 82],
    );
    await served(lab, web, '10.0.2.3');
    for (const port of [8081, 8082]) expect(seen(await askOne(lab.remote, 'tcp', NET.host4, port))).toBe(NET.gateway4);
    const { mtu, address, addr_info } = await interfaceOf(web);
    expect({ mtu, address }).toEqual({ mtu: 1400, address: '02:00:00:00:00:77' });
    expect(addr_info.map(({ local }) => local)).toEqual(expect.arrayContaining(['10.0.2.77', 'fd00::64']));
    const inspected = JSON.parse(
      await podman.run(['inspect', '--format', '{{json .NetworkSettings.Networks.net}}', 'web']),
    );
    expect(inspected).toMatchObject({
      IPAddress: '10.0.2.77',
      Gateway: '10.0.2.2',
      MacAddress: '02:00:00:00:00:77',
      GlobalIPv6Address: 'fd00::64',
    });
    expect(await state()).toHaveLength(1);
    await podman.remove('web');
    expect(await state()).toEqual([]);
    expect(processesWith(lab, '--lock-fd')).toEqual([]);
  });
  it('what cannot be is said in a sentence', async () => {
    const create = (...args: string[]) =>
      podman.attempt(['network', 'create', '-d', 'pastiche-netavark', ...args, 'other']);
    for (const [args, says] of [
      [['--opt', 'vlan=3'], /option vlan is not supported/],
      [['--internal'], /internal network is not supported/],
      [['--subnet', '10.9.0.0/24', '--gateway', '10.9.0.1'], /gateway.*10\.9\.0\.2/],
    ] as const) {
      const done = await create(...args);
      expect(done.status).not.toBe(0);
      expect(done.stderr).toMatch(says);
    }
    await podman.run(['network', 'create', '-d', 'pastiche-netavark', 'second']);
    await podman.start('first', ['--network', 'second', '-p', '8090:80']);
    const taken = await podman.tryStart('taken', ['--network', 'second', '-p', '8090:80']);
    expect(taken.status).not.toBe(0);
    expect(taken.stderr).toMatch(/8090.*in use/);
    expect(await state()).toHaveLength(1);
    await podman.remove('first', 'taken');
    expect(await state()).toEqual([]);
  });
});
