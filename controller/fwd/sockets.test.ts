// SPDX-License-Identifier: Apache-2.0
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const sockets = await import('./sockets.ts');
type Rule = import('./rule.ts').Rule;
type Direction = import('./rule.ts').Direction;
type Listener = import('./sockets.ts').Listener;

const open: Listener[] = [];
const listen = (direction: Direction, change: Partial<Rule>): void => {
  const first = change.first ?? 80;
  const rule = {
    ...({ protocol: 'udp', address: '', interface: '', first, last: first, target: '', to: first } as const),
    ...{ weak: false, scan: false, ...change },
  };
  const l = sockets.adopt(sockets.groupOf(direction, rule), first, rule, { fd: 100 + open.length, listener: 0 });
  if (l === null) throw new Error('no room');
  open.push(l);
};
beforeEach(() => fake.reset());
afterEach(() => {
  for (const l of open.splice(0)) sockets.close(l);
});

describe('what leads from listener to listener', () => {
  const round = (side: 'host' | 'netns', address: string, port: number): boolean =>
    sockets.leadsRound(side, 'udp', address, port);

  test('two that lead to one another', () => {
    listen('host', { first: 8100 });
    listen('splice', { first: 8100 });
    expect([round('netns', '127.0.0.1', 8100), round('host', '::1', 8100)]).toEqual([true, true]);
    expect(round('netns', '127.0.0.1', 8101)).toBe(false);
    expect(sockets.leadsRound('netns', 'tcp', '127.0.0.1', 8100)).toBe(false);
  });
  test('over other ports', () => {
    listen('host', { first: 8100, to: 8200 });
    listen('splice', { first: 8200, to: 8300 });
    listen('host', { first: 8300, to: 8200 });
    expect([round('netns', '127.0.0.1', 8200), round('host', '127.0.0.1', 8300)]).toEqual([true, true]);
  });
  test('one listener more is none', () => {
    listen('host', { first: 9000, to: 8000 });
    listen('splice', { first: 9000 });
    expect([round('host', '127.0.0.1', 9000), round('netns', '127.0.0.1', 8000)]).toEqual([false, false]);
  });
  test.each([
    ['another address', { address: '127.0.0.2' }, '127.0.0.1'],
    ['IPv6 only', { address: '::' }, '127.0.0.1'],
    ['IPv4 only', { address: '0.0.0.0' }, '::1'],
    ['an interface of the network', { interface: 'eth0' }, '127.0.0.1'],
  ])('nor what a listener does not hear: %s', (_what, change, address) => {
    listen('splice', { first: 8100 });
    listen('host', { first: 8100, ...change });
    expect(round('host', address, 8100)).toBe(false);
    listen('host', { first: 8100, address });
    expect(round('host', address, 8100)).toBe(true);
  });
  test('nor what a listener sends over the tap', () => {
    listen('splice', { first: 8100 });
    listen('host', { first: 8100, target: '192.0.2.7' });
    expect(round('host', '127.0.0.1', 8100)).toBe(false);
  });
});
