// SPDX-License-Identifier: Apache-2.0
/* Connections that come in, and those of loopback to loopback: bytes go from socket to socket through a pipe, by reference. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "calls.h"
#include "memory.h"

/* Where the second of accept's two addresses lies, after the first. */
static constexpr int32_t ADDRESS_STRIDE = 32;
/* The most that one splice(2) is asked for: whatever a pipe can hold. */
static constexpr size_t CHUNK_BYTES = 1 << 30;
/* Below it a pipe is not worth asking again for a larger size. */
static constexpr int32_t PIPE_BYTES_MIN = 64 * 1024;

static void storeAddress(const sockaddr_storage &a, uint8_t *at) {
  if (a.ss_family == AF_INET6) {
    const auto &in6 = reinterpret_cast<const sockaddr_in6 &>(a);
    std::memcpy(at, &in6.sin6_addr, 16);
    std::memcpy(at + 16, &in6.sin6_port, 2);
    return;
  }
  const auto &in4 = reinterpret_cast<const sockaddr_in &>(a);
  std::memset(at, 0, 10);
  std::memset(at + 10, 0xff, 2);
  std::memcpy(at + 12, &in4.sin_addr, 4);
  std::memcpy(at + 16, &in4.sin_port, 2);
}

/* #syscalls:controller accept4(*, *, *, SOCK_NONBLOCK+SOCK_CLOEXEC) — a connection to a forwarded port */
int32_t acceptFrom(int32_t fd, int32_t at) {
  if (!inArena(at, 2 * ADDRESS_STRIDE)) return OUT_OF_RANGE;
  sockaddr_storage address = {};
  socklen_t len = sizeof address;
  int accepted = accept4(fd, reinterpret_cast<sockaddr *>(&address), &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (accepted < 0) return -errno;
  storeAddress(address, memory.arena + at);
  /* #syscalls:controller getsockname — which of the host's addresses a client asked for */
  len = sizeof address;
  if (getsockname(accepted, reinterpret_cast<sockaddr *>(&address), &len) < 0) {
    int error = errno;
    closeFd(accepted);
    return -error;
  }
  storeAddress(address, memory.arena + at + ADDRESS_STRIDE);
  return accepted;
}

/*
 * #syscalls:controller pipe2(*, O_NONBLOCK+O_CLOEXEC) — what bytes go through between two sockets
 * #syscalls:controller fcntl(*, F_SETPIPE_SZ, *) — as large as pays; EPERM where the user has too many pages in pipes
 * #syscalls:controller fcntl(*, F_GETPIPE_SZ, *) — what was granted instead
 */
int32_t makePipe(int32_t bytes) {
  int ends[2];
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0) return -errno;
  int32_t granted = -1;
  for (int32_t size = bytes; granted < 0 && size > PIPE_BYTES_MIN; size /= 2) {
    granted = fcntl(ends[1], F_SETPIPE_SZ, size);
  }
  if (granted < 0) granted = fcntl(ends[1], F_GETPIPE_SZ, 0);
  memory.columns[COL_FD] = ends[0];
  memory.columns[COL_FD + 1] = ends[1];
  return granted;
}

/* #syscalls:controller splice(*, 0, *, 0, *, SPLICE_F_MOVE+SPLICE_F_NONBLOCK|SPLICE_F_MOVE+SPLICE_F_NONBLOCK+SPLICE_F_MORE) — loopback to loopback, uncopied */
static ssize_t move(int32_t from, int32_t to, size_t len, uint32_t more) {
  ssize_t n = 0;
  do {
    n = splice(from, nullptr, to, nullptr, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK | more);
  } while (n < 0 && errno == EINTR);
  return n;
}

/* Empties the pipe into `to`: 0, or why it does not get empty. */
static int32_t drain(int32_t pipeOut, int32_t to, uint32_t more, int64_t &held, int64_t &moved) {
  while (held > 0) {
    ssize_t n = move(pipeOut, to, static_cast<size_t>(held), more);
    if (n <= 0) return n < 0 && errno == EAGAIN ? SPLICE_FULL : SPLICE_TO_FAILED;
    held -= n;
    moved += n;
  }
  return 0;
}

/* The pipe is empty when it is filled, so that EAGAIN can only mean the socket. */
static int32_t fill(int32_t from, int32_t pipeIn, int64_t &held) {
  ssize_t n = move(from, pipeIn, CHUNK_BYTES, 0);
  if (n > 0) {
    held = n;
    return 0;
  }
  if (n == 0) return SPLICE_END;
  return errno == EAGAIN ? SPLICE_EMPTY : SPLICE_FROM_FAILED;
}

int32_t spliceThrough(int32_t from, int32_t pipeIn, int32_t pipeOut, int32_t to, int32_t held, int32_t budget,
                      bool last) {
  if (held < 0) return OUT_OF_RANGE;
  int64_t inside = held;
  int64_t moved = 0;
  int32_t stop = 0;
  errno = 0;
  while ((stop = drain(pipeOut, to, last ? SPLICE_F_MORE : 0, inside, moved)) == 0 && moved < budget) {
    if ((stop = fill(from, pipeIn, inside)) != 0) break;
  }
  memory.columns[COL_SPLICE_ERRNO] = stop == SPLICE_FROM_FAILED || stop == SPLICE_TO_FAILED ? errno : 0;
  memory.columns[COL_SPLICE_STOP] = stop;
  memory.columns[COL_SPLICE_HELD] = static_cast<int32_t>(inside);
  return static_cast<int32_t>(moved < INT32_MAX ? moved : INT32_MAX);
}
