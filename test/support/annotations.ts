// SPDX-License-Identifier: Apache-2.0
/** Whether an annotation stands in a file that makes its call: by the call's own name, or through a C function or Node function. */

/** System call → functions that make it, where their names differ. */
const WRAPPERS: Readonly<Record<string, readonly string[]>> = {
  access: ['faccessat', 'existsSync'],
  clock_nanosleep: ['nanosleep', 'usleep', 'sleep'],
  clone: ['fork', 'vfork'],
  clone3: ['fork', 'vfork'],
  close: ['fclose', 'closedir', 'closeSync'],
  dup3: ['dup2'],
  epoll_pwait: ['epoll_wait'],
  exit_group: ['exit', '_exit', '_Exit', 'abort'],
  faccessat: ['access'],
  faccessat2: ['access', 'faccessat'],
  fstat: ['fstat', 'fstatSync'],
  ftruncate: ['ftruncateSync'],
  getdents64: ['readdir', 'opendir'],
  mmap: ['malloc', 'calloc'],
  newfstatat: ['stat', 'lstat', 'fstat', 'fstatat'],
  open: ['fopen', 'opendir', 'openSync'],
  openat: ['open', 'fopen', 'opendir', 'openSync'],
  pipe2: ['pipe'],
  poll: ['poll'],
  ppoll: ['poll'],
  pread64: ['pread', 'readSync'],
  prlimit64: ['getrlimit', 'setrlimit', 'prlimit'],
  pselect6: ['select', 'pselect'],
  pwrite64: ['pwrite', 'writeSync'],
  read: ['fgets', 'fread', 'getline', 'readSync'],
  readlinkat: ['readlink', 'realpath'],
  recvfrom: ['recv'],
  rt_sigaction: ['sigaction', 'signal'],
  rt_sigprocmask: ['sigprocmask', 'pthread_sigmask'],
  rt_sigreturn: ['sigaction', 'signal'],
  rt_sigtimedwait: ['sigwaitinfo', 'sigtimedwait'],
  sendto: ['send'],
  signalfd4: ['signalfd'],
  tgkill: ['raise', 'abort'],
  timerfd_settime: ['timerfd_settime'],
  umount2: ['umount', 'umount2'],
  unlinkat: ['unlink', 'unlinkat'],
  wait4: ['waitpid', 'wait', 'wait3'],
  write: ['dprintf', 'fprintf', 'printf', 'puts', 'fputs', 'perror', 'fflush', 'vdprintf', 'writeSync'],
};

/** C, C++ or TypeScript without comments; text in quotes stays (nobody calls from there, but `//` in a string must not start a comment). */
export const withoutComments = (source: string): string =>
  source.replace(
    /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, quoted?: string) => quoted ?? ' ',
  );

/** True if the code calls `name`, names its number (SYS_x, __NR_x), or calls a function that makes it. */
export const makesCall = (code: string, name: string): boolean => {
  if (new RegExp(`\\b(?:SYS_|__NR_)${name}\\b`).test(code)) return true;
  return [name, ...(WRAPPERS[name] ?? [])].some((callee) => new RegExp(`\\b${callee}\\s*\\(`).test(code));
};
