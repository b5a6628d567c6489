// SPDX-License-Identifier: Apache-2.0
/*
 * The two split virtqueues of a virtio-net device (virtio 1.2 §2.7, §5.1.6), in memory that a guest and its hypervisor can change at any
 * time: each value of it is read once, then checked, then used, and frames are copied before anyone looks into them.
 *
 * A lie about the ring itself (an index too far, a chain's head outside) breaks the ring: it stays stopped until the hypervisor sets it up anew.
 * A lie inside a chain gives the chain back unused, and is counted. Chains may lie in several regions, piece by piece.
 *
 * Here is what both directions need: a ring's state, its values, its chains, and who wants to be told. vring.cc sets rings up,
 * vring-receive.cc takes frames from the guest, vring-send.cc brings them there.
 */
#pragma once
#include <endian.h>
#include <setjmp.h>
#include <signal.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "memory.h"
#include "vring-memory.h"

namespace vring {

/* struct virtq_desc, virtq_avail, virtq_used (§2.7.5, §2.7.6, §2.7.8). */
inline constexpr uint64_t DESCRIPTOR_BYTES = 16;
inline constexpr uint16_t NEXT = 1;
inline constexpr uint16_t WRITE = 2;
inline constexpr uint16_t INDIRECT = 4;
inline constexpr uint16_t NO_NOTIFY = 1;
inline constexpr uint16_t NO_INTERRUPT = 1;
inline constexpr uint32_t FLAGS = 0;
inline constexpr uint32_t INDEX = 2;
inline constexpr uint32_t RING = 4;

inline constexpr int32_t RECEIVEQ = 0;
inline constexpr int32_t TRANSMITQ = 1;
inline constexpr int32_t QUEUES = 2;

/* What a queue may hold at most, and so a chain (§2.7.5.3.1; Linux makes indirect ones longer than the queue they are in). */
inline constexpr uint32_t SIZE_MAX_ENTRIES = VRING_SIZE_MAX;
/* Header, Ethernet, the largest IP packet. */
inline constexpr uint64_t FRAME_MAX = 12 + 14 + 65535;
inline constexpr uint64_t LEGACY_HEADER_BYTES = 10;
inline constexpr uint64_t HEADER_BYTES = 12;
inline constexpr uint32_t NUM_BUFFERS = 10;
inline constexpr int64_t FRAME_ALIGN = 64;
inline constexpr int64_t HEADER_GAP = 12;
inline constexpr int32_t ETHERNET_BYTES = 14;

static_assert(FRAME_MAX <= FRAME_BYTES_MAX);

struct Ring {
  bool running;
  uint16_t size;
  /* The next entry of `avail` to look at, how far it was filled when last read, and the next entry of `used`. */
  uint16_t taken;
  uint16_t offered;
  uint16_t used;
  /* Where `used` was when the guest was last told, if it ever was. */
  uint16_t told;
  bool everTold;
  bool wantsKick;
  const uint8_t *descriptors;
  uint8_t *availAt;
  uint8_t *usedAt;
  int32_t callFd = -1;
  /* What the last walk over all buffers that wait found: their room, or no limit where there was no such walk; and which ones they were. */
  uint64_t foundRoom;
  uint16_t foundTaken;
  uint16_t foundOffered;
  /* More than they the ring cannot hold, or a frame cannot use. */
  bool foundFull;
};

extern Ring rings[QUEUES];
/* VRING_* of shared/abi.h that the guest took. */
extern uint32_t features;

/*
 * Descriptors that were looked at in this call. A guest says how many there are for a byte of data; so many are free in a call to send, and
 * then what a frame may be expected to take. Calls to receive end beyond LOOKS_MAX, to go on in the next turn.
 */
extern uint64_t looks;
inline constexpr uint64_t LOOKS_MAX = 8192;
inline constexpr uint64_t LOOKS_A_FRAME = 64;
inline constexpr uint64_t BYTES_A_LOOK = 256;
inline constexpr uint64_t NO_LIMIT = UINT64_MAX;

inline void clearCounts() {
  looks = 0;
  memory.columns[COL_VRING_CHAIN] = memory.columns[COL_VRING_LONG] = memory.columns[COL_VRING_ROOM] = 0;
  memory.columns[COL_VRING_LOOKS] = 0;
}

/* Of the virtio-net header in front of each frame. */
inline uint64_t headerBytes() { return (features & VRING_LONG_HEADER) != 0 ? HEADER_BYTES : LEGACY_HEADER_BYTES; }

/* ---- a value of shared memory, once ---- */

inline uint16_t load16(const uint8_t *at) {
  return le16toh(__atomic_load_n(reinterpret_cast<const uint16_t *>(at), __ATOMIC_ACQUIRE));
}
inline void store16(uint8_t *at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t *>(at), htole16(value), __ATOMIC_RELEASE);
}
/* Two cores that each write and then read what the other writes. */
inline void fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

struct Descriptor {
  uint64_t address;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};
inline Descriptor loadDescriptor(const uint8_t *at) {
  Descriptor d;
  static_assert(sizeof d == DESCRIPTOR_BYTES);
  std::memcpy(&d, at, sizeof d);
  /* The compiler may not go back to where it came from. */
  asm volatile("" : "+m"(d));
  return {le64toh(d.address), le32toh(d.len), le16toh(d.flags), le16toh(d.next)};
}

/* ---- a file that was truncated ---- */

extern thread_local sigjmp_buf escape;
extern thread_local volatile sig_atomic_t escapes;

/* `body` has nothing to clean up. -EFAULT: memory of the guest's went away under it. */
template <typename Body> int32_t escaping(Body body) {
  if (sigsetjmp(escape, 0) != 0) {
    escapes = 0;
    return -EFAULT;
  }
  escapes = 1;
  int32_t result = body();
  escapes = 0;
  return result;
}

/* ---- who wants to be told ---- */

inline uint8_t *usedEvent(const Ring &r) { return r.availAt + RING + 2u * r.size; }
inline uint8_t *availEvent(const Ring &r) { return r.usedAt + RING + 8u * r.size; }

/* Asks for a kick when the guest goes on from `r.offered`. With EVENT_IDX there is no way to take that back, nor a need: the index stays behind. */
inline void wantKick(Ring &r) {
  if ((features & VRING_EVENT_IDX) != 0) store16(availEvent(r), r.offered);
  else if (!r.wantsKick) store16(r.usedAt + FLAGS, 0);
  r.wantsKick = true;
  fence();
}
inline void wantNoKick(Ring &r) {
  if (r.wantsKick && (features & VRING_EVENT_IDX) == 0) store16(r.usedAt + FLAGS, NO_NOTIFY);
  r.wantsKick = false;
}

/* Entries written with giveBack() become the guest's, from index `before` on. */
void publish(Ring &r, uint16_t before);

inline void giveBack(Ring &r, uint16_t head, uint32_t written) {
  uint32_t entry[2] = {htole32(head), htole32(written)};
  std::memcpy(r.usedAt + RING + 8u * (r.used & (r.size - 1u)), entry, sizeof entry);
  r.used++;
}

/* ---- chains ---- */

/* How many chains wait; -1: more than the ring has entries. */
inline int32_t waiting(Ring &r) {
  auto n = static_cast<uint16_t>(r.offered - r.taken);
  return n > r.size ? -1 : n;
}
inline int32_t look(Ring &r) {
  r.offered = load16(r.availAt + INDEX);
  return waiting(r);
}

/* The head of the chain `ahead` of the next; -1: outside the table. */
inline int32_t headOf(const Ring &r, uint32_t ahead) {
  uint16_t head = load16(r.availAt + RING + 2u * ((r.taken + ahead) & (r.size - 1u)));
  return head < r.size ? head : -1;
}

struct Chain {
  const uint8_t *table;
  uint32_t entries;
  uint32_t at;
  /* Descriptors that there may still be: a loop runs out of them. */
  uint32_t left;
  bool indirect;
  bool over;
};
enum class Step { PIECE, OVER, LIE };

inline Chain chainAt(const Ring &r, uint32_t head) { return {r.descriptors, r.size, head, r.size, false, false}; }

inline bool enterTable(Chain &c, const Descriptor &d) {
  if (c.indirect || (features & VRING_INDIRECT) == 0 || (d.flags & NEXT) != 0) return false;
  if (d.len == 0 || d.len % DESCRIPTOR_BYTES != 0 || d.len / DESCRIPTOR_BYTES > SIZE_MAX_ENTRIES) return false;
  uint64_t len = d.len;
  c.table = atPhysical(d.address, len);
  if (c.table == nullptr || len < d.len) return false;
  c.entries = c.left = static_cast<uint32_t>(d.len / DESCRIPTOR_BYTES);
  c.at = 0;
  c.indirect = true;
  return true;
}

inline Step next(Chain &c, Descriptor &d) {
  if (c.over) return Step::OVER;
  for (;;) {
    if (c.left-- == 0) return Step::LIE;
    looks++;
    d = loadDescriptor(c.table + DESCRIPTOR_BYTES * c.at);
    /* A buffer of no length is work for nothing; no driver has any (QEMU's device stops at them). */
    if (d.len == 0) return Step::LIE;
    if ((d.flags & INDIRECT) == 0) break;
    if (!enterTable(c, d)) return Step::LIE;
  }
  if ((d.flags & NEXT) == 0) c.over = true;
  else if (d.next >= c.entries) return Step::LIE;
  else c.at = d.next;
  return Step::PIECE;
}

}
