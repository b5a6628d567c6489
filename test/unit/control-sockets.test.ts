// SPDX-License-Identifier: Apache-2.0
/** Both control sockets over real stream sockets and the real addon; only the helper and the listeners are played. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as control from '../../controller/app/control-sockets.ts';
import { encodeUpdate, TablesReader } from '../../controller/control/pesto-protocol.ts';
import { SESSION_MS } from '../../controller/control/pesto-server.ts';
import type { Rule, Tables } from '../../controller/fwd/rule.ts';
import * as io from '../../controller/io/io.ts';
import { FakeForwarding } from '../support/fake-forwarding.ts';
import { CLIENT_BYTES, CLIENT_TABLES, SERVER_BYTES, SERVER_TABLES } from '../support/pesto-exchange.ts';
import { testkit } from '../support/testkit.ts';

const SOCK_STREAM = 1;
const MSG_DONTWAIT = 0x40;
const EACCES = 13;
const EMFILE = 24;

let forwarding: FakeForwarding;
/** Listening sockets are pairs here: a byte in one is somebody who waits. */
let knock: { conf: number; control: number };
type Settle = (errno: number, result: { fd: number; pid: number } | null) => void;
/** What the helper was asked and has not answered. */
let asked: { kind: 'conf' | 'control' | 'api'; settle: Settle }[];
let full = false;

const turn = (timeoutMs = 0): number => {
  const n = io.native.wait(timeoutMs, 0);
  const events = Array.from({ length: n }, (_, i) => [
    io.col[io.COL.EVENT_REF + i] as number,
    io.col[io.COL.EVENT_MASK + i] as number,
  ]);
  for (const [ref, mask] of events) control.onEvent(ref as number, mask as number);
  control.tick(io.nowMs());
  return n;
};
/** Turns until nothing happens any more; a loop that spins fails here. */
const settleEvents = (): void => {
  for (let i = 0; i < 200; i++) if (turn() === 0) return;
  throw new Error('the events do not end');
};
const later = (ms: number): void => control.tick(io.nowMs() + ms);

const start = (tables: Tables = SERVER_TABLES): void => {
  forwarding = new FakeForwarding(tables);
  const [conf, knockConf] = testkit.socketpair(SOCK_STREAM);
  const [ours, knockControl] = testkit.socketpair(SOCK_STREAM);
  knock = { conf: knockConf, control: knockControl };
  listeners = [conf, ours, knockConf, knockControl];
  asked = [];
  full = false;
  control.configure({
    conf,
    control: ours,
    api: null,
    forwarding,
    ask: (_side, _method, { kind }, settle) => {
      if (full) return false;
      testkit.recv(kind === 'conf' ? conf : ours, 1, MSG_DONTWAIT);
      asked.push({ kind, settle });
      return true;
    },
    caps: 0x3f,
    directions: ['host', 'splice'],
    shut: ['udp'],
  });
};

let listeners: number[] = [];
let clients: Client[] = [];
/** Everybody leaves, and the sockets with them: the epoll set is the process's. */
const end = (): void => {
  for (const client of clients) client.close();
  for (const { settle } of asked) settle(EACCES, null);
  if (forwarding.changing) forwarding.settle();
  settleEvents();
  later(60_000);
  for (const fd of listeners) testkit.close(fd);
  clients = [];
};

class Client {
  readonly fd: number;
  #closed = false;
  constructor(fd: number) {
    this.fd = fd;
    testkit.nonBlocking(fd, true);
    clients.push(this);
  }
  close(): void {
    if (!this.#closed) testkit.close(this.fd);
    this.#closed = true;
  }
  send(bytes: Uint8Array | string): void {
    testkit.send(this.fd, Buffer.from(bytes as string));
    settleEvents();
  }
  request(method: string, params?: unknown, id: number | null = 1): void {
    this.send(`${JSON.stringify({ jsonrpc: '2.0', ...(id === null ? {} : { id }), method, params })}\n`);
  }
  /** Everything that has come; null: nothing has, and the connection stands. */
  received(): Buffer | null {
    const parts: Buffer[] = [];
    for (;;) {
      try {
        const part = testkit.recv(this.fd, 1 << 20, MSG_DONTWAIT);
        if (part.length === 0) return Buffer.concat(parts);
        parts.push(Buffer.from(part));
      } catch {
        return parts.length === 0 ? null : Buffer.concat(parts);
      }
    }
  }
  answer(): { id: unknown; result?: never; error?: never } & Record<string, never> {
    return JSON.parse(this.received()?.toString('utf8') ?? 'null');
  }
  /** Whether the server has closed; what came before is lost. */
  closed(): boolean {
    this.received();
    return this.received()?.length === 0;
  }
}

/** Somebody connects; the helper lets him in. */
const connect = (kind: 'conf' | 'control'): Client => {
  testkit.send(knock[kind], Buffer.from([1]));
  settleEvents();
  const [request] = asked.splice(0, 1);
  if (request === undefined) throw new Error('the helper was not asked');
  expect(request.kind).toBe(kind);
  const [theirs, ours] = testkit.socketpair(SOCK_STREAM);
  testkit.nonBlocking(theirs, true);
  request.settle(0, { fd: theirs, pid: 4711 });
  settleEvents();
  return new Client(ours);
};
const greeted = (): Client => {
  const client = connect('conf');
  expect(client.received()?.toString('hex')).toBe(SERVER_BYTES.toString('hex'));
  return client;
};
const rule = (port: number, more: Partial<Rule> = {}): Rule => ({
  protocol: 'tcp',
  address: '',
  interface: '',
  first: port,
  last: port,
  target: '',
  to: port,
  weak: false,
  scan: false,
  ...more,
});
const openDescriptors = (): number => testkit.socket(1, SOCK_STREAM, 0);

beforeEach(() => start());
afterEach(() => end());

describe("pesto's socket", () => {
  test('the recorded exchange: tables out, update in, closed when it is in force, and not one byte more', () => {
    const client = greeted();
    client.send(CLIENT_BYTES);
    expect(forwarding.begun).toEqual(['what-works']);
    expect(client.received()).toBe(null);
    forwarding.settle();
    expect(forwarding.tables()).toEqual(CLIENT_TABLES);
    expect(client.received()).toEqual(Buffer.alloc(0));
  });

  test('an update in single octets is the same update', () => {
    const client = greeted();
    for (const byte of CLIENT_BYTES) client.send([byte] as unknown as Uint8Array);
    forwarding.settle();
    expect(forwarding.tables()).toEqual(CLIENT_TABLES);
  });

  test('a client that closes at once after its update is served all the same', () => {
    const client = greeted();
    testkit.send(client.fd, CLIENT_BYTES);
    client.close();
    settleEvents();
    forwarding.settle();
    expect(forwarding.tables()).toEqual(CLIENT_TABLES);
    greetedAfter();
  });

  test('a viewer that leaves changes nothing, and the next one is let in', () => {
    greeted().close();
    settleEvents();
    expect(forwarding.begun).toEqual([]);
    greeted().close();
  });

  test('clients that are gone before they are greeted hold up nobody', () => {
    for (let i = 0; i < 5; i++) {
      testkit.send(knock.conf, Buffer.from([1]));
      settleEvents();
      const [theirs, ours] = testkit.socketpair(SOCK_STREAM);
      testkit.nonBlocking(theirs, true);
      testkit.close(ours);
      expect(asked.length, `after ${i} of them`).toBe(1);
      asked.splice(0, 1)[0]?.settle(0, { fd: theirs, pid: 1 });
      settleEvents();
    }
    greetedAfter();
    const client = connect('control');
    client.request('ports.add', { rules: [{ direction: 'host', protocol: 'tcp', first: 4000 }] });
    expect(forwarding.changing).toBe(true);
  });

  test('the second client waits until the first leaves', () => {
    const first = greeted();
    testkit.send(knock.conf, Buffer.from([1]));
    settleEvents();
    expect(asked).toEqual([]);
    first.close();
    settleEvents();
    expect(asked.length).toBe(1);
  });

  test.each<[string, Buffer]>([
    ['says nothing', Buffer.alloc(0)],
    ['says half', CLIENT_BYTES.subarray(0, CLIENT_BYTES.length / 2)],
    ['says all but the end', CLIENT_BYTES.subarray(0, -1)],
  ])('a client that %s is hung up on after the time limit, and nothing changes', (_name, bytes) => {
    const client = greeted();
    client.send(bytes);
    expect(control.nextDelay(io.nowMs())).toBeLessThanOrEqual(SESSION_MS);
    later(SESSION_MS - 1000);
    expect(client.closed()).toBe(false);
    later(SESSION_MS + 1);
    expect(client.closed()).toBe(true);
    expect(forwarding.begun).toEqual([]);
    greetedAfter();
  });

  test('a client that reads nothing is hung up on, too', () => {
    // Large tables, so that the socket is full before all is written.
    const host = Array.from({ length: 255 }, (_, i) => rule(1000 + i));
    end();
    start({ host, splice: [] });
    testkit.send(knock.conf, Buffer.from([1]));
    settleEvents();
    const [theirs, ours] = testkit.socketpair(SOCK_STREAM);
    testkit.setInt(theirs, 1, 7, 2048);
    testkit.nonBlocking(theirs, true);
    asked.splice(0, 1)[0]?.settle(0, { fd: theirs, pid: 1 });
    settleEvents();
    later(SESSION_MS + 1);
    later(SESSION_MS * 3);
    const client = new Client(ours);
    expect(client.closed()).toBe(true);
    testkit.send(knock.conf, Buffer.from([1]));
    settleEvents();
    expect(asked.length).toBe(1);
  });

  test.each<[string, () => Buffer, RegExp | null]>([
    ['of an unknown table', () => Buffer.from('02', 'hex'), null],
    ['with a conflict', () => updateOf([rule(80), rule(80, { address: '127.0.0.1' })]), /conflict/],
    ['with a loopback target', () => updateOf([rule(80, { address: '0.0.0.0', target: '127.0.0.1' })]), /loopback/],
    [
      'that listens beside the loopback of the namespace',
      () => encodeUpdate([{ direction: 'splice', rules: [rule(80)] }]),
      /interface lo/,
    ],
  ])('an update %s changes nothing', (_name, bytes, reason) => {
    const silent = greeted();
    silent.send(bytes());
    expect(forwarding.begun).toEqual([]);
    expect(silent.received()).toEqual(Buffer.alloc(0));
    if (reason === null) return;
    const asking = greeted();
    asking.send(Buffer.concat([bytes(), Buffer.from('report\n')]));
    expect(forwarding.begun).toEqual([]);
    const report = JSON.parse(asking.received()?.toString() ?? '');
    expect(report).toEqual({ applied: false, error: expect.stringMatching(reason), failures: [] });
  });

  test('what the client asks to know: in force', () => {
    const client = greeted();
    client.send(Buffer.concat([CLIENT_BYTES, Buffer.from('report\n')]));
    expect(forwarding.begun).toEqual(['all-or-nothing']);
    forwarding.settle();
    expect(client.received()?.toString()).toBe('{"applied":true,"error":null,"failures":[]}\n');
    expect(client.closed()).toBe(true);
  });

  test('what the client asks to know: a port is taken, and nothing changed', () => {
    const client = greeted();
    forwarding.taken.add(18_100);
    forwarding.taken.add(4000);
    const host = [...SERVER_TABLES.host, rule(4000)];
    const bytes = encodeUpdate([
      { direction: 'host', rules: host },
      { direction: 'splice', rules: SERVER_TABLES.splice },
    ]);
    client.send(Buffer.concat([bytes, Buffer.from('report\n')]));
    forwarding.settle();
    const report = JSON.parse(client.received()?.toString() ?? '');
    expect(report.applied).toBe(false);
    // 18100 did not listen before either: that is no reason to refuse this.
    expect(report.failures).toEqual([
      {
        rule: 'TCP [*]:4000  =>  4000',
        port: 4000,
        errno: 98,
        message: 'Listen failed for HOST TCP port 4000 (TCP [*]:4000  =>  4000): address already in use',
      },
    ]);
    expect(forwarding.tables()).toEqual(SERVER_TABLES);
  });

  test("the original's way: what cannot listen is listed, and tried again each second until it does", () => {
    const client = greeted();
    forwarding.taken.add(4000);
    client.send(updateOf([rule(4000), rule(4001)]));
    forwarding.settle();
    expect(client.closed()).toBe(true);
    expect(forwarding.tables().host).toEqual([rule(4000), rule(4001)]);
    expect(control.nextDelay(io.nowMs())).toBeGreaterThan(0);
    const now = io.nowMs();
    const wait = control.nextDelay(now);
    expect(wait).toBeLessThanOrEqual(1000);
    retryAfter(wait);
    expect(forwarding.changing).toBe(true);
    forwarding.taken.delete(4000);
    forwarding.settle();
    expect(forwarding.begun).toEqual(['what-works', 'what-works']);
    expect(control.nextDelay(io.nowMs())).toBe(-1);
  });

  test('a client of another user is refused, and the next one is let in', () => {
    testkit.send(knock.conf, Buffer.from([1]));
    settleEvents();
    asked.splice(0, 1)[0]?.settle(EACCES, null);
    greetedAfter();
  });

  test('without descriptors nobody is let in for a second, and nothing spins', () => {
    testkit.send(knock.conf, Buffer.from([1]));
    settleEvents();
    asked.splice(0, 1)[0]?.settle(EMFILE, null);
    testkit.send(knock.conf, Buffer.from([1]));
    settleEvents();
    expect(asked).toEqual([]);
    later(1100);
    settleEvents();
    expect(asked.length).toBe(1);
  });

  test('a helper that is asked too much is asked again later', () => {
    full = true;
    testkit.send(knock.conf, Buffer.from([1]));
    settleEvents();
    full = false;
    later(1100);
    settleEvents();
    expect(asked.length).toBe(1);
  });
});

const greetedAfter = (): void => {
  const client = connect('conf');
  const reader = new TablesReader();
  expect(reader.feed(client.received() ?? Buffer.alloc(0))).toBe(true);
  client.close();
  settleEvents();
};
const updateOf = (host: readonly Rule[]): Buffer => encodeUpdate([{ direction: 'host', rules: host }]);
/** Lets real time pass, as the retry reads the clock itself. */
const retryAfter = (ms: number): void => {
  const until = performance.now() + ms + 5;
  while (performance.now() < until) turn(Math.max(1, until - performance.now()));
};

describe('our own socket', () => {
  test('ports.list tells every rule and how it fares', () => {
    forwarding.taken.add(18_090);
    const client = connect('control');
    client.request('ports.list');
    const { result } = client.answer() as unknown as { result: { rules: Record<string, unknown>[]; enabled: unknown } };
    expect(result.rules.map(({ text, state, sockets, errno }) => [text, state, sockets, errno])).toEqual([
      ['TCP [*]:18080  =>  80', 'listening', 1, null],
      ['TCP [::1]:18081  =>  18081', 'listening', 1, null],
      ['TCP [*]%lo:18082  =>  18082', 'listening', 1, null],
      ['TCP [*]:18100-18200  =>  18100-18200  (auto-scan)', 'waiting', 0, null],
      ['UDP [127.0.0.1]:18090  =>  18090', 'failed', 0, 98],
      ['TCP [0.0.0.0]:28600  =>  10.0.2.15:81', 'listening', 1, null],
      ['TCP [::]:18300  =>  fd00::1:8300', 'listening', 1, null],
      ['TCP [*]%lo:1-32767  =>  1-32767  (best effort) (auto-scan)', 'partial', 0, 98].with(1, 'failed'),
    ]);
    expect(result.enabled).toEqual({ ipv4: true, ipv6: true, tcp: true, udp: true, outbound: true });
  });

  test('ports.add and ports.remove change rules, with what is left out as on a command line', () => {
    const client = connect('control');
    client.request('ports.add', {
      rules: [
        { direction: 'host', protocol: 'tcp', first: 4000 },
        { direction: 'splice', protocol: 'tcp', first: 40_000, last: 40_009, to: 5000 },
      ],
    });
    expect(client.received()).toBe(null);
    forwarding.settle();
    settleEvents();
    const added = client.answer() as unknown as { result: { rules: Record<string, unknown>[] } };
    expect(added.result.rules.map(({ text, state, sockets }) => [text, state, sockets])).toEqual([
      ['TCP [*]:4000  =>  4000', 'listening', 1],
      ['TCP [*]%lo:40000-40009  =>  5000-5009', 'listening', 10],
    ]);
    expect(forwarding.tables().host.at(-1)).toEqual(rule(4000));
    client.request('ports.remove', { rules: [{ direction: 'host', protocol: 'tcp', first: 4000 }] });
    forwarding.settle();
    settleEvents();
    const removed = client.answer() as unknown as { result: { rules: Record<string, unknown>[] } };
    expect(removed.result.rules[0]).toMatchObject({ state: 'removed' });
    expect(forwarding.tables().host).toEqual(SERVER_TABLES.host);
  });

  test('a batch of rules whose last one cannot listen changes nothing and says which', () => {
    forwarding.taken.add(4002);
    const client = connect('control');
    const rules = [4000, 4001, 4002].map((first) => ({ direction: 'host', protocol: 'tcp', first }));
    client.request('ports.add', { rules });
    forwarding.settle();
    settleEvents();
    const { error } = client.answer() as unknown as {
      error: { code: number; message: string; data: { rules: Record<string, unknown>[] } };
    };
    expect(error.code).toBe(-32_000);
    expect(error.message).toBe('nothing was changed: port 4002 of TCP [*]:4002  =>  4002: address already in use');
    expect(error.data.rules.map(({ state, errno, port }) => [state, errno, port])).toEqual([
      ['unchanged', null, null],
      ['unchanged', null, null],
      ['failed', 98, 4002],
    ]);
    expect(forwarding.tables()).toEqual(SERVER_TABLES);
  });

  test('a rule that is not there is not removed, nor are those beside it', () => {
    const client = connect('control');
    client.request('ports.remove', {
      rules: [
        { direction: 'host', protocol: 'tcp', first: 18_080, to: 80 },
        { direction: 'host', protocol: 'tcp', first: 18_080 },
      ],
    });
    const { error } = client.answer() as unknown as {
      error: { message: string; data: { rules: { state: string }[] } };
    };
    expect(error.message).toContain('there is no such rule');
    expect(error.data.rules.map(({ state }) => state)).toEqual(['unchanged', 'failed']);
    expect(forwarding.begun).toEqual([]);
  });

  test.each<[string, string, number]>([
    ['no JSON', '{', -32_700],
    ['no request', '{"jsonrpc":"2.0","id":1}', -32_600],
    ['another version', '{"jsonrpc":"1.0","id":1,"method":"ports.list"}', -32_600],
    ['a method of another type', '{"jsonrpc":"2.0","id":1,"method":7}', -32_600],
    ['an unknown method', '{"jsonrpc":"2.0","id":1,"method":"toString"}', -32_601],
    ['a parameter too many', '{"jsonrpc":"2.0","id":1,"method":"ports.list","params":{"x":1}}', -32_602],
    ['no rules', '{"jsonrpc":"2.0","id":1,"method":"ports.add","params":{"rules":[]}}', -32_602],
    [
      'port 0',
      '{"jsonrpc":"2.0","id":1,"method":"ports.add","params":{"rules":[{"direction":"host","protocol":"tcp","first":0}]}}',
      -32_602,
    ],
    [
      'a reversed range',
      '{"jsonrpc":"2.0","id":1,"method":"ports.add","params":{"rules":[{"direction":"host","protocol":"tcp","first":9,"last":8}]}}',
      -32_000,
    ],
    [
      'no address',
      '{"jsonrpc":"2.0","id":1,"method":"ports.add","params":{"rules":[{"direction":"host","protocol":"tcp","first":9,"address":"localhost"}]}}',
      -32_000,
    ],
    [
      'a rule that is there',
      '{"jsonrpc":"2.0","id":1,"method":"ports.add","params":{"rules":[{"direction":"host","protocol":"tcp","first":18080,"to":80}]}}',
      -32_000,
    ],
    [
      'what was shut at the start',
      '{"jsonrpc":"2.0","id":1,"method":"ports.add","params":{"rules":[{"direction":"splice","protocol":"udp","first":9}]}}',
      -32_000,
    ],
    ['an empty batch', '[]', -32_600],
  ])('%s is answered with an error, and the client may go on', (_name, line, code) => {
    const client = connect('control');
    client.send(`${line}\n`);
    expect((client.answer() as unknown as { error: { code: number } }).error.code).toBe(code);
    client.request('ports.list');
    expect(client.answer()).toMatchObject({ id: 1, result: {} });
    expect(forwarding.begun).toEqual([]);
  });

  test('batches and notifications: as many answers as identifiers, in order', () => {
    const client = connect('control');
    const batch = [
      {
        jsonrpc: '2.0',
        id: 'a',
        method: 'ports.add',
        params: { rules: [{ direction: 'host', protocol: 'tcp', first: 7000 }] },
      },
      { jsonrpc: '2.0', method: 'ports.list' },
      { jsonrpc: '2.0', id: 2, method: 'ports.list' },
      7,
    ];
    client.send(`${JSON.stringify(batch)}\n`);
    forwarding.settle();
    settleEvents();
    const answers = JSON.parse(client.received()?.toString() ?? '') as { id: unknown; result?: { rules: unknown[] } }[];
    expect(answers.map(({ id }) => id)).toEqual(['a', 2, null]);
    expect(answers[1]?.result?.rules.length).toBe(9);
    // A notification alone has no answer, and the client is read again afterwards.
    client.request('ports.add', { rules: [{ direction: 'host', protocol: 'tcp', first: 7001 }] }, null);
    testkit.send(client.fd, Buffer.from('{"jsonrpc":"2.0","id":5,"method":"ports.list"}\n'));
    forwarding.settle();
    settleEvents();
    expect(client.answer()).toMatchObject({ id: 5 });
  });

  test('half a line stalls nobody, neither here nor on the other socket', () => {
    const half = connect('control');
    half.send('{"jsonrpc":"2.0","id":1,"met');
    const other = connect('control');
    other.request('ports.list');
    expect(other.answer()).toMatchObject({ id: 1 });
    greetedAfter();
    half.send('hod":"ports.list"}\n');
    expect(half.answer()).toMatchObject({ id: 1, result: {} });
  });

  test('a client that sends a line without end is hung up on', () => {
    const client = connect('control');
    const chunk = Buffer.alloc(32_768, 0x20);
    for (let i = 0; i < 4; i++) client.send(chunk);
    expect(client.received()).toBe(null);
    client.send(chunk);
    expect((client.answer() as unknown as { error: { code: number } }).error.code).toBe(-32_600);
    expect(client.closed()).toBe(true);
  });

  test('a client that reads no answers is not read from, and costs a megabyte at most', () => {
    const client = connect('control');
    const line = '{"jsonrpc":"2.0","id":1,"method":"ports.list"}\n';
    expect(() => {
      for (let i = 0; i < 5000; i++) client.send(line.repeat(20));
    }).toThrow();
    expect(connect('control')).toBeDefined();
  });

  test('requests and the end in one write are answered before the end', () => {
    const client = connect('control');
    const line = '{"jsonrpc":"2.0","id":1,"method":"ports.list"}\n';
    testkit.send(client.fd, Buffer.from(line + line));
    testkit.syscall(48, client.fd, 1);
    settleEvents();
    expect(client.received()?.toString().split('\n').length).toBe(3);
    expect(client.closed()).toBe(true);
  });

  test('a change waits while a pesto client has the tables, and not for longer than it may have them', () => {
    const pesto = greeted();
    const client = connect('control');
    client.request('ports.add', { rules: [{ direction: 'host', protocol: 'tcp', first: 4000 }] });
    expect(forwarding.changing).toBe(false);
    later(SESSION_MS + 1);
    expect(pesto.closed()).toBe(true);
    expect(forwarding.changing).toBe(true);
    forwarding.settle();
    expect(client.answer()).toMatchObject({ id: 1, result: {} });
  });

  test('more clients than there is room for: the one that has been quiet for longest goes', () => {
    const clients = Array.from({ length: 31 }, () => connect('control'));
    for (const client of clients.slice(1)) client.request('ports.list');
    for (const client of clients) client.received();
    const another = connect('control');
    another.request('ports.list');
    expect(another.answer()).toMatchObject({ id: 1 });
    expect(clients[0]?.closed()).toBe(true);
    expect(clients[1]?.closed()).toBe(false);
  });

  test('no descriptor is left behind', () => {
    const probe = openDescriptors();
    testkit.close(probe);
    for (let i = 0; i < 50; i++) {
      const client = connect('control');
      if (i % 3 === 0) client.request('ports.list');
      if (i % 3 === 1) client.send('{');
      client.close();
      settleEvents();
    }
    const again = openDescriptors();
    testkit.close(again);
    expect(again).toBe(probe);
  });
});
