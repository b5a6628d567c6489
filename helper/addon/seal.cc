// SPDX-License-Identifier: Apache-2.0
/* The controller's seal: the compiled filter over all of Node's threads, and the proof that it is in force. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <node_api.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "calls.h"
#include "memory.h"

/* #syscalls:controller getrandom(*, *, 0) — keys of flow table and sequence numbers, identifiers */
int32_t randomBytes(int32_t at, int32_t len) {
  if (!inArena(at, len)) return OUT_OF_RANGE;
  for (int32_t done = 0; done < len;) {
    ssize_t got = getrandom(memory.arena + at + done, static_cast<size_t>(len - done), 0);
    if (got < 0 && errno != EINTR) return -errno;
    if (got > 0) done += static_cast<int32_t>(got);
  }
  return 0;
}

/* The filter of all threads, those that V8 and libuv started included; a thread that cannot take it fails the call. */
static int32_t install(sock_filter *program, size_t instructions) {
  sock_fprog filter = {static_cast<unsigned short>(instructions), program};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -errno;
  long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
  if (result < 0) return -errno;
  /* Positive: the thread that has a filter of its own and could not be synchronised (seccomp(2)). */
  return result == 0 ? 0 : -ESRCH;
}

napi_value installFilter(napi_env env, napi_callback_info info) {
  static sock_filter program[BPF_MAXINSNS];
  size_t count = 1;
  napi_value value = nullptr;
  napi_typedarray_type type = napi_int8_array;
  void *bytes = nullptr;
  size_t len = 0;
  napi_get_cb_info(env, info, &count, &value, nullptr, nullptr);
  napi_status status = napi_get_typedarray_info(env, value, &type, &len, &bytes, nullptr, nullptr);
  if (status != napi_ok || type != napi_uint8_array) {
    napi_throw_type_error(env, nullptr, "a filter is the bytes of a sock_filter array, in a Uint8Array");
    return nullptr;
  }
  if (len == 0 || len > sizeof program || len % sizeof program[0] != 0) {
    napi_throw_range_error(env, nullptr, "a filter has 1 to 4096 instructions of 8 bytes");
    return nullptr;
  }
  /* A Uint8Array may start at any byte; the kernel's array is aligned. */
  std::memcpy(program, bytes, len);
  napi_value out = nullptr;
  napi_create_int32(env, install(program, len / sizeof program[0]), &out);
  return out;
}

/* #syscalls:controller getpgid(0x70617374) => ENOANO — proof for the controller that this filter is in force */
int32_t probeFilter() {
  /* No process has this number (PID_MAX_LIMIT is 2^22): without the filter the answer is ESRCH. */
  static constexpr pid_t NOBODY = 0x70617374;
  return errnoOr(getpgid(NOBODY));
}
