// SPDX-License-Identifier: Apache-2.0
/** The IPv4 header: what is thrown away without a word, what is stepped over, what is passed on. */
import {
  bytes,
  ETHERTYPE,
  echo,
  type Ip,
  icmp,
  internetChecksum,
  ipBytes,
  ipv4,
  PROTOCOL,
  pattern,
  u8,
  u16,
  udp as udpDatagram,
} from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, type Talk, truth } from '../talk.ts';

const where = 'controller/app/demux.ts';
const families = [4] as const;

/** A datagram to the echo server in a packet with these fields. */
const datagram = (t: Talk, port: number, fields: Partial<Ip>, payload: Uint8Array = pattern(24)): Buffer =>
  t.udp(port, payload, {}, fields);
const ignored = async (t: Talk, fields: readonly Partial<Ip>[]): Promise<void> => {
  const server = await t.echoServer();
  await t.ignoredByUdp(
    server,
    fields.map((each) => datagram(t, server.port, each)),
  );
};

/** Record route (RFC 791 §3.1) with room for nine addresses and an end: 40 bytes, the most that fit. */
const RECORD_ROUTE = bytes(u8(7, 39, 4), Buffer.alloc(36), u8(0));

export const IPV4_ROWS: readonly Row[] = [
  {
    id: 'ip4-version',
    rfc: 'RFC 1122 §3.2.1.1',
    level: 'must',
    what: 'A packet of another version (0, 5, 6, 15) is silently discarded.',
    where,
    families,
    run: (t) =>
      ignored(
        t,
        [0, 5, 6, 15].map((version) => ({ version })),
      ),
  },
  {
    id: 'ip4-checksum',
    rfc: 'RFC 1122 §3.2.1.2',
    level: 'must',
    what: 'A wrong header checksum (0, all ones, one bit off) is silently discarded.',
    where,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      const flipped = datagram(t, server.port, {});
      flipped.writeUInt8((flipped[24] ?? 0) ^ 1, 24);
      const wrong = [0x0000, 0xffff].map((checksum) => datagram(t, server.port, { checksum }));
      await t.ignoredByUdp(server, [flipped, ...wrong]);
    },
  },
  {
    id: 'ip4-header-length',
    rfc: 'RFC 791 §3.1',
    level: 'must',
    what: 'A header of fewer than 5 words, or one that reaches beyond the packet, is discarded.',
    where,
    families,
    run: (t) =>
      ignored(
        t,
        [0, 1, 4, 15].map((headerWords) => ({ headerWords })),
      ),
  },
  {
    id: 'ip4-total-length',
    rfc: 'RFC 791 §3.1, RFC 1122 §3.2.1',
    level: 'must',
    what: 'A total length below the header or beyond the frame (0, 19, one too many, 65535) is discarded.',
    where,
    families,
    run: (t) =>
      ignored(
        t,
        [0, 19, 20 + 8 + 24 + 1, 65_535].map((totalLength) => ({ totalLength })),
      ),
  },
  {
    id: 'ip4-padding',
    rfc: 'RFC 894',
    level: 'must',
    what: 'Link padding behind the total length is not part of the packet.',
    where,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      const frame = bytes(datagram(t, server.port, {}, Buffer.from('abc')), Buffer.alloc(60, 0xee));
      await t.echoes(server, Buffer.from('abc'), frame);
    },
  },
  {
    id: 'ip4-options',
    rfc: 'RFC 1122 §3.2.1.8',
    level: 'must',
    what: 'Options are stepped over: no-operations, record route that fills the header, an unknown one.',
    where,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      for (const options of [u8(1, 1, 1, 0), RECORD_ROUTE, u8(0x5e, 4, 1, 2)]) {
        const data = pattern(20, options.length);
        await t.echoes(server, data, datagram(t, server.port, { options }, data));
      }
    },
  },
  {
    id: 'ip4-option-loop',
    rfc: 'RFC 791 §3.1',
    level: 'must',
    what: 'Options whose length is 0, 1, or beyond the header stop nothing: the next packet is handled.',
    where,
    families,
    run: async (t) => {
      const server = await t.echoServer();
      for (const options of [u8(7, 0, 4, 0), u8(7, 1, 4, 0), u8(7, 255, 4, 0), u8(1, 1, 1, 7), u8(131, 3, 4, 0)])
        t.send(datagram(t, server.port, { options }, Buffer.from('loop')));
      t.send(datagram(t, server.port, {}, pattern(9)));
      await t.expect((f) => t.isUdp(f) && f.udp?.payload.length === 9, 'the echoed datagram');
    },
  },
  {
    id: 'ip4-martian-source',
    rfc: 'RFC 1122 §3.2.1.3, RFC 1812 §5.3.7',
    level: 'must',
    what: 'Sources 0.0.0.0, 127.0.0.1, 224.0.0.1, 240.0.0.1 and 255.255.255.255 are silently discarded.',
    where,
    families,
    differs: 'Linux takes sources of 240/4.',
    run: (t) => {
      const sources = ['0.0.0.0', '127.0.0.1', '127.255.255.254', '224.0.0.1', '255.255.255.255'];
      return ignored(
        t,
        [...sources, ...(t.onLinux ? [] : ['240.0.0.1'])].map((src) => ({ src })),
      );
    },
  },
  {
    id: 'ip4-martian-destination',
    rfc: 'RFC 1122 §3.2.1.3',
    level: 'must',
    what: 'Destinations 0.0.0.0, 0.1.2.3 and 127.0.0.1 never lead out of the wire: no answer from anywhere.',
    where,
    families,
    run: async (t) => {
      const listener = await t.listen();
      for (const dst of ['0.0.0.0', '0.1.2.3', '127.0.0.1', '127.1.2.3']) {
        t.send(t.tcp({ dstPort: listener.port, flags: 'S' }, undefined, { dst }));
        t.send(t.udp(listener.port, pattern(8), {}, { dst }));
      }
      await t.silence((f) => t.isTcp(f) || t.isUdp(f) || t.isError(f), 'answer');
    },
  },
  {
    id: 'ip4-ttl',
    rfc: 'RFC 1122 §3.2.1.7, RFC 1812 §5.3.1',
    level: 'must',
    what: 'A packet to the gateway itself with TTL 1 is answered; the answer has a TTL of its own.',
    where,
    families,
    run: async (t) => {
      t.send(t.ping(9, 1, pattern(10), { dst: t.at.gateway, ttl: 1 }));
      const { ip } = await t.expect((f) => f.icmp?.rest === 0x00090001, 'the echo');
      truth((ip?.ttl ?? 0) >= 32, `TTL ${ip?.ttl}`);
    },
  },
  {
    id: 'ip4-ttl-relayed',
    rfc: 'RFC 1812 §5.3.1',
    level: 'must',
    what: 'The TTL goes on with a datagram, never higher than it came.',
    where: 'controller/proto/udp/send.ts',
    families,
    notLinux: 'there are no routers behind it',
    run: async (t) => {
      const server = await t.echoServer();
      const from = t.bed.upstream?.frames.length ?? 0;
      await t.echoes(server, pattern(12), datagram(t, server.port, { ttl: 17 }, pattern(12)));
      const at = await t.bed.upstream?.find(from, (f) => f.udp?.dstPort === server.port, 'the datagram upstream');
      const ttl = t.bed.upstream?.frames[at ?? 0]?.ip?.ttl ?? 255;
      truth(ttl <= 17 && ttl >= 16, `TTL ${ttl} in place of 17 or 16`);
    },
  },
  {
    id: 'ip4-tos-relayed',
    rfc: 'RFC 2474 §3, RFC 1122 §3.2.1.6',
    level: 'should',
    what: 'The traffic class goes on with a datagram.',
    where: 'controller/proto/udp/send.ts',
    families,
    notLinux: 'there are no routers behind it',
    run: async (t) => {
      const server = await t.echoServer();
      const from = t.bed.upstream?.frames.length ?? 0;
      await t.echoes(server, pattern(12), datagram(t, server.port, { tos: 0xb8 }, pattern(12)));
      const at = await t.bed.upstream?.find(from, (f) => f.udp?.dstPort === server.port, 'the datagram upstream');
      equal(t.bed.upstream?.frames[at ?? 0]?.ip?.tos, 0xb8, 'type of service');
    },
  },
  {
    id: 'ip4-protocol-unreachable',
    rfc: 'RFC 1122 §3.2.2.1',
    level: 'should',
    what: 'A packet of a protocol that nobody speaks (253) is answered by protocol unreachable.',
    where,
    families,
    run: async (t) => {
      t.send(t.ip({ protocol: 253 }, pattern(32, t.port)));
      const { icmp } = await t.expect((f) => f.icmp?.type === 3, 'protocol unreachable');
      equal(icmp?.code, 2, 'code');
      equal(icmp?.quoted?.ip.protocol, 253, 'quoted protocol');
      t.send(t.ip({ protocol: 253 }, pattern(1400)));
      const large = await t.expect((f) => f.icmp?.type === 3, 'protocol unreachable');
      truth((large.ip?.length ?? 0) <= 576, `${large.ip?.length} bytes about a large packet`);
    },
  },
  {
    id: 'igmp-report',
    rfc: 'RFC 3376 §4, §6, RFC 2236 §3',
    level: 'must',
    what: "The guest's reports and leaves, of every version, whole, cut and lying about their number, get no answer and no error.",
    where: 'controller/proto/igmp.ts',
    families,
    run: async (t) => {
      const group = ipBytes('224.0.0.251');
      const summed = (message: Buffer): Buffer => {
        message.writeUInt16BE(internetChecksum(message), 2);
        return message;
      };
      const messages = [
        summed(bytes(u8(0x22, 0), u16(0, 0, 1), u8(4, 0), u16(0), group)),
        summed(bytes(u8(0x22, 0), u16(0, 0, 0xffff), u8(4, 255), u16(0xffff), group)),
        summed(bytes(u8(0x16, 0), u16(0), group)),
        summed(bytes(u8(0x12, 0), u16(0), group)),
        summed(bytes(u8(0x17, 0), u16(0), group)),
        summed(bytes(u8(0x99, 0), u16(0), group)),
        bytes(u8(0x16, 0), u16(0x1234), group),
      ];
      for (const dst of ['224.0.0.22', '224.0.0.251', '224.0.0.2'])
        for (const message of messages)
          for (const cut of [message.length, 7, 1, 0])
            t.send(t.ip({ protocol: 2, dst, ttl: 1, options: u8(0x94, 4, 0, 0) }, message.subarray(0, cut)));
      await t.silence((f) => t.isAnything(f) && f.ip?.family === 4, 'answer');
    },
  },
  {
    id: 'ip4-to-broadcast',
    rfc: 'RFC 1122 §3.2.2, §3.3.6',
    level: 'must',
    what: 'Nothing sent to the broadcast address or a group makes an ICMP error.',
    where: 'controller/link/icmp-error.ts',
    families,
    run: async (t) => {
      const port = t.closedPort();
      for (const dst of ['255.255.255.255', '192.0.2.255', '224.0.0.77', '239.1.2.3'])
        t.send(
          t.ethernet(
            ETHERTYPE.ipv4,
            ipv4(
              { src: t.guest, dst, protocol: PROTOCOL.udp },
              udpDatagram({ src: t.guest, dst }, { srcPort: t.port, dstPort: port }, pattern(8)),
            ),
            'ff:ff:ff:ff:ff:ff',
          ),
        );
      for (const dst of ['192.0.2.255', '224.0.0.77']) {
        const request = icmp({ src: t.guest, dst }, 8, 0, echo(t.port, 1, pattern(8)));
        t.send(t.ip({ protocol: PROTOCOL.icmp, dst }, request));
      }
      await t.silence((f) => t.isError(f), 'ICMP error');
    },
  },
];
