/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As stream-tap.c, by vhost-user: the front end that QEMU would be, with the rings of a guest's virtio-net driver, before a tap
 * of the namespace it runs in. Frames go between rings and tap without a copy of ours.
 *
 *   vhost-tap SOCKET DEVICE       prints "ready" when the rings run; ends with status 0 when the back end does
 *
 * What a Linux guest of QEMU has by default: two split rings of 256, mergeable buffers of a page, suppression of events by
 * index, checksum and TSO both ways as far as they are offered. One thread a direction. (Vhost-user protocol, QEMU's documentation;
 * virtio 1.2 sections 2.7 and 5.1.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tap.h"

enum { RX, TX, QUEUES };
enum { SIZE = 256, HEADER = 12, RX_BYTES = 4096, TX_BYTES = 68 * 1024, RING_BYTES = 64 * 1024 };
enum { MEMORY = QUEUES * RING_BYTES + SIZE * (RX_BYTES + TX_BYTES) };
/* Where the guest says that its memory is. */
static const uint64_t GUEST_AT = 0x40000000;

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
};
enum { VERSION = 1, REPLY = 4 };
#define BIT(n) (UINT64_C(1) << (n))
static const uint64_t PROTOCOL_FEATURES = BIT(30), MERGEABLE = BIT(VIRTIO_NET_F_MRG_RXBUF), VERSION_1 = BIT(32), EVENT_INDEX = BIT(VIRTIO_RING_F_EVENT_IDX);
static const uint64_t OFFLOADS = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
				 BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6);

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t number;
		struct {
			uint32_t index, value;
		} state;
		struct {
			uint32_t index, flags;
			uint64_t desc, used, avail, log;
		} ring;
		struct {
			uint32_t count, padding;
			uint64_t guest, size, user, offset;
		} regions;
	};
} __attribute__((packed));

struct queue {
	struct vring ring;
	uint8_t *buffers;
	size_t buffer_bytes;
	uint16_t taken; /* used entries that we have seen */
	uint16_t told; /* avail index at the last kick */
	int kick, call;
};

static struct queue queues[QUEUES];
static uint8_t *memory;
static int tap, back;

static void say(uint32_t request, struct message m, uint32_t size, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec part = { &m, 12 + size };
	struct msghdr h = { .msg_iov = &part, .msg_iovlen = 1 };

	m.request = request;
	m.flags = VERSION;
	m.size = size;
	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		h.msg_control = &control;
		h.msg_controllen = sizeof(control.room);
	}
	if (sendmsg(back, &h, MSG_NOSIGNAL) != (ssize_t)(12 + size))
		fail("the back end");
}

static uint64_t ask(uint32_t request)
{
	struct message m = { 0 };

	say(request, m, 0, -1);
	if (recv(back, &m, 12 + 8, MSG_WAITALL) != 20 || m.request != request || !(m.flags & REPLY) || m.size != 8) {
		fprintf(stderr, "vhost-tap: no answer to request %u\n", request);
		exit(1);
	}
	return m.number;
}

static void say_number(uint32_t request, uint64_t number, int fd)
{
	say(request, (struct message){ .number = number }, 8, fd);
}

static void say_state(uint32_t request, uint32_t index, uint32_t value)
{
	say(request, (struct message){ .state = { index, value } }, 8, -1);
}

static uint64_t user(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

/* Whether the other side wants to know that `index` has been reached, since `before`; event: where it says so. */
static int wanted(const uint16_t *event, uint16_t index, uint16_t before)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return vring_need_event(__atomic_load_n(event, __ATOMIC_RELAXED), index, before);
}

static void offer(struct queue *q, uint16_t descriptor)
{
	uint16_t index = q->ring.avail->idx;

	q->ring.avail->ring[index % SIZE] = descriptor;
	__atomic_store_n(&q->ring.avail->idx, (uint16_t)(index + 1), __ATOMIC_RELEASE);
}

static void kick(struct queue *q)
{
	uint16_t index = q->ring.avail->idx;

	if (index != q->told && wanted((uint16_t *)&vring_avail_event(&q->ring), index, q->told))
		eventfd_write(q->kick, 1);
	q->told = index;
}

static uint16_t used_by_them(struct queue *q)
{
	return __atomic_load_n(&q->ring.used->idx, __ATOMIC_ACQUIRE);
}

/* Sleeps until they have used something, or the other descriptor (-1: none) is readable. */
static void wait_for(struct queue *q, int other)
{
	struct pollfd fds[] = { { .fd = q->call, .events = POLLIN }, { .fd = other, .events = POLLIN } };
	eventfd_t ignored;

	__atomic_store_n(&vring_used_event(&q->ring), q->taken, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (used_by_them(q) != q->taken)
		return;
	if (poll(fds, other < 0 ? 1 : 2, -1) < 0 && errno != EINTR)
		fail("poll");
	if (fds[0].revents)
		eventfd_read(q->call, &ignored);
}

static void *from_tap(void *nothing)
{
	struct queue *q = &queues[TX];
	static uint16_t idle[SIZE];
	int idles = SIZE;

	for (int i = 0; i < SIZE; i++)
		idle[i] = (uint16_t)i;
	for (;;) {
		ssize_t n;

		for (; q->taken != used_by_them(q); q->taken++)
			idle[idles++] = (uint16_t)q->ring.used->ring[q->taken % SIZE].id;
		if (idles == 0) {
			kick(q);
			wait_for(q, -1);
			continue;
		}
		n = read(tap, q->buffers + idle[idles - 1] * q->buffer_bytes, q->buffer_bytes);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = tap, .events = POLLIN };

			kick(q);
			if (poll(&p, 1, -1) < 0 && errno != EINTR)
				fail("poll");
			continue;
		}
		if (n < HEADER)
			fail("the tap");
		q->ring.desc[idle[--idles]].len = (uint32_t)n;
		offer(q, idle[idles]);
		if ((uint16_t)(q->ring.avail->idx - q->told) >= SIZE / 4)
			kick(q);
	}
	return nothing;
}

/* Until the back end ends. */
static void from_rings(void)
{
	struct queue *q = &queues[RX];

	for (;;) {
		uint16_t used = used_by_them(q);
		char octet;

		if (used == q->taken) {
			kick(q);
			wait_for(q, back);
			if (used_by_them(q) == q->taken && recv(back, &octet, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
				return;
			continue;
		}
		while (q->taken != used) {
			struct iovec parts[SIZE];
			uint16_t first = q->taken, buffers = 1;

			for (uint16_t i = 0; i < buffers; i++) {
				const struct vring_used_elem *e = &q->ring.used->ring[(uint16_t)(first + i) % SIZE];

				if (e->id >= SIZE || e->len > RX_BYTES || (uint16_t)(used - first) <= i) {
					fprintf(stderr, "vhost-tap: a buffer that is not ours, or not yet\n");
					exit(1);
				}
				parts[i] = (struct iovec){ q->buffers + e->id * q->buffer_bytes, e->len };
				if (i == 0)
					buffers = ((struct virtio_net_hdr_v1 *)parts[0].iov_base)->num_buffers;
				if (buffers == 0 || buffers > SIZE) {
					fprintf(stderr, "vhost-tap: a frame of %u buffers\n", buffers);
					exit(1);
				}
			}
			if (writev(tap, parts, buffers) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EIO && errno != EINVAL)
				fail("write to the tap");
			for (uint16_t i = 0; i < buffers; i++)
				offer(q, (uint16_t)q->ring.used->ring[(uint16_t)(first + i) % SIZE].id);
			q->taken = (uint16_t)(first + buffers);
		}
		kick(q);
	}
}

static void make_queue(int index, uint8_t *at, uint8_t *buffers, size_t bytes)
{
	struct queue *q = &queues[index];

	vring_init(&q->ring, SIZE, at, 4096);
	q->buffers = buffers;
	q->buffer_bytes = bytes;
	q->kick = eventfd(0, EFD_CLOEXEC);
	q->call = eventfd(0, EFD_CLOEXEC);
	if (q->kick < 0 || q->call < 0)
		fail("eventfd");
	for (uint16_t i = 0; i < SIZE; i++) {
		q->ring.desc[i] = (struct vring_desc){
			.addr = GUEST_AT + (uint64_t)(buffers + i * bytes - memory),
			.len = (uint32_t)bytes,
			.flags = index == RX ? VRING_DESC_F_WRITE : 0,
		};
		if (index == RX)
			offer(q, i);
	}
}

static void start_queue(int index)
{
	struct queue *q = &queues[index];
	uint32_t i = (uint32_t)index;

	say_state(SET_VRING_NUM, i, SIZE);
	say_state(SET_VRING_BASE, i, 0);
	say(SET_VRING_ADDR, (struct message){ .ring = { i, 0, user(q->ring.desc), user(q->ring.used), user(q->ring.avail), 0 } }, 40, -1);
	say_number(SET_VRING_KICK, i, q->kick);
	say_number(SET_VRING_CALL, i, q->call);
	say_state(SET_VRING_ENABLE, i, 1);
}

int main(int argc, char **argv)
{
	uint64_t offered, features;
	struct sockaddr_un address;
	pthread_t other;
	int fd = memfd_create("guest", MFD_CLOEXEC);

	if (argc != 3) {
		fprintf(stderr, "vhost-tap: see the first lines of test/bench/vhost-tap.c\n");
		return 2;
	}
	back = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	address = unix_address(argv[1]);
	if (fd < 0 || back < 0 || ftruncate(fd, MEMORY) || connect(back, (struct sockaddr *)&address, sizeof(address)))
		fail(argv[1]);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");

	offered = ask(GET_FEATURES);
	if ((offered & (VERSION_1 | PROTOCOL_FEATURES | MERGEABLE | EVENT_INDEX)) != (VERSION_1 | PROTOCOL_FEATURES | MERGEABLE | EVENT_INDEX)) {
		fprintf(stderr, "vhost-tap: features %#llx are too few\n", (unsigned long long)offered);
		return 1;
	}
	features = offered & (VERSION_1 | PROTOCOL_FEATURES | MERGEABLE | EVENT_INDEX | OFFLOADS);
	ask(GET_PROTOCOL_FEATURES);
	say_number(SET_PROTOCOL_FEATURES, 0, -1);
	say(SET_OWNER, (struct message){ 0 }, 0, -1);
	say_number(SET_FEATURES, features, -1);
	tap = open_tap(argv[2], HEADER,
		       (features & BIT(VIRTIO_NET_F_CSUM) ? TUN_F_CSUM : 0) | (features & BIT(VIRTIO_NET_F_HOST_TSO4) ? TUN_F_TSO4 : 0) |
			       (features & BIT(VIRTIO_NET_F_HOST_TSO6) ? TUN_F_TSO6 : 0));
	say(SET_MEM_TABLE, (struct message){ .regions = { 1, 0, GUEST_AT, MEMORY, user(memory), 0 } }, 40, fd);
	make_queue(RX, memory, memory + QUEUES * RING_BYTES, RX_BYTES);
	make_queue(TX, memory + RING_BYTES, memory + QUEUES * RING_BYTES + SIZE * RX_BYTES, TX_BYTES);
	for (int i = 0; i < QUEUES; i++)
		start_queue(i);
	ask(GET_FEATURES); /* all before it has been done */
	printf("ready, features %#llx\n", (unsigned long long)features);
	fflush(stdout);
	if (pthread_create(&other, NULL, from_tap, NULL))
		fail("pthread_create");
	from_rings();
	return 0;
}
