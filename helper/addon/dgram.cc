// SPDX-License-Identifier: Apache-2.0
/* Datagrams with what the kernel knows about them (coalescing, TTL, TOS), and the error queue. */
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cstring>

#include "calls.h"
#include "memory.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/*
 * What recvFrom() writes for each datagram: the sender's address and port, whether it was for many (a group, broadcast), the
 * address it was sent to.
 */
constexpr int32_t RECORD_BYTES = 64;
constexpr int32_t RECORD_FOR_MANY = 18;
constexpr int32_t RECORD_DESTINATION = 32;

/* Segment size, TTL, TOS and destination, each in a cmsg of 24 bytes (40 an IPv6 destination), and both families' forms of the last. */
struct alignas(cmsghdr) Control {
  uint8_t bytes[256];
};

static int32_t intOf(const cmsghdr *item) {
  int32_t value;
  std::memcpy(&value, CMSG_DATA(item), sizeof value);
  return value;
}

static void describe(msghdr &message, int32_t i) {
  int32_t *columns = memory.columns;
  columns[COL_DGRAM_GSO + i] = 0;
  columns[COL_DGRAM_TTL + i] = -1;
  columns[COL_DGRAM_TOS + i] = -1;
  for (cmsghdr *item = CMSG_FIRSTHDR(&message); item != nullptr; item = CMSG_NXTHDR(&message, item)) {
    int level = item->cmsg_level;
    int type = item->cmsg_type;
    if (level == SOL_UDP && type == UDP_GRO) {
      columns[COL_DGRAM_GSO + i] = intOf(item);
    } else if ((level == SOL_IP && type == IP_TTL) || (level == SOL_IPV6 && type == IPV6_HOPLIMIT)) {
      columns[COL_DGRAM_TTL + i] = intOf(item);
    } else if (level == SOL_IP && type == IP_TOS) {
      columns[COL_DGRAM_TOS + i] = *CMSG_DATA(item);
    } else if (level == SOL_IPV6 && type == IPV6_TCLASS) {
      columns[COL_DGRAM_TOS + i] = intOf(item);
    }
  }
}

/* An address as 16 bytes: IPv4 mapped (RFC 4291 §2.5.5.2), all zero where there is none. */
static void writeAddress(const sockaddr *from, uint8_t *out) {
  std::memset(out, 0, 16);
  if (from->sa_family == AF_INET) {
    out[10] = out[11] = 0xff;
    std::memcpy(out + 12, &reinterpret_cast<const sockaddr_in *>(from)->sin_addr, 4);
  } else if (from->sa_family == AF_INET6) {
    std::memcpy(out, &reinterpret_cast<const sockaddr_in6 *>(from)->sin6_addr, 16);
  }
}

/* Address and, in network order, port; the two families have it in the same place. */
static void writeSource(const sockaddr_storage &from, uint8_t *out) {
  writeAddress(reinterpret_cast<const sockaddr *>(&from), out);
  std::memcpy(out + 16, &reinterpret_cast<const sockaddr_in *>(&from)->sin_port, 2);
}

/* Where the socket reports it. An IPv4 datagram at a socket of both families reports it twice, alike but for what only IPv4 knows. */
static void writeDestination(msghdr &message, uint8_t *record) {
  for (cmsghdr *item = CMSG_FIRSTHDR(&message); item != nullptr; item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level == SOL_IP && item->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(item), sizeof info);
      uint8_t *out = record + RECORD_DESTINATION;
      std::memset(out, 0, 10);
      out[10] = out[11] = 0xff;
      std::memcpy(out + 12, &info.ipi_addr, 4);
      /* Answers to what was for many leave from another address. */
      record[RECORD_FOR_MANY] = info.ipi_addr.s_addr != info.ipi_spec_dst.s_addr;
    } else if (item->cmsg_level == SOL_IPV6 && item->cmsg_type == IPV6_PKTINFO) {
      std::memcpy(record + RECORD_DESTINATION, CMSG_DATA(item), 16);
      if (record[RECORD_DESTINATION] == 0xff) record[RECORD_FOR_MANY] = 1;
    }
  }
}

static void writeRecord(msghdr &message, const sockaddr_storage &from, uint8_t *record) {
  std::memset(record, 0, RECORD_BYTES);
  writeSource(from, record);
  writeDestination(message, record);
}

/* #syscalls:controller recvmmsg(*, *, *, MSG_DONTWAIT|MSG_DONTWAIT+MSG_PEEK, 0) — datagrams of a UDP or echo socket; the first of a peer stays until it has a socket */
static int32_t receive(int32_t fd, int32_t at, int32_t stride, int32_t max, uint8_t *records, bool peek) {
  static mmsghdr messages[DATAGRAMS_MAX];
  static iovec slots[DATAGRAMS_MAX];
  static Control controls[DATAGRAMS_MAX];
  static sockaddr_storage names[DATAGRAMS_MAX];
  for (int32_t i = 0; i < max; i++) {
    slots[i] = {memory.arena + at + int64_t{stride} * i, static_cast<size_t>(stride)};
    msghdr &message = messages[i].msg_hdr;
    message.msg_name = records == nullptr ? nullptr : &names[i];
    message.msg_namelen = records == nullptr ? 0 : sizeof names[i];
    message.msg_iov = &slots[i];
    message.msg_iovlen = 1;
    message.msg_control = controls[i].bytes;
    message.msg_controllen = sizeof controls[i].bytes;
    message.msg_flags = 0;
  }
  int n = recvmmsg(fd, messages, static_cast<unsigned>(max), MSG_DONTWAIT | (peek ? MSG_PEEK : 0), nullptr);
  if (n < 0) return -errno;
  for (int32_t i = 0; i < n; i++) {
    bool cut = (messages[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
    memory.columns[COL_DGRAM_LEN + i] = cut ? -EMSGSIZE : static_cast<int32_t>(messages[i].msg_len);
    describe(messages[i].msg_hdr, i);
    if (records != nullptr) writeRecord(messages[i].msg_hdr, names[i], records + RECORD_BYTES * i);
  }
  return n;
}

static bool slotsFit(int32_t at, int32_t stride, int32_t max) {
  return max >= 0 && max <= DATAGRAMS_MAX && stride > 0 && inArena(at, int64_t{stride} * max);
}

int32_t recvDatagrams(int32_t fd, int32_t at, int32_t stride, int32_t max) {
  if (!slotsFit(at, stride, max)) return OUT_OF_RANGE;
  return receive(fd, at, stride, max, nullptr, false);
}

int32_t recvFrom(int32_t fd, int32_t at, int32_t stride, int32_t max, int32_t recordsAt, bool peek) {
  if (!slotsFit(at, stride, max) || !inArena(recordsAt, int64_t{RECORD_BYTES} * max)) return OUT_OF_RANGE;
  return receive(fd, at, stride, max, memory.arena + recordsAt, peek);
}

static bool isExtendedError(const cmsghdr *item) {
  return ((item->cmsg_level == SOL_IP && item->cmsg_type == IP_RECVERR) ||
          (item->cmsg_level == SOL_IPV6 && item->cmsg_type == IPV6_RECVERR)) &&
         item->cmsg_len >= CMSG_LEN(sizeof(sock_extended_err) + sizeof(sockaddr_in));
}

/* #syscalls:controller recvmsg(*, *, MSG_ERRQUEUE+MSG_DONTWAIT) — ICMP errors about what a flow sent */
int32_t recvError(int32_t fd, int32_t at, int32_t len, int32_t offenderAt) {
  if (!inArena(at, len) || !inArena(offenderAt, 16)) return OUT_OF_RANGE;
  alignas(cmsghdr) uint8_t control[256];
  iovec payload = {memory.arena + at, static_cast<size_t>(len)};
  msghdr message = {};
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
  if (got < 0) return -errno;
  std::memset(memory.columns + COL_ERR_ORIGIN, 0, (COL_ERR_ERRNO - COL_ERR_ORIGIN + 1) * sizeof(int32_t));
  std::memset(memory.arena + offenderAt, 0, 16);
  for (cmsghdr *item = CMSG_FIRSTHDR(&message); item != nullptr; item = CMSG_NXTHDR(&message, item)) {
    if (!isExtendedError(item)) continue;
    auto *error = reinterpret_cast<sock_extended_err *>(CMSG_DATA(item));
    memory.columns[COL_ERR_ORIGIN] = error->ee_origin;
    memory.columns[COL_ERR_TYPE] = error->ee_type;
    memory.columns[COL_ERR_CODE] = error->ee_code;
    memory.columns[COL_ERR_INFO] = static_cast<int32_t>(error->ee_info);
    memory.columns[COL_ERR_ERRNO] = static_cast<int32_t>(error->ee_errno);
    writeAddress(SO_EE_OFFENDER(error), memory.arena + offenderAt);
  }
  return static_cast<int32_t>(got);
}
