// SPDX-License-Identifier: Apache-2.0
/** The loader takes no code cache that is damaged or of another script: V8 itself would run either. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { native } from '../../controller/io/io.ts';

const FILES = ['controller.cjs', 'controller.bundle.cjs', 'controller.cache', 'pastiche.node'];
const dist = fileURLToPath(new URL('../../dist/', import.meta.url));
const CRC_BYTES = 4;

let copy = '';
const file = (name: string): string => join(copy, name);
/** What the program says of an option that it has not got; it needs no helper for that. */
const said = (): string => {
  const { stderr, signal } = spawnSync(process.execPath, [file('controller.cjs'), 'pasta', '--nonsense'], {
    encoding: 'utf8',
  });
  return signal ?? stderr;
};
const edit = (name: string, change: (bytes: Buffer) => void): void => {
  const bytes = readFileSync(file(name));
  change(bytes);
  writeFileSync(file(name), bytes);
};

beforeEach(() => {
  copy = mkdtempSync(join(tmpdir(), 'cache-'));
  for (const name of FILES) cpSync(join(dist, name), file(name));
});
afterEach(() => rmSync(copy, { recursive: true }));

test('the build ends the cache with the CRC of script and cache', () => {
  const cache = readFileSync(file('controller.cache'));
  const crc = native.crc32(cache.subarray(0, -CRC_BYTES), native.crc32(readFileSync(file('controller.bundle.cjs')), 0));
  expect(cache.readInt32LE(cache.length - CRC_BYTES)).toBe(crc);
});

test('CRC-32 of the standard check string', () => {
  expect(native.crc32(Buffer.from('123456789'), 0) >>> 0).toBe(0xcbf43926);
});

const damageAll = (bytes: Buffer): void => {
  for (let at = 99; at < bytes.length; at += 100) bytes.writeUInt8(bytes.readUInt8(at) ^ 0x55, at);
};

test.each<[string, (bytes: Buffer) => void]>([
  ['a bit in the middle', (bytes) => bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1)],
  ['a page of zeros', (bytes) => bytes.fill(0, 500_000, 504_096)],
  ['a byte in a hundred', damageAll],
])('a damaged cache is not used: %s', (_name, damage) => {
  const before = said();
  expect(before).toContain('nonsense');
  edit('controller.cache', damage);
  expect(said()).toBe(before);
});

test('the cache of a script of the same length is not used', () => {
  const word = 'unrecognized';
  expect(said()).toContain(word);
  edit('controller.bundle.cjs', (bytes) => {
    for (let at = bytes.indexOf(word); at >= 0; at = bytes.indexOf(word, at + 1)) bytes.write(word.toUpperCase(), at);
  });
  expect(said()).toContain(word.toUpperCase());
});
