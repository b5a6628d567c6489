/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is there a UDP socket between these two ends already? A source port is shared among the sockets of one user, which
 * may be those of several instances of ours; but when two have the same peer as well, the answers of both go to one.
 * The kernel lets that happen, and only its socket diagnosis tells: sock_diag(7), one write and one read.
 */
#include "sock.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>

#define ANSWER_BYTES 1024
/* Older answers, left by a read that failed, before this one's. */
#define STALE_MAX 4

static union {
    int socket; /* -1: the kernel has no such diagnosis */
    char page[PAGE_BYTES_MAX];
} frozen __attribute__((aligned(PAGE_BYTES_MAX))) = {.socket = -1};

static void set_ends(struct inet_diag_sockid *id, const union address *local, const union address *remote)
{
    /* As in a packet that comes in: the peer is the source. */
    if (remote->any.sa_family == AF_INET) {
        id->idiag_sport = remote->in.sin_port, id->idiag_dport = local->in.sin_port;
        memcpy(id->idiag_src, &remote->in.sin_addr, 4);
        memcpy(id->idiag_dst, &local->in.sin_addr, 4);
        return;
    }
    id->idiag_sport = remote->in6.sin6_port, id->idiag_dport = local->in6.sin6_port;
    memcpy(id->idiag_src, &remote->in6.sin6_addr, 16);
    memcpy(id->idiag_dst, &local->in6.sin6_addr, 16);
}

/* The best socket for such packets is a connected one. */
static bool read_answer(uint32_t sequence)
{
    char answer[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    const struct nlmsghdr *header = (struct nlmsghdr *)(void *)answer;

    for (int i = 0; i < STALE_MAX; i++) {
        ssize_t length = read(frozen.socket, answer, sizeof(answer));

        if (length < 0)
            return false;
        if (length < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || header->nlmsg_seq != sequence)
            continue;
        return header->nlmsg_type == SOCK_DIAG_BY_FAMILY &&
               length >= (ssize_t)NLMSG_LENGTH(sizeof(struct inet_diag_msg)) &&
               ((const struct inet_diag_msg *)NLMSG_DATA(header))->idiag_state == TCP_ESTABLISHED;
    }
    return false;
}

bool tuple_taken(const union address *local, const union address *remote, unsigned interface)
{
    static uint32_t sequence;
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 query;
    } request = {
        .header = {.nlmsg_len = sizeof(request), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST,
                   .nlmsg_seq = ++sequence},
        .query = {.sdiag_family = (uint8_t)remote->any.sa_family, .sdiag_protocol = IPPROTO_UDP,
                  .id = {.idiag_if = interface, .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
    };

    if (frozen.socket < 0)
        return false;
    set_ends(&request.query.id, local, remote);
    return write(frozen.socket, &request, sizeof(request)) >= 0 && read_answer(sequence);
}

/* A socket connected to itself must be found: a kernel may lack the diagnosis, and then says only "nothing there". */
static bool works(void)
{
    const struct ip loopback = {.family = AF_INET, .bytes = {127, 0, 0, 1}};
    union address self;
    socklen_t length = address_fill(&self, &loopback, AF_INET, 0);
    int fd = flow_socket(FLOW_UDP, AF_INET);
    bool found = fd >= 0 && bind(fd, &self.any, length) == 0 && getsockname(fd, &self.any, &length) == 0 &&
                 connect(fd, &self.any, length) == 0 && tuple_taken(&self, &self, 0);

    close(fd);
    return found;
}

void tuple_freeze(void)
{
    frozen.socket = netlink_open(true);
    if (frozen.socket >= 0 && !works()) {
        close(frozen.socket);
        frozen.socket = -1;
    }
    seal_freeze(&frozen, sizeof(frozen));
}
