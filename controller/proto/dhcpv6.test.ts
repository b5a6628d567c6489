// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { toHex } from '../../test/support/bytes.ts';
import * as guest from '../../test/support/guest-frames.ts';
import { GUEST_MAC, makeNetwork, OUR_MAC } from '../../test/support/network.ts';
import type { Network } from '../host/network.ts';
import { ipv6Text } from '../wire/addr.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const out = await import('../link/out.ts');
const { tapLink } = await import('../link/tap-link.ts');
const station = await import('../link/station.ts');
const { dropCount } = await import('../obs/drops.ts');
const dhcpv6 = await import('./dhcpv6.ts');

const [SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, INFORMATION_REQUEST] = [
  1, 2, 3, 4, 5, 6, 7, 8, 9, 11,
] as const;
const LL = 'fe80::5eff:fe00:5302';
const SERVERS = 'ff02::1:2';
const OURS = '2001:db8:1:2:a::10';

const option = (code: number, data: readonly number[]): number[] => [
  ...guest.u16(code),
  ...guest.u16(data.length),
  ...data,
];
const CLIENT = option(1, [0, 3, 0, 1, ...guest.mac(GUEST_MAC)]);
const SERVER_DUID = [0, 3, 0, 1, ...guest.mac(OUR_MAC)];
const SERVER = option(2, SERVER_DUID);
const address = (text: string): number[] => option(5, [...guest.ip6(text), ...guest.u32(100), ...guest.u32(200)]);
const ia = (code: number, iaid: number, inner: readonly number[] = []): number[] =>
  option(code, [...guest.u32(iaid), ...guest.u32(0), ...guest.u32(0), ...inner]);
const IA_NA = 3;
const IA_PD = 25;

const handleFrame = (frame: readonly number[], vnetFlags = 0): boolean => {
  fake.tapFrames.length = 0;
  const end = guest.place(frame, vnetFlags);
  const consumed = dhcpv6.handle(guest.FRAME_AT, guest.FRAME_AT + 14, guest.FRAME_AT + 54, end);
  out.flush();
  return consumed;
};
const datagram = (data: readonly number[], dst = SERVERS, src = LL): number[] =>
  guest.packet6(
    src,
    dst,
    17,
    1,
    [...guest.u16(546), ...guest.u16(547), ...guest.u16(8 + data.length), 0, 0, ...data],
    6,
  );
const send = (type: number, ...options: readonly number[][]): boolean =>
  handleFrame(datagram([type, 0xab, 0xcd, 0xef, ...options.flat()]));

interface Option {
  readonly code: number;
  readonly data: Buffer;
}
const parse = (bytes: Buffer): Option[] => {
  const found: Option[] = [];
  let p = 0;
  while (p < bytes.length) {
    const len = bytes.readUInt16BE(p + 2);
    expect(p + 4 + len).toBeLessThanOrEqual(bytes.length);
    found.push({ code: bytes.readUInt16BE(p), data: bytes.subarray(p + 4, p + 4 + len) });
    p += 4 + len;
  }
  return found;
};
/** The one frame sent, its checksum proven right: message type and options. */
const reply = (): { frame: Buffer; type: number; options: Option[]; get: (code: number) => string | undefined } => {
  expect(fake.tapFrames).toHaveLength(1);
  const frame = fake.tapFrames[0] as Buffer;
  const length = frame.subarray(58, 60);
  const pseudo = [...frame.subarray(22, 54), 0, 0, ...length, 0, 0, 0, 17, ...frame.subarray(54)];
  expect(fake.checksumOf(Uint8Array.from(pseudo))).toBe(0xffff);
  expect([length.readUInt16BE(0), frame.readUInt16BE(18)]).toEqual([frame.length - 54, frame.length - 54]);
  expect(frame.subarray(63, 66).toString('hex')).toBe('abcdef');
  const options = parse(frame.subarray(66));
  return {
    frame,
    type: frame[62] as number,
    options,
    get: (code) => options.find((o) => o.code === code)?.data.toString('hex'),
  };
};
/** IAs of the reply: [code, IAID, T1, addresses with valid lifetime, status]. */
const ias = (): unknown[] =>
  reply()
    .options.filter((o) => [3, 4, 25].includes(o.code))
    .map(({ code, data }) => {
      const inner = parse(data.subarray(code === 4 ? 4 : 12));
      const addresses = inner
        .filter((o) => o.code === 5)
        .map(({ data: a }) => [
          ipv6Text(a.readInt32BE(0), a.readInt32BE(4), a.readInt32BE(8), a.readInt32BE(12)),
          a.readUInt32BE(20),
        ]);
      const status = inner.find((o) => o.code === 13)?.data.readUInt16BE(0);
      return [code, data.readUInt32BE(0), code === 4 ? 0 : data.readUInt32BE(4), addresses, status];
    });
const GIVEN = [[OURS, 0xffffffff]];
const configure = (change: Partial<Network> = {}): void => {
  const network = makeNetwork(change);
  station.configure(network);
  dhcpv6.configure(network);
};

beforeEach(() => {
  fake.reset();
  out.attach(tapLink(7, 12));
  configure();
});

describe('DHCPv6', () => {
  test('SOLICIT is answered with an ADVERTISE to the one that asked', () => {
    expect(send(SOLICIT, CLIENT, ia(IA_NA, 7))).toBe(true);
    const r = reply();
    expect(r.type).toBe(ADVERTISE);
    expect(toHex(r.frame.subarray(0, 14))).toBe(`${GUEST_MAC}${OUR_MAC}86dd`.replaceAll(':', ''));
    expect([...r.frame.subarray(22, 54)]).toEqual([...guest.ip6('fe80::1'), ...guest.ip6(LL)]);
    expect([r.frame.readUInt16BE(54), r.frame.readUInt16BE(56)]).toEqual([547, 546]);
    expect(r.options.map((o) => o.code)).toEqual([2, 1, 7, 3, 23, 24]);
    expect(r.get(2)).toBe(toHex(Uint8Array.from(SERVER_DUID)));
    expect(r.get(1)).toBe(toHex(Uint8Array.from(CLIENT.slice(4))));
    expect(r.get(7)).toBe('ff');
    expect(r.get(23)).toBe(toHex(Uint8Array.from([...guest.ip6('2001:db8:53::1'), ...guest.ip6('2001:db8:53::2')])));
    expect(r.get(24)).toBe('076578616d706c65036f726700036c6162076578616d706c65036f726700');
    expect(ias()).toEqual([[IA_NA, 7, 0xffffffff, GIVEN, undefined]]);
  });
  test('SOLICIT with Rapid Commit is answered with a REPLY that has it, too', () => {
    send(SOLICIT, CLIENT, ia(IA_NA, 7), option(14, []));
    expect([reply().type, reply().get(14), reply().get(7)]).toEqual([REPLY, '', undefined]);
  });
  test.each([REQUEST, RENEW])('message %i to our DUID gives the address', (type) => {
    send(type, CLIENT, SERVER, ia(IA_NA, 7, address(OURS)));
    expect(reply().type).toBe(REPLY);
    expect(ias()).toEqual([[IA_NA, 7, 0xffffffff, GIVEN, undefined]]);
  });
  test('REBIND needs no server identifier (RFC 8415 §16.8)', () => {
    send(REBIND, CLIENT, ia(IA_NA, 7, address(OURS)));
    expect(ias()).toEqual([[IA_NA, 7, 0xffffffff, GIVEN, undefined]]);
  });
  test('REQUEST of another address: not on link (§18.3.2)', () => {
    send(REQUEST, CLIENT, SERVER, ia(IA_NA, 7, address('2001:db8:9::1')));
    expect(ias()).toEqual([[IA_NA, 7, 0, [], 4]]);
  });
  test.each([
    [RENEW, SERVER],
    [REBIND, []],
  ])('message %i with another address takes it back and gives ours (§18.3.4)', (type, server) => {
    send(type, CLIENT, server, ia(IA_NA, 7, [...address('2001:db8:9::1'), ...address(OURS)]));
    expect(ias()).toEqual([[IA_NA, 7, 0xffffffff, [...GIVEN, ['2001:db8:9::1', 0]], undefined]]);
  });
  test('a second IA_NA, temporary addresses and prefixes: there are none', () => {
    send(SOLICIT, CLIENT, ia(IA_NA, 1), ia(IA_NA, 2), option(4, guest.u32(3)), ia(IA_PD, 4));
    expect(ias()).toEqual([
      [IA_NA, 1, 0xffffffff, GIVEN, undefined],
      [IA_NA, 2, 0, [], 2],
      [4, 3, 0, [], 2],
      [IA_PD, 4, 0, [], 6],
    ]);
  });
  test.each<[string, number[], number | undefined]>([
    ['our address', ia(IA_NA, 7, address(OURS)), 0],
    ['another', ia(IA_NA, 7, address('2001:db8:1:2::1')), 4],
    ['ours and another', [...ia(IA_NA, 7, address(OURS)), ...ia(IA_NA, 8, address('2001:db8:1:2::1'))], 4],
    ['none', ia(IA_NA, 7), undefined],
  ])('CONFIRM of %s', (_what, option7, status) => {
    expect(send(CONFIRM, CLIENT, option7)).toBe(true);
    if (status === undefined) expect(fake.tapFrames).toEqual([]);
    else expect(reply().get(13)).toBe(`000${status}`);
  });
  test.each([RELEASE, DECLINE])('message %i succeeds', (type) => {
    send(type, CLIENT, SERVER, ia(IA_NA, 7, address(OURS)));
    expect(
      reply()
        .options.map((o) => [o.code, o.data.toString('hex')])
        .at(-1),
    ).toEqual([13, '0000']);
    expect(ias()).toEqual([]);
  });
  test('INFORMATION-REQUEST gets configuration and no address, with or without client identifier', () => {
    send(INFORMATION_REQUEST);
    expect(reply().options.map((o) => o.code)).toEqual([2, 23, 24]);
    send(INFORMATION_REQUEST, CLIENT, SERVER);
    expect(reply().options.map((o) => o.code)).toEqual([2, 1, 23, 24]);
  });
  test('without an address to give: status, and configuration all the same', () => {
    configure({ v6: { ...(makeNetwork().v6 as NonNullable<Network['v6']>), addresses: [] } });
    send(SOLICIT, CLIENT, ia(IA_NA, 7));
    expect(ias()).toEqual([[IA_NA, 7, 0, [], 2]]);
    expect(reply().get(23)).toBeDefined();
  });
  test('an address that was committed is where the guest is', () => {
    station.see6(0x20010db8, 0x00010002, 0, 0x77);
    send(SOLICIT, CLIENT, ia(IA_NA, 7));
    expect(station.guest6Word(3)).toBe(0x77);
    send(REQUEST, CLIENT, SERVER, ia(IA_NA, 7));
    expect(station.guest6Word(3)).toBe(0x10);
  });
  test('the full name to a client that sent or asked for one (RFC 4704)', () => {
    configure({ fqdn: 'box.example.org' });
    const name = '03626f78076578616d706c65036f726700';
    send(SOLICIT, CLIENT, ia(IA_NA, 7));
    expect(reply().get(39)).toBeUndefined();
    send(SOLICIT, CLIENT, option(6, [0, 23, 0, 39]));
    expect(reply().get(39)).toBe(`04${name}`);
    send(SOLICIT, CLIENT, option(39, [1, 1, 98]));
    expect(reply().get(39)).toBe(`06${name}`);
  });
  test('neither resolvers nor search list unless wanted', () => {
    configure({ tellDns: false, tellSearch: false });
    send(INFORMATION_REQUEST);
    expect(reply().options.map((o) => o.code)).toEqual([2]);
  });
});

describe('hostile and foreign datagrams', () => {
  const good = [SOLICIT, 0xab, 0xcd, 0xef, ...CLIENT, ...ia(IA_NA, 7)];
  test('to another address, or while it is off, are not taken', () => {
    expect(handleFrame(datagram(good, '2001:db8::547'))).toBe(false);
    expect(handleFrame(datagram(good, 'ff05::1:3'))).toBe(true);
    configure({ enable: { ...makeNetwork().enable, dhcpv6: false } });
    expect(handleFrame(datagram(good))).toBe(false);
    configure({ v6: null });
    expect(handleFrame(datagram(good))).toBe(false);
  });
  test.each<[string, number, number[][]]>([
    ['SOLICIT without client identifier', SOLICIT, [ia(IA_NA, 7)]],
    ['SOLICIT with a server identifier', SOLICIT, [CLIENT, SERVER]],
    ['REQUEST without server identifier', REQUEST, [CLIENT, ia(IA_NA, 7)]],
    ['REBIND with a server identifier', REBIND, [CLIENT, SERVER]],
    ['INFORMATION-REQUEST with an address', INFORMATION_REQUEST, [CLIENT, ia(IA_NA, 7)]],
    ['an empty client identifier', SOLICIT, [option(1, [])]],
    ['a client identifier of 131 bytes', SOLICIT, [option(1, new Array<number>(131).fill(1))]],
    ["a server's message", ADVERTISE, [CLIENT, SERVER]],
    ["a relay's message", 12, [CLIENT]],
    ['an option that runs over the end', SOLICIT, [CLIENT, [0, 3, 0, 12, 0, 0]]],
  ])('%s is dropped (§16)', (_what, type, options) => {
    const before = dropCount('dhcpv6-malformed');
    expect(send(type, ...options)).toBe(true);
    expect([fake.tapFrames.length, dropCount('dhcpv6-malformed')]).toEqual([0, before + 1]);
  });
  test("what names another server is that server's", () => {
    for (const type of [REQUEST, RENEW, RELEASE, DECLINE]) {
      expect(send(type, CLIENT, option(2, [0, 3, 0, 1, 1, 2, 3, 4, 5, 6]), ia(IA_NA, 7))).toBe(true);
      expect(fake.tapFrames).toEqual([]);
    }
  });
  test('truncated at any byte: no answer, or one to whole options', () => {
    const boundaries = [4 + CLIENT.length];
    for (let n = 0; n < good.length; n++) {
      expect(handleFrame(datagram(good.slice(0, n)))).toBe(true);
      expect(fake.tapFrames.length).toBe(boundaries.includes(n) ? 1 : 0);
    }
  });
  test('an IA whose inner options are broken is one without addresses', () => {
    send(REQUEST, CLIENT, SERVER, ia(IA_NA, 7, [0, 5, 0, 24, 1, 2, 3]));
    expect(ias()).toEqual([[IA_NA, 7, 0xffffffff, GIVEN, undefined]]);
  });
  test('a wrong or missing checksum is dropped (RFC 8200 §8.1), unless vouched for', () => {
    const frame = datagram(good);
    frame.splice(60, 2, 0, 0);
    const before = dropCount('udp-checksum');
    handleFrame(frame);
    frame.splice(60, 2, 0x12, 0x34);
    handleFrame(frame);
    expect([fake.tapFrames.length, dropCount('udp-checksum')]).toEqual([0, before + 2]);
    handleFrame(frame, 1);
    expect(fake.tapFrames).toHaveLength(1);
  });
  test('however much is asked and configured, a reply needs no more than 1280 bytes', () => {
    const search = Array.from({ length: 6 }, (_, i) => `${'x'.repeat(60)}.${'y'.repeat(60)}.n${i}.example`);
    const dns = Array.from({ length: 20 }, (_, i) => `2001:db8::${(i + 1).toString(16)}`);
    configure({
      search,
      fqdn: `${'z'.repeat(60)}.example`,
      v6: { ...(makeNetwork().v6 as NonNullable<Network['v6']>), dns },
    });
    const strangers = Array.from({ length: 500 }, (_, i) => address(`2001:db8:9::${(i + 1).toString(16)}`)).flat();
    const many = Array.from({ length: 500 }, (_, i) => ia(i % 2 === 0 ? IA_NA : IA_PD, i));
    send(RENEW, option(1, new Array<number>(130).fill(7)), SERVER, ia(IA_NA, 7, strangers), ...many, option(39, [0]));
    expect(reply().frame.length).toBeLessThanOrEqual(14 + 1280);
    expect(ias()).toHaveLength(4);
  });
  test('any options get one well-formed reply or none', () => {
    const row = fc
      .tuple(fc.oneof(fc.constantFrom(1, 2, 3, 4, 5, 6, 14, 25, 39), fc.nat(0xffff)), fc.uint8Array({ maxLength: 60 }))
      .map(([code, data]) => option(code, [...data]));
    fc.assert(
      fc.property(fc.array(row, { maxLength: 12 }), fc.nat(13), fc.boolean(), (rows, type, server) => {
        expect(send(type, CLIENT, ...(server ? [SERVER] : []), ...rows)).toBe(true);
        if (fake.tapFrames.length > 0) reply();
      }),
      { numRuns: 1000 },
    );
  });
});
