// SPDX-License-Identifier: Apache-2.0
/*
 * The two split virtqueues of a virtio-net device (virtio 1.2 §2.7, §5.1.6), in memory that a guest and its hypervisor can change at any
 * time: each value of it is read once, then checked, then used, and frames are copied before anyone looks into them.
 *
 * A lie about the ring itself (an index too far, a chain's head outside) breaks the ring: it stays stopped until the hypervisor sets it up anew.
 * A lie inside a chain gives the chain back unused, and is counted. Chains may lie in several regions, piece by piece.
 */
#include <endian.h>
#include <setjmp.h>
#include <signal.h>

#include <atomic>
#include <cstring>

#include "calls.h"
#include "memory.h"
#include "segments.h"
#include "vring-memory.h"

/* struct virtq_desc, virtq_avail, virtq_used (§2.7.5, §2.7.6, §2.7.8). */
static constexpr uint64_t DESCRIPTOR_BYTES = 16;
static constexpr uint16_t NEXT = 1;
static constexpr uint16_t WRITE = 2;
static constexpr uint16_t INDIRECT = 4;
static constexpr uint16_t NO_NOTIFY = 1;
static constexpr uint16_t NO_INTERRUPT = 1;
static constexpr uint32_t FLAGS = 0;
static constexpr uint32_t INDEX = 2;
static constexpr uint32_t RING = 4;

static constexpr int32_t RECEIVEQ = 0;
static constexpr int32_t TRANSMITQ = 1;
static constexpr int32_t QUEUES = 2;

/* What a queue may hold at most, and so a chain (§2.7.5.3.1; Linux makes indirect ones longer than the queue they are in). */
static constexpr uint32_t SIZE_MAX_ENTRIES = VRING_SIZE_MAX;
/* Header, Ethernet, the largest IP packet. */
static constexpr uint64_t FRAME_MAX = 12 + 14 + 65535;
static constexpr uint64_t LEGACY_HEADER_BYTES = 10;
static constexpr uint64_t HEADER_BYTES = 12;
static constexpr uint32_t NUM_BUFFERS = 10;
static constexpr int64_t FRAME_ALIGN = 64;
static constexpr int64_t HEADER_GAP = 12;
static constexpr int32_t ETHERNET_BYTES = 14;

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

static Ring rings[QUEUES];
static uint32_t features = 0;

/*
 * Descriptors that were looked at in this call. A guest says how many there are for a byte of data; so many are free in a call to send, and
 * then what a frame may be expected to take. Calls to receive end beyond LOOKS_MAX, to go on in the next turn.
 */
static uint64_t looks = 0;
static constexpr uint64_t LOOKS_MAX = 8192;
static constexpr uint64_t LOOKS_A_FRAME = 64;
static constexpr uint64_t BYTES_A_LOOK = 256;
static constexpr uint64_t NO_LIMIT = UINT64_MAX;

/* ---- a value of shared memory, once ---- */

static uint16_t load16(const uint8_t *at) {
  return le16toh(__atomic_load_n(reinterpret_cast<const uint16_t *>(at), __ATOMIC_ACQUIRE));
}
static void store16(uint8_t *at, uint16_t value) {
  __atomic_store_n(reinterpret_cast<uint16_t *>(at), htole16(value), __ATOMIC_RELEASE);
}
/* Two cores that each write and then read what the other writes. */
static void fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

struct Descriptor {
  uint64_t address;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};
static Descriptor loadDescriptor(const uint8_t *at) {
  Descriptor d;
  static_assert(sizeof d == DESCRIPTOR_BYTES);
  std::memcpy(&d, at, sizeof d);
  /* The compiler may not go back to where it came from. */
  asm volatile("" : "+m"(d));
  return {le64toh(d.address), le32toh(d.len), le16toh(d.flags), le16toh(d.next)};
}

/* ---- a file that was truncated ---- */

static thread_local sigjmp_buf escape;
static thread_local volatile sig_atomic_t escapes = 0;

static void onBusError(int) {
  if (escapes != 0) siglongjmp(escape, 1);
  /* Not ours: what would have happened happens when the instruction runs again. */
  signal(SIGBUS, SIG_DFL);
}

int32_t watchBusErrors() {
  struct sigaction action = {};
  action.sa_handler = onBusError;
  /* Leaving by a jump would leave the signal blocked. */
  action.sa_flags = SA_NODEFER;
  return errnoOr(sigaction(SIGBUS, &action, nullptr));
}

/* `body` has nothing to clean up. -EFAULT: memory of the guest's went away under it. */
template <typename Body> static int32_t escaping(Body body) {
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

static uint8_t *usedEvent(const Ring &r) { return r.availAt + RING + 2u * r.size; }
static uint8_t *availEvent(const Ring &r) { return r.usedAt + RING + 8u * r.size; }

/* Asks for a kick when the guest goes on from `r.offered`. With EVENT_IDX there is no way to take that back, nor a need: the index stays behind. */
static void wantKick(Ring &r) {
  if ((features & VRING_EVENT_IDX) != 0) store16(availEvent(r), r.offered);
  else if (!r.wantsKick) store16(r.usedAt + FLAGS, 0);
  r.wantsKick = true;
  fence();
}
static void wantNoKick(Ring &r) {
  if (r.wantsKick && (features & VRING_EVENT_IDX) == 0) store16(r.usedAt + FLAGS, NO_NOTIFY);
  r.wantsKick = false;
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

/* Entries written with giveBack() become the guest's. */
static void publish(Ring &r, uint16_t before) {
  if (r.used == before) return;
  store16(r.usedAt + INDEX, r.used);
  tell(r, before);
}

static void giveBack(Ring &r, uint16_t head, uint32_t written) {
  uint32_t entry[2] = {htole32(head), htole32(written)};
  std::memcpy(r.usedAt + RING + 8u * (r.used & (r.size - 1u)), entry, sizeof entry);
  r.used++;
}

/* ---- chains ---- */

/* How many chains wait; -1: more than the ring has entries. */
static int32_t waiting(Ring &r) {
  auto n = static_cast<uint16_t>(r.offered - r.taken);
  return n > r.size ? -1 : n;
}
static int32_t look(Ring &r) {
  r.offered = load16(r.availAt + INDEX);
  return waiting(r);
}

/* The head of the chain `ahead` of the next; -1: outside the table. */
static int32_t headOf(const Ring &r, uint32_t ahead) {
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

static Chain chainAt(const Ring &r, uint32_t head) { return {r.descriptors, r.size, head, r.size, false, false}; }

static bool enterTable(Chain &c, const Descriptor &d) {
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

static Step next(Chain &c, Descriptor &d) {
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

/* ---- from the guest ---- */

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

static uint64_t headerBytes() { return (features & VRING_LONG_HEADER) != 0 ? HEADER_BYTES : LEGACY_HEADER_BYTES; }

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

static void clearCounts() {
  looks = 0;
  memory.columns[COL_VRING_CHAIN] = memory.columns[COL_VRING_LONG] = memory.columns[COL_VRING_ROOM] = 0;
  memory.columns[COL_VRING_LOOKS] = 0;
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

/* ---- to the guest ---- */

struct Piece {
  uint8_t *at;
  uint64_t len;
};
/* Pieces of one frame's buffers: one for each descriptor that a ring can have, and for each border between regions. */
static constexpr uint32_t PIECES_MAX = 2 * SIZE_MAX_ENTRIES + GUEST_REGIONS_MAX;
static Piece pieces[PIECES_MAX];

struct Buffer {
  uint16_t head;
  uint32_t firstPiece;
  uint64_t room;
};
static Buffer buffers[SIZE_MAX_ENTRIES];

/* TOO_LITTLE: and there will be none for this frame; LATER: the guest can add some; TOO_MUCH_WORK: nobody knows. */
enum class Room { ENOUGH, TOO_LITTLE, LATER, TOO_MUCH_WORK, LIE, BROKEN };

static bool addPieces(const Descriptor &d, uint32_t &count, uint64_t &room) {
  for (uint64_t done = 0; done < d.len;) {
    uint64_t len = d.len - done;
    uint64_t address;
    if (count == PIECES_MAX || __builtin_add_overflow(d.address, done, &address)) return false;
    uint8_t *at = atPhysical(address, len);
    if (at == nullptr) return false;
    pieces[count++] = {at, len};
    room += len;
    done += len;
  }
  return true;
}

/* The room in a chain, as far as `most`: what is not needed is not looked at. */
static bool addBuffer(const Ring &r, Buffer &b, uint64_t most, uint32_t &count) {
  Chain chain = chainAt(r, b.head);
  Descriptor d;
  b.firstPiece = count;
  b.room = 0;
  while (b.room < most) {
    Step step = next(chain, d);
    if (step == Step::OVER) return true;
    if (step == Step::LIE || (d.flags & WRITE) == 0 || !addPieces(d, count, b.room)) return false;
  }
  return true;
}

/* All buffers that wait have `room` together, and that is too little. */
static Room note(Ring &r, uint64_t room, bool full) {
  r.foundRoom = room;
  r.foundTaken = r.taken;
  r.foundOffered = r.offered;
  r.foundFull = full;
  return full ? Room::TOO_LITTLE : Room::LATER;
}
/* Whether note() was called with less than `needed` for the very buffers that wait now. */
static bool isKnownShort(Ring &r, uint64_t needed) {
  if (needed <= r.foundRoom || r.taken != r.foundTaken) return false;
  (void)look(r);
  return r.offered == r.foundOffered;
}

/* Buffers for `needed` bytes: one, or with MRG_RXBUF as many as it takes. `n`: how many it looked at. */
static Room gatherBuffers(Ring &r, uint64_t needed, uint64_t looksMax, uint32_t &n) {
  uint32_t count = 0;
  uint64_t room = 0;
  n = 0;
  if (isKnownShort(r, needed)) return r.foundFull ? Room::TOO_LITTLE : Room::LATER;
  for (; room < needed; n++) {
    if (n == 1 && (features & VRING_MRG_RXBUF) == 0) return note(r, room, true);
    int32_t ready = waiting(r);
    if (ready >= 0 && n >= static_cast<uint32_t>(ready)) ready = look(r);
    if (ready < 0) return Room::BROKEN;
    if (n >= static_cast<uint32_t>(ready)) return note(r, room, n == r.size);
    if (looks >= looksMax) return Room::TOO_MUCH_WORK;
    int32_t head = headOf(r, n);
    if (head < 0) return Room::BROKEN;
    buffers[n].head = static_cast<uint16_t>(head);
    /* §5.1.6.4: the header is in the first buffer whole. */
    if (!addBuffer(r, buffers[n], needed - room, count) || (n == 0 && buffers[0].room < headerBytes())) {
      n++;
      return Room::LIE;
    }
    room += buffers[n].room;
  }
  return Room::ENOUGH;
}

/* Writes into the gathered pieces, one source after the other. */
struct Writer {
  uint32_t piece;
  uint64_t inside;
};
static void put(Writer &w, const uint8_t *from, uint64_t bytes) {
  while (bytes > 0) {
    const Piece &piece = pieces[w.piece];
    uint64_t len = piece.len - w.inside < bytes ? piece.len - w.inside : bytes;
    std::memcpy(piece.at + w.inside, from, len);
    from += len;
    bytes -= len;
    w.inside += len;
    if (w.inside == piece.len) w = {w.piece + 1, 0};
  }
}

struct Outgoing {
  const uint8_t *vnet;
  const uint8_t *headers;
  uint64_t headersBytes;
  const uint8_t *payload;
  uint64_t payloadBytes;
};

static void fill(Ring &r, const Outgoing &frame, uint64_t needed, uint32_t n) {
  uint8_t header[HEADER_BYTES];
  std::memcpy(header, frame.vnet, sizeof header);
  auto count = htole16(static_cast<uint16_t>(n));
  std::memcpy(header + NUM_BUFFERS, &count, sizeof count);
  Writer w = {0, 0};
  put(w, header, headerBytes());
  put(w, frame.headers, frame.headersBytes);
  put(w, frame.payload, frame.payloadBytes);
  for (uint32_t i = 0; i < n; i++) {
    uint64_t written = buffers[i].room < needed ? buffers[i].room : needed;
    giveBack(r, buffers[i].head, static_cast<uint32_t>(written));
    needed -= written;
  }
  r.taken = static_cast<uint16_t>(r.taken + n);
}

/* What one call may still cost: chains that are given back as they are, descriptors looked at. */
struct Bounds {
  uint32_t lies;
  uint64_t looks;
};

/* One frame into the ring: 1 done with (sent, or lost and counted), 0 there is no room now, -errno. */
static int32_t sendOne(Ring &r, const Outgoing &frame, Bounds &bounds) {
  uint64_t needed = headerBytes() + frame.headersBytes + frame.payloadBytes;
  bounds.looks += LOOKS_A_FRAME + needed / BYTES_A_LOOK;
  bool asked = false;
  for (;;) {
    uint32_t n = 0;
    switch (gatherBuffers(r, needed, bounds.looks, n)) {
    case Room::ENOUGH:
      fill(r, frame, needed, n);
      return 1;
    case Room::TOO_LITTLE:
    case Room::TOO_MUCH_WORK:
      memory.columns[COL_VRING_ROOM]++;
      return 1;
    case Room::LATER:
      if (asked) return 0;
      /* And once more, for what came between looking and asking. */
      wantKick(r);
      asked = true;
      (void)look(r);
      continue;
    case Room::LIE:
      memory.columns[COL_VRING_CHAIN]++;
      if (n > bounds.lies) return -EPROTO;
      bounds.lies -= n;
      for (uint32_t i = 0; i < n; i++) giveBack(r, buffers[i].head, 0);
      r.taken = static_cast<uint16_t>(r.taken + n);
      continue;
    case Room::BROKEN:
      return -EPROTO;
    }
  }
}

/* The features that a superframe needs of its receiver, by its type in the virtio-net header. */
static bool takesWhole(const uint8_t *vnet) {
  static constexpr uint8_t GSO_TCPV4 = 1;
  static constexpr uint8_t GSO_TCPV6 = 4;
  static constexpr uint8_t GSO_UDP_L4 = 5;
  uint32_t wanted = 0;
  if (vnet[1] == GSO_TCPV4) wanted = VRING_TSO4;
  if (vnet[1] == GSO_TCPV6) wanted = VRING_TSO6;
  if (vnet[1] == GSO_UDP_L4) wanted = VRING_USO;
  return (features & wanted) != 0 && (features & VRING_CSUM) != 0;
}

static const uint8_t NO_OFFLOADS[HEADER_BYTES] = {};

/* Segments from `segment` on. As sendOne(); where there is no room, `segment` is the one to go on with. */
static int32_t sendSegments(Ring &r, const Superframe &whole, int32_t &segment, Bounds &bounds) {
  uint8_t headers[HEADERS_BYTES_MAX];
  for (; segment < whole.segments; segment++) {
    writeSegmentHeaders(whole, segment, headers);
    auto payload = static_cast<uint64_t>(segmentPayload(whole, segment));
    Outgoing one = {NO_OFFLOADS, headers, static_cast<uint64_t>(whole.headersBytes), segmentData(whole, segment), payload};
    int32_t result = sendOne(r, one, bounds);
    if (result <= 0) return result;
  }
  segment = 0;
  return 1;
}

/* One frame of ours, its virtio-net header first, `bytes` of Ethernet behind that. OUT_OF_RANGE: it is none. */
static int32_t sendFrame(Ring &r, uint8_t *vnet, int32_t bytes, int32_t &segment, Bounds &bounds) {
  uint8_t *frame = vnet + VNET_BYTES;
  if (isSuperframe(vnet) && !takesWhole(vnet)) {
    Superframe whole;
    if (!parseSuperframe(vnet, frame, bytes, whole) || segment >= whole.segments) return OUT_OF_RANGE;
    return sendSegments(r, whole, segment, bounds);
  }
  bool complete = (features & VRING_CSUM) == 0;
  if (complete && !completeChecksum(vnet, frame, bytes)) return OUT_OF_RANGE;
  return sendOne(r, {complete ? NO_OFFLOADS : vnet, frame, static_cast<uint64_t>(bytes), nullptr, 0}, bounds);
}

int32_t vringSend(int32_t from, int32_t to, int32_t segment) {
  if (from < 0 || from > to || to > OUT_MAX || segment < 0) return OUT_OF_RANGE;
  const int32_t *outAt = memory.columns + COL_OUT_AT;
  const int32_t *outLen = memory.columns + COL_OUT_LEN;
  for (int32_t i = from; i < to; i++) {
    if (!inArena(outAt[i], outLen[i]) || outLen[i] < VNET_BYTES + ETHERNET_BYTES || outLen[i] > FRAME_BYTES_MAX) return OUT_OF_RANGE;
  }
  Ring &r = rings[RECEIVEQ];
  clearCounts();
  memory.columns[COL_VRING_SEGMENT] = segment;
  if (!r.running) return 0;
  int32_t done = escaping([&] {
    uint16_t before = r.used;
    Bounds bounds = {SIZE_MAX_ENTRIES, LOOKS_MAX};
    int32_t at = segment;
    int32_t result = 1;
    int32_t i = from;
    wantNoKick(r);
    for (; i < to; i++) {
      result = sendFrame(r, memory.arena + outAt[i], outLen[i] - VNET_BYTES, at, bounds);
      if (result <= 0) break;
    }
    publish(r, before);
    memory.columns[COL_VRING_SEGMENT] = at;
    return result < 0 ? result : i - from;
  });
  memory.columns[COL_VRING_LOOKS] = static_cast<int32_t>(looks);
  return done;
}

/* ---- setting up ---- */

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
