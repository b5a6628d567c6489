// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Many connections that push, every octet checked.
 *
 *   node push.mjs serve ADDRESS PORT               takes connections; for each that ends, compares its octets; prints "listening",
 *                                                  and a line of JSON { ended, right, bytes } whenever none is open any more
 *   node push.mjs push ADDRESS PORT COUNT OCTETS   opens COUNT connections and prints "open"; at a line of input, writes OCTETS on each and
 *                                                  closes it; exit status 0 when the peer has closed all of them, too
 */
import { connect, createServer } from 'node:net';

const OCTET = 251;
/** Octet `at` of connection `seed`. @param {number} seed @param {number} at */
const octet = (seed, at) => (seed * 7 + at) % OCTET;

const [mode, address, port, count, octets] = process.argv.slice(2);

if (mode === 'serve') {
  let open = 0;
  const total = { ended: 0, right: 0, bytes: 0 };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open++;
    let bytes = 0;
    let seed = -1;
    let right = true;
    socket.on('data', (/** @type {Buffer} */ data) => {
      let from = 0;
      if (seed < 0) {
        // Two octets of seed; a connection says so much at once.
        seed = data.readUInt16BE(0);
        from = 2;
      }
      for (let i = from; right && i < data.length; i++) right = data[i] === octet(seed, bytes + i - from);
      bytes += data.length - from;
    });
    socket.on('error', () => {
      right = false;
    });
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      open--;
      total.ended++;
      total.right += right ? 1 : 0;
      total.bytes += bytes;
      if (open === 0) console.log(JSON.stringify(total));
    });
  });
  server.listen({ host: address, port: Number(port), backlog: 4096 }, () => console.log('listening'));
} else {
  const sockets = Array.from({ length: Number(count) }, () => connect({ host: address, port: Number(port) }));
  const opened = sockets.map(
    (socket, seed) =>
      new Promise((resolve, reject) => {
        socket.on('error', reject);
        socket.on('connect', () => {
          socket.write(Uint8Array.of(seed >> 8, seed & 0xff));
          resolve(null);
        });
      }),
  );
  await Promise.all(opened);
  console.log('open');
  await new Promise((resolve) => process.stdin.once('data', resolve));
  process.stdin.destroy();
  const length = Number(octets);
  await Promise.all(
    sockets.map((socket, seed) => {
      socket.end(Uint8Array.from({ length }, (_, at) => octet(seed, at)));
      socket.resume();
      return new Promise((resolve) => socket.on('close', resolve));
    }),
  );
}
