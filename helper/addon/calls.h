// SPDX-License-Identifier: Apache-2.0
/*
 * Every call the addon offers, in the order of controller/io/native.ts, which documents them. Results are as there:
 * a count or 0, -errno, or OUT_OF_RANGE.
 */
#pragma once
#include <cstdint>
#include <node_api.h>

/* poll.cc */
int openPoll(napi_env env);
int32_t watch(int32_t fd, int32_t events, int32_t ref);
int32_t unwatch(int32_t fd);
int32_t wait(double timeoutMs, double lookMs);
int32_t uvBackendFd();
int32_t uvTimeoutMs();
int32_t closeFd(int32_t fd);
int32_t dup2Fd(int32_t from, int32_t to);

/* frames.cc */
int32_t readFrames(int32_t fd, int32_t at, int32_t end, int32_t max);
int32_t writeFrames(int32_t fd, int32_t from, int32_t to);

/* stream-frames.cc */
int32_t writeStreamFrames(int32_t fd, int32_t from, int32_t to, int32_t skip);

/* vring.cc, vring-receive.cc, vring-send.cc */
int32_t vringMap(int32_t at, int32_t count);
int32_t vringFeatures(int32_t bits);
int32_t vringStart(int32_t queue, int32_t size, int32_t base, int32_t at);
int32_t vringStop(int32_t queue);
int32_t vringCall(int32_t queue, int32_t fd);
int32_t vringReceive(int32_t at, int32_t end, int32_t max);
int32_t vringSend(int32_t from, int32_t to, int32_t segment);
/* At the start: 0 or -errno. */
int32_t watchBusErrors();

/* foreign-fd.cc */
int32_t checkEvent(int32_t fd);
int32_t signalEvent(int32_t fd);
int32_t closeForeign(int32_t fd);

/* stream.cc */
int32_t readBytes(int32_t fd, int32_t at, int32_t len);
int32_t readAt(int32_t fd, int32_t at, int32_t len, int32_t offset);
int32_t writeBytes(int32_t fd, int32_t at, int32_t len);
int32_t writeRanges(int32_t fd, int32_t n);
int32_t receiveRanges(int32_t fd, int32_t n, bool peek);
int32_t discard(int32_t fd, int32_t len);
int32_t shutdownWrite(int32_t fd);

/* splice.cc */
int32_t acceptFrom(int32_t fd, int32_t at);
int32_t makePipe(int32_t bytes);
int32_t spliceThrough(int32_t from, int32_t pipeIn, int32_t pipeOut, int32_t to, int32_t held, int32_t budget,
                      bool last);

/* dgram.cc */
int32_t recvDatagrams(int32_t fd, int32_t at, int32_t stride, int32_t max);
int32_t recvFrom(int32_t fd, int32_t at, int32_t stride, int32_t max, int32_t recordsAt, bool peek);
int32_t recvError(int32_t fd, int32_t at, int32_t len, int32_t offenderAt);

/* sockopt.cc */
int32_t tcpInfo(int32_t fd);
int32_t tcpOutq(int32_t fd);
int32_t tcpRoom(int32_t fd);
int32_t socketError(int32_t fd);
int32_t setOption(int32_t fd, int32_t level, int32_t option, int32_t value);
int32_t lingerZero(int32_t fd);
int32_t sendUnpaced(int32_t fd);
int32_t udpSegment(int32_t fd, int32_t segment);
int32_t pathMtu(int32_t fd, bool v6);
int32_t localPort(int32_t fd);

/* fdpass.cc */
int32_t channelSend(int32_t fd, int32_t at, int32_t len);
int32_t channelRecv(int32_t fd, int32_t at, int32_t len, bool block);

/* arena.cc */
int32_t checksumRange(int32_t at, int32_t len, int32_t initial);

/* seal.cc */
int32_t randomBytes(int32_t at, int32_t len);
int32_t probeFilter();
napi_value installFilter(napi_env env, napi_callback_info info);
napi_value crc32Of(napi_env env, napi_callback_info info);
