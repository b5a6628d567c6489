/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole Ethernet frames by hand: what standard input says is sent, what arrives is printed.
 *
 *   raw-frames INTERFACE
 *
 * One frame a line, in hexadecimal, the 10 octets of the virtio-net header of packet(7) (PACKET_VNET_HDR) before it: so
 * that segmentation and partial checksums are seen, and can be used. "ready" comes first; "! WHY" for what the
 * kernel would not send. Frames that leave this namespace by its own doing are not printed. Ends with its input.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FRAME_MAX = 66000, LINE_MAX_BYTES = 2 * FRAME_MAX + 2 };

static unsigned char frame[FRAME_MAX];
static char line[LINE_MAX_BYTES], pending[LINE_MAX_BYTES];
static size_t pending_length;

static int nibble(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void send_line(int s, const char *hex, size_t length)
{
	for (size_t i = 0; i < length / 2; i++)
		frame[i] = (unsigned char)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
	if (send(s, frame, length / 2, 0) < 0)
		printf("! %s\n", strerror(errno));
}

/* Every whole line of what was read; the rest waits. Ends the program at end of file. */
static void take_input(int s)
{
	ssize_t n = read(0, pending + pending_length, sizeof(pending) - pending_length);
	char *from = pending, *end;

	if (n <= 0)
		exit(n < 0);
	pending_length += (size_t)n;
	while ((end = memchr(from, '\n', pending_length))) {
		send_line(s, from, (size_t)(end - from));
		pending_length -= (size_t)(end + 1 - from);
		from = end + 1;
	}
	if (pending_length == sizeof(pending))
		exit(1);
	memmove(pending, from, pending_length);
}

static void print_frame(const unsigned char *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++) {
		line[2 * i] = digits[bytes[i] >> 4];
		line[2 * i + 1] = digits[bytes[i] & 15];
	}
	line[2 * length] = '\n';
	fwrite(line, 1, 2 * length + 1, stdout);
}

static int open_socket(const char *name)
{
	int s = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, room = 8 << 20;
	struct sockaddr_ll a = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(name),
	};

	if (s < 0 || a.sll_ifindex == 0 || setsockopt(s, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
	    setsockopt(s, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)))
		return -1;
	if (setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		setsockopt(s, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	return bind(s, (struct sockaddr *)&a, sizeof(a)) ? -1 : s;
}

int main(int argc, char **argv)
{
	int s = argc == 2 ? open_socket(argv[1]) : -1;
	struct pollfd wait[2] = { { .fd = 0, .events = POLLIN }, { .fd = s, .events = POLLIN } };
	ssize_t n;

	if (s < 0) {
		fprintf(stderr, "raw-frames: %s\n", argc == 2 ? strerror(errno) : "one interface is needed");
		return 1;
	}
	puts("ready");
	for (;;) {
		fflush(stdout);
		if (poll(wait, 2, -1) < 0)
			return 1;
		while ((n = recv(s, frame, sizeof(frame), 0)) >= 0)
			print_frame(frame, (size_t)n);
		if (wait[0].revents)
			take_input(s);
	}
}
