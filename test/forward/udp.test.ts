// SPDX-License-Identifier: Apache-2.0
/** UDP that comes in by forwarded ports: from the network as a frame, with who sent it; from loopback to loopback past the tap. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Guest, type Lab, makeLab, NET, REPOSITORY, type Side } from '../support/lab.mjs';
import { type Started, waitFor } from '../support/process.mjs';

const program = ['python3', join(REPOSITORY, 'test/support/udp.py')];
const PORT = 7300;
/** …and one of the host's that leads to it. */
const OTHER_PORT = 7400;
/** In the host, reached from the namespace. */
const HOST_PORT = 7500;
const CLOSED_PORT = 7600;
const DNS_PORT = 7753;
const CLIENT_PORT = 41_000;
const SECOND_ADDRESS = '192.0.2.22';
const SIZES = [0, 1, 2, 1400, 1472, 1473, 4000, 9000, 65_507];
const SERVER_TTL = 44;
const SERVER_TOS = 0x22;

interface Heard {
  readonly from: string;
  readonly port: number;
  readonly ttl: number;
  readonly tos: number;
  readonly size: number;
}
const heardIn = (out: string): Heard[] =>
  out
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Heard);
const serve = async (side: Side, address: string, port: number): Promise<Started> => {
  const server = side.spawn([...program, 'serve', address, port, SERVER_TTL, SERVER_TOS].map(String));
  await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, { what: 'the server' });
  expect(server.err()).toBe('');
  return server;
};
/** Questions of these sizes, each echoed before the next; the program compares every byte. Who answered. */
const ask = async (side: Side, address: string, port: number, from: number, ...sizes: number[]): Promise<Heard[]> =>
  heardIn(await side.run([...program, 'ask', address, port, from, 33, 0x2c, ...sizes].map(String)));

const FAMILIES = [
  { family: 'IPv4', own: NET.host4, peer: NET.gateway4, loopback: '127.0.0.1', any: '0.0.0.0' },
  { family: 'IPv6', own: NET.host6, peer: NET.gateway6, loopback: '::1', any: '::' },
] as const;

describe('UDP to forwarded ports', () => {
  let lab: Lab;
  let guest: Guest;
  const inGuest = new Map<string, Started>();
  const onHost = new Map<string, Started>();
  beforeAll(async () => {
    lab = await makeLab({ mtu: 1500 });
    await lab.host.run(['ip', 'addr', 'add', `${SECOND_ADDRESS}/24`, 'dev', 'eth0']);
    const ports = `${PORT},${OTHER_PORT}:${PORT},${CLOSED_PORT},${DNS_PORT}:53`;
    const args = ['--config-net', '-m', '1500', '-t', 'none', '-T', 'none', '-u', ports, '-U', `${HOST_PORT}`];
    guest = await lab.guest(args, lab.binary, { forwards: true });
    for (const { family, any, loopback } of FAMILIES) {
      // The second binds to IPv6 only: the port of both families is taken.
      inGuest.set(family, await serve(guest, any === '::' ? NET.host6 : any, PORT));
      onHost.set(family, await serve(lab.host, loopback, HOST_PORT));
    }
  });
  afterAll(() => lab.cleanup());
  const lastSeen = (family: string, servers = inGuest): Heard | undefined =>
    heardIn(servers.get(family)?.out() ?? '').at(-1);

  it.each(FAMILIES)('from the network, with its own address, port, TTL and DSCP, over $family', async (f) => {
    const [answer] = await ask(lab.remote, f.own, PORT, CLIENT_PORT, 100);
    expect(lastSeen(f.family)).toMatchObject({ from: f.peer, port: CLIENT_PORT, ttl: 33, tos: 0x2c, size: 100 });
    expect(answer).toMatchObject({ from: f.own, port: PORT, ttl: SERVER_TTL, tos: SERVER_TOS });
  });

  it.each(FAMILIES)('datagrams of 0 to 65,507 octets over $family', async (f) => {
    const answers = await ask(lab.remote, f.own, PORT, 0, ...SIZES);
    expect(answers.map(({ size }) => size)).toEqual(SIZES);
  });

  it('answers leave from the address and port that was asked, by one peer after another of them', async () => {
    for (const address of [NET.host4, SECOND_ADDRESS, NET.host4]) {
      for (const port of [PORT, OTHER_PORT]) {
        const [answer] = await ask(lab.remote, address, port, CLIENT_PORT + 1, 10);
        expect([answer?.from, answer?.port]).toEqual([address, port]);
        expect(lastSeen('IPv4')).toMatchObject({ from: NET.gateway4, port: CLIENT_PORT + 1 });
      }
    }
  });

  it('a neighbour by its link-local address', async () => {
    const address = async (side: Side): Promise<string> =>
      /inet6 (fe80\S+)\//.exec(await side.run(['ip', '-6', 'addr', 'show', 'eth0']))?.[1] ?? '';
    const server = await serve(guest, await address(guest).then((own) => `${own}%eth0`), PORT);
    const own = await address(lab.host);
    const [answer] = await ask(lab.remote, `${own}%eth0`, PORT, CLIENT_PORT + 6, 10);
    expect([answer?.from, answer?.port]).toEqual([own, PORT]);
    expect(heardIn(server.out())).toMatchObject([{ from: await address(lab.remote), port: CLIENT_PORT + 6 }]);
  });

  it.each(FAMILIES)('500 peers at once, each with its own answers, over $family', async (f) => {
    const out = JSON.parse(await lab.remote.run([...program, 'burst', f.own, PORT, 500].map(String)));
    expect(out.lost).toBe(0);
  });

  it('a scan from 2,000 ports does not cost a peer its socket', async () => {
    const port = CLIENT_PORT + 2;
    const socket = async (): Promise<string | undefined> => {
      const out = await lab.host.run(['ss', '-Hune', 'dport', '=', String(port)]);
      return /\bsk:(\S+)/.exec(out)?.[1];
    };
    await ask(lab.remote, NET.host4, PORT, port, 10);
    const before = await socket();
    expect(before).toBeDefined();
    for (const to of [PORT, CLOSED_PORT]) await lab.remote.run([...program, 'fan', NET.host4, to, 2000].map(String));
    await ask(lab.remote, NET.host4, PORT, port, 10);
    expect(await socket()).toBe(before);
  });

  it.each(FAMILIES)('nobody listens: no answer, and the port goes on for others, over $family', async (f) => {
    const done = await lab.remote.attempt([...program, 'burst', f.own, CLOSED_PORT, 1].map(String), { timeoutMs: 700 });
    expect(done.stdout).toBe('');
    await ask(lab.remote, f.own, PORT, 0, 10);
  });

  it.each(FAMILIES)('the host’s loopback to the namespace, past the tap, over $family', async (f) => {
    const answers = await ask(lab.host, f.loopback, PORT, CLIENT_PORT + 3, ...SIZES);
    expect(answers.map(({ from, port, size }) => [from, port, size])).toEqual(SIZES.map((n) => [f.loopback, PORT, n]));
    // As from the namespace itself: by the tap it would be the gateway.
    expect(lastSeen(f.family)).toMatchObject({ from: f.own, port: CLIENT_PORT + 3 });
  });

  it.each(FAMILIES)('the namespace’s loopback to the host’s, past the tap, over $family', async (f) => {
    const answers = await ask(guest, f.loopback, HOST_PORT, CLIENT_PORT + 4, ...SIZES);
    expect(answers.map(({ from, port, size }) => [from, port, size])).toEqual(
      SIZES.map((n) => [f.loopback, HOST_PORT, n]),
    );
    expect(lastSeen(f.family, onHost)).toMatchObject({ from: f.loopback, port: CLIENT_PORT + 4 });
  });

  it.each(FAMILIES)('200 peers at once from loopback to loopback, both ways, over $family', async (f) => {
    for (const [side, port] of [
      [lab.host, PORT],
      [guest, HOST_PORT],
    ] as const) {
      const out = JSON.parse(await side.run([...program, 'burst', f.loopback, port, 200].map(String)));
      expect(out.lost).toBe(0);
    }
  });

  it.each(FAMILIES)(
    'the host by its own address, which is the guest’s too: the gateway asks, over $family',
    async (f) => {
      const [answer] = await ask(lab.host, f.own, PORT, CLIENT_PORT + 5, 10);
      expect([answer?.from, answer?.port]).toEqual([f.own, PORT]);
      const seen = lastSeen(f.family);
      expect(seen?.port).toBe(CLIENT_PORT + 5);
      expect(seen?.from).toBe(f.peer);
    },
  );

  it('a name server in the namespace is asked from the host and from the network', async () => {
    const server = guest.spawn([
      'dnsmasq',
      '--keep-in-foreground',
      '--conf-file=/dev/null',
      '--no-resolv',
      '--no-hosts',
      '--pid-file=',
      '--user=root',
      '--group=',
      '--host-record=inside.lab.test,192.0.2.99',
    ]);
    const query = (address: string): string[] => [
      process.execPath,
      '-e',
      `const r = new (require('node:dns').promises.Resolver)({ timeout: 500, tries: 6 });
       r.setServers(['${address.includes(':') ? `[${address}]` : address}:${DNS_PORT}']);
       r.resolve4('inside.lab.test').then((a) => console.log(a.join()), (e) => { console.error(e); process.exit(1); });`,
    ];
    for (const { own, loopback } of FAMILIES) {
      expect(await lab.remote.run(query(own))).toBe('192.0.2.99\n');
      expect(await lab.host.run(query(loopback))).toBe('192.0.2.99\n');
    }
    server.kill('SIGTERM');
  });
});

describe('the loopback bypass', () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await makeLab();
    await serve(lab.host, '127.0.0.1', HOST_PORT);
  });
  afterAll(() => lab.cleanup());

  it.each([
    { args: ['--splice-only'], own: '127.0.0.1', from: '127.0.0.1' },
    { args: ['--config-net', '--host-lo-to-ns-lo'], own: '127.0.0.1', from: '127.0.0.1' },
    // As a frame, from the gateway.
    { args: ['--config-net', '--no-splice'], own: NET.host4, from: NET.gateway4 },
  ])('$args: a service at $own sees $from', async ({ args, own, from }) => {
    const forwards = ['-t', 'none', '-T', 'none', '-u', `${PORT}`, '-U', `${HOST_PORT}`];
    const guest = await lab.guest([...args, ...forwards], lab.binary, { forwards: true });
    const server = await serve(guest, own, PORT);
    await ask(lab.host, '127.0.0.1', PORT, 0, 1, 65_507);
    expect(heardIn(server.out()).map((heard) => [heard.from, heard.size])).toEqual([
      [from, 1],
      [from, 65_507],
    ]);
    await ask(guest, '127.0.0.1', HOST_PORT, 0, 1, 65_507);
    server.kill('SIGTERM');
    await guest.close();
  });
});
