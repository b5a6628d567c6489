// SPDX-License-Identifier: Apache-2.0
// @ts-check
/**
 * A small HTTP server that hashes what it sends and receives, and the source of the same octets for uploads.
 *
 *   node http.mjs serve ADDRESS PORT   GET /download/BYTES; GET /hash: SHA-256 of the last download; PUT /upload answers with its SHA-256
 *   node http.mjs source BYTES         octets on standard output, their SHA-256 on standard error
 */
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

const BLOCK_BYTES = 1024 * 1024;

/** `bytes` pseudo-random octets in blocks; each block also carries its number, so that swapped ones show. @param {number} bytes */
function* blocks(bytes) {
  const block = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16)).update(Buffer.alloc(BLOCK_BYTES));
  for (let at = 0; at < bytes; at += BLOCK_BYTES) {
    const each = Buffer.from(block.subarray(0, Math.min(BLOCK_BYTES, bytes - at)));
    if (each.length >= 8) each.writeBigUInt64LE(BigInt(at), 0);
    yield each;
  }
}

/** @param {number} bytes @param {NodeJS.WritableStream} to @returns {Promise<string>} SHA-256 in hexadecimal digits */
const send = async (bytes, to) => {
  const hash = createHash('sha256');
  for (const block of blocks(bytes)) {
    hash.update(block);
    if (!to.write(block)) await once(to, 'drain');
  }
  return hash.digest('hex');
};

/** @param {string} address @param {number} port */
const serve = (address, port) => {
  let lastHash = '';
  const server = createServer(async (request, response) => {
    const url = request.url ?? '';
    if (url.startsWith('/download/')) {
      const bytes = Number(url.slice('/download/'.length));
      response.setHeader('content-length', bytes);
      lastHash = await send(bytes, response);
      response.end();
    } else if (url === '/upload') {
      const hash = createHash('sha256');
      for await (const chunk of request) hash.update(chunk);
      response.end(hash.digest('hex'));
    } else response.end(lastHash);
  });
  server.listen(port, address, () => console.log('listening'));
};

const [mode, first = '', second = ''] = process.argv.slice(2);
if (mode === 'serve') serve(first, Number(second));
else console.error(await send(Number(first), process.stdout));
