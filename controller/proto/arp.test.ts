// SPDX-License-Identifier: Apache-2.0
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { toHex } from '../../test/support/bytes.ts';
import * as guest from '../../test/support/guest-frames.ts';
import { GUEST_MAC, makeNetwork, OUR_MAC } from '../../test/support/network.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const out = await import('../link/out.ts');
const { tapLink } = await import('../link/tap-link.ts');
const station = await import('../link/station.ts');
const { dropCount } = await import('../obs/drops.ts');
const arp = await import('./arp.ts');

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const message = (operation: number, sender: string, target: string): number[] => [
  ...[0, 1, 8, 0, 6, 4],
  ...guest.u16(operation),
  ...guest.mac(GUEST_MAC),
  ...guest.ip4(sender),
  ...guest.mac('00:00:00:00:00:00'),
  ...guest.ip4(target),
];
const send = (frame: readonly number[]): string[] => {
  fake.tapFrames.length = 0;
  const end = guest.place(frame);
  station.learn(fake.view, guest.FRAME_AT);
  arp.handle(guest.FRAME_AT, end);
  out.flush();
  return fake.tapFrames.map(toHex);
};
const ask = (sender: string, target: string): string[] =>
  send(guest.ethernet(0x0806, message(1, sender, target), BROADCAST));

beforeEach(() => {
  fake.reset();
  out.attach(tapLink(7, 12));
  station.configure(makeNetwork());
  arp.configure(makeNetwork());
});

describe('ARP', () => {
  test.each(['192.0.2.1', '192.0.2.77', '203.0.113.9'])('a request for %s is answered with our MAC', (target) => {
    const expected = guest.ethernet(
      0x0806,
      [
        ...[0, 1, 8, 0, 6, 4, 0, 2],
        ...guest.mac(OUR_MAC),
        ...guest.ip4(target),
        ...guest.mac(GUEST_MAC),
        ...guest.ip4('192.0.2.10'),
      ],
      GUEST_MAC,
      OUR_MAC,
    );
    expect(ask('192.0.2.10', target)).toEqual([toHex(Uint8Array.from(expected))]);
  });
  test('a probe for our address is answered: it is taken (RFC 5227 §2.1); any other the guest may have', () => {
    expect(ask('0.0.0.0', '192.0.2.1')).toHaveLength(1);
    for (const free of ['192.0.2.77', '203.0.113.9']) expect(ask('0.0.0.0', free)).toEqual([]);
  });
  test('the sender of a request, and who announces itself, is of the guest and no longer asked for at our MAC', () => {
    expect(ask('192.0.2.10', '192.0.2.40')).toHaveLength(1);
    ask('192.0.2.40', '192.0.2.1');
    ask('192.0.2.41', '192.0.2.41');
    for (const own of ['192.0.2.40', '192.0.2.41']) expect(ask('192.0.2.10', own)).toEqual([]);
    expect(ask('192.0.2.10', '192.0.2.42')).toHaveLength(1);
  });
  test.each(['0.0.0.0', '127.0.0.1', '224.0.0.251', '255.255.255.255'])('nobody has %s', (target) => {
    const before = dropCount('arp-malformed');
    expect(ask('192.0.2.10', target)).toEqual([]);
    expect(dropCount('arp-malformed')).toBe(before + 1);
  });
  test('from nobody for nobody is how qrap finds out whether anyone is there', () => {
    const before = dropCount('arp-malformed');
    expect(ask('0.0.0.0', '0.0.0.0')).toHaveLength(1);
    expect(dropCount('arp-malformed')).toBe(before);
  });
  test('a probe or request for the address the guest was given is not', () => {
    expect(ask('0.0.0.0', '192.0.2.10')).toEqual([]);
    expect(ask('192.0.2.11', '192.0.2.10')).toEqual([]);
  });
  test('nor for one that the guest chose and uses', () => {
    station.see4(0xc000024d | 0);
    expect(ask('0.0.0.0', '192.0.2.77')).toEqual([]);
    expect(ask('0.0.0.0', '192.0.2.10')).toEqual([]);
  });
  test('where neighbours are named, they alone are answered for, probes too, each with its own MAC', () => {
    const { v4 } = makeNetwork();
    const neighbours = [
      { address: '192.0.2.2', mac: '52:55:c0:00:02:02' },
      { address: '192.0.2.3', mac: '52:55:c0:00:02:03' },
    ];
    arp.configure(makeNetwork({ v4: v4 && { ...v4, neighbours } }));
    for (const sender of ['0.0.0.0', '192.0.2.10']) {
      for (const { address, mac } of neighbours)
        expect(ask(sender, address).map((frame) => frame.slice(44, 56))).toEqual([mac.replaceAll(':', '')]);
      for (const other of ['192.0.2.1', '192.0.2.4', '203.0.113.9']) expect(ask(sender, other)).toEqual([]);
    }
  });
  test('an announcement (RFC 5227 §3) and a reply are not answered', () => {
    expect(ask('192.0.2.30', '192.0.2.30')).toEqual([]);
    expect(send(guest.ethernet(0x0806, message(2, '192.0.2.10', '192.0.2.1')))).toEqual([]);
  });
  test('the answer goes to the machine that asked, whatever MAC it was given', () => {
    const frame = guest.ethernet(0x0806, message(1, '192.0.2.10', '192.0.2.1'), BROADCAST, '02:00:5e:00:53:77');
    expect(send(frame)[0]?.slice(0, 12)).toBe('02005e005377');
  });
  test('padding is not looked at; truncated at any byte the message is counted and dropped', () => {
    const whole = guest.ethernet(0x0806, message(1, '192.0.2.10', '192.0.2.1'), BROADCAST);
    expect(send([...whole, ...new Array<number>(18).fill(0xff)])).toHaveLength(1);
    for (let n = 14; n < whole.length; n++) {
      const before = dropCount('arp-malformed');
      expect(send(whole.slice(0, n))).toEqual([]);
      expect(dropCount('arp-malformed')).toBe(before + 1);
    }
  });
});
