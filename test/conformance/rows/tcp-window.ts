// SPDX-License-Identifier: Apache-2.0
/** TCP: windows in both directions, and what goes with sending. */
import { add, distance, pattern } from '../packet.ts';
import type { Row } from '../row.ts';
import { equal, same, type Talk, truth, until } from '../talk.ts';
import { TcpTalk } from '../tcp-talk.ts';

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

export const TCP_WINDOW_ROWS: readonly Row[] = [
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
