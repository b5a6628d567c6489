// SPDX-License-Identifier: Apache-2.0
/* Registration only: the table of what controller/io/native.ts describes. */
#include <napi.h>
#include <signal.h>

#include <cstring>

#include "call.h"
#include "calls.h"

struct Entry {
  const char *name;
  napi_callback invoke;
};

static constexpr Entry ENTRIES[] = {
    {"watch", Call<watch>::invoke},
    {"unwatch", Call<unwatch>::invoke},
    {"wait", Call<wait>::invoke},
    {"uvBackendFd", Call<uvBackendFd>::invoke},
    {"uvTimeoutMs", Call<uvTimeoutMs>::invoke},
    {"readFrames", Call<readFrames>::invoke},
    {"writeFrames", Call<writeFrames>::invoke},
    {"writeStreamFrames", Call<writeStreamFrames>::invoke},
    {"vringMap", Call<vringMap>::invoke},
    {"vringFeatures", Call<vringFeatures>::invoke},
    {"vringStart", Call<vringStart>::invoke},
    {"vringStop", Call<vringStop>::invoke},
    {"vringCall", Call<vringCall>::invoke},
    {"vringReceive", Call<vringReceive>::invoke},
    {"vringSend", Call<vringSend>::invoke},
    {"checkEvent", Call<checkEvent>::invoke},
    {"signalEvent", Call<signalEvent>::invoke},
    {"closeForeign", Call<closeForeign>::invoke},
    {"read", Call<readBytes>::invoke},
    {"readAt", Call<readAt>::invoke},
    {"write", Call<writeBytes>::invoke},
    {"writev", Call<writeRanges>::invoke},
    {"recvv", Call<receiveRanges>::invoke},
    {"discard", Call<discard>::invoke},
    {"accept", Call<acceptFrom>::invoke},
    {"pipe", Call<makePipe>::invoke},
    {"spliceThrough", Call<spliceThrough>::invoke},
    {"recvDatagrams", Call<recvDatagrams>::invoke},
    {"recvFrom", Call<recvFrom>::invoke},
    {"recvError", Call<recvError>::invoke},
    {"udpSegment", Call<udpSegment>::invoke},
    {"tcpInfo", Call<tcpInfo>::invoke},
    {"tcpOutq", Call<tcpOutq>::invoke},
    {"tcpRoom", Call<tcpRoom>::invoke},
    {"socketError", Call<socketError>::invoke},
    {"setsockopt", Call<setOption>::invoke},
    {"lingerZero", Call<lingerZero>::invoke},
    {"sendUnpaced", Call<sendUnpaced>::invoke},
    {"pathMtu", Call<pathMtu>::invoke},
    {"localPort", Call<localPort>::invoke},
    {"shutdownWrite", Call<shutdownWrite>::invoke},
    {"close", Call<closeFd>::invoke},
    {"dup2", Call<dup2Fd>::invoke},
    {"channelSend", Call<channelSend>::invoke},
    {"channelRecv", Call<channelRecv>::invoke},
    {"checksum", Call<checksumRange>::invoke},
    {"random", Call<randomBytes>::invoke},
    {"crc32", crc32Of},
    {"installFilter", installFilter},
    {"probeFilter", Call<probeFilter>::invoke},
};

static void fail(Napi::Env env, const char *what, int error) {
  Napi::Error::New(env, std::string(what) + ": " + std::strerror(error)).ThrowAsJavaScriptException();
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  /* A peer that has closed is an errno of the write that meets it. */
  signal(SIGPIPE, SIG_IGN);
  (void)watchBusErrors();
  int error = -mapMemory();
  if (error != 0) {
    fail(env, "no memory for the arena", error);
    return exports;
  }
  error = -openPoll(env);
  if (error != 0) {
    fail(env, "no epoll set", error);
    return exports;
  }
  exports.Set("arena", Napi::ArrayBuffer::New(env, memory.arena, ARENA_BYTES));
  exports.Set("columns", Napi::ArrayBuffer::New(env, memory.columns, COLUMN_INTS * sizeof(int32_t)));
  exports.Set("clock", Napi::ArrayBuffer::New(env, memory.clock, CLOCK_SLOTS * sizeof(double)));
  for (const Entry &entry : ENTRIES) {
    napi_value call = nullptr;
    napi_status status = napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, entry.invoke, nullptr, &call);
    NAPI_THROW_IF_FAILED(env, status, exports);
    exports.Set(entry.name, Napi::Value(env, call));
  }
  return exports;
}

NODE_API_MODULE(pastiche, init)
