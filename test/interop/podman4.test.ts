// SPDX-License-Identifier: Apache-2.0
/** Debian 12's Podman with our slirp4netns, as root and as an ordinary user. */
import { readlinkSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ask, askOne, lookUp, PATIENCE_MS, SILENCE_MS, seen, serve } from '../support/forward-programs.ts';
import { type Lab, makeLab, NET, type Side } from '../support/lab.mjs';
import {
  type Container,
  gone,
  machinePlace,
  type Place,
  Podman,
  podmanMissing,
  processesWith,
} from '../support/podman.ts';
import { finish, signalQuietly, waitFor } from '../support/process.mjs';
import { ECHO_PORT as SERVER_PORT, STREAM_PORT, streamServer } from '../support/programs.ts';

const missing = podmanMissing(['podman', 'crun', 'conmon', 'newuidmap', 'busybox', 'catatonit', 'buildah']);
/** Another slirp4netns than ours, to see what these tests say of it. */
const OTHER = process.env['PASTICHE_TEST_SLIRP'];
const LOOPBACK_PORT = 4711;
const SECOND = { v4: '192.0.2.77', v6: '2001:db8:1::77' };
const STREAM_BYTES = 8 << 20;
const CROWD = 20;

let lab: Lab;
let place: Place;
const podmen = {} as Record<'root' | 'user', Podman>;

beforeAll(async () => {
  if (missing !== '') return;
  lab = await makeLab();
  place = await machinePlace(lab);
  const engine = [`network_cmd_path = "${programs()}/slirp4netns"`];
  const both = (address: string, port: number) =>
    (['tcp', 'udp'] as const).map((protocol) => ({ protocol, address, port }));
  await Promise.all([
    ...(['root', 'user'] as const).map(async (who) => {
      podmen[who] = await Podman.make(lab, place, who, { engine });
    }),
    lab.host.run(['ip', 'address', 'add', `${SECOND.v4}/24`, 'dev', 'eth0']),
    // Deprecated: not chosen by itself.
    lab.host.run(['ip', 'address', 'add', `${SECOND.v6}/64`, 'dev', 'eth0', 'nodad', 'preferred_lft', '0']),
    serve(lab.remote, [...both(NET.server4, SERVER_PORT), ...both(NET.server6, SERVER_PORT)]),
    serve(lab.host, both('127.0.0.1', LOOPBACK_PORT)),
    streamServer(lab),
  ]);
});
afterAll(() => lab?.cleanup());

/** The directory of the slirp4netns under test. */
const programs = () => (OTHER === undefined ? place.programs : dirname(OTHER));
/** What servers see that are asked by TCP and by UDP, in this order. */
const whomTheySee = async (side: Side, address: string, tcp: number, udp = tcp, patienceMs = PATIENCE_MS) => {
  const questions = [
    { protocol: 'tcp', address, port: tcp, patienceMs },
    { protocol: 'udp', address, port: udp, patienceMs },
  ] as const;
  return (await ask(side, questions)).map(seen);
};
/** MTU and global addresses of the container's interface. */
const interfaceOf = async (container: Container) => {
  const [link] = JSON.parse(await container.net.run(['ip', '-j', 'address', 'show', 'tap0']));
  const of = (family: string): string[] =>
    link.addr_info
      .filter((one: { family: string; scope: string }) => one.family === family && one.scope === 'global')
      .map((one: { local: string; prefixlen: number }) => `${one.local}/${one.prefixlen}`);
  return { mtu: link.mtu, v4: of('inet'), v6: of('inet6') };
};
/** The executable that a process was started as. */
const program = (pid: number): string => readlinkSync(`/proc/${pid}/exe`);
/** The processes of a container's network. */
const networkProcess = async (podman: Podman, name: string): Promise<{ sandbox: string; pids: number[] }> => {
  const sandbox = await podman.sandbox(name);
  return { sandbox, pids: processesWith(lab, sandbox) };
};

const SLIRP = 'slirp4netns';
const PORTS = { root: 8000, user: 9000 };

describe.skipIf(missing !== '').each(['root', 'user'] as const)('Podman 4.3 of %s', { concurrent: true }, (who) => {
  const first = PORTS[who];

  it('gives a container its network, and ports by its own handler', async () => {
    const podman = podmen[who];
    const published = ['-p', `${first}:80`, '-p', `${first + 1}:81/udp`, '-p', `127.0.0.1:${first + 2}:80`];
    const web = await podman.witness('web', ['--network', SLIRP, ...published], [80, 81]);
    expect(await interfaceOf(web)).toMatchObject({ mtu: 65_520, v4: ['10.0.2.100/24'], v6: [/^fd00::.*\/64$/] });
    expect(await web.net.run(['ip', 'route', 'show', 'default'])).toContain('via 10.0.2.2 dev tap0');
    expect((await web.exec(['cat', '/etc/resolv.conf'])).split('\n')).toContain('nameserver 10.0.2.3');
    expect(await web.exec(['nslookup', NET.name])).toContain(NET.server4);
    expect(await lookUp(web.net, 'tcp', '10.0.2.3', NET.name)).toBe(NET.server4);
    expect(await lookUp(web.net, 'udp', 'fd00::3', NET.name)).toBe(NET.server4);

    expect(await whomTheySee(web.net, NET.server4, SERVER_PORT)).toEqual([NET.host4, NET.host4]);
    expect(await whomTheySee(web.net, NET.server6, SERVER_PORT)).toEqual([NET.host6, NET.host6]);
    for (const way of ['down', 'up'])
      await web.exec(['stream', way, NET.server4, String(STREAM_PORT), String(STREAM_BYTES), '7']);
    // Its handler answers for the container: the address that is seen is the handler's.
    for (const answer of await whomTheySee(lab.remote, NET.host4, first, first + 1)) expect(answer).toMatch(/^[\d.]+$/);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, first + 2))).toBe('ECONNREFUSED');
    // The host's loopback is closed unless an option opens it.
    for (const answer of await whomTheySee(web.net, '10.0.2.2', LOOPBACK_PORT, LOOPBACK_PORT, SILENCE_MS))
      expect(answer).toMatch(/^E[A-Z]+$|silence/);
    const { sandbox } = await networkProcess(podman, 'web');
    await podman.remove('web');
    await gone(lab, sandbox);
  });

  it('passes every option on, and ports through the API socket with the source address kept', async () => {
    const podman = podmen[who];
    const options = 'port_handler=slirp4netns,allow_host_loopback=true,cidr=10.9.8.0/24,mtu=1400,enable_ipv6=false';
    const published = [
      '-p',
      `${first + 10}:80`,
      '-p',
      `${first + 11}:81/udp`,
      '-p',
      `${first + 12}-${first + 14}:90-92`,
    ];
    const web = await podman.witness('api', ['--network', `${SLIRP}:${options}`, ...published], [80, 81, 90, 91, 92]);
    expect(await interfaceOf(web)).toEqual({ mtu: 1400, v4: ['10.9.8.100/24'], v6: [] });
    expect((await web.exec(['cat', '/etc/resolv.conf'])).split('\n')).toContain('nameserver 10.9.8.3');
    expect(await whomTheySee(web.net, '10.9.8.2', LOOPBACK_PORT)).toEqual(['127.0.0.1', '127.0.0.1']);
    expect(await whomTheySee(lab.remote, NET.host4, first + 10, first + 11)).toEqual([NET.gateway4, NET.gateway4]);
    const range = [12, 13, 14].map((port) => ({
      protocol: 'tcp' as const,
      address: NET.host4,
      port: first + port,
      patienceMs: PATIENCE_MS,
    }));
    expect((await ask(lab.remote, range)).map(seen)).toEqual([NET.gateway4, NET.gateway4, NET.gateway4]);
    // A client on the host's loopback has the gateway's address.
    expect(seen(await askOne(lab.host, 'tcp', '127.0.0.1', first + 10))).toBe('10.9.8.2');

    const taken = await podman.tryStart('taken', [
      '--network',
      `${SLIRP}:port_handler=slirp4netns`,
      '-p',
      `${first + 10}:80`,
    ]);
    expect(taken).toMatchObject({ status: 126, timedOut: false });
    expect(taken.stderr).toContain('slirp_add_hostfwd failed');
    const id = (await podman.run(['inspect', '--format', '{{.Id}}', 'api'])).trim();
    const socket = () => podman.beside(['sh', '-c', `find "$XDG_RUNTIME_DIR" -name ${id}.net`]);
    expect((await socket()).stdout).toContain(id);
    const { sandbox } = await networkProcess(podman, 'api');
    await place.side.run(['sh', '-c', `kill -KILL ${web.pid}`]);
    await gone(lab, sandbox);
    await podman.remove('taken', 'api');
    // The original cannot remove it in its sandbox.
    if (OTHER === undefined)
      await waitFor(async () => (await socket()).stdout === '', { what: 'the API socket to be gone' });
  });

  it('leaves by the address that it is told', async () => {
    const podman = podmen[who];
    const out = await podman.start('out', [
      '--network',
      `${SLIRP}:outbound_addr=${SECOND.v4},outbound_addr6=${SECOND.v6},enable_ipv6=true`,
    ]);
    expect(await whomTheySee(out.net, NET.server4, SERVER_PORT)).toEqual([SECOND.v4, SECOND.v4]);
    expect(await whomTheySee(out.net, NET.server6, SERVER_PORT)).toEqual([SECOND.v6, SECOND.v6]);

    // conmon holds the end of the pipe that keeps the network.
    const { sandbox } = await networkProcess(podman, 'out');
    const conmon = (await podman.run(['inspect', '--format', '{{.State.ConmonPid}}', 'out'])).trim();
    await place.side.run(['sh', '-c', `kill -KILL ${conmon}`]);
    await gone(lab, sandbox);
    await podman.remove('out');
  });
});

describe.skipIf(missing !== '')('Podman 4.3', { concurrent: true }, () => {
  it('shows our sentence when the network cannot be made, and nothing runs', async () => {
    const podman = podmen.user;
    const done = await podman.tryStart('bad', ['--network', `${SLIRP}:cidr=10.0.2.0/26`]);
    expect(done).toMatchObject({ status: 126, timedOut: false });
    expect(done.stderr).toContain('prefix length needs to be 1-25');
    expect(processesWith(lab, '10.0.2.0/26')).toEqual([]);
    await podman.remove('bad');
  });

  it('stops, starts and restarts a container with published ports, also one whose network was killed', async () => {
    const podman = podmen.user;
    const port = 9000 + 20;
    await podman.witness('again', ['--network', `${SLIRP}:port_handler=slirp4netns`, '-p', `${port}:80`], [80]);
    for (const verbs of [[['stop', '-t', '0'], ['start']], [['restart', '-t', '0']]]) {
      const before = await networkProcess(podman, 'again');
      expect(before.pids.length).toBeGreaterThan(0);
      for (const verb of verbs) {
        await podman.run([...verb, 'again']);
        if (verb[0] === 'stop') await gone(lab, before.sandbox);
      }
      await podman.listening(await podman.container('again'), [80]);
      await gone(lab, before.sandbox);
      expect(seen(await askOne(lab.remote, 'tcp', NET.host4, port))).toBe(NET.gateway4);
    }
    const { sandbox, pids } = await networkProcess(podman, 'again');
    signalQuietly(Math.min(...pids), 'SIGKILL');
    await gone(lab, sandbox);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, port))).toBe('ECONNREFUSED');
    const web = await podman.container('again');
    expect((await web.exec(['hostname'])).trim()).not.toBe('');
    await podman.run(['restart', '-t', '0', 'again']);
    await podman.listening(await podman.container('again'), [80]);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, port))).toBe(NET.gateway4);
    await podman.remove('again');
  });

  it('shares one network among containers', async () => {
    const podman = podmen.user;
    const port = 9000 + 30;
    const network = ['--network', `${SLIRP}:port_handler=slirp4netns`, '-p', `${port}:80`];
    const shared = await podman.start('shared', network);
    const web = await podman.witness('sharer', ['--network', 'container:shared'], [80]);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, port))).toBe(NET.gateway4);
    expect(await web.exec(['nslookup', NET.name])).toContain(NET.server4);
    expect(seen(await askOne(shared.net, 'tcp', '127.0.0.1', 80))).toBe('127.0.0.1');
    await podman.remove('sharer');
    await podman.remove('shared');
  });

  it('has no network left when Podman is killed while it starts', async () => {
    const podman = podmen.user;
    const cidr = '10.77.0.0/24';
    const starting = podman.starting('halfway', ['--network', `${SLIRP}:cidr=${cidr}`]);
    await waitFor(() => processesWith(lab, `--cidr=${cidr}`).length > 0, { what: 'the network process', everyMs: 1 });
    for (const pid of processesWith(lab, ' halfway ')) signalQuietly(pid, 'SIGKILL');
    await finish(starting, {});
    // It may have come far enough for the container to run: then that is what has to end.
    await podman.remove('halfway');
    await gone(lab, `--cidr=${cidr}`);
  });

  it('finds it by the name slirp4netns on PATH, and in a pod', async () => {
    const podman = await Podman.make(lab, place, 'user', { path: `${programs()}:`, name: 'path' });
    const network = ['--network', `${SLIRP}:port_handler=slirp4netns,mtu=1411`, '-p', '9100:80'];
    await podman.run(['pod', 'create', '--name', 'pod', '--share', 'net', ...network]);
    const web = await podman.witness('in-pod', ['--pod', 'pod'], [80]);
    const started = processesWith(lab, '--mtu=1411').map(program);
    expect(started).toContain(realpathSync(`${programs()}/slirp4netns`));
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, 9100))).toBe(NET.gateway4);
    expect(await web.exec(['nslookup', NET.name])).toContain(NET.server4);
    await podman.run(['pod', 'rm', '-f', '-t', '0', 'pod']);
  });

  it('puts containers of an ordinary user on a bridge, whose network is one process for all', async () => {
    const own = await Podman.make(lab, place, 'user', { path: `${programs()}:`, name: 'bridge' });
    await own.run(['network', 'create', 'lan']);
    const web = await own.witness('web', ['--network', 'lan', '-p', '9110:80'], [80]);
    const client = await own.start('client', ['--network', 'lan']);
    expect(processesWith(lab, '/rootless-netns-').length).toBeGreaterThan(0);
    expect(await whomTheySee(client.net, NET.server4, SERVER_PORT)).toEqual([NET.host4, NET.host4]);
    await web.exec(['stream', 'down', NET.server4, String(STREAM_PORT), String(STREAM_BYTES), '8']);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, 9110))).toMatch(/^[\d.]+$/);
    await own.remove('web', 'client');
    // It is told to end by its PID when the last container is gone.
    await gone(lab, '/rootless-netns-');
  });

  it('builds with Buildah, whose steps have a network of their own', async () => {
    const builder = await Podman.make(lab, place, 'user', { path: `${programs()}:`, name: 'build' });
    const said = await builder.build(`stream down ${NET.server4} ${STREAM_PORT} ${STREAM_BYTES} 9 && ip address`);
    expect(said).toMatch(/inet 10\.0\.2\.100\/24 .* tap0/);
  });

  it(`runs ${CROWD} containers at once`, async () => {
    const podman = podmen.user;
    const names = Array.from({ length: CROWD }, (_, i) => `crowd${i}`);
    const crowd = await Promise.all(
      names.map((name, i) =>
        podman.witness(name, ['--network', `${SLIRP}:port_handler=slirp4netns`, '-p', `${9200 + i}:80`], [80]),
      ),
    );
    const questions = crowd.map((_, i) => ({
      protocol: 'tcp' as const,
      address: NET.host4,
      port: 9200 + i,
      patienceMs: PATIENCE_MS,
    }));
    expect((await ask(lab.remote, questions)).map(seen)).toEqual(crowd.map(() => NET.gateway4));
    await podman.remove(...names);
  });
});

it.skipIf(missing !== '')('nothing of any network is left: no process, mount or namespace', async () => {
  for (const podman of [podmen.root, podmen.user]) expect((await podman.run(['ps', '-aq'])).trim()).toBe('');
  await gone(lab, 'slirp4netns');
  await gone(lab, 'controller.cjs');
  const mounts = [
    await place.side.run(['cat', '/proc/self/mountinfo']),
    await podmen.user.run(['unshare', 'cat', '/proc/self/mountinfo']),
  ];
  for (const text of mounts) expect(text).not.toMatch(/netns-|slirp/);
});
