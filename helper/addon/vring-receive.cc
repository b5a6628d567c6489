// SPDX-License-Identifier: Apache-2.0
/* Frames from a guest: chains of readable buffers, copied behind each other. */
#include "calls.h"
#include "vring.h"

using namespace vring;

static constexpr int64_t LIE = -1;
static constexpr int64_t TOO_LONG = -2;

static bool copyOut(const Descriptor &d, uint8_t *to) {
  for (uint64_t done = 0; done < d.len;) {
    uint64_t len = d.len - done;
    uint64_t address;
    if (__builtin_add_overflow(d.address, done, &address)) return false;
    const uint8_t *from = atPhysical(address, len);
    if (from == nullptr) return false;
    std::memcpy(to + done, from, len);
    done += len;
  }
  return true;
}

/* Copies a chain of up to `most` bytes. Its length, or LIE or TOO_LONG. */
static int64_t copyChain(const Ring &r, uint32_t head, uint8_t *to, uint64_t most) {
  Chain chain = chainAt(r, head);
  Descriptor d;
  uint64_t total = 0;
  for (;;) {
    Step step = next(chain, d);
    if (step == Step::OVER) return static_cast<int64_t>(total);
    if (step == Step::LIE || (d.flags & WRITE) != 0) return LIE;
    if (d.len > most - total) return TOO_LONG;
    if (!copyOut(d, to + total)) return LIE;
    total += d.len;
  }
}

/* A frame with a header of 12 bytes at `at`, whatever the guest's has. 0: none, and counted. */
static int32_t takeFrame(const Ring &r, uint32_t head, uint8_t *at) {
  uint64_t header = headerBytes();
  uint64_t missing = HEADER_BYTES - header;
  int64_t len = copyChain(r, head, at + missing, FRAME_MAX - missing);
  if (len < static_cast<int64_t>(header)) {
    memory.columns[len == TOO_LONG ? COL_VRING_LONG : COL_VRING_CHAIN]++;
    return 0;
  }
  if (missing != 0) {
    std::memmove(at, at + missing, header);
    std::memset(at + header, 0, missing);
  }
  return static_cast<int32_t>(len + static_cast<int64_t>(missing));
}

static int32_t receiveFrames(Ring &r, int64_t cursor, int64_t end, int32_t max) {
  int32_t *frameAt = memory.columns + COL_FRAME_AT;
  int32_t *frameLen = memory.columns + COL_FRAME_LEN;
  uint16_t before = r.used;
  int32_t n = 0;
  int32_t ready = waiting(r);
  for (int32_t chains = 0; chains < max && cursor + FRAME_BYTES_MAX <= end && looks < LOOKS_MAX; chains++) {
    if (ready == 0) {
      ready = look(r);
      if (ready == 0) {
        wantKick(r);
        ready = look(r);
      }
      if (ready == 0) {
        publish(r, before);
        memory.columns[COL_VRING_MORE] = 0;
        return n;
      }
    }
    int32_t head = ready < 0 ? -1 : headOf(r, 0);
    if (head < 0) return -EPROTO;
    wantNoKick(r);
    int32_t len = takeFrame(r, static_cast<uint32_t>(head), memory.arena + cursor);
    giveBack(r, static_cast<uint16_t>(head), 0);
    r.taken++;
    ready--;
    if (len == 0) continue;
    frameAt[n] = static_cast<int32_t>(cursor);
    frameLen[n++] = len;
    cursor = (cursor + len + HEADER_GAP + FRAME_ALIGN - 1) & -FRAME_ALIGN;
  }
  publish(r, before);
  memory.columns[COL_VRING_MORE] = 1;
  return n;
}

int32_t vringReceive(int32_t at, int32_t end, int32_t max) {
  if (max < 0 || max > FRAMES_MAX || at > end || !inArena(at, int64_t{end} - at)) return OUT_OF_RANGE;
  Ring &r = rings[TRANSMITQ];
  clearCounts();
  memory.columns[COL_VRING_MORE] = 0;
  if (!r.running) return 0;
  int32_t n = escaping([&] { return receiveFrames(r, (int64_t{at} + FRAME_ALIGN - 1) & -FRAME_ALIGN, end, max); });
  memory.columns[COL_VRING_LOOKS] = static_cast<int32_t>(looks);
  return n;
}
