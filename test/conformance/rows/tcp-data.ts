// SPDX-License-Identifier: Apache-2.0
/** TCP: data, acknowledgements, windows, and segments that must not hurt. */
import { add, bytes, distance, paddedOptions, pattern, tcpOptions, u8 } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, same, type Talk, truth, until } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/from-tap.ts';
const sender = 'controller/proto/tcp/to-tap.ts';
const windows = 'controller/proto/tcp/window.ts';

/** Fills the window that a server which does not read leaves; gives what was sent. */
const fill = async (c: TcpTalk): Promise<Buffer> => {
  const parts: Buffer[] = [];
  let edge = add(c.ack, 0);
  let scale = c.synAck?.scale ?? 0;
  let window = c.synAck?.window ?? 0;
  edge = add(c.seq, window);
  for (let rounds = 0; rounds < 2000; rounds++) {
    const room = distance(edge, c.seq);
    if (room <= 0) break;
    const part = pattern(Math.min(room, 1400), rounds + 1);
    parts.push(part);
    c.send('A', part);
    if (room > 1400 && rounds % 16 !== 15) continue;
    const s = await c.acknowledged('the acknowledgement of what filled the window');
    scale = c.synAck?.scale ?? 0;
    window = s.window << scale;
    edge = add(s.ack, window);
  }
  return Buffer.concat(parts);
};
const ended = async (t: Talk, c: TcpTalk): Promise<void> => {
  c.stray('RA', {});
  await t.sentinel();
};

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
    id: 'tcp-push',
    rfc: 'RFC 9293 §3.9.1.2 (MUST-60, MUST-61)',
    level: 'must',
    what: 'The last segment of what there is to send has PSH.',
    where: sender,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      for (const size of [10, 5000])
        truth((await c.receives(pattern(size))).at(-1)?.flags.includes('P'), `no PSH at ${size}`);
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
    id: 'tcp-beyond-window',
    rfc: 'RFC 9293 §3.10.7.4 (first check)',
    level: 'must',
    what: 'Data beyond the window is not taken, and answered by an acknowledgement of the state.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.stray('PA', { seq: add(c.seq, 0x2000_0000) }, pattern(100));
      await c.challenge('an acknowledgement');
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-keepalive',
    rfc: 'RFC 1122 §4.2.3.6, RFC 9293 §3.8.4',
    level: 'must',
    what: 'A keep-alive, without data and with one byte of garbage, at the number before the next, is acknowledged; the garbage goes nowhere.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.send('PA', pattern(10));
      await c.acknowledged();
      c.stray('A', { seq: add(c.seq, -1) });
      await c.challenge('the answer to a keep-alive');
      await settle(t);
      c.stray('A', { seq: add(c.seq, -1) }, u8(0xff));
      await c.challenge('the answer to a keep-alive with a byte');
      await c.delivered(pattern(10));
      await c.lives();
      await c.closes();
    },
    slow: true,
  },
  {
    id: 'tcp-no-ack-flag',
    rfc: 'RFC 9293 §3.10.7.4 (fifth check)',
    level: 'must',
    what: 'A segment without ACK in a connection is dropped, data and all.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.stray('P', { ack: 0 }, pattern(60, 9));
      c.stray('', { ack: 0 }, pattern(60, 9));
      await c.silence('acknowledgement');
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-ack-future',
    rfc: 'RFC 9293 §3.10.7.4 (fifth check), RFC 5961 §5.2',
    level: 'must',
    what: 'An acknowledgement of what was never sent is answered by one, and its data is dropped.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.stray('PA', { ack: add(c.ack, 1) }, pattern(60, 9));
      await c.challenge('an acknowledgement');
      await settle(t);
      c.stray('PA', { ack: add(c.ack, 0x4000_0000) }, pattern(60, 9));
      await c.challenge('an acknowledgement');
      await c.lives();
      await c.closes();
    },
    slow: true,
  },
  {
    id: 'tcp-ack-ancient',
    rfc: 'RFC 5961 §5.2',
    level: 'must',
    what: 'Data with an acknowledgement older than the largest window ever is not taken, but challenged.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.stray('PA', { ack: add(c.ack, -0x4000_0000) }, pattern(60, 9));
      await c.challenge('a challenge');
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-ack-old',
    rfc: 'RFC 9293 §3.10.7.4 (fifth check)',
    level: 'must',
    what: 'Data with an acknowledgement that is a little old is taken all the same.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      await c.receives(pattern(500));
      c.send('PA', pattern(60), { ack: add(c.ack, -200) });
      await c.acknowledged();
      await c.delivered(pattern(60));
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
  {
    id: 'tcp-sack-lies',
    rfc: 'RFC 2018 §8, RFC 6675 §3',
    level: 'must',
    what: 'SACK blocks of what was never sent, turned round, or empty do no harm.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 1460, sackPermitted: true } });
      await c.receives(pattern(100));
      for (const [left, right] of [
        [5000, 9000],
        [-9000, -5000],
        [10, -10],
        [0, 0],
        [0, 0x7fff_ffff],
      ] as const)
        c.stray('A', { options: tcpOptions({ sack: [[add(c.ack, left), add(c.ack, right)]] }) });
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-reset-exact',
    rfc: 'RFC 9293 §3.10.7.4 (second check), RFC 5961 §3.2',
    level: 'must',
    what: 'A reset with exactly the next number ends the connection, and the server hears of it.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.stray('R');
      await until(() => c.server.closed, 'the end at the server');
      equal(c.server.error, 'ECONNRESET', 'error at the server');
      c.stray('PA', {}, pattern(5));
      truth((await c.reset('the reset for data to no connection')).seq === c.ack, 'sequence number');
    },
  },
  {
    id: 'tcp-reset-in-window',
    rfc: 'RFC 5961 §3.2',
    level: 'must',
    what: 'A reset elsewhere in the window is challenged; the connection goes on.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.stray('R', { seq: add(c.seq, 100) });
      await c.challenge('a challenge');
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-reset-outside',
    rfc: 'RFC 5961 §3.2, RFC 9293 §3.10.7.4',
    level: 'must',
    what: 'A reset outside the window is dropped without a word.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.stray('R', { seq: add(c.seq, -5) });
      c.stray('RA', { seq: add(c.seq, 0x3000_0000) });
      await c.silence('answer');
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-syn-challenge',
    rfc: 'RFC 5961 §4.2',
    level: 'must',
    what: 'A SYN, and a SYN|ACK, in a connection, with any number, is challenged and does nothing else.',
    where,
    run: async (t) => {
      const seqs: ((c: TcpTalk) => [string, number])[] = [
        (c) => ['S', c.iss],
        (c) => ['S', c.seq],
        (c) => ['S', add(c.seq, 1000)],
        (c) => ['SA', c.seq],
        (c) => ['S', add(c.seq, 0x5000_0000)],
      ];
      for (const make of seqs) {
        const c = await TcpTalk.open(t.sibling());
        const [flags, seq] = make(c);
        c.stray(flags, { seq });
        await c.challenge('a challenge');
        await c.lives();
        await c.closes();
      }
    },
  },
  {
    id: 'tcp-challenge-flood',
    rfc: 'RFC 5961 §7',
    level: 'should',
    what: 'Two hundred segments that want a challenge get few; the connection lives.',
    where: 'controller/proto/tcp/challenge.ts',
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const from = t.cursor;
      for (let n = 0; n < 200; n++) c.stray(n % 2 === 0 ? 'S' : 'R', { seq: add(c.seq, 1 + n) });
      await t.sentinel();
      const said = t.bed.wire.frames.slice(from).filter((f) => c.isMine(f)).length;
      truth(said >= 1 && said <= 40, `${said} answers to 200`);
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-every-flag',
    rfc: 'RFC 9293 §3.10.7.4',
    level: 'must',
    what: 'All 256 combinations of flags, far outside the window, leave the connection as it is.',
    where,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const letters = [...'FSRPAUEC'];
      for (let bits = 0; bits < 256; bits++) {
        const flags = letters.filter((_, i) => (bits & (1 << i)) !== 0).join('');
        c.stray(flags, { seq: add(c.seq, 0x4000_0000), ack: add(c.ack, 0x4000_0000) }, pattern(bits % 3));
      }
      await t.sentinel();
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-window-edge',
    rfc: 'RFC 9293 §3.8.6 (MUST-33)',
    level: 'must',
    what: 'The right edge of the window that is announced never moves back, also when the server reads nothing.',
    where: windows,
    run: async (t) => {
      const c = await TcpTalk.open(t, { paused: true });
      await fill(c);
      t.rewind();
      let edge = add(c.synAck?.ack ?? 0, c.synAck?.window ?? 0);
      for (const f of t.bed.wire.frames.slice(t.cursor)) {
        if (!c.isMine(f) || f.tcp === undefined || f.tcp.flags.includes('S')) continue;
        const next = add(f.tcp.ack, f.tcp.window);
        truth(distance(next, edge) >= 0, `the edge moved back by ${distance(edge, next)}`);
        edge = next;
      }
      await ended(t, c);
    },
  },
  {
    id: 'tcp-window-full',
    rfc: 'RFC 9293 §3.8.6.1, §3.10.7.4',
    level: 'must',
    what: 'A server that does not read closes the window; what is sent into it is answered by an acknowledgement; once it reads, all arrives.',
    where: windows,
    run: async (t) => {
      const c = await TcpTalk.open(t, { paused: true });
      const data = await fill(c);
      c.stray('A', {}, pattern(1, 77));
      const answer = await c.expect((s) => s.ack === c.seq, 'the answer to a window probe');
      equal(answer.window, 0, 'window');
      t.bed.peer.resume(c.server);
      await c.expect((s) => s.window > 0, 'the window that opens again');
      await c.delivered(data);
      c.send('PA', pattern(7, 78));
      await c.acknowledged();
      await until(() => c.server.received.length === data.length + 7, 'the last data at the server');
      await c.closes();
    },
  },
  {
    id: 'tcp-window-scaled',
    rfc: 'RFC 7323 §2.2, §2.3',
    level: 'must',
    what: 'With scaling agreed on, more than 64 KiB may be on the way to a server that does not read, and all of it arrives.',
    where: windows,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 1460, scale: 7 }, paused: true });
      const data = await fill(c);
      truth(data.length > 65_535, `only ${data.length} bytes`);
      t.bed.peer.resume(c.server);
      await c.delivered(data);
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-window-obeyed',
    rfc: 'RFC 9293 §3.8.6',
    level: 'must',
    what: 'No more is sent than the window that the guest announced (1000 bytes of 10000), then as much as it opens by.',
    where: sender,
    run: async (t) => {
      const c = await TcpTalk.open(t, { window: 1000 });
      const data = pattern(10_000);
      t.bed.peer.write(c.server, data);
      let got = Buffer.alloc(0);
      while (got.length < data.length) {
        const s = await c.expect((each) => each.payload.length > 0 && each.seq === c.ack, 'data in order');
        got = Buffer.concat([got, s.payload]);
        c.ack = add(c.ack, s.payload.length);
        await t.sentinel();
        const beyond = (f: { tcp?: { seq: number; payload: Buffer } }): boolean =>
          f.tcp !== undefined && distance(add(f.tcp.seq, f.tcp.payload.length), c.ack) > 1000;
        t.none((f) => c.isMine(f) && beyond(f), 'data beyond the window');
        c.send('A');
      }
      same(got, data, 'what the server sent');
      await c.closes();
    },
  },
  {
    id: 'tcp-window-shrinks',
    rfc: 'RFC 9293 §3.8.6 (MUST-34, SHLD-14)',
    level: 'must',
    what: 'A guest that takes window back loses nothing, and gets the rest when it opens again.',
    where: sender,
    run: async (t) => {
      const c = await TcpTalk.open(t, { window: 20_000 });
      const data = pattern(60_000);
      t.bed.peer.write(c.server, data);
      await c.expect((s) => s.payload.length > 0, 'data');
      c.window = 100;
      c.send('A');
      await t.sentinel();
      c.window = 65_535;
      c.send('A');
      t.rewind();
      await c.collect(data);
      await c.closes();
    },
  },
  {
    id: 'tcp-window-scale-used',
    rfc: 'RFC 7323 §2.2',
    level: 'must',
    what: 'The window of every segment but the SYN is shifted by what the guest said: a field of 3 with a shift of 10 is 3072 bytes.',
    where: sender,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 1000, scale: 10 }, window: 3 });
      t.bed.peer.write(c.server, pattern(9000));
      const end = (f: { tcp?: { seq: number; payload: Buffer } }): number =>
        f.tcp === undefined ? 0 : distance(add(f.tcp.seq, f.tcp.payload.length), c.ack);
      await t.expect((f) => c.isMine(f) && end(f) > 2000, 'data up to the window');
      await t.sentinel();
      t.rewind();
      t.none((f) => c.isMine(f) && end(f) > 3072, 'data beyond the window');
      await c.collect(pattern(9000));
      await c.closes();
    },
  },
  {
    id: 'tcp-offload',
    rfc: 'RFC 9293 §3.1 (virtio 1.2 §5.1.6.2)',
    level: 'must',
    what: 'A superframe with a partial checksum from the guest, ten segments in one, is taken as those segments.',
    where: 'controller/wire/vnet.ts',
    notLinux: 'the other end of a veth is no tap',
    run: async (t) => {
      const c = await TcpTalk.open(t);
      const data = pattern(14_000);
      c.superframe(data, 1400);
      await c.acknowledged();
      await c.delivered(data);
      await c.closes();
    },
  },
];

/** Linux answers segments that are out of order or outside the window once in half a second (tcp_invalid_ratelimit). */
const settle = (t: Talk): Promise<void> => new Promise((done) => setTimeout(done, t.onLinux ? 550 : 0));
