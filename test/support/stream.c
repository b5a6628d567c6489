/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk TCP transfers whose every byte is checked: a seeded pseudo-random stream that the receiver makes again and
 * compares, so that a fault is reported with its offset, at memory speed.
 *
 *   stream serve ADDRESS PORT                     serves until killed, prints "listening"
 *   stream down|up ADDRESS PORT BYTES SEED        one transfer; exit 0 if every byte was right
 *   stream half ADDRESS PORT BYTES SEED           sends, shuts down, then must still get all of it back
 *   stream mix ADDRESS PORT COUNT PARALLEL SEED   COUNT transfers of all kinds and of 1 octet to 4 MiB, PARALLEL at once;
 *                                                 {"right", "p50_ms", "max_ms", "slowest": "kind octets"}
 *
 * Wire: 24 octets of header (direction, seed, length; 64 bits each, host byte order), then the stream. An upload is
 * answered by 8 octets: how many octets were right. "half" sends the header and stream, shuts its side down, and gets the
 * same stream back after the server has seen the end of file.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

enum { CHUNK = 256 * 1024, DOWN = 1, UP = 2, HALF = 3, KINDS = 3, MIX_BITS_MAX = 22, MIX_MAX = 100000 };

struct header {
	uint64_t direction, seed, length;
};

static unsigned char buffer[CHUNK], expected[CHUNK];

/* Words of the stream are SplitMix64 outputs of seed + index: any chunk can be made by itself. */
static void make_chunk(unsigned char *to, uint64_t seed, uint64_t offset)
{
	for (size_t i = 0; i < CHUNK / 8; i++) {
		uint64_t z = seed + (offset / 8 + i + 1) * UINT64_C(0x9e3779b97f4a7c15);

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		z ^= z >> 31;
		memcpy(to + i * 8, &z, 8);
	}
}

static int send_all(int s, const void *data, size_t length)
{
	const char *at = data;

	while (length > 0) {
		ssize_t n = send(s, at, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

/* Octets received, fewer than `length` only at end of file or on an error. */
static size_t receive_all(int s, void *data, size_t length)
{
	size_t got = 0;

	while (got < length) {
		ssize_t n = recv(s, (char *)data + got, length - got, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

static int send_stream(int s, const struct header *h)
{
	for (uint64_t at = 0; at < h->length; at += CHUNK) {
		uint64_t left = h->length - at;

		make_chunk(buffer, h->seed, at);
		if (send_all(s, buffer, left < CHUNK ? left : CHUNK) < 0)
			return -1;
	}
	return 0;
}

/* How many octets came before the end, an error or the first wrong one. */
static uint64_t check_stream(int s, const struct header *h)
{
	uint64_t right = 0;

	while (right < h->length) {
		size_t want = h->length - right < CHUNK ? h->length - right : CHUNK;
		size_t got = receive_all(s, buffer, want);

		make_chunk(expected, h->seed, right);
		if (memcmp(buffer, expected, got)) {
			size_t i = 0;

			while (buffer[i] == expected[i])
				i++;
			fprintf(stderr, "wrong octet at %llu\n", (unsigned long long)(right + i));
			return right + i;
		}
		right += got;
		if (got < want)
			break;
	}
	return right;
}

static int open_socket(const char *address, const char *port, int listening)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST }, *ai;
	int s, one = 1;

	if (getaddrinfo(address, port, &hints, &ai))
		return -1;
	s = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -1;
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (listening ? bind(s, ai->ai_addr, ai->ai_addrlen) || listen(s, 128)
		      : connect(s, ai->ai_addr, ai->ai_addrlen))
		return -1;
	return s;
}

static void serve_one(int s)
{
	struct header h;
	uint64_t right;
	char end;

	if (receive_all(s, &h, sizeof(h)) != sizeof(h))
		_exit(1);
	if (h.direction == DOWN)
		_exit(send_stream(s, &h) < 0);
	right = check_stream(s, &h);
	if (h.direction == UP)
		_exit(send_all(s, &right, sizeof(right)) < 0);
	if (right != h.length || recv(s, &end, 1, 0) != 0)
		_exit(1);
	_exit(send_stream(s, &h) < 0);
}

static int serve(const char *address, const char *port)
{
	int l = open_socket(address, port, 1);

	if (l < 0) {
		perror("listen");
		return 1;
	}
	signal(SIGCHLD, SIG_IGN);
	puts("listening");
	fflush(stdout);
	for (;;) {
		int s = accept(l, NULL, NULL);

		if (s >= 0 && fork() == 0)
			serve_one(s);
		if (s >= 0)
			close(s);
	}
}

static int transfer(const struct header *h, const char *address, const char *port, int announce)
{
	int s = open_socket(address, port, 0);
	uint64_t right = 0;
	char end;

	if (s < 0 || send_all(s, h, sizeof(*h)) < 0) {
		perror("connect");
		return 1;
	}
	if (h->direction != DOWN && send_stream(s, h) < 0) {
		perror("send");
		return 1;
	}
	if (h->direction == UP) {
		if (receive_all(s, &right, sizeof(right)) != sizeof(right))
			perror("no answer");
	} else {
		if (h->direction == HALF)
			shutdown(s, SHUT_WR);
		right = check_stream(s, h);
		if (right == h->length && recv(s, &end, 1, 0) != 0)
			right = 0; /* more than was promised, or a reset in place of the end */
	}
	if (announce)
		printf("%llu of %llu octets right\n", (unsigned long long)right, (unsigned long long)h->length);
	close(s);
	return right != h->length;
}

struct result {
	struct header header;
	double ms;
	int wrong;
};

static int faster(const void *a, const void *b)
{
	double x = ((const struct result *)a)->ms, y = ((const struct result *)b)->ms;

	return (x > y) - (x < y);
}

/* As many octets of each order of magnitude: stalls show in the small ones, windows in the large ones. */
static void choose(struct result *r, uint64_t seed, int i)
{
	uint64_t random[CHUNK / 8], range;

	make_chunk((unsigned char *)random, seed, (uint64_t)i * CHUNK);
	range = UINT64_C(1) << random[0] % (MIX_BITS_MAX + 1);
	r->header = (struct header){ (uint64_t)(i % KINDS) + DOWN, random[1], range / 2 + 1 + random[2] % (range - range / 2) };
}

static int mix(const char *address, const char *port, int count, int parallel, uint64_t seed)
{
	static const char *const names[] = { "", "down", "up", "half" };
	struct result *results =
	    mmap(NULL, sizeof(*results) * (size_t)count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int right = 0;

	if (results == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (int worker = 0; worker < parallel; worker++) {
		if (fork())
			continue;
		for (int i = worker; i < count; i += parallel) {
			double start = now_ms();

			choose(&results[i], seed, i);
			results[i].wrong = transfer(&results[i].header, address, port, 0);
			results[i].ms = now_ms() - start;
		}
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < count; i++)
		right += results[i].ms > 0 && !results[i].wrong;
	qsort(results, (size_t)count, sizeof(*results), faster);
	printf("{\"right\": %d, \"p50_ms\": %.1f, \"max_ms\": %.1f, \"slowest\": \"%s %llu\"}\n", right, results[count / 2].ms,
	       results[count - 1].ms, names[results[count - 1].header.direction],
	       (unsigned long long)results[count - 1].header.length);
	return right != count;
}

int main(int argc, char **argv)
{
	struct header h;

	if (argc == 4 && !strcmp(argv[1], "serve"))
		return serve(argv[2], argv[3]);
	if (argc == 7 && !strcmp(argv[1], "mix") && atoi(argv[4]) > 0 && atoi(argv[4]) <= MIX_MAX)
		return mix(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), strtoull(argv[6], NULL, 10));
	if (argc != 6) {
		fprintf(stderr, "usage: see the first lines of test/support/stream.c\n");
		return 2;
	}
	h.direction = !strcmp(argv[1], "down") ? DOWN : !strcmp(argv[1], "up") ? UP : HALF;
	h.length = strtoull(argv[4], NULL, 10);
	h.seed = strtoull(argv[5], NULL, 10);
	return transfer(&h, argv[2], argv[3], 1);
}
