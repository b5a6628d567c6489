// SPDX-License-Identifier: Apache-2.0
/*
 * Frames to a hypervisor over a stream socket: each behind its length (32 bits, big endian), with complete checksums and within the
 * MTU. The bytes that a frame and its virtio-net header become are the same however often they are made, so nothing is kept here of a
 * write that stopped in the middle: the caller says how many bytes of the first frame were written already.
 */
#include <sys/uio.h>

#include "calls.h"
#include "memory.h"
#include "segments.h"

static constexpr int32_t LENGTH_BYTES = 4;
/* UIO_MAXIOV of the kernel; a segment takes two. */
static constexpr int32_t RANGES_MAX = 1024;
/* Bytes of one write: what the socket refuses of it was made in vain, and sockets hold not much more. */
static constexpr int32_t WRITE_BYTES_MAX = 256 * 1024;

static uint8_t headers[RANGES_MAX / 2][(LENGTH_BYTES + HEADERS_BYTES_MAX + 15) & -16];
static iovec ranges[RANGES_MAX];

struct Frame {
  uint8_t *vnet;
  /* Bytes of Ethernet frame. */
  int32_t bytes;
  bool super;
  Superframe parts;
  /* Bytes of it on the stream. */
  int32_t onStream;
};

static void putLength(uint8_t *at, int32_t bytes) {
  at[0] = static_cast<uint8_t>(bytes >> 24);
  at[1] = static_cast<uint8_t>(bytes >> 16);
  at[2] = static_cast<uint8_t>(bytes >> 8);
  at[3] = static_cast<uint8_t>(bytes);
}

/* Frame `i` of COL.OUT_*, its checksum completed. False: it is not what it has to be. */
static bool load(int32_t i, Frame &out) {
  int32_t at = memory.columns[COL_OUT_AT + i];
  int32_t len = memory.columns[COL_OUT_LEN + i];
  if (!inArena(at, len) || len <= VNET_BYTES || len > FRAME_BYTES_MAX) return false;
  out.vnet = memory.arena + at;
  out.bytes = len - VNET_BYTES;
  out.super = isSuperframe(out.vnet);
  if (!out.super) {
    out.onStream = LENGTH_BYTES + out.bytes;
    return completeChecksum(out.vnet, out.vnet + VNET_BYTES, out.bytes);
  }
  if (!parseSuperframe(out.vnet, out.vnet + VNET_BYTES, out.bytes, out.parts)) return false;
  out.onStream = out.parts.segments * (LENGTH_BYTES + out.parts.headersBytes) + out.parts.payloadBytes;
  return true;
}

/* Ranges of one write. */
struct Batch {
  int32_t count = 0;
  int32_t segments = 0;
  int32_t bytes = 0;
  bool full() const { return count + 2 > RANGES_MAX || bytes >= WRITE_BYTES_MAX; }
  void add(uint8_t *at, int32_t len) {
    ranges[count++] = {at, static_cast<size_t>(len)};
    bytes += len;
  }
  /* The same without its first `skip` bytes, of which what is left is taken off `skip`. */
  void addBehind(const uint8_t *at, int32_t len, int32_t &skip) {
    int32_t off = skip < len ? skip : len;
    skip -= off;
    if (off < len) add(const_cast<uint8_t *>(at) + off, len - off);
  }
};

/* Adds what `frame` has from byte `from` on, as far as the batch has room. */
static void append(Batch &batch, const Frame &frame, int32_t from) {
  if (!frame.super) {
    /* The length goes where the virtio-net header ends, which has nothing more to say there. */
    uint8_t *start = frame.vnet + VNET_BYTES - LENGTH_BYTES;
    putLength(start, frame.bytes);
    return batch.addBehind(start, frame.onStream, from);
  }
  const Superframe &parts = frame.parts;
  int32_t most = LENGTH_BYTES + parts.headersBytes + parts.segmentBytes;
  int32_t i = from / most;
  for (from -= i * most; i < parts.segments && !batch.full(); i++) {
    uint8_t *at = headers[batch.segments++];
    int32_t payload = segmentPayload(parts, i);
    putLength(at, parts.headersBytes + payload);
    writeSegmentHeaders(parts, i, at + LENGTH_BYTES);
    batch.addBehind(at, LENGTH_BYTES + parts.headersBytes, from);
    batch.addBehind(segmentData(parts, i), payload, from);
  }
}

/* #syscalls:controller writev — frames to a hypervisor, many a call */
int32_t writeStreamFrames(int32_t fd, int32_t from, int32_t to, int32_t skip) {
  if (from < 0 || from > to || to > OUT_MAX || skip < 0) return OUT_OF_RANGE;
  memory.columns[COL_ERRNO] = 0;
  memory.columns[COL_STREAM_SKIP] = 0;
  int32_t next = from;
  Frame frame;
  while (next < to) {
    Batch batch;
    int32_t begin = skip;
    for (int32_t i = next; i < to && !batch.full(); i++, begin = 0) {
      if (!load(i, frame) || begin >= frame.onStream) return OUT_OF_RANGE;
      append(batch, frame, begin);
    }
    ssize_t written = writev(fd, ranges, batch.count);
    if (written < 0) {
      memory.columns[COL_ERRNO] = errno == EINTR ? EAGAIN : errno;
      break;
    }
    /* Which frames these bytes are the end of. */
    for (int64_t left = int64_t{skip} + written; next < to; next++) {
      if (!load(next, frame)) return OUT_OF_RANGE;
      if (left < frame.onStream) {
        skip = static_cast<int32_t>(left);
        break;
      }
      left -= frame.onStream;
      skip = 0;
    }
    if (written < batch.bytes) {
      memory.columns[COL_ERRNO] = EAGAIN;
      break;
    }
  }
  memory.columns[COL_STREAM_SKIP] = skip;
  return next - from;
}
