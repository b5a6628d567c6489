// SPDX-License-Identifier: Apache-2.0
/** TCP: data from the guest, in order and not. */
import { add, bytes, distance, paddedOptions, pattern, u8 } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, same, truth, until } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/from-tap.ts';

export const TCP_DATA_ROWS: readonly Row[] = [
  {
    id: 'tcp-data',
    rfc: 'RFC 9293 §3.10.7.4, §3.8',
    level: 'must',
    what: 'Data of 1 byte, of a segment, and of many is acknowledged and arrives as it was sent; so does what comes back.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      for (const size of [1, 1460 - (t.family === 4 ? 0 : 20), 20_000]) {
        const before = c.server.received.length;
        const data = pattern(size, size);
        for (let at = 0; at < size; at += 1440) c.send('PA', data.subarray(at, at + 1440));
        await c.acknowledged();
        await until(() => c.server.received.length >= before + size, 'the data at the server');
        same(c.server.received.subarray(before), data, 'the data');
        await c.receives(pattern(size, size + 1));
      }
      await c.closes();
    },
  },
  {
    id: 'tcp-sequence-wrap',
    rfc: 'RFC 9293 §3.4',
    level: 'must',
    what: 'The sequence number passes 2^32 and 2^31 in the middle of data, with a gap, and at the FIN.',
    where: 'controller/wire/seq.ts',
    run: async (t) => {
      const c = await TcpTalk.open(t, { iss: 0xffff_fc00 });
      await c.converse(5000);
      const u = t.sibling();
      const d = await TcpTalk.open(u, { iss: 0xffff_fffe - 100 });
      d.send('PA', pattern(100));
      await d.closes();
      const e = await TcpTalk.open(t.sibling(), { iss: 0xffff_ffff });
      await e.converse(100);
      // Where the number taken as a signed one changes its sign.
      for (const iss of [0x7fff_fc00, 0x7fff_ffff - 100]) {
        const f = await TcpTalk.open(t.sibling(), { iss });
        const data = pattern(2500);
        f.stray('PA', { seq: add(f.seq, 2000) }, data.subarray(2000));
        await f.expect(() => true, 'a duplicate acknowledgement');
        f.send('A', data.subarray(0, 1000));
        f.send('A', data.subarray(1000, 2000));
        await f.expect((s) => distance(s.ack, f.seq) >= 0, 'the acknowledgement of what filled the gap');
        f.send('PA', data.subarray(2000));
        await f.acknowledged();
        await f.delivered(data);
        await f.closes();
      }
    },
  },
  {
    id: 'tcp-out-of-order',
    rfc: 'RFC 5681 §4.2, RFC 9293 §3.10.7.4 (SHLD-31)',
    level: 'should',
    what: 'A segment behind a gap is answered at once by a duplicate acknowledgement; when the gap is filled the data is right, and acknowledged.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const data = pattern(3000);
      c.send('A', data.subarray(0, 1000));
      const first = await c.acknowledged();
      c.stray('A', { seq: add(c.seq, 1000) }, data.subarray(2000, 3000));
      const duplicate = await c.expect(() => true, 'a duplicate acknowledgement');
      equal(duplicate.ack, first.ack, 'acknowledgement');
      c.send('A', data.subarray(1000, 2000));
      await c.expect((s) => distance(s.ack, c.seq) >= 0, 'the acknowledgement of what filled the gap');
      c.send('A', data.subarray(2000, 3000));
      await c.acknowledged();
      await c.delivered(data);
      await c.closes();
    },
  },
  {
    id: 'tcp-sack-sent',
    rfc: 'RFC 2018 §4',
    level: 'should',
    what: 'Where SACK was agreed on, the duplicate acknowledgement says what is there, newest first, and the gap filled acknowledges all of it.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 1460, sackPermitted: true } });
      truth(c.synAck?.sackPermitted, 'SACK is not agreed on');
      const data = pattern(3000);
      const at = c.seq;
      c.stray('A', { seq: add(at, 1000) }, data.subarray(1000, 2000));
      const one = await c.expect((s) => s.sack.length > 0, 'an acknowledgement with a SACK block');
      equal(one.sack[0]?.[0], add(at, 1000), 'left edge');
      equal(one.sack[0]?.[1], add(at, 2000), 'right edge');
      c.stray('A', { seq: add(at, 2500) }, data.subarray(2500, 3000));
      const two = await c.expect((s) => s.sack.length === 2, 'an acknowledgement with two SACK blocks');
      equal(two.sack[0]?.[0], add(at, 2500), 'left edge of the newest');
      equal(two.sack[1]?.[0], add(at, 1000), 'left edge of the other');
      c.send('A', data.subarray(0, 1000));
      await c.expect((s) => s.ack === add(at, 2000), 'the acknowledgement of what is whole');
      c.seq = add(at, 2000);
      c.send('A', data.subarray(2000, 2500));
      c.seq = add(at, 3000);
      await c.acknowledged();
      await c.delivered(data);
      await c.closes();
    },
  },
  {
    id: 'tcp-reversed',
    rfc: 'RFC 9293 §3.10.7.4 (SHLD-31), RFC 2018 §4',
    level: 'should',
    what: 'Twenty segments in reverse order, the FIN first of all, then the one that was missing: all arrives, in order, and the end.',
    where: 'controller/proto/tcp/out-of-order.ts',
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 1460, sackPermitted: true } });
      const data = pattern(20_000);
      const at = c.seq;
      c.stray('FA', { seq: add(at, 20_000) });
      for (let n = 19; n >= 0; n--) c.stray('A', { seq: add(at, n * 1000) }, data.subarray(n * 1000, n * 1000 + 1000));
      c.seq = add(at, 20_000);
      await c.expect((s) => distance(s.ack, c.seq) >= 0, 'the acknowledgement of all of it');
      c.send('FA');
      await c.acknowledged('the acknowledgement of the FIN');
      await until(() => c.server.ended, 'end of file at the server');
      same(c.server.received, data, 'the data');
      t.bed.peer.end(c.server);
      await c.takesFin();
    },
  },
  {
    id: 'tcp-overlap',
    rfc: 'RFC 9293 §3.10.7.4 (MAY-14)',
    level: 'must',
    what: 'Segments that repeat a part of what came, before and behind it, give the stream as it was sent.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const data = pattern(2000);
      const at = c.seq;
      for (const [from, to] of [
        [0, 500],
        [250, 750],
        [0, 1000],
        [900, 901],
        [999, 2000],
      ] as const) {
        c.stray('A', { seq: add(at, from) }, data.subarray(from, to));
        c.seq = add(at, Math.max(distance(c.seq, at), to));
        await c.acknowledged();
      }
      await c.delivered(data);
      await c.closes();
    },
  },
  {
    id: 'tcp-duplicate',
    rfc: 'RFC 9293 §3.10.7.4 (first check)',
    level: 'must',
    what: 'A segment all of which came before is answered by an acknowledgement and delivered once.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const at = c.seq;
      c.send('PA', pattern(700));
      await c.acknowledged();
      c.stray('PA', { seq: at }, pattern(700));
      equal((await c.expect(() => true, 'an acknowledgement')).ack, c.seq, 'acknowledgement');
      c.send('PA', pattern(5, 2));
      await c.acknowledged();
      await c.delivered(bytes(pattern(700), pattern(5, 2)));
      await c.closes();
    },
  },
  {
    id: 'tcp-urgent',
    rfc: 'RFC 9293 §3.8.5, RFC 6093 §3, §4',
    level: 'should',
    what: 'Urgent data, with the pointer at its end, inside, and beyond, stays in its place in the stream or leaves it by one byte at most.',
    where,
    differs: 'Linux takes the last urgent byte out of the stream, unless the receiver asked for it inline.',
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const data = pattern(300);
      c.send('PA', data.subarray(0, 100));
      c.send('PAU', data.subarray(100, 200), { urgent: 100 });
      c.send('PA', data.subarray(200, 300));
      await c.acknowledged();
      await until(() => c.server.received.length >= 299, 'the data at the server');
      const got = c.server.received;
      const without = bytes(data.subarray(0, 199), data.subarray(200));
      truth(got.equals(data) || got.equals(without), 'the stream is corrupted');
      await c.closes();
    },
  },
  {
    id: 'tcp-options-data',
    rfc: 'RFC 9293 §3.1 (MUST-5)',
    level: 'must',
    what: 'Options in any segment, also malformed ones, are stepped over: the data behind them is right.',
    where: 'controller/wire/tcp.ts',
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const data = pattern(300);
      c.send('PA', data.subarray(0, 100), { options: Buffer.alloc(40, 1) });
      c.send('PA', data.subarray(100, 200), { options: u8(254, 0, 1, 1) });
      c.send('PA', data.subarray(200, 300), { options: paddedOptions(u8(253, 5, 1, 2, 3)) });
      await c.acknowledged();
      await c.delivered(data);
      await c.closes();
    },
  },
];
