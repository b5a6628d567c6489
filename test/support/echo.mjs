// SPDX-License-Identifier: Apache-2.0
// @ts-check
/** Echo server for TCP and UDP: `node echo.mjs PORT ADDRESS...`; prints "listening". */
import { createSocket } from 'node:dgram';
import { createServer, isIPv6 } from 'node:net';

const [port, ...addresses] = process.argv.slice(2);
await Promise.all(
  addresses.map(async (host) => {
    const server = createServer({ allowHalfOpen: true }, (socket) =>
      socket.on('error', () => socket.destroy()).pipe(socket),
    );
    await new Promise((done) => server.listen({ host, port: Number(port), backlog: 1024 }, () => done(null)));
    const udp = createSocket({ type: isIPv6(host) ? 'udp6' : 'udp4', recvBufferSize: 4 << 20 });
    udp.on('message', (message, { port: to, address }) => udp.send(message, to, address));
    await new Promise((done) => udp.bind(Number(port), host, () => done(null)));
  }),
);
console.log('listening');
