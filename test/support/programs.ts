// SPDX-License-Identifier: Apache-2.0
/** The programs that tests run in the lab's namespaces, ready to be started. */
import { join } from 'node:path';
import { compile, type Lab, NET, REPOSITORY, type Side } from './lab.mjs';
import { type Started, waitFor } from './process.mjs';

export const ECHO_PORT = 7007;
export const STREAM_PORT = 7100;
export const REFUSED_PORT = 7999;

/** Both families with the lab's server address of each. */
export const FAMILIES = [
  { family: 'IPv4', server: NET.server4, gateway: NET.gateway4, flag: '-4' },
  { family: 'IPv6', server: NET.server6, gateway: NET.gateway6, flag: '-6' },
] as const;

const script = (name: string): string[] => [process.execPath, join(REPOSITORY, 'test/support', name)];

/** Command line of a client of clients.mjs. */
export const client = (mode: 'flows' | 'udp' | 'connect', ...args: readonly (string | number)[]): string[] => [
  ...script('clients.mjs'),
  mode,
  ...args.map(String),
];

const listening = async (server: Started, what: string): Promise<Started> => {
  await waitFor(() => server.out().includes('listening') || server.child.exitCode !== null, { what });
  if (server.child.exitCode !== null) throw new Error(`${what}: ${server.err()}`);
  return server;
};

/** TCP and UDP echo on both server addresses. */
export const echoServer = async (lab: Lab): Promise<Started> =>
  listening(lab.remote.spawn([...script('echo.mjs'), String(ECHO_PORT), NET.server4, NET.server6]), 'the echo server');

/** A server of checked streams on both server addresses. Returns the path of the program, for the client's side. */
export const streamServer = async (lab: Lab): Promise<string> => {
  const program = await compile('test/support/stream.c', join(lab.dir, 'stream'));
  for (const address of [NET.server4, NET.server6])
    await listening(lab.remote.spawn([program, 'serve', address, String(STREAM_PORT)]), 'the stream server');
  return program;
};

export interface Question {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  /** The address to ask from. */
  readonly from?: string;
}
export interface Reply {
  readonly error?: string;
  /** As the server saw the asker. */
  readonly address: string;
  readonly port: number;
  /** As the asker saw itself. */
  readonly own: { readonly address: string; readonly port: number };
}
/** Asks servers of forward.mjs or witness.c, all at once. */
export const ask = async (side: Side, questions: readonly Question[], patienceMs = 15_000): Promise<Reply[]> => {
  const text = JSON.stringify(questions.map((question) => ({ ...question, patienceMs })));
  return JSON.parse(await side.run([...script('forward.mjs'), 'ask', text]));
};

/** Datagrams in one burst, from the address `from`; how many were answered. */
export const burst = async (side: Side, to: string, port: number, from: string, count: number, bytes: number) => {
  const out = await side.run([...script('burst.mjs'), to, port, count, bytes, from].map(String));
  return (JSON.parse(out) as { answers: number }).answers;
};
