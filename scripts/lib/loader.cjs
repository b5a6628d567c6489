// SPDX-License-Identifier: Apache-2.0
/**
 * What the helper starts: runs controller.bundle.cjs from V8's code cache beside it. A cache that does not fit (another Node)
 * is refused by V8 itself, and the script is compiled as ever. But V8 looks neither at the cache's content nor at the script's,
 * only at its length: so a CRC of both stands at the cache's end, and one that is damaged, or of another script, is not used.
 *
 * With --write-code-cache (the build) it makes the cache: of what has been compiled once the program has gone as far
 * as it can without a helper, all functions included: those that never ran would not be in the cache otherwise, and the
 * larger part of a start comes after the first answer of the helper.
 */
'use strict';
const { readFileSync, writeFileSync } = require('node:fs');
const { createRequire, wrap } = require('node:module');
const { Script } = require('node:vm');

const filename = `${__dirname}/controller.bundle.cjs`;
const cacheName = `${__dirname}/controller.cache`;

const CRC_BYTES = 4;

const source = readFileSync(filename);
/** @param {Buffer} cache without the CRC */
const crcWith = (cache) => {
  const { crc32 } = require(`${__dirname}/pastiche.node`);
  return crc32(cache, crc32(source, 0));
};

const cached = () => {
  try {
    const file = readFileSync(cacheName);
    const cache = file.subarray(0, -CRC_BYTES);
    return file.readInt32LE(cache.length) === crcWith(cache) ? cache : undefined;
  } catch {
    return undefined;
  }
};

const writing = process.argv[2] === '--write-code-cache';
// Set back before the cache is written: V8 refuses one of other settings than its own.
const lazily = (yes) => require('node:v8').setFlagsFromString(yes ? '--lazy' : '--no-lazy');
if (writing) lazily(false);
const script = new Script(wrap(source.latin1Slice()), { filename, cachedData: cached() });
if (writing) {
  lazily(true);
  process.argv.splice(2, 1, 'pasta', '--config-net');
  process.exitCode = 0;
  const { exit } = process;
  process.exit = () => {
    const cache = script.createCachedData();
    const end = Buffer.alloc(CRC_BYTES);
    end.writeInt32LE(crcWith(cache));
    writeFileSync(cacheName, Buffer.concat([cache, end]));
    exit(0);
  };
  process.stderr.write = () => true;
}
const program = { exports: {} };
try {
  script.runInThisContext()(program.exports, createRequire(filename), program, filename, __dirname);
} catch (error) {
  // Something of the installation is missing or broken, like the addon beside this file.
  process.stderr.write(`The controller in ${__dirname} can't be loaded: ${String(error.message).split('\n')[0]}\n`);
  process.exit(1);
}
