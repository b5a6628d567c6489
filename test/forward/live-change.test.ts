// SPDX-License-Identifier: Apache-2.0
/**
 * Rules changed while pasta runs: over pesto's socket by our pesto and by a client of the original's kind, and over our own
 * socket. What listens is compared with what is listed after each change, while connections go on.
 *
 * PASTICHE_LIVE_SPACING_MS=1000 puts the thousand changes a second apart.
 */
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  commandName,
  descendants,
  Guest,
  isRoot,
  type Lab,
  makeLab,
  NET,
  REPOSITORY,
  type Side,
} from '../support/lab.mjs';
import { ANY4, RawPesto, type RawTable, rawRule } from '../support/pesto-raw.ts';
import { descriptors, hasExited, type Started, waitFor } from '../support/process.mjs';

const SPACING_MS = Number(process.env['PASTICHE_LIVE_SPACING_MS'] ?? 0);
const CHANGES = 1000;
/** Of the guest's echo server. */
const SERVICE = 80;
/** Ports of the host that lead there at the start; the first stays, the second goes. */
const STAYS = 7000;
const GOES = 7001;
const FOREIGN_USER = 64_010;

let lab: Lab;
let guest: Guest;
let conf: string;
let control: string;
let pestoBinary: string;

/** Talks with an echo service until its input ends; "lost" if the connection does first. */
const TALK = `
  const s = require('node:net').connect(+process.argv[2], process.argv[1], () => console.log('connected'));
  let n = 0;
  const say = () => s.write(String(n));
  s.setNoDelay(true);
  s.on('connect', say);
  s.on('data', (d) => { if (String(d) !== String(n)) lost('garbled'); n++; setTimeout(say, 10); });
  const lost = (why) => { console.log('lost', why, n); process.exit(1); };
  s.on('error', lost).on('close', () => lost('closed'));
  process.stdin.resume().on('end', () => { console.log('said', n); process.exit(0); });
`;
const talk = async (side: Side, address: string, port: number): Promise<Started> => {
  const talker = side.spawn([process.execPath, '-e', TALK, address, String(port)], { stdin: 'pipe' });
  await waitFor(() => /connected|lost/.test(talker.out()), { what: `a connection to ${address} ${port}` });
  expect(talker.out()).not.toContain('lost');
  return talker;
};
const said = async (talker: Started): Promise<number> => {
  talker.child.stdin?.end();
  await waitFor(() => /said|lost/.test(talker.out()), { what: 'the end of a talk' });
  expect(talker.out()).not.toContain('lost');
  return Number(/said (\d+)/.exec(talker.out())?.[1]);
};
/** One exchange with the service: what came back, or an error's code. */
const ASK = `
  const s = require('node:net').connect(+process.argv[2], process.argv[1], () => s.write('x'));
  s.on('data', (d) => { console.log(String(d)); process.exit(0); }).on('error', (e) => { console.log(e.code); process.exit(0); });
`;
const ask = async (side: Side, address: string, port: number): Promise<string> =>
  (await side.run([process.execPath, '-e', ASK, address, String(port)])).trim();

const pesto = (...args: string[]) => lab.user.attempt([pestoBinary, ...args]);
const ports = (...args: string[]) => lab.user.attempt([join(dirname(lab.binary), 'pastiche'), 'ports', ...args]);
const changed = async (...args: string[]): Promise<void> => {
  const done = await pesto(...args);
  expect([done.status, done.stderr, done.stdout]).toEqual([0, '', '']);
};

/** Sockets of the host that listen, as "tcp 7000": the kernel's own list, which is what ss shows. */
const listening = (): string[] => {
  const found = new Set<string>();
  for (const [file, state] of [
    ['tcp', '0A'],
    ['tcp6', '0A'],
    ['udp', '07'],
    ['udp6', '07'],
  ] as const)
    for (const line of readFileSync(`/proc/${guest.pid}/net/${file}`, 'ascii').split('\n').slice(1)) {
      const [, local = '', , st] = line.trim().split(/\s+/);
      if (st === state) found.add(`${file.slice(0, 3)} ${Number.parseInt(local.split(':')[1] ?? '', 16)}`);
    }
  return [...found].sort();
};
/** The same by ss, with addresses. */
const ss = async (): Promise<string[]> =>
  (await lab.host.run(['ss', '-Hltn']))
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/)[3] ?? '')
    .sort();
const portsOf = (tables: readonly RawTable[]): string[] =>
  tables
    .filter(({ pif }) => pif === 1)
    .flatMap(({ rules }) => rules)
    .flatMap((rule) => {
      const [first, last] = [rule.readUInt16BE(48), rule.readUInt16BE(50)];
      return Array.from({ length: last - first + 1 }, (_, i) => `${rule[54] === 6 ? 'tcp' : 'udp'} ${first + i}`);
    })
    .sort();
const listed = async (): Promise<RawTable[]> => {
  const client = RawPesto.connect(conf);
  const tables = await client.tables();
  client.close();
  await client.closed;
  return tables;
};

beforeAll(async () => {
  lab = await makeLab();
  const dir = join(lab.dir, 'sockets');
  mkdirSync(dir);
  chmodSync(dir, 0o777);
  conf = join(dir, 'pesto');
  control = join(dir, 'control');
  pestoBinary = join(dirname(lab.binary), 'pesto');
  const forwards = ['-t', `${STAYS}:${SERVICE}`, '-t', `${GOES}:${SERVICE}`];
  guest = await lab.guest(['--config-net', ...forwards, '-c', conf, '--control', control]);
  const server = guest.spawn([process.execPath, join(REPOSITORY, 'test/support/echo.mjs'), String(SERVICE), '::']);
  await waitFor(() => server.out().includes('listening'), { what: 'the service of the guest' });
});
afterAll(() => lab.cleanup());

describe('the command lines of callers', () => {
  it('Podman: a port of both IP versions', async () => {
    const server = guest.spawn([process.execPath, join(REPOSITORY, 'test/support/echo.mjs'), '8080', '::']);
    await waitFor(() => server.out().includes('listening'), { what: 'a second service of the guest' });
    await changed('--add', '-t', '0.0.0.0/8080', '-t', '[::]/8080', conf);
    expect(await ss()).toEqual(expect.arrayContaining(['0.0.0.0:8080', '[::]:8080']));
    expect(await ask(lab.remote, NET.host4, 8080)).toBe('x');
    expect(await ask(lab.remote, NET.host6, 8080)).toBe('x');
    await changed('--delete', '-t', '0.0.0.0/8080', '-t', '[::]/8080', conf);
    expect((await ss()).join(' ')).not.toContain(':8080');
    expect(await ask(lab.remote, NET.host4, 8080)).toBe('ECONNREFUSED');
    server.kill('SIGKILL');
  });

  it('Podman 6.1: an address and port of the container', async () => {
    const guestAddress =
      /inet (\S+)\/\d+ .*scope global/.exec(await guest.run(['ip', '-4', 'addr', 'show']))?.[1] ?? '';
    const spec = `${NET.host4}/8081:${guestAddress}/${SERVICE}`;
    await changed('--add', '-t', spec, conf);
    expect(await ss()).toContain(`${NET.host4}:8081`);
    expect(await ask(lab.remote, NET.host4, 8081)).toBe('x');
    await changed('--delete', '-t', spec, conf);
    expect(await ask(lab.remote, NET.host4, 8081)).toBe('ECONNREFUSED');
  });

  it('RootlessKit: a long option with an equals sign, and a probe of the version', async () => {
    const version = await pesto('--version');
    expect([version.status, version.stdout.split(' ')[0]]).toEqual([0, 'pesto']);
    await changed('-A', `--tcp-ports=0.0.0.0/8080:${SERVICE}`, conf);
    expect(await ask(lab.remote, NET.host4, 8080)).toBe('x');
    await changed('-D', `--tcp-ports=0.0.0.0/8080:${SERVICE}`, conf);
    expect(await ask(lab.remote, NET.host4, 8080)).toBe('ECONNREFUSED');
  });

  it('the listing, to the last blank', async () => {
    await changed('-A', '-t', '127.0.0.1/8090', '-u', '[::1]/9090-9099:9190-9199', conf);
    const before = `  HOST
    TCP [*]:${STAYS}  =>  ${SERVICE}${' '}
    TCP [*]:${GOES}  =>  ${SERVICE}${' '}
    TCP [127.0.0.1]:8090  =>  8090${' '}
    UDP [::1]:9090-9099  =>  9190-9199${' '}
  SPLICE
`;
    expect((await pesto(conf)).stdout).toBe(`passt/pasta configuration (${conf})\n${before}`);
    const shown = await pesto('-s', '-D', '-t', '127.0.0.1/8090', '-u', '[::1]/9090-9099:9190-9199', conf);
    const after = before.split('\n').filter((line) => !/8090|9090/.test(line));
    expect(shown.stdout).toBe(
      `Previous configuration (${conf})\n${before}Updated configuration (${conf})\n${after.join('\n')}`,
    );
  });

  it.each<[string, string[], RegExp]>([
    [
      'a rule that is there',
      ['-A', '-t', `${STAYS}:${SERVICE}`],
      /^Forwarding configuration conflict:.*\nUnable to add rule/,
    ],
    ['a rule that is not there', ['-D', '-t', '9999'], /^There is no rule/],
    ['a rule that differs', ['-D', '-t', String(STAYS)], /conflicts with .*, but doesn't match/],
    ['no table of that name', ['-C', 'TAP'], /^Unsupported pif name TAP/],
    ['no port', ['-A', '-t', '0'], /^Invalid port specifier/],
  ])('%s: exit status 1, a reason, and nothing is changed', async (_name, args, reason) => {
    const before = await listed();
    const done = await pesto(...args, conf);
    expect(done.status).toBe(1);
    expect(done.stderr).toMatch(reason);
    expect(done.stdout).toBe('');
    expect(await listed()).toEqual(before);
  });

  it('replaces a whole table, UDP rules as well, unless told to add', async () => {
    const before = await listed();
    await changed('-A', '-u', '9050', conf);
    await changed('-t', `${STAYS}:${SERVICE},${GOES}:${SERVICE}`, conf);
    expect(listening()).toEqual([`tcp ${STAYS}`, `tcp ${GOES}`]);
    expect(await listed()).toEqual(before);
  });
});

describe('a port that is taken', () => {
  let holder: Started;
  beforeAll(async () => {
    holder = lab.host.spawn([process.execPath, join(REPOSITORY, 'test/support/echo.mjs'), '9003', '0.0.0.0']);
    await waitFor(() => holder.out().includes('listening'), { what: 'a server of the host' });
  });

  it('pesto says so, and nothing of its change is in force', async () => {
    const before = await listed();
    const done = await pesto('-A', '-t', '9001-9004', conf);
    expect(done.status).toBe(1);
    expect(done.stderr).toMatch(/TCP port 9003 .*address already in use/);
    expect(await listed()).toEqual(before);
    expect(listening().filter((one) => /^tcp 900[124]$/.test(one))).toEqual([]);
  });

  it('pastiche ports says it for each rule, and rolls back', async () => {
    const before = await listed();
    const done = await ports('add', control, '-t', '9001', '-t', '9002', '-t', '9003', '--json');
    expect(done.status).toBe(1);
    const { error } = JSON.parse(done.stdout) as { error: { data: { rules: Record<string, unknown>[] } } };
    expect(error.data.rules.map(({ first, state, errno }) => [first, state, errno])).toEqual([
      [9001, 'unchanged', null],
      [9002, 'unchanged', null],
      [9003, 'failed', 98],
    ]);
    expect(await listed()).toEqual(before);
    expect(listening().filter((one) => /^tcp 900[12]$/.test(one))).toEqual([]);
  });

  it("a client of the original's kind: listed at once, listening once the port is free", async () => {
    const client = RawPesto.connect(conf);
    const tables = await client.tables();
    const before = tables.map(({ pif, rules }) => ({ pif, rules }));
    const extra = [rawRule('tcp', 9003, { address: ANY4 }), rawRule('tcp', 9004, { to: SERVICE })];
    await client.update(before.map(({ pif, rules }) => ({ pif, rules: pif === 1 ? [...rules, ...extra] : rules })));
    expect(client.after.length).toBe(0);
    expect(portsOf(await listed())).toEqual(expect.arrayContaining(['tcp 9003', 'tcp 9004']));
    expect(await ask(lab.remote, NET.host4, 9004)).toBe('x');
    const list = JSON.parse((await ports('list', control, '--json')).stdout) as { rules: Record<string, unknown>[] };
    expect(list.rules.find(({ first }) => first === 9003)).toMatchObject({ state: 'failed', errno: 98 });
    holder.kill('SIGKILL');
    await waitFor(
      async () =>
        (JSON.parse((await ports('list', control, '--json')).stdout).rules as { first: number; state: string }[]).some(
          ({ first, state }) => first === 9003 && state === 'listening',
        ),
      { what: 'the port that was taken to be ours' },
    );
    const again = RawPesto.connect(conf);
    await again.tables();
    await again.update(before);
  });

  it('pastiche ports adds, lists and removes', async () => {
    const added = await ports('add', control, '-t', `9001:${SERVICE}`, '-u', '9001');
    expect([added.status, added.stderr]).toEqual([0, '']);
    expect(added.stdout).toContain(`TCP [*]:9001  =>  ${SERVICE}  listening`);
    expect(await ask(lab.remote, NET.host4, 9001)).toBe('x');
    const list = await ports('list', control);
    expect(list.stdout).toMatch(/^HOST\n(.*\n)*\s+UDP \[\*\]:9001 {2}=> {2}9001 {2}listening/);
    expect((await ports('remove', control, '-t', `9001:${SERVICE}`, '-u', '9001')).status).toBe(0);
    expect(listening()).toEqual([`tcp ${STAYS}`, `tcp ${GOES}`]);
  });
});

describe('who misbehaves holds up nobody', () => {
  it('half a message, while traffic, another client and new connections go on', async () => {
    const talker = await talk(lab.remote, NET.host4, STAYS);
    const half = RawPesto.connect(conf);
    await half.tables();
    half.socket.write(Buffer.from('0100000004000000', 'hex'));
    const line = createConnection(control);
    line.write('{"jsonrpc":"2.0","id":1,"meth');
    const before = talker.out();
    expect(await ask(lab.remote, NET.host4, STAYS)).toBe('x');
    expect((await ports('list', control)).status).toBe(0);
    expect(talker.out()).toBe(before);
    // It is hung up on after five seconds; the next client waits no longer than that.
    const shown = await pesto(conf);
    expect(shown.status).toBe(0);
    await half.closed;
    line.destroy();
    expect(await said(talker)).toBeGreaterThan(20);
  });

  it('another user is not let in, however open the socket', async (context) => {
    if (!isRoot) {
      console.log('skipped: only root has a second user to try with');
      return context.skip();
    }
    const other = lab.host.within([
      'setpriv',
      `--reuid=${FOREIGN_USER}`,
      `--regid=${FOREIGN_USER}`,
      '--clear-groups',
      '--',
    ]);
    const refused = await other.attempt([pestoBinary, conf]);
    expect([refused.status, refused.stderr]).toEqual([1, `Can't connect to ${conf}: permission denied\n`]);
    for (const path of [conf, control]) chmodSync(path, 0o666);
    const seen = await other.attempt([pestoBinary, conf]);
    expect([seen.status, seen.stdout]).toEqual([1, '']);
    const list = await other.attempt([join(dirname(lab.binary), 'pastiche'), 'ports', 'list', control]);
    expect([list.status, list.stdout]).toEqual([1, '']);
    for (const path of [conf, control]) chmodSync(path, 0o600);
    expect((await pesto(conf)).status).toBe(0);
  });
});

describe('rules that come later', () => {
  const HOST_SERVICE = 7100;
  let other: Guest;
  let path: string;
  let server: Started;
  afterAll(async () => {
    server.kill('SIGKILL');
    await waitFor(() => hasExited(server), { what: 'the end of the service' });
  });
  beforeAll(async () => {
    path = join(dirname(conf), 'other');
    // Not lab.guest, whose "-T none" would keep that letter shut for good.
    const args = ['-t', 'none', '-u', 'none', '-T', '7099', '-U', 'none', '--config-net', '-c', path];
    const tool = lab.user.spawn([lab.binary, ...args, '--', 'sh', '-c', 'echo running; exec cat'], { stdin: 'pipe' });
    const inside = await waitFor(() => descendants(tool.pid()).find((pid) => commandName(pid) === 'cat'), {
      what: 'the command in a second namespace',
    });
    other = new Guest(tool, inside);
    const echo = [process.execPath, join(REPOSITORY, 'test/support/echo.mjs'), String(HOST_SERVICE), '127.0.0.1'];
    server = lab.host.spawn(echo);
    await waitFor(() => server.out().includes('listening'), { what: 'a service of the host' });
  });

  it('lead from the loopback of the namespace to that of the host', async () => {
    expect(await ask(other, '127.0.0.1', HOST_SERVICE)).toBe('ECONNREFUSED');
    await changed('-A', '-T', String(HOST_SERVICE), path);
    expect((await pesto(path)).stdout).toContain(`    TCP [*]%lo:${HOST_SERVICE}  =>  ${HOST_SERVICE} \n`);
    expect(await ask(other, '127.0.0.1', HOST_SERVICE)).toBe('x');
    await changed('-D', '-T', String(HOST_SERVICE), path);
    expect(await ask(other, '127.0.0.1', HOST_SERVICE)).toBe('ECONNREFUSED');
  });

  it('cannot open what was shut at the start', async () => {
    const done = await pesto('-A', '-U', String(HOST_SERVICE), path);
    expect(done.status).toBe(1);
    expect(done.stderr).toMatch(/^-U was none at the start: no such rule can be added: UDP /);
    expect(await ask(other, '127.0.0.1', HOST_SERVICE)).toBe('ECONNREFUSED');
  });

  it('follow services, with auto', async () => {
    await changed('-A', '-t', 'auto', path);
    expect(await ask(lab.remote, NET.host4, 7200)).toBe('ECONNREFUSED');
    const server = other.spawn([process.execPath, join(REPOSITORY, 'test/support/echo.mjs'), '7200', '::']);
    await waitFor(() => server.out().includes('listening'), { what: 'a service of the guest' });
    await waitFor(async () => (await ask(lab.remote, NET.host4, 7200)) === 'x', { what: 'its port to be forwarded' });
    await changed('-D', '-t', 'auto', path);
    expect(await ask(lab.remote, NET.host4, 7200)).toBe('ECONNREFUSED');
  });

  it('are gone with the instance, and so is the socket', async () => {
    await other.close();
    expect((await pesto(path)).stderr).toMatch(/no such file|nobody serves it/);
  });
});

it(
  `${CHANGES} changes under traffic: what listens is what is listed, nothing is lost, nothing is left behind`,
  async () => {
    const [stays, goes] = [await talk(lab.remote, NET.host4, STAYS), await talk(lab.remote, NET.host6, GOES)];
    const open = (): number => guest.toolProcesses().reduce((sum, pid) => sum + descriptors(pid).size, 0);
    const host = (await listed())[0]?.rules ?? [];
    const kept = host.filter((rule) => rule.readUInt16BE(48) === STAYS);
    const withAll = open();
    let seed = 4;
    const random = (n: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % n;
    };
    const rules = new Map<string, Buffer>();
    let now: string[] = [];
    for (let i = 0; i < CHANGES; i++) {
      const protocol = random(2) === 0 ? 'tcp' : 'udp';
      const port = 20_000 + 10 * random(40);
      const key = `${protocol} ${port}`;
      if (!rules.delete(key)) {
        const shape = random(3);
        rules.set(
          key,
          rawRule(protocol, port, shape === 0 ? {} : shape === 1 ? { last: port + 4 } : { address: ANY4 }),
        );
      }
      const client = RawPesto.connect(conf);
      const told = await client.tables();
      if (i > 0) expect(portsOf(told), `before change ${i}`).toEqual(now);
      const wanted = [...kept, ...rules.values()];
      await client.update([{ pif: 1, rules: wanted }]);
      expect(client.after.length).toBe(0);
      // A look costs the kernel a walk through all its connections: one a change.
      now = listening();
      expect(now, `after change ${i}`).toEqual(portsOf([{ pif: 1, name: '', caps: 0, rules: wanted }]));
      if (SPACING_MS > 0) await new Promise((done) => setTimeout(done, SPACING_MS));
    }
    const last = await listed();
    const tcp = portsOf(last).filter((one) => one.startsWith('tcp'));
    expect([...new Set((await ss()).map((one) => `tcp ${one.split(':').at(-1)}`))].sort()).toEqual(tcp);
    const client = RawPesto.connect(conf);
    await client.tables();
    await client.update([{ pif: 1, rules: host }]);
    await waitFor(() => open() <= withAll, { what: `no more than ${withAll} descriptors, not ${open()}` });
    expect(await ask(lab.remote, NET.host4, GOES)).toBe('x');
    // The rule of the second connection was gone all the time.
    expect(await said(goes)).toBeGreaterThan(20);
    expect(await said(stays)).toBeGreaterThan(20);
  },
  SPACING_MS * CHANGES + 120_000,
);
