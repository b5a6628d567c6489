// SPDX-License-Identifier: Apache-2.0
/* Frames to a guest: into as many of the buffers that it offers as they need, cut and completed where it takes no offloads. */
#include "calls.h"
#include "segments.h"
#include "vring.h"

using namespace vring;

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
  uint16_t askedAt = 0;
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
      if (asked && r.offered == askedAt) return 0;
      /* And once more, for what came between looking and asking; where that was too little still, the kick asked for is one that was missed. */
      wantKick(r);
      asked = true;
      askedAt = r.offered;
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
