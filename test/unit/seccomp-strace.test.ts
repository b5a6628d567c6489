// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { callsByProfile, parseStrace, pasticheProfiles, unannotated } from '../support/strace.ts';

const LOG = `100 execve("/usr/bin/node", ["node"], 0x7ffe /* 0 vars */) = 0
100 clone3({flags=CLONE_VM|CLONE_THREAD|CLONE_SIGHAND, stack_size=0x7fff00} <unfinished ...>
101 futex(0x7f00, FUTEX_WAIT_PRIVATE, 0, NULL <unfinished ...>
100 <... clone3 resumed> => {parent_tid=[101]}, 88) = 101
100 open("/etc/passwd", O_RDONLY) = 3
100 seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, {len=217, filter=0x7f6e} <unfinished ...>
101 <... futex resumed>)              = 0
101 sched_yield()                     = 0
100 <... seccomp resumed>)            = 0
101 getpgid(1)                        = -1 ENOANO (No anode)
100 read(3, "socket(AF_INET, SOCK_STREAM, 0) = 4", 64) = 36
100 --- SIGTERM {si_signo=SIGTERM, si_code=SI_USER, si_pid=1, si_uid=0} ---
101 +++ exited with 0 +++
100 exit_group(0)                     = ?
`;

describe('strace logs', () => {
  it('are read with calls that strace wrote in two parts joined', () => {
    const calls = parseStrace(LOG);
    expect(calls.map(({ name }) => name)).toEqual(
      'execve clone3 futex open seccomp sched_yield getpgid read exit_group'.split(' '),
    );
    expect(calls[2]).toEqual({
      pid: 101,
      name: 'futex',
      line: 2,
      endLine: 6,
      text: expect.stringMatching(/NULL\) += 0$/),
    });
  });

  it('take time stamps and bracketed process numbers', () => {
    expect(
      parseStrace('[pid  7] 12:01:02.000003 close(3) = 0\n1699.5 close(4) = 0').map(({ pid, name }) => [pid, name]),
    ).toEqual([
      [7, 'close'],
      [0, 'close'],
    ]);
  });

  it('count a filter from its end on, for every thread of the process', () => {
    const seen = callsByProfile(parseStrace(LOG), (leader, nth) =>
      leader === 100 && nth === 1 ? 'controller' : undefined,
    );
    expect([...(seen.get('controller')?.keys() ?? [])]).toEqual(['getpgid', 'read', 'exit_group']);
  });

  it('give a child the filters of its parent, and none to one made before them', () => {
    const log = `7 fork() = 8
8 open("a", O_RDONLY) = 3
7 prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, {len=9, filter=0x1}) = 0
7 fork( <unfinished ...>
9 write(1, "", 0) = 0
7 <... fork resumed>)  = 9
9 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=5, filter=0x1}) = 0
9 close(3) = 0
8 close(3) = 0
7 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=5, filter=0x1}) = -1 EACCES (Permission denied)
7 dup(3) = 4`;
    const seen = callsByProfile(parseStrace(log), (leader, nth) => `${leader}.${nth}`);
    const names = Object.fromEntries([...seen].map(([profile, calls]) => [profile, [...calls.keys()]]));
    expect(names).toEqual({ '7.1': ['fork', 'seccomp', 'dup'], '9.1': ['write', 'seccomp'], '9.2': ['close'] });
  });

  it('tell our processes apart', () => {
    const log = `1 fork() = 2
2 execve("/usr/bin/node", ["node"], 0x1 /* 0 vars */) = 0
1 fork() = 3
3 fork() = 4
1 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=9, filter=0x1}) = 0
3 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=9, filter=0x1}) = 0
1 openat(AT_FDCWD, "a", O_RDONLY) = 5
3 ioctl(5, TUNSETIFF, 0x1) = 0
3 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=5, filter=0x1}) = 0
1 seccomp(SECCOMP_SET_MODE_FILTER, 0, {len=7, filter=0x1}) = 0
2 seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, {len=8, filter=0x1}) = 0
2 epoll_pwait(3, [], 1, 0, NULL, 8) = 0
3 waitid(P_ALL, 0, NULL, WEXITED, NULL) = 0
1 connect(7, {sa_family=AF_INET}, 16) = 0
4 execve("/bin/sh", ["sh"], 0x1 /* 0 vars */) = 0`;
    const calls = parseStrace(log);
    const seen = callsByProfile(calls, pasticheProfiles(calls));
    expect(Object.fromEntries([...seen].map(([profile, found]) => [profile, [...found.keys()]]))).toEqual({
      setup: ['openat', 'ioctl', 'seccomp'],
      controller: ['epoll_pwait'],
      netns: ['waitid'],
      host: ['connect'],
    });
  });

  it('name what no annotation allows', () => {
    const seen = callsByProfile(parseStrace(LOG), () => 'controller' as const);
    const allowed = new Map([['controller' as const, new Set(['getpgid', 'exit_group'])]]);
    expect(unannotated(seen, allowed)).toEqual([
      expect.stringMatching(/^controller: read has no annotation \(process 100: read\(3/),
    ]);
    allowed.get('controller')?.add('read');
    expect(unannotated(seen, allowed)).toEqual([]);
  });
});
