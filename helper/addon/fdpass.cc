// SPDX-License-Identifier: Apache-2.0
/* The RPC channel: one datagram a message, descriptors beside it (unix(7), SCM_RIGHTS). */
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "calls.h"
#include "memory.h"

/* SCM_MAX_FD of the kernel. */
static constexpr int32_t FDS_MAX = 253;

/* A helper that is slow to read must not hold us up, whatever mode the descriptor is in. No address: the filter has none. */
/* #syscalls:controller sendto(*, *, *, MSG_DONTWAIT+MSG_NOSIGNAL, 0, 0) — requests to the helper, as far as it has room */
int32_t channelSend(int32_t fd, int32_t at, int32_t len) {
  if (!inArena(at, len)) return OUT_OF_RANGE;
  return errnoOr(send(fd, memory.arena + at, static_cast<size_t>(len), MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* Notes the descriptors of a message in COL.FD; false if there was one too many, which is then closed. */
static bool takeDescriptors(msghdr &message) {
  bool all = true;
  int32_t count = 0;
  for (cmsghdr *item = CMSG_FIRSTHDR(&message); item != nullptr; item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    size_t n = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int32_t);
    for (size_t i = 0; i < n; i++) {
      int32_t received;
      std::memcpy(&received, CMSG_DATA(item) + i * sizeof received, sizeof received);
      if (count < FDS_MAX) {
        memory.columns[COL_FD + count++] = received;
      } else {
        closeForeign(received);
        all = false;
      }
    }
  }
  memory.columns[COL_FD_COUNT] = count;
  return all;
}

static void giveBack() {
  for (int32_t i = 0; i < memory.columns[COL_FD_COUNT]; i++) closeForeign(memory.columns[COL_FD + i]);
  memory.columns[COL_FD_COUNT] = 0;
}

/* #syscalls:controller recvmsg(*, *, MSG_CMSG_CLOEXEC|MSG_CMSG_CLOEXEC+MSG_DONTWAIT) — replies with descriptors */
int32_t channelRecv(int32_t fd, int32_t at, int32_t len, bool block) {
  if (!inArena(at, len)) return OUT_OF_RANGE;
  alignas(cmsghdr) static uint8_t control[CMSG_SPACE(FDS_MAX * sizeof(int32_t))];
  iovec data = {memory.arena + at, static_cast<size_t>(len)};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  memory.columns[COL_FD_COUNT] = 0;
  ssize_t got;
  do {
    got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (block ? 0 : MSG_DONTWAIT));
  } while (got < 0 && errno == EINTR && block);
  if (got < 0) return -errno;
  bool whole = takeDescriptors(message) && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  if (whole) return static_cast<int32_t>(got);
  giveBack();
  return -EMSGSIZE;
}
