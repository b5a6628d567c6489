// SPDX-License-Identifier: Apache-2.0
/*
 * Files are mapped as far as they reach when they are looked at. A hypervisor that truncates one afterwards makes us meet SIGBUS, which vring.cc
 * turns into the end of its connection.
 */
#include "vring-memory.h"

#include <endian.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "foreign-fd.h"

static constexpr uint64_t RECORD_BYTES = 32;
static constexpr uint64_t PAGE_BYTES_MIN = 4096;
/* The largest pages of any architecture that are no mistake. */
static constexpr uint64_t PAGE_BYTES_MAX = uint64_t{16} << 30;

static GuestRegion regions[GUEST_REGIONS_MAX];
static int32_t regionCount = 0;
/* The region of the last hit: nearly always that of the next one. */
static int32_t hint = 0;

static uint64_t word(const uint8_t *record, int i) {
  uint64_t value;
  std::memcpy(&value, record + 8 * i, sizeof value);
  return le64toh(value);
}

static void unmapAll(GuestRegion *list, int32_t count) {
  for (int32_t i = 0; i < count; i++) munmap(list[i].mapping, list[i].mappedBytes);
}

static bool overlap(uint64_t a, uint64_t aSize, uint64_t b, uint64_t bSize) { return a < b + bSize && b < a + aSize; }

static bool overlapsAny(const GuestRegion &one, const GuestRegion *list, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    if (overlap(one.physical, one.size, list[i].physical, list[i].size)) return true;
    if (overlap(one.user, one.size, list[i].user, list[i].size)) return true;
  }
  return false;
}

/*
 * #syscalls:controller mmap(*, *, PROT_READ+PROT_WRITE, MAP_SHARED, *, *) — the memory of a guest, from descriptors that its hypervisor sent; never executable
 */
static int32_t mapOne(GuestRegion &out, const uint8_t *record, int32_t fd) {
  out.physical = word(record, 0);
  out.size = word(record, 1);
  out.user = word(record, 2);
  uint64_t offset = word(record, 3);
  uint64_t end = 0;
  if (out.size == 0 || __builtin_add_overflow(out.physical, out.size, &end)) return -EINVAL;
  if (__builtin_add_overflow(out.user, out.size, &end) || __builtin_add_overflow(offset, out.size, &end)) return -EINVAL;
  struct stat file;
  if (fileOf(fd, file) != 0) return -errno;
  if (!S_ISREG(file.st_mode) || end > static_cast<uint64_t>(file.st_size)) return -EINVAL;
  /* Of a file of huge pages only whole ones can be mapped; the block size is theirs. */
  auto page = static_cast<uint64_t>(file.st_blksize);
  if (page < PAGE_BYTES_MIN || page > PAGE_BYTES_MAX || (page & (page - 1)) != 0) page = PAGE_BYTES_MIN;
  uint64_t start = offset & ~(page - 1);
  out.mappedBytes = (end - start + page - 1) & ~(page - 1);
  if (out.mappedBytes < end - start || out.mappedBytes > SIZE_MAX / 2) return -EINVAL;
  out.mapping = mmap(nullptr, out.mappedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(start));
  if (out.mapping == MAP_FAILED) return -errno;
  /* A guest's memory does not belong into a core dump of ours. */
  (void)madvise(out.mapping, out.mappedBytes, MADV_DONTDUMP);
  out.at = static_cast<uint8_t *>(out.mapping) + (offset - start);
  return 0;
}

int32_t mapGuest(const uint8_t *records, int32_t count, const int32_t *fds) {
  GuestRegion mapped[GUEST_REGIONS_MAX];
  int32_t error = count > 0 && count <= GUEST_REGIONS_MAX ? 0 : -EINVAL;
  int32_t n = 0;
  while (error == 0 && n < count) {
    error = mapOne(mapped[n], records + RECORD_BYTES * static_cast<uint64_t>(n), fds[n]);
    if (error == 0 && overlapsAny(mapped[n], mapped, n)) error = -EEXIST;
    /* One that overlaps is mapped, too. */
    if (error == 0 || error == -EEXIST) n++;
  }
  unmapGuest();
  if (error != 0) {
    unmapAll(mapped, n);
    return error;
  }
  std::memcpy(regions, mapped, sizeof regions);
  regionCount = n;
  return 0;
}

void unmapGuest() {
  unmapAll(regions, regionCount);
  regionCount = 0;
  hint = 0;
}

uint8_t *atPhysical(uint64_t address, uint64_t &len) {
  for (int32_t tried = 0, i = hint; tried < regionCount; tried++, i = i + 1 == regionCount ? 0 : i + 1) {
    const GuestRegion &region = regions[i];
    uint64_t inside = address - region.physical;
    if (address < region.physical || inside >= region.size) continue;
    hint = i;
    if (len > region.size - inside) len = region.size - inside;
    return region.at + inside;
  }
  return nullptr;
}

uint8_t *atUser(uint64_t address, uint64_t len, uint64_t align) {
  if (address % align != 0) return nullptr;
  for (int32_t i = 0; i < regionCount; i++) {
    const GuestRegion &region = regions[i];
    uint64_t inside = address - region.user;
    if (address < region.user || inside >= region.size || len > region.size - inside) continue;
    uint8_t *at = region.at + inside;
    /* A file's offset need not be a multiple of what the address is one of. */
    return reinterpret_cast<uintptr_t>(at) % align == 0 ? at : nullptr;
  }
  return nullptr;
}
