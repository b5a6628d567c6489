// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const fake = await import('../../../test/support/fake-io.ts');
const udp = await import('../../../test/support/udp-bench.ts');
const bench = await import('../../../test/support/flow-bench.ts');
const { dropCount } = await import('../../obs/drops.ts');
const flows = await import('../../flow/table.ts');
const lru = await import('../../flow/lru.ts');
const wheel = await import('../../flow/wheel.ts');
const flow = await import('./flow.ts');

beforeEach(udp.begin);
afterEach(udp.closeAll);

describe.each([
  ['IPv4', true],
  ['IPv6', false],
])('%s', (_name, v4) => {
  test('the first datagram asks for a socket with the guest’s port, waits for it, and leaves', () => {
    udp.batch(() => udp.datagram('hello', { v4 }));
    expect(bench.requests().map((r) => r.params)).toEqual([
      {
        protocol: 'udp',
        address: v4 ? bench.REMOTE4 : bench.REMOTE6,
        port: udp.REMOTE_PORT,
        sourcePort: udp.GUEST_PORT,
      },
    ]);
    const [socket] = bench.answer({ fd: 20 });
    expect(socket?.sent.map(String)).toEqual(['hello']);
    expect(socket?.events).toBe(fake.EPOLLIN);
    expect(socket?.ref).toBe(udp.theFlow());
  });
});

describe('the life of a flow', () => {
  test('one way or one exchange ends after the short timeout, and everything is given back', () => {
    const socket = udp.opened();
    socket.incoming.push({ bytes: Buffer.from('answer') });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    udp.expire(30_900);
    expect(flows.count(flows.FLOW_UDP)).toBe(1);
    udp.expire(31_600);
    expect(flows.count(flows.FLOW_UDP)).toBe(0);
    expect(socket.closed).toBe(true);
    expect(lru.size(lru.LRU_UDP)).toBe(0);
    expect(wheel.nextDelay(31_600)).toBe(-1);
  });

  test('two questions and their answers within two seconds are no stream', () => {
    const socket = udp.opened();
    udp.peerAnswers(udp.theFlow(), socket);
    fake.setNow(2900);
    udp.batch(() => udp.datagram('again'));
    udp.peerAnswers(udp.theFlow(), socket);
    udp.expire(37_000);
    expect(flows.count(flows.FLOW_UDP)).toBe(0);
  });

  test('a stream lives for the long one, counted from its last datagram', () => {
    const socket = udp.opened();
    socket.incoming.push({ bytes: Buffer.from('answer') });
    flow.onEvent(udp.theFlow(), fake.EPOLLIN);
    fake.setNow(20_000);
    udp.batch(() => udp.datagram('again'));
    udp.expire(130_000);
    expect(flows.count(flows.FLOW_UDP)).toBe(1);
    // Late by at most an eighth of what was left.
    udp.expire(140_000 + 15_000);
    expect(flows.count(flows.FLOW_UDP)).toBe(0);
  });

  test('datagrams beyond what may wait for a socket are dropped, counted, and the rest leaves in order', () => {
    const before = dropCount('flow-pending-full');
    udp.batch(() => {
      for (let i = 0; i < 40; i++) udp.datagram(`n${i}`);
    });
    expect(dropCount('flow-pending-full')).toBe(before + 8);
    const [socket] = bench.answer({ fd: 20 });
    expect(socket?.sent.map(String)).toEqual(Array.from({ length: 32 }, (_, i) => `n${i}`));
  });
});
