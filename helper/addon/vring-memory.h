// SPDX-License-Identifier: Apache-2.0
/*
 * A guest's memory as its hypervisor shares it (vhost-user, VHOST_USER_SET_MEM_TABLE): some regions, each with a guest-physical and
 * a front-end address. All addresses that come here are the guest's or the hypervisor's: any value is possible.
 */
#pragma once
#include <cstdint>

/* VHOST_MEMORY_BASELINE_NREGIONS: what a front-end may send where CONFIGURE_MEM_SLOTS is not negotiated. */
inline constexpr int32_t GUEST_REGIONS_MAX = 8;

struct GuestRegion {
  uint64_t physical;
  uint64_t user;
  uint64_t size;
  /* Where the region's first byte is in our address space. */
  uint8_t *at;
  void *mapping;
  uint64_t mappedBytes;
};

/*
 * Replaces all regions by `count` that records of 32 bytes describe (little endian: guest-physical address, size, front-end address,
 * offset in the file of fds[i]). Descriptors stay the caller's. 0 or -errno, and then there are none.
 */
int32_t mapGuest(const uint8_t *records, int32_t count, const int32_t *fds);
void unmapGuest();

/* Where guest-physical `address` is, and in `len` how much of the bytes asked for lies behind it in one piece. nullptr: nowhere. */
uint8_t *atPhysical(uint64_t address, uint64_t &len);
/* Where `len` bytes at front-end `address` are, which is a multiple of `align`. nullptr: they do not lie in one region. */
uint8_t *atUser(uint64_t address, uint64_t len, uint64_t align);
