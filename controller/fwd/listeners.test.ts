// SPDX-License-Identifier: Apache-2.0
/** Changes of the tables against a stand-in for both sides of the helper, which has ports that are taken. */
import { beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const warnings: string[] = vi.hoisted(() => []);
vi.mock('../obs/log.ts', async (original) => ({
  ...(await original<typeof import('../obs/log.ts')>()),
  warn: (text: string) => void warnings.push(text),
}));
const fake = await import('../../test/support/fake-io.ts');
const { LISTENER_REF_BASE } = await import('../flow/table.ts');
const connect = await import('../rpc/connect.ts');
const listeners = await import('./listeners.ts');
const opening = await import('./opening.ts');
const sockets = await import('./sockets.ts');
type Rule = import('./rule.ts').Rule;
type Tables = import('./rule.ts').Tables;
type Failure = import('./listeners.ts').Failure;

const CHANNEL = { host: 3, netns: 4 } as const;
type Side = keyof typeof CHANNEL;
const EACCES = 13;
const EMFILE = 24;
const EADDRINUSE = 98;
const EAFNOSUPPORT = 97;

interface Listen {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  readonly interface: string;
}
interface Request {
  readonly id: number;
  readonly method: 'socket.listen' | 'socket.unlisten';
  readonly params: Listen & { readonly listener: number };
}

/** Sockets of the helper, by side and number. */
const bound: Record<Side, Map<number, Listen>> = { host: new Map(), netns: new Map() };
/** Ports of others: `host tcp 80`. */
const taken = new Map<string, number>();
let number = 0;
let fd = 100;
let answered = 0;
let noIpv6 = false;
/** What was asked of either side, in order. */
let asked: string[] = [];

const everywhere = (address: string): boolean => address === '' || address === '0.0.0.0' || address === '::';
const clash = (side: Side, want: Listen): number => {
  const reason = taken.get(`${side} ${want.protocol} ${want.port}`);
  if (reason !== undefined) return reason;
  if (noIpv6 && want.address === '') return EAFNOSUPPORT;
  const other = [...bound[side].values()].find(
    (b) =>
      b.protocol === want.protocol &&
      b.port === want.port &&
      (b.address === want.address || everywhere(b.address) || everywhere(want.address)),
  );
  return other === undefined ? 0 : EADDRINUSE;
};
const answer = (side: Side, { id, method, params }: Request, fds: number[]): unknown => {
  if (method === 'socket.unlisten') {
    expect(bound[side].delete(params.listener)).toBe(true);
    asked.push(`${side} - ${params.listener}`);
    return { jsonrpc: '2.0', id, result: {} };
  }
  const errno = clash(side, params);
  asked.push(`${side} + ${params.protocol} ${params.address}:${params.port}${errno === 0 ? '' : ' failed'}`);
  if (errno !== 0) return { jsonrpc: '2.0', id, error: { code: -32_000, message: 'no', data: { errno } } };
  bound[side].set(number, params);
  fake.addSocket(fd);
  fds.push(fd++);
  return { jsonrpc: '2.0', id, result: { fd: fds.length - 1, listener: number++ } };
};
/** One turn of the loop: what is asked for is answered in the next one. */
const turn = (): void => {
  connect.onChannelReadable('host');
  connect.onChannelReadable('netns');
  opening.pump();
  connect.flushRequests();
  for (; answered < fake.channelSent.length; answered++) {
    const channel = fake.channelSentOver[answered] as number;
    const side = channel === CHANNEL.host ? 'host' : 'netns';
    const fds: number[] = [];
    const replies = (JSON.parse(fake.channelSent[answered] as string) as Request[]).map((r) => answer(side, r, fds));
    fake.channelIncoming.push({ text: JSON.stringify(replies), fds, channel });
  }
};
const settle = (): void => {
  for (let i = 0; i < 400; i++) turn();
  expect([connect.outstanding('host'), connect.outstanding('netns')]).toEqual([0, 0]);
};

const rule = (first: number, more: Partial<Rule> = {}): Rule => ({
  protocol: 'tcp',
  address: '',
  interface: '',
  first,
  last: first,
  target: '',
  to: first,
  weak: false,
  scan: false,
  ...more,
});
const host = (...rules: Rule[]): Tables => ({ host: rules, splice: [] });
interface Outcome {
  readonly failures: readonly Failure[];
  readonly applied: boolean;
}
const change = (next: Tables, mode: 'all-or-nothing' | 'what-works' = 'all-or-nothing'): Outcome => {
  let outcome: Outcome | null = null;
  expect(
    listeners.change(next, mode, (failures, applied) => {
      expect(outcome).toBe(null);
      outcome = { failures, applied };
    }),
  ).toBe(true);
  expect(outcome).toBe(null);
  settle();
  if (outcome === null) throw new Error('the change was never done');
  return outcome;
};
/** `side protocol address:port` of what the helper has, sorted; the controller must have the same. */
const open = (): string[] => {
  const ours: string[] = [];
  for (const group of sockets.allGroups()) {
    for (const [port, l] of group.open) {
      expect(l.open && listeners.of(l.ref) === l && bound[l.side].has(l.listener)).toBe(true);
      expect(fake.sockets.get(l.fd)?.closed).toBe(false);
      ours.push(`${l.side} ${group.protocol} ${group.address}:${port}`);
    }
  }
  const theirs = (['host', 'netns'] as const).flatMap((side) =>
    [...bound[side].values()].map(({ protocol, address, port }) => `${side} ${protocol} ${address}:${port}`),
  );
  if (!noIpv6) expect(ours.sort()).toEqual(theirs.sort());
  expect(sockets.count()).toBe(ours.length);
  return ours.sort();
};
const heard: { bits: Set<string> } = { bits: new Set() };
const isHeard = (side: Side, protocol: 'tcp' | 'udp'): number[] =>
  [...heard.bits].filter((one) => one.startsWith(`${side} ${protocol} `)).map((one) => Number(one.split(' ')[2]));

beforeEach(() => {
  const open = [...sockets.allGroups()].flatMap((group) => [...group.open.values()]);
  sockets.closeAll();
  expect(sockets.count()).toBe(0);
  for (const l of open) expect(fake.sockets.get(l.fd)?.closed).toBe(true);
  for (const group of sockets.allGroups()) {
    expect(group.open.size).toBe(0);
    group.missing.clear();
  }
  fake.reset();
  for (const side of ['host', 'netns'] as const) {
    fake.addSocket(CHANNEL[side]);
    connect.attach(CHANNEL[side], CHANNEL[side], side);
    bound[side].clear();
  }
  taken.clear();
  heard.bits.clear();
  noIpv6 = false;
  answered = 0;
  asked = [];
  opening.configure(false);
  listeners.configure(1 << 20, isHeard);
});

describe('a change of the tables', () => {
  test('opens what is new, on the side that it is for, and closes what is gone; what stays is not touched', () => {
    expect(change({ host: [rule(80, { last: 82, to: 8080 })], splice: [rule(53, { protocol: 'udp' })] })).toEqual({
      failures: [],
      applied: true,
    });
    expect(open()).toEqual(['host tcp :80', 'host tcp :81', 'host tcp :82', 'netns udp :53']);
    const stays = [...sockets.groupOf('host', rule(81)).open.values()][1];
    asked = [];
    const next = host(rule(81, { last: 84, to: 9081 }));
    change(next);
    expect(open()).toEqual(['host tcp :81', 'host tcp :82', 'host tcp :83', 'host tcp :84']);
    expect(asked.filter((line) => line.includes('+'))).toEqual(['host + tcp :83', 'host + tcp :84']);
    expect(asked.filter((line) => line.includes('-')).length).toBe(2);
    expect(stays?.open).toBe(true);
    // The socket is the same, what it leads to is the new rule's.
    expect(stays?.rule).toBe(next.host[0]);
    expect(listeners.tables()).toBe(next);
  });

  test('TCP is watched level-triggered and UDP by edges; a closed listener is nobody at its reference', () => {
    change(host(rule(80), rule(81, { protocol: 'udp' })));
    const [tcp] = sockets.groupOf('host', rule(80)).open.values();
    const [udp] = sockets.groupOf('host', rule(81, { protocol: 'udp' })).open.values();
    expect(fake.sockets.get(tcp?.fd ?? 0)?.events).toBe(fake.EPOLLIN);
    expect(fake.sockets.get(udp?.fd ?? 0)?.events).toBe(fake.EPOLLIN | fake.EPOLLET);
    expect(tcp?.ref).toBeGreaterThanOrEqual(LISTENER_REF_BASE);
    change(host());
    expect([tcp?.open, listeners.of(tcp?.ref ?? 0), listeners.of(udp?.ref ?? 0)]).toEqual([false, null, null]);
    expect(fake.sockets.get(tcp?.fd ?? 0)?.closed).toBe(true);
    expect(open()).toEqual([]);
  });

  test('all or nothing: one port that fails takes the new ones back, and says which and why', () => {
    const before = host(rule(80));
    change(before);
    taken.set('host tcp 8002', EADDRINUSE);
    const bad = rule(8000, { last: 8003, to: 8000 });
    expect(change(host(bad, rule(90)))).toEqual({
      failures: [{ direction: 'host', rule: bad, port: 8002, errno: EADDRINUSE }],
      applied: false,
    });
    expect(open()).toEqual(['host tcp :80']);
    expect(listeners.tables()).toBe(before);
  });

  test('what works: the table is taken as it is, and the rest tried again when it is asked for', () => {
    taken.set('host tcp 8001', EACCES);
    const some = rule(8000, { last: 8002, to: 8000 });
    const next = host(some);
    expect(change(next, 'what-works')).toEqual({
      failures: [{ direction: 'host', rule: some, port: 8001, errno: EACCES }],
      applied: true,
    });
    expect(listeners.ruleState('host', some)).toEqual({ listening: 2, errno: EACCES, port: 8001 });
    taken.clear();
    asked = [];
    expect(change(listeners.tables(), 'what-works')).toEqual({ failures: [], applied: true });
    expect(asked).toEqual(['host + tcp :8001']);
    expect(listeners.ruleState('host', some)).toEqual({ listening: 3, errno: 0, port: 0 });
  });

  test('a rule that failed earlier does not fail the next change', () => {
    taken.set('host tcp 80', EADDRINUSE);
    change(host(rule(80)), 'what-works');
    expect(change(host(rule(80), rule(81))).applied).toBe(true);
    expect(open()).toEqual(['host tcp :81']);
  });

  test('best effort fails nothing, and is not made again for the same rule', () => {
    taken.set('host tcp 22', EADDRINUSE);
    const weak = rule(20, { last: 24, to: 20, weak: true });
    expect(change(host(weak))).toEqual({ failures: [], applied: true });
    expect(open().length).toBe(4);
    asked = [];
    change(host(weak, rule(80)));
    expect(asked).toEqual(['host + tcp :80']);
  });

  test('an old socket that is in the way of a new one goes first, and comes back if the change fails', () => {
    const before = host(rule(80));
    change(before);
    expect(change(host(rule(80, { address: '127.0.0.1' }))).applied).toBe(true);
    expect(open()).toEqual(['host tcp 127.0.0.1:80']);
    change(before);
    taken.set('host tcp 443', EACCES);
    expect(change(host(rule(80, { address: '192.0.2.2' }), rule(443))).applied).toBe(false);
    expect(open()).toEqual(['host tcp :80']);
    // The one in the way itself fails: what was closed for it is opened again.
    taken.clear();
    noIpv6 = false;
    const stubborn = rule(80, { address: '192.0.2.9' });
    taken.set('host tcp 81', EACCES);
    const outcome = change(host(stubborn, rule(81)));
    expect([outcome.applied, outcome.failures.length]).toEqual([false, 1]);
    expect(open()).toEqual(['host tcp :80']);
  });

  test('a second change has to wait for the first', () => {
    expect(listeners.change(host(rule(80)), 'what-works', () => {})).toBe(true);
    expect(listeners.change(host(), 'what-works', () => {})).toBe(false);
    settle();
    expect(change(host()).applied).toBe(true);
  });

  test('thousands of ports, more than the channel takes at once', () => {
    expect(change(host(rule(10_000, { last: 19_999, to: 10_000 }))).applied).toBe(true);
    expect(sockets.count()).toBe(10_000);
    change(host());
    expect(open()).toEqual([]);
  });

  test('more sockets than descriptors: nothing is begun', () => {
    listeners.configure(200, () => []);
    const many = rule(1000, { last: 1999, to: 1000, weak: true });
    expect(change(host(many))).toEqual({
      failures: [{ direction: 'host', rule: many, port: 1000, errno: EMFILE }],
      applied: false,
    });
    expect(asked).toEqual([]);
    expect(change(host(many), 'what-works').applied).toBe(true);
    expect(open()).toEqual([]);
  });

  test('a kernel without IPv6 has one socket for IPv4', () => {
    noIpv6 = true;
    expect(change(host(rule(80), rule(81)))).toEqual({ failures: [], applied: true });
    expect([...bound.host.values()].map(({ address, port }) => `${address}:${port}`).sort()).toEqual([
      '0.0.0.0:80',
      '0.0.0.0:81',
    ]);
  });
});

describe('auto', () => {
  const auto = (first: number, last: number, more: Partial<Rule> = {}): Rule =>
    rule(first, { last, scan: true, weak: true, ...more });

  test('follows who listens at the other end, at the port that a rule leads to', () => {
    change(host(auto(1000, 1999, { to: 2000 }), rule(80)));
    expect(open()).toEqual(['host tcp :80']);
    heard.bits.add('netns tcp 2005').add('host tcp 2006').add('netns tcp 1007');
    listeners.follow();
    settle();
    expect(open()).toEqual(['host tcp :1005', 'host tcp :80']);
    heard.bits.clear();
    listeners.follow();
    settle();
    expect(open()).toEqual(['host tcp :80']);
  });

  test('a port that could not be had is tried again; a change in between waits its turn and both hold', () => {
    change(host(auto(1000, 1999)));
    heard.bits.add('netns tcp 1005');
    taken.set('host tcp 1005', EADDRINUSE);
    listeners.follow();
    settle();
    expect([open(), listeners.isLacking()]).toEqual([[], true]);
    taken.clear();
    listeners.follow();
    expect(listeners.isBusy()).toBe(true);
    expect(change(host(auto(1000, 1999), rule(80))).applied).toBe(true);
    expect([open(), listeners.isLacking()]).toEqual([['host tcp :1005', 'host tcp :80'], false]);
  });

  const PROTOCOLS = ['tcp', 'udp'] as const;
  const everywhere = (): Tables => {
    const all = PROTOCOLS.map((protocol) => auto(1, 60_000, { protocol }));
    return { host: all, splice: all };
  };
  const listening = (): number[] =>
    (['host', 'netns'] as const).flatMap((side) =>
      PROTOCOLS.map((protocol) => [...bound[side].values()].filter((b) => b.protocol === protocol).length),
    );

  test('opens no more than its share: the lowest ports, of each direction and protocol its own; the rest when there is room', () => {
    warnings.length = 0;
    listeners.configure(128 + 800, isHeard);
    change(everywhere());
    // One user listens at everything; on the other side there is but one service.
    for (let port = 2000; port < 2500; port++) heard.bits.add(`netns tcp ${port}`).add(`netns udp ${port}`);
    heard.bits.add('host tcp 80').add('host udp 53');
    for (let i = 0; i < 3; i++) {
      listeners.follow();
      settle();
    }
    expect(listening()).toEqual([100, 100, 1, 1]);
    expect([...bound.host.values()].every(({ port }) => port < 2100)).toBe(true);
    // There is nothing to be tried again.
    expect(listeners.isLacking()).toBe(false);
    expect(listeners.ruleState('host', auto(1, 60_000))).toEqual({ listening: 100, errno: EMFILE, port: 2100 });
    taken.set('host tcp 2007', EADDRINUSE);
    for (const port of ['netns tcp 2007', 'netns udp 2007']) heard.bits.delete(port);
    listeners.follow();
    settle();
    heard.bits.add('netns tcp 2007').add('netns udp 2007');
    listeners.follow();
    settle();
    expect([listening(), listeners.isLacking()]).toEqual([[99, 100, 1, 1], true]);
    taken.clear();
    listeners.follow();
    settle();
    // A lower port takes the place of the highest.
    heard.bits.add('netns tcp 22');
    listeners.follow();
    settle();
    expect([listening(), open().includes('host tcp :22'), open().includes('host tcp :2099')]).toEqual([
      [100, 100, 1, 1],
      true,
      false,
    ]);
    // What is wanted by name is not in the way of it, nor the other way about.
    const { host: autos, splice } = everywhere();
    expect(change({ host: [...autos, rule(61_000, { last: 61_399, to: 61_000 })], splice }).applied).toBe(true);
    expect(listening()).toEqual([50 + 400, 50, 1, 1]);
    heard.bits.clear();
    listeners.follow();
    settle();
    expect([listening(), listeners.isLacking()]).toEqual([[400, 0, 0, 0], false]);
    expect(warnings.filter((text) => text.includes('auto found more ports')).length).toBe(1);
  });

  test('as many as there are ports, with descriptors for them all: as many as the helper can have', () => {
    listeners.configure(1 << 24, (side) => (side === 'host' ? Array.from({ length: 60_000 }, (_, i) => i + 1) : []));
    const shared = listeners.affordable(everywhere());
    expect([...(shared?.want.values() ?? [])].map((ports) => ports.size)).toEqual([0, 0, 32_768, 32_768]);
  });

  test('the start: what it found is cut to its share, and only rules by name can be too many', async () => {
    const { openListeners } = await import('./listen-start.ts');
    listeners.configure(128 + 800, isHeard);
    for (let port = 2000; port < 6000; port++) heard.bits.add(`host tcp ${port}`).add(`netns tcp ${port}`);
    const client = (side: Side) => ({
      callEach: (_method: string, list: readonly Listen[]) =>
        Promise.resolve(
          list.map((params) => {
            bound[side].set(number, params);
            fake.addSocket(fd);
            return { fd: fd++, listener: number++ };
          }),
        ),
    });
    const clients = { host: client('host'), netns: client('netns') } as unknown as Parameters<typeof openListeners>[0];
    await openListeners(clients, everywhere());
    expect([listening(), listeners.isLacking()]).toEqual([[100, 0, 100, 0], false]);
    const many = rule(7000, { last: 7900, to: 7000 });
    await expect(openListeners(clients, host(auto(1, 6000), many))).rejects.toThrow(
      '901 sockets are more than the limit',
    );
  });
});
