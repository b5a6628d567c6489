// SPDX-License-Identifier: Apache-2.0
/* Virtqueues are set up, and stopped; guests are told of what is theirs again. */
#include "vring.h"

#include "calls.h"

namespace vring {

Ring rings[QUEUES];
uint32_t features = 0;
uint64_t looks = 0;
thread_local sigjmp_buf escape;
thread_local volatile sig_atomic_t escapes = 0;

static void onBusError(int) {
  if (escapes != 0) siglongjmp(escape, 1);
  /* Not ours: what would have happened happens when the instruction runs again. */
  signal(SIGBUS, SIG_DFL);
}

static void tell(Ring &r, uint16_t before) {
  fence();
  bool wanted;
  if ((features & VRING_EVENT_IDX) != 0) {
    /* §2.7.10: whether the index asked about was passed since the guest was last told. */
    uint16_t event = load16(usedEvent(r));
    uint16_t since = r.everTold ? r.told : before;
    wanted = !r.everTold || static_cast<uint16_t>(r.used - event - 1) < static_cast<uint16_t>(r.used - since);
    r.told = r.used;
    r.everTold = true;
  } else {
    wanted = (load16(r.availAt + FLAGS) & NO_INTERRUPT) == 0;
  }
  if (!wanted || r.callFd < 0) return;
  /* A counter that is full is the hypervisor's affair. */
  (void)signalEvent(r.callFd);
}

void publish(Ring &r, uint16_t before) {
  if (r.used == before) return;
  store16(r.usedAt + INDEX, r.used);
  tell(r, before);
}

}

using namespace vring;

int32_t watchBusErrors() {
  struct sigaction action = {};
  action.sa_handler = onBusError;
  /* Leaving by a jump would leave the signal blocked. */
  action.sa_flags = SA_NODEFER;
  return errnoOr(sigaction(SIGBUS, &action, nullptr));
}

int32_t vringMap(int32_t at, int32_t count) {
  if (count < 0 || count > GUEST_REGIONS_MAX || !inArena(at, count * 32)) return OUT_OF_RANGE;
  rings[RECEIVEQ].running = rings[TRANSMITQ].running = false;
  if (count > 0) return mapGuest(memory.arena + at, count, memory.columns + COL_FD);
  unmapGuest();
  return 0;
}

int32_t vringFeatures(int32_t bits) {
  features = static_cast<uint32_t>(bits);
  return 0;
}

static uint64_t wordAt(int32_t at) {
  uint64_t value;
  std::memcpy(&value, memory.arena + at, sizeof value);
  return le64toh(value);
}

int32_t vringStart(int32_t queue, int32_t size, int32_t base, int32_t at) {
  if (queue < 0 || queue >= QUEUES || !inArena(at, 24)) return OUT_OF_RANGE;
  if (size < 1 || size > VRING_SIZE_MAX || (size & (size - 1)) != 0 || base < 0 || base > UINT16_MAX) return -EINVAL;
  Ring &r = rings[queue];
  auto entries = static_cast<uint64_t>(size);
  /* §2.7: their alignment; the event indices at the ends belong to them. */
  r.running = false;
  r.descriptors = atUser(wordAt(at), DESCRIPTOR_BYTES * entries, 16);
  r.usedAt = atUser(wordAt(at + 8), RING + 8 * entries + 2, 4);
  r.availAt = atUser(wordAt(at + 16), RING + 2 * entries + 2, 2);
  if (r.descriptors == nullptr || r.usedAt == nullptr || r.availAt == nullptr) return -EFAULT;
  r.size = static_cast<uint16_t>(size);
  r.taken = r.offered = static_cast<uint16_t>(base);
  r.everTold = false;
  r.wantsKick = true;
  r.foundRoom = NO_LIMIT;
  return escaping([&] {
    /* Whatever is there: only the guest is the worse for a wrong one. */
    r.used = load16(r.usedAt + INDEX);
    wantNoKick(r);
    r.running = true;
    return 0;
  });
}

int32_t vringStop(int32_t queue) {
  if (queue < 0 || queue >= QUEUES) return OUT_OF_RANGE;
  rings[queue].running = false;
  return rings[queue].taken;
}

int32_t vringCall(int32_t queue, int32_t fd) {
  if (queue < 0 || queue >= QUEUES) return OUT_OF_RANGE;
  rings[queue].callFd = fd;
  return 0;
}
