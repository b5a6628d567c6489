// SPDX-License-Identifier: Apache-2.0
/** Neighbour discovery and address configuration. */
import { GUEST_MAC } from '../bed.ts';
import type { Decoded } from '../decode.ts';
import {
  bytes,
  canonical,
  ETHERTYPE,
  icmp,
  ipBytes,
  ipText,
  ipv6,
  macBytes,
  PROTOCOL,
  pattern,
  u8,
  u16,
  u32,
} from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, type Talk, truth } from '../talk.ts';

const where = 'controller/proto/ndp.ts';
const families = [6] as const;
const NOT_A_ROUTER = 'this Linux sends no advertisements';
const LINK_LOCAL = 'fe80::5eff:fe00:5310';
const NS = 135;
const NA = 136;
const RS = 133;
const RA = 134;
const SOURCE = u8(1, 1);

const solicitedNode = (address: string): string => {
  const b = ipBytes(address);
  return `ff02::1:ff${(b[13] ?? 0).toString(16).padStart(2, '0')}:${b.readUInt16BE(14).toString(16)}`;
};
const groupMac = (group: string): string =>
  `33:33:${[...ipBytes(group).subarray(12)].map((x) => x.toString(16).padStart(2, '0')).join(':')}`;

interface Message {
  type: number;
  body: Uint8Array;
  src?: string;
  dst?: string;
  hopLimit?: number;
  code?: number;
  checksum?: number;
}
const message = (t: Talk, m: Message): Buffer => {
  const ip = { src: m.src ?? t.guest, dst: m.dst ?? 'ff02::2' };
  const packet = ipv6(
    { ...ip, protocol: PROTOCOL.icmpv6, ttl: m.hopLimit ?? 255 },
    icmp(ip, m.type, m.code ?? 0, m.body, m.checksum),
  );
  return t.ethernet(ETHERTYPE.ipv6, packet, ip.dst.startsWith('ff') ? groupMac(ip.dst) : t.bed.mac);
};
const linkLayer = (): Buffer => bytes(SOURCE, macBytes(GUEST_MAC));
const solicit = (t: Talk, target: string, m: Partial<Message> = {}, options: Uint8Array = linkLayer()): Buffer =>
  message(t, { type: NS, dst: solicitedNode(target), body: bytes(u32(0), ipBytes(target), options), ...m });

const isAdvertisement = (f: Decoded, target: string): boolean =>
  f.icmp?.type === NA && ipText(f.icmp.body.subarray(4, 20)) === canonical(target);
const silent = async (t: Talk, ...frames: readonly Buffer[]): Promise<void> => {
  for (const frame of frames) t.send(frame);
  await t.silence((f) => f.icmp?.type === NA || f.icmp?.type === 1 || f.icmp?.type === 4, 'answer');
};
const noAdvertisement = async (t: Talk, ...frames: readonly Buffer[]): Promise<void> => {
  for (const frame of frames) t.send(frame);
  await t.silence((f) => f.icmp?.type === RA, 'router advertisement');
};
/** Options as kind → data behind the two bytes of header. */
const options = (body: Buffer, from: number): Map<number, Buffer> => {
  const found = new Map<number, Buffer>();
  for (let at = from; at + 2 <= body.length; ) {
    const length = (body[at + 1] ?? 0) * 8;
    truth(length > 0 && at + length <= body.length, 'an option of length 0 or beyond the message');
    found.set(body[at] ?? 0, body.subarray(at + 2, at + length));
    at += length;
  }
  return found;
};

export const NDP_ROWS: readonly Row[] = [
  {
    id: 'ndp-solicitation',
    rfc: 'RFC 4861 §7.2.3, §7.2.4',
    level: 'must',
    what: 'A solicitation for the gateway gets an advertisement to the asker: solicited, with the target link-layer address, hop limit 255.',
    where,
    families,
    run: async (t) => {
      t.send(solicit(t, t.at.gateway));
      const f = await t.expect((each) => isAdvertisement(each, t.at.gateway), 'an advertisement');
      equal(f.ip?.dst, canonical(t.guest), 'destination');
      equal(f.dstMac, GUEST_MAC, 'destination on the link');
      equal(f.ip?.ttl, 255, 'hop limit');
      const body = f.icmp?.body ?? Buffer.alloc(0);
      truth(((body[0] ?? 0) & 0x60) === 0x60, `flags ${body[0]}`);
      equal(options(body, 20).get(2)?.toString('hex'), t.bed.mac.replaceAll(':', ''), 'target link-layer address');
    },
  },
  {
    id: 'ndp-solicitation-unicast',
    rfc: 'RFC 4861 §7.2.3, §7.2.4, §7.3.1',
    level: 'must',
    what: 'So does one sent to it alone, without options, as reachability is confirmed.',
    where,
    families,
    run: async (t) => {
      t.send(solicit(t, t.at.gateway, { dst: t.at.gateway }, Buffer.alloc(0)));
      await t.expect((f) => isAdvertisement(f, t.at.gateway), 'an advertisement');
    },
  },
  {
    id: 'ndp-proxy',
    rfc: 'RFC 4861 §7.2.8',
    level: 'should',
    what: 'Every other address of the prefix is at the gateway, because it is reached through it.',
    where,
    families,
    notLinux: 'Linux answers for its own addresses only',
    run: async (t) => {
      t.send(solicit(t, t.at.neighbour));
      const f = await t.expect((each) => isAdvertisement(each, t.at.neighbour), 'an advertisement');
      equal(
        options(f.icmp?.body ?? Buffer.alloc(0), 20)
          .get(2)
          ?.toString('hex'),
        t.bed.mac.replaceAll(':', ''),
        'address',
      );
    },
  },
  {
    id: 'ndp-own',
    rfc: 'RFC 4862 §5.4, §5.4.3',
    level: 'must',
    what: "Detection of duplicates for the guest's own address, or another one it may take, is answered by nobody.",
    where,
    families,
    run: (t) =>
      silent(
        t,
        solicit(t, t.guest, { src: '::' }, Buffer.alloc(0)),
        solicit(t, t.at.neighbour, { src: '::' }, Buffer.alloc(0)),
        solicit(t, LINK_LOCAL, { src: '::' }, Buffer.alloc(0)),
        solicit(t, t.guest),
      ),
  },
  {
    id: 'ndp-duplicate',
    rfc: 'RFC 4862 §5.4.3, RFC 4861 §7.2.4',
    level: 'must',
    what: "Detection of duplicates for the gateway's address is answered to all nodes, not solicited.",
    where,
    families,
    run: async (t) => {
      t.send(solicit(t, t.at.gateway, { src: '::' }, Buffer.alloc(0)));
      const f = await t.expect((each) => isAdvertisement(each, t.at.gateway), 'an advertisement');
      equal(f.ip?.dst, canonical('ff02::1'), 'destination');
      equal(f.dstMac, '33:33:00:00:00:01', 'destination on the link');
      equal((f.icmp?.body[0] ?? 0) & 0x40, 0, 'solicited flag');
    },
  },
  {
    id: 'ndp-hop-limit',
    rfc: 'RFC 4861 §7.1.1',
    level: 'must',
    what: 'A solicitation with another hop limit than 255 (0, 1, 64, 254) is discarded.',
    where,
    families,
    run: (t) => silent(t, ...[0, 1, 64, 254].map((hopLimit) => solicit(t, t.at.gateway, { hopLimit }))),
  },
  {
    id: 'ndp-code',
    rfc: 'RFC 4861 §7.1.1',
    level: 'must',
    what: 'One whose code is not 0 is discarded.',
    where,
    families,
    run: (t) => silent(t, ...[1, 255].map((code) => solicit(t, t.at.gateway, { code }))),
  },
  {
    id: 'ndp-checksum',
    rfc: 'RFC 4861 §7.1.1',
    level: 'must',
    what: 'One with a wrong checksum is discarded.',
    where,
    families,
    run: (t) => silent(t, ...[0, 0xffff, 0x1234].map((checksum) => solicit(t, t.at.gateway, { checksum }))),
  },
  {
    id: 'ndp-short',
    rfc: 'RFC 4861 §7.1.1',
    level: 'must',
    what: 'One cut at each of its 24 bytes is discarded.',
    where,
    families,
    run: (t) =>
      silent(
        t,
        ...Array.from({ length: 20 }, (_, n) =>
          message(t, { type: NS, dst: t.at.gateway, body: bytes(u32(0), ipBytes(t.at.gateway)).subarray(0, n) }),
        ),
      ),
  },
  {
    id: 'ndp-target-group',
    rfc: 'RFC 4861 §7.1.1',
    level: 'must',
    what: 'One whose target is a group is discarded.',
    where,
    families,
    run: (t) => silent(t, solicit(t, 'ff02::1', { dst: t.at.gateway }), solicit(t, 'ff0e::5', { dst: 'ff02::1' })),
  },
  {
    id: 'ndp-option-zero',
    rfc: 'RFC 4861 §4.6, §6.1.1, §7.1.1',
    level: 'must',
    what: 'A message with an option of length 0, or one that is cut, is discarded: solicitations of both kinds.',
    where,
    families,
    run: async (t) => {
      const bad = [
        u8(1, 0),
        bytes(u8(1, 0), Buffer.alloc(6)),
        u8(1, 1, 2, 3),
        bytes(u8(1, 2), Buffer.alloc(6)),
        bytes(linkLayer(), u8(9)),
      ];
      await silent(t, ...bad.map((each) => solicit(t, t.at.gateway, {}, each)));
      await noAdvertisement(t, ...bad.map((each) => message(t, { type: RS, body: bytes(u32(0), each) })));
    },
  },
  {
    id: 'ndp-unspecified-options',
    rfc: 'RFC 4861 §7.1.1, §6.1.1',
    level: 'must',
    what: 'From the unspecified address: no source link-layer address may be in it, and a neighbour solicitation goes to the solicited-node group.',
    where,
    families,
    run: async (t) => {
      await silent(
        t,
        solicit(t, t.at.gateway, { src: '::' }),
        solicit(t, t.at.gateway, { src: '::', dst: t.at.gateway }, Buffer.alloc(0)),
      );
      await noAdvertisement(t, message(t, { type: RS, src: '::', body: bytes(u32(0), linkLayer()) }));
    },
  },
  {
    id: 'ndp-unknown-options',
    rfc: 'RFC 4861 §4.6, §7.1.1',
    level: 'must',
    what: 'Unknown options are ignored, and what follows them is read.',
    where,
    families,
    run: async (t) => {
      t.send(
        solicit(
          t,
          t.at.gateway,
          {},
          bytes(u8(200, 2), Buffer.alloc(14, 0xff), u8(14, 1, 1, 2, 3, 4, 5, 6), linkLayer()),
        ),
      );
      await t.expect((f) => isAdvertisement(f, t.at.gateway), 'an advertisement');
    },
  },
  {
    id: 'ndp-unasked',
    rfc: 'RFC 4861 §7.2.5, §6.2.6, §8.3',
    level: 'must',
    what: "Advertisements and redirects from the guest get no answer and change nobody's mind: the gateway stays where it is.",
    where,
    families,
    run: async (t) => {
      const option = bytes(u8(2, 1), macBytes('02:00:5e:00:53:99'));
      const claim = bytes(u32(0x2000_0000), ipBytes(t.at.server), option);
      t.send(message(t, { type: NA, dst: 'ff02::1', body: claim }));
      t.send(message(t, { type: RA, src: LINK_LOCAL, dst: 'ff02::1', body: bytes(u8(64, 0), u16(1800), u32(0, 0)) }));
      t.send(
        message(t, {
          type: 137,
          src: LINK_LOCAL,
          dst: t.at.gateway,
          body: bytes(u32(0), ipBytes(t.at.server), ipBytes(t.at.server)),
        }),
      );
      await t.silence((f) => f.icmp !== undefined && t.isAnything(f), 'answer');
      await t.echoes(await t.echoServer(), pattern(20));
    },
  },
  {
    id: 'ndp-router-solicitation',
    rfc: 'RFC 4861 §6.2.6, §4.2, §6.2.3',
    level: 'must',
    what: 'A router solicitation gets an advertisement from a link-local address, hop limit 255, with a lifetime, the MTU and our link-layer address.',
    where,
    families,
    notLinux: NOT_A_ROUTER,
    run: async (t) => {
      t.send(message(t, { type: RS, src: LINK_LOCAL, body: bytes(u32(0), linkLayer()) }));
      const f = await t.expect((each) => each.icmp?.type === RA, 'an advertisement');
      truth(f.ip?.src.startsWith('fe80:'), `from ${f.ip?.src}`);
      equal(f.ip?.ttl, 255, 'hop limit');
      equal(f.icmp?.code, 0, 'code');
      const body = f.icmp?.body ?? Buffer.alloc(0);
      truth(body.readUInt16BE(2) > 0, 'router lifetime');
      const found = options(body, 12);
      equal(found.get(1)?.toString('hex'), t.bed.mac.replaceAll(':', ''), 'source link-layer address');
      equal(found.get(5)?.readUInt32BE(2), 1500, 'MTU');
    },
  },
  {
    id: 'ndp-prefix',
    rfc: 'RFC 4861 §4.6.2, §6.2.1, RFC 4862 §5.5.3',
    level: 'must',
    what: "The prefix in it is the guest's own, of 64 bits, on-link, for autonomous configuration, with a valid lifetime no shorter than the preferred.",
    where,
    families,
    notLinux: NOT_A_ROUTER,
    run: async (t) => {
      t.send(message(t, { type: RS, src: '::', body: u32(0) }));
      const f = await t.expect((each) => each.icmp?.type === RA, 'an advertisement');
      equal(f.ip?.dst, canonical('ff02::1'), 'destination of the answer to nobody in particular');
      const prefix = options(f.icmp?.body ?? Buffer.alloc(0), 12).get(3) ?? Buffer.alloc(30);
      equal(prefix[0], 64, 'prefix length');
      equal((prefix[1] ?? 0) & 0xc0, 0xc0, 'flags');
      const [valid, preferred] = [prefix.readUInt32BE(2), prefix.readUInt32BE(6)];
      truth(valid >= preferred && preferred > 0, `lifetimes ${valid} and ${preferred}`);
      equal(ipText(prefix.subarray(14, 30)), canonical('2001:db8:1::'), 'prefix');
    },
  },
  {
    id: 'ndp-router-solicitation-invalid',
    rfc: 'RFC 4861 §6.1.1',
    level: 'must',
    what: 'A router solicitation with another hop limit, code, checksum, or of fewer than 8 bytes is discarded.',
    where,
    families,
    notLinux: NOT_A_ROUTER,
    run: (t) => {
      const valid = { type: RS, body: bytes(u32(0), linkLayer()) };
      return noAdvertisement(
        t,
        message(t, { ...valid, hopLimit: 64 }),
        message(t, { ...valid, code: 1 }),
        message(t, { ...valid, checksum: 0x1234 }),
        ...[0, 1, 2, 3].map((n) => message(t, { type: RS, body: Buffer.alloc(n) })),
      );
    },
  },
  {
    id: 'mld-report',
    rfc: 'RFC 2710 §3, RFC 3810 §6.2',
    level: 'must',
    what: "The guest's multicast reports and leaves get no answer and no error.",
    where: 'controller/app/demux.ts',
    families,
    run: async (t) => {
      const routerAlert = bytes(u8(PROTOCOL.icmpv6, 0, 5, 2, 0, 0, 1, 0));
      for (const [type, dst, body] of [
        [143, 'ff02::16', bytes(u16(0, 1), u8(4, 0), u16(0), ipBytes('ff02::fb'))],
        [131, 'ff02::fb', bytes(u16(0, 0), ipBytes('ff02::fb'))],
        [132, 'ff02::2', bytes(u16(0, 0), ipBytes('ff02::fb'))],
        [143, 'ff02::16', u16(0, 0xffff)],
        [143, 'ff02::16', bytes(u16(0, 1), u8(4, 255), u16(0xffff), ipBytes('ff02::fb'))],
      ] as const) {
        const ip = { src: LINK_LOCAL, dst };
        const packet = ipv6({ ...ip, protocol: 0, ttl: 1 }, bytes(routerAlert, icmp(ip, type, 0, body)));
        t.send(t.ethernet(ETHERTYPE.ipv6, packet, groupMac(dst)));
      }
      await t.silence((f) => f.icmp !== undefined && f.icmp.type < 128, 'error');
    },
  },
];
