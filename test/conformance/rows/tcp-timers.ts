// SPDX-License-Identifier: Apache-2.0
/** TCP: what happens when nothing comes back. Each of these waits for a timer, so they run beside one another. */
import { add, distance, pattern, tcpOptions } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, same, truth } from '../talk.ts';
import { type Segment, TcpTalk } from '../tcp-talk.ts';

const where = 'controller/proto/tcp/timeout.ts';
const sender = 'controller/proto/tcp/to-tap.ts';

/** Gaps between arrivals double, as far as a busy machine lets one see it: each is at least half as long again. */
const backsOff = (times: readonly number[]): void => {
  const gaps = times.slice(1).map((ms, i) => ms - (times[i] ?? 0));
  for (let i = 1; i < gaps.length; i++)
    truth(
      (gaps[i] ?? 0) >= (gaps[i - 1] ?? 0) * 1.4,
      `no back-off: ${gaps.map((gap) => Math.round(gap)).join(', ')} ms`,
    );
};

export const TCP_TIMER_ROWS: readonly Row[] = [
  {
    id: 'tcp-syn-ack-retransmission',
    rfc: 'RFC 6298 §2.1, §5.5, RFC 9293 §3.8.1',
    level: 'must',
    what: 'A SYN|ACK that is not answered comes again after a second, then after two; the connection opens all the same.',
    where,
    slow: true,
    run: async (t) => {
      const c = await TcpTalk.begin(t);
      const isSynAck = (s: { flags: string }): boolean => s.flags.includes('S');
      const again = await c.expect(isSynAck, 'the SYN|ACK again');
      const third = await c.expect(isSynAck, 'the SYN|ACK a third time');
      equal(again.seq, c.irs, 'initial sequence number');
      truth(again.ms - (c.synAck?.ms ?? 0) >= 900, 'it came again too early');
      backsOff([c.synAck?.ms ?? 0, again.ms, third.ms]);
      await c.complete();
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-retransmission',
    rfc: 'RFC 6298 §5.4, §5.5, §5.6, RFC 9293 §3.8.1',
    level: 'must',
    what: 'Data that is not acknowledged comes again, with the same number and bytes, with back-off; acknowledged at last, all is as before.',
    where,
    slow: true,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      t.bed.peer.write(c.server, pattern(900));
      const sent: Segment[] = [];
      // The second may be a loss probe (RFC 8985 §7): back-off is looked at behind it.
      for (let i = 0; i < 5; i++) {
        const s = await c.expect(
          (each) => each.payload.length > 0,
          `the data again, behind ${sent.map((e) => Math.round(e.ms - (sent[0]?.ms ?? 0))).join(', ')} ms`,
        );
        equal(s.seq, c.ack, 'sequence number');
        same(s.payload, pattern(900).subarray(0, s.payload.length), 'the data');
        sent.push(s);
      }
      backsOff(sent.slice(1).map((s) => s.ms));
      t.rewind();
      await c.collect(pattern(900));
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-fast-retransmit',
    rfc: 'RFC 5681 §3.2',
    level: 'should',
    what: 'The third duplicate acknowledgement brings the missing segment again, before the timer does.',
    where: sender,
    slow: true,
    run: async (t) => {
      // A busy machine may be slower than the timer; a stack without the rule is slower each time.
      for (let tries = 1; ; tries++) {
        const c = await TcpTalk.open(t.sibling(), { options: { mss: 500 } });
        await c.receives(pattern(20_000));
        t.bed.peer.write(c.server, pattern(4000, 2));
        const first = await c.expect((s) => s.payload.length > 0 && s.seq === c.ack, 'data');
        await c.t.sentinel();
        for (let n = 0; n < 4; n++) c.stray('A');
        const again = await c.expect((s) => s.payload.length > 0 && s.seq === c.ack, 'the data again');
        const waited = again.ms - first.ms;
        c.stray('R');
        if (waited < 180) return;
        truth(tries < 5, `it came after ${Math.round(waited)} ms`);
      }
    },
  },
  {
    id: 'tcp-sack-recovery',
    rfc: 'RFC 2018 §5, RFC 6675 §5',
    level: 'should',
    what: 'What the guest says it has (SACK) is not sent again; the gap is, and all arrives.',
    where: sender,
    slow: true,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 500, sackPermitted: true } });
      await c.receives(pattern(20_000));
      t.bed.peer.write(c.server, pattern(5000, 2));
      const from = c.ack;
      await c.expect((s) => distance(add(s.seq, s.payload.length), from) >= 5000, 'all of the data');
      // The first segment is lost, the rest is there.
      for (let n = 2; n <= 5; n++)
        c.stray('A', { options: tcpOptions({ sack: [[add(from, 500), add(from, n * 1000)]] }) });
      // A probe of the last segment may come before (RFC 8985 §7).
      const again = await c.expect((s) => s.payload.length > 0 && s.seq === from, 'the missing segment');
      truth(again.payload.length <= 500, `${again.payload.length} bytes in place of the 500 that are missing`);
      c.ack = add(from, 5000);
      c.send('A');
      await c.lives();
      await c.closes();
    },
  },
  {
    id: 'tcp-fin-retransmission',
    rfc: 'RFC 9293 §3.8.1, §3.10.7.4 (LAST-ACK)',
    level: 'must',
    what: 'A FIN that is not acknowledged comes again, with back-off.',
    where,
    slow: true,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      c.send('FA');
      await c.acknowledged();
      t.bed.peer.end(c.server);
      const times: number[] = [];
      for (let i = 0; i < 3; i++) {
        const fin = await c.expect((s) => s.flags.includes('F'), 'the FIN');
        equal(fin.seq, c.ack, 'sequence number');
        times.push(fin.ms);
      }
      truth((times[1] ?? 0) - (times[0] ?? 0) >= 150, 'it came again too early');
      backsOff(times);
      c.ack = add(c.ack, 1);
      c.send('A');
    },
  },
  {
    id: 'tcp-persist',
    rfc: 'RFC 9293 §3.8.6.1 (MUST-35 to MUST-37, SHLD-29, SHLD-30)',
    level: 'must',
    what: 'A closed window is probed, with back-off, for as long as the guest answers; when it opens the data comes.',
    where,
    slow: true,
    run: async (t) => {
      const c = await TcpTalk.open(t);
      await c.receives(pattern(100));
      c.window = 0;
      c.send('A');
      await t.sentinel();
      t.bed.peer.write(c.server, pattern(3000, 2));
      const times: number[] = [];
      for (let i = 0; i < 4; i++) {
        const probe = await c.expect(() => true, 'a window probe');
        truth(probe.payload.length <= 1, `${probe.payload.length} bytes into a closed window`);
        times.push(probe.ms);
        c.send('A');
      }
      backsOff(times);
      c.window = 65_535;
      c.send('A');
      await c.collect(pattern(3000, 2));
      await c.closes();
    },
  },
  {
    id: 'tcp-window-update-lost',
    rfc: 'RFC 9293 §3.8.6.1',
    level: 'must',
    what: 'The update that opens the window was lost: the answer to the next probe does it.',
    where,
    slow: true,
    run: async (t) => {
      const c = await TcpTalk.open(t, { window: 0 });
      t.bed.peer.write(c.server, pattern(2000));
      await c.expect((s) => !s.flags.includes('S'), 'a window probe');
      c.window = 10_000;
      c.send('A');
      await c.collect(pattern(2000));
      await c.closes();
    },
  },
  {
    id: 'tcp-retransmission-after-window',
    rfc: 'RFC 9293 §3.8.6, §3.8.1',
    level: 'must',
    what: 'Data in flight when the window closes is still there when it opens, whatever was lost.',
    where: sender,
    slow: true,
    run: async (t) => {
      const c = await TcpTalk.open(t, { options: { mss: 1000 }, window: 5000 });
      const data = pattern(20_000);
      t.bed.peer.write(c.server, data);
      await c.expect((s) => s.payload.length > 0, 'data');
      c.window = 0;
      c.send('A');
      await c.expect((s) => s.seq === c.ack || s.seq === add(c.ack, -1), 'a probe or the data again');
      c.window = 30_000;
      c.send('A');
      await t.sentinel();
      await c.collect(data);
      await c.closes();
    },
  },
];
