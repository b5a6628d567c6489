// SPDX-License-Identifier: Apache-2.0
/* The memory that the addon owns and JavaScript sees: arena, columns, clock. Made once, never moved, never freed. */
#pragma once
#include <cerrno>
#include <cstdint>

#include "../../shared/abi.h"

struct Memory {
  uint8_t *arena;
  int32_t *columns;
  double *clock;
};
extern Memory memory;

/* Slots of the clock. */
inline constexpr int CLOCK_NOW = 0;
inline constexpr int CLOCK_WAIT_BEGAN = 1;
inline constexpr int CLOCK_SLOTS = 2;

/* Maps the three regions. 0 or -errno. */
int mapMemory();

/* A result that is no -errno: the caller named memory outside the arena. Call (call.h) throws RangeError for it. */
inline constexpr int32_t OUT_OF_RANGE = INT32_MIN + 1;

inline bool inArena(int64_t at, int64_t len) { return at >= 0 && len >= 0 && at + len <= ARENA_BYTES; }
inline int32_t errnoOr(int64_t result) { return result < 0 ? -errno : static_cast<int32_t>(result); }
