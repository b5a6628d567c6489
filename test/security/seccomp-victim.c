/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Installs a filter and makes one call under it: seccomp-victim PROFILE MODE NUMBER [ARGUMENT…]
 *
 * PROFILE   setup, host, netns (the arrays of helper/gen/filters.h), or the path of a file with a sock_filter array
 * MODE      native, or i386 (the same number through int $0x80; x86_64 only)
 * ARGUMENT  a number, or @TEXT for the address of TEXT
 * Exit status: 0 for a call that succeeded, else its errno; death by SIGSYS when the filter kills.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filters.h"

enum { CANNOT_START = 250 };

static struct sock_filter from_file[BPF_MAXINSNS];

static int find(const char *profile, struct sock_fprog *out) {
#define BUILT_IN(name, symbol)                                            \
  if (strcmp(profile, name) == 0) {                                       \
    *out = (struct sock_fprog){symbol##_LEN, (struct sock_filter *)symbol}; \
    return 0;                                                             \
  }
  BUILT_IN("setup", FILTER_SETUP)
  BUILT_IN("sandbox", FILTER_SANDBOX)
  BUILT_IN("host", FILTER_HOST)
  BUILT_IN("netns", FILTER_NETNS)
  int fd = open(profile, O_RDONLY | O_CLOEXEC);
  ssize_t len = fd < 0 ? -1 : read(fd, from_file, sizeof from_file);
  if (len <= 0) return -1;
  close(fd);
  *out = (struct sock_fprog){(unsigned short)((size_t)len / sizeof from_file[0]), from_file};
  return 0;
}

static long i386_call(long number, const long *a) {
#ifdef __x86_64__
  long result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]) : "memory");
  return result;
#else
  (void)number, (void)a;
  return -ENOSYS;
#endif
}

int main(int argc, char **argv) {
  struct sock_fprog filter;
  if (argc < 4 || find(argv[1], &filter) != 0) return CANNOT_START;
  long args[6] = {0};
  for (int i = 0; i < 6 && 4 + i < argc; i++)
    args[i] = argv[4 + i][0] == '@' ? (long)(argv[4 + i] + 1) : (long)strtoull(argv[4 + i], NULL, 0);
  long number = strtol(argv[3], NULL, 0);
  int native = strcmp(argv[2], "native") == 0;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return CANNOT_START;
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) return CANNOT_START;
  long result = native ? syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) : i386_call(number, args);
  syscall(SYS_exit_group, result == -1 && native ? errno : 0);
}
