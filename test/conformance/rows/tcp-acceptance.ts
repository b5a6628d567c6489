// SPDX-License-Identifier: Apache-2.0
/** TCP: segments of a connection that must not hurt it. */
import { add, pattern, tcpOptions, u8 } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, type Talk, truth, until } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/from-tap.ts';

export const TCP_ACCEPTANCE_ROWS: readonly Row[] = [
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
];

/** Linux answers segments that are out of order or outside the window once in half a second (tcp_invalid_ratelimit). */
const settle = (t: Talk): Promise<void> => new Promise((done) => setTimeout(done, t.onLinux ? 550 : 0));
