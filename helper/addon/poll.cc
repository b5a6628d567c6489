// SPDX-License-Identifier: Apache-2.0
/* The epoll set, the one clock reading a turn, and what ends a descriptor (which must leave the set's hints, too). */
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <cmath>

#include "calls.h"
#include "memory.h"

static int epollFd = -1;
static bool fractions = false;
static uv_loop_t *loop = nullptr;

/*
 * Whether a descriptor is believed to be in the set, so that `watch` tries the right one of ADD and MOD first. Belief
 * only: a descriptor closed elsewhere leaves it wrong, and then the other one is tried, too.
 */
static constexpr uint32_t HINTED_FDS = 1 << 20;
static uint64_t watched[HINTED_FDS / 64];

static bool isHinted(int32_t fd) {
  auto n = static_cast<uint32_t>(fd);
  return n < HINTED_FDS && ((watched[n / 64] >> (n % 64)) & 1) != 0;
}
static void hint(int32_t fd, bool in) {
  auto n = static_cast<uint32_t>(fd);
  if (n >= HINTED_FDS) return;
  uint64_t bit = uint64_t{1} << (n % 64);
  watched[n / 64] = in ? watched[n / 64] | bit : watched[n / 64] & ~bit;
}

static double clockMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}
static void readClock() { memory.clock[CLOCK_NOW] = clockMs(); }

/* Before sealing: the set is made once, and the kernel is asked whether it takes timeouts finer than milliseconds. */
int openPoll(napi_env env) {
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return -EINVAL;
  if (epollFd >= 0) return 0;
  epollFd = epoll_create1(EPOLL_CLOEXEC);
  if (epollFd < 0) return -errno;
  epoll_event none;
  timespec zero = {0, 0};
  fractions = syscall(SYS_epoll_pwait2, epollFd, &none, 1, &zero, nullptr, 0) == 0;
  readClock();
  return 0;
}

/* #syscalls:controller epoll_ctl — sockets join and leave the set as flows come and go */
int32_t watch(int32_t fd, int32_t events, int32_t ref) {
  epoll_event event = {};
  event.events = static_cast<uint32_t>(events);
  event.data.u32 = static_cast<uint32_t>(ref);
  bool in = isHinted(fd);
  int result = epoll_ctl(epollFd, in ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
  if (result != 0 && errno == (in ? ENOENT : EEXIST)) {
    result = epoll_ctl(epollFd, in ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
  }
  if (result != 0) return -errno;
  hint(fd, true);
  return 0;
}

int32_t unwatch(int32_t fd) {
  hint(fd, false);
  return errnoOr(epoll_ctl(epollFd, EPOLL_CTL_DEL, fd, nullptr));
}

/* #syscalls:controller epoll_pwait2 — one wait a turn, with a timeout in fractions of a millisecond */
static int waitFine(epoll_event *events, double timeoutMs) {
  timespec limit;
  double seconds = std::floor(timeoutMs / 1e3);
  limit.tv_sec = static_cast<time_t>(seconds);
  limit.tv_nsec = static_cast<long>((timeoutMs - seconds * 1e3) * 1e6);
  auto *timeout = timeoutMs < 0 ? nullptr : &limit;
  return static_cast<int>(syscall(SYS_epoll_pwait2, epollFd, events, EVENTS_MAX, timeout, nullptr, 0));
}

/* #syscalls:controller epoll_pwait — the same on kernels before 5.11; rounded up, so that it does not spin */
static int waitCoarse(epoll_event *events, double timeoutMs) {
  int limit = timeoutMs < 0 ? -1 : static_cast<int>(std::ceil(timeoutMs));
  return epoll_pwait(epollFd, events, EVENTS_MAX, limit, nullptr);
}

static int waitOnce(epoll_event *events, double timeoutMs) {
  return fractions ? waitFine(events, timeoutMs) : waitCoarse(events, timeoutMs);
}

/* Looks again and again, which keeps the processor, and finds what a sleeper would have to be woken for. */
static int look(epoll_event *events, double untilMs) {
  for (;;) {
    int n = waitOnce(events, 0);
    if (n != 0 || clockMs() >= untilMs) return n;
  }
}

int32_t wait(double timeoutMs, double lookMs) {
  static epoll_event events[EVENTS_MAX];
  /* A day is for ever enough, and keeps the conversions to integers defined. */
  static constexpr double LIMIT_MS = 86'400'000.0;
  /* Whoever asks for more does not mean this. */
  static constexpr double LOOK_LIMIT_MS = 1.0;
  if (std::isnan(timeoutMs) || std::isnan(lookMs)) return OUT_OF_RANGE;
  double bounded = timeoutMs < 0 ? -1 : std::fmin(timeoutMs, LIMIT_MS);
  double began = memory.clock[CLOCK_WAIT_BEGAN] = clockMs();
  int n = 0;
  if (lookMs > 0 && bounded != 0) {
    double limit = std::fmin(lookMs, LOOK_LIMIT_MS);
    n = look(events, began + (bounded > 0 ? std::fmin(limit, bounded) : limit));
    if (bounded > 0) bounded = std::fmax(began + bounded - clockMs(), 0);
  }
  if (n == 0) n = waitOnce(events, bounded);
  int error = errno;
  readClock();
  if (n < 0) return error == EINTR ? 0 : -error;
  for (int i = 0; i < n; i++) {
    memory.columns[COL_EVENT_REF + i] = static_cast<int32_t>(events[i].data.u32);
    memory.columns[COL_EVENT_MASK + i] = static_cast<int32_t>(events[i].events);
  }
  return n;
}

int32_t uvBackendFd() { return uv_backend_fd(loop); }

int32_t uvTimeoutMs() {
  uv_update_time(loop);
  return uv_backend_timeout(loop);
}

/* #syscalls:controller close — flows end, and surplus descriptors are given back */
int32_t closeFd(int32_t fd) {
  hint(fd, false);
  /* The descriptor is gone after EINTR as well (close(2)): never again. */
  return errnoOr(close(fd));
}

/* Before sealing only: the log's and /dev/null's descriptors take the places of the caller's. */
int32_t dup2Fd(int32_t from, int32_t to) {
  hint(to, false);
  return errnoOr(dup2(from, to));
}
