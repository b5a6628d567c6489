// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { hex, toHex } from '../../test/support/bytes.ts';
import * as guest from '../../test/support/guest-frames.ts';
import { GUEST_MAC, makeNetwork, OUR_MAC } from '../../test/support/network.ts';
import type { Network } from '../host/network.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const out = await import('../link/out.ts');
const { tapLink } = await import('../link/tap-link.ts');
const station = await import('../link/station.ts');
const { dropCount } = await import('../obs/drops.ts');
const dhcpv4 = await import('./dhcpv4.ts');

const [DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM] = [1, 2, 3, 4, 5, 6, 7, 8] as const;
const option = (code: number, data: readonly number[]): number[] => [code, data.length, ...data];
const typed = (type: number, ...more: readonly number[]): number[] => [...option(53, [type]), ...more, 255];

interface Fields {
  readonly op?: number;
  readonly flags?: number;
  readonly ciaddr?: string;
  readonly giaddr?: string;
  readonly sname?: readonly number[];
  readonly file?: readonly number[];
}
const padded = (bytes: readonly number[], n: number): number[] => [
  ...bytes,
  ...new Array<number>(n - bytes.length).fill(0),
];
const message = (options: readonly number[], f: Fields = {}): number[] => [
  ...[f.op ?? 1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44, 0, 9],
  ...guest.u16(f.flags ?? 0),
  ...guest.ip4(f.ciaddr ?? '0.0.0.0'),
  ...new Array<number>(8).fill(0),
  ...guest.ip4(f.giaddr ?? '0.0.0.0'),
  ...padded(guest.mac(GUEST_MAC), 16),
  ...padded(f.sname ?? [], 64),
  ...padded(f.file ?? [], 128),
  ...[0x63, 0x82, 0x53, 0x63],
  ...options,
];

const handleFrame = (frame: readonly number[], vnetFlags = 0): boolean => {
  fake.tapFrames.length = 0;
  const end = guest.place(frame, vnetFlags);
  const consumed = dhcpv4.handle(guest.FRAME_AT, guest.FRAME_AT + 14, guest.FRAME_AT + 34, end);
  out.flush();
  return consumed;
};
const handle = (data: readonly number[], dst = '255.255.255.255', src = '0.0.0.0'): boolean =>
  handleFrame(guest.udp4(src, dst, [68, 67], data));

interface Reply {
  readonly frame: Buffer;
  readonly dst: string;
  readonly ciaddr: string;
  readonly yiaddr: string;
  readonly options: Map<number, string>;
}
const dotted = (b: Buffer): string => [...b].join('.');
/** The one frame sent, its checksums proven right, taken apart. */
const reply = (): Reply => {
  expect(fake.tapFrames).toHaveLength(1);
  const frame = fake.tapFrames[0] as Buffer;
  expect(fake.checksumOf(frame.subarray(14, 34))).toBe(0xffff);
  const pseudo = Uint8Array.from([...frame.subarray(26, 34), 0, 17, ...frame.subarray(38, 40), ...frame.subarray(34)]);
  expect(fake.checksumOf(pseudo)).toBe(0xffff);
  expect([frame.readUInt16BE(16), frame.readUInt16BE(38)]).toEqual([frame.length - 14, frame.length - 34]);
  const dhcp = frame.subarray(42);
  expect(dhcp.length).toBeGreaterThanOrEqual(300);
  expect(dhcp.subarray(0, 8).toString('hex')).toBe('0201060011223344');
  expect(dhcp.subarray(28, 34)).toEqual(Buffer.from(guest.mac(GUEST_MAC)));
  const options = new Map<number, string>();
  let p = 240;
  while (dhcp[p] !== 255) {
    const [code, len] = [dhcp[p] as number, dhcp[p + 1] as number];
    options.set(code, (options.get(code) ?? '') + dhcp.subarray(p + 2, p + 2 + len).toString('hex'));
    p += 2 + len;
    expect(p).toBeLessThan(dhcp.length);
  }
  return {
    frame,
    dst: dotted(frame.subarray(30, 34)),
    ciaddr: dotted(dhcp.subarray(12, 16)),
    yiaddr: dotted(dhcp.subarray(16, 20)),
    options,
  };
};
const configure = (change: Partial<Network> = {}): void => {
  const network = makeNetwork(change);
  station.configure(network);
  dhcpv4.configure(network);
};
const v4 = (change: Partial<NonNullable<Network['v4']>>): Partial<Network> => ({
  v4: { ...(makeNetwork().v4 as NonNullable<Network['v4']>), ...change },
});

beforeEach(() => {
  fake.reset();
  out.attach(tapLink(7, 12));
  configure();
});

describe('DHCP', () => {
  test('DISCOVER is answered with an OFFER to the offered address', () => {
    expect(handle(message(typed(DISCOVER)))).toBe(true);
    const r = reply();
    expect(toHex(r.frame.subarray(0, 14))).toBe(`${GUEST_MAC}${OUR_MAC}0800`.replaceAll(':', ''));
    expect([r.dst, r.yiaddr, r.ciaddr]).toEqual(['192.0.2.10', '192.0.2.10', '0.0.0.0']);
    expect(dotted(r.frame.subarray(26, 30))).toBe('192.0.2.1');
    expect([r.frame.readUInt16BE(34), r.frame.readUInt16BE(36)]).toEqual([67, 68]);
    expect(Object.fromEntries(r.options)).toEqual({
      53: '02',
      54: 'c0000201',
      51: 'ffffffff',
      1: 'ffffff00',
      3: 'c0000201',
      26: 'fff0',
      6: 'c6336435',
      119: '076578616d706c65036f726700036c6162c000',
    });
  });
  test('the broadcast flag is obeyed (RFC 2131 §4.1)', () => {
    handle(message(typed(DISCOVER), { flags: 0x8000 }));
    expect(reply().dst).toBe('255.255.255.255');
    expect(reply().frame.subarray(0, 6).toString('hex')).toBe('ffffffffffff');
    expect(reply().frame.readUInt16BE(42 + 10)).toBe(0x8000);
  });
  test('a relay gets the reply on the server port', () => {
    handle(message(typed(DISCOVER), { giaddr: '192.0.2.200' }), '192.0.2.1', '192.0.2.200');
    expect(reply().dst).toBe('192.0.2.200');
    expect(reply().frame.readUInt16BE(36)).toBe(67);
  });
  test('DISCOVER with Rapid Commit is answered with an ACK that has it, too (RFC 4039)', () => {
    handle(message(typed(DISCOVER, ...option(80, []))));
    expect([reply().options.get(53), reply().options.get(80)]).toEqual(['05', '']);
  });
  test.each<[string, number[], Fields, number]>([
    ['SELECTING ours', [...option(54, guest.ip4('192.0.2.1')), ...option(50, guest.ip4('192.0.2.10'))], {}, ACK],
    [
      'SELECTING ours, another address',
      [...option(54, guest.ip4('192.0.2.1')), ...option(50, guest.ip4('192.0.2.11'))],
      {},
      NAK,
    ],
    ['INIT-REBOOT with our address', option(50, guest.ip4('192.0.2.10')), {}, ACK],
    ["INIT-REBOOT with another network's", option(50, guest.ip4('10.0.0.1')), {}, NAK],
    ['RENEWING', [], { ciaddr: '192.0.2.10' }, ACK],
    ['RENEWING another address', [], { ciaddr: '192.0.2.12' }, NAK],
    ['REQUEST of nothing in particular', [], {}, ACK],
  ])('%s (RFC 2131 §4.3.2)', (_what, options, fields, type) => {
    handle(message(typed(REQUEST, ...options), fields));
    const r = reply();
    expect(r.options.get(53)).toBe(`0${type}`);
    expect(r.yiaddr).toBe(type === ACK ? '192.0.2.10' : '0.0.0.0');
    if (type === NAK) {
      expect([...r.options.keys()]).toEqual([53, 54]);
      expect(r.dst).toBe('255.255.255.255');
    } else expect(r.ciaddr).toBe(fields.ciaddr ?? '0.0.0.0');
  });
  test('SELECTING another server is none of our business', () => {
    expect(handle(message(typed(REQUEST, ...option(54, guest.ip4('192.0.2.254')))))).toBe(true);
    expect(fake.tapFrames).toEqual([]);
  });
  test('INFORM is answered to where the client is, without address and lease (RFC 2131 §4.3.5)', () => {
    handle(message(typed(INFORM), { ciaddr: '192.0.2.44' }), '192.0.2.1', '192.0.2.44');
    const r = reply();
    expect([r.dst, r.yiaddr, r.ciaddr, r.options.get(53)]).toEqual(['192.0.2.44', '0.0.0.0', '192.0.2.44', '05']);
    expect([r.options.has(51), r.options.has(80), r.options.get(6)]).toEqual([false, false, 'c6336435']);
  });
  test.each([DECLINE, RELEASE, OFFER, ACK, 13, 255])('type %i is taken and not answered', (type) => {
    expect(handle(message(typed(type)))).toBe(true);
    expect(fake.tapFrames).toEqual([]);
  });
  test('a message without type is BOOTP: address and configuration, no DHCP options', () => {
    handle(message([255]));
    const r = reply();
    expect(r.yiaddr).toBe('192.0.2.10');
    expect([53, 51, 54].map((code) => r.options.has(code))).toEqual([false, false, false]);
    expect(r.options.get(3)).toBe('c0000201');
  });
  test('the client identifier comes back (RFC 6842)', () => {
    handle(message(typed(DISCOVER, ...option(61, [1, 2, 3]))));
    expect(reply().options.get(61)).toBe('010203');
  });
  test('requested options come in the order of the list, the rest behind them (RFC 2132 §9.8)', () => {
    configure({ hostname: 'box' });
    handle(message(typed(DISCOVER, ...option(55, [6, 119, 3, 6, 200, 12]))));
    // The mask always stands before the routers (§3.3).
    expect([...reply().options.keys()]).toEqual([53, 54, 51, 6, 119, 1, 3, 12, 26]);
    handle(message(typed(DISCOVER)));
    expect([...reply().options.keys()]).toEqual([53, 54, 51, 1, 3, 26, 6, 12, 119]);
  });
  test('options in the file and sname fields count (RFC 2132 §9.3)', () => {
    const file = [...option(53, [REQUEST]), 255];
    const sname = [...option(50, guest.ip4('192.0.2.99')), 255];
    handle(message([...option(52, [3]), 255], { file, sname }));
    expect(reply().options.get(53)).toBe('06');
    handle(message([...option(52, [1]), 255], { file, sname }));
    expect(reply().options.get(53)).toBe('05');
  });
});

describe('boot ROMs', () => {
  const uuid = [0, ...Array.from({ length: 16 }, (_, i) => i + 1)];
  const pxe = [
    ...option(57, [5, 192]),
    ...option(93, [0, 0]),
    ...option(94, [1, 2, 1]),
    ...option(60, [...Buffer.from('PXEClient:Arch:00000:UNDI:002001')]),
    ...option(97, uuid),
  ];
  const text = (s: string): number[] => [...Buffer.from(s)];
  const names = (r: Reply): string[] => {
    const dhcp = r.frame.subarray(42);
    return [dhcp.subarray(20, 24).toString('hex'), cString(dhcp.subarray(44, 108)), cString(dhcp.subarray(108, 236))];
  };
  const cString = (b: Buffer): string => b.subarray(0, b.indexOf(0)).toString('latin1');

  test('PXE gets its offer with its machine identifier, and no boot server is named', () => {
    handle(message(typed(DISCOVER, ...pxe)));
    const r = reply();
    expect([r.options.get(53), r.yiaddr, r.options.get(97)]).toEqual([
      '02',
      '192.0.2.10',
      Buffer.from(uuid).toString('hex'),
    ]);
    expect([60, 43, 66, 67, 175].map((code) => r.options.has(code))).toEqual([false, false, false, false, false]);
    expect(names(r)).toEqual(['00000000', '', '']);
  });
  test('a machine identifier of another length does not come back', () => {
    handle(message(typed(DISCOVER, ...option(97, [0, 1, 2]))));
    expect(reply().options.has(97)).toBe(false);
  });
  test('iPXE, which asks for its own options, is told not to wait for another server', () => {
    handle(message(typed(DISCOVER, ...pxe, ...option(55, [1, 3, 6, 43, 60, 66, 67, 175]))));
    expect(reply().options.get(175)).toBe('b00101');
  });
  test('server and file names come back, unless they are options', () => {
    handle(message(typed(REQUEST), { sname: text('boot'), file: text('pxelinux.0') }));
    expect(names(reply())).toEqual(['00000000', 'boot', 'pxelinux.0']);
    handle(message([...option(52, [1]), 255], { sname: text('boot'), file: [...option(53, [REQUEST]), 255] }));
    expect(names(reply())).toEqual(['00000000', 'boot', '']);
    handle(message(typed(REQUEST, ...option(50, guest.ip4('10.0.0.1'))), { file: text('pxelinux.0') }));
    expect([reply().options.get(53), names(reply())[2]]).toEqual(['06', '']);
  });
  test('BOOTP gets the options that 64 bytes hold, or as many as its own message was long for', () => {
    configure({ hostname: 'box-of-a-name', ...v4({ dns: ['192.0.2.51', '192.0.2.52', '192.0.2.53'] }) });
    handle(message(padded([255], 60), { file: text('vmunix') }));
    expect(reply().frame.length).toBe(42 + 300);
    expect([...reply().options.keys()]).toEqual([1, 3, 26, 6, 12]);
    expect(names(reply())[2]).toBe('vmunix');
    handle(message(padded([255], 61)));
    expect([...reply().options.keys()]).toEqual([1, 3, 26, 6, 12, 119]);
  });
});

describe('what is told', () => {
  const told = (): Map<number, string> => {
    handle(message(typed(DISCOVER)));
    return reply().options;
  };
  test('a router outside the subnet is reached by a route of its own (RFC 3442)', () => {
    configure(v4({ addresses: [{ address: '192.0.2.10', prefix: 32 }], gateway: '203.0.113.1' }));
    expect(told().get(121)).toBe('20cb0071010000000000cb007101');
    expect(told().get(1)).toBe('ffffffff');
  });
  test('neither resolvers, search list nor MTU unless wanted; the host name when there is one', () => {
    configure({ tellDns: false, tellSearch: false, mtu: 0, hostname: 'box' });
    expect([6, 119, 26, 12].map((code) => told().get(code))).toEqual([undefined, undefined, undefined, '626f78']);
  });
  test('the full name to a client that sent or asked for one, in its encoding (RFC 4702)', () => {
    configure({ fqdn: 'box.example.org' });
    handle(message(typed(DISCOVER)));
    expect(reply().options.has(81)).toBe(false);
    handle(message(typed(DISCOVER, ...option(55, [1, 81]))));
    expect(reply().options.get(81)).toBe('0cffff03626f78076578616d706c65036f726700');
    handle(message(typed(DISCOVER, ...option(81, [1, 0, 0, 98]))));
    expect(reply().options.get(81)).toBe(`0affff${Buffer.from('box.example.org').toString('hex')}`);
  });
  test('never more than a client must take: 576 bytes of datagram', () => {
    const search = Array.from({ length: 6 }, (_, i) => `${'x'.repeat(60)}.${'y'.repeat(60)}.n${i}.example`);
    configure({ search, hostname: 'box', fqdn: `${'z'.repeat(60)}.example` });
    handle(message(typed(DISCOVER, ...option(80, []), ...option(55, [81]))));
    expect(reply().frame.length).toBeLessThanOrEqual(14 + 576);
    expect([...reply().options.keys()]).toEqual([53, 54, 51, 1, 3, 26, 6, 12, 81, 80]);
  });
});

describe('hostile and foreign datagrams', () => {
  const good = message(typed(DISCOVER));
  test('to another host are not taken', () => {
    expect(handle(good, '198.51.100.1')).toBe(false);
    expect(handle(good, '192.0.2.255')).toBe(true);
  });
  test('nothing is taken when DHCP is off', () => {
    configure({ enable: { ...makeNetwork().enable, dhcp: false } });
    expect(handle(good)).toBe(false);
    configure({ v4: null });
    expect(handle(good)).toBe(false);
  });
  test('truncated at any byte up to the type: dropped', () => {
    for (let n = 0; n < 243; n++) {
      // At 240 there is a message without options.
      if (n === 240) continue;
      const before = dropCount('dhcp-malformed');
      expect(handle(good.slice(0, n))).toBe(true);
      expect([fake.tapFrames.length, dropCount('dhcp-malformed')]).toEqual([0, before + 1]);
    }
  });
  test.each<[string, number[]]>([
    ['a reply', message(typed(DISCOVER), { op: 2 })],
    ['another magic cookie', good.with(236, 0)],
    ['another hardware type', good.with(1, 6)],
    ['a hardware address of 16 bytes', good.with(2, 16)],
    ['an option that runs over the end', message([53, 1, 1, 50, 200, 1])],
    ['a type of two bytes', message([53, 2, 1, 1, 255])],
    [
      'an overloaded field that does not hold its options',
      message([...option(52, [1]), 255], { file: [...new Array<number>(126).fill(0), 53, 9] }),
    ],
  ])('%s is dropped', (_what, data) => {
    const before = dropCount('dhcp-malformed');
    expect(handle(data)).toBe(true);
    expect([fake.tapFrames.length, dropCount('dhcp-malformed')]).toEqual([0, before + 1]);
  });
  test('a wrong checksum is dropped, unless vouched for; none at all is allowed (RFC 768)', () => {
    const wrong = guest.udp4('0.0.0.0', '255.255.255.255', [68, 67], good, 0x1234);
    const before = dropCount('udp-checksum');
    expect(handleFrame(wrong)).toBe(true);
    expect([fake.tapFrames.length, dropCount('udp-checksum')]).toEqual([0, before + 1]);
    handleFrame(wrong, 1);
    expect(fake.tapFrames).toHaveLength(1);
    handleFrame(guest.udp4('0.0.0.0', '255.255.255.255', [68, 67], good, 0));
    expect(fake.tapFrames).toHaveLength(1);
  });
  test('a UDP length beyond the packet is dropped', () => {
    const frame = guest.udp4('0.0.0.0', '255.255.255.255', [68, 67], good);
    frame.splice(38, 2, ...guest.u16(good.length + 9));
    expect(handleFrame(frame, 2)).toBe(true);
    expect(fake.tapFrames).toEqual([]);
  });
  test('any options get one well-formed reply or none', () => {
    const row = fc
      .tuple(
        fc.oneof(fc.constantFrom(0, 12, 50, 52, 53, 54, 55, 57, 61, 80, 81, 255), fc.nat(255)),
        fc.uint8Array({ maxLength: 255 }),
      )
      .map(([code, data]) => option(code, [...data]));
    fc.assert(
      fc.property(fc.array(row, { maxLength: 12 }), fc.constantFrom(1, 3, 8), (rows, type) => {
        configure({ fqdn: 'box.example.org' });
        handle(message([...rows.flat(), ...typed(type)]));
        if (fake.tapFrames.length > 0) reply();
      }),
      { numRuns: 500 },
    );
  });
  test('a recorded DISCOVER of udhcpc is answered', () => {
    const options = hex(
      '350101 3d0701 02005e005302 390202 40 370701 03 06 0c 0f 1c 2a 3c0c756468637020312e33352e30 ff',
    );
    handle(message([...options]));
    expect(reply().options.get(61)).toBe('0102005e005302');
  });
});

describe('a pool', () => {
  test('gives an address of its own, for so long', () => {
    configure(v4({ pool: { first: '192.0.2.15', count: 16, leaseS: 86_400 } }));
    handle(message(typed(DISCOVER)));
    expect([reply().yiaddr, reply().options.get(51)]).toEqual(['192.0.2.15', '00015180']);
  });
  test('…and each client another one', () => {
    configure(v4({ pool: { first: '192.0.2.15', count: 16, leaseS: 86_400 } }));
    const given = [1, 2, 1].map((client) => {
      const body = [...message(typed(DISCOVER))];
      body[28 + 5] = client;
      handle(body);
      return dotted((fake.tapFrames[0] as Buffer).subarray(42 + 16, 42 + 20));
    });
    expect(given).toEqual(['192.0.2.15', '192.0.2.16', '192.0.2.15']);
  });
});
