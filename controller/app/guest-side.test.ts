// SPDX-License-Identifier: Apache-2.0
/** A virtual machine from its first frame on: who it is thought to be while it boots, comes back with another MAC, or is a bridge. */
import { beforeEach, describe, expect, test, vi } from 'vitest';
import * as guest from '../../test/support/guest-frames.ts';
import { makeNetwork } from '../../test/support/network.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const out = await import('../link/out.ts');
const received = await import('../link/received.ts');
const station = await import('../link/station.ts');
const { tapLink } = await import('../link/tap-link.ts');
const dhcpv4 = await import('../proto/dhcpv4.ts');
const dhcpv6 = await import('../proto/dhcpv6.ts');
const ndp = await import('../proto/ndp.ts');
const { macText } = await import('../wire/addr.ts');
const demux = await import('./demux.ts');

const [A, B] = ['52:54:00:00:00:0a', '52:54:00:00:00:0b'];
const OURS = '9a:55:9a:55:9a:55';
const EVERYBODY = 'ff:ff:ff:ff:ff:ff';
const LINK_LOCAL = 'fe80::5054:ff:fe00:a';

/** The frames that answer `frame`, which comes from `source`. */
const from = (source: string, frame: readonly number[]): Buffer[] => {
  fake.tapFrames.length = 0;
  const end = guest.place([...frame.slice(0, 6), ...guest.mac(source), ...frame.slice(12)]);
  demux.frame(guest.FRAME_AT - 12, end - guest.FRAME_AT + 12, 12);
  out.flush();
  return [...fake.tapFrames];
};
const to = (frame: Buffer | undefined): string | undefined =>
  frame && macText(frame.readUInt16BE(0), frame.readInt32BE(2));
const known = (): string => macText(station.guestMacHigh(), station.guestMacLow());

const dhcp = (hardware: string, type: number): number[] =>
  guest.udp4(
    '0.0.0.0',
    '255.255.255.255',
    [68, 67],
    [
      ...[1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0, 0],
      ...new Array<number>(16).fill(0),
      ...guest.mac(hardware),
      ...new Array<number>(10 + 192).fill(0),
      ...[0x63, 0x82, 0x53, 0x63, 53, 1, type, 255],
    ],
  );
const solicitation = guest.packet6(LINK_LOCAL, 'ff02::2', 58, 255, [133, 0, 0, 0, 0, 0, 0, 0], 2);
const informationRequest = guest.packet6(
  LINK_LOCAL,
  'ff02::1:2',
  17,
  1,
  [...guest.u16(546), ...guest.u16(547), 0, 12, 0, 0, 11, 1, 2, 3],
  6,
);
const arp = (source: string, sender: string, target: string): number[] =>
  guest.ethernet(0x0806, [
    ...[0, 1, 8, 0, 6, 4, 0, 1],
    ...guest.mac(source),
    ...guest.ip4(sender),
    ...[0, 0, 0, 0, 0, 0],
    ...guest.ip4(target),
  ]);

beforeEach(() => {
  fake.reset();
  fake.setNow(1000);
  const network = makeNetwork({ guestMac: EVERYBODY, ourMac: OURS });
  out.attach(tapLink(7, 12));
  received.configure(12);
  station.configure(network);
  ndp.configure(network);
  dhcpv4.configure(network);
  dhcpv6.configure(network);
  demux.configure(network);
});

describe('before its first frame', () => {
  test('router advertisements go to all nodes, whoever they are; announce() has the next one sent at once', () => {
    const advertisements = (): (string | undefined)[] => {
      fake.tapFrames.length = 0;
      ndp.tick(1000);
      out.flush();
      return fake.tapFrames.map(to);
    };
    expect(advertisements()).toEqual(['33:33:00:00:00:01']);
    expect(advertisements()).toEqual([]);
    ndp.announce();
    expect(advertisements()).toEqual(['33:33:00:00:00:01']);
    expect(known()).toBe(EVERYBODY);
  });
  test('what it asks with that frame is answered to the MAC that the frame says', () => {
    expect(from(A, dhcp(A, 1)).map(to)).toEqual([A]);
    expect(known()).toBe(A);
    for (const frame of [solicitation, informationRequest, arp(B, '192.0.2.10', '192.0.2.1')]) {
      station.configure(makeNetwork({ guestMac: EVERYBODY, ourMac: OURS }));
      expect(from(B, frame).map(to)).toEqual([B]);
    }
  });
  test.each([EVERYBODY, '01:00:5e:00:00:01', '00:00:00:00:00:00', OURS])(
    'a frame from %s does not make that its MAC',
    (mac) => {
      from(mac, solicitation);
      expect(known()).toBe(EVERYBODY);
      expect(from(mac, dhcp(A, 1)).map(to)).toEqual([A]);
    },
  );
});

describe('with another MAC', () => {
  test('after a restart it gets the same address, there', () => {
    for (const mac of [A, B]) {
      const [offer] = from(mac, dhcp(mac, 1));
      const [ack] = from(mac, dhcp(mac, 3));
      expect([offer, ack].map(to)).toEqual([mac, mac]);
      expect([offer, ack].map((frame) => frame?.subarray(42 + 16, 42 + 20).join('.'))).toEqual([
        '192.0.2.10',
        '192.0.2.10',
      ]);
    }
    expect(station.several).toBe(true);
  });
  test('behind a bridge, the client that is named gets the answer, not the bridge that sent the frame', () => {
    expect(from(B, dhcp(A, 1)).map(to)).toEqual([A]);
  });
  test("an address of the guest's is not ours, whichever of its machines asks", () => {
    from(A, arp(A, '192.0.2.10', '192.0.2.1'));
    expect(from(B, arp(B, '192.0.2.20', '192.0.2.10'))).toEqual([]);
    expect(from(A, arp(A, '192.0.2.10', '192.0.2.20'))).toEqual([]);
    expect(from(B, arp(B, '192.0.2.20', '192.0.2.77')).map(to)).toEqual([B]);
  });
});

test('a guest that has the MAC which was named as ours gets answers from another, router advertisements included', () => {
  const network = makeNetwork({ guestMac: EVERYBODY, ourMac: A });
  station.configure(network);
  ndp.configure(network);
  const [advertisement] = from(A, solicitation);
  expect([to(advertisement), advertisement?.subarray(6, 12).toString('hex')]).toEqual([A, '9a559a559a55']);
  // Source link-layer address, behind the fixed part.
  expect(advertisement?.subarray(70, 78).toString('hex')).toBe('01019a559a559a55');
  expect(from(A, dhcp(A, 1)).map(to)).toEqual([A]);
});
