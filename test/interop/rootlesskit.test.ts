// SPDX-License-Identifier: Apache-2.0
/**
 * RootlessKit, unmodified: Debian 12's own (1.1) and that of a newer Debian (2.0), with our slirp4netns and pasta found on PATH, as
 * rootless Docker and others start it. All tests share one lab and one machine and run at once.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { isAlive, type Started, signalQuietly, waitFor } from '../support/process.mjs';
import { ECHO_PORT, echoServer } from '../support/programs.ts';
import { allGone, Kit } from '../support/rootlesskit.ts';
import { noTreeMachine, type TreeMachine, treeMachine } from '../support/tree-machine.ts';

const BYTES = 3 << 20;
const HTTP_PORT = 8080;
/** Of the host's loopback. */
const LOOPBACK_PORT = 8300;

const own = (name: string): string => `/opt/debian-12/${name}`;
/** What is tested; another program for a comparison. */
const SLIRP = process.env['PASTICHE_TEST_SLIRP'] ?? '/pastiche/dist/bin/slirp4netns';
const OURS = '/pastiche/dist/bin/pasta';
const VERSIONS = [
  { version: '1.1', program: own('rootlesskit'), control: own('rootlessctl') },
  { version: '2.0', program: '/usr/bin/rootlesskit', control: '/usr/bin/rootlessctl' },
] as const;

const support = (name: string, ...args: readonly (string | number)[]): string[] => [
  'node',
  `/pastiche/test/support/${name}`,
  ...args.map(String),
];

const why =
  noTreeMachine() || (!existsSync('/usr/bin/rootlesskit') && process.env['CI'] !== 'true' && 'no rootlesskit');
if (why) console.log(`RootlessKit is not tested: ${why}`);

describe.skipIf(why)('RootlessKit', () => {
  let lab: Lab;
  let machine: TreeMachine;
  let hash: string;
  let lastPort = 18_000;
  const newPort = (): number => ++lastPort;

  const serve = async (side: Side, argv: readonly string[]): Promise<Started> => {
    const server = side.spawn(argv);
    await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, { what: argv.join(' ') });
    expect(server.err()).toBe('');
    return server;
  };

  beforeAll(async () => {
    lab = await makeLab();
    machine = await treeMachine(lab, {
      [own('rootlesskit')]: '/usr/bin/rootlesskit',
      [own('rootlessctl')]: '/usr/bin/rootlessctl',
    });
    const http = (side: Side, address: string, port: number) =>
      serve(side, [process.execPath, join(REPOSITORY, 'test/support/http.mjs'), 'serve', address, `${port}`]);
    await Promise.all([
      http(lab.remote, NET.server4, HTTP_PORT),
      http(lab.remote, NET.server6, HTTP_PORT),
      http(lab.host, '127.0.0.1', LOOPBACK_PORT),
      echoServer(lab),
    ]);
    hash = (
      await lab.host.run(['sh', '-c', `curl -sS http://127.0.0.1:${LOOPBACK_PORT}/download/${BYTES} | sha256sum`])
    ).slice(0, 64);
  });
  afterAll(async () => {
    await lab?.cleanup();
  });

  const kit = (program: string, ...args: readonly string[]): Promise<Kit> =>
    Kit.start(machine, program, `/tmp/kit-${newPort()}`, args);

  /** SHA-256 of what a URL gives. */
  const download = async (side: Side, host: string, port: number): Promise<string> => {
    const script = `curl -sS --max-time 20 http://${host}:${port}/download/${BYTES} | sha256sum`;
    return (await side.run(['sh', '-c', script])).slice(0, 64);
  };
  /** What the server says that it got, and what was sent. */
  const upload = async (side: Side, host: string, port: number): Promise<[string, string]> => {
    const source = support('http.mjs', 'source', BYTES).join(' ');
    const script = `${source} | curl -sS --max-time 20 -T - http://${host}:${port}/upload`;
    const { stdout, stderr } = await side.attempt(['sh', '-c', script]);
    return [stdout.trim(), stderr.trim()];
  };
  const lookUp = (side: Side, transport: 'udp' | 'tcp', server: string) =>
    side.run(support('dns.mjs', transport, server, NET.name));

  /** What every network of RootlessKit has; `base` as in 10.0.2. */
  const outwards = async ({ inside }: Kit, base = '10.0.2', ipv6 = false): Promise<void> => {
    const [down, [got, sent], udp, tcp, name, echoes] = await Promise.all([
      download(inside, NET.server4, HTTP_PORT),
      upload(inside, NET.server4, HTTP_PORT),
      lookUp(inside, 'udp', `${base}.3`),
      lookUp(inside, 'tcp', `${base}.3`),
      inside.run(['getent', 'ahostsv4', NET.name]),
      inside.run(support('clients.mjs', 'udp', NET.server4, ECHO_PORT, 1, 1400, 20_000)),
      inside.run(['ping', '-c', '1', '-w', '5', NET.server4]),
      inside.run(['ping', '-c', '1', '-w', '5', `${base}.2`]),
    ]);
    expect(down).toBe(hash);
    expect([got, sent]).toEqual([hash, hash]);
    expect([udp, tcp]).toEqual([`${NET.server4}\n`, `${NET.server4}\n`]);
    expect(name).toContain(NET.server4);
    expect(JSON.parse(echoes)).toMatchObject({ lost: [] });
    if (!ipv6) return;
    // Router advertisement and duplicate address detection come first.
    await waitFor(async () => (await inside.run(['ip', '-6', 'route', 'show', 'default'])) !== '', {
      what: 'the route',
    });
    await waitFor(async () => (await inside.attempt(['ping', '-c', '1', '-w', '1', NET.server6])).status === 0, {
      what: 'an answer over IPv6',
    });
    expect(await download(inside, `[${NET.server6}]`, HTTP_PORT)).toBe(hash);
    expect(JSON.parse(await inside.run(support('clients.mjs', 'udp', NET.server6, ECHO_PORT, 1, 1400)))).toMatchObject({
      lost: [],
    });
  };

  /** From the host to servers in the child, through published ports. */
  const inwards = async ({ inside }: Kit, http: number, udp: number, childHttp = 80, childUdp = 81): Promise<void> => {
    const servers = await Promise.all([
      serve(inside, support('http.mjs', 'serve', '0.0.0.0', childHttp)),
      serve(inside, support('echo.mjs', childUdp, '0.0.0.0')),
    ]);
    const patient = { what: 'a published port', timeoutMs: 5000 };
    await waitFor(
      async () => (await lab.host.attempt(['curl', '-s', `http://127.0.0.1:${http}/hash`])).status === 0,
      patient,
    );
    const at = '127.0.0.1';
    const fromHost = machine.user;
    const [down, [got, sent], echoes] = await Promise.all([
      download(fromHost, at, http),
      upload(fromHost, at, http),
      fromHost.run(support('clients.mjs', 'udp', at, udp, 1, 1400)),
    ]);
    expect(down).toBe(hash);
    expect([got, sent]).toEqual([hash, hash]);
    expect(JSON.parse(echoes)).toMatchObject({ lost: [] });
    for (const server of servers) server.kill('SIGKILL');
    await Promise.all(servers.map((server) => server.closed));
  };

  /** Publishes ports in a running kit, uses them, takes them back. */
  const changes = async (made: Kit, control: string): Promise<void> => {
    const [http, udp] = [newPort(), newPort()];
    const ctl = (...args: string[]) => machine.user.run([control, '--socket', `${made.stateDir}/api.sock`, ...args]);
    const ids = await ctl('add-ports', `127.0.0.1:${http}:80/tcp`, `127.0.0.1:${udp}:81/udp`);
    const list = await ctl('list-ports');
    expect(list).toMatch(new RegExp(`tcp +127\\.0\\.0\\.1 +${http} .* 80\\b`));
    await inwards(made, http, udp);
    const numbers = ids
      .trim()
      .split('\n')
      .map((line) => line.trim());
    await ctl('remove-ports', ...numbers);
    expect(
      (await machine.user.attempt(['curl', '-s', '--max-time', '5', `http://127.0.0.1:${http}/hash`])).status,
    ).toBe(7);
    expect(await ctl('list-ports')).not.toContain(`${http}`);
  };

  /** Not at that address, for which there is an answer at once or (pasta) whatever the host's network says. */
  const refused = async ({ inside }: Kit, host: string, statuses: readonly number[]): Promise<void> => {
    const { status } = await inside.attempt(['curl', '-s', '--max-time', '2', `http://${host}:${LOOPBACK_PORT}/hash`]);
    expect(statuses).toContain(status);
  };

  const end = async (made: Kit): Promise<void> => {
    const pids = made.processes();
    const { status, timedOut, stderr } = await made.close();
    expect({ status, timedOut }, stderr).toEqual({ status: 5, timedOut: false });
    await allGone(pids);
    expect((await machine.user.attempt(['test', '-e', made.stateDir])).status).toBe(1);
  };

  describe.each(VERSIONS)('$version', ({ program, control }) => {
    it.concurrent('runs with the arguments of dockerd-rootless.sh', async () => {
      const sandbox = ['--slirp4netns-sandbox=auto', '--slirp4netns-seccomp=auto', '--disable-host-loopback'];
      const ports = ['--port-driver=builtin', '--copy-up=/etc', '--copy-up=/run', '--propagation=rslave'];
      const made = await kit(program, '--net=slirp4netns', '--mtu=65520', ...sandbox, ...ports);
      const { exe, words } = await made.tool();
      expect(words).toEqual(
        expect.arrayContaining(['--enable-sandbox', '--enable-seccomp', '--disable-host-loopback']),
      );
      if (process.env['PASTICHE_TEST_SLIRP'] === undefined) expect(exe).toBe(OURS);
      await outwards(made);
      await refused(made, '10.0.2.2', [7]);
      await changes(made, control);
      await end(made);
    });

    it.concurrent('publishes ports by the API socket of slirp4netns; IPv6, another network and MTU', async () => {
      const [http, udp] = [newPort(), newPort()];
      const network = ['--cidr=10.9.8.0/24', '--mtu=1500', '--ipv6', `--slirp4netns-binary=${SLIRP}`];
      const sandbox = ['--slirp4netns-sandbox=true', '--slirp4netns-seccomp=true', '--copy-up=/etc'];
      const publish = ['--port-driver=slirp4netns', '-p', `127.0.0.1:${http}:80/tcp`, '-p', `127.0.0.1:${udp}:81/udp`];
      const made = await kit(program, '--net=slirp4netns', ...network, ...sandbox, ...publish);
      expect(await made.inside.run(['ip', 'address', 'show', 'tap0'])).toMatch(/ mtu 1500 .* inet 10\.9\.8\.100\/24 /s);
      await Promise.all([outwards(made, '10.9.8', true), inwards(made, http, udp)]);
      await changes(made, control);
      await end(made);
    });

    it.concurrent('reaches the host’s loopback when it may, without a port driver', async () => {
      const made = await kit(program, '--net=slirp4netns', '--port-driver=none', '--copy-up=/etc');
      expect(await download(made.inside, '10.0.2.2', LOOPBACK_PORT)).toBe(hash);
      await end(made);
    });

    it.concurrent('leaves nothing when it is killed', async () => {
      const made = await kit(program, '--net=slirp4netns', '--port-driver=slirp4netns', '--copy-up=/etc');
      const pids = made.processes();
      made.process.kill('SIGKILL');
      await made.process.closed;
      await allGone(pids);
    });

    it.concurrent('ends as ever when its network program was killed before', async () => {
      const made = await kit(program, '--net=slirp4netns', '--copy-up=/etc');
      const { pid } = await made.tool();
      signalQuietly(pid, 'SIGKILL');
      await waitFor(() => !isAlive(pid), { what: 'its end' });
      expect(
        (await made.inside.attempt(['curl', '-s', '--max-time', '1', `http://${NET.server4}:${HTTP_PORT}/hash`]))
          .status,
      ).not.toBe(0);
      await end(made);
    });
  });

  describe('2.0, with its newer drivers', () => {
    const program = VERSIONS[1].program;
    const control = VERSIONS[1].control;

    it.concurrent('uses a network namespace apart from the child’s, by slirp4netns', async () => {
      const args = [
        '--net=slirp4netns',
        '--detach-netns',
        '--port-driver=builtin',
        '--disable-host-loopback',
        '--copy-up=/etc',
        '--copy-up=/run',
      ];
      const made = await kit(program, ...args);
      expect((await made.tool()).words).toEqual(expect.arrayContaining(['--netns-type=path']));
      await outwards(made);
      await changes(made, control);
      await end(made);
    });

    it.concurrent('uses pasta', async () => {
      const made = await kit(program, '--net=pasta', '--port-driver=none', '--disable-host-loopback', '--copy-up=/etc');
      const { words, exe } = await made.tool();
      expect(words).toEqual(expect.arrayContaining(['--foreground', '--no-map-gw', '--tcp-ports=none']));
      expect(exe).toBe(OURS);
      await outwards(made);
      await refused(made, '10.0.2.2', [7, 28]);
      await end(made);
    });

    it.concurrent('uses pasta’s own port forwarding, and a network namespace apart', async () => {
      const made = await kit(
        program,
        '--net=pasta',
        '--port-driver=implicit',
        '--detach-netns',
        '--ipv6',
        '--copy-up=/etc',
        '--copy-up=/run',
      );
      const port = newPort();
      await outwards(made);
      await inwards(made, port, port + 1000, port, port + 1000);
      await end(made);
    });

    it.concurrent('leaves nothing of pasta when it is killed', async () => {
      const made = await kit(program, '--net=pasta', '--port-driver=implicit', '--copy-up=/etc');
      const pids = made.processes();
      made.process.kill('SIGKILL');
      await made.process.closed;
      await allGone(pids);
    });
  });
});
