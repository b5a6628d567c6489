// SPDX-License-Identifier: Apache-2.0
/**
 * slirp4netns' command line, network, life and API, with real namespaces and programs, as its callers and its own tests use it. With
 * PASTICHE_SLIRP4NETNS=/usr/bin/slirp4netns the same tests say what the original does.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isRoot, type Lab, makeLab, NET, REPOSITORY } from '../support/lab.mjs';
import { finish, isAlive, type Started, status, waitFor } from '../support/process.mjs';
import { ask, client, type Reply, STREAM_PORT, streamServer } from '../support/programs.ts';
import { type Slirp, type SlirpOptions, slirpBinary, startSlirp } from '../support/slirp.ts';

const PORT = 7040;
const LOOPBACK_PORT = 7041;
/** Of the host, beside NET.host4. */
const SECOND_HOST4 = '192.0.2.9';
/** Of the remote side, and what `--cidr=10.135.128.0/17` has for the resolver. */
const OTHER4 = '10.135.128.3';
const GUEST = '10.0.2.100';
const MEGABYTES = 24;
/** 1 << CAP_NET_BIND_SERVICE */
const LOW_PORTS = 1 << 10;

let lab: Lab;
let stream: string;
const servers: Started[] = [];
const serve = async (side: Pick<Lab['host'], 'spawn'>, sockets: readonly object[]): Promise<Started> => {
  const server = side.spawn([
    process.execPath,
    join(REPOSITORY, 'test/support/forward.mjs'),
    'serve',
    JSON.stringify(sockets),
  ]);
  await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, { what: 'a server' });
  expect(server.err()).toBe('');
  return server;
};
const both = (address: string, port: number): object[] =>
  ['tcp', 'udp'].map((protocol) => ({ protocol, address, port }));

beforeAll(async () => {
  lab = await makeLab();
  await lab.host.run(['ip', 'addr', 'add', `${SECOND_HOST4}/24`, 'dev', 'eth0']);
  stream = await streamServer(lab);
  await lab.remote.run(['ip', 'addr', 'add', `${OTHER4}/32`, 'dev', 'lo']);
  const remote = [NET.server4, NET.server6, OTHER4].flatMap((address) => both(address, PORT));
  servers.push(await serve(lab.remote, remote));
  mkdirSync(join(lab.dir, 'api'));
  chmodSync(join(lab.dir, 'api'), 0o777);
  servers.push(await serve(lab.host, [...both('127.0.0.1', LOOPBACK_PORT), ...both('::1', LOOPBACK_PORT)]));
});
afterAll(() => lab?.cleanup());

let running: Slirp[] = [];
const start = async (options: SlirpOptions = {}): Promise<Slirp> => {
  const slirp = await startSlirp(lab, options);
  running.push(slirp);
  if (!options.bare && slirp.ready() !== '1')
    throw new Error(`it did not start: ${slirp.tool.out()}${slirp.tool.err()}`);
  return slirp;
};
afterEach(async () => {
  for (const slirp of running) await slirp.close();
  running = [];
});

/** As the server saw them, or what went wrong. */
const asked = async (slirp: Slirp, ...to: readonly [string, number][]): Promise<(string | undefined)[]> => {
  const questions = to.flatMap(([address, port]) =>
    (['tcp', 'udp'] as const).map((protocol) => ({ protocol, address, port })),
  );
  return (await ask(slirp.inside, questions, 5000)).map((reply: Reply) => reply.error ?? reply.address);
};
/** errno name of a connection attempt, null when it worked. */
const tcp = async (slirp: Slirp, address: string, port: number): Promise<string | null> =>
  (
    JSON.parse(await slirp.inside.run(client('connect', address, port), { timeoutMs: 15_000 })) as {
      code: string | null;
    }
  ).code;
const pings = async (slirp: Slirp, address: string): Promise<boolean> =>
  (await slirp.inside.attempt(['ping', '-c', '1', '-W', '1', address])).status === 0;
const lookUp = async (slirp: Slirp, transport: string, server: string): Promise<string> =>
  (
    await slirp.inside.run([process.execPath, join(REPOSITORY, 'test/support/dns.mjs'), transport, server, NET.name])
  ).trim();
const addressesOf = async (slirp: Slirp): Promise<string> => slirp.inside.run(['ip', '-br', 'addr', 'show']);

describe('what it says', () => {
  const run = (...args: string[]) => lab.user.attempt([slirpBinary(lab), ...args], { timeoutMs: 10_000 });
  it('--help and --version are what callers look into', async () => {
    const help = await run('--help');
    expect(help).toMatchObject({ status: 0, stderr: '', stdout: expect.stringMatching(/--netns-type\b/) });
    expect((await run('-v')).stdout).toMatch(
      /^slirp4netns version \d+\.\d+\.\d+.*\ncommit: \S+\n.*\nSLIRP_CONFIG_VERSION_MAX: 4\n/,
    );
  });
  it.each([
    [['--cidr=24'], 'invalid CIDR: 24\n'],
    [['--cidr', '999.0.2.0/24'], 'invalid network address: 999.0.2.0\n'],
    [['--cidr=10.0.2.0/26'], 'prefix length needs to be 1-25\n'],
    [['--cidr=10.0.2.1/24'], 'CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24\n'],
    [['--outbound-addr=bogus0'], 'outbound-addr has to be valid ipv4 address or interface name.'],
    [['-c', '--macaddress=zz:00:00:00:00:01'], '"zz:00:00:00:00:01" is an invalid MAC address.'],
    [['-m', '0'], 'MTU must be a positive integer (< 65522)\n'],
    [['--bogus'], "slirp4netns: unrecognized option '--bogus'\n"],
  ])('%j ends it, status 1: %s', async (args, sentence) => {
    const slirp = await startSlirp(lab, { args });
    running.push(slirp);
    const done = await finish(slirp.tool, { timeoutMs: 5000 });
    expect(done.status).toBe(1);
    // The original begins with how it was called, path and all.
    expect(done.stderr.replace(/^\/\S*\/slirp4netns:/, 'slirp4netns:')).toContain(sentence);
  });
});

describe.each([
  { as: 'user' as const, name: 'an ordinary user' },
  ...(isRoot ? [{ as: 'root' as const, name: 'root' }] : []),
])('run by $name', ({ as }) => {
  it('-c -6: the namespace has its network when it is ready, and reaches what it should', async () => {
    const slirp = await start({ as, args: ['-c', '-6', '--mtu=4000', '--enable-sandbox', '--enable-seccomp'] });
    const shown = await addressesOf(slirp);
    expect(shown).toMatch(/^lo +UNKNOWN +127\.0\.0\.1\/8/m);
    expect(shown).toMatch(/^tap0 +UNKNOWN +10\.0\.2\.100\/24 fd00::[0-9a-f:]+\/64 fe80::/m);
    expect(await slirp.inside.run(['ip', '-o', 'link', 'show', 'tap0'])).toContain('mtu 4000');
    expect(await slirp.inside.run(['ip', 'route', 'show', 'default'])).toMatch(/^default via 10\.0\.2\.2 dev tap0/);
    expect(await slirp.inside.run(['ip', '-6', 'route', 'show', 'default'])).toMatch(/^default via fe80::2 dev tap0/m);
    const seen = await asked(slirp, [NET.server4, PORT], [NET.server6, PORT], ['10.0.2.2', LOOPBACK_PORT]);
    expect(seen).toEqual([NET.host4, NET.host4, NET.host6, NET.host6, '127.0.0.1', '127.0.0.1']);
    expect(await asked(slirp, ['fd00::2', LOOPBACK_PORT])).toEqual(['::1', '::1']);
    for (const server of ['10.0.2.3', 'fd00::3'])
      for (const transport of ['udp', 'tcp']) expect(await lookUp(slirp, transport, server)).toBe(NET.server4);
    for (const address of ['10.0.2.2', '10.0.2.3', 'fd00::2'])
      expect([address, await pings(slirp, address)]).toEqual([address, true]);
    expect(await pings(slirp, '10.0.2.4')).toBe(false);
    expect(await tcp(slirp, '10.0.2.2', 7999)).toBe('ECONNREFUSED');
    // Nothing is there but names.
    expect(await tcp(slirp, '10.0.2.3', 80)).toBe('ENETUNREACH');
    expect(await slirp.inside.run(['ip', 'neigh', 'show'])).toMatch(
      /10\.0\.2\.2 .*52:55:0a:00:02:02[\s\S]*|10\.0\.2\.3 .*52:55:0a:00:02:03/,
    );

    expect(await slirp.close()).toMatchObject({ status: 0 });
  });

  it('--enable-sandbox: the process that was started has /etc, /run and no capability but for low ports', async () => {
    // What is mounted below /run by others stays there.
    const slirp = await start({ as, args: ['-c', '--enable-sandbox', '--enable-seccomp'] });
    const pid = slirp.tool.pid();
    const root = (await lab.host.run(['ls', `/proc/${labPid(pid)}/root`])).split('\n');
    expect(root).toEqual(expect.arrayContaining(['etc', 'run']));
    for (const gone of ['home', 'root', 'var']) expect(root).not.toContain(gone);
    expect(Number.parseInt(status(pid)['CapEff'] ?? '', 16) & ~LOW_PORTS).toBe(0);
    expect(status(pid)).toMatchObject({ Seccomp: '2', NoNewPrivs: '1' });
    expect(await lookUp(slirp, 'udp', '10.0.2.3')).toBe(NET.server4);
  });

  it('without -c there is a tap and nothing more; a real DHCP client gets the fifteenth address', async () => {
    const slirp = await start({ as });
    expect(await addressesOf(slirp)).toMatch(/^tap0 +DOWN *$/m);
    expect(await slirp.inside.run(['ip', '-o', 'link', 'show', 'tap0'])).toContain('mtu 1500');
    const hook = join(slirp.dir, 'hook');
    writeFileSync(hook, readFileSync(join(REPOSITORY, 'test/support/dhcp-hook.sh')));
    chmodSync(hook, 0o755);
    const log = join(slirp.dir, 'learnt');
    const files = ['-lf', join(slirp.dir, 'lease'), '-pf', join(slirp.dir, 'pid'), '-e', `LOG=${log}`, '-sf', hook];
    await slirp.inside.run(['dhclient', '-v', '-1', ...files, 'tap0'], { timeoutMs: 30_000 });
    const learnt = readFileSync(log, 'utf8');
    for (const line of [
      'ip_address=10.0.2.15',
      'routers=10.0.2.2',
      'domain_name_servers=10.0.2.3',
      'dhcp_lease_time=86400',
    ])
      expect(learnt).toContain(`new_${line}\n`);
    expect(await asked(slirp, [NET.server4, PORT])).toEqual([NET.host4, NET.host4]);
    const dhclient = Number(readFileSync(join(slirp.dir, 'pid'), 'utf8'));
    await lab.host.attempt(['kill', String(dhclient)]);
  });
});

/** A PID as the lab sees it. */
const labPid = (pid: number): string =>
  /^NSpid:.*\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';

describe('its network', () => {
  it('is where --cidr says, without the host and the resolver if so wanted', async () => {
    const slirp = await start({ args: ['-c', '--cidr=10.135.128.0/17', '--disable-host-loopback', '--disable-dns'] });
    expect(await addressesOf(slirp)).toMatch(/^tap0 .* 10\.135\.128\.100\/17/m);
    expect(await asked(slirp, [NET.server4, PORT])).toEqual([NET.host4, NET.host4]);
    expect(await tcp(slirp, '10.135.128.2', LOOPBACK_PORT)).toBe('ENETUNREACH');
    expect(await pings(slirp, '10.135.128.2')).toBe(true);
    // An ordinary address, which somebody of the network may have.
    expect(await asked(slirp, [OTHER4, PORT])).toEqual([NET.host4, NET.host4]);
    // No IPv6 without -6.
    expect(await slirp.inside.run(['ip', '-6', 'addr', 'show', 'scope', 'global', 'dev', 'tap0'])).toBe('');
    expect(await tcp(slirp, NET.server6, PORT)).toBe('ENETUNREACH');
  });
  it.each(['192.0.2.9', 'eth0'])('leaves the host from --outbound-addr=%s', async (outbound) => {
    const slirp = await start({ args: ['-c', `--outbound-addr=${outbound}`, '--macaddress=0e:d4:18:d9:38:fb'] });
    const expected = outbound === 'eth0' ? NET.host4 : outbound;
    expect(await asked(slirp, [NET.server4, PORT])).toEqual([expected, expected]);
    expect(await slirp.inside.run(['cat', '/sys/class/net/tap0/address']).catch(() => '')).toMatch(
      /^(0e:d4:18:d9:38:fb\n)?$/,
    );
    expect(await slirp.inside.run(['ip', '-o', 'link', 'show', 'tap0'])).toContain('0e:d4:18:d9:38:fb');
  });
  it('reaches the own addresses of the host, as the original does', async () => {
    const own = await serve(lab.host, both(NET.host4, PORT));
    const slirp = await start({ args: ['-c', '--disable-host-loopback'] });
    expect(await asked(slirp, [NET.host4, PORT])).toEqual([NET.host4, NET.host4]);
    own.kill('SIGTERM');
  });
  it('follows resolv.conf: the file may be another one each time', async () => {
    const dnsmasq = [
      ...['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--no-resolv', '--no-hosts', '--pid-file='],
      ...['--user=root', '--group=', `--listen-address=${OTHER4}`, '--bind-interfaces', '--log-facility=/dev/null'],
      `--host-record=${NET.name},203.0.113.7`,
    ];
    const other = lab.remote.spawn(dnsmasq);
    const slirp = await start({ args: ['-c', '--disable-host-loopback', '--enable-sandbox'] });
    expect(await lookUp(slirp, 'udp', '10.0.2.3')).toBe(NET.server4);
    const file = join(slirp.dir, 'resolv.conf');
    writeFileSync(file, `nameserver ${OTHER4}\n`);
    await lab.host.run(['sh', '-c', `mount --bind '${file}' "$(readlink -f /etc/resolv.conf)"`]);
    try {
      const answer = async (): Promise<boolean> => (await lookUp(slirp, 'udp', '10.0.2.3')) === '203.0.113.7';
      await waitFor(answer, { what: 'the other resolver', everyMs: 200 });
      expect(await lookUp(slirp, 'tcp', '10.0.2.3')).toBe('203.0.113.7');
    } finally {
      await lab.host.run(['sh', '-c', 'umount "$(readlink -f /etc/resolv.conf)"']);
    }
    await waitFor(async () => (await lookUp(slirp, 'udp', '10.0.2.3')) === NET.server4, {
      what: 'the first one again',
    });
    other.kill('SIGTERM');
  });
  it('carries every byte, both ways', async () => {
    const slirp = await start({ args: ['-c', '--mtu=65520', '-6'] });
    await Promise.all(
      [NET.server4, NET.server6].flatMap((server, i) =>
        ['down', 'up', 'half'].map((way) =>
          slirp.inside.run([stream, way, server, STREAM_PORT, MEGABYTES << 20, i + 1].map(String), {
            timeoutMs: 60_000,
          }),
        ),
      ),
    );
  });
});

describe('its life', () => {
  it('ends with --exit-fd, and with one that is not open at once; a --ready-fd that is not open is none', async () => {
    const slirp = await start({ args: ['-c'] });
    expect(await slirp.close()).toMatchObject({ status: 0 });
    const closed = await startSlirp(lab, { bare: true, args: ['-c', '-e', '9', '-r', '8'] });
    running.push(closed);
    expect(await finish(closed.tool, { timeoutMs: 5000 })).toMatchObject({ status: 0, timedOut: false });
  });
  it.each([
    ['SIGTERM', 15],
    ['SIGKILL', 9],
  ] as const)('%s (%d) of the process that was started ends all of it', async (signal, number) => {
    const slirp = await start({ args: ['-c'] });
    const all = [slirp.tool.pid(), ...descendantsOf(slirp.tool.pid())];
    expect(all.length).toBeGreaterThan(process.env['PASTICHE_SLIRP4NETNS'] ? 0 : 1);
    slirp.tool.kill(signal);
    // Its output has reached its end, too: nobody else holds it.
    const done = await finish(slirp.tool, { timeoutMs: 5000 });
    expect(done.timedOut).toBe(false);
    expect(done.signal ?? done.status).toBe(done.signal === null ? 128 + number : signal);
    await waitFor(() => !all.some(isAlive), { what: 'everything to end' });
  });
  it('outlives the first process of the namespace, and ends with the tap', async () => {
    const slirp = await start({
      args: ['-c'],
      operands: (pid) => ['--userns-path', `/proc/${pid}/ns/user`, '--netns-type=path', `/proc/${pid}/ns/net`, 'tap7'],
    });
    expect(await addressesOf(slirp)).toMatch(/^tap7 .* 10\.0\.2\.100\/24/m);
    expect(await asked(slirp, [NET.server4, PORT])).toEqual([NET.host4, NET.host4]);
    if (process.env['PASTICHE_SLIRP4NETNS']) return;
    await slirp.inside.run(['ip', 'link', 'del', 'tap7']);
    const done = await finish(slirp.tool, { timeoutMs: 5000 });
    expect(done.timedOut).toBe(false);
  });
  it('takes a tap that is there already and up, as RootlessKit makes it', async () => {
    const before =
      'ip tuntap add name tap0 mode tap && ip link set tap0 address 02:00:00:00:00:07 up && ip addr add 10.0.2.100/24 dev tap0 && ip route add default via 10.0.2.2';
    const slirp = await start({ before, args: ['--mtu', '65520', '--enable-sandbox'] });
    expect(await asked(slirp, [NET.server4, PORT])).toEqual([NET.host4, NET.host4]);
    expect(await slirp.inside.run(['ip', '-o', 'link', 'show', 'tap0'])).toContain('02:00:00:00:00:07');
  });
});

/** Makes a tap in the namespace of a process, with or without virtio-net headers, and becomes slirp4netns with it as descriptor 19. */
const WITH_TAP = `import ctypes, fcntl, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
flags, target, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
here = os.open("/proc/self/ns/net", os.O_RDONLY)
there = os.open(f"/proc/{target}/ns/net", os.O_RDONLY)
assert libc.setns(there, 0) == 0
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"tap9", flags))
assert libc.setns(here, 0) == 0
os.dup2(tap, 19, inheritable=True)
os.execv(argv[0], argv)`;
const IFF_TAP_NO_PI = 0x1002;
const IFF_VNET_HDR = 0x4000;

describe.runIf(isRoot)('a tap that was inherited', () => {
  it.each([
    ['without', IFF_TAP_NO_PI],
    ['with', IFF_TAP_NO_PI | IFF_VNET_HDR],
  ])('%s virtio-net headers carries every byte', async (_with, flags) => {
    const slirp = await start({
      as: 'root',
      under: (_dir, pid) => ['/usr/bin/python3', '-c', WITH_TAP, String(flags), pid],
      args: ['--netns-type=tapfd'],
      operands: () => ['19'],
    });
    await slirp.inside.run([
      ...['sh', '-c', 'ip link set tap9 up && ip addr add 10.0.2.100/24 dev tap9 && ip route add default via 10.0.2.2'],
    ]);
    expect(await asked(slirp, [NET.server4, PORT])).toEqual([NET.host4, NET.host4]);
    for (const way of ['down', 'up'])
      await slirp.inside.run([stream, way, NET.server4, STREAM_PORT, 4 << 20, 3].map(String), { timeoutMs: 30_000 });
  });
});

describe('its API', () => {
  /** One request, as podman makes it: everything that comes back until the end. */
  const request = (path: string, text: string): Promise<string> =>
    new Promise((done, fail) => {
      const socket = connect(path);
      let got = '';
      socket.setEncoding('utf8').on('data', (part) => {
        got += part;
      });
      socket.on('connect', () => socket.end(`${text}\n`));
      socket.on('end', () => done(got));
      socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' ? done(got) : fail(error)));
    });
  const forward = (args: object): string => JSON.stringify({ execute: 'add_hostfwd', arguments: args });

  it('forwards ports, lists them, takes them back, and says why not', async () => {
    const slirp = await start({ args: ['-c', '--disable-host-loopback', '--api-socket', join(lab.dir, 'api', 'one')] });
    const api = join(lab.dir, 'api', 'one');
    const server = await serve(slirp.inside, both('0.0.0.0', PORT));
    const add = (change: object): Promise<string> =>
      request(
        api,
        forward({
          proto: 'tcp',
          host_addr: '0.0.0.0',
          host_port: 8080,
          guest_addr: GUEST,
          guest_port: PORT,
          ...change,
        }),
      );
    expect(await add({})).toBe('{"return":{"id":1}}');
    expect(await add({ proto: 'udp', guest_addr: '' })).toBe('{"return":{"id":2}}');
    expect(await add({ host_addr: '127.0.0.1', host_port: 8081 })).toBe('{"return":{"id":3}}');
    expect(await add({})).toBe('{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed"}}');
    // Nothing has the address.
    expect(await add({ host_addr: '192.0.2.77' })).toContain('slirp_add_hostfwd failed');

    const from = async (
      side: Lab['host'],
      protocol: 'tcp' | 'udp',
      address: string,
      port: number,
    ): Promise<string | undefined> => {
      const [reply] = await ask(side, [{ protocol, address, port }], 4000);
      return reply?.error ?? reply?.address;
    };
    // The guest sees who asks; who does so from the loopback of the host is the gateway.
    expect(await from(lab.remote, 'tcp', NET.host4, 8080)).toBe(NET.gateway4);
    expect(await from(lab.remote, 'udp', NET.host4, 8080)).toBe(NET.gateway4);
    expect(await from(lab.host, 'tcp', '127.0.0.1', 8081)).toBe('10.0.2.2');
    expect(await from(lab.remote, 'tcp', NET.host4, 8081)).toBe('ECONNREFUSED');

    const list = JSON.parse(await request(api, '{"execute":"list_hostfwd"}'));
    expect(list.entries).toEqual([
      { id: 1, proto: 'tcp', host_addr: '0.0.0.0', host_port: 8080, guest_addr: GUEST, guest_port: PORT },
      { id: 2, proto: 'udp', host_addr: '0.0.0.0', host_port: 8080, guest_addr: GUEST, guest_port: PORT },
      { id: 3, proto: 'tcp', host_addr: '127.0.0.1', host_port: 8081, guest_addr: GUEST, guest_port: PORT },
    ]);
    expect(await request(api, '{"execute":"remove_hostfwd","arguments":{"id":1}}')).toBe('{"return":{}}');
    expect(await from(lab.remote, 'tcp', NET.host4, 8080)).toBe('ECONNREFUSED');
    expect(await from(lab.remote, 'udp', NET.host4, 8080)).toBe(NET.gateway4);
    expect(await request(api, '{"execute":"remove_hostfwd","arguments":{"id":1}}')).toBe(
      '{"error":{"desc":"bad request: remove_hostfwd: bad arguments.id"}}',
    );
    expect(await request(api, 'x')).toBe('{"error":{"desc":"bad request: cannot parse JSON"}}');
    expect(await request(api, '{}')).toBe('{"error":{"desc":"bad request: no execute found"}}');
    server.kill('SIGTERM');
    expect(await slirp.close()).toMatchObject({ status: 0 });
    await expect(request(api, '{}')).rejects.toThrow(/ENOENT/);
  });
  it('serves many at once, and nobody waits for one who says nothing', async () => {
    const slirp = await start({ args: ['-c', '--api-socket', join(lab.dir, 'api', 'crowd')] });
    const api = join(lab.dir, 'api', 'crowd');
    const silent = connect(api);
    const ids = await Promise.all(
      Array.from({ length: 20 }, async (_, i) =>
        JSON.parse(
          await request(
            api,
            forward({ proto: 'tcp', host_addr: '127.0.0.1', host_port: 20_000 + i, guest_port: PORT }),
          ),
        ),
      ),
    );
    expect(ids.map((reply) => reply.return.id).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
    silent.destroy();
    await slirp.close();
  });
});

const descendantsOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter(Boolean)
    .map(Number)
    .flatMap((child) => [child, ...descendantsOf(child)]);
