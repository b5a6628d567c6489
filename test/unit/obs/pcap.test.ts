// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import * as pcap from '../../../controller/obs/pcap.ts';

const directory = mkdtempSync(join(tmpdir(), 'pastiche-pcap-'));
afterAll(() => rmSync(directory, { recursive: true }));
const tcpdump = spawnSync('tcpdump', ['--version']).status === 0;

const arena = new ArrayBuffer(200_000);
const bytes = new Uint8Array(arena);
const unexpected = (reason: string): void => {
  throw new Error(reason);
};

/** An ARP request at `at`, 42 bytes. */
const putArp = (at: number): void => {
  const text = 'ffffffffffff02000000000108060001080006040001020000000001c0000205000000000000c0000201';
  bytes.set(Buffer.from(text, 'hex'), at);
};

describe('capture file', () => {
  const path = join(directory, 'a.pcap');
  const fd = openSync(path, 'w');
  putArp(1000);
  for (let i = 0; i < 65_549; i++) bytes[2000 + i] = i & 0xff;
  const startMs = Date.now();
  pcap.open(fd, arena, 5000, unexpected);
  pcap.frame(1000, 42, 5000.25);
  pcap.frame(2000, 65_549, 6500);
  // More than the buffer holds.
  for (let i = 0; i < 40; i++) pcap.frame(2000, 65_549, 7000 + i);
  pcap.flush();
  closeSync(fd);
  const file = readFileSync(path);

  it('starts with the header of the format, 262144 bytes a frame, Ethernet', () => {
    expect([0, 16, 20].map((at) => file.readUInt32LE(at))).toEqual([0xa1b2c3d4, 262_144, 1]);
    expect([file.readUInt16LE(4), file.readUInt16LE(6)]).toEqual([2, 4]);
  });

  it('holds every frame whole, with wall-clock microseconds', () => {
    const records: [us: number, length: number][] = [];
    for (let at = 24; at < file.length; at += 16 + file.readUInt32LE(at + 8)) {
      expect(file.readUInt32LE(at + 12)).toBe(file.readUInt32LE(at + 8));
      records.push([file.readUInt32LE(at) * 1e6 + file.readUInt32LE(at + 4), file.readUInt32LE(at + 8)]);
    }
    expect(records.map(([, length]) => length)).toEqual([42, ...Array.from({ length: 41 }, () => 65_549)]);
    const [first, second] = records.map(([us]) => us) as [number, number];
    expect(second - first).toBe(1_499_750);
    expect(Math.abs(first / 1000 - startMs)).toBeLessThan(1000);
    expect(file.subarray(40, 82).equals(Buffer.from(arena, 1000, 42))).toBe(true);
    expect(file.subarray(98, 98 + 65_549).equals(Buffer.from(arena, 2000, 65_549))).toBe(true);
  });

  if (!tcpdump) console.log('pcap: not read by tcpdump, which is not installed');
  // In CI a missing tool is a failure.
  it.skipIf(!tcpdump && process.env['CI'] !== 'true')('is read by tcpdump', () => {
    const text = execFileSync('tcpdump', ['-nn', '-r', path, '-c', '1'], { encoding: 'utf8', stdio: 'pipe' });
    expect(text).toContain('ARP, Request who-has 192.0.2.1 tell 192.0.2.5');
  });
});

it('takes the time of the first frame when the clock has not been read yet', () => {
  const path = join(directory, 'c.pcap');
  const fd = openSync(path, 'w');
  pcap.open(fd, arena, 0, unexpected);
  pcap.frame(1000, 42, 123_456_789);
  pcap.flush();
  closeSync(fd);
  expect(Math.abs(readFileSync(path).readUInt32LE(24) - Date.now() / 1000)).toBeLessThan(5);
});

it('stops, and says so once, when nothing can be written any more', () => {
  const fd = openSync(join(directory, 'b.pcap'), 'w');
  const reasons: string[] = [];
  pcap.open(fd, arena, 0, (reason) => reasons.push(reason));
  closeSync(fd);
  const readOnly = openSync('/dev/null', 'r');
  expect(readOnly).toBe(fd);
  pcap.frame(1000, 42, 1);
  pcap.flush();
  pcap.frame(1000, 42, 2);
  pcap.flush();
  closeSync(readOnly);
  expect(reasons).toEqual([expect.stringContaining('EBADF')]);
});

it('a header that cannot be written is an error at once', () => {
  const readOnly = openSync('/dev/null', 'r');
  expect(() => pcap.open(readOnly, arena, 0, unexpected)).toThrow('EBADF');
  closeSync(readOnly);
});
