// SPDX-License-Identifier: Apache-2.0
/**
 * The helper's reader refuses exactly what the schemas of shared/rpc refuse. Refused means fatal: so one helper answers
 * all messages that the schemas accept, and each refused message gets a helper of its own, which must die of it.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  LISTENERS_MAX,
  METHODS,
  type MethodName,
  PROTOCOL_VERSION,
  READABLE_FILES,
  type Side,
} from '../../shared/rpc/methods.ts';
import { Installation, NO_OUTBOUND, type Reply, type Step, sealBoth } from './helper-harness.ts';

let install: Installation;
beforeAll(() => {
  install = new Installation();
});
afterAll(() => install.remove());

/** Seeds of the generated cases are fixed: a difference found is a difference that stays found. */
const SEED = 20_260_101;

const VALID: { readonly [M in MethodName]: readonly unknown[] } = {
  'session.hello': [{ protocol: PROTOCOL_VERSION }],
  'netlink.open': [{ protocol: 'route' }, { protocol: 'sock_diag' }],
  'file.open': READABLE_FILES.map((name) => ({ name })),
  'file.create': [
    { kind: 'log', path: '/nonexistent/log' },
    { kind: 'pcap', path: 'x'.repeat(4095) },
    { kind: 'pcap', path: '/nonexistent/é漢😀"\\\u0001' },
    { kind: 'log', path: `/nonexistent/${'😀'.repeat(2040)}` },
  ],
  'syslog.open': [{}],
  'resolver.open': [{}],
  'tap.open': [{ name: 'nosuchtap' }, { name: '!' }, { name: 'fifteen-letters' }],
  'link.set': [
    { name: 'lo' },
    { name: 'tap0', up: true, arp: false, mtu: 68, mac: '02:00:00:00:00:0f' },
    { name: 'tap0', mtu: 65_535 },
    { name: 'eth9', up: false },
  ],
  'address.add': [
    { name: 'tap0', address: '192.0.2.1', prefix: 24 },
    { name: 'tap0', address: 'zz', prefix: 128 },
    { name: 'tap0', address: '0'.repeat(45), prefix: 0 },
  ],
  'route.add': [
    { name: 'tap0', destination: '::', prefix: 0, gateway: null, metric: 0 },
    { name: 'tap0', destination: '192.0.2.0', prefix: 33, gateway: '192.0.2.1', metric: 0x7fffffff },
  ],
  'socket.connect': [
    { protocol: 'tcp', address: '127.0.0.1', port: 0, sourcePort: 65_535 },
    { protocol: 'icmp', address: '::1', port: 65_535, sourcePort: 0 },
    { protocol: 'udp', address: 'zz', port: 1, sourcePort: 1 },
    { protocol: 'tcp', address: 'zz', port: 1, sourcePort: 0, hopLimit: 1 },
    { protocol: 'tcp', address: 'zz', port: 1, sourcePort: 0, hopLimit: 255 },
  ],
  'socket.multicast': [
    { role: 'send', address: '224.0.0.251', port: 5353, sourcePort: 65_535 },
    { role: 'answers', address: 'ff02::fb', port: 0, sourcePort: 0 },
    { role: 'group', address: 'zz', port: 65_535, sourcePort: 0 },
  ],
  'socket.listen': [
    { protocol: 'tcp', address: '', port: 65_535, interface: 'no-such-device', freebind: false },
    { protocol: 'udp', address: 'zz', port: 1, interface: '', freebind: true },
  ],
  'socket.answer': [{ listener: 0 }, { listener: LISTENERS_MAX - 1 }],
  'socket.unlisten': [{ listener: 0 }, { listener: LISTENERS_MAX - 1 }],
  'unix.listen': [
    { kind: 'conf', path: '/nonexistent/conf' },
    { kind: 'control', path: 'x'.repeat(107) },
    { kind: 'api', path: '/nonexistent/api' },
  ],
  'unix.accept': [{ kind: 'conf' }, { kind: 'control' }, { kind: 'api' }],
  'guest.open': [{}],
  'guest.accept': [{}],
  seal: [
    { deny: [{ address: 'zz', prefix: 0 }], grant: [{ address: 'zz', port: 65_535 }], outbound: NO_OUTBOUND },
    {
      deny: Array.from({ length: 64 }, () => ({ address: 'zz', prefix: 128 })),
      grant: Array.from({ length: 16 }, () => ({ address: 'zz', port: 0 })),
      outbound: { ...NO_OUTBOUND, interface4: 'a' },
      multicast: true,
    },
  ],
  'command.start': [{}],
  ready: [{}],
};
/** These change the stage or the process; their parameters are tested by what is refused. */
const NOT_RUN: readonly string[] = ['ready', 'command.start'];

const ids = { next: 0 };
const message = (method: string, params: unknown): string =>
  JSON.stringify({ jsonrpc: '2.0', id: ++ids.next, method, params });
const sideOf = (method: MethodName): Side => METHODS[method].sides[0];
const isSealed = (method: MethodName): boolean => (METHODS[method].stages as readonly string[])[0] === 'sealed';
const args = ['-I', 'tap0', '--', 'sleep', '1000'];

/** Plays `steps` and tells how the helper died of the last one. */
const refusal = async (steps: readonly Step[]): Promise<string> => {
  const helper = install.start(args, { steps });
  await helper.closed;
  // It is the last step that it died of; the stand-in may have been killed before it could tell.
  expect(install.outcomes().length).toBeGreaterThanOrEqual(steps.length - 1);
  expect(helper.child.exitCode).toBe(1);
  return helper.err();
};

/** One difference to a valid object, at any depth. */
const mutations = (valid: unknown): unknown[] => {
  if (Array.isArray(valid))
    return [...valid.slice(0, 1).flatMap((one) => mutations(one).map((other) => [other])), null, {}];
  if (typeof valid !== 'object' || valid === null) return scalars(valid);
  const entries = Object.entries(valid);
  return [
    { ...valid, unknown: 1 },
    ...entries.flatMap(([key, value]) => [
      Object.fromEntries(entries.filter(([other]) => other !== key)),
      ...mutations(value).map((other) => ({ ...valid, [key]: other })),
    ]),
  ];
};
const scalars = (value: unknown): unknown[] => {
  if (typeof value === 'number')
    return [value + 0.5, String(value), -1, 65_536, 2 ** 31, 1e300, null, true, [value], {}];
  if (typeof value === 'boolean') return [0, 'true', null, []];
  if (value === null) return [0, '', 'x', []];
  return [
    1,
    null,
    ['x'],
    {},
    '',
    'x',
    `${value as string}\u00e9`,
    ' ',
    'X'.repeat(46),
    'a/b',
    'a b',
    '02-00-00-00-00-0f',
    '02:00:00:00:00:0F',
    '02:00:00:00:00:0f\n',
    'a\0b',
    'a\ud800b',
  ];
};

const accepted = (method: MethodName, params: unknown): boolean => METHODS[method].params.safeParse(params).success;
const cases = (Object.keys(METHODS) as MethodName[]).flatMap((method) =>
  [{}, null, [], 'x', ...VALID[method].slice(0, 2).flatMap(mutations)].map((params) => ({ method, params })),
);

describe('what the schemas accept', () => {
  it.each([false, true])('is answered by one helper (sealed: %s)', async (sealed) => {
    const methods = (Object.keys(METHODS) as MethodName[]).filter(
      (m) => isSealed(m) === sealed && !NOT_RUN.includes(m),
    );
    const all = [
      ...methods.flatMap((method) => VALID[method].map((params) => ({ method, params }))),
      ...cases.filter(({ method, params }) => methods.includes(method) && accepted(method, params)),
    ].filter(({ method, params }) => !(method === 'seal' && (params as { deny: unknown[] }).deny.length === 0));
    for (const { method, params } of all)
      expect([method, params, accepted(method, params)]).toEqual([method, params, true]);
    const steps = all.map(({ method, params }) => ({ side: sideOf(method), text: message(method, params) }));
    const helper = install.start(args, { steps: sealed ? [...sealBoth(), ...steps] : steps });
    await install.scriptDone();
    expect(helper.err()).toBe('');
    helper.kill('SIGKILL');
    const replies = install.outcomes().slice(sealed ? 2 : 0);
    expect(replies.length).toBe(steps.length);
    for (const [i, { reply }] of replies.entries()) {
      const { error, result } = reply as Reply;
      if (error === undefined) METHODS[all[i]?.method as MethodName].result.parse(result);
      else expect([-32_000, -32_001]).toContain(error.code);
    }
  });
});

describe('what the schemas refuse', () => {
  const refused = cases.filter(({ method, params }) => !accepted(method, params));
  it('is enough to mean something', () => expect(refused.length).toBeGreaterThan(200));

  for (const method of Object.keys(METHODS) as MethodName[]) {
    const mine = refused.filter((one) => one.method === method);
    // Every kind of difference once is what time allows: the generator above has them in order.
    const chosen = mine.filter((_, i) => i % Math.ceil(mine.length / 15) === 0);
    it.each(chosen.map(({ params }) => JSON.stringify(params)))(`${method} %s`, async (params) => {
      const step = { side: sideOf(method), text: message(method, JSON.parse(params)) };
      expect(await refusal([...(isSealed(method) ? sealBoth() : []), step])).toMatch(
        new RegExp(
          `^The controller (called ${method.replace('.', '\\.')} with parameters that its schema refuses|sent malformed JSON): `,
        ),
      );
    });
  }
});

describe('what is not a request', () => {
  const hello = message('session.hello', { protocol: PROTOCOL_VERSION });
  const deep = (n: number): string => `${'['.repeat(n)}${']'.repeat(n)}`;
  const requests: readonly (readonly [string, RegExp])[] = [
    ['{', /malformed JSON/],
    ['nonsense', /malformed JSON/],
    [`${hello} `.replace('"id"', "'id'"), /malformed JSON/],
    [`${hello}{}`, /malformed JSON/],
    [hello.replace('{"protocol":1}', '{"protocol":1,"protocol":1}'), /duplicate/],
    [hello.replace('session.hello', 'session.\\u0000'), /malformed JSON/],
    ['"\xff"', /not a JSON-RPC request|malformed/],
    [deep(9), /nested too deeply/],
    [deep(20_000), /nested too deeply/],
    ['[]', /batch of 0/],
    [`[${Array.from({ length: 129 }, () => hello).join(',')}]`, /batch of 129/],
    ['{}', /not a JSON-RPC request/],
    ['1', /malformed JSON/],
    [hello.replace('"2.0"', '"1.0"'), /not a JSON-RPC request/],
    [hello.replace(/"id":\d+,/, ''), /not a JSON-RPC request/],
    [hello.replace(/"id":\d+/, '"id":"x"'), /not a JSON-RPC request/],
    [hello.replace(/"id":\d+/, '"id":99999999999999999999'), /malformed JSON/],
    [hello.replace('"jsonrpc"', '"extra":1,"jsonrpc"'), /not a JSON-RPC request/],
    [message('no\n\u001b[2J\u009bé', {}), /^The controller called no\?\?\[2J\?{4}, which does not exist\n$/],
    [message('no.such', {}), /^The controller called no\.such, which does not exist\n$/],
    [message('tap.open', { name: 'tap0' }), /which is not for this stage or side/],
    [message('ready', {}), /which is not for this stage or side/],
    [`[${Array.from({ length: 32_000 }, () => '1').join(',')}]`, /batch of 32000/],
  ];
  it.each(requests.map(([text, why]) => [text.slice(0, 70), text, why] as const))('%s', async (_, text, why) => {
    const err = await refusal([{ side: 'host', text }]);
    expect(err).toMatch(why);
    expect(err).toMatch(/^The controller [^\n]*\n$/);
  });

  it('survives nothing that is random, and crashes on nothing', async () => {
    const samples = fc.sample(
      fc.oneof(
        fc.string({ unit: 'binary', minLength: 1, maxLength: 200 }),
        fc.json({ maxDepth: 6 }),
        fc
          .tuple(fc.nat(hello.length - 1), fc.string({ minLength: 1, maxLength: 2 }))
          .map(([at, text]) => hello.slice(0, at) + text + hello.slice(at + 1)),
      ),
      { numRuns: 40, seed: SEED },
    );
    for (const text of samples) {
      const helper = install.start(args, { steps: [{ side: 'netns', text }] });
      const survived = await Promise.race([
        helper.closed.then(() => false),
        install.scriptDone().then(
          () => true,
          () => false,
        ),
      ]);
      // Changing a letter of a string that is only looked at, or the id, leaves a request; nothing else does.
      if (survived) expect(install.outcomes()[0]?.reply).toMatchObject({ jsonrpc: '2.0' });
      else expect([text, helper.err()]).toEqual([text, expect.stringMatching(/^The controller (sent|called) .*\n$/)]);
      helper.kill('SIGKILL');
      await helper.closed;
    }
  });
});
