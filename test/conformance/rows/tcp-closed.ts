// SPDX-License-Identifier: Apache-2.0
/** TCP: segments that belong to no connection, and those that no connection may come of. */
import { add, ETHERTYPE, ipv4, ipv6, PROTOCOL, pattern, tcp } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, same, type Talk, truth } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/open.ts';
const nowhere = 'controller/proto/tcp/from-tap.ts';

/** A segment for a connection that there is not, and the reset that comes for it. */
const refused = async (
  t: Talk,
  fields: { flags: string; seq: number; ack?: number },
  payload?: Uint8Array,
): Promise<{ seq: number; ack: number; flags: string }> => {
  const dstPort = t.closedPort();
  t.send(t.tcp({ dstPort, ...fields }, payload));
  const { tcp: reply } = await t.expect((f) => t.isTcp(f), 'a reset');
  equal(reply?.srcPort, dstPort, 'port');
  truth(reply?.flags.includes('R'), `flags ${reply?.flags}`);
  truth(!reply?.flags.includes('S'), `flags ${reply?.flags}`);
  return { seq: reply?.seq ?? 0, ack: reply?.ack ?? 0, flags: reply?.flags ?? '' };
};

export const TCP_CLOSED_ROWS: readonly Row[] = [
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
      const dstPort = t.closedPort();
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
      const closed = t.closedPort();
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
