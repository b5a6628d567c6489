// SPDX-License-Identifier: Apache-2.0
/** What counts for `auto`, what does not, and how often it is looked at; the looks themselves are test/unit/look.test.ts. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { Bound } from './bound.ts';
import type { Protocol, Rule, Tables } from './rule.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
type Side = 'host' | 'netns';
/** Sockets of each side: `host tcp`, port and kind. */
const there = new Map<string, readonly (readonly [port: number, kind: number])[]>();
const looks: string[] = [];
let errno = 0;
const SIDES: Record<number, Side> = { 50: 'host', 51: 'netns' };
vi.mock('./look.ts', () => ({
  look: ({ netlink }: { netlink: number }, protocol: Protocol, into: Bound): number => {
    const name = `${SIDES[netlink]} ${protocol}`;
    looks.push(name);
    for (const [port, kind] of there.get(name) ?? []) add(into, port, kind);
    return errno;
  },
}));
const fake = await import('../../test/support/fake-io.ts');
const flows = await import('../flow/table.ts');
const { add, ANY, ELSEWHERE, GUEST, LINK_LOCAL, LOOPBACK } = await import('./bound.ts');
const listeners = await import('./listeners.ts');
const scan = await import('./scan.ts');
const sockets = await import('./sockets.ts');

const rule = (protocol: Protocol, more: Partial<Rule> = {}): Rule => ({
  protocol,
  address: '',
  interface: '',
  first: 1,
  last: 60_000,
  target: '',
  to: 1,
  weak: true,
  scan: true,
  ...more,
});
const ALL: Tables = { host: [rule('tcp'), rule('udp')], splice: [rule('tcp'), rule('udp')] };
const EYES = { host: { netlink: 50, files: null }, netns: { netlink: 51, files: null } };
const heard = (side: Side, protocol: Protocol): number[] => [...scan.heard(side, protocol)].sort();

beforeEach(() => {
  fake.reset();
  there.clear();
  looks.length = 0;
  errno = 0;
  listeners.configure(1 << 20, scan.heard);
  scan.configure(EYES, false);
});

describe('what counts', () => {
  const KINDS = [
    [1, ANY],
    [2, LOOPBACK],
    [3, GUEST],
    [4, ELSEWHERE],
    [5, LINK_LOCAL],
  ] as const;
  test('towards the namespace what packets reach, towards the host what loopback reaches', () => {
    for (const side of ['host', 'netns']) there.set(`${side} tcp`, KINDS);
    expect(scan.lookNow(ALL)).toBe(true);
    expect([heard('netns', 'tcp'), heard('host', 'tcp')]).toEqual([
      [1, 3],
      [1, 2],
    ]);
  });
  test('with --host-lo-to-ns-lo loopback of the namespace, too', () => {
    scan.configure(EYES, true);
    there.set('netns tcp', KINDS);
    scan.lookNow(ALL);
    expect(heard('netns', 'tcp')).toEqual([1, 2, 3]);
  });
  test('another address of the guest is led to by a rule that names it, a link-local one by datagrams', () => {
    there.set('netns tcp', [[4, ELSEWHERE]]);
    there.set('netns udp', [
      [6, ELSEWHERE],
      [7, LINK_LOCAL],
    ]);
    scan.lookNow(ALL);
    expect([heard('netns', 'tcp'), heard('netns', 'udp')]).toEqual([[], [7]]);
    scan.lookNow({ host: [rule('tcp', { target: '192.0.2.6' }), rule('udp')], splice: [] });
    expect([heard('netns', 'tcp'), heard('netns', 'udp')]).toEqual([[4], [4, 6, 7]]);
  });
  test('for UDP the ports of TCP as well, and not the other way about', () => {
    there.set('netns tcp', [[80, ANY]]);
    there.set('netns udp', [[53, ANY]]);
    scan.lookNow(ALL);
    expect([heard('netns', 'udp'), heard('netns', 'tcp')]).toEqual([[53, 80], [80]]);
  });
  test('our own sockets do not, nor do ports that lead out at that side', () => {
    there.set('host tcp', [
      [80, ANY],
      [81, ANY],
    ]);
    scan.lookNow(ALL);
    fake.addSocket(100);
    const ours = sockets.adopt(sockets.groupOf('host', rule('tcp')), 80, rule('tcp'), { fd: 100, listener: 0 });
    expect([heard('host', 'tcp'), heard('host', 'udp')]).toEqual([[81], [81]]);
    if (ours !== null) sockets.close(ours);
    expect(heard('host', 'tcp')).toEqual([80, 81]);
  });
  test('nor what hears groups for the guest', () => {
    const f = flows.alloc(flows.FLOW_GROUP);
    fake.addSocket(7);
    flows.setFd(f, 7);
    // The stand-in's port of descriptor 7.
    there.set('host udp', [
      [40_007, ANY],
      [53, ANY],
    ]);
    scan.lookNow(ALL);
    expect(heard('host', 'udp')).toEqual([53]);
    flows.release(f);
    flows.endTurn();
  });
  test('a look that fails leaves what was known', () => {
    there.set('netns tcp', [[80, ANY]]);
    scan.lookNow(ALL);
    errno = 5;
    there.clear();
    expect(scan.lookNow(ALL)).toBe(false);
    expect(heard('netns', 'tcp')).toEqual([80]);
  });
});

describe('how often', () => {
  test('once a second, and only what a rule wants to know', () => {
    listeners.begin({ host: [rule('tcp')], splice: [] });
    expect(scan.nextDelay(1000)).toBe(0);
    scan.tick(1000);
    expect([scan.nextDelay(1000), scan.nextDelay(1600)]).toEqual([1000, 400]);
    scan.tick(1999);
    expect(looks).toEqual(['netns tcp']);
    scan.tick(2000);
    expect(looks).toEqual(['netns tcp', 'netns tcp']);
  });
  test('never without a rule that wants it, or eyes', () => {
    listeners.begin({ host: [rule('tcp', { scan: false })], splice: [] });
    expect(scan.nextDelay(1000)).toBe(-1);
    listeners.begin(ALL);
    expect(scan.nextDelay(1000)).toBe(0);
    scan.configure(null, false);
    expect(scan.nextDelay(1000)).toBe(-1);
  });
  test('nothing old is told for a rule that comes later', () => {
    there.set('netns tcp', [[80, ANY]]);
    scan.lookNow(ALL);
    scan.lookNow({ host: [], splice: [] });
    expect(heard('netns', 'tcp')).toEqual([]);
  });
});
