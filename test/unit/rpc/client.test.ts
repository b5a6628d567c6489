// SPDX-License-Identifier: Apache-2.0
/** The client over a real SOCK_SEQPACKET pair and the real addon. Replies are queued before the call, since the call blocks. */
import { readlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHANNEL_ERROR, HelperClient, HelperError } from '../../../controller/rpc/client.ts';
import { RPC_ERRORS } from '../../../shared/rpc/methods.ts';
import { testkit } from '../../support/testkit.ts';

const SOCK_SEQPACKET = 5;
const EPOLL_READABLE = 1;

let ours = -1;
let theirs = -1;
let client = new HelperClient(-1);
beforeEach(() => {
  [ours, theirs] = testkit.socketpair(SOCK_SEQPACKET);
  client = new HelperClient(ours);
});
afterEach(() => {
  testkit.close(ours);
  if (theirs >= 0) testkit.close(theirs);
});

const queue = (reply: unknown, fds: readonly number[] = []): void => {
  testkit.sendFds(theirs, Buffer.from(typeof reply === 'string' ? reply : JSON.stringify(reply)), fds);
};
const ok = (id: number, result: unknown) => ({ jsonrpc: '2.0', id, result });
const fail = (id: number | null, code: number, message: string, errno?: number) => ({
  jsonrpc: '2.0',
  id,
  error: { code, message, ...(errno === undefined ? {} : { data: { errno } }) },
});
const request = (): unknown => JSON.parse(Buffer.from(testkit.recv(theirs, 65_536, 0)).toString());
const target = (fd: number): string => readlinkSync(`/proc/self/fd/${fd}`);
const openFds = (): number => {
  let count = 0;
  for (let fd = 0; fd < 1024; fd++) {
    try {
      readlinkSync(`/proc/self/fd/${fd}`);
      count++;
    } catch {
      // not open
    }
  }
  return count;
};
const rejection = async (promise: Promise<unknown>): Promise<HelperError> => {
  try {
    await promise;
  } catch (error) {
    expect(error).toBeInstanceOf(HelperError);
    return error as HelperError;
  }
  throw new Error('the call succeeded');
};

describe('call', () => {
  it('sends one JSON-RPC request and gives its result', async () => {
    queue(ok(0, {}));
    expect(await client.call('link.set', { name: 'tap0', up: true })).toEqual({});
    expect(request()).toEqual({ jsonrpc: '2.0', id: 0, method: 'link.set', params: { name: 'tap0', up: true } });
  });

  it('turns the index of a descriptor into the descriptor', async () => {
    const [read, write] = testkit.pipe();
    queue(ok(0, { fd: 0 }), [read]);
    const { fd } = await client.call('file.open', { name: 'resolv.conf' });
    expect(fd).not.toBe(read);
    expect(target(fd)).toBe(target(read));
    expect(testkit.isCloexec(fd)).toBe(true);
    for (const each of [fd, read, write]) testkit.close(each);
  });

  it('passes on the error of a system call', async () => {
    queue(fail(0, RPC_ERRORS.SYSTEM, 'open /run/x: No such file or directory', 2));
    const error = await rejection(client.call('file.create', { kind: 'log', path: '/run/x' }));
    expect(error).toMatchObject({
      code: RPC_ERRORS.SYSTEM,
      errno: 2,
      message: 'open /run/x: No such file or directory',
    });
  });

  it('does not send what breaks the contract', async () => {
    await expect(client.call('link.set', { name: 'tap0', mtu: 1 })).rejects.toThrow(/mtu/);
    expect(testkit.poll(theirs, EPOLL_READABLE, 0)).toBe(0);
  });

  it('says when the helper is gone, before and after the request', async () => {
    testkit.close(theirs);
    theirs = -1;
    expect(await rejection(client.call('ready', {}))).toMatchObject({ message: 'helper is gone', code: CHANNEL_ERROR });
  });
});

describe('callBatch', () => {
  it('is one message, with the descriptors of all replies', async () => {
    const [read, write] = testkit.pipe();
    queue([ok(0, {}), ok(1, { fd: 1 }), ok(2, { fd: 0 })], [read, write]);
    const [, first, second] = await client.callBatch([
      {
        method: 'seal',
        params: { deny: [], grant: [], outbound: { address4: '', address6: '', interface4: '', interface6: '' } },
      },
      { method: 'socket.connect', params: { protocol: 'tcp', address: '192.0.2.1', port: 80, sourcePort: 0 } },
      { method: 'socket.connect', params: { protocol: 'udp', address: '192.0.2.1', port: 53, sourcePort: 9 } },
    ]);
    expect([target(first.fd), target(second.fd)]).toEqual([target(write), target(read)]);
    expect(request()).toHaveLength(3);
    for (const each of [first.fd, second.fd, read, write]) testkit.close(each);
  });

  it('throws the first error and keeps no descriptor of the others', async () => {
    const [read, write] = testkit.pipe();
    const before = openFds();
    queue([ok(0, { fd: 0 }), fail(1, RPC_ERRORS.REFUSED, 'refused')], [read]);
    const calls = [
      { method: 'netlink.open', params: { protocol: 'route' } },
      { method: 'syslog.open', params: {} },
    ] as const;
    expect(await rejection(client.callBatch(calls))).toMatchObject({ code: RPC_ERRORS.REFUSED, errno: 0 });
    expect(openFds()).toBe(before);
    for (const each of [read, write]) testkit.close(each);
  });
});

describe('a reply that is not the one agreed upon', () => {
  it.each<[string, unknown, number]>([
    ['no JSON', '{"jsonrpc":', 0],
    ['another id', ok(7, { fd: 0 }), 1],
    ['a batch for a single request', [ok(0, { fd: 0 }), ok(1, {})], 1],
    ['neither result nor error', { jsonrpc: '2.0', id: 0 }, 0],
    ['a result of another shape', ok(0, { fd: 0, more: 1 }), 1],
    ['no descriptor', ok(0, { fd: 0 }), 0],
    ['a descriptor too many', ok(0, { fd: 0 }), 2],
    ['an index out of range', ok(0, { fd: 1 }), 1],
    ['not JSON-RPC 2.0', { id: 0, result: { fd: 0 } }, 1],
  ])('%s: fails and leaves no descriptor open', async (_name, reply, fds) => {
    const pipes = [testkit.pipe(), testkit.pipe()];
    const before = openFds();
    queue(
      reply,
      pipes.slice(0, fds).map(([read]) => read),
    );
    expect((await rejection(client.call('netlink.open', { protocol: 'route' }))).code).toBe(CHANNEL_ERROR);
    expect(openFds()).toBe(before);
    for (const each of pipes.flat()) testkit.close(each);
  });

  it('an error without id is shown', async () => {
    queue(fail(null, -32_700, 'parse error'));
    expect((await rejection(client.call('ready', {}))).message).toBe('parse error');
  });
});

describe('callEach', () => {
  const listen = (port: number) => ({ protocol: 'tcp', address: '', port, interface: '', freebind: false }) as const;
  const told: [number, unknown][] = [];
  const each = (i: number, outcome: unknown): void => void told.push([i, outcome]);
  beforeEach(() => {
    told.length = 0;
  });

  it('tells each outcome in its place; the next message is out before the last reply is read', async () => {
    const [read, write] = testkit.pipe();
    const failed = (id: number): boolean => id % 100 === 7;
    const reply = (from: number, to: number): void => {
      const ids = Array.from({ length: to - from }, (_, i) => from + i);
      const fds = ids.filter((id) => !failed(id));
      const results = ids.map((id) =>
        failed(id) ? fail(id, RPC_ERRORS.SYSTEM, 'taken', 98) : ok(id, { fd: fds.indexOf(id), listener: id }),
      );
      queue(
        results,
        fds.map(() => read),
      );
    };
    reply(0, 128);
    reply(128, 256);
    reply(256, 300);
    const sentByThen: number[] = [];
    await client.callEach(
      'socket.listen',
      Array.from({ length: 300 }, (_, i) => listen(1000 + i)),
      (i, outcome) => {
        each(i, outcome);
        if (i === 0) sentByThen.push((request() as unknown[]).length, (request() as unknown[]).length);
      },
    );
    expect(sentByThen).toEqual([128, 128]);
    expect(request()).toMatchObject([{ id: 256, params: { port: 1256 } }, ...new Array(43).fill({})]);
    expect(told.map(([i]) => i)).toEqual(Array.from({ length: 300 }, (_, i) => i));
    for (const [i, outcome] of told) {
      if (failed(i)) {
        expect(outcome).toMatchObject({ errno: 98 });
        continue;
      }
      const { fd, listener } = outcome as { fd: number; listener: number };
      expect([listener, target(fd)]).toEqual([i, target(read)]);
      testkit.close(fd);
    }
    for (const fd of [read, write]) testkit.close(fd);
  });

  it('a reply out of order or cut short is the end, and leaves nothing open', async () => {
    const [read, write] = testkit.pipe();
    const before = openFds();
    const call = () => client.callEach('socket.listen', [listen(1), listen(2)], each);
    queue([ok(1, { fd: 0, listener: 0 }), ok(0, { fd: 1, listener: 1 })], [read, read]);
    expect(await rejection(call())).toMatchObject({ code: CHANNEL_ERROR });
    queue([ok(0, { fd: 0, listener: 0 })], [read]);
    expect(await rejection(call())).toMatchObject({ code: CHANNEL_ERROR });
    expect([told, openFds()]).toEqual([[], before]);
    for (const fd of [read, write]) testkit.close(fd);
  });

  it('nothing to ask is nothing asked; a helper that is gone is told', async () => {
    await client.callEach('socket.listen', [], each);
    expect(told).toEqual([]);
    testkit.close(theirs);
    theirs = -1;
    expect(await rejection(client.callEach('socket.listen', [listen(1)], each))).toMatchObject({
      message: 'helper is gone',
      code: CHANNEL_ERROR,
    });
  });
});
