/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark's yardstick: what a translator of one thread that copies every byte can reach at most. It takes TCP connections, makes
 * one to the server for each, and moves bytes both ways with read and write of 256 KiB: no headers, no checks, no state but these.
 *
 *   relay PORT SERVER4 SERVER6 SERVER-PORT           prints "listening"; clients of IPv4 go to SERVER4, others to SERVER6
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* TURN_READS: as many of one direction before the others have their turn. */
enum { PAIRS = 1024, CHUNK = 256 * 1024, TURN_READS = 4, EVENTS = 64 };

struct way {
	char *data;
	size_t from, to;
	int more; /* left off while there was more */
	int ended; /* the end of file has been passed on */
};
/* Of `fds`: the client's, the server's. way[0] leads from the client to the server. */
struct pair {
	int used, fds[2];
	struct way way[2];
};

static struct pair pairs[PAIRS];

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void drop_pair(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		if (p->fds[i] >= 0)
			close(p->fds[i]);
		free(p->way[i].data);
	}
	p->used = 0;
}

/* False when the pair is of no more use. */
static int pump(struct pair *p, int i)
{
	struct way *w = &p->way[i];
	int in = p->fds[i], out = p->fds[!i];

	w->more = 0;
	for (int reads = 0; !w->ended;) {
		ssize_t n;

		if (w->from == w->to) {
			if (reads++ == TURN_READS) {
				w->more = 1;
				return 1;
			}
			n = recv(in, w->data, CHUNK, 0);
			if (n < 0)
				return errno == EAGAIN;
			if (n == 0) {
				w->ended = 1;
				shutdown(out, SHUT_WR);
				return !p->way[!i].ended;
			}
			w->from = 0;
			w->to = (size_t)n;
		}
		n = send(out, w->data + w->from, w->to - w->from, MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == ENOTCONN; /* still connecting */
		w->from += (size_t)n;
	}
	return 1;
}

/* An address or, mapped (RFC 4291 section 2.5.5.2), an IPv4 one. */
static struct sockaddr_in6 server_of(const char *text, int port)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	char mapped[INET6_ADDRSTRLEN];

	snprintf(mapped, sizeof(mapped), "::ffff:%s", text);
	if (inet_pton(AF_INET6, text, &a.sin6_addr) != 1 && inet_pton(AF_INET6, mapped, &a.sin6_addr) != 1) {
		fprintf(stderr, "relay: %s is not an address\n", text);
		exit(2);
	}
	return a;
}

static void watch(int epoll, int fd, uint64_t data, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.u64 = data };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e))
		fail("epoll_ctl");
}

static void take(int epoll, int listener, const struct sockaddr_in6 *servers)
{
	struct sockaddr_in6 client;
	socklen_t length = sizeof(client);
	int one = 1, fd = accept4(listener, (struct sockaddr *)&client, &length, SOCK_NONBLOCK | SOCK_CLOEXEC), i = 0;
	struct pair *p;

	if (fd < 0)
		return;
	while (i < PAIRS && pairs[i].used)
		i++;
	if (i == PAIRS) {
		close(fd);
		return;
	}
	p = &pairs[i];
	*p = (struct pair){ .used = 1, .fds = { fd, socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) } };
	for (int k = 0; k < 2; k++)
		if (!(p->way[k].data = malloc(CHUNK)))
			fail("malloc");
	if (p->fds[1] < 0)
		fail("socket");
	if (connect(p->fds[1], (const struct sockaddr *)&servers[!IN6_IS_ADDR_V4MAPPED(&client.sin6_addr)], sizeof(*servers)) && errno != EINPROGRESS) {
		drop_pair(p);
		return;
	}
	for (int k = 0; k < 2; k++) {
		setsockopt(p->fds[k], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		watch(epoll, p->fds[k], (uint64_t)i, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6 }, servers[2];
	int epoll = epoll_create1(EPOLL_CLOEXEC), listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, more = 0;
	struct epoll_event events[EVENTS];

	if (argc != 5) {
		fprintf(stderr, "relay: see the first lines of test/bench/relay.c\n");
		return 2;
	}
	any.sin6_port = htons((uint16_t)atoi(argv[1]));
	servers[0] = server_of(argv[2], atoi(argv[4]));
	servers[1] = server_of(argv[3], atoi(argv[4]));
	if (epoll < 0 || listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    bind(listener, (struct sockaddr *)&any, sizeof(any)) || listen(listener, 1024))
		fail("listen");
	watch(epoll, listener, PAIRS, EPOLLIN);
	puts("listening");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, more ? 0 : -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.u64 == PAIRS)
				take(epoll, listener, servers);
			else
				pairs[events[i].data.u64].way[0].more = pairs[events[i].data.u64].way[1].more = 1;
		}
		more = 0;
		for (struct pair *p = pairs; p < pairs + PAIRS; p++) {
			for (int i = 0; i < 2 && p->used; i++)
				if (p->way[i].more && !pump(p, i))
					drop_pair(p);
			more |= p->used && (p->way[0].more || p->way[1].more);
		}
	}
}
