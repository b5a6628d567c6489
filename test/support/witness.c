/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server for a virtual machine that says whom it sees: `witness PORT...`, TCP and UDP, IPv4 and IPv6.
 *
 * It speaks as `forward.mjs serve` does, but for the hash: on a stream, after its end, and on each datagram it answers with
 * {"address", "port"} of the asker and a line feed, and then all that came. Prints "listening".
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

enum { PORTS_MAX = 16, SOCKETS_MAX = 4 * PORTS_MAX, DATA_MAX = 1 << 20, HEAD_MAX = 128, BACKLOG = 64 };

static char data[HEAD_MAX + DATA_MAX];

static int listener(int family, int type, int port)
{
	const int yes = 1;
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int s = socket(family, type, 0);

	if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0)
		fail("socket");
	if (family == AF_INET6 && setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes)) < 0)
		fail("IPV6_V6ONLY");
	if (bind(s, family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
		 family == AF_INET ? sizeof(v4) : sizeof(v6)) < 0)
		fail("bind");
	if (type == SOCK_STREAM && listen(s, BACKLOG) < 0)
		fail("listen");
	return s;
}

/* Writes the first line of an answer; its length. */
static size_t head(char *to, const struct sockaddr_storage *from, socklen_t length)
{
	char address[INET6_ADDRSTRLEN + 16], port[8];

	if (getnameinfo((const struct sockaddr *)from, length, address, sizeof(address), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		fail("getnameinfo");
	return (size_t)snprintf(to, HEAD_MAX, "{\"address\":\"%s\",\"port\":%s}\n", address, port);
}

static void answer_stream(int s, const struct sockaddr_storage *from, socklen_t length)
{
	size_t used = head(data, from, length), sent = 0;
	ssize_t n;

	while (used < sizeof(data) && (n = read(s, data + used, sizeof(data) - used)) > 0)
		used += (size_t)n;
	while (sent < used && (n = send(s, data + sent, used - sent, MSG_NOSIGNAL)) > 0)
		sent += (size_t)n;
	_exit(0);
}

static void answer(int s, int type)
{
	struct sockaddr_storage from;
	socklen_t length = sizeof(from);
	ssize_t n;
	size_t used;

	if (type == SOCK_STREAM) {
		int c = accept(s, (struct sockaddr *)&from, &length);

		if (c >= 0 && fork() == 0)
			answer_stream(c, &from, length);
		close(c);
		return;
	}
	n = recvfrom(s, data + HEAD_MAX, DATA_MAX, 0, (struct sockaddr *)&from, &length);
	if (n < 0)
		return; /* an ICMP error of an answer */
	used = head(data, &from, length);
	memmove(data + used, data + HEAD_MAX, (size_t)n);
	sendto(s, data, used + (size_t)n, 0, (struct sockaddr *)&from, length);
}

int main(int argc, char **argv)
{
	struct pollfd on[SOCKETS_MAX];
	nfds_t count = 0;

	if (argc < 2 || argc - 1 > PORTS_MAX)
		return fprintf(stderr, "usage: witness PORT...\n"), 2;
	signal(SIGCHLD, SIG_IGN);
	for (int i = 1; i < argc; i++)
		for (int kind = 0; kind < 4; kind++) /* in this order: answer() knows the type by the place */
			on[count++] = (struct pollfd){ .fd = listener(kind & 2 ? AF_INET6 : AF_INET,
								      kind & 1 ? SOCK_DGRAM : SOCK_STREAM, atoi(argv[i])),
						       .events = POLLIN };
	puts("listening");
	fflush(stdout);
	for (;;) {
		if (poll(on, count, -1) < 0)
			fail("poll");
		for (nfds_t i = 0; i < count; i++)
			if (on[i].revents)
				answer(on[i].fd, i & 1 ? SOCK_DGRAM : SOCK_STREAM);
	}
}
