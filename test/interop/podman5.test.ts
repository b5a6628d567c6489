// SPDX-License-Identifier: Apache-2.0
/** Debian 13's Podman, which uses pasta unless told otherwise, with our programs in its helpers' directory. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { debianTree, TREES } from '../../scripts/lib/debian-tree.mjs';
import { ask, askOne, lookUp, PATIENCE_MS, SILENCE_MS, seen, serve } from '../support/forward-programs.ts';
import { type Lab, makeLab, NET, type Side } from '../support/lab.mjs';
import {
  type Container,
  gone,
  type Place,
  Podman,
  podmanMissing,
  processesWith,
  treePlace,
} from '../support/podman.ts';
import { finish, signalQuietly, waitFor } from '../support/process.mjs';
import { ECHO_PORT as SERVER_PORT, STREAM_PORT, streamServer } from '../support/programs.ts';

const missing = podmanMissing(['mmdebstrap', 'busybox']);
const LOOPBACK_PORT = 4711;
const SECOND = { v4: '192.0.2.77', v6: '2001:db8:1::77' };
const STREAM_BYTES = 16 << 20;
const CROWD = 10;
/** What stands for the host's own address in a container. */
const HOST_IN_CONTAINER = '169.254.1.2';
const RESOLVER_IN_CONTAINER = '169.254.1.1';

let lab: Lab;
let place: Place;
let podman: Podman;
let rootful: Podman;
/** The program of checked streams, outside. */
let stream = '';
/** Where it looks for programs: ours first. */
const engine = () => [`helper_binaries_dir = ["${place.programs}", "/usr/lib/podman", "/usr/libexec/podman"]`];
const both = (address: string, port: number) =>
  (['tcp', 'udp'] as const).map((protocol) => ({ protocol, address, port }));

beforeAll(async () => {
  if (missing !== '') return;
  lab = await makeLab();
  place = await treePlace(lab, debianTree(TREES.consumers));
  await Promise.all([
    (async () => {
      podman = await Podman.make(lab, place, 'user', { engine: engine() });
    })(),
    (async () => {
      rootful = await Podman.make(lab, place, 'root', { engine: engine() });
    })(),
    lab.host.run(['ip', 'address', 'add', `${SECOND.v4}/24`, 'dev', 'eth0']),
    lab.host.run(['ip', 'address', 'add', `${SECOND.v6}/64`, 'dev', 'eth0', 'nodad', 'preferred_lft', '0']),
    serve(lab.remote, [...both(NET.server4, SERVER_PORT), ...both(NET.server6, SERVER_PORT)]),
    serve(lab.host, [...both('127.0.0.1', LOOPBACK_PORT), ...both(NET.host4, LOOPBACK_PORT + 1)]),
    (async () => {
      stream = await streamServer(lab);
    })(),
  ]);
});
afterAll(() => lab?.cleanup());

const whomTheySee = async (side: Side, address: string, tcp: number, udp = tcp, patienceMs = PATIENCE_MS) => {
  const questions = [
    { protocol: 'tcp', address, port: tcp, patienceMs },
    { protocol: 'udp', address, port: udp, patienceMs },
  ] as const;
  return (await ask(side, questions)).map(seen);
};
const tcpAt = (address: string, ports: readonly number[]) =>
  ports.map((port) => ({ protocol: 'tcp', address, port, patienceMs: PATIENCE_MS }) as const);

interface Link {
  readonly ifname: string;
  readonly mtu: number;
  readonly address: string;
  readonly addr_info: readonly { readonly local: string; readonly scope: string; readonly prefixlen: number }[];
}
/** The container's interface that is not its loopback. */
const interfaceOf = async (container: Container) => {
  const links: Link[] = JSON.parse(await container.net.run(['ip', '-j', 'address']));
  const { ifname, mtu, address, addr_info } = links.find((link) => link.ifname !== 'lo') as Link;
  const global = addr_info.filter(({ scope }) => scope === 'global');
  return { name: ifname, mtu, mac: address, addresses: global.map((one) => `${one.local}/${one.prefixlen}`) };
};
const defaultRoute = async (container: Container, version: '-4' | '-6') =>
  (await container.net.run(['ip', version, 'route', 'show', 'default'])).trim();

describe.skipIf(missing !== '')('Podman 5.4', { concurrent: true }, () => {
  it('gives a container the network of the host: addresses, DNS, both families, both ways', async () => {
    // No --network: this is the default of an ordinary user.
    const plain = await podman.witness('plain', [], [80]);
    const { name, mtu, addresses } = await interfaceOf(plain);
    expect({ name, mtu }).toEqual({ name: 'eth0', mtu: 65_520 });
    expect(addresses).toEqual(expect.arrayContaining([`${NET.host4}/24`, `${NET.host6}/64`]));
    expect(await defaultRoute(plain, '-4')).toContain(`via ${NET.gateway4} dev eth0`);
    expect((await plain.exec(['cat', '/etc/resolv.conf'])).split('\n')).toContain(
      `nameserver ${RESOLVER_IN_CONTAINER}`,
    );
    expect(await plain.exec(['nslookup', NET.name])).toContain(NET.server4);
    expect(await lookUp(plain.net, 'tcp', RESOLVER_IN_CONTAINER, NET.name)).toBe(NET.server4);
    expect(await plain.exec(['cat', '/etc/hosts'])).toMatch(
      new RegExp(`^${HOST_IN_CONTAINER}\\s.*host\\.containers\\.internal`, 'm'),
    );
    for (const [server, host] of [
      [NET.server4, NET.host4],
      [NET.server6, NET.host6],
    ] as const)
      expect(await whomTheySee(plain.net, server, SERVER_PORT)).toEqual([host, host]);
    for (const way of ['down', 'up'])
      await plain.exec(['stream', way, NET.server4, String(STREAM_PORT), String(STREAM_BYTES), '5']);
    for (const way of ['down', 'up'])
      await plain.exec(['stream', way, NET.server6, String(STREAM_PORT), String(STREAM_BYTES), '6']);
    // host.containers.internal is the host's own address; its loopback is closed.
    expect(await whomTheySee(plain.net, HOST_IN_CONTAINER, LOOPBACK_PORT + 1)).toEqual([NET.host4, NET.host4]);
    for (const address of [NET.gateway4, HOST_IN_CONTAINER])
      for (const answer of await whomTheySee(plain.net, address, LOOPBACK_PORT, LOOPBACK_PORT, SILENCE_MS))
        expect(answer).toMatch(/^E[A-Z]+$|silence/);
    const sandbox = await podman.sandbox('plain');
    const ours = processesWith(lab, `${place.programs}/pasta --config-net`);
    expect(processesWith(lab, sandbox).filter((pid) => ours.includes(pid)).length).toBeGreaterThan(1);
    await podman.remove('plain');
    await gone(lab, sandbox);
  });

  it('publishes ports: TCP, UDP, ranges, of one address, IPv6, and with the source address kept', async () => {
    const published = ['8000:80', '8001:81/udp', '8002-8004:90-92', '127.0.0.1:8005:80', `${SECOND.v4}:8006:80`];
    const six = [`[${NET.host6}]:8007:80`, '[::1]:8008:80'];
    const flags = [...published, ...six].flatMap((port) => ['-p', port]);
    await podman.witness('ports', ['--network', 'pasta', ...flags], [80, 81, 90, 91, 92]);
    expect(await whomTheySee(lab.remote, NET.host4, 8000, 8001)).toEqual([NET.gateway4, NET.gateway4]);
    expect(await whomTheySee(lab.remote, NET.host6, 8000, 8001)).toEqual([NET.gateway6, NET.gateway6]);
    const remote = [
      ...tcpAt(NET.host4, [8002, 8003, 8004, 8005, 8006]),
      ...tcpAt(SECOND.v4, [8006]),
      ...tcpAt(NET.host6, [8007, 8008]),
    ];
    expect((await ask(lab.remote, remote)).map(seen)).toEqual([
      ...Array(3).fill(NET.gateway4),
      'ECONNREFUSED',
      'ECONNREFUSED',
      NET.gateway4,
      NET.gateway6,
      'ECONNREFUSED',
    ]);
    const local = [...tcpAt('127.0.0.1', [8000, 8005]), ...tcpAt('::1', [8008])];
    for (const answer of (await ask(lab.host, local)).map(seen)) expect(answer).not.toMatch(/^E|silence|reset/);

    const taken = await podman.tryStart('taken', ['--network', 'pasta', '-p', '8000:80']);
    expect(taken).toMatchObject({ status: 126, timedOut: false });
    expect(taken.stderr).toContain('pasta failed with exit code 1:');
    expect(taken.stderr).toContain('TCP port 8000: address already in use');
    await podman.remove('taken');
    // The next one binds the ports while the one before ends.
    for (let restarts = 0; restarts < 3; restarts++) await podman.run(['restart', '-t', '0', 'ports']);
    await podman.listening(await podman.container('ports'), [80, 81]);
    expect(await whomTheySee(lab.remote, NET.host4, 8000, 8001)).toEqual([NET.gateway4, NET.gateway4]);
    await podman.remove('ports');
  });

  const mac = '9a:dd:31:ea:92:98';
  const OPTIONS: readonly (readonly [string, (container: Container) => Promise<void>])[] = [
    [
      '-a,192.0.2.20,-g,192.0.2.1,-n,25,-m,1280',
      async (container) => {
        const { mtu, addresses } = await interfaceOf(container);
        expect(mtu).toBe(1280);
        expect(addresses).toContain('192.0.2.20/25');
        expect(await defaultRoute(container, '-4')).toContain('via 192.0.2.1 ');
        expect(await container.exec(['cat', '/etc/hosts'])).toContain('192.0.2.20');
      },
    ],
    [
      `-a,2001:db8:1::20,-g,2001:db8:1::1,-I,inside,--ns-mac-addr,${mac}`,
      async (container) => {
        const { name, mac: own, addresses } = await interfaceOf(container);
        expect({ name, own }).toEqual({ name: 'inside', own: mac });
        expect(addresses).toContain('2001:db8:1::20/64');
        expect(await defaultRoute(container, '-6')).toContain('via 2001:db8:1::1 ');
        expect(await whomTheySee(container.net, NET.server6, SERVER_PORT)).toEqual([NET.host6, NET.host6]);
      },
    ],
    [
      '-4',
      async (container) => {
        const { addresses } = await interfaceOf(container);
        expect(addresses).toContain(`${NET.host4}/24`);
        expect(addresses.join(' ')).not.toContain(':');
      },
    ],
    [
      '-6',
      async (container) => {
        expect((await interfaceOf(container)).addresses).toEqual([`${NET.host6}/64`]);
        // Without IPv4 there is nothing for 169.254.1.1 and 169.254.1.2.
        expect(await container.exec(['cat', '/etc/resolv.conf'])).not.toContain('169.254');
      },
    ],
    [
      '--dns-forward,198.51.100.53,--map-guest-addr,192.0.2.99',
      async (container) => {
        expect(await container.exec(['cat', '/etc/resolv.conf'])).toMatch(/^nameserver 198\.51\.100\.53$/m);
        expect(await lookUp(container.net, 'udp', '198.51.100.53', NET.name)).toBe(NET.server4);
        expect(await container.exec(['cat', '/etc/hosts'])).toMatch(/^192\.0\.2\.99\s.*host\.containers\.internal/m);
        expect(seen(await askOne(container.net, 'tcp', '192.0.2.99', LOOPBACK_PORT + 1))).toBe(NET.host4);
      },
    ],
    [
      '--map-gw,-T,4711,-U,4711',
      async (container) => {
        expect(await whomTheySee(container.net, NET.gateway4, LOOPBACK_PORT)).toEqual(['127.0.0.1', '127.0.0.1']);
        expect(await whomTheySee(container.net, '127.0.0.1', LOOPBACK_PORT)).toEqual(['127.0.0.1', '127.0.0.1']);
      },
    ],
  ];
  it.each(OPTIONS)('takes --network pasta:%s', async (options, check) => {
    const name = `o${OPTIONS.findIndex(([each]) => each === options)}`;
    await check(await podman.start(name, ['--network', `pasta:${options}`]));
    await podman.remove(name);
  });

  it('takes ports of an interface, and a PID file, as options; the process ends with the namespace', async () => {
    const file = `${podman.runtime}/pasta-of-given.pid`;
    const ports = `--tcp-ports,${NET.host4}%eth0/8101:80,--udp-ports,${NET.host6}%eth0/8102:81`;
    await podman.witness('given', ['--network', `pasta:${ports},--pid,${file}`], [80, 81]);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, 8101))).toBe(NET.gateway4);
    expect(seen(await askOne(lab.remote, 'udp', NET.host6, 8102))).toBe(NET.gateway6);
    const pid = (await podman.beside(['cat', file])).stdout.trim();
    expect((await podman.beside(['cat', `/proc/${pid}/comm`])).stdout.trim()).toBe('pasta');
    await podman.remove('given');
    await waitFor(async () => (await podman.beside(['test', '-d', `/proc/${pid}`])).status !== 0, {
      what: 'the end of the process that the PID file names',
      timeoutMs: 5000,
    });
  });

  it('takes options from containers.conf, and later ones win', async () => {
    const other = await Podman.make(lab, place, 'user', {
      name: 'conf',
      env: { CONTAINERS_HELPER_BINARY_DIR: place.programs },
      network: [`pasta_options = ["-I", "myname", "--ns-mac-addr", "${mac}"]`],
    });
    const conf = await other.start('conf', []);
    expect(processesWith(lab, `${place.programs}/pasta --config-net -I myname`).length).toBeGreaterThan(1);
    expect(await interfaceOf(conf)).toMatchObject({ name: 'myname', mac });
    const later = await other.start('later', ['--network', 'pasta:--ns-mac-addr,aa:bb:cc:dd:ee:ff']);
    expect(await interfaceOf(later)).toMatchObject({ name: 'myname', mac: 'aa:bb:cc:dd:ee:ff' });
    await other.remove('conf', 'later');
  });

  it.each([
    ['an option that is not there', 'pasta:--bogus', [], "pasta: unrecognized option '--bogus'"],
    ['a bad address', 'pasta:-a,nowhere', [], 'nowhere'],
    ['a protocol that Podman refuses itself', 'pasta', ['-p', '8110:80/sctp'], "can't forward protocol: sctp"],
  ])('shows what is wrong with %s', async (what, network, flags, sentence) => {
    const name = `wrong-${what.split(' ').at(-1)}`;
    const done = await podman.tryStart(name, ['--network', network, ...flags]);
    expect(done).toMatchObject({ status: 126, timedOut: false });
    expect(done.stderr).toContain(sentence);
    await podman.remove(name);
  });

  it('runs a command to its end in the foreground, with its output and status', async () => {
    const network = ['--network', 'pasta:-I,short0'];
    const done = await podman.foreground(network, ['sh', '-c', `nslookup ${NET.name} && exit 7`], {
      timeoutMs: 15_000,
    });
    expect(done).toMatchObject({ status: 7, timedOut: false });
    expect(done.stdout).toContain(NET.server4);
    await gone(lab, '-I short0');
  });

  it('lives on when its network is killed, and leaves nothing', async () => {
    const killed = await podman.witness('killed', ['-p', '8120:80'], [80]);
    const sandbox = await podman.sandbox('killed');
    signalQuietly(Math.min(...processesWith(lab, sandbox)), 'SIGKILL');
    await gone(lab, sandbox);
    expect((await killed.exec(['hostname'])).trim()).not.toBe('');
    await podman.run(['restart', '-t', '0', 'killed']);
    await podman.listening(await podman.container('killed'), [80]);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, 8120))).toBe(NET.gateway4);
    await podman.remove('killed');
  });

  it('has no network left when Podman is killed while it starts', async () => {
    const starting = podman.starting('halfway', ['--network', 'pasta:-I,halfway0']);
    await waitFor(() => processesWith(lab, '-I halfway0').length > 0, { what: 'the network process', everyMs: 1 });
    for (const pid of processesWith(lab, ' --name halfway ')) signalQuietly(pid, 'SIGKILL');
    await finish(starting, {});
    await podman.remove('halfway');
    await gone(lab, '-I halfway0');
  });

  it('puts containers of an ordinary user on a bridge, with names, ports and the outside', async () => {
    const own = await Podman.make(lab, place, 'user', { name: 'bridge', engine: engine() });
    await own.run(['network', 'create', 'lan']);
    const web = await own.witness('web', ['--network', 'lan', '-p', '8130:80'], [80]);
    const client = await own.start('client', ['--network', 'lan']);
    // aardvark-dns knows the names, and asks our resolver for the others.
    expect(await client.exec(['nslookup', 'web'])).toMatch(/Address: 10\.89\./);
    expect(await client.exec(['nslookup', NET.name])).toContain(NET.server4);
    expect(await whomTheySee(web.net, NET.server4, SERVER_PORT)).toEqual([NET.host4, NET.host4]);
    await client.exec(['stream', 'down', NET.server4, String(STREAM_PORT), String(STREAM_BYTES), '8']);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, 8130))).toMatch(/^10\.89\./);
    expect(processesWith(lab, '/rootless-netns/').length).toBeGreaterThan(1);
    await own.remove('web', 'client');
    // The network's process is told to end by the PID of its file when the last container is gone.
    await gone(lab, '/rootless-netns/');
  });

  it('still has slirp4netns, for an ordinary user and for root', async () => {
    for (const [one, port] of [
      [podman, 8140],
      [rootful, 8141],
    ] as const) {
      const options = 'port_handler=slirp4netns,mtu=9000';
      const old = await one.witness('old', ['--network', `slirp4netns:${options}`, '-p', `${port}:80`], [80]);
      expect(await interfaceOf(old)).toMatchObject({ name: 'tap0', mtu: 9000 });
      expect(await whomTheySee(old.net, NET.server4, SERVER_PORT)).toEqual([NET.host4, NET.host4]);
      expect(seen(await askOne(lab.remote, 'tcp', NET.host4, port))).toBe(NET.gateway4);
      expect(await old.exec(['nslookup', NET.name])).toContain(NET.server4);
      const sandbox = await one.sandbox('old');
      await one.remove('old');
      await gone(lab, sandbox);
    }
  });

  it('refuses pasta for root by itself', async () => {
    const done = await rootful.tryStart('refused', ['--network', 'pasta']);
    expect(done).toMatchObject({ status: 125, timedOut: false });
    expect(done.stderr).toContain('pasta networking is only supported for rootless mode');
  });

  it('carries large transfers into a container, from other hosts and from the loopback', async () => {
    await podman.start('large', ['-p', '8160:7100'], ['stream', 'serve', '0.0.0.0', '7100']);
    const from = [
      [lab.remote, NET.host4],
      [lab.host, '127.0.0.1'],
      [lab.host, NET.host4],
    ] as const;
    await podman.listening(await podman.container('large'), [7100]);
    for (const [side, address] of from)
      for (const way of ['down', 'up', 'half'])
        await side.run([stream, way, address, '8160', String(STREAM_BYTES), '3']);
    await podman.remove('large');
  });

  it('takes it for the root of a user namespace, as in a container', async () => {
    const shell = podman.nested(`
      podman run -d --name inner --cgroups=disabled --network pasta -p 8150:80 --rootfs $rootfs witness 80 && echo running
      cat
      podman rm -f -t 0 inner && echo removed`);
    await waitFor(() => shell.out().includes('running') || shell.err().includes('Error'), { what: 'a nested Podman' });
    expect(shell.err()).not.toContain('Error');
    expect(processesWith(lab, '-t 8150-8150:80-80').length).toBeGreaterThan(1);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, 8150))).toBe(NET.gateway4);
    shell.child.stdin?.end();
    expect((await finish(shell, {})).stdout).toContain('removed');
    await gone(lab, '-t 8150-8150:80-80');
  });

  it('builds with Buildah, whose steps have a network of their own', async () => {
    const said = await podman.build(
      `nslookup ${NET.name} && stream down ${NET.server4} ${STREAM_PORT} ${STREAM_BYTES} 9 && cat /etc/resolv.conf && ip address`,
    );
    expect(said).toContain(`nameserver ${RESOLVER_IN_CONTAINER}`);
    expect(said).toMatch(new RegExp(`inet ${NET.host4}/24 .* eth0`));
    await gone(lab, '--netns /proc/');
  });

  it(`runs ${CROWD} containers at once`, async () => {
    const names = Array.from({ length: CROWD }, (_, i) => `crowd${i}`);
    await Promise.all(names.map((name, i) => podman.witness(name, ['-p', `${8200 + i}:80`], [80])));
    const answers = await ask(
      lab.remote,
      tcpAt(
        NET.host4,
        names.map((_, i) => 8200 + i),
      ),
    );
    expect(answers.map(seen)).toEqual(names.map(() => NET.gateway4));
    await podman.remove(...names);
  });
});

it.skipIf(missing !== '')('nothing of any network is left: no process, mount or namespace', async () => {
  for (const each of [podman, rootful]) expect((await each.run(['ps', '-aq'])).trim()).toBe('');
  await gone(lab, place.programs);
  const mounts = await podman.run(['unshare', 'cat', '/proc/self/mountinfo']);
  expect(mounts).not.toMatch(/netns-/);
});
