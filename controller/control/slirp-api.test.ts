// SPDX-License-Identifier: Apache-2.0
/** Requests and replies of slirp4netns' API, byte by byte. */
import { beforeEach, describe, expect, test } from 'vitest';
import { FakeForwarding } from '../../test/support/fake-forwarding.ts';
import { Changes } from './changes.ts';
import { SlirpApiSession, SlirpForwards } from './slirp-api.ts';

let forwarding: FakeForwarding;
let forwards: SlirpForwards;
let nowMs = 0;
beforeEach(() => {
  forwarding = new FakeForwarding();
  nowMs = 1000;
  forwards = new SlirpForwards({ changes: new Changes(forwarding), now: () => nowMs, guest: '10.0.2.100' });
});

const connect = () => {
  const sent: string[] = [];
  let ended = 0;
  const peer = { send: (b: Buffer) => sent.push(b.toString()), end: () => ended++, resume: () => {} };
  const session = new SlirpApiSession(forwards, peer);
  return { session, sent, isOver: () => ended === 1 };
};
const ask = (request: string | object): string => {
  const { session, sent, isOver } = connect();
  session.onBytes(Buffer.from(typeof request === 'string' ? request : JSON.stringify(request)));
  if (forwarding.changing) forwarding.settle();
  if (sent.length === 0) session.onEnd();
  expect([sent.length, isOver(), session.wantsBytes]).toEqual([1, true, false]);
  return sent[0] as string;
};
const bad = (why: string): string => `{"error":{"desc":"bad request: ${why}"}}`;
const add = (change: object = {}): object => ({
  execute: 'add_hostfwd',
  arguments: {
    proto: 'tcp',
    host_addr: '127.0.0.1',
    host_port: 8080,
    guest_addr: '10.0.2.7',
    guest_port: 80,
    ...change,
  },
});
const remove = (id: unknown): object => ({ execute: 'remove_hostfwd', arguments: { id } });

describe('requests', () => {
  test('ports come and go, and no number is given twice', () => {
    expect(ask(add())).toBe('{"return":{"id":1}}');
    expect(ask(add({ proto: 'udp' }))).toBe('{"return":{"id":2}}');
    const entry = (id: number, proto: string): string =>
      `{"id":${id},"proto":"${proto}","host_addr":"127.0.0.1","host_port":8080,"guest_addr":"10.0.2.7","guest_port":80}`;
    const both = `[${entry(1, 'tcp')},${entry(2, 'udp')}]`;
    expect(ask({ execute: 'list_hostfwd' })).toBe(`{"return":{"entries":${both}},"entries":${both}}`);
    expect(ask(remove(1))).toBe('{"return":{}}');
    expect(ask(remove(1))).toBe(bad('remove_hostfwd: bad arguments.id'));
    expect(ask(add())).toBe('{"return":{"id":3}}');
    expect(forwarding.tables().host.map(({ protocol }) => protocol)).toEqual(['udp', 'tcp']);
    expect(ask(remove(2.5))).toBe('{"return":{}}');
    expect(ask(remove(3))).toBe('{"return":{}}');
    expect(ask({ execute: 'list_hostfwd' })).toBe('{"return":{"entries":[]},"entries":[]}');
  });
  test('addresses have their defaults, and numbers are cut', () => {
    ask(add({ host_addr: '', guest_addr: undefined, host_port: 18086.7 }));
    expect(forwarding.tables().host).toEqual([
      {
        ...{ protocol: 'tcp', address: '0.0.0.0', interface: '', first: 18_086, last: 18_086 },
        ...{ target: '10.0.2.100', to: 80, weak: false, scan: false },
      },
    ]);
  });
  test('a port that is taken fails: by another program, and by a forward of ours', () => {
    forwarding.taken.add(8080);
    expect(ask(add())).toBe(bad('add_hostfwd: slirp_add_hostfwd failed'));
    forwarding.taken.clear();
    expect(ask(add())).toBe('{"return":{"id":1}}');
    for (const address of ['127.0.0.1', '0.0.0.0'])
      expect(ask(add({ host_addr: address }))).toBe(bad('add_hostfwd: slirp_add_hostfwd failed'));
    expect(ask(add({ host_addr: '127.0.0.2' }))).toBe('{"return":{"id":2}}');
  });
  test.each([
    ['', 'cannot parse JSON'],
    ['{', 'cannot parse JSON'],
    ['{"execute":}', 'cannot parse JSON'],
    ['hello', 'cannot parse JSON'],
    ['}', 'cannot parse JSON'],
    ['{"execute":"list_hostfwd","execute":"list_hostfwd"}', 'cannot parse JSON'],
    ['{"execute":"list_hostfwd","arguments":[{"a":[],"\\u0061":0}]}', 'cannot parse JSON'],
    // The same name elsewhere, and as a value, is none twice.
    ['{"execute":"x","arguments":[{"x":"x","y":{"x":"\\"x\\":"}},{"x":1}]}', 'unknown execute'],
    ['[]', 'json_object() failed'],
    ['42', 'json_object() failed'],
    ['"x"', 'json_object() failed'],
    ['null', 'json_object() failed'],
    ['{}', 'no execute found'],
    ['{"execute":1}', 'no execute found'],
    ['{"execute":"x"}', 'unknown execute'],
    ['{"execute":"add_hostfwd"}', 'add_hostfwd: bad arguments.proto'],
    ['{"execute":"remove_hostfwd"}', 'remove_hostfwd: bad arguments.id'],
    ['{"execute":"remove_hostfwd","arguments":{"id":"1"}}', 'remove_hostfwd: bad arguments.id'],
    [`{"execute":"${'x'.repeat(4096)}`, 'too large message'],
  ])('%s: %s', (request, why) => {
    expect(ask(request)).toBe(bad(why));
  });
  test.each([
    [{ proto: 'TCP' }, 'proto'],
    [{ proto: 'sctp', host_addr: 'x' }, 'proto'],
    [{ host_addr: '::1', host_port: 0 }, 'host_addr'],
    [{ host_addr: '1.2.3' }, 'host_addr'],
    [{ host_port: '8080' }, 'host_port'],
    [{ host_port: 0, guest_addr: 'x' }, 'host_port'],
    [{ host_port: 99_999 }, 'host_port'],
    [{ host_port: -1 }, 'host_port'],
    [{ guest_addr: 'x', guest_port: 0 }, 'guest_addr'],
    [{ guest_port: 65_536 }, 'guest_port'],
  ])('%j: bad %s', (change, argument) => {
    expect(ask(add(change))).toBe(bad(`add_hostfwd: bad arguments.${argument}`));
    expect(forwarding.tables().host).toEqual([]);
  });
});

describe('how they come', () => {
  test('in pieces, with blanks before and anything behind', () => {
    const { session, sent, isOver } = connect();
    for (const byte of ' \n{"execute":"list_hostfwd","x":"a}\\"{"') session.onBytes(Buffer.from(byte));
    expect(sent).toEqual([]);
    session.onBytes(Buffer.from('} garbage'));
    expect(sent).toEqual(['{"return":{"entries":[]},"entries":[]}']);
    expect(isOver()).toBe(true);
    session.onBytes(Buffer.from('{"execute":"list_hostfwd"}'));
    session.onEnd();
    expect(sent).toHaveLength(1);
  });
  test('too slowly: what there is, is no request', () => {
    const { session, sent } = connect();
    session.onBytes(Buffer.from('{"execute":'));
    session.tick(session.dueAt - 1);
    expect(sent).toEqual([]);
    session.tick(session.dueAt);
    expect(sent).toEqual([bad('cannot parse JSON')]);
    expect(session.dueAt).toBe(Number.POSITIVE_INFINITY);
  });
  test('a client that left before the answer leaves the forward', () => {
    const { session, sent } = connect();
    session.onBytes(Buffer.from(JSON.stringify(add())));
    session.onEnd();
    expect(sent).toEqual([]);
    forwarding.settle();
    expect(sent).toEqual(['{"return":{"id":1}}']);
    expect(forwarding.tables().host).toHaveLength(1);
  });
});
