/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest: writes frames of its own making to its interface, as fast as the interface takes them.
 *
 *   hostile STORM INTERFACE GATEWAY_MAC SRC4 DST4 SRC6 DST6 PORT SECONDS SEED
 *
 * STORM is one of
 *   syn        handshakes that are never finished: from random neighbours and ports, to PORT, closed ports and nowhere
 *   rst        takes back a "syn" of the same SEED; SECONDS is the number of its frames
 *   scan       datagrams to every port, from random ports
 *   fragments  first, middle and last parts of packets that are never complete, some of them overlapping
 *   ping       echo requests of every size, with random identifiers
 *   mutated    well-formed frames of every protocol, then damaged; half have their checksums mended, and some go
 *              through the kernel's offload header, with random offsets and segment sizes
 * Half of the frames are IPv6. Prints {"frames": count}, those that the interface refused among them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

/* The header of virtio 1.2 §5.1.6, which the kernel takes in front of a frame; older header files lack parts of it. */
struct offload_header {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
enum { NEEDS_CSUM = 1, GSO_TCPV4 = 1, GSO_UDP = 3, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };

enum { ETH = 14, ROOM = 2048, GSO_ROOM = 66000, NEIGHBOURS = 200, RST_PER_MS = 100, PAYLOAD_MAX = 1400 };

struct ends {
	uint8_t gateway[6], mac[6];
	uint8_t src4[4], dst4[4], src6[16], dst6[16];
	uint16_t port;
};

static struct ends ends;
static uint64_t random_state;
static uint8_t frame[GSO_ROOM];
static size_t at; /* octets of the frame so far */

/* xorshift64* */
static uint32_t any(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * UINT64_C(0x2545f4914f6cdd1d)) >> 32);
}
static uint32_t below(uint32_t n)
{
	return any() % n;
}

static void put8(unsigned v)
{
	frame[at++] = (uint8_t)v;
}
static void put16(unsigned v)
{
	put8(v >> 8);
	put8(v);
}
static void put32(uint32_t v)
{
	put16(v >> 16);
	put16(v & 0xffff);
}
static void put(const void *data, size_t length)
{
	memcpy(frame + at, data, length);
	at += length;
}
static void put_any(size_t length)
{
	while (length--)
		put8(any());
}
static void set16(size_t where, unsigned v)
{
	frame[where] = (uint8_t)(v >> 8);
	frame[where + 1] = (uint8_t)v;
}

static uint32_t add(uint32_t sum, const uint8_t *data, size_t length)
{
	for (size_t i = 0; i + 1 < length; i += 2)
		sum += (uint32_t)data[i] << 8 | data[i + 1];
	return length & 1 ? sum + ((uint32_t)data[length - 1] << 8) : sum;
}
static unsigned fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

/* Length fields and checksums of what lies behind the Ethernet header, as far as the headers can be followed. */
static void mend(int lengths)
{
	size_t l4, end = at, checksum;
	unsigned protocol;
	uint32_t sum = 0;

	if (end < ETH + 20)
		return;
	if (frame[ETH] >> 4 == 4) {
		size_t header = (size_t)(frame[ETH] & 15) * 4;

		l4 = ETH + header;
		if (header < 20 || l4 > end)
			return;
		if (lengths)
			set16(ETH + 2, (unsigned)(end - ETH));
		set16(ETH + 10, 0);
		set16(ETH + 10, fold(add(0, frame + ETH, header)));
		if ((frame[ETH + 6] & 0x3f) || frame[ETH + 7])
			return; /* a fragment */
		protocol = frame[ETH + 9];
		sum = add(0, frame + ETH + 12, 8);
	} else if (frame[ETH] >> 4 == 6 && end >= ETH + 40) {
		l4 = ETH + 40;
		if (lengths)
			set16(ETH + 4, (unsigned)(end - l4));
		protocol = frame[ETH + 6];
		sum = add(0, frame + ETH + 8, 32);
	} else {
		return;
	}
	switch (protocol) {
	case 1:
		checksum = l4 + 2;
		sum = 0;
		break;
	case 58:
		checksum = l4 + 2;
		break;
	case 6:
		checksum = l4 + 16;
		break;
	case 17:
		checksum = l4 + 6;
		if (lengths && l4 + 6 <= end)
			set16(l4 + 4, (unsigned)(end - l4));
		break;
	default:
		return;
	}
	if (checksum + 2 > end)
		return;
	if (protocol != 1)
		sum += protocol + (uint32_t)(end - l4);
	set16(checksum, 0);
	set16(checksum, fold(add(sum, frame + l4, end - l4)));
}

static void ethernet(unsigned type)
{
	at = 0;
	put(ends.gateway, 6);
	put(ends.mac, 6);
	put16(type);
}

/* `fragment`: flags and offset field. `neighbour`: 0, or who of the subnet sends it. */
static void ip4(unsigned protocol, unsigned fragment, unsigned neighbour)
{
	ethernet(ETHERTYPE_IP);
	put16(0x4500);
	put16(0);
	put16(any() & 0xffff);
	put16(fragment);
	put8(64);
	put8(protocol);
	put16(0);
	put(ends.src4, 3);
	put8(neighbour ? neighbour : ends.src4[3]);
	put(ends.dst4, 4);
}
static void ip6(unsigned protocol, unsigned neighbour)
{
	ethernet(ETHERTYPE_IPV6);
	put32(0x60000000);
	put16(0);
	put8(protocol);
	put8(64);
	put(ends.src6, 14);
	put16(neighbour ? 0x1000 + neighbour : (unsigned)ends.src6[14] << 8 | ends.src6[15]);
	put(ends.dst6, 16);
}
static void ip(int six, unsigned protocol4, unsigned protocol6, unsigned neighbour)
{
	if (six)
		ip6(protocol6, neighbour);
	else
		ip4(protocol4, 0x4000, neighbour);
}

static void tcp(unsigned from, unsigned to, uint32_t sequence, uint32_t acknowledged, unsigned flags, size_t payload)
{
	put16(from);
	put16(to);
	put32(sequence);
	put32(acknowledged);
	put16(0x8000 | flags);
	put16(65535);
	put32(0);
	put32(0x020405b4); /* MSS, SACK permitted, window scale */
	put32(0x04020000);
	put32(0x03030701);
	put_any(payload);
}
static void udp(unsigned from, unsigned to, size_t payload)
{
	put16(from);
	put16(to);
	put32(0);
	put_any(payload);
}
static void icmp(unsigned type, unsigned code, uint32_t rest, size_t payload)
{
	put8(type);
	put8(code);
	put16(0);
	put32(rest);
	put_any(payload);
}

/* ---- the storms: each makes one frame ---- */

/* The same random numbers in the same order, whatever the flags: "rst" repeats what "syn" did. */
static void handshake(unsigned flags)
{
	unsigned six = below(2), neighbour = 10 + below(NEIGHBOURS), from = 1024 + below(64000), target = below(4);
	unsigned to = target == 0 ? ends.port : target == 1 ? 20000 + below(1000) : ends.port + below(8);
	uint32_t sequence = any();

	ip(six, 6, 6, target == 3 ? 0 : neighbour);
	if (target == 2) /* nobody is there */
		frame[six ? ETH + 38 : ETH + 33] ^= 0x55;
	tcp(from, to, sequence + (flags != 2), 0, flags, 0);
	mend(1);
}
static void syn(void)
{
	handshake(2);
}
static void rst(void)
{
	handshake(4);
}

static void scan(void)
{
	static unsigned port;

	port = port % 65535 + 1;
	ip(port & 1, 17, 17, 0);
	udp(1024 + below(64000), port, below(64));
	mend(1);
}

static void fragments(void)
{
	/* Offsets in units of 8 octets; few identifications, so that they meet and overlap. */
	unsigned offset = below(3) ? below(180) * 8 : below(8192), more = below(4) != 0, id = below(512);
	size_t length = below(8) ? 8 * (1 + below(64)) : 1 + below(1400);

	if (below(2)) {
		ip4(below(2) ? 17 : 1, more << 13 | offset, 0);
		set16(ETH + 4, id);
	} else {
		ip6(44, 0);
		put8(below(2) ? 17 : 58);
		put8(0);
		put16(offset << 3 | more);
		put32(id);
	}
	put_any(length);
	mend(1);
}

static void ping(void)
{
	unsigned six = below(2);

	ip(six, 1, 58, 0);
	icmp(six ? 128 : 8, 0, any(), below(PAYLOAD_MAX));
	mend(1);
}

static void template(void)
{
	static const uint8_t bytes[8] = { 0, 1, 6, 2, 2, 1, 1, 6 };
	unsigned from = 1024 + below(64000);

	switch (below(16)) {
	case 0:
		ip4(6, 0x4000, 0);
		tcp(from, ends.port, any(), any(), 1u << below(6), below(600));
		break;
	case 1:
		ip6(6, 0);
		tcp(from, ends.port, any(), any(), any() & 0x1ff, below(600));
		break;
	case 2:
		ip4(17, 0, 0);
		udp(from, ends.port, below(600));
		break;
	case 3:
		ip6(17, 0);
		udp(from, below(2) ? ends.port : 53, below(600));
		break;
	case 4: /* an error about a datagram, with its header in it */
		ip4(1, 0, 0);
		icmp(below(2) ? 3 : 11, below(16), any(), 28 + below(600));
		break;
	case 5:
		ip6(58, 0);
		icmp(1 + below(4), below(8), any(), 48 + below(600));
		break;
	case 6: /* NDP with options */
		ip6(58, 0);
		frame[ETH + 7] = 255;
		icmp(133 + below(5), 0, any(), 16);
		for (unsigned i = below(12); i > 0; i--) {
			put8(below(6));
			put8(below(3));
			put_any(6);
		}
		break;
	case 7: /* MLD behind a router alert */
		ip6(0, 0);
		put(bytes + 2, 1);
		put8(58);
		put32(0x05020000);
		put16(0x0100);
		icmp(130 + below(3), 0, 0, 16);
		break;
	case 8:
		ip4(2, 0, 0);
		icmp(0x11 + below(6), 0, 0xe00000fb, below(40));
		break;
	case 9: /* ARP; about addresses that nobody uses */
		ethernet(ETHERTYPE_ARP);
		put(bytes, 2);
		put16(0x0800);
		put16(0x0604);
		put16(1 + below(2));
		put(ends.mac, 6);
		put(ends.src4, 4);
		put_any(6);
		put_any(4);
		break;
	case 10: /* DHCP */
		ip4(17, 0, 0);
		udp(68, 67, 0);
		put32(0x01010600);
		put_any(232);
		put32(0x63825363);
		for (unsigned i = below(40); i > 0; i--) {
			put8(below(256));
			put8(below(12));
			put_any(below(12));
		}
		break;
	case 11: /* DHCPv6 */
		ip6(17, 0);
		udp(546, 547, 0);
		put8(1 + below(13));
		put_any(3);
		for (unsigned i = below(20); i > 0; i--) {
			put16(below(40));
			put16(below(24));
			put_any(below(24));
		}
		break;
	case 12: { /* a chain of extension headers */
		static const uint8_t kinds[] = { 0, 43, 60, 44, 51, 135, 139, 59 };
		unsigned n = below(60);

		ip6(kinds[below(8)], 0);
		for (; n > 0; n--) {
			put8(n == 1 ? 17 : kinds[below(8)]);
			put8(below(16) ? 0 : below(256));
			put_any(6);
		}
		udp(from, ends.port, 20);
		break;
	}
	case 13: /* IPv4 with options */
		ip4(17, 0, 0);
		frame[ETH] = (uint8_t)(0x46 + below(10));
		put_any((size_t)(frame[ETH] & 15) * 4 - 20);
		udp(from, ends.port, 20);
		break;
	case 14:
		ip4(below(256), 0, 0);
		put_any(below(200));
		break;
	default:
		ethernet(below(2) ? 0x8100 : below(65536));
		put_any(below(200));
	}
	mend(1);
}

static void mutated(void)
{
	static const uint8_t edges[] = { 0, 1, 2, 0x7f, 0x80, 0xfe, 0xff };

	template();
	for (unsigned n = below(6); n > 0; n--) {
		size_t where = 12 + below((uint32_t)(at - 12));

		switch (below(4)) {
		case 0:
			frame[where] ^= (uint8_t)(1u << below(8));
			break;
		case 1:
			frame[where] = edges[below(sizeof(edges))];
			break;
		case 2:
			frame[where] = (uint8_t)any();
			break;
		default:
			if (at > ETH + 1)
				at = ETH + 1 + below((uint32_t)(at - ETH - 1));
		}
		if (at <= ETH)
			at = ETH + 1;
	}
	if (below(2))
		mend((int)below(2));
}

/* In front of a frame for the kernel's offload header, with what the kernel itself lets pass. */
static void offload(struct offload_header *h)
{
	static const uint8_t kinds[] = { 0, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4 };
	unsigned six = below(2), stream = below(2), start = six ? ETH + 40 : ETH + 20;

	memset(h, 0, sizeof(*h));
	ip(six, stream ? 6 : 17, stream ? 6 : 17, 0);
	if (stream)
		tcp(1024 + below(64000), ends.port, any(), any(), any() & 0x1ff, below(30000));
	else
		udp(1024 + below(64000), ends.port, below(30000));
	mend(1);
	h->flags = below(4) ? NEEDS_CSUM : 0;
	h->gso_type = below(3) ? (stream ? (six ? GSO_TCPV6 : GSO_TCPV4) : GSO_UDP_L4) : kinds[below(sizeof(kinds))];
	if (h->gso_type && below(8) == 0)
		h->gso_type |= GSO_ECN;
	h->gso_size = h->gso_type ? (uint16_t)(below(4) ? 1 + below(1460) : any()) : 0;
	h->hdr_len = below(2) ? (uint16_t)(start + (stream ? 32 : 8)) : (uint16_t)below(200);
	h->csum_start = below(4) ? (uint16_t)start : (uint16_t)below(100);
	h->csum_offset = below(4) ? (stream ? 16 : 6) : (uint16_t)below(40);
}

/* ---- */

static int open_packets(int interface, int with_offload)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = interface };
	int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (s < 0 || (with_offload && setsockopt(s, SOL_PACKET, PACKET_VNET_HDR, &with_offload, sizeof(with_offload))) ||
	    bind(s, (struct sockaddr *)&to, sizeof(to))) {
		perror("packet socket");
		exit(1);
	}
	return s;
}

static int parse_mac(const char *text, uint8_t *mac)
{
	return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*make)(void);
	} storms[] = { { "syn", syn },	     { "rst", rst },   { "scan", scan }, { "fragments", fragments },
		       { "ping", ping }, { "mutated", mutated } };
	static uint8_t gso[GSO_ROOM + sizeof(struct offload_header)];
	void (*make)(void) = NULL;
	struct ifreq request = { 0 };
	uint64_t frames = 0;
	int plain, offloaded;
	double end;
	ssize_t n;

	for (size_t i = 0; argc == 11 && i < sizeof(storms) / sizeof(storms[0]); i++)
		if (!strcmp(argv[1], storms[i].name))
			make = storms[i].make;
	if (!make || !parse_mac(argv[3], ends.gateway) || inet_pton(AF_INET, argv[4], ends.src4) != 1 ||
	    inet_pton(AF_INET, argv[5], ends.dst4) != 1 || inet_pton(AF_INET6, argv[6], ends.src6) != 1 ||
	    inet_pton(AF_INET6, argv[7], ends.dst6) != 1) {
		fprintf(stderr, "hostile: see the first lines of test/support/hostile.c\n");
		return 2;
	}
	ends.port = (uint16_t)atoi(argv[8]);
	random_state = strtoull(argv[10], NULL, 10) * 2 + 1;
	plain = open_packets((int)if_nametoindex(argv[2]), 0);
	offloaded = open_packets((int)if_nametoindex(argv[2]), 1);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", argv[2]);
	if (ioctl(plain, SIOCGIFHWADDR, &request)) {
		perror(argv[2]);
		return 1;
	}
	memcpy(ends.mac, request.ifr_hwaddr.sa_data, 6);
	if (make == rst) {
		for (uint64_t total = strtoull(argv[9], NULL, 10); frames < total; frames++) {
			make();
			if (frames % RST_PER_MS == 0)
				usleep(1000); /* slowly enough that none is lost */
			send(plain, frame, at, 0);
		}
	}
	for (end = now_ms() + atof(argv[9]) * 1e3; make != rst && now_ms() < end; frames++) {
		if (make == mutated && below(8) == 0) {
			struct offload_header h;

			offload(&h);
			memcpy(gso, &h, sizeof(h));
			memcpy(gso + sizeof(h), frame, at);
			n = send(offloaded, gso, sizeof(h) + at, 0);
		} else {
			make();
			n = send(plain, frame, at, 0);
		}
		if (n < 0 && (errno == ENETDOWN || errno == ENXIO))
			return 1;
	}
	printf("{\"frames\": %llu}\n", (unsigned long long)frames);
	return 0;
}
