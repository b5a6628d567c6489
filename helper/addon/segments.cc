// SPDX-License-Identifier: Apache-2.0
#include "segments.h"

#include <cstring>

#include "checksum.h"

/* struct virtio_net_hdr_v1 (virtio 1.2 §5.1.6), little endian. */
static constexpr int32_t VNET_FLAGS = 0;
static constexpr int32_t VNET_GSO_TYPE = 1;
static constexpr int32_t VNET_GSO_SIZE = 4;
static constexpr int32_t VNET_CSUM_START = 6;
static constexpr int32_t VNET_CSUM_OFFSET = 8;
static constexpr uint8_t NEEDS_CSUM = 1;
static constexpr uint8_t GSO_TCPV4 = 1;
static constexpr uint8_t GSO_TCPV6 = 4;
static constexpr uint8_t GSO_UDP_L4 = 5;
static constexpr uint8_t GSO_ECN = 0x80;

static constexpr int32_t ETHERNET_BYTES = 14;
static constexpr int32_t IPV4_BYTES = 20;
static constexpr int32_t IPV6_BYTES = 40;
static constexpr int32_t UDP_BYTES = 8;
static constexpr int32_t UDP_CHECKSUM = 6;
static constexpr int32_t TCP_BYTES = 20;
static constexpr int32_t TCP_FLAGS = 13;
static constexpr int32_t TCP_CHECKSUM = 16;
static constexpr uint8_t PROTOCOL_TCP = 6;
static constexpr uint8_t PROTOCOL_UDP = 17;
static constexpr uint8_t TCP_FIN = 0x01;
static constexpr uint8_t TCP_PSH = 0x08;
static constexpr uint8_t TCP_CWR = 0x80;

static int32_t little16(const uint8_t *at) { return at[0] | at[1] << 8; }
static uint16_t big16(const uint8_t *at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
static void setBig16(uint8_t *at, int32_t n) {
  at[0] = static_cast<uint8_t>(n >> 8);
  at[1] = static_cast<uint8_t>(n);
}
static void addBig32(uint8_t *at, uint32_t n) {
  uint32_t sum = (uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3]) + n;
  setBig16(at, static_cast<int32_t>(sum >> 16));
  setBig16(at + 2, static_cast<int32_t>(sum & 0xffff));
}

bool isSuperframe(const uint8_t *vnet) { return vnet[VNET_GSO_TYPE] != 0; }

bool completeChecksum(uint8_t *vnet, uint8_t *frame, int32_t bytes) {
  if (isSuperframe(vnet)) return false;
  if ((vnet[VNET_FLAGS] & NEEDS_CSUM) == 0) return true;
  int32_t start = little16(vnet + VNET_CSUM_START);
  int32_t offset = little16(vnet + VNET_CSUM_OFFSET);
  if (start + offset + 2 > bytes) return false;
  /* The field holds the pseudo-header's sum, which belongs to the total. */
  auto sum = static_cast<uint16_t>(~checksum(frame + start, static_cast<size_t>(bytes - start), 0));
  /* RFC 768: a UDP checksum of 0 would say that there is none. */
  if (sum == 0 && offset == UDP_CHECKSUM) sum = 0xffff;
  setBig16(frame + start + offset, sum);
  vnet[VNET_FLAGS] = 0;
  return true;
}

bool parseSuperframe(const uint8_t *vnet, const uint8_t *frame, int32_t bytes, Superframe &out) {
  uint8_t type = vnet[VNET_GSO_TYPE] & static_cast<uint8_t>(~GSO_ECN);
  if ((vnet[VNET_FLAGS] & NEEDS_CSUM) == 0 || bytes < ETHERNET_BYTES + IPV4_BYTES) return false;
  const uint8_t *ip = frame + ETHERNET_BYTES;
  uint16_t etherType = big16(frame + 12);
  uint8_t protocol;
  out.v4 = etherType == 0x0800;
  if (out.v4) {
    int32_t header = (ip[0] & 15) * 4;
    if (ip[0] >> 4 != 4 || header < IPV4_BYTES) return false;
    out.transportAt = ETHERNET_BYTES + header;
    protocol = ip[9];
  } else {
    if (etherType != 0x86dd || ip[0] >> 4 != 6 || bytes < ETHERNET_BYTES + IPV6_BYTES) return false;
    out.transportAt = ETHERNET_BYTES + IPV6_BYTES;
    protocol = ip[6];
  }
  out.tcp = protocol == PROTOCOL_TCP;
  if (out.tcp ? type != (out.v4 ? GSO_TCPV4 : GSO_TCPV6) : protocol != PROTOCOL_UDP || type != GSO_UDP_L4) return false;
  if (little16(vnet + VNET_CSUM_START) != out.transportAt || out.transportAt + (out.tcp ? TCP_BYTES : UDP_BYTES) > bytes) return false;
  int32_t transportBytes = out.tcp ? (frame[out.transportAt + 12] >> 4) * 4 : UDP_BYTES;
  if (out.tcp && transportBytes < TCP_BYTES) return false;
  out.frame = frame;
  out.headersBytes = out.transportAt + transportBytes;
  out.payloadBytes = bytes - out.headersBytes;
  out.segmentBytes = little16(vnet + VNET_GSO_SIZE);
  if (out.payloadBytes <= 0 || out.segmentBytes <= 0) return false;
  out.segments = (out.payloadBytes + out.segmentBytes - 1) / out.segmentBytes;
  return true;
}

/* The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1), not folded. */
static uint32_t pseudoSum(const Superframe &s, int32_t transportBytes) {
  const uint8_t *ip = s.frame + ETHERNET_BYTES;
  uint32_t sum = static_cast<uint32_t>(transportBytes) + (s.tcp ? PROTOCOL_TCP : PROTOCOL_UDP);
  return s.v4 ? checksum(ip + 12, 8, sum) : checksum(ip + 8, 32, sum);
}

void writeSegmentHeaders(const Superframe &s, int32_t i, uint8_t *to) {
  int32_t payload = segmentPayload(s, i);
  int32_t transportBytes = s.headersBytes - s.transportAt + payload;
  std::memcpy(to, s.frame, static_cast<size_t>(s.headersBytes));
  uint8_t *ip = to + ETHERNET_BYTES;
  uint8_t *transport = to + s.transportAt;
  if (s.v4) {
    setBig16(ip + 2, s.transportAt - ETHERNET_BYTES + transportBytes);
    setBig16(ip + 4, big16(ip + 4) + i);
    setBig16(ip + 10, 0);
    setBig16(ip + 10, ~checksum(ip, static_cast<size_t>(s.transportAt - ETHERNET_BYTES), 0));
  } else {
    setBig16(ip + 4, transportBytes);
  }
  int32_t checksumAt = s.tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
  if (s.tcp) {
    addBig32(transport + 4, static_cast<uint32_t>(i) * static_cast<uint32_t>(s.segmentBytes));
    /* RFC 9293 §3.8.2, RFC 3168 §6.1.2: the end is at the end, and a window is reduced once. */
    if (i != s.segments - 1) transport[TCP_FLAGS] &= static_cast<uint8_t>(~(TCP_FIN | TCP_PSH));
    if (i != 0) transport[TCP_FLAGS] &= static_cast<uint8_t>(~TCP_CWR);
  } else {
    setBig16(transport + 4, transportBytes);
  }
  setBig16(transport + checksumAt, 0);
  uint32_t sum = checksum(transport, static_cast<size_t>(s.headersBytes - s.transportAt), pseudoSum(s, transportBytes));
  sum = checksum(segmentData(s, i), static_cast<size_t>(payload), sum);
  auto finished = static_cast<uint16_t>(~sum);
  if (finished == 0 && !s.tcp) finished = 0xffff;
  setBig16(transport + checksumAt, finished);
}
