// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Clients that run inside the namespace, each judging for itself what it got; exit status 0 and a line of JSON.
 *
 *   node clients.mjs flows ADDRESS PORT COUNT   opens COUNT connections, echoes on each, holds them until standard
 *                                               input ends, echoes again on each, closes
 *   node clients.mjs udp ADDRESS PORT SIZE...   echoes one datagram of each size
 *   node clients.mjs connect ADDRESS PORT       connects; {"code": errno name or null, "ms": duration}
 */
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, isIPv6 } from 'node:net';

const [mode, address = '', port = '0', ...rest] = process.argv.slice(2);

/** Octets that depend on both numbers. @param {number} id @param {number} size */
const payload = (id, size) => {
  const block = createHash('sha256').update(String(id)).digest();
  return Buffer.alloc(size, block);
};

/** @param {import('node:net').Socket} socket @param {Buffer} data */
const echo = async (socket, data) => {
  socket.write(data);
  let got = Buffer.alloc(0);
  while (got.length < data.length) {
    const [chunk] = await once(socket, 'data');
    got = Buffer.concat([got, chunk]);
  }
  if (!got.equals(data)) throw new Error('the echo differs');
};

const say = (/** @type {object} */ value) => console.log(JSON.stringify(value));

const flows = async () => {
  const count = Number(rest[0]);
  /** @type {import('node:net').Socket[]} */
  const sockets = [];
  const open = async (/** @type {number} */ id) => {
    const socket = connect(Number(port), address);
    await once(socket, 'connect');
    socket.setNoDelay(true);
    sockets.push(socket);
    await echo(socket, payload(id, 1000 + id));
  };
  for (let at = 0; at < count; at += 50)
    await Promise.all(Array.from({ length: Math.min(50, count - at) }, (_, i) => open(at + i)));
  say({ open: sockets.length });
  process.stdin.resume();
  await once(process.stdin, 'end');
  await Promise.all(sockets.map((socket, i) => echo(socket, payload(count + i, 3000))));
  const ends = sockets.map((socket) => once(socket, 'close'));
  for (const socket of sockets) socket.end();
  await Promise.all(ends);
  say({ closed: sockets.length });
};

const udp = async () => {
  const socket = createSocket({
    type: isIPv6(address) ? 'udp6' : 'udp4',
    recvBufferSize: 1 << 20,
    sendBufferSize: 1 << 20,
  });
  await new Promise((done, fail) => {
    socket.once('error', fail);
    socket.connect(Number(port), address, () => done(null));
  });
  const lost = [];
  for (const size of rest.map(Number)) {
    const data = payload(size, size);
    const answer = once(socket, 'message', { signal: AbortSignal.timeout(2000) });
    socket.send(data);
    try {
      const [message] = await answer;
      if (!data.equals(message)) throw new Error(`the echo of ${size} octets differs`);
    } catch (error) {
      // Too large for the path, and the kernel says so to a connected socket over IPv6: lost as well.
      const tooLarge = error instanceof Error && 'code' in error && error.code === 'EMSGSIZE';
      if (!(error instanceof Error) || (error.name !== 'AbortError' && !tooLarge)) throw error;
      lost.push(size);
    }
  }
  socket.close();
  say({ lost });
};

const tryConnect = async () => {
  const started = performance.now();
  const socket = connect(Number(port), address);
  const code = await new Promise((done) => {
    socket.once('connect', () => done(null));
    socket.once('error', (error) => done('code' in error ? error.code : error.message));
  });
  socket.destroy();
  say({ code, ms: performance.now() - started });
};

await { flows, udp, connect: tryConnect }[/** @type {'flows' | 'udp' | 'connect'} */ (mode)]();
