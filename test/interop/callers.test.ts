// SPDX-License-Identifier: Apache-2.0
/**
 * The command lines of programs that start pasta and pesto, each as it is written there, in the namespaces of a rootless
 * container engine. What these read until its end closes with the launched process: `attempt` waits for exactly that.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ask, askOne, lookUp, PATIENCE_MS, seen, serve } from '../support/forward-programs.ts';
import { compile, isRoot, type Lab, makeLab, NET, type Side } from '../support/lab.mjs';
import { gone, labPid, processesWith } from '../support/podman.ts';
import { descriptors, type Started, signalQuietly, waitFor } from '../support/process.mjs';
import { ECHO_PORT as SERVER_PORT } from '../support/programs.ts';

const SECOND = { v4: '192.0.2.77', v6: '2001:db8:1::77' };
const AS_USER_0 = isRoot ? ['-S', '0', '-G', '0'] : ['--preserve-credentials'];

let lab: Lab;
/** In the user and mount namespace of a rootless engine, where the programs are started. */
let engine: Side;
let witness = '';
let pesto = '';
beforeAll(async () => {
  lab = await makeLab();
  const holder = lab.user.spawn(
    [
      'unshare',
      '--user',
      '--map-root-user',
      '--mount',
      'sh',
      '-c',
      'mount -t tmpfs engine /mnt && echo made; exec cat',
    ],
    { stdin: 'pipe' },
  );
  await waitFor(() => holder.out().includes('made'), { what: 'the namespaces of an engine' });
  engine = lab.host.within(['nsenter', '-t', labPid(holder.pid()), '-U', ...AS_USER_0, '-m', '--']);
  witness = await compile('test/support/witness.c', join(lab.dir, 'witness'));
  pesto = join(lab.binary, '../pesto');
  const both = (address: string) =>
    (['tcp', 'udp'] as const).map((protocol) => ({ protocol, address, port: SERVER_PORT }));
  await Promise.all([
    lab.host.run(['ip', 'address', 'add', `${SECOND.v4}/24`, 'dev', 'eth0']),
    lab.host.run(['ip', 'address', 'add', `${SECOND.v6}/64`, 'dev', 'eth0', 'nodad', 'preferred_lft', '0']),
    serve(lab.remote, [...both(NET.server4), ...both(NET.server6)]),
  ]);
});
afterAll(() => lab?.cleanup());

/** A network namespace at a path, as engines make one, and what runs in it. */
interface Namespace {
  readonly path: string;
  readonly side: Side;
}
const namespaceNamed = async (name: string): Promise<Namespace> => {
  const path = `/mnt/netns-${name}`;
  await engine.run(['sh', '-c', `touch ${path} && unshare --net=${path} true`]);
  return { path, side: engine.within(['nsenter', `--net=${path}`, '--']) };
};
const remove = (path: string) => engine.run(['sh', '-c', `umount ${path} && rm ${path}`]);
const listen = async (side: Side, ports: readonly number[]): Promise<Started> => {
  const server = side.spawn([witness, ...ports.map(String)]);
  await waitFor(() => server.out().includes('listening'), { what: 'the servers in the namespace' });
  return server;
};

interface Address {
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
  readonly tentative?: boolean;
}
/** The first interface that is not the loopback: what an engine reads the moment that pasta has returned. */
const configured = async (side: Side) => {
  const links = JSON.parse(await side.run(['ip', '-j', 'address']));
  const { ifname, mtu, address, addr_info } = links.find((link: { ifname: string }) => link.ifname !== 'lo');
  const global = (addr_info as Address[]).filter(({ scope }) => scope === 'global');
  return {
    ifname,
    mtu,
    address,
    addresses: global.map((one) => one.local),
    settled: !global.some((one) => one.tentative),
  };
};

const CLOSED = ['-T', 'none', '-U', 'none'];
const FORWARD = ['--dns-forward', '169.254.1.1'];
const TO_HOST = ['--map-guest-addr', '169.254.1.2'];

/** Who → the arguments before `--netns`, and the host's port that leads to port 80. */
const LINES: Readonly<
  Record<string, { args: readonly string[]; port: number; address?: string; after?: readonly string[] }>
> = {
  'Podman 4.4': {
    args: ['--config-net', '-t', '7000-7000:80-80', '-u', 'none', ...CLOSED, '--no-map-gw'],
    port: 7000,
  },
  'Podman 5.0': {
    args: [
      '--config-net',
      '-t',
      '7010-7010:80-80',
      '--dns-forward',
      '169.254.0.1',
      '-u',
      'none',
      ...CLOSED,
      '--no-map-gw',
      '--quiet',
    ],
    port: 7010,
  },
  'Podman 5.3': {
    args: ['--config-net', '-t', '7020-7022:80-82', ...FORWARD, '-u', 'none', ...CLOSED, '--no-map-gw', '--quiet'],
    after: TO_HOST,
    port: 7020,
  },
  'Podman 5.3, published at an IPv6 address': {
    args: [
      '--config-net',
      '-t',
      `${NET.host6}/7030-7030:80-80`,
      ...FORWARD,
      '-u',
      'none',
      ...CLOSED,
      '--no-map-gw',
      '--quiet',
    ],
    after: TO_HOST,
    port: 7030,
    address: NET.host6,
  },
  'Podman 5.3, with an interface': {
    args: [
      '--config-net',
      '--tcp-ports',
      `${NET.host4}%eth0/7040:80`,
      ...FORWARD,
      '-u',
      'none',
      ...CLOSED,
      '--no-map-gw',
      '--quiet',
    ],
    after: TO_HOST,
    port: 7040,
  },
  'Podman 5.3, options of containers.conf and of the command line': {
    args: [
      ...['--config-net', '-I', 'myname', '--ns-mac-addr', '9a:dd:31:ea:92:98', '--ns-mac-addr', 'aa:bb:cc:dd:ee:ff'],
      ...[
        '-m',
        '1400',
        '-m',
        '9000',
        '-t',
        '7050-7050:80-80',
        ...FORWARD,
        '-u',
        'none',
        ...CLOSED,
        '--no-map-gw',
        '--quiet',
      ],
    ],
    after: TO_HOST,
    port: 7050,
  },
};

describe('pasta by the command line of', { concurrent: true }, () => {
  it.each(Object.keys(LINES))('%s', async (who) => {
    const { args, after = [], port, address = NET.host4 } = LINES[who] as (typeof LINES)[string];
    const { path, side } = await namespaceNamed(who.replaceAll(/\W/g, ''));
    const done = await engine.attempt([lab.binary, ...args, '--netns', path, ...after]);
    expect(done).toMatchObject({ status: 0, timedOut: false, stdout: '' });
    // What is said is logged as a warning by the versions that ask for quiet.
    if (args.includes('--quiet')) expect(done.stderr).toBe('');
    const { ifname, mtu, address: mac, addresses, settled } = await configured(side);
    expect(addresses).toEqual(expect.arrayContaining([NET.host4, NET.host6]));
    expect(settled).toBe(true);
    const options = args.includes('myname');
    expect({ ifname, mtu }).toEqual(options ? { ifname: 'myname', mtu: 9000 } : { ifname: 'eth0', mtu: 65_520 });
    if (options) expect(mac).toBe('aa:bb:cc:dd:ee:ff');

    // What stays has nothing of the caller's.
    const stay = processesWith(lab, path);
    expect(stay.length).toBeGreaterThan(1);
    for (const pid of stay)
      for (const fd of [0, 1, 2]) expect(descriptors(pid).get(fd) ?? '/dev/null').toMatch(/^\/dev\/null|socket:/);

    await listen(side, [80]);
    expect(seen(await askOne(lab.remote, 'tcp', address, port))).toBe(
      address === NET.host4 ? NET.gateway4 : NET.gateway6,
    );
    expect(seen(await askOne(side, 'udp', NET.server6, SERVER_PORT))).toBe(NET.host6);
    const resolver = args[args.indexOf('--dns-forward') + 1] as string;
    if (args.includes('--dns-forward')) expect(await lookUp(side, 'udp', resolver, NET.name)).toBe(NET.server4);

    // The engine's only way to end it.
    await remove(path);
    await gone(lab, path, 5000);
  });
});

/** Podman's own process for the network of all bridges of a user. */
const BRIDGE = [
  ...['--config-net', ...FORWARD, '-t', 'none', '-u', 'none', ...CLOSED, '--no-map-gw', '--quiet'],
  '--netns',
];

describe('pasta', { concurrent: true }, () => {
  it("ends with Buildah's process, whose namespace is named through procfs", async () => {
    const target = engine.spawn(['unshare', '--net', 'sh', '-c', 'echo made; exec cat'], { stdin: 'pipe' });
    await waitFor(() => target.out().includes('made'), { what: "Buildah's process" });
    const path = `/proc/${labPid(target.pid())}/ns/net`;
    const line = ['--config-net', ...FORWARD, '-t', 'none', '-u', 'none', ...CLOSED, '--no-map-gw', '--quiet'];
    const done = await engine.attempt([lab.binary, ...line, '--netns', path, ...TO_HOST]);
    expect(done).toMatchObject({ status: 0, timedOut: false, stdout: '', stderr: '' });
    const side = engine.within(['nsenter', `--net=${path}`, '--']);
    expect((await configured(side)).addresses).toContain(NET.host4);
    signalQuietly(target.pid(), 'SIGKILL');
    await gone(lab, path, 5000);
  });

  it('ends by SIGTERM of the PID in its file, and the file is for its owner', async () => {
    const { path } = await namespaceNamed('bridge');
    const file = '/mnt/bridge.pid';
    const done = await engine.attempt([lab.binary, ...BRIDGE, path, ...TO_HOST, '--pid', file]);
    expect(done).toMatchObject({ status: 0, timedOut: false, stdout: '', stderr: '' });
    expect(await engine.run(['stat', '-c', '%a', file])).toBe('600\n');
    const text = await engine.run(['cat', file]);
    expect(text).toMatch(/^\d+\n$/);
    await engine.run(['sh', '-c', `kill -0 ${text.trim()} && kill ${text.trim()}`]);
    await gone(lab, path);
    await remove(path);
  });

  it('adds nothing to what its caller has open', async () => {
    const { path } = await namespaceNamed('open');
    // A descriptor of the caller's that a careless program hands down: its other end must see the end of it.
    const script = 'exec 7>&1; "$@"; echo returned';
    const done = await engine.attempt(['sh', '-c', script, 'sh', lab.binary, ...BRIDGE, path, ...TO_HOST]);
    expect(done).toMatchObject({ status: 0, timedOut: false, stdout: 'returned\n', stderr: '' });
    await remove(path);
    await gone(lab, path);
  });

  const ok = ['--config-net', '-t', 'none', '-u', 'none', ...CLOSED];
  const lowPort: readonly (readonly [readonly string[], string])[] = [
    [
      [...ok, '-t', '80-80:8080-8080', '--', 'true'],
      "Couldn't listen on requested ports: TCP port 80: permission denied\n",
    ],
  ];
  /** What of the original's sentences is quoted to users, or looked for by programs. */
  const ERRORS: readonly (readonly [readonly string[], string])[] = [
    [['--bogus'], "pasta: unrecognized option '--bogus'\n"],
    [[...ok, '--netns', '/x'], "Couldn't open network namespace /x: No such file or directory\n"],
    [[...ok, '999999'], "Couldn't open user namespace /proc/999999/ns/user: No such file or directory\n"],
    [[...ok, '-t', '99999'], 'Invalid port specifier 99999'],
    [[...ok, '-t', '1.2.3.4/80-80:80-80', '--netns', '/x', 'true'], 'Both --netns and PID or command given\n'],
    [[...ok, '--map-guest-addr', 'bad'], 'Invalid address to remap to host: bad'],
    [
      [...ok, '-t', `${NET.host4}/7099-7099:80-80`, '--', 'true'],
      `Couldn't listen on requested ports: TCP port 7099 of ${NET.host4}: address already in use\n`,
    ],
    // An ordinary user's lab is his own, and so are its ports.
    ...(isRoot ? lowPort : []),
  ];
  it('says what is wrong in one sentence, and ends with status 1', async () => {
    const taken = await serve(lab.host, [{ protocol: 'tcp', address: NET.host4, port: 7099 }]);
    const said = await Promise.all(ERRORS.map(([args]) => lab.user.attempt([lab.binary, ...args])));
    taken.kill('SIGKILL');
    for (const [i, [args, text]] of ERRORS.entries()) {
      expect({ args, ...said[i] }).toMatchObject({ args, status: 1, timedOut: false });
      expect(said[i]?.stderr).toContain(text);
      // Podman starts it again without the option if it reads this.
      expect(said[i]?.stderr).not.toContain("unrecognized option '--map-guest-addr");
    }
  });
});

describe('pesto', { concurrent: true }, () => {
  /** A user's bridges, with one container's address on one, and pasta with a socket. */
  const bridges = async (name: string): Promise<Namespace & { socket: string }> => {
    const { path, side } = await namespaceNamed(name);
    await side.run(['sh', '-c', 'ip link add br0 type bridge && ip link set br0 up && ip link set lo up']);
    await side.run(['ip', 'address', 'add', '10.89.0.2/24', 'dev', 'br0']);
    await side.run(['ip', 'address', 'add', 'fd00::2/64', 'dev', 'br0', 'nodad']);
    const socket = `/mnt/${name}.sock`;
    const done = await engine.attempt([
      lab.binary,
      ...BRIDGE,
      path,
      ...TO_HOST,
      '--pid',
      `/mnt/${name}.pid`,
      '-c',
      socket,
    ]);
    expect(done).toMatchObject({ status: 0, timedOut: false, stdout: '', stderr: '' });
    // As a container's: what it answers comes from the address that was asked.
    await serve(side, [{ protocol: 'udp', address: '10.89.0.2', port: 7100 }]);
    await listen(side, [7200, 80]);
    return { path, side, socket };
  };
  const change = async (args: readonly string[]) =>
    expect(await engine.attempt([pesto, ...args])).toMatchObject({
      status: 0,
      timedOut: false,
      stdout: '',
      stderr: '',
    });
  const both = async (port: number) => {
    const questions = [NET.host4, NET.host6].map((address) => ({
      protocol: 'tcp' as const,
      address,
      port,
      patienceMs: PATIENCE_MS,
    }));
    return (await ask(lab.remote, questions)).map(seen);
  };

  it('by the command lines of Podman 6.0 and 6.1', async () => {
    const { path, socket } = await bridges('six');
    const old = ['-t', '0.0.0.0/7200', '-t', '[::]/7200', socket];
    await change(['--add', ...old]);
    expect(await both(7200)).toEqual([NET.gateway4, NET.gateway6]);
    // As the original: what is there already is not added, and stays.
    const again = await engine.attempt([pesto, '--add', ...old]);
    expect(again).toMatchObject({ status: 1, timedOut: false, stdout: '' });
    expect(again.stderr).toContain('Forwarding configuration conflict');
    expect(await both(7200)).toEqual([NET.gateway4, NET.gateway6]);
    await change(['--delete', ...old]);
    expect(await both(7200)).toEqual(['ECONNREFUSED', 'ECONNREFUSED']);

    const now = [
      '-t',
      '0.0.0.0/7201:10.89.0.2/80',
      '-t',
      '[::]/7201:[fd00::2]/80',
      '-u',
      '0.0.0.0/7201:10.89.0.2/7100',
      socket,
    ];
    await change(['--add', ...now]);
    expect(await both(7201)).toEqual([NET.gateway4, NET.gateway6]);
    expect(seen(await askOne(lab.remote, 'udp', NET.host4, 7201))).toBe(NET.gateway4);
    expect(await engine.run([pesto, '--show', socket])).toContain('10.89.0.2');
    await change(['--delete', ...now]);
    expect(await both(7201)).toEqual(['ECONNREFUSED', 'ECONNREFUSED']);
    await remove(path);
    await gone(lab, path);
    expect(await engine.attempt([pesto, '--add', ...now])).toMatchObject({ status: 1, timedOut: false });
  });

  it("by the command lines of RootlessKit's port driver", async () => {
    const { path, socket } = await bridges('kit');
    expect((await engine.attempt([pesto, '--version'])).status).toBe(0);
    await change(['-A', '--tcp-ports=0.0.0.0/7210:80', socket]);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, 7210))).toBe(NET.gateway4);
    const taken = await engine.attempt([pesto, '-A', '--tcp-ports=0.0.0.0/80:80', socket]);
    expect(taken).toMatchObject({ status: 1, timedOut: false, stdout: '' });
    expect(taken.stderr).toMatch(/^Listen failed for HOST TCP port 80 .*permission denied.*\nNothing was changed\n$/);
    await change(['-D', '--tcp-ports=0.0.0.0/7210:80', socket]);
    expect(seen(await askOne(lab.remote, 'tcp', NET.host4, 7210))).toBe('ECONNREFUSED');
    await remove(path);
    await gone(lab, path);
  });
});
