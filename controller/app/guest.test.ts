// SPDX-License-Identifier: Apache-2.0
/** One guest at a time: who is let in, who is not, and what follows when one goes. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import type { GuestLink } from '../link/link.ts';

vi.mock('../io/io.ts', () => import('../../test/support/fake-io.ts'));
const fake = await import('../../test/support/fake-io.ts');
const log = await import('../obs/log.ts');
const guest = await import('./guest.ts');

const EAGAIN = 11;
const EMFILE = 24;
const LISTENER = 7;

type Settle = (errno: number, result: { fd: number; pid: number } | null) => void;
let waiting: Settle[] = [];
let roomToAsk = true;
let connection = -1;
const link = {
  connect: (fd: number) => {
    connection = fd;
  },
  connected: () => connection >= 0,
} as GuestLink;
const ask = ((_side: string, _method: string, _params: object, settle: Settle) => {
  if (roomToAsk) waiting.push(settle);
  return roomToAsk;
}) as never;
/** As the helper answers: a descriptor, or an errno. */
const answer = (errno: number, fd = -1): void => {
  const settle = waiting.shift() as Settle;
  if (fd >= 0) fake.addSocket(fd);
  settle(errno, fd < 0 ? null : { fd, pid: 4711 });
};
const watched = (): boolean => fake.sockets.get(LISTENER)?.events === fake.EPOLLIN;
const hangUp = (): void => {
  connection = -1;
  guest.onGone('it is gone');
};
const begin = (listening: boolean, oneOff: boolean): void =>
  guest.configure({ link, fd: LISTENER, listening, oneOff, ask });

beforeEach(() => {
  fake.reset();
  fake.addSocket(LISTENER);
  fake.setNow(1000);
  waiting = [];
  roomToAsk = true;
  connection = -1;
});

describe('behind a listening socket', () => {
  test('the first is let in, further ones are hung up on, the next comes when it has gone', () => {
    begin(true, false);
    expect(watched()).toBe(true);
    guest.onReadable();
    expect(watched()).toBe(false);
    answer(0, 20);
    expect(connection).toBe(20);
    expect(watched()).toBe(true);
    guest.onReadable();
    answer(0, 21);
    expect(connection).toBe(20);
    expect(fake.closedFds).toEqual([21]);
    hangUp();
    expect(guest.ended()).toBe(null);
    guest.onReadable();
    answer(0, 22);
    expect(connection).toBe(22);
    expect(fake.closedFds).toEqual([21]);
  });

  test('one that went before it was accepted is waited for no longer', () => {
    begin(true, false);
    guest.onReadable();
    answer(EAGAIN);
    expect(watched()).toBe(true);
    expect(connection).toBe(-1);
  });

  const triedAgain = (): void => {
    expect(watched()).toBe(false);
    expect(guest.nextDelay(1000)).toBe(1000);
    guest.tick(1999);
    expect(watched()).toBe(false);
    guest.tick(2000);
    expect(watched()).toBe(true);
    expect(guest.nextDelay(2000)).toBe(-1);
  };
  test('without descriptors it is tried again in a second', () => {
    begin(true, false);
    guest.onReadable();
    answer(EMFILE);
    triedAgain();
  });
  test('so it is where the helper has too much to do', () => {
    begin(true, false);
    roomToAsk = false;
    guest.onReadable();
    triedAgain();
  });

  test('who connects and hangs up again and again does not fill the log: five lines a second of each, and how many there were', () => {
    const directory = mkdtempSync(join(tmpdir(), 'pastiche-guest-'));
    const path = join(directory, 'log');
    const fd = openSync(path, 'w+');
    log.openLog({ program: 'passt', version: '1', pid: 1, syslogFd: -1, file: { fd, size: 1_000_000 } });
    log.leaveStderr();
    begin(true, false);
    const visit = (): void => {
      guest.onReadable();
      answer(0, 20);
      hangUp();
    };
    // Beyond what other tests have logged.
    fake.setNow(10_000);
    for (let i = 0; i < 1000; i++) visit();
    fake.setNow(11_000);
    visit();
    closeSync(fd);
    const lines = readFileSync(path, 'utf8')
      .split('\n')
      .map((line) => line.replace(/^[\d.]+: \w+: +/, ''));
    expect(lines.filter((line) => line === 'Accepted connection from PID 4711')).toHaveLength(6);
    expect(lines.filter((line) => line === 'it is gone')).toHaveLength(6);
    expect(lines).toContain('Connections of guests accepted: 995 more not logged');
    expect(lines).toContain('Ends of connections of guests: 995 more not logged');
    rmSync(directory, { recursive: true });
  });

  test('--one-off: the first one’s end is the end, and nobody is let in after it', () => {
    begin(true, true);
    guest.onReadable();
    answer(0, 20);
    guest.onReadable();
    hangUp();
    expect(guest.ended()).toBe('it is gone');
    answer(0, 21);
    expect(connection).toBe(-1);
    expect(fake.closedFds).toEqual([21]);
  });
});

test('--fd: it is there from the start, and its end is the end', () => {
  begin(false, false);
  expect(connection).toBe(LISTENER);
  expect(guest.ended()).toBe(null);
  hangUp();
  expect(guest.ended()).toBe('it is gone');
});
