// SPDX-License-Identifier: Apache-2.0
/* One mapping for everything: [arena | columns | clock], so that a stray index meets an unmapped page at its end. */
#include <sys/mman.h>
#include <unistd.h>

#include "calls.h"
#include "checksum.h"
#include "memory.h"

static_assert(COL_STREAM_SKIP < COLUMN_INTS);
static_assert(COL_FD_COUNT - COL_FD >= 253, "SCM_MAX_FD descriptors fit");
static_assert(COL_EVENT_MASK - COL_EVENT_REF >= EVENTS_MAX && COL_FRAME_AT - COL_EVENT_MASK >= EVENTS_MAX);
static_assert(COL_FRAME_LEN - COL_FRAME_AT >= FRAMES_MAX && COL_OUT_AT - COL_FRAME_LEN >= FRAMES_MAX);
static_assert(COL_OUT_LEN - COL_OUT_AT >= OUT_MAX && COL_IOV_AT - COL_OUT_LEN >= OUT_MAX);
static_assert(COL_IOV_LEN - COL_IOV_AT >= IOV_MAX_BATCH && COL_DGRAM_LEN - COL_IOV_LEN >= IOV_MAX_BATCH);
static_assert(COL_DGRAM_GSO - COL_DGRAM_LEN >= DATAGRAMS_MAX && COL_FD - COL_DGRAM_TOS >= DATAGRAMS_MAX);

Memory memory = {nullptr, nullptr, nullptr};

static constexpr size_t HUGE_PAGE_BYTES = 2 * 1024 * 1024;
static constexpr size_t COLUMN_BYTES = COLUMN_INTS * sizeof(int32_t);
static constexpr size_t WHOLE_BYTES = ARENA_BYTES + COLUMN_BYTES + 4096;

int mapMemory() {
  if (memory.arena != nullptr) return 0;
  /* Room to start at a huge page: an unaligned region has one such page fewer, and two half ones. */
  size_t reserved = WHOLE_BYTES + HUGE_PAGE_BYTES;
  void *base = mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return -errno;
  uintptr_t start = (reinterpret_cast<uintptr_t>(base) + HUGE_PAGE_BYTES - 1) & ~(HUGE_PAGE_BYTES - 1);
  auto *arena = reinterpret_cast<uint8_t *>(start);
  if (mprotect(arena, WHOLE_BYTES, PROT_READ | PROT_WRITE) != 0) return -errno;
  /* Advice only: a kernel without transparent huge pages refuses it and nothing is lost but some TLB reach. */
  (void)madvise(arena, ARENA_HOT_BYTES, MADV_HUGEPAGE);
  /* Traffic of the guest does not belong into a core dump. */
  (void)madvise(arena, ARENA_BYTES, MADV_DONTDUMP);
  memory.arena = arena;
  memory.columns = reinterpret_cast<int32_t *>(arena + ARENA_BYTES);
  memory.clock = reinterpret_cast<double *>(arena + ARENA_BYTES + COLUMN_BYTES);
  return 0;
}

int32_t checksumRange(int32_t at, int32_t len, int32_t initial) {
  if (!inArena(at, len)) return OUT_OF_RANGE;
  return checksum(memory.arena + at, static_cast<size_t>(len), static_cast<uint32_t>(initial));
}
