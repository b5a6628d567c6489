// SPDX-License-Identifier: Apache-2.0
/** Starts what forward.mjs has: servers that say whom they see, and clients that ask many of them at once. */
import { join } from 'node:path';
import { REPOSITORY, type Side } from './lab.mjs';
import { type Started, waitFor } from './process.mjs';

export interface ServerSocket {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
}
export interface Question extends ServerSocket {
  /** The address to ask from; default: the kernel's choice. */
  readonly from?: string;
  readonly patienceMs: number;
}
interface Endpoint {
  readonly address: string;
  readonly port: number;
}
/** `error`: an errno name, 'reset', 'silence', or what was wrong with the answer. */
export type Answer = (Endpoint & { readonly own: Endpoint }) | { readonly error: string };

export const PATIENCE_MS = 6000;
/** For what is not to come: long enough for a second try. */
export const SILENCE_MS = 700;

const PROGRAM = [process.execPath, join(REPOSITORY, 'test/support/forward.mjs')];

/** Starts servers. Each asker is a line of the program's output: "PROTOCOL PORT from ADDRESS". */
export const serve = async (side: Side, sockets: readonly ServerSocket[]): Promise<Started> => {
  const server = side.spawn([...PROGRAM, 'serve', JSON.stringify(sockets)]);
  await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, { what: 'the servers' });
  if (server.child.exitCode !== null || server.err() !== '') throw new Error(`the servers: ${server.err()}`);
  return server;
};

export const ask = async (side: Side, questions: readonly Question[]): Promise<Answer[]> =>
  questions.length === 0
    ? []
    : (JSON.parse(await side.run([...PROGRAM, 'ask', JSON.stringify(questions)], { timeoutMs: 20_000 })) as Answer[]);

/** Whom a server saw: the address, or what went wrong. */
export const seen = (answer: Answer | undefined): string =>
  answer === undefined ? 'no answer' : 'error' in answer ? answer.error : answer.address;

/** One question that is to be answered. */
export const askOne = async (
  side: Side,
  protocol: 'tcp' | 'udp',
  address: string,
  port: number,
  from?: string,
): Promise<Answer> => {
  const question = { protocol, address, port, patienceMs: PATIENCE_MS, ...(from === undefined ? {} : { from }) };
  return (await ask(side, [question]))[0] as Answer;
};

const DNS_PROGRAM = [process.execPath, join(REPOSITORY, 'test/support/dns.mjs')];
/** Asks a name server for the IPv4 address of a name: the address, or why there is none. */
export const lookUp = async (side: Side, protocol: 'tcp' | 'udp', server: string, name: string): Promise<string> =>
  (await side.run([...DNS_PROGRAM, protocol, server, name])).trim();
