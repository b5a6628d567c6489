// SPDX-License-Identifier: Apache-2.0
/** Echo, and the errors of both families: which are sent, which never are, and what they quote. */

import type { Decoded } from '../decode.ts';
import {
  bytes,
  echo,
  type Family,
  icmp as icmpMessage,
  ipv4,
  ipv6,
  PROTOCOL,
  pattern,
  tcp as tcpSegment,
  u32,
  udp,
} from '../packet.ts';
import type { Row } from '../row.ts';
import { ECHO_REPLY, ECHO_REQUEST, equal, same, type Talk, TIME_EXCEEDED, truth, UNREACHABLE } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/icmp.ts';
const errors = 'controller/link/icmp-error.ts';

const pinged = async (t: Talk, dst: string, id: number, sequence: number, data: Uint8Array): Promise<void> => {
  t.send(t.ping(id, sequence, data, { dst }));
  const rest = ((id << 16) | sequence) >>> 0;
  const back = await t.expect((f) => f.icmp?.type === ECHO_REPLY[t.family] && f.icmp.rest === rest, 'the echo reply');
  same(back.icmp?.body.subarray(4), data, 'its data');
  equal(back.icmp?.code, 0, 'code');
  truth(t.isFrom(back, dst), `from ${back.ip?.src}`);
};

/** The error's quote is the datagram that was sent, from its IP header on. */
const quotes = (t: Talk, quoted: Buffer | undefined, frame: Buffer): void => {
  const sent = frame.subarray(14);
  const got = Buffer.from(quoted ?? []);
  truth(got.length >= (t.family === 4 ? 28 : 48), `${got.length} bytes quoted`);
  // What routers change on the way: TTL and the checksum over it; and v4's identification where DF is set (RFC 6864 §4.1).
  const expected = Buffer.from(sent.subarray(0, got.length));
  for (const at of t.family === 4 ? [4, 5, 6, 8, 10, 11] : [7]) expected[at] = got[at] ?? 0;
  // The datagram's checksum may have been computed on the way: a partial one is the kernel's matter.
  same(got, expected, 'the quoted packet');
};

const unreachable = async (t: Talk, frame: Buffer, code: number, from?: string): Promise<void> => {
  const error = await t.insist(frame, (f) => t.isError(f), 'an ICMP error');
  equal(error.icmp?.type, UNREACHABLE[t.family], 'type');
  equal(error.icmp?.code, code, 'code');
  quotes(t, error.icmp?.body.subarray(4), frame);
  if (from !== undefined) truth(t.isFrom(error, from), `from ${error.ip?.src}`);
};

/** A packet as it would stand in an error about it, from the server to the guest. */
const quotedFromServer = (t: Talk, protocol: number, transport: Uint8Array): Buffer => {
  const ip = { src: t.at.server, dst: t.guest, protocol };
  return t.family === 4 ? ipv4(ip, transport) : ipv6(ip, transport);
};
const TOO_BIG: Record<Family, readonly [type: number, code: number]> = { 4: [3, 4], 6: [2, 0] };

export const ICMP_ROWS: readonly Row[] = [
  {
    id: 'echo-gateway',
    rfc: 'RFC 1122 §3.2.2.6, RFC 4443 §4.2',
    level: 'must',
    what: 'An echo request to the gateway is answered by it with identifier, sequence number and data unchanged.',
    where,
    run: (t) => pinged(t, t.at.gateway, 0x1234, 0x5678, pattern(56)),
  },
  {
    id: 'echo-server',
    rfc: 'RFC 1122 §3.2.2.6, RFC 4443 §4.2',
    level: 'must',
    what: 'So is one to a host beyond it; identifiers 0 and 65535 and sequence numbers 0 and 65535 are numbers like others.',
    where,
    run: async (t) => {
      for (const [id, sequence] of [
        [0, 0],
        [0xffff, 0xffff],
        [0, 0xffff],
        [1, 1],
      ] as const)
        await pinged(t, t.at.server, id, sequence, pattern(56, id + sequence + 1));
    },
  },
  {
    id: 'echo-sizes',
    rfc: 'RFC 1122 §3.2.2.6, RFC 4443 §4.2',
    level: 'must',
    what: 'All of the data comes back: 0, 1, 3, 55 bytes and as much as fits the link.',
    where,
    run: async (t) => {
      for (const size of [0, 1, 3, 55, 1500 - (t.family === 4 ? 28 : 48)]) {
        await pinged(t, t.at.server, 700 + t.family, size, pattern(size));
        await pinged(t, t.at.gateway, 710 + t.family, size, pattern(size));
      }
    },
  },
  {
    id: 'echo-identifiers',
    rfc: 'RFC 5508 §3.1',
    level: 'must',
    what: 'Two identifiers with the same sequence number are two conversations.',
    where,
    run: async (t) => {
      t.send(t.ping(0x0101, 7, pattern(20, 1)));
      t.send(t.ping(0x0202, 7, pattern(20, 2)));
      const one = await t.expect((f) => f.icmp?.rest === 0x01010007, 'the first echo');
      t.cursor -= 2;
      const other = await t.expect((f) => f.icmp?.rest === 0x02020007, 'the second echo');
      same(one.icmp?.body.subarray(4), pattern(20, 1), 'the first');
      same(other.icmp?.body.subarray(4), pattern(20, 2), 'the second');
    },
  },
  {
    id: 'icmp-checksum',
    rfc: 'RFC 792, RFC 4443 §2.3',
    level: 'must',
    what: 'A wrong ICMP checksum (0, all ones, one bit off) is not answered, at the gateway nor beyond.',
    where,
    run: async (t) => {
      for (const dst of [t.at.gateway, t.at.server]) {
        const right = t.ping(0x0707, 1, pattern(20), { dst });
        const flipped = Buffer.from(right);
        flipped.writeUInt8((flipped.at(-1) ?? 0) ^ 0x10, flipped.length - 1);
        t.send(flipped);
        for (const checksum of [0, 0xffff])
          t.send(t.icmp(ECHO_REQUEST[t.family], 0, echo(0x0707, 1, pattern(20)), { dst }, checksum));
      }
      await pinged(t, t.at.server, 0x0708, 1, pattern(20));
      t.cursor -= 1;
      t.none((f) => f.icmp?.rest === 0x07070001, 'echo reply');
    },
  },
  {
    id: 'icmp-short',
    rfc: 'RFC 792, RFC 4443 §2.1',
    level: 'must',
    what: 'A message cut at each of its 8 bytes is not answered.',
    where,
    run: async (t) => {
      const whole = icmpMessage(
        { src: t.guest, dst: t.at.gateway },
        ECHO_REQUEST[t.family],
        0,
        echo(3, 3, Buffer.alloc(0)),
      );
      const protocol = t.family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6;
      for (let n = 0; n < 8; n++) t.send(t.ip({ protocol, dst: t.at.gateway }, whole.subarray(0, n)));
      await t.silence((f) => f.icmp?.rest === 0x00030003, 'echo reply');
    },
  },
  {
    id: 'icmp-unknown-type',
    rfc: 'RFC 1122 §3.2.2, RFC 4443 §2.4(b)',
    level: 'must',
    what: 'Messages of unknown types (1, 2, 7, 44, 255; 155, 200, 254) are silently discarded.',
    where,
    run: async (t) => {
      for (const type of t.family === 4 ? [1, 2, 7, 44, 255] : [155, 200, 254])
        for (const dst of [t.at.gateway, t.at.server]) t.send(t.icmp(type, 0, echo(t.port, 1, pattern(16)), { dst }));
      await t.silence((f) => f.icmp !== undefined && t.isAnything(f), 'answer');
    },
  },
  {
    id: 'icmp-unasked-reply',
    rfc: 'RFC 1122 §3.2.2, RFC 4443 §2.4(e.1)',
    level: 'must',
    what: 'Echo replies and errors that answer nothing are not answered themselves.',
    where,
    run: async (t) => {
      const inner = udp({ src: t.at.server, dst: t.guest }, { srcPort: 9, dstPort: t.port }, pattern(12));
      const error = bytes(u32(0), quotedFromServer(t, PROTOCOL.udp, inner));
      t.send(t.icmp(ECHO_REPLY[t.family], 0, echo(4, 4, pattern(16))));
      t.send(t.icmp(UNREACHABLE[t.family], t.family === 4 ? 3 : 4, error));
      t.send(t.icmp(TIME_EXCEEDED[t.family], 0, error));
      t.send(t.icmp(TIME_EXCEEDED[t.family], 0, u32(0)));
      t.send(t.icmp(TIME_EXCEEDED[t.family], 0, error.subarray(0, 30)));
      await t.silence((f) => f.icmp !== undefined && t.isAnything(f), 'answer');
    },
  },
  {
    id: 'icmp-group-echo',
    rfc: 'RFC 1122 §3.2.2.6',
    level: 'may',
    what: 'An echo request to the broadcast address or a foreign group is not answered.',
    where,
    families: [4],
    run: async (t) => {
      for (const dst of ['255.255.255.255', '192.0.2.255', '224.0.0.5'])
        t.send(t.ping(0x0909, 1, pattern(16), { dst }));
      await t.silence((f) => f.icmp?.rest === 0x09090001, 'echo reply');
    },
  },
  {
    id: 'port-unreachable',
    rfc: 'RFC 1122 §4.1.3.1, §3.2.2, RFC 4443 §3.1',
    level: 'must',
    what: 'A datagram to a port where nobody listens: port unreachable, from that address, quoting it.',
    where: errors,
    run: async (t) => unreachable(t, t.udp(t.closedPort(), pattern(40)), t.family === 4 ? 3 : 4, t.at.server),
  },
  {
    id: 'error-quote-size',
    rfc: 'RFC 1812 §4.3.2.3, RFC 4443 §2.4(c)',
    level: 'must',
    what: 'An error quotes as much as fits 576 bytes, over IPv6 the minimum MTU of 1280, and no more.',
    where: errors,
    run: async (t) => {
      const frame = t.udp(t.closedPort(), pattern(1400));
      t.send(frame);
      const error = await t.expect((f) => t.isError(f), 'an ICMP error');
      const length = error.ip?.length ?? 0;
      const most = t.family === 4 ? 576 : 1280;
      truth(length <= most, `${length} bytes`);
      // As much as possible is a MUST for IPv6 only; for IPv4 8 bytes behind the header are.
      truth(length >= (t.family === 4 ? 20 + 8 + 20 + 8 : 1200), `only ${length} bytes`);
    },
  },
  {
    id: 'net-unreachable',
    slow: true,
    rfc: 'RFC 1812 §4.3.3.1, §5.2.7.1, RFC 4443 §3.1',
    level: 'must',
    what: 'What a router on the way says about a datagram, the guest is told: no route, and administratively prohibited.',
    where: errors,
    run: async (t) => {
      await unreachable(t, t.udp(9, pattern(40), {}, { dst: t.at.unreachable }), t.family === 4 ? 1 : 0);
      await unreachable(t, t.udp(9, pattern(40), {}, { dst: t.at.prohibited }), t.family === 4 ? 13 : 1);
    },
  },
  {
    id: 'net-unreachable-echo',
    slow: true,
    rfc: 'RFC 1812 §5.2.7.1, RFC 5508 §4.1',
    level: 'must',
    what: "So it is about an echo request, whose identifier in the quote is the guest's own.",
    where,
    run: async (t) => {
      const frame = t.ping(0x3344, 5, pattern(40), { dst: t.at.unreachable });
      const isIt = (f: Decoded): boolean =>
        f.icmp?.type === UNREACHABLE[t.family] && f.icmp.quoted?.ip.payload.readUInt16BE(4) === 0x3344;
      const error = await t.insist(frame, isIt, 'an ICMP error');
      quotes(t, error.icmp?.body.subarray(4), frame);
    },
  },
  {
    id: 'net-unreachable-tcp',
    slow: true,
    rfc: 'RFC 1122 §4.2.3.9, RFC 5461 §2, RFC 1812 §5.2.7.1',
    level: 'should',
    what: 'And about a SYN: the guest hears of it at once, in place of waiting.',
    where: errors,
    run: async (t) => {
      const syn = t.tcp({ dstPort: 80, flags: 'S', seq: 0x1234567 }, undefined, { dst: t.at.unreachable });
      const error = await t.insist(syn, (f) => t.isError(f) || t.isTcp(f), 'an ICMP error');
      equal(error.icmp?.type, UNREACHABLE[t.family], 'type');
      equal(error.icmp?.quoted?.ip.payload.readUInt32BE(4), 0x1234567, 'quoted sequence number');
    },
  },
  {
    id: 'time-exceeded',
    rfc: 'RFC 1812 §5.3.1, RFC 4443 §3.3',
    level: 'must',
    what: 'A datagram and an echo request whose TTL ends on the way: time exceeded from the router, quoting them (traceroute).',
    where: errors,
    run: async (t) => {
      const frame = t.udp(33_434, pattern(40), {}, { dst: t.at.blackHole, ttl: 1 });
      t.send(frame);
      const error = await t.expect((f) => t.isError(f), 'an ICMP error');
      equal(error.icmp?.type, TIME_EXCEEDED[t.family], 'type');
      equal(error.icmp?.code, 0, 'code');
      truth(t.isFrom(error, t.at.gateway), `from ${error.ip?.src}`);
      quotes(t, error.icmp?.body.subarray(4), frame);
      const ping = t.ping(0x7711, 3, pattern(40), { dst: t.at.blackHole, ttl: 1 });
      t.send(ping);
      const other = await t.expect((f) => f.icmp?.type === TIME_EXCEEDED[t.family], 'an ICMP error');
      quotes(t, other.icmp?.body.subarray(4), ping);
    },
  },
  {
    id: 'packet-too-big',
    rfc: 'RFC 1191 §4, RFC 8201 §4, RFC 4443 §3.2',
    level: 'must',
    what: 'A datagram that must not be fragmented and is too big for a link on the way: the guest is told that MTU.',
    where: errors,
    run: async (t) => {
      const [type, code] = TOO_BIG[t.family];
      const frame = t.udp(9, pattern(1400), {}, { dst: t.at.narrow });
      const { icmp } = await t.insist(frame, (f) => t.isError(f), 'packet too big');
      equal(icmp?.type, type, 'type');
      equal(icmp?.code, code, 'code');
      equal(t.family === 4 ? (icmp?.rest ?? 0) & 0xffff : icmp?.rest, 1280, 'MTU');
    },
  },
  {
    id: 'no-error-about-errors',
    rfc: 'RFC 1122 §3.2.2, RFC 4443 §2.4(e)',
    level: 'must',
    what: 'An ICMP error to an address that cannot be reached makes no other error.',
    where,
    run: async (t) => {
      const inner = udp({ src: t.at.unreachable, dst: t.guest }, { srcPort: 9, dstPort: t.port }, pattern(12));
      const ip = { src: t.at.unreachable, dst: t.guest, protocol: PROTOCOL.udp };
      const quoted = t.family === 4 ? ipv4(ip, inner) : ipv6(ip, inner);
      for (const type of [UNREACHABLE[t.family], TIME_EXCEEDED[t.family]])
        t.send(t.icmp(type, 0, bytes(u32(0), quoted), { dst: t.at.unreachable }));
      await t.silence((f) => f.icmp !== undefined && t.isAnything(f), 'error');
    },
  },
  {
    id: 'hostile-quotes',
    rfc: 'RFC 5927 §4.1, RFC 9293 §3.9.2.2',
    level: 'should',
    what: 'ICMP errors whose quote is not of a segment in flight leave a connection alone.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const inner = tcpSegment(
        { src: t.at.server, dst: t.guest },
        { srcPort: c.listener.port, dstPort: t.port, seq: 1, flags: 'A' },
      );
      for (const [type, code] of [
        [UNREACHABLE[t.family], t.family === 4 ? 3 : 4],
        TOO_BIG[t.family],
        [TIME_EXCEEDED[t.family], 0],
      ] as const)
        for (const cut of [0, 8, inner.length])
          t.send(t.icmp(type, code, bytes(u32(68), quotedFromServer(t, PROTOCOL.tcp, inner.subarray(0, cut)))));
      await c.lives();
      await c.closes();
    },
  },
];
