/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which queue of a tap the kernel chooses (IFF_MULTI_QUEUE): what docs/SCALING.md builds on, found out from the kernel itself.
 *
 *   tap-queues QUEUES        in a network namespace of its own, as user 0 there
 *
 * "The guest" is a packet socket on the tap, so that any frame can be sent; "we" are the descriptors of its queues. Every frame is
 * looked for at all queues before the next one is sent. Each part has a new tap, for the kernel remembers flows. One line of
 * JSON at the end; any frame that is not found is a failure.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { QUEUES_MAX = 8, FRAME_BYTES = 78, FLOWS = 256, MANY = 6000, ROUNDS = 20, PATIENCE_MS = 2000, FORGETTING_MS = 30000 };
enum { TCP = 6, UDP = 17, ICMP = 1 };
enum kind { WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT };
/* of the guest's ports and of echo identifiers */
enum { PORT = 10000 };

static int queues[QUEUES_MAX], guest, count;
static unsigned char frame[FRAME_BYTES];
/* what no two frames have alike */
static uint32_t serial;

static void fail(const char *what)
{
	fprintf(stderr, "tap-queues: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void make_tap(void)
{
	static int number;
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE};
	struct sockaddr_ll at = {.sll_family = AF_PACKET};
	int s = socket(AF_INET, SOCK_DGRAM, 0);

	snprintf(r.ifr_name, sizeof(r.ifr_name), "queues%d", number++);
	for (int i = 0; i < count; i++) {
		queues[i] = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
		if (queues[i] < 0 || ioctl(queues[i], TUNSETIFF, &r) != 0)
			fail("a queue");
	}
	if (ioctl(s, SIOCGIFINDEX, &r) != 0)
		fail("the tap's index");
	at.sll_ifindex = r.ifr_ifindex;
	r.ifr_flags = IFF_UP;
	if (ioctl(s, SIOCSIFFLAGS, &r) != 0)
		fail("the tap does not come up");
	close(s);
	guest = socket(AF_PACKET, SOCK_RAW, 0);
	if (guest < 0 || bind(guest, (struct sockaddr *)&at, sizeof(at)) != 0)
		fail("the guest");
}

static void end_tap(void)
{
	close(guest);
	for (int i = 0; i < count; i++)
		close(queues[i]);
}

static void put16(int at, unsigned value)
{
	frame[at] = (unsigned char)(value >> 8);
	frame[at + 1] = (unsigned char)value;
}

static void checksum_ip(void)
{
	uint32_t sum = 0;

	put16(24, 0);
	for (int at = 14; at < 34; at += 2)
		sum += (uint32_t)(frame[at] << 8 | frame[at + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	put16(24, ~(sum + (sum >> 16)) & 0xffff);
}

/* A packet of flow `n`, from the guest or to it. Flows differ in the guest's port alone. */
static void make_packet(int protocol, enum kind kind, unsigned n, bool from_guest)
{
	const unsigned char one[] = {192, 0, 2, 10}, other[] = {198, 51, 100, 7};

	memset(frame, 0, sizeof(frame));
	memcpy(frame, "\x02\0\x5e\0\x53\1\x02\0\x5e\0\x53\2", 12);
	put16(12, ETHERTYPE_IP);
	frame[14] = 0x45;
	put16(16, FRAME_BYTES - 14);
	put16(20, kind == WHOLE ? 0x4000 : kind == FIRST_FRAGMENT ? 0x2000 : 5);
	frame[22] = 64;
	frame[23] = (unsigned char)protocol;
	memcpy(frame + 26, from_guest ? one : other, 4);
	memcpy(frame + 30, from_guest ? other : one, 4);
	checksum_ip();
	if (protocol == ICMP) {
		frame[34] = from_guest ? 8 : 0;
		put16(38, PORT + n);
	} else if (kind != LATER_FRAGMENT) {
		put16(from_guest ? 34 : 36, PORT + n);
		put16(from_guest ? 36 : 34, 443);
		if (protocol == UDP)
			put16(38, FRAME_BYTES - 34);
		else
			frame[46] = 0x50;
	}
	memcpy(frame + FRAME_BYTES - 4, &serial, 4);
	serial++;
}

static void make_arp(unsigned n)
{
	make_packet(UDP, WHOLE, n, true);
	put16(12, ETHERTYPE_ARP);
	memcpy(frame + 14, "\0\1\x08\0\6\4\0\1", 8);
	memcpy(frame + 28, "\xc0\0\2\x0a", 4);
	memcpy(frame + 38, "\xc0\0\2", 3);
	frame[41] = (unsigned char)n;
}

/* The queue at which the frame is found that is there now or comes. Others, the kernel's own, are passed over. */
static int taken_at(void)
{
	struct pollfd waiting[QUEUES_MAX];
	unsigned char got[2048];

	for (int i = 0; i < count; i++)
		waiting[i] = (struct pollfd){.fd = queues[i], .events = POLLIN};
	while (poll(waiting, (nfds_t)count, PATIENCE_MS) > 0)
		for (int i = 0; i < count; i++)
			if (read(queues[i], got, sizeof(got)) == FRAME_BYTES && memcmp(got, frame, FRAME_BYTES) == 0)
				return i;
	fail("a frame was lost");
	return -1;
}

/* The guest sends what was made. */
static int arrives_at(void)
{
	if (send(guest, frame, sizeof(frame), 0) != FRAME_BYTES)
		fail("send");
	return taken_at();
}
static int sent(int protocol, unsigned n)
{
	make_packet(protocol, WHOLE, n, true);
	return arrives_at();
}
/* We answer on one of the queues. */
static void answer(int protocol, unsigned n, int queue)
{
	make_packet(protocol, WHOLE, n, false);
	if (write(queues[queue], frame, sizeof(frame)) != FRAME_BYTES)
		fail("write");
}

/* Flows that we have not answered: each stays where its hash puts it, and all queues are used. */
static void unanswered(int protocol, const char *name)
{
	int used[QUEUES_MAX] = {0}, strays = 0, least = FLOWS;

	make_tap();
	for (unsigned n = 0; n < FLOWS; n++) {
		int first = sent(protocol, n);

		used[first]++;
		for (int again = 0; again < 3; again++)
			strays += sent(protocol, n) != first;
	}
	for (int i = 0; i < count; i++)
		least = used[i] < least ? used[i] : least;
	end_tap();
	printf("\"%s\":{\"flows\":%d,\"strays\":%d,\"fewestOfAQueue\":%d},", name, FLOWS, strays, least);
}

/* The frames of a flow come to the queue on which we wrote last, until that is forgotten: then to the one of its hash again. */
static void answered(int protocol, const char *name)
{
	int hashed[FLOWS], followed = 0, back = 0;
	struct timespec from, to;
	double ms;

	make_tap();
	for (unsigned n = 0; n < FLOWS; n++) {
		hashed[n] = sent(protocol, n);
		for (int i = 1; i <= count; i++) {
			int queue = (hashed[n] + i) % count;

			answer(protocol, n, queue);
			followed += sent(protocol, n) == queue;
		}
		answer(protocol, n, (hashed[n] + 1) % count);
	}
	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		poll(NULL, 0, 50);
		clock_gettime(CLOCK_MONOTONIC, &to);
		ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
		back = 0;
		for (unsigned n = 0; n < FLOWS; n++)
			back += sent(protocol, n) == hashed[n];
	} while (back < FLOWS && ms < FORGETTING_MS);
	end_tap();
	printf("\"%s\":{\"flows\":%d,\"answers\":%d,\"followed\":%d,\"forgotten\":%d,\"afterMs\":%.0f},", name, FLOWS, FLOWS * count, followed, back, ms);
}

/* How many flows the kernel remembers a queue for that is not the one of their hash. */
static void remembered(void)
{
	static int to[MANY];
	int followed = 0;

	make_tap();
	for (unsigned n = 0; n < MANY; n++) {
		to[n] = (sent(TCP, n) + 1) % count;
		answer(TCP, n, to[n]);
	}
	for (unsigned n = 0; n < MANY; n++)
		followed += sent(TCP, n) == to[n];
	end_tap();
	printf("\"remembered\":{\"of\":%d,\"flows\":%d},", MANY, followed);
}

/* What has no ports that the kernel looks at: how many queues it comes to. */
static int spread(void (*make)(unsigned n))
{
	bool used[QUEUES_MAX] = {false};
	int n_used = 0;

	for (unsigned n = 0; n < FLOWS; n++) {
		make(n);
		used[arrives_at()] = true;
	}
	for (int i = 0; i < count; i++)
		n_used += used[i];
	return n_used;
}
static void echo(unsigned n)
{
	make_packet(ICMP, WHOLE, n, true);
}
static void fragment(unsigned n)
{
	make_packet(UDP, n % 2 == 0 ? FIRST_FRAGMENT : LATER_FRAGMENT, n, true);
}
static void without_ports(void)
{
	make_tap();
	printf("\"queuesOf\":{\"arp\":%d,\"echo\":%d,\"fragments\":%d},", spread(make_arp), spread(echo), spread(fragment));
	end_tap();
}

/*
 * The rule: a flow is owned by the queue at which its first frame came, and all answers leave there. More flows than the kernel
 * remembers, in an order in which each rests while all others have their turn: how many frames came elsewhere.
 */
static void sharded(void)
{
	static int owner[MANY];
	int strays = 0, frames = 0;

	make_tap();
	for (unsigned n = 0; n < MANY; n++)
		owner[n] = sent(TCP, n);
	for (int round = 0; round < ROUNDS; round++)
		for (unsigned n = 0; n < MANY; n++) {
			unsigned flow = (n * 2477 + (unsigned)round) % MANY;

			answer(TCP, flow, owner[flow]);
			strays += sent(TCP, flow) != owner[flow];
			frames++;
		}
	end_tap();
	printf("\"ownedByFirstQueue\":{\"frames\":%d,\"strays\":%d},", frames, strays);
}

/* The other way round: we write first (a client from outside), on any queue. The guest answers there. */
static void from_outside(void)
{
	int strays = 0, frames = 0;

	make_tap();
	for (unsigned n = 0; n < FLOWS; n++)
		for (int round = 0; round < ROUNDS; round++) {
			answer(TCP, n, (int)n % count);
			strays += sent(TCP, n) != (int)n % count;
			frames++;
		}
	end_tap();
	printf("\"fromOutside\":{\"frames\":%d,\"strays\":%d}", frames, strays);
}

int main(int argc, char **argv)
{
	count = argc == 2 ? atoi(argv[1]) : 0;
	if (count < 2 || count > QUEUES_MAX)
		return 2;
	printf("{");
	unanswered(TCP, "tcpUnanswered");
	unanswered(UDP, "udpUnanswered");
	answered(TCP, "tcpAnswered");
	remembered();
	without_ports();
	sharded();
	from_outside();
	printf("}\n");
	return 0;
}
