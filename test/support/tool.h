/* SPDX-License-Identifier: Apache-2.0 */
/* What the small programs of tests and benchmarks have in common. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* CLOCK_MONOTONIC, ms. */
static inline double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Says what failed, and why (errno), and ends. */
static inline _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}
