// SPDX-License-Identifier: Apache-2.0
/** Fragments of the guest's, and ours to it. */
import { bytes, echo, fragmentHeader, icmp, PROTOCOL, pattern, udp } from '../packet.ts';
import type { Row } from '../row.ts';
import { ECHO_REPLY, ECHO_REQUEST, equal, same, type Talk, truth } from '../talk.ts';

const where = 'controller/link/reassembly.ts';
let lastId = 0x1000;

/** [from, to) of a datagram as one fragment of it; by default the last one has no "more". */
const piece = (
  t: Talk,
  id: number,
  whole: Uint8Array,
  from: number,
  to: number,
  more = to < whole.length,
  protocol: number = PROTOCOL.udp,
): Buffer => {
  const part = whole.subarray(from, to);
  if (t.family === 4) return t.ip({ protocol, id, offset: from, flags: more ? 1 : 0 }, part);
  return t.ip({ protocol: 44 }, bytes(fragmentHeader(protocol, id, from, more), part));
};
const cut = (t: Talk, whole: Uint8Array, size: number, id = ++lastId): Buffer[] =>
  Array.from({ length: Math.ceil(whole.length / size) }, (_, i) =>
    piece(t, id, whole, i * size, Math.min(whole.length, (i + 1) * size)),
  );
const datagram = (t: Talk, dstPort: number, payload: Uint8Array): Buffer =>
  udp({ src: t.guest, dst: t.at.server }, { srcPort: t.port, dstPort }, payload);

const echoed = async (t: Talk, data: Uint8Array): Promise<void> => {
  const back = await t.expect((f) => t.isUdp(f) && f.udp?.payload.length === data.length, 'the echoed datagram');
  same(back.udp?.payload, data, 'the echoed datagram');
};
/** These pieces make nothing that reaches the server; whole datagrams before and behind them do. */
const never = async (t: Talk, make: (whole: Buffer) => readonly Buffer[]): Promise<void> => {
  const server = await t.echoServer();
  await t.echoes(server, pattern(11));
  for (const frame of make(datagram(t, server.port, pattern(80, t.port)))) t.send(frame);
  await t.sentinel();
  t.send(t.udp(server.port, pattern(13)));
  await echoed(t, pattern(13));
  await t.got(server, 2);
};

const odd =
  (t: Talk) =>
  (whole: Buffer): Buffer[] => {
    const id = ++lastId;
    return [piece(t, id, whole, 0, 43, true), piece(t, id, whole, 40, 88)];
  };

export const FRAGMENT_ROWS: readonly Row[] = [
  {
    id: 'fragments-in-order',
    rfc: 'RFC 791 §3.2, RFC 1122 §3.3.2, RFC 8200 §4.5',
    level: 'must',
    what: 'A datagram in two, in three and in ten fragments is put together.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      for (const size of [40, 32, 8]) {
        const data = pattern(72, size);
        for (const frame of cut(t, datagram(t, server.port, data), size)) t.send(frame);
        await echoed(t, data);
      }
    },
  },
  {
    id: 'fragments-any-order',
    rfc: 'RFC 791 §3.2, RFC 8200 §4.5',
    level: 'must',
    what: 'They may come in any order: backwards, and the last one first.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      for (const order of [
        [3, 2, 1, 0],
        [3, 0, 1, 2],
        [1, 3, 0, 2],
      ]) {
        const data = pattern(120, order[0] ?? 0);
        const all = cut(t, datagram(t, server.port, data), 32);
        for (const i of order) t.send(all[i] as Buffer);
        await echoed(t, data);
      }
    },
  },
  {
    id: 'fragments-interleaved',
    rfc: 'RFC 791 §3.2, RFC 8200 §4.5',
    level: 'must',
    what: 'Fragments of two datagrams that differ in the identification, by turns, make two datagrams.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      const both = [pattern(100, 1), pattern(101, 2)];
      const [one = [], two = []] = both.map((data) => cut(t, datagram(t, server.port, data), 40));
      for (const [i, frame] of one.entries()) {
        t.send(frame);
        t.send(two[i] as Buffer);
      }
      await t.got(server, 2);
      for (const data of both)
        truth(
          server.datagrams.some((d) => d.payload.equals(data)),
          `no datagram of ${data.length}`,
        );
    },
  },
  {
    id: 'fragments-repeated',
    rfc: 'RFC 791 §3.2, RFC 8200 §4.5',
    level: 'should',
    what: 'An exact copy of a fragment that is there already does no harm.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      const data = pattern(100, 5);
      const [a, b, c] = cut(t, datagram(t, server.port, data), 40) as [Buffer, Buffer, Buffer];
      for (const frame of [a, a, b, a, b, c]) t.send(frame);
      await echoed(t, data);
    },
  },
  {
    id: 'fragments-large',
    rfc: 'RFC 791 §3.2, RFC 8200 §4.5, §5',
    level: 'must',
    what: 'The largest datagram there is (65507 bytes, over IPv6 65527) goes and comes back, in fragments that fit the link.',
    where: 'controller/link/packet-out.ts',
    run: async (t) => {
      const server = await t.echoServer();
      const data = pattern(t.family === 4 ? 65_507 : 65_527, 9);
      t.bed.wire.sendAll(cut(t, datagram(t, server.port, data), 1448));
      const back = await t.expect((f) => t.isUdp(f), 'the echoed datagram');
      same(back.udp?.payload, data, 'the echoed datagram');
      truth(back.pieces > 1, 'it came whole');
      const large = t.bed.wire.frames.filter((f) => f.ip?.fragmented && f.frame.length > 1514);
      equal(large.length, 0, 'fragments larger than the link');
    },
  },
  {
    id: 'fragments-echo',
    rfc: 'RFC 1122 §3.2.2.6, RFC 4443 §4.2',
    level: 'must',
    what: 'Echo requests in fragments are answered, by the gateway and beyond it, with all of their data.',
    where,
    run: async (t) => {
      for (const [i, dst] of [t.at.gateway, t.at.server].entries()) {
        const data = pattern(3000, i + 1);
        const message = icmp({ src: t.guest, dst }, ECHO_REQUEST[t.family], 0, echo(0x6666, i, data));
        const protocol = t.family === 4 ? PROTOCOL.icmp : PROTOCOL.icmpv6;
        const id = ++lastId;
        for (let at = 0; at < message.length; at += 1200) {
          const end = Math.min(message.length, at + 1200);
          const more = end < message.length;
          const part = message.subarray(at, end);
          t.send(
            t.family === 4
              ? t.ip({ protocol, dst, id, offset: at, flags: more ? 1 : 0 }, part)
              : t.ip({ protocol: 44, dst }, bytes(fragmentHeader(protocol, id, at, more), part)),
          );
        }
        const back = await t.expect(
          (f) => f.icmp?.type === ECHO_REPLY[t.family] && f.icmp.rest === ((0x6666 << 16) | i) >>> 0,
          'the echo reply',
        );
        same(back.icmp?.body.subarray(4), data, 'its data');
      }
    },
  },
  {
    id: 'fragments-overlap',
    rfc: 'RFC 5722 §4, RFC 8200 §4.5, RFC 1858 §4',
    level: 'must',
    what: 'Fragments that overlap, in any of five ways, make no datagram at all.',
    where,
    differs: 'A piece that lies within another and says the same is taken for a repetition, by Linux and by us.',
    run: async (t) => {
      // Eight bytes apart; the whole is 88 bytes. What Linux does to IPv4 has been the same since version 4.20.
      const ways: readonly (readonly (readonly [number, number])[])[] = [
        [
          [0, 48],
          [40, 88],
        ],
        [
          [40, 88],
          [0, 48],
        ],
        [
          [24, 88],
          [0, 32],
          [0, 24],
        ],
        [
          [0, 32],
          [56, 88],
          [24, 64],
        ],
        [
          [0, 40],
          [32, 48],
          [48, 88],
        ],
      ];
      for (const way of ways)
        await never(t, (whole) => {
          const id = ++lastId;
          return way.map(([from, to]) => piece(t, id, whole, from, to));
        }).catch((error: unknown) => {
          throw new Error(`${way.map((each) => each.join('-')).join(' ')}: ${String(error)}`);
        });
    },
  },
  {
    id: 'fragments-overlap-rest',
    rfc: 'RFC 5722 §4, RFC 8200 §4.5',
    level: 'must',
    what: 'Fragments of a datagram that was thrown away for an overlap complete nothing when they come later.',
    where,
    differs: 'Linux keeps no memory of what it threw away over IPv4.',
    run: (t) =>
      never(t, (whole) => {
        const id = ++lastId;
        // The last 48 bytes are there, then an overlap; behind it only the front, which is not enough by itself.
        return [piece(t, id, whole, 40, 88), piece(t, id, whole, 0, 48), piece(t, id, whole, 0, 32)];
      }),
  },
  {
    id: 'fragments-over-long',
    rfc: 'RFC 791 §3.2, RFC 8200 §4.5',
    level: 'must',
    what: 'A fragment that ends beyond 65535 bytes (ping of death) is thrown away; over IPv6 a parameter problem points at its offset.',
    where,
    run: async (t) => {
      await never(t, (whole) => {
        const id = ++lastId;
        const tail = pattern(80);
        const far = 65_528;
        const last =
          t.family === 4
            ? t.ip({ protocol: PROTOCOL.udp, id, offset: far, flags: 0 }, tail)
            : t.ip({ protocol: 44 }, bytes(fragmentHeader(PROTOCOL.udp, id, far, false), tail));
        return [piece(t, id, whole, 0, 40, true), last];
      });
      if (t.family === 4) return;
      t.rewind();
      const error = await t.expect((f) => f.icmp?.type === 4 && f.icmp.rest === 42, 'a parameter problem');
      equal(error.icmp?.code, 0, 'code');
    },
  },
  {
    id: 'fragments4-odd-length',
    rfc: 'RFC 791 §3.2',
    level: 'must',
    what: 'A fragment that is not the last and whose length is no multiple of 8 is thrown away.',
    where,
    families: [4],
    notLinux: 'Linux cuts it to a multiple of 8',
    run: (t) => never(t, odd(t)),
  },
  {
    id: 'fragments6-odd-length',
    rfc: 'RFC 8200 §4.5',
    level: 'must',
    what: 'Over IPv6 it is, too, and a parameter problem points at the payload length.',
    where,
    families: [6],
    run: async (t) => {
      await never(t, odd(t));
      t.rewind();
      const error = await t.expect((f) => f.icmp?.type === 4 && f.icmp.rest === 4, 'a parameter problem');
      equal(error.icmp?.code, 0, 'code');
    },
  },
  {
    id: 'fragments-empty',
    rfc: 'RFC 791 §3.2',
    level: 'must',
    what: 'Fragments without data make nothing and stop nothing.',
    where,
    run: (t) =>
      never(t, (whole) => {
        const id = ++lastId;
        return [piece(t, id, whole, 0, 0, true), piece(t, id, whole, 40, 40, true), piece(t, id, whole, 80, 80, false)];
      }),
  },
  {
    id: 'fragments-tiny-first',
    rfc: 'RFC 1858 §3, RFC 3128, RFC 8200 §4.5, RFC 7112 §5',
    level: 'should',
    what: 'A first fragment without the whole transport header (8 bytes of a TCP segment) opens nothing.',
    where,
    differs: 'Linux puts them together, over IPv4, and over IPv6 where the header chain is whole.',
    notLinux: 'Linux puts them together',
    run: async (t) => {
      const listener = await t.listen();
      const syn = t.tcp({ dstPort: listener.port, flags: 'S', seq: 1 }).subarray(t.family === 4 ? 34 : 54);
      const id = ++lastId;
      t.send(piece(t, id, syn, 0, 8, true, PROTOCOL.tcp));
      t.send(piece(t, id, syn, 8, 20, false, PROTOCOL.tcp));
      await t.silence((f) => t.isTcp(f), 'segment');
      equal(listener.connections.length, 0, 'connections');
    },
  },
  {
    id: 'fragments-foreign',
    rfc: 'RFC 791 §3.2, RFC 8200 §4.5',
    level: 'must',
    what: 'Fragments with the same identification from another source, to another destination, or of another protocol are of other datagrams.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      const data = pattern(72, 3);
      const whole = datagram(t, server.port, data);
      const id = ++lastId;
      const other = t.family === 4 ? '192.0.2.77' : '2001:db8:1::77';
      const strange = pattern(40, 4);
      const foreign = (fields: { src?: string; dst?: string }, protocol: number): Buffer =>
        t.family === 4
          ? t.ip({ protocol, id, offset: 40, flags: 0, ...fields }, strange)
          : t.ip({ protocol: 44, ...fields }, bytes(fragmentHeader(protocol, id, 40, false), strange));
      t.send(piece(t, id, whole, 0, 40));
      t.send(foreign({ src: other }, PROTOCOL.udp));
      t.send(foreign({ dst: t.at.gateway }, PROTOCOL.udp));
      // Over IPv6 the protocol is no part of what fragments are told apart by.
      if (t.family === 4) t.send(foreign({}, PROTOCOL.tcp));
      t.send(piece(t, id, whole, 40, 80));
      await echoed(t, data);
    },
  },
  {
    id: 'fragments-atomic',
    rfc: 'RFC 6946 §4, RFC 8200 §4.5',
    level: 'must',
    what: 'A fragment header with offset 0 and no more is a whole packet, also beside fragments of the same identification.',
    where: 'controller/wire/ext-header.ts',
    families: [6],
    run: async (t) => {
      const server = await t.echoServer();
      const id = ++lastId;
      const data = pattern(72, 6);
      t.send(piece(t, id, datagram(t, server.port, pattern(72, 7)), 0, 40));
      const whole = datagram(t, server.port, data);
      t.send(piece(t, id, whole, 0, whole.length));
      await echoed(t, data);
    },
  },
  {
    id: 'fragments-no-error',
    rfc: 'RFC 1122 §3.2.2, RFC 792',
    level: 'must',
    what: 'Fragments of which the first never comes make no ICMP error while others are put together.',
    where,
    run: async (t) => {
      const server = await t.echoServer();
      const whole = datagram(t, server.port, pattern(80));
      const from = t.cursor;
      for (let i = 0; i < 20; i++) t.send(piece(t, ++lastId, whole, 40, 88));
      await t.echoes(server, pattern(9));
      t.cursor = from;
      t.none((f) => f.icmp !== undefined && t.isAnything(f), 'error');
    },
  },
  {
    id: 'fragments-storm',
    rfc: 'RFC 8900 §6.1',
    level: 'should',
    what: 'Two thousand first fragments of which no other ever comes: whole datagrams, and later fragments, still get through.',
    where,
    notLinux: 'what memory they may take is the machine’s',
    run: async (t) => {
      const server = await t.echoServer();
      const whole = datagram(t, server.port, pattern(1400));
      // By the hundred, so that the tap's own queue does not drop them before they are seen.
      for (let n = 0; n < 2000; n += 100) {
        t.bed.wire.sendAll(Array.from({ length: 100 }, () => piece(t, ++lastId, whole, 0, 1200)));
        await t.sentinel();
      }
      await t.echoes(server, pattern(9));
      const data = pattern(100, 8);
      for (const frame of cut(t, datagram(t, server.port, data), 40)) t.send(frame);
      await echoed(t, data);
    },
  },
];
