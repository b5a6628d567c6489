// SPDX-License-Identifier: Apache-2.0
/** TCP: the handshake. */
import { add, distance, pattern } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, truth, until } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/open.ts';
const nowhere = 'controller/proto/tcp/from-tap.ts';

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
];
