// SPDX-License-Identifier: Apache-2.0
/** The host's resolver, looked up anew: with a real socket for the reader's, and the real addon. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import * as flows from '../../controller/flow/table.ts';
import * as nat from '../../controller/fwd/nat.ts';
import * as resolver from '../../controller/fwd/resolver.ts';
import { parseIpv4 } from '../../controller/host/address-text.ts';
import * as io from '../../controller/io/io.ts';
import { testkit } from '../support/testkit.ts';

const SOCK_SEQPACKET = 5;
const MSG_DONTWAIT = 0x40;

let reader: number;
/** Milliseconds that the clock is ahead. */
let aheadMs = 0;
vi.mock('../../controller/io/io.ts', async (original) => {
  const real = await original<typeof import('../../controller/io/io.ts')>();
  return { ...real, nowMs: () => real.nowMs() + ahead() };
});
const ahead = (): number => aheadMs;

beforeEach(() => {
  const [ours, theirs] = testkit.socketpair(SOCK_SEQPACKET);
  testkit.nonBlocking(ours, true);
  reader = theirs;
  resolver.configure(ours);
  nat.configure({
    ...{ hostLoopback4: null, hostLoopback6: null, guestAddr4: null, guestAddr6: null, dnsForward4: '10.0.2.3' },
    ...{ dnsForward6: null, host4: null, host6: null, dnsHost4: '192.0.2.53', dnsHost6: null, resolvers: [] },
    ...{ closed: ['10.0.2.3'], dnsPorts: [53] },
  });
  aheadMs += 2000;
});
afterEach(() => {
  testkit.close(reader);
  resolver.onReadable();
});

const questions = (): number => {
  let n = 0;
  for (;;) {
    try {
      n += testkit.recv(reader, 16, MSG_DONTWAIT).length;
    } catch {
      return n;
    }
  }
};
const answer = (text: string): void => {
  testkit.send(reader, Buffer.from(text));
  resolver.onReadable();
};
/** Where names are asked for now; null: nowhere. */
const leadsTo = (): string | null => {
  const f = flows.alloc(flows.FLOW_UDP);
  flows.setV4(f, true);
  flows.setRemote(f, 0, 0, flows.MAPPED_WORD, parseIpv4('10.0.2.3'));
  flows.setPorts(f, 40_000, 53);
  const to = nat.leadsNowhere(f) ? null : nat.destinationText(f);
  flows.release(f);
  return to;
};

describe('the resolver', () => {
  test('is asked for once a second at most, by whoever is first; all others wait for the same answer', () => {
    const went: number[] = [];
    expect(resolver.look(() => went.push(1))).toBe(true);
    expect(resolver.look(() => went.push(2))).toBe(true);
    expect([questions(), went]).toEqual([1, []]);
    answer('search example.org\nnameserver 2001:db8::53\nnameserver 198.51.100.7\nnameserver 192.0.2.53\n');
    expect([went, leadsTo()]).toEqual([[1, 2], '198.51.100.7']);
    expect(resolver.look(() => went.push(3))).toBe(false);
    expect(questions()).toBe(0);
    aheadMs += 1000;
    expect(resolver.look(() => went.push(4))).toBe(true);
    expect(questions()).toBe(1);
    answer('\0');
    expect([went, leadsTo()]).toEqual([[1, 2, 4], '198.51.100.7']);
    aheadMs += 1000;
    resolver.look(() => went.push(5));
    answer('\n');
    expect([went, leadsTo()]).toEqual([[1, 2, 4, 5], null]);
  });
  test('is the one that it was, where no answer comes in time', () => {
    let went = 0;
    resolver.look(() => went++);
    expect(resolver.nextDelay(io.nowMs())).toBeGreaterThan(0);
    resolver.tick(io.nowMs());
    expect(went).toBe(0);
    aheadMs += 600;
    expect(resolver.nextDelay(io.nowMs())).toBe(0);
    resolver.tick(io.nowMs());
    expect([went, leadsTo(), resolver.nextDelay(io.nowMs())]).toEqual([1, '192.0.2.53', -1]);
    // The answer counts when it comes.
    answer('nameserver 198.51.100.9\n');
    expect([went, leadsTo()]).toEqual([1, '198.51.100.9']);
  });
  test('stays what it was when the reader is gone', () => {
    let went = 0;
    resolver.look(() => went++);
    testkit.close(reader);
    resolver.onReadable();
    expect([went, leadsTo()]).toEqual([1, '192.0.2.53']);
    expect(resolver.look(() => went++)).toBe(false);
    [, reader] = testkit.socketpair(SOCK_SEQPACKET);
  });
});
