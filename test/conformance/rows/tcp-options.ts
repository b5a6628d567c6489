// SPDX-License-Identifier: Apache-2.0
/** TCP: options of the handshake, and bits that are no flags. */
import { add, bytes, distance, paddedOptions, pattern, u8, u16 } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, type Talk, truth } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/open.ts';

/** A SYN with these raw options; the connection carries data. */
const opensWith = async (t: Talk, options: Uint8Array): Promise<TcpTalk> => {
  const c = new TcpTalk(t, await t.listen());
  t.send(t.tcp({ dstPort: c.listener.port, flags: 'S', seq: c.iss, window: 65_535, options: paddedOptions(options) }));
  c.seq = add(c.iss, 1);
  const synAck = await c.expect((s) => s.flags.includes('S'), 'SYN|ACK');
  equal(synAck.ack, c.seq, 'acknowledgement of the SYN');
  c.synAck = synAck;
  c.ack = add(synAck.seq, 1);
  await c.complete();
  await c.lives();
  await c.closes();
  return c;
};

export const TCP_OPTION_ROWS: readonly Row[] = [
  {
    id: 'tcp-mss-sent',
    rfc: 'RFC 9293 §3.7.1 (MUST-14, SHLD-5, SHLD-6)',
    level: 'should',
    what: 'The SYN|ACK says an MSS: what the link carries, or less.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const most = 1500 - (t.family === 4 ? 40 : 60);
      truth(c.synAck?.mss !== undefined, 'there is no MSS option');
      truth((c.synAck?.mss ?? 0) <= most && (c.synAck?.mss ?? 0) >= 536, `MSS ${c.synAck?.mss}`);
      await c.closes();
    },
  },
  {
    id: 'tcp-mss-default',
    rfc: 'RFC 9293 §3.7.1 (MUST-15)',
    level: 'must',
    what: 'Without an MSS option no segment is larger than 536 bytes, over IPv6 1220.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: {} });
      const most = t.family === 4 ? 536 : 1220;
      for (const s of await c.receives(pattern(6000))) truth(s.bytes <= most, `${s.bytes} bytes`);
      await c.closes();
    },
  },
  {
    id: 'tcp-mss-obeyed',
    rfc: 'RFC 9293 §3.7.1 (MUST-16)',
    level: 'must',
    what: 'No segment is larger than the MSS that the guest said (700).',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 700 } });
      for (const s of await c.receives(pattern(6000))) truth(s.bytes <= 700, `${s.bytes} bytes`);
      await c.closes();
    },
  },
  {
    id: 'tcp-mss-tiny',
    rfc: 'RFC 9293 §3.7.1',
    level: 'should',
    what: 'An MSS of 0, 1 or 65535 stops nothing: data arrives all the same.',
    where,
    run: async (t) => {
      for (const mss of [0, 1, 65_535]) {
        const c = await TcpTalk.open(t.sibling(), { options: { mss } });
        await c.receives(pattern(1200));
        await c.closes();
      }
    },
  },
  {
    id: 'tcp-scale-offered',
    rfc: 'RFC 7323 §2.2',
    level: 'must',
    what: 'Window scaling stands in the SYN|ACK only when the SYN offered it; the window of a SYN|ACK is not scaled.',
    where,
    run: async (t) => {
      const without = await TcpTalk.open(t, { options: { mss: 1460 } });
      equal(without.synAck?.scale, undefined, 'scale');
      await without.closes();
      const c = await TcpTalk.open(t.sibling(), { options: { mss: 1460, scale: 4 } });
      truth((c.synAck?.scale ?? 99) <= 14, `scale ${c.synAck?.scale}`);
      await c.closes();
    },
  },
  {
    id: 'tcp-scale-15',
    rfc: 'RFC 7323 §2.3',
    level: 'must',
    what: 'A shift above 14 is taken as 14, not as more.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 1460, scale: 15 }, window: 1 });
      // So much at first that the window is what bounds it afterwards, not the beginning (RFC 5681 §3.1).
      await c.receives(pattern(100_000));
      const from = t.cursor;
      t.bed.peer.write(c.server, pattern(40_000));
      const end = (s: { seq: number; payload: Uint8Array }): number => distance(add(s.seq, s.payload.length), c.ack);
      await c.expect((s) => s.payload.length > 0 && end(s) > 14_000, 'data up to the window');
      await t.sentinel();
      t.cursor = from;
      t.none(
        (f) => c.isMine(f) && (f.tcp?.payload.length ?? 0) > 0 && f.tcp !== undefined && end(f.tcp) > 16_384,
        'data beyond the window',
      );
      c.stray('R', { seq: c.seq });
    },
  },
  {
    id: 'tcp-sack-offered',
    rfc: 'RFC 2018 §2',
    level: 'must',
    what: 'SACK-permitted stands in the SYN|ACK only when the SYN offered it.',
    where,
    run: async (t) => {
      const without = await TcpTalk.open(t, { options: { mss: 1460 } });
      equal(without.synAck?.sackPermitted, false, 'SACK permitted');
      await without.closes();
      await (await TcpTalk.open(t.sibling(), { options: { mss: 1460, sackPermitted: true } })).converse(3000);
    },
  },
  {
    id: 'tcp-timestamps-offered',
    rfc: 'RFC 7323 §3.2',
    level: 'must',
    what: 'Timestamps stand in the SYN|ACK only when offered; agreed on, in every segment but resets, and echo ours; not agreed on, in none.',
    where: 'controller/proto/tcp/to-tap.ts',
    run: async (t) => {
      const without = await TcpTalk.open(t, { options: { mss: 1460 } });
      equal(without.synAck?.timestamps, undefined, 'timestamps');
      await without.closes();
      const u = t.sibling();
      const c = await TcpTalk.begin(u, { options: { mss: 1400, timestamps: [7_000_000, 0] } });
      const agreed = c.synAck?.timestamps !== undefined;
      if (agreed) {
        equal(c.synAck?.timestamps?.[1], 7_000_000, 'echo in the SYN|ACK');
        c.timestamp = 7_000_001;
      }
      await c.complete();
      for (const s of await c.receives(pattern(3000))) equal(s.timestamps !== undefined, agreed, 'timestamps on data');
      c.send('PA', pattern(10));
      equal((await c.acknowledged()).timestamps !== undefined, agreed, 'timestamps on an acknowledgement');
      await c.closes();
    },
  },
  {
    id: 'tcp-options-unknown',
    rfc: 'RFC 9293 §3.1 (MUST-4, MUST-6, MUST-64)',
    level: 'must',
    what: 'Unknown options, no-operations, and options in another order or unaligned are stepped over.',
    where: 'controller/wire/tcp.ts',
    run: async (t) => {
      const mss = bytes(u8(2, 4), u16(900));
      for (const options of [
        bytes(u8(1, 1, 1), mss),
        bytes(u8(254, 6, 1, 2, 3, 4), mss),
        bytes(u8(76, 2, 1), mss, u8(3, 3, 2)),
        Buffer.alloc(40, 1),
      ])
        await opensWith(t.sibling(), options);
    },
  },
  {
    id: 'tcp-options-malformed',
    rfc: 'RFC 9293 §3.1 (MUST-7)',
    level: 'must',
    what: 'Options of length 0 or 1, beyond the header, or of a wrong length for their kind stop nothing.',
    where: 'controller/wire/tcp.ts',
    run: async (t) => {
      for (const options of [
        u8(254, 0, 0, 0),
        u8(2, 1, 1, 1),
        u8(2, 40, 1, 1),
        u8(2, 3, 9, 1),
        u8(1, 1, 1, 2),
        u8(3, 2, 1, 1),
        bytes(u8(8, 255), Buffer.alloc(10)),
      ])
        await opensWith(t.sibling(), options).catch((error: unknown) => {
          throw new Error(`${options.toString('hex')}: ${String(error)}`);
        });
    },
  },
  {
    id: 'tcp-options-after-end',
    rfc: 'RFC 9293 §3.2',
    level: 'must',
    what: 'Nothing behind the end of the option list counts: an MSS of 100 there is not obeyed.',
    where: 'controller/wire/tcp.ts',
    run: async (t) => {
      const c = new TcpTalk(t, await t.listen());
      t.send(
        t.tcp({
          dstPort: c.listener.port,
          flags: 'S',
          seq: c.iss,
          options: bytes(u8(2, 4), u16(1000), u8(0, 0), u8(2, 4), u16(100), u8(0, 0)),
        }),
      );
      c.seq = add(c.iss, 1);
      c.ack = add((await c.expect((s) => s.flags.includes('S'), 'SYN|ACK')).seq, 1);
      await c.complete();
      const [first] = await c.receives(pattern(3000));
      truth((first?.payload.length ?? 0) > 100, `segments of ${first?.payload.length}`);
      await c.closes();
    },
  },
  {
    id: 'tcp-ecn',
    rfc: 'RFC 3168 §6.1.1',
    level: 'must',
    what: 'ECN is agreed on only when the SYN asks for it; a SYN|ACK has ECE alone, never CWR; without agreement nothing is marked ECT.',
    where: 'controller/proto/tcp/to-tap.ts',
    run: async (t) => {
      const plain = await TcpTalk.open(t);
      truth(!plain.synAck?.flags.includes('E'), `flags ${plain.synAck?.flags}`);
      await plain.receives(pattern(3000));
      t.rewind();
      t.none((f) => plain.isMine(f) && ((f.ip?.tos ?? 0) & 3) !== 0, 'ECT');
      await plain.closes();
      const u = t.sibling();
      const c = new TcpTalk(u, await u.listen());
      c.stray('SEC', { seq: c.iss, ack: 0 });
      c.seq = add(c.iss, 1);
      const synAck = await c.expect((s) => s.flags.includes('S'), 'SYN|ACK');
      truth(synAck.flags === 'SA' || synAck.flags === 'SAE', `flags ${synAck.flags}`);
      c.ack = add(synAck.seq, 1);
      await c.complete();
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-reserved',
    rfc: 'RFC 9293 §3.1, RFC 3168 §6.1',
    level: 'must',
    what: 'Reserved bits in SYN and data are ignored, and not sent.',
    where: 'controller/wire/tcp.ts',
    run: async (t) => {
      const c = new TcpTalk(t, await t.listen());
      c.stray('S', { seq: c.iss, ack: 0, reserved: 0b1110 });
      c.seq = add(c.iss, 1);
      c.ack = add((await c.expect((s) => s.flags.includes('S'), 'SYN|ACK')).seq, 1);
      await c.complete();
      c.send('PA', pattern(50), { reserved: 0b0110 });
      await c.acknowledged();
      await c.delivered(pattern(50));
      await c.closes();
    },
  },
];
