// SPDX-License-Identifier: Apache-2.0
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { testkit } from '../../support/testkit.ts';

const { native } = await import('../../../controller/io/io.ts');
const SOCK_DGRAM = 2;
const directory = mkdtempSync(join(tmpdir(), 'pastiche-log-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** A fresh module for each test: the log is one per process. */
let log: typeof import('../../../controller/obs/log.ts');
beforeEach(async () => {
  vi.resetModules();
  log = await import('../../../controller/obs/log.ts');
});

let count = 0;
const newFile = (flags = 'w+') => {
  const path = join(directory, `log-${count++}`);
  return { path, fd: openSync(path, flags, 0o600) };
};
const lines = (path: string): string[] => readFileSync(path, 'utf8').split('\n').slice(0, -1);
const program = { program: 'pasta', version: '1.2.3', pid: 4711, syslogFd: -1 };

describe('levels', () => {
  it.each([
    ['quiet', ['e', 'w']],
    ['info', ['e', 'w', 'i']],
    ['debug', ['e', 'w', 'i', 'd']],
    ['trace', ['e', 'w', 'i', 'd', 't']],
  ] as const)('%s', (level, expected) => {
    const { path, fd } = newFile();
    log.setLevel(level);
    log.openLog({ ...program, file: { fd, size: 100_000 } });
    log.leaveStderr();
    for (const [write, text] of [
      [log.error, 'e'],
      [log.warn, 'w'],
      [log.info, 'i'],
      [log.debug, 'd'],
      [log.trace, 't'],
    ] as const)
      write(text);
    closeSync(fd);
    expect(
      lines(path)
        .slice(1)
        .map((line) => line.at(-1)),
    ).toEqual(expected);
    expect([log.infoEnabled, log.debugEnabled, log.traceEnabled]).toEqual(
      ['info', 'debug', 'trace'].map((name) => expected.includes(name[0] as never)),
    );
  });
});

describe('log file', () => {
  it('has a header, and lines with time and label', () => {
    const { path, fd } = newFile();
    log.openLog({ ...program, file: { fd, size: 100_000 } });
    log.leaveStderr();
    log.warn('one');
    log.info('two');
    closeSync(fd);
    const [header, ...rest] = lines(path);
    expect(header).toMatch(/^pasta 1\.2\.3: .* \(\d+\)$/);
    expect(rest).toEqual([
      expect.stringMatching(/^\d+\.\d{4}: WARNING: one$/),
      expect.stringMatching(/^\d+\.\d{4}: info: {4}two$/),
    ]);
  });

  it('stays below its size, keeps the youngest whole lines in order, and says that it was cut', () => {
    const size = 40_960;
    const { path, fd } = newFile();
    log.openLog({ ...program, file: { fd, size } });
    log.leaveStderr();
    const total = 5000;
    for (let i = 0; i < total; i++) {
      log.info(`message ${i} ${'x'.repeat(i % 90)}`);
      if (i % 100 === 0) expect(statSync(path).size).toBeLessThanOrEqual(size);
    }
    closeSync(fd);
    const [header, ...rest] = lines(path);
    expect(header).toMatch(/^pasta 1\.2\.3: .* - log truncated at \d+\.\d{4}$/);
    const numbers = rest.map((line) => Number(/message (\d+) x*$/.exec(line)?.[1]));
    expect(numbers).toEqual(Array.from(numbers, (_, i) => total - numbers.length + i));
    expect(statSync(path).size).toBeGreaterThan(size * 0.6);
  });

  it('loses lines, not the process, when the descriptor cannot be read or written', () => {
    const { path, fd } = newFile('w');
    log.openLog({ ...program, file: { fd, size: 40_960 } });
    log.leaveStderr();
    for (let i = 0; i < 1000; i++) log.info('x'.repeat(80));
    closeSync(fd);
    log.info('after close');
    expect(statSync(path).size).toBeLessThanOrEqual(40_960);
  });
});

describe('text', () => {
  it('cannot forge lines or steer a terminal, and has a length', () => {
    const { path, fd } = newFile();
    log.openLog({ ...program, file: { fd, size: 100_000 } });
    log.leaveStderr();
    log.info('a\n0.0000: ERROR:   b\u001b[2J\u009b');
    log.info('y'.repeat(10_000));
    closeSync(fd);
    expect(lines(path)).toHaveLength(3);
    expect(lines(path)[1]).toMatch(/a\?0\.0000: ERROR: {3}b\?\[2J\?$/);
    expect(lines(path)[2]?.length).toBeLessThan(4200);
  });

  it('of a flow names index, protocol and direction', () => {
    expect(log.flowLine(17, 'TCP, from tap', 'reset')).toBe('Flow 17 (TCP, from tap): reset');
  });
});

it('the system log gets datagrams with priority and name, without debug messages', () => {
  const [ours, theirs] = testkit.socketpair(SOCK_DGRAM);
  log.setLevel('debug');
  log.leaveStderr();
  log.openLog({ ...program, syslogFd: ours, file: null });
  log.debug('not this');
  log.error('three');
  log.info('six');
  const text = (): string => Buffer.from(testkit.recv(theirs, 4096, 0)).toString();
  expect(text()).toMatch(/^<27>pasta\[4711\]: three$/);
  expect(text()).toMatch(/^<30>pasta\[4711\]: six$/);
  for (const fd of [ours, theirs]) testkit.close(fd);
});

it('a disk that is full: the lines that are lost are counted, and told when there is room again', () => {
  const { path, fd } = newFile();
  const full = openSync('/dev/full', 'r+');
  log.openLog({ ...program, file: { fd, size: 100_000 } });
  log.leaveStderr();
  log.info('before');
  const spare = openSync(path, 'r+');
  native.dup2(full, fd);
  for (let i = 0; i < 3; i++) log.info(`lost ${i}`);
  native.dup2(spare, fd);
  const now = performance.now();
  log.info('too soon');
  vi.spyOn(performance, 'now').mockImplementation(() => now + 1500);
  log.info('after');
  log.info('and on');
  vi.restoreAllMocks();
  closeSync(fd);
  expect(lines(path).map((line) => line.replace(/^[0-9.]+: (info: +)?/, ''))).toEqual([
    expect.stringMatching(/^pasta/),
    'before',
    expect.stringMatching(/^WARNING: Lines lost: 4 \(ENOSPC/),
    'after',
    'and on',
  ]);
});

describe('a site', () => {
  it('warns five times a second and counts the rest', () => {
    const { path, fd } = newFile();
    log.openLog({ ...program, file: { fd, size: 100_000 } });
    log.leaveStderr();
    const fragments = log.site('IPv4 fragments');
    for (let i = 0; i < 12; i++) log.warnAt(fragments, 1000 + i, 'fragment dropped');
    log.warnAt(fragments, 2000, 'fragment dropped');
    log.warnAt(fragments, 9000, 'fragment dropped');
    closeSync(fd);
    const text = lines(path)
      .slice(1)
      .map((line) => line.replace(/^.*WARNING: /, ''));
    expect(text).toEqual([
      ...Array.from({ length: 5 }, () => 'fragment dropped'),
      'IPv4 fragments: 7 more not logged',
      'fragment dropped',
      'fragment dropped',
    ]);
  });
});
