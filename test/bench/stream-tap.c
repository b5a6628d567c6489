/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of passt without a virtual machine: frames between the UNIX stream socket of a hypervisor (32 bits of length in
 * network order, then an Ethernet frame) and a tap of the namespace it runs in, so that this kernel's own TCP is the guest's.
 *
 *   stream-tap connect|listen SOCKET DEVICE     prints "ready" when connected; ends with status 0 when the socket does
 *
 * One thread a direction. The tap has GSO both ways, so that this program and not a system call a frame sets the pace: what the
 * kernel gives is cut into frames of the MTU with complete checksums, as a guest without offloads sends them; segments that
 * follow each other become one superframe again, each one's checksum verified before that, those of single frames by the
 * kernel.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tap.h"

enum { ETHERNET = 14, LENGTH = 4, FRAME_MAX = 65535 + ETHERNET, BUFFER = 1 << 20, PIECES = 64, SUPER_MAX = 65535 };
/* Frames of the tap that leave together: as many as are there, until so much has been gathered. */
enum { FLUSH_AT = 256 * 1024, MESSAGE = 32 * 1024, MESSAGES = 256 };

static int tap, stream;
static unsigned long wrong; /* checksums of segments */

/* TCP in IPv4 without options, or in IPv6 without extension headers: what may be cut and joined. */
struct segment {
	uint8_t *ip;
	struct tcphdr *tcp;
	size_t headers, payload; /* octets; headers from Ethernet's on */
	int six;
};

__attribute__((target_clones("avx2", "default"), optimize("O3"))) static uint64_t add(const uint8_t *data, size_t length)
{
	uint64_t sum = 0;
	uint32_t word;
	size_t i = 0;

	for (; i + 4 <= length; i += 4) {
		memcpy(&word, data + i, 4);
		sum += word;
	}
	word = 0;
	memcpy(&word, data + i, length - i);
	return sum + word;
}

/* RFC 1071: of sums in memory order; not inverted. */
static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static uint64_t pseudo(const struct segment *s, size_t length)
{
	uint64_t sum = htons(IPPROTO_TCP) + (uint64_t)htonl((uint32_t)length);

	return sum + (s->six ? add(s->ip + 8, 32) : add(s->ip + 12, 8));
}

/* Whether a frame is one that may be cut or joined; `s` then says where what is. */
static int parse(uint8_t *frame, size_t length, struct segment *s)
{
	uint16_t type;
	size_t ip;

	if (length < ETHERNET + sizeof(struct iphdr) + sizeof(struct tcphdr))
		return 0;
	memcpy(&type, frame + 12, 2);
	s->ip = frame + ETHERNET;
	s->six = type == htons(0x86dd);
	if (s->six) {
		const struct ip6_hdr *h = (const void *)s->ip;

		ip = sizeof(*h);
		if (length < ETHERNET + ip + sizeof(struct tcphdr) || h->ip6_nxt != IPPROTO_TCP || ntohs(h->ip6_plen) != length - ETHERNET - ip)
			return 0;
	} else {
		const struct iphdr *h = (const void *)s->ip;

		ip = sizeof(*h);
		if (type != htons(0x0800) || h->ihl != 5 || h->protocol != IPPROTO_TCP || (h->frag_off & htons(0x3fff)) || ntohs(h->tot_len) != length - ETHERNET)
			return 0;
	}
	s->tcp = (void *)(s->ip + ip);
	s->headers = ETHERNET + ip + s->tcp->doff * 4u;
	if (s->tcp->doff < 5 || s->headers > length)
		return 0;
	s->payload = length - s->headers;
	return 1;
}

/* Length fields and the IPv4 header's checksum, for so many octets after Ethernet's header. */
static void set_length(const struct segment *s, size_t length)
{
	if (s->six) {
		((struct ip6_hdr *)s->ip)->ip6_plen = htons((uint16_t)(length - sizeof(struct ip6_hdr)));
	} else {
		struct iphdr *h = (void *)s->ip;

		h->tot_len = htons((uint16_t)length);
		h->check = 0;
		h->check = (uint16_t)~fold(add(s->ip, sizeof(*h)));
	}
}

/*
 * What has been gathered for the socket, in messages of whole frames. Linux cuts what it is given for a UNIX stream into pieces
 * of 32 KiB or more: a length is never in two of them, as QEMU, which sends frame by frame, never has it there, and Debian's
 * passt would not find the next frame any more.
 */
static struct {
	uint8_t data[FLUSH_AT + 3 * BUFFER];
	size_t used;
	struct iovec parts[MESSAGES];
	struct mmsghdr messages[MESSAGES];
	unsigned count;
} out;

static void flush(void)
{
	for (unsigned sent = 0; sent < out.count;) {
		int n = sendmmsg(stream, out.messages + sent, out.count - sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			exit(errno == EPIPE || errno == ECONNRESET ? 0 : (perror("send"), 1));
		sent += (unsigned)n;
	}
	out.used = 0;
	out.count = 0;
}

/* Where the next frame goes. */
static uint8_t *next_frame(void)
{
	return out.data + out.used + LENGTH;
}

/* That frame is there. */
static void add_frame(size_t bytes)
{
	uint32_t prefix = htonl((uint32_t)bytes);
	struct iovec *last = &out.parts[out.count - 1];

	memcpy(out.data + out.used, &prefix, LENGTH);
	if (out.count == 0 || last->iov_len + LENGTH + bytes > MESSAGE) {
		struct iovec *part = &out.parts[out.count];

		*part = (struct iovec){ out.data + out.used, LENGTH + bytes };
		out.messages[out.count++].msg_hdr = (struct msghdr){ .msg_iov = part, .msg_iovlen = 1 };
	} else {
		last->iov_len += LENGTH + bytes;
	}
	out.used += LENGTH + bytes;
	if (out.count == MESSAGES)
		flush();
}

/* Cuts a superframe into what a guest without offloads sends. */
static void cut(uint8_t *frame, size_t length, size_t mss)
{
	struct segment all;

	if (!parse(frame, length, &all) || mss == 0) {
		fprintf(stderr, "stream-tap: a superframe of the tap can't be cut\n");
		exit(1);
	}
	for (size_t at = 0, i = 0; at < all.payload; at += mss, i++) {
		size_t some = all.payload - at < mss ? all.payload - at : mss, bytes = all.headers + some;
		uint8_t *to = next_frame();
		struct segment s = all;

		memcpy(to, frame, all.headers);
		memcpy(to + all.headers, frame + all.headers + at, some);
		s.ip = to + (all.ip - frame);
		s.tcp = (void *)(to + ((uint8_t *)all.tcp - frame));
		s.tcp->seq = htonl(ntohl(all.tcp->seq) + (uint32_t)at);
		if (i > 0)
			s.tcp->th_flags &= (uint8_t)~0x80; /* CWR, RFC 3168 section 6.1.2 */
		if (at + some < all.payload)
			s.tcp->th_flags &= (uint8_t)~(TH_FIN | TH_PUSH);
		if (!s.six)
			((struct iphdr *)s.ip)->id = htons((uint16_t)(ntohs(((struct iphdr *)all.ip)->id) + i));
		set_length(&s, bytes - ETHERNET);
		s.tcp->check = 0;
		s.tcp->check = (uint16_t)~fold(pseudo(&s, bytes - (size_t)((uint8_t *)s.tcp - to)) + add((uint8_t *)s.tcp, bytes - (size_t)((uint8_t *)s.tcp - to)));
		add_frame(bytes);
	}
}

/* The field holds the pseudo-header's sum, virtio 1.2 section 5.1.6.2. */
static void complete(uint8_t *frame, size_t length, const struct virtio_net_hdr *h)
{
	uint16_t check;

	if (h->csum_start > length || h->csum_offset + 2u > length - h->csum_start) {
		fprintf(stderr, "stream-tap: a checksum outside its frame\n");
		exit(1);
	}
	check = (uint16_t)~fold(add(frame + h->csum_start, length - h->csum_start));
	if (check == 0)
		check = 0xffff; /* RFC 768; for TCP the same number */
	memcpy(frame + h->csum_start + h->csum_offset, &check, 2);
}

static void *from_tap(void *nothing)
{
	static uint8_t whole[FRAME_MAX];
	int cutting = 0;

	for (;;) {
		struct virtio_net_hdr h;
		uint8_t *frame = cutting ? whole : next_frame();
		struct iovec parts[] = { { &h, sizeof(h) }, { frame, FRAME_MAX } };
		ssize_t n = readv(tap, parts, 2);

		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = tap, .events = POLLIN };

			if (out.count > 0)
				flush();
			else if (poll(&p, 1, -1) < 0 && errno != EINTR)
				fail("poll");
			continue;
		}
		if (n < (ssize_t)sizeof(h))
			fail("the tap");
		n -= (ssize_t)sizeof(h);
		if (h.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
			if (!cutting)
				memcpy(whole, frame, (size_t)n);
			cut(whole, (size_t)n, h.gso_size);
			cutting = 1;
		} else {
			if (cutting)
				memcpy(next_frame(), frame, (size_t)n);
			if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
				complete(next_frame(), (size_t)n, &h);
			add_frame((size_t)n);
			cutting = 0;
		}
		if (out.used >= FLUSH_AT)
			flush();
	}
	return nothing;
}

/* Segments that follow each other; parts[0] is the vnet header, parts[1] the first frame, the others payload. */
struct super {
	struct virtio_net_hdr h;
	struct iovec parts[1 + PIECES];
	int pieces;
	struct segment first;
	size_t total; /* octets after Ethernet's header */
	int mergeable; /* one more may come */
};

static void to_tap(struct super *super)
{
	if (super->pieces == 0)
		return;
	if (super->pieces > 1) {
		struct segment *s = &super->first;
		size_t tcp = (size_t)((uint8_t *)s->tcp - s->ip);

		set_length(s, super->total);
		s->tcp->check = fold(pseudo(s, super->total - tcp));
		super->h = (struct virtio_net_hdr){
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = s->six ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
			.hdr_len = (uint16_t)s->headers,
			.gso_size = (uint16_t)s->payload,
			.csum_start = (uint16_t)(ETHERNET + tcp),
			.csum_offset = offsetof(struct tcphdr, check),
		};
	} else {
		super->h = (struct virtio_net_hdr){ .flags = 0 };
	}
	super->parts[0] = (struct iovec){ &super->h, sizeof(super->h) };
	/* A guest whose queue is full loses frames, too. */
	if (writev(tap, super->parts, 1 + super->pieces) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EIO && errno != EINVAL)
		fail("write to the tap");
	super->pieces = 0;
}

static int same_headers(const struct segment *a, const struct segment *b)
{
	size_t addresses = a->six ? 32 : 8, from = a->six ? 8 : 12;

	return a->six == b->six && a->headers == b->headers && memcmp(a->ip + from, b->ip + from, addresses) == 0 && memcmp(a->tcp, b->tcp, 4) == 0 &&
	       a->tcp->ack_seq == b->tcp->ack_seq && a->tcp->window == b->tcp->window && memcmp(a->tcp + 1, b->tcp + 1, a->tcp->doff * 4u - sizeof(struct tcphdr)) == 0;
}

/* A frame from the socket: joins those before it, or sends them on and begins anew. */
static void take(struct super *super, uint8_t *frame, size_t length)
{
	struct segment s;
	int known = parse(frame, length, &s) && s.payload > 0 && (s.tcp->th_flags & ~(TH_PUSH | TH_FIN)) == TH_ACK;

	if (known) {
		size_t tcp = (size_t)((uint8_t *)s.tcp - frame);

		/* A wrong one is the kernel's to drop, alone. */
		if (fold(pseudo(&s, length - tcp) + add(frame + tcp, length - tcp)) != 0xffff) {
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
			known = 0;
		}
	}
	if (known && super->pieces > 0 && super->mergeable && super->pieces < PIECES && same_headers(&super->first, &s) &&
	    ntohl(s.tcp->seq) == ntohl(super->first.tcp->seq) + (uint32_t)(super->total + ETHERNET - super->first.headers) && s.payload <= super->first.payload &&
	    super->total + s.payload <= SUPER_MAX) {
		super->first.tcp->th_flags |= s.tcp->th_flags;
		super->parts[1 + super->pieces++] = (struct iovec){ frame + s.headers, s.payload };
		super->total += s.payload;
		super->mergeable = s.payload == super->first.payload && s.tcp->th_flags == TH_ACK;
		return;
	}
	to_tap(super);
	super->pieces = 1;
	super->parts[1] = (struct iovec){ frame, length };
	super->total = length - ETHERNET;
	super->mergeable = known && s.tcp->th_flags == TH_ACK;
	if (known)
		super->first = s;
}

/* Until the socket ends. */
static void from_stream(void)
{
	static uint8_t in[BUFFER];
	static struct super super;
	size_t have = 0;

	for (;;) {
		ssize_t n = recv(stream, in + have, sizeof(in) - have, 0);
		size_t at = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != ECONNRESET)
			fail("recv");
		if (n <= 0)
			return;
		have += (size_t)n;
		while (have - at >= LENGTH) {
			uint32_t length;

			memcpy(&length, in + at, LENGTH);
			length = ntohl(length);
			if (length < ETHERNET || length > FRAME_MAX) {
				fprintf(stderr, "stream-tap: a frame of %u octets\n", length);
				exit(1);
			}
			if (have - at < LENGTH + length)
				break;
			take(&super, in + at + LENGTH, length);
			at += LENGTH + length;
		}
		to_tap(&super);
		memmove(in, in + at, have - at);
		have -= at;
	}
}

static void open_stream(const char *path, int listening)
{
	struct sockaddr_un address = unix_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (listening) {
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
			fail(path);
		stream = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (stream < 0)
			fail("accept");
	} else {
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
			fail(path);
		stream = fd;
	}
}

int main(int argc, char **argv)
{
	int listening = argc > 1 && strcmp(argv[1], "listen") == 0;
	pthread_t other;

	if (argc != 4 || (!listening && strcmp(argv[1], "connect") != 0)) {
		fprintf(stderr, "stream-tap: see the first lines of test/bench/stream-tap.c\n");
		return 2;
	}
	tap = open_tap(argv[3], sizeof(struct virtio_net_hdr), TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6);
	open_stream(argv[2], listening);
	puts("ready");
	fflush(stdout);
	if (pthread_create(&other, NULL, from_tap, NULL))
		fail("pthread_create");
	from_stream();
	if (wrong > 0) {
		fprintf(stderr, "stream-tap: %lu segments with a wrong checksum\n", wrong);
		return 1;
	}
	return 0;
}
