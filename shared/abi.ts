// SPDX-License-Identifier: Apache-2.0
/**
 * Sizes and slots that TypeScript and C must agree on. `shared/abi.h` is the hand-written twin;
 * `test/style/abi.test.ts` compares the two.
 */

/** Arena: received frames, frames to send, scratch (the hot first part), then data that sockets refused, fragments, data out of order. */
export const ARENA_BYTES = 84 * 1024 * 1024;
/** The part worth huge pages; the rest is touched only under back-pressure or loss. */
export const ARENA_HOT_BYTES = 16 * 1024 * 1024;
/** A read must have this much room: 12 bytes of vnet header, 14 of Ethernet, 65535 of IP, rounded up. */
export const FRAME_BYTES_MAX = 65_600;
export const FRAMES_MAX = 512;
export const OUT_MAX = 1024;
export const EVENTS_MAX = 256;
export const IOV_MAX_BATCH = 64;
export const DATAGRAMS_MAX = 64;
/** Why spliceThrough stopped, COL.SPLICE_STOP: 0, its budget is used up and there may be more. The last two are failures of one side. */
export const SPLICE_EMPTY = 1;
export const SPLICE_FULL = 2;
export const SPLICE_END = 3;
export const SPLICE_FROM_FAILED = 4;
export const SPLICE_TO_FAILED = 5;
/** Entries of a virtqueue at most, and what was negotiated of its rings' features (helper/addon/vring.h): bits. */
export const VRING_SIZE_MAX = 1024;
export const VRING_LONG_HEADER = 1;
export const VRING_MRG_RXBUF = 2;
export const VRING_EVENT_IDX = 4;
export const VRING_INDIRECT = 8;
export const VRING_CSUM = 16;
export const VRING_TSO4 = 32;
export const VRING_TSO6 = 64;
export const VRING_USO = 128;

/** Offsets into the Int32 column buffer, in elements. */
export const COL = {
  EVENT_REF: 0,
  EVENT_MASK: 256,
  FRAME_AT: 512,
  FRAME_LEN: 1024,
  OUT_AT: 1536,
  OUT_LEN: 2560,
  IOV_AT: 3584,
  IOV_LEN: 3648,
  DGRAM_LEN: 3712,
  DGRAM_GSO: 3776,
  DGRAM_TTL: 3840,
  DGRAM_TOS: 3904,
  FD: 3968,
  FD_COUNT: 4224,
  ERRNO: 4225,
  ERR_ORIGIN: 4226,
  ERR_TYPE: 4227,
  ERR_CODE: 4228,
  ERR_INFO: 4229,
  ERR_ERRNO: 4230,
  TCPI_STATE: 4240,
  TCPI_RTT_US: 4241,
  TCPI_SND_WND: 4242,
  TCPI_SND_MSS: 4243,
  TCPI_SND_CWND: 4244,
  TCPI_UNACKED: 4245,
  TCPI_SNDBUF: 4246,
  TCPI_WMEM_QUEUED: 4247,
  TCPI_OUTQ: 4248,
  TCPI_NOTSENT: 4249,
  TCPI_SND_WSCALE: 4250,
  TCPI_BYTES_ACKED_LO: 4251,
  TCPI_PMTU: 4252,
  TCPI_RCVBUF: 4253,
  TCPI_RMEM_ALLOC: 4254,
  SPLICE_HELD: 4256,
  SPLICE_STOP: 4257,
  SPLICE_ERRNO: 4258,
  STREAM_SKIP: 4260,
  VRING_MORE: 4264,
  VRING_SEGMENT: 4265,
  VRING_CHAIN: 4266,
  VRING_LONG: 4267,
  VRING_ROOM: 4268,
  VRING_LOOKS: 4269,
} as const;
export const COLUMN_INTS = 4352;

/** The int-valued socket options that the controller may set, each with its level; the filter has no others. */
export const SOCKOPT = {
  SO_SNDBUF: { level: 1, option: 7 },
  SO_RCVBUF: { level: 1, option: 8 },
  SO_KEEPALIVE: { level: 1, option: 9 },
  SO_RCVLOWAT: { level: 1, option: 18 },
  SO_PEEK_OFF: { level: 1, option: 42 },
  TCP_NODELAY: { level: 6, option: 1 },
  TCP_MAXSEG: { level: 6, option: 2 },
  TCP_KEEPIDLE: { level: 6, option: 4 },
  TCP_KEEPINTVL: { level: 6, option: 5 },
  TCP_WINDOW_CLAMP: { level: 6, option: 10 },
  TCP_QUICKACK: { level: 6, option: 12 },
  TCP_USER_TIMEOUT: { level: 6, option: 18 },
  TCP_NOTSENT_LOWAT: { level: 6, option: 25 },
  UDP_SEGMENT: { level: 17, option: 103 },
  IP_TOS: { level: 0, option: 1 },
  IP_TTL: { level: 0, option: 2 },
  IP_MULTICAST_TTL: { level: 0, option: 33 },
  IP_RECVERR: { level: 0, option: 11 },
  IP_MTU_DISCOVER: { level: 0, option: 10 },
  IPV6_UNICAST_HOPS: { level: 41, option: 16 },
  IPV6_MULTICAST_HOPS: { level: 41, option: 18 },
  IPV6_RECVERR: { level: 41, option: 25 },
  IPV6_MTU_DISCOVER: { level: 41, option: 23 },
  IPV6_TCLASS: { level: 41, option: 67 },
} as const;
