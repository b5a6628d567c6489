// SPDX-License-Identifier: Apache-2.0
/* Batches of frames: the tap takes and gives one a system call, JavaScript crosses over once a batch. */
#include <unistd.h>

#include "calls.h"
#include "memory.h"

/* A cache line: no two frames share one. */
static constexpr int32_t FRAME_ALIGN = 64;
/* Room before each frame for a virtio-net header, also where the link has none: never the tail of the frame before. */
static constexpr int32_t HEADER_GAP = 12;

/* #syscalls:controller read — frames from the tap; bytes from pipes, netlink and files that the helper opened */
int32_t readFrames(int32_t fd, int32_t at, int32_t end, int32_t max) {
  if (max < 0 || max > FRAMES_MAX || at > end || !inArena(at, int64_t{end} - at)) return OUT_OF_RANGE;
  int32_t *frameAt = memory.columns + COL_FRAME_AT;
  int32_t *frameLen = memory.columns + COL_FRAME_LEN;
  int64_t cursor = (int64_t{at} + FRAME_ALIGN - 1) & -FRAME_ALIGN;
  int32_t n = 0;
  while (n < max && cursor + FRAME_BYTES_MAX <= end) {
    ssize_t got = read(fd, memory.arena + cursor, FRAME_BYTES_MAX);
    if (got <= 0) {
      if (n > 0) break;
      if (got == 0) return -EPIPE;
      return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    }
    frameAt[n] = static_cast<int32_t>(cursor);
    frameLen[n] = static_cast<int32_t>(got);
    cursor = (cursor + got + HEADER_GAP + FRAME_ALIGN - 1) & -FRAME_ALIGN;
    n++;
  }
  return n;
}

/* #syscalls:controller write — frames to the tap, datagrams and RPC messages, log and pcap records */
int32_t writeFrames(int32_t fd, int32_t from, int32_t to) {
  if (from < 0 || from > to || to > OUT_MAX) return OUT_OF_RANGE;
  const int32_t *outAt = memory.columns + COL_OUT_AT;
  const int32_t *outLen = memory.columns + COL_OUT_LEN;
  memory.columns[COL_ERRNO] = 0;
  for (int32_t i = from; i < to; i++) {
    if (!inArena(outAt[i], outLen[i])) return OUT_OF_RANGE;
    if (write(fd, memory.arena + outAt[i], static_cast<size_t>(outLen[i])) < 0) {
      memory.columns[COL_ERRNO] = errno;
      return i - from;
    }
  }
  return to - from;
}
