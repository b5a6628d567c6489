// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Asks a name server for an IPv4 address, over the transport that is wanted (RFC 1035 §4): `node dns.mjs udp|tcp SERVER NAME`.
 * Prints the address, or an errno name, 'reset', 'silence', "code N".
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, isIPv6 } from 'node:net';

const PORT = 53;
const PATIENCE_MS = 4000;
const AGAIN_MS = 500;
const [transport, server = '', name = ''] = process.argv.slice(2);

const labels = name.split('.').map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
const query = Buffer.concat([
  Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), // recursion desired, one question
  ...labels,
  Buffer.from([0, 0, 1, 0, 1]), // A, IN
]);

/** @param {Buffer} answer */
const read = (answer) => {
  const code = (answer[3] ?? 0) & 15;
  if (answer.readUInt16BE(0) !== 0x1234 || code !== 0) return `code ${code}`;
  // After the question: name (a pointer), type, class, TTL, length, address.
  return answer.readUInt16BE(6) === 0
    ? 'no record'
    : [...answer.subarray(query.length + 12, query.length + 16)].join('.');
};

const overTcp = async () => {
  const socket = connect(PORT, server);
  const timer = setTimeout(() => socket.destroy(new Error('silence')), PATIENCE_MS);
  try {
    await once(socket, 'connect');
    socket.write(Buffer.concat([Buffer.from([query.length >> 8, query.length & 255]), query]));
    let got = Buffer.alloc(0);
    for await (const part of socket) {
      got = Buffer.concat([got, part]);
      if (got.length >= 2 && got.length >= 2 + got.readUInt16BE(0)) return read(got.subarray(2));
    }
    return 'reset';
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
};

const overUdp = async () => {
  const socket = createSocket(isIPv6(server) ? 'udp6' : 'udp4');
  const again = setInterval(() => socket.send(query, PORT, server), AGAIN_MS);
  try {
    socket.send(query, PORT, server);
    const [answer] = await once(socket, 'message', { signal: AbortSignal.timeout(PATIENCE_MS) });
    return read(answer);
  } finally {
    clearInterval(again);
    socket.close();
  }
};

try {
  console.log(await (transport === 'tcp' ? overTcp() : overUdp()));
} catch (error) {
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  console.log(code.startsWith('E') ? code : 'silence');
}
