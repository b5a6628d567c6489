// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { annotationsOf } from '../../seccomp/collect.mjs';
import { combinations, parseAnnotation } from '../../seccomp/grammar.mjs';
import { makesCall, withoutComments } from '../support/annotations.ts';

const callsOf = (text: string) => parseAnnotation(text).calls;
const value = (text: string) => ({ mask: '', value: text });

describe('an annotation', () => {
  it('names profiles, calls and a reason', () => {
    expect(parseAnnotation('host,netns connect close — new flows — and their end')).toEqual({
      profiles: ['host', 'netns'],
      calls: [
        { arch: '', names: ['connect'], args: [], text: 'connect', errno: '' },
        { arch: '', names: ['close'], args: [], text: 'close', errno: '' },
      ],
      reason: 'new flows — and their end',
    });
  });

  it('has conditions: any value, alternatives, bits together, masks, numbers', () => {
    const [call] = callsOf('host socket(AF_INET|AF_INET6, SOCK_STREAM+SOCK_CLOEXEC|0x2, *, -1, &MAP_ANONYMOUS==0) — x');
    expect(call?.args).toEqual([
      [value('AF_INET'), value('AF_INET6')],
      [value('SOCK_STREAM | SOCK_CLOEXEC'), value('0x2')],
      [],
      [value('-1')],
      [{ mask: 'MAP_ANONYMOUS', value: '0' }],
    ]);
  });

  it('has alternatives of calls, an architecture, and an errno for all its calls', () => {
    expect(callsOf('setup i686:socketcall epoll_wait|epoll_pwait => EPERM — x')).toMatchObject([
      { arch: 'i686', names: ['socketcall'], errno: 'EPERM' },
      { arch: '', names: ['epoll_wait', 'epoll_pwait'], errno: 'EPERM' },
    ]);
  });

  it('stands for the cross product of its alternatives', () => {
    const [call] = callsOf('host f(A|B, *, C|D) — x');
    const rows = combinations(call?.args ?? []).map((row) =>
      row.map(({ arg, value: text }) => `${arg}${text}`).join(' '),
    );
    expect(rows).toEqual(['0A 2C', '0A 2D', '0B 2C', '0B 2D']);
    expect(combinations([[], []])).toEqual([[]]);
  });

  it.each([
    ['host connect', /no reason/],
    ['host connect —  ', /reason after the em dash is empty/],
    ['host — x', /a profile and a system call are needed/],
    ['guest connect — x', /unknown profile "guest"/],
    ['host sparc:connect — x', /unknown architecture "sparc"/],
    ['host connect(*, — x', /"\(" is not closed/],
    ['host connect(*)) — x', /one "\)" too many/],
    ['host connect(*,,*) — x', /an argument is empty/],
    ['host connect(A-B) — x', /"A-B" is no C constant/],
    ['host connect(system("x")) — x', /is no C constant/],
    ['host f(*,*,*,*,*,*,*) — x', /more than 6 arguments/],
    ['host Connect — x', /"Connect" is no system call/],
    ['host connect => — x', /needs an errno/],
    ['host connect => 5 — x', /needs an errno/],
    ['host a => EPERM b => EIO — x', /may stand once/],
  ])('%s is refused', (text, message) => {
    expect(() => parseAnnotation(text)).toThrow(message);
  });
});

describe('annotations of a file', () => {
  it('are found in every form of comment, with their lines, also over two lines', () => {
    const source = `/* #syscalls:host a — one */
// #syscalls:netns b — two
/*
 * #syscalls:controller c(*, FIRST+SECOND,
 *   THIRD) — three
 */
 * mentions #syscalls:PROFILE nowhere
`.replace(/^ \* mentions.*\n/m, '');
    expect(annotationsOf('f.c', source).map(({ line, calls, reason }) => [line, calls[0]?.text, reason])).toEqual([
      [1, 'a', 'one'],
      [2, 'b', 'two'],
      [4, 'c(*, FIRST+SECOND, THIRD)', 'three'],
    ]);
  });

  it('are refused with file and line', () => {
    expect(() => annotationsOf('f.c', '\n/* #syscalls:host connect */')).toThrow(/^f\.c:2: #syscalls: no reason/);
  });
});

describe('a call in code', () => {
  it('is seen by name, by number and through its C function, not in a comment', () => {
    const code = withoutComments('/* connect( */ x = "a // b"; bind(1); // listen(2)\nsyscall(SYS_gettid); recv (3);');
    expect(['bind', 'gettid', 'recvfrom'].map((name) => makesCall(code, name))).toEqual([true, true, true]);
    expect(['connect', 'listen', 'close'].map((name) => makesCall(code, name))).toEqual([false, false, false]);
  });
});
