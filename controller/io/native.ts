// SPDX-License-Identifier: Apache-2.0
/**
 * What the native addon offers: batched system calls over pinned memory, and nothing with a decision in it. The addon
 * re-checks every (offset, length) against the arena; a range outside it is a programming error and throws RangeError.
 * System call failures are returned as -errno, never thrown.
 */
export interface Native {
  /** The one arena for frames, page-aligned, ARENA_BYTES long (see shared/abi.ts). */
  readonly arena: ArrayBuffer;
  /** Int32 column shared by the calls below; slot numbers in shared/abi.ts (`COL`). */
  readonly columns: ArrayBuffer;
  /** Float64 monotonic clock in milliseconds, written by each `wait`: [0] when it ended, [1] when it began. */
  readonly clock: ArrayBuffer;

  /** Adds `fd` to the epoll set, or changes its events (EPOLLET included). `ref` comes back with each event. 0 or -errno. */
  watch(fd: number, events: number, ref: number): number;
  unwatch(fd: number): number;
  /** Waits up to `timeoutMs` (-1: for ever; fractions are honoured), before which it looks for events without sleeping for `lookMs` of that (1 at most). Fills COL.EVENT_REF/EVENT_MASK (EVENTS_MAX at most). Number of events, or -errno. EINTR is 0 events. */
  wait(timeoutMs: number, lookMs: number): number;
  /** The libuv backend descriptor, to be watched like any other. */
  uvBackendFd(): number;
  /** Milliseconds until libuv's next timer is due, 0 when something is due now (setImmediate included), -1 when nothing is. */
  uvTimeoutMs(): number;

  /**
   * Reads frames from a tap, one read(2) each, until EAGAIN, `max` frames, or fewer than FRAME_BYTES_MAX bytes left
   * before `end`. Frame i is at COL.FRAME_AT[i], COL.FRAME_LEN[i] (64-byte aligned starts; the 12 bytes before each belong to no other frame). Number of frames (0: none waiting),
   * or -errno if the very first read failed otherwise (-EPIPE: it met the end of file, as a socket does).
   */
  readFrames(fd: number, at: number, end: number, max: number): number;
  /** Writes frames i in [from, to) of COL.OUT_AT/OUT_LEN, one write(2) each; stops at the first failure. Number written; COL.ERRNO holds the errno of the failure or 0. */
  writeFrames(fd: number, from: number, to: number): number;
  /**
   * Writes frames i in [from, to) of COL.OUT_AT/OUT_LEN, the virtio-net header in front of each included, to a stream socket: each behind its
   * length (32 bits, big endian), its checksum completed in place, superframes cut into segments. `skip` bytes of what frame `from` becomes were
   * written before. How many were written wholly; COL.STREAM_SKIP: bytes of the next one that were; COL.ERRNO: why it stopped (EAGAIN: no room) or 0.
   * Throws RangeError for a frame whose header asks for what cannot be done to it.
   */
  writeStreamFrames(fd: number, from: number, to: number, skip: number): number;

  /**
   * Maps the memory of a vhost-user guest, in place of what was mapped: `count` (≤ 8) regions as VHOST_USER_SET_MEM_TABLE has them at `at`,
   * 32 bytes each, their descriptors in COL.FD (which stay the caller's). Stops both rings. 0 regions: nothing is mapped. 0 or -errno
   * (-EINVAL: empty, beyond its file, or no file; -EEXIST: they overlap), and then nothing is.
   */
  vringMap(at: number, count: number): number;
  /** What holds for the rings from now on: VRING_* of shared/abi.ts. Only while they are stopped. */
  vringFeatures(bits: number): number;
  /**
   * Starts queue 0 (to the guest) or 1 (from it) of `size` entries with entry `base`. Its addresses in the front-end, of the descriptors, the used and the available
   * ring, lie at `at`, 8 bytes each, little endian. 0 or -errno (-EINVAL: size or base; -EFAULT: not in one region, or not aligned).
   */
  vringStart(queue: number, size: number, base: number, at: number): number;
  /** Stops a queue; the entry that it would have gone on with. */
  vringStop(queue: number): number;
  /** The descriptor by which the guest is told of used buffers; -1: it is not told. */
  vringCall(queue: number, fd: number): number;
  /**
   * Takes up to `max` chains from the guest, as {@link readFrames} does with frames, each behind a virtio-net header of 12 bytes; asks for a kick where there are no
   * more, else COL.VRING_MORE is 1. Chains given back without a frame: COL.VRING_CHAIN (malformed), COL.VRING_LONG. -EPROTO: the ring
   * is broken; -EFAULT: the guest's memory is gone.
   */
  vringReceive(at: number, end: number, max: number): number;
  /**
   * Puts frames i in [from, to) of COL.OUT_AT/OUT_LEN, virtio-net header first, into the guest's buffers; checksums and segments that the guest did not offer to make are made
   * (in place, or from segment `segment` of the first on, of which the ones before were sent). How many are done with; if not all, the guest kicks when it has given more buffers,
   * and COL.VRING_SEGMENT is the next one's first segment. COL.VRING_ROOM: lost, larger than the guest's buffers. COL.VRING_CHAIN, -EPROTO, -EFAULT: as above.
   */
  vringSend(from: number, to: number, segment: number): number;

  /** Whether a descriptor that somebody handed over is an event counter (eventfd(2)); makes it non-blocking. 0 or -errno (-EINVAL: it is none). */
  checkEvent(fd: number): number;
  /** Adds 1 to such a counter, non-blocking in any case. 0 or -errno (-EAGAIN: it is full). */
  signalEvent(fd: number): number;
  /** {@link close} for whatever somebody handed over: that of a socket does not wait for its data to be sent, whatever its sender set. */
  closeForeign(fd: number): number;

  read(fd: number, at: number, len: number): number;
  /** The same from a position in the file, bytes. */
  readAt(fd: number, at: number, len: number, offset: number): number;
  write(fd: number, at: number, len: number): number;
  /** writev of n ranges COL.IOV_AT/IOV_LEN (n ≤ IOV_MAX_BATCH), MSG_NOSIGNAL semantics (SIGPIPE is ignored in the process). Bytes or -errno. */
  writev(fd: number, n: number): number;
  /** readv over n ranges COL.IOV_AT/IOV_LEN; with `peek`, recvmsg(MSG_PEEK|MSG_DONTWAIT). Bytes or -errno. */
  recvv(fd: number, n: number, peek: boolean): number;
  /** recv(fd, NULL, len, MSG_TRUNC|MSG_DONTWAIT): drops bytes of a TCP receive queue; SO_PEEK_OFF moves back with it. Bytes or -errno. */
  discard(fd: number, len: number): number;
  /**
   * accept4: the next connection of a listener, non-blocking and close-on-exec. Who connected lies at `at`, what was asked for at
   * `at` + 32: 16 bytes of address (IPv4 mapped), 2 of port, in network order. Descriptor or -errno (-EAGAIN: nobody waits).
   */
  accept(fd: number, at: number): number;
  /** A pipe, its read end in COL.FD[0], its write end in COL.FD[1], non-blocking, of `bytes` or as much as the kernel grants (page limits of the user: pipe(7)). Its size in bytes, or -errno. */
  pipe(bytes: number): number;
  /**
   * Moves bytes from socket `from` through a pipe, which holds `held` bytes at first, to socket `to` with splice(2), until `budget`
   * bytes arrived there or one side has to be waited for. COL.SPLICE_STOP says why it stopped: 0 budget, SPLICE_EMPTY nothing (more)
   * to read, SPLICE_FULL no room, SPLICE_END end of file and all of it delivered, SPLICE_FROM_FAILED or SPLICE_TO_FAILED with
   * COL.SPLICE_ERRNO. COL.SPLICE_HELD: what is left in the pipe, not 0 only with SPLICE_FULL and SPLICE_TO_FAILED. An end or failure of `from` is told once what came before is delivered.
   * `last`: end of file follows, so that a part of a segment may wait for it (SPLICE_F_MORE). Bytes that arrived at `to`.
   */
  spliceThrough(
    from: number,
    pipeIn: number,
    pipeOut: number,
    to: number,
    held: number,
    budget: number,
    last: boolean,
  ): number;
  /**
   * recvmmsg of up to `max` (≤ DATAGRAMS_MAX) datagrams into slots at + i·stride, with UDP_GRO, TTL and TOS control data
   * (where the socket was told to report them). COL.DGRAM_LEN/DGRAM_GSO/DGRAM_TTL/DGRAM_TOS[i]: GSO 0 is one datagram, otherwise
   * the length of each but the last; TTL and TOS are -1 where not reported; LEN is -EMSGSIZE for one longer than its slot.
   * Number, or -errno if the first failed (-EAGAIN: none waiting; a pending ICMP error counts as a failure once).
   */
  recvDatagrams(fd: number, at: number, stride: number, max: number): number;
  /**
   * {@link recvDatagrams} of a socket that is not connected. What is known of datagram i lies at `recordsAt` + 64·i, in network order: at 0
   * the sender's address (16 bytes, IPv4 mapped), at 16 its port, at 18 a byte that is 1 if it was for many (a group, broadcast), at 32
   * the address it was sent to (zeros: the socket was not told to report it). With `peek` it stays in the queue: one at most, the first.
   */
  recvFrom(fd: number, at: number, stride: number, max: number, recordsAt: number, peek: boolean): number;
  /** One message of the error queue (MSG_ERRQUEUE): payload at `at`; COL.ERR_* describe it (origin, type, code, info, errno); offender address as 16 bytes at `offenderAt` (IPv4 mapped; zeros: none). Payload (what was sent) length or -errno. */
  recvError(fd: number, at: number, len: number, offenderAt: number): number;
  /** UDP_SEGMENT: later writes leave as datagrams of `segment` bytes each, the last one shorter; at most 64 KiB and UDP_MAX_SEGMENTS a write. 0: one write is one datagram again. 0 or -errno. */
  udpSegment(fd: number, segment: number): number;

  /** TCP_INFO, SO_MEMINFO and SIOCOUTQ in one crossing, into COL.TCPI_*. 0 or -errno (-EINVAL: a listening socket). */
  tcpInfo(fd: number): number;
  /** SIOCOUTQ only, under a third of the cost of tcpInfo: bytes written and not yet acknowledged by the peer, or -errno. */
  tcpOutq(fd: number): number;
  /** Room in the send buffer: sk_sndbuf - sk_wmem_queued in bytes, negative when over-full; COL.ERRNO is 0. INT32_MIN: failed, COL.ERRNO says why. SO_MEMINFO only: about a third of the cost of tcpInfo. */
  tcpRoom(fd: number): number;
  /** SO_ERROR, cleared by reading: the pending error as a positive errno, 0: none; -errno if it could not be read. */
  socketError(fd: number): number;
  /** setsockopt of an int; only the (level, option) pairs of shared/abi.ts (`SOCKOPT`) are in the filter, others throw RangeError. 0 or -errno. */
  setsockopt(fd: number, level: number, option: number, value: number): number;
  /** SO_LINGER {1, 0}: close() then resets the connection. */
  lingerZero(fd: number): number;
  /** TCP_CONGESTION reno: what goes over loopback is sent as the window allows, whatever the host has for networks. 0 or -errno. */
  sendUnpaced(fd: number): number;
  /** IP_MTU or IPV6_MTU of a connected socket: the path MTU as the kernel knows it now. Bytes or -errno. */
  pathMtu(fd: number, v6: boolean): number;
  /** The local port of a socket (of a ping socket: its identifier), or -errno. */
  localPort(fd: number): number;
  shutdownWrite(fd: number): number;
  close(fd: number): number;
  /** Before sealing only. `to`, or -errno. */
  dup2(from: number, to: number): number;

  /** Sends one datagram of the RPC channel (bytes at `at`) with send(2), never blocking. Bytes or -errno (EAGAIN: the channel is full). */
  channelSend(fd: number, at: number, len: number): number;
  /** Receives one datagram with its descriptors (MSG_CMSG_CLOEXEC): COL.FD[i], COL.FD_COUNT. Bytes, 0 at end of file, or -errno (EAGAIN when nothing waits and `block` is false or the descriptor is non-blocking; EMSGSIZE when the message or its descriptors were truncated: none of them stays open). */
  channelRecv(fd: number, at: number, len: number, block: boolean): number;

  /** Ones' complement sum (RFC 1071) of a range, folded to 16 bits, not inverted, started with `initial`. AVX2 where the CPU has it. */
  checksum(at: number, len: number, initial: number): number;
  /** Fills a range from getrandom(2). 0 or -errno. */
  random(at: number, len: number): number;
  /** NO_NEW_PRIVS, then the compiled filter (the bytes of a sock_filter array) for all threads (SECCOMP_FILTER_FLAG_TSYNC). 0 or -errno. */
  installFilter(filter: Uint8Array): number;
  /** CRC-32 (ISO 3309) of `bytes`, going on from `before` (0: from the beginning), as an int32. For the loader, before there is a controller. */
  crc32(bytes: Uint8Array, before: number): number;
  /** A system call that the controller's filter answers with ENOANO: proof that the filter is in force. Returns -errno. */
  probeFilter(): number;
}
