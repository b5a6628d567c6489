/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes and slots that TypeScript and C must agree on. `shared/abi.ts` is the twin that explains them;
 * test/style/abi.test.ts compares the two, so a value is written here as one literal or a product of literals.
 */
#ifndef PASTICHE_ABI_H
#define PASTICHE_ABI_H

#define ARENA_BYTES (84 * 1024 * 1024)
#define ARENA_HOT_BYTES (16 * 1024 * 1024)
#define FRAME_BYTES_MAX 65600
#define FRAMES_MAX 512
#define OUT_MAX 1024
#define EVENTS_MAX 256
#define IOV_MAX_BATCH 64
#define DATAGRAMS_MAX 64
#define SPLICE_EMPTY 1
#define SPLICE_FULL 2
#define SPLICE_END 3
#define SPLICE_FROM_FAILED 4
#define SPLICE_TO_FAILED 5
#define VRING_SIZE_MAX 1024
#define VRING_LONG_HEADER 1
#define VRING_MRG_RXBUF 2
#define VRING_EVENT_IDX 4
#define VRING_INDIRECT 8
#define VRING_CSUM 16
#define VRING_TSO4 32
#define VRING_TSO6 64
#define VRING_USO 128
#define COLUMN_INTS 4352

/* Offsets into the Int32 column buffer, in elements. */
enum column {
  COL_EVENT_REF = 0,
  COL_EVENT_MASK = 256,
  COL_FRAME_AT = 512,
  COL_FRAME_LEN = 1024,
  COL_OUT_AT = 1536,
  COL_OUT_LEN = 2560,
  COL_IOV_AT = 3584,
  COL_IOV_LEN = 3648,
  COL_DGRAM_LEN = 3712,
  COL_DGRAM_GSO = 3776,
  COL_DGRAM_TTL = 3840,
  COL_DGRAM_TOS = 3904,
  COL_FD = 3968,
  COL_FD_COUNT = 4224,
  COL_ERRNO = 4225,
  COL_ERR_ORIGIN = 4226,
  COL_ERR_TYPE = 4227,
  COL_ERR_CODE = 4228,
  COL_ERR_INFO = 4229,
  COL_ERR_ERRNO = 4230,
  COL_TCPI_STATE = 4240,
  COL_TCPI_RTT_US = 4241,
  COL_TCPI_SND_WND = 4242,
  COL_TCPI_SND_MSS = 4243,
  COL_TCPI_SND_CWND = 4244,
  COL_TCPI_UNACKED = 4245,
  COL_TCPI_SNDBUF = 4246,
  COL_TCPI_WMEM_QUEUED = 4247,
  COL_TCPI_OUTQ = 4248,
  COL_TCPI_NOTSENT = 4249,
  COL_TCPI_SND_WSCALE = 4250,
  COL_TCPI_BYTES_ACKED_LO = 4251,
  COL_TCPI_PMTU = 4252,
  COL_TCPI_RCVBUF = 4253,
  COL_TCPI_RMEM_ALLOC = 4254,
  COL_SPLICE_HELD = 4256,
  COL_SPLICE_STOP = 4257,
  COL_SPLICE_ERRNO = 4258,
  COL_STREAM_SKIP = 4260,
  COL_VRING_MORE = 4264,
  COL_VRING_SEGMENT = 4265,
  COL_VRING_CHAIN = 4266,
  COL_VRING_LONG = 4267,
  COL_VRING_ROOM = 4268,
  COL_VRING_LOOKS = 4269,
};

/* The int-valued socket options that the controller may set: X(level, option). */
#define SOCKOPTS(X)                \
  X(SOL_SOCKET, SO_SNDBUF)         \
  X(SOL_SOCKET, SO_RCVBUF)         \
  X(SOL_SOCKET, SO_KEEPALIVE)      \
  X(SOL_SOCKET, SO_RCVLOWAT)       \
  X(SOL_SOCKET, SO_PEEK_OFF)       \
  X(SOL_TCP, TCP_NODELAY)          \
  X(SOL_TCP, TCP_MAXSEG)           \
  X(SOL_TCP, TCP_KEEPIDLE)         \
  X(SOL_TCP, TCP_KEEPINTVL)        \
  X(SOL_TCP, TCP_WINDOW_CLAMP)     \
  X(SOL_TCP, TCP_QUICKACK)         \
  X(SOL_TCP, TCP_USER_TIMEOUT)     \
  X(SOL_TCP, TCP_NOTSENT_LOWAT)    \
  X(SOL_UDP, UDP_SEGMENT)          \
  X(SOL_IP, IP_TOS)                \
  X(SOL_IP, IP_TTL)                \
  X(SOL_IP, IP_MULTICAST_TTL)      \
  X(SOL_IP, IP_RECVERR)            \
  X(SOL_IP, IP_MTU_DISCOVER)       \
  X(SOL_IPV6, IPV6_UNICAST_HOPS)   \
  X(SOL_IPV6, IPV6_MULTICAST_HOPS) \
  X(SOL_IPV6, IPV6_RECVERR)        \
  X(SOL_IPV6, IPV6_MTU_DISCOVER)   \
  X(SOL_IPV6, IPV6_TCLASS)

#endif
