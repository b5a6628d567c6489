// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, test, vi } from 'vitest';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const nat = await import('./nat.ts');
const flows = await import('../flow/table.ts');
const station = await import('../link/station.ts');
const { parseIpv4, parseIpv6 } = await import('../host/address-text.ts');
const addr = await import('../wire/addr.ts');
const { makeNetwork } = await import('../../test/support/network.ts');

type Words = readonly [number, number, number, number];
const wordsOf = (text: string): Words =>
  text.includes(':') ? (parseIpv6(text) as Words) : [0, 0, flows.MAPPED_WORD, parseIpv4(text)];
const textOf = (v4: boolean, w: ArrayLike<number>): string =>
  v4 ? addr.ipv4Text(w[3] as number) : addr.ipv6Text(w[0] as number, w[1] as number, w[2] as number, w[3] as number);

/** As pasta's defaults have it: the gateway stands for the host's loopback. */
const DEFAULTS: import('./nat.ts').Nat = {
  hostLoopback4: '192.0.2.1',
  hostLoopback6: 'fe80::1',
  guestAddr4: null,
  guestAddr6: null,
  dnsForward4: null,
  dnsForward6: null,
  host4: '192.0.2.10',
  host6: '2001:db8:1:2:a::10',
  dnsHost4: '198.51.100.53',
  dnsHost6: '2001:db8:53::1',
  resolvers: ['198.51.100.53', '2001:db8:53::1'],
};
const NOTHING = { ...DEFAULTS, hostLoopback4: null, hostLoopback6: null };

beforeEach(() => {
  station.configure(makeNetwork());
  nat.configure(DEFAULTS);
  flows.endTurn();
});

const flowTo = (remote: string, port: number, type: import('../flow/table.ts').FlowType = flows.FLOW_TCP) => {
  const f = flows.alloc(type);
  flows.setV4(f, !remote.includes(':'));
  flows.setRemote(f, ...wordsOf(remote));
  flows.setPorts(f, 40_000, port);
  return f;
};
const leadsTo = (remote: string, port: number, type: import('../flow/table.ts').FlowType = flows.FLOW_TCP): string => {
  const f = flowTo(remote, port, type);
  const text = nat.destinationText(f);
  flows.release(f);
  return text;
};
const seenFrom = (from: string, toLinkLocal = false): string | null => {
  const v4 = !from.includes(':');
  return nat.fromHost(v4, ...wordsOf(from), toLinkLocal) ? textOf(v4, nat.source) : null;
};

describe('from the tap', () => {
  test('the gateway stands for the loopback of the host, everything else for itself', () => {
    for (const type of [flows.FLOW_TCP, flows.FLOW_UDP] as const) {
      expect(leadsTo('192.0.2.1', 8080, type)).toBe('127.0.0.1');
      expect(leadsTo('fe80::1', 8080, type)).toBe('::1');
      expect(leadsTo('192.0.2.2', 8080, type)).toBe('192.0.2.2');
      expect(leadsTo('2001:db8:1:2:a::10', 8080, type)).toBe('2001:db8:1:2:a::10');
    }
  });
  test('without a mapping the gateway is the gateway', () => {
    nat.configure(NOTHING);
    expect(leadsTo('192.0.2.1', 8080)).toBe('192.0.2.1');
    expect(leadsTo('fe80::1', 8080)).toBe('fe80::1');
  });
  test('a gateway that is a resolver answers for names itself, and for nothing else', () => {
    expect(leadsTo('192.0.2.1', 53)).toBe('127.0.0.1');
    nat.configure({ ...DEFAULTS, resolvers: ['192.0.2.1'] });
    for (const port of [53, 853]) {
      expect(leadsTo('192.0.2.1', port, flows.FLOW_UDP)).toBe('192.0.2.1');
      expect(leadsTo('fe80::1', port, flows.FLOW_UDP)).toBe('::1');
    }
    expect(leadsTo('192.0.2.1', 5353, flows.FLOW_UDP)).toBe('127.0.0.1');
  });
  test('--dns-forward: ports 53 and 853, before every other mapping', () => {
    nat.configure({ ...DEFAULTS, dnsForward4: '192.0.2.1', dnsForward6: '2001:db8::53' });
    for (const port of [53, 853]) {
      expect(leadsTo('192.0.2.1', port)).toBe('198.51.100.53');
      expect(leadsTo('2001:db8::53', port, flows.FLOW_UDP)).toBe('2001:db8:53::1');
    }
    expect(leadsTo('192.0.2.1', 443)).toBe('127.0.0.1');
    expect(leadsTo('2001:db8::53', 443)).toBe('2001:db8::53');
    // A host without a resolver of that family forwards to nobody.
    nat.configure({ ...DEFAULTS, dnsForward6: '2001:db8::53', dnsHost6: null });
    expect(leadsTo('2001:db8::53', 53)).toBe('2001:db8::53');
  });
  test('--map-guest-addr leads to the host’s own address', () => {
    nat.configure({ ...DEFAULTS, guestAddr4: '169.254.1.2', guestAddr6: 'fd00::2' });
    expect(leadsTo('169.254.1.2', 80)).toBe('192.0.2.10');
    expect(leadsTo('fd00::2', 80)).toBe('2001:db8:1:2:a::10');
    nat.configure({ ...DEFAULTS, guestAddr4: '169.254.1.2', host4: null });
    expect(leadsTo('169.254.1.2', 80)).toBe('169.254.1.2');
  });
  test('one family’s mapping is not the other’s', () => {
    nat.configure({ ...NOTHING, hostLoopback4: '192.0.2.1' });
    expect(leadsTo('fe80::1', 80)).toBe('fe80::1');
    expect(nat.standsForHost(true, ...wordsOf('192.0.2.1'))).toBe(true);
    expect(nat.standsForHost(false, ...wordsOf('fe80::1'))).toBe(false);
    expect(nat.standsForHost(false, 0, 0, 0, 0)).toBe(false);
  });
});

describe('from the host', () => {
  test('who has an address of its own keeps it', () => {
    for (const from of ['198.51.100.1', '10.0.0.1', '2001:db8:2::7', 'fe80::5054:ff:fe12:3456']) {
      expect(seenFrom(from)).toBe(from);
    }
  });
  test('no loopback address and none of the guest’s own is shown', () => {
    for (const nothing of [false, true]) {
      if (nothing) nat.configure(NOTHING);
      expect(seenFrom('127.0.0.1')).toBe('192.0.2.1');
      expect(seenFrom('127.9.9.9')).toBe('192.0.2.1');
      expect(seenFrom('::1')).toBe('fe80::1');
      expect(seenFrom('192.0.2.10')).toBe('192.0.2.1');
      expect(seenFrom('2001:db8:1:2:a::10')).toBe('fe80::1');
    }
  });
  test('mapped addresses are shown instead of the gateway', () => {
    nat.configure({
      ...DEFAULTS,
      hostLoopback4: '192.0.2.77',
      hostLoopback6: 'fd00::77',
      guestAddr4: '169.254.1.2',
      guestAddr6: 'fd00::2',
    });
    expect(seenFrom('127.0.0.1')).toBe('192.0.2.77');
    expect(seenFrom('::1')).toBe('fd00::77');
    expect(seenFrom('192.0.2.10')).toBe('169.254.1.2');
    expect(seenFrom('2001:db8:1:2:a::10')).toBe('fd00::2');
  });
  test('the host’s address is the host’s when the guest has another one', () => {
    nat.configure({ ...DEFAULTS, host4: '203.0.113.5' });
    expect(seenFrom('203.0.113.5')).toBe('203.0.113.5');
    nat.configure({ ...DEFAULTS, host4: '203.0.113.5', guestAddr4: '169.254.1.2' });
    expect(seenFrom('203.0.113.5')).toBe('169.254.1.2');
  });
  test('a link-local address of the guest hears from a link-local one', () => {
    nat.configure({ ...DEFAULTS, hostLoopback6: 'fd00::77' });
    expect(seenFrom('::1', true)).toBe('fe80::1');
    nat.configure({ ...DEFAULTS, hostLoopback6: 'fe80::77' });
    expect(seenFrom('::1', true)).toBe('fe80::77');
  });
  test('what no host can have', () => {
    for (const from of ['0.0.0.0', '0.1.2.3', '224.0.0.1', '255.255.255.255', '::', 'ff02::1']) {
      expect(seenFrom(from), from).toBe(null);
    }
  });
  test('without a family there is nothing to show', () => {
    station.configure(makeNetwork({ v6: null }));
    nat.configure(NOTHING);
    expect(seenFrom('::1')).toBe(null);
  });
});

describe('errors', () => {
  const saidBy = (remote: string, port: number, from: string): string | null => {
    const v4 = !remote.includes(':');
    const f = flowTo(remote, port);
    const words = new Int32Array(wordsOf(from));
    const known = nat.offender(f, words);
    flows.release(f);
    return known ? textOf(v4, words) : null;
  };
  test('come from the address that the guest asked', () => {
    nat.configure({ ...DEFAULTS, guestAddr4: '169.254.1.2', guestAddr6: 'fd00::2', dnsForward4: '192.0.2.53' });
    expect(saidBy('192.0.2.1', 80, '127.0.0.1')).toBe('192.0.2.1');
    expect(saidBy('fe80::1', 80, '::1')).toBe('fe80::1');
    expect(saidBy('169.254.1.2', 80, '192.0.2.10')).toBe('169.254.1.2');
    expect(saidBy('192.0.2.53', 53, '198.51.100.53')).toBe('192.0.2.53');
    // The host itself, about a flow to somebody else.
    expect(saidBy('198.51.100.9', 80, '192.0.2.10')).toBe('169.254.1.2');
    expect(saidBy('2001:db8:2::7', 80, '2001:db8:1:2:a::10')).toBe('fd00::2');
  });
  test('of routers are left alone', () => {
    expect(saidBy('192.0.2.1', 80, '198.51.100.53')).toBe(null);
    expect(saidBy('198.51.100.9', 80, '192.0.2.10')).toBe(null);
    expect(saidBy('198.51.100.9', 80, '198.51.100.9')).toBe(null);
  });
});

describe('addresses that are closed', () => {
  const nowhere = (
    remote: string,
    port: number,
    type: import('../flow/table.ts').FlowType = flows.FLOW_TCP,
  ): boolean => {
    const f = flowTo(remote, port, type);
    const found = nat.leadsNowhere(f);
    flows.release(f);
    return found;
  };
  const SLIRP = {
    ...NOTHING,
    ...{ dnsForward4: '10.0.2.3', dnsForward6: 'fd00::3', dnsHost6: null, dnsPorts: [53] },
    closed: ['10.0.2.2', '10.0.2.3', 'fd00::2', 'fd00::3'],
  };
  test('lead nowhere but where they stand for something, at the ports it has', () => {
    nat.configure(SLIRP);
    for (const type of [flows.FLOW_TCP, flows.FLOW_UDP] as const) {
      expect(nowhere('10.0.2.2', 80, type)).toBe(true);
      expect(nowhere('10.0.2.3', 53, type)).toBe(false);
      expect(leadsTo('10.0.2.3', 53, type)).toBe('198.51.100.53');
      for (const port of [80, 853]) expect(nowhere('10.0.2.3', port, type)).toBe(true);
      // There is no resolver of that family.
      expect(nowhere('fd00::3', 53, type)).toBe(true);
      expect(nowhere('10.0.2.4', 80, type)).toBe(false);
    }
    nat.configure({ ...SLIRP, hostLoopback4: '10.0.2.2' });
    expect(nowhere('10.0.2.2', 80)).toBe(false);
    expect(leadsTo('10.0.2.2', 80)).toBe('127.0.0.1');
  });
  test('are ours: pings to them are answered', () => {
    nat.configure(SLIRP);
    expect(nat.standsForHost(true, ...wordsOf('10.0.2.3'))).toBe(true);
    expect(nat.standsForHost(false, ...wordsOf('fd00::2'))).toBe(true);
    expect(nat.standsForHost(true, ...wordsOf('10.0.2.4'))).toBe(false);
  });
});
