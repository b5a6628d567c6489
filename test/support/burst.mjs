// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Datagrams as fast as they can be sent: `node burst.mjs ADDRESS PORT COUNT BYTES FROM`. Prints { "answers" } when none has
 * come for half a second.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const SILENCE_MS = 500;

const [address = '', port, count, bytes, from] = process.argv.slice(2);
const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', recvBufferSize: 4 << 20 });
let answers = 0;
socket.on('message', () => {
  answers += 1;
});
socket.bind(0, from);
await once(socket, 'listening');
socket.connect(Number(port), address);
await once(socket, 'connect');
const data = Buffer.alloc(Number(bytes));
await Promise.all(
  Array.from({ length: Number(count) }, () => new Promise((done) => socket.send(data, () => done(null)))),
);
for (let seen = -1; seen !== answers; ) {
  seen = answers;
  await sleep(SILENCE_MS);
}
console.log(JSON.stringify({ answers }));
socket.close();
