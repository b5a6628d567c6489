// SPDX-License-Identifier: Apache-2.0
/* What is asked of and told to single sockets. Each (level, option) pair is in the filter, and no other is. */
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "calls.h"
#include "memory.h"

/* In netinet/tcp.h and netinet/udp.h, which do not go together with the kernel's tcp_info. */
#ifndef SOL_TCP
#define SOL_TCP IPPROTO_TCP
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SOL_UDP
#define SOL_UDP IPPROTO_UDP
#endif

/* #syscalls:controller getsockopt(*, SOL_SOCKET, SO_MEMINFO, *, *) — how full the send and receive buffers are */
static int memoryOf(int32_t fd, uint32_t (&use)[SK_MEMINFO_VARS]) {
  socklen_t len = sizeof use;
  std::memset(use, 0, sizeof use);
  return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, use, &len) < 0 ? -errno : 0;
}

static void storeTcp(const tcp_info &info) {
  int32_t *columns = memory.columns;
  columns[COL_TCPI_STATE] = info.tcpi_state;
  columns[COL_TCPI_RTT_US] = static_cast<int32_t>(info.tcpi_rtt);
  columns[COL_TCPI_SND_WND] = static_cast<int32_t>(std::min<uint32_t>(info.tcpi_snd_wnd, INT32_MAX));
  columns[COL_TCPI_SND_MSS] = static_cast<int32_t>(info.tcpi_snd_mss);
  columns[COL_TCPI_SND_CWND] = static_cast<int32_t>(std::min<uint32_t>(info.tcpi_snd_cwnd, INT32_MAX));
  columns[COL_TCPI_UNACKED] = static_cast<int32_t>(info.tcpi_unacked);
  columns[COL_TCPI_NOTSENT] = static_cast<int32_t>(info.tcpi_notsent_bytes);
  columns[COL_TCPI_SND_WSCALE] = info.tcpi_snd_wscale;
  columns[COL_TCPI_BYTES_ACKED_LO] = static_cast<int32_t>(info.tcpi_bytes_acked);
  columns[COL_TCPI_PMTU] = static_cast<int32_t>(info.tcpi_pmtu);
}

/* #syscalls:controller ioctl(*, SIOCOUTQ) — bytes that the peer has not acknowledged */
int32_t tcpOutq(int32_t fd) {
  int queued = 0;
  return ioctl(fd, SIOCOUTQ, &queued) < 0 ? -errno : queued;
}

/* #syscalls:controller getsockopt(*, SOL_TCP, TCP_INFO, *, *) — the peer's window and what it has acknowledged */
int32_t tcpInfo(int32_t fd) {
  /* A kernel older than the header answers with fewer bytes: what it does not know stays 0. */
  tcp_info info = {};
  socklen_t len = sizeof info;
  if (getsockopt(fd, SOL_TCP, TCP_INFO, &info, &len) < 0) return -errno;
  uint32_t use[SK_MEMINFO_VARS];
  int failed = memoryOf(fd, use);
  if (failed != 0) return failed;
  int32_t queued = tcpOutq(fd);
  if (queued < 0) return queued;
  storeTcp(info);
  int32_t *columns = memory.columns;
  columns[COL_TCPI_SNDBUF] = static_cast<int32_t>(use[SK_MEMINFO_SNDBUF]);
  columns[COL_TCPI_WMEM_QUEUED] = static_cast<int32_t>(use[SK_MEMINFO_WMEM_QUEUED]);
  columns[COL_TCPI_RCVBUF] = static_cast<int32_t>(use[SK_MEMINFO_RCVBUF]);
  columns[COL_TCPI_RMEM_ALLOC] = static_cast<int32_t>(use[SK_MEMINFO_RMEM_ALLOC]);
  columns[COL_TCPI_OUTQ] = queued;
  return 0;
}

/* Both are below 2^31 (the kernel clamps buffers to INT_MAX): their difference is never INT32_MIN, the failure. */
int32_t tcpRoom(int32_t fd) {
  uint32_t use[SK_MEMINFO_VARS];
  int failed = memoryOf(fd, use);
  memory.columns[COL_ERRNO] = -failed;
  if (failed != 0) return INT32_MIN;
  int64_t room = int64_t{use[SK_MEMINFO_SNDBUF]} - int64_t{use[SK_MEMINFO_WMEM_QUEUED]};
  return static_cast<int32_t>(std::clamp<int64_t>(room, -INT32_MAX / 2, INT32_MAX));
}

static int32_t intOption(int32_t fd, int level, int option) {
  int value = 0;
  socklen_t len = sizeof value;
  return getsockopt(fd, level, option, &value, &len) < 0 ? -errno : value;
}

/* #syscalls:controller getsockopt(*, SOL_SOCKET, SO_ERROR, *, *) — why a connection failed */
int32_t socketError(int32_t fd) { return intOption(fd, SOL_SOCKET, SO_ERROR); }

/* #syscalls:controller getsockopt(*, SOL_IP, IP_MTU, *, *) — the path MTU of a flow, after EMSGSIZE */
/* #syscalls:controller getsockopt(*, SOL_IPV6, IPV6_MTU, *, *) — the same over IPv6 */
int32_t pathMtu(int32_t fd, bool v6) {
  return v6 ? intOption(fd, SOL_IPV6, IPV6_MTU) : intOption(fd, SOL_IP, IP_MTU);
}

/*
 * #syscalls:controller setsockopt(*, SOL_SOCKET, SO_SNDBUF, *, *) — room for what the guest's window allows
 * #syscalls:controller setsockopt(*, SOL_SOCKET, SO_RCVBUF, *, *) — the peer's window follows the guest's
 * #syscalls:controller setsockopt(*, SOL_SOCKET, SO_KEEPALIVE, *, *) — idle flows whose peer has gone
 * #syscalls:controller setsockopt(*, SOL_SOCKET, SO_RCVLOWAT, *, *) — no event for bytes that were peeked at before
 * #syscalls:controller setsockopt(*, SOL_SOCKET, SO_PEEK_OFF, *, *) — peeking goes on where it ended, or again
 * #syscalls:controller setsockopt(*, SOL_TCP, TCP_NODELAY, *, *) — the guest has done its own coalescing
 * #syscalls:controller setsockopt(*, SOL_TCP, TCP_MAXSEG, *, *) — the guest's maximum segment size
 * #syscalls:controller setsockopt(*, SOL_TCP, TCP_KEEPIDLE, *, *) — the guest asks after its peer, and so do we
 * #syscalls:controller setsockopt(*, SOL_TCP, TCP_KEEPINTVL, *, *) — as often as the guest does
 * #syscalls:controller setsockopt(*, SOL_TCP, TCP_WINDOW_CLAMP, *, *) — the guest's window, told to the peer
 * #syscalls:controller setsockopt(*, SOL_TCP, TCP_QUICKACK, *, *) — acknowledge at once when the guest waits for it
 * #syscalls:controller setsockopt(*, SOL_TCP, TCP_USER_TIMEOUT, *, *) — how long unacknowledged data is sent again
 * #syscalls:controller setsockopt(*, SOL_TCP, TCP_NOTSENT_LOWAT, *, *) — EPOLLOUT when the window can open again
 * #syscalls:controller setsockopt(*, SOL_UDP, UDP_SEGMENT, *, *) — several datagrams in one write
 * #syscalls:controller setsockopt(*, SOL_IP, IP_TOS, *, *) — the guest's DSCP and ECN bits
 * #syscalls:controller setsockopt(*, SOL_IP, IP_TTL, *, *) — the guest's TTL, for traceroute
 * #syscalls:controller setsockopt(*, SOL_IP, IP_MULTICAST_TTL, *, *) — the same for a group
 * #syscalls:controller setsockopt(*, SOL_IP, IP_RECVERR, *, *) — once connected, an ICMP error is no end (RFC 1122 §4.2.3.9)
 * #syscalls:controller setsockopt(*, SOL_IP, IP_MTU_DISCOVER, *, *) — the guest's "don't fragment"
 * #syscalls:controller setsockopt(*, SOL_IPV6, IPV6_UNICAST_HOPS, *, *) — the guest's hop limit
 * #syscalls:controller setsockopt(*, SOL_IPV6, IPV6_MULTICAST_HOPS, *, *) — the same for a group
 * #syscalls:controller setsockopt(*, SOL_IPV6, IPV6_RECVERR, *, *) — the same over IPv6
 * #syscalls:controller setsockopt(*, SOL_IPV6, IPV6_MTU_DISCOVER, *, *) — no fragment that the guest did not make
 * #syscalls:controller setsockopt(*, SOL_IPV6, IPV6_TCLASS, *, *) — the guest's traffic class
 */
int32_t setOption(int32_t fd, int32_t level, int32_t option, int32_t value) {
  static constexpr struct {
    int32_t level;
    int32_t option;
  } ALLOWED[] = {
#define ROW(level, option) {level, option},
      SOCKOPTS(ROW)
#undef ROW
  };
  /* The filter would kill the process: better an exception in the first test that asks for another one. */
  for (const auto &pair : ALLOWED) {
    if (pair.level != level || pair.option != option) continue;
    return errnoOr(setsockopt(fd, level, option, &value, sizeof value));
  }
  return OUT_OF_RANGE;
}

int32_t udpSegment(int32_t fd, int32_t segment) { return setOption(fd, SOL_UDP, UDP_SEGMENT, segment); }

/* #syscalls:controller setsockopt(*, SOL_SOCKET, SO_LINGER, *, *) — close resets the connection, as the guest did */
int32_t lingerZero(int32_t fd) {
  linger now = {1, 0};
  return errnoOr(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now));
}

/* #syscalls:controller setsockopt(*, SOL_TCP, TCP_CONGESTION, *, *) — loopback needs no pacing: "reno", which every kernel has and grants */
int32_t sendUnpaced(int32_t fd) {
  static constexpr char NAME[] = "reno";
  return errnoOr(setsockopt(fd, SOL_TCP, TCP_CONGESTION, NAME, sizeof NAME - 1));
}

/* #syscalls:controller getsockname — the port or echo identifier that the kernel chose */
int32_t localPort(int32_t fd) {
  sockaddr_storage own = {};
  socklen_t len = sizeof own;
  if (getsockname(fd, reinterpret_cast<sockaddr *>(&own), &len) < 0) return -errno;
  if (own.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in &>(own).sin_port);
  if (own.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6 &>(own).sin6_port);
  return -EAFNOSUPPORT;
}
