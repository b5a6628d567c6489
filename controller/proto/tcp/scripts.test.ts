// SPDX-License-Identifier: Apache-2.0
/**
 * Lives of connections as scripts, in the manner of packetdrill. A line is one of
 *
 *   < FLAGS SEQ [ack N] [win N] ['DATA'] [mss N] [scale N]   the guest sends
 *   > FLAGS SEQ [ack N] [win N] ['DATA']                     and this, next, is what it is sent
 *   peer connects | sends 'DATA' | closes | resets | refuses | takes N | stalls | has 'DATA' | has closed
 *   wait SECONDS                                             time passes; what is sent meanwhile is to be expected next
 *   silence                                                  nothing is sent
 *   gone                                                     nothing is left of the connection
 *
 * Numbers are relative to the initial ones of either side.
 */
import { afterEach, describe, expect, test, vi } from 'vitest';

vi.mock('../../io/io.ts', () => import('../../../test/support/fake-io.ts'));
const t = await import('../../../test/support/tcp-bench.ts');
type Bench = InstanceType<typeof t.Bench>;
type Seen = import('../../../test/support/tcp-bench.ts').Seen;

const OPEN = `
  < S 0 mss 1000 scale 7
  silence
  peer connects
  > SA 0 ack 1
  < A 1 ack 1 win 512
  silence`;

const SCRIPTS: Readonly<Record<string, string>> = {
  'handshake, and a request with its answer': `${OPEN}
    < PA 1 ack 1 'ping'
    > A 1 ack 5
    peer has 'ping'
    peer sends 'pong'
    > PA 1 ack 5 'pong'
    < A 5 ack 5`,
  'a SYN that is repeated while the peer takes its time gets one answer': `
    < S 0 mss 1000
    wait 1
    < S 0 mss 1000
    wait 2
    < S 0 mss 1000
    silence
    peer connects
    > SA 0 ack 1
    < S 0 mss 1000
    > SA 0 ack 1
    < A 1 ack 1`,
  'a SYN|ACK that is lost is sent again after 1, 2 and 4 seconds (RFC 6298 §5.5)': `
    < S 0 mss 1000
    peer connects
    > SA 0 ack 1
    wait 1.2
    > SA 0 ack 1
    wait 2.4
    > SA 0 ack 1
    wait 4.7
    > SA 0 ack 1
    < A 1 ack 1
    silence`,
  'a refused connection (RFC 9293 §3.10.7.3)': `
    < S 0 mss 1000
    peer refuses
    > RA 0 ack 1
    gone`,
  'a reset of the guest ends both sides, one beside the mark is challenged (RFC 5961 §3.2)': `${OPEN}
    < R 2
    > A 1 ack 1
    < R 1
    silence
    gone`,
  'a reset of the peer, behind its last words': `${OPEN}
    peer sends 'last words'
    > PA 1 ack 1 'last words'
    peer resets
    > RA 11 ack 1
    gone`,
  'half-close by the guest: the answer still comes': `${OPEN}
    < FPA 1 ack 1 'request'
    > A 1 ack 9
    peer has 'request'
    peer has closed
    peer sends 'answer'
    > PA 1 ack 9 'answer'
    < A 9 ack 7
    peer closes
    > FA 7 ack 9
    < A 9 ack 8
    gone`,
  'half-close by the peer: the guest may go on, and its FIN is acknowledged as often as it comes': `${OPEN}
    peer closes
    > FA 1 ack 1
    < A 1 ack 2
    < PA 1 ack 2 'more'
    > A 2 ack 5
    peer has 'more'
    < FA 5 ack 2
    > A 2 ack 6
    peer has closed
    < FA 5 ack 2
    > A 2 ack 6
    wait 70
    gone`,
  'simultaneous close (RFC 9293 figure 13)': `${OPEN}
    peer closes
    > FA 1 ack 1
    < FA 1 ack 1
    > A 2 ack 2
    < A 2 ack 2
    silence
    < FA 1 ack 2
    > A 2 ack 2
    wait 70
    gone`,
  'a FIN that is lost is sent again': `${OPEN}
    peer closes
    > FA 1 ack 1
    wait 0.3
    > FA 1 ack 1
    < A 1 ack 2
    wait 5
    silence`,
  'data that is lost is sent again, with doubling intervals': `${OPEN}
    peer sends 'lost'
    > PA 1 ack 1 'lost'
    wait 0.3
    > PA 1 ack 1 'lost'
    wait 0.5
    > PA 1 ack 1 'lost'
    < A 1 ack 5
    wait 10
    silence`,
  'zero window of the guest: probes, and the rest when it opens (RFC 9293 §3.8.6.1)': `${OPEN}
    < A 1 ack 1 win 0
    peer sends 'waits'
    silence
    wait 0.3
    > A 0 ack 1 ''
    < A 1 ack 1 win 0
    < A 1 ack 1 win 512
    > PA 1 ack 1 'waits'
    < A 1 ack 6`,
  'a full socket: what was announced is taken, and comes through when the peer reads': `${OPEN}
    peer stalls
    < PA 1 ack 1 'kept for it'
    > A 1 ack 12
    peer has ''
    peer takes 100000
    > A 1 ack 12
    peer has 'kept for it'`,
  'a keep-alive of the guest is answered, its byte not taken (RFC 9293 §3.8.4)': `${OPEN}
    < A 0 ack 1
    > A 1 ack 1
    < A 0 ack 1 'x'
    > A 1 ack 1
    peer has ''`,
  'ours, and the reset of a guest that does not know the connection': `${OPEN}
    wait 58
    > A 0 ack 1
    < R 1
    gone`,
  'out of the window: answered, not taken, and its ACK not believed (RFC 9293 §3.10.7.4)': `${OPEN}
    peer sends 'abc'
    > PA 1 ack 1 'abc'
    < PA 90000000 ack 4 'far away'
    > A 4 ack 1
    peer has ''
    wait 0.3
    > PA 1 ack 1 'abc'
    < A 1 ack 4`,
  'an acknowledgement of what was never sent is challenged, and its data not taken (RFC 5961 §5)': `${OPEN}
    < PA 1 ack 5000 'injected'
    > A 1 ack 1
    peer has ''`,
  'an acknowledgement older than any window is challenged, and its data not taken (RFC 5961 §5.2)': `${OPEN}
    < PA 1 ack -90000000 'injected'
    > A 1 ack 1
    peer has ''`,
  'a SYN in the middle is challenged (RFC 5961 §4); the guest that began anew resets and is served': `${OPEN}
    < S 7000 mss 1000
    > A 1 ack 1
    < R 1
    < S 7000 mss 1000
    peer connects
    > SA * ack 7001`,
  'TIME-WAIT: the port is opened again by a SYN behind the old numbers (RFC 6191)': `${OPEN}
    peer closes
    > FA 1 ack 1
    < FA 1 ack 2
    > A 2 ack 2
    < S 9000 mss 1000
    peer connects
    > SA * ack 9001`,
};

const WORD = /'[^']*'|\S+/g;
const unquoted = (word: string | undefined): string => (word ?? '').replaceAll("'", '');

class Script {
  private readonly b: Bench;
  constructor(b: Bench) {
    this.b = b;
  }
  run(line: string): void {
    const [verb, ...rest] = line.match(WORD) ?? [];
    const act = {
      '<': this.guest,
      '>': this.expected,
      peer: this.peer,
      wait: this.wait,
      silence: this.silence,
      gone: this.gone,
    };
    const method = act[verb as keyof typeof act];
    if (method === undefined) throw new Error(`no such line: ${line}`);
    method.call(this, rest);
  }
  /** Named numbers of a segment, and its data. */
  private fields(words: readonly string[]): { named: Map<string, number>; data: string | undefined } {
    const named = new Map<string, number>();
    let data: string | undefined;
    for (let i = 2; i < words.length; i++) {
      if (words[i]?.startsWith("'")) data = unquoted(words[i]);
      else named.set(words[i] as string, Number(words[++i]));
    }
    return { named, data };
  }
  private guest(words: readonly string[]): void {
    const { named, data } = this.fields(words);
    const [mss, scale, win] = [named.get('mss'), named.get('scale'), named.get('win')];
    this.b.guestSends({
      flags: words[0] as string,
      seq: Number(words[1]),
      ack: named.get('ack') ?? 0,
      win: win ?? 512,
      ...(data === undefined ? {} : { data }),
      options: [...(mss === undefined ? [] : t.optionMss(mss)), ...(scale === undefined ? [] : t.optionScale(scale))],
    });
  }
  private expected(words: readonly string[]): void {
    const { named, data } = this.fields(words);
    this.b.expectToGuest({
      flags: words[0] as string,
      ...(words[1] === '*' ? {} : { seq: Number(words[1]) }),
      ...Object.fromEntries(named),
      data: data ?? '',
    } as Partial<Seen>);
  }
  private peer([what, value]: readonly string[]): void {
    const { b } = this;
    switch (what) {
      case 'connects':
        b.helperAnswers();
        return b.peer((s) => s.connected());
      case 'refuses':
        b.helperAnswers();
        return b.peer((s) => s.fails(111));
      case 'sends':
        return b.peerSends(unquoted(value));
      case 'closes':
        return b.peer((s) => s.ends());
      case 'resets':
        return b.peer((s) => s.fails(104));
      case 'stalls':
        b.socket.room = 0;
        return;
      case 'takes':
        return b.peer((s) => s.gainsRoom(Number(value)));
      case 'has':
        if (value === 'closed') expect(b.socket.shut).toBe(true);
        else b.expectToSocket(unquoted(value));
        return;
      default:
        throw new Error(`the peer can not: ${what}`);
    }
  }
  private wait([seconds]: readonly string[]): void {
    this.b.after(Number(seconds) * 1000);
  }
  private silence(): void {
    this.b.expectNothing();
  }
  private gone(): void {
    expect(this.b.nextDelay).toBe(-1);
    this.b.expectGivenBack();
  }
}

describe.each(t.WORLDS)('scripts ($name)', (world) => {
  afterEach(t.finish);
  test.each(Object.entries(SCRIPTS))('%s', (_name, text) => {
    const script = new Script(t.begin(world));
    for (const line of text.trim().split('\n')) script.run(line.trim());
  });
});
