// SPDX-License-Identifier: Apache-2.0
/* Descriptors that somebody else's process handed over (SCM_RIGHTS): of any file at all, until they were looked at. */
#pragma once
#include <cstdint>
#include <sys/stat.h>

/* fstat(2). 0 or -1 with errno. */
int32_t fileOf(int32_t fd, struct stat &out);
