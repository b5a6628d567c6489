// SPDX-License-Identifier: Apache-2.0
/** The programs that tests run in the lab's namespaces, ready to be started. */
import { join } from 'node:path';
import { compile, type Lab, NET, REPOSITORY } from './lab.mjs';
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
