// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * Both ends of the tests of forwarded ports. Servers echo, and say first whom they saw and the hash of what came.
 *
 *   node forward.mjs serve SOCKETS   [{ protocol, address, port }]; prints "listening", then "PROTOCOL PORT from ADDRESS" for
 *                                    each asker, serves until killed
 *   node forward.mjs ask QUESTIONS   [{ protocol, address, port, from?, patienceMs }], all at once; prints one array:
 *                                    { address, port } as the server saw us with `own` as we see ourselves, or { error }
 *
 * Addresses that listen are of one IP version each. An `error` is an errno name of the attempt, 'reset' (taken, and
 * then closed or reset without a word), 'silence', or what was wrong with an answer.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, isIPv6 } from 'node:net';

/** @typedef {{ protocol: 'tcp' | 'udp', address: string, port: number }} Socket */
/** @typedef {Socket & { from?: string, patienceMs: number }} Question */
/** @typedef {{ address: string, port: number, own: { address: string, port: number } }} Seen */
/** @typedef {Seen | { error: string }} Answer */

const STREAM_BYTES = 100_000;
const DATAGRAM_BYTES = 1100;
const AGAIN_MS = 300;

const hashOf = (/** @type {Uint8Array} */ data) => createHash('sha256').update(data).digest('hex');
/** @param {string} address @param {number} port @param {Buffer} data */
const reply = (address, port, data) =>
  Buffer.concat([Buffer.from(`${JSON.stringify({ address, port, hash: hashOf(data) })}\n`), data]);
/** What a reply says, if it is one to `data`. @param {Buffer} bytes @param {Buffer} data @param {{ address: string, port: number }} own @returns {Answer} */
const judge = (bytes, data, own) => {
  const end = bytes.indexOf(10);
  if (end < 0) return { error: 'reset' };
  const { address, port, hash } = JSON.parse(bytes.subarray(0, end).toString());
  if (hash !== undefined && hash !== hashOf(data)) return { error: 'the server got something else' };
  if (!bytes.subarray(end + 1).equals(data)) return { error: 'the echo differs' };
  return { address, port, own };
};
const errnoName = (/** @type {unknown} */ error) =>
  error instanceof Error && 'code' in error ? String(error.code) : String(error);

/** @param {Socket} where */
const serve = async ({ protocol, address, port }) => {
  if (protocol === 'tcp') {
    const server = createServer({ allowHalfOpen: true }, async (socket) => {
      const { remoteAddress = '', remotePort = 0 } = socket;
      console.log(`tcp ${port} from ${remoteAddress}`);
      socket.on('error', () => socket.destroy());
      const parts = [];
      for await (const part of socket.iterator({ destroyOnReturn: false })) parts.push(part);
      socket.end(reply(remoteAddress, remotePort, Buffer.concat(parts)));
    });
    server.listen({ host: address, port, ipv6Only: true });
    await once(server, 'listening');
  } else {
    const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', ipv6Only: isIPv6(address) });
    socket.on('message', (data, peer) => {
      console.log(`udp ${port} from ${peer.address}`);
      socket.send(reply(peer.address, peer.port, data), peer.port, peer.address, () => {});
    });
    socket.bind(port, address);
    await once(socket, 'listening');
  }
};

/** @param {Question} q @returns {Promise<Answer>} */
const askStream = async ({ address, port, from, patienceMs }) => {
  const data = randomBytes(STREAM_BYTES);
  const socket = connect({ host: address, port, allowHalfOpen: true, ...(from ? { localAddress: from } : {}) });
  const timer = setTimeout(() => socket.destroy(new Error('silence')), patienceMs);
  let connected = false;
  try {
    await once(socket, 'connect');
    connected = true;
    const own = { address: socket.localAddress ?? '', port: socket.localPort ?? 0 };
    socket.end(data);
    const parts = [];
    for await (const part of socket) parts.push(part);
    return judge(Buffer.concat(parts), data, own);
  } catch (error) {
    if (error instanceof Error && error.message === 'silence') return { error: 'silence' };
    return { error: connected ? 'reset' : errnoName(error) };
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
};

/** @param {Question} q @returns {Promise<Answer>} */
const askDatagram = ({ address, port, from, patienceMs }) =>
  new Promise((done) => {
    const data = randomBytes(DATAGRAM_BYTES);
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    let last = 'silence';
    const send = () => socket.send(data, (error) => error && failed(error));
    const failed = (/** @type {unknown} */ error) => {
      last = errnoName(error);
    };
    const finish = (/** @type {Answer} */ answer) => {
      clearInterval(again);
      clearTimeout(timer);
      socket.close();
      done(answer);
    };
    const again = setInterval(send, AGAIN_MS);
    const timer = setTimeout(() => finish({ error: last }), patienceMs);
    socket.on('error', failed);
    socket.once('message', (bytes) => finish(judge(bytes, data, socket.address())));
    socket.once('connect', send);
    socket.bind(0, from, () => socket.connect(port, address));
  });

const [mode, text = '[]'] = process.argv.slice(2);
if (mode === 'serve') {
  await Promise.all(JSON.parse(text).map(serve));
  console.log('listening');
} else {
  const questions = /** @type {Question[]} */ (JSON.parse(text));
  const answers = await Promise.all(questions.map((q) => (q.protocol === 'tcp' ? askStream(q) : askDatagram(q))));
  console.log(JSON.stringify(answers));
}
