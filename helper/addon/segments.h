// SPDX-License-Identifier: Apache-2.0
/*
 * What a link without offloads needs of a frame that has a virtio-net header (controller/wire/vnet.ts) in front: its checksum
 * completed, or the segments of a superframe, one after the other. The frames are our own; all that is relied on is checked
 * all the same.
 */
#pragma once
#include <cstdint>

inline constexpr int32_t VNET_BYTES = 12;
/* Ethernet, IPv4 with options (IPv6 has none in what we send), TCP with options. */
inline constexpr int32_t HEADERS_BYTES_MAX = 14 + 60 + 60;

/* Whether the virtio-net header at `vnet` asks for segments. */
bool isSuperframe(const uint8_t *vnet);

/*
 * Completes the checksum that the virtio-net header asks for, in place, and takes the request away, so that it may be asked for
 * any number of times. False: the place of it is not in the frame, or segments are asked for.
 */
bool completeChecksum(uint8_t *vnet, uint8_t *frame, int32_t bytes);

struct Superframe {
  const uint8_t *frame;
  int32_t headersBytes;
  int32_t transportAt;
  int32_t payloadBytes;
  /* Payload of each segment but the last, which has what is left. */
  int32_t segmentBytes;
  int32_t segments;
  bool v4;
  bool tcp;
};

/* Takes the `bytes` of `frame` for a TCP or UDP superframe. False: it is none. */
bool parseSuperframe(const uint8_t *vnet, const uint8_t *frame, int32_t bytes, Superframe &out);

inline int32_t segmentPayload(const Superframe &s, int32_t i) {
  int32_t left = s.payloadBytes - i * s.segmentBytes;
  return left < s.segmentBytes ? left : s.segmentBytes;
}
inline const uint8_t *segmentData(const Superframe &s, int32_t i) { return s.frame + s.headersBytes + i * s.segmentBytes; }

/* Writes the headers of segment `i`, s.headersBytes of them with all checksums, to `to`. Its payload stays where it is. */
void writeSegmentHeaders(const Superframe &s, int32_t i, uint8_t *to);
