// SPDX-License-Identifier: Apache-2.0
/** The IPv6 header and its extension headers. */
import { bytes, type Ip, optionsHeader, PROTOCOL, pattern, u8, u16, udp } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, type Talk, truth } from '../talk.ts';

const where = 'controller/app/demux.ts';
const headers = 'controller/wire/ext-header.ts';
const families = [6] as const;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const DESTINATION = 60;
const NOTHING = 59;
const PARAMETER_PROBLEM = 4;

const datagram = (t: Talk, port: number, fields: Partial<Ip>, payload: Uint8Array = pattern(24)): Buffer =>
  t.udp(port, payload, {}, fields);
const ignored = async (t: Talk, fields: readonly Partial<Ip>[]): Promise<void> => {
  const server = await t.echoServer();
  await t.ignoredByUdp(
    server,
    fields.map((each) => datagram(t, server.port, each)),
  );
};
/** A datagram behind extension headers: the first kind, and a function that makes them for what follows. */
const behind = (t: Talk, port: number, first: number, chain: Uint8Array, payload: Uint8Array): Buffer =>
  t.ip(
    { protocol: first },
    bytes(chain, udp({ src: t.guest, dst: t.at.server }, { srcPort: t.port, dstPort: port }, payload)),
  );
/** One option of `type` in a header of `kind` before a datagram. */
const withOption = (t: Talk, port: number, kind: number, type: number): Buffer =>
  behind(t, port, kind, optionsHeader(PROTOCOL.udp, u8(type, 2, 0, 0)), pattern(8));

const problem = async (t: Talk, code: number, pointer: number): Promise<void> => {
  const { icmp } = await t.expect((f) => f.icmp?.type === PARAMETER_PROBLEM, 'a parameter problem');
  equal(icmp?.code, code, 'code');
  equal(icmp?.rest, pointer, 'pointer');
};

export const IPV6_ROWS: readonly Row[] = [
  {
    id: 'ip6-version',
    rfc: 'RFC 8200 §3',
    level: 'must',
    what: 'A packet of another version (0, 4, 5, 7, 15) is discarded.',
    where,
    families,
    run: (t) =>
      ignored(
        t,
        [0, 4, 5, 7, 15].map((version) => ({ version })),
      ),
  },
  {
    id: 'ip6-payload-length',
    rfc: 'RFC 8200 §3',
    level: 'must',
    what: 'A payload length beyond the frame (one too many, 65535), or 0 where data follows, is discarded.',
    where,
    families,
    run: (t) =>
      ignored(
        t,
        [0, 8 + 24 + 1, 65_535].map((payloadLength) => ({ payloadLength })),
      ),
  },
  {
    id: 'ip6-padding',
    rfc: 'RFC 2464 §3',
    level: 'must',
    what: 'Link padding behind the payload is not part of the packet.',
    where,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      await t.echoes(server, Buffer.from('abc'), bytes(t.udp(server.port, Buffer.from('abc')), Buffer.alloc(40, 0xee)));
    },
  },
  {
    id: 'ip6-martian-source',
    rfc: 'RFC 4291 §2.5.2, §2.5.3, §2.7',
    level: 'must',
    what: 'Sources ::, ::1 and ff02::1 are discarded.',
    where,
    families,
    differs: 'Linux takes datagrams from ::, which it cannot answer.',
    run: (t) =>
      ignored(
        t,
        [...(t.onLinux ? [] : ['::']), '::1', 'ff02::1', 'ff0e::1'].map((src) => ({ src })),
      ),
  },
  {
    id: 'ip6-martian-destination',
    rfc: 'RFC 4291 §2.5.2, §2.5.3, RFC 4942 §2.2',
    level: 'must',
    what: 'Destinations ::, ::1, and those that carry an IPv4 address (::ffff:127.0.0.1, ::127.0.0.1) lead nowhere.',
    where,
    families,
    run: async (t) => {
      const listener = await t.listen();
      for (const dst of ['::', '::1', '::ffff:127.0.0.1', '::ffff:192.0.2.2', '::127.0.0.1']) {
        t.send(t.tcp({ dstPort: listener.port, flags: 'S' }, undefined, { dst }));
        t.send(t.udp(listener.port, pattern(8), {}, { dst }));
      }
      await t.silence((f) => t.isTcp(f) || t.isUdp(f) || (t.isError(f) && !t.onLinux), 'answer');
    },
  },
  {
    id: 'ip6-mapped-source',
    rfc: 'RFC 4942 §2.2, RFC 6890 §2.2.3',
    level: 'must',
    what: 'A source of the form ::ffff:a.b.c.d is not on any wire: discarded.',
    where,
    families,
    notLinux: 'Linux takes them',
    run: (t) => ignored(t, [{ src: '::ffff:192.0.2.2' }, { src: '::192.0.2.2' }]),
  },
  {
    id: 'ip6-hop-limit-relayed',
    rfc: 'RFC 8200 §3',
    level: 'must',
    what: 'The hop limit goes on with a datagram, never higher than it came.',
    where: 'controller/proto/udp/send.ts',
    families,
    notLinux: 'there are no routers behind it',
    run: async (t) => {
      const server = await t.echoServer();
      const from = t.bed.upstream?.frames.length ?? 0;
      await t.echoes(server, pattern(12), datagram(t, server.port, { ttl: 17, tos: 0xb8 }, pattern(12)));
      const at = await t.bed.upstream?.find(from, (f) => f.udp?.dstPort === server.port, 'the datagram upstream');
      const ip = t.bed.upstream?.frames[at ?? 0]?.ip;
      truth(ip?.ttl === 17 || ip?.ttl === 16, `hop limit ${ip?.ttl} in place of 17 or 16`);
      equal(ip?.tos, 0xb8, 'traffic class');
    },
  },
  {
    id: 'ip6-extensions',
    rfc: 'RFC 8200 §4, §4.1',
    level: 'must',
    what: 'Hop-by-hop options, destination options and a finished routing header, in order, are stepped over.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      const routing = bytes(u8(PROTOCOL.udp, 2, 0xfe, 0), Buffer.alloc(20));
      const chains: [number, Buffer][] = [
        [HOP_BY_HOP, optionsHeader(PROTOCOL.udp, Buffer.alloc(0))],
        [DESTINATION, optionsHeader(PROTOCOL.udp, Buffer.alloc(6))],
        [DESTINATION, optionsHeader(PROTOCOL.udp, bytes(u8(0x1e, 28), Buffer.alloc(28)))],
        [ROUTING, routing],
        [
          HOP_BY_HOP,
          bytes(optionsHeader(DESTINATION, Buffer.alloc(0)), optionsHeader(ROUTING, Buffer.alloc(0)), routing),
        ],
      ];
      for (const [i, [first, chain]] of chains.entries()) {
        const data = pattern(16, i + 1);
        await t.echoes(server, data, behind(t, server.port, first, chain, data));
      }
    },
  },
  {
    id: 'ip6-option-skip',
    rfc: 'RFC 8200 §4.2',
    level: 'must',
    what: 'An unknown option whose type begins with 00 is skipped over.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      await t.echoes(server, pattern(8), withOption(t, server.port, DESTINATION, 0x1e));
    },
  },
  {
    id: 'ip6-option-discard',
    rfc: 'RFC 8200 §4.2',
    level: 'must',
    what: 'An unknown option whose type begins with 01 discards the packet without a word.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      await t.ignoredByUdp(server, [withOption(t, server.port, DESTINATION, 0x5e)]);
    },
  },
  {
    id: 'ip6-option-report',
    rfc: 'RFC 8200 §4.2, RFC 4443 §3.4',
    level: 'must',
    what: 'An unknown option whose type begins with 10 or 11 is answered by parameter problem code 2 that points at it.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      for (const [kind, type] of [
        [DESTINATION, 0x9e],
        [DESTINATION, 0xde],
        [HOP_BY_HOP, 0x9e],
      ] as const) {
        t.send(withOption(t, server.port, kind, type));
        await problem(t, 2, 42);
      }
      equal(server.datagrams.length, 0, 'datagrams at the server');
    },
  },
  {
    id: 'ip6-option-length',
    rfc: 'RFC 8200 §4.2',
    level: 'must',
    what: 'An option that is longer than its header discards the packet.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      const lying = [
        bytes(u8(PROTOCOL.udp, 0, 0x1e, 200), Buffer.alloc(4)),
        bytes(u8(PROTOCOL.udp, 0, 1, 5), Buffer.alloc(4)),
      ];
      for (const chain of lying) t.send(behind(t, server.port, DESTINATION, chain, pattern(8)));
      await t.sentinel();
      await t.echoes(server, pattern(12));
      await t.got(server, 1);
    },
  },
  {
    id: 'ip6-hop-by-hop-late',
    rfc: 'RFC 8200 §4, §4.3',
    level: 'must',
    what: 'Hop-by-hop options anywhere but in first place: parameter problem code 1.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      const chain = bytes(optionsHeader(HOP_BY_HOP, Buffer.alloc(0)), optionsHeader(PROTOCOL.udp, Buffer.alloc(0)));
      t.send(behind(t, server.port, DESTINATION, chain, pattern(8)));
      await problem(t, 1, 40);
    },
  },
  {
    id: 'ip6-routing-left',
    rfc: 'RFC 8200 §4.4, RFC 5095 §3',
    level: 'must',
    what: 'A routing header of type 0 or an unknown one with segments left: parameter problem code 0 that points at the type.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      for (const type of [0, 0xfe]) {
        const routing = bytes(u8(PROTOCOL.udp, 2, type, 1), Buffer.alloc(20));
        t.send(behind(t, server.port, ROUTING, routing, pattern(8)));
        await problem(t, 0, 42);
      }
    },
  },
  {
    id: 'ip6-next-header',
    rfc: 'RFC 8200 §4, RFC 4443 §3.4, §2.4(c)',
    level: 'must',
    what: 'An unrecognised next header (253), also behind an extension header: parameter problem code 1 that points at it.',
    where,
    families,
    run: async (t) => {
      t.send(t.ip({ protocol: 253 }, pattern(32)));
      await problem(t, 1, 6);
      t.send(t.ip({ protocol: 253 }, pattern(1400)));
      const large = await t.expect((f) => f.icmp?.type === PARAMETER_PROBLEM, 'a parameter problem');
      equal(large.ip?.length, 1280, 'length of the error about a large packet');
      t.send(t.ip({ protocol: DESTINATION }, bytes(optionsHeader(253, Buffer.alloc(0)), pattern(32))));
      await problem(t, 1, 40);
    },
  },
  {
    id: 'ip6-no-next-header',
    rfc: 'RFC 8200 §4.7',
    level: 'must',
    what: 'No next header (59) ends the packet; what follows is ignored, nothing is said.',
    where: headers,
    families,
    run: async (t) => {
      t.send(t.ip({ protocol: NOTHING }, pattern(16)));
      t.send(t.ip({ protocol: DESTINATION }, bytes(optionsHeader(NOTHING, Buffer.alloc(0)), pattern(16))));
      await t.silence((f) => f.icmp !== undefined && t.isAnything(f), 'answer');
    },
  },
  {
    id: 'ip6-chain-truncated',
    rfc: 'RFC 8200 §4',
    level: 'must',
    what: 'An extension header that is cut, or says it is longer than the packet, reaches nobody.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      const chain = optionsHeader(PROTOCOL.udp, Buffer.alloc(6));
      for (let n = 0; n < 8; n++) t.send(t.ip({ protocol: DESTINATION }, chain.subarray(0, n)));
      t.send(behind(t, server.port, DESTINATION, bytes(u8(PROTOCOL.udp, 255), Buffer.alloc(6)), pattern(8)));
      t.send(behind(t, server.port, HOP_BY_HOP, bytes(u8(PROTOCOL.udp, 9), Buffer.alloc(6)), pattern(8)));
      await t.sentinel();
      await t.echoes(server, pattern(12));
      await t.got(server, 1);
    },
  },
  {
    id: 'ip6-chain-long',
    rfc: 'RFC 8504 §5.3',
    level: 'may',
    what: 'A chain of a hundred extension headers stops nothing.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      const links = Array.from({ length: 100 }, (_, i) =>
        optionsHeader(i === 99 ? PROTOCOL.udp : DESTINATION, Buffer.alloc(0)),
      );
      t.send(behind(t, server.port, DESTINATION, bytes(...links), pattern(8)));
      await t.sentinel();
      t.send(t.udp(server.port, pattern(21)));
      await t.expect((f) => t.isUdp(f) && f.udp?.payload.length === 21, 'the echoed datagram');
    },
  },
  {
    id: 'ip6-jumbo',
    rfc: 'RFC 2675 §3',
    level: 'must',
    what: 'A jumbo payload option on a link that has no jumbograms reaches nobody.',
    where: headers,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      const jumbo = optionsHeader(PROTOCOL.udp, bytes(u8(0xc2, 4), u16(0, 40)));
      const inner = udp({ src: t.guest, dst: t.at.server }, { srcPort: t.port, dstPort: server.port }, pattern(24));
      t.send(t.ip({ protocol: HOP_BY_HOP, payloadLength: 0 }, bytes(jumbo, inner)));
      t.send(t.ip({ protocol: HOP_BY_HOP }, bytes(jumbo, inner)));
      await t.sentinel();
      await t.echoes(server, pattern(12));
      await t.got(server, 1);
    },
  },
];
