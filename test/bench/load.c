/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark's load: one server, and clients that print one line of JSON. What counts is what the receiver got.
 *
 *   load serve ADDRESS PORT                          prints "listening"
 *   load bulk up|down ADDRESS PORT STREAMS MS        TCP; {"bps"}: after a fifth of MS, over the rest; {"bytes"}: of all
 *   load packets up|down ADDRESS PORT SIZE MS        UDP as fast as it goes; {"pps"} that arrived; {"packets"}
 *   load packets-gso up|down ADDRESS PORT SIZE MS gro|plain
 *                                                    the same, sent 44 at a time with UDP_SEGMENT; whether the receiver sets UDP_GRO
 *   load rr tcp|udp ADDRESS PORT MS [REST]           1 octet there and back; {"p50_us", "p99_us", "count"}
 *   load crr ADDRESS PORT CLIENTS MS [REST]          connect, request, response, close; {"per_second", "count"}
 *                                                    REST ms after each step: nothing coincides, the server's close included
 *   load time COUNT COMMAND...                       {"ms"}: median duration of COMMAND from fork to exit
 *   load until-byte COUNT COMMAND...                 {"ms"}: median time until COMMAND writes to descriptor 9
 *
 * A TCP connection begins with a request: kind, a counter's number, and how long to send, 32 bits each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../support/tool.h"

enum { SINK, BLAST, ECHO, ANSWER, QUERY };
enum { COUNTERS = 65536, CHUNK = 256 * 1024, BATCH = 64, SAMPLES_MAX = 1 << 20 };
/* Datagrams of one send with UDP_SEGMENT: of 1400 octets as many as QUIC programs give, and they fit one IP packet. */
enum { SEGMENTS = 44 };
/* Ports after the echo's: that count, that is a source, that counts with UDP_GRO. */
enum { ECHO_PORT, COUNT_PORT, SOURCE_PORT, COUNT_GRO_PORT, DATAGRAM_PORTS };

struct request {
	uint32_t kind, counter, ms;
};
/* First octets of every datagram of "packets". */
struct datagram {
	uint32_t counter, size, ms, segments;
};
union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

static volatile uint64_t *counters;
static char chunk[CHUNK];
static int rest_ms;

static void rest(void)
{
	if (rest_ms)
		usleep((useconds_t)rest_ms * 1000);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int endpoint(const char *address, int port, int type, int listening)
{
	struct addrinfo hints = { .ai_socktype = type, .ai_flags = AI_NUMERICHOST }, *ai;
	char service[8];
	int s, one = 1, room = 4 << 20;

	snprintf(service, sizeof(service), "%d", port);
	if (getaddrinfo(address, service, &hints, &ai))
		fail(address);
	s = socket(ai->ai_family, type | SOCK_CLOEXEC, 0);
	if (s < 0)
		fail("socket");
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (type == SOCK_STREAM)
		setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	else
		setsockopt(s, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (listening ? bind(s, ai->ai_addr, ai->ai_addrlen) || (type == SOCK_STREAM && listen(s, 1024))
		      : connect(s, ai->ai_addr, ai->ai_addrlen)) {
		freeaddrinfo(ai);
		close(s);
		return -1;
	}
	freeaddrinfo(ai);
	return s;
}

static int ask(const char *address, int port, uint32_t kind, uint32_t counter, uint32_t ms)
{
	struct request r = { kind, counter, ms };
	int s = endpoint(address, port, SOCK_STREAM, 0);

	rest();
	if (s >= 0 && send(s, &r, sizeof(r), MSG_NOSIGNAL) != sizeof(r)) {
		close(s);
		return -1;
	}
	return s;
}

/* ---- server ---- */

static _Noreturn void serve_connection(int s, const struct request *r)
{
	ssize_t n;

	if (r->kind == BLAST) {
		double end = now_ms() + r->ms;

		while (now_ms() < end && send(s, chunk, CHUNK, MSG_NOSIGNAL) > 0)
			;
		shutdown(s, SHUT_WR);
	}
	while ((n = recv(s, chunk, r->kind == SINK ? CHUNK : 1, 0)) > 0) {
		uint64_t count = counters[r->counter];

		if (r->kind == SINK)
			__atomic_fetch_add(&counters[r->counter], (uint64_t)n, __ATOMIC_RELAXED);
		else if (r->kind == QUERY)
			send(s, &count, sizeof(count), MSG_NOSIGNAL);
		else
			send(s, chunk, 1, MSG_NOSIGNAL);
	}
	_exit(0);
}

static void blast_to(int s, const struct datagram *d, const struct sockaddr *to, socklen_t to_length)
{
	uint32_t segments = d->segments > 1 && d->segments * d->size <= CHUNK ? d->segments : 1;
	struct iovec iov = { chunk, (size_t)d->size * segments };
	union control control = { .header = { .cmsg_len = CMSG_LEN(sizeof(uint16_t)), .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT } };
	struct mmsghdr batch[BATCH];
	/* The clock is looked at after about as many datagrams, however they are sent. */
	unsigned sends = segments > 1 ? 2 : BATCH;
	uint16_t size = (uint16_t)d->size;
	double end = now_ms() + d->ms;

	memcpy(CMSG_DATA(&control.header), &size, sizeof(size));
	for (unsigned i = 0; i < sends; i++)
		batch[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov,
							  .msg_iovlen = 1,
							  .msg_name = (void *)(uintptr_t)to,
							  .msg_namelen = to_length,
							  .msg_control = segments > 1 ? &control : NULL,
							  .msg_controllen = segments > 1 ? CMSG_SPACE(sizeof(size)) : 0 } };
	for (uint32_t i = 0; i < segments; i++)
		memcpy(chunk + (size_t)i * size, d, sizeof(*d));
	while (now_ms() < end)
		sendmmsg(s, batch, sends, 0);
}

static void take_joined(int s)
{
	int one = 1;

	if (setsockopt(s, SOL_UDP, UDP_GRO, &one, sizeof(one)))
		fail("UDP_GRO");
}

/* Datagrams in a message that may be several of one size, joined. */
static uint64_t datagrams_in(struct msghdr *m, size_t length)
{
	int size = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&size, CMSG_DATA(c), sizeof(size));
	return size > 0 && length > 0 ? (length + (size_t)size - 1) / (size_t)size : 1;
}

static void serve_datagrams(const char *address, int port, int which)
{
	static char room[BATCH][65536];
	static union control control[BATCH];
	int s = endpoint(address, port + which, SOCK_DGRAM, 1);
	size_t slot = which == COUNT_GRO_PORT ? sizeof(room[0]) : 2048;
	struct sockaddr_storage from[BATCH];
	struct iovec iov[BATCH];
	struct mmsghdr batch[BATCH];

	if (s < 0)
		fail("bind");
	if (which == COUNT_GRO_PORT)
		take_joined(s);
	for (;;) {
		int n;

		for (int i = 0; i < BATCH; i++) {
			iov[i] = (struct iovec){ room[i], slot };
			batch[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1, .msg_name = &from[i], .msg_namelen = sizeof(from[i]) } };
			if (which == COUNT_GRO_PORT) {
				batch[i].msg_hdr.msg_control = &control[i];
				batch[i].msg_hdr.msg_controllen = sizeof(control[i]);
			}
		}
		n = recvmmsg(s, batch, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < n; i++) {
			struct datagram d;
			struct msghdr *m = &batch[i].msg_hdr;

			memcpy(&d, room[i], sizeof(d));
			if (which == ECHO_PORT)
				sendto(s, room[i], batch[i].msg_len, 0, m->msg_name, m->msg_namelen);
			else if (which == SOURCE_PORT)
				blast_to(s, &d, m->msg_name, m->msg_namelen);
			else if (d.counter < COUNTERS)
				__atomic_fetch_add(&counters[d.counter], datagrams_in(m, batch[i].msg_len), __ATOMIC_RELAXED);
		}
	}
}

static void accept_connection(int set, int l)
{
	int s = accept4(l, NULL, NULL, SOCK_CLOEXEC), one = 1;
	struct epoll_event e = { .events = EPOLLIN, .data.fd = s };

	if (s < 0)
		return;
	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (epoll_ctl(set, EPOLL_CTL_ADD, s, &e))
		close(s);
}

/*
 * Short answers come from here: a process for each would be most of what is measured. What lasts has one of its own.
 * Who answers closes first and has the TIME-WAIT, and the client waits for that: it would run out of ports.
 */
static void take_request(int set, int s)
{
	struct request r;
	ssize_t n = recv(s, &r, sizeof(r), MSG_WAITALL);

	if (n == sizeof(r) && r.kind == ANSWER) {
		send(s, chunk, 1, MSG_NOSIGNAL);
		if (r.ms)
			usleep((useconds_t)r.ms * 1000);
	} else if (n == sizeof(r) && r.counter < COUNTERS) {
		/* The process would keep the socket in the set after we have closed it. */
		epoll_ctl(set, EPOLL_CTL_DEL, s, NULL);
		if (fork() == 0)
			serve_connection(s, &r);
	}
	close(s);
}

static int serve(const char *address, int port)
{
	int l = endpoint(address, port, SOCK_STREAM, 1), set = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event listener = { .events = EPOLLIN, .data.fd = l };

	if (l < 0 || set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, l, &listener))
		fail("listen");
	for (int which = 0; which < DATAGRAM_PORTS; which++)
		if (fork() == 0)
			serve_datagrams(address, port, which);
	signal(SIGCHLD, SIG_IGN);
	usleep(50000);
	puts("listening");
	fflush(stdout);
	for (;;) {
		struct epoll_event ready[BATCH];
		int n = epoll_wait(set, ready, BATCH, -1);

		for (int i = 0; i < n; i++)
			if (ready[i].data.fd == l)
				accept_connection(set, l);
			else
				take_request(set, ready[i].data.fd);
	}
}

/* ---- clients ---- */

static uint64_t query(int control)
{
	uint64_t count;

	if (send(control, "?", 1, MSG_NOSIGNAL) != 1 || recv(control, &count, sizeof(count), MSG_WAITALL) != sizeof(count))
		fail("query");
	return count;
}

/* Ends by itself and closes in order: what is compared is speed, not how a peer takes a reset. */
static void stream(const char *address, int port, int down, uint32_t counter, uint32_t ms)
{
	int s = ask(address, port, down ? BLAST : SINK, counter, ms);
	double end = now_ms() + ms;
	ssize_t n;

	if (s < 0)
		fail("connect");
	while ((down || now_ms() < end) && (n = down ? recv(s, chunk, CHUNK, 0) : send(s, chunk, CHUNK, MSG_NOSIGNAL)) > 0)
		if (down)
			__atomic_fetch_add(&counters[counter], (uint64_t)n, __ATOMIC_RELAXED);
	_exit(0);
}

static int bulk(int down, const char *address, int port, int streams, int ms)
{
	uint32_t counter = (uint32_t)getpid() % COUNTERS;
	int control = ask(address, port, QUERY, counter, 0);
	uint64_t before, at_first, at_last;
	double first, last;

	if (control < 0)
		fail("connect");
	before = down ? 0 : query(control);
	for (int i = 0; i < streams; i++)
		if (fork() == 0)
			stream(address, port, down, counter, (uint32_t)ms + 50);
	usleep((useconds_t)ms * 200);
	at_first = down ? counters[counter] : query(control);
	first = now_ms();
	usleep((useconds_t)ms * 800);
	at_last = down ? counters[counter] : query(control);
	last = now_ms();
	/* What the figures say must not depend on a peer that forgets a connection. */
	for (double patience = now_ms() + 1000; now_ms() < patience && waitpid(-1, NULL, WNOHANG) >= 0; usleep(5000))
		;
	printf("{\"bps\": %.0f, \"bytes\": %llu}\n", (double)(at_last - at_first) * 8e3 / (last - first),
	       (unsigned long long)(down ? counters[counter] : query(control)) - (unsigned long long)before);
	fflush(stdout);
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM); /* streams that a peer forgot */
	return 0;
}

static int packets(int down, const char *address, int port, uint32_t size, uint32_t ms, uint32_t segments, int joined)
{
	struct datagram d = { (uint32_t)getpid() % COUNTERS, size, ms, segments };
	int s = endpoint(address, port + (down ? SOURCE_PORT : joined ? COUNT_GRO_PORT : COUNT_PORT), SOCK_DGRAM, 0), control;
	uint64_t count = 0, before = 0;

	if (s < 0)
		fail("connect");
	if (down) {
		double end;
		struct timeval patience = { 1, 0 };
		struct iovec iov = { chunk, CHUNK };
		union control sizes[BATCH];
		struct mmsghdr batch[BATCH];

		if (joined)
			take_joined(s);
		setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		send(s, &d, sizeof(d), 0);
		end = now_ms() + ms;
		while (now_ms() < end) {
			int n;

			/* The kernel leaves there how much of it is used. */
			for (int i = 0; i < BATCH; i++)
				batch[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov,
									  .msg_iovlen = 1,
									  .msg_control = joined ? &sizes[i] : NULL,
									  .msg_controllen = joined ? sizeof(sizes[i]) : 0 } };
			n = recvmmsg(s, batch, BATCH, MSG_WAITFORONE, NULL);
			for (int i = 0; i < n; i++)
				count += datagrams_in(&batch[i].msg_hdr, batch[i].msg_len);
		}
	} else {
		control = ask(address, port, QUERY, d.counter, 0);
		if (control < 0)
			fail("connect");
		before = query(control);
		blast_to(s, &d, NULL, 0);
		usleep(100000); /* what is still on its way */
		count = query(control) - before;
	}
	printf("{\"pps\": %.0f, \"packets\": %llu}\n", (double)count * 1e3 / ms, (unsigned long long)count);
	return 0;
}

static int round_trips(int tcp, const char *address, int port, int ms)
{
	static double samples[SAMPLES_MAX];
	int s = tcp ? ask(address, port, ECHO, 0, 0) : endpoint(address, port, SOCK_DGRAM, 0);
	struct timeval patience = { 1, 0 };
	double end = now_ms() + ms;
	size_t n = 0;

	if (s < 0)
		fail("connect");
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	while (now_ms() < end && n < SAMPLES_MAX) {
		double start;

		rest();
		start = now_ms();
		if (send(s, "?", 1, MSG_NOSIGNAL) != 1 || recv(s, chunk, 1, 0) != 1)
			continue;
		samples[n++] = (now_ms() - start) * 1e3;
	}
	if (n == 0)
		fail("no answer");
	qsort(samples, n, sizeof(samples[0]), compare);
	printf("{\"p50_us\": %.1f, \"p99_us\": %.1f, \"count\": %zu}\n", samples[n / 2], samples[n * 99 / 100], n);
	return 0;
}

static int connects(const char *address, int port, int clients, int ms)
{
	double start = now_ms(), end = start + ms;

	for (int i = 0; i < clients; i++) {
		if (fork())
			continue;
		while (now_ms() < end) {
			int s = ask(address, port, ANSWER, 0, (uint32_t)rest_ms);

			if (s < 0)
				continue;
			if (recv(s, chunk, 1, 0) == 1 && recv(s, chunk, 1, 0) == 0)
				__atomic_fetch_add(&counters[0], 1, __ATOMIC_RELAXED);
			rest();
			close(s);
			rest();
		}
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	printf("{\"per_second\": %.0f, \"count\": %llu}\n", (double)counters[0] * 1e3 / (now_ms() - start), (unsigned long long)counters[0]);
	return 0;
}

static int measure_command(int until_byte, int count, char **argv)
{
	double samples[256];

	if (count < 1 || count > 256)
		return 2;
	for (int i = 0; i < count; i++) {
		int ready[2], status;
		double start = now_ms();
		pid_t pid;
		char byte;

		if (pipe(ready))
			fail("pipe");
		pid = fork();
		if (pid == 0) {
			close(ready[0]);
			if (until_byte)
				dup2(ready[1], 9);
			if (ready[1] != 9)
				close(ready[1]);
			execvp(argv[0], argv);
			_exit(127);
		}
		close(ready[1]);
		if (until_byte) {
			if (read(ready[0], &byte, 1) != 1)
				fail("no byte");
			samples[i] = now_ms() - start;
			kill(pid, SIGKILL);
		}
		waitpid(pid, &status, 0);
		if (!until_byte) {
			samples[i] = now_ms() - start;
			if (status != 0)
				fail("the command failed");
		}
		close(ready[0]);
	}
	qsort(samples, (size_t)count, sizeof(samples[0]), compare);
	printf("{\"ms\": %.2f}\n", samples[count / 2]);
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	struct rlimit files = { 65536, 65536 };

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	counters = mmap(NULL, COUNTERS * 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counters == MAP_FAILED)
		fail("mmap");
	if (!strcmp(mode, "serve") && argc == 4)
		return serve(argv[2], atoi(argv[3]));
	if (!strcmp(mode, "time") && argc > 3)
		return measure_command(0, atoi(argv[2]), argv + 3);
	if (!strcmp(mode, "until-byte") && argc > 3)
		return measure_command(1, atoi(argv[2]), argv + 3);
	if (!strcmp(mode, "bulk") && argc == 7) {
		setpgid(0, 0);
		return bulk(!strcmp(argv[2], "down"), argv[3], atoi(argv[4]), atoi(argv[5]), atoi(argv[6]));
	}
	if (!strcmp(mode, "packets") && argc == 7)
		return packets(!strcmp(argv[2], "down"), argv[3], atoi(argv[4]), (uint32_t)atoi(argv[5]), (uint32_t)atoi(argv[6]), 1, 0);
	if (!strcmp(mode, "packets-gso") && argc == 8)
		return packets(!strcmp(argv[2], "down"), argv[3], atoi(argv[4]), (uint32_t)atoi(argv[5]), (uint32_t)atoi(argv[6]), SEGMENTS, !strcmp(argv[7], "gro"));
	if ((!strcmp(mode, "rr") || !strcmp(mode, "crr")) && argc == 7)
		rest_ms = atoi(argv[6]);
	if (!strcmp(mode, "rr") && (argc == 6 || argc == 7))
		return round_trips(!strcmp(argv[2], "tcp"), argv[3], atoi(argv[4]), atoi(argv[5]));
	if (!strcmp(mode, "crr") && (argc == 6 || argc == 7))
		return connects(argv[2], atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
	fprintf(stderr, "load: see the first lines of test/bench/load.c\n");
	return 2;
}
