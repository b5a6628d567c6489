// SPDX-License-Identifier: Apache-2.0
/** The CNI plugin, called as a container runtime calls it: results, traffic, CHECK, DEL, GC, STATUS, and calls at the same time. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CONF, type Config, NETWORK, Runtime } from '../support/cni.ts';
import { type Lab, makeLab, NET, REPOSITORY } from '../support/lab.mjs';
import { status, waitFor } from '../support/process.mjs';
import { ask } from '../support/programs.ts';

let lab: Lab;
let runtime: Runtime;
beforeAll(async () => {
  lab = await makeLab();
  runtime = new Runtime(lab);
});
afterAll(() => lab.cleanup());

const VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'];
const withRuntime = (runtimeConfig: unknown): Config => ({ ...CONF, runtimeConfig });
const mapping = (hostPort: number, containerPort: number, protocol: string, hostIP?: string) => ({
  hostPort,
  containerPort,
  protocol,
  ...(hostIP === undefined ? {} : { hostIP }),
});
const kill = (pid: number): void => {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // The end of another was its own.
  }
};
const script = (name: string): string[] => [process.execPath, join(REPOSITORY, 'test/support', name)];

describe('versions', () => {
  it('are told', async () => {
    const { result } = await runtime.call('VERSION');
    expect(result).toEqual({ cniVersion: '1.1.0', supportedVersions: VERSIONS });
    const error = await runtime.bad('ADD', {
      id: 'v',
      netns: await runtime.namespace(),
      config: { ...CONF, cniVersion: '2.0.0' },
    });
    expect(error).toMatchObject({ code: 1, cniVersion: '1.1.0' });
  });
  it.concurrent.each(['0.2.0', '0.4.0', '1.0.0'])('%s: ADD, CHECK where there is one, DEL', async (cniVersion) => {
    const netns = await runtime.namespace();
    const call = { id: `v-${cniVersion}`, netns, config: { ...CONF, cniVersion } };
    const result = await runtime.good('ADD', call);
    const checked = { ...call, config: { ...call.config, prevResult: result } };
    if (cniVersion >= '0.4.0') await runtime.good('CHECK', checked);
    else expect(await runtime.bad('CHECK', checked)).toMatchObject({ code: 1, cniVersion });
    if (cniVersion < '1.1.0') expect(await runtime.bad('GC', call)).toMatchObject({ code: 1, cniVersion });
    await runtime.good('DEL', checked);
    await runtime.expectNothing(netns);
  });
});

describe('a container', () => {
  const SERVED = { inside: 7070, outside: 17_070 } as const;
  let netns: string;
  let call: { id: string; netns: string; config: Config };
  let result: Awaited<ReturnType<Runtime['good']>>;
  beforeAll(async () => {
    netns = await runtime.namespace();
    const { inside, outside } = SERVED;
    call = {
      id: 'served',
      netns,
      config: withRuntime({ portMappings: [mapping(outside, inside, 'tcp'), mapping(outside, inside, 'udp')] }),
    };
    result = await runtime.good('ADD', call);
    const sockets = (address: string, port: number) =>
      (['tcp', 'udp'] as const).map((protocol) => ({ protocol, address, port }));
    for (const [side, addresses] of [
      [runtime.inside(netns), ['0.0.0.0', '::']],
      [lab.remote, [NET.server4, NET.server6]],
    ] as const) {
      const server = side.spawn([
        ...script('forward.mjs'),
        'serve',
        JSON.stringify(addresses.flatMap((address) => sockets(address, inside))),
      ]);
      await waitFor(() => server.out().includes('listening'), { what: 'a server' });
    }
  });

  it('is told what it has', async () => {
    const [{ address: mac, mtu, addr_info: addresses }] = JSON.parse(
      await runtime.inside(netns).run(['ip', '-j', 'addr', 'show', 'eth0']),
    );
    expect(result).toMatchObject({
      interfaces: [{ name: 'eth0', mac, mtu, sandbox: netns }],
      ips: [
        { address: '10.0.2.100/24', gateway: '10.0.2.2', interface: 0 },
        { address: 'fd00::64/64', gateway: 'fd00::2', interface: 0 },
      ],
      routes: [
        { dst: '0.0.0.0/0', gw: '10.0.2.2' },
        { dst: '::/0', gw: 'fd00::2' },
      ],
      dns: { nameservers: ['10.0.2.3'] },
    });
    const seen = addresses.map((one: { local: string; prefixlen: number }) => `${one.local}/${one.prefixlen}`);
    expect(seen).toEqual(expect.arrayContaining(['10.0.2.100/24', 'fd00::64/64']));
  });
  it('is served by processes without a capability but that for low ports, whoever started them', () => {
    const [host, ...others] = runtime.processes(netns).map((pid) => status(pid));
    expect(others).toHaveLength(2);
    expect(host).toMatchObject({ CapPrm: '0000000000000400', NoNewPrivs: '1', Seccomp: '2' });
    for (const other of others)
      expect(other).toMatchObject({ CapPrm: '0000000000000000', NoNewPrivs: '1', Seccomp: '2' });
  });
  it('reaches the network, by TCP and UDP, IPv4 and IPv6', async () => {
    const questions = (['tcp', 'udp'] as const).flatMap((protocol) =>
      [NET.server4, NET.server6].map((address) => ({ protocol, address, port: SERVED.inside })),
    );
    const answers = await ask(runtime.inside(netns), questions);
    expect(answers.map(({ error, address }) => error ?? address)).toEqual([NET.host4, NET.host6, NET.host4, NET.host6]);
  });
  it('resolves names by the address it was told', async () => {
    for (const transport of ['udp', 'tcp'])
      expect((await runtime.inside(netns).run([...script('dns.mjs'), transport, '10.0.2.3', NET.name])).trim()).toBe(
        NET.server4,
      );
  });
  it('is reached at its published ports, and sees who asks', async () => {
    const questions = (['tcp', 'udp'] as const).flatMap((protocol) =>
      [NET.host4, NET.host6].map((address) => ({ protocol, address, port: SERVED.outside })),
    );
    const answers = await ask(lab.remote, questions);
    expect(answers.map(({ error, address, own }) => error ?? address === own.address)).toEqual([
      true,
      true,
      true,
      true,
    ]);
  });
  it('does not reach the loopback of the host', async () => {
    const server = runtime.side.spawn([
      ...script('forward.mjs'),
      'serve',
      JSON.stringify([{ protocol: 'tcp', address: '127.0.0.1', port: 7171 }]),
    ]);
    await waitFor(() => server.out().includes('listening'), { what: 'a server' });
    const [answer] = await ask(runtime.inside(netns), [{ protocol: 'tcp', address: '10.0.2.2', port: 7171 }], 1000);
    expect(answer?.error).toBeDefined();
  });
  it('passes CHECK, and not a second ADD', async () => {
    await runtime.good('CHECK', { ...call, config: { ...call.config, prevResult: result } });
    expect(await runtime.bad('ADD', call)).toMatchObject({ code: 101 });
    await runtime.good('CHECK', { ...call, config: { ...call.config, prevResult: result } });
  });
  it('is gone after DEL, and its ports with it', async () => {
    await runtime.good('DEL', call);
    await runtime.expectNothing(netns);
    const answers = await ask(
      lab.remote,
      [NET.host4, NET.host6].map((address) => ({ protocol: 'tcp', address, port: SERVED.outside })),
    );
    expect(answers.map(({ error }) => error)).toEqual(['ECONNREFUSED', 'ECONNREFUSED']);
  });
});

describe('what is asked for', () => {
  it('addresses, MAC and DNS, by capability, and by args and CNI_ARGS', async () => {
    const netns = await runtime.namespace();
    const asked = {
      ips: ['10.7.0.9/16', 'fd07::9'],
      mac: '02:00:5E:10:00:09',
      dns: { servers: ['198.51.100.1'], searches: ['a.test'], options: ['ndots:2'] },
    };
    const config = {
      ...withRuntime(asked),
      subnet: '10.7.0.0/16',
      subnet6: 'fd07::/64',
      mtu: 1400,
      args: { cni: { ips: ['10.7.0.10'], mac: '02:00:00:00:00:01' } },
    };
    const result = await runtime.good('ADD', {
      id: 'asked',
      netns,
      config,
      env: { CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.7.0.11' },
    });
    expect(result).toMatchObject({
      interfaces: [{ mac: '02:00:5e:10:00:09', mtu: 1400 }],
      ips: [
        { address: '10.7.0.9/16', gateway: '10.7.0.2' },
        { address: 'fd07::9/64', gateway: 'fd07::2' },
      ],
      dns: { nameservers: ['198.51.100.1'], search: ['a.test'], options: ['ndots:2'] },
    });
    const [link] = JSON.parse(await runtime.inside(netns).run(['ip', '-j', 'addr', 'show', 'eth0']));
    expect(link).toMatchObject({ address: '02:00:5e:10:00:09', mtu: 1400 });
    await runtime.good('CHECK', { id: 'asked', netns, config: { ...config, prevResult: result } });
    await runtime.good('DEL', { id: 'asked', netns, config });

    const unasked = { ...config, runtimeConfig: {} };
    const second = await runtime.good('ADD', { id: 'asked', netns, config: unasked });
    expect(second).toMatchObject({
      interfaces: [{ mac: '02:00:00:00:00:01' }],
      ips: [{ address: '10.7.0.10/16' }, { address: 'fd07::64/64' }],
    });
    await runtime.good('DEL', { id: 'asked', config });
  });
  it('an earlier result is passed on, with ours behind it', async () => {
    const netns = await runtime.namespace();
    const prevResult = {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'net0', mac: '02:00:00:00:00:07', sandbox: netns }],
      ips: [{ address: '192.0.2.77/24', interface: 0 }],
      routes: [{ dst: '192.0.2.0/24' }],
      dns: { domain: 'a.test' },
    };
    const call = {
      id: 'chained',
      netns,
      ifname: 'net1',
      config: { ...CONF, cniVersion: '1.0.0', ipv6: false, prevResult },
    };
    const result = await runtime.good('ADD', call);
    expect(result).toMatchObject({
      interfaces: [prevResult.interfaces[0], { name: 'net1' }],
      ips: [prevResult.ips[0], { address: '10.0.2.100/24', interface: 1 }],
      routes: [prevResult.routes[0], { dst: '0.0.0.0/0', gw: '10.0.2.2' }],
      dns: { domain: 'a.test', nameservers: ['10.0.2.3'] },
    });
    await runtime.good('CHECK', { ...call, config: { ...call.config, prevResult: result } });
    await runtime.good('DEL', call);
    await runtime.expectNothing(netns);
  });
});

describe('CHECK', () => {
  it('fails for what was done to a container behind its back, one after the other, and DEL does not', async () => {
    const netns = await runtime.namespace();
    const call = {
      id: 'check',
      netns,
      config: withRuntime({ portMappings: [mapping(17_080, 80, 'tcp'), mapping(17_081, 81, 'tcp')] }),
    };
    const prevResult = await runtime.good('ADD', call);
    const check = { ...call, config: { ...call.config, prevResult } };
    const ip = (...args: string[]) => runtime.inside(netns).run(['ip', ...args]);
    const ports = lab.binary.replace(/pasta$/, 'pastiche');
    const where = `$(dirname $(grep -ls '"${netns}"' /run/pastiche/cni/*/attachment.json))`;
    await runtime.good('CHECK', check);
    for (const [says, act] of [
      [
        /TCP port 17080/,
        () => runtime.side.run(['sh', '-c', `cd ${where} && ${ports} ports remove control -t 17080-17081:80-81`]),
      ],
      [/route to ::\/0/, () => ip('-6', 'route', 'del', 'default')],
      [/address 10\.0\.2\.100\/24/, () => ip('addr', 'del', '10.0.2.100/24', 'dev', 'eth0')],
      [/02:00:00:00:00:99/, () => ip('link', 'set', 'eth0', 'address', '02:00:00:00:00:99')],
      [/down/, () => ip('link', 'set', 'eth0', 'down')],
      [/no interface eth0/, () => ip('link', 'set', 'eth0', 'name', 'other0')],
      [/has ended/, () => runtime.processes(netns).forEach(kill)],
    ] as const) {
      await act();
      if (says.test('has ended')) await waitFor(() => runtime.processes(netns).length === 0, { what: 'the end' });
      expect(await runtime.bad('CHECK', check)).toMatchObject({ code: 102, msg: expect.stringMatching(says) });
    }
    await runtime.good('DEL', call);
    await runtime.expectNothing(netns);
  });
  it('fails when the instance is stopped, and DEL does not', async () => {
    const netns = await runtime.namespace();
    const call = { id: 'stopped', netns };
    const prevResult = await runtime.good('ADD', call);
    for (const pid of runtime.processes(netns)) process.kill(pid, 'SIGSTOP');
    const error = await runtime.bad('CHECK', { ...call, config: { ...CONF, prevResult } });
    expect(error).toMatchObject({ code: 102, msg: expect.stringMatching(/does not answer/) });
    await runtime.good('DEL', call);
    await runtime.expectNothing(netns);
  });
  it('fails for what was never added, and without prevResult', async () => {
    const netns = await runtime.namespace();
    const prevResult = {
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', mac: '02:00:00:00:00:01', sandbox: netns }],
      ips: [],
      routes: [],
      dns: {},
    };
    expect(await runtime.bad('CHECK', { id: 'never', netns, config: { ...CONF, prevResult } })).toMatchObject({
      code: 102,
    });
    expect(await runtime.bad('CHECK', { id: 'never', netns })).toMatchObject({ code: 7 });
  });
});

describe('DEL', () => {
  it('succeeds whatever is gone or wrong, again and again', async () => {
    const netns = await runtime.namespace();
    const call = { id: 'gone', netns };
    await runtime.good('ADD', call);
    await runtime.side.run(['ip', 'netns', 'del', netns.slice('/run/netns/'.length)]);
    await waitFor(() => runtime.processes(netns).length === 0, {
      what: 'the end of the instance without its namespace',
    });
    await runtime.good('DEL', call);
    await runtime.expectNothing(netns, false);
    await runtime.good('DEL', { id: 'gone' });
    await runtime.good('DEL', { id: 'never-there' });
    const again = { id: 'changed', netns: await runtime.namespace() };
    await runtime.good('ADD', again);
    await runtime.good('DEL', {
      id: 'changed',
      config: { ...CONF, subnet: 'nonsense', unknown: 1, prevResult: 'nonsense' },
    });
    await runtime.expectNothing(again.netns);
  });
});

it('an instance whose state was removed behind its back ends, and ADD begins anew', async () => {
  const call = { id: 'stateless', netns: await runtime.namespace() };
  await runtime.good('ADD', call);
  await runtime.side.run([
    'sh',
    '-c',
    `rm -r "$(dirname "$(grep -ls '"${call.netns}"' /run/pastiche/cni/*/attachment.json)")"`,
  ]);
  await waitFor(() => runtime.processes(call.netns).length === 0, { what: 'the end of the instance' });
  await runtime.good('DEL', call);
  await runtime.expectNothing(call.netns);
  await runtime.good('ADD', call);
  await runtime.good('DEL', call);
  await runtime.expectNothing(call.netns);
});

describe('an ADD that fails leaves nothing', () => {
  it.concurrent.each([
    ['a port is taken', { portMappings: [mapping(17_091, 80, 'tcp')] }, 100, /17091/],
    [
      'two mappings are for one port',
      { portMappings: [mapping(17_092, 80, 'tcp'), mapping(17_092, 81, 'tcp')] },
      100,
      /17092/,
    ],
    ['there is no end of it', { dns: { searches: Array(300_000).fill('a.test') } }, 7, /longer than a command line/],
    ['a protocol is not supported', { portMappings: [mapping(17_093, 80, 'sctp')] }, 2, /sctp/],
  ] as const)('%s', async (what, runtimeConfig, code, says) => {
    const netns = await runtime.namespace();
    if (code === 100) {
      const server = runtime.side.spawn([
        ...script('forward.mjs'),
        'serve',
        JSON.stringify([{ protocol: 'tcp', address: '0.0.0.0', port: 17_091 }]),
      ]);
      await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, { what: 'a server' });
    }
    const { code: got, msg } = await runtime.bad('ADD', {
      id: what.replaceAll(' ', '-'),
      netns,
      config: withRuntime(runtimeConfig),
    });
    expect({ code: got, msg }).toEqual({ code, msg: expect.stringMatching(says) });
    await runtime.expectNothing(netns);
  });
  it('there is no such namespace, or an interface of that name', async () => {
    expect(await runtime.bad('ADD', { id: 'none', netns: '/run/netns/none' })).toMatchObject({ code: 3 });
    await runtime.side.run(['touch', '/run/netns/file']);
    await runtime.side.run(['mkfifo', '/run/fifo']);
    for (const netns of ['/run/netns/file', '/run/fifo'])
      expect(await runtime.bad('ADD', { id: 'none', netns })).toMatchObject({ code: 3 });
    const netns = await runtime.namespace();
    await runtime.inside(netns).run(['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'peer0']);
    expect(await runtime.bad('ADD', { id: 'none', netns })).toMatchObject({ code: 101 });
    expect(runtime.record(netns)).toBeNull();
    expect(runtime.processes(netns)).toEqual([]);
    expect(await runtime.interfaces(netns)).toEqual(['peer0', 'eth0']);
  });
});

it('the network of the host itself is refused, by whatever path, and is as it was', async () => {
  const look = () => lab.host.run(['sh', '-c', 'ip -o link; ip route; ip -6 route show default']);
  const [before, state] = [await look(), runtime.state()];
  await runtime.side.run(['sh', '-c', 'touch /run/netns/own && mount --bind /proc/self/ns/net /run/netns/own']);
  for (const netns of ['/proc/self/ns/net', '/run/netns/own']) {
    for (const env of [{}, { CNI_NETNS_OVERRIDE: '1' }])
      expect(await runtime.bad('ADD', { id: 'own', netns, env })).toMatchObject({ code: 8 });
    const plugin = join(REPOSITORY, 'dist/bin/pastiche-netavark');
    const given = {
      container_id: 'own',
      network: { name: 'n', id: 'i', driver: 'pastiche-netavark', subnets: [{ subnet: '10.0.2.0/24' }] },
      network_options: { interface_name: 'eth9' },
    };
    const setup = runtime.side.spawn([plugin, 'setup', netns], { input: JSON.stringify(given) });
    await setup.closed;
    expect(JSON.parse(setup.out())).toEqual({ error: expect.stringContaining("is the plugin's own") });
    const keeper = await runtime.side.attempt([
      join(REPOSITORY, 'dist/bin/pastiche'),
      'instance',
      'look',
      netns,
      'eth9',
    ]);
    expect(keeper).toMatchObject({ status: 78, stdout: '' });
  }
  expect(await look()).toBe(before);
  expect(runtime.state()).toEqual(state);
  await runtime.side.run(['sh', '-c', 'umount /run/netns/own && rm /run/netns/own']);
});

it('more published ports than an instance has rules are one range, in whatever order they come', async () => {
  const netns = await runtime.namespace();
  const portMappings = Array.from({ length: 300 }, (_, i) => mapping(17_599 - i, 17_599 - i, 'tcp'));
  const call = { id: 'range', netns, config: withRuntime({ portMappings }) };
  const prevResult = await runtime.good('ADD', call);
  await runtime.good('CHECK', { ...call, config: { ...call.config, prevResult } });
  await runtime.good('DEL', call);
});

describe('netavark: what is wrong is said with what is valid', () => {
  const network = { name: 'n', id: 'i', driver: 'pastiche-netavark' };
  const options = { interface_name: 'eth0' };
  it.each([
    ['{', ['create'], /^Standard input is not JSON \(.+\)$/],
    [{ ...network, name: 4 }, ['create'], /^name is 4: it has to be a string$/],
    [{ ...network, options: { mtu: 'x' } }, ['create'], /^mtu is "x": it has to be a whole number from 1280 to 65520/],
    [{ ...network, options: { dnsForward: 'on' } }, ['create'], /^dnsForward is "on": it has to be true or false/],
    [{ container_id: 'c', network }, ['teardown'], /^network_options is missing: it has to be an object$/],
    [
      {
        container_id: 'c',
        network,
        network_options: options,
        port_mappings: [{ container_port: 99_999, host_port: 1 }],
      },
      ['teardown'],
      /^port_mappings\.0\.container_port is 99999: it has to be a whole number from 1 to 65535$/,
    ],
  ])('%j %j', async (given, args, says) => {
    const input = typeof given === 'string' ? given : JSON.stringify(given);
    const plugin = runtime.side.spawn([join(REPOSITORY, 'dist/bin/pastiche-netavark'), ...args], { input });
    await plugin.closed;
    expect(JSON.parse(plugin.out())).toEqual({ error: expect.stringMatching(says) });
    expect(plugin.child.exitCode).toBe(1);
  });
});

describe('GC and STATUS', () => {
  it('GC does not wait for what another network has in work, and names what of its own it waited for', async () => {
    const state = runtime.state();
    const busy = '/run/pastiche/cni/00000000000000000000000000000000';
    const hung = runtime.side.spawn([
      ...['sh', '-c', `mkdir -p ${busy} && exec 3>${busy}/lock && flock 3 && echo locked && exec sleep 1000`],
    ]);
    await waitFor(() => hung.out().includes('locked'), { what: 'a call that hangs' });
    // Longer than it waits for a call that has not said of which network it is, far shorter than for one of its own.
    const done = runtime.start('GC', { config: { ...CONF, name: 'idle', 'cni.dev/valid-attachments': [] } });
    await waitFor(() => done.child.exitCode !== null, { what: 'the end of GC', timeoutMs: 20_000 });
    expect(runtime.read('GC', done, '1.1.0')).toMatchObject({ ok: true });
    hung.kill('SIGKILL');
    await hung.closed;
    await runtime.good('GC', { config: { ...CONF, name: 'idle', 'cni.dev/valid-attachments': [] } });
    expect(runtime.state()).toEqual(state);
  });
  it('GC ends what is not named, of its own network alone', async () => {
    const calls = await Promise.all(
      ['kept', 'lost-1', 'lost-2', 'other'].map(async (id) => {
        const call = {
          id,
          netns: await runtime.namespace(),
          config: { ...CONF, name: id === 'other' ? 'other-net' : 'gc-net' },
        };
        await runtime.good('ADD', call);
        return call;
      }),
    );
    const [kept, lost1, lost2, other] = calls as [
      (typeof calls)[0],
      (typeof calls)[0],
      (typeof calls)[0],
      (typeof calls)[0],
    ];
    const gc = (valid: readonly unknown[] | null) =>
      runtime.good('GC', {
        config: { ...CONF, name: 'gc-net', 'cni.dev/valid-attachments': valid, 'cni.dev/attachments': valid },
      });
    await gc([{ containerID: 'kept', ifname: 'eth0' }]);
    for (const { netns } of [lost1, lost2]) await runtime.expectNothing(netns);
    for (const { netns } of [kept, other]) expect(await runtime.interfaces(netns)).toEqual(['eth0']);
    expect(await runtime.bad('GC', { config: { ...CONF, name: 'gc-net' } })).toMatchObject({ code: 7 });
    await gc(null);
    await runtime.expectNothing(kept.netns);
    await runtime.good('DEL', other);
  });
  it('STATUS says what is in the way', async () => {
    await runtime.good('STATUS');
    // Others keep theirs beside it, as other users.
    expect(await runtime.side.run(['stat', '-c', '%a', '/run/pastiche', '/run/pastiche/cni'])).toBe('755\n700\n');
    const without = (what: string) =>
      runtime.side.within(['unshare', '--mount', '--', 'sh', '-c', `${what}; exec "$@"`, 'sh']);
    expect(await runtime.bad('STATUS', {}, without('mount -t tmpfs none /dev/net'))).toMatchObject({ code: 50 });
    expect(await runtime.bad('STATUS', {}, without('mount -t tmpfs -o ro none /run'))).toMatchObject({ code: 50 });
    for (const prepare of [
      'mkdir -m 777 -p /run/pastiche && mkdir -m 700 /run/pastiche/cni',
      'mkdir -p /run/pastiche && mkdir -m 777 /run/pastiche/cni',
      'mkdir -p /run/pastiche && mkdir -m 700 /run/other && ln -s ../other /run/pastiche/cni',
      'mkdir -p /run/pastiche/cni && chown 65534 /run/pastiche',
    ])
      expect(
        await runtime.bad('STATUS', {}, without(`umask 22; mount -t tmpfs none /run && ${prepare}`)),
      ).toMatchObject({
        code: 50,
        msg: expect.stringMatching(/^\/run\/pastiche(\/cni)? is not a directory that only this user may change/),
      });
    expect(await runtime.bad('STATUS', {}, runtime.side.within(['unshare', '--net', '--']))).toMatchObject({
      code: 51,
    });
  });
});

describe('the environment', () => {
  it('is asked for by name, and answered without a command', async () => {
    const netns = await runtime.namespace();
    const code = async (env: Record<string, string>) => {
      const { code, msg } = await runtime.bad('ADD', { id: 'e', netns, env });
      expect(msg).toContain(Object.keys(env)[0]);
      return code;
    };
    expect(await code({ CNI_CONTAINERID: '' })).toBe(4);
    expect(await code({ CNI_IFNAME: 'a/b' })).toBe(4);
    expect(await code({ CNI_COMMAND: 'add' })).toBe(4);
    expect(await runtime.bad('ADD', { id: 'e', netns: '/proc/self/ns/net' })).toMatchObject({ code: 8 });
    const about = await runtime.side.attempt([join(REPOSITORY, 'dist/bin/pastiche-cni')]);
    expect(about).toMatchObject({ status: 0, stdout: '', stderr: expect.stringContaining('CNI') });
  });
});

it('calls at the same time: one attachment never has two instances, and many stand beside each other', async () => {
  const netns = await runtime.namespace();
  const one = { id: 'contended', netns, config: { ...CONF, name: NETWORK } };
  const many = await Promise.all(
    Array.from({ length: 6 }, async (_, i) => ({ id: `many-${i}`, netns: await runtime.namespace() })),
  );
  const contended = ['ADD', 'ADD', 'DEL', 'ADD', 'DEL', 'ADD'] as const;
  const [answers] = await Promise.all([
    Promise.all(contended.map((command) => runtime.call(command, one))),
    Promise.all(many.map((call) => runtime.good('ADD', call))),
  ]);
  for (const { ok, error } of answers) expect(ok || error.code === 101).toBe(true);
  const launched = runtime.processes(netns).length;
  expect([0, 3]).toContain(launched);
  for (const call of many) expect(await runtime.interfaces(call.netns)).toEqual(['eth0']);
  await Promise.all([one, ...many].map((call) => runtime.good('DEL', call)));
  for (const call of [one, ...many]) await runtime.expectNothing(call.netns);
  expect(runtime.state()).toEqual([]);
});
