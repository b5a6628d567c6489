/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bad network: joins two taps, each in a network namespace of its own, and loses, repeats, delays and reorders
 * frames on the way, by a seeded generator.
 *
 *   shim NETNS NETNS NAME SEED LOSS% DUPLICATE% REORDER% REORDER_MS DELAY_MS
 *
 * Every frame waits DELAY_MS; a reordered one REORDER_MS more, so that later ones overtake it. Frames wait in a
 * bounded heap; what does not fit is lost, as in a router.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_BYTES_MAX = 65600, WAITING_MAX = 1 << 16, BURST = 64 };

struct waiting {
	uint64_t due_ns, order;
	int to;
	size_t length;
	unsigned char *frame;
};

static struct waiting heap[WAITING_MAX];
static size_t heap_length;
static uint64_t random_state, arrivals;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* xorshift64*: a percentage is compared with a number in [0, 100). */
static int happens(double percent)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (double)((random_state * UINT64_C(0x2545f4914f6cdd1d)) >> 11) / 9007199254740992.0 * 100.0 < percent;
}

static int before(const struct waiting *a, const struct waiting *b)
{
	return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void push(uint64_t due_ns, int to, const unsigned char *frame, size_t length)
{
	size_t i = heap_length;
	struct waiting w = { .due_ns = due_ns, .order = arrivals++, .to = to, .length = length };

	if (heap_length == WAITING_MAX || !(w.frame = malloc(length)))
		return;
	memcpy(w.frame, frame, length);
	for (heap_length++; i > 0 && before(&w, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = w;
}

static struct waiting pop(void)
{
	struct waiting first = heap[0], last = heap[--heap_length];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < heap_length) {
		if (child + 1 < heap_length && before(&heap[child + 1], &heap[child]))
			child++;
		if (!before(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

static int open_tap(const char *netns, const char *name)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int ns = open(netns, O_RDONLY | O_CLOEXEC), tap = -1;

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	/* A tap belongs to the namespace in which /dev/net/tun was opened. */
	if (ns >= 0 && setns(ns, CLONE_NEWNET) == 0)
		tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (tap < 0 || ioctl(tap, TUNSETIFF, &r)) {
		perror(netns);
		exit(1);
	}
	close(ns);
	return tap;
}

int main(int argc, char **argv)
{
	static unsigned char frame[FRAME_BYTES_MAX];
	double loss, duplicate, reorder, reorder_ms, delay_ms;
	struct pollfd taps[2];

	if (argc != 10) {
		fprintf(stderr, "usage: shim NETNS NETNS NAME SEED LOSS DUPLICATE REORDER REORDER_MS DELAY_MS\n");
		return 2;
	}
	taps[0] = (struct pollfd){ .fd = open_tap(argv[1], argv[3]), .events = POLLIN };
	taps[1] = (struct pollfd){ .fd = open_tap(argv[2], argv[3]), .events = POLLIN };
	random_state = strtoull(argv[4], NULL, 10) * 2 + 1;
	loss = atof(argv[5]);
	duplicate = atof(argv[6]);
	reorder = atof(argv[7]);
	reorder_ms = atof(argv[8]);
	delay_ms = atof(argv[9]);

	for (;;) {
		uint64_t now = now_ns();
		struct timespec wait = { 1, 0 };

		while (heap_length > 0 && heap[0].due_ns <= now) {
			struct waiting w = pop();

			if (write(taps[w.to].fd, w.frame, w.length) < 0 && errno == EBADFD)
				return 1;
			free(w.frame);
		}
		if (heap_length > 0 && heap[0].due_ns - now < 1000000000u)
			wait = (struct timespec){ 0, (long)(heap[0].due_ns - now) };
		if (ppoll(taps, 2, &wait, NULL) < 0 && errno != EINTR)
			return 1;
		now = now_ns();
		for (int side = 0; side < 2; side++) {
			for (int i = 0; i < BURST; i++) {
				ssize_t n = read(taps[side].fd, frame, sizeof(frame));
				uint64_t due = now + (uint64_t)(delay_ms * 1e6);

				if (n <= 0)
					break;
				if (happens(loss))
					continue;
				if (happens(reorder))
					due += (uint64_t)(reorder_ms * 1e6);
				push(due, !side, frame, (size_t)n);
				if (happens(duplicate))
					push(due, !side, frame, (size_t)n);
			}
		}
	}
}
