// SPDX-License-Identifier: Apache-2.0
/*
 * O_NONBLOCK is of the open file, which the one who sent a descriptor has as well: set is what it was a moment ago. So it is set before each
 * write, and nothing is ever read from an event counter.
 */
#include "foreign-fd.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "calls.h"
#include "memory.h"

/*
 * glibc's own fstat takes a path, which the filter refuses; where pointers have 64 bits the kernel's record is the same.
 * #syscalls:controller fstat — what a hypervisor handed over, and how long a guest's memory is
 */
int32_t fileOf(int32_t fd, struct stat &out) {
  static_assert(sizeof(long) == 8, "struct stat of the system call is another with 32 bits");
  return static_cast<int32_t>(syscall(SYS_fstat, fd, &out));
}

static int32_t add(int32_t fd, uint64_t value) {
  if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return -errno;
  ssize_t n = write(fd, &value, sizeof value);
  if (n < 0) return -errno;
  return n == sizeof value ? 0 : -EINVAL;
}

/*
 * An event counter has no type of file, as all that the kernel makes without an inode; of those it is the one that takes the 8 bytes of a number,
 * and nothing comes of a nought (eventfd(2)).
 */
int32_t checkEvent(int32_t fd) {
  struct stat file;
  if (fileOf(fd, file) != 0) return -errno;
  return (file.st_mode & S_IFMT) == 0 ? add(fd, 0) : -EINVAL;
}

int32_t signalEvent(int32_t fd) { return add(fd, 1); }

/* A socket whose sender asked for it (SO_LINGER) holds up close(2) until its data is sent. */
int32_t closeForeign(int32_t fd) {
  struct stat file;
  if (fileOf(fd, file) == 0 && S_ISSOCK(file.st_mode)) (void)lingerZero(fd);
  return closeFd(fd);
}
