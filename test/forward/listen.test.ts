// SPDX-License-Identifier: Apache-2.0
/** Listening sockets: those that are asked for and no others, when they are there, and what is said where they cannot be. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parsePortSpec } from '../../controller/fwd/port-spec.ts';
import { type Lab, makeLab, NET, type Side } from '../support/lab.mjs';
import { type Started, waitFor } from '../support/process.mjs';

/** One look a second, and some for a machine that is busy. */
const AUTO_WITHIN_MS = 5000;
const NONE = { t: 'none', u: 'none', T: 'none', U: 'none' };
type Specs = Partial<typeof NONE>;

let lab: Lab;
let before: readonly string[];
beforeAll(async () => {
  lab = await makeLab();
  before = await listening(lab.host);
});
afterAll(() => lab.cleanup());

/** `tcp *:80`, sorted. */
const listening = async (side: Side): Promise<string[]> =>
  (await side.run(['ss', '-Hltun']))
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(/\s+/))
    .map(([protocol, , , , local]) => `${protocol} ${local}`)
    .sort();
const ours = async (): Promise<string[]> => (await listening(lab.host)).filter((line) => !before.includes(line));
const options = (specs: Specs): string[] =>
  Object.entries({ ...NONE, ...specs }).flatMap(([letter, spec]) => [`-${letter}`, spec]);
const start = (specs: Specs, more: readonly string[] = []) =>
  lab.guest(['--config-net', ...more, ...options(specs)], undefined, { forwards: true });
const fails = (specs: Specs) =>
  lab.user.attempt([lab.binary, '--config-net', ...options(specs), '--', 'true'], { timeoutMs: 10_000 });
const serve = (side: Side, protocol: 'TCP' | 'UDP', port: number, address = '0.0.0.0'): Started => {
  const kind = protocol === 'TCP' ? 'STREAM' : 'DGRAM';
  const listen = protocol === 'TCP' ? 's.listen(1);' : '';
  return side.spawn([
    'python3',
    '-c',
    `import socket,time; s=socket.socket(socket.AF_INET, socket.SOCK_${kind}); s.bind(('${address}', ${port})); ${listen} time.sleep(60)`,
  ]);
};

describe('every specification binds the sockets that it says, and no others', () => {
  const CONTEXT = {
    protocol: 'tcp',
    families: { v4: true, v6: true },
    ephemeral: { first: 32_768, last: 60_999 },
  } as const;
  it.each<readonly string[]>([
    ['8080', '*:8080'],
    ['8080-8083', '*:8080', '*:8081', '*:8082', '*:8083'],
    ['8080:80', '*:8080'],
    ['8080-8081:9080-9081,9000', '*:8080', '*:8081', '*:9000'],
    ['8000-8003,~8001-8002', '*:8000', '*:8003'],
    ['127.0.0.1/8080', '127.0.0.1:8080'],
    ['127.7.7.7/8080', '127.7.7.7:8080'],
    [`${NET.host4}/8080`, `${NET.host4}:8080`],
    ['0.0.0.0/8080', '0.0.0.0:8080'],
    ['::1/8080', '[::1]:8080'],
    ['[::1]/8080-8081', '[::1]:8080', '[::1]:8081'],
    ['[::]/8080', '[::]:8080'],
    ['%eth0/8080', '*%eth0:8080'],
    ['127.0.0.1%lo/8080', '127.0.0.1%lo:8080'],
    ['*/8080', '*:8080'],
    [`0.0.0.0/8080:${NET.host4}/80`, '0.0.0.0:8080'],
    ['none'],
  ])('%s', async (spec, ...sockets) => {
    const guest = await start({ t: spec, u: spec });
    const expected = ['tcp', 'udp'].flatMap((protocol) => sockets.map((one) => `${protocol} ${one}`));
    expect(await ours()).toEqual(expected.sort());
    // What is printed and shown is made from these rules.
    const rules = parsePortSpec(spec as string, { ...CONTEXT, direction: 'host' });
    expect(rules.reduce((sum, { first, last }) => sum + last - first + 1, 0)).toBe(sockets.length);
    await guest.close();
    await waitFor(async () => (await ours()).length === 0, { what: 'the ports to be gone', timeoutMs: 1000 });
  });

  it('and in the namespace, on its loopback interface alone', async () => {
    const guest = await start({ T: '7000-7002,7010:80', U: '7000' });
    expect(await listening(guest)).toEqual([
      'tcp *%lo:7000',
      'tcp *%lo:7001',
      'tcp *%lo:7002',
      'tcp *%lo:7010',
      'udp *%lo:7000',
    ]);
    expect(await ours()).toEqual([]);
    await guest.close();
  });
});

describe('at the start', () => {
  it('ports are open before the command runs', async () => {
    const done = await lab.user.attempt([
      lab.binary,
      '--config-net',
      ...options({ t: '8080', T: '8081' }),
      '--',
      'sh',
      '-c',
      'ss -Hltn',
    ]);
    expect([done.status, done.stdout.includes('*%lo:8081')]).toEqual([0, true]);
  });

  it('10,000 ports are', async () => {
    const guest = await start({ t: '10000-19999' });
    expect((await ours()).length).toBe(10_000);
    await guest.close();
    await waitFor(async () => (await ours()).length === 0, { what: 'the ports to be gone', timeoutMs: 2000 });
  });

  it('a port that is taken or not for us ends it, with its number and the reason', async () => {
    const server = serve(lab.host, 'TCP', 8080);
    await waitFor(async () => (await ours()).includes('tcp 0.0.0.0:8080'), { what: 'the other server' });
    const taken = await fails({ t: '8079-8081' });
    expect([taken.status, taken.stderr.trim()]).toEqual([
      1,
      "Couldn't listen on requested ports: TCP port 8080: address already in use",
    ]);
    const low = await fails({ u: '0.0.0.0/53' });
    expect([low.status, low.stderr.trim()]).toEqual([
      1,
      "Couldn't listen on requested ports: UDP port 53 of 0.0.0.0: permission denied",
    ]);
    // Best effort: a warning, and all others.
    const all = await lab.user.attempt(
      [lab.binary, '--config-net', '-q', ...options({ t: '~1-8078,~8082-65535' }), '--', 'true'],
      { timeoutMs: 10_000 },
    );
    expect(all.status).toBe(0);
    server.kill('SIGKILL');
    await waitFor(async () => (await ours()).length === 0, { what: 'the other server to be gone' });
  });

  it('more ports than descriptors end it in a sentence', async () => {
    const done = await lab.user.attempt([
      'prlimit',
      '--nofile=1024:1024',
      lab.binary,
      '--config-net',
      ...options({ t: '10000-19999' }),
      '--',
      'true',
    ]);
    expect([done.status, done.stderr.trim()]).toEqual([
      1,
      "Couldn't listen on requested ports: 10000 sockets are more than the limit of open files (RLIMIT_NOFILE) allows; it takes ulimit -n 10128",
    ]);
  });
});

describe('auto', () => {
  it('ports are there while somebody listens at them, for UDP also those of TCP', async () => {
    const guest = await start({ t: 'auto', u: 'auto', T: 'auto', U: 'auto' });
    const servers = [
      serve(guest, 'TCP', 8121),
      serve(guest, 'UDP', 8122),
      serve(lab.host, 'TCP', 8123),
      serve(lab.host, 'UDP', 8124),
    ];
    const seen = async (): Promise<string[]> =>
      [
        ...(await ours()).filter((line) => line.includes(' *:')),
        ...(await listening(guest)).filter((line) => line.includes('%lo')),
      ].sort();
    const expected = ['tcp *%lo:8123', 'tcp *:8121', 'udp *%lo:8123', 'udp *%lo:8124', 'udp *:8121', 'udp *:8122'];
    await waitFor(async () => (await seen()).join() === expected.join(), {
      what: 'the ports',
      timeoutMs: AUTO_WITHIN_MS,
    });
    for (const server of servers) server.kill('SIGKILL');
    await waitFor(async () => (await seen()).length === 0, { what: 'the ports to be gone', timeoutMs: AUTO_WITHIN_MS });
    await guest.close();
  });

  it('of several addresses of the guest, servers at the one that ports lead to count', async () => {
    const [first, second] = ['10.9.0.5', '10.9.0.6'];
    const guest = await start({ t: 'auto', u: 'auto' }, ['-a', `${first}/24`, '-a', `${second}/24`, '-4']);
    const servers = (['TCP', 'UDP'] as const).flatMap((protocol) => [
      serve(guest, protocol, 8131, second),
      serve(guest, protocol, 8132, first),
    ]);
    const found = ['tcp 0.0.0.0:8132', 'udp 0.0.0.0:8132'];
    const bound = async (): Promise<number> =>
      (await listening(guest)).filter((line) => line.includes('10.9.0.')).length;
    await waitFor(async () => (await bound()) === servers.length, { what: 'the servers' });
    // The first look that sees one sees all of them.
    await waitFor(async () => (await ours()).length > 0, { what: 'the ports', timeoutMs: AUTO_WITHIN_MS });
    await waitFor(async () => (await ours()).length >= found.length, { what: 'both protocols' });
    expect(await ours()).toEqual(found);
    await guest.close();
  });

  it('thousands of ports of somebody else cost the guest neither its start nor its connections', async () => {
    const many = lab.host.spawn([
      'python3',
      '-c',
      `import socket,time
l=[]
for p in range(20000, 21200):
  s=socket.socket(); s.bind(('127.0.0.1', p)); s.listen(1); l.append(s)
print('made', flush=True); time.sleep(60)`,
    ]);
    await waitFor(() => many.out().includes('made'), { what: 'the listeners' });
    const script = 'ss -Hltn | grep -c %lo; ping -c1 -W5 $0 >/dev/null && echo reached';
    const limit = ['prlimit', '--nofile=1024:1024'];
    const argv = [...limit, lab.binary, '--config-net', ...options({ T: 'auto', U: 'auto' }), '--', 'sh', '-c', script];
    const done = await lab.user.attempt([...argv, NET.server4], { timeoutMs: 20_000 });
    many.kill('SIGKILL');
    expect([done.status, done.stdout.trim().split('\n')]).toEqual([0, ['112', 'reached']]);
    expect(done.stderr).toContain(
      'auto found more ports than the limit of open files (RLIMIT_NOFILE, 1024) has room for',
    );
    await waitFor(async () => (await ours()).length === 0, { what: 'the listeners to be gone' });
  });

  it('what listens before the start is found by then; what we open ourselves leads nowhere', async () => {
    const server = serve(lab.host, 'TCP', 8124);
    await waitFor(async () => (await ours()).length === 1, { what: 'the server' });
    const done = await lab.user.attempt([
      lab.binary,
      '--config-net',
      ...options({ t: '8125', T: 'auto', u: 'auto', U: 'auto' }),
      '--',
      'ss',
      '-Hltn',
    ]);
    expect(done.stdout).toContain('*%lo:8124');
    expect(done.stdout).not.toContain('8125');
    server.kill('SIGKILL');
    await waitFor(async () => (await ours()).length === 0, { what: 'the server to be gone' });
  });
});

it('--splice-only has no interface but lo, and ports all the same', async () => {
  const guest = await lab.guest(['--splice-only', ...options({ t: '8126' })], undefined, { forwards: true });
  expect((await guest.run(['ip', '-o', 'link'])).trim().split('\n').length).toBe(1);
  expect(await ours()).toEqual(['tcp *:8126']);
  await guest.close();
});
