// SPDX-License-Identifier: Apache-2.0
/** UDP: lengths, checksums, ports, sizes. */
import { bytes, internetChecksum, ipBytes, PROTOCOL, pattern, pseudoHeader, u16, udp } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, truth } from '../talk.ts';

const where = 'controller/proto/udp/from-tap.ts';

export const UDP_ROWS: readonly Row[] = [
  {
    id: 'udp-echo',
    rfc: 'RFC 768, RFC 1122 §4.1.3.5',
    level: 'must',
    what: 'Datagrams of 0, 1, 2, 3, 255 bytes and of the size of the link go and come back, from the address and port that was asked.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      for (const size of [0, 1, 2, 3, 255, 1500 - (t.family === 4 ? 28 : 48)])
        await t.echoes(server, pattern(size, size + 1));
    },
  },
  {
    id: 'udp-checksum',
    rfc: 'RFC 1122 §4.1.3.4, RFC 8200 §8.1',
    level: 'must',
    what: 'A wrong checksum is silently discarded.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      const right = t.udp(server.port, pattern(31));
      const flipped = Buffer.from(right);
      flipped.writeUInt8((flipped.at(-1) ?? 0) ^ 0x80, flipped.length - 1);
      const sum = right.readUInt16BE(right.length - 31 - 2);
      const others = [(sum + 1) & 0xffff || 1, sum ^ 0xffff || 1, sum ^ 0x8000 || 1];
      await t.ignoredByUdp(server, [
        flipped,
        ...others.map((checksum) => t.udp(server.port, pattern(31), { checksum })),
      ]);
    },
  },
  {
    id: 'udp4-no-checksum',
    rfc: 'RFC 768, RFC 1122 §4.1.3.4',
    level: 'must',
    what: 'Checksum 0 means that there is none: the datagram is taken.',
    where,
    families: [4],
    run: async (t) => {
      const server = await t.echoServer();
      await t.echoes(server, pattern(19), t.udp(server.port, pattern(19), { checksum: 0 }));
    },
  },
  {
    id: 'udp6-no-checksum',
    rfc: 'RFC 8200 §8.1',
    level: 'must',
    what: 'Over IPv6 a datagram with checksum 0 is discarded.',
    where,
    families: [6],
    run: async (t) => {
      const server = await t.echoServer();
      await t.ignoredByUdp(server, [t.udp(server.port, pattern(19), { checksum: 0 })]);
    },
  },
  {
    id: 'udp-checksum-zero-sent',
    rfc: 'RFC 768, RFC 8200 §8.1',
    level: 'must',
    what: 'A checksum that computes to 0 is sent as all ones.',
    where: 'controller/link/packet-out.ts',
    run: async (t) => {
      const server = await t.echoServer();
      // Ports and addresses change places on the way back, so the sum stays what it is: two bytes make it 0xffff.
      const ends = { src: t.guest, dst: t.at.server };
      const bare = udp(ends, { srcPort: t.port, dstPort: server.port, checksum: 0 }, u16(0));
      const missing = internetChecksum(
        pseudoHeader(ipBytes(ends.src), ipBytes(ends.dst), PROTOCOL.udp, bare.length),
        bare,
      );
      const frame = t.udp(server.port, u16(missing));
      equal(frame.readUInt16BE(frame.length - 4), 0xffff, 'the checksum that is sent');
      const back = await t.echoes(server, u16(missing), frame);
      truth(back.udp?.checksum !== 0, 'the checksum of the answer says that there is none');
    },
  },
  {
    id: 'udp-length',
    rfc: 'RFC 768, RFC 1122 §4.1.3.4',
    level: 'must',
    what: 'A length below 8 or beyond the packet (0, 1, 7, one too many, 65535) is discarded.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      await t.ignoredByUdp(
        server,
        [...(t.family === 4 ? [0] : []), 1, 7, 8 + 24 + 1, 65_535].map((length) =>
          t.udp(server.port, pattern(24), { length }),
        ),
      );
    },
  },
  {
    id: 'udp-surplus',
    rfc: 'RFC 768, RFC 9868 §7',
    level: 'must',
    what: 'What the packet holds beyond the length of the datagram is not data.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      const datagram = udp(
        { src: t.guest, dst: t.at.server },
        { srcPort: t.port, dstPort: server.port },
        Buffer.from('short'),
      );
      await t.echoes(server, Buffer.from('short'), t.ip({ protocol: PROTOCOL.udp }, bytes(datagram, pattern(11))));
    },
  },
  {
    id: 'udp-short',
    rfc: 'RFC 768',
    level: 'must',
    what: 'A header cut at each of its 8 bytes reaches nobody.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      const datagram = udp({ src: t.guest, dst: t.at.server }, { srcPort: t.port, dstPort: server.port });
      await t.ignoredByUdp(
        server,
        Array.from({ length: 8 }, (_, n) => t.ip({ protocol: PROTOCOL.udp }, datagram.subarray(0, n))),
      );
    },
  },
  {
    id: 'udp-port-0',
    rfc: 'RFC 6335 §6, RFC 768',
    level: 'must',
    what: 'Datagrams to port 0 go nowhere.',
    where,
    differs: 'Linux answers them by port unreachable.',
    run: async (t) => {
      t.send(t.udp(0, pattern(8)));
      await t.silence((f) => t.isUdp(f), 'datagram');
      await t.echoes(await t.echoServer(), pattern(5));
    },
  },
  {
    id: 'udp-any-guest',
    rfc: 'RFC 1812 §5.2.1',
    level: 'should',
    what: 'A guest may have more addresses than it was given: answers go to the one that asked.',
    where: 'controller/proto/udp/flow.ts',
    run: async (t) => {
      t.guest = t.family === 4 ? '192.0.2.77' : '2001:db8:1::77';
      await t.echoes(await t.echoServer(), pattern(60));
    },
  },
  {
    id: 'udp-two-flows',
    rfc: 'RFC 4787 §4.1, §4.2',
    level: 'must',
    what: 'The same port towards two servers, and two ports towards one, are four conversations that do not mix.',
    where: 'controller/proto/udp/flow.ts',
    run: async (t) => {
      const servers = [await t.echoServer(), await t.echoServer()];
      for (const [i, server] of servers.entries()) t.send(t.udp(server.port, pattern(30, i + 1)));
      for (const [i, server] of servers.entries()) {
        const from = t.cursor;
        const back = await t.expect((f) => t.isUdp(f) && f.udp?.srcPort === server.port, `the answer of server ${i}`);
        truth(back.udp?.payload.equals(pattern(30, i + 1)), 'the answer is the other one');
        t.cursor = from;
      }
    },
  },
  {
    id: 'udp-burst',
    rfc: 'RFC 768',
    level: 'should',
    what: 'Forty datagrams of different sizes sent at once come back, each by itself, in order.',
    where: 'controller/proto/udp/send.ts',
    run: async (t) => {
      const server = await t.echoServer();
      await t.echoes(server, pattern(1));
      const all = Array.from({ length: 40 }, (_, i) => pattern(100 + ((i * 37) % 90), i + 1));
      t.bed.wire.sendAll(all.map((data) => t.udp(server.port, data)));
      await t.until(() => server.datagrams.length === 41, 'all datagrams at the server');
      for (const [i, data] of all.entries())
        truth(server.datagrams[i + 1]?.payload.equals(data), `datagram ${i} differs`);
    },
  },
];
