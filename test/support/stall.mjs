// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Readers that stall.
 *
 *   node stall.mjs serve PORT ADDRESS...        sends each client what it asks for; prints "listening"
 *   node stall.mjs read ADDRESS PORT COUNT BYTES   asks on COUNT connections for BYTES each, reads nothing until standard
 *                                               input ends, then all of it: {"stalled": COUNT}, {"intact": COUNT}
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const KINDS = 8;
/** @type {Map<string, Buffer>} */
const made = new Map();
/** What connection `id` gets: a few kinds, each made once. @param {number} id @param {number} bytes */
const payload = (id, bytes) => {
  const key = `${id % KINDS} ${bytes}`;
  const block = made.get(key) ?? Buffer.alloc(bytes, createHash('sha512').update(key).digest());
  made.set(key, block);
  return block;
};

/** @param {string} port @param {readonly string[]} addresses */
const serve = async (port, ...addresses) => {
  for (const host of addresses) {
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.once('data', (line) => {
        const [id, bytes] = line.toString('latin1').split(' ').map(Number);
        socket.end(payload(/** @type {number} */ (id), /** @type {number} */ (bytes)));
      });
    });
    await new Promise((done) => server.listen({ host, port: Number(port), backlog: 1024 }, () => done(null)));
  }
  console.log('listening');
};

/** @param {string} address @param {string} port @param {string} count @param {string} bytes */
const read = async (address, port, count, bytes) => {
  const sockets = Array.from({ length: Number(count) }, () => connect(Number(port), address));
  await Promise.all(
    sockets.map(async (socket, id) => {
      await once(socket, 'connect');
      socket.pause();
      socket.write(`${id} ${bytes}\n`);
    }),
  );
  console.log(JSON.stringify({ stalled: sockets.length }));
  process.stdin.resume();
  await once(process.stdin, 'end');
  const all = sockets.map(async (socket, id) => {
    let at = 0;
    const expected = payload(id, Number(bytes));
    for await (const chunk of socket) {
      if (!chunk.equals(expected.subarray(at, at + chunk.length))) throw new Error(`connection ${id} differs at ${at}`);
      at += chunk.length;
    }
    if (at !== expected.length) throw new Error(`connection ${id} ended after ${at} octets`);
  });
  await Promise.all(all);
  console.log(JSON.stringify({ intact: all.length }));
};

const [mode, ...args] = process.argv.slice(2);
await (mode === 'serve'
  ? serve(.../** @type {[string, ...string[]]} */ (args))
  : read(.../** @type {[string, string, string, string]} */ (args)));
