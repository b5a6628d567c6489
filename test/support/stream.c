/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk TCP transfers whose every byte is checked: a seeded pseudo-random stream that the receiver makes again and
 * compares, so that a fault is reported with its offset, at memory speed.
 *
 *   stream serve ADDRESS PORT                     serves until killed, prints "listening"
 *   stream down|up ADDRESS PORT BYTES SEED        one transfer; exit 0 if every byte was right
 *   stream half ADDRESS PORT BYTES SEED           sends, shuts down, then must still get all of it back
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
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024, DOWN = 1, UP = 2, HALF = 3 };

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

static int transfer(const struct header *h, const char *address, const char *port)
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
	printf("%llu of %llu octets right\n", (unsigned long long)right, (unsigned long long)h->length);
	return right != h->length;
}

int main(int argc, char **argv)
{
	struct header h;

	if (argc == 4 && !strcmp(argv[1], "serve"))
		return serve(argv[2], argv[3]);
	if (argc != 6) {
		fprintf(stderr, "usage: stream serve ADDRESS PORT | stream down|up|half ADDRESS PORT BYTES SEED\n");
		return 2;
	}
	h.direction = !strcmp(argv[1], "down") ? DOWN : !strcmp(argv[1], "up") ? UP : HALF;
	h.length = strtoull(argv[4], NULL, 10);
	h.seed = strtoull(argv[5], NULL, 10);
	return transfer(&h, argv[2], argv[3]);
}
