// SPDX-License-Identifier: Apache-2.0
/**
 * Frames built to kill a parser: lengths that lie, values at both ends of every field, frames cut at every byte, batches that
 * contradict themselves. None has a right answer but one: that everything else goes on.
 */
import { GUEST_MAC } from '../bed.ts';
import {
  arp,
  bytes,
  ETHERTYPE,
  fragmentHeader,
  optionsHeader,
  PROTOCOL,
  pattern,
  tcpOptions,
  u8,
  u16,
  u32,
  udp,
} from '../packet.ts';
import type { Row } from '../row.ts';
import type { Talk } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const base = { rfc: 'RFC 1122 §1.2.2', level: 'must', notLinux: 'it is not what is tested' } as const;
const ENDS = [0x00, 0x01, 0x7f, 0x80, 0xff] as const;

/** One sound frame of each kind that is parsed. */
const specimens = (t: Talk): Buffer[] => {
  const v4 = t.family === 4;
  const dhcp = bytes(
    u8(1, 1, 6, 0),
    u32(7),
    Buffer.alloc(20),
    Buffer.alloc(208),
    u32(0x6382_5363),
    u8(53, 1, 1, 55, 2, 1, 3, 61, 3, 1, 2, 3, 255),
  );
  const dhcp6 = bytes(
    u32(0x0100_0007),
    u16(1, 6),
    Buffer.from('000300010203', 'hex'),
    u16(3, 12),
    u32(1, 0, 0),
    u16(6, 4, 23, 24),
  );
  const syn = t.tcp({
    dstPort: 9,
    flags: 'S',
    seq: 5,
    options: tcpOptions({ mss: 1000, scale: 3, sackPermitted: true, timestamps: [1, 0] }),
  });
  const common = [
    t.udp(9, pattern(16)),
    t.ping(3, 3, pattern(16)),
    syn,
    t.icmp(v4 ? 3 : 1, 1, bytes(u32(0), t.udp(9, pattern(8)).subarray(14))),
  ];
  if (v4) {
    const asked = arp({ operation: 1, senderMac: GUEST_MAC, senderIp: t.guest, targetIp: t.at.gateway });
    return [
      ...common,
      t.ethernet(ETHERTYPE.arp, asked),
      t.udp(67, dhcp, { srcPort: 68 }, { dst: '255.255.255.255' }),
      t.udp(9, pattern(16), {}, { options: bytes(u8(7, 7, 4, 0, 0, 0, 0, 0)) }),
      t.ip({ protocol: PROTOCOL.udp, flags: 1, id: 77 }, pattern(24)),
      t.ip(
        { protocol: 2, dst: '224.0.0.22', ttl: 1 },
        bytes(u8(0x22, 0), u16(0xdcfc, 0, 1), u8(4, 0), u16(0), u8(224, 0, 0, 251)),
      ),
    ];
  }
  const inner = udp({ src: t.guest, dst: t.at.server }, { srcPort: t.port, dstPort: 9 }, pattern(16));
  return [
    ...common,
    t.udp(547, dhcp6, { srcPort: 546 }, { dst: 'ff02::1:2' }),
    t.icmp(
      135,
      0,
      bytes(u32(0), Buffer.from('20010db8000100000000000000000001', 'hex'), u8(1, 1, 2, 0, 0x5e, 0, 0x53, 0x10)),
      { ttl: 255 },
    ),
    t.icmp(133, 0, bytes(u32(0), u8(1, 1, 2, 0, 0x5e, 0, 0x53, 0x10)), { ttl: 255, dst: 'ff02::2' }),
    t.ip({ protocol: 0 }, bytes(optionsHeader(60, u8(5, 2, 0, 0)), optionsHeader(PROTOCOL.udp, u8(1, 0)), inner)),
    t.ip({ protocol: 44 }, bytes(fragmentHeader(PROTOCOL.udp, 9, 0, true), inner)),
    t.icmp(143, 0, bytes(u16(0, 1), u8(4, 0), u16(0), Buffer.alloc(16, 0xff)), { dst: 'ff02::16' }),
  ];
};
/** By the hundred, so that the tap's own queue does not drop them before they are seen. */
const poured = async (t: Talk, frames: readonly Buffer[]): Promise<void> => {
  for (let at = 0; at < frames.length; at += 200) {
    t.bed.wire.sendAll(frames.slice(at, at + 200));
    await t.sentinel();
  }
  await t.echoes(await t.echoServer(), pattern(40));
};
/** The IPv4 header's checksum made right again, where there is one. */
const mended = (frame: Buffer): Buffer => {
  if (frame.readUInt16BE(12) !== ETHERTYPE.ipv4 || frame.length < 34) return frame;
  const end = Math.min(frame.length, 14 + ((frame[14] ?? 0) & 15) * 4);
  if (end < 34) return frame;
  frame.writeUInt16BE(0, 24);
  let sum = 0;
  for (let at = 14; at + 1 < end; at += 2) sum += frame.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  frame.writeUInt16BE(~sum & 0xffff, 24);
  return frame;
};

export const KILLER_ROWS: readonly Row[] = [
  {
    ...base,
    id: 'killer-truncated',
    what: 'A frame of every kind that is parsed, cut at every byte, its length fields left as they were.',
    where: 'controller/app/demux.ts',
    run: (t) =>
      poured(
        t,
        specimens(t).flatMap((frame) => Array.from({ length: frame.length - 14 }, (_, n) => frame.subarray(0, 14 + n))),
      ),
  },
  {
    ...base,
    id: 'killer-ends',
    what: 'A frame of every kind, with each byte of its first hundred at 0, 1, 127, 128 and 255, the header checksum mended.',
    where: 'controller/app/demux.ts',
    run: (t) =>
      poured(
        t,
        specimens(t).flatMap((frame) =>
          Array.from({ length: Math.min(100, frame.length - 14) }, (_, n) => 14 + n).flatMap((at) =>
            ENDS.map((value) => {
              const copy = Buffer.from(frame);
              copy[at] = value;
              return mended(copy);
            }),
          ),
        ),
      ),
  },
  {
    ...base,
    id: 'killer-pairs',
    what: 'A frame of every kind, with each 16-bit field of its first hundred bytes at 0, 32767, 32768 and 65535.',
    where: 'controller/app/demux.ts',
    run: (t) =>
      poured(
        t,
        specimens(t).flatMap((frame) =>
          Array.from({ length: Math.floor(Math.min(100, frame.length - 15) / 2) }, (_, n) => 14 + 2 * n).flatMap((at) =>
            [0, 0x7fff, 0x8000, 0xffff].map((value) => {
              const copy = Buffer.from(frame);
              copy.writeUInt16BE(value, at);
              return mended(copy);
            }),
          ),
        ),
      ),
  },
  {
    ...base,
    id: 'killer-ethertypes',
    what: 'EtherTypes that nobody handles: lengths (802.3), VLAN tags, jumbo, all ones, and IP under the wrong one.',
    where: 'controller/app/demux.ts',
    run: (t) => {
      const packet = t.udp(9, pattern(16)).subarray(14);
      return poured(
        t,
        [
          0,
          38,
          1500,
          0x8100,
          0x88a8,
          0x8870,
          0xffff,
          t.family === 4 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4,
          ETHERTYPE.arp,
        ].map((type) => t.ethernet(type, packet)),
      );
    },
  },
  {
    ...base,
    id: 'killer-addresses',
    what: 'Packets to and from addresses in forms that must not be on a wire, to every kind of port.',
    where: 'controller/app/demux.ts',
    run: (t) => {
      const strange =
        t.family === 4
          ? [
              '0.0.0.0',
              '0.0.0.1',
              '127.0.0.1',
              '127.255.255.255',
              '169.254.0.1',
              '192.0.2.1',
              '192.0.2.2',
              '224.0.0.1',
              '239.255.255.255',
              '240.0.0.0',
              '255.255.255.255',
            ]
          : [
              '::',
              '::1',
              '::2',
              '::127.0.0.1',
              '::ffff:127.0.0.1',
              '::ffff:0:0',
              '64:ff9b::7f00:1',
              '2002:7f00:1::',
              'fe80::1',
              'fec0::1',
              'ff00::',
              'ff02::1',
              'ffff::',
              '2001:db8:1::1',
            ];
      const frames = strange.flatMap((src) =>
        strange.flatMap((dst) => [
          t.udp(53, pattern(16), {}, { src, dst }),
          t.tcp({ dstPort: 80, flags: 'S', seq: 1 }, undefined, { src, dst }),
          t.ping(1, 1, pattern(8), { src, dst }),
        ]),
      );
      return poured(t, frames);
    },
  },
  {
    ...base,
    id: 'killer-batch',
    what: 'Batches that contradict themselves: SYN, RST, FIN, data and SYN again of one connection at once, in every order.',
    where: 'controller/proto/tcp/from-tap.ts',
    run: async (t) => {
      const listener = await t.listen();
      const frames = (n: number): Buffer[] => {
        const srcPort = t.freshPort();
        const to = { srcPort, dstPort: listener.port };
        const all = [
          t.tcp({ ...to, flags: 'S', seq: n }),
          t.tcp({ ...to, flags: 'R', seq: n + 1 }),
          t.tcp({ ...to, flags: 'FA', seq: n + 1, ack: 5 }),
          t.tcp({ ...to, flags: 'PA', seq: n + 1, ack: 5 }, pattern(100)),
          t.tcp({ ...to, flags: 'S', seq: n + 0x1000_0000 }),
          t.tcp({ ...to, flags: 'SA', seq: n, ack: 1 }),
        ];
        return all.map((_, i) => all[(i * 5 + n) % all.length] as Buffer);
      };
      await poured(t, Array.from({ length: 60 }, (_, n) => frames(n)).flat());
    },
  },
  {
    ...base,
    id: 'killer-stream',
    what: 'In a connection: segments at random numbers with random flags, lengths and windows, and the data between them still arrives.',
    where: 'controller/proto/tcp/from-tap.ts',
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 1460, scale: 7, sackPermitted: true } });
      let x = 0x2545_f491;
      const random = (below: number): number => {
        x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
        return (x >>> 8) % below;
      };
      for (let n = 0; n < 400; n++) {
        // Far from the window, so that none of it may count: what is in the window is in the rows above.
        const far = (0x1000_0000 + random(0x6000_0000)) >>> 0;
        const flags = ['A', 'PA', 'FA', 'S', 'SA', 'R', 'RA', 'UA', 'FPU', ''][random(10)] ?? 'A';
        c.stray(
          flags,
          { seq: (c.seq + far) >>> 0, ack: (c.ack + random(0x7fff_ffff)) >>> 0, window: random(65_536) },
          pattern(random(1400)),
        );
        if (n % 100 === 0) await t.sentinel();
      }
      await t.sentinel();
      await c.lives();
      await c.closes();
    },
  },
];
