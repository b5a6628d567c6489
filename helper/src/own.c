/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is this address the host's own? The kernel is asked by the look-up that a packet's route would get, so the answer
 * holds for what an address list would miss (a route of type `local` for a whole network, anycast, a VRF) and for what
 * was added a moment ago, and there is no list that could overflow or be late. rtnetlink answers a look-up before
 * write() returns: two system calls, both allowed anyway. Whatever is not a clear answer refuses the flow. The broker asks
 * the same of its namespace, where nothing else may be connected to.
 */
#include "helper.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

/* A route with all its metrics is some 200 bytes; what is longer is cut, and the type comes first. */
#define ANSWER_BYTES 1024
/* Older answers, left by a read that failed, before this one's. */
#define STALE_MAX 4
/* For how long the namespace is believed to have an address that it had. */
#define LOCAL_MS 50

struct query {
    struct nlmsghdr header;
    struct rtmsg route;
    uint8_t attributes[RTA_SPACE(16) + RTA_SPACE(4)];
};
static_assert(offsetof(struct query, attributes) == NLMSG_LENGTH(sizeof(struct rtmsg)), "no padding");

static union {
    int socket;
    char page[PAGE_BYTES_MAX];
} frozen __attribute__((aligned(PAGE_BYTES_MAX))) = {.socket = -1};

void own_freeze(void)
{
    frozen.socket = netlink_open(false);
    if (frozen.socket < 0)
        die_errno("Can't open a netlink socket");
    seal_freeze(&frozen, sizeof(frozen));
}

static bool is_same(const struct ip *a, const struct ip *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* The answer to the question of this number: the route's type, or an errno value, negative. */
static int read_answer(uint32_t sequence)
{
    char answer[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    const struct nlmsghdr *header = (struct nlmsghdr *)(void *)answer;

    for (int i = 0; i < STALE_MAX; i++) {
        /* #syscalls:setup,host,netns read — what the kernel knows of a route */
        ssize_t length = read(frozen.socket, answer, sizeof(answer));

        if (length < 0)
            return -errno;
        if (length < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || header->nlmsg_seq != sequence)
            continue;
        if (header->nlmsg_type == NLMSG_ERROR)
            return ((const struct nlmsgerr *)NLMSG_DATA(header))->error;
        if (header->nlmsg_type == RTM_NEWROUTE)
            return ((const struct rtmsg *)NLMSG_DATA(header))->rtm_type;
    }
    return -EIO;
}

static void attribute(struct query *query, uint16_t type, const void *data, uint16_t bytes)
{
    struct rtattr header = {.rta_type = type, .rta_len = RTA_LENGTH(bytes)};
    uint8_t *at = (uint8_t *)query + query->header.nlmsg_len;

    memcpy(at, &header, sizeof(header));
    memcpy(at + sizeof(header), data, bytes);
    query->header.nlmsg_len += RTA_SPACE(bytes);
}

/* interface 0: any */
static int route_type(const struct ip *ip, unsigned interface)
{
    static uint32_t sequence;
    const uint16_t bytes = ip->family == AF_INET ? 4 : 16;
    struct query query = {
        .header = {.nlmsg_len = offsetof(struct query, attributes), .nlmsg_type = RTM_GETROUTE,
                   .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = ++sequence},
        .route = {.rtm_family = (unsigned char)ip->family, .rtm_dst_len = (unsigned char)(bytes * CHAR_BIT)},
    };

    attribute(&query, RTA_DST, ip->bytes, bytes);
    if (interface != 0)
        attribute(&query, RTA_OIF, &interface, sizeof(interface));
    /* #syscalls:setup,host,netns write — a look-up in the kernel's routes */
    if (write(frozen.socket, &query, query.header.nlmsg_len) < 0)
        return -errno;
    return read_answer(sequence);
}

/* 0: it is not ours, or there is no route and connect() is to say so; else why the flow is refused. */
static int verdict(int type)
{
    switch (type) {
    case RTN_LOCAL:
    case RTN_BROADCAST:
    case RTN_ANYCAST:
    case RTN_MULTICAST: return EACCES;
    case -ENETUNREACH:
    case -EHOSTUNREACH:
    case -ENODEV: return 0; /* the interface is gone: a socket is bound to it by name, and that fails, or finds the new one */
    default: return type < 0 ? -type : 0;
    }
}

/* Many flows of one batch go to one peer: a look-up takes 4 µs, a third of what the rest of a flow does. */
static struct { bool known; struct ip ip; unsigned interface; int errnum; } last;

void own_forget(void)
{
    last.known = false;
}

int own_denies(const struct ip *ip, unsigned interface)
{
    if (last.known && last.interface == interface && is_same(ip, &last.ip))
        return last.errnum;
    int errnum = verdict(route_type(ip, 0));
    /* An interface may have tables of its own (VRF), and a link-local address belongs to one. */
    if (errnum == 0 && interface != 0)
        errnum = verdict(route_type(ip, interface));
    last.known = true, last.ip = *ip, last.interface = interface, last.errnum = errnum;
    return errnum;
}

bool own_is_group(const struct ip *ip)
{
    int type = route_type(ip, 0);

    return type == RTN_BROADCAST || type == RTN_MULTICAST;
}

/*
 * Nearly all of them are for one address, the guest's. An address that the namespace has given up moments ago is no secret of
 * anybody's, and what goes there is the namespace's own traffic.
 */
int own_requires(const struct ip *ip)
{
    static struct { struct ip ip; int64_t until_ms; } local;
    const int64_t now = now_ms();

    if (now < local.until_ms && is_same(ip, &local.ip))
        return 0;
    int type = route_type(ip, 0);
    if (type == RTN_LOCAL)
        local.ip = *ip, local.until_ms = now + LOCAL_MS;
    return type == RTN_LOCAL ? 0 : type < 0 && verdict(type) != 0 ? -type : EACCES;
}
