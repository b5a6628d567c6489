// SPDX-License-Identifier: Apache-2.0
/**
 * A listening UDP socket, peers that send to it, and a helper that answers question by question. For tests that mock controller/io with
 * fake-io.ts.
 */
import * as flows from '../../controller/flow/table.ts';
import type { Rule } from '../../controller/fwd/rule.ts';
import type { UdpListener } from '../../controller/fwd/udp-listener.ts';
import * as connect from '../../controller/rpc/connect.ts';
import * as fake from './fake-io.ts';
import { ip4, ip6 } from './guest-frames.ts';

export const NETNS_CHANNEL = 4;
const LISTENER_FD = 900;

/** Sixteen bytes, IPv4 mapped. */
export const bytes16 = (text: string): number[] =>
  text.includes(':') ? [...ip6(text)] : [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...ip4(text)];

export interface TestListener extends UdpListener {
  open: boolean;
}
let nextFd = LISTENER_FD;
export const listener = (rule: Partial<Rule> = {}, side: 'host' | 'netns' = 'host'): TestListener => {
  const fd = nextFd++;
  fake.addSocket(fd);
  const first = rule.first ?? 5000;
  return {
    fd,
    ref: flows.LISTENER_REF_BASE + fd,
    side,
    listener: fd - LISTENER_FD,
    port: first,
    open: true,
    rule: {
      protocol: 'udp',
      address: '',
      interface: '',
      first,
      last: first,
      target: '',
      to: first,
      weak: false,
      scan: false,
      ...rule,
    },
  };
};
export const begin = (): void => {
  nextFd = LISTENER_FD;
  fake.addSocket(NETNS_CHANNEL);
  connect.attach(NETNS_CHANNEL, flows.FLOW_MAX + 1, 'netns');
  answered.clear();
};
export const socketOf = (l: UdpListener): fake.FakeSocket => fake.sockets.get(l.fd) as fake.FakeSocket;

export interface Sent extends Partial<fake.FakeDatagram> {
  readonly text?: string;
}
/** A peer's datagram waits at the listener. */
export const arrives = (l: UdpListener, peer: string, port: number, to: string, d: Sent = {}): void => {
  socketOf(l).incoming.push({
    bytes: Buffer.from(d.text ?? 'question'),
    from: [bytes16(peer), port],
    to: bytes16(to),
    ...d,
  });
};

export interface Question {
  readonly id: number;
  readonly channel: number;
  readonly method: string;
  readonly params: Record<string, unknown>;
}
/** Identifiers by channel of what was answered. */
const answered = new Set<string>();
/** What was asked of the helper and not answered, oldest first. */
export const questions = (): Question[] => {
  connect.flushRequests();
  return fake.channelSent
    .flatMap((text, i) =>
      (JSON.parse(text) as Omit<Question, 'channel'>[]).map((q) => ({
        ...q,
        channel: fake.channelSentOver[i] as number,
      })),
    )
    .filter((q) => !answered.has(`${q.channel} ${q.id}`));
};

type Answer = { fd: number; address?: string; port?: number; local?: string } | { errno: number };
/** The helper answers the oldest batch of questions over that channel: each with a socket, or an errno. Returns the sockets. */
export const answerAll = (over: 'host' | 'netns', answers: readonly Answer[]): fake.FakeSocket[] => {
  const channel = over === 'host' ? 3 : NETNS_CHANNEL;
  const asked = questions().filter((each) => each.channel === channel);
  if (asked.length < answers.length) throw new Error(`${asked.length} questions are open on the ${over} side`);
  const sockets: fake.FakeSocket[] = [];
  const fds: number[] = [];
  const replies = answers.map((result, i) => {
    const { id } = asked[i] as Question;
    answered.add(`${channel} ${id}`);
    if ('errno' in result) {
      return { jsonrpc: '2.0', id, error: { code: -32_000, message: 'no', data: { errno: result.errno } } };
    }
    const known = fake.sockets.get(result.fd);
    sockets.push(known === undefined || known.closed ? fake.addSocket(result.fd) : known);
    fds.push(result.fd);
    return { jsonrpc: '2.0', id, result: { ...result, fd: fds.length - 1 } };
  });
  fake.channelIncoming.push({ text: JSON.stringify(replies), fds, channel });
  connect.onChannelReadable(over);
  return sockets;
};
/** The same of a question that is alone in its batch. */
export const answer = (over: 'host' | 'netns', result: Answer): fake.FakeSocket | null =>
  answerAll(over, [result])[0] ?? null;
