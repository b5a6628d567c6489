/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many flows at once: an echo server and clients on epoll, one process each, every octet of every echo compared.
 *
 *   crowd serve ADDRESS PORT           TCP and UDP echo on PORTS ports from PORT on; prints "listening"
 *   crowd tcp|udp ADDRESS PORT COUNT   opens COUNT flows, echoes once on each, then obeys lines of standard input:
 *                                        echo    once more on each
 *                                        close   in order, each end of file awaited
 *                                        reset   by SO_LINGER 0
 *                                      and prints a line of JSON after each; leaves at end of file without closing
 *   crowd rate ADDRESS PORT PER_SECOND MS
 *                                      starts connections by the clock, however the earlier ones fare: connect, echo,
 *                                      close; adds "offered", and of connect() "p50_us", "p99_us", "max_us"; "late_us":
 *                                      how far the client itself was behind the clock at most
 *
 * JSON of all: "ok" flows, "again" repeated datagrams, "errors" {errno name: count}, "ms" of the phase. Flows are dealt
 * out over PORTS ports, so that TIME-WAIT does not use up a client's own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

enum {
	PORTS = 8,
	MESSAGE_MAX = 1200,
	AT_ONCE = 128,
	EVENTS = 256,
	ERRNO_MAX = 200,
	FLOWS_MAX = 1 << 20,
	PATIENCE_MS = 10000, /* of a whole phase without any progress, and of one connection of "rate" */
	REPEAT_MS = 400,
	SILENT_MS = 5, /* after AT_ONCE resets, which a tap's queue may not all hold */
	REPEATS_MAX = 8
};

enum { NONE, CONNECTING, WAITING, OPEN, CLOSING, DONE, FAILED };

struct flow {
	int fd;
	uint8_t state, repeats;
	uint16_t got;
	uint32_t round;
	double since_ms; /* of the connection, or of the last datagram */
};

static struct flow *flows;
static int count, epoll, udp;
static uint32_t round_now;
static unsigned errors[ERRNO_MAX], again, ok;

static struct addrinfo *resolve(const char *address, int port, int type)
{
	struct addrinfo hints = { .ai_socktype = type, .ai_flags = AI_NUMERICHOST }, *ai;
	char service[8];

	snprintf(service, sizeof(service), "%d", port);
	if (getaddrinfo(address, service, &hints, &ai))
		fail(address);
	return ai;
}

static void watch(int fd, uint64_t data, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e))
		fail("epoll_ctl");
}

/* ---- server ---- */

enum { LISTENER = 1 << 30, DATAGRAMS = 1 << 29, KINDS = LISTENER | DATAGRAMS };

static int bound(const char *address, int port, int type)
{
	struct addrinfo *ai = resolve(address, port, type);
	int s = socket(ai->ai_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, room = 8 << 20;

	if (s < 0)
		fail("socket");
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (type == SOCK_DGRAM)
		setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (bind(s, ai->ai_addr, ai->ai_addrlen) || (type == SOCK_STREAM && listen(s, 4096)))
		fail("bind");
	freeaddrinfo(ai);
	return s;
}

static void echo_stream(int s)
{
	static char room[65536];
	ssize_t n = recv(s, room, sizeof(room), 0);

	/* Messages are short: a socket that does not take an echo has a client that does not read, and is of no use. */
	if (n > 0 && send(s, room, (size_t)n, MSG_NOSIGNAL) == n)
		return;
	if (n < 0 && errno == EAGAIN)
		return;
	close(s);
}

static void echo_datagrams(int s)
{
	static char room[65536];
	struct sockaddr_storage from;

	for (;;) {
		socklen_t length = sizeof(from);
		ssize_t n = recvfrom(s, room, sizeof(room), 0, (struct sockaddr *)&from, &length);

		if (n < 0)
			return;
		sendto(s, room, (size_t)n, 0, (struct sockaddr *)&from, length);
	}
}

static _Noreturn void serve(const char *address, int port)
{
	struct epoll_event events[EVENTS];
	int one = 1;

	for (int i = 0; i < PORTS; i++) {
		int l = bound(address, port + i, SOCK_STREAM), d = bound(address, port + i, SOCK_DGRAM);

		watch(l, (uint64_t)(l | LISTENER), EPOLLIN);
		watch(d, (uint64_t)(d | DATAGRAMS), EPOLLIN);
	}
	puts("listening");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			int s = (int)(events[i].data.u64 & ~(uint64_t)KINDS);

			if (events[i].data.u64 & LISTENER) {
				while ((s = accept4((int)(events[i].data.u64 & ~(uint64_t)KINDS), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
					setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
					watch(s, (uint64_t)s, EPOLLIN);
				}
			} else if (events[i].data.u64 & DATAGRAMS) {
				echo_datagrams(s);
			} else {
				echo_stream(s);
			}
		}
	}
}

/* ---- clients ---- */

/* The message of a flow and round: 1 to MESSAGE_MAX octets by SplitMix64. Returns its length. */
static size_t make_message(unsigned char *to, uint32_t flow, uint32_t round)
{
	uint64_t seed = (uint64_t)flow << 32 | round;
	size_t length = 8 + (flow * 7919u + round * 104729u) % (MESSAGE_MAX - 15);

	for (size_t i = 0; i * 8 < length; i++) {
		uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		z ^= z >> 31;
		memcpy(to + i * 8, &z, 8);
	}
	return length;
}

static void drop(struct flow *f, int error)
{
	errors[error > 0 && error < ERRNO_MAX ? error : 0]++;
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	f->state = FAILED;
}

static int say_something(struct flow *f)
{
	unsigned char message[MESSAGE_MAX];
	size_t length = make_message(message, (uint32_t)(f - flows), f->round = round_now);
	ssize_t n = send(f->fd, message, length, MSG_NOSIGNAL);

	f->got = 0;
	f->state = WAITING;
	if (n != (ssize_t)length && !(udp && errno == EAGAIN)) {
		drop(f, n < 0 ? errno : EMSGSIZE);
		return -1;
	}
	return 0;
}

/* Starts a connection to one of the ports; at the end of a connected socket the flow is CONNECTING, or FAILED. */
static void start(struct flow *f, struct addrinfo *const *to)
{
	const struct addrinfo *ai = to[(f - flows) % PORTS];
	int one = 1;

	f->since_ms = now_ms();
	f->fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->fd < 0) {
		drop(f, errno);
		return;
	}
	if (!udp)
		setsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(f->fd, ai->ai_addr, ai->ai_addrlen) && errno != EINPROGRESS) {
		drop(f, errno);
		return;
	}
	watch(f->fd, (uint64_t)(f - flows), udp ? EPOLLIN : EPOLLIN | EPOLLOUT | EPOLLET);
	f->state = CONNECTING;
	if (udp)
		say_something(f);
}

/* Reads what has come; 1: the echo is complete and right. */
static int listen_to(struct flow *f)
{
	unsigned char message[MESSAGE_MAX], room[MESSAGE_MAX + 1];
	size_t length = make_message(message, (uint32_t)(f - flows), f->round);

	for (;;) {
		ssize_t n = recv(f->fd, room, sizeof(room), 0);

		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0) {
			if (f->state == CLOSING && n == 0) {
				close(f->fd);
				f->fd = -1;
				f->state = DONE;
			} else {
				drop(f, n == 0 ? EPIPE : errno);
			}
			return 0;
		}
		if (f->state != WAITING) {
			if (udp)
				continue; /* the echo of a repeated datagram */
			drop(f, EBADMSG);
			return 0;
		}
		if (udp) {
			if ((size_t)n != length || memcmp(room, message, length)) {
				unsigned char before[MESSAGE_MAX];

				if (f->round == 0 || make_message(before, (uint32_t)(f - flows), f->round - 1) != (size_t)n || memcmp(before, room, (size_t)n)) {
					drop(f, EBADMSG);
					return 0;
				}
				continue;
			}
			return 1;
		}
		if (f->got + (size_t)n > length || memcmp(room, message + f->got, (size_t)n)) {
			drop(f, EBADMSG);
			return 0;
		}
		f->got = (uint16_t)(f->got + n);
		if (f->got == length)
			return 1;
	}
}

static void connected(struct flow *f)
{
	int error = 0;
	socklen_t length = sizeof(error);

	getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error)
		drop(f, error);
	else
		say_something(f);
}

/* `more`: further members, each with a comma after it. */
static void report(const char *what, double ms, const char *more)
{
	const char *comma = "";

	printf("{\"phase\": \"%s\", %s\"ok\": %u, \"again\": %u, \"ms\": %.0f, \"errors\": {", what, more, ok, again, ms);
	for (int i = 0; i < ERRNO_MAX; i++)
		if (errors[i]) {
			printf("%s\"%s\": %u", comma, i ? strerrorname_np(i) : "0", errors[i]);
			comma = ", ";
		}
	puts("}}");
	fflush(stdout);
}

/*
 * Brings all flows that are in `from` to their next state, AT_ONCE at a time. An event on a flow that is not under way
 * ends it, too: nobody speaks unasked.
 */
static void phase(const char *what, int from, struct addrinfo *const *to)
{
	struct epoll_event events[EVENTS];
	double began = now_ms(), progress = began;
	int next = 0, under_way = 0, closes = !strcmp(what, "close") && !udp;
	int silent = from != NONE && !closes && strcmp(what, "echo"); /* nothing is answered */
	static int list[AT_ONCE];

	ok = again = 0;
	memset(errors, 0, sizeof(errors));
	while (next < count || under_way > 0) {
		double now = now_ms();
		int n;

		while (under_way < AT_ONCE && next < count) {
			struct flow *f = &flows[next];

			if (f->state != from) {
				next++;
				continue;
			}
			list[under_way++] = next++;
			f->repeats = 0;
			f->since_ms = now;
			if (from == NONE) {
				start(f, to);
			} else if (closes) {
				f->state = CLOSING;
				shutdown(f->fd, SHUT_WR);
			} else if (!silent) {
				say_something(f);
			} else {
				struct linger reset = { 1, 0 };

				if (!udp)
					setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
				close(f->fd);
				f->fd = -1;
				f->state = DONE;
			}
		}
		n = epoll_wait(epoll, events, EVENTS, silent ? SILENT_MS : REPEAT_MS / 4);
		for (int i = 0; i < n; i++) {
			struct flow *f = &flows[events[i].data.u64];

			if (f->fd < 0)
				continue;
			if (f->state == CONNECTING && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
				connected(f);
			if (f->fd >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP) && listen_to(f))
				f->state = OPEN;
		}
		now = now_ms();
		for (int i = 0; i < under_way; i++) {
			struct flow *f = &flows[list[i]];

			if (f->state == WAITING && udp && now - f->since_ms > REPEAT_MS) {
				f->since_ms = now;
				again++;
				if (++f->repeats > REPEATS_MAX)
					drop(f, ETIMEDOUT);
				else
					say_something(f);
			}
			if (f->state == OPEN || f->state == DONE)
				ok++;
			else if (f->state != FAILED)
				continue;
			progress = now;
			list[i--] = list[--under_way];
		}
		if (now - progress > PATIENCE_MS)
			while (under_way > 0)
				drop(&flows[list[--under_way]], ETIMEDOUT);
	}
	report(what, now_ms() - began, "");
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* An open loop: a slow connection delays no later one. */
static int rate(struct addrinfo *const *to, int per_second, int ms)
{
	struct epoll_event events[EVENTS];
	double began = now_ms(), late = 0, *samples;
	int started = 0, ended = 0, n_samples = 0, oldest = 0;
	char more[160] = "";

	count = (int)((int64_t)per_second * ms / 1000);
	flows = calloc((size_t)count, sizeof(*flows));
	samples = calloc((size_t)count, sizeof(*samples));
	if (!flows || !samples)
		fail("calloc");
	while (ended < count) {
		double now = now_ms();
		int n;

		while (started < count && began + started * 1e3 / per_second <= now) {
			struct flow *f = &flows[started];

			if (now - (began + started * 1e3 / per_second) > late)
				late = now - (began + started * 1e3 / per_second);
			started++;
			start(f, to);
			if (f->state == FAILED)
				ended++;
		}
		n = epoll_wait(epoll, events, EVENTS, 1);
		for (int i = 0; i < n; i++) {
			struct flow *f = &flows[events[i].data.u64];

			if (f->fd < 0)
				continue;
			if (f->state == CONNECTING && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
				double took = (now_ms() - f->since_ms) * 1e3;

				connected(f);
				if (f->state == WAITING)
					samples[n_samples++] = took;
			}
			if (f->fd >= 0 && f->state == WAITING && listen_to(f)) {
				close(f->fd);
				f->fd = -1;
				f->state = DONE;
				ok++;
			}
			ended += f->fd < 0;
		}
		for (now = now_ms(); oldest < started && (flows[oldest].fd < 0 || now - flows[oldest].since_ms > PATIENCE_MS); oldest++)
			if (flows[oldest].fd >= 0) {
				drop(&flows[oldest], ETIMEDOUT);
				ended++;
			}
	}
	qsort(samples, (size_t)n_samples, sizeof(*samples), compare);
	if (n_samples > 0)
		snprintf(more, sizeof(more), "\"offered\": %d, \"p50_us\": %.0f, \"p99_us\": %.0f, \"max_us\": %.0f, \"late_us\": %.0f, ", count,
			 samples[n_samples / 2], samples[(int64_t)n_samples * 99 / 100], samples[n_samples - 1], late * 1e3);
	report("rate", now_ms() - began, more);
	return 0;
}

static int hold(struct addrinfo *const *to, int n)
{
	char line[32];

	count = n;
	flows = calloc((size_t)count, sizeof(*flows));
	if (!flows)
		fail("calloc");
	phase("open", NONE, to);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		round_now++;
		phase(line, OPEN, to);
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	struct addrinfo *to[PORTS];
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!strcmp(mode, "serve") && argc == 4)
		serve(argv[2], atoi(argv[3]));
	udp = !strcmp(mode, "udp");
	if (argc < 5 || (int64_t)atoi(argv[4]) > FLOWS_MAX) {
		fprintf(stderr, "crowd: see the first lines of test/support/crowd.c\n");
		return 2;
	}
	for (int i = 0; i < PORTS; i++)
		to[i] = resolve(argv[2], atoi(argv[3]) + i, udp ? SOCK_DGRAM : SOCK_STREAM);
	if (!strcmp(mode, "rate") && argc == 6)
		return rate(to, atoi(argv[4]), atoi(argv[5]));
	return hold(to, atoi(argv[4]));
}
