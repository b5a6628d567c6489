// SPDX-License-Identifier: Apache-2.0
/** TCP: the handshake, its options, and segments that belong to no connection. */
import {
  add,
  bytes,
  distance,
  ETHERTYPE,
  ipv4,
  ipv6,
  PROTOCOL,
  paddedOptions,
  pattern,
  tcp,
  u8,
  u16,
} from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, same, type Talk, truth, until } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/open.ts';
const nowhere = 'controller/proto/tcp/from-tap.ts';

/** A segment for a connection that there is not, and the reset that comes for it. */
const refused = async (
  t: Talk,
  fields: { flags: string; seq: number; ack?: number },
  payload?: Uint8Array,
): Promise<{ seq: number; ack: number; flags: string }> => {
  const dstPort = await t.closedPort();
  t.send(t.tcp({ dstPort, ...fields }, payload));
  const { tcp: reply } = await t.expect((f) => t.isTcp(f), 'a reset');
  equal(reply?.srcPort, dstPort, 'port');
  truth(reply?.flags.includes('R'), `flags ${reply?.flags}`);
  truth(!reply?.flags.includes('S'), `flags ${reply?.flags}`);
  return { seq: reply?.seq ?? 0, ack: reply?.ack ?? 0, flags: reply?.flags ?? '' };
};
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

export const TCP_OPEN_ROWS: readonly Row[] = [
  {
    id: 'tcp-handshake',
    rfc: 'RFC 9293 §3.5, §3.10.7.2',
    level: 'must',
    what: 'SYN, SYN|ACK that acknowledges it, ACK; data both ways; an orderly end from the guest.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      equal(c.synAck?.payload.length, 0, 'data with the SYN|ACK');
      await c.converse(5000);
    },
  },
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
    id: 'tcp-isn',
    rfc: 'RFC 6528 §3, RFC 9293 §3.4.1 (SHLD-1)',
    level: 'should',
    what: 'Initial sequence numbers of different connections have nothing to do with each other.',
    where,
    run: async (t) => {
      const numbers: number[] = [];
      for (let i = 0; i < 8; i++) {
        const c = await TcpTalk.open(t.sibling());
        numbers.push(c.irs);
        await c.closes();
      }
      const steps = numbers.slice(1).map((n, i) => distance(n, numbers[i] ?? 0));
      const near = steps.filter((step) => Math.abs(step) < 1_000_000);
      truth(near.length <= 1, `steps ${steps.join(', ')}`);
    },
  },
  {
    id: 'tcp-isn-same-ports',
    rfc: 'RFC 6528 §3, RFC 9293 §3.4.1',
    level: 'should',
    what: 'Those of one connection after another between the same ports grow with the clock, so that old segments are not taken for new ones.',
    where,
    run: async (t) => {
      const listener = await t.listen();
      const one = await TcpTalk.open(t, { listener });
      one.stray('R', { seq: one.seq });
      await until(() => one.server.closed, 'the end of the first connection');
      const two = await TcpTalk.open(t, { listener, iss: add(one.seq, 100_000) });
      const step = distance(two.irs, one.irs);
      truth(step > 0 && step < 0x4000_0000, `the second begins ${step} behind the first`);
      await two.closes();
    },
  },
  {
    id: 'tcp-third-segment',
    rfc: 'RFC 9293 §3.10.7.4 (SYN-RECEIVED)',
    level: 'must',
    what: 'The third segment of the handshake may carry data, or data and FIN, or come in the wrong order.',
    where: nowhere,
    run: async (t) => {
      const c = await TcpTalk.begin(t);
      c.send('PA', pattern(300));
      await c.acknowledged();
      await until(() => c.listener.connections.length === 1, 'the connection at the server');
      await c.delivered(pattern(300));
      await c.closes();
      const d = await TcpTalk.begin(t.sibling());
      d.send('FPA', pattern(200));
      await d.acknowledged();
      await until(() => d.listener.connections[0]?.ended, 'end of file at the server');
      await d.delivered(pattern(200));
      t.bed.peer.end(d.server);
      await d.takesFin();
      const e = await TcpTalk.begin(t.sibling());
      e.stray('PA', { seq: add(e.seq, 100) }, pattern(200).subarray(100));
      e.send('PA', pattern(200).subarray(0, 100));
      e.seq = add(e.seq, 100);
      await e.acknowledged('the acknowledgement of both').catch(async () => {
        e.stray('PA', { seq: add(e.seq, -100) }, pattern(200).subarray(100));
        await e.acknowledged('the acknowledgement of what was sent again');
      });
      await until(() => e.listener.connections.length === 1, 'the connection at the server');
      await e.delivered(pattern(200));
      await e.closes();
    },
  },
  {
    id: 'tcp-syn-repeated',
    rfc: 'RFC 9293 §3.8.1, §3.10.7.4',
    level: 'must',
    what: 'A repeated SYN gets the same SYN|ACK, or a challenge; there is one connection.',
    where: nowhere,
    run: async (t) => {
      const c = await TcpTalk.begin(t);
      c.sendSyn({ mss: 1460 });
      const again = await c.expect(() => true, 'an answer');
      if (again.flags.includes('S')) equal(again.seq, c.irs, 'initial sequence number');
      await c.complete();
      await c.converse(2000);
      equal(c.listener.connections.length, 1, 'connections at the server');
    },
  },
  {
    id: 'tcp-syn-data',
    rfc: 'RFC 9293 §3.4, §3.10.7.2',
    level: 'must',
    what: 'Data with a SYN is acknowledged now or not at all; sent again, it arrives once.',
    where,
    run: async (t) => {
      const c = new TcpTalk(t, await t.listen());
      const data = pattern(100);
      c.stray('S', { seq: c.iss, ack: 0 }, data);
      const synAck = await c.expect((s) => s.flags.includes('S'), 'SYN|ACK');
      truth(synAck.ack === add(c.iss, 1) || synAck.ack === add(c.iss, 101), 'acknowledgement of something else');
      c.ack = add(synAck.seq, 1);
      c.seq = add(c.iss, 1);
      await c.complete();
      c.send('PA', data);
      await c.acknowledged();
      await c.delivered(data);
      await c.closes();
    },
  },
  {
    id: 'tcp-syn-window-0',
    rfc: 'RFC 9293 §3.8.6',
    level: 'must',
    what: 'A SYN that announces a window of 0 opens a connection; data waits for the window.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t, { window: 0 });
      t.bed.peer.write(c.server, pattern(500));
      await t.sentinel();
      t.none((f) => c.isMine(f) && (f.tcp?.payload.length ?? 0) > 1, 'data into a closed window');
      c.window = 8000;
      c.send('A');
      await c.collect(pattern(500));
      await c.closes();
    },
  },
  {
    id: 'tcp-syn-ack-wrong-ack',
    rfc: 'RFC 9293 §3.10.7.4 (SYN-RECEIVED)',
    level: 'must',
    what: 'An ACK of something else than the SYN|ACK is answered by a reset with that number; the right one still opens the connection.',
    where: nowhere,
    run: async (t) => {
      const c = await TcpTalk.begin(t);
      c.stray('A', { ack: add(c.ack, 5000) });
      const reset = await c.reset();
      equal(reset.seq, add(c.ack, 5000), 'sequence number');
      await c.complete();
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-syn-received-reset',
    rfc: 'RFC 9293 §3.10.7.4 (SYN-RECEIVED)',
    level: 'must',
    what: 'A reset in place of the third segment ends it: the ports are free, and the same SYN later opens a new one.',
    where: nowhere,
    run: async (t) => {
      const c = await TcpTalk.begin(t);
      c.stray('R', { seq: c.seq });
      await t.sentinel();
      const again = await TcpTalk.open(t, { listener: c.listener, iss: add(c.iss, 77_777) });
      await again.lives().catch(() => {});
      truth(c.listener.connections.length <= 2, 'connections at the server');
      again.stray('R', { seq: again.seq });
    },
  },
  {
    id: 'tcp-closed-syn',
    rfc: 'RFC 9293 §3.10.7.1, §3.5.2',
    level: 'must',
    what: 'A SYN to a port where nobody listens: RST|ACK with sequence number 0 that acknowledges the SYN.',
    where,
    run: async (t) => {
      const reply = await refused(t, { flags: 'S', seq: 0xffff_ffff });
      equal(reply.flags, 'RA', 'flags');
      equal(reply.seq, 0, 'sequence number');
      equal(reply.ack, 0, 'acknowledgement');
    },
  },
  {
    id: 'tcp-closed-ack',
    rfc: 'RFC 9293 §3.10.7.1, §3.5.2',
    level: 'must',
    what: 'A segment with ACK for no connection: RST with the acknowledgement as its sequence number.',
    where: nowhere,
    run: async (t) => {
      const reply = await refused(t, { flags: 'PA', seq: 1000, ack: 0x8765_4321 }, pattern(20));
      equal(reply.seq, 0x8765_4321, 'sequence number');
      truth(!reply.flags.includes('A') || reply.ack === 0 || reply.ack === 1020, 'acknowledgement');
    },
  },
  {
    id: 'tcp-closed-data',
    rfc: 'RFC 9293 §3.10.7.1, §3.5.2',
    level: 'must',
    what: 'A segment without ACK for no connection: RST|ACK that acknowledges its data and FIN.',
    where: nowhere,
    run: async (t) => {
      const reply = await refused(t, { flags: 'F', seq: 5000 }, pattern(20));
      equal(reply.flags, 'RA', 'flags');
      equal(reply.seq, 0, 'sequence number');
      equal(reply.ack, 5021, 'acknowledgement');
    },
  },
  {
    id: 'tcp-closed-reset',
    rfc: 'RFC 9293 §3.10.7.1',
    level: 'must',
    what: 'A reset for no connection is discarded, with whatever other flags.',
    where: nowhere,
    run: async (t) => {
      const dstPort = await t.closedPort();
      for (const flags of ['R', 'RA', 'RS', 'RSA', 'RF', 'RFSPAU']) t.send(t.tcp({ dstPort, flags, seq: 1, ack: 1 }));
      await t.silence((f) => t.isTcp(f), 'segment');
    },
  },
  {
    id: 'tcp-listen-ack',
    rfc: 'RFC 9293 §3.10.7.2 (LISTEN)',
    level: 'must',
    what: 'A SYN|ACK, and an ACK, that nobody asked for, to a listening port: RST with the acknowledgement as its number.',
    where: nowhere,
    run: async (t) => {
      const listener = await t.listen();
      for (const flags of ['SA', 'A']) {
        t.send(t.tcp({ dstPort: listener.port, flags, seq: 9, ack: 0x1111_2222 }));
        const { tcp: reply } = await t.expect((f) => t.isTcp(f), 'a reset');
        truth(reply?.flags.includes('R'), `flags ${reply?.flags}`);
        equal(reply?.seq, 0x1111_2222, 'sequence number');
      }
      equal(listener.connections.length, 0, 'connections at the server');
    },
  },
  {
    id: 'tcp-listen-contradictory',
    rfc: 'RFC 9293 §3.10.7.2 (LISTEN)',
    level: 'must',
    what: 'SYN with RST, SYN with FIN, no flag, and FIN alone open nothing.',
    where: nowhere,
    run: async (t) => {
      const listener = await t.listen();
      for (const flags of ['SR', 'SF', '', 'F', 'U', 'FPU']) t.send(t.tcp({ dstPort: listener.port, flags, seq: 77 }));
      await t.silence((f) => t.isTcp(f) && f.tcp?.flags.includes('S'), 'SYN|ACK');
      equal(listener.connections.length, 0, 'connections at the server');
    },
  },
  {
    id: 'tcp-port-0',
    rfc: 'RFC 6335 §6',
    level: 'must',
    what: 'Port 0 opens nothing, as source and as destination.',
    where: nowhere,
    run: async (t) => {
      const listener = await t.listen();
      t.send(t.tcp({ srcPort: 0, dstPort: listener.port, flags: 'S', seq: 1 }));
      t.send(t.tcp({ dstPort: 0, flags: 'S', seq: 1 }));
      await t.silence((f) => (f.tcp?.dstPort === 0 || t.isTcp(f)) && f.tcp?.flags.includes('S'), 'SYN|ACK');
    },
    notLinux: 'Linux listens to clients at port 0',
  },
  {
    id: 'tcp-group',
    rfc: 'RFC 1122 §4.2.3.10 (MUST-57)',
    level: 'must',
    what: 'A SYN to, or from, a broadcast or group address is silently discarded.',
    where: 'controller/app/demux.ts',
    run: async (t) => {
      const listener = await t.listen();
      const groups = t.family === 4 ? ['255.255.255.255', '224.0.0.1', '239.9.9.9'] : ['ff02::1', 'ff0e::9'];
      for (const group of groups)
        for (const ends of [
          { src: t.guest, dst: group },
          { src: group, dst: t.at.server },
        ]) {
          const syn = tcp(ends, { srcPort: t.port, dstPort: listener.port, flags: 'S', seq: 1 });
          const packet = { protocol: PROTOCOL.tcp, ...ends };
          t.send(
            t.family === 4
              ? t.ethernet(ETHERTYPE.ipv4, ipv4(packet, syn))
              : t.ethernet(ETHERTYPE.ipv6, ipv6(packet, syn)),
          );
        }
      await t.silence((f) => t.isTcp(f) || t.isError(f), 'answer');
      equal(listener.connections.length, 0, 'connections at the server');
    },
  },
  {
    id: 'tcp-link-broadcast',
    rfc: 'RFC 1122 §3.3.6, §3.2.2',
    level: 'must',
    what: 'Packets to one host in a frame to everybody or to a group: no connection, and no ICMP error.',
    where: 'controller/app/demux.ts',
    run: async (t) => {
      const listener = await t.listen();
      const closed = await t.closedPort();
      for (const mac of ['ffffffffffff', '01005e000001', '333300000001'])
        for (const frame of [
          t.tcp({ dstPort: listener.port, flags: 'S', seq: 1 }),
          t.tcp({ dstPort: closed, flags: 'A', seq: 1 }),
          t.udp(closed, pattern(10)),
        ]) {
          frame.write(mac, 0, 'hex');
          t.send(frame);
        }
      // What an answer through the host would take.
      await t.sibling().echoes(await t.echoServer(), pattern(10));
      await t.silence((f) => t.isTcp(f) || t.isError(f), 'answer');
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
  {
    id: 'tcp-any-guest',
    rfc: 'RFC 1812 §5.2.1',
    level: 'should',
    what: 'Connections come from any address the guest has.',
    where: 'controller/flow/table.ts',
    run: async (t) => {
      t.guest = t.family === 4 ? '192.0.2.77' : '2001:db8:1::77';
      await (await TcpTalk.open(t)).converse(2000);
    },
  },
  {
    id: 'tcp-header-lies',
    rfc: 'RFC 9293 §3.1',
    level: 'must',
    what: 'A data offset below 5 or beyond the segment, and a segment cut at each byte of its header, are discarded.',
    where: 'controller/wire/tcp.ts',
    run: async (t) => {
      const listener = await t.listen();
      for (const offsetWords of [0, 1, 4, 6, 15])
        t.send(t.tcp({ dstPort: listener.port, flags: 'S', seq: 5, offsetWords }));
      const syn = tcp(
        { src: t.guest, dst: t.at.server },
        { srcPort: t.port, dstPort: listener.port, flags: 'S', seq: 5 },
      );
      for (let n = 0; n < 20; n++) t.send(t.ip({ protocol: PROTOCOL.tcp }, syn.subarray(0, n)));
      await t.silence((f) => t.isTcp(f), 'segment');
    },
  },
  {
    id: 'tcp-checksum',
    rfc: 'RFC 9293 §3.1 (MUST-2, MUST-3)',
    level: 'must',
    what: 'A SYN or data with a wrong checksum is as if it had not come; sent again, it counts.',
    where: nowhere,
    run: async (t) => {
      const c = new TcpTalk(t, await t.listen());
      for (const checksum of [0, 0xffff, 0x1234]) c.stray('S', { seq: c.iss, ack: 0, checksum });
      await t.silence((f) => c.isMine(f), 'segment');
      c.sendSyn({ mss: 1460 });
      c.ack = add((await c.expect((s) => s.flags.includes('S'), 'SYN|ACK')).seq, 1);
      await c.complete();
      c.stray('PA', { checksum: 0x4321 }, Buffer.alloc(50));
      await c.silence('acknowledgement of what did not come');
      c.send('PA', pattern(50));
      await c.acknowledged();
      await c.delivered(pattern(50));
      same(c.server.received, pattern(50), 'the data');
      await c.closes();
    },
  },
];
