// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Servers that do what they are told: one JSON object a line on standard input, events the same way on standard output.
 *
 *   peer.mjs ADDRESS4 ADDRESS6
 *
 * {"do":"listen","id":1,"family":4,"paused":false}  a TCP server on a free port → {"id":1,"port":40000}
 *   then for each of its connections {"listener":1,"conn":7,"is":"open"}, "data" with "hex", "end", "error" with "code", "close"
 * {"do":"write","conn":7,"hex":"…"} {"do":"end","conn":7} {"do":"reset","conn":7} {"do":"destroy","conn":7} {"do":"resume","conn":7}
 * {"do":"bind","id":2,"family":6,"echo":true}  a UDP socket → {"id":2,"port":…}; {"socket":2,"hex":"…","port":…,"address":"…"} for a datagram
 * {"do":"send","socket":2,"port":…,"address":"…","hex":"…"} {"do":"unlisten","id":3,"listener":1} → {"id":3}
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

const [address4 = '', address6 = ''] = process.argv.slice(2);
const addressOf = (/** @type {4 | 6} */ family) => (family === 4 ? address4 : address6);
/** @param {object} event */
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

/** @type {Map<number, import('node:net').Socket>} */
const connections = new Map();
/** @type {Map<number, import('node:net').Server>} */
const listeners = new Map();
/** @type {Map<number, import('node:dgram').Socket>} */
const sockets = new Map();
let lastConnection = 0;

/** @param {number} listener @param {import('node:net').Socket} socket @param {boolean} paused */
const accept = (listener, socket, paused) => {
  const conn = ++lastConnection;
  connections.set(conn, socket);
  say({ listener, conn, is: 'open', address: socket.remoteAddress, port: socket.remotePort });
  const flow = () =>
    socket.on('data', (/** @type {Buffer} */ data) => say({ conn, is: 'data', hex: data.toString('hex') }));
  socket.once('end', () => say({ conn, is: 'end' }));
  socket.on('error', (/** @type {NodeJS.ErrnoException} */ error) => say({ conn, is: 'error', code: error.code }));
  socket.once('close', () => {
    connections.delete(conn);
    say({ conn, is: 'close' });
  });
  socket.setNoDelay(true);
  if (paused) socket.once('pastiche-resume', flow);
  else flow();
};

/** @type {Record<string, (c: any) => void>} */
const COMMANDS = {
  listen: ({ id, family, paused }) => {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: paused === true }, (socket) =>
      accept(id, socket, paused === true),
    );
    listeners.set(id, server);
    server.listen(0, addressOf(family), () => say({ id, port: /** @type {any} */ (server.address()).port }));
  },
  unlisten: ({ id, listener }) => listeners.get(listener)?.close(() => say({ id, port: 0 })),
  write: ({ conn, hex }) => connections.get(conn)?.write(Buffer.from(hex, 'hex')),
  end: ({ conn }) => connections.get(conn)?.end(),
  reset: ({ conn }) => connections.get(conn)?.resetAndDestroy(),
  destroy: ({ conn }) => connections.get(conn)?.destroy(),
  resume: ({ conn }) => {
    const socket = connections.get(conn);
    socket?.emit('pastiche-resume');
    socket?.resume();
  },
  bind: ({ id, family, echo }) => {
    const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
    sockets.set(id, socket);
    socket.on('message', (data, from) => {
      if (echo) socket.send(data, from.port, from.address);
      say({ socket: id, hex: data.toString('hex'), port: from.port, address: from.address });
    });
    socket.on('error', (/** @type {NodeJS.ErrnoException} */ error) => say({ socket: id, error: error.code }));
    socket.bind(0, addressOf(family), () => say({ id, port: socket.address().port }));
  },
  send: ({ socket, port, address, hex }) => sockets.get(socket)?.send(Buffer.from(hex, 'hex'), port, address),
};

say({ is: 'ready' });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  COMMANDS[command.do]?.(command);
}
process.exit(0);
