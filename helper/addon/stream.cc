// SPDX-License-Identifier: Apache-2.0
/* Bytes of streams: several ranges a call, peeked at before the guest has acknowledged them, discarded afterwards. */
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "calls.h"
#include "memory.h"

int32_t readBytes(int32_t fd, int32_t at, int32_t len) {
  if (!inArena(at, len)) return OUT_OF_RANGE;
  return errnoOr(read(fd, memory.arena + at, static_cast<size_t>(len)));
}

/* #syscalls:controller pread64 — /proc/net files, again from their start, where there is no NETLINK_SOCK_DIAG */
int32_t readAt(int32_t fd, int32_t at, int32_t len, int32_t offset) {
  if (!inArena(at, len)) return OUT_OF_RANGE;
  return errnoOr(pread(fd, memory.arena + at, static_cast<size_t>(len), offset));
}

int32_t writeBytes(int32_t fd, int32_t at, int32_t len) {
  if (!inArena(at, len)) return OUT_OF_RANGE;
  return errnoOr(write(fd, memory.arena + at, static_cast<size_t>(len)));
}

/* COL.IOV_* as the kernel's array; false: a range lies outside the arena. */
static bool gather(iovec *ranges, int32_t n) {
  if (n < 0 || n > IOV_MAX_BATCH) return false;
  const int32_t *at = memory.columns + COL_IOV_AT;
  const int32_t *len = memory.columns + COL_IOV_LEN;
  for (int32_t i = 0; i < n; i++) {
    if (!inArena(at[i], len[i])) return false;
    ranges[i] = {memory.arena + at[i], static_cast<size_t>(len[i])};
  }
  return true;
}

/* #syscalls:controller writev — segments of the guest into a socket, in one call */
int32_t writeRanges(int32_t fd, int32_t n) {
  iovec ranges[IOV_MAX_BATCH];
  if (!gather(ranges, n)) return OUT_OF_RANGE;
  return errnoOr(writev(fd, ranges, n));
}

/* #syscalls:controller readv — stream data into several frames */
/* #syscalls:controller recvmsg(*, *, MSG_PEEK+MSG_DONTWAIT) — the same, left in the socket until acknowledged */
int32_t receiveRanges(int32_t fd, int32_t n, bool peek) {
  iovec ranges[IOV_MAX_BATCH];
  if (!gather(ranges, n)) return OUT_OF_RANGE;
  if (!peek) return errnoOr(readv(fd, ranges, n));
  msghdr message = {};
  message.msg_iov = ranges;
  message.msg_iovlen = static_cast<size_t>(n);
  return errnoOr(recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT));
}

/* #syscalls:controller recvfrom(*, 0, *, MSG_TRUNC+MSG_DONTWAIT, 0, 0) — acknowledged bytes leave uncopied */
int32_t discard(int32_t fd, int32_t len) {
  if (len < 0) return OUT_OF_RANGE;
  return errnoOr(recv(fd, nullptr, static_cast<size_t>(len), MSG_TRUNC | MSG_DONTWAIT));
}

/* #syscalls:controller shutdown(*, SHUT_WR) — the guest's FIN */
int32_t shutdownWrite(int32_t fd) { return errnoOr(shutdown(fd, SHUT_WR)); }
