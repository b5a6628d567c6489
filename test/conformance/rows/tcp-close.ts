// SPDX-License-Identifier: Apache-2.0
/** TCP: ends of connections, from either side, orderly and not. */
import { add, pattern } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, same, truth, until } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/finish.ts';
const close = 'controller/proto/tcp/close.ts';
const receiver = 'controller/proto/tcp/from-tap.ts';

export const TCP_CLOSE_ROWS: readonly Row[] = [
  {
    id: 'tcp-half-close-guest',
    rfc: 'RFC 9293 §3.6, §3.10.4',
    level: 'must',
    what: "After the guest's FIN the server sees the end of file and may go on sending; the guest gets it all, then the FIN.",
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.send('PA', pattern(100));
      c.send('FA');
      await c.acknowledged('the acknowledgement of the FIN');
      await until(() => c.server.ended, 'end of file at the server');
      same(c.server.received, pattern(100), 'what came before it');
      await c.receives(pattern(20_000, 2));
      t.bed.peer.end(c.server);
      await c.takesFin();
      await until(() => c.server.closed, 'the end at the server');
      equal(c.server.error, undefined, 'error at the server');
    },
  },
  {
    id: 'tcp-half-close-server',
    rfc: 'RFC 9293 §3.6, §3.10.4',
    level: 'must',
    what: "After the server's FIN the guest may go on sending; the server gets it all.",
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      t.bed.peer.write(c.server, pattern(3000));
      t.bed.peer.end(c.server);
      await c.collect(pattern(3000));
      await c.takesFin();
      const data = pattern(10_000, 3);
      for (let at = 0; at < data.length; at += 1000) c.send('PA', data.subarray(at, at + 1000));
      await c.acknowledged();
      await c.delivered(data);
      c.send('FA');
      await c.acknowledged('the acknowledgement of the FIN');
      await until(() => c.server.closed, 'the end at the server');
      equal(c.server.error, undefined, 'error at the server');
    },
  },
  {
    id: 'tcp-fin-data',
    rfc: 'RFC 9293 §3.10.7.4 (seventh, eighth step)',
    level: 'must',
    what: 'Data and FIN in one segment, and a FIN before the data that it follows, count in their order.',
    where: receiver,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.send('FPA', pattern(500));
      await c.acknowledged();
      await until(() => c.server.ended, 'end of file at the server');
      same(c.server.received, pattern(500), 'the data');
      t.bed.peer.end(c.server);
      await c.takesFin();
      const d = await TcpTalk.open(t.sibling());
      d.stray('FA', { seq: add(d.seq, 300) });
      equal((await d.expect(() => true, 'a duplicate acknowledgement')).ack, d.seq, 'acknowledgement');
      truth(!d.server.ended, 'the end came before the data');
      d.send('PA', pattern(300));
      await d.expect((s) => s.ack === d.seq || s.ack === add(d.seq, 1), 'the acknowledgement of the data');
      d.send('FA');
      await d.acknowledged();
      await until(() => d.server.ended, 'end of file at the server');
      same(d.server.received, pattern(300), 'the data');
      t.bed.peer.end(d.server);
      await d.takesFin();
    },
  },
  {
    id: 'tcp-simultaneous-close',
    rfc: 'RFC 9293 §3.6 (case 3), figure 13',
    level: 'must',
    what: 'FINs that cross: each is acknowledged, and both ends are at an end.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      t.bed.peer.end(c.server);
      const fin = await c.expect((s) => s.flags.includes('F'), 'FIN');
      // Ours says that it has not seen that one.
      c.send('FA');
      equal(fin.seq, c.ack, 'sequence number of the FIN');
      await c.acknowledged('the acknowledgement of the FIN');
      c.ack = add(c.ack, 1);
      c.send('A');
      await until(() => c.server.closed, 'the end at the server');
      equal(c.server.error, undefined, 'error at the server');
    },
  },
  {
    id: 'tcp-fin-repeated',
    rfc: 'RFC 9293 §3.10.7.4 (TIME-WAIT), §3.6.1',
    level: 'must',
    what: "A FIN that comes again because its acknowledgement was lost is acknowledged again, also after the server's side is closed.",
    where: close,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      t.bed.peer.end(c.server);
      await c.takesFin();
      c.send('FA');
      await c.acknowledged('the acknowledgement of the FIN');
      await until(() => c.server.closed, 'the end at the server');
      c.stray('FA', { seq: add(c.seq, -1) });
      const again = await c.expect(() => true, 'an answer to the FIN that came again');
      equal(again.flags, 'A', 'flags');
      equal(again.ack, c.seq, 'acknowledgement');
    },
  },
  {
    id: 'tcp-time-wait-reuse',
    rfc: 'RFC 9293 §3.6.1 (MAY-2), RFC 6191 §2, RFC 1122 §4.2.2.13',
    level: 'may',
    what: 'The same ports are used again right after the end: a SYN beyond the old numbers opens a new connection.',
    where: 'controller/proto/tcp/open.ts',
    run: async (t) => {
      const listener = await t.listen();
      const c = await TcpTalk.open(t, { listener });
      t.bed.peer.end(c.server);
      await c.takesFin();
      c.send('FA');
      await c.acknowledged('the acknowledgement of the FIN');
      await until(() => c.server.closed, 'the end at the server');
      const again = await TcpTalk.open(t, { listener, iss: add(c.seq, 50_000) });
      await again.converse(2000);
    },
  },
  {
    id: 'tcp-reuse-after-close',
    rfc: 'RFC 9293 §3.6.1',
    level: 'must',
    what: 'Ten connections between the same ports, each closed by the guest first, the next SYN right behind the last ACK.',
    where: 'controller/proto/tcp/open.ts',
    run: async (t) => {
      const listener = await t.listen();
      let iss = 0x7000_0000;
      for (let i = 0; i < 10; i++) {
        const c = await TcpTalk.open(t, { listener, iss });
        await c.converse(1500);
        iss = add(c.seq, 100_000);
      }
    },
  },
  {
    id: 'tcp-old-duplicate-after-close',
    rfc: 'RFC 9293 §3.10.7.1, §3.10.7.4 (TIME-WAIT)',
    level: 'must',
    what: 'Old data behind the end of a connection is acknowledged again or reset, and never delivered.',
    where: receiver,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.send('PA', pattern(40));
      await c.acknowledged();
      await c.closes();
      c.stray('PA', { seq: add(c.iss, 1) }, pattern(40));
      const answer = await c.expect(() => true, 'an answer');
      truth(answer.flags.includes('R') || answer.ack === c.seq, `flags ${answer.flags}`);
      same(c.server.received, pattern(40), 'what the server got');
    },
  },
  {
    id: 'tcp-server-reset',
    rfc: 'RFC 9293 §3.10.5, §3.5.2',
    level: 'must',
    what: "The server's reset reaches the guest with exactly the next number, so that it is believed (RFC 5961).",
    where: close,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      await c.receives(pattern(100));
      t.bed.peer.reset(c.server);
      equal((await c.reset()).seq, c.ack, 'sequence number');
      const d = await TcpTalk.open(t.sibling());
      d.send('PA', pattern(10));
      await d.acknowledged();
      t.bed.peer.reset(d.server);
      equal((await d.reset()).seq, d.ack, 'sequence number');
    },
  },
  {
    id: 'tcp-close-unread',
    rfc: 'RFC 1122 §4.2.2.13, RFC 9293 §3.6.1 (SHLD-3)',
    level: 'should',
    what: 'A server that closes with data unread resets the connection.',
    where: close,
    run: async (t) => {
      const c = await TcpTalk.open(t, { paused: true });
      c.send('PA', pattern(1000));
      await c.acknowledged();
      t.bed.peer.destroy(c.server);
      equal((await c.reset()).seq, c.ack, 'sequence number');
    },
  },
  {
    id: 'tcp-data-to-closed',
    rfc: 'RFC 1122 §4.2.2.13, RFC 9293 §3.6.1',
    level: 'should',
    what: 'Data for a server that has closed both ways is answered by a reset.',
    where: close,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      t.bed.peer.destroy(c.server);
      await c.takesFin();
      c.send('PA', pattern(50));
      await c.reset();
    },
  },
  {
    id: 'tcp-data-after-fin',
    rfc: 'RFC 9293 §3.10.7.4 (seventh step)',
    level: 'must',
    what: "Data behind the guest's own FIN is not taken.",
    where: receiver,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.send('FPA', pattern(30));
      await c.acknowledged();
      c.stray('PA', {}, pattern(30, 5));
      await t.sentinel();
      await c.receives(pattern(100));
      same(c.server.received, pattern(30), 'what the server got');
      t.bed.peer.end(c.server);
      await c.takesFin();
    },
  },
  {
    id: 'tcp-reset-after-fin',
    rfc: 'RFC 9293 §3.10.7.4 (second check)',
    level: 'must',
    what: 'A reset in each of the states of closing ends the connection at the server, too.',
    where: receiver,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.send('FA');
      await c.acknowledged();
      c.stray('R');
      await t.sentinel();
      // A server at end of file looks again when it writes.
      await until(() => {
        t.bed.peer.write(c.server, pattern(1));
        return c.server.closed;
      }, 'the end at the server');
      const d = await TcpTalk.open(t.sibling());
      t.bed.peer.end(d.server);
      await d.takesFin();
      d.stray('R');
      await until(() => d.server.closed, 'the end at the server');
    },
  },
];
